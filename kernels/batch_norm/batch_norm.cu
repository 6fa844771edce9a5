// CUDA bodies of batch_norm: sums of channels in two stages (channel_sums.cuh), and elementwise passes, a warp a piece of a column.
//
// Story: memory bound. 64 channels of 56 x 56, 128 samples, float, 103 MB: on paper, at the 3.0 TB/s of an H100, statistics 34 us,
// forward 69 us, backward 171 us (X and dY twice). The channel of an element is a 32-bit division, some 20 instructions of the
// 70 that fit in the time of its 8 bytes.
#include <cstdint>

#include <shrinkwarp/kernels/batch_norm/bodies.hpp>
#include <shrinkwarp/kernels/common/channel_sums.cuh>
#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
struct MomentTerm {
  MatrixView<const T> X, shift;  // of first_elements or as_row
  __device__ void add(std::int64_t channel, std::int64_t row, std::int64_t col, double (&sums)[2]) const {
    const double d = static_cast<double>(X(row, col)) - static_cast<double>(shift(0, channel));
    sums[0] += d;
    sums[1] = std::fma(d, d, sums[1]);
  }
};
template <class T>
struct SetStatistics {
  MatrixView<const T> shift;
  double elements, eps;
  MatrixView<T> statistics;
  __device__ void finish(std::int64_t channel, const double (&sums)[2]) const {
    set_statistics(static_cast<double>(shift(0, channel)), sums[0], sums[1], elements, eps, statistics.column(channel));
  }
};
struct StoreSums {
  double* totals;
  std::int64_t channels;
  __device__ void finish(std::int64_t channel, const double (&sums)[2]) const {
    totals[channel] = sums[0];
    totals[channels + channel] = sums[1];
  }
};

template <class T>
struct GradientTerm {
  MatrixView<const T> X, dY, statistics;
  __device__ void add(std::int64_t channel, std::int64_t row, std::int64_t col, double (&sums)[2]) const {
    const auto g = static_cast<double>(dY(row, col));
    const T xhat = (X(row, col) - statistics(BatchNormStatistics::kMean, channel)) *
                   statistics(BatchNormStatistics::kRstd, channel);
    sums[0] += g;
    sums[1] = std::fma(g, static_cast<double>(xhat), sums[1]);
  }
};
template <class T>
struct AddGradients {
  T *dweight, *dbias;  // or nullptr
  StoreSums store;
  __device__ void finish(std::int64_t channel, const double (&sums)[2]) const {
    if (dbias != nullptr) dbias[channel] += static_cast<T>(sums[0]);
    if (dweight != nullptr) dweight[channel] += static_cast<T>(sums[1]);
    store.finish(channel, sums);
  }
};

__device__ __forceinline__ unsigned channel_of(std::int64_t row, unsigned positions) {
  return positions == 1 ? static_cast<unsigned>(row) : static_cast<unsigned>(row) / positions;
}

template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    normalise_kernel(unsigned positions, MatrixView<const T> statistics, const T* weight, const T* bias, bool with_relu,
                     MatrixView<const T> X, MatrixView<T> Y) {
  const std::int64_t col = warp_column();
  if (col >= X.cols) return;
  const T* const x = X.column(col);
  T* const y = Y.column(col);
  walk_column<kCount>(
      X.rows, [&](std::int64_t row, auto width) { return load_lanes<width.value>(x + row); },
      [&](std::int64_t row, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) {
          const unsigned c = channel_of(row + i, positions);
          const T xhat =
              (loaded.value[i] - statistics(BatchNormStatistics::kMean, c)) * statistics(BatchNormStatistics::kRstd, c);
          const T value = std::fma(xhat, weight != nullptr ? weight[c] : T(1), bias != nullptr ? bias[c] : T(0));
          loaded.value[i] = with_relu ? relu(value) : value;
        }
        store_lanes<width.value>(y + row, loaded);
      });
}

template <class T, int kCount>
struct Two {
  Lanes<T, kCount> x, dy;
};

/// `totals` is nullptr where the statistics are constants; share = 1 / elements of a channel.
template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    input_gradient_kernel(unsigned positions, unsigned channels, MatrixView<const T> statistics, const T* weight,
                          MatrixView<const T> X, MatrixView<const T> dY, const double* totals, double share, T beta,
                          MatrixView<T> dX) {
  const std::int64_t col = warp_column();
  if (col >= X.cols) return;
  const T* const x = X.column(col);
  const T* const dy = dY.column(col);
  T* const dx = dX.column(col);
  walk_column<kCount>(
      X.rows,
      [&](std::int64_t row, auto width) {
        return Two<T, width.value>{load_lanes<width.value>(x + row), load_lanes<width.value>(dy + row)};
      },
      [&](std::int64_t row, auto width, auto loaded) {
        Lanes<T, width.value> old{};
        if (beta != T(0)) old = load_lanes<width.value>(dx + row);
#pragma unroll
        for (int i = 0; i < width.value; ++i) {
          const unsigned c = channel_of(row + i, positions);
          const T rstd = statistics(BatchNormStatistics::kRstd, c);
          T g = loaded.dy.value[i];
          if (totals != nullptr) {
            const T xhat = (loaded.x.value[i] - statistics(BatchNormStatistics::kMean, c)) * rstd;
            g = g - static_cast<T>(totals[c] * share) - xhat * static_cast<T>(totals[channels + c] * share);
          }
          const T h = (weight != nullptr ? weight[c] : T(1)) * rstd * g;
          old.value[i] = beta == T(0) ? h : std::fma(beta, old.value[i], h);
        }
        store_lanes<width.value>(dx + row, old);
      });
}

