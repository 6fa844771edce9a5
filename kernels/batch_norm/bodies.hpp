// Internal to batch_norm: the scratch of its sums, the formulas of a channel that both backends share, and what each provides.
#pragma once

#include <cmath>

#include <shrinkwarp/kernels/batch_norm/batch_norm.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

struct BatchNormScratch {
  VectorView<double> partials;  // 2 sums a channel and piece
  VectorView<double> totals;    // 2 channels: one sum of each, then the other

  static BatchNormScratch lay_out(Arena& arena, std::int64_t channels, std::int64_t pieces) {
    BatchNormScratch scratch;
    scratch.partials = arena.vector<double>(2 * channels * pieces);
    scratch.totals = arena.vector<double>(2 * channels);
    return scratch;
  }
};

/// The first element of each channel, [1, channels].
template <class T>
MatrixView<const T> first_elements(MatrixView<const T> X, std::int64_t positions) {
  return {X.data, 1, X.rows / positions, positions, X.device};
}
/// A vector in the same form.
template <class T>
MatrixView<const T> as_row(VectorView<const T> vector) {
  return {vector.data, 1, vector.size, 1, vector.device};
}

/// Statistics of a channel from the sums of x - shift and its square over `count` elements.
template <class T>
SHRINKWARP_HOST_DEVICE inline void set_statistics(double shift, double sum, double square, double count, double eps,
                                                  T* statistics) {
  const double offset = sum / count;
  const double spread = square - sum * offset;
  const double positive = spread < 0 ? 0 : spread;  // NaN stays
  statistics[BatchNormStatistics::kMean] = static_cast<T>(shift + offset);
  statistics[BatchNormStatistics::kRstd] = static_cast<T>(1 / std::sqrt(positive / count + eps));
  statistics[BatchNormStatistics::kVariance] = static_cast<T>(positive / (count - 1));
}

template <class T>
SHRINKWARP_HOST_DEVICE inline void set_running(T mean, T variance, double eps, T* statistics) {
  statistics[BatchNormStatistics::kMean] = mean;
  statistics[BatchNormStatistics::kRstd] = static_cast<T>(1 / std::sqrt(static_cast<double>(variance) + eps));
  statistics[BatchNormStatistics::kVariance] = variance;
}

/// One step of a running value.
template <class T>
SHRINKWARP_HOST_DEVICE inline T run_on(T running, T value, double momentum) {
  return static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * static_cast<double>(value));
}

#define SHRINKWARP_DECLARE_BATCH_NORM                                                                                \
  template <class T>                                                                                                 \
  void batch_norm_statistics(const Context& context, std::int64_t positions, MatrixView<const T> X, double eps,      \
                             MatrixView<T> statistics, const BatchNormScratch& scratch);                             \
  template <class T>                                                                                                 \
  void batch_norm_sums(const Context& context, std::int64_t positions, MatrixView<const T> X,                        \
                       VectorView<const T> shift, VectorView<double> sums, VectorView<double> partials);             \
  template <class T>                                                                                                 \
  void batch_norm_set_statistics(const Context& context, VectorView<const T> shift, VectorView<const double> sums,   \
                                 std::int64_t elements, double eps, MatrixView<T> statistics);                       \
  template <class T>                                                                                                 \
  void batch_norm_update_running(const Context& context, MatrixView<const T> statistics, double momentum,            \
                                 VectorView<T> running_mean, VectorView<T> running_var);                             \
  template <class T>                                                                                                 \
  void batch_norm_running(const Context& context, VectorView<const T> running_mean, VectorView<const T> running_var, \
                          double eps, MatrixView<T> statistics);                                                     \
  template <class T>                                                                                                 \
  void batch_norm_forward(const Context& context, std::int64_t positions, MatrixView<const T> statistics,            \
                          VectorView<const T> weight, VectorView<const T> bias, bool relu, MatrixView<const T> X,    \
                          MatrixView<T> Y);                                                                          \
  template <class T>                                                                                                 \
  void batch_norm_gradient_sums(const Context& context, std::int64_t positions, MatrixView<const T> statistics,      \
                                MatrixView<const T> X, MatrixView<const T> dY, VectorView<double> sums,              \
                                VectorView<T> dweight, VectorView<T> dbias, VectorView<double> partials);            \
  template <class T>                                                                                                 \
  void batch_norm_input_gradient(const Context& context, std::int64_t positions, MatrixView<const T> statistics,     \
                                 VectorView<const T> weight, MatrixView<const T> X, MatrixView<const T> dY,          \
                                 VectorView<const double> sums, T beta, MatrixView<T> dX);                           \
  /* Pieces of the columns that are summed one by one. */                                                            \
  std::int64_t batch_norm_pieces(std::int64_t positions, std::int64_t channels, std::int64_t N);
namespace cpu {
SHRINKWARP_DECLARE_BATCH_NORM
}
namespace cuda {
SHRINKWARP_DECLARE_BATCH_NORM
}
#undef SHRINKWARP_DECLARE_BATCH_NORM

}  // namespace shrinkwarp
