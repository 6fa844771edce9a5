// Loops of the CPU twin in the vectors of the processor at hand. Included once for each instruction set by
// gradient_step_cpu.cpp, which shares the work out and picks the instruction set at run time.
//
// Both products run on the microkernel of common/packed_product_cpu_simd.hpp. Leaving out a k where the column is zero
// leaves the bits of its chains as they are: the packed dictionary is finite, and only the sign of a zero could differ,
// which R - tile then hides because R is never -0.

// Once, whatever the instruction set: what gradient_step_cpu.cpp hands over.
#ifndef SHRINKWARP_KERNELS_GRADIENT_STEP_GRADIENT_STEP_CPU_TASKS
#define SHRINKWARP_KERNELS_GRADIENT_STEP_GRADIENT_STEP_CPU_TASKS

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <shrinkwarp/kernels/common/mask_bits.hpp>
#include <shrinkwarp/kernels/common/packed_product_cpu.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/gradient_step/operands.hpp>

namespace shrinkwarp::cpu {

/// R[rows of some vectors, some columns] = X - D Y.
template <class T>
struct ResidualTask {
  const T* panels;  // D [n, m] in panels of n
  std::int64_t atoms;
  MatrixView<const T> current, previous, X;
  VectorView<const T> beta;
  MatrixView<T> R;
  std::int64_t first_vector = 0, last_vector = 0;  // of the rows
  std::int64_t first_column = 0, last_column = 0;
  T* scratch = nullptr;  // Kernels::residual_scratch elements
};

/// next[atoms of some tiles, some columns] <- the step.
template <class T>
struct StepTask {
  const T* panels;  // D' [m, n] in panels of m
  MatrixView<const T> R, anchor, current, previous;
  MatrixView<T> next;  // previous itself, or where nothing is to be shrunk another matrix
  bool shrinks;
  VectorView<const T> beta, lambda;
  T step;
  VectorView<const std::uint8_t> active;
  StepPartials<T> partials;
  PenaltyView<T> penalty = {};
  std::int64_t first_tile = 0, last_tile = 0;
  std::int64_t first_column = 0, last_column = 0;
  T* scratch = nullptr;  // Kernels::step_scratch elements
};

/// What a penalty that is not plain does to the soft-threshold: see anchored_shrinkage.
template <class T>
struct Shrinkage {
  T keep = 1, pull = 0;
  bool nonnegative = false;
};

/// What one instruction set offers.
template <class T>
struct Kernels {
  PanelShape shape;
  std::int64_t (*residual_scratch)(std::int64_t rows, std::int64_t columns);  // elements of T
  void (*residual)(const ResidualTask<T>& task);
  std::int64_t (*step_scratch)(std::int64_t rows, std::int64_t columns);
  void (*step)(const StepTask<T>& task);
};

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_GRADIENT_STEP_GRADIENT_STEP_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_GRADIENT_STEP_GRADIENT_STEP_CPU_SIMD
#undef SHRINKWARP_KERNELS_GRADIENT_STEP_GRADIENT_STEP_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_GRADIENT_STEP_GRADIENT_STEP_CPU_SIMD
#endif

#include <shrinkwarp/kernels/common/packed_product_cpu_simd.hpp>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

/// Of a task's codes and dictionary: under the second-level cache of any processor that has 256 KiB of it.
constexpr std::int64_t kCachedBytes = 192 * 1024;

/// Bit i is whether lane i is not zero; NaN is not.
template <class T>
HWY_INLINE std::uint64_t NonzeroBits(hn::Vec<Tag<T>> value) {
  const Tag<T> d;
  constexpr std::size_t kLanes = hn::MaxLanes(Tag<T>());
  std::conditional_t<kLanes <= 8, std::uint8_t, std::conditional_t<kLanes <= 16, std::uint16_t, std::uint64_t>> bits =
      0;
  hn::StoreMaskBits(d, hn::Not(hn::Eq(value, hn::Zero(d))), reinterpret_cast<std::uint8_t*>(&bits));
  return plain_bits(bits);
}

/// Forms `count` elements of one column of Y, with zeros up to a multiple of 64, and marks in one bit each which are
/// not zero. Returns their number.
template <class T>
HWY_INLINE std::int64_t FormColumn(const T* HWY_RESTRICT current, const T* HWY_RESTRICT previous, T beta,
                                   std::int64_t count, T* HWY_RESTRICT column, std::uint64_t* HWY_RESTRICT nonzero) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  const auto momentum = hn::Set(d, beta);
  std::size_t nonzeros = 0;
  for (std::int64_t first = 0; first < count; first += 64) {
    std::uint64_t bits = 0;
    for (std::int64_t k = first; k < first + 64; k += lanes) {
      auto y = LoadSome(current + k, count - k);
      if (beta != T(0)) y = hn::MulAdd(momentum, hn::Sub(y, LoadSome(previous + k, count - k)), y);
      hn::Store(y, d, column + k);
      bits |= NonzeroBits<T>(y) << (k - first);
    }
    nonzero[first / 64] = bits;
    nonzeros += hwy::PopCount(bits);
  }
  return static_cast<std::int64_t>(nonzeros);
}

