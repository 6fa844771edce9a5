#include <shrinkwarp/kernels/gemm/gemm.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

namespace cpu {
template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C);
template <class T>
void gemm_strided_batched(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A,
                          std::int64_t stride_a, MatrixView<const T> B, std::int64_t stride_b, T beta, MatrixView<T> C,
                          std::int64_t stride_c, std::int64_t count);
}  // namespace cpu
namespace cuda {
template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A, MatrixView<const T> B,
          T beta, MatrixView<T> C, MathMode mode, VectorView<T> scratch);
template <class T>
void gemm_strided_batched(const Context& context, Transpose op_a, Transpose op_b, T alpha, MatrixView<const T> A,
                          std::int64_t stride_a, MatrixView<const T> B, std::int64_t stride_b, T beta, MatrixView<T> C,
                          std::int64_t stride_c, std::int64_t count);
}  // namespace cuda

namespace {

/// The three operands of a product fit and lie on the context's device.
template <class T>
void check_operands(const Context& context, const char* function, Transpose op_a, Transpose op_b, MatrixView<const T> A,
                    MatrixView<const T> B, MatrixView<T> C) {
  const std::int64_t inner = op_a == Transpose::no ? A.cols : A.rows;
  check_matrix(context, function, "A", A, op_a == Transpose::no ? C.rows : inner,
               op_a == Transpose::no ? inner : C.rows);
  check_matrix(context, function, "B", B, op_b == Transpose::no ? inner : C.cols,
               op_b == Transpose::no ? C.cols : inner);
  check_matrix(context, function, "C", C, C.rows, C.cols);
}

}  // namespace

template <class T>
std::int64_t gemm_scratch(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B,
                          MathMode mode) {
  const bool split = sizeof(T) == sizeof(float) && mode == MathMode::split_tf32 && context.is_cuda();
  return split ? 2 * (A.rows * A.cols + B.rows * B.cols) : 0;
}

template <class T>
void gemm(const Context& context, Transpose op_a, Transpose op_b, T alpha, identity_t<MatrixView<const T>> A,
          identity_t<MatrixView<const T>> B, T beta, MatrixView<T> C, MathMode mode, VectorView<T> scratch) {
  check_operands<T>(context, "gemm", op_a, op_b, A, B, C);
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

template <class T>
void gemm_strided_batched(const Context& context, Transpose op_a, Transpose op_b, T alpha,
                          identity_t<MatrixView<const T>> A, std::int64_t stride_a, identity_t<MatrixView<const T>> B,
                          std::int64_t stride_b, T beta, MatrixView<T> C, std::int64_t stride_c, std::int64_t count) {
  constexpr const char* kName = "gemm_strided_batched";
  check_operands<T>(context, kName, op_a, op_b, A, B, C);
  SHRINKWARP_REQUIRE(count >= 0, ValueError, kName, ": count is ", count, ", wanted >= 0");
  SHRINKWARP_REQUIRE(stride_a >= 0 && stride_b >= 0 && stride_c >= 0, ValueError, kName, ": the strides are ", stride_a,
                     ", ", stride_b, " and ", stride_c, ", wanted >= 0");
  if (C.empty() || count == 0) return;
  const bool one_after_another = stride_c >= (C.cols - 1) * C.ld + C.rows;
  const bool beneath = stride_c >= C.rows && (count - 1) * stride_c + C.rows <= C.ld;
  SHRINKWARP_REQUIRE(count == 1 || one_after_another || beneath, ShapeError, kName, ": stride_c is ", stride_c,
                     ", which makes two of ", count, " C overlap, ", C.rows, " x ", C.cols, " with leading dimension ",
                     C.ld);
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::gemm_strided_batched<T>(context, op_a, op_b, alpha, A, stride_a, B, stride_b, beta, C, stride_c,
                                           count);
  }
  cpu::gemm_strided_batched<T>(context, op_a, op_b, alpha, A, stride_a, B, stride_b, beta, C, stride_c, count);
}

template std::int64_t gemm_scratch<float>(const Context&, MatrixView<const float>, MatrixView<const float>, MathMode);
template void gemm<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>, MatrixView<const float>,
                          float, MatrixView<float>, MathMode, VectorView<float>);
template std::int64_t gemm_scratch<double>(const Context&, MatrixView<const double>, MatrixView<const double>,
                                           MathMode);
template void gemm<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                           MatrixView<const double>, double, MatrixView<double>, MathMode, VectorView<double>);
template void gemm_strided_batched<float>(const Context&, Transpose, Transpose, float, MatrixView<const float>,
                                          std::int64_t, MatrixView<const float>, std::int64_t, float, MatrixView<float>,
                                          std::int64_t, std::int64_t);
template void gemm_strided_batched<double>(const Context&, Transpose, Transpose, double, MatrixView<const double>,
                                           std::int64_t, MatrixView<const double>, std::int64_t, double,
                                           MatrixView<double>, std::int64_t, std::int64_t);

}  // namespace shrinkwarp
