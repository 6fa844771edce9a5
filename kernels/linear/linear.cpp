#include <shrinkwarp/kernels/linear/linear.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/linear/bodies.hpp>

namespace shrinkwarp {
namespace {

std::int64_t linear_pieces(const Context& context, std::int64_t out, std::int64_t N) {
  if constexpr (kHasCuda) {
    if (context.is_cuda()) return cuda::linear_pieces(out, N);
  }
  return cpu::linear_pieces(out, N);
}

template <class T>
void check_weights(const Context& context, const char* function, MatrixView<const T> W) {
  SHRINKWARP_REQUIRE(!W.empty(), ShapeError, function, ": W is ", W.rows, " x ", W.cols,
                     ", wanted at least one feature on each side");
  check_matrix(context, function, "W", W, W.rows, W.cols);
}

}  // namespace

template <class T>
void linear_forward(const Context& context, identity_t<MatrixView<const T>> W, identity_t<VectorView<const T>> b,
                    Activation activation, identity_t<MatrixView<const T>> X, MatrixView<T> Y,
                    identity_t<MatrixView<T>> U) {
  constexpr const char* kFunction = "linear_forward";
  check_weights(context, kFunction, W);
  if (!b.empty()) check_vector(context, kFunction, "b", b, W.cols);
  check_matrix(context, kFunction, "X", X, W.rows, X.cols);
  check_matrix(context, kFunction, "Y", Y, W.cols, X.cols);
  if (!U.empty()) check_matrix(context, kFunction, "U", U, W.cols, X.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::linear_forward<T>(context, W, b, activation, X, Y, U);
  }
  cpu::linear_forward<T>(context, W, b, activation, X, Y, U);
}

template <class T>
void linear_blend(const Context& context, identity_t<MatrixView<const T>> W, identity_t<VectorView<const T>> b, T alpha,
                  identity_t<MatrixView<const T>> X, T beta, MatrixView<T> Y) {
  constexpr const char* kFunction = "linear_blend";
  check_weights(context, kFunction, W);
  if (!b.empty()) check_vector(context, kFunction, "b", b, W.cols);
  check_matrix(context, kFunction, "X", X, W.rows, X.cols);
  check_matrix(context, kFunction, "Y", Y, W.cols, X.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::linear_blend<T>(context, W, b, alpha, X, beta, Y);
  }
  cpu::linear_blend<T>(context, W, b, alpha, X, beta, Y);
}

template <class T>
std::int64_t linear_backward_scratch(const Context& context, std::int64_t in, std::int64_t out, std::int64_t N,
                                     Activation activation) {
  SHRINKWARP_REQUIRE(in >= 0 && out >= 0 && N >= 0, ShapeError, "linear_backward_scratch: in, out and N are ", in, ", ",
                     out, " and ", N, ", wanted >= 0");
  Arena counting(context.device());
  LinearScratch<T>::lay_out(counting, out, N, linear_pieces(context, out, N), activation);
  return counting.used();
}

template <class T>
void linear_backward(const Context& context, identity_t<MatrixView<const T>> W, Activation activation,
                     identity_t<MatrixView<const T>> X, identity_t<MatrixView<const T>> Y,
                     identity_t<MatrixView<const T>> U, identity_t<MatrixView<const T>> dY, MatrixView<T> dW,
                     identity_t<VectorView<T>> db, T beta, identity_t<MatrixView<T>> dX,
                     VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "linear_backward";
  const std::int64_t in = W.rows, out = W.cols, N = X.cols;
  check_weights(context, kFunction, W);
  check_matrix(context, kFunction, "X", X, in, N);
  const bool from_output = activation == Activation::relu || activation == Activation::tanh;
  if (from_output) check_matrix(context, kFunction, "Y", Y, out, N);
  if (activation == Activation::gelu) check_matrix(context, kFunction, "U", U, out, N);
  check_matrix(context, kFunction, "dY", dY, out, N);
  check_matrix(context, kFunction, "dW", dW, in, out);
  if (!db.empty()) check_vector(context, kFunction, "db", db, out);
  if (!dX.empty()) check_matrix(context, kFunction, "dX", dX, in, N);
  check_scratch(context, kFunction, scratch, linear_backward_scratch<T>(context, in, out, N, activation));
  if (N == 0) return;
  Arena arena(scratch);
  const auto pieces = LinearScratch<T>::lay_out(arena, out, N, linear_pieces(context, out, N), activation);
  const MatrixView<const T> value = from_output ? Y : U;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::linear_backward<T>(context, W, activation, X, value, dY, dW, db, beta, dX, pieces);
  }
  cpu::linear_backward<T>(context, W, activation, X, value, dY, dW, db, beta, dX, pieces);
}

template <class T>
void activation_forward(const Context& context, Activation activation, identity_t<MatrixView<const T>> X,
                        MatrixView<T> Y) {
  check_matrix(context, "activation_forward", "X", X, X.rows, X.cols);
  check_matrix(context, "activation_forward", "Y", Y, X.rows, X.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::activation_forward<T>(context, activation, X, Y);
  }
  cpu::activation_forward<T>(context, activation, X, Y);
}

template <class T>
void activation_backward(const Context& context, Activation activation, identity_t<MatrixView<const T>> value,
                         identity_t<MatrixView<const T>> dY, T beta, MatrixView<T> dX) {
  constexpr const char* kFunction = "activation_backward";
  if (activation != Activation::none) check_matrix(context, kFunction, "value", value, dY.rows, dY.cols);
  check_matrix(context, kFunction, "dY", dY, dY.rows, dY.cols);
  check_matrix(context, kFunction, "dX", dX, dY.rows, dY.cols);
  if (dX.empty()) return;
  const MatrixView<const T> its = activation == Activation::none ? dY : value;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::activation_backward<T>(context, activation, its, dY, beta, dX);
  }
  cpu::activation_backward<T>(context, activation, its, dY, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                    \
  template void linear_forward<T>(const Context&, MatrixView<const T>, VectorView<const T>, Activation,              \
                                  MatrixView<const T>, MatrixView<T>, MatrixView<T>);                                \
  template void linear_blend<T>(const Context&, MatrixView<const T>, VectorView<const T>, T, MatrixView<const T>, T, \
                                MatrixView<T>);                                                                      \
  template std::int64_t linear_backward_scratch<T>(const Context&, std::int64_t, std::int64_t, std::int64_t,         \
                                                   Activation);                                                      \
  template void linear_backward<T>(const Context&, MatrixView<const T>, Activation, MatrixView<const T>,             \
                                   MatrixView<const T>, MatrixView<const T>, MatrixView<const T>, MatrixView<T>,     \
                                   VectorView<T>, T, MatrixView<T>, VectorView<std::byte>);                          \
  template void activation_forward<T>(const Context&, Activation, MatrixView<const T>, MatrixView<T>);               \
  template void activation_backward<T>(const Context&, Activation, MatrixView<const T>, MatrixView<const T>, T,      \
                                       MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
