// The bodies of the convolution family behind its checks.
#pragma once

#include <shrinkwarp/kernels/convolution/convolution.hpp>

namespace shrinkwarp {

/// A single tap at stride 1 without padding: an image, [P, C], is its own matrix of columns.
inline bool is_product(const ConvolutionShape& shape) {
  return shape.taps() == 1 && shape.stride == 1 && shape.padding == 0;
}

#define SHRINKWARP_CONVOLUTION_BODIES                                                                                  \
  template <class T>                                                                                                   \
  std::int64_t convolution_scratch(const Context& context, const ConvolutionShape& shape, std::int64_t images,         \
                                   bool backward);                                                                     \
  template <class T>                                                                                                   \
  void convolution_forward(const Context& context, const ConvolutionShape& shape, MatrixView<const T> W,               \
                           VectorView<const T> b, MatrixView<const T> X, MatrixView<T> Y,                              \
                           VectorView<std::byte> scratch);                                                             \
  template <class T>                                                                                                   \
  void convolution_backward(const Context& context, const ConvolutionShape& shape, MatrixView<const T> W,              \
                            MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dW, VectorView<T> db, T beta, \
                            MatrixView<T> dX, VectorView<std::byte> scratch);
namespace cpu {
SHRINKWARP_CONVOLUTION_BODIES
}
namespace cuda {
SHRINKWARP_CONVOLUTION_BODIES
}
#undef SHRINKWARP_CONVOLUTION_BODIES

}  // namespace shrinkwarp