/// Lists the marked elements in ascending order.
HWY_INLINE void ListNonzeros(const std::uint64_t* nonzero, std::int64_t count, std::int32_t* HWY_RESTRICT indices) {
  for (std::int64_t first = 0; first < count; first += 64) {
    for (std::uint64_t bits = nonzero[first / 64]; bits != 0; bits &= bits - 1)
      *indices++ =
          static_cast<std::int32_t>(first + static_cast<std::int64_t>(hwy::Num0BitsBelowLS1Bit_Nonzero64(bits)));
  }
}

/// The chains of one column over its nonzeros k = indices[e] alone, for W vectors of rows and W2 more of the next
/// panel.
template <int W, int W2, class T>
HWY_NOINLINE void MultiplyNonzeros(const T* HWY_RESTRICT panel, std::int64_t panel_step,
                                   const T* HWY_RESTRICT next_panel, std::int64_t next_step,
                                   const std::int32_t* HWY_RESTRICT indices, std::int64_t count,
                                   const T* HWY_RESTRICT column, T* HWY_RESTRICT tile) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  const std::int64_t lanes = Lanes<T>();
  V sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d);
  V sum3 = hn::Zero(d), sum4 = hn::Zero(d), sum5 = hn::Zero(d);
  for (std::int64_t e = 0; e < count; ++e) {
    const std::int64_t k = indices[e];
    const V value = hn::Set(d, column[k]);
    const T* a = panel + k * panel_step;
    sum0 = hn::MulAdd(hn::Load(d, a), value, sum0);
    if constexpr (W > 1) sum1 = hn::MulAdd(hn::Load(d, a + lanes), value, sum1);
    if constexpr (W > 2) sum2 = hn::MulAdd(hn::Load(d, a + 2 * lanes), value, sum2);
    const T* a2 = next_panel + k * next_step;
    if constexpr (W2 > 0) sum3 = hn::MulAdd(hn::Load(d, a2), value, sum3);
    if constexpr (W2 > 1) sum4 = hn::MulAdd(hn::Load(d, a2 + lanes), value, sum4);
    if constexpr (W2 > 2) sum5 = hn::MulAdd(hn::Load(d, a2 + 2 * lanes), value, sum5);
  }
  hn::Store(sum0, d, tile);
  if constexpr (W > 1) hn::Store(sum1, d, tile + lanes);
  if constexpr (W > 2) hn::Store(sum2, d, tile + 2 * lanes);
  if constexpr (W2 > 0) hn::Store(sum3, d, tile + W * lanes);
  if constexpr (W2 > 1) hn::Store(sum4, d, tile + (W + 1) * lanes);
  if constexpr (W2 > 2) hn::Store(sum5, d, tile + (W + 2) * lanes);
}

template <class T>
auto MultiplyNonzerosFor(std::int64_t vectors, std::int64_t next_vectors) {
  if (next_vectors == 1) return MultiplyNonzeros<3, 1, T>;
  if (next_vectors == 2) return MultiplyNonzeros<3, 2, T>;
  if (next_vectors == 3) return MultiplyNonzeros<3, 3, T>;
  if (vectors == 1) return MultiplyNonzeros<1, 0, T>;
  if (vectors == 2) return MultiplyNonzeros<2, 0, T>;
  return MultiplyNonzeros<3, 0, T>;
}

