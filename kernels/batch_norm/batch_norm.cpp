#include <shrinkwarp/kernels/batch_norm/batch_norm.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/batch_norm/bodies.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {
namespace {

BatchNormScratch lay_out(const Context& context, Arena& arena, std::int64_t channels, std::int64_t positions,
                         std::int64_t N) {
  std::int64_t pieces = cpu::batch_norm_pieces(positions, channels, N);
  if constexpr (kHasCuda) {
    if (context.is_cuda()) pieces = cuda::batch_norm_pieces(positions, channels, N);
  }
  return BatchNormScratch::lay_out(arena, channels, pieces);
}

void check_eps(const char* function, double eps) {
  SHRINKWARP_REQUIRE(eps >= 0, ValueError, function, ": eps is ", eps, ", wanted >= 0");
}

void check_elements(const char* function, std::int64_t elements) {
  SHRINKWARP_REQUIRE(elements >= 2, ShapeError, function, ": a channel has ", elements, " elements, wanted at least 2");
}

/// The number of channels.
template <class T>
std::int64_t check_channels(const Context& context, const char* function, const MatrixView<T>& X,
                            std::int64_t positions) {
  SHRINKWARP_REQUIRE(positions >= 1, ShapeError, function, ": positions is ", positions, ", wanted >= 1");
  SHRINKWARP_REQUIRE(X.rows % positions == 0, ShapeError, function, ": X is ", X.rows, " x ", X.cols,
                     ", wanted rows that are a multiple of the ", positions, " positions");
  check_matrix(context, function, "X", X, X.rows, X.cols);
  return X.rows / positions;
}

template <class T>
void check_statistics(const Context& context, const char* function, const MatrixView<T>& statistics,
                      std::int64_t channels) {
  check_matrix(context, function, "statistics", statistics, BatchNormStatistics::kSize, channels);
}

template <class T>
void check_optional(const Context& context, const char* function, const char* name, const VectorView<T>& view,
                    std::int64_t size) {
  if (!view.empty()) check_vector(context, function, name, view, size);
}

}  // namespace

std::int64_t batch_norm_scratch(const Context& context, std::int64_t channels, std::int64_t positions, std::int64_t N) {
  SHRINKWARP_REQUIRE(channels >= 0 && positions >= 1 && N >= 0, ShapeError,
                     "batch_norm_scratch: channels, positions and N are ", channels, ", ", positions, " and ", N,
                     ", wanted >= 0, >= 1 and >= 0");
  Arena counting(context.device());
  lay_out(context, counting, channels, positions, N);
  return counting.used();
}

template <class T>
void batch_norm_statistics(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> X,
                           double eps, MatrixView<T> statistics, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "batch_norm_statistics";
  const std::int64_t channels = check_channels(context, kFunction, X, positions);
  check_elements(kFunction, positions * X.cols);
  check_eps(kFunction, eps);
  check_statistics(context, kFunction, statistics, channels);
  check_scratch(context, kFunction, scratch, batch_norm_scratch(context, channels, positions, X.cols));
  if (X.empty()) return;
  Arena arena(scratch);
  const BatchNormScratch sums = lay_out(context, arena, channels, positions, X.cols);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::batch_norm_statistics<T>(context, positions, X, eps, statistics, sums);
  }
  cpu::batch_norm_statistics<T>(context, positions, X, eps, statistics, sums);
}

template <class T>
void batch_norm_sums(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> X,
                     identity_t<VectorView<const T>> shift, VectorView<double> sums, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "batch_norm_sums";
  const std::int64_t channels = check_channels(context, kFunction, X, positions);
  check_vector(context, kFunction, "shift", shift, channels);
  check_vector(context, kFunction, "sums", sums, 2 * channels);
  check_scratch(context, kFunction, scratch, batch_norm_scratch(context, channels, positions, X.cols));
  if (channels == 0) return;
  Arena arena(scratch);
  const BatchNormScratch its = lay_out(context, arena, channels, positions, X.cols);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::batch_norm_sums<T>(context, positions, X, shift, sums, its.partials);
  }
  cpu::batch_norm_sums<T>(context, positions, X, shift, sums, its.partials);
}

