#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/certificate/certificate_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/certificate/certificate_cpu_simd.hpp>

namespace shrinkwarp::cpu {
namespace {

HWY_EXPORT(CorrelationKernelsF64);

/// The loops for this processor: the same for the life of the process, so that packed panels keep their meaning.
const CorrelationKernels& kernels() {
  static const CorrelationKernels chosen = HWY_DYNAMIC_DISPATCH(CorrelationKernelsF64)();
  return chosen;
}

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
void code_residual(const Context& context, const CertificateDictionary& dictionary, MatrixView<const T> anchor,
                   MatrixView<const double> X, MatrixView<double> R, MatrixView<T> rounded) {
  const MatrixView<const double> D = dictionary.matrix();
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

std::int64_t correlation_panels(std::int64_t rows, std::int64_t cols) {
  return round_up(cols, kernels().shape.lanes) * rows;
}

void pack_correlation(const Context& context, MatrixView<const double> D, double* panels) {
  pack_panels(context, kernels().shape, D.cols, D.rows, panels,
              [&](std::int64_t j, std::int64_t i) { return D(i, j); });
}

// Columns are shared out first; where there are fewer blocks of columns than tasks wanted, so are the atoms.
constexpr std::int64_t kTasksPerThread = 3;

namespace {

/// Atoms of a tile of group_pieces.hpp.
std::int64_t group_tile_atoms() {
  return kGroupTilePanels * kernels().shape.lanes * kernels().shape.vectors;
}

// Shares the product out, atoms in units of so many panels: run(task, which range of atoms it has). Returns how many there
// are.
template <class Task, class Run>
std::int64_t share_correlation(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                               std::int64_t unit_panels, const Task& whole, Run run) {
  const CorrelationKernels& loops = kernels();
  const std::int64_t height = loops.shape.lanes * loops.shape.vectors * unit_panels;
  const std::int64_t units = divide_up(D.cols(), height);
  if (units == 0) return 0;
  const std::int64_t wanted = context.threads() == 1 ? 1
                                                     : std::min(affordable_tasks(D.rows(), D.cols(), R.cols),
                                                                kTasksPerThread * context.threads());
  Split cut;
  split_columns(cut, R.cols, loops.shape.columns, std::min<std::int64_t>(wanted, context.threads()));
  split_rows(cut, units, std::max<std::int64_t>(1, wanted / cut.blocks));
  const double* const packed = D.panels(context);
  context.parallel_for(cut.blocks * cut.ranges, [&](std::int64_t i, int) {
    const std::int64_t range = i % cut.ranges;
    Task task = whole;
    task.panels = packed;
    task.R = R;
    task.padded_atoms = round_up(D.cols(), loops.shape.lanes);
    task.first_atom = range * cut.range_units * height;
    task.last_atom = std::min(D.cols(), task.first_atom + cut.range_units * height);
    task.first_column = i / cut.ranges * cut.block_columns;
    task.last_column = std::min(R.cols, task.first_column + cut.block_columns);
    task.scratch = thread_scratch<double>(loops.scratch(D.rows(), task.last_column - task.first_column));
    run(task, range);
  });
  return cut.ranges;
}

// The maxima of ranges of atoms, and the largest of them.
template <class Task>
void find_maxima(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                 VectorView<double> result, VectorView<double> scratch, const Task& whole, void (*run)(const Task&)) {
  std::fill_n(result.data, result.size, 0.0);
  const std::int64_t ranges = share_correlation(context, D, R, 1, whole, [&](Task& task, std::int64_t range) {
    task.maxima = scratch.data + range * R.cols + task.first_column;
    run(task);
  });
  for (std::int64_t range = 0; range < ranges; ++range)
    for (std::int64_t b = 0; b < R.cols; ++b) result[b] = larger_or_nan(result[b], scratch[range * R.cols + b]);
}

template <class T>
double absolute_sum(const T* z, const double* weights, std::int64_t size) {
  double sum = 0;
  for (std::int64_t j = 0; j < size; ++j)
    if (z[j] != T(0)) sum += std::fabs(static_cast<double>(z[j])) * weights[j];  // infinite weights have no z
  return sum;
}

/// sum_g w_g ||z_g||; `weights` may be nullptr.
template <class T>
double norm_sum(const T* z, const double* weights, std::int64_t size, std::int64_t group_size) {
  double sum = 0;
  for (std::int64_t begin = 0, group = 0; begin < size; begin += group_size, ++group) {
    double squares = 0;
    for (std::int64_t j = begin; j < begin + group_size; ++j)
      squares += static_cast<double>(z[j]) * static_cast<double>(z[j]);
    if (squares != 0) sum += std::sqrt(squares) * (weights ? weights[group] : 1.0);  // infinite weights have no z
  }
  return sum;
}

template <class T>
double square_sum(const T* z, std::int64_t size) {
  double sum = 0;
  for (std::int64_t j = 0; j < size; ++j) sum += static_cast<double>(z[j]) * static_cast<double>(z[j]);
  return sum;
}

}  // namespace

std::int64_t correlation_scratch(const Context& context, std::int64_t atoms, std::int64_t problems,
                                 std::int64_t group_size) {
  if (group_size > 1) return kGroupPieces * divide_up(atoms, group_tile_atoms()) * problems;
  return kTasksPerThread * context.threads() * problems;
}

void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     VectorView<double> result, VectorView<double> scratch) {
  find_maxima(context, D, R, result, scratch, CorrelationTask{}, kernels().run);
}

template <class T>
void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,
                     VectorView<double> scratch) {
  PenalisedCorrelationTask<T> task;
  task.codes = codes;
  task.penalty = penalty;
  if constexpr (sizeof(T) == 4)
    find_maxima(context, D, R, result, scratch, task, kernels().run_float_codes);
  else
    find_maxima(context, D, R, result, scratch, task, kernels().run_double_codes);
}

template <class T>
void group_correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                           MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,
                           VectorView<double> scratch) {
  GroupCorrelationTask<T> whole;
  whole.codes = codes;
  whole.penalty = penalty;
  const std::int64_t tile_atoms = group_tile_atoms();
  const std::int64_t column = kGroupPieces * divide_up(D.cols(), tile_atoms);  // pieces of a column
  share_correlation(context, D, R, kGroupTilePanels, whole, [&](GroupCorrelationTask<T>& task, std::int64_t) {
    task.pieces = scratch.data + task.first_column * column;
    if constexpr (sizeof(T) == 4)
      kernels().run_groups_float_codes(task);
    else
      kernels().run_groups_double_codes(task);
  });
  const double* const weights = penalty.weights.empty() ? nullptr : penalty.weights.data;
  for (std::int64_t b = 0; b < R.cols; ++b)
    result[b] =
        largest_group(D.cols(), tile_atoms, penalty.group_size, weights, [&](GroupPiece piece, std::int64_t tile) {
          return scratch[b * column + tile * kGroupPieces + static_cast<std::int64_t>(piece)];
        });
}

