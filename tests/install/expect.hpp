// What the examples check of themselves.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>

/// Ends the program unless |found - wanted| <= tolerance.
inline void expect_near(const char* what, double found, double wanted, double tolerance) {
  if (std::fabs(found - wanted) <= tolerance) return;
  std::printf("%s: found %.17g, wanted %.17g within %.3g\n", what, found, wanted, tolerance);
  std::exit(1);
}

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("does not hold: %s\n", what);
  std::exit(1);
}

/// sign(x) max(|x| - threshold, 0): what the Lasso gives where the dictionary is the identity.
inline double soft_threshold(double x, double threshold) {
  return std::copysign(std::fmax(std::fabs(x) - threshold, 0.0), x);
}
