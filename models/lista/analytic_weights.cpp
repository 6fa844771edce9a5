#include <shrinkwarp/models/lista/analytic_weights.hpp>

#include <cmath>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/kernels/singular_values/singular_values.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

Tensor<double> analytic_weights(const Context& context, MatrixView<const double> D, double ridge) {
  SHRINKWARP_REQUIRE(ridge >= 0 && std::isfinite(ridge), ValueError, "analytic_weights: ridge is ", ridge,
                     ", wanted a finite number >= 0");
  // D = L S R', so A d_i = L (S / (S^2 + ridge s_1^2)) r_i.
  const SingularValues parts = singular_values(context, D);
  const std::int64_t rank = parts.rank(), k = parts.right.rows();
  const double added = rank > 0 ? ridge * parts.values[0] * parts.values[0] : 0;
  Tensor<double> scaled(context, k, D.cols);
  for (std::int64_t j = 0; j < D.cols; ++j) {
    for (std::int64_t i = 0; i < k; ++i) {
      const double s = parts.values[static_cast<std::size_t>(i)];
      scaled.matrix()(i, j) = i < rank ? parts.right.matrix()(i, j) * s / (s * s + added) : 0;
    }
  }
  Tensor<double> W(context, D.rows, D.cols);
  gemm<double>(context, Transpose::no, Transpose::no, 1.0, parts.left.matrix(), scaled.matrix(), 0.0, W.matrix());
  for (std::int64_t j = 0; j < D.cols; ++j) {
    double along = 0;
    for (std::int64_t i = 0; i < D.rows; ++i) along += W.matrix()(i, j) * D(i, j);
    for (std::int64_t i = 0; i < D.rows; ++i) W.matrix()(i, j) = along > 0 ? W.matrix()(i, j) / along : 0;
  }
  return W;
}

double spectral_radius(const Context& context, MatrixView<const double> W, MatrixView<const double> D) {
  constexpr int kIterations = 50;
  constexpr double kMargin = 1.05;
  Tensor<double> v(context, D.cols, 1), image(context, D.rows, 1);
  fill_normal<double>(context, 1, 0, 0, v.vector());
  double radius = 0;
  for (int k = 0; k < kIterations; ++k) {
    double norm = 0;
    for (std::int64_t j = 0; j < D.cols; ++j) norm += v.data()[j] * v.data()[j];
    norm = std::sqrt(norm);
    if (!(norm > 0)) return 1;
    if (k > 0) radius = norm;
    for (std::int64_t j = 0; j < D.cols; ++j) v.data()[j] /= norm;
    gemm<double>(context, Transpose::no, Transpose::no, 1.0, D, v.matrix(), 0.0, image.matrix());
    gemm<double>(context, Transpose::yes, Transpose::no, 1.0, W, image.matrix(), 0.0, v.matrix());
  }
  return kMargin * radius;
}

}  // namespace shrinkwarp
