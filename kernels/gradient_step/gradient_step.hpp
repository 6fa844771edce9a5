// The fused gradient step + soft-threshold: one iteration of ISTA or FISTA for a batch of Lasso problems in two
// products of our own. Neither the gradient nor the extrapolated point ever reaches memory.
//
//   Y = current + beta (current - previous)                      formed on load, in both products
//   R = X - D Y                                                  extrapolated_residual
//   previous <- st(anchor + Y + step D'R, step lambda) - anchor  gradient_step: the second product and its epilogue
//   swap(current, previous)                                      the caller's
//   t, beta <- restart test on the epilogue's partial sums       update_momentum
//
// Codes are kept as z = anchor + current. With an anchor, X holds x - D anchor, refreshed in float64 now and then; the
// products then work on small differences, and float iterates reach gaps that plain float cannot.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/common/penalty.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The dictionary in the layout that the two products read, made once and shared by all steps on one device.
template <class T>
class StepDictionary {
 public:
  StepDictionary() = default;
  /// @param D  [n, m] on the context's device
  /// Cost: two copies of D. Allocates yes, synchronises no. @throws DeviceError, OutOfMemory
  StepDictionary(const Context& context, MatrixView<const T> D);

  std::int64_t rows() const { return rows_; }  ///< n
  std::int64_t cols() const { return cols_; }  ///< m
  Device device() const { return device_; }
  /// D for the residual product: on CUDA [n, m] with ld a multiple of 16 bytes and zero padding, on the CPU packed
  /// panels.
  const T* residual_operand() const { return residual_operand_.data(); }
  /// D for the correlation product: on CUDA D' [m, n] with ld a multiple of 16 bytes, on the CPU packed panels.
  const T* correlation_operand() const { return correlation_operand_.data(); }
  std::int64_t residual_ld() const { return residual_ld_; }
  std::int64_t correlation_ld() const { return correlation_ld_; }
  std::int64_t bytes() const { return residual_operand_.bytes() + correlation_operand_.bytes(); }
  /// Its parts, for runtime/flat.hpp. On the CPU.
  template <class Self, class Flat>
  static void list(Self& self, Flat& flat) {
    flat.value(self.rows_);
    flat.value(self.cols_);
    flat.value(self.residual_ld_);
    flat.value(self.correlation_ld_);
    flat.tensor(self.residual_operand_);
    flat.tensor(self.correlation_operand_);
  }

 private:
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::int64_t residual_ld_ = 0;
  std::int64_t correlation_ld_ = 0;
  Device device_;
  Tensor<T> residual_operand_;
  Tensor<T> correlation_operand_;
};

/// What the epilogue leaves for each problem: one row a tile of atoms, summed later in row order.
template <class T>
struct StepPartials {
  MatrixView<T> restart;             ///< [step_tiles, N], sum over the tile of (y - z_next)(z_next - z)
  MatrixView<std::int32_t> support;  ///< [step_tiles, N], nonzeros of z_next in the tile
};

/// Rows of StepPartials for m atoms on this device.
std::int64_t step_tiles(const Context& context, std::int64_t atoms);

/// Elements of T that extrapolated_residual needs as scratch with a dictionary [n, m] for a batch of N problems (0 on the
/// CPU).
std::int64_t residual_scratch(const Context& context, std::int64_t rows, std::int64_t atoms, std::int64_t problems);

/// Residual at the extrapolated point.
///
///   R = X - D (current + beta (current - previous))
///
/// @param current   [m, N], d_k
/// @param previous  [m, N], d_(k-1); not read where beta is 0
/// @param beta      [N], momentum of each problem; 0 gives ISTA
/// @param X         [n, N], observations, or x - D anchor
/// @param R         [n, N], written; must not overlap the inputs
/// @param scratch   residual_scratch() elements on the device; not kept
///
/// Numerics     T throughout; sums in a fixed order
/// Determinism  a column's bits depend on that column alone: not on N, on its place or on the threads
/// Cost         2 n m N flops; reads D once a column tile and 2 m N sizeof(T), writes n N sizeof(T). On CUDA with split
///              sums 2 S n N sizeof(T) more. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void extrapolated_residual(const Context& context, const StepDictionary<T>& D, identity_t<MatrixView<const T>> current,
                           identity_t<MatrixView<const T>> previous, identity_t<VectorView<const T>> beta,
                           identity_t<MatrixView<const T>> X, MatrixView<T> R, VectorView<T> scratch);

/// Gradient step and soft-threshold, in the epilogue of the product D'R.
///
///   y = current + beta (current - previous)
///   previous <- st(anchor + y + step D'R, step lambda) - anchor
///
/// @param R         [n, N], from extrapolated_residual
/// @param anchor    [m, N], or empty for zero
/// @param current   [m, N], read only
/// @param previous  [m, N], read as d_(k-1), overwritten with d_(k+1): the caller swaps the two views afterwards
/// @param beta      [N]
/// @param step      > 0; 1/L guarantees descent
/// @param lambda    [N], >= 0, in the units of the objective
/// @param active    [N] of {0, 1}, or empty for all; where 0, previous <- current (the code keeps its bits)
/// @param partials  written: partial sums of the restart test and of the support's size
/// @param penalty   where it is not plain, st(u, step lambda) becomes max(st(u, step lambda w), 0 where nonnegative) /
///                  (1 + step ridge), the proximal step of the penalty; an atom of infinite weight has z = 0. Groups of more
///                  than one atom are group_step's
///
/// Numerics     T throughout; z = 0 exactly where previous = -anchor; NaN gives NaN
/// Determinism  as extrapolated_residual; no atomics
/// Cost         2 n m N flops; reads D once a column tile, n N and 3 m N sizeof(T) (2 without anchor), writes
///              m N sizeof(T). Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (step <= 0, groups)
template <class T>
void gradient_step(const Context& context, const StepDictionary<T>& D, identity_t<MatrixView<const T>> R,
                   identity_t<MatrixView<const T>> anchor, identity_t<MatrixView<const T>> current,
                   MatrixView<T> previous, identity_t<VectorView<const T>> beta, T step,
                   identity_t<VectorView<const T>> lambda, VectorView<const std::uint8_t> active,
                   StepPartials<T> partials, PenaltyView<T> penalty = {});

/// How beta follows from step to step.
enum class Momentum {
  none,           ///< beta stays 0: ISTA
  fista,          ///< t <- (1 + sqrt(1 + 4 t^2)) / 2, beta = (t_old - 1) / t (Beck and Teboulle 2009)
  fista_restart,  ///< the same, with t = 1 and beta = 0 where <y - z_next, z_next - z> > 0 (O'Donoghue and Candes 2015)
};

/// Sums the partials and moves each problem's momentum on.
///
/// @param t        [N], starts at 1; updated
/// @param beta     [N], starts at 0; written
/// @param support  [N] or empty; written: nonzeros of the code just made
///
/// Numerics     sums over tiles in row order, in double
/// Determinism  same bits for the same partials. Cost: reads the partials once. Allocates no, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void update_momentum(const Context& context, Momentum rule, StepPartials<const T> partials, VectorView<double> t,
                     VectorView<T> beta, VectorView<std::int32_t> support);

}  // namespace shrinkwarp
