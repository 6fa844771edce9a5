// The float64 product D'R of certificates, of which only each column's largest magnitude leaves. Included once for each
// instruction set by certificate_cpu.cpp; runs on the microkernel of common/packed_product_cpu_simd.hpp.

// Once, whatever the instruction set: what certificate_cpu.cpp hands over.
#ifndef SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_TASKS
#define SHRINKWARP_KERNELS_CERTIFICATE_CERTIFICATE_CPU_TASKS

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/packed_product_cpu.hpp>

namespace shrinkwarp::cpu {

/// maxima[column] = max over some atoms of |d' r|.
struct CorrelationTask {
  const double* panels;  // D' [m, n] in panels of m
  MatrixView<const double> R;
  double* maxima;                              // [columns of the task]
  std::int64_t first_atom = 0, last_atom = 0;  // whole panels
  std::int64_t padded_atoms = 0;               // of the whole operand
  std::int64_t first_column = 0, last_column = 0;
  double* scratch = nullptr;  // CorrelationKernels::scratch elements
};

/// What one instruction set offers.
struct CorrelationKernels {
  PanelShape shape;
  std::int64_t (*scratch)(std::int64_t rows, std::int64_t columns);
  void (*run)(const CorrelationTask& task);
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

/// For each panel of D', which stays in the first-level cache, the product for all columns of the block.
void RunCorrelation(const CorrelationTask& task) {
  const Tag<double> d;
  const std::int64_t lanes = Lanes<double>();
  const std::int64_t rows = task.R.rows;
  const std::int64_t columns = task.last_column - task.first_column;
  const std::int64_t chunks = (rows + kChunk - 1) / kChunk;
  double* const packed = task.scratch;
  double* const largest = packed + PackedColumns(rows, columns);
  double* const guard = largest + PadColumns(columns) * lanes;
  double* const tile = guard + PadColumns(columns) * lanes;
  PackColumns(task.R.columns(task.first_column, columns), packed);
  std::fill_n(largest, 2 * PadColumns(columns) * lanes, 0.0);

  const std::int64_t height = kPanelVectors * lanes;
  for (std::int64_t first = task.first_atom; first < task.last_atom; first += height) {
    const std::int64_t vectors = std::min<std::int64_t>(kPanelVectors, (task.padded_atoms - first) / lanes);
    for (std::int64_t c = 0; c < columns; c += kPanelColumns) {
      const std::int64_t group = std::min<std::int64_t>(kPanelColumns, columns - c);
      MultiplyFor<double>(vectors, PaddedColumns(group))(task.panels + first * rows, vectors * lanes,
                                                         packed + c * chunks * kChunkStride, rows, tile, {});
      for (std::int64_t g = 0; g < group; ++g) {
        double* const column_largest = largest + (c + g) * lanes;
        double* const column_guard = guard + (c + g) * lanes;
        auto most = hn::Load(d, column_largest);
        auto seen = hn::Load(d, column_guard);
        for (std::int64_t w = 0; w < vectors; ++w) {
          const auto product = hn::Load(d, tile + (g * vectors + w) * lanes);
          most = hn::Max(most, hn::Abs(product));
          seen = hn::MulAdd(product, hn::Zero(d), seen);  // 0, or NaN once a product was NaN, which Max may drop
        }
        hn::Store(most, d, column_largest);
        hn::Store(seen, d, column_guard);
      }
    }
  }
  for (std::int64_t c = 0; c < columns; ++c) {
    const auto most = hn::MaxOfLanes(d, hn::Load(d, largest + c * lanes));
    const auto seen = hn::SumOfLanes(d, hn::Load(d, guard + c * lanes));
    task.maxima[c] = hn::GetLane(hn::Add(most, seen));
  }
}

}  // namespace

CorrelationKernels CorrelationKernelsF64() {
  return {ShapeOfPanels<double>(), CorrelationScratch, RunCorrelation};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
