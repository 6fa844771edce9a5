// Which atoms are much the same.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// A number for each atom, the same for atoms that are much the same: each first atom that is in no cluster yet gathers the
/// later ones with |cos| > .75, as integer products of the first coordinates have it: of atoms of about the usual norm they are
/// right to .02, of much smaller ones they may miss some. Of several such atoms a Lasso wants one at a time.
///
/// @param quantized  the dictionary as passes read it
/// @param D          [n padded with zeros to kAtomPadding, m] on the CPU
/// @param place_of   [m] of each atom of D in `quantized`
/// @return [m]; every atom for itself where the first clusters turn out to be small: incoherent dictionaries have none
/// Cost: up to eight products with all atoms for each cluster. On the calling thread. Allocates yes
std::vector<std::int32_t> similar_atoms(const QuantizedDictionary& quantized, MatrixView<const double> D,
                                        const std::vector<std::int32_t>& place_of);

}  // namespace shrinkwarp
