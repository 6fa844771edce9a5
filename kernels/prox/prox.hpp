// Elementwise parts of proximal methods: the soft-threshold and the prox step, unfused. The fused form, which never
// writes the gradient, is gradient_step/.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Soft-threshold with one threshold a column.
///
///   Z[:,b] <- st(U[:,b], thresholds[b]),   st(u, t) = sign(u) max(|u| - t, 0)
///
/// @param U           [m, N], read only; may be Z itself, else must not overlap it
/// @param thresholds  [N], >= 0 (not checked on the device)
/// @param Z           [m, N], written
///
/// Numerics     exact; NaN in U gives NaN in Z
/// Determinism  same bits on every backend
/// Cost         2 m N sizeof(T) bytes, 2 flops an element: memory bound. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void soft_threshold_columns(const Context& context, identity_t<MatrixView<const T>> U,
                            identity_t<VectorView<const T>> thresholds, MatrixView<T> Z);

/// Gradient step and soft-threshold for a batch of Lasso problems, in place.
///
///   Z[:,b] <- st(Z[:,b] - step * grad[:,b], step * lambda[b])
///
/// @param grad    [m, N], D'(D Z - X); read only, must not overlap Z
/// @param step    > 0; 1/L guarantees descent
/// @param lambda  [N], >= 0, in the units of the objective (not the threshold)
/// @param active  [N] of {0, 1}, or empty for all; columns with 0 keep their bits
/// @param Z       [m, N], updated
///
/// Numerics     one fused multiply-add an element; NaN in grad gives NaN in Z
/// Determinism  same bits on every backend
/// Cost         3 m N sizeof(T) bytes, 4 flops an element: memory bound. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (step <= 0)
template <class T>
void prox_step(const Context& context, identity_t<MatrixView<const T>> grad, T step,
               identity_t<VectorView<const T>> lambda, VectorView<const std::uint8_t> active, MatrixView<T> Z);

}  // namespace shrinkwarp
