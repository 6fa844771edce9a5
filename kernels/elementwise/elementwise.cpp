#include <shrinkwarp/kernels/elementwise/elementwise.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_ELEMENTWISE                                                                  \
  template <class T>                                                                                    \
  void add(const Context& context, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> Y);      \
  template <class T>                                                                                    \
  void add_relu(const Context& context, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> Y); \
  template <class T>                                                                                    \
  void relu_backward(const Context& context, MatrixView<const T> Y, MatrixView<const T> dY, T beta, MatrixView<T> dX);
namespace cpu {
SHRINKWARP_DECLARE_ELEMENTWISE
}
namespace cuda {
SHRINKWARP_DECLARE_ELEMENTWISE
}
#undef SHRINKWARP_DECLARE_ELEMENTWISE

template <class T>
void add(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B,
         MatrixView<T> Y) {
  check_matrix(context, "add", "A", A, A.rows, A.cols);
  check_matrix(context, "add", "B", B, A.rows, A.cols);
  check_matrix(context, "add", "Y", Y, A.rows, A.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::add<T>(context, A, B, Y);
  }
  cpu::add<T>(context, A, B, Y);
}

template <class T>
void add_relu(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B,
              MatrixView<T> Y) {
  check_matrix(context, "add_relu", "A", A, A.rows, A.cols);
  check_matrix(context, "add_relu", "B", B, A.rows, A.cols);
  check_matrix(context, "add_relu", "Y", Y, A.rows, A.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::add_relu<T>(context, A, B, Y);
  }
  cpu::add_relu<T>(context, A, B, Y);
}

template <class T>
void relu_backward(const Context& context, identity_t<MatrixView<const T>> Y, identity_t<MatrixView<const T>> dY,
                   T beta, MatrixView<T> dX) {
  check_matrix(context, "relu_backward", "Y", Y, Y.rows, Y.cols);
  check_matrix(context, "relu_backward", "dY", dY, Y.rows, Y.cols);
  check_matrix(context, "relu_backward", "dX", dX, Y.rows, Y.cols);
  if (dX.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::relu_backward<T>(context, Y, dY, beta, dX);
  }
  cpu::relu_backward<T>(context, Y, dY, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                     \
  template void add<T>(const Context&, MatrixView<const T>, MatrixView<const T>, MatrixView<T>);      \
  template void add_relu<T>(const Context&, MatrixView<const T>, MatrixView<const T>, MatrixView<T>); \
  template void relu_backward<T>(const Context&, MatrixView<const T>, MatrixView<const T>, T, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
