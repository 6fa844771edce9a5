// The group Lasso on a few groups, exactly: for a working set W of groups of consecutive atoms with their Gram matrix
// G = D_W'D_W + ridge I,
//
//   minimise over z   1/2 z'G z - (D_W'x)'z + sum over g of threshold_g ||z_g||_2
//
// in double. Two moves take turns, and neither lets the objective rise:
//
// - A sweep minimises over one group after the other, exactly. With c = corr_g + G_gg z_g, corr = D_W'r - ridge z, z_g is 0
//   where ||c|| <= threshold; else z_g = (G_gg + threshold / rho I)^-1 c with rho = ||z_g|| the root of a secular equation,
//   for which G_gg is known by its eigenvectors. This says which groups are in use: S.
// - On S the objective is smooth, and a step of Newton's moves all its groups at once:
//   H d = corr_S - threshold z_S / ||z_S||,   H = G_SS + blockdiag(threshold_g / ||z_g|| (I - u_g u_g')),   u_g = z_g / ||z_g||.
//   Groups that would pass 0 stop there, and the others have the step that suits that. Where this brings little, the step
//   without such stops is taken up to its lowest point, if that is lower.
//
// Sweeps alone converge, Newton's steps make the end quadratic. Groups of one atom are the Lasso. Copied and dependent groups
// are legal: a direction that nothing bends is followed until a group comes to zero.
//
// Qin, Scheinberg and Goldfarb 2013 (exact steps of block coordinate descent); Tseng 2001 (that they converge); Moré and
// Sorensen 1983 (the secular equation).
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/group_set/group_rules.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Eigenvectors and eigenvalues of D_g'D_g for every group of a dictionary, made once for all problems. Move-only; on the CPU.
class GroupBasis {
 public:
  GroupBasis() = default;
  /// @param D           [n, m] on the CPU, zeros added to the columns up to a multiple of 16 rows, aligned to 64 bytes
  /// @param group_size  s >= 1, a divisor of m
  /// Cost: n s m + 9 s^2 m flops. On the context's threads, the bits do not depend on their number. Allocates yes.
  /// @throws ShapeError, DeviceError, OutOfMemory
  GroupBasis(const Context& context, MatrixView<const double> D, std::int64_t group_size);
  static std::int64_t bytes(std::int64_t atoms, std::int64_t group_size) { return 8 * atoms * (group_size + 1); }

  std::int64_t group_size() const { return vectors_.rows(); }
  /// [s, s] of group g, an eigenvector a column.
  const double* vectors(std::int64_t group) const { return vectors_.data() + group * group_size() * group_size(); }
  /// All of them: [s, m] and [m].
  MatrixView<const double> vectors() const { return vectors_.matrix(); }
  VectorView<const double> values() const { return values_.vector(); }
  /// [s], >= 0.
  const double* values(std::int64_t group) const { return values_.data() + group * group_size(); }

 private:
  Tensor<double> vectors_;  // [s, m]
  Tensor<double> values_;   // [m]
};

/// What GroupSet::solve works in: one for any number of sets that one thread solves.
class GroupSetScratch {
 public:
  GroupSetScratch() = default;
  /// Room for sets of that many atoms. Allocates yes. @throws OutOfMemory
  void reserve(const Context& context, std::int64_t atoms);
  std::int64_t capacity() const { return capacity_; }
  static std::int64_t bytes(std::int64_t atoms);

 private:
  friend class GroupSet;
  std::int64_t capacity_ = 0, ld_ = 0;
  Tensor<double> factor_;                                           // [ld, capacity], of H
  Tensor<double> right_, first_, second_, change_, factors_, one_;  // [capacity]
  Tensor<GroupOnLine> groups_;                                      // [capacity]
  Tensor<std::int32_t> active_, columns_;                           // [capacity], positions of S; their atoms in W
};

/// How GroupSet::solve ended.
enum class GroupSetOutcome {
  solved,  ///< stationary within the tolerance
  stuck,   ///< rounding stands in the way, or the steps are used up: the code is valid, but not optimal
};

/// One group Lasso on a working set, on the CPU. Memory is made once for the largest size and used for one problem after the
/// other. Positions are those of groups in W, in the order in which they were added. Move-only. Not for several threads at once.
class GroupSet {
 public:
  static constexpr std::int64_t kPadding = 16;

