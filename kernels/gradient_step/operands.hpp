// Internal to gradient_step: what each backend provides besides the public functions, and what the two backends agree
// on beyond the contract. Included by gradient_step.cpp and by both bodies.
//
// Agreed details of the epilogue of gradient_step:
//   y        current where beta is 0 (previous is then not read, NaN in it stays out), else
//            current + beta (current - previous), the same expression and rounding as in extrapolated_residual
//   restart  sum of (y - next)(next - current) over the tile, next being what is stored; 0 where the column is inactive
//   support  number of entries with next != -anchor (next != 0 without an anchor), in inactive columns too
//   next     without an anchor soft_threshold(w, t), with one anchored_soft_threshold(anchor, w, t),
//            w = y + step g, t = step lambda rounded to T; in groups anchored_group_shrinkage(anchor, w, ...)
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/common/checks.hpp>
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

/// What gradient_step and group_step take beside D and R; names and shapes are theirs.
template <class T>
struct StepInputs {
  MatrixView<const T> anchor;  // or empty
  MatrixView<const T> current;
  MatrixView<T> previous;
  VectorView<const T> beta, lambda;
  T step;
  VectorView<const std::uint8_t> active;  // or empty
  StepPartials<T> partials;
  PenaltyView<T> penalty;
};

/// Their shapes, devices and step, and those of R. @throws ShapeError, DeviceError, ValueError (step <= 0)
template <class T>
void check_step(const Context& context, const char* function, const StepDictionary<T>& D, MatrixView<const T> R,
                const StepInputs<T>& inputs) {
  SHRINKWARP_REQUIRE(inputs.step > T(0), ValueError, function, ": step is ", inputs.step, ", wanted > 0");
  const std::int64_t problems = inputs.previous.cols;
  const std::int64_t tiles = step_tiles(context, D.cols());
  check_matrix(context, function, "previous", inputs.previous, D.cols(), problems);
  check_matrix(context, function, "current", inputs.current, D.cols(), problems);
  if (!inputs.anchor.empty()) check_matrix(context, function, "anchor", inputs.anchor, D.cols(), problems);
  check_matrix(context, function, "R", R, D.rows(), problems);
  check_vector(context, function, "beta", inputs.beta, problems);
  check_vector(context, function, "lambda", inputs.lambda, problems);
  if (!inputs.active.empty()) check_vector(context, function, "active", inputs.active, problems);
  check_matrix(context, function, "partials.restart", inputs.partials.restart, tiles, problems);
  check_matrix(context, function, "partials.support", inputs.partials.support, tiles, problems);
}

namespace cpu {

constexpr std::int64_t kTileAtoms = 192;  // rows of StepPartials; a multiple of every panel's height

template <class T>
OperandLayout operand_layout(std::int64_t rows, std::int64_t cols);
/// Fills both operands, padding included. @param D [n, m]
template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand);
std::int64_t step_tiles(const Context& context, std::int64_t atoms);

/// moved <- current + beta (current - previous) + step D'R: gradient_step without a threshold.
template <class T>
void extrapolated_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                       MatrixView<const T> current, MatrixView<const T> previous, VectorView<const T> beta, T step,
                       MatrixView<T> moved);
template <class T>
void shrink_groups(const Context& context, MatrixView<const T> moved, const StepInputs<T>& arguments);

}  // namespace cpu

namespace cuda {

constexpr int kStepAtoms = 128;  // rows of StepPartials, for every T: step_tiles() promises one number

/// Residual operand: D [n, m], column-major with ld = residual_ld and zero padding rows. Correlation operand: D' [m,
/// n], column-major with ld = correlation_ld and zero padding rows.
template <class T>
OperandLayout operand_layout(std::int64_t rows, std::int64_t cols);
/// Fills both operands on the context's stream, padding included. @param D [n, m]
template <class T>
void pack(const Context& context, MatrixView<const T> D, T* residual_operand, T* correlation_operand);
std::int64_t step_tiles(const Context& context, std::int64_t atoms);
std::int64_t residual_scratch(const Context& context, std::int64_t rows, std::int64_t atoms, std::int64_t problems);

/// moved <- current + beta (current - previous) + step D'R: gradient_step without a threshold.
template <class T>
void extrapolated_step(const Context& context, const StepDictionary<T>& D, MatrixView<const T> R,
                       MatrixView<const T> current, MatrixView<const T> previous, VectorView<const T> beta, T step,
                       MatrixView<T> moved);
template <class T>
void shrink_groups(const Context& context, MatrixView<const T> moved, const StepInputs<T>& arguments);

}  // namespace cuda

}  // namespace shrinkwarp
