// The streams of problems behind solve_lasso, one for each kind of method.
#pragma once

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

/// solve_lasso by proximal gradients, for arguments that have been checked.
/// @param seconds  a clock, by which the pace is told
LassoSummary stream_proximal_gradient(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                      const LambdaRule& rule, const LassoOptions& options, CodeSink& sink,
                                      FunctionRef<double()> seconds);

/// solve_lasso by working sets, for arguments that have been checked.
/// @param solver  working_set or plain_working_set
LassoSummary stream_working_set(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                const LambdaRule& rule, const LassoOptions& options, Solver solver, CodeSink& sink);

/// solve_lasso for lambdas that are points of the problems' paths, for arguments that have been checked. On the CPU, whatever
/// the context's device.
LassoSummary stream_path(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                         const LambdaRule& rule, const LassoOptions& options, CodeSink& sink);

}  // namespace shrinkwarp
