// Observations on their way in.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Refuses an observation x [n] that no solver can do anything with. @throws ValueError (NaN or infinity: names the row)
void require_finite(const ObservationSource& source, std::int64_t row, VectorView<const double> x);

/// lambda_max of all observations, block by block and in order: those of observations first, first + 1, ..., in the user's units,
/// NaN for one that is under the normal range and not 0.
/// @throws as lambda_max, but for rows whose lambda_max leaves the range of float64
void find_lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                     const LassoOptions& options,
                     FunctionRef<void(std::int64_t first, VectorView<const double> lambda_max)> found);

}  // namespace shrinkwarp
