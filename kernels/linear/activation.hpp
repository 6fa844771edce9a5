// The formulas of one element of an activation, for host and device.
#pragma once

#include <cmath>

#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

template <class T>
SHRINKWARP_HOST_DEVICE inline T gelu(T u) {
  return T(0.5) * u * (T(1) + std::erf(u * T(0.70710678118654752440)));
}

/// d gelu / du = Phi(u) + u phi(u)
template <class T>
SHRINKWARP_HOST_DEVICE inline T gelu_slope(T u) {
  const T density = T(0.39894228040143267794) * std::exp(T(-0.5) * u * u);
  return std::fma(u, density, T(0.5) * (T(1) + std::erf(u * T(0.70710678118654752440))));
}

template <Activation activation, class T>
SHRINKWARP_HOST_DEVICE inline T activate(T u) {
  if constexpr (activation == Activation::relu) return relu(u);
  if constexpr (activation == Activation::gelu) return gelu(u);
  if constexpr (activation == Activation::tanh) return std::tanh(u);
  return u;
}

/// dY act'(u): `value` is u for gelu, act(u) for relu and tanh.
template <Activation activation, class T>
SHRINKWARP_HOST_DEVICE inline T activation_gradient(T value, T dy) {
  if constexpr (activation == Activation::relu) return relu_slope(value, dy);
  if constexpr (activation == Activation::gelu) return dy * gelu_slope(value);
  if constexpr (activation == Activation::tanh) return dy * (T(1) - value * value);
  return dy;
}

}  // namespace shrinkwarp
