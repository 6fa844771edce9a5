// Which atoms are much the same.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// A number for each atom, the same for atoms that are much the same: each first atom that is in no cluster yet gathers the
/// later ones with |cos| > kSame. Of several such atoms a Lasso wants one at a time.
///
/// @param columns  [n padded to kAtomPadding, m] on the CPU
/// @return [m]; every atom for itself where the first clusters turn out to be small: incoherent dictionaries have none
/// Cost: n times the number of clusters times the atoms that are left, in float. Allocates yes
std::vector<std::int32_t> similar_atoms(MatrixView<const float> columns);

}  // namespace shrinkwarp
