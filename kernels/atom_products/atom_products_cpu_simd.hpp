// Included once for each instruction set by atom_products.cpp.

// Once, whatever the instruction set: what atom_products.cpp calls.
#ifndef SHRINKWARP_KERNELS_ATOM_PRODUCTS_LOOPS
#define SHRINKWARP_KERNELS_ATOM_PRODUCTS_LOOPS

#include <cstdint>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::cpu {

/// Vectors of all_of_four.
constexpr std::int64_t kTogether = 4;

/// What one instruction set offers; see atom_products.hpp.
struct AtomProductLoops {
  void (*subtract)(MatrixView<const double> D, const std::int32_t* atoms, const double* values, std::int64_t count,
                   const double* x, double* r);
  void (*correlate)(MatrixView<const double> D, const std::int32_t* atoms, std::int64_t count, const double* r,
                    double* result);
  void (*correlate_float)(MatrixView<const float> D, const std::int32_t* atoms, std::int64_t count, const float* r,
                          float* result);
  void (*all)(MatrixView<const double> transposed, const double* r, double* result);
  void (*all_of_four)(MatrixView<const double> transposed, const double* const* r, MatrixView<double> result);
  double (*dot)(const double* x, const double* y, std::int64_t n);
  double (*largest_magnitude)(const double* x, std::int64_t size);
};

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_ATOM_PRODUCTS_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_ATOM_PRODUCTS_CPU_SIMD
#undef SHRINKWARP_KERNELS_ATOM_PRODUCTS_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_ATOM_PRODUCTS_CPU_SIMD
#endif

#include <algorithm>
#include <cmath>

#include <hwy/highway.h>

#include <shrinkwarp/kernels/common/lane_sums_cpu_simd.hpp>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Sums run in sixteen interleaved lanes that are added in a fixed order: the same whatever the vector width.
using Doubles = hn::CappedTag<double, 8>;
constexpr std::int64_t kSumLanes = 16;

double AddLanes(const double* lane) {
  double sum[kSumLanes / 2];
  for (std::int64_t k = 0; k < 8; ++k) sum[k] = lane[k] + lane[k + 8];
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

#if HWY_TARGET <= HWY_AVX3  // two vectors have all of the lanes
/// AddLanes of the lanes of two vectors.
HWY_INLINE double AddVectors(hn::Vec<Doubles> low, hn::Vec<Doubles> high) {
  const hn::Half<Doubles> half;
  const hn::Half<decltype(half)> quarter;
  const auto eight = hn::Add(low, high);
  const auto four = hn::Add(hn::LowerHalf(half, eight), hn::UpperHalf(half, eight));
  const auto two = hn::Add(hn::LowerHalf(quarter, four), hn::UpperHalf(quarter, four));
  return hn::GetLane(two) + hn::ExtractLane(two, 1);
}

/// The sums of Dot for four atoms side by side: one chain waits for the other no more.
HWY_INLINE void DotOfFour(MatrixView<const double> D, const std::int32_t* HWY_RESTRICT atoms,
                          const double* HWY_RESTRICT r, double* HWY_RESTRICT result) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const double* HWY_RESTRICT const d0 = D.column(atoms[0]);
  const double* HWY_RESTRICT const d1 = D.column(atoms[1]);
  const double* HWY_RESTRICT const d2 = D.column(atoms[2]);
  const double* HWY_RESTRICT const d3 = D.column(atoms[3]);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  auto t0 = hn::Zero(d), t1 = hn::Zero(d), t2 = hn::Zero(d), t3 = hn::Zero(d);
  for (std::int64_t i = 0; i < D.rows; i += kSumLanes) {
    const auto s = hn::LoadU(d, r + i), t = hn::LoadU(d, r + i + lanes);
    s0 = hn::MulAdd(hn::LoadU(d, d0 + i), s, s0);
    s1 = hn::MulAdd(hn::LoadU(d, d1 + i), s, s1);
    s2 = hn::MulAdd(hn::LoadU(d, d2 + i), s, s2);
    s3 = hn::MulAdd(hn::LoadU(d, d3 + i), s, s3);
    t0 = hn::MulAdd(hn::LoadU(d, d0 + i + lanes), t, t0);
    t1 = hn::MulAdd(hn::LoadU(d, d1 + i + lanes), t, t1);
    t2 = hn::MulAdd(hn::LoadU(d, d2 + i + lanes), t, t2);
    t3 = hn::MulAdd(hn::LoadU(d, d3 + i + lanes), t, t3);
  }
  result[0] = AddVectors(s0, t0);
  result[1] = AddVectors(s1, t1);
  result[2] = AddVectors(s2, t2);
  result[3] = AddVectors(s3, t3);
}
#endif

}  // namespace

