// The microkernel of the CPU's dense products, in the vectors of the processor at hand: a panel of W vectors of rows of a
// packed operand times C columns,
//
//   tile[W vectors, C] = sum over k in ascending order of panel[:, k] * columns[k, :]        (W C <= 24 accumulators)
//
// An element of the tile is one chain of multiply-adds over k that starts from zero. The chain is the same whatever W and C
// are and whatever the neighbours hold, so a column's bits do not depend on its place or on the size of the batch.
// For Highway: included once for each instruction set, by way of the families' own *_simd.hpp.
#include <shrinkwarp/kernels/common/packed_product_cpu.hpp>

#if defined(SHRINKWARP_KERNELS_COMMON_PACKED_PRODUCT_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_COMMON_PACKED_PRODUCT_CPU_SIMD
#undef SHRINKWARP_KERNELS_COMMON_PACKED_PRODUCT_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_COMMON_PACKED_PRODUCT_CPU_SIMD
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::CappedTag<T, 64>;

constexpr int kPanelVectors = 3;
// Accumulators, one vector of each operand and no spills: 24 + 4 of 32 registers, or 12 + 4 of 16.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kPanelColumns = 4;
#else
constexpr int kPanelColumns = 8;
#endif

template <class T>
HWY_INLINE std::int64_t Lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
}

/// Memory that a later tile will read. The microkernel asks for one cache line of each kind for each k while it
/// multiplies, since the processor drops or delays requests that come in bursts.
template <class T>
struct Ahead {
  static constexpr std::int64_t kLine = 64 / sizeof(T);

  const T* const* rows = nullptr;  // short pieces of `1 << shift` lines
  std::int64_t row_count = 0;
  int shift = 0;
  const T* stream = nullptr;  // one long piece
  std::int64_t stream_lines = 0;

  HWY_INLINE std::int64_t Steps() const { return std::max(row_count << shift, stream_lines); }
  HWY_INLINE void Fetch(std::int64_t i) const {
    // The line that holds a row's start has come with the row before it, most often.
    if (i < row_count << shift)
      hwy::Prefetch(rows[i >> shift] + (kLine - 1) + (i & ((std::int64_t{1} << shift) - 1)) * kLine);
    if (i < stream_lines) hwy::Prefetch(stream + i * kLine);
  }
};