template <class T>
__global__ void __launch_bounds__(kThreads) set_statistics_kernel(SetStatistics<T> set, const double* totals) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x, channels = set.shift.cols;
  if (c >= channels) return;
  const double sums[2] = {totals[c], totals[channels + c]};
  set.finish(c, sums);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    update_running_kernel(MatrixView<const T> statistics, double momentum, T* running_mean, T* running_var) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= statistics.cols) return;
  running_mean[c] = run_on(running_mean[c], statistics(BatchNormStatistics::kMean, c), momentum);
  running_var[c] = run_on(running_var[c], statistics(BatchNormStatistics::kVariance, c), momentum);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    running_kernel(const T* running_mean, const T* running_var, double eps, MatrixView<T> statistics) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c < statistics.cols) set_running(running_mean[c], running_var[c], eps, statistics.column(c));
}

template <class T>
T* data_or_null(const VectorView<T>& view) {
  return view.empty() ? nullptr : view.data;
}

unsigned narrow(std::int64_t rows) {
  SHRINKWARP_REQUIRE(rows <= 0x7fffffff, ShapeError, "batch_norm: X has ", rows, " rows, wanted under 2^31");
  return static_cast<unsigned>(rows);
}

dim3 channel_grid(std::int64_t channels) {
  return dim3(grid_size(ceil_div(channels, kThreads), "batch_norm"));
}

}  // namespace

std::int64_t batch_norm_pieces(std::int64_t positions, std::int64_t, std::int64_t N) {
  return sum_pieces(positions, N);
}

template <class T>
void batch_norm_statistics(const Context& context, std::int64_t positions, MatrixView<const T> X, double eps,
                           MatrixView<T> statistics, const BatchNormScratch& scratch) {
  const std::int64_t channels = X.rows / positions;
  const MatrixView<const T> first = first_elements(X, positions);
  channel_sums<2>(context, channels, positions, X.cols, MomentTerm<T>{X, first},
                  SetStatistics<T>{first, static_cast<double>(positions * X.cols), eps, statistics},
                  scratch.partials.data);
}

template <class T>
void batch_norm_sums(const Context& context, std::int64_t positions, MatrixView<const T> X, VectorView<const T> shift,
                     VectorView<double> sums, VectorView<double> partials) {
  const std::int64_t channels = X.rows / positions;
  channel_sums<2>(context, channels, positions, X.cols, MomentTerm<T>{X, as_row(shift)}, StoreSums{sums.data, channels},
                  partials.data);
}

template <class T>
void batch_norm_set_statistics(const Context& context, VectorView<const T> shift, VectorView<const double> sums,
                               std::int64_t elements, double eps, MatrixView<T> statistics) {
  launch(set_statistics_kernel<T>, channel_grid(statistics.cols), dim3(kThreads), 0, context.stream(),
         SetStatistics<T>{as_row(shift), static_cast<double>(elements), eps, statistics}, sums.data);
}

template <class T>
void batch_norm_update_running(const Context& context, MatrixView<const T> statistics, double momentum,
                               VectorView<T> running_mean, VectorView<T> running_var) {
  launch(update_running_kernel<T>, channel_grid(statistics.cols), dim3(kThreads), 0, context.stream(), statistics,
         momentum, running_mean.data, running_var.data);
}

template <class T>
void batch_norm_running(const Context& context, VectorView<const T> running_mean, VectorView<const T> running_var,
                        double eps, MatrixView<T> statistics) {
  launch(running_kernel<T>, channel_grid(statistics.cols), dim3(kThreads), 0, context.stream(), running_mean.data,
         running_var.data, eps, statistics);
}

template <class T>
void batch_norm_forward(const Context& context, std::int64_t positions, MatrixView<const T> statistics,
                        VectorView<const T> weight, VectorView<const T> bias, bool relu, MatrixView<const T> X,
                        MatrixView<T> Y) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  narrow(X.rows);
  launch(aligned16(X) && aligned16(Y) ? normalise_kernel<T, kWide> : normalise_kernel<T, 1>,
         column_grid(X.rows, X.cols), dim3(kColumnThreads), 0, context.stream(), narrow(positions), statistics,
         data_or_null(weight), data_or_null(bias), relu, X, Y);
}

template <class T>
void batch_norm_gradient_sums(const Context& context, std::int64_t positions, MatrixView<const T> statistics,
                              MatrixView<const T> X, MatrixView<const T> dY, VectorView<double> sums,
                              VectorView<T> dweight, VectorView<T> dbias, VectorView<double> partials) {
  const std::int64_t channels = X.rows / positions;
  channel_sums<2>(context, channels, positions, X.cols, GradientTerm<T>{X, dY, statistics},
                  AddGradients<T>{data_or_null(dweight), data_or_null(dbias), {sums.data, channels}}, partials.data);
}

template <class T>
void batch_norm_input_gradient(const Context& context, std::int64_t positions, MatrixView<const T> statistics,
                               VectorView<const T> weight, MatrixView<const T> X, MatrixView<const T> dY,
                               VectorView<const double> sums, T beta, MatrixView<T> dX) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const unsigned channels = narrow(X.rows) / narrow(positions);
  const bool wide = aligned16(X) && aligned16(dY) && aligned16(dX);
  launch(wide ? input_gradient_kernel<T, kWide> : input_gradient_kernel<T, 1>, column_grid(X.rows, X.cols),
         dim3(kColumnThreads), 0, context.stream(), narrow(positions), channels, statistics, data_or_null(weight), X,
         dY, data_or_null(sums), 1.0 / static_cast<double>(positions * X.cols), beta, dX);
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

}  // namespace shrinkwarp::cuda
