// The stream of problems behind solve_lasso.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

/// solve_lasso for arguments that have been checked.
LassoSummary stream_problems(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                             const LambdaRule& rule, const LassoOptions& options, CodeSink& sink);

}  // namespace shrinkwarp
