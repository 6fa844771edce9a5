// y = tanh(u) for Highway: included once for each instruction set by linear_cpu.cpp.

// Once, whatever the instruction set: what linear_cpu.cpp calls.
#ifndef SHRINKWARP_KERNELS_LINEAR_TANH_CPU_LOOPS
#define SHRINKWARP_KERNELS_LINEAR_TANH_CPU_LOOPS

#include <algorithm>
#include <cstdint>

namespace shrinkwarp::cpu {

/// y[i] = tanh(u[i]); y may be u.
template <class T>
using TanhLoop = void (*)(const T* u, T* y, std::int64_t size);

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_LINEAR_TANH_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_LINEAR_TANH_CPU_SIMD
#undef SHRINKWARP_KERNELS_LINEAR_TANH_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_LINEAR_TANH_CPU_SIMD
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// tanh of a vector of any numbers: infinity gives 1, NaN stays.
template <class D, class V>
HWY_INLINE V TanhOf(D d, V u) {
  // The series' exponents are integers: they get no number that is none, and none too large.
  const V most = hn::Set(d, 20);
  const V magnitude = hn::Abs(u);
  const V within = hn::IfThenElse(hn::Lt(magnitude, most), magnitude, most);
  const V result = hn::CopySign(hn::Tanh(d, within), u);
  return hn::IfThenElse(hn::Eq(u, u), result, u);
}

template <class T>
void Tanh(const T* u, T* y, std::int64_t size) {
  const hn::CappedTag<T, 64> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) hn::StoreU(TanhOf(d, hn::LoadU(d, u + i)), d, y + i);
  if (i == size) return;
  HWY_ALIGN T rest[hn::MaxLanes(d)] = {};
  std::copy(u + i, u + size, rest);
  hn::Store(TanhOf(d, hn::Load(d, rest)), d, rest);
  std::copy_n(rest, size - i, y + i);
}

}  // namespace

// Highway exports plain functions.
TanhLoop<float> TanhF32() {
  return Tanh<float>;
}
TanhLoop<double> TanhF64() {
  return Tanh<double>;
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