double Dot(const double* HWY_RESTRICT x, const double* HWY_RESTRICT y, std::int64_t n) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN double sums[kSumLanes] = {};
  if constexpr (4 * hn::MaxLanes(d) <= kSumLanes) {
    for (std::int64_t first = 0; first < kSumLanes; first += 4 * lanes) {
      auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
      for (std::int64_t i = first; i < n; i += kSumLanes) {
        sum0 = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum0);
        sum1 = hn::MulAdd(hn::LoadU(d, x + i + lanes), hn::LoadU(d, y + i + lanes), sum1);
        sum2 = hn::MulAdd(hn::LoadU(d, x + i + 2 * lanes), hn::LoadU(d, y + i + 2 * lanes), sum2);
        sum3 = hn::MulAdd(hn::LoadU(d, x + i + 3 * lanes), hn::LoadU(d, y + i + 3 * lanes), sum3);
      }
      hn::Store(sum0, d, sums + first);
      hn::Store(sum1, d, sums + first + lanes);
      hn::Store(sum2, d, sums + first + 2 * lanes);
      hn::Store(sum3, d, sums + first + 3 * lanes);
    }
  } else {
    auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
    for (std::int64_t i = 0; i < n; i += kSumLanes) {
      sum0 = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum0);
      sum1 = hn::MulAdd(hn::LoadU(d, x + i + lanes), hn::LoadU(d, y + i + lanes), sum1);
    }
    hn::Store(sum0, d, sums);
    hn::Store(sum1, d, sums + lanes);
  }
  return AddLanes(sums);
}

void SubtractAtoms(MatrixView<const double> D, const std::int32_t* HWY_RESTRICT atoms,
                   const double* HWY_RESTRICT values, std::int64_t count, const double* x, double* r) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t n = D.rows;
  if (x != r)
    for (std::int64_t i = 0; i < n; i += lanes) hn::StoreU(hn::LoadU(d, x + i), d, r + i);
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    const double* const d0 = D.column(atoms[k]);
    const double* const d1 = D.column(atoms[k + 1]);
    const double* const d2 = D.column(atoms[k + 2]);
    const double* const d3 = D.column(atoms[k + 3]);
    const auto z0 = hn::Set(d, values[k]), z1 = hn::Set(d, values[k + 1]), z2 = hn::Set(d, values[k + 2]),
               z3 = hn::Set(d, values[k + 3]);
    for (std::int64_t i = 0; i < n; i += lanes) {
      auto sum = hn::NegMulAdd(hn::LoadU(d, d0 + i), z0, hn::LoadU(d, r + i));
      sum = hn::NegMulAdd(hn::LoadU(d, d1 + i), z1, sum);
      sum = hn::NegMulAdd(hn::LoadU(d, d2 + i), z2, sum);
      hn::StoreU(hn::NegMulAdd(hn::LoadU(d, d3 + i), z3, sum), d, r + i);
    }
  }
  for (; k < count; ++k) {
    const double* const d0 = D.column(atoms[k]);
    const auto z0 = hn::Set(d, values[k]);
    for (std::int64_t i = 0; i < n; i += lanes)
      hn::StoreU(hn::NegMulAdd(hn::LoadU(d, d0 + i), z0, hn::LoadU(d, r + i)), d, r + i);
  }
}

void CorrelateAtoms(MatrixView<const double> D, const std::int32_t* HWY_RESTRICT atoms, std::int64_t count,
                    const double* HWY_RESTRICT r, double* HWY_RESTRICT result) {
  std::int64_t k = 0;
#if HWY_TARGET <= HWY_AVX3
  for (; k + 4 <= count; k += 4) DotOfFour(D, atoms + k, r, result + k);
#endif
  for (; k < count; ++k) result[k] = Dot(D.column(atoms[k]), r, D.rows);
}

// Sums in sixteen lanes.
void CorrelateAtomsF32(MatrixView<const float> D, const std::int32_t* HWY_RESTRICT atoms, std::int64_t count,
                       const float* HWY_RESTRICT r, float* HWY_RESTRICT result) {
  const hn::CappedTag<float, 16> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t n = D.rows;
  for (std::int64_t k = 0; k < count; k += 4) {
    const auto column = [&](std::int64_t i) { return D.column(atoms[std::min(k + i, count - 1)]); };
    const float* const d0 = column(0);
    const float* const d1 = column(1);
    const float* const d2 = column(2);
    const float* const d3 = column(3);
    float sums[4] = {};
    for (std::int64_t first = 0; first < 16; first += lanes) {
      auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
      for (std::int64_t i = first; i < n; i += 16) {
        const auto value = hn::LoadU(d, r + i);
        s0 = hn::MulAdd(hn::LoadU(d, d0 + i), value, s0);
        s1 = hn::MulAdd(hn::LoadU(d, d1 + i), value, s1);
        s2 = hn::MulAdd(hn::LoadU(d, d2 + i), value, s2);
        s3 = hn::MulAdd(hn::LoadU(d, d3 + i), value, s3);
      }
      float part[4];
      SumsOfLanes(d, s0, s1, s2, s3, part);
      for (std::int64_t i = 0; i < 4; ++i) sums[i] += part[i];
    }
    for (std::int64_t i = 0; i < std::min<std::int64_t>(4, count - k); ++i) result[k + i] = sums[i];
  }
}

