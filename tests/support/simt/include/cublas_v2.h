// Stand-in for cuBLAS's header in the host executor's build: the calls that the library makes, served by
// fake_cublas.cpp with plain loops on the executor's device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

typedef struct cublasContext* cublasHandle_t;

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_MAPPING_ERROR = 11,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14,
  CUBLAS_STATUS_NOT_SUPPORTED = 15
};
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };
enum cublasPointerMode_t { CUBLAS_POINTER_MODE_HOST = 0, CUBLAS_POINTER_MODE_DEVICE = 1 };
enum cublasAtomicsMode_t { CUBLAS_ATOMICS_NOT_ALLOWED = 0, CUBLAS_ATOMICS_ALLOWED = 1 };
enum cublasMath_t {
  CUBLAS_DEFAULT_MATH = 0,
  CUBLAS_TENSOR_OP_MATH = 1,
  CUBLAS_PEDANTIC_MATH = 2,
  CUBLAS_TF32_TENSOR_OP_MATH = 3,
  CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16
};

cublasStatus_t cublasCreate(cublasHandle_t* handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasGetVersion(cublasHandle_t handle, int* version);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode);
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, std::size_t bytes);
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode);
cublasStatus_t cublasGetPointerMode(cublasHandle_t handle, cublasPointerMode_t* mode);
const char* cublasGetStatusName(cublasStatus_t status);
const char* cublasGetStatusString(cublasStatus_t status);

#define SHRINKWARP_SIMT_CUBLAS(T, letter, Int, suffix)                                                                \
  cublasStatus_t cublas##letter##gemm##suffix(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,  \
                                              Int m, Int n, Int k, const T* alpha, const T* A, Int lda, const T* B,   \
                                              Int ldb, const T* beta, T* C, Int ldc);                                 \
  cublasStatus_t cublas##letter##gemmStridedBatched##suffix(                                                          \
      cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, Int m, Int n, Int k, const T* alpha,     \
      const T* A, Int lda, long long stride_a, const T* B, Int ldb, long long stride_b, const T* beta, T* C, Int ldc, \
      long long stride_c, Int count);                                                                                 \
  cublasStatus_t cublas##letter##gemv##suffix(cublasHandle_t handle, cublasOperation_t op, Int m, Int n,              \
                                              const T* alpha, const T* A, Int lda, const T* x, Int incx,              \
                                              const T* beta, T* y, Int incy);
SHRINKWARP_SIMT_CUBLAS(float, S, int, )
SHRINKWARP_SIMT_CUBLAS(double, D, int, )
SHRINKWARP_SIMT_CUBLAS(float, S, std::int64_t, _64)
SHRINKWARP_SIMT_CUBLAS(double, D, std::int64_t, _64)
#undef SHRINKWARP_SIMT_CUBLAS
