// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include "detail.hpp"

namespace thrust {

template <class In, class Out, class T>
Out exclusive_scan(const Policy& policy, In first, In last, Out out, T initial) {
  const auto count = last - first;
  simt_detail::run(policy, [=] {
    T sum = initial;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      const T value = static_cast<T>(first[i]);
      out[i] = sum;
      sum = static_cast<T>(sum + value);
    }
  });
  return out + count;
}

template <class In, class Out>
Out exclusive_scan(const Policy& policy, In first, In last, Out out) {
  return exclusive_scan(policy, first, last, out, simt_detail::value_of<In>{});
}

template <class In, class Out>
Out inclusive_scan(const Policy& policy, In first, In last, Out out) {
  const auto count = last - first;
  simt_detail::run(policy, [=] {
    simt_detail::value_of<In> sum{};
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      sum = static_cast<simt_detail::value_of<In>>(sum + first[i]);
      out[i] = sum;
    }
  });
  return out + count;
}

}  // namespace thrust
