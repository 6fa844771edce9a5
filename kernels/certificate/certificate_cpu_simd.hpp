// The float64 product D'R of certificates, of which only each column's largest magnitude leaves. Included once for each
// instruction set by certificate_cpu.cpp; runs on the microkernel of common/packed_product_cpu_simd.hpp.

// Once, whatever the instruction set: what certificate_cpu.cpp hands over.
#ifndef SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_TASKS
#define SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_TASKS

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/certificate/group_pieces.hpp>
#include <shrinkwarp/kernels/common/packed_product_cpu.hpp>
#include <shrinkwarp/kernels/common/penalty.hpp>

namespace shrinkwarp::cpu {

/// maxima[column] = max over some atoms of |d' r|.
struct CorrelationTask {
  const double* panels = nullptr;  // D' [m, n] in panels of m
  MatrixView<const double> R;
  double* maxima = nullptr;                    // [columns of the task]
  std::int64_t first_atom = 0, last_atom = 0;  // whole panels
  std::int64_t padded_atoms = 0;               // of the whole operand
  std::int64_t first_column = 0, last_column = 0;
  double* scratch = nullptr;  // CorrelationKernels::scratch elements
};

/// maxima[column] = max over some atoms of what the penalty makes of d' r - ridge z.
template <class T>
struct PenalisedCorrelationTask : CorrelationTask {
  MatrixView<const T> codes;  // [m, N] z, or empty for 0
  PenaltyView<double> penalty;
};

constexpr std::int64_t kGroupTilePanels = 8;  // panels of a tile of group_pieces.hpp

/// What tiles of kGroupTilePanels panels know of the groups of d' r - ridge z.
template <class T>
struct GroupCorrelationTask : CorrelationTask {
  MatrixView<const T> codes;  // [m, N] z, or empty for 0
  PenaltyView<double> penalty;
  double* pieces = nullptr;  // [tiles, 3] of the task's first column; those of the next one follow
};

/// What one instruction set offers.
struct CorrelationKernels {
  PanelShape shape;
  std::int64_t (*scratch)(std::int64_t rows, std::int64_t columns);
  void (*run)(const CorrelationTask& task);
  void (*run_float_codes)(const PenalisedCorrelationTask<float>& task);
  void (*run_double_codes)(const PenalisedCorrelationTask<double>& task);
  void (*run_groups_float_codes)(const GroupCorrelationTask<float>& task);
  void (*run_groups_double_codes)(const GroupCorrelationTask<double>& task);
};

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_SIMD
#undef SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_SIMD
#endif

#include <shrinkwarp/kernels/common/packed_product_cpu_simd.hpp>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

std::int64_t CorrelationScratch(std::int64_t rows, std::int64_t columns) {
  const std::int64_t lanes = Lanes<double>();
  return PackedColumns(rows, columns) + 2 * PadColumns(columns) * lanes + kPanelVectors * lanes * kPanelColumns;
}

/// For each panel of D', which stays in the first-level cache, the product for all columns of the block:
/// look(atom, vectors, column of the task, its products in the panel).
template <class Look>
HWY_INLINE void ForEachPanel(const CorrelationTask& task, double* packed, double* tile, Look look) {
  const std::int64_t lanes = Lanes<double>();
  const std::int64_t rows = task.R.rows;
  const std::int64_t columns = task.last_column - task.first_column;
  const std::int64_t chunks = (rows + kChunk - 1) / kChunk;
  PackColumns(task.R.columns(task.first_column, columns), packed);
  const std::int64_t height = kPanelVectors * lanes;
  for (std::int64_t first = task.first_atom; first < task.last_atom; first += height) {
    const std::int64_t vectors = std::min<std::int64_t>(kPanelVectors, (task.padded_atoms - first) / lanes);
    for (std::int64_t c = 0; c < columns; c += kPanelColumns) {
      const std::int64_t group = std::min<std::int64_t>(kPanelColumns, columns - c);
      MultiplyFor<double>(vectors, PaddedColumns(group))(task.panels + first * rows, vectors * lanes,
                                                         packed + c * chunks * kChunkStride, rows, tile, {});
      for (std::int64_t g = 0; g < group; ++g) look(first, vectors, c + g, tile + g * vectors * lanes);
    }
  }
}

void RunCorrelation(const CorrelationTask& task) {
  const Tag<double> d;
  const std::int64_t lanes = Lanes<double>();
  const std::int64_t columns = task.last_column - task.first_column;
  double* const packed = task.scratch;
  double* const largest = packed + PackedColumns(task.R.rows, columns);
  double* const guard = largest + PadColumns(columns) * lanes;
  double* const tile = guard + PadColumns(columns) * lanes;
  std::fill_n(largest, 2 * PadColumns(columns) * lanes, 0.0);
  ForEachPanel(task, packed, tile, [&](std::int64_t, std::int64_t vectors, std::int64_t c, const double* products) {
    double* const column_largest = largest + c * lanes;
    double* const column_guard = guard + c * lanes;
    auto most = hn::Load(d, column_largest);
    auto seen = hn::Load(d, column_guard);
    for (std::int64_t w = 0; w < vectors; ++w) {
      const auto product = hn::Load(d, products + w * lanes);
      most = hn::Max(most, hn::Abs(product));
      seen = hn::MulAdd(product, hn::Zero(d), seen);  // 0, or NaN once a product was NaN, which Max may drop
    }
    hn::Store(most, d, column_largest);
    hn::Store(seen, d, column_guard);
  });
  for (std::int64_t c = 0; c < columns; ++c) {
    const auto most = hn::MaxOfLanes(d, hn::Load(d, largest + c * lanes));
    const auto seen = hn::SumOfLanes(d, hn::Load(d, guard + c * lanes));
    task.maxima[c] = hn::GetLane(hn::Add(most, seen));
  }
}

/// The same with the penalty's epilogue, element by element: a few operations beside the n of a product.
template <class T>
void RunPenalisedCorrelation(const PenalisedCorrelationTask<T>& task) {
  const std::int64_t lanes = Lanes<double>();
  const std::int64_t columns = task.last_column - task.first_column;
  double* const packed = task.scratch;
  double* const tile = packed + PackedColumns(task.R.rows, columns) + 2 * PadColumns(columns) * lanes;
  const PenaltyView<double>& penalty = task.penalty;
  std::fill_n(task.maxima, columns, 0.0);
  ForEachPanel(task, packed, tile,
               [&](std::int64_t first, std::int64_t vectors, std::int64_t c, const double* products) {
                 const T* const z = task.codes.empty() ? nullptr : task.codes.column(task.first_column + c) + first;
                 const std::int64_t count = std::min(vectors * lanes, task.last_atom - first);
                 double most = task.maxima[c];
                 for (std::int64_t j = 0; j < count; ++j) {
                   double value = products[j];
                   if (z) value -= penalty.ridge * static_cast<double>(z[j]);
                   if (!penalty.weights.empty()) value /= penalty.weights[first + j];
                   if (!penalty.nonnegative) value = value < 0 ? -value : value;
                   if (!(value <= most)) most = most == most ? value : most;  // NaN stays
                 }
                 task.maxima[c] = most;
               });
}

/// The same in groups: sums of squares in the order of the atoms.
template <class T>
void RunGroupCorrelation(const GroupCorrelationTask<T>& task) {
  const std::int64_t lanes = Lanes<double>();
  const std::int64_t columns = task.last_column - task.first_column;
  double* const packed = task.scratch;
  double* const tile = packed + PackedColumns(task.R.rows, columns) + 2 * PadColumns(columns) * lanes;
  const std::int64_t size = task.penalty.group_size;
  const double* const weights = task.penalty.weights.empty() ? nullptr : task.penalty.weights.data;
  const std::int64_t tile_atoms = kGroupTilePanels * kPanelVectors * lanes;
  const std::int64_t tiles = (task.padded_atoms + tile_atoms - 1) / tile_atoms;
  ForEachPanel(task, packed, tile,
               [&](std::int64_t first, std::int64_t vectors, std::int64_t c, const double* products) {
                 const T* const z = task.codes.empty() ? nullptr : task.codes.column(task.first_column + c) + first;
                 const std::int64_t count = std::min(vectors * lanes, task.last_atom - first);
                 const std::int64_t begin = first / tile_atoms * tile_atoms;
                 double* const pieces = task.pieces + (c * tiles + first / tile_atoms) * kGroupPieces;
                 double& whole = pieces[static_cast<int>(GroupPiece::whole)];
                 double& head = pieces[static_cast<int>(GroupPiece::head)];
                 double& open = pieces[static_cast<int>(GroupPiece::tail)];
                 if (first == begin) whole = head = open = 0;
                 std::int64_t group = first / size;
                 for (std::int64_t j = 0; j < count; ++group) {
                   const std::int64_t end = std::min(count, (group + 1) * size - first);
                   const bool begun = group * size < begin;  // in an earlier tile
                   if (group * size >= first) open = 0;
                   double sum = begun ? head : open;
                   for (; j < end; ++j) {
                     double value = products[j];
                     if (z) value -= task.penalty.ridge * static_cast<double>(z[j]);
                     sum += value * value;
                   }
                   (begun ? head : open) = sum;
                   if (!begun && first + end == (group + 1) * size)
                     whole = larger_or_nan(whole, group_correlation(sum, weights, group));
                 }
               });
}

}  // namespace

CorrelationKernels CorrelationKernelsF64() {
  return {ShapeOfPanels<double>(),
          CorrelationScratch,
          RunCorrelation,
          RunPenalisedCorrelation<float>,
          RunPenalisedCorrelation<double>,
          RunGroupCorrelation<float>,
          RunGroupCorrelation<double>};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
