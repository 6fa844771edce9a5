// Working sets of groups of atoms, of many problems side by side on a device: what GroupSet (group_set.hpp) does for one on the
// CPU, by the same steps.
//
// The places are those of ActiveSets (active_sets.hpp), whose atoms come in whole groups: position p of W is place p % s of the
// group at positions p - p % s on. add_atoms() adds them, S is their atoms with a code that is not 0, and the room for an
// inverse is room for the matrix of a step of Newton's. A place's arithmetic does not depend on the capacity, on its place or
// on the other places.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/common/penalty.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// GroupBasis of a dictionary, on the device.
struct GroupBasisView {
  MatrixView<const double> vectors;  ///< [s, m]
  VectorView<const double> values;   ///< [m]
};

/// Starts some places, whose W is empty, at codes, as start_active_sets() does: W becomes the groups of the code. Where the code is
/// worse than the code 0, it becomes the code 0.
///
/// @param D, gram, R, places, lambda  as there
/// @param start    [P] atoms of the code's groups, a multiple of s, with their values at the first positions of sets.atom and
///                 sets.code; becomes 0. A place that has 0 of them, or more than its capacity, is left alone
/// @param penalty  in groups
///
/// Cost: as add_atoms. Allocates no, synchronises no, capturable yes. @throws ShapeError, DeviceError
void start_group_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                      MatrixView<const double> R, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                      const PenaltyView<double>& penalty);

/// Brings some places to the solution on their W: to ||corr_g - threshold z_g / ||z_g|| || <= tolerance threshold in S and
/// ||corr_g|| <= (1 + tolerance) threshold beside it, for the correlations that they have; threshold_g = lambda w_g.
///
/// @param places     [count] distinct
/// @param lambda     [P]   @param tolerance [P] a place with a negative one is left alone
/// @param max_steps  of Newton's in this call, after which a place is stuck
/// @param penalty    in groups; its weights may be infinite: such a group stays at 0. Its ridge is in the Gram matrices too
///
/// Cost: a block a place; a step (s |S|)^3 / 3 + 4 s^2 |S| |W| flops. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (a capacity whose vectors do not fit shared memory, max_steps < 0)
void solve_group_sets(const Context& context, const GroupBasisView& basis, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<const double> tolerance, std::int64_t max_steps,
                      const ActiveSets& sets, const PenaltyView<double>& penalty);

}  // namespace shrinkwarp
