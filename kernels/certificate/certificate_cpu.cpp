#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>

namespace shrinkwarp::cpu {
namespace {

// D'R is made a tile of this many atoms by this many problems at a time: 1 MiB, read again while it is in the cache.
constexpr std::int64_t kTileAtoms = 1024;
constexpr std::int64_t kTileProblems = 128;

// Sums run in eight interleaved lanes that are added in a fixed order: the same bits whatever the vector width.
constexpr int kLanes = 8;

double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

SHRINKWARP_CPU_CLONES double dot(const double* x, const double* y, std::int64_t size) {
  double lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] += x[i + k] * y[i + k];
  for (int k = 0; i < size; ++i, ++k) lane[k] += x[i] * y[i];
  return add_lanes(lane);
}

SHRINKWARP_CPU_CLONES void subtract_scaled(const double* d, double z, double* r, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) r[i] -= d[i] * z;
}

// NaN wins: a comparison that is false for NaN must not drop it.
SHRINKWARP_CPU_CLONES double absolute_max(const double* c, std::int64_t size, double start) {
  double lane[kLanes];
  double nan_guard[kLanes] = {};
  std::fill(lane, lane + kLanes, start);
  std::int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const double a = std::fabs(c[i + k]);
      lane[k] = a > lane[k] ? a : lane[k];
      nan_guard[k] += c[i + k] * 0.0;  // NaN and infinity leave a NaN here, finite values leave 0
    }
  }
  for (int k = 0; i < size; ++i, ++k) {
    const double a = std::fabs(c[i]);
    lane[k] = a > lane[k] ? a : lane[k];
    nan_guard[k] += c[i] * 0.0;
  }
  return *std::max_element(lane, lane + kLanes) + add_lanes(nan_guard);
}

#define SHRINKWARP_CERTIFICATE_LOOPS(T)                                                                    \
  SHRINKWARP_CPU_CLONES void refresh_column(T* anchor, T* current, T* previous, std::int64_t rows) {       \
    for (std::int64_t j = 0; j < rows; ++j) {                                                              \
      const double a = anchor[j];                                                                          \
      const T rounded = static_cast<T>(a + static_cast<double>(current[j]));                               \
      previous[j] = static_cast<T>((a + static_cast<double>(previous[j])) - static_cast<double>(rounded)); \
      current[j] = 0;                                                                                      \
      anchor[j] = rounded;                                                                                 \
    }                                                                                                      \
  }                                                                                                        \
  SHRINKWARP_CPU_CLONES double absolute_sum(const T* z, std::int64_t size) {                               \
    double lane[kLanes] = {};                                                                              \
    std::int64_t i = 0;                                                                                    \
    for (; i + kLanes <= size; i += kLanes)                                                                \
      for (int k = 0; k < kLanes; ++k) lane[k] += std::fabs(static_cast<double>(z[i + k]));                \
    for (int k = 0; i < size; ++i, ++k) lane[k] += std::fabs(static_cast<double>(z[i]));                   \
    return add_lanes(lane);                                                                                \
  }
SHRINKWARP_CERTIFICATE_LOOPS(float)
SHRINKWARP_CERTIFICATE_LOOPS(double)
#undef SHRINKWARP_CERTIFICATE_LOOPS

}  // namespace

template <class T>
void refresh_anchor(const Context& context, MatrixView<T> anchor, MatrixView<T> current, MatrixView<T> previous) {
  context.parallel_for(anchor.cols, [&](std::int64_t b, int) {
    refresh_column(anchor.column(b), current.column(b), previous.column(b), anchor.rows);
  });
}

template <class T>
void code_residual(const Context& context, MatrixView<const double> D, MatrixView<const T> anchor,
                   MatrixView<const double> X, MatrixView<double> R, MatrixView<T> rounded) {
  context.parallel_for(R.cols, [&](std::int64_t b, int) {
    double* r = R.column(b);
    const T* z = anchor.column(b);
    std::copy_n(X.column(b), R.rows, r);
    for (std::int64_t j = 0; j < D.cols; ++j)
      if (z[j] != T(0)) subtract_scaled(D.column(j), static_cast<double>(z[j]), r, R.rows);
    if (!rounded.empty())
      std::transform(r, r + R.rows, rounded.column(b), [](double value) { return static_cast<T>(value); });
  });
}

std::int64_t correlation_scratch(const Context& context, std::int64_t atoms, std::int64_t problems) {
  return std::min(atoms, kTileAtoms) * std::min(problems, kTileProblems * context.threads());
}

void correlation_max(const Context& context, MatrixView<const double> D, MatrixView<const double> R,
                     VectorView<double> result, VectorView<double> scratch) {
  std::fill_n(result.data, result.size, 0.0);
  const std::int64_t tile_problems = std::min(R.cols, kTileProblems * context.threads());
  for (std::int64_t first = 0; first < R.cols; first += tile_problems) {
    const std::int64_t problems = std::min(tile_problems, R.cols - first);
    for (std::int64_t atom = 0; atom < D.cols; atom += kTileAtoms) {
      const std::int64_t atoms = std::min(kTileAtoms, D.cols - atom);
      const MatrixView<double> tile{scratch.data, atoms, problems, atoms, scratch.device};
      gemm(context, Transpose::yes, Transpose::no, 1.0, D.columns(atom, atoms), R.columns(first, problems), 0.0, tile);
      context.parallel_for(problems, [&](std::int64_t b, int) {
        result[first + b] = absolute_max(tile.column(b), atoms, result[first + b]);
      });
    }
  }
}

template <class T>
void dual_gap(const Context& context, MatrixView<const double> X, MatrixView<const double> R,
              VectorView<const double> correlation, MatrixView<const T> codes, VectorView<const double> lambda,
              VectorView<double> primal, VectorView<double> gap) {
  context.parallel_for(gap.size, [&](std::int64_t b, int) {
    const double residual_energy = dot(R.column(b), R.column(b), R.rows);
    const double alignment = dot(X.column(b), R.column(b), R.rows);
    primal[b] = 0.5 * residual_energy + lambda[b] * absolute_sum(codes.column(b), codes.rows);
    gap[b] = gap_at_best_scale(primal[b], residual_energy, alignment, correlation[b], lambda[b]);
  });
}

#define SHRINKWARP_INSTANTIATE_CERTIFICATE(T)                                                        \
  template void refresh_anchor<T>(const Context&, MatrixView<T>, MatrixView<T>, MatrixView<T>);      \
  template void code_residual<T>(const Context&, MatrixView<const double>, MatrixView<const T>,      \
                                 MatrixView<const double>, MatrixView<double>, MatrixView<T>);       \
  template void dual_gap<T>(const Context&, MatrixView<const double>, MatrixView<const double>,      \
                            VectorView<const double>, MatrixView<const T>, VectorView<const double>, \
                            VectorView<double>, VectorView<double>);
SHRINKWARP_INSTANTIATE_CERTIFICATE(float)
SHRINKWARP_INSTANTIATE_CERTIFICATE(double)

}  // namespace shrinkwarp::cpu
