#include <shrinkwarp/models/lasso/minimum_norm.hpp>

#include <shrinkwarp/kernels/gemm/gemm.hpp>

namespace shrinkwarp {

std::int64_t MinimumNorm::bytes(std::int64_t rows, std::int64_t atoms) {
  return 8 * rows * atoms + SingularValues::most_bytes(rows, atoms);
}

MinimumNorm::MinimumNorm(const Context& context, MatrixView<const double> D)
    : parts_(singular_values(context, D)), rank_(parts_.rank()) {}

void MinimumNorm::solve(const Context& context, MatrixView<const double> X, MatrixView<double> Z) const {
  const Tensor<double> along(context, rank_, X.cols);
  const MatrixView<double> right = parts_.right.matrix();
  const MatrixView<const double> used{right.data, rank_, right.cols, right.ld, right.device};
  gemm<double>(context, Transpose::yes, Transpose::no, 1, parts_.left.matrix().columns(0, rank_), X, 0, along.matrix());
  for (std::int64_t b = 0; b < X.cols; ++b)
    for (std::int64_t k = 0; k < rank_; ++k) along.matrix()(k, b) /= parts_.values[static_cast<std::size_t>(k)];
  gemm<double>(context, Transpose::yes, Transpose::no, 1, used, along.matrix(), 0, Z);
}

}  // namespace shrinkwarp
