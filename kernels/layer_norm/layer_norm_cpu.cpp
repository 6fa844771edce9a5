// CPU bodies of layer_norm: pieces of 64 columns, a piece a task, each column while it is in cache.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/layer_norm/bodies.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kPiece = 64;  // columns
constexpr int kRowLanes = 8;         // sums side by side, added in a fixed order

double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

struct Pair {
  double first, second;
};

// The same loops for both element types: multiversioned functions cannot be templates. Pointers to weights may be nullptr.
#define SHRINKWARP_LAYER_NORM_LOOPS(T)                                                                              \
  /* sums of x - x[0] and of its square */                                                                          \
  SHRINKWARP_CPU_CLONES Pair moments(const T* x, std::int64_t size) {                                               \
    double sum[kRowLanes] = {}, square[kRowLanes] = {};                                                             \
    const double shift = x[0];                                                                                      \
    const auto add = [&](std::int64_t i, int k) {                                                                   \
      const double d = static_cast<double>(x[i]) - shift;                                                           \
      sum[k] += d;                                                                                                  \
      square[k] += d * d;                                                                                           \
    };                                                                                                              \
    std::int64_t i = 0;                                                                                             \
    for (; i + kRowLanes <= size; i += kRowLanes)                                                                   \
      for (int k = 0; k < kRowLanes; ++k) add(i + k, k);                                                            \
    for (int k = 0; i < size; ++i, ++k) add(i, k);                                                                  \
    return {add_lanes(sum), add_lanes(square)};                                                                     \
  }                                                                                                                 \
  SHRINKWARP_CPU_CLONES void normalise(const T* x, T mean, T rstd, const T* weight, const T* bias, T* y,            \
                                       std::int64_t size) {                                                         \
    for (std::int64_t i = 0; i < size; ++i) y[i] = (x[i] - mean) * rstd;                                            \
    if (weight)                                                                                                     \
      for (std::int64_t i = 0; i < size; ++i) y[i] *= weight[i];                                                    \
    if (bias)                                                                                                       \
      for (std::int64_t i = 0; i < size; ++i) y[i] += bias[i];                                                      \
  }                                                                                                                 \
  /* sums of g and g xhat */                                                                                        \
  SHRINKWARP_CPU_CLONES Pair gradient_moments(const T* x, T mean, T rstd, const T* weight, const T* dy,             \
                                              std::int64_t size) {                                                  \
    double sum[kRowLanes] = {}, product[kRowLanes] = {};                                                            \
    const auto add = [&](std::int64_t i, int k) {                                                                   \
      const auto g = static_cast<double>(weight ? weight[i] * dy[i] : dy[i]);                                       \
      sum[k] += g;                                                                                                  \
      product[k] += g * static_cast<double>((x[i] - mean) * rstd);                                                  \
    };                                                                                                              \
    std::int64_t i = 0;                                                                                             \
    for (; i + kRowLanes <= size; i += kRowLanes)                                                                   \
      for (int k = 0; k < kRowLanes; ++k) add(i + k, k);                                                            \
    for (int k = 0; i < size; ++i, ++k) add(i, k);                                                                  \
    return {add_lanes(sum), add_lanes(product)};                                                                    \
  }                                                                                                                 \
  SHRINKWARP_CPU_CLONES void input_gradient(const T* x, T mean, T rstd, const T* weight, const T* dy, T g_mean,     \
                                            T product_mean, T beta, T* dx, std::int64_t size) {                     \
    for (std::int64_t i = 0; i < size; ++i) {                                                                       \
      const T g = weight ? weight[i] * dy[i] : dy[i];                                                               \
      const T h = rstd * (g - g_mean - (x[i] - mean) * rstd * product_mean);                                        \
      dx[i] = beta == T(0) ? h : beta * dx[i] + h;                                                                  \
    }                                                                                                               \
  }                                                                                                                 \
  SHRINKWARP_CPU_CLONES void add_gradients(const T* x, T mean, T rstd, const T* dy, double* dweight, double* dbias, \
                                           std::int64_t size) {                                                     \
    for (std::int64_t i = 0; i < size; ++i) {                                                                       \
      const auto g = static_cast<double>(dy[i]);                                                                    \
      dweight[i] += g * static_cast<double>((x[i] - mean) * rstd);                                                  \
      dbias[i] += g;                                                                                                \
    }                                                                                                               \
  }
