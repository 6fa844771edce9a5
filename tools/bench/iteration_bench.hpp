// What one FISTA iteration and one certificate cost at a given number of problems, beside the dense products of the
// same context at the same shapes.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp::bench {

struct IterationBenchOptions {
  std::int64_t rows = 306;
  std::int64_t atoms = 6138;
  double density = 0.01;     ///< share of nonzeros in the codes; only the CPU's residual product depends on it
  double min_seconds = 0.2;  ///< each figure is the mean over at least this long
};

/// Seconds a call, after one call to warm up; the stream is waited for at both ends of a run of calls.
struct IterationBenchResult {
  std::int64_t problems = 0;
  double residual_seconds = 0;     ///< extrapolated_residual, 2 n m N flops
  double step_seconds = 0;         ///< gradient_step, 2 n m N flops
  double momentum_seconds = 0;     ///< update_momentum
  double certificate_seconds = 0;  ///< refresh_anchor, code_residual, correlation_max and dual_gap
  double product_seconds = 0;      ///< sgemm D C and D'R, 4 n m N flops together
};

/// Random dictionary, observations and sparse codes, made on the context.
IterationBenchResult run_iteration_bench(const Context& context, const IterationBenchOptions& options,
                                         std::int64_t problems);

}  // namespace shrinkwarp::bench
