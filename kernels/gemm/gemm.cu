// cuBLAS behind the one door. Math modes are set at every call, so that nothing a host program did to the handle, and
// no environment variable, lowers the precision silently.
#include <cublas_v2.h>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::cuda {
namespace {

void check(cublasStatus_t status, const char* call) {
  SHRINKWARP_REQUIRE(status == CUBLAS_STATUS_SUCCESS, CublasError, call, " failed: ", cublasGetStatusString(status));
}

cublasOperation_t operation(Transpose op) {
  return op == Transpose::no ? CUBLAS_OP_N : CUBLAS_OP_T;
}

cublasStatus_t call(cublasHandle_t handle, Transpose op_a, Transpose op_b, std::int64_t M, std::int64_t N,
                    std::int64_t K, const float* alpha, MatrixView<const float> A, MatrixView<const float> B,
                    const float* beta, MatrixView<float> C) {
  return cublasSgemm_64(handle, operation(op_a), operation(op_b), M, N, K, alpha, A.data, A.ld, B.data, B.ld, beta,
                        C.data, C.ld);
}
cublasStatus_t call(cublasHandle_t handle, Transpose op_a, Transpose op_b, std::int64_t M, std::int64_t N,
                    std::int64_t K, const double* alpha, MatrixView<const double> A, MatrixView<const double> B,
                    const double* beta, MatrixView<double> C) {
  return cublasDgemm_64(handle, operation(op_a), operation(op_b), M, N, K, alpha, A.data, A.ld, B.data, B.ld, beta,
                        C.data, C.ld);
}

}  // namespace

template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C, MathMode mode) {
  const cublasHandle_t handle = context.cublas();
  check(cublasSetMathMode(handle, mode == MathMode::tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_PEDANTIC_MATH),
        "cublasSetMathMode");
  const std::int64_t inner = op_a == Transpose::no ? A.cols : A.rows;
  check(call(handle, op_a, op_b, C.rows, C.cols, inner, &alpha, A, B, &beta, C), "cublas<t>gemm");
}

template void gemm<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>, MatrixView<const float>,
                          float, MatrixView<float>, MathMode);
template void gemm<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                           MatrixView<const double>, double, MatrixView<double>, MathMode);

}  // namespace shrinkwarp::cuda
