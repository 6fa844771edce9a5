// The product of 16-bit integers with its epilogue. Included once for each instruction set by bounded_correlation.cpp.

// Once, whatever the instruction set: what bounded_correlation.cpp hands over.
#ifndef SHRINKWARP_KERNELS_BOUNDED_CORRELATION_TASKS
#define SHRINKWARP_KERNELS_BOUNDED_CORRELATION_TASKS

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>

namespace shrinkwarp::cpu {

/// The most vectors of a panel, and the most columns of a microkernel, in any instruction set.
constexpr std::int64_t kPairVectors = 3;

struct BoundedCorrelationTask {
  const QuantizedDictionary* dictionary;
  AtomBounds bounds;
  const QuantizedResiduals* residuals;
  const std::int64_t* places;
  std::int64_t count;
  MatrixView<float> C;
  MatrixView<float> highest;
  PanelsLeftOut leave;
};

struct OpenAtomsTask {
  AtomBounds bounds;
  const float *c, *highest;
  const QuantizedResiduals* residuals;
  std::int64_t place;
  float threshold;
  std::int64_t panels, panel_atoms, padded_atoms;  // whole vectors
  std::int64_t atoms;                              // for which there is room
};

/// A vector in multiples of `unit`.
struct QuantizeTask {
  const float* v;     // of a norm under 2; what is under 1e-12 of that may be rounded away
  std::int64_t size;  // the rest up to a whole vector of 16 is zero
  double norm_limit, largest;
  float* scratch;       // [size in whole vectors]
  std::int32_t* pairs;  // [(size + 1) / 2]
};
struct QuantizedVector {
  float unit = 0;
  double rounding = 0;  // >= norm of what was rounded away
  double norm = 0;      // of v, to some units of float
};

/// What one instruction set offers.
struct BoundedCorrelationKernels {
  std::int64_t lanes;    // of a vector of 32 bits
  std::int64_t columns;  // of the microkernel: so many residuals are multiplied together
  void (*run)(const BoundedCorrelationTask& task);
  std::int64_t (*open)(const OpenAtomsTask& task, std::int32_t* open);
  QuantizedVector (*quantize)(const QuantizeTask& task);
  /// See bounded_correlation.hpp.
  float (*nth_largest)(const float* values, std::int64_t count, std::int64_t n);
  /// out[i, k] = basis[:, i]' r[:, k] for i < count, up to kTogether columns r; all columns in whole vectors of 16.
  void (*rotate)(MatrixView<const float> basis, std::int64_t count, MatrixView<const float> r, MatrixView<float> out);
};

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_BOUNDED_CORRELATION_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_BOUNDED_CORRELATION_CPU_SIMD
#undef SHRINKWARP_KERNELS_BOUNDED_CORRELATION_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_BOUNDED_CORRELATION_CPU_SIMD
#endif

#include <hwy/highway.h>

#include <shrinkwarp/kernels/common/lane_sums_cpu_simd.hpp>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Sums = hn::CappedTag<std::int32_t, 16>;
using Reals = hn::CappedTag<float, 16>;
using Pairs = hn::Vec<Sums>;  // two 16-bit integers a lane

// Accumulators, one vector of each operand and no spills: 24 + 4 of 32 registers, or 12 + 4 of 16.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kPairColumns = 4;
#else
constexpr int kPairColumns = 8;
#endif

/// sum + the products of both integers of each lane.
HWY_INLINE Pairs AddProducts(Pairs a, Pairs b, Pairs sum) {
#if HWY_TARGET == HWY_AVX3
  return hn::Add(sum, Pairs{_mm512_madd_epi16(a.raw, b.raw)});
#elif HWY_TARGET == HWY_AVX2
  return hn::Add(sum, Pairs{_mm256_madd_epi16(a.raw, b.raw)});
#elif HWY_TARGET == HWY_SSE4
  return hn::Add(sum, Pairs{_mm_madd_epi16(a.raw, b.raw)});
#else
  const auto low = [](Pairs v) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(v)); };
  const auto high = [](Pairs v) { return hn::ShiftRight<16>(v); };
  return hn::Add(sum, hn::Add(hn::Mul(low(a), low(b)), hn::Mul(high(a), high(b))));
#endif
}

