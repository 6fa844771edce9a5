// The one door to dense products: cuBLAS on CUDA, the CPU BLAS on the CPU. Nothing else in the project calls a BLAS.
#pragma once

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

/// General matrix product.
///
///   C <- alpha op(A) op(B) + beta C
///
/// @param context  stream the work is queued on
/// @param A        [M, K] (or [K, M] with Transpose::yes)
/// @param B        [K, N] (or [N, K] with Transpose::yes)
/// @param C        [M, N]; must not overlap A or B; not read when beta is 0
///
/// Numerics     as the BLAS of the backend; MathMode has no meaning for double
/// Determinism  same bits run to run for the same shapes and threads; not across shapes
/// Cost         2 M N K flops. Allocates as the BLAS does, synchronises no, capturable yes (CUDA, after a first call)
/// Threads      on the CPU the columns of C are shared among context.threads(); the process-wide BLAS thread count is
///              one during the call and is left as found
/// @throws ShapeError, DeviceError, CublasError
template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, identity_t<MatrixView<const T>> A,
          identity_t<MatrixView<const T>> B, T beta, MatrixView<T> C, MathMode mode = MathMode::fp32);

/// Name of the kernels that the CPU BLAS has chosen for this processor, or "unknown".
const char* cpu_blas_core_name();

}  // namespace shrinkwarp
