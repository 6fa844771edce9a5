#include <shrinkwarp/models/lasso/debias.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/kernels/least_squares/least_squares.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

std::int64_t Debias::bytes(const Context& context, std::int64_t rows, std::int64_t atoms) {
  const std::int64_t copied = context.is_cuda() ? 8 * rows * atoms : 0;
  return copied + context.threads() * LeastSquares::bytes(rows, std::min(atoms, 2 * rows));
}

Debias::Debias(const Context& context, const Dictionary& dictionary)
    : dictionary_(dictionary), host_(Context::cpu(context.is_cuda() ? 0 : context.threads())) {
  D_ = dictionary.exact().matrix();
  if (!context.is_cuda()) return;
  copied_ = Tensor<double>(host_, dictionary.rows(), dictionary.atoms());
  copy(context, dictionary.exact().matrix(), copied_.matrix());
  context.synchronize();
  D_ = copied_.matrix();
}

std::vector<double> Debias::amplitudes(MatrixView<const double> X, const SparseCodes& codes) const {
  SHRINKWARP_REQUIRE(X.rows == D_.rows && X.cols == codes.size(), ShapeError, "Debias: X is ", X.rows, " x ", X.cols,
                     " for ", codes.size(), " codes, wanted ", D_.rows, " rows and a column for each");
  std::vector<double> values(codes.values.size());
  std::vector<LeastSquares> problems(static_cast<std::size_t>(host_.threads()));
  const SingleThreadedBlas single;
  host_.parallel_for(codes.size(), [&](std::int64_t i, int worker) {
    const std::int64_t first = codes.offsets[static_cast<std::size_t>(i)];
    const std::int64_t count = codes.offsets[static_cast<std::size_t>(i) + 1] - first;
    LeastSquares& problem = problems[static_cast<std::size_t>(worker)];
    const MatrixView<double> atoms = problem.columns(D_.rows, count);
    for (std::int64_t k = 0; k < count; ++k)
      std::copy_n(D_.column(codes.indices[static_cast<std::size_t>(first + k)]), D_.rows, atoms.column(k));
    double* const own = values.data() + first;
    problem.solve(X.column(i), own);
    for (std::int64_t k = 0; k < count; ++k) {
      own[k] /= dictionary_.scale();
      SHRINKWARP_REQUIRE(std::isfinite(own[k]), ValueError, "Debias: an amplitude of atom ",
                         codes.indices[static_cast<std::size_t>(first + k)],
                         " leaves the range of float64, wanted a dictionary and observations in closer units");
    }
  });
  return values;
}

}  // namespace shrinkwarp
