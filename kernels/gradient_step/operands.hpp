// Internal to gradient_step: what each backend provides besides the public functions, and what the two backends agree
// on beyond the contract. Included by gradient_step.cpp and by both bodies.
//
// Agreed details of the epilogue of gradient_step:
//   y        current where beta is 0 (previous is then not read, NaN in it stays out), else
//            current + beta (current - previous), the same expression and rounding as in extrapolated_residual
//   restart  sum of (y - next)(next - current) over the tile, next being what is stored; 0 where the column is inactive
//   support  number of entries with next != -anchor (next != 0 without an anchor), in inactive columns too
//   next     without an anchor soft_threshold(w, t), with one anchored_soft_threshold(anchor, w, t),
//            w = y + step g, t = step lambda rounded to T
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// How large the two operands of a StepDictionary are on one backend, in elements of T.
struct OperandLayout {
  std::int64_t residual_ld = 0;           ///< CUDA: n rounded up to 16 bytes; CPU: padded rows of all panels
  std::int64_t residual_elements = 0;     ///< elements to allocate
  std::int64_t correlation_ld = 0;        ///< CUDA: m rounded up to 16 bytes; CPU: padded rows of all panels
  std::int64_t correlation_elements = 0;  ///< elements to allocate
};

namespace cpu {

template <class T>
OperandLayout operand_layout(std::int64_t rows, std::int64_t cols);
/// Fills both operands, padding included. @param D [n, m]
template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand);
std::int64_t step_tiles(const Context& context, std::int64_t atoms);
template <class T>
std::int64_t residual_scratch(const Context& context, const StepDictionary<T>& D, std::int64_t problems);

}  // namespace cpu

namespace cuda {

/// Residual operand: D [n, m], column-major with ld = residual_ld and zero padding rows. Correlation operand: D' [m,
/// n], column-major with ld = correlation_ld and zero padding rows.
template <class T>
OperandLayout operand_layout(std::int64_t rows, std::int64_t cols);
/// Fills both operands on the context's stream, padding included. @param D [n, m]
template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand);
std::int64_t step_tiles(const Context& context, std::int64_t atoms);
template <class T>
std::int64_t residual_scratch(const Context& context, const StepDictionary<T>& D, std::int64_t problems);

}  // namespace cuda

}  // namespace shrinkwarp
