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

}  // namespace shrinkwarp
