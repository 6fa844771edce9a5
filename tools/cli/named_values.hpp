// Option values that have names.
#pragma once

#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/models/train/rate_schedule.hpp>

namespace shrinkwarp::cli {

/// Of pairs of a name and a value.
template <class Pairs>
std::vector<std::string> names_of(const Pairs& pairs) {
  std::vector<std::string> names;
  for (const auto& pair : pairs) names.emplace_back(pair.first);
  return names;
}
/// The value of a name that one_of(names_of(pairs)) lets pass.
template <class Pairs>
auto value_named(const Pairs& pairs, const std::string& name) {
  for (const auto& pair : pairs)
    if (name == pair.first) return pair.second;
  return std::begin(pairs)->second;
}

inline constexpr std::pair<const char*, RateSchedule> kSchedules[] = {
    {"cosine", RateSchedule::cosine}, {"constant", RateSchedule::constant}, {"steps", RateSchedule::steps}};

}  // namespace shrinkwarp::cli
