// Active sets of many problems side by side on a device: what ActiveSet (active_set.hpp) does for one on the CPU, in double.
//
// A place keeps the working set W of its problem, the Gram matrix of W, the inverse of that of S, codes and correlations. Its
// arithmetic does not depend on the capacity, on its place or on the other places.
//
// Under a penalty the threshold of atom j is lambda w_j; a ridge is added to the diagonal of the Gram matrix, so that
// correlations are D_W'r - ridge z; and nonnegative codes grow from correlations over 0 alone.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/common/penalty.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// How the last solve of a place ended.
enum ActiveSetsOutcome : std::int32_t {
  kSetsSolved = 0,  ///< no atom of W is over its threshold by more than the tolerance, or by more than rounding
  kSetsStuck = 1,   ///< rounding stands in the way, or the steps are used up: the code is valid, but not optimal
};

/// Views of P places with room for `capacity` atoms each. On CUDA.
struct ActiveSets {
  std::int64_t capacity = 0;
  MatrixView<std::int32_t> atom;     ///< [capacity, P] of position i of W
  MatrixView<std::int32_t> active;   ///< [capacity, P] positions in W of the atoms of S
  MatrixView<double> code;           ///< [capacity, P] z at position i of W
  MatrixView<double> correlation;    ///< [capacity, P] D_W'r - ridge z as it was set, and followed since then
  MatrixView<double> gram;           ///< [capacity^2, P] of W with the ridge, columns `capacity` apart
  MatrixView<double> inverse;        ///< [capacity^2, P] of the Gram matrix of S, columns `capacity` apart
  VectorView<std::int32_t> size;     ///< [P] |W|
  VectorView<std::int32_t> support;  ///< [P] |S|
  VectorView<std::int32_t> steps;    ///< [P] linear solves so far
  VectorView<std::int32_t> outcome;  ///< [P] ActiveSetsOutcome
  VectorView<double> largest;        ///< [P] largest |corr_j| / ||d_j|| of atoms when they were added: about ||x||

  /// Cuts all that from an arena, not cleared.
  static ActiveSets lay_out(Arena& arena, std::int64_t capacity, std::int64_t places);
};

/// Everything that `sets` views has the shape that is said there. @throws ShapeError, DeviceError: for arguments of `function`
void check_sets(const Context& context, const char* function, const ActiveSets& sets);
/// And what atoms are added from: D [n, m], its Gram matrix or none, R [n, P].
void check_operands(const Context& context, const char* function, MatrixView<const double> D,
                    MatrixView<const double> gram, MatrixView<const double> R, VectorView<const std::int32_t> places,
                    const ActiveSets& sets);

/// D'D, each entry the sum over rows in their order, one fused multiply-add a term: the same bits as add_atoms() computes
/// where there is no Gram matrix.
/// @param D [n, m]  @param G [m, m], written; both triangles
/// Cost: 2 n m^2 flops. Allocates no, synchronises no, capturable yes. @throws ShapeError, DeviceError
void gram_matrix(const Context& context, MatrixView<const double> D, MatrixView<double> G);

/// Adds atoms to the working sets of some places, with the code 0.
///
/// @param D      [n, m]
/// @param gram   [m, m] gram_matrix(D), or empty
/// @param R      [n, P] residuals x - D z of the places' codes
/// @param places [count] distinct
/// @param fresh  [most, P] atoms that are not in W  @param fresh_count [P] how many; |W| with them <= capacity
/// @param penalty  its ridge
///
/// Numerics     correlations are sums of double in a fixed order
/// Cost         a place: n flops an atom twice; |W| entries of gram an atom, or 2 n |W| flops. Allocates no, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError
void add_atoms(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
               MatrixView<const double> R, VectorView<const std::int32_t> places, MatrixView<const std::int32_t> fresh,
               VectorView<const std::int32_t> fresh_count, const ActiveSets& sets,
               const PenaltyView<double>& penalty = {});

/// Starts some places, whose W is empty, at codes: W becomes the atoms of the code and S all of them, to be settled by the next
/// solve_active_sets(). Where they are dependent, or the code is worse than the code 0, S stays empty and the code 0.
///
/// @param D, gram, penalty  as for add_atoms  @param lambda [P]
/// @param R       [n, P] residuals of the code 0, that is the observations
/// @param places  [count] distinct
/// @param start   [P] atoms of the code, which are, distinct, with their values at the first positions of sets.atom and
///                sets.code; becomes 0. A place that has 0 of them, or more than its capacity, is left alone
///
/// Numerics     a code that is not finite, or so large that its objective is not, is worse than the code 0
/// Cost         as add_atoms, and the inverse of S in device memory: |S|^3 flops
/// Allocates no, synchronises no, capturable yes. @throws ShapeError, DeviceError, ValueError (as solve_active_sets)
void start_active_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                       MatrixView<const double> R, VectorView<const std::int32_t> places,
                       VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                       const PenaltyView<double>& penalty = {});

/// Brings some places to the solution on their W: settles S from its correlations, then lets atoms join and leave until none
/// is over its threshold. S is then stationary but for 1e-11 of ||d_j|| ||x||.
///
/// @param places     [count] distinct
/// @param lambda     [P] the threshold of every atom of a place, but for its weight
/// @param tolerance  [P] relative: |corr_j| may pass its threshold by so much; a place with a negative one is left alone
/// @param max_steps  no atom begins to join after so many linear solves for each atom of W and a hundred more in this call
/// @param penalty    its weights, finite for atoms of W, and sign; its ridge is in the Gram matrices
///
/// Numerics     the inverse in double, renewed where its updates have worn it out; an atom counts as dependent on S when less
///              than 1e-12 of the norms it is computed from is left of it
/// Cost         a block a place; |S|^2 + |W| |S| flops twice a linear solve. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (a capacity whose vectors do not fit shared memory, max_steps < 0)
void solve_active_sets(const Context& context, VectorView<const std::int32_t> places, VectorView<const double> lambda,
                       VectorView<const double> tolerance, std::int64_t max_steps, const ActiveSets& sets,
                       const PenaltyView<double>& penalty = {});

}  // namespace shrinkwarp
