// Schedules of learning rates by name: in options, in Python.
#pragma once

#include <utility>

#include <shrinkwarp/models/train/rate_schedule.hpp>
#include <shrinkwarp/runtime/named_values.hpp>

namespace shrinkwarp {

inline constexpr std::pair<const char*, RateSchedule> kSchedules[] = {
    {"cosine", RateSchedule::cosine}, {"constant", RateSchedule::constant}, {"steps", RateSchedule::steps}};

}  // namespace shrinkwarp
