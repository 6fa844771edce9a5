// Elementwise operations between the layers of residual networks.
//
// Of all functions here:
// Numerics     NaN in, NaN out
// Determinism  same bits on every backend for beta of 0 and 1
// Cost         what is read and written, once: memory bound. Scratch none. Allocates no, synchronises no, capturable yes
// @throws ShapeError, DeviceError, ValueError, CudaError
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Y <- A + B.
///
/// @param A, B  [rows, N]
/// @param Y     [rows, N], written; may be A or B
template <class T>
void add(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B, MatrixView<T> Y);

/// The end of a residual block: Y <- max(A + B, 0).
///
/// @param A, B  [rows, N]
/// @param Y     [rows, N], written; may be A or B
template <class T>
void add_relu(const Context& context, identity_t<MatrixView<const T>> A, identity_t<MatrixView<const T>> B,
              MatrixView<T> Y);

/// The gradient through a relu from its output; of add_relu it is that of A and of B.
///
///   dX <- beta dX + (Y > 0 ? dY : 0)
///
/// @param Y     [rows, N] of the forward pass; NaN in Y lets dY through, as in PyTorch
/// @param dY    [rows, N]; what it holds where Y is not above 0 is dropped, NaN too
/// @param beta  with 0, dX is not read
/// @param dX    [rows, N], updated; may be dY
template <class T>
void relu_backward(const Context& context, identity_t<MatrixView<const T>> Y, identity_t<MatrixView<const T>> dY,
                   T beta, MatrixView<T> dX);

}  // namespace shrinkwarp
