// Argument checks and dispatch of the pooling family.
#include <shrinkwarp/kernels/pooling/pooling.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

#define SHRINKWARP_POOLING_BODIES                                                                                  \
  template <class T>                                                                                               \
  void max_pool_forward(const Context& context, const PoolingShape& shape, MatrixView<const T> X, MatrixView<T> Y, \
                        MatrixView<std::int32_t> index);                                                           \
  template <class T>                                                                                               \
  void max_pool_backward(const Context& context, const PoolingShape& shape, MatrixView<const T> dY,                \
                         MatrixView<const std::int32_t> index, T beta, MatrixView<T> dX);                          \
  template <class T>                                                                                               \
  void average_pool_forward(const Context& context, MatrixView<const T> X, MatrixView<T> Y);                       \
  template <class T>                                                                                               \
  void average_pool_backward(const Context& context, MatrixView<const T> dY, T beta, MatrixView<T> dX);
namespace cpu {
SHRINKWARP_POOLING_BODIES
}
namespace cuda {
SHRINKWARP_POOLING_BODIES
}
#undef SHRINKWARP_POOLING_BODIES

namespace {

void check_shape(const char* function, const PoolingShape& s) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const auto size = [&](const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
    SHRINKWARP_REQUIRE(value >= least && value <= most, ShapeError, function, ": shape.", name, " is ", value,
                       ", wanted ", least, " to ", most);
  };
  size("channels", s.channels, 1, kMost);
  size("height", s.height, 1, kMost);
  size("width", s.width, 1, kMost / s.height);
  size("stride", s.stride, 1, kMost);
  size("kernel", s.kernel, 1, kMost);
  size("padding", s.padding, 0, s.kernel / 2);
  size("kernel", s.kernel, 1, (s.height < s.width ? s.height : s.width) + 2 * s.padding);
}

/// X has the same number of rows, at least one, for each channel.
template <class T>
void check_channels(const char* function, const char* name, const MatrixView<T>& X, std::int64_t channels) {
  SHRINKWARP_REQUIRE(channels >= 1 && X.rows >= channels && X.rows % channels == 0, ShapeError, function, ": ", name,
                     " has ", X.rows, " rows for ", channels,
                     " channels, wanted as many pixels for each, at least one");
}

}  // namespace

template <class T>
void max_pool_forward(const Context& context, const PoolingShape& shape, identity_t<MatrixView<const T>> X,
                      MatrixView<T> Y, MatrixView<std::int32_t> index) {
  constexpr const char* kFunction = "max_pool_forward";
  check_shape(kFunction, shape);
  check_matrix(context, kFunction, "X", X, shape.in_features(), X.cols);
  check_matrix(context, kFunction, "Y", Y, shape.out_features(), X.cols);
  if (!index.empty()) check_matrix(context, kFunction, "index", index, shape.out_features(), X.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::max_pool_forward<T>(context, shape, X, Y, index);
  }
  cpu::max_pool_forward<T>(context, shape, X, Y, index);
}

template <class T>
void max_pool_backward(const Context& context, const PoolingShape& shape, identity_t<MatrixView<const T>> dY,
                       identity_t<MatrixView<const std::int32_t>> index, T beta, MatrixView<T> dX) {
  constexpr const char* kFunction = "max_pool_backward";
  check_shape(kFunction, shape);
  check_matrix(context, kFunction, "dY", dY, shape.out_features(), dX.cols);
  check_matrix(context, kFunction, "index", index, shape.out_features(), dX.cols);
  check_matrix(context, kFunction, "dX", dX, shape.in_features(), dX.cols);
  if (dX.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::max_pool_backward<T>(context, shape, dY, index, beta, dX);
  }
  cpu::max_pool_backward<T>(context, shape, dY, index, beta, dX);
}

template <class T>
void average_pool_forward(const Context& context, identity_t<MatrixView<const T>> X, MatrixView<T> Y) {
  constexpr const char* kFunction = "average_pool_forward";
  check_channels(kFunction, "X", X, Y.rows);
  check_matrix(context, kFunction, "X", X, X.rows, Y.cols);
  check_matrix(context, kFunction, "Y", Y, Y.rows, Y.cols);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::average_pool_forward<T>(context, X, Y);
  }
  cpu::average_pool_forward<T>(context, X, Y);
}

template <class T>
void average_pool_backward(const Context& context, identity_t<MatrixView<const T>> dY, T beta, MatrixView<T> dX) {
  constexpr const char* kFunction = "average_pool_backward";
  check_channels(kFunction, "dX", dX, dY.rows);
  check_matrix(context, kFunction, "dY", dY, dY.rows, dX.cols);
  check_matrix(context, kFunction, "dX", dX, dX.rows, dX.cols);
  if (dX.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::average_pool_backward<T>(context, dY, beta, dX);
  }
  cpu::average_pool_backward<T>(context, dY, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                            \
  template void max_pool_forward<T>(const Context&, const PoolingShape&, MatrixView<const T>, MatrixView<T>, \
                                    MatrixView<std::int32_t>);                                               \
  template void max_pool_backward<T>(const Context&, const PoolingShape&, MatrixView<const T>,               \
                                     MatrixView<const std::int32_t>, T, MatrixView<T>);                      \
  template void average_pool_forward<T>(const Context&, MatrixView<const T>, MatrixView<T>);                 \
  template void average_pool_backward<T>(const Context&, MatrixView<const T>, T, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
