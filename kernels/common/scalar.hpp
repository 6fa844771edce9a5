// Scalar functions that host and device share, so that both bodies of a kernel compute the same thing.
#pragma once

#ifdef __CUDACC__
#define SHRINKWARP_HOST_DEVICE __host__ __device__
#else
#define SHRINKWARP_HOST_DEVICE
#endif

namespace shrinkwarp {

/// sign(u) max(|u| - t, 0) for t >= 0. NaN in u gives NaN.
template <class T>
SHRINKWARP_HOST_DEVICE inline T soft_threshold(T u, T t) {
  const T magnitude = u < T(0) ? -u : u;
  if (magnitude <= t) return T(0);
  return u > T(0) ? u - t : u + t;
}

/// st(a + w, t) - a without rounding a + w: the soft-threshold of a code that is kept as anchor a plus difference.
/// The difference keeps its own relative precision however large the anchor is. NaN in w gives NaN.
template <class T>
SHRINKWARP_HOST_DEVICE inline T anchored_soft_threshold(T a, T w, T t) {
  const T u = a + w;
  const T magnitude = u < T(0) ? -u : u;
  if (magnitude <= t) return -a;
  return u > T(0) ? w - t : w + t;
}

/// Duality gap of a code whose residual is r, at the best dual-feasible multiple of r; see certificate.hpp.
///
///   s = clip(<x,r> / ||r||^2, +-lambda / ||D'r||_inf),   gap = primal - s <x,r> + 1/2 s^2 ||r||^2, not under 0
///
/// @param residual_energy  ||r||^2
/// @param alignment        <x, r>
/// @param correlation      ||D'r||_inf
/// r = 0 is the exact fit: its gap is the primal value. What rounding may hide in the difference of sums that nearly
/// cancel, 16 units of each, is added, so that a gap under the certificate's own accuracy is never claimed. NaN in any
/// argument gives NaN.
SHRINKWARP_HOST_DEVICE inline double gap_at_best_scale(double primal, double residual_energy, double alignment,
                                                       double correlation, double lambda) {
  constexpr double kRounding = 16 * 2.220446049250313e-16;
  if (residual_energy == 0.0) return primal + correlation * 0.0;
  double scale = alignment / residual_energy;
  const double largest = lambda / correlation;  // infinite where no atom correlates: any multiple is feasible
  if (scale > largest) scale = largest;
  if (scale < -largest) scale = -largest;
  const double along = scale * alignment;
  const double gap = primal - along + 0.5 * scale * scale * residual_energy + correlation * 0.0;
  const double hidden = kRounding * (primal + (along < 0.0 ? -along : along));
  return (gap < 0.0 ? 0.0 : gap) + hidden;
}

}  // namespace shrinkwarp
