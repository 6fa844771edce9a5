// Dropout whose masks are functions of counters: nothing is stored, and whoever computes a pass again, on whatever device, sees the
// same mask.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Dropout of a batch; applied to the gradient of Y it is its own backward pass.
///
///   Y[i,j] <- X[i,j] / (1 - probability) where word e of the sequence (seed, stream) of fill_bits is at least
///             probability 2^32 (no more than 2^32 - 1), else X[i,j] 0;   e = i + (first + j) rows,   stream = layer 2^40 + step
///
/// @param probability  in [0, 1), of an element to be 0
/// @param layer        from 0 to 2^24 - 1: each layer draws masks of its own
/// @param step         [1] on the context's device, from 0 to 2^40 - 1: each step of a training draws new masks, also where the
///                     call was recorded as a graph
/// @param first        >= 0: X has columns first to first + N of a batch, and gets their masks
/// @param X            [rows, N]
/// @param Y            [rows, N], written; may be X
///
/// Numerics     one product an element. NaN in X stays NaN where it is dropped, too
/// Determinism  the same bits on every backend
/// Cost         2 rows N sizeof(T) bytes, some 30 integer operations an element. Scratch none. Allocates no, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError, ValueError (probability, layer, first), CudaError
template <class T>
void dropout(const Context& context, double probability, std::uint64_t seed, std::int64_t layer,
             VectorView<const std::int64_t> step, std::int64_t first, identity_t<MatrixView<const T>> X,
             MatrixView<T> Y);

}  // namespace shrinkwarp
