// Internal to shrink_layer: an element of each operation, and what each backend provides.
#pragma once

#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/shrink_layer/shrink_layer.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

template <class T>
SHRINKWARP_HOST_DEVICE inline T shrunk(T u, T lambda, T theta) {
  return soft_threshold(u, lambda * relu(theta));
}
/// What of dy passes through y.
template <class T>
SHRINKWARP_HOST_DEVICE inline T through_support(T y, T dy) {
  return y == T(0) ? T(0) : dy;
}
/// What an element takes from dtheta. @param h  through_support
template <class T>
SHRINKWARP_HOST_DEVICE inline double threshold_slope(T y, T h, T lambda) {
  const T sign = y > T(0) ? T(1) : y < T(0) ? T(-1) : y;  // NaN stays
  return -static_cast<double>(lambda * sign) * static_cast<double>(h);
}

#define SHRINKWARP_DECLARE_SHRINK_LAYER                                                                            \
  /* Pieces of a batch whose rows are summed one by one. */                                                        \
  std::int64_t shrink_layer_pieces(std::int64_t N);                                                                \
  template <class T>                                                                                               \
  void shrink_layer_forward(const Context& context, VectorView<const T> theta, VectorView<const T> lambda,         \
                            MatrixView<const T> U, MatrixView<T> Y);                                               \
  /* @param sums  [m pieces] */                                                                                    \
  template <class T>                                                                                               \
  void shrink_layer_backward(const Context& context, VectorView<const T> theta, VectorView<const T> lambda,        \
                             MatrixView<const T> Y, MatrixView<const T> dY, MatrixView<T> H, VectorView<T> dtheta, \
                             VectorView<double> sums);
namespace cpu {
SHRINKWARP_DECLARE_SHRINK_LAYER
}
namespace cuda {
SHRINKWARP_DECLARE_SHRINK_LAYER
}
#undef SHRINKWARP_DECLARE_SHRINK_LAYER

}  // namespace shrinkwarp