  GroupSet() = default;
  /// @param group_size  atoms of a group
  /// @param capacity    most groups of W
  /// Allocates yes. @throws OutOfMemory
  GroupSet(const Context& context, std::int64_t group_size, std::int64_t capacity);
  static std::int64_t bytes(std::int64_t group_size, std::int64_t capacity);

  /// Makes room for at least `capacity` groups; the problem stays. Allocates yes.
  void reserve(const Context& context, std::int64_t capacity);
  /// Forgets the problem: W is empty. @param ridge  >= 0 is added to the diagonal of G
  void clear(double ridge);

  std::int64_t group_size() const { return group_size_; }
  std::int64_t capacity() const { return capacity_; }                     ///< in groups, as all that follows
  std::int64_t size() const { return size_; }                             ///< |W|
  std::int64_t support() const { return support_; }                       ///< |S|
  std::int32_t group(std::int64_t p) const { return group_.data()[p]; }   ///< at position p
  bool is_active(std::int64_t p) const { return length_.data()[p] > 0; }  ///< z_g != 0
  const double* code(std::int64_t p) const { return code_.data() + p * group_size_; }  ///< z_g
  double length(std::int64_t p) const { return length_.data()[p]; }                    ///< ||z_g||
  double threshold(std::int64_t p) const { return threshold_.data()[p]; }
  /// corr_g, as it was set, and followed since then.
  const double* correlation(std::int64_t p) const { return correlation_.data() + p * group_size_; }
  std::int64_t steps() const { return steps_; }  ///< Newton's since clear()

  /// Adds groups with the code 0.
  /// @param D             [n, m] on the CPU, zeros added to the columns up to a multiple of kPadding rows, aligned to 64 bytes
  /// @param basis         of D; to stay alive
  /// @param groups        [count], not in W, size() + count <= capacity(); group g has the atoms g s .. g s + s - 1
  /// @param correlations  [count s], D_g'r
  /// @param thresholds    [count], > 0; infinity keeps a group out
  /// Cost: n flops an entry of the Gram matrix's new rows
  void add(MatrixView<const double> D, const GroupBasis& basis, const std::int32_t* groups, const double* correlations,
           const double* thresholds, std::int64_t count);
  /// Makes z_g at position p the code [s] given. Correlations are the caller's: set_correlation().
  void set_code(std::int64_t p, const double* code);
  /// Replaces corr_g at position p by a better one [s]: from the residual in hand, say, less ridge z_g.
  void set_correlation(std::int64_t p, const double* correlation);
  /// Drops the groups with the code 0. The others keep their order.
  void keep_active();

  /// Solves on W: to ||corr_g - threshold z_g / ||z_g|| || <= tolerance threshold in S and ||corr_g|| <= (1 + tolerance)
  /// threshold beside it, for the correlations that were set.
  /// @param tolerance  relative; what rounding allows is some 1e-14 ||d_j|| ||x|| / threshold
  /// @param max_steps  no step of Newton's is made after so many steps()
  /// Cost: a step (s |S|)^3 / 3 + 4 s^2 |S| |W| flops. Allocates no. @throws ShapeError (the scratch is too small)
  GroupSetOutcome solve(GroupSetScratch& scratch, double tolerance, std::int64_t max_steps);

 private:
  const double* gram(std::int64_t p) const { return gram_.data() + p * group_size_ * ld_; }
  double aside(std::int64_t p, double* out) const;
  double farthest(double* one) const;
  void settle_length(std::int64_t p);
  bool best_code(std::int64_t p, double* code) const;
  void sweep(GroupSetScratch& scratch, double tolerance);
  bool newton(GroupSetScratch& scratch, double lift);
  bool model_step(GroupSetScratch& scratch, std::int64_t count, std::int64_t all, double lift, double* step) const;
  double multiply(GroupSetScratch& scratch, std::int64_t all, const double* step) const;
  struct Line;
  Line line(GroupSetScratch& scratch, std::int64_t all, const double* step) const;
  bool factor(GroupSetScratch& scratch, std::int64_t count, double lift) const;
  std::int64_t group_size_ = 1, capacity_ = 0, ld_ = 0, size_ = 0, support_ = 0, steps_ = 0;
  double ridge_ = 0;
  const GroupBasis* basis_ = nullptr;
  Tensor<double> gram_;                // [ld, s capacity]
  Tensor<double> code_, correlation_;  // [s capacity]
  Tensor<double> length_, threshold_;  // [capacity]
  Tensor<std::int32_t> group_, atom_;  // [capacity], [s capacity]
};

}  // namespace shrinkwarp
