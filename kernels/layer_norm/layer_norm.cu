// CUDA bodies of layer_norm: a warp a column, which it reads twice, the second time from a cache; gradients of weight and bias
// by the sums of rows in two stages.
//
// Story: memory bound. 512 features, 1024 samples, float: forward 4 MiB, backward 10 MiB, in L2; on paper a few microseconds,
// near what launches take.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/channel_sums.cuh>
#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/layer_norm/bodies.hpp>

namespace shrinkwarp::cuda {
namespace {

template <class T, int kCount>
struct Two {
  Lanes<T, kCount> a, b;
};

/// share = 1 / features
template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    layer_norm_kernel(MatrixView<const T> X, double share, const T* weight, const T* bias, double eps, MatrixView<T> Y,
                      MatrixView<T> statistics) {
  const std::int64_t col = warp_column();
  if (col >= X.cols) return;
  const T* const x = X.column(col);
  T* const y = Y.column(col);
  const auto shift = static_cast<double>(x[0]);
  double sum = 0, square = 0;
  walk_column<kCount>(
      X.rows, [&](std::int64_t row, auto width) { return load_lanes<width.value>(x + row); },
      [&](std::int64_t, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) {
          const double d = static_cast<double>(loaded.value[i]) - shift;
          sum += d;
          square = std::fma(d, d, square);
        }
      });
  const double offset = warp_sum(sum) * share;
  const double variance = max_or_nan(std::fma(-offset, offset, warp_sum(square) * share), 0.0);
  const T mean = static_cast<T>(shift + offset);
  const T rstd = static_cast<T>(rsqrt(variance + eps));
  if (threadIdx.x % kWarpSize == 0) {
    statistics(0, col) = mean;
    statistics(1, col) = rstd;
  }
  walk_column<kCount>(
      X.rows, [&](std::int64_t row, auto width) { return load_lanes<width.value>(x + row); },
      [&](std::int64_t row, auto width, auto loaded) {
        Two<T, width.value> affine{};
        if (weight != nullptr) affine.a = load_lanes<width.value>(weight + row);
        if (bias != nullptr) affine.b = load_lanes<width.value>(bias + row);
#pragma unroll
        for (int i = 0; i < width.value; ++i) {
          const T xhat = (loaded.value[i] - mean) * rstd;
          loaded.value[i] = std::fma(xhat, weight != nullptr ? affine.a.value[i] : T(1), affine.b.value[i]);
        }
        store_lanes<width.value>(y + row, loaded);
      });
}

template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    input_gradient_kernel(MatrixView<const T> X, MatrixView<const T> statistics, const T* weight,
                          MatrixView<const T> dY, double share, T beta, MatrixView<T> dX) {
  const std::int64_t col = warp_column();
  if (col >= X.cols) return;
  const T* const x = X.column(col);
  const T* const dy = dY.column(col);
  T* const dx = dX.column(col);
  const T mean = statistics(0, col), rstd = statistics(1, col);
  // xhat and g = weight dy
  const auto load = [&](std::int64_t row, auto width) {
    Two<T, width.value> loaded{load_lanes<width.value>(x + row), load_lanes<width.value>(dy + row)};
    Lanes<T, width.value> w{};
    if (weight != nullptr) w = load_lanes<width.value>(weight + row);
#pragma unroll
    for (int i = 0; i < width.value; ++i) {
      loaded.a.value[i] = (loaded.a.value[i] - mean) * rstd;
      if (weight != nullptr) loaded.b.value[i] *= w.value[i];
    }
    return loaded;
  };
  double sum = 0, product = 0;
  walk_column<kCount>(X.rows, load, [&](std::int64_t, auto width, auto loaded) {
#pragma unroll
    for (int i = 0; i < width.value; ++i) {
      const auto g = static_cast<double>(loaded.b.value[i]);
      sum += g;
      product = std::fma(g, static_cast<double>(loaded.a.value[i]), product);
    }
  });
  const T g_mean = static_cast<T>(warp_sum(sum) * share), product_mean = static_cast<T>(warp_sum(product) * share);
  walk_column<kCount>(X.rows, load, [&](std::int64_t row, auto width, auto loaded) {
    Lanes<T, width.value> old{};
    if (beta != T(0)) old = load_lanes<width.value>(dx + row);
#pragma unroll
    for (int i = 0; i < width.value; ++i) {
      const T h = rstd * (loaded.b.value[i] - g_mean - loaded.a.value[i] * product_mean);
      old.value[i] = beta == T(0) ? h : std::fma(beta, old.value[i], h);
    }
    store_lanes<width.value>(dx + row, old);
  });
}

template <class T>
struct GradientTerm {
  MatrixView<const T> X, statistics, dY;
  __device__ void add(std::int64_t, std::int64_t row, std::int64_t col, double (&sums)[2]) const {
    const auto g = static_cast<double>(dY(row, col));
    sums[0] = std::fma(g, static_cast<double>((X(row, col) - statistics(0, col)) * statistics(1, col)), sums[0]);
    sums[1] += g;
  }
};
template <class T>
struct AddGradients {
  T *dweight, *dbias;  // or nullptr
  __device__ void finish(std::int64_t row, const double (&sums)[2]) const {
    if (dweight != nullptr) dweight[row] += static_cast<T>(sums[0]);
    if (dbias != nullptr) dbias[row] += static_cast<T>(sums[1]);
  }
};

template <class T>
T* data_or_null(const VectorView<T>& view) {
  return view.empty() ? nullptr : view.data;
}

/// A warp a whole column.
dim3 whole_columns(std::int64_t cols) {
  return dim3(grid_size(ceil_div(cols, kColumnWarps), "layer_norm"));
}

}  // namespace

