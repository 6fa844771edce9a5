// How fast a whole FISTA solve is, measured beside the dense product rate of the same machine at the same shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/profile.hpp>

namespace shrinkwarp::bench {

struct FistaBenchOptions {
  std::string dictionary;    ///< D.npy; empty for a MEG phantom of 306 x 6138
  std::string observations;  ///< X.npy; rows are repeated up to `problems`
  std::int64_t problems = 1000;
  double lambda_fraction = 0.3;
  double gap = 1e-6;
  std::string device = "cpu";
};

struct FistaBenchResult {
  Solver solver = Solver::fista;  ///< the one that is timed
  std::string device;
  std::string blas;
  std::int64_t rows = 0, atoms = 0, problems = 0;
  LassoSummary summary;
  double seconds = 0;          ///< files in, file out: preparation, iterations, certificates, compaction, output
  double prepare_seconds = 0;  ///< reading D, its Lipschitz bound and packing, part of `seconds`
  double product_rate = 0;     ///< flop/s of two sgemm calls at n x m x problems, best of several
  double solve_rate = 0;       ///< 4 n m times the problem-iterations made, over `seconds`
  std::vector<PhaseTotals> phases;
};

/// Runs the solve once on `context`, then the products.
FistaBenchResult run_fista_bench(const Context& context, const FistaBenchOptions& options);

}  // namespace shrinkwarp::bench
