// How long few problems take by themselves when their dictionary is prepared: calls of solve_lasso for one observation each, or
// for a block of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp::bench {

struct LatencyBenchOptions {
  std::string dictionary;    ///< D.npy
  std::string observations;  ///< X.npy
  std::string lambda_file;   ///< L.npy, a value a row of X; empty for the fraction
  double lambda_fraction = 0.3;
  Solver solver = Solver::automatic;
  double gap = 1e-6;
  std::int64_t block = 1;     ///< observations of a call, consecutive rows of X; 1 <= block
  std::int64_t calls = 500;   ///< at most, from the first row on; a last block that is not whole is left out
  double limit_seconds = 20;  ///< no call begins later than this after the first
};

struct LatencyBenchResult {
  std::int64_t rows = 0, atoms = 0;
  double prepare_seconds = 0;        ///< reading D and making the dictionary
  std::vector<double> seconds;       ///< of each call
  std::vector<LassoBatch> problems;  ///< what each call returned, with rows of X as indices

  double quantile(double q) const;  ///< of `seconds`: the smallest that a share q of the calls did not exceed
};

/// One call that is not counted, then the calls. Observations are in memory before the first.
/// @throws ShapeError (no rows, other lengths than the dictionary's, too few lambdas), IoError, whatever solve_lasso throws
LatencyBenchResult run_latency_bench(const Context& context, const LatencyBenchOptions& options);

}  // namespace shrinkwarp::bench
