// The stream of problems behind solve_lasso.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

/// solve_lasso for arguments that have been checked.
/// @param seconds  a clock, by which the pace is told
LassoSummary stream_problems(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                             const LambdaRule& rule, const LassoOptions& options, CodeSink& sink,
                             FunctionRef<double()> seconds);

}  // namespace shrinkwarp
