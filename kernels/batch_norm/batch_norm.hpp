// Batch normalisation: each channel is centred and scaled over all samples and positions. Feature = channel * positions +
// position, so that an image of NCHW is a column; positions is 1 behind a linear layer.
//
// Statistics are an operation of their own: a network that computes its forward pass again uses them again, and updates the
// running ones once. Sums are, too: where several processes have a part of a batch each, what they add between them are these.
//
// Of all functions here:
// Numerics     sums in double, elements in T. NaN in, NaN out
// Determinism  same bits run to run, on the CPU for any number of threads: sums over pieces of columns by shape, then the
//              pieces in turn; no atomics
// Allocates no, synchronises no, capturable yes
// @throws ShapeError, DeviceError, ValueError, CudaError
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Rows of statistics.
struct BatchNormStatistics {
  enum : std::int64_t { kMean, kRstd, kVariance, kSize };
};

/// Bytes that functions with scratch need.
std::int64_t batch_norm_scratch(const Context& context, std::int64_t channels, std::int64_t positions, std::int64_t N);

/// The statistics of a batch, over the count = positions N elements of each channel.
///
///   mean = sum x / count,   biased = sum (x - mean)^2 / count,   rstd = 1 / sqrt(biased + eps),   variance = biased count / (count - 1)
///
/// @param positions   of a channel, >= 1
/// @param X           [channels positions, N], with at least 2 elements a channel
/// @param eps         >= 0 (PyTorch's default is 1e-5)
/// @param statistics  [3, channels], written: mean, rstd and the unbiased variance without eps, rounded to T
/// @param scratch     batch_norm_scratch() bytes, aligned to 256 bytes; not kept
///
/// Numerics     sums of differences to a channel's first element: a large mean costs no digits of the variance
/// Cost         reads X once
template <class T>
void batch_norm_statistics(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> X,
                           double eps, MatrixView<T> statistics, VectorView<std::byte> scratch);

/// What statistics are made of: of each channel the sum of x - shift, then of each that of its square.
///
/// @param positions  of a channel, >= 1
/// @param X          [channels positions, N]; of no samples the sums are 0
/// @param shift      [channels], the same for all parts of a batch: one of a channel's elements
/// @param sums       [2 channels], written
/// @param scratch    batch_norm_scratch() bytes, aligned to 256 bytes; not kept
///
/// Cost         reads X once
template <class T>
void batch_norm_sums(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> X,
                     identity_t<VectorView<const T>> shift, VectorView<double> sums, VectorView<std::byte> scratch);

/// batch_norm_statistics of a batch whose sums are known. The same bits, where shift is a channel's first elements and the
/// sums are made in one go.
///
/// @param sums        [2 channels] of batch_norm_sums, added over the parts of the batch
/// @param elements    of a channel in all parts, >= 2
/// @param eps         >= 0
/// @param statistics  [3, channels], written
template <class T>
void batch_norm_set_statistics(const Context& context, identity_t<VectorView<const T>> shift,
                               VectorView<const double> sums, std::int64_t elements, double eps,
                               MatrixView<T> statistics);

/// Running statistics, by PyTorch's rule:
///
///   running_mean <- (1 - momentum) running_mean + momentum mean,   running_var <- the same with the unbiased variance
///
/// @param statistics    [3, channels] of batch_norm_statistics
/// @param momentum      in [0, 1] (PyTorch's default is 0.1)
/// @param running_mean  [channels], updated
/// @param running_var   [channels], updated
template <class T>
void batch_norm_update_running(const Context& context, identity_t<MatrixView<const T>> statistics, double momentum,
                               VectorView<T> running_mean, VectorView<T> running_var);

/// The statistics that evaluation uses: mean = running_mean, rstd = 1 / sqrt(running_var + eps), variance = running_var.
///
/// @param statistics  [3, channels], written
template <class T>
void batch_norm_running(const Context& context, identity_t<VectorView<const T>> running_mean,
                        identity_t<VectorView<const T>> running_var, double eps, MatrixView<T> statistics);

