// K iterations of ISTA or FISTA for a batch of Lasso problems as one operation. On CUDA it is one launch in which the
// dictionary, codes, momentum and residuals stay on the chip: for dictionaries that fit into a block's shared memory.
//
//   K times:  R = X - D (current + beta (current - previous))          as extrapolated_residual
//             previous <- the step and its soft-threshold              as gradient_step
//             swap(current, previous);  t, beta move on                as update_momentum
//
// With no anchor, current = 0 and X the observations this is a whole solve of K iterations.
#pragma once

#include <cstdint>
#include <optional>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// How a launch on CUDA is laid out. Both math modes take the same memory: parts of a float are made in registers.
struct IterationPlan {
  std::int64_t tile = 0;          ///< problems that a block runs side by side, 16 or 32
  std::int64_t atom_tiles = 0;    ///< tiles of 8 atoms that each warp holds codes of: 2, 4 or 8
  std::int64_t line = 0;          ///< floats from one atom to the next in shared memory
  std::int64_t shared_bytes = 0;  ///< of a block
  std::int64_t blocks = 0;        ///< they go from tile to tile until all are done
};

/// Most atoms that any device takes: their codes fill the registers of a multiprocessor.
inline constexpr std::int64_t kMostIterationAtoms = 512;

/// The plan for D [n, m] and N problems, or nothing where D does not fit.
///
///   line = n rounded up to 8, and 8 more where that is a multiple of 16
///   shared_bytes = 4 (line m' + (10 n' + 8) tile),   n', m' = n, m rounded up to 8
///
/// With 227 KiB (compute capability 9.0) 80 x 512, 136 x 256 and 200 x 128 fit, with 163 KiB (8.0) 56 x 512, 88 x 256 and
/// 136 x 128. Tiles of 32, which share what is read of D, are taken for up to 256 atoms where they fit and leave no
/// multiprocessor without work, else tiles of 16.
///
/// @param rows, atoms, problems  n, m and N, >= 0
/// @param shared_memory          bytes that a block may have: Context::block_memory()
/// @param multiprocessors        Context::multiprocessors()
/// @throws ShapeError (a negative number)
std::optional<IterationPlan> iteration_plan(std::int64_t rows, std::int64_t atoms, std::int64_t problems,
                                            std::int64_t shared_memory, int multiprocessors);

/// The same for the context's device; on the CPU, where every dictionary fits, an empty plan.
std::optional<IterationPlan> iteration_plan(const Context& context, std::int64_t rows, std::int64_t atoms,
                                            std::int64_t problems);

/// The step of each iteration: one for all, or K of them on the device as a learned schedule has them. The threshold of
/// an iteration is its step times lambda.
struct StepSizes {
  float all = 0;                 ///< > 0; not looked at where there is one for each
  VectorView<const float> each;  ///< [K], > 0, or empty
};

/// Elements that proximal_iterations needs as scratch for N problems (0 on CUDA).
std::int64_t iterations_scratch(const Context& context, const StepDictionary<float>& D, std::int64_t problems);

/// K iterations.
///
/// @param X           [n, N], observations, or x - D anchor
/// @param anchor      [m, N], or empty for zero
/// @param lambda      [N], >= 0, in the units of the objective
/// @param active      [N] of {0, 1}, or empty for all; where 0 the code keeps its bits, and previous becomes it
/// @param steps       1/L guarantees descent
/// @param iterations  K >= 0
/// @param rule        how t and beta move on
/// @param mode        of the products: tf32 or split_tf32
/// @param current     [m, N], d_0 -> d_K
/// @param previous    [m, N], d_(-1) -> d_(K-1), not read where beta is 0; or empty for problems that begin here: the first
///                    beta is then taken for 0, and d_(K-1) is not kept
/// @param t, beta     [N], as in update_momentum
/// @param scratch     iterations_scratch() elements on the device; not kept
///
/// Views do not overlap.
///
/// Numerics     On CUDA, with u = 2^-24: a product of the residual or the correlation is off by at most
///                tf32        2^-10 (1 + 2^-12) sum |a b|   both inputs rounded to the nearest of 11 bits
///                split_tf32  2^-21 (1 + 2^-10) sum |a b|   three products of two parts each (split_tf32 in ptx.cuh)
///              and its sums by 2 u for each of their terms, of which split_tf32 has three for each product, of the largest partial
///              sum: as good as fp32, whose products and sums are off by u each. The rest is float as in gradient_step. NaN gives
///              NaN, and so does infinity. On the CPU both modes compute fp32, to the bits of the operations above.
/// Determinism  a problem's bits depend on it alone: not on N, its place, its neighbours or the plan; K iterations have the
///              bits of K calls for one; no atomics
/// Cost         4 n m N K flops; on CUDA reads D once a block, X, anchor and the codes once and writes the codes once:
///              (n + 5 m) N sizeof(float) (n + 2 m without anchor and previous). Allocates no, synchronises no, capturable yes
/// @throws ShapeError (also where D does not fit the device), DeviceError, ValueError (a step <= 0, negative K, fp32)
void proximal_iterations(const Context& context, const StepDictionary<float>& D, MatrixView<const float> X,
                         MatrixView<const float> anchor, VectorView<const float> lambda,
                         VectorView<const std::uint8_t> active, StepSizes steps, std::int64_t iterations, Momentum rule,
                         MathMode mode, MatrixView<float> current, MatrixView<float> previous, VectorView<double> t,
                         VectorView<float> beta, VectorView<float> scratch);

}  // namespace shrinkwarp
