// The Lasso on a few atoms, exactly: for a working set W of atoms with their Gram matrix G = D_W'D_W,
//
//   minimise over z   1/2 z'G z - (D_W'x)'z + sum_j threshold_j |z_j|
//
// by an active-set method. S, the atoms in use, is kept stationary for its signs, that is corr_S = threshold_S sign(z_S)
// with corr = D_W'r, r = x - D_W z. While some other atom j has |corr_j| > threshold_j, z_j grows and z_S follows so that S
// stays stationary, until |corr_j| has come down to its threshold, when j joins S, or an atom of S has come to zero, which
// leaves S. No line search is needed, and the objective descends with each atom that joins: no S with its signs comes
// twice, so there is an end, in exact arithmetic. The inverse of G_SS is kept and updated by rank one.
//
// Golub and Van Loan 4.2 (rank-one updates); Osborne, Presnell and Turlach 2000 (the method without the path).
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// How ActiveSet::solve ended.
enum class ActiveSetOutcome {
  solved,  ///< no atom outside S is over its threshold by more than the tolerance, or by more than rounding where S spans it
  stuck,  ///< rounding in T stands in the way, or the steps are used up: the code is valid, but not optimal
};

/// One Lasso on a working set in T, on the CPU. Memory is made once for the largest size and used for one problem after
/// the other. Move-only. Not for several threads at once.
template <class T>
class ActiveSet {
 public:
  static constexpr std::int64_t kPadding = 16;

  ActiveSet() = default;
  /// @param capacity  most atoms of W; rounded up to whole vectors
  /// Allocates yes. @throws OutOfMemory
  ActiveSet(const Context& context, std::int64_t capacity);
  /// Bytes of a set of that capacity.
  static std::int64_t bytes(std::int64_t capacity);

  /// W becomes all atoms of a dictionary, whose Gram matrix is read in place: for restart(). The ridge and the sign are those
  /// of the last clear(). @param gram  [m, m] columns padded with zeros to kPadding, aligned to 64 bytes; to stay alive
  /// @param rows  of the dictionary: no more atoms, or few, are in use at once. Allocates yes. @throws OutOfMemory
  void take_all(const Context& context, MatrixView<const T> gram, std::int64_t rows);

  /// Makes room for at least `capacity` atoms; the problem stays. Allocates yes.
  void reserve(const Context& context, std::int64_t capacity);

  /// Forgets the problem: W is empty. @param ridge  >= 0 is added to the diagonal of G @param nonnegative  z >= 0
  void clear(T ridge, bool nonnegative);

  /// Another problem on the same W, whose Gram matrix stays: all codes are 0.
  /// @param correlations, thresholds  [size()], as for add
  void restart(const double* correlations, const double* thresholds);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t size() const { return size_; }                             ///< |W|
  std::int64_t support() const { return support_; }                       ///< |S|
  std::int32_t atom(std::int64_t i) const { return atom_.data()[i]; }     ///< of position i of W
  double code(std::int64_t i) const { return code_.data()[i]; }           ///< z at position i of W
  T correlation(std::int64_t i) const { return correlation_.data()[i]; }  ///< as it was set, and followed since then
  T threshold(std::int64_t i) const { return threshold_.data()[i]; }
  std::int32_t active(std::int64_t k) const { return active_.data()[k]; }  ///< position in W of the k-th atom of S
  bool is_active(std::int64_t i) const { return place_.data()[i] >= 0; }
  std::int64_t steps() const { return steps_; }  ///< linear solves since clear()

  /// Adds atoms with the code 0.
  /// @param D      [n, m] on the CPU, zeros added to the columns up to a multiple of kPadding rows, aligned to 64 bytes
  /// @param atoms  [count], not in W, size() + count <= capacity()
  /// @param correlations, thresholds  [count]; D_j'r and what it is compared with, >= 0
  /// @param gram   [m, m] D'D if there is one, else empty and its new rows are computed: n flops an entry
  void add(MatrixView<const T> D, MatrixView<const T> gram, const std::int32_t* atoms, const double* correlations,
           const double* thresholds, std::int64_t count);

  /// Replaces the correlation of a position by a better one: one computed from the residual, say.
  void set_correlation(std::int64_t i, double correlation) { correlation_.data()[i] = static_cast<T>(correlation); }

  /// Starts S at given codes, before the first solve: atoms at the positions with a nonzero value. Correlations are the
  /// caller's, those of these codes: set_correlation(), then settle().
  /// @return false where these atoms are dependent, and all codes are 0
  bool start(const double* codes);

  /// Brings S to corr_S = threshold_S sign(z_S) from correlations that were set, once. An atom that comes to zero leaves.
  /// The objective does not rise: where the inverse is too worn for that, S stays where it is.
  void settle();

  /// Solves on W. S is stationary but for 2e-5 (float) or 1e-11 (double) of ||d_j|| ||x|| at the end, mostly for rounding.
  /// @param tolerance  relative: |corr_j| may pass its threshold by so much
  /// @param max_steps  no atom begins to join after so many steps(); another call goes on from there, with the same bits
  ActiveSetOutcome solve(double tolerance, std::int64_t max_steps);

 private:
  ActiveSet(const Context& context, std::int64_t capacity, std::int64_t room, bool own_gram);
  // Where z_i cannot pass 0 without a change of what S is stationary for.
  bool is_bounded(std::int64_t i) const { return nonnegative_ || threshold_.data()[i] > T(0); }
  const T* gram(std::int64_t i) const { return taken_ ? taken_ + i * taken_ld_ : gram_.data() + i * ld_; }
  std::int64_t gram_ld() const { return taken_ ? taken_ld_ : ld_; }
  double norm(std::int64_t i) const { return static_cast<double>(norm_.data()[i]); }
  bool is_worn() const;
  std::int64_t crossing(const double* codes, double direction, double* step);
  bool move_all(double* codes, double step);
  void leave_at_zero(double* codes);
  double project(std::int64_t j);
  bool grow(std::int64_t j);
  void set_norm(std::int64_t i, T squared);
  void set(std::int64_t i, double correlation, double threshold);
  void join(std::int64_t j, T complement);
  void leave(std::int64_t k);
  void restore(std::int64_t support);
  bool invert();
  std::int64_t capacity_ = 0, ld_ = 0, size_ = 0, support_ = 0, steps_ = 0;
  std::int64_t room_ = 0, inverse_ld_ = 0;  // for S; less than capacity_ after take_all()
  const T* taken_ = nullptr;                // a Gram matrix that is read in place, columns taken_ld_ apart
  std::int64_t taken_ld_ = 0;
  T ridge_ = 0, guard_factor_ = 1;
  double largest_ = 0;  // |corr_j| / ||d_j|| of the atoms when they were added: about ||x||
  bool nonnegative_ = false;
  bool unbounded_ = false;    // some atom of W may pass 0 freely
  Tensor<T> gram_, inverse_;  // [ld, capacity], [inverse_ld, room]; inverse of gram over S in S's order
  Tensor<T> correlation_, threshold_, guard_;  // [capacity]; guard: threshold outside S, infinity inside
  Tensor<T> norm_;                             // [capacity], root of the diagonal of gram
  Tensor<T> right_, direction_, moved_, factors_, rho_, correction_;  // [capacity], scratch
  Tensor<double> code_, before_, ordered_, ratios_;                   // [capacity], and scratch
  Tensor<double> inverse_norm_;                                       // [capacity], 0 where the norm is 0
  Tensor<std::int32_t> atom_, active_, place_, touched_;              // [capacity]
};

}  // namespace shrinkwarp
