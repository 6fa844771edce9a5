// The Lipschitz constant of the gradient, L = ||D||_2^2, as a bound that is safe to take 1/L of.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Upper bound of L = ||D||_2^2, the largest eigenvalue of D'D.
///
/// Power iteration on all directions at once: with K the smaller of D D' and D'D and k its size, K^(2^s) comes from s
/// squarings, each scaled by its trace, and
///   L <= trace(K^p)^(1/p) <= k^(1/p) L,   p = 2^s.
/// Squaring goes on until k^(1/p) - 1 <= tolerance, so that the bound never rests on a starting vector that might miss
/// the leading direction.
///
/// @param D          [n, m]; all zero or empty gives 0
/// @param tolerance  > 0, relative excess allowed over L
///
/// Numerics     double; a margin for the rounding of the products is added
/// Cost         2 k^2 max(n, m) + 2 s k^3 flops, s = log2(ln k / tolerance). Allocates and synchronises yes: part of a
///              preparation, not of a solve. Capturable no
/// @throws DeviceError, ValueError (tolerance <= 0, D not finite), OutOfMemory
double lipschitz_bound(const Context& context, MatrixView<const double> D, double tolerance = 1e-6);

}  // namespace shrinkwarp
