// The elementwise end of a LISTA layer, whose products are those of linear layers (kernels/linear): soft-thresholding with a
// learned factor an atom and a lambda a sample, and its gradient.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Y[j,b] <- st(U[j,b], lambda[b] theta+[j]),   theta+ = max(theta, 0)
///
/// @param theta   [m], threshold factors
/// @param lambda  [N], >= 0
/// @param U       [m, N]
/// @param Y       [m, N], written; may be U
///
/// Numerics     NaN in, NaN out
/// Determinism  same bits on every backend
/// Cost         2 m N sizeof(T) bytes: memory bound. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError, CudaError
template <class T>
void shrink_layer_forward(const Context& context, identity_t<VectorView<const T>> theta,
                          identity_t<VectorView<const T>> lambda, identity_t<MatrixView<const T>> U, MatrixView<T> Y);

/// Bytes that shrink_layer_backward needs as scratch.
std::int64_t shrink_layer_scratch(const Context& context, std::int64_t m, std::int64_t N);

/// Gradients of the same from that of Y.
///
///   H = dY where Y is not 0, else 0,   dtheta[j] <- dtheta[j] - sum_b lambda[b] sign(Y[j,b]) H[j,b]   where theta[j] >= 0
///
/// @param Y        [m, N] of the forward pass
/// @param dY       [m, N]; what it holds where Y is 0 is dropped, NaN too
/// @param H        [m, N], written: the gradient by U; may be dY
/// @param dtheta   [m], added to
/// @param scratch  shrink_layer_scratch() bytes, aligned to 256 bytes; not kept
///
/// Numerics     sums over samples in double. NaN in Y, and in dY where it counts, gives NaN in dtheta
/// Determinism  H has the same bits on every backend; dtheta run to run, on the CPU for any number of threads. No atomics
/// Cost         5 m N sizeof(T) bytes. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError, CudaError
template <class T>
void shrink_layer_backward(const Context& context, identity_t<VectorView<const T>> theta,
                           identity_t<VectorView<const T>> lambda, identity_t<MatrixView<const T>> Y,
                           identity_t<MatrixView<const T>> dY, MatrixView<T> H, VectorView<T> dtheta,
                           VectorView<std::byte> scratch);

}  // namespace shrinkwarp
