#include <cstdint>

#include <shrinkwarp/kernels/common/columns_cpu.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/elementwise/elementwise.hpp>

namespace shrinkwarp::cpu {
namespace {

// The same loops for both element types: multiversioned functions cannot be templates.
#define SHRINKWARP_ELEMENTWISE_LOOPS(T)                                                                      \
  SHRINKWARP_CPU_CLONES void add_loop(const T* a, const T* b, T* y, std::int64_t size) {                     \
    for (std::int64_t i = 0; i < size; ++i) y[i] = a[i] + b[i];                                              \
  }                                                                                                          \
  SHRINKWARP_CPU_CLONES void add_relu_loop(const T* a, const T* b, T* y, std::int64_t size) {                \
    for (std::int64_t i = 0; i < size; ++i) y[i] = relu(a[i] + b[i]);                                        \
  }                                                                                                          \
  SHRINKWARP_CPU_CLONES void relu_backward_loop(const T* y, const T* dy, T beta, T* dx, std::int64_t size) { \
    if (beta == T(0))                                                                                        \
      for (std::int64_t i = 0; i < size; ++i) dx[i] = relu_slope(y[i], dy[i]);                               \
    else                                                                                                     \
      for (std::int64_t i = 0; i < size; ++i) dx[i] = beta * dx[i] + relu_slope(y[i], dy[i]);                \
  }
SHRINKWARP_ELEMENTWISE_LOOPS(float)
SHRINKWARP_ELEMENTWISE_LOOPS(double)
#undef SHRINKWARP_ELEMENTWISE_LOOPS

}  // namespace

template <class T>
void add(const Context& context, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> Y) {
  for_columns(context, Y, [&](std::int64_t j) { add_loop(A.column(j), B.column(j), Y.column(j), Y.rows); });
}

template <class T>
void add_relu(const Context& context, MatrixView<const T> A, MatrixView<const T> B, MatrixView<T> Y) {
  for_columns(context, Y, [&](std::int64_t j) { add_relu_loop(A.column(j), B.column(j), Y.column(j), Y.rows); });
}

template <class T>
void relu_backward(const Context& context, MatrixView<const T> Y, MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  for_columns(context, dX,
              [&](std::int64_t j) { relu_backward_loop(Y.column(j), dY.column(j), beta, dX.column(j), dX.rows); });
}

#define SHRINKWARP_INSTANTIATE(T)                                                                     \
  template void add<T>(const Context&, MatrixView<const T>, MatrixView<const T>, MatrixView<T>);      \
  template void add_relu<T>(const Context&, MatrixView<const T>, MatrixView<const T>, MatrixView<T>); \
  template void relu_backward<T>(const Context&, MatrixView<const T>, MatrixView<const T>, T, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
