#include <shrinkwarp/models/lasso/checks.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

void check_options(const LassoOptions& options) {
  SHRINKWARP_REQUIRE(options.gap >= kSmallestGap && std::isfinite(options.gap), ValueError, "lasso: the gap is ",
                     options.gap, ", wanted at least ", kSmallestGap, ", what float64 can certify");
  SHRINKWARP_REQUIRE(options.max_iterations >= 0, ValueError, "lasso: max_iterations is ", options.max_iterations,
                     ", wanted >= 0");
}

void check_penalty(const Penalty& penalty, std::int64_t atoms) {
  constexpr double kSmallest = 1e-18, kLargest = 1e18;
  SHRINKWARP_REQUIRE(penalty.ridge >= 0 && std::isfinite(penalty.ridge), ValueError, "lasso: the ridge is ",
                     penalty.ridge, ", wanted a finite number >= 0");
  SHRINKWARP_REQUIRE(penalty.group_size >= 1, ValueError, "lasso: the group size is ", penalty.group_size,
                     ", wanted >= 1");
  SHRINKWARP_REQUIRE(atoms % penalty.group_size == 0, ShapeError, "lasso: the dictionary has ", atoms,
                     " atoms, wanted a multiple of the group size, ", penalty.group_size);
  SHRINKWARP_REQUIRE(!penalty.grouped() || !penalty.nonnegative, ValueError, "lasso: the group size is ",
                     penalty.group_size, ", wanted 1 where codes are to be nonnegative");
  if (penalty.weights.empty()) return;
  const char* const one = penalty.grouped() ? "group" : "atom";
  SHRINKWARP_REQUIRE(static_cast<std::int64_t>(penalty.weights.size()) == atoms / penalty.group_size, ShapeError,
                     penalty.weights_name, ": found ", penalty.weights.size(), " weights, wanted one for each of ",
                     atoms / penalty.group_size, " ", one, "s");
  for (std::size_t j = 0; j < penalty.weights.size(); ++j) {
    const double weight = penalty.weights[j];
    SHRINKWARP_REQUIRE(weight == 0 || std::isinf(weight) ? weight >= 0 : weight >= kSmallest && weight <= kLargest,
                       ValueError, penalty.weights_name, ": the weight of ", one, " ", j, " is ", weight,
                       ", wanted 0, infinity or a number from ", kSmallest, " to ", kLargest);
    SHRINKWARP_REQUIRE(weight > 0 || !penalty.nonnegative, ValueError, penalty.weights_name, ": the weight of atom ", j,
                       " is 0, wanted > 0 where codes are to be nonnegative");
  }
}

void check_ridge(const Penalty& penalty, const Dictionary& dictionary) {
  constexpr double kLargest = 1e30;
  SHRINKWARP_REQUIRE(penalty.ridge / dictionary.scale() / dictionary.scale() <= kLargest, ValueError,
                     "lasso: the ridge is ", penalty.ridge, ", wanted at most ", kLargest,
                     " times the square of the dictionary's norm, about ", dictionary.scale());
}

void check_rule(const LambdaRule& rule, std::int64_t problems) {
  using Kind = LambdaRule::Kind;
  if (rule.kind == Kind::per_problem) {
    SHRINKWARP_REQUIRE(static_cast<std::int64_t>(rule.values.size()) == problems, ShapeError, rule.name, ": found ",
                       rule.values.size(), " lambdas, wanted one for each of ", problems, " observations");
    for (std::size_t i = 0; i < rule.values.size(); ++i)
      SHRINKWARP_REQUIRE(rule.values[i] >= 0 && std::isfinite(rule.values[i]), ValueError, rule.name,
                         ": lambda of problem ", i, " is ", rule.values[i], ", wanted a finite number >= 0");
    return;
  }
  const bool may_be_zero = rule.kind == Kind::value || rule.kind == Kind::max_nonzeros;
  const char* const what = rule.kind == Kind::value ? "the value is "
                           : rule.follows_path()    ? "found "
                                                    : "the fraction of lambda_max is ";
  SHRINKWARP_REQUIRE((may_be_zero ? rule.number >= 0 : rule.number > 0) && std::isfinite(rule.number), ValueError,
                     rule.name, ": ", what, rule.number, ", wanted a finite number ", may_be_zero ? ">= 0" : "> 0");
}

void check_path(const LambdaRule& rule, const LassoOptions& options) {
  if (!rule.follows_path()) return;
  const char* const only = "lasso: a lambda on the exact path is found on working sets from 0, found ";
  SHRINKWARP_REQUIRE(options.solver != Solver::ista && options.solver != Solver::fista, ValueError, only,
                     "another solver, wanted 'working-set' or 'auto'");
  SHRINKWARP_REQUIRE(!options.initial, ValueError, only, "initial codes, wanted none");
  SHRINKWARP_REQUIRE(
      std::find(options.penalty.weights.begin(), options.penalty.weights.end(), 0.0) == options.penalty.weights.end(),
      ValueError, only, "a weight of 0, wanted weights > 0");
  SHRINKWARP_REQUIRE(options.penalty.group_size == 1, ValueError, only, "groups of ", options.penalty.group_size,
                     " atoms, whose path is not linear, wanted none");
  SHRINKWARP_REQUIRE(rule.kind != LambdaRule::Kind::l1_radius || options.penalty.ridge == 0, ValueError,
                     "lasso: found a ridge with an l1 radius, wanted one or the other");
}

void check_initial(const SparseCodes& initial, std::int64_t problems, std::int64_t atoms) {
  SHRINKWARP_REQUIRE(initial.size() == problems, ShapeError, "lasso: ", initial.size(), " initial codes for ", problems,
                     " observations, wanted one each");
  const auto entries = static_cast<std::int64_t>(initial.values.size());
  SHRINKWARP_REQUIRE(initial.indices.size() == initial.values.size() && initial.offsets.front() == 0 &&
                         initial.offsets.back() == entries,
                     ShapeError, "lasso: initial codes with ", initial.indices.size(), " indices, ", entries,
                     " values and offsets ", initial.offsets.front(), " to ", initial.offsets.back(),
                     ", wanted as many of each and offsets from 0 to their number");
  for (std::size_t i = 0; i + 1 < initial.offsets.size(); ++i) {
    const std::int64_t begin = initial.offsets[i];
    const std::int64_t end = initial.offsets[i + 1];
    SHRINKWARP_REQUIRE(begin <= end && end <= entries, ShapeError, "lasso: initial code ", i, " has offsets ", begin,
                       " to ", end, ", wanted ascending ones up to ", entries);
    for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k)
      SHRINKWARP_REQUIRE(initial.indices[k] >= 0 && initial.indices[k] < atoms && std::isfinite(initial.values[k]),
                         ValueError, "lasso: initial code ", i, " has ", initial.values[k], " at atom ",
                         initial.indices[k], ", wanted finite values at atoms 0 to ", atoms - 1);
  }
}

}  // namespace shrinkwarp
