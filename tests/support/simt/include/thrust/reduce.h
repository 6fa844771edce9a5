// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include "detail.hpp"

namespace thrust {

template <class In, class T, class Fold>
T reduce(const Policy& policy, In first, In last, T initial, Fold fold) {
  return simt_detail::run_for<T>(policy, [=] {
    T result = initial;
    for (std::ptrdiff_t i = 0; i < last - first; ++i) result = fold(result, first[i]);
    return result;
  });
}

template <class In, class T>
T reduce(const Policy& policy, In first, In last, T initial) {
  return reduce(policy, first, last, initial, std::plus<T>());
}

template <class In>
simt_detail::value_of<In> reduce(const Policy& policy, In first, In last) {
  return reduce(policy, first, last, simt_detail::value_of<In>{});
}

}  // namespace thrust
