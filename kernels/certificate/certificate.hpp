// Per-problem certificates in float64, and the float64 refresh of the anchors that float iterations hang on.
//
// With r = x - D z and s = clip(<x, r> / ||r||^2, +-lambda / ||D'r||_inf), theta = s r is dual feasible and
//   primal = 1/2 ||r||^2 + lambda ||z||_1,   dual = 1/2 ||x||^2 - 1/2 ||x - theta||^2,   gap = primal - dual >= 0.
//
// Under a penalty lambda sum w_j |z_j| + ridge/2 ||z||^2, z >= 0 (PenaltyView) r is the longer [r; -sqrt(ridge) z], the
// residual of an elastic net written as a Lasso: D'r becomes D'r - ridge z, ||r||^2 becomes ||r||^2 + ridge ||z||^2, <x, r>
// stays. Correlations are divided by w_j, and where z >= 0 only those over 0 count, and s >= 0. In groups the norm of a
// group's correlations, divided by w_g, is what |d_j'r| is to an atom.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include <shrinkwarp/kernels/common/penalty.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The dictionary in float64 as certificates read it, made once and shared by all certificates on one device. Move-only.
class CertificateDictionary {
 public:
  CertificateDictionary() = default;
  /// @param D  [n, m] on the context's device
  /// Cost: a copy of D. Allocates yes, synchronises no. @throws DeviceError, OutOfMemory
  CertificateDictionary(const Context& context, MatrixView<const double> D);
  /// The same without the copy, of the first `rows` rows of `padded`.
  CertificateDictionary(Tensor<double>&& padded, std::int64_t rows) : matrix_(std::move(padded)), rows_(rows) {}

  std::int64_t rows() const { return rows_; }           ///< n
  std::int64_t cols() const { return matrix_.cols(); }  ///< m
  Device device() const { return matrix_.matrix().device; }
  MatrixView<const double> matrix() const {  ///< [n, m]
    return {matrix_.data(), rows_, matrix_.cols(), matrix_.rows(), device()};
  }
  /// D' packed in panels for the product D'R on the CPU, another copy of D, made at its first use by whichever thread comes
  /// first; nullptr on CUDA. @throws OutOfMemory
  const double* panels(const Context& context) const;
  /// Its parts, the panels where they have been made, for runtime/flat.hpp. On the CPU.
  template <class Self, class Flat>
  static void list(Self& self, Flat& flat) {
    flat.value(self.rows_);
    flat.tensor(self.matrix_);
    flat.tensor(self.panels_);
    if (self.panels_.size() > 0) std::call_once(*self.packed_, [] {});
  }

 private:
  Tensor<double> matrix_;
  std::int64_t rows_ = 0;
  mutable Tensor<double> panels_;
  std::unique_ptr<std::once_flag> packed_ = std::make_unique<std::once_flag>();
};

/// Moves the codes into the anchors: z = anchor + current is rounded to T and becomes the anchor, the differences
/// follow.
///
///   a = (T)(anchor + current);  previous <- (anchor + previous) - a;  current <- 0;  anchor <- a
///
/// @param anchor, current, previous  [m, N], updated
/// Numerics     the sums in double (for T = double in double); exact zeros of z stay exact zeros
/// Determinism  same bits on every backend. Cost: 6 m N sizeof(T) bytes. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void refresh_anchor(const Context& context, MatrixView<T> anchor, MatrixView<T> current, MatrixView<T> previous);

/// Residual of the codes in float64, and its copy in T.
///
///   R = X - D anchor;   rounded <- (T) R
///
/// @param D        [n, m]
/// @param anchor   [m, N], the codes
/// @param X        [n, N]
/// @param R        [n, N], written
/// @param rounded  [n, N], written; empty for none
///
/// Numerics     double sums in a fixed order
/// Determinism  a column's bits depend on that column alone. Cost: at most 2 n m N flops; the CPU skips zeros.
///              Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void code_residual(const Context& context, const CertificateDictionary& D, identity_t<MatrixView<const T>> anchor,
                   MatrixView<const double> X, MatrixView<double> R, MatrixView<T> rounded);

/// Elements of double that correlation_max needs as scratch.
std::int64_t correlation_scratch(const Context& context, std::int64_t atoms, std::int64_t problems,
                                 std::int64_t group_size = 1);

/// Largest absolute correlation of each residual with an atom; lambda_max where R holds the observations.
///
///   result[b] = max_j |d_j' r_b|
///
/// @param D        [n, m]; m = 0 gives 0
/// @param R        [n, N]
/// @param result   [N], written
/// @param scratch  correlation_scratch() elements on the device
///
/// Numerics     double; NaN in a column gives NaN
/// Determinism  a column's bits depend on that column alone. Cost: 2 n m N flops; D'R is not written.
///              Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     VectorView<double> result, VectorView<double> scratch);

/// The same under a penalty:
///
///   result[b] = max_g ||c_g||_2 / w_g,   c = D'r_b - ridge z_b
///
/// and in groups of one, which is max_j |c_j| / w_j, max(0, max_j c_j / w_j) for z >= 0.
///
/// @param codes    [m, N], z; empty for 0
/// @param penalty  a plain one is the function above
/// The rest as above; a division an entry, or in groups a root and a division a group, more. In groups of more than one what
/// tiles know of the groups that their ends cut is 3 numbers a tile and problem; the tiles are fixed.
/// @throws as above; ValueError, ShapeError (groups that m does not fall into, or that are nonnegative)
template <class T>
void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     identity_t<MatrixView<const T>> codes, PenaltyView<double> penalty, VectorView<double> result,
                     VectorView<double> scratch);

/// Primal value and duality gap of each problem.
///
/// @param X            [n, N], observations
/// @param R            [n, N], X - D z
/// @param correlation  [N], ||D'r||_inf
/// @param codes        [m, N], z
/// @param atom_norm    >= every ||d_j||; 0 where R is exact. Only for the estimate of what rounding hides
/// @param lambda       [N], >= 0
/// @param primal, gap  [N], written; gap is absolute, not under 0, and holds an estimate of what rounding may hide in it
///                     (scalar.hpp, gap_at_best_scale)
/// @param penalty      codes must respect it: 0 where a weight is infinite, no sign that is not allowed
///
/// Numerics     double sums in a fixed order; NaN gives NaN. What is added for rounding is some 2e-14 of 1/2 ||x||^2
///              unless max ||d_j|| ||z||_1 is far over ||x||: smaller gaps are not claimed.
///              lambda = 0 certifies only r = 0
/// Determinism  a column's bits depend on that column alone. Cost: reads 2 n N doubles and m N T.
///              Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void dual_gap(const Context& context, MatrixView<const double> X, MatrixView<const double> R,
              VectorView<const double> correlation, identity_t<MatrixView<const T>> codes, double atom_norm,
              VectorView<const double> lambda, VectorView<double> primal, VectorView<double> gap,
              PenaltyView<double> penalty = {});

}  // namespace shrinkwarp
