// Layers of momentum residual networks (Sander, Ablin, Blondel, Peyre 2021) in floating point: forward, back to where they came
// from, and gradients.
//
//   damped  v <- gamma v + (1 - gamma) f(x),  x <- x + v        the paper's
//   plain   v <- gamma v + f(x),              x <- x + v        the talk's
//
// What the branch f is, is the caller's: its values come in, and what its gradient starts from goes out. Going back multiplies
// rounding errors by 1 / gamma a layer; the same layers without any error are in exact_momentum.hpp.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/momentum_residual/exact_arithmetic.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

enum class MomentumForm { damped, plain };

/// What a layer's branch has given.
template <class T>
struct BranchValues {
  VectorView<const T> values;  ///< [features N], what the last product gave
  VectorView<const T> bias;    ///< [features], which f has in addition; or empty
  bool whole = false;          ///< values + bias is x + f(x), not f(x)
};

/// How learned momenta become those that layers use: held within [low, high], and in exact mode as fractions.
struct GammaRange {
  double low = 0, high = 1;
  bool exact = false;  ///< low and high are then within [kLeastExactGamma, kLargestExactGamma]
};

/// The momenta of layers, made ready for kernels on the device.
///
/// @param learned  [layers], on the device: gamma of each  @param gammas  [layers], written
///
/// Numerics     NaN counts as range.low. Same bits on every backend. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (the range)
template <class T>
void prepare_gammas(const Context& context, identity_t<VectorView<const T>> learned, const GammaRange& range,
                    VectorView<MomentumGamma> gammas);

/// One layer forward.
///
/// @param gamma  [1] on the device  @param branch  f at x
/// @param x, v   [features N], updated
///
/// Numerics     two fused multiply-adds an element at most; NaN stays
/// Determinism  same bits on every backend, whatever the threads
/// Cost         5 features N sizeof(T) bytes: memory bound. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void momentum_forward(const Context& context, VectorView<const MomentumGamma> gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<T> x, VectorView<T> v);

/// x <- x - v, where the way back begins: x of the last layer's branch.
/// Cost         3 features N sizeof(T) bytes. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void momentum_step_back(const Context& context, identity_t<VectorView<const T>> v, VectorView<T> x);

/// The rest of a layer's way back: v before the layer and, where layers come before it, x of the one before.
///
///   v <- (v - share f) / gamma,  x_before <- x - v,    share = 1 - gamma (damped) or 1 (plain)
///
/// @param branch    f at x, as forward had it  @param x  [features N], of this layer's branch  @param v  [features N], updated
/// @param x_before  [features N], written; may be x; empty for the first layer
///
/// Cost         5 features N sizeof(T) bytes. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void momentum_inverse(const Context& context, VectorView<const MomentumGamma> gamma, MomentumForm form,
                      const BranchValues<T>& branch, identity_t<VectorView<const T>> x, VectorView<T> v,
                      VectorView<T> x_before);

/// Gradients of a layer, but for those through its branch.
template <class T>
struct MomentumAdjoint {
  VectorView<T> dx, dv;        ///< [features N], of the layer's outputs; updated to those of its inputs
  VectorView<T> dbranch;       ///< [features N], written: what the branch's gradient starts from
  VectorView<T> dgamma;        ///< [1], added to; or empty: not wanted
  VectorView<double> scratch;  ///< momentum_adjoint_scratch(features N) elements where dgamma is wanted
};
std::int64_t momentum_adjoint_scratch(std::int64_t size);

/// A layer backward, but for its branch, whose gradient is to be added to dx by the caller.
///
///   c = dx + dv,  dbranch = share c,  dv <- gamma c,  dx stays, or dx <- dx - dbranch where the branch's values are whole,
///   dgamma += <c, v - f>  (plain <c, v>), 0 where the layer's gamma is held and would be moved further out
///
/// @param x  [features N], before the layer; read where branch.whole, or empty  @param v  [features N], before the layer
///
/// Numerics     sums over elements in double
/// Determinism  same bits on every backend but for dgamma, there run to run; whatever the threads
/// Cost         4 features N sizeof(T) bytes, 6 with dgamma. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void momentum_adjoint(const Context& context, VectorView<const MomentumGamma> gamma, MomentumForm form,
                      const BranchValues<T>& branch, identity_t<VectorView<const T>> x,
                      identity_t<VectorView<const T>> v, const MomentumAdjoint<T>& adjoint);

}  // namespace shrinkwarp
