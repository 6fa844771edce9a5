// Scalar functions that host and device share, so that both bodies of a kernel compute the same thing.
#pragma once

#include <cmath>

#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// max(u, 0); NaN stays.
template <class T>
SHRINKWARP_HOST_DEVICE inline T relu(T u) {
  return u < T(0) ? T(0) : u;
}

/// Its gradient, from y = relu(u): dy, but 0 where y is 0. NaN in y lets dy through, as in PyTorch.
template <class T>
SHRINKWARP_HOST_DEVICE inline T relu_slope(T y, T dy) {
  return y <= T(0) ? T(0) : dy;
}

/// sign(u) max(|u| - t, 0) for t >= 0. NaN in u or t gives NaN, and so does infinity in both.
template <class T>
SHRINKWARP_HOST_DEVICE inline T soft_threshold(T u, T t) {
  const T magnitude = u < T(0) ? -u : u;
  const T away = u > T(0) ? t : -t;
  return u - (magnitude <= t ? u : away);  // the difference always, so that loops of it are vectorised
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

/// The same under more of a penalty: max(st(a + w, t), 0 where `nonnegative`) / (1 + c) - a, the proximal step of
/// t |z| + c/2 z^2, again without rounding a + w. keep = 1 / (1 + c), pull = c / (1 + c). t may be infinite.
template <class T>
SHRINKWARP_HOST_DEVICE inline T anchored_shrinkage(T a, T w, T t, T keep, T pull, bool nonnegative) {
  const T u = a + w;
  const T magnitude = u < T(0) ? -u : u;
  if (magnitude <= t || (nonnegative && u < T(0))) return -a;
  return keep * (u > T(0) ? w - t : w + t) - pull * a;
}

/// How much of a group shrinking takes away: t / norm, and 1 where that is all, norm <= t. t may be infinite. NaN in norm
/// gives NaN.
template <class T>
SHRINKWARP_HOST_DEVICE inline T group_share(double norm, T t) {
  const auto share = static_cast<T>(static_cast<double>(t) / norm);  // always, so that loops of it are vectorised
  return norm <= static_cast<double>(t) ? T(1) : share;
}

/// One entry of max(1 - t / ||u_g||, 0) u_g / (1 + c) - a, u = a + w, the proximal step of t ||z_g|| + c/2 ||z_g||^2 of a
/// code that is kept as anchor a plus difference: the sum a + w, which is rounded, enters by `share` = group_share only.
/// keep = 1 / (1 + c), pull = c / (1 + c).
template <class T>
SHRINKWARP_HOST_DEVICE inline T anchored_group_shrinkage(T a, T w, T share, T keep, T pull) {
  const T shrunk = keep * (w - share * (a + w)) - pull * a;
  return share >= T(1) ? -a : shrunk;
}

/// What rounding may hide in a gap: 16 units of each of the two sums that nearly cancel, and what ||r||^2 / 2 moves by where r,
/// a difference of x and D z, is known to delta = 4 units of ||x|| + reach <= ||r|| + 2 reach.
SHRINKWARP_HOST_DEVICE inline double hidden_in_gap(double primal, double along, double residual_energy, double reach) {
  constexpr double kUnit = 2.220446049250313e-16;
  const double norm = std::sqrt(residual_energy);
  const double delta = 4 * kUnit * (norm + 2 * reach);
  return 16 * kUnit * (primal + (along < 0.0 ? -along : along)) + norm * delta + 0.5 * delta * delta;
}

/// Duality gap of a code whose residual is r, at the best dual-feasible multiple of r; see certificate.hpp.
///
///   s = clip(<x,r> / ||r||^2, +-lambda / ||D'r||_inf),   gap = primal - s <x,r> + 1/2 s^2 ||r||^2, not under 0
///
/// @param residual_energy  ||r||^2
/// @param alignment        <x, r>
/// @param correlation      ||D'r||_inf
/// @param reach            a bound of max_j ||d_j|| ||z||_1
///
/// What rounding may hide is estimated, a few units of each quantity it enters by, and added (hidden_in_gap). An estimate and
/// no worst case: that would grow with the number of terms. r = 0 is the exact fit: its gap is the primal value. NaN in any argument gives NaN.
SHRINKWARP_HOST_DEVICE inline double gap_at_best_scale(double primal, double residual_energy, double alignment,
                                                       double correlation, double lambda, double reach) {
  if (residual_energy == 0.0) return primal + correlation * 0.0;
  double scale = alignment / residual_energy;
  const double largest = lambda / correlation;  // infinite where no atom correlates: any multiple is feasible
  if (scale > largest) scale = largest;
  if (scale < -largest) scale = -largest;
  const double along = scale * alignment;
  const double gap = primal - along + 0.5 * scale * scale * residual_energy + correlation * 0.0;
  return (gap < 0.0 ? 0.0 : gap) + hidden_in_gap(primal, along, residual_energy, reach);
}

/// Duality gap of a code with ||z||_1 <= radius whose residual is r, in min 1/2 ||x - D z||^2 over all such z, at the best
/// multiple s >= 0 of r:
///
///   gap = 1/2 ||r||^2 + 1/2 s^2 ||r||^2 - s (<x,r> - radius ||D'r||_inf)
///
/// which at s = 1 is radius ||D'r||_inf - <D'r, z>. Arguments and what is added for rounding as above.
SHRINKWARP_HOST_DEVICE inline double gap_in_radius(double residual_energy, double alignment, double correlation,
                                                   double radius, double reach) {
  if (residual_energy == 0.0) return 0.0;
  const double room = alignment - radius * correlation;
  const double scale = room > 0.0 ? room / residual_energy : 0.0;
  const double primal = 0.5 * residual_energy;
  const double gap = primal + 0.5 * scale * scale * residual_energy - scale * room;
  const double along = scale * ((alignment < 0.0 ? -alignment : alignment) + radius * correlation);
  return (gap < 0.0 ? 0.0 : gap) + hidden_in_gap(primal, along, residual_energy, reach);
}

/// gap_at_best_scale under more of a penalty; see certificate.hpp. An elastic net is a Lasso whose residual is longer, so energy
/// and alignment are those of the longer one; a nonnegative code has no multiples of r under 0 among its dual points.
SHRINKWARP_HOST_DEVICE inline double gap_under_penalty(double primal, double residual_energy, double alignment,
                                                       double correlation, double lambda, double reach,
                                                       bool nonnegative) {
  return gap_at_best_scale(primal, residual_energy, nonnegative && alignment < 0.0 ? 0.0 : alignment, correlation,
                           lambda, reach);
}

}  // namespace shrinkwarp
