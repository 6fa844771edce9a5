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
          T beta, MatrixView<T> C, MathMode mode);
}

template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, identity_t<MatrixView<const T>> A,
          identity_t<MatrixView<const T>> B, T beta, MatrixView<T> C, MathMode mode) {
  const std::int64_t inner = op_a == Transpose::no ? A.cols : A.rows;
  check_matrix(context, "gemm", "A", A, op_a == Transpose::no ? C.rows : inner, op_a == Transpose::no ? inner : C.rows);
  check_matrix(context, "gemm", "B", B, op_b == Transpose::no ? inner : C.cols, op_b == Transpose::no ? C.cols : inner);
  check_matrix(context, "gemm", "C", C, C.rows, C.cols);
  if (C.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::gemm<T>(context, op_a, op_b, alpha, A, B, beta, C, mode);
  }
  cpu::gemm<T>(context, op_a, op_b, alpha, A, B, beta, C);
}

template void gemm<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>, MatrixView<const float>,
                          float, MatrixView<float>, MathMode);
template void gemm<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                           MatrixView<const double>, double, MatrixView<double>, MathMode);

}  // namespace shrinkwarp
