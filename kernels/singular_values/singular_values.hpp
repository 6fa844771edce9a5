// The singular value decomposition in float64, for what least squares needs: projections, pseudo-inverses, ranks.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// A = left diag(values) right', the thin form with k = min(n, m).
struct SingularValues {
  Tensor<double> left;         ///< [n, k], orthonormal columns
  Tensor<double> right;        ///< [k, m], orthonormal rows: the transposed right vectors
  std::vector<double> values;  ///< [k], descending
  /// How many of the values count: those over max(n, m) eps times the largest (Golub and Van Loan 5.5.8).
  std::int64_t rank() const;
  /// Bytes that making this takes at most, A's copy included.
  static std::int64_t most_bytes(std::int64_t rows, std::int64_t cols);
};

/// The decomposition of A [n, m] on the CPU, finite, through LAPACK's dgesdd on one thread; no columns give k = 0.
///
/// Numerics     as LAPACK's: left diag(values) right' is A to some eps ||A||
/// Cost         some 10 n m k flops. Allocates yes
/// @throws DeviceError, ShapeError (what LAPACK counts leaves an int), Error (dgesdd does not converge)
SingularValues singular_values(const Context& context, MatrixView<const double> A);

}  // namespace shrinkwarp
