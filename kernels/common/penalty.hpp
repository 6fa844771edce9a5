// What kernels read of a penalty that is more than lambda ||z||_1.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// lambda sum_g w_g ||z_g||_2 + ridge / 2 ||z||^2, group g being atoms g group_size .. (g + 1) group_size - 1; in groups of
/// one atom that is lambda sum_j w_j |z_j|, and z >= 0 where `nonnegative`. The default is the plain l1 norm, whose kernels
/// know nothing of all this.
template <class T>
struct PenaltyView {
  VectorView<const T> weights = {};  ///< [m / group_size] w, > 0, infinity for groups that are left out; empty for 1
  double ridge = 0;                  ///< >= 0
  bool nonnegative = false;          ///< only in groups of one
  std::int64_t group_size = 1;       ///< >= 1, divides m
  bool plain() const { return weights.empty() && ridge == 0 && !nonnegative && !grouped(); }
  bool grouped() const { return group_size != 1; }
};

}  // namespace shrinkwarp
