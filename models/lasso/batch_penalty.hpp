// The penalty as batches see it.
#pragma once

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

/// In the batch's units z is multiplied by scale / s and F divided by s^2, s being the observation's: a ridge is divided
/// by scale^2, whatever s is. Weights keep their meaning.
inline Penalty in_batch_units(const Penalty& penalty, const Dictionary& dictionary) {
  Penalty scaled = penalty;
  scaled.ridge = penalty.ridge / dictionary.scale() / dictionary.scale();
  return scaled;
}

}  // namespace shrinkwarp
