// Sums over what several processes have sent, in a fixed order.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The sum of columns, each times its weight, from the first to the last.
///
///   sums[i] <- weights[0] parts[i, 0] + ... + weights[R - 1] parts[i, R - 1]
///
/// @param weights  [R], R >= 1
/// @param parts    [rows, R]
/// @param sums     [rows], written; must not overlap parts
///
/// Numerics     in double: a product is rounded, then added to the sum, which begins as 0; rounded to T at the end.
///              NaN in, NaN out
/// Determinism  same bits on every backend, and for a row alone and among others: those of a plain loop
/// Cost         (R + 1) rows sizeof(T) bytes, 2 flops an element: memory bound. Scratch none. Allocates no,
///              synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError, CudaError
template <class T>
void weighted_sum(const Context& context, VectorView<const double> weights, identity_t<MatrixView<const T>> parts,
                  VectorView<T> sums);

}  // namespace shrinkwarp
