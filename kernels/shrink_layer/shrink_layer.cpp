#include <shrinkwarp/kernels/shrink_layer/shrink_layer.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/shrink_layer/bodies.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp {
namespace {

VectorView<double> sums_of(Arena& arena, const Context& context, std::int64_t m, std::int64_t N) {
  std::int64_t pieces = cpu::shrink_layer_pieces(N);
  if constexpr (kHasCuda) {
    if (context.is_cuda()) pieces = cuda::shrink_layer_pieces(N);
  }
  return arena.vector<double>(m * pieces);
}

}  // namespace

template <class T>
void shrink_layer_forward(const Context& context, identity_t<VectorView<const T>> theta,
                          identity_t<VectorView<const T>> lambda, identity_t<MatrixView<const T>> U, MatrixView<T> Y) {
  constexpr const char* kFunction = "shrink_layer_forward";
  check_vector(context, kFunction, "theta", theta, Y.rows);
  check_vector(context, kFunction, "lambda", lambda, Y.cols);
  check_matrix(context, kFunction, "U", U, Y.rows, Y.cols);
  check_matrix(context, kFunction, "Y", Y, Y.rows, Y.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::shrink_layer_forward<T>(context, theta, lambda, U, Y);
  }
  cpu::shrink_layer_forward<T>(context, theta, lambda, U, Y);
}

std::int64_t shrink_layer_scratch(const Context& context, std::int64_t m, std::int64_t N) {
  SHRINKWARP_REQUIRE(m >= 0 && N >= 0, ShapeError, "shrink_layer_scratch: m and N are ", m, " and ", N,
                     ", wanted >= 0");
  Arena counting(context.device());
  sums_of(counting, context, m, N);
  return counting.used();
}

template <class T>
void shrink_layer_backward(const Context& context, identity_t<VectorView<const T>> theta,
                           identity_t<VectorView<const T>> lambda, identity_t<MatrixView<const T>> Y,
                           identity_t<MatrixView<const T>> dY, MatrixView<T> H, VectorView<T> dtheta,
                           VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "shrink_layer_backward";
  check_vector(context, kFunction, "theta", theta, H.rows);
  check_vector(context, kFunction, "lambda", lambda, H.cols);
  check_matrix(context, kFunction, "Y", Y, H.rows, H.cols);
  check_matrix(context, kFunction, "dY", dY, H.rows, H.cols);
  check_matrix(context, kFunction, "H", H, H.rows, H.cols);
  check_vector(context, kFunction, "dtheta", dtheta, H.rows);
  check_scratch(context, kFunction, scratch, shrink_layer_scratch(context, H.rows, H.cols));
  if (H.empty()) return;
  Arena arena(scratch);
  const VectorView<double> sums = sums_of(arena, context, H.rows, H.cols);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::shrink_layer_backward<T>(context, theta, lambda, Y, dY, H, dtheta, sums);
  }
  cpu::shrink_layer_backward<T>(context, theta, lambda, Y, dY, H, dtheta, sums);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                      \
  template void shrink_layer_forward<T>(const Context&, VectorView<const T>, VectorView<const T>, MatrixView<const T>, \
                                        MatrixView<T>);                                                                \
  template void shrink_layer_backward<T>(const Context&, VectorView<const T>, VectorView<const T>,                     \
                                         MatrixView<const T>, MatrixView<const T>, MatrixView<T>, VectorView<T>,       \
                                         VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
