// How learning rates fall over a training.
#pragma once

namespace shrinkwarp {

enum class RateSchedule {
  cosine,  ///< from the rate to 0 along half a cosine
  constant,
  steps,  ///< a tenth of it after half of the steps and a hundredth after three quarters
};

/// @param first  rate  @param progress  in [0, 1), the share of all steps that has been taken
double rate_at(RateSchedule schedule, double first, double progress);

}  // namespace shrinkwarp
