// The Cholesky factorisation of Newton's steps. Included once for each instruction set by group_set.cpp.

// Once, whatever the instruction set: what group_set.cpp calls.
#ifndef SHRINKWARP_KERNELS_GROUP_SET_LOOPS
#define SHRINKWARP_KERNELS_GROUP_SET_LOOPS

#include <cstdint>

namespace shrinkwarp::cpu {

/// What one instruction set offers.
struct FactorLoops {
  /// A = L L' in its lower triangle; columns [ld, size], zeros below up to a multiple of 16 rows, aligned, size a multiple of
  /// 4. What is above the diagonal is of no meaning after it. @return false at a pivot that is not over 0
  bool (*factor)(double* A, std::int64_t ld, std::int64_t size);
  /// x <- (L L')^-1 x
  void (*solve)(const double* L, std::int64_t ld, std::int64_t size, double* x);
};

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_GROUP_SET_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_GROUP_SET_CPU_SIMD
#undef SHRINKWARP_KERNELS_GROUP_SET_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_GROUP_SET_CPU_SIMD
#endif

#include <cmath>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using FactorTag = hn::CappedTag<double, 8>;
constexpr std::int64_t kPanel = 4;

// A[rows from `first` on, 4 columns from `first` on] -= L[.., 0 .. first) L[4 rows from `first` on, 0 .. first)'. Rows go in
// whole blocks: the first may write above the diagonal, which nobody reads, the last below the matrix.
HWY_INLINE void UpdatePanel(double* A, std::int64_t ld, std::int64_t first, std::int64_t size) {
  const FactorTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  double* const out = A + first * ld;
  for (std::int64_t i = first / (2 * lanes) * (2 * lanes); i < size; i += 2 * lanes) {
    auto a0 = hn::Load(d, out + i), b0 = hn::Load(d, out + i + lanes);
    auto a1 = hn::Load(d, out + ld + i), b1 = hn::Load(d, out + ld + i + lanes);
    auto a2 = hn::Load(d, out + 2 * ld + i), b2 = hn::Load(d, out + 2 * ld + i + lanes);
    auto a3 = hn::Load(d, out + 3 * ld + i), b3 = hn::Load(d, out + 3 * ld + i + lanes);
    const double* column = A;
    for (std::int64_t k = 0; k < first; ++k, column += ld) {
      const auto a = hn::Load(d, column + i), b = hn::Load(d, column + i + lanes);
      const auto f0 = hn::Set(d, column[first]), f1 = hn::Set(d, column[first + 1]), f2 = hn::Set(d, column[first + 2]),
                 f3 = hn::Set(d, column[first + 3]);
      a0 = hn::NegMulAdd(a, f0, a0);
      b0 = hn::NegMulAdd(b, f0, b0);
      a1 = hn::NegMulAdd(a, f1, a1);
      b1 = hn::NegMulAdd(b, f1, b1);
      a2 = hn::NegMulAdd(a, f2, a2);
      b2 = hn::NegMulAdd(b, f2, b2);
      a3 = hn::NegMulAdd(a, f3, a3);
      b3 = hn::NegMulAdd(b, f3, b3);
    }
    hn::Store(a0, d, out + i);
    hn::Store(b0, d, out + i + lanes);
    hn::Store(a1, d, out + ld + i);
    hn::Store(b1, d, out + ld + i + lanes);
    hn::Store(a2, d, out + 2 * ld + i);
    hn::Store(b2, d, out + 2 * ld + i + lanes);
    hn::Store(a3, d, out + 3 * ld + i);
    hn::Store(b3, d, out + 3 * ld + i + lanes);
  }
}

// y[first, size) -= factor x[first, size)
HWY_INLINE void SubtractScaled(const double* HWY_RESTRICT x, double factor, std::int64_t first, std::int64_t size,
                               double* HWY_RESTRICT y) {
  const FactorTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor);
  std::int64_t i = first;
  for (; i + lanes <= size; i += lanes)
    hn::StoreU(hn::NegMulAdd(hn::LoadU(d, x + i), f, hn::LoadU(d, y + i)), d, y + i);
  for (; i < size; ++i) y[i] -= factor * x[i];
}

HWY_INLINE double DotFrom(const double* HWY_RESTRICT x, const double* HWY_RESTRICT y, std::int64_t first,
                          std::int64_t size) {
  const FactorTag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  std::int64_t i = first;
  for (; i + lanes <= size; i += lanes) sum = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum);
  double total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < size; ++i) total += x[i] * y[i];
  return total;
}

// Panels of four columns, each brought up to date by all columns to its left as it comes.
bool Factor(double* HWY_RESTRICT A, std::int64_t ld, std::int64_t size) {
  for (std::int64_t first = 0; first < size; first += kPanel) {
    UpdatePanel(A, ld, first, size);
    for (std::int64_t j = first; j < first + kPanel; ++j) {
      double* const column = A + j * ld;
      if (!(column[j] > 0)) return false;
      const double inverse = 1 / std::sqrt(column[j]);
      for (std::int64_t i = j; i < size; ++i) column[i] *= inverse;
      for (std::int64_t c = j + 1; c < first + kPanel; ++c) SubtractScaled(column, column[c], c, size, A + c * ld);
    }
  }
  return true;
}

void SolveFactored(const double* HWY_RESTRICT L, std::int64_t ld, std::int64_t size, double* HWY_RESTRICT x) {
  for (std::int64_t j = 0; j < size; ++j) {
    const double* const column = L + j * ld;
    x[j] /= column[j];
    SubtractScaled(column, x[j], j + 1, size, x);
  }
  for (std::int64_t j = size - 1; j >= 0; --j) {
    const double* const column = L + j * ld;
    x[j] = (x[j] - DotFrom(column, x, j + 1, size)) / column[j];
  }
}

}  // namespace

FactorLoops FactorLoopsOf() {
  return {Factor, SolveFactored};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
