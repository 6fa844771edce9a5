// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include "detail.hpp"

namespace thrust {

template <class In, class Out, class Select>
Out copy_if(const Policy& policy, In first, In last, Out out, Select select) {
  return out + simt_detail::run_for<std::ptrdiff_t>(policy, [=] {
           std::ptrdiff_t kept = 0;
           for (std::ptrdiff_t i = 0; i < last - first; ++i) {
             if (select(first[i])) out[kept++] = first[i];
           }
           return kept;
         });
}

/// Keeps the elements for whose stencil `select` holds.
template <class In, class Stencil, class Out, class Select>
Out copy_if(const Policy& policy, In first, In last, Stencil stencil, Out out, Select select) {
  return out + simt_detail::run_for<std::ptrdiff_t>(policy, [=] {
           std::ptrdiff_t kept = 0;
           for (std::ptrdiff_t i = 0; i < last - first; ++i) {
             if (select(stencil[i])) out[kept++] = first[i];
           }
           return kept;
         });
}

}  // namespace thrust
