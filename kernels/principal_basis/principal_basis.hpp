// The coordinates in which the atoms of a dictionary are shortest to tell.
#pragma once

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Eigenvectors of D D', largest eigenvalue first: of all orthonormal bases of R^n the one whose first k coordinates leave
/// the least of D out, for every k.
///
/// @param D  [n, m] on the CPU, finite as its squares are, 1 <= n <= 32766, m < 2^31
/// @return [n, n], orthonormal columns
///
/// Numerics     double. Determinism  the same bits for the same BLAS kernels: on one thread
/// Cost         n^2 m + 9 n^3 flops. Allocates yes. @throws ShapeError, DeviceError, OutOfMemory, Error (LAPACK fails)
Tensor<double> principal_basis(const Context& context, MatrixView<const double> D);

}  // namespace shrinkwarp
