// Results on their way from a batch's units to the user's.
#pragma once

#include <cmath>
#include <limits>

namespace shrinkwarp {

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

/// @param problem  of a batch, with its certificate
/// @param scale    of the dictionary, a power of two as the problem's own is: nothing is rounded but what leaves the range
template <class Problem>
InUserUnits in_user_units(const Problem& problem, double scale) {
  constexpr double kNormal = std::numeric_limits<double>::min();
  InUserUnits result;
  // One power of two after the other: their product may leave the range where the numbers do not.
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