template <class T>
void batch_norm_set_statistics(const Context& context, identity_t<VectorView<const T>> shift,
                               VectorView<const double> sums, std::int64_t elements, double eps,
                               MatrixView<T> statistics) {
  constexpr const char* kFunction = "batch_norm_set_statistics";
  check_vector(context, kFunction, "shift", shift, statistics.cols);
  check_vector(context, kFunction, "sums", sums, 2 * statistics.cols);
  check_elements(kFunction, elements);
  check_eps(kFunction, eps);
  check_statistics(context, kFunction, statistics, statistics.cols);
  if (statistics.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::batch_norm_set_statistics<T>(context, shift, sums, elements, eps, statistics);
  }
  cpu::batch_norm_set_statistics<T>(context, shift, sums, elements, eps, statistics);
}

template <class T>
void batch_norm_update_running(const Context& context, identity_t<MatrixView<const T>> statistics, double momentum,
                               VectorView<T> running_mean, VectorView<T> running_var) {
  constexpr const char* kFunction = "batch_norm_update_running";
  SHRINKWARP_REQUIRE(momentum >= 0 && momentum <= 1, ValueError, kFunction, ": momentum is ", momentum,
                     ", wanted from 0 to 1");
  check_statistics(context, kFunction, statistics, statistics.cols);
  check_vector(context, kFunction, "running_mean", running_mean, statistics.cols);
  check_vector(context, kFunction, "running_var", running_var, statistics.cols);
  if (statistics.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::batch_norm_update_running<T>(context, statistics, momentum, running_mean, running_var);
  }
  cpu::batch_norm_update_running<T>(context, statistics, momentum, running_mean, running_var);
}

template <class T>
void batch_norm_running(const Context& context, identity_t<VectorView<const T>> running_mean,
                        identity_t<VectorView<const T>> running_var, double eps, MatrixView<T> statistics) {
  constexpr const char* kFunction = "batch_norm_running";
  check_eps(kFunction, eps);
  check_statistics(context, kFunction, statistics, statistics.cols);
  check_vector(context, kFunction, "running_mean", running_mean, statistics.cols);
  check_vector(context, kFunction, "running_var", running_var, statistics.cols);
  if (statistics.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::batch_norm_running<T>(context, running_mean, running_var, eps, statistics);
  }
  cpu::batch_norm_running<T>(context, running_mean, running_var, eps, statistics);
}

template <class T>
void batch_norm_forward(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> statistics,
                        identity_t<VectorView<const T>> weight, identity_t<VectorView<const T>> bias, bool relu,
                        identity_t<MatrixView<const T>> X, MatrixView<T> Y) {
  constexpr const char* kFunction = "batch_norm_forward";
  const std::int64_t channels = check_channels(context, kFunction, X, positions);
  check_statistics(context, kFunction, statistics, channels);
  check_optional(context, kFunction, "weight", weight, channels);
  check_optional(context, kFunction, "bias", bias, channels);
  check_matrix(context, kFunction, "Y", Y, X.rows, X.cols);
  if (X.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::batch_norm_forward<T>(context, positions, statistics, weight, bias, relu, X, Y);
  }
  cpu::batch_norm_forward<T>(context, positions, statistics, weight, bias, relu, X, Y);
}

template <class T>
void batch_norm_backward(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> statistics,
                         identity_t<VectorView<const T>> weight, identity_t<MatrixView<const T>> X,
                         identity_t<MatrixView<const T>> dY, bool through_statistics, T beta, MatrixView<T> dX,
                         identity_t<VectorView<T>> dweight, identity_t<VectorView<T>> dbias,
                         VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "batch_norm_backward";
  const std::int64_t channels = check_channels(context, kFunction, X, positions);
  check_statistics(context, kFunction, statistics, channels);
  check_optional(context, kFunction, "weight", weight, channels);
  check_matrix(context, kFunction, "dY", dY, X.rows, X.cols);
  if (!dX.empty()) check_matrix(context, kFunction, "dX", dX, X.rows, X.cols);
  check_optional(context, kFunction, "dweight", dweight, channels);
  check_optional(context, kFunction, "dbias", dbias, channels);
  check_scratch(context, kFunction, scratch, batch_norm_scratch(context, channels, positions, X.cols));
  if (X.empty()) return;
  Arena arena(scratch);
  const BatchNormScratch its = lay_out(context, arena, channels, positions, X.cols);
  const bool wants_input = !dX.empty();
  const bool wants_sums = !dweight.empty() || !dbias.empty() || (wants_input && through_statistics);
  const VectorView<const double> sums = through_statistics ? its.totals : VectorView<double>{};
  if (context.select_cuda()) {
    if constexpr (kHasCuda) {
      if (wants_sums)
        cuda::batch_norm_gradient_sums<T>(context, positions, statistics, X, dY, its.totals, dweight, dbias,
                                          its.partials);
      if (wants_input)
        cuda::batch_norm_input_gradient<T>(context, positions, statistics, weight, X, dY, sums, beta, dX);
      return;
    }
  }
  if (wants_sums)
    cpu::batch_norm_gradient_sums<T>(context, positions, statistics, X, dY, its.totals, dweight, dbias, its.partials);
  if (wants_input) cpu::batch_norm_input_gradient<T>(context, positions, statistics, weight, X, dY, sums, beta, dX);
}