SHRINKWARP_LAYER_NORM_LOOPS(float)
SHRINKWARP_LAYER_NORM_LOOPS(double)
#undef SHRINKWARP_LAYER_NORM_LOOPS

/// body(piece, column) for all columns, in order within a piece.
template <class Body>
void for_columns(const Context& context, std::int64_t N, const Body& body) {
  context.parallel_for(layer_norm_pieces(N), [&](std::int64_t piece, int) {
    for (std::int64_t j = piece * kPiece; j < std::min(N, (piece + 1) * kPiece); ++j) body(piece, j);
  });
}

template <class T>
void add_pieces(const double* partials, std::int64_t pieces, std::int64_t stride, VectorView<T> total) {
  for (std::int64_t i = 0; i < total.size; ++i) {
    double sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += partials[piece * stride + i];
    total[i] += static_cast<T>(sum);
  }
}

}  // namespace

std::int64_t layer_norm_pieces(std::int64_t N) {
  return (N + kPiece - 1) / kPiece;
}

template <class T>
void layer_norm_forward(const Context& context, MatrixView<const T> X, VectorView<const T> weight,
                        VectorView<const T> bias, double eps, MatrixView<T> Y, MatrixView<T> statistics) {
  const auto features = static_cast<double>(X.rows);
  for_columns(context, X.cols, [&](std::int64_t, std::int64_t j) {
    const Pair sums = moments(X.column(j), X.rows);
    const double offset = sums.first / features;
    const double variance = std::max(sums.second / features - offset * offset, 0.0);  // the first where it is NaN
    statistics(0, j) = static_cast<T>(static_cast<double>(X(0, j)) + offset);
    statistics(1, j) = static_cast<T>(1 / std::sqrt(variance + eps));
    normalise(X.column(j), statistics(0, j), statistics(1, j), weight.empty() ? nullptr : weight.data,
              bias.empty() ? nullptr : bias.data, Y.column(j), X.rows);
  });
}

template <class T>
void layer_norm_backward(const Context& context, MatrixView<const T> X, MatrixView<const T> statistics,
                         VectorView<const T> weight, MatrixView<const T> dY, T beta, MatrixView<T> dX,
                         VectorView<T> dweight, VectorView<T> dbias, VectorView<double> partials) {
  const auto features = static_cast<double>(X.rows);
  const T* const w = weight.empty() ? nullptr : weight.data;
  const bool sums = !dweight.empty() || !dbias.empty();
  for_columns(context, X.cols, [&](std::int64_t piece, std::int64_t j) {
    const T mean = statistics(0, j), rstd = statistics(1, j);
    if (sums) {  // first, for dX may be dY
      double* const piece_sums = partials.data + piece * 2 * X.rows;
      if (j % kPiece == 0) std::fill_n(piece_sums, 2 * X.rows, 0.0);
      add_gradients(X.column(j), mean, rstd, dY.column(j), piece_sums, piece_sums + X.rows, X.rows);
    }
    if (dX.empty()) return;
    const Pair g = gradient_moments(X.column(j), mean, rstd, w, dY.column(j), X.rows);
    input_gradient(X.column(j), mean, rstd, w, dY.column(j), static_cast<T>(g.first / features),
                   static_cast<T>(g.second / features), beta, dX.column(j), X.rows);
  });
  const std::int64_t pieces = layer_norm_pieces(X.cols), stride = 2 * X.rows;
  add_pieces(partials.data, pieces, stride, dweight);
  add_pieces(partials.data + X.rows, pieces, stride, dbias);
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

}  // namespace shrinkwarp::cpu
