// The host executor's cuBLAS: column-major products by loops, in the order of the handle's stream, checked as cuBLAS
// checks them and with the operands' extents on top. The sums run over k in order, so they are the same for any m and
// n.
#include <cublas_v2.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "executor.hpp"

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
};

namespace {

constexpr std::int64_t kRows = 16;  // of a register tile
constexpr std::int64_t kCols = 4;

template <class T>
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const T* A;
  std::int64_t lda;
  const T* B;
  std::int64_t ldb;
  T* C;
  std::int64_t ldc;
  bool tf32;  // for float
};

/// As tensor cores see an input: the nearest of 11 bits.
template <class T>
T seen(T value, bool tf32) {
  if (!std::is_same_v<T, float> || !tf32 || !std::isfinite(value) || value == T(0)) return value;
  const T unit = std::ldexp(T(1), std::ilogb(value) - 10);
  return std::round(value / unit) * unit;
}

/// C = alpha op(A) op(B) + beta C.
template <class T>
void multiply(const Product<T>& p, T alpha, T beta) {
  std::vector<T> a(static_cast<std::size_t>(kRows * p.k));
  std::vector<T> b(static_cast<std::size_t>(kCols * p.k));
  const bool product = alpha != T(0) && p.k > 0;
  for (std::int64_t j0 = 0; j0 < p.n; j0 += kCols) {
    const std::int64_t cols = std::min(kCols, p.n - j0);
    for (std::int64_t l = 0; l < p.k && product; ++l) {
      for (std::int64_t j = 0; j < kCols; ++j) {
        const std::int64_t column = j0 + std::min(j, cols - 1);
        b[l * kCols + j] = seen(p.transpose_b ? p.B[column + l * p.ldb] : p.B[l + column * p.ldb], p.tf32);
      }
    }
    for (std::int64_t i0 = 0; i0 < p.m; i0 += kRows) {
      const std::int64_t rows = std::min(kRows, p.m - i0);
      T sum[kCols][kRows] = {};
      if (product) {
        if (!p.transpose_a && rows == kRows && !p.tf32) {
          for (std::int64_t l = 0; l < p.k; ++l) {
            const T* column = p.A + i0 + l * p.lda;
            for (int j = 0; j < kCols; ++j) {
              for (int i = 0; i < kRows; ++i) sum[j][i] += column[i] * b[l * kCols + j];
            }
          }
        } else {
          for (std::int64_t i = 0; i < kRows; ++i) {
            const std::int64_t row = i0 + std::min(i, rows - 1);
            for (std::int64_t l = 0; l < p.k; ++l) {
              a[l * kRows + i] = seen(p.transpose_a ? p.A[l + row * p.lda] : p.A[row + l * p.lda], p.tf32);
            }
          }
          for (std::int64_t l = 0; l < p.k; ++l) {
            for (int j = 0; j < kCols; ++j) {
              for (int i = 0; i < kRows; ++i) sum[j][i] += a[l * kRows + i] * b[l * kCols + j];
            }
          }
        }
      }
      for (std::int64_t j = 0; j < cols; ++j) {
        for (std::int64_t i = 0; i < rows; ++i) {
          T& c = p.C[i0 + i + (j0 + j) * p.ldc];
          const T value = product ? alpha * sum[j][i] : T(0);
          c = beta == T(0) ? value : value + beta * c;  // with beta 0 what C holds, NaN even, does not count
        }
      }
    }
  }
}

template <class T>
bool in_device_memory(const T* pointer, std::int64_t rows, std::int64_t cols, std::int64_t ld, std::int64_t stride,
                      std::int64_t count) {
  if (rows == 0 || cols == 0 || count == 0) return true;
  const std::int64_t last = (count - 1) * stride + (cols - 1) * ld + rows;
  return shrinkwarp::simt::is_device_memory(pointer, static_cast<std::size_t>(last) * sizeof(T));
}

