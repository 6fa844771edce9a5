// CPU bodies of batch_norm. A task takes a piece of columns through all channels, so that it reads memory in order: in each
// column the run of a channel's positions or, where a channel has one, blocks of channels side by side.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/batch_norm/bodies.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kElements = 32768;  // of a piece, about
constexpr std::int64_t kBlock = 128;       // channels side by side
constexpr int kRunLanes = 8;               // sums of a run side by side, added in a fixed order

double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

std::int64_t piece_columns(std::int64_t positions, std::int64_t channels) {
  return std::clamp<std::int64_t>(kElements / std::max<std::int64_t>(positions * channels, 1), 8, 256);
}

/// What a block of channels, or one, knows of each.
template <class T>
struct Channels {
  T mean[kBlock], rstd[kBlock], weight[kBlock], bias[kBlock], dy_mean[kBlock], product_mean[kBlock];
};

// The same loops for both element types: multiversioned functions cannot be templates. `of(p)` is p[i] where rows are channels
// and p[0] in the run of one. y may be x, dx may be dy.
#define SHRINKWARP_ELEMENT_LOOPS(T, name, of)                                                                      \
  SHRINKWARP_CPU_CLONES void normalise_##name(const T* x, const Channels<T>& c, bool with_relu, T* y,              \
                                              std::int64_t size) {                                                 \
    if (with_relu)                                                                                                 \
      for (std::int64_t i = 0; i < size; ++i)                                                                      \
        y[i] = relu((x[i] - of(c.mean)) * of(c.rstd) * of(c.weight) + of(c.bias));                                 \
    else                                                                                                           \
      for (std::int64_t i = 0; i < size; ++i) y[i] = (x[i] - of(c.mean)) * of(c.rstd) * of(c.weight) + of(c.bias); \
  }                                                                                                                \
  SHRINKWARP_CPU_CLONES void input_gradient_##name(const T* x, const T* dy, const Channels<T>& c, bool through,    \
                                                   T beta, T* dx, std::int64_t size) {                             \
    for (std::int64_t i = 0; i < size; ++i) {                                                                      \
      const T xhat = (x[i] - of(c.mean)) * of(c.rstd);                                                             \
      const T g = through ? dy[i] - of(c.dy_mean) - xhat * of(c.product_mean) : dy[i];                             \
      const T h = of(c.weight) * of(c.rstd) * g;                                                                   \
      dx[i] = beta == T(0) ? h : beta * dx[i] + h;                                                                 \
    }                                                                                                              \
  }
