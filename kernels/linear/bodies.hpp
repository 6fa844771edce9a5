// What the two bodies of linear share with the entry points: their declarations and the scratch of a backward pass.
#pragma once

#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp {

/// The scratch of linear_backward.
template <class T>
struct LinearScratch {
  MatrixView<T> H;          // [out, N]; none for Activation::none
  VectorView<double> sums;  // of rows of H, out for each piece of the batch

  static LinearScratch lay_out(Arena& arena, std::int64_t out, std::int64_t N, std::int64_t pieces,
                               Activation activation) {
    LinearScratch scratch;
    if (activation != Activation::none) scratch.H = arena.matrix<T>(out, N);
    scratch.sums = arena.vector<double>(out * pieces);
    return scratch;
  }
};

#define SHRINKWARP_DECLARE_LINEAR                                                                                     \
  template <class T>                                                                                                  \
  void linear_forward(const Context& context, MatrixView<const T> W, VectorView<const T> b, Activation activation,    \
                      MatrixView<const T> X, MatrixView<T> Y, MatrixView<T> U);                                       \
  template <class T>                                                                                                  \
  void linear_blend(const Context& context, MatrixView<const T> W, VectorView<const T> b, T alpha,                    \
                    MatrixView<const T> X, T beta, MatrixView<T> Y);                                                  \
  /* `value` is what act' is computed from: U for gelu, Y for others */                                               \
  template <class T>                                                                                                  \
  void linear_backward(const Context& context, MatrixView<const T> W, Activation activation, MatrixView<const T> X,   \
                       MatrixView<const T> value, MatrixView<const T> dY, MatrixView<T> dW, VectorView<T> db, T beta, \
                       MatrixView<T> dX, const LinearScratch<T>& scratch);                                            \
  template <class T>                                                                                                  \
  void activation_forward(const Context& context, Activation activation, MatrixView<const T> X, MatrixView<T> Y);     \
  template <class T>                                                                                                  \
  void activation_backward(const Context& context, Activation activation, MatrixView<const T> value,                  \
                           MatrixView<const T> dY, T beta, MatrixView<T> dX);                                         \
  /* Pieces of a batch whose rows are summed one by one. */                                                           \
  std::int64_t linear_pieces(std::int64_t out, std::int64_t N);
namespace cpu {
SHRINKWARP_DECLARE_LINEAR
}
namespace cuda {
SHRINKWARP_DECLARE_LINEAR
}
#undef SHRINKWARP_DECLARE_LINEAR

}  // namespace shrinkwarp