cublasStatus_t status_of(cudaError_t error) {
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

template <class T>
cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m,
                    std::int64_t n, std::int64_t k, const T* alpha, const T* A, std::int64_t lda, std::int64_t stride_a,
                    const T* B, std::int64_t ldb, std::int64_t stride_b, const T* beta, T* C, std::int64_t ldc,
                    std::int64_t stride_c, std::int64_t count) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool transpose_a = op_a != CUBLAS_OP_N;
  const bool transpose_b = op_b != CUBLAS_OP_N;
  const std::int64_t one = 1;
  if (m < 0 || n < 0 || k < 0 || count < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (lda < std::max(one, transpose_a ? k : m) || ldb < std::max(one, transpose_b ? n : k) || ldc < std::max(one, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (m == 0 || n == 0 || count == 0) return CUBLAS_STATUS_SUCCESS;
  if (alpha == nullptr || beta == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (!in_device_memory(A, transpose_a ? k : m, transpose_a ? m : k, lda, stride_a, count) ||
      !in_device_memory(B, transpose_b ? n : k, transpose_b ? k : n, ldb, stride_b, count) ||
      !in_device_memory(C, m, n, ldc, stride_c, count)) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const bool on_host = handle->pointer_mode == CUBLAS_POINTER_MODE_HOST;
  const T host_alpha = on_host ? *alpha : T(0);
  const T host_beta = on_host ? *beta : T(0);
  const bool tf32 = handle->math == CUBLAS_TF32_TENSOR_OP_MATH;
  return status_of(shrinkwarp::simt::enqueue(handle->stream, [=] {
    for (std::int64_t i = 0; i < count; ++i) {
      const Product<T> product = {transpose_a, transpose_b,      m,   n,   k, A + i * stride_a, lda, B + i * stride_b,
                                  ldb,         C + i * stride_c, ldc, tf32};
      multiply(product, on_host ? host_alpha : *alpha, on_host ? host_beta : *beta);
    }
  }));
}

template <class T>
cublasStatus_t gemv(cublasHandle_t handle, cublasOperation_t op, std::int64_t m, std::int64_t n, const T* alpha,
                    const T* A, std::int64_t lda, const T* x, std::int64_t incx, const T* beta, T* y,
                    std::int64_t incy) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool transpose = op != CUBLAS_OP_N;
  if (m < 0 || n < 0 || lda < std::max(std::int64_t(1), m) || incx == 0 || incy == 0)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (incx < 0 || incy < 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  const std::int64_t terms = transpose ? m : n;
  const std::int64_t results = transpose ? n : m;
  if (!in_device_memory(A, m, n, lda, 0, 1) || !in_device_memory(x, 1, terms, incx, 0, 1) ||
      !in_device_memory(y, 1, results, incy, 0, 1)) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const bool on_host = handle->pointer_mode == CUBLAS_POINTER_MODE_HOST;
  const T host_alpha = on_host ? *alpha : T(0);
  const T host_beta = on_host ? *beta : T(0);
  return status_of(shrinkwarp::simt::enqueue(handle->stream, [=] {
    const T a = on_host ? host_alpha : *alpha;
    const T b = on_host ? host_beta : *beta;
    std::vector<T> sums(static_cast<std::size_t>(results));
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t i = 0; i < m; ++i) {
        const T entry = A[i + j * lda];
        sums[transpose ? j : i] += entry * x[(transpose ? i : j) * incx];
      }
    }
    for (std::int64_t i = 0; i < results; ++i) {
      T& out = y[i * incy];
      const T value = a == T(0) ? T(0) : a * sums[i];
      out = b == T(0) ? value : value + b * out;
    }
  }));
}

}  // namespace

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int* version) {
  *version = CUDART_VERSION * 10;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *mode = handle->math;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t) {
  return handle == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool good = bytes == 0 || shrinkwarp::simt::is_device_memory(workspace, bytes);
  return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetPointerMode(cublasHandle_t handle, cublasPointerMode_t* mode) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *mode = handle->pointer_mode;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR:
      return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "CUBLAS_STATUS_UNKNOWN";
}

const char* cublasGetStatusString(cublasStatus_t status) {
  return cublasGetStatusName(status);
}

#define SHRINKWARP_SIMT_CUBLAS(T, letter, Int, suffix)                                                                \
  cublasStatus_t cublas##letter##gemm##suffix(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,  \
                                              Int m, Int n, Int k, const T* alpha, const T* A, Int lda, const T* B,   \
                                              Int ldb, const T* beta, T* C, Int ldc) {                                \
    return gemm<T>(handle, op_a, op_b, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1);                     \
  }                                                                                                                   \
  cublasStatus_t cublas##letter##gemmStridedBatched##suffix(                                                          \
      cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, Int m, Int n, Int k, const T* alpha,     \
      const T* A, Int lda, long long stride_a, const T* B, Int ldb, long long stride_b, const T* beta, T* C, Int ldc, \
      long long stride_c, Int count) {                                                                                \
    return gemm<T>(handle, op_a, op_b, m, n, k, alpha, A, lda, stride_a, B, ldb, stride_b, beta, C, ldc, stride_c,    \
                   count);                                                                                            \
  }                                                                                                                   \
  cublasStatus_t cublas##letter##gemv##suffix(cublasHandle_t handle, cublasOperation_t op, Int m, Int n,              \
                                              const T* alpha, const T* A, Int lda, const T* x, Int incx,              \
                                              const T* beta, T* y, Int incy) {                                        \
    return gemv<T>(handle, op, m, n, alpha, A, lda, x, incx, beta, y, incy);                                          \
  }
SHRINKWARP_SIMT_CUBLAS(float, S, int, )
SHRINKWARP_SIMT_CUBLAS(double, D, int, )
SHRINKWARP_SIMT_CUBLAS(float, S, std::int64_t, _64)
SHRINKWARP_SIMT_CUBLAS(double, D, std::int64_t, _64)