template <class T>
void batch_norm_gradient_sums(const Context& context, std::int64_t positions,
                              identity_t<MatrixView<const T>> statistics, identity_t<MatrixView<const T>> X,
                              identity_t<MatrixView<const T>> dY, VectorView<double> sums,
                              identity_t<VectorView<T>> dweight, identity_t<VectorView<T>> dbias,
                              VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "batch_norm_gradient_sums";
  const std::int64_t channels = check_channels(context, kFunction, X, positions);
  check_statistics(context, kFunction, statistics, channels);
  check_matrix(context, kFunction, "dY", dY, X.rows, X.cols);
  check_vector(context, kFunction, "sums", sums, 2 * channels);
  check_optional(context, kFunction, "dweight", dweight, channels);
  check_optional(context, kFunction, "dbias", dbias, channels);
  check_scratch(context, kFunction, scratch, batch_norm_scratch(context, channels, positions, X.cols));
  if (channels == 0) return;
  Arena arena(scratch);
  const BatchNormScratch its = lay_out(context, arena, channels, positions, X.cols);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) {
      return cuda::batch_norm_gradient_sums<T>(context, positions, statistics, X, dY, sums, dweight, dbias,
                                               its.partials);
    }
  }
  cpu::batch_norm_gradient_sums<T>(context, positions, statistics, X, dY, sums, dweight, dbias, its.partials);
}

template <class T>
void batch_norm_input_gradient(const Context& context, std::int64_t positions,
                               identity_t<MatrixView<const T>> statistics, identity_t<VectorView<const T>> weight,
                               identity_t<MatrixView<const T>> X, identity_t<MatrixView<const T>> dY,
                               VectorView<const double> sums, T beta, MatrixView<T> dX) {
  constexpr const char* kFunction = "batch_norm_input_gradient";
  const std::int64_t channels = check_channels(context, kFunction, X, positions);
  check_statistics(context, kFunction, statistics, channels);
  check_optional(context, kFunction, "weight", weight, channels);
  check_matrix(context, kFunction, "dY", dY, X.rows, X.cols);
  check_optional(context, kFunction, "sums", sums, 2 * channels);
  check_matrix(context, kFunction, "dX", dX, X.rows, X.cols);
  if (X.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) {
      return cuda::batch_norm_input_gradient<T>(context, positions, statistics, weight, X, dY, sums, beta, dX);
    }
  }
  cpu::batch_norm_input_gradient<T>(context, positions, statistics, weight, X, dY, sums, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                    \
  template void batch_norm_statistics<T>(const Context&, std::int64_t, MatrixView<const T>, double, MatrixView<T>,   \
                                         VectorView<std::byte>);                                                     \
  template void batch_norm_sums<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>,           \
                                   VectorView<double>, VectorView<std::byte>);                                       \
  template void batch_norm_set_statistics<T>(const Context&, VectorView<const T>, VectorView<const double>,          \
                                             std::int64_t, double, MatrixView<T>);                                   \
  template void batch_norm_update_running<T>(const Context&, MatrixView<const T>, double, VectorView<T>,             \
                                             VectorView<T>);                                                         \
  template void batch_norm_running<T>(const Context&, VectorView<const T>, VectorView<const T>, double,              \
                                      MatrixView<T>);                                                                \
  template void batch_norm_forward<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>,        \
                                      VectorView<const T>, bool, MatrixView<const T>, MatrixView<T>);                \
  template void batch_norm_backward<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>,       \
                                       MatrixView<const T>, MatrixView<const T>, bool, T, MatrixView<T>,             \
                                       VectorView<T>, VectorView<T>, VectorView<std::byte>);                         \
  template void batch_norm_gradient_sums<T>(const Context&, std::int64_t, MatrixView<const T>, MatrixView<const T>,  \
                                            MatrixView<const T>, VectorView<double>, VectorView<T>, VectorView<T>,   \
                                            VectorView<std::byte>);                                                  \
  template void batch_norm_input_gradient<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>, \
                                             MatrixView<const T>, MatrixView<const T>, VectorView<const double>, T,  \
                                             MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