/// tile[(c W + w) lanes + lane] = sum over k < count of panel[k panel_step + w lanes + lane] columns[c, k]. Columns lie
/// in chunks: kChunk of k, kChunkStride elements a column.
template <int W, int C, class T>
HWY_NOINLINE void MultiplyPanel(const T* HWY_RESTRICT panel, std::int64_t panel_step, const T* HWY_RESTRICT columns,
                                std::int64_t count, T* HWY_RESTRICT tile, Ahead<T> ahead) {
  const Tag<T> d;
  using V = hn::Vec<Tag<T>>;
  const std::int64_t lanes = Lanes<T>();
  // Named accumulators: in an array, g++ keeps them in memory and loses half of the speed.
#define SHRINKWARP_COLUMNS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define SHRINKWARP_CLEAR(c) V sum0##c = hn::Zero(d), sum1##c = hn::Zero(d), sum2##c = hn::Zero(d);
#define SHRINKWARP_ADD(c)                                          \
  if constexpr (c < C) {                                           \
    const V value = hn::Set(d, columns[c * kChunkStride + k]);     \
    sum0##c = hn::MulAdd(a0, value, sum0##c);                      \
    if constexpr (W > 1) sum1##c = hn::MulAdd(a1, value, sum1##c); \
    if constexpr (W > 2) sum2##c = hn::MulAdd(a2, value, sum2##c); \
  }
#define SHRINKWARP_ADD_ALL                                  \
  const V a0 = hn::Load(d, panel);                          \
  V a1 = a0, a2 = a0;                                       \
  if constexpr (W > 1) a1 = hn::Load(d, panel + lanes);     \
  if constexpr (W > 2) a2 = hn::Load(d, panel + 2 * lanes); \
  panel += panel_step;                                      \
  SHRINKWARP_COLUMNS(SHRINKWARP_ADD)
#define SHRINKWARP_STORE(c)                                                 \
  if constexpr (c < C) {                                                    \
    hn::Store(sum0##c, d, tile + (c * W) * lanes);                          \
    if constexpr (W > 1) hn::Store(sum1##c, d, tile + (c * W + 1) * lanes); \
    if constexpr (W > 2) hn::Store(sum2##c, d, tile + (c * W + 2) * lanes); \
  }
  SHRINKWARP_COLUMNS(SHRINKWARP_CLEAR)
  std::int64_t fetched = 0;
  const std::int64_t steps = ahead.Steps();
  for (std::int64_t first = 0; first < count; first += kChunk) {
    const std::int64_t chunk = std::min(kChunk, count - first);
    const std::int64_t with_fetch = std::min(chunk, steps - fetched);
    std::int64_t k = 0;
    for (; k < with_fetch; ++k) {
      ahead.Fetch(fetched + k);
      SHRINKWARP_ADD_ALL
    }
    fetched += k;
    for (; k < chunk; ++k) {
      SHRINKWARP_ADD_ALL
    }
    columns += C * kChunkStride;
  }
  SHRINKWARP_COLUMNS(SHRINKWARP_STORE)
#undef SHRINKWARP_COLUMNS
#undef SHRINKWARP_CLEAR
#undef SHRINKWARP_ADD
#undef SHRINKWARP_ADD_ALL
#undef SHRINKWARP_STORE
}

template <class T>
using Multiply = void (*)(const T*, std::int64_t, const T*, std::int64_t, T*, Ahead<T>);

template <int W, class T>
Multiply<T> MultiplyOfHeight(std::int64_t columns) {
  if (columns == 1) return MultiplyPanel<W, 1, T>;
  if (columns == 2) return MultiplyPanel<W, 2, T>;
  if (columns == 4) return MultiplyPanel<W, 4, T>;
  return MultiplyPanel<W, kPanelColumns, T>;
}

/// The microkernel for 1 to 3 vectors of rows and 1, 2, 4 or kPanelColumns columns.
template <class T>
Multiply<T> MultiplyFor(std::int64_t vectors, std::int64_t columns) {
  if (vectors == 1) return MultiplyOfHeight<1, T>(columns);
  if (vectors == 2) return MultiplyOfHeight<2, T>(columns);
  return MultiplyOfHeight<3, T>(columns);
}

/// Columns of the microkernel that takes `columns` columns, the missing ones being zero.
HWY_INLINE std::int64_t PaddedColumns(std::int64_t columns) {
  if (columns <= 2) return columns;
  return columns <= 4 ? 4 : kPanelColumns;
}

/// The first `count` elements (all lanes when there are as many), zero beyond.
template <class T>
HWY_INLINE hn::Vec<Tag<T>> LoadSome(const T* from, std::int64_t count) {
  const Tag<T> d;
  if (HWY_LIKELY(count >= Lanes<T>())) return hn::LoadU(d, from);
  HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
}

template <class T>
HWY_INLINE void StoreSome(hn::Vec<Tag<T>> value, std::int64_t count, T* to) {
  const Tag<T> d;
  if (HWY_LIKELY(count >= Lanes<T>())) return hn::StoreU(value, d, to);
  HWY_ALIGN T lanes[hn::MaxLanes(d)];
  hn::Store(value, d, lanes);
  for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

constexpr std::int64_t PadColumns(std::int64_t columns) {
  return (columns + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
}

/// Elements that `columns` columns of `rows` elements take when packed for the microkernel.
constexpr std::int64_t PackedColumns(std::int64_t rows, std::int64_t columns) {
  return PadColumns(columns) * ((rows + kChunk - 1) / kChunk) * kChunkStride;
}

/// Packs the columns of R for the microkernel, groups of PaddedColumns() filled up with zeros. Column g of a group of `wide`
/// columns, chunk q: packed + (c chunks + q wide + g) kChunkStride, c the group's first.
template <class T>
HWY_INLINE void PackColumns(MatrixView<const T> R, T* packed) {
  const std::int64_t chunks = (R.rows + kChunk - 1) / kChunk;
  for (std::int64_t c = 0; c < R.cols; c += kPanelColumns) {
    const std::int64_t group = std::min<std::int64_t>(kPanelColumns, R.cols - c);
    const std::int64_t wide = PaddedColumns(group);
    for (std::int64_t q = 0; q < chunks; ++q) {
      const std::int64_t count = std::min(kChunk, R.rows - q * kChunk);
      T* chunk = packed + (c * chunks + q * wide) * kChunkStride;
      for (std::int64_t g = 0; g < group; ++g)
        std::copy_n(R.column(c + g) + q * kChunk, count, chunk + g * kChunkStride);
      for (std::int64_t g = group; g < wide; ++g) std::fill_n(chunk + g * kChunkStride, count, T(0));
    }
  }
}

/// What packed panels look like in this instruction set.
template <class T>
PanelShape ShapeOfPanels() {
  return {Lanes<T>(), kPanelVectors, kPanelColumns};
}

}  // namespace
}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
