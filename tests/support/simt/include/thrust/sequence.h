// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include "detail.hpp"

namespace thrust {

template <class Out, class T>
void sequence(const Policy& policy, Out first, Out last, T initial, T step = T(1)) {
  simt_detail::run(policy, [=] {
    for (std::ptrdiff_t i = 0; i < last - first; ++i) {
      first[i] = static_cast<simt_detail::value_of<Out>>(initial + step * static_cast<T>(i));
    }
  });
}

template <class Out>
void sequence(const Policy& policy, Out first, Out last) {
  sequence(policy, first, last, simt_detail::value_of<Out>(0));
}

}  // namespace thrust
