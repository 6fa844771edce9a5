#include <shrinkwarp/kernels/layer_norm/layer_norm.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/layer_norm/bodies.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp {
namespace {

VectorView<double> partials(const Context& context, Arena& arena, std::int64_t features, std::int64_t N) {
  std::int64_t pieces = cpu::layer_norm_pieces(N);
  if constexpr (kHasCuda) {
    if (context.is_cuda()) pieces = cuda::layer_norm_pieces(N);
  }
  return arena.vector<double>(2 * features * pieces);
}

template <class T>
void check_features(const char* function, const MatrixView<T>& X) {
  SHRINKWARP_REQUIRE(X.rows > 0 || X.cols == 0, ShapeError, function, ": X is ", X.rows, " x ", X.cols,
                     ", wanted at least one feature");
}

}  // namespace

template <class T>
void layer_norm_forward(const Context& context, identity_t<MatrixView<const T>> X,
                        identity_t<VectorView<const T>> weight, identity_t<VectorView<const T>> bias, double eps,
                        MatrixView<T> Y, MatrixView<T> statistics) {
  constexpr const char* kFunction = "layer_norm_forward";
  check_features(kFunction, X);
  SHRINKWARP_REQUIRE(eps >= 0, ValueError, kFunction, ": eps is ", eps, ", wanted >= 0");
  check_matrix(context, kFunction, "X", X, X.rows, X.cols);
  if (!weight.empty()) check_vector(context, kFunction, "weight", weight, X.rows);
  if (!bias.empty()) check_vector(context, kFunction, "bias", bias, X.rows);
  check_matrix(context, kFunction, "Y", Y, X.rows, X.cols);
  check_matrix(context, kFunction, "statistics", statistics, 2, X.cols);
  if (X.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::layer_norm_forward<T>(context, X, weight, bias, eps, Y, statistics);
  }
  cpu::layer_norm_forward<T>(context, X, weight, bias, eps, Y, statistics);
}

std::int64_t layer_norm_backward_scratch(const Context& context, std::int64_t features, std::int64_t N) {
  SHRINKWARP_REQUIRE(features >= 0 && N >= 0, ShapeError, "layer_norm_backward_scratch: features and N are ", features,
                     " and ", N, ", wanted >= 0");
  Arena counting(context.device());
  partials(context, counting, features, N);
  return counting.used();
}

template <class T>
void layer_norm_backward(const Context& context, identity_t<MatrixView<const T>> X,
                         identity_t<MatrixView<const T>> statistics, identity_t<VectorView<const T>> weight,
                         identity_t<MatrixView<const T>> dY, T beta, MatrixView<T> dX,
                         identity_t<VectorView<T>> dweight, identity_t<VectorView<T>> dbias,
                         VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "layer_norm_backward";
  check_features(kFunction, X);
  check_matrix(context, kFunction, "X", X, X.rows, X.cols);
  check_matrix(context, kFunction, "statistics", statistics, 2, X.cols);
  if (!weight.empty()) check_vector(context, kFunction, "weight", weight, X.rows);
  check_matrix(context, kFunction, "dY", dY, X.rows, X.cols);
  if (!dX.empty()) check_matrix(context, kFunction, "dX", dX, X.rows, X.cols);
  if (!dweight.empty()) check_vector(context, kFunction, "dweight", dweight, X.rows);
  if (!dbias.empty()) check_vector(context, kFunction, "dbias", dbias, X.rows);
  check_scratch(context, kFunction, scratch, layer_norm_backward_scratch(context, X.rows, X.cols));
  if (X.empty()) return;
  Arena arena(scratch);
  const VectorView<double> sums = partials(context, arena, X.rows, X.cols);
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::layer_norm_backward<T>(context, X, statistics, weight, dY, beta, dX, dweight, dbias, sums);
  }
  cpu::layer_norm_backward<T>(context, X, statistics, weight, dY, beta, dX, dweight, dbias, sums);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template void layer_norm_forward<T>(const Context&, MatrixView<const T>, VectorView<const T>, VectorView<const T>,  \
                                      double, MatrixView<T>, MatrixView<T>);                                          \
  template void layer_norm_backward<T>(const Context&, MatrixView<const T>, MatrixView<const T>, VectorView<const T>, \
                                       MatrixView<const T>, T, MatrixView<T>, VectorView<T>, VectorView<T>,           \
                                       VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
