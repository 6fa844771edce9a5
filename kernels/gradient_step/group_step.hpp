// The gradient step of a batch whose penalty has groups of atoms. A group may lie in several tiles of the product, and how
// far it shrinks is known when all of it is: what gradient_step does in its epilogue takes a second pass here.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/common/penalty.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// gradient_step under lambda sum_g w_g ||z_g||_2 + ridge / 2 ||z||^2:
///
///   y = current + beta (current - previous)
///   moved <- y + step D'R                                                              the product
///   previous_g <- max(1 - step lambda w_g / ||u_g||, 0) u_g / (1 + step ridge) - anchor_g,   u = anchor + moved
///
/// @param D, R, anchor, current, previous, beta, step, lambda, active, partials  as for gradient_step
/// @param penalty  with group_size >= 1, a divisor of m, and not nonnegative; a group of infinite weight has z = 0
/// @param moved    [m, N], written; must not overlap the others
///
/// Numerics     T, the norms in double. Without rounding u where a group stays: w - (t / ||u||) u, w being moved, keeps its
///              own precision however large the anchor is. z = 0 exactly where previous = -anchor; NaN gives NaN in its group
/// Determinism  as gradient_step: a column's bits depend on that column alone
/// Cost         gradient_step's flops; reads D once a column tile, n N and up to 6 m N sizeof(T) (5 without anchor), writes
///              2 m N: 4 m N sizeof(T) more than gradient_step. On paper, medium lead field, N = 8192 on an H100: .27 ms beside
///              1.22 measured. On CUDA a group of more than 128 atoms is read once more for each tile that it lies in.
///              Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (step <= 0, a penalty that is nonnegative)
template <class T>
void group_step(const Context& context, const StepDictionary<T>& D, identity_t<MatrixView<const T>> R,
                identity_t<MatrixView<const T>> anchor, identity_t<MatrixView<const T>> current, MatrixView<T> previous,
                identity_t<VectorView<const T>> beta, T step, identity_t<VectorView<const T>> lambda,
                VectorView<const std::uint8_t> active, StepPartials<T> partials, PenaltyView<T> penalty,
                MatrixView<T> moved);

}  // namespace shrinkwarp