#if HWY_TARGET == HWY_AVX3
#define SHRINKWARP_VNNI __attribute__((target("avx512vnni")))
/// The same in one instruction. In assembly: of the intrinsic's 24 accumulators g++ 12 keeps some in memory.
SHRINKWARP_VNNI inline __attribute__((always_inline)) Pairs AddProductsFused(Pairs a, Pairs b, Pairs sum) {
  __asm__("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  return sum;
}
#endif

#define SHRINKWARP_COLUMNS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define SHRINKWARP_CLEAR(c)                                                  \
  Pairs sum0##c = hn::Zero(d), sum1##c = hn::Zero(d), sum2##c = hn::Zero(d); \
  const std::int32_t* const HWY_RESTRICT column##c = columns[c < kPairColumns ? c : 0];
#define SHRINKWARP_ADD(c)                                                       \
  if constexpr (c < kPairColumns) {                                             \
    const Pairs value = hn::Set(d, column##c[k]);                               \
    sum0##c = SHRINKWARP_ADD_PRODUCTS(a0, value, sum0##c);                      \
    if constexpr (W > 1) sum1##c = SHRINKWARP_ADD_PRODUCTS(a1, value, sum1##c); \
    if constexpr (W > 2) sum2##c = SHRINKWARP_ADD_PRODUCTS(a2, value, sum2##c); \
  }
#define SHRINKWARP_STORE(c)                                                 \
  if constexpr (c < kPairColumns) {                                         \
    hn::Store(sum0##c, d, tile + (c * W) * lanes);                          \
    if constexpr (W > 1) hn::Store(sum1##c, d, tile + (c * W + 1) * lanes); \
    if constexpr (W > 2) hn::Store(sum2##c, d, tile + (c * W + 2) * lanes); \
  }
// tile[(c W + w) lanes + lane] = sum over k of panel[(k W + w) lanes + lane] columns[c][k], over pairs.
#define SHRINKWARP_MULTIPLY                                      \
  const Sums d;                                                  \
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));    \
  SHRINKWARP_COLUMNS(SHRINKWARP_CLEAR)                           \
  for (std::int64_t k = 0; k < pairs; ++k, panel += W * lanes) { \
    const Pairs a0 = hn::Load(d, panel);                         \
    Pairs a1 = a0, a2 = a0;                                      \
    if constexpr (W > 1) a1 = hn::Load(d, panel + lanes);        \
    if constexpr (W > 2) a2 = hn::Load(d, panel + 2 * lanes);    \
    SHRINKWARP_COLUMNS(SHRINKWARP_ADD)                           \
  }                                                              \
  SHRINKWARP_COLUMNS(SHRINKWARP_STORE)

#define SHRINKWARP_ADD_PRODUCTS AddProducts
template <int W>
HWY_NOINLINE void MultiplyPairs(const std::int32_t* HWY_RESTRICT panel, const std::int32_t* const* columns,
                                std::int64_t pairs, std::int32_t* HWY_RESTRICT tile) {
  SHRINKWARP_MULTIPLY
}
#undef SHRINKWARP_ADD_PRODUCTS

#if HWY_TARGET == HWY_AVX3
#define SHRINKWARP_ADD_PRODUCTS AddProductsFused
template <int W>
SHRINKWARP_VNNI HWY_NOINLINE void MultiplyPairsFused(const std::int32_t* HWY_RESTRICT panel,
                                                     const std::int32_t* const* columns, std::int64_t pairs,
                                                     std::int32_t* HWY_RESTRICT tile) {
  SHRINKWARP_MULTIPLY
}
#undef SHRINKWARP_ADD_PRODUCTS
#endif
#undef SHRINKWARP_COLUMNS
#undef SHRINKWARP_CLEAR
#undef SHRINKWARP_ADD
#undef SHRINKWARP_STORE
#undef SHRINKWARP_MULTIPLY

using Multiply = void (*)(const std::int32_t*, const std::int32_t* const*, std::int64_t, std::int32_t*);

Multiply MultiplyFor(std::int64_t vectors) {
#if HWY_TARGET == HWY_AVX3
  static const bool fused = __builtin_cpu_supports("avx512vnni");
  if (fused) return vectors == 1 ? MultiplyPairsFused<1> : vectors == 2 ? MultiplyPairsFused<2> : MultiplyPairsFused<3>;
#endif
  return vectors == 1 ? MultiplyPairs<1> : vectors == 2 ? MultiplyPairs<2> : MultiplyPairs<3>;
}

/// The bounds of a residual's correlations with a vector of atoms at a time.
class Bound {
 public:
  Bound() = default;
  Bound(const AtomBounds& bounds, const QuantizedResiduals& R, std::int64_t place)
      : rounding_of_(bounds.rounding.data),
        norm_of_(bounds.norm.data),
        tail_of_(bounds.tail.data),
        norm_(R.norm(place)),
        rounding_(R.rounding(place)),
        tails_(R.tails(place)),
        bounds_(&bounds),
        R_(&R),
        place_(place) {
    if (tails_ == 0) return;
    const ResidualTail tail = R.tail(place, 0);
    tail_of_ = bounds.tail.column(tail.level);
    tail_ = tail.norm;
  }
  std::int64_t tails() const { return tails_; }
  HWY_INLINE hn::Vec<Reals> At(std::int64_t j) const {
    const Reals real;
    auto bound = hn::Mul(hn::Load(real, norm_of_ + j), hn::Set(real, rounding_));
    bound = hn::MulAdd(hn::Load(real, rounding_of_ + j), hn::Set(real, norm_), bound);
    return tails_ == 0 ? bound : hn::Add(bound, OfTails<2>(j));
  }
  /// The part that comes of tails. @tparam Tails  that there are, at least 1; 2 for any number
  template <int Tails>
  HWY_INLINE hn::Vec<Reals> OfTails(std::int64_t j) const {
    const Reals real;
    auto bound = hn::Mul(hn::Load(real, tail_of_ + j), hn::Set(real, tail_));
    if constexpr (Tails == 1) return bound;
    for (std::int64_t i = 1; i < tails_; ++i) {
      const ResidualTail tail = R_->tail(place_, i);
      bound = hn::MulAdd(hn::Load(real, bounds_->tail.column(tail.level) + j), hn::Set(real, tail.norm), bound);
    }
    return bound;
  }
  /// The part that comes of rounding, of atoms of no larger norm and rounding.
  HWY_INLINE float OfRounding(float norm, float rounding) const { return rounding * norm_ + norm * rounding_; }

 private:
  const float *rounding_of_ = nullptr, *norm_of_ = nullptr, *tail_of_ = nullptr;
  float norm_ = 0, rounding_ = 0, tail_ = 0;
  std::int64_t tails_ = 0;
  const AtomBounds* bounds_ = nullptr;
  const QuantizedResiduals* R_ = nullptr;
  std::int64_t place_ = 0;
};

constexpr std::int64_t kMostColumns = 64;  // at a time
// For the order of a sum of few terms, other than in open_atoms(); of many tails the bounds' own room covers the rest.
constexpr float kSumRoom = 1 + 4e-7F;

/// What a pass reads and writes of one residual.
struct Column {
  Bound bound;
  const std::int32_t* packed;
  std::int64_t pairs;
  float inverse_scale;
  bool adds;
  float *c, *highest;
  PanelLimit* limit = nullptr;    // where panels may be left out
  std::uint8_t* stale = nullptr;  // beside a limit
  float least = 0;                // of the correlations so far one is as large in magnitude
};

// A residual is taken to move on as far as it has come: a panel that is left out should not be wanted in the next pass.
constexpr float kSteps = 2;

/// Leaves out the panels that `limit.under` and what they were before leave out.
void LeaveOut(const Column& column, const float* HWY_RESTRICT largest, std::int64_t panels) {
  const Reals real;
  const hn::Rebind<std::uint8_t, Reals> byte;
  const Sums integer;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  PanelLimit& limit = *column.limit;
  const bool known = limit.moved < PanelLimit::kUnknown;
  std::int64_t panel = 0;
  auto left_out = hn::Zero(real);
  // As panel_reach() has it.
  const auto room = hn::Set(real, PanelLimit::kRoom), norm = hn::Set(real, limit.norm),
             moved = hn::Set(real, limit.moved), steps = hn::Set(real, kSteps * limit.moved),
             under = hn::Set(real, limit.under);
  const auto adds = hn::Set(integer, column.adds ? 1 : 0);
  for (; panel + lanes <= panels; panel += lanes) {
    const auto size = hn::LoadU(real, largest + panel), high = hn::LoadU(real, column.highest + panel);
    auto reach = hn::Mul(size, norm), next = reach;
    if (known) {
      next = hn::Min(reach, hn::Add(high, hn::Mul(size, steps)));
      reach = hn::Min(reach, hn::Add(high, hn::Mul(size, moved)));
    }
    reach = hn::Mul(reach, room);
    const auto before = hn::And(adds, hn::PromoteTo(integer, hn::LoadU(byte, column.stale + panel)));
    const auto out =
        hn::Or(hn::Lt(hn::Mul(next, room), under), hn::RebindMask(real, hn::Ne(before, hn::Zero(integer))));
    hn::StoreU(hn::DemoteTo(byte, hn::IfThenElseZero(hn::RebindMask(integer, out), hn::Set(integer, 1))), byte,
               column.stale + panel);
    hn::StoreU(hn::IfThenElse(out, reach, high), real, column.highest + panel);
    left_out = hn::Max(left_out, hn::IfThenElseZero(out, reach));
  }
  limit.left_out = hn::GetLane(hn::MaxOfLanes(real, left_out));
  for (; panel < panels; ++panel) {
    const float reach = panel_reach(limit, largest[panel], column.highest[panel]);
    const bool out = panel_reach(limit, largest[panel], column.highest[panel], kSteps) < limit.under ||
                     (column.adds && column.stale[panel] != 0);
    column.stale[panel] = out ? 1 : 0;
    if (!out) continue;
    column.highest[panel] = reach;
    limit.left_out = std::max(limit.left_out, reach);
  }
}

/// Whether to leave out a panel for what the pass has found in others.
HWY_INLINE bool LeavesOut(Column& column, std::int64_t panel, float largest) {
  const float reach = panel_reach(*column.limit, largest, column.highest[panel]);
  if (!(reach < column.limit->share * column.least)) return false;
  column.stale[panel] = 1;
  column.highest[panel] = reach;
  column.limit->left_out = std::max(column.limit->left_out, reach);
  return true;
}

/// Of the atoms of a panel, the largest norm and rounding: one bound for all of them costs a panel and not an atom. Where their
/// weights are alike, they differ by far less than what they are compared with, and hardly any panel is opened for it.
struct PanelRounding {
  float norm, rounding;
  template <int W>
  HWY_INLINE static PanelRounding Of(const AtomBounds& bounds, std::int64_t first) {
    const Reals real;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
    auto norm = hn::Load(real, bounds.norm.data + first), rounding = hn::Load(real, bounds.rounding.data + first);
    for (std::int64_t w = 1; w < W; ++w) {
      norm = hn::Max(norm, hn::Load(real, bounds.norm.data + first + w * lanes));
      rounding = hn::Max(rounding, hn::Load(real, bounds.rounding.data + first + w * lanes));
    }
    return {hn::GetLane(hn::MaxOfLanes(real, norm)), hn::GetLane(hn::MaxOfLanes(real, rounding))};
  }
  float BoundOf(const Column& column) const { return column.bound.OfRounding(norm, rounding); }
};

/// Correlations of one residual with the atoms of a panel of W vectors, from the sums of the tile.
/// @tparam Adds   to what is there
/// @tparam Least  of the correlations so far one is as large in magnitude as column.least
/// @tparam Tails  of the bound, 2 for any number
/// @return what bounds them but for rounding, whose largest lane is the panel's
template <int W, bool Adds, bool Least, int Tails>
HWY_INLINE hn::Vec<Reals> FinishColumn(Column& column, const float* HWY_RESTRICT factor, const PanelRounding& panel,
                                       const std::int32_t* HWY_RESTRICT sums, std::int64_t first) {
  const Sums d;
  const Reals real;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto inverse_scale = hn::Set(real, column.inverse_scale);
  float* HWY_RESTRICT out = column.c + first;
  if constexpr (Adds) {
    // 64 columns are more than the second-level cache: what the next panel adds to is on its way.
    for (std::int64_t w = 0; w < W; ++w) __builtin_prefetch(out + (W + w) * lanes, 1);
  }
  auto most = hn::Zero(real), least = hn::Zero(real);
#if HWY_COMPILER_GCC_ACTUAL
#pragma GCC unroll 3
#endif
  for (int w = 0; w < W; ++w) {
    const auto sum = hn::ConvertTo(real, hn::Load(d, sums + w * lanes));
    auto value = hn::Mul(hn::Mul(sum, hn::Load(real, factor + first + w * lanes)), inverse_scale);
    if constexpr (Adds) value = hn::Add(value, hn::LoadU(real, out + w * lanes));
    hn::StoreU(value, real, out + w * lanes);
    const auto size = hn::Abs(value);
    if constexpr (Tails == 0) {
      most = hn::Max(most, size);
    } else {
      const auto tails = column.bound.template OfTails<Tails>(first + w * lanes);
      most = hn::Max(most, hn::Add(size, tails));
      if constexpr (Least) least = hn::Max(least, hn::Sub(size, tails));
    }
  }
  if constexpr (Least) {
    const float reached = hn::GetLane(hn::MaxOfLanes(real, Tails == 0 ? most : least));
    column.least = std::max(column.least, reached - panel.BoundOf(column));
  }
  return most;
}

template <int W, bool Adds, bool Least>
HWY_INLINE hn::Vec<Reals> FinishWithTails(Column& column, const float* HWY_RESTRICT factor, const PanelRounding& panel,
                                          const std::int32_t* HWY_RESTRICT sums, std::int64_t first) {
  if (column.bound.tails() == 0) return FinishColumn<W, Adds, Least, 0>(column, factor, panel, sums, first);
  if (column.bound.tails() == 1) return FinishColumn<W, Adds, Least, 1>(column, factor, panel, sums, first);
  return FinishColumn<W, Adds, Least, 2>(column, factor, panel, sums, first);
}

template <int W>
HWY_INLINE hn::Vec<Reals> Finish(Column& column, const float* HWY_RESTRICT factor, const PanelRounding& panel,
                                 const std::int32_t* HWY_RESTRICT sums, std::int64_t first) {
  if (column.adds) return FinishWithTails<W, true, false>(column, factor, panel, sums, first);
  if (column.limit) return FinishWithTails<W, false, true>(column, factor, panel, sums, first);
  return FinishWithTails<W, false, false>(column, factor, panel, sums, first);
}

/// For each panel of W vectors, which stays in the first-level cache, the product with every group of residuals.
template <int W>
void RunPanels(const BoundedCorrelationTask& task, Column* columns, std::int64_t count, std::int64_t first_panel,
               std::int64_t last_panel) {
  const Sums d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const QuantizedDictionary& D = *task.dictionary;
  const std::int64_t all_pairs = (D.rows() + 1) / 2;
  const float* const factor = task.bounds.factor.data;
  const Multiply multiply = MultiplyFor(W);
  HWY_ALIGN std::int32_t tile[kPairVectors * hn::MaxLanes(d) * kPairColumns];
  const Reals real;
  HWY_ALIGN float peaks[hn::MaxLanes(d) * kPairColumns] = {};
  const std::int32_t* packed[kPairColumns];
  Column* wanted[kMostColumns];
  for (std::int64_t b = 0; b < count; ++b) wanted[b] = columns + b;
  std::int64_t products = count;
  for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
    const std::int64_t first = panel * kPairVectors * lanes;
    const std::int32_t* const atoms = D.packed() + first * all_pairs;
    if (task.leave.limits) {
      const float largest = task.bounds.largest[panel];
      products = 0;
      for (std::int64_t b = 0; b < count; ++b) {
        Column& column = columns[b];
        if (column.stale[panel] == 0 && !(column.limit->share > 0 && LeavesOut(column, panel, largest)))
          wanted[products++] = &column;
      }
    }
    if (products == 0) continue;
    const PanelRounding rounding = PanelRounding::Of<W>(task.bounds, first);
    for (std::int64_t b = 0, group = 0; b < products; b += group) {
      std::int64_t pairs = 0;
      group = std::min<std::int64_t>(kPairColumns, products - b);
      for (std::int64_t g = 0; g < group; ++g) {
        packed[g] = wanted[b + g]->packed;
        pairs = std::max(pairs, wanted[b + g]->pairs);
      }
      std::fill(packed + group, packed + kPairColumns, packed[0]);
      multiply(atoms, packed, pairs, tile);
      for (std::int64_t g = 0; g < group; ++g) {
        Column& column = *wanted[b + g];
        const std::int32_t* const sums = tile + g * W * lanes;
        hn::Store(Finish<W>(column, factor, rounding, sums, first), real, peaks + g * lanes);
      }
      // Four together: a fiftieth of a pass over 102 x 1536.
      for (std::int64_t g = 0; g < group; g += 4) {
        const auto peak = [&](std::int64_t i) { return hn::Load(real, peaks + (g + i) * lanes); };
        HWY_ALIGN float largest_of[4];
        LargestOfLanes(real, peak(0), peak(1), peak(2), peak(3), largest_of);
        for (std::int64_t i = 0; i < std::min<std::int64_t>(4, group - g); ++i) {
          const Column& column = *wanted[b + g + i];
          column.highest[panel] = (largest_of[i] + rounding.BoundOf(column)) * kSumRoom;
        }
      }
    }
  }
}

void RunBoundedCorrelation(const BoundedCorrelationTask& task) {
  const Sums d;
  const QuantizedDictionary& D = *task.dictionary;
  const QuantizedResiduals& R = *task.residuals;
  const std::int64_t vectors = D.padded_atoms() / static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t whole = vectors / kPairVectors, rest = vectors % kPairVectors;
  for (std::int64_t start = 0; start < task.count; start += kMostColumns) {
    const std::int64_t count = std::min(kMostColumns, task.count - start);
    Column columns[kMostColumns];
    for (std::int64_t b = 0; b < count; ++b) {
      const std::int64_t place = task.places[start + b];
      columns[b] = {Bound(task.bounds, R, place), R.packed(place), (D.level_rows(R.level(place)) + 1) / 2,
                    R.inverse_scale(place),       R.adds(place),   task.C.column(place),
                    task.highest.column(place)};
      if (!task.leave.limits) continue;
      columns[b].limit = task.leave.limits + place;
      columns[b].stale = task.leave.stale.column(place);
      LeaveOut(columns[b], task.bounds.largest.data, D.panels());
    }
    RunPanels<kPairVectors>(task, columns, count, 0, whole);
    if (rest == 2) RunPanels<2>(task, columns, count, whole, whole + 1);
    if (rest == 1) RunPanels<1>(task, columns, count, whole, whole + 1);
  }
}

/// The lanes in which a mask is true, one bit each.
template <class Mask>
HWY_INLINE std::uint32_t Bits(Mask mask) {
  const Reals real;
  std::uint8_t bytes[8] = {};
  hn::StoreMaskBits(real, mask, bytes);
  return static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8U;
}

std::int64_t FindOpenAtoms(const OpenAtomsTask& task, std::int32_t* open) {
  const Reals real;
  const Sums integer;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  const auto threshold = hn::Set(real, task.threshold);
  const Bound bound(task.bounds, *task.residuals, task.place);
  std::int64_t count = 0;
  const auto look = [&](std::int64_t panel) {
    const std::int64_t first = panel * task.panel_atoms;
    const std::int64_t last = std::min(first + task.panel_atoms, task.padded_atoms);
    for (std::int64_t j = first; j < last; j += lanes) {
      const auto over = hn::Gt(hn::Add(hn::Abs(hn::LoadU(real, task.c + j)), bound.At(j)), threshold);
      if (count + lanes <= task.atoms) {  // a vector of them, as many as there are: how many nobody can foresee
        const auto atom = hn::Iota(integer, static_cast<std::int32_t>(j));
        hn::StoreU(hn::Compress(atom, hn::RebindMask(integer, over)), integer, open + count);
        count += static_cast<std::int64_t>(hn::CountTrue(real, over));
        continue;
      }
      for (std::uint32_t bits = Bits(over); bits != 0; bits &= bits - 1)
        open[count++] = static_cast<std::int32_t>(j + __builtin_ctz(bits));
    }
  };
  std::int64_t panel = 0;
  for (; panel + lanes <= task.panels; panel += lanes) {
    const auto over = hn::Gt(hn::LoadU(real, task.highest + panel), threshold);
    for (std::uint32_t bits = Bits(over); bits != 0; bits &= bits - 1) look(panel + __builtin_ctz(bits));
  }
  for (; panel < task.panels; ++panel)
    if (task.highest[panel] > task.threshold) look(panel);
  return count;
}

float NthLargest(const float* HWY_RESTRICT values, std::int64_t count, std::int64_t n) {
  const Reals real;
  const Sums integer;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  // Numbers of one sign are in the order of their bits, which are found one by one from the top. Those of no number
  // are no limit.
  std::int32_t found = 0;
  for (std::int32_t bit = 30; bit >= 15; --bit) {
    const std::int32_t bits = found | std::int32_t{1} << bit;
    const auto under = hn::Set(integer, bits - 1);
    auto reach = hn::Zero(integer);
    std::int64_t i = 0, total = 0;
    for (; i + lanes <= count; i += lanes) {
      const auto value = hn::BitCast(integer, hn::LoadU(real, values + i));
      reach = hn::Sub(reach, hn::VecFromMask(integer, hn::Gt(value, under)));
    }
    total = hn::GetLane(hn::SumOfLanes(integer, reach));
    for (; i < count; ++i) {
      std::int32_t value = 0;
      std::memcpy(&value, values + i, sizeof value);
      total += value >= bits ? 1 : 0;
    }
    if (total >= n) found = bits;
  }
  float result = 0;
  std::memcpy(&result, &found, sizeof result);
  return result;
}

// Sums in sixteen lanes, each a chain of n / 16 multiply-adds: what rounding can do is n / 16 + 5 units of |u|'|r|. K
// vectors pass the basis together: 4 K accumulators.
template <int K>
void RotateTogether(MatrixView<const float> basis, std::int64_t count, MatrixView<const float> r,
                    MatrixView<float> out) {
  const Reals real;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  const std::int64_t n = basis.rows;
  const float *r0 = r.column(0), *r1 = r.column(K > 1 ? 1 : 0), *r2 = r.column(K > 2 ? 2 : 0),
              *r3 = r.column(K > 3 ? 3 : 0);
  for (std::int64_t c = 0; c < count; c += 4) {
    const auto column = [&](std::int64_t k) { return basis.column(std::min(c + k, count - 1)); };
    const float* const u0 = column(0);
    const float* const u1 = column(1);
    const float* const u2 = column(2);
    const float* const u3 = column(3);
    float sums[4][4] = {};
    // Where a vector has fewer than sixteen lanes, one part of them after the other.
    for (std::int64_t first = 0; first < 16; first += lanes) {
#define SHRINKWARP_CLEAR(k) \
  auto s0##k = hn::Zero(real), s1##k = hn::Zero(real), s2##k = hn::Zero(real), s3##k = hn::Zero(real);
#define SHRINKWARP_ADD(k)                        \
  if constexpr (k < K) {                         \
    const auto value = hn::Load(real, r##k + i); \
    s0##k = hn::MulAdd(a0, value, s0##k);        \
    s1##k = hn::MulAdd(a1, value, s1##k);        \
    s2##k = hn::MulAdd(a2, value, s2##k);        \
    s3##k = hn::MulAdd(a3, value, s3##k);        \
  }
#define SHRINKWARP_REDUCE(k)                                    \
  if constexpr (k < K) {                                        \
    float part[4];                                              \
    SumsOfLanes(real, s0##k, s1##k, s2##k, s3##k, part);        \
    for (std::int64_t i = 0; i < 4; ++i) sums[k][i] += part[i]; \
  }
      SHRINKWARP_CLEAR(0)
      SHRINKWARP_CLEAR(1) SHRINKWARP_CLEAR(2) SHRINKWARP_CLEAR(3) for (std::int64_t i = first; i < n; i += 16) {
        const auto a0 = hn::Load(real, u0 + i), a1 = hn::Load(real, u1 + i), a2 = hn::Load(real, u2 + i),
                   a3 = hn::Load(real, u3 + i);
        SHRINKWARP_ADD(0) SHRINKWARP_ADD(1) SHRINKWARP_ADD(2) SHRINKWARP_ADD(3)
      }
      SHRINKWARP_REDUCE(0) SHRINKWARP_REDUCE(1) SHRINKWARP_REDUCE(2) SHRINKWARP_REDUCE(3)
#undef SHRINKWARP_CLEAR
#undef SHRINKWARP_ADD
#undef SHRINKWARP_REDUCE
    }
    for (std::int64_t k = 0; k < K; ++k)
      for (std::int64_t i = 0; i < std::min<std::int64_t>(4, count - c); ++i) out(c + i, k) = sums[k][i];
  }
}

void Rotate(MatrixView<const float> basis, std::int64_t count, MatrixView<const float> r, MatrixView<float> out) {
  if constexpr (kPairColumns < 8) {  // sixteen registers: two vectors at a time
    for (std::int64_t k = 0; k < r.cols; k += 2) {
      const std::int64_t together = std::min<std::int64_t>(2, r.cols - k);
      const auto rotate = together == 2 ? RotateTogether<2> : RotateTogether<1>;
      rotate(basis, count, r.columns(k, together), out.columns(k, together));
    }
  } else {
    const auto rotate = r.cols == 1   ? RotateTogether<1>
                        : r.cols == 2 ? RotateTogether<2>
                        : r.cols == 3 ? RotateTogether<3>
                                      : RotateTogether<4>;
    rotate(basis, count, r, out);
  }
}

QuantizedVector Quantize(const QuantizeTask& task) {
  const Reals real;
  const Sums integer;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  // Sums of squares in float as long as they are right to a ten-thousandth, those in double.
  constexpr std::int64_t kChain = 4096;
  auto most = hn::Zero(real);
  double squares = 0;
  for (std::int64_t first = 0; first < task.size; first += kChain) {
    auto energy = hn::Zero(real);
    for (std::int64_t i = first; i < std::min(task.size, first + kChain); i += lanes) {
      const auto value = hn::LoadU(real, task.v + i);
      most = hn::Max(most, hn::Abs(value));
      energy = hn::MulAdd(value, value, energy);
    }
    squares += static_cast<double>(hn::GetLane(hn::SumOfLanes(real, energy)));
  }
  QuantizedVector result;
  result.norm = std::sqrt(squares);
  const double largest = static_cast<double>(hn::GetLane(hn::MaxOfLanes(real, most)));
  // The squares are far from a thousandth off, for which the limit has room. In a unit that is no smaller than the least,
  // what they lose under float's range is nothing.
  constexpr double kLeastUnit = 1e-12;
  const double room = task.norm_limit * 0.999 - 0.5 * std::sqrt(static_cast<double>(task.size)) - 1;
  result.unit = static_cast<float>(std::max({result.norm / room, largest / task.largest, kLeastUnit}) * (1 + 1e-6));
  const auto scale = hn::Set(real, 1 / result.unit), back = hn::Set(real, -result.unit);
  double lost_squares = 0;
  auto* const q = reinterpret_cast<std::int32_t*>(task.scratch);
  for (std::int64_t first = 0; first < task.size; first += kChain) {
    auto lost = hn::Zero(real);
    for (std::int64_t i = first; i < std::min(task.size, first + kChain); i += lanes) {
      const auto value = hn::LoadU(real, task.v + i);
      const auto rounded = hn::NearestInt(hn::Mul(value, scale));
      hn::StoreU(rounded, integer, q + i);
      const auto difference = hn::MulAdd(hn::ConvertTo(real, rounded), back, value);
      lost = hn::MulAdd(difference, difference, lost);
    }
    lost_squares += static_cast<double>(hn::GetLane(hn::SumOfLanes(real, lost)));
  }
  // The differences themselves are rounded to units of their vector's entries.
  result.rounding = std::sqrt(lost_squares) * 1.001 + 6e-8 * result.norm;
  const std::int64_t pairs = (task.size + 1) / 2;
  for (std::int64_t i = 0; i < pairs; ++i) {
    const auto low = static_cast<std::uint32_t>(q[2 * i]) & 0xffffU;
    const auto high = static_cast<std::uint32_t>(q[2 * i + 1]) << 16U;
    task.pairs[i] = static_cast<std::int32_t>(low | high);
  }
  return result;
}

}  // namespace

BoundedCorrelationKernels BoundedCorrelationKernelsI16() {
  return {static_cast<std::int64_t>(hn::Lanes(Sums())),
          kPairColumns,
          RunBoundedCorrelation,
          FindOpenAtoms,
          Quantize,
          NthLargest,
          Rotate};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