/// Elements between the columns of the residual kept in scratch: whole vectors, an odd number of cache lines.
template <class T>
HWY_INLINE std::int64_t ResidualStride(std::int64_t rows) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  const std::int64_t unit = std::max(kLine, Lanes<T>());
  return ((rows + unit - 1) / unit | 1) * unit;
}

template <class T>
std::int64_t ResidualTaskScratch(std::int64_t rows, std::int64_t columns) {
  constexpr auto kIndicesPerElement = static_cast<std::int64_t>(sizeof(T) / sizeof(std::int32_t));
  return columns * ResidualStride<T>(rows) +
         kPanelColumns * (kChunkStride + kChunk / kIndicesPerElement + kPanelVectors * Lanes<T>());
}

/// For each chunk of atoms and each group of columns: forms Y in the first-level cache and multiplies all rows of D,
/// which stay in the second-level cache for all groups (309 KB for 302 rows), as does the residual (156 KB for 302 rows
/// and 128 columns). Chunks of 128 to 256 atoms are equally fast where Y is full; longer lists of nonzeros favour 256.
///
/// One thread of an EPYC 9004 (Zen 4, 118 Gflop/s at most), 302 x 6138 in float, 64 columns: 101 Gflop/s where Y is
/// full; the same product takes 0.7 of that time with 30 % nonzeros, 0.4 with 10 %, 0.2 with 4 %, 0.03 with none.
template <class T>
void RunResidual(const ResidualTask<T>& task) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  const std::int64_t rows = task.R.rows;
  const std::int64_t first_row = task.first_vector * lanes;
  const std::int64_t task_rows = std::min(rows, task.last_vector * lanes) - first_row;
  const std::int64_t all_vectors = (rows + lanes - 1) / lanes;
  const std::int64_t columns = task.last_column - task.first_column;
  const std::int64_t stride = ResidualStride<T>(task_rows);

  T* const residual = task.scratch;
  T* const Y = residual + columns * stride;
  T* const tile = Y + kPanelColumns * kChunkStride;
  auto* const indices = reinterpret_cast<std::int32_t*>(tile + kPanelColumns * kPanelVectors * lanes);
  std::int64_t nonzeros[kPanelColumns];
  std::uint64_t nonzero[kPanelColumns][kChunk / 64];
  const T* next_rows[2 * kPanelColumns];

  const bool cached =
      task.atoms * (columns + rows) * static_cast<std::int64_t>(sizeof(T)) <= kCachedBytes;  // see RunStep

  for (std::int64_t first = 0; first < task.atoms || first == 0; first += kChunk) {
    const std::int64_t count = std::min(kChunk, task.atoms - first);
    const bool is_first = first == 0;
    const bool is_last = first + kChunk >= task.atoms;

    // Vectors [vector, vector + vectors) of the rows, which lie in one panel.
    struct Piece {
      const T* panel;
      std::int64_t step, vectors;
    };
    const auto piece_at = [&](std::int64_t vector) {
      const std::int64_t panel = vector / kPanelVectors;
      const std::int64_t in_panel = vector - panel * kPanelVectors;
      const std::int64_t panel_vectors = std::min<std::int64_t>(kPanelVectors, all_vectors - panel * kPanelVectors);
      const std::int64_t step = panel_vectors * lanes;
      return Piece{task.panels + panel * kPanelVectors * lanes * task.atoms + first * step + in_panel * lanes, step,
                   std::min(panel_vectors - in_panel, task.last_vector - vector)};
    };
    // R or X in, R out, by way of the scratch.
    const auto subtract = [&](std::int64_t column, std::int64_t vector, std::int64_t vectors, const T* products) {
      const std::int64_t row = (vector - task.first_vector) * lanes;
      T* kept = residual + column * stride + row;
      const T* from = is_first ? task.X.column(task.first_column + column) + first_row + row : kept;
      T* to = is_last ? task.R.column(task.first_column + column) + first_row + row : kept;
      for (std::int64_t i = 0; i < vectors * lanes; i += lanes) {
        auto r = LoadSome(from + i, task_rows - row - i);
        if (is_first) r = hn::Add(r, hn::Zero(d));  // never -0
        StoreSome(hn::Sub(r, hn::Load(d, products + i)), task_rows - row - i, to + i);
      }
    };

    for (std::int64_t c = 0; c < columns; c += kPanelColumns) {
      const std::int64_t group = std::min<std::int64_t>(kPanelColumns, columns - c);
      const std::int64_t wide = PaddedColumns(group);
      std::int64_t group_nonzeros = 0;
      for (std::int64_t g = 0; g < group; ++g) {
        const std::int64_t b = task.first_column + c + g;
        nonzeros[g] = FormColumn(task.current.column(b) + first, task.previous.column(b) + first, task.beta[b], count,
                                 Y + g * kChunkStride, nonzero[g]);
        group_nonzeros += nonzeros[g];
      }

      // One nonzero costs about three times what a dense k costs in a tile of 8 columns; a tile of one waits for D.
      if (group_nonzeros * 10 <= count * (3 * wide + 5)) {
        for (std::int64_t g = 0; g < group; ++g) {
          if (nonzeros[g] == 0 && !is_first && !is_last) continue;
          ListNonzeros(nonzero[g], count, indices);
          for (std::int64_t vector = task.first_vector; vector < task.last_vector;) {
            const Piece piece = piece_at(vector);
            const bool pair = piece.vectors == kPanelVectors && vector + kPanelVectors < task.last_vector;
            const Piece next = pair ? piece_at(vector + kPanelVectors) : Piece{piece.panel, piece.step, 0};
            MultiplyNonzerosFor<T>(piece.vectors, next.vectors)(piece.panel, piece.step, next.panel, next.step, indices,
                                                                nonzeros[g], Y + g * kChunkStride, tile);
            const std::int64_t vectors = piece.vectors + next.vectors;
            subtract(c + g, vector, vectors, tile);
            vector += vectors;
          }
        }
        continue;
      }

      for (std::int64_t g = group; g < wide; ++g) std::fill_n(Y + g * kChunkStride, count, T(0));
      // What the next group will read comes in behind the products of this one.
      const bool wraps = c + kPanelColumns >= columns;
      const std::int64_t next_c = wraps ? 0 : c + kPanelColumns;
      const std::int64_t next_first = wraps ? first + kChunk : first;
      std::int64_t next_count = 0;
      if (next_first < task.atoms && !cached) {
        for (std::int64_t b = task.first_column + next_c;
             b < std::min(task.last_column, task.first_column + next_c + kPanelColumns); ++b) {
          next_rows[next_count++] = task.current.column(b) + next_first;
          if (task.beta[b] != T(0)) next_rows[next_count++] = task.previous.column(b) + next_first;
        }
      }
      constexpr int kLinesShift = sizeof(T) == 4 ? 4 : 5;
      static_assert(kChunk * sizeof(T) == 64 << kLinesShift, "a chunk of one column is 1 << kLinesShift lines");
      std::int64_t next_done = 0;
      for (std::int64_t vector = task.first_vector; vector < task.last_vector;) {
        const Piece piece = piece_at(vector);
        const std::int64_t next_end =
            next_count * (vector + piece.vectors - task.first_vector) / (task.last_vector - task.first_vector);
        // And this group's share of the panel's next chunk.
        const std::int64_t share = std::min(kChunk, task.atoms - first - count) * piece.step / Ahead<T>::kLine;
        const std::int64_t share_begin = share * c / columns,
                           share_end = share * std::min(columns, c + kPanelColumns) / columns;
        MultiplyFor<T>(piece.vectors, wide)(
            piece.panel, piece.step, Y, count, tile,
            {next_rows + next_done, next_end - next_done, kLinesShift,
             piece.panel + count * piece.step + share_begin * Ahead<T>::kLine, share_end - share_begin});
        next_done = next_end;
        for (std::int64_t g = 0; g < group; ++g)
          subtract(c + g, vector, piece.vectors, tile + g * piece.vectors * lanes);
        vector += piece.vectors;
      }
    }
  }
}

