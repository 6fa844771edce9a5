// What host and device share of momentum residual layers beside exact_arithmetic.hpp: an element of each operation.
#pragma once

#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/momentum_residual/momentum_residual.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// Of f, in a layer's step of v.
SHRINKWARP_HOST_DEVICE inline double share_of(const MomentumGamma& gamma, MomentumForm form) {
  return form == MomentumForm::damped ? 1 - gamma.value : 1;
}

/// A branch's values as kernels take them.
template <class T>
struct BranchPointers {
  const T* values;
  const T* bias;  // or nullptr
  std::int64_t features;
  bool whole;

  explicit BranchPointers(const BranchValues<T>& branch)
      : values(branch.values.data),
        bias(branch.bias.empty() ? nullptr : branch.bias.data),
        features(branch.bias.empty() ? 1 : branch.bias.size),
        whole(branch.whole) {}

  /// f of element i, which is of row i mod features. @param x  of that element; read where whole
  SHRINKWARP_HOST_DEVICE T f(std::int64_t i, std::int64_t row, T x) const {
    const T sum = bias != nullptr ? values[i] + bias[row] : values[i];
    return whole ? sum - x : sum;
  }
};

template <class T>
SHRINKWARP_HOST_DEVICE inline void step_forward(T gamma, T share, T f, T& x, T& v) {
  v = std::fma(gamma, v, share * f);
  x += v;
}
template <class T>
SHRINKWARP_HOST_DEVICE inline T velocity_before(T gamma, T share, T f, T v) {
  return std::fma(-share, f, v) / gamma;
}
/// @param f, x, v  before the layer  @return what the element adds to dgamma
template <class T>
SHRINKWARP_HOST_DEVICE inline double step_adjoint(T gamma, T share, bool damped, bool whole, T f, T v, T& dx, T& dv,
                                                  T& dbranch) {
  const T c = dx + dv;
  const T h = share * c;
  dbranch = h;
  dv = gamma * c;
  if (whole) dx = std::fma(-share, c, dx);
  return static_cast<double>(c) * static_cast<double>(damped ? v - f : v);
}

/// Whether descent would move a learned gamma that is held further out of its range.
SHRINKWARP_HOST_DEVICE inline bool is_held_against(const MomentumGamma& gamma, double dgamma) {
  return (gamma.held < 0 && dgamma > 0) || (gamma.held > 0 && dgamma < 0);
}

/// One learned gamma as layers use it.
SHRINKWARP_HOST_DEVICE inline MomentumGamma prepared_gamma(double learned, const GammaRange& range) {
  const bool low = !(learned > range.low), high = learned >= range.high;
  const double value = low ? range.low : high ? range.high : learned;
  MomentumGamma gamma;
  if (range.exact)
    gamma = exact_gamma(value);
  else
    gamma.value = value;
  gamma.held = low ? -1 : high ? 1 : 0;
  return gamma;
}

}  // namespace shrinkwarp
