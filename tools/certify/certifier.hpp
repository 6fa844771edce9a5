// Duality gaps of anybody's codes with a rigorous bound of their rounding. Nothing here is shared with the solvers: no
// kernel, no BLAS, plain loops. Where this agrees with a solver's certificate, two independent programs agree.
//
// One problem: observation x [n], code z [m], lambda; the objective F(z) = 1/2 ||x - D z||^2 + lambda ||z||_1.
//
//   gap = F(z) - Dual(s r),   Dual(s r) = s <x, r> - 1/2 s^2 ||r||^2,   s = clip(<x, r> / ||r||^2, +-lambda / ||D'r||_inf)
//
// with r near x - D z, rounded to float64: any r gives a feasible point s r, so this rounding costs no certainty. Numbers
// of the inputs are taken as exact. Everything that decides the gap is summed in extended precision (unit roundoff u =
// 2^-64 on x86-64), and the sum of the a-priori bounds of what that may lose (docs/math.md) is added to the gap. The m
// correlations are first made in float64; those whose own bound lets them be the largest are made again in extended
// precision.
//
// Under a penalty lambda sum_j w_j |z_j| + ridge/2 ||z||^2, z >= 0, the same with r the longer [r; -sqrt(ridge) z]; correlations
// divided by w_j, and for z >= 0 only those over 0, with s >= 0. In groups, lambda sum_g w_g ||z_g||, the norm of a group's
// correlations is what a correlation's magnitude is to an atom. Atoms of weight 0 must not correlate with r at all: what
// of r does is taken away, and the rest by which rounding leaves them correlated is bounded by the smallest singular value.
//
// In a radius C, F(z) = 1/2 ||x - D z||^2 and Dual(s r) = s (<x, r> - C ||D'r||_inf) - 1/2 s^2 ||r||^2, s >= 0 at its top.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::certify {

/// Codes of consecutive problems, the nonzeros of each.
struct CodeRows {
  std::vector<std::int64_t> offsets{0};  // [rows + 1]
  std::vector<std::int64_t> indices;     // 0 .. m - 1, ascending within a row, each once
  std::vector<double> values;            // finite, not 0

  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  void clear();
};

/// What is added to 1/2 ||x - D z||^2: lambda sum_g w_g ||z_g|| + ridge / 2 ||z||^2, group g being atoms g group_size ..
/// (g + 1) group_size - 1; in groups of one lambda sum_j w_j |z_j|, with z >= 0 where `nonnegative`.
struct Penalty {
  std::vector<double> weights;  ///< [m / group_size], >= 0, infinity where z_g = 0 is demanded; empty for 1
  bool nonnegative = false;     ///< not together with weights of 0, nor with groups of more than one atom
  double ridge = 0;             ///< finite, >= 0
  /// Where >= 0, sum_g w_g ||z_g|| <= radius in place of that penalty: weights > 0 then, and no ridge.
  double radius = -1;
  std::string name = "weights";  ///< begins the message of an error about the weights
  std::int64_t group_size = 1;   ///< >= 1, divides m
};

/// The certificate of a code at one lambda. Bounds hold in exact arithmetic for the numbers given; they are infinite where
/// float64 cannot hold them.
struct Certificate {
  double energy = 0;              ///< 1/2 ||x||^2, rounded to nearest
  double objective = 0;           ///< F(z), rounded to nearest
  double objective_rounding = 0;  ///< |objective - F(z)| is at most this
  double dual_gap = 0;            ///< >= F(z) - min F, in the units of the objective
  double rounding = 0;            ///< without any rounding the gap would be between dual_gap - rounding and dual_gap
  double relative_gap = 0;        ///< >= dual_gap / (1/2 ||x||^2); for x = 0: 0 where the gap is 0, else infinite
};

/// What another program that evaluates the same formulas in plain float64, with its sums in any order, may lose.
struct Float64Slack {
  double objective = 0;
  double dual_gap = 0;
};

/// All that the certificate of a code takes besides lambda, and how far the code is from optimality at the lambda given.
class Measures {
 public:
  std::int64_t nonzeros = 0;
  /// ||D'r||_inf / lambda - 1 where positive, else 0: how far the residual is outside the dual feasible set.
  double correlation_excess = 0;
  /// The largest distance of a correlation d_j'r from lambda times the subdifferential of |z_j|, over lambda, or of a
  /// group's D_g'r from that of ||z_g||: 0 at a solution. To float64's rounding.
  double kkt_violation = 0;
  /// Atoms in use whose correlation has the other sign, or groups with <D_g'r, z_g> < 0, beyond rounding.
  std::int64_t sign_errors = 0;

  /// @param lambda  finite, >= 0
  Certificate at(double lambda) const;
  Float64Slack float64_slack(double lambda) const;

 private:
  friend class Certifier;
  struct Values;
  Values values(double lambda) const;