template <class T>
std::int64_t StepTaskScratch(std::int64_t rows, std::int64_t columns) {
  return PackedColumns(rows, columns) + PadColumns(columns) * Lanes<T>() + kPanelVectors * Lanes<T>() * kPanelColumns;
}

/// The epilogue for one column of a tile of the product that moves: extrapolation, soft-threshold, restart test,
/// support. With kPenalised as the penalty says; `weights` may be nullptr.
template <bool kAnchored, bool kExtrapolated, bool kPenalised, class T>
HWY_NOINLINE std::size_t StepColumn(const T* HWY_RESTRICT tile, const T* HWY_RESTRICT current,
                                    const T* HWY_RESTRICT anchors, T* HWY_RESTRICT previous, std::int64_t count, T beta,
                                    T step, T threshold, T* HWY_RESTRICT restart, const T* HWY_RESTRICT weights,
                                    const Shrinkage<T>& shrinkage) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  const auto steps = hn::Set(d, step);
  auto thresholds = hn::Set(d, threshold);
  const auto momentum = hn::Set(d, beta);
  std::size_t support = 0;
  auto sum = hn::Load(d, restart);
  for (std::int64_t j = 0; j < count; j += lanes) {
    const auto now = LoadSome(current + j, count - j);
    auto y = now;
    if constexpr (kExtrapolated) y = hn::MulAdd(momentum, hn::Sub(now, LoadSome<T>(previous + j, count - j)), now);
    const auto w = hn::MulAdd(steps, hn::Load(d, tile + j), y);
    auto u = w;
    auto zero = hn::Zero(d);  // z = 0 in terms of the difference
    if constexpr (kAnchored) {
      const auto anchor = LoadSome(anchors + j, count - j);
      u = hn::Add(anchor, w);
      zero = hn::Neg(anchor);
    }
    if constexpr (kPenalised) {
      if (weights) thresholds = hn::Mul(hn::Set(d, threshold), LoadSome(weights + j, count - j));
    }
    auto shrunk = hn::Sub(w, hn::CopySignToAbs(thresholds, u));
    if constexpr (kPenalised) {
      shrunk = hn::Mul(hn::Set(d, shrinkage.keep), shrunk);
      if constexpr (kAnchored) shrunk = hn::MulAdd(hn::Set(d, shrinkage.pull), zero, shrunk);
    }
    auto next = hn::IfThenElse(hn::Le(hn::Abs(u), thresholds), zero, shrunk);
    if constexpr (kPenalised) {
      if (shrinkage.nonnegative) next = hn::IfThenElse(hn::Lt(u, hn::Zero(d)), zero, next);
    }
    sum = hn::MulAdd(hn::Sub(y, next), hn::Sub(next, now), sum);
    support += hn::CountTrue(d, hn::Not(hn::Eq(next, zero)));  // NaN too
    StoreSome(next, count - j, previous + j);
  }
  hn::Store(sum, d, restart);
  return support;
}