// An atom is a lane: its sum is one chain over the rows.
void CorrelateAll(MatrixView<const double> transposed, const double* HWY_RESTRICT r, double* HWY_RESTRICT result) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + 4 * lanes <= transposed.rows; j += 4 * lanes) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
    const double* row = transposed.data + j;
    for (std::int64_t i = 0; i < transposed.cols; ++i, row += transposed.ld) {
      const auto value = hn::Set(d, r[i]);
      s0 = hn::MulAdd(hn::LoadU(d, row), value, s0);
      s1 = hn::MulAdd(hn::LoadU(d, row + lanes), value, s1);
      s2 = hn::MulAdd(hn::LoadU(d, row + 2 * lanes), value, s2);
      s3 = hn::MulAdd(hn::LoadU(d, row + 3 * lanes), value, s3);
    }
    hn::StoreU(s0, d, result + j);
    hn::StoreU(s1, d, result + j + lanes);
    hn::StoreU(s2, d, result + j + 2 * lanes);
    hn::StoreU(s3, d, result + j + 3 * lanes);
  }
  for (; j < transposed.rows; j += lanes) {
    auto sum = hn::Zero(d);
    const double* row = transposed.data + j;
    for (std::int64_t i = 0; i < transposed.cols; ++i, row += transposed.ld)
      sum = hn::MulAdd(hn::LoadU(d, row), hn::Set(d, r[i]), sum);
    hn::StoreU(sum, d, result + j);
  }
}

// The chains of CorrelateAll for four vectors: an element of the dictionary is read once for all of them.
void CorrelateAllOfFour(MatrixView<const double> transposed, const double* const* r, MatrixView<double> result) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const double* const HWY_RESTRICT r0 = r[0];
  const double* const HWY_RESTRICT r1 = r[1];
  const double* const HWY_RESTRICT r2 = r[2];
  const double* const HWY_RESTRICT r3 = r[3];
  // Rows are padded to kAtomPadding, two vectors or more.
  for (std::int64_t j = 0; j < transposed.rows; j += 2 * lanes) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
    auto t0 = hn::Zero(d), t1 = hn::Zero(d), t2 = hn::Zero(d), t3 = hn::Zero(d);
    const double* row = transposed.data + j;
    for (std::int64_t i = 0; i < transposed.cols; ++i, row += transposed.ld) {
      const auto s = hn::LoadU(d, row), t = hn::LoadU(d, row + lanes);
      auto value = hn::Set(d, r0[i]);
      s0 = hn::MulAdd(s, value, s0);
      t0 = hn::MulAdd(t, value, t0);
      value = hn::Set(d, r1[i]);
      s1 = hn::MulAdd(s, value, s1);
      t1 = hn::MulAdd(t, value, t1);
      value = hn::Set(d, r2[i]);
      s2 = hn::MulAdd(s, value, s2);
      t2 = hn::MulAdd(t, value, t2);
      value = hn::Set(d, r3[i]);
      s3 = hn::MulAdd(s, value, s3);
      t3 = hn::MulAdd(t, value, t3);
    }
    const auto store = [&](std::int64_t column, decltype(s0) s, decltype(s0) t) {
      hn::StoreU(s, d, result.column(column) + j);
      hn::StoreU(t, d, result.column(column) + j + lanes);
    };
    store(0, s0, t0);
    store(1, s1, t1);
    store(2, s2, t2);
    store(3, s3, t3);
  }
}

double LargestMagnitude(const double* HWY_RESTRICT x, std::int64_t size) {
  const Doubles d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto larger = [&d](auto most, auto value) {
    const auto magnitude = hn::Abs(value);
    return hn::IfThenElse(hn::Gt(magnitude, most), magnitude, most);
  };
  auto most0 = hn::Zero(d), most1 = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + 2 * lanes <= size; i += 2 * lanes) {
    most0 = larger(most0, hn::LoadU(d, x + i));
    most1 = larger(most1, hn::LoadU(d, x + i + lanes));
  }
  double most = hn::GetLane(hn::MaxOfLanes(d, hn::Max(most0, most1)));
  for (; i < size; ++i) most = std::fabs(x[i]) > most ? std::fabs(x[i]) : most;
  return most;
}

AtomProductLoops LoopsOfAtomProducts() {
  return {SubtractAtoms, CorrelateAtoms, CorrelateAtomsF32, CorrelateAll, CorrelateAllOfFour, Dot, LargestMagnitude};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
