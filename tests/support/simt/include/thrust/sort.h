// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "detail.hpp"

namespace thrust {

/// Stable, as the real one is for keys that are numbers.
template <class Keys, class Values, class Less>
void sort_by_key(const Policy& policy, Keys first, Keys last, Values values, Less less) {
  simt_detail::run(policy, [=] {
    const std::ptrdiff_t count = last - first;
    std::vector<std::ptrdiff_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), std::ptrdiff_t(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](std::ptrdiff_t a, std::ptrdiff_t b) { return less(first[a], first[b]); });
    std::vector<simt_detail::value_of<Keys>> sorted_keys;
    std::vector<simt_detail::value_of<Values>> sorted_values;
    for (const std::ptrdiff_t i : order) {
      sorted_keys.push_back(first[i]);
      sorted_values.push_back(values[i]);
    }
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      first[i] = sorted_keys[static_cast<std::size_t>(i)];
      values[i] = sorted_values[static_cast<std::size_t>(i)];
    }
  });
}

template <class Keys, class Values>
void sort_by_key(const Policy& policy, Keys first, Keys last, Values values) {
  sort_by_key(policy, first, last, values, std::less<simt_detail::value_of<Keys>>());
}

}  // namespace thrust