/// StepColumn<false, false, false> for the columns of a group one after the other, with the same bits: of whole vectors of
/// rows, where a call a column would take as long as what it does.
template <class T>
HWY_NOINLINE void StepGroup(const T* HWY_RESTRICT tile, const StepTask<T>& task, std::int64_t first_row,
                            std::int64_t first_column, std::int64_t group, std::int64_t vectors,
                            T* HWY_RESTRICT restart, std::size_t* HWY_RESTRICT support) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  const auto steps = hn::Set(d, task.step);
  for (std::int64_t g = 0; g < group; ++g, tile += vectors * lanes, restart += lanes) {
    const T* HWY_RESTRICT current = task.current.column(first_column + g) + first_row;
    T* HWY_RESTRICT next_column = task.next.column(first_column + g) + first_row;
    const auto thresholds = hn::Set(d, task.step * task.lambda[first_column + g]);
    auto sum = hn::Load(d, restart);
    for (std::int64_t j = 0; j < vectors * lanes; j += lanes) {
      const auto now = hn::LoadU(d, current + j);
      const auto w = hn::MulAdd(steps, hn::Load(d, tile + j), now);
      const auto next =
          hn::IfThenElse(hn::Le(hn::Abs(w), thresholds), hn::Zero(d), hn::Sub(w, hn::CopySignToAbs(thresholds, w)));
      sum = hn::MulAdd(hn::Sub(now, next), hn::Sub(next, now), sum);
      support[g] += hn::CountTrue(d, hn::Not(hn::Eq(next, hn::Zero(d))));  // NaN too
      hn::StoreU(next, d, next_column + j);
    }
    hn::Store(sum, d, restart);
  }
}

