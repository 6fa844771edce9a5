// The minimum-norm least-squares solution, the baseline that sparse codes are compared with: no Lasso, no lambda, no gap.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/singular_values/singular_values.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// z = D^+ x: of all that minimise ||x - D z|| the one of least norm. Singular values that are not over max(n, m) eps times the
/// largest count as 0, as for NumPy's lstsq. On the CPU, in float64.
class MinimumNorm {
 public:
  /// Bytes at most while it is made, D included.
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms);
  /// @param D  [n, m] on the CPU, finite; may go afterwards
  /// Cost some 10 n m min(n, m) flops. @throws as singular_values
  MinimumNorm(const Context& context, MatrixView<const double> D);

  std::int64_t rows() const { return parts_.left.rows(); }
  std::int64_t atoms() const { return parts_.right.cols(); }
  std::int64_t rank() const { return rank_; }
  /// @param X  [n, N]  @param Z  [m, N], written; on the CPU
  /// Cost 2 (n + m) rank flops a problem. Allocates [rank, N]. @throws ShapeError, DeviceError
  void solve(const Context& context, MatrixView<const double> X, MatrixView<double> Z) const;

 private:
  SingularValues parts_;
  std::int64_t rank_ = 0;
};

}  // namespace shrinkwarp
