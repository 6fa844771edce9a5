// Layers of momentum residual networks without rounding errors: x and v in 64-bit fixed point with 44 fraction bits, and a buffer
// of the bits that multiplications by gamma take away. Going back returns every bit of x and v, through any number of layers.
//
// gamma is a fraction p / q of small numbers (exact_gamma), in every place where it stands; what the branch gives is rounded to
// fixed point. exact_arithmetic.hpp has an element's arithmetic. A tile of 32 elements, a warp, has one list of words: those of a
// layer that give a word append it in their order, those that take one take it from the end.
//
// The buffer costs log2(q / p) bits an element and layer, one word of 64 bits and at most some 32 more an element, and 32 bits a
// tile. The branch must give the same bits on the way back: same inputs, same kernels, same shapes.
#pragma once

#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/momentum_residual/momentum_residual.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Elements that share a list.
inline constexpr std::int64_t kInformationTile = 32;

/// The buffer of `size` elements.
struct InformationBuffer {
  VectorView<std::uint64_t> states;  ///< [size], B
  VectorView<std::uint32_t> words;   ///< [tiles capacity], list of tile i from i capacity on
  VectorView<std::int32_t> counts;   ///< [tiles], words that each list holds
  std::int64_t capacity = 0;         ///< most words of a list

  static constexpr std::int64_t tiles(std::int64_t size) { return (size + kInformationTile - 1) / kInformationTile; }
};

/// Most words that a tile's list can have, for layers that take `bits` = sum of log2(q / p) bits an element in all.
std::int64_t information_capacity(double bits);

/// What goes wrong on the device, as a number of a layer from 1 on.
struct ExactStatus {
  static constexpr std::int32_t kAllWell = std::numeric_limits<std::int32_t>::max();
};

/// Everything that layers read and write.
struct ExactState {
  VectorView<std::int64_t> x, v;  ///< [features N]
  InformationBuffer buffer;       ///< of as many elements
  /// [1]: becomes the first layer in which x, v or f left the range of 2^19 (or was no number), or minus the last layer in which
  /// a list ran dry or over, which bits that differ between the two ways do. clear_status() begins it
  VectorView<std::int32_t> status;
};

/// Which layer it is.
struct ExactLayer {
  VectorView<const MomentumGamma>
      gammas;              ///< [layers] on the device, of the whole network, as prepare_gammas makes them
  std::int64_t index = 0;  ///< of [0, layers)
  MomentumForm form = MomentumForm::damped;
};

/// All of them are kAllWell. Allocates no, synchronises no, capturable yes. @throws DeviceError
void clear_status(const Context& context, VectorView<std::int32_t> status);

/// Rounds x and v to fixed point, and begins the buffer.
///
/// @param x, v    [features N]; v empty for 0  @param gammas  [layers], at least one
/// @param state   written; |x|, |v| < 2^19, else the status becomes 1 and the entry 0
/// @param x_in_T  [features N], written: x as the first branch is to see it
///
/// Cost         24 + 2 sizeof(T) bytes an element. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void exact_momentum_begin(const Context& context, identity_t<VectorView<const T>> x, identity_t<VectorView<const T>> v,
                          VectorView<const MomentumGamma> gammas, const ExactState& state, VectorView<T> x_in_T);

/// One layer forward.
///
/// @param branch  f at x_in_T  @param state  updated  @param x_in_T  [features N], updated with x
///
/// Numerics     v p / q exactly with the buffer; f (1 - p / q), or f, rounded to even at 2^-44
/// Determinism  same bits on every backend, whatever the threads
/// Cost         48 + 2 sizeof(T) bytes and log2(q / p) bits an element. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void exact_momentum_forward(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const ExactState& state, VectorView<T> x_in_T);

/// x <- x - v, where the way back begins: x of the last layer's branch, in T too. Cost 24 + sizeof(T) bytes an element.
template <class T>
void exact_momentum_step_back(const Context& context, const ExactState& state, VectorView<T> x_in_T);

/// The rest of a layer's way back: v before the layer and, where its index is not 0, x of the layer before. Where `adjoint` is
/// given, momentum_adjoint() of the layer as well, in the same pass.
///
/// @param branch   f at x_in_T, with the bits that forward had
/// @param adjoint  its gradients, or nullptr
/// @param x_in_T   [features N], of this layer's branch
/// @param x_before [features N], written where the layer's index is not 0: x of the one before; may be x_in_T
///
/// Cost         48 + 2 sizeof(T) bytes and log2(q / p) bits an element, 5 sizeof(T) more with an adjoint. Allocates no,
///              synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void exact_momentum_inverse(const Context& context, const ExactLayer& layer, const BranchValues<T>& branch,
                            const MomentumAdjoint<T>* adjoint, const ExactState& state,
                            identity_t<VectorView<const T>> x_in_T, VectorView<T> x_before);

/// The velocity of the state in T, [features N]. Cost 8 + sizeof(T) bytes an element.
template <class T>
void exact_momentum_velocity(const Context& context, const ExactState& state, VectorView<T> v);

}  // namespace shrinkwarp