#define SHRINKWARP_EACH(p) p[i]
#define SHRINKWARP_FIRST(p) p[0]
#define SHRINKWARP_BATCH_NORM_LOOPS(T)                                                                        \
  SHRINKWARP_ELEMENT_LOOPS(T, rows, SHRINKWARP_EACH)                                                          \
  SHRINKWARP_ELEMENT_LOOPS(T, run, SHRINKWARP_FIRST)                                                          \
  /* x - shift and its square, added to the sums of each row */                                               \
  SHRINKWARP_CPU_CLONES void add_moments_rows(const T* x, const T* shift, double* first, double* second,      \
                                              std::int64_t size) {                                            \
    for (std::int64_t i = 0; i < size; ++i) {                                                                 \
      const double d = static_cast<double>(x[i]) - static_cast<double>(shift[i]);                             \
      first[i] += d;                                                                                          \
      second[i] += d * d;                                                                                     \
    }                                                                                                         \
  }                                                                                                           \
  SHRINKWARP_CPU_CLONES void add_moments_run(const T* x, const T* shift, double* first, double* second,       \
                                             std::int64_t size) {                                             \
    double sum[kRunLanes] = {}, square[kRunLanes] = {};                                                       \
    const double from = shift[0];                                                                             \
    const auto add = [&](std::int64_t i, int k) {                                                             \
      const double d = static_cast<double>(x[i]) - from;                                                      \
      sum[k] += d;                                                                                            \
      square[k] += d * d;                                                                                     \
    };                                                                                                        \
    std::int64_t i = 0;                                                                                       \
    for (; i + kRunLanes <= size; i += kRunLanes)                                                             \
      for (int k = 0; k < kRunLanes; ++k) add(i + k, k);                                                      \
    for (int k = 0; i < size; ++i, ++k) add(i, k);                                                            \
    first[0] += add_lanes(sum);                                                                               \
    second[0] += add_lanes(square);                                                                           \
  }                                                                                                           \
  /* dy and dy xhat, added to the sums of each row */                                                         \
  SHRINKWARP_CPU_CLONES void add_gradients_rows(const T* x, const T* dy, const Channels<T>& c, double* first, \
                                                double* second, std::int64_t size) {                          \
    for (std::int64_t i = 0; i < size; ++i) {                                                                 \
      const auto g = static_cast<double>(dy[i]);                                                              \
      first[i] += g;                                                                                          \
      second[i] += g * static_cast<double>((x[i] - c.mean[i]) * c.rstd[i]);                                   \
    }                                                                                                         \
  }                                                                                                           \
  SHRINKWARP_CPU_CLONES void add_gradients_run(const T* x, const T* dy, const Channels<T>& c, double* first,  \
                                               double* second, std::int64_t size) {                           \
    double sum[kRunLanes] = {}, product[kRunLanes] = {};                                                      \
    const T mean = c.mean[0], rstd = c.rstd[0];                                                               \
    const auto add = [&](std::int64_t i, int k) {                                                             \
      const auto g = static_cast<double>(dy[i]);                                                              \
      sum[k] += g;                                                                                            \
      product[k] += g * static_cast<double>((x[i] - mean) * rstd);                                            \
    };                                                                                                        \
    std::int64_t i = 0;                                                                                       \
    for (; i + kRunLanes <= size; i += kRunLanes)                                                             \
      for (int k = 0; k < kRunLanes; ++k) add(i + k, k);                                                      \
    for (int k = 0; i < size; ++i, ++k) add(i, k);                                                            \
    first[0] += add_lanes(sum);                                                                               \
    second[0] += add_lanes(product);                                                                          \
  }
SHRINKWARP_BATCH_NORM_LOOPS(float)
SHRINKWARP_BATCH_NORM_LOOPS(double)
#undef SHRINKWARP_BATCH_NORM_LOOPS
#undef SHRINKWARP_FIRST
#undef SHRINKWARP_EACH
#undef SHRINKWARP_ELEMENT_LOOPS

/// body(piece, first column, last column, first channel, channels, first row, rows) for blocks of channels of each piece:
/// rows are the run of one channel, or one for each of several.
template <class Body>
void for_blocks(const Context& context, std::int64_t positions, std::int64_t channels, std::int64_t N,
                const Body& body) {
  const std::int64_t columns = piece_columns(positions, channels);
  context.parallel_for(batch_norm_pieces(positions, channels, N), [&](std::int64_t piece, int) {
    const std::int64_t first = piece * columns, last = std::min(N, first + columns);
    const std::int64_t block = positions == 1 ? kBlock : 1;
    for (std::int64_t c = 0; c < channels; c += block) {
      const std::int64_t count = std::min(block, channels - c);
      body(piece, first, last, c, count, c * positions, count * positions);
    }
  });
}

template <class T>
void load_channels(MatrixView<const T> statistics, VectorView<const T> weight, std::int64_t first, std::int64_t count,
                   Channels<T>& channels) {
  for (std::int64_t k = 0; k < count; ++k) {
    channels.mean[k] = statistics(BatchNormStatistics::kMean, first + k);
    channels.rstd[k] = statistics(BatchNormStatistics::kRstd, first + k);
    channels.weight[k] = weight.empty() ? T(1) : weight[first + k];
  }
}

/// totals[q channels + c] = the sum over pieces of partials[(2 piece + q) channels + c].
void add_pieces(VectorView<const double> partials, std::int64_t channels, std::int64_t pieces,
                VectorView<double> totals) {
  for (std::int64_t i = 0; i < 2 * channels; ++i) {
    double sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += partials[piece * 2 * channels + i];
    totals[i] = sum;
  }
}

