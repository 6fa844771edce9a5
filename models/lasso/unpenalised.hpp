// Problems some of whose atoms are unpenalised, as problems without: with D_0 the unpenalised atoms and D_1 the others,
//
//   min over z_0 of  1/2 ||x - D_0 z_0 - D_1 z_1||^2 + mu/2 ||z_0||^2  =  1/2 ||M (x - D_1 z_1)||^2
//   M = I - V diag(1 - sqrt(mu / (s^2 + mu))) V',   z_0 = W diag(s / (s^2 + mu)) V'(x - D_1 z_1),   D_0 = V diag(s) W'
//
// so what is left is a problem with M D_1 and M x; without a ridge M projects off the span of D_0. Nothing is asked of
// D_0: of dependent atoms z_0 is the code of least norm.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>

namespace shrinkwarp {

/// Whether a weight is 0.
bool has_unpenalised(const Penalty& penalty);

/// solve_lasso and find_lambda_max for such a penalty and arguments that have been checked. Codes are delivered with
/// z_0, with objective and gap of the whole code in float64.
LassoSummary solve_with_unpenalised(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                    const LambdaRule& rule, const LassoOptions& options, CodeSink& sink);
void find_lambda_max_with_unpenalised(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                      const LassoOptions& options,
                                      FunctionRef<void(std::int64_t, VectorView<const double>)> found);

/// Whether lambda of a problem is 0: all of its atoms are unpenalised then.
bool has_zero_lambda(const LambdaRule& rule);

/// solve_lasso for such a rule and arguments that have been checked.
/// @throws ValueError (codes are to be nonnegative)
LassoSummary solve_with_zero_lambdas(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                     const LambdaRule& rule, const LassoOptions& options, CodeSink& sink);

}  // namespace shrinkwarp
