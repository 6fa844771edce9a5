// How many elements are no numbers: what comes from outside is looked at once, where it lies.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// count[0] <- how many elements of A are NaN or infinite.
///
/// @param A      [rows, N], any leading dimension; float or double
/// @param count  [1] on the context's device, written
///
/// Determinism  the same on every backend
/// Cost         A is read once: memory bound. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, CudaError
template <class T>
void count_non_finite(const Context& context, identity_t<MatrixView<const T>> A, VectorView<std::int64_t> count);

}  // namespace shrinkwarp
