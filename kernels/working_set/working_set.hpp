// The steps of the working-set method for many problems side by side on a device, around active_sets: problems come in, a
// pass is looked at, residuals are made anew, codes leave. The order of a round is
//
//   HalfColumns::set(r), panel_bounds, look_at_bounds, add_atoms, solve_active_sets, update_residuals
//
// and where problems start at codes of the caller's, start_active_sets before add_atoms. Under a penalty in groups atoms come
// and go in whole groups, and solve_group_sets and start_group_sets (kernels/group_set/group_sets.hpp) take the place of
// the two. Each step takes the penalty as a view; the default is the plain l1 norm, whose kernels know nothing of another.
//
// On CUDA only; models/lasso/device_working_set.cpp calls them.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/common/penalty.hpp>
#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// What has become of a problem.
enum WorkingSetState : std::int32_t {
  kProblemRuns = 0,
  kProblemDone = 1,   ///< within its gap, or out of iterations
  kProblemStuck = 2,  ///< rounding stands in the way
  kProblemFull = 3,   ///< its working set has outgrown its place
};

/// What P places keep of their problems, beside the active sets. All in the batch's units: observations divided by `scale`.
struct WorkingSetProblems {
  /// Atoms that a round may add: 64, or 64 groups while these have no more than 192 atoms, and at least one group.
  static std::int64_t most_new_atoms(std::int64_t group_size);

  MatrixView<double> x, r;         ///< [n, P] observations, residuals
  MatrixView<std::int32_t> fresh;  ///< [most_new_atoms, P] atoms that are to be added
  /// [P] each, one after the other in `numbers` and in `counts`
  VectorView<double> scale, energy, lambda, primal, gap, magnitude, tolerance;
  VectorView<std::int32_t> state, support, iterations, fresh_count, idle;
  VectorView<double> numbers;
  VectorView<std::int32_t> counts;
  /// [P] each, what the penalty needs beside magnitude = ||z||_1: sum w_j |z_j| under weights, sum w_g ||z_g|| in
  /// groups, and ||z||^2 under a ridge
  VectorView<double> weighted, squares;
  VectorView<std::int32_t> start;  ///< [P] atoms of the code that a problem waits to start at, see start_active_sets

  /// Cuts all that from an arena, not cleared.
  static WorkingSetProblems lay_out(Arena& arena, std::int64_t rows, std::int64_t places, std::int64_t group_size = 1);
};

/// Codes that problems start at, in the user's units: that of problem i has count[i] distinct atoms, in groups all of
/// each, from first[i] on in indices and values. One with more atoms than a place has room for needs none there: its problem will be found full.
struct StartCodes {
  VectorView<const std::int32_t> count;  ///< [problems]; empty: all start at 0
  VectorView<const std::int64_t> first;  ///< [problems]
  VectorView<const std::int32_t> indices;
  VectorView<const double> values;
};

/// Puts problems in places, with the code 0.
///
/// @param X       [n, count] observations in the user's units
/// @param places  [count] distinct
/// @param lambda  [count] in the user's units; negative where it is a fraction of lambda_max, to be found
/// @param dictionary_scale  what the dictionary was divided by
/// @param starts  codes that the next round starts them at
///
/// scale is the power of two under the largest magnitude, energy 1/2 ||x / scale||^2. Allocates no, synchronises no
/// @throws ShapeError, DeviceError
void admit_problems(const Context& context, MatrixView<const double> X, VectorView<const std::int32_t> places,
                    VectorView<const double> lambda, double dictionary_scale, const WorkingSetProblems& problems,
                    const ActiveSets& sets, const StartCodes& starts = {});

/// How look_at_bounds decides.
struct LookRules {
  double gap = 1e-6;                ///< relative, that is wanted
  double fraction = 0;              ///< of lambda_max, for problems whose lambda is negative
  double atom_norm = 1;             ///< a bound of max_j ||d_j||, for what rounding hides in a gap
  std::int64_t max_iterations = 1;  ///< then a problem is done as it is
  bool starts = false;              ///< some may wait to start at a code
};

/// What a pass says about each problem: lambda where it is not known yet; then either the atoms to be added, or the
/// certificate. Atoms are those of the panels with the highest bounds while many are far over lambda. Else float64 looks at
/// every atom that its own bound lets come to .999 lambda, which gives ||D'r||_inf and with it the gap, and one violator a
/// panel. Of a problem that waits to start at a code only lambda is found: start_active_sets comes next, and no iteration is
/// counted.
///
/// Under a penalty correlations are (d_j'r - ridge z_j) / w_j, the largest of them where codes are to be nonnegative, not the
/// largest magnitude; lambda_max is at least 0 then. With a ridge float64 looks at all panels that have an atom of W, whose
/// correlations the bounds do not know. Atoms of infinite weight are never added. In groups all this is said of groups, whose
/// norms are compared: ||D_g'r - ridge z_g|| / w_g.
///
/// @param D       [n, m] in double   @param half, residuals  what the pass multiplied; column i is that of places[i]. In groups
///                `half` has group_columns() columns for each group, its atoms first
/// @param keys    [panels, count] of panel_bounds, made under the same penalty; overwritten
/// @param places  [count] distinct
/// @param divided  the bounds of `half` divided by the weights of `penalty`, where it has any
///
/// Sets lambda, state, primal and gap, iterations, fresh, tolerance (negative for what runs no more), correlations of W that
/// float64 has seen; support. Determinism: of a problem's own numbers alone. Cost: 4 bytes a panel some 40 times; n flops
/// an open atom. Allocates no, synchronises no. @throws ShapeError, DeviceError, CudaError (more atoms than have a bit each in
/// a block's shared memory: 800,000 where that is smallest)
void look_at_bounds(const Context& context, MatrixView<const double> D, const HalfColumns& half,
                    const HalfColumns& residuals, MatrixView<std::uint32_t> keys, VectorView<const std::int32_t> places,
                    const LookRules& rules, const WorkingSetProblems& problems, const ActiveSets& sets,
                    const PenaltyView<double>& penalty = {}, const HalfBounds& divided = {});

/// r = x - D_S z_S, ||z||_1 and what the penalty makes of z for problems that run; the terms in the order of S.
/// Cost: 8 n |S| bytes a problem. Allocates no, synchronises no. @throws ShapeError, DeviceError
void update_residuals(const Context& context, MatrixView<const double> D, VectorView<const std::int32_t> places,
                      const WorkingSetProblems& problems, const ActiveSets& sets,
                      const PenaltyView<double>& penalty = {});

/// Codes of some places, atoms ascending, in the user's units: a row of the sparse result each.
/// @param places   [count]  @param offsets [count] where each begins in indices and values
/// Allocates no, synchronises no. @throws ShapeError, DeviceError
void collect_codes(const Context& context, VectorView<const std::int32_t> places,
                   VectorView<const std::int64_t> offsets, double dictionary_scale, const WorkingSetProblems& problems,
                   const ActiveSets& sets, VectorView<std::int32_t> indices, VectorView<double> values);

}  // namespace shrinkwarp