template <class T>
void dual_gap(const Context& context, MatrixView<const double> X, MatrixView<const double> R,
              VectorView<const double> correlation, MatrixView<const T> codes, double atom_norm,
              VectorView<const double> lambda, VectorView<double> primal, VectorView<double> gap,
              PenaltyView<double> penalty) {
  context.parallel_for(gap.size, [&](std::int64_t b, int) {
    const double residual_energy = dot(R.column(b), R.column(b), R.rows);
    const double alignment = dot(X.column(b), R.column(b), R.rows);
    const double magnitude = absolute_sum(codes.column(b), codes.rows);
    if (!penalty.plain()) {
      const double energy = residual_energy + penalty.ridge * square_sum(codes.column(b), codes.rows);
      const double* const weights = penalty.weights.empty() ? nullptr : penalty.weights.data;
      const double weighted = penalty.grouped() ? norm_sum(codes.column(b), weights, codes.rows, penalty.group_size)
                              : weights         ? absolute_sum(codes.column(b), weights, codes.rows)
                                                : magnitude;
      primal[b] = 0.5 * energy + lambda[b] * weighted;
      gap[b] = gap_under_penalty(primal[b], energy, alignment, correlation[b], lambda[b], atom_norm * magnitude,
                                 penalty.nonnegative);
      return;
    }
    primal[b] = 0.5 * residual_energy + lambda[b] * magnitude;
    gap[b] = gap_at_best_scale(primal[b], residual_energy, alignment, correlation[b], lambda[b], atom_norm * magnitude);
  });
}

#define SHRINKWARP_INSTANTIATE_CERTIFICATE(T)                                                                         \
  template void refresh_anchor<T>(const Context&, MatrixView<T>, MatrixView<T>, MatrixView<T>);                       \
  template void code_residual<T>(const Context&, const CertificateDictionary&, MatrixView<const T>,                   \
                                 MatrixView<const double>, MatrixView<double>, MatrixView<T>);                        \
  template void correlation_max<T>(const Context&, const CertificateDictionary&, MatrixView<const double>,            \
                                   MatrixView<const T>, PenaltyView<double>, VectorView<double>, VectorView<double>); \
  template void group_correlation_max<T>(const Context&, const CertificateDictionary&, MatrixView<const double>,      \
                                         MatrixView<const T>, PenaltyView<double>, VectorView<double>,                \
                                         VectorView<double>);                                                         \
  template void dual_gap<T>(const Context&, MatrixView<const double>, MatrixView<const double>,                       \
                            VectorView<const double>, MatrixView<const T>, double, VectorView<const double>,          \
                            VectorView<double>, VectorView<double>, PenaltyView<double>);
SHRINKWARP_INSTANTIATE_CERTIFICATE(float)
SHRINKWARP_INSTANTIATE_CERTIFICATE(double)

}  // namespace shrinkwarp::cpu
