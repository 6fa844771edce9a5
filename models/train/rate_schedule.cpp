#include <shrinkwarp/models/train/rate_schedule.hpp>

#include <cmath>

namespace shrinkwarp {

double rate_at(RateSchedule schedule, double first, double progress) {
  switch (schedule) {
    case RateSchedule::cosine:
      return first * (1 + std::cos(std::acos(-1.0) * progress)) / 2;
    case RateSchedule::steps:
      return first * (progress < 0.5 ? 1 : progress < 0.75 ? 0.1 : 0.01);
    case RateSchedule::constant:
      break;
  }
  return first;
}

}  // namespace shrinkwarp