/// @param shift  of first_elements or as_row: side by side where a channel has one position
template <class T>
void add_moments(const Context& context, std::int64_t positions, MatrixView<const T> X, MatrixView<const T> shift,
                 VectorView<double> partials, VectorView<double> totals) {
  const std::int64_t channels = X.rows / positions;
  for_blocks(context, positions, channels, X.cols,
             [&](std::int64_t piece, std::int64_t first, std::int64_t last, std::int64_t c, std::int64_t count,
                 std::int64_t row, std::int64_t rows) {
               double* const sums = partials.data + piece * 2 * channels + c;
               std::fill_n(sums, count, 0.0);
               std::fill_n(sums + channels, count, 0.0);
               for (std::int64_t j = first; j < last; ++j) {
                 if (positions == 1)
                   add_moments_rows(X.column(j) + row, shift.column(c), sums, sums + channels, rows);
                 else
                   add_moments_run(X.column(j) + row, shift.column(c), sums, sums + channels, rows);
               }
             });
  add_pieces(partials, channels, batch_norm_pieces(positions, channels, X.cols), totals);
}

template <class T>
void set_all_statistics(MatrixView<const T> shift, VectorView<const double> totals, std::int64_t elements, double eps,
                        MatrixView<T> statistics) {
  const std::int64_t channels = statistics.cols;
  for (std::int64_t c = 0; c < channels; ++c) {
    set_statistics(static_cast<double>(shift(0, c)), totals[c], totals[channels + c], static_cast<double>(elements),
                   eps, statistics.column(c));
  }
}

}  // namespace

std::int64_t batch_norm_pieces(std::int64_t positions, std::int64_t channels, std::int64_t N) {
  const std::int64_t columns = piece_columns(positions, channels);
  return (N + columns - 1) / columns;
}

template <class T>
void batch_norm_statistics(const Context& context, std::int64_t positions, MatrixView<const T> X, double eps,
                           MatrixView<T> statistics, const BatchNormScratch& scratch) {
  const MatrixView<const T> first = first_elements(X, positions);
  add_moments(context, positions, X, first, scratch.partials, scratch.totals);
  set_all_statistics<T>(first, scratch.totals, positions * X.cols, eps, statistics);
}

template <class T>
void batch_norm_sums(const Context& context, std::int64_t positions, MatrixView<const T> X, VectorView<const T> shift,
                     VectorView<double> sums, VectorView<double> partials) {
  add_moments(context, positions, X, as_row(shift), partials, sums);
}

template <class T>
void batch_norm_set_statistics(const Context&, VectorView<const T> shift, VectorView<const double> sums,
                               std::int64_t elements, double eps, MatrixView<T> statistics) {
  set_all_statistics(as_row(shift), sums, elements, eps, statistics);
}

template <class T>
void batch_norm_update_running(const Context&, MatrixView<const T> statistics, double momentum,
                               VectorView<T> running_mean, VectorView<T> running_var) {
  for (std::int64_t c = 0; c < statistics.cols; ++c) {
    running_mean[c] = run_on(running_mean[c], statistics(BatchNormStatistics::kMean, c), momentum);
    running_var[c] = run_on(running_var[c], statistics(BatchNormStatistics::kVariance, c), momentum);
  }
}

template <class T>
void batch_norm_running(const Context&, VectorView<const T> running_mean, VectorView<const T> running_var, double eps,
                        MatrixView<T> statistics) {
  for (std::int64_t c = 0; c < statistics.cols; ++c)
    set_running(running_mean[c], running_var[c], eps, statistics.column(c));
}

template <class T>
void batch_norm_forward(const Context& context, std::int64_t positions, MatrixView<const T> statistics,
                        VectorView<const T> weight, VectorView<const T> bias, bool relu, MatrixView<const T> X,
                        MatrixView<T> Y) {
  for_blocks(context, positions, X.rows / positions, X.cols,
             [&](std::int64_t, std::int64_t first, std::int64_t last, std::int64_t c, std::int64_t count,
                 std::int64_t row, std::int64_t rows) {
               Channels<T> channels;
               load_channels(statistics, weight, c, count, channels);
               for (std::int64_t k = 0; k < count; ++k) channels.bias[k] = bias.empty() ? T(0) : bias[c + k];
               for (std::int64_t j = first; j < last; ++j) {
                 if (positions == 1)
                   normalise_rows(X.column(j) + row, channels, relu, Y.column(j) + row, rows);
                 else
                   normalise_run(X.column(j) + row, channels, relu, Y.column(j) + row, rows);
               }
             });
}

