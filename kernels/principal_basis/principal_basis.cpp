#include <shrinkwarp/kernels/principal_basis/principal_basis.hpp>

#include <algorithm>
#include <limits>
#include <vector>

#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>

extern "C" {
// BLAS: the triangle of C = alpha A A' + beta C.
void dsyrk_(const char* uplo, const char* trans, const int* n, const int* k, const double* alpha, const double* a,
            const int* lda, const double* beta, double* c, const int* ldc);
// LAPACK: eigenvalues ascending in w and, with jobz = 'V', eigenvectors in a.
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
             const int* lwork, int* iwork, const int* liwork, int* info);
}

namespace shrinkwarp {
namespace {
// dsyevd's scratch, 2 n^2 + 6 n + 1 elements, is counted in an int.
constexpr std::int64_t kMostRows = 32766;
}  // namespace

Tensor<double> principal_basis(const Context& context, MatrixView<const double> D) {
  check_matrix(context, "principal_basis", "D", D, D.rows, D.cols);
  SHRINKWARP_REQUIRE(!context.is_cuda(), DeviceError, "principal_basis: D lies on ", D.device, ", wanted the cpu");
  SHRINKWARP_REQUIRE(D.rows > 0 && D.rows <= kMostRows, ShapeError, "principal_basis: D has ", D.rows,
                     " rows, wanted 1 to ", kMostRows);
  SHRINKWARP_REQUIRE(std::max(D.cols, D.ld) <= std::numeric_limits<int>::max(), ShapeError, "principal_basis: D has ",
                     D.cols, " columns ", D.ld, " apart, wanted at most ", std::numeric_limits<int>::max());
  const auto n = static_cast<int>(D.rows);
  auto vectors = Tensor<double>::zeros(Context::cpu(1), n, n);
  const SingleThreadedBlas single;
  const double whole = 1, nothing = 0;
  const auto m = static_cast<int>(D.cols), ld = static_cast<int>(std::max(D.ld, D.rows));
  dsyrk_("L", "N", &n, &m, &whole, D.data, &ld, &nothing, vectors.data(), &n);
  std::vector<double> values(static_cast<std::size_t>(n)), work(1);
  std::vector<int> integers(1);
  int work_size = -1, integers_size = -1, info = 0;
  for (int call = 0; call < 2; ++call) {  // the first one asks for the sizes
    dsyevd_("V", "L", &n, vectors.data(), &n, values.data(), work.data(), &work_size, integers.data(), &integers_size,
            &info);
    SHRINKWARP_REQUIRE(info == 0, Error, "principal_basis: LAPACK's dsyevd gives ", info, " for n = ", n);
    if (call == 1) break;
    work_size = static_cast<int>(work[0]);
    integers_size = integers[0];
    work.resize(static_cast<std::size_t>(work_size));
    integers.resize(static_cast<std::size_t>(integers_size));
  }
  for (int j = 0; j < n / 2; ++j)
    std::swap_ranges(vectors.matrix().column(j), vectors.matrix().column(j) + n, vectors.matrix().column(n - 1 - j));
  return vectors;
}

}  // namespace shrinkwarp
