// What both CUDA paths of the step networks read of a layer: its step, its threshold, and how they refuse a step.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/step_network/step_network.hpp>

namespace shrinkwarp::cuda {

template <class T>
inline constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();

template <class T>
__device__ __forceinline__ bool is_step(T step) {
  return step > T(0) && std::isfinite(step);
}

/// Steps and thresholds on the device.
template <class T>
struct Layers {
  const T* steps;       // [count]
  const T* thresholds;  // [count], or null for the steps
  std::int64_t count;

  /// NaN where it is none, which no entry of a code survives.
  __device__ __forceinline__ T step(std::int64_t t) const { return is_step(steps[t]) ? steps[t] : kNaN<T>; }
  /// What lambda is multiplied with.
  __device__ __forceinline__ T threshold(std::int64_t t) const {
    if (thresholds == nullptr) return step(t);
    return thresholds[t] < T(0) ? T(0) : thresholds[t];
  }
};

template <class T>
Layers<T> layers_of(const StepNetwork<T>& network) {
  return {network.steps.data, network.thresholds.empty() ? nullptr : network.thresholds.data, network.steps.size};
}

/// Columns of the sums that a loss is the means of: d steps [layers], d thresholds [layers], F.
inline std::int64_t sums_of(std::int64_t layers) {
  return 2 * layers + 1;
}

}  // namespace shrinkwarp::cuda
