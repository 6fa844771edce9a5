// Built on the product door alone, so one body serves both backends.
#include <shrinkwarp/kernels/lipschitz/lipschitz.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

double trace(const Context& context, MatrixView<const double> K) {
  std::vector<double> diagonal(static_cast<std::size_t>(K.rows));
  const MatrixView<double> host{diagonal.data(), 1, K.rows, 1, {}};
  copy(context, MatrixView<const double>{K.data, 1, K.rows, K.ld + 1, K.device}, host);
  context.synchronize();
  double sum = 0;
  for (const double value : diagonal) sum += value;
  return sum;
}

}  // namespace

double lipschitz_bound(const Context& context, MatrixView<const double> D, double tolerance) {
  SHRINKWARP_REQUIRE(tolerance > 0, ValueError, "lipschitz_bound: tolerance is ", tolerance, ", wanted > 0");
  check_matrix(context, "lipschitz_bound", "D", D, D.rows, D.cols);
  if (D.empty()) return 0;

  const bool wide = D.rows <= D.cols;
  const std::int64_t size = std::min(D.rows, D.cols);
  Tensor<double> power(context, size, size);
  Tensor<double> next(context, size, size);
  gemm(context, wide ? Transpose::no : Transpose::yes, wide ? Transpose::yes : Transpose::no, 1.0, D, D, 0.0,
       power.matrix());
  const double first = trace(context, power.matrix());
  SHRINKWARP_REQUIRE(std::isfinite(first), ValueError,
                     "lipschitz_bound: D holds a value that is not finite or too large to square");
  if (first == 0) return 0;

  // `power` is K^p / (trace(K)^p exp(log_trace)) times `scale`; its trace before scaling is 1 by construction, so the
  // sum of squared eigenvalues, the trace after a squaring, says how much of it one eigenvalue already holds.
  double log_trace = 0;
  double scale = first;
  double exponent = 1;
  double remainder = std::log(static_cast<double>(size));  // bound of log(trace(K^p) / L^p)
  while (remainder / exponent > tolerance) {
    gemm(context, Transpose::no, Transpose::no, 1.0 / (scale * scale), power.matrix(), power.matrix(), 0.0,
         next.matrix());
    std::swap(power, next);
    scale = trace(context, power.matrix());
    // With eigenvalues mu of trace 1, the largest is at least sum mu^2 = scale, hence trace / largest <= 1 / scale.
    remainder = std::min(remainder, -std::log(scale));
    log_trace = 2 * log_trace + std::log(scale);
    exponent *= 2;
  }
  const double bound = first * std::exp(log_trace / exponent);
  const double terms = static_cast<double>(D.rows) + static_cast<double>(D.cols);
  return bound * (1 + 4 * terms * std::numeric_limits<double>::epsilon());
}

}  // namespace shrinkwarp
