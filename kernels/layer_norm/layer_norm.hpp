// Layer normalisation: each sample is centred and scaled over its features.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Layer normalisation of a batch.
///
///   mean_j = sum_i X[i,j] / features,   var_j = sum_i (X[i,j] - mean_j)^2 / features,   rstd_j = 1 / sqrt(var_j + eps)
///   Y[i,j] <- (X[i,j] - mean_j) rstd_j weight[i] + bias[i]
///
/// @param X           [features, N]
/// @param weight      [features], or empty for 1
/// @param bias        [features], or empty for 0
/// @param eps         >= 0, added to the variance (PyTorch's default is 1e-5)
/// @param Y           [features, N], written; may be X
/// @param statistics  [2, N], written: mean and rstd, rounded to T
///
/// Numerics     sums in double of differences to a sample's first feature, so that a large mean costs no digits of the variance;
///              elements in T. NaN in X gives NaN in that sample
/// Determinism  same bits run to run, on the CPU for any number of threads; a sample's bits depend on that sample alone
/// Cost         2 features N sizeof(T) bytes, X twice through a cache. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError (no features), DeviceError, ValueError (eps < 0 or NaN), CudaError
template <class T>
void layer_norm_forward(const Context& context, identity_t<MatrixView<const T>> X,
                        identity_t<VectorView<const T>> weight, identity_t<VectorView<const T>> bias, double eps,
                        MatrixView<T> Y, MatrixView<T> statistics);

/// Bytes that layer_norm_backward needs as scratch.
std::int64_t layer_norm_backward_scratch(const Context& context, std::int64_t features, std::int64_t N);

/// Gradients of layer normalisation.
///
///   xhat = (X - mean) rstd,   G = weight dY
///   dX[:,j] <- beta dX[:,j] + rstd_j (G[:,j] - mean_i G[i,j] - xhat[:,j] mean_i (G[i,j] xhat[i,j]))
///   dweight <- dweight + sum_j dY[:,j] xhat[:,j],   dbias <- dbias + sum_j dY[:,j]
///
/// @param X           [features, N] of the forward pass
/// @param statistics  [2, N] of the forward pass
/// @param weight      [features], or empty for 1
/// @param dY          [features, N]
/// @param beta        with 0, dX is not read
/// @param dX          [features, N], updated, may be dY; or empty where it is not wanted
/// @param dweight     [features], added to, or empty
/// @param dbias       [features], added to, or empty
/// @param scratch     layer_norm_backward_scratch() bytes, aligned to 256 bytes; not kept
///
/// Numerics     sums in double, elements in T. NaN in, NaN out
/// Determinism  as above; no atomics. Sums over samples: pieces of columns by shape, then the pieces in turn
/// Cost         5 features N sizeof(T) bytes (X and dY twice). Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError, CudaError
template <class T>
void layer_norm_backward(const Context& context, identity_t<MatrixView<const T>> X,
                         identity_t<MatrixView<const T>> statistics, identity_t<VectorView<const T>> weight,
                         identity_t<MatrixView<const T>> dY, T beta, MatrixView<T> dX,
                         identity_t<VectorView<T>> dweight, identity_t<VectorView<T>> dbias,
                         VectorView<std::byte> scratch);

}  // namespace shrinkwarp
