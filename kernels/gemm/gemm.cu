// cuBLAS behind the one door. Math modes are set at every call, so that nothing a host program did to the handle, and
// no environment variable, lowers the precision silently.
//
// split_tf32: a kernel writes both parts of each operand, then cuBLAS makes three products of parts, which tf32 holds
// exactly. On paper, 6138 x 8192 x 302 on an H100: three products of 30.4 GFLOP at 400 TFLOP/s 228 us, against 455 us of
// fp32; the parts 20 MB, 7 us.
#include <cublas_v2.h>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/ptx.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>
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

cublasStatus_t call(cublasHandle_t handle, Transpose op_a, Transpose op_b, std::int64_t K, const float* alpha,
                    MatrixView<const float> A, std::int64_t stride_a, MatrixView<const float> B, std::int64_t stride_b,
                    const float* beta, MatrixView<float> C, std::int64_t stride_c, std::int64_t count) {
  return cublasSgemmStridedBatched_64(handle, operation(op_a), operation(op_b), C.rows, C.cols, K, alpha, A.data, A.ld,
                                      stride_a, B.data, B.ld, stride_b, beta, C.data, C.ld, stride_c, count);
}
cublasStatus_t call(cublasHandle_t handle, Transpose op_a, Transpose op_b, std::int64_t K, const double* alpha,
                    MatrixView<const double> A, std::int64_t stride_a, MatrixView<const double> B,
                    std::int64_t stride_b, const double* beta, MatrixView<double> C, std::int64_t stride_c,
                    std::int64_t count) {
  return cublasDgemmStridedBatched_64(handle, operation(op_a), operation(op_b), C.rows, C.cols, K, alpha, A.data, A.ld,
                                      stride_a, B.data, B.ld, stride_b, beta, C.data, C.ld, stride_c, count);
}

template <class T>
void product(const Context& context, cublasMath_t math, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A,
             MatrixView<const T> B, T beta, MatrixView<T> C) {
  const cublasHandle_t handle = context.cublas();
  check(cublasSetMathMode(handle, math), "cublasSetMathMode");
  const std::int64_t inner = op_a == Transpose::no ? A.cols : A.rows;
  check(call(handle, op_a, op_b, C.rows, C.cols, inner, &alpha, A, B, &beta, C), "cublas<t>gemm");
}

constexpr int kSplitThreads = 256;

/// high + low = A, both with ld = rows; a thread an element.
__global__ void __launch_bounds__(kSplitThreads)
    split_kernel(MatrixView<const float> A, unsigned* high, unsigned* low) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kSplitThreads + threadIdx.x;
  if (i < A.rows * A.cols) split_tf32(A.data[i % A.rows + i / A.rows * A.ld], high[i], low[i]);
}

struct Parts {
  MatrixView<const float> high, low;
};

/// Both parts of A in 2 A.rows A.cols elements from `memory` on.
Parts split(const Context& context, MatrixView<const float> A, float* memory) {
  const std::int64_t size = A.rows * A.cols;
  float* const low = memory + size;
  launch(split_kernel, dim3(grid_size(ceil_div(size, kSplitThreads), "gemm")), dim3(kSplitThreads), 0, context.stream(),
         A, reinterpret_cast<unsigned*>(memory), reinterpret_cast<unsigned*>(low));
  const std::int64_t ld = A.rows > 0 ? A.rows : 1;
  return {{memory, A.rows, A.cols, ld, A.device}, {low, A.rows, A.cols, ld, A.device}};
}

}  // namespace

template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C, MathMode mode, VectorView<T> scratch) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (mode == MathMode::split_tf32) {
      const Parts a = split(context, A, scratch.data), b = split(context, B, scratch.data + 2 * A.rows * A.cols);
      product<T>(context, CUBLAS_TF32_TENSOR_OP_MATH, op_a, op_b, alpha, a.low, b.high, beta, C);
      product<T>(context, CUBLAS_TF32_TENSOR_OP_MATH, op_a, op_b, alpha, a.high, b.low, T(1), C);
      product<T>(context, CUBLAS_TF32_TENSOR_OP_MATH, op_a, op_b, alpha, a.high, b.high, T(1), C);
      return;
    }
  }
  product<T>(context, mode == MathMode::tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_PEDANTIC_MATH, op_a, op_b, alpha, A,
             B, beta, C);
}

template <class T>
void gemm_strided_batched(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A,
                          std::int64_t stride_a, MatrixView<const T> B, std::int64_t stride_b, T beta, MatrixView<T> C,
                          std::int64_t stride_c, std::int64_t count) {
  const cublasHandle_t handle = context.cublas();
  check(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
  const std::int64_t inner = op_a == Transpose::no ? A.cols : A.rows;
  check(call(handle, op_a, op_b, inner, &alpha, A, stride_a, B, stride_b, &beta, C, stride_c, count),
        "cublas<t>gemmStridedBatched");
}

template void gemm<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>, MatrixView<const float>,
                          float, MatrixView<float>, MathMode, VectorView<float>);
template void gemm<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                           MatrixView<const double>, double, MatrixView<double>, MathMode, VectorView<double>);
template void gemm_strided_batched<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>,
                                          std::int64_t, MatrixView<const float>, std::int64_t, float, MatrixView<float>,
                                          std::int64_t, std::int64_t);
template void gemm_strided_batched<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                                           std::int64_t, MatrixView<const double>, std::int64_t, double,
                                           MatrixView<double>, std::int64_t, std::int64_t);

}  // namespace shrinkwarp::cuda
