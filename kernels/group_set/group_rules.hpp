// What GroupSet on the CPU and group_sets on CUDA have in common: when steps are taken, and the objective along one.
#pragma once

#include <cmath>

#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

struct GroupRules {
  // What is added to the diagonal of H, as a share of G's: far over the rounding of a factorisation, so that dependent groups
  // have one, and far under what slows Newton's method down. Where a step cannot be taken whole, the next one has more of it:
  // a direction that little bends, in which others would have come to 0 long before, is then followed less far.
  static constexpr double kLift = 1e-12, kFirstLift = 1e-6, kLargestLift = 1, kLiftFactor = 30;
  // A step is taken whole where it brings this share of what it promises.
  static constexpr double kEnough = 0.02;
  // The lowest point along a step is looked for by halves.
  static constexpr int kHalvings = 80;
  static constexpr double kNearLowest = 1e-3;
  // Steps in a row that bring the code no nearer, with the same groups in use, after which rounding is in the way.
  static constexpr int kIdleSteps = 4;
  // A sweep moves groups that are aside by more than this share of the tolerance.
  static constexpr double kSweepShare = 0.25;
  // The secular equation's root is there when a step is under this share of it; few steps are enough.
  static constexpr double kRootNear = 2 * 2.220446049250313e-16;
  static constexpr int kRootSteps = 100;
};

/// A group of S along a step d, with u = z / ||z||.
struct GroupOnLine {
  double threshold, length, radial, across;  ///< length = ||z||, radial = u'd, across = ||d||^2 - radial^2
};

/// threshold (||z + a d|| - ||z|| - a u'd), no term of which is a difference of large numbers.
SHRINKWARP_HOST_DEVICE inline double change_along(const GroupOnLine& g, double a) {
  const double along = g.length + a * g.radial;
  const double reached = std::sqrt(along * along + a * a * g.across);
  return g.threshold * (along > 0 ? a * a * g.across / (reached + along) : reached - along);
}

/// Its derivative by a.
SHRINKWARP_HOST_DEVICE inline double slope_along(const GroupOnLine& g, double a) {
  const double along = g.length + a * g.radial;
  const double reached = std::sqrt(along * along + a * a * g.across);
  return reached > 0 ? g.threshold * ((along * g.radial + a * g.across) / reached - g.radial) : 0.0;
}

}  // namespace shrinkwarp
