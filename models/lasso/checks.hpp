// What solve_lasso refuses before it starts. Each check throws ShapeError or ValueError with what was found and wanted.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

void check_options(const LassoOptions& options);
/// Groups that `atoms` fall into; weights, one for each of them and legal; a finite ridge >= 0.
void check_penalty(const Penalty& penalty, std::int64_t atoms);
/// A ridge that the batches' units can hold: at most 1e30 times the square of the dictionary's scale.
void check_ridge(const Penalty& penalty, const Dictionary& dictionary);
void check_rule(const LambdaRule& rule, std::int64_t problems);
/// What does not go with a lambda that is a point of the path.
void check_path(const LambdaRule& rule, const LassoOptions& options);
/// Offsets that ascend from 0 to the number of entries, finite values at atoms that there are.
void check_initial(const SparseCodes& initial, std::int64_t problems, std::int64_t atoms);

}  // namespace shrinkwarp
