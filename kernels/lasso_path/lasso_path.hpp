// The exact path of the Lasso on a few atoms: for a working set W with Gram matrix G = D_W'D_W + ridge I, the minimiser of
//
//   1/2 z'G z - (D_W'x)'z + lambda sum_j w_j |z_j|
//
// as a function of lambda, from the largest at which an atom comes into use downwards. It is piecewise linear: while the
// atoms S in use and their signs s stay, corr_S = lambda w_S s_S with corr = D_W'x - G z, so lowering lambda by d moves
//
//   z_S by d u,  u = G_SS^-1 (w_S s_S),        corr by -d G_WS u,
//
// until an atom outside S reaches its threshold, |corr_j| = lambda w_j, and joins, or an atom of S reaches 0 and leaves. An
// atom that S spans stays at its threshold as long as S does, and waits for an atom to leave.
//
// Osborne, Presnell and Turlach 2000; Efron, Hastie, Johnstone and Tibshirani 2004 (LARS with the Lasso's modification).
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The path on one working set in double, on the CPU. Memory grows with W, two square matrices, and is kept for the next
/// problem. Not for several threads at once.
class LassoPath {
 public:
  /// Where the linear piece that begins at lambda() ends.
  enum class Event {
    joins,   ///< an atom reaches its threshold
    leaves,  ///< an atom in use reaches 0
    ends,    ///< lambda = 0
  };

  /// Forgets the problem: W is empty.
  /// @param ridge  >= 0, on the diagonal of G @param nonnegative  z >= 0 @param most  atoms that W will have
  void clear(double ridge, bool nonnegative, std::int64_t most);

  /// Adds atoms to W, and goes back to the beginning of the path.
  /// @param D             [n, m] on the CPU, rows padded as kernels/atom_products has it; n flops an entry of G
  /// @param atoms         [count], not in W
  /// @param correlations  [count], d_j'x
  /// @param weights       [count], > 0; infinite ones never join
  void add(MatrixView<const double> D, const std::int32_t* atoms, const double* correlations, const double* weights,
           std::int64_t count);

  /// Back to the beginning: z = 0, and lambda the smallest for which it solves.
  void restart();

  std::int64_t size() const { return static_cast<std::int64_t>(atom_.size()); }       ///< |W|
  std::int64_t support() const { return static_cast<std::int64_t>(active_.size()); }  ///< |S|
  std::int64_t events() const { return events_; }                                     ///< since restart()
  std::int32_t atom(std::int64_t k) const { return atom_[at(active_[at(k)])]; }       ///< the k-th of S
  double code(std::int64_t k) const { return code_[at(active_[at(k)])]; }             ///< of the k-th of S
  double sign(std::int64_t k) const { return sign_[at(active_[at(k)])]; }             ///< s, of the k-th of S
  /// What corr is to be: lambda w_j s_j for the k-th of S.
  double target(std::int64_t k) const { return lambda_ * signed_weight(active_[at(k)]); }
  double lambda() const { return lambda_; }
  double next_lambda() const { return next_lambda_; }  ///< where the linear piece ends
  Event next_event() const { return next_event_; }

  double norm() const;          ///< sum_j w_j |z_j|
  double norm_rate() const;     ///< what it grows by as lambda falls by 1
  double squares() const;       ///< ||z||^2
  double squares_rate() const;  ///< z'u
  double rate_squares() const;  ///< u'u
  double explained() const;     ///< ||x||^2 - ||x - D z||^2

  /// Along the linear piece, no further than next_lambda() but for rounding; a little back is all right.
  void move_to(double lambda);
  /// To next_lambda() and through its event, which is not `ends`; the next piece begins.
  void pass();
  /// z_S += G_SS^-1 (correlations - target): a Newton step from correlations that are known better.
  /// @param correlations  [support()] d_j'r - ridge z_j
  void settle(const double* correlations);

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  double signed_weight(std::int64_t i) const { return sign_[at(i)] * weight_[at(i)]; }
  double gram(std::int64_t i, std::int64_t j) const { return gram_[at(i + j * ld_)]; }
  void make_room(std::int64_t size);
  void solve(std::vector<double>& right) const;
  void refresh();
  void find_next();
  void join(std::int64_t j);
  void leave(std::int64_t k);

  double ridge_ = 0;
  bool nonnegative_ = false;
  double lambda_ = 0, next_lambda_ = 0;
  Event next_event_ = Event::ends;
  std::int64_t next_position_ = -1;  // in W of what joins, in S of what leaves
  std::int64_t just_left_ = -1;      // in W
  std::int64_t events_ = 0;
  std::int64_t most_ = 0;
  std::int64_t ld_ = 0;                                             // of the two matrices, which are square
  std::vector<double> gram_;                                        // G over W
  std::vector<double> factor_;                                      // R with R'R = G_SS, upper triangular, in S's order
  std::vector<std::int32_t> atom_;                                  // [|W|]
  std::vector<double> weight_, start_, correlation_, code_, sign_;  // [|W|]; start: d_j'x; sign: of those in S
  std::vector<std::uint8_t> inside_, spanned_;  // [|W|]; in S; in its span, waiting for an atom of S to leave
  std::vector<std::int64_t> active_;            // [|S|] positions in W
  std::vector<double> rate_, slope_;            // [|S|] u; [|W|] G_WS u
  std::vector<double> right_;                   // [|S|], scratch
};

}  // namespace shrinkwarp
