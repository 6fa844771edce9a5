// In which order passes over all atoms take them.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The atoms in classes of about the same norm, the largest first, within a class in the order they have: a pass can then
/// leave out whole panels of small ones (kernels/bounded_correlation).
///
/// @param D  [n padded with zeros to kAtomPadding, m] on the CPU
/// @return [m]
std::vector<std::int32_t> atoms_by_norm(MatrixView<const double> D);

}  // namespace shrinkwarp