/// Y <- (X - mean) rstd weight + bias, and of that max(., 0) with `relu`, which keeps NaN.
///
/// @param statistics  [3, channels]
/// @param weight      [channels], or empty for 1
/// @param bias        [channels], or empty for 0
/// @param Y           [channels positions, N], written; may be X
///
/// Cost         2 channels positions N sizeof(T) bytes. Scratch none
template <class T>
void batch_norm_forward(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> statistics,
                        identity_t<VectorView<const T>> weight, identity_t<VectorView<const T>> bias, bool relu,
                        identity_t<MatrixView<const T>> X, MatrixView<T> Y);

/// Gradients of batch normalisation without its relu, whose own backward pass comes before (relu_backward).
///
///   xhat = (X - mean) rstd,   S = sum dY,   P = sum dY xhat    (of each channel)
///   dX <- beta dX + weight rstd (dY - (S + xhat P) / count)    with through_statistics: they were made of X
///   dX <- beta dX + weight rstd dY                             without: they are constants
///   dweight <- dweight + P,   dbias <- dbias + S
///
/// @param statistics  [3, channels] of the forward pass
/// @param weight      [channels], or empty for 1
/// @param X           [channels positions, N] of the forward pass
/// @param dY          [channels positions, N]
/// @param beta        with 0, dX is not read
/// @param dX          [channels positions, N], updated, may be dY; or empty where it is not wanted
/// @param dweight     [channels], added to, or empty
/// @param dbias       [channels], added to, or empty
/// @param scratch     batch_norm_scratch() bytes, aligned to 256 bytes; not kept
///
/// Cost         X and dY twice, dX once
template <class T>
void batch_norm_backward(const Context& context, std::int64_t positions, identity_t<MatrixView<const T>> statistics,
                         identity_t<VectorView<const T>> weight, identity_t<MatrixView<const T>> X,
                         identity_t<MatrixView<const T>> dY, bool through_statistics, T beta, MatrixView<T> dX,
                         identity_t<VectorView<T>> dweight, identity_t<VectorView<T>> dbias,
                         VectorView<std::byte> scratch);

/// The first half of batch_norm_backward: S of each channel, then P of each, and the gradients that they are. Both halves
/// together have its bits.
///
/// @param sums     [2 channels], written
/// @param dweight  [channels], added to, or empty
/// @param dbias    [channels], added to, or empty
/// @param scratch  batch_norm_scratch() bytes, aligned to 256 bytes; not kept
///
/// Cost         reads X and dY once
template <class T>
void batch_norm_gradient_sums(const Context& context, std::int64_t positions,
                              identity_t<MatrixView<const T>> statistics, identity_t<MatrixView<const T>> X,
                              identity_t<MatrixView<const T>> dY, VectorView<double> sums,
                              identity_t<VectorView<T>> dweight, identity_t<VectorView<T>> dbias,
                              VectorView<std::byte> scratch);

/// The second half: dX <- beta dX + weight rstd (dY - (S + xhat P) / (positions N)).
///
/// @param sums  [2 channels], S, then P, where the statistics are made of X alone; or empty: they are constants. Where
///              they are made of a batch of M samples, X is a part of it, and each part's dY is the gradient of the mean
///              over its own N samples: the sums over the parts of (N / M) S and of (N / M) P. Then dX is, as dY is,
///              M / N times the gradient of the mean over the batch (docs/math.md).
///
/// Cost         X and dY once, dX once
template <class T>
void batch_norm_input_gradient(const Context& context, std::int64_t positions,
                               identity_t<MatrixView<const T>> statistics, identity_t<VectorView<const T>> weight,
                               identity_t<MatrixView<const T>> X, identity_t<MatrixView<const T>> dY,
                               VectorView<const double> sums, T beta, MatrixView<T> dX);

}  // namespace shrinkwarp
