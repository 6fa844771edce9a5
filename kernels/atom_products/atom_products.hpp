// Products of float64 with a few atoms of a dictionary: the residual of a sparse code, and the correlations that a bound
// has left open.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Rows of columns here are padded with zeros to a multiple of this many elements, and aligned to 64 bytes.
inline constexpr std::int64_t kAtomPadding = 16;

/// r = x - sum over k of values[k] d_atoms[k].
///
/// @param D             [n, m] on the CPU, n and ld multiples of kAtomPadding
/// @param atoms, values [count]
/// @param x, r          [n]; may be the same
///
/// Numerics     double, the atoms in their order. Determinism  the same bits on processors with fused multiply-add.
///              Cost 2 n count flops, on the calling thread. Allocates no. Errors none: sizes are the caller's business
void subtract_atoms(MatrixView<const double> D, const std::int32_t* atoms, const double* values, std::int64_t count,
                    const double* x, double* r);

/// result[k] = d_atoms[k]' r. The rest as for subtract_atoms.
void correlate_atoms(MatrixView<const double> D, const std::int32_t* atoms, std::int64_t count, const double* r,
                     double* result);

/// result[j] = d_j'r for all atoms, from the transposed dictionary: one that is small enough to be read whole each time.
/// @param transposed  [m padded with zeros to kAtomPadding, n] D'  @param result  [m padded], written
void correlate_all(MatrixView<const double> transposed, const double* r, double* result);

/// The same bits for several vectors at once: four cost little more than the reading that one costs.
/// @param r  [count] pointers to [n]  @param result  [m padded, count], written
void correlate_all(MatrixView<const double> transposed, const double* const* r, std::int64_t count,
                   MatrixView<double> result);

/// The products with a few atoms in float, for a first look: |result[k] - d'r| <= float_error(n) ||d|| ||r||.
void correlate_atoms(MatrixView<const float> D, const std::int32_t* atoms, std::int64_t count, const float* r,
                     float* result);

/// What rounding can do in the float form, the arguments' rounding to float with it: n / 16 + 12 units of |d|'|r|.
inline double float_error(std::int64_t n) {
  return 6e-8 * (static_cast<double>(n) / 16 + 12);
}

/// x'y of n elements, likewise.
double dot(const double* x, const double* y, std::int64_t n);

/// The largest |x_i|, 0 for no elements; NaN is passed over. @param x  [size], any size and alignment
double largest_magnitude(const double* x, std::int64_t size);

}  // namespace shrinkwarp
