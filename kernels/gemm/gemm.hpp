// The one door to dense products: cuBLAS on CUDA, the CPU BLAS on the CPU. Nothing else in the project calls a BLAS.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

enum class Transpose { no, yes };

/// What a float product may do with its inputs. Explicit at each call; never lowered silently.
enum class MathMode {
  fp32,  ///< inputs and sums in float (double for double)
  tf32,  ///< inputs rounded to tf32 on CUDA tensor cores; the CPU computes fp32
  /// Each input as the sum of two tf32, three products of these on CUDA tensor cores; the CPU computes fp32.
  split_tf32,
};

/// Elements of T that gemm needs as scratch for operands A and B as they are stored: 2 (A.rows A.cols + B.rows B.cols) for
/// split_tf32 in float on CUDA, where it keeps both parts of each, else 0.
template <class T>
std::int64_t gemm_scratch(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B,
                          MathMode mode);

/// General matrix product.
///
///   C <- alpha op(A) op(B) + beta C
///
/// @param context  stream the work is queued on
/// @param A        [M, K] (or [K, M] with Transpose::yes)
/// @param B        [K, N] (or [N, K] with Transpose::yes)
/// @param C        [M, N]; must not overlap A or B; not read when beta is 0
/// @param scratch  gemm_scratch() elements on the device; not kept; without rows for the modes that need none
///
/// Numerics     as the BLAS of the backend; MathMode has no meaning for double. On CUDA, with sums over |op(A)| |op(B)|, an
///              element is off by at most, each sum with what cuBLAS loses in adding, some 2^-23 for each of its terms,
///                tf32        2^-10 (1 + 2^-12) |alpha| sum    both inputs rounded to 11 bits
///                split_tf32  2^-21 (1 + 2^-10) |alpha| sum    high high + high low + low high, the small ones first, as
///                            split_tf32 in ptx.cuh makes them, C rounded after each; infinity in an input gives NaN
/// Determinism  same bits run to run for the same shapes and threads; not across shapes
/// Cost         2 M N K flops, three times that for split_tf32 and 12 bytes for each element of A and B. Allocates as the
///              BLAS does, synchronises no, capturable yes (CUDA, after a first call)
/// Threads      on the CPU the columns of C are shared among context.threads(); the process-wide BLAS thread count is
///              one during the call and is left as found
/// @throws ShapeError, DeviceError, CublasError
template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, identity_t<MatrixView<const T>> A,
          identity_t<MatrixView<const T>> B, T beta, MatrixView<T> C, MathMode mode = MathMode::fp32,
          VectorView<T> scratch = {});

/// `count` products of the same shape, whose operands lie strides apart.
///
///   C_b <- alpha op(A_b) op(B_b) + beta C_b        b = 0 .. count - 1,  A_b begins b stride_a elements after A_0 = A, and so on
///
/// @param context   stream the work is queued on
/// @param A         [M, K] (or [K, M] with Transpose::yes), the first one
/// @param stride_a  >= 0, elements from one A to the next; 0 takes the same for all
/// @param B         [K, N] (or [N, K] with Transpose::yes), the first one
/// @param stride_b  >= 0, as stride_a
/// @param C         [M, N], the first one; not read when beta is 0. No C overlaps another, or an A or B
/// @param stride_c  from 1 on where count > 1: each C begins after the end of the one before, or all of them lie beneath each
///                  other, rows of one matrix: M <= stride_c and (count - 1) stride_c + M <= C.ld
/// @param count     >= 0
///
/// Numerics     as the BLAS of the backend, inputs and sums in T
/// Determinism  same bits run to run for the same shapes; on the CPU a product's bits depend neither on the threads nor on
///              `count`
/// Cost         2 M N K count flops. Scratch none. Allocates as the BLAS does, synchronises no, capturable yes (CUDA, after a
///              first call)
/// Threads      on the CPU the products are shared among context.threads(), each made by one; BLAS threads as for gemm
/// @throws ShapeError (also a stride that makes two C overlap), ValueError (stride or count < 0), DeviceError, CublasError
template <class T>
void gemm_strided_batched(const Context& context, Transpose op_a, Transpose op_b, T alpha,
                          identity_t<MatrixView<const T>> A, std::int64_t stride_a, identity_t<MatrixView<const T>> B,
                          std::int64_t stride_b, T beta, MatrixView<T> C, std::int64_t stride_c, std::int64_t count);

/// Name of the kernels that the CPU BLAS has chosen for this processor, or "unknown".
const char* cpu_blas_core_name();

}  // namespace shrinkwarp
