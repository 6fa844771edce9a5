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

/// tanh(z) for 0 <= z <= 20.
template <class D>
HWY_INLINE hn::Vec<D> TanhWithin(D d, hn::Vec<D> z) {
  return hn::Tanh(d, z);
}

/// The same in float, in a third of the time of Highway's: an odd polynomial up to 5/8 and 1 - 2 / (exp(2 z) + 1) beyond, with
/// the coefficients of Moshier's Cephes (tanhf, expf). Within 1.4 ulp, every 37th number tried.
HWY_INLINE hn::Vec<hn::CappedTag<float, 64>> TanhWithin(hn::CappedTag<float, 64> d,
                                                        hn::Vec<hn::CappedTag<float, 64>> z) {
  const hn::RebindToSigned<decltype(d)> di;
  const auto set = [d](double value) HWY_ATTR { return hn::Set(d, static_cast<float>(value)); };
  const auto square = hn::Mul(z, z);
  auto small = hn::MulAdd(set(-5.70498872745e-3), square, set(2.06390887954e-2));
  small = hn::MulAdd(small, square, set(-5.37397155531e-2));
  small = hn::MulAdd(small, square, set(1.33314422036e-1));
  small = hn::MulAdd(small, square, set(-3.33332819422e-1));
  small = hn::MulAdd(hn::Mul(small, square), z, z);
  // exp(2 z) = 2^n exp(r), |r| <= log(2) / 2
  const auto twice = hn::Add(z, z);
  const auto n = hn::Round(hn::Mul(twice, set(1.44269504088896341)));
  const auto r = hn::NegMulAdd(n, set(-2.12194440e-4), hn::NegMulAdd(n, set(0.693359375), twice));
  auto exp = hn::MulAdd(set(1.9875691500e-4), r, set(1.3981999507e-3));
  exp = hn::MulAdd(exp, r, set(8.3334519073e-3));
  exp = hn::MulAdd(exp, r, set(4.1665795894e-2));
  exp = hn::MulAdd(exp, r, set(1.6666665459e-1));
  exp = hn::MulAdd(exp, r, set(5.0000001201e-1));
  exp = hn::Add(hn::MulAdd(exp, hn::Mul(r, r), r), set(1));
  const auto power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127))));
  const auto large = hn::Sub(set(1), hn::Div(set(2), hn::MulAdd(exp, power, set(1))));
  return hn::IfThenElse(hn::Lt(z, set(0.625)), small, large);
}

/// tanh of a vector of any numbers: infinity gives 1, NaN stays.
template <class D, class V>
HWY_INLINE V TanhOf(D d, V u) {
  // Exponents of 2 are integers: they get no number that is none, and none too large.
  const V most = hn::Set(d, 20);
  const V magnitude = hn::Abs(u);
  const V within = hn::IfThenElse(hn::Lt(magnitude, most), magnitude, most);
  const V result = hn::CopySign(TanhWithin(d, within), u);
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
