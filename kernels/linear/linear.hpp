// Linear layers with their activation, activations alone, and their gradients. Weights lie as PyTorch holds them: its weight (out, in) in C
// order is the column-major W [in, out], so a layer is act(W'X + b).
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

enum class Activation {
  none,
  relu,  ///< max(u, 0); its derivative at 0 is 0
  gelu,  ///< u Phi(u), Phi the normal distribution function by erf (PyTorch's default, not the one by tanh)
  tanh,
};

/// A linear layer of a batch.
///
///   Y <- act(W'X + b)
///
/// @param W  [in, out], neither of them 0
/// @param b  [out], or empty for 0
/// @param X  [in, N]
/// @param Y  [out, N], written
/// @param U  [out, N], written with W'X + b, or empty; the backward pass of gelu needs it
/// Y, U and what is read must not overlap.
///
/// Numerics     products and sums in T; tanh on the CPU within 4 ulp. NaN in, NaN out
/// Determinism  same bits run to run; on the CPU for any number of threads. They depend on N
/// Cost         2 in out N flops; W, X and Y once. On the CPU tasks of 256 samples and 512 features, bias and activation while
///              they are in cache; on CUDA one product and one elementwise pass. Scratch none. Allocates as the BLAS does,
///              synchronises no, capturable yes (CUDA, after a first call)
/// @throws ShapeError, DeviceError, ValueError, CudaError, CublasError
template <class T>
void linear_forward(const Context& context, identity_t<MatrixView<const T>> W, identity_t<VectorView<const T>> b,
                    Activation activation, identity_t<MatrixView<const T>> X, MatrixView<T> Y,
                    identity_t<MatrixView<T>> U);

/// A linear layer that is added to what is there: how a momentum network takes its step.
///
///   Y <- alpha (W'X + b) + beta Y
///
/// @param b     [out], or empty for 0
/// @param beta  with 0, Y is not read
/// @param Y     [out, N], updated; must not overlap X
///
/// The rest as for linear_forward.
template <class T>
void linear_blend(const Context& context, identity_t<MatrixView<const T>> W, identity_t<VectorView<const T>> b, T alpha,
                  identity_t<MatrixView<const T>> X, T beta, MatrixView<T> Y);

/// Bytes that linear_backward needs as scratch for N samples: H of an activation, and sums.
template <class T>
std::int64_t linear_backward_scratch(const Context& context, std::int64_t in, std::int64_t out, std::int64_t N,
                                     Activation activation);

/// Gradients of a linear layer from that of its output.
///
///   H = dY * act'(U)           relu and tanh: from Y = act(U)
///   dW <- dW + X H',   db <- db + H 1,   dX <- beta dX + W H
///
/// @param X        [in, N]
/// @param Y        [out, N] of the forward pass for relu and tanh; else not read, may be empty
/// @param U        [out, N] of the forward pass for gelu; else not read, may be empty
/// @param dY       [out, N]; where Y of relu is 0 or less it counts as 0, NaN too; NaN in Y lets it through, as in PyTorch
/// @param dW       [in, out], added to
/// @param db       [out], added to, or empty where there is no bias
/// @param beta     with 0, dX is not read
/// @param dX       [in, N], updated, or empty where it is not wanted
/// @param scratch  linear_backward_scratch() bytes, aligned to 256 bytes; not kept
/// What is written overlaps nothing else.
///
/// Numerics     products and sums in T, sums of db in double. NaN in, NaN out
/// Determinism  as for linear_forward; no atomics. dW is cut into blocks by shape, each is summed over the whole batch
/// Cost         4 in out N flops, half of them for dX; Y or U, dY and H once more. Allocates as the BLAS does, synchronises no,
///              capturable yes (CUDA, after a first call)
/// @throws ShapeError, DeviceError, ValueError, CudaError, CublasError
template <class T>
void linear_backward(const Context& context, identity_t<MatrixView<const T>> W, Activation activation,
                     identity_t<MatrixView<const T>> X, identity_t<MatrixView<const T>> Y,
                     identity_t<MatrixView<const T>> U, identity_t<MatrixView<const T>> dY, MatrixView<T> dW,
                     identity_t<VectorView<T>> db, T beta, identity_t<MatrixView<T>> dX, VectorView<std::byte> scratch);

/// An activation alone: Y <- act(X).
///
/// @param X  [rows, N]
/// @param Y  [rows, N], written; may be X
///
/// Numerics     tanh on the CPU within 4 ulp. NaN in, NaN out
/// Determinism  same bits run to run and on the CPU for any number of threads
/// Cost         2 rows N sizeof(T) bytes. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError, CudaError
template <class T>
void activation_forward(const Context& context, Activation activation, identity_t<MatrixView<const T>> X,
                        MatrixView<T> Y);

/// Its gradient: dX <- beta dX + dY * act'(X).
///
/// @param value  [rows, N]: X for gelu, Y = act(X) for relu and tanh; else not read, may be empty
/// @param dY     [rows, N]; where Y of relu is 0 or less it counts as 0, NaN too; NaN in Y lets it through, as in PyTorch
/// @param beta   with 0, dX is not read
/// @param dX     [rows, N], updated; may be dY where beta is 0
///
/// Cost         3 rows N sizeof(T) bytes, one more where beta is not 0. The rest as for activation_forward.
template <class T>
void activation_backward(const Context& context, Activation activation, identity_t<MatrixView<const T>> value,
                         identity_t<MatrixView<const T>> dY, T beta, MatrixView<T> dX);

}  // namespace shrinkwarp
