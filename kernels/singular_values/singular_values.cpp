#include <shrinkwarp/kernels/singular_values/singular_values.hpp>

#include <algorithm>
#include <limits>

#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>

extern "C" {
// LAPACK: with jobz = 'S' the first min(m, n) singular vectors of both sides; a is overwritten.
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s, double* u,
             const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork, int* iwork, int* info);
}

namespace shrinkwarp {
namespace {

// dgesdd's scratch, 4 k^2 + 7 k + max(n, m) elements or some more for speed, with k = min(n, m).
std::int64_t scratch_elements(std::int64_t rows, std::int64_t cols) {
  const std::int64_t k = std::min(rows, cols);
  return 4 * k * k + 7 * k + std::max(rows, cols) + 64 * (rows + cols);
}

}  // namespace

std::int64_t SingularValues::rank() const {
  const auto size = static_cast<double>(std::max(left.rows(), right.cols()));
  const double least = values.empty() ? 0 : size * std::numeric_limits<double>::epsilon() * values.front();
  return std::count_if(values.begin(), values.end(), [least](double value) { return value > least; });
}

std::int64_t SingularValues::most_bytes(std::int64_t rows, std::int64_t cols) {
  const std::int64_t k = std::min(rows, cols);
  return 8 * (rows * cols + k * (rows + cols) + scratch_elements(rows, cols) + k) + 32 * k;
}

SingularValues singular_values(const Context& context, MatrixView<const double> A) {
  check_matrix(context, "singular_values", "A", A, A.rows, A.cols);
  SHRINKWARP_REQUIRE(!context.is_cuda(), DeviceError, "singular_values: A lies on ", A.device, ", wanted the cpu");
  const std::int64_t k = std::min(A.rows, A.cols);
  SHRINKWARP_REQUIRE(scratch_elements(A.rows, A.cols) <= std::numeric_limits<int>::max(), ShapeError,
                     "singular_values: A is ", A.rows, " x ", A.cols, ", wanted at most some 20000 rows or columns");
  const Context one = Context::cpu(1);
  SingularValues result{Tensor<double>(one, A.rows, k), Tensor<double>(one, k, A.cols),
                        std::vector<double>(static_cast<std::size_t>(k))};
  if (k == 0) return result;
  Tensor<double> copied(one, A.rows, A.cols);
  copy(one, A, copied.matrix());
  const SingleThreadedBlas single;
  const auto rows = static_cast<int>(A.rows), cols = static_cast<int>(A.cols), small = static_cast<int>(k);
  std::vector<double> work(1);
  std::vector<int> integers(static_cast<std::size_t>(8 * k));
  int work_size = -1, info = 0;
  for (int call = 0; call < 2; ++call) {  // the first one asks for the size
    dgesdd_("S", &rows, &cols, copied.data(), &rows, result.values.data(), result.left.data(), &rows,
            result.right.data(), &small, work.data(), &work_size, integers.data(), &info);
    SHRINKWARP_REQUIRE(info == 0, Error, "singular_values: LAPACK's dgesdd gives ", info, " for ", rows, " x ", cols);
    if (call == 1) break;
    work_size = static_cast<int>(work[0]);
    work.resize(static_cast<std::size_t>(work_size));
  }
  return result;
}

}  // namespace shrinkwarp
