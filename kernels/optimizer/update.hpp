// Internal to optimizer: the formulas of one element and of the schedule, which both bodies share, so that they make the same
// bits. Every product that is added is a std::fma, so no compiler has anything left to contract.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// Elements whose squares are added together first.
inline constexpr std::int64_t kNormPiece = 4096;

inline constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kLargest = std::numeric_limits<double>::max();

/// advance_schedule; `squared_norm` may be null.
SHRINKWARP_HOST_DEVICE inline void advance(const double* rates, std::int64_t rate_count, const double* squared_norm,
                                           double limit, const AdamOptions& adam, double* schedule) {
  const double square = squared_norm == nullptr ? 0.0 : *squared_norm;
  const double norm = std::sqrt(square);
  schedule[Schedule::kNorm] = squared_norm == nullptr ? kNotANumber : norm;
  if (!(square <= kLargest)) {
    schedule[Schedule::kSkipped] += 1;
    schedule[Schedule::kFactor] = kNotANumber;
    return;
  }
  const double steps = schedule[Schedule::kSteps] + 1;
  const double of_rates = steps - schedule[Schedule::kOrigin];
  const auto last = static_cast<double>(rate_count);
  const double rate = rates[static_cast<std::int64_t>(of_rates < last ? of_rates : last) - 1];
  const double correction1 = std::fma(adam.beta1, schedule[Schedule::kCorrection1], 1 - adam.beta1);
  const double correction2 = std::fma(adam.beta2, schedule[Schedule::kCorrection2], 1 - adam.beta2);
  schedule[Schedule::kSteps] = steps;
  schedule[Schedule::kRate] = rate;
  schedule[Schedule::kFactor] = norm > limit ? limit / norm : 1.0;
  schedule[Schedule::kCorrection1] = correction1;
  schedule[Schedule::kCorrection2] = correction2;
  schedule[Schedule::kAdamRate] = rate / correction1;
  schedule[Schedule::kAdamScale] = 1 / std::sqrt(correction2);
}

/// Whether the update leaves everything as it is.
SHRINKWARP_HOST_DEVICE inline bool is_skipped(const double* schedule) {
  return schedule[Schedule::kFactor] != schedule[Schedule::kFactor];
}

/// What all elements of a step of SGD share.
template <class T>
struct SgdConstants {
  T factor, rate, momentum, weight_decay;
  bool nesterov;

  SHRINKWARP_HOST_DEVICE SgdConstants(const SgdOptions& options, const double* schedule)
      : factor(static_cast<T>(schedule[Schedule::kFactor])),
        rate(static_cast<T>(schedule[Schedule::kRate])),
        momentum(static_cast<T>(options.momentum)),
        weight_decay(static_cast<T>(options.weight_decay)),
        nesterov(options.nesterov) {}
};

/// sgd_step without momentum for a parameter p with gradient g.
template <class T>
SHRINKWARP_HOST_DEVICE inline void descend(const SgdConstants<T>& constants, T g, T& p) {
  p = std::fma(-constants.rate, std::fma(constants.weight_decay, p, constants.factor * g), p);
}

/// The same with momentum, v being the velocity.
template <class T>
SHRINKWARP_HOST_DEVICE inline void descend(const SgdConstants<T>& constants, T g, T& v, T& p) {
  const T direction = std::fma(constants.weight_decay, p, constants.factor * g);
  const T velocity = std::fma(constants.momentum, v, direction);
  const T ahead = std::fma(constants.momentum, velocity, direction);
  v = velocity;
  p = std::fma(-constants.rate, constants.nesterov ? ahead : velocity, p);
}

/// What all elements of a step of Adam share.
template <class T>
struct AdamConstants {
  T factor, rate, scale, decay, weight1, weight2, epsilon;

  SHRINKWARP_HOST_DEVICE AdamConstants(const AdamOptions& options, const double* schedule)
      : factor(static_cast<T>(schedule[Schedule::kFactor])),
        rate(static_cast<T>(schedule[Schedule::kAdamRate])),
        scale(static_cast<T>(schedule[Schedule::kAdamScale])),
        decay(static_cast<T>(schedule[Schedule::kRate] * options.weight_decay)),
        weight1(static_cast<T>(1 - options.beta1)),
        weight2(static_cast<T>(1 - options.beta2)),
        epsilon(static_cast<T>(options.epsilon)) {}
};

/// adam_step for a parameter p with gradient g, m and v being its averages.
template <class T>
SHRINKWARP_HOST_DEVICE inline void descend(const AdamConstants<T>& constants, T g, T& m, T& v, T& p) {
  const T clipped = constants.factor * g;
  const T first = std::fma(constants.weight1, std::fma(constants.factor, g, -m), m);
  const T second = std::fma(constants.weight2, std::fma(clipped, clipped, -v), v);
  const T size = std::fma(std::sqrt(second), constants.scale, constants.epsilon);
  m = first;
  v = second;
  p = std::fma(-constants.rate, first / size, std::fma(-constants.decay, p, p));
}

}  // namespace shrinkwarp
