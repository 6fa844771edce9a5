// The CPU BLAS is called from our own threads, one call a block of columns: its own threads would fight with ours, and
// a library must not change how its host program's BLAS runs.
#include <algorithm>

#include <cblas.h>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/runtime/error.hpp>

extern "C" {
char* openblas_get_corename(void);
}

namespace shrinkwarp {
namespace {

constexpr std::int64_t kMaxColumns = 512;  // a block's share of B and C stays in a core's cache for D of MEG size

CBLAS_TRANSPOSE cblas(Transpose op) {
  return op == Transpose::no ? CblasNoTrans : CblasTrans;
}

void call(Transpose op_a, Transpose op_b, int M, int N, int K, float alpha, const float* A, int lda, const float* B,
          int ldb, float beta, float* C, int ldc) {
  cblas_sgemm(CblasColMajor, cblas(op_a), cblas(op_b), M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}
void call(Transpose op_a, Transpose op_b, int M, int N, int K, double alpha, const double* A, int lda, const double* B,
          int ldb, double beta, double* C, int ldc) {
  cblas_dgemm(CblasColMajor, cblas(op_a), cblas(op_b), M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}

int narrow(const char* name, std::int64_t value) {
  SHRINKWARP_REQUIRE(value <= 2147483647, ShapeError, "gemm: ", name, " is ", value,
                     ", wanted at most 2147483647 (the CPU BLAS counts in 32 bits)");
  return static_cast<int>(value);
}

/// What the BLAS takes of the operands of one product but for C's columns.
struct Sizes {
  int M, K, lda, ldb, ldc;
};

template <class T>
Sizes sizes_of(Transpose op_a, const MatrixView<const T>& A, const MatrixView<const T>& B, const MatrixView<T>& C) {
  return {narrow("the number of rows of C", C.rows),
          narrow("the inner dimension", op_a == Transpose::no ? A.cols : A.rows),
          narrow("the leading dimension of A", std::max<std::int64_t>(A.ld, 1)),
          narrow("the leading dimension of B", std::max<std::int64_t>(B.ld, 1)),
          narrow("the leading dimension of C", C.ld)};
}

}  // namespace

namespace cpu {

template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C) {
  const Sizes s = sizes_of(op_a, A, B, C);
  const std::int64_t width =
      std::max<std::int64_t>(1, std::min(kMaxColumns, (C.cols + context.threads() - 1) / context.threads()));
  const SingleThreadedBlas single;
  context.parallel_for((C.cols + width - 1) / width, [&](std::int64_t block, int) {
    const std::int64_t first = block * width;
    const std::int64_t count = std::min(width, C.cols - first);
    const T* b = op_b == Transpose::no ? B.column(first) : B.data + first;
    call(op_a, op_b, s.M, static_cast<int>(count), s.K, alpha, A.data, s.lda, b, s.ldb, beta, C.column(first), s.ldc);
  });
}

template <class T>
void gemm_strided_batched(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A,
                          std::int64_t stride_a, MatrixView<const T> B, std::int64_t stride_b, T beta, MatrixView<T> C,
                          std::int64_t stride_c, std::int64_t count) {
  const Sizes s = sizes_of(op_a, A, B, C);
  const int N = narrow("the number of columns of C", C.cols);
  const SingleThreadedBlas single;
  context.parallel_for(count, [&](std::int64_t b, int) {
    call(op_a, op_b, s.M, N, s.K, alpha, A.data + b * stride_a, s.lda, B.data + b * stride_b, s.ldb, beta,
         C.data + b * stride_c, s.ldc);
  });
}

template void gemm<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>, MatrixView<const float>,
                          float, MatrixView<float>);
template void gemm<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                           MatrixView<const double>, double, MatrixView<double>);
template void gemm_strided_batched<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>,
                                          std::int64_t, MatrixView<const float>, std::int64_t, float, MatrixView<float>,
                                          std::int64_t, std::int64_t);
template void gemm_strided_batched<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                                           std::int64_t, MatrixView<const double>, std::int64_t, double,
                                           MatrixView<double>, std::int64_t, std::int64_t);

}  // namespace cpu

const char* cpu_blas_core_name() {
  return openblas_get_corename();
}

}  // namespace shrinkwarp