/// The epilogue without a threshold: moved <- y + step D'R.
template <bool kExtrapolated, class T>
HWY_NOINLINE void MoveColumn(const T* HWY_RESTRICT tile, const T* HWY_RESTRICT current, const T* HWY_RESTRICT previous,
                             T* HWY_RESTRICT moved, std::int64_t count, T beta, T step) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  for (std::int64_t j = 0; j < count; j += lanes) {
    auto y = LoadSome(current + j, count - j);
    if constexpr (kExtrapolated) y = hn::MulAdd(hn::Set(d, beta), hn::Sub(y, LoadSome(previous + j, count - j)), y);
    StoreSome(hn::MulAdd(hn::Set(d, step), hn::Load(d, tile + j), y), count - j, moved + j);
  }
}

/// For each panel of D': the product for all columns of the block from the second-level cache, the epilogue behind each
/// tile of it while the tile is in the first-level cache.
///
/// One thread of an EPYC 9004, 302 x 6138 in float, 64 columns: 105 Gflop/s, of which the epilogue takes 5 %.
template <class T>
void RunStep(const StepTask<T>& task) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  const std::int64_t rows = task.R.rows;
  const std::int64_t atoms = task.current.rows;
  const std::int64_t all_vectors = (atoms + lanes - 1) / lanes;
  const std::int64_t columns = task.last_column - task.first_column;
  const std::int64_t chunks = (rows + kChunk - 1) / kChunk;
  const bool anchored = !task.anchor.empty();
  const bool penalised = !task.penalty.plain();
  bool plain = task.shrinks && !anchored && !penalised && task.active.empty();
  for (std::int64_t b = task.first_column; plain && b < task.last_column; ++b) plain = task.beta[b] == T(0);
  Shrinkage<T> shrinkage;
  if (penalised) {
    const double pull = static_cast<double>(task.step) * task.penalty.ridge;
    shrinkage = {static_cast<T>(1 / (1 + pull)), static_cast<T>(pull / (1 + pull)), task.penalty.nonnegative};
  }

  // Where all of it stays in the second-level cache from one step to the next, asking for it ahead only costs.
  const bool cached = (2 * atoms * columns + atoms * rows) * static_cast<std::int64_t>(sizeof(T)) <= kCachedBytes;

  T* const packed = task.scratch;
  T* const restart = packed + PackedColumns(rows, columns);
  T* const tile = restart + PadColumns(columns) * lanes;
  std::size_t support[kBlockColumns];
  const T* touched[3 * kPanelColumns];

  PackColumns(task.R.columns(task.first_column, columns), packed);

  const std::int64_t height = kPanelVectors * lanes;
  const std::int64_t last_vector = std::min(all_vectors, task.last_tile * kTileAtoms / lanes);
  for (std::int64_t t = task.first_tile; t < task.last_tile; ++t) {
    std::fill_n(restart, columns * lanes, T(0));
    std::fill_n(support, columns, std::size_t{0});
    const std::int64_t tile_end = std::min(atoms, (t + 1) * kTileAtoms);
    for (std::int64_t first = t * kTileAtoms; first < tile_end; first += height) {
      const std::int64_t vectors = std::min<std::int64_t>(kPanelVectors, all_vectors - first / lanes);
      const std::int64_t count = std::min(height, tile_end - first);
      const T* a = task.panels + first * rows;
      const std::int64_t next_vectors = std::min<std::int64_t>(kPanelVectors, last_vector - first / lanes - vectors);
      // Of the panel that follows.
      const std::int64_t next_lines = cached ? 0 : next_vectors * lanes * rows / Ahead<T>::kLine;
      for (std::int64_t c = 0; c < columns; c += kPanelColumns) {
        const std::int64_t group = std::min<std::int64_t>(kPanelColumns, columns - c);
        std::int64_t touches = 0;
        for (std::int64_t b = task.first_column + c; !cached && b < task.first_column + c + group; ++b) {
          touched[touches++] = task.current.column(b) + first;
          touched[touches++] = task.previous.column(b) + first;
          if (anchored) touched[touches++] = task.anchor.column(b) + first;
        }
        // A panel of 192 bytes touches 3 lines beyond that of its start; the fourth is the next panel's.
        const std::int64_t share_begin = next_lines * c / columns;
        const std::int64_t share_end = next_lines * std::min(columns, c + kPanelColumns) / columns;
        MultiplyFor<T>(vectors, PaddedColumns(group))(
            a, vectors * lanes, packed + c * chunks * kChunkStride, rows, tile,
            {touched, touches, 2, a + vectors * lanes * rows + share_begin * Ahead<T>::kLine, share_end - share_begin});
        if (plain && count == vectors * lanes) {
          StepGroup(tile, task, first, task.first_column + c, group, vectors, restart + c * lanes, support + c);
          continue;
        }
        for (std::int64_t g = 0; g < group; ++g) {
          const std::int64_t b = task.first_column + c + g;
          const T* products = tile + g * vectors * lanes;
          const T* current = task.current.column(b) + first;
          if (!task.shrinks) {
            const T beta = task.beta[b];
            (beta != T(0) ? MoveColumn<true, T>
                          : MoveColumn<false, T>)(products, current, task.previous.column(b) + first,
                                                  task.next.column(b) + first, count, beta, task.step);
            continue;
          }
          T* previous = task.next.column(b) + first;
          const T* anchor = anchored ? task.anchor.column(b) + first : nullptr;
          if (!task.active.empty() && task.active[b] == 0) {
            for (std::int64_t j = 0; j < count; ++j) {
              previous[j] = current[j];
              support[c + g] += anchored ? current[j] != -anchor[j] : current[j] != T(0);
            }
            continue;
          }
          const T beta = task.beta[b];
          const T threshold = task.step * task.lambda[b];
          T* const sums = restart + (c + g) * lanes;
          if (penalised) {
            const auto run =
                anchored ? (beta != T(0) ? StepColumn<true, true, true, T> : StepColumn<true, false, true, T>)
                         : (beta != T(0) ? StepColumn<false, true, true, T> : StepColumn<false, false, true, T>);
            const T* weights = task.penalty.weights.empty() ? nullptr : task.penalty.weights.data + first;
            // Not 0, so that an infinite weight leaves its atom out where lambda is 0.
            support[c + g] += run(products, current, anchor, previous, count, beta, task.step,
                                  std::max(threshold, std::numeric_limits<T>::min()), sums, weights, shrinkage);
            continue;
          }
          const auto run =
              anchored ? (beta != T(0) ? StepColumn<true, true, false, T> : StepColumn<true, false, false, T>)
                       : (beta != T(0) ? StepColumn<false, true, false, T> : StepColumn<false, false, false, T>);
          support[c + g] +=
              run(products, current, anchor, previous, count, beta, task.step, threshold, sums, nullptr, shrinkage);
        }
      }
    }
    for (std::int64_t c = 0; task.shrinks && c < columns; ++c) {
      const auto sum = hn::SumOfLanes(d, hn::Load(d, restart + c * lanes));
      task.partials.restart(t, task.first_column + c) = hn::GetLane(sum);
      task.partials.support(t, task.first_column + c) = static_cast<std::int32_t>(support[c]);
    }
  }
}

template <class T>
Kernels<T> AllKernels() {
  return {ShapeOfPanels<T>(), ResidualTaskScratch<T>, RunResidual<T>, StepTaskScratch<T>, RunStep<T>};
}

}  // namespace

// Highway exports plain functions.
Kernels<float> KernelsF32() {
  return AllKernels<float>();
}
Kernels<double> KernelsF64() {
  return AllKernels<double>();
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
