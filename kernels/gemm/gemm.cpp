#include <shrinkwarp/kernels/gemm/gemm.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

namespace cpu {
template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C);
}
namespace cuda {
template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C, MathMode mode, VectorView<T> scratch);
}

template <class T>
std::int64_t gemm_scratch(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B,
                          MathMode mode) {
  const bool split = sizeof(T) == sizeof(float) && mode == MathMode::split_tf32 && context.is_cuda();
  return split ? 2 * (A.rows * A.cols + B.rows * B.cols) : 0;
}

template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, identity_t<MatrixView<const T>> A,
          identity_t<MatrixView<const T>> B, T beta, MatrixView<T> C, MathMode mode, VectorView<T> scratch) {
  const std::int64_t inner = op_a == Transpose::no ? A.cols : A.rows;
  check_matrix(context, "gemm", "A", A, op_a == Transpose::no ? C.rows : inner, op_a == Transpose::no ? inner : C.rows);
  check_matrix(context, "gemm", "B", B, op_b == Transpose::no ? inner : C.cols, op_b == Transpose::no ? C.cols : inner);
  check_matrix(context, "gemm", "C", C, C.rows, C.cols);
  const std::int64_t wanted = gemm_scratch<T>(context, A, B, mode);
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, "gemm: scratch has ", scratch.size,
                     " elements, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, "gemm", "scratch", scratch, scratch.size);
  if (C.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::gemm<T>(context, op_a, op_b, alpha, A, B, beta, C, mode, scratch);
  }
  cpu::gemm<T>(context, op_a, op_b, alpha, A, B, beta, C);
}

template std::int64_t gemm_scratch<float>(const Context&, MatrixView<const float>, MatrixView<const float>, MathMode);
template void gemm<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>, MatrixView<const float>,
                          float, MatrixView<float>, MathMode, VectorView<float>);
template std::int64_t gemm_scratch<double>(const Context&, MatrixView<const double>, MatrixView<const double>,
                                           MathMode);
template void gemm<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                           MatrixView<const double>, double, MatrixView<double>, MathMode, VectorView<double>);

}  // namespace shrinkwarp
