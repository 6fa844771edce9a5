// What solve_lasso refuses before it starts. Each check throws ShapeError or ValueError with what was found and wanted.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp {

void check_options(const LassoOptions& options);
void check_rule(const LambdaRule& rule, std::int64_t problems);
/// Offsets that ascend from 0 to the number of entries, finite values at atoms that there are.
void check_initial(const SparseCodes& initial, std::int64_t problems, std::int64_t atoms);

}  // namespace shrinkwarp
