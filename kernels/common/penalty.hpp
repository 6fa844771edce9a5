// What kernels read of a penalty that is more than lambda ||z||_1.
#pragma once

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// lambda sum_j w_j |z_j| + ridge / 2 ||z||^2, and z >= 0 where `nonnegative`. The default is the plain l1 norm, whose
/// kernels know nothing of all this.
template <class T>
struct PenaltyView {
  VectorView<const T> weights = {};  ///< [m] w, > 0, infinity for atoms that are left out; empty for 1
  double ridge = 0;                  ///< >= 0
  bool nonnegative = false;
  bool plain() const { return weights.empty() && ridge == 0 && !nonnegative; }
};

}  // namespace shrinkwarp
