// The product of 16-bit integers with its epilogue. Included once for each instruction set by bounded_correlation.cpp.

// Once, whatever the instruction set: what bounded_correlation.cpp hands over.
#ifndef SHRINKWARP_KERNELS_BOUNDED_CORRELATION_TASKS
#define SHRINKWARP_KERNELS_BOUNDED_CORRELATION_TASKS

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>

namespace shrinkwarp::cpu {

/// The most vectors of a panel, and the most columns of a microkernel, in any instruction set.
constexpr std::int64_t kPairVectors = 3;

struct BoundedCorrelationTask {
  const QuantizedDictionary* dictionary;
  AtomBounds bounds;
  const QuantizedResiduals* residuals;
  MatrixView<float> C;
  MatrixView<float> highest;
};

struct OpenAtomsTask {
  AtomBounds bounds;
  const float* c;
  const float* tails;          // of the atoms at the residual's level
  float norm, rounding, tail;  // of the residual
  float threshold;
  std::int64_t first, last;  // atoms, whole vectors
};

/// A vector in multiples of `unit`.
struct QuantizeTask {
  const float* v;     // of a norm under 2; what is under 1e-12 of that may be rounded away
  std::int64_t size;  // the rest up to a whole vector of 16 is zero
  double norm_limit, largest;
  float* scratch;       // [size in whole vectors]
  std::int32_t* pairs;  // pair i goes to pairs[i * stride]
  std::int64_t stride;
};
struct QuantizedVector {
  float unit = 0;
  double rounding = 0;  // >= norm of what was rounded away
  double norm = 0;      // of v, to some units of float
};

/// What one instruction set offers.
struct BoundedCorrelationKernels {
  std::int64_t lanes;    // of a vector of 32 bits
  std::int64_t columns;  // of the microkernel: residuals are packed in groups of so many
  void (*run)(const BoundedCorrelationTask& task);
  std::int64_t (*open)(const OpenAtomsTask& task, std::int32_t* open);
  QuantizedVector (*quantize)(const QuantizeTask& task);
  /// out[i] = basis[:, i]' r for i < count; columns and r in whole vectors of 16.
  void (*rotate)(MatrixView<const float> basis, std::int64_t count, const float* r, float* out);
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
#define SHRINKWARP_CLEAR(c) Pairs sum0##c = hn::Zero(d), sum1##c = hn::Zero(d), sum2##c = hn::Zero(d);
#define SHRINKWARP_ADD(c)                                                       \
  if constexpr (c < kPairColumns) {                                             \
    const Pairs value = hn::Set(d, columns[c]);                                 \
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
// tile[(c W + w) lanes + lane] = sum over k of panel[(k W + w) lanes + lane] columns[k kPairColumns + c], over pairs.
#define SHRINKWARP_MULTIPLY                                                               \
  const Sums d;                                                                           \
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));                             \
  SHRINKWARP_COLUMNS(SHRINKWARP_CLEAR)                                                    \
  for (std::int64_t k = 0; k < pairs; ++k, panel += W * lanes, columns += kPairColumns) { \
    const Pairs a0 = hn::Load(d, panel);                                                  \
    Pairs a1 = a0, a2 = a0;                                                               \
    if constexpr (W > 1) a1 = hn::Load(d, panel + lanes);                                 \
    if constexpr (W > 2) a2 = hn::Load(d, panel + 2 * lanes);                             \
    SHRINKWARP_COLUMNS(SHRINKWARP_ADD)                                                    \
  }                                                                                       \
  SHRINKWARP_COLUMNS(SHRINKWARP_STORE)

#define SHRINKWARP_ADD_PRODUCTS AddProducts
template <int W>
HWY_NOINLINE void MultiplyPairs(const std::int32_t* HWY_RESTRICT panel, const std::int32_t* HWY_RESTRICT columns,
                                std::int64_t pairs, std::int32_t* HWY_RESTRICT tile) {
  SHRINKWARP_MULTIPLY
}
#undef SHRINKWARP_ADD_PRODUCTS

#if HWY_TARGET == HWY_AVX3
#define SHRINKWARP_ADD_PRODUCTS AddProductsFused
template <int W>
SHRINKWARP_VNNI HWY_NOINLINE void MultiplyPairsFused(const std::int32_t* HWY_RESTRICT panel,
                                                     const std::int32_t* HWY_RESTRICT columns, std::int64_t pairs,
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

using Multiply = void (*)(const std::int32_t*, const std::int32_t*, std::int64_t, std::int32_t*);

Multiply MultiplyFor(std::int64_t vectors) {
#if HWY_TARGET == HWY_AVX3
  static const bool fused = __builtin_cpu_supports("avx512vnni");
  if (fused) return vectors == 1 ? MultiplyPairsFused<1> : vectors == 2 ? MultiplyPairsFused<2> : MultiplyPairsFused<3>;
#endif
  return vectors == 1 ? MultiplyPairs<1> : vectors == 2 ? MultiplyPairs<2> : MultiplyPairs<3>;
}

/// For each panel, which stays in the first-level cache, the product with every group of residuals.
void RunBoundedCorrelation(const BoundedCorrelationTask& task) {
  const Sums d;
  const Reals real;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const QuantizedDictionary& D = *task.dictionary;
  const QuantizedResiduals& R = *task.residuals;
  const std::int64_t all_pairs = (D.rows() + 1) / 2;
  const std::int64_t count = task.C.cols;
  HWY_ALIGN std::int32_t tile[kPairVectors * hn::MaxLanes(d) * kPairColumns];

  for (std::int64_t first = 0; first < D.padded_atoms(); first += kPairVectors * lanes) {
    const std::int64_t vectors = std::min(kPairVectors, (D.padded_atoms() - first) / lanes);
    const Multiply multiply = MultiplyFor(vectors);
    const std::int64_t panel = first / (kPairVectors * lanes);
    const std::int32_t* const atoms = D.packed() + first * all_pairs;
    for (std::int64_t c = 0; c < count; c += kPairColumns) {
      const std::int64_t level = R.level(c);
      multiply(atoms, R.packed() + c * all_pairs, (D.level_rows(level) + 1) / 2, tile);
      const std::int64_t group = std::min<std::int64_t>(kPairColumns, count - c);
      for (std::int64_t g = 0; g < group; ++g) {
        const auto inverse_scale = hn::Set(real, R.inverse_scale(c + g));
        const auto norm = hn::Set(real, R.norm(c + g));
        const auto rounding = hn::Set(real, R.rounding(c + g));
        const auto tail = hn::Set(real, R.tail(c + g));
        const float* const tails = task.bounds.tail.column(level);
        float* const out = task.C.column(c + g) + first;
        auto most = hn::Zero(real);
        for (std::int64_t w = 0; w < vectors; ++w) {
          const std::int64_t j = first + w * lanes;
          const auto sum = hn::ConvertTo(real, hn::Load(d, tile + (g * vectors + w) * lanes));
          const auto value = hn::Mul(hn::Mul(sum, hn::Load(real, task.bounds.factor.data + j)), inverse_scale);
          hn::StoreU(value, real, out + w * lanes);
          const auto bound = hn::MulAdd(hn::Load(real, tails + j), tail,
                                        hn::MulAdd(hn::Load(real, task.bounds.rounding.data + j), norm,
                                                   hn::Mul(hn::Load(real, task.bounds.norm.data + j), rounding)));
          most = hn::Max(most, hn::Add(hn::Abs(value), bound));
        }
        task.highest(panel, c + g) = hn::GetLane(hn::MaxOfLanes(real, most));
      }
    }
  }
}

std::int64_t FindOpenAtoms(const OpenAtomsTask& task, std::int32_t* open) {
  const Reals real;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  const auto norm = hn::Set(real, task.norm), rounding = hn::Set(real, task.rounding), tail = hn::Set(real, task.tail),
             threshold = hn::Set(real, task.threshold);
  std::int64_t count = 0;
  for (std::int64_t j = task.first; j < task.last; j += lanes) {
    const auto bound = hn::MulAdd(hn::Load(real, task.tails + j), tail,
                                  hn::MulAdd(hn::Load(real, task.bounds.rounding.data + j), norm,
                                             hn::Mul(hn::Load(real, task.bounds.norm.data + j), rounding)));
    const auto over = hn::Gt(hn::Add(hn::Abs(hn::LoadU(real, task.c + j)), bound), threshold);
    std::uint8_t bytes[8] = {};
    hn::StoreMaskBits(real, over, bytes);
    std::uint32_t bits = static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8U;
    for (; bits != 0; bits &= bits - 1) open[count++] = static_cast<std::int32_t>(j + __builtin_ctz(bits));
  }
  return count;
}

// Sums in sixteen lanes, each a chain of n / 16 multiply-adds: what rounding can do is n / 16 + 5 units of |u|'|r|.
void Rotate(MatrixView<const float> basis, std::int64_t count, const float* HWY_RESTRICT r, float* HWY_RESTRICT out) {
  const Reals real;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(real));
  const std::int64_t n = basis.rows;
  for (std::int64_t c = 0; c < count; c += 4) {
    const auto column = [&](std::int64_t k) { return basis.column(std::min(c + k, count - 1)); };
    const float* const u0 = column(0);
    const float* const u1 = column(1);
    const float* const u2 = column(2);
    const float* const u3 = column(3);
    float sums[4] = {};
    if constexpr (2 * hn::MaxLanes(real) == 16) {
      auto s0 = hn::Zero(real), s1 = hn::Zero(real), s2 = hn::Zero(real), s3 = hn::Zero(real);
      auto t0 = hn::Zero(real), t1 = hn::Zero(real), t2 = hn::Zero(real), t3 = hn::Zero(real);
      for (std::int64_t i = 0; i < n; i += 16) {
        const auto s = hn::Load(real, r + i), t = hn::Load(real, r + i + lanes);
        s0 = hn::MulAdd(hn::Load(real, u0 + i), s, s0);
        t0 = hn::MulAdd(hn::Load(real, u0 + i + lanes), t, t0);
        s1 = hn::MulAdd(hn::Load(real, u1 + i), s, s1);
        t1 = hn::MulAdd(hn::Load(real, u1 + i + lanes), t, t1);
        s2 = hn::MulAdd(hn::Load(real, u2 + i), s, s2);
        t2 = hn::MulAdd(hn::Load(real, u2 + i + lanes), t, t2);
        s3 = hn::MulAdd(hn::Load(real, u3 + i), s, s3);
        t3 = hn::MulAdd(hn::Load(real, u3 + i + lanes), t, t3);
      }
      const auto total = [&real](auto s, auto t) {
        return hn::GetLane(hn::SumOfLanes(real, s)) + hn::GetLane(hn::SumOfLanes(real, t));
      };
      sums[0] = total(s0, t0), sums[1] = total(s1, t1), sums[2] = total(s2, t2), sums[3] = total(s3, t3);
    } else {
      for (std::int64_t first = 0; first < 16; first += lanes) {
        auto s0 = hn::Zero(real), s1 = hn::Zero(real), s2 = hn::Zero(real), s3 = hn::Zero(real);
        for (std::int64_t i = first; i < n; i += 16) {
          const auto value = hn::Load(real, r + i);
          s0 = hn::MulAdd(hn::Load(real, u0 + i), value, s0);
          s1 = hn::MulAdd(hn::Load(real, u1 + i), value, s1);
          s2 = hn::MulAdd(hn::Load(real, u2 + i), value, s2);
          s3 = hn::MulAdd(hn::Load(real, u3 + i), value, s3);
        }
        sums[0] += hn::GetLane(hn::SumOfLanes(real, s0));
        sums[1] += hn::GetLane(hn::SumOfLanes(real, s1));
        sums[2] += hn::GetLane(hn::SumOfLanes(real, s2));
        sums[3] += hn::GetLane(hn::SumOfLanes(real, s3));
      }
    }
    for (std::int64_t k = 0; k < std::min<std::int64_t>(4, count - c); ++k) out[c + k] = sums[k];
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
    task.pairs[i * task.stride] = static_cast<std::int32_t>(low | high);
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
          Rotate};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
