// Observations on their way in.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Refuses an observation x [n] that no solver can do anything with. @throws ValueError (NaN or infinity: names the row)
void require_finite(const ObservationSource& source, std::int64_t row, VectorView<const double> x);

}  // namespace shrinkwarp
