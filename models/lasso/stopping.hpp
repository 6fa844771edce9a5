// When a problem of a batch is done, when float cannot bring it further, and what the options mean for the batch: the
// rules that everything which runs a ProximalGradientBatch shares.
#pragma once

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>

namespace shrinkwarp {

/// Codes in float certify relative gaps down to about this: rounding a code to float moves its correlations by 1e-7.
inline constexpr double kFloatGap = 1e-6;
/// A problem has stalled in float when its gap has not come down by a tenth over this many iterations and over a third
/// of all it has made: a slow 1/k convergence is no stall.
inline constexpr std::int64_t kStallIterations = 8 * ProximalGradientBatch<float>::kCheckInterval;

inline Momentum momentum_of(const LassoOptions& options) {
  if (options.solver == Solver::ista) return Momentum::none;
  return options.restart ? Momentum::fista_restart : Momentum::fista;
}

/// The problem has its gap, or all the iterations that it may have.
template <class Problem>
bool finished(const Problem& problem, const LassoOptions& options) {
  return problem.gap <= options.gap * problem.energy || problem.iterations >= options.max_iterations;
}

/// A problem of a float batch that has to go on in double.
template <class Problem>
bool beyond_float(const Problem& problem, const LassoOptions& options) {
  const std::int64_t since = problem.iterations - problem.best_iterations;
  return (options.gap < kFloatGap && problem.gap <= kFloatGap * problem.energy) ||
         since >= std::max(kStallIterations, problem.iterations / 3);
}

}  // namespace shrinkwarp
