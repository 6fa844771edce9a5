// Internal to layer_norm: what each backend provides.
#pragma once

#include <shrinkwarp/kernels/layer_norm/layer_norm.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_LAYER_NORM                                                                       \
  template <class T>                                                                                        \
  void layer_norm_forward(const Context& context, MatrixView<const T> X, VectorView<const T> weight,        \
                          VectorView<const T> bias, double eps, MatrixView<T> Y, MatrixView<T> statistics); \
  /* `partials` of 2 features layer_norm_pieces(N) */                                                       \
  template <class T>                                                                                        \
  void layer_norm_backward(const Context& context, MatrixView<const T> X, MatrixView<const T> statistics,   \
                           VectorView<const T> weight, MatrixView<const T> dY, T beta, MatrixView<T> dX,    \
                           VectorView<T> dweight, VectorView<T> dbias, VectorView<double> partials);        \
  /* Pieces of the columns that are summed one by one. */                                                   \
  std::int64_t layer_norm_pieces(std::int64_t N);
namespace cpu {
SHRINKWARP_DECLARE_LAYER_NORM
}
namespace cuda {
SHRINKWARP_DECLARE_LAYER_NORM
}
#undef SHRINKWARP_DECLARE_LAYER_NORM

}  // namespace shrinkwarp