  std::int64_t n_ = 0;
  std::int64_t dual_terms_ = 0;  // that ||r||^2 and <x, r> have
  bool nonnegative_ = false;
  double radius_ = -1;
  long double energy_ = 0;            // ||x||^2
  long double residual_ = 0;          // ||r||^2, r in extended precision
  long double residual_error_ = 0;    // >= ||that r - (x - D z)||
  long double dual_square_ = 0;       // ||r||^2, r in float64
  long double dual_product_ = 0;      // <x, r>
  long double correlation_low_ = 0;   // <= ||D'r||_inf
  long double correlation_high_ = 0;  // >= ||D'r||_inf
  long double l1_ = 0;                // sum of w_j |z_j|, or of w_g ||z_g||
  long double ridge_ = 0;             // ridge / 2 ||z||^2
  long double repair_ = 0;            // >= the distance of r to vectors that no unpenalised atom correlates with
  long double column_sum_ = 0;        // >= sum_j ||d_j|| |z_j|
  long double largest_column_ = 0;    // >= max_j ||d_j|| / w_j, or max_g ||D_g|| / w_g
  std::int64_t group_terms_ = 0;      // roundings that the norm of a group takes
  long double slack_factor_ = 1;      // for float64_slack
};

/// Certifies codes of one dictionary. Borrows D; immutable, so contexts of several threads may use it at once.
class Certifier {
 public:
  /// @param context  of the CPU
  /// @param D        [n, m], n, m >= 1, finite, on the CPU, unchanged while this object lives
  ///
  /// Cost  n m extended products; 16 m bytes; with k atoms of weight 0 n k^2 and 2 k^3 more, 32 k^2 bytes
  /// @throws ShapeError, DeviceError, ValueError (what Penalty does not allow; atoms of weight 0 that depend on one another
  ///         so closely that extended precision cannot tell: but for exact copies, of which one is enough without a ridge)
  Certifier(const Context& context, MatrixView<const double> D, Penalty penalty = {});

  std::int64_t rows() const { return D_.rows; }
  std::int64_t atoms() const { return D_.cols; }

  /// out[b] = ||D'x_b||_inf, rounded to nearest from extended precision; max_g ||D_g'x_b|| / w_g and so on under a penalty,
  /// where with atoms of weight 0 x is first rounded to float64 without what they explain.
  /// @param X    [n, N], finite
  /// @param out  [N]
  void lambda_max(const Context& context, MatrixView<const double> X, VectorView<double> out) const;

  /// Measures of N codes.
  ///
  /// @param X       [n, N], finite
  /// @param Z       N codes
  /// @param lambda  [N], finite, >= 0: for the optimality conditions; `Measures::at` takes any
  /// @param first   number of the first problem, for messages
  /// @param out     [N]
  ///
  /// Determinism  a problem's result depends on that problem alone, and not on threads; instruction sets (fused
  ///              multiply-adds) may change it within its bounds
  /// Cost         2 n m flops a problem in float64; n k extended products for k nonzeros, and n for each correlation
  ///              that may be the largest. Allocates some 300 (n + 512) bytes a thread
  /// @throws ShapeError, ValueError (a residual beyond float64, a code that the penalty does not allow, naming its problem)
  void measure(const Context& context, MatrixView<const double> X, const CodeRows& Z, VectorView<const double> lambda,
               std::int64_t first, Measures* out) const;

 private:
  struct Panel;
  void prepare_free();
  void free_residual(std::vector<long double>& r, std::vector<double>& free_code, long double& before,
                     long double& repair) const;
  void correlations(Panel& panel) const;
  void look_at_atoms(Panel& panel, std::int64_t tile, std::int64_t count) const;
  void look_at_groups(Panel& panel, std::int64_t tile, std::int64_t count) const;
  long double weighted_norms(const std::int64_t* indices, const double* values, std::int64_t nonzeros) const;
  bool grouped() const { return penalty_.group_size > 1; }
  /// Of the group that the atom is in.
  double weight(std::int64_t atom) const {
    return penalty_.weights.empty() ? 1.0 : penalty_.weights[static_cast<std::size_t>(atom / penalty_.group_size)];
  }
  void residual(const double* x, const std::int64_t* indices, const double* values, std::int64_t nonzeros,
                long double* r) const;

  MatrixView<const double> D_;
  Penalty penalty_;
  std::vector<double> norms_;  // [m], >= ||d_j||
  double largest_norm_ = 0;    // over weights, of penalised atoms or groups
  // Atoms of weight 0, but for copies; with G = D_0'D_0 + ridge I.
  std::vector<std::int64_t> free_;
  std::vector<long double> inverse_;  // [free, free], about G^-1
  long double inverse_norm_ = 0;      // >= ||G^-1||
};

}  // namespace shrinkwarp::certify