template <class T>
void batch_norm_gradient_sums(const Context& context, std::int64_t positions, MatrixView<const T> statistics,
                              MatrixView<const T> X, MatrixView<const T> dY, VectorView<double> sums,
                              VectorView<T> dweight, VectorView<T> dbias, VectorView<double> partials) {
  const std::int64_t all = X.rows / positions;
  for_blocks(context, positions, all, X.cols,
             [&](std::int64_t piece, std::int64_t first, std::int64_t last, std::int64_t c, std::int64_t count,
                 std::int64_t row, std::int64_t rows) {
               Channels<T> channels;
               load_channels(statistics, {}, c, count, channels);
               double* const its = partials.data + piece * 2 * all + c;
               std::fill_n(its, count, 0.0);
               std::fill_n(its + all, count, 0.0);
               for (std::int64_t j = first; j < last; ++j) {
                 if (positions == 1)
                   add_gradients_rows(X.column(j) + row, dY.column(j) + row, channels, its, its + all, rows);
                 else
                   add_gradients_run(X.column(j) + row, dY.column(j) + row, channels, its, its + all, rows);
               }
             });
  add_pieces(partials, all, batch_norm_pieces(positions, all, X.cols), sums);
  for (std::int64_t c = 0; c < dbias.size; ++c) dbias[c] += static_cast<T>(sums[c]);
  for (std::int64_t c = 0; c < dweight.size; ++c) dweight[c] += static_cast<T>(sums[all + c]);
}

template <class T>
void batch_norm_input_gradient(const Context& context, std::int64_t positions, MatrixView<const T> statistics,
                               VectorView<const T> weight, MatrixView<const T> X, MatrixView<const T> dY,
                               VectorView<const double> sums, T beta, MatrixView<T> dX) {
  const std::int64_t all = X.rows / positions;
  const bool through_statistics = !sums.empty();
  const auto elements = static_cast<double>(positions * X.cols);
  for_blocks(context, positions, all, X.cols,
             [&](std::int64_t, std::int64_t first, std::int64_t last, std::int64_t c, std::int64_t count,
                 std::int64_t row, std::int64_t rows) {
               Channels<T> channels;
               load_channels(statistics, weight, c, count, channels);
               for (std::int64_t k = 0; through_statistics && k < count; ++k) {
                 channels.dy_mean[k] = static_cast<T>(sums[c + k] / elements);
                 channels.product_mean[k] = static_cast<T>(sums[all + c + k] / elements);
               }
               for (std::int64_t j = first; j < last; ++j) {
                 if (positions == 1)
                   input_gradient_rows(X.column(j) + row, dY.column(j) + row, channels, through_statistics, beta,
                                       dX.column(j) + row, rows);
                 else
                   input_gradient_run(X.column(j) + row, dY.column(j) + row, channels, through_statistics, beta,
                                      dX.column(j) + row, rows);
               }
             });
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                    \
  template void batch_norm_statistics<T>(const Context&, std::int64_t, MatrixView<const T>, double, MatrixView<T>,   \
                                         const BatchNormScratch&);                                                   \
  template void batch_norm_sums<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>,           \
                                   VectorView<double>, VectorView<double>);                                          \
  template void batch_norm_set_statistics<T>(const Context&, VectorView<const T>, VectorView<const double>,          \
                                             std::int64_t, double, MatrixView<T>);                                   \
  template void batch_norm_update_running<T>(const Context&, MatrixView<const T>, double, VectorView<T>,             \
                                             VectorView<T>);                                                         \
  template void batch_norm_running<T>(const Context&, VectorView<const T>, VectorView<const T>, double,              \
                                      MatrixView<T>);                                                                \
  template void batch_norm_forward<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>,        \
                                      VectorView<const T>, bool, MatrixView<const T>, MatrixView<T>);                \
  template void batch_norm_gradient_sums<T>(const Context&, std::int64_t, MatrixView<const T>, MatrixView<const T>,  \
                                            MatrixView<const T>, VectorView<double>, VectorView<T>, VectorView<T>,   \
                                            VectorView<double>);                                                     \
  template void batch_norm_input_gradient<T>(const Context&, std::int64_t, MatrixView<const T>, VectorView<const T>, \
                                             MatrixView<const T>, MatrixView<const T>, VectorView<const double>, T,  \
                                             MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
