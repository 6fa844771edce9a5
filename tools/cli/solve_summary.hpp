// What `shrinkwarp solve` says on standard output when it is done.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/tools/cli/solve_options.hpp>

namespace shrinkwarp::cli {

struct SolveOutcome {
  LassoSummary summary;                                 ///< of all problems
  Solver solver = Solver::automatic;                    ///< that ran
  std::int64_t resumed = 0;                             ///< problems that an earlier run had solved
  double seconds = 0;                                   ///< of this run
  double solve_seconds = 0;                             ///< of it, from the first problem to the last
  double output_seconds = 0;                            ///< of it, from then on until the output was written
  std::vector<double> busy_seconds, problems_of_ranks;  ///< [ranks] solving, and what came of it
  std::int64_t learned_starts =
      -1;  ///< problems that a network gave a code to start from; negative where there was none
};

/// As --json and --quiet say: a table, one JSON object, or nothing.
void print_summary(const SolveOptions& options, const Context& context, const Dictionary& dictionary,
                   const SolveOutcome& outcome);

/// In the same three ways that the output was finished before.
void print_finished(const SolveOptions& options);

}  // namespace shrinkwarp::cli
