// Internal to certificate: what tiles of atoms leave of the groups of a column, and how the largest of all groups follows.
// Shared by both bodies, which cut the atoms into tiles of their own.
//
// A tile leaves
//   whole  max of ||c_g|| / w_g over the groups that lie in it
//   head   the sum of c_j^2 over its part of the group that an earlier tile begins; only where there is one
//   tail   the same of the group that it begins and a later one ends; likewise
#pragma once

#include <cmath>
#include <cstdint>

#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

enum class GroupPiece { whole, head, tail };
constexpr std::int64_t kGroupPieces = 3;

/// The larger of the two; NaN when either is NaN.
SHRINKWARP_HOST_DEVICE inline double larger_or_nan(double a, double b) {
  return a > b || a != a ? a : b;
}

/// ||c_g|| / w_g from the sum of squares. `weights` may be nullptr.
SHRINKWARP_HOST_DEVICE inline double group_correlation(double squares, const double* weights, std::int64_t group) {
  const double norm = std::sqrt(squares);
  return weights != nullptr ? norm / weights[group] : norm;
}

/// The largest of all groups of a column. `at(piece, tile)` is what a tile has left.
template <class At>
SHRINKWARP_HOST_DEVICE inline double largest_group(std::int64_t atoms, std::int64_t tile_atoms, std::int64_t group_size,
                                                   const double* weights, const At& at) {
  double largest = 0;
  double open = 0;  // sum of squares of the group that the tiles so far have not ended
  std::int64_t tile = 0;
  for (std::int64_t begin = 0; begin < atoms; begin += tile_atoms, ++tile) {
    const std::int64_t end = begin + tile_atoms < atoms ? begin + tile_atoms : atoms;
    const std::int64_t last = (end - 1) / group_size;  // the group of the last atom
    largest = larger_or_nan(largest, at(GroupPiece::whole, tile));
    if (begin % group_size != 0) {
      const std::int64_t group = begin / group_size;
      open += at(GroupPiece::head, tile);
      if ((group + 1) * group_size <= end) largest = larger_or_nan(largest, group_correlation(open, weights, group));
    }
    if ((last + 1) * group_size > end && last * group_size >= begin) open = at(GroupPiece::tail, tile);
  }
  return largest;
}

}  // namespace shrinkwarp
