// One least-squares problem on few columns, in float64.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// z of least norm among those that minimise ||b - A z||, through LAPACK's dgelsy: QR with column pivoting, a column
/// counting as dependent where the condition of those before it would pass 1 / (max(n, k) eps).
///
/// One object serves one problem after the other on the calling thread; allocates where one is larger than those before.
class LeastSquares {
 public:
  /// Bytes for k columns of n rows, at most.
  static std::int64_t bytes(std::int64_t rows, std::int64_t columns);
  /// Room for k columns, to be filled before solve(): [n, k].
  MatrixView<double> columns(std::int64_t rows, std::int64_t count);
  /// @param b  [n]  @param z  [k], written
  /// Cost 2 n k^2 flops. OpenBLAS must be on one thread (SingleThreadedBlas). @throws Error (LAPACK refuses)
  void solve(const double* b, double* z);

 private:
  std::int64_t rows_ = 0, count_ = 0;
  std::vector<double> matrix_, right_, work_;
  std::vector<int> pivots_;
};

}  // namespace shrinkwarp
