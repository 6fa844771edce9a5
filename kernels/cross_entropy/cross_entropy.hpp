// The loss of classification: softmax and cross-entropy with smoothed labels, and its gradient.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Bytes that cross_entropy needs as scratch.
std::int64_t cross_entropy_scratch(const Context& context, std::int64_t N);

/// The mean loss of a batch, how many labels it finds, and the gradient.
///
///   p = softmax(logits[:,j]),   q_k = (1 - smoothing) [k = labels[j]] + smoothing / classes
///   loss <- mean_j -sum_k q_k log p_k,   correct <- the number of j whose largest logit is that of the label
///   dlogits[k,j] <- scale (p_k - q_k) / N
///
/// @param logits     [classes, N], with at least one class and one sample
/// @param labels     [N], from 0 to classes - 1: for the caller to check, another gives NaN
/// @param smoothing  in [0, 1), PyTorch's label_smoothing
/// @param scale      of the gradient
/// @param loss       [1], written
/// @param correct    [1], written; of equal logits the first one counts
/// @param dlogits    [classes, N], written, may be logits; or empty
/// @param scratch    cross_entropy_scratch() bytes, aligned to 256 bytes; not kept
///
/// Numerics     in double from the logits to the results; the largest logit of a sample is subtracted first, so nothing
///              overflows. NaN among the logits of a sample gives NaN in its gradient and in the loss
/// Determinism  same bits run to run, on the CPU for any number of threads; samples are added in an order fixed by N
/// Cost         2 classes N sizeof(T) bytes, two exponentials a logit. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (smoothing), CudaError
template <class T>
void cross_entropy(const Context& context, identity_t<MatrixView<const T>> logits,
                   VectorView<const std::int32_t> labels, double smoothing, double scale, VectorView<double> loss,
                   VectorView<std::int64_t> correct, MatrixView<T> dlogits, VectorView<std::byte> scratch);

}  // namespace shrinkwarp
