// How many problems a second a whole call solves, from observations in memory to codes in memory, the dictionary prepared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/profile.hpp>

namespace shrinkwarp::bench {

struct SolveBenchOptions {
  std::string dictionary;    ///< D.npy; empty for a MEG phantom, 306 x 6138
  std::string observations;  ///< X.npy, its rows repeated as needed
  std::int64_t problems = 20000;
  std::string lambda_file;  ///< L.npy, a value a problem; empty for the fraction
  double lambda_fraction = 0.3;
  Solver solver = Solver::automatic;
  std::int64_t group_size = 1;  ///< of consecutive atoms that are penalised together
  double gap = 1e-6;
  std::int64_t memory_limit = LassoOptions().memory_limit;
  std::int64_t calls = 3;  ///< that are timed, after the first one, and one more for the phases; 0: the first one alone
};

struct SolveBenchResult {
  std::int64_t rows = 0, atoms = 0;
  Solver solver = Solver::automatic;  ///< the one that ran
  double prepare_seconds = 0;         ///< making the dictionary from D in memory
  double first_seconds = 0;           ///< the first call, which makes what else the solver reads of D
  std::vector<double> seconds;        ///< of each call
  std::int64_t nonzeros = 0, iterations = 0, unconverged = 0;
  double worst_gap = 0;             ///< relative
  double profiled_seconds = 0;      ///< of one more call, which waits for the device after each phase
  std::vector<PhaseTotals> phases;  ///< of that call; on the CPU added over its threads
  LassoBatch batch;                 ///< what the last call returned

  double median_seconds() const;  ///< of `seconds`; where there are none, of the first call
};

/// @throws ShapeError (no rows, other lengths than the dictionary's, too few lambdas), IoError, whatever solve_lasso throws
SolveBenchResult run_solve_bench(const Context& context, const SolveBenchOptions& options);

}  // namespace shrinkwarp::bench
