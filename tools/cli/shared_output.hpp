// The output of a solve, written by all ranks.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/shared_solve.hpp>
#include <shrinkwarp/tools/cli/solve_options.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {

/// Writes the output, each rank some of the problems; a signal to any of them stops all. The journals hold every problem and
/// have been merged. Collective. @return how it ended; the target is unchanged where that is not `fine`
Ending write_shared_output(const SolveOptions& options, Ranks& ranks, const Context& context,
                           const Dictionary& dictionary, ObservationSource& observations, const SolveJournal& journal,
                           ProgressOfRanks& progress, const CancelToken* cancel);

}  // namespace shrinkwarp::cli