std::int64_t layer_norm_pieces(std::int64_t N) {
  return sum_pieces(1, N);
}

template <class T>
void layer_norm_forward(const Context& context, MatrixView<const T> X, VectorView<const T> weight,
                        VectorView<const T> bias, double eps, MatrixView<T> Y, MatrixView<T> statistics) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const T *const w = data_or_null(weight), *const b = data_or_null(bias);
  const bool wide = aligned16(X) && aligned16(Y) && aligned16(w) && aligned16(b);
  launch(wide ? layer_norm_kernel<T, kWide> : layer_norm_kernel<T, 1>, whole_columns(X.cols), dim3(kColumnThreads), 0,
         context.stream(), X, 1.0 / static_cast<double>(X.rows), w, b, eps, Y, statistics);
}

template <class T>
void layer_norm_backward(const Context& context, MatrixView<const T> X, MatrixView<const T> statistics,
                         VectorView<const T> weight, MatrixView<const T> dY, T beta, MatrixView<T> dX,
                         VectorView<T> dweight, VectorView<T> dbias, VectorView<double> partials) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const T* const w = data_or_null(weight);
  if (!dweight.empty() || !dbias.empty()) {  // first, for dX may be dY
    channel_sums<2>(context, X.rows, 1, X.cols, GradientTerm<T>{X, statistics, dY},
                    AddGradients<T>{data_or_null(dweight), data_or_null(dbias)}, partials.data);
  }
  if (dX.empty()) return;
  const bool wide = aligned16(X) && aligned16(dY) && aligned16(dX) && aligned16(w);
  launch(wide ? input_gradient_kernel<T, kWide> : input_gradient_kernel<T, 1>, whole_columns(X.cols),
         dim3(kColumnThreads), 0, context.stream(), X, statistics, w, dY, 1.0 / static_cast<double>(X.rows), beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template void layer_norm_forward<T>(const Context&, MatrixView<const T>, VectorView<const T>, VectorView<const T>,  \
                                      double, MatrixView<T>, MatrixView<T>);                                          \
  template void layer_norm_backward<T>(const Context&, MatrixView<const T>, MatrixView<const T>, VectorView<const T>, \
                                       MatrixView<const T>, T, MatrixView<T>, VectorView<T>, VectorView<T>,           \
                                       VectorView<double>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
