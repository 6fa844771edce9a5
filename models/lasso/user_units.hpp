// Results on their way from a batch's units to the user's.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

namespace shrinkwarp {

/// What an observation's entries are divided by in a batch, and 1/2 ||x||^2 there.
struct ScaledObservation {
  double scale = 1;
  double energy = 0;
};

/// out = x / scale, a power of two that brings the largest entry to [1, 2). @param x, out  [n]; may be the same
inline ScaledObservation scale_observation(const double* x, std::int64_t n, double* out) {
  ScaledObservation result;
  const double largest = largest_magnitude(x, n);
  if (largest > 0) result.scale = std::ldexp(1.0, std::ilogb(largest));
  const double inverse = 1 / result.scale;
  if (std::isfinite(inverse))  // a power of two too: the same bits as division
    for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] * inverse;
  else
    for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] / result.scale;
  double energy = 0;
  for (std::int64_t i = 0; i < n; ++i) energy += out[i] * out[i];
  result.energy = energy / 2;
  return result;
}

/// What a batch knows of a problem, in the user's units.
struct InUserUnits {
  double objective = 0;
  double dual_gap = 0;   ///< rounded up where it is under the normal range
  double code_unit = 0;  ///< what a code of 1 in the batch's units is
  /// Objective, gap and lambda are finite, and the objective of a code of x != 0 is not under the normal range.
  bool numbers_fit = false;
  /// A code that is not 0 keeps its digits: rounding in the subnormal range costs it nothing that its gap would show.
  bool codes_fit = false;
};

/// A fraction of lambda_max, both in the user's units: NaN where it is under the normal range and lambda_max is not 0, for
/// it would not be the lambda that was asked for. Results with it are refused.
inline double fraction_of(double fraction, double lambda_max) {
  const double lambda = fraction * lambda_max;
  const bool lost = lambda < std::numeric_limits<double>::min() && lambda_max != 0;
  return lost ? std::numeric_limits<double>::quiet_NaN() : lambda;
}

/// lambda_max from a batch's units, for fraction_of: one that leaves the normal range is NaN there.
inline double lambda_max_of(double lambda_max, double scale, double dictionary_scale) {
  // One power of two after the other: their product may leave the range where the numbers do not.
  const double result = lambda_max * scale * dictionary_scale;
  const bool lost = result < std::numeric_limits<double>::min() && lambda_max != 0;
  return lost ? std::numeric_limits<double>::quiet_NaN() : result;
}

/// lambda in a batch's units, no more than `largest`; that where it is NaN, so that the batch is soon done with it.
inline double batch_lambda(double asked, double scale, double dictionary_scale, double largest) {
  const double lambda = asked / scale / dictionary_scale;
  return lambda < largest ? lambda : largest;
}

/// @param problem  of a batch, with its certificate
/// @param scale    of the dictionary, a power of two as the problem's own is: nothing is rounded but what leaves the range
template <class Problem>
InUserUnits in_user_units(const Problem& problem, double scale) {
  constexpr double kNormal = std::numeric_limits<double>::min();
  InUserUnits result;
  result.objective = problem.primal * problem.scale * problem.scale;
  result.dual_gap = problem.gap * problem.scale * problem.scale;
  if (problem.gap > 0 && result.dual_gap < kNormal)
    result.dual_gap = std::nextafter(result.dual_gap, std::numeric_limits<double>::infinity());
  result.code_unit = problem.scale / scale;
  result.numbers_fit = std::isfinite(result.objective) && std::isfinite(result.dual_gap) &&
                       std::isfinite(problem.asked_lambda) && (problem.primal == 0 || result.objective >= kNormal);
  result.codes_fit =
      std::isfinite(result.code_unit) && result.code_unit >= kNormal / std::numeric_limits<double>::epsilon();
  return result;
}

}  // namespace shrinkwarp
