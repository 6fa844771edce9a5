#include <shrinkwarp/kernels/working_set/working_set.hpp>

#include <algorithm>
#include <iterator>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {
namespace cuda {
void admit_problems(const Context& context, MatrixView<const double> X, VectorView<const std::int32_t> places,
                    VectorView<const double> lambda, double dictionary_scale, const WorkingSetProblems& problems,
                    const ActiveSets& sets, const StartCodes& starts);
void look_at_bounds(const Context& context, MatrixView<const double> D, const HalfColumns& half,
                    const HalfColumns& residuals, MatrixView<std::uint32_t> keys, VectorView<const std::int32_t> places,
                    const LookRules& rules, const WorkingSetProblems& problems, const ActiveSets& sets,
                    const PenaltyView<double>& penalty, const HalfBounds& atoms);
void update_residuals(const Context& context, MatrixView<const double> D, VectorView<const std::int32_t> places,
                      const WorkingSetProblems& problems, const ActiveSets& sets, const PenaltyView<double>& penalty);
void collect_codes(const Context& context, VectorView<const std::int32_t> places,
                   VectorView<const std::int64_t> offsets, double dictionary_scale, const WorkingSetProblems& problems,
                   const ActiveSets& sets, VectorView<std::int32_t> indices, VectorView<double> values);
}  // namespace cuda

namespace {

void check_weights(const Context& context, const char* function, const PenaltyView<double>& penalty,
                   std::int64_t atoms) {
  SHRINKWARP_REQUIRE(penalty.group_size >= 1 && atoms % penalty.group_size == 0, ShapeError, function,
                     ": penalty.group_size is ", penalty.group_size, ", wanted a divisor of the ", atoms, " atoms");
  SHRINKWARP_REQUIRE(!penalty.grouped() || !penalty.nonnegative, ValueError, function,
                     ": found nonnegative codes in groups of ", penalty.group_size, " atoms, wanted one or the other");
  if (!penalty.weights.empty())
    check_vector(context, function, "penalty.weights", penalty.weights, atoms / penalty.group_size);
}

}  // namespace

std::int64_t WorkingSetProblems::most_new_atoms(std::int64_t group_size) {
  constexpr std::int64_t kGroups = 64, kAtoms = 192;
  return group_size * std::clamp<std::int64_t>(kAtoms / group_size, 1, kGroups);
}

WorkingSetProblems WorkingSetProblems::lay_out(Arena& arena, std::int64_t rows, std::int64_t places,
                                               std::int64_t group_size) {
  WorkingSetProblems problems;
  problems.x = arena.matrix<double>(rows, places);
  problems.r = arena.matrix<double>(rows, places);
  problems.fresh = arena.matrix<std::int32_t>(most_new_atoms(group_size), places);
  VectorView<double>* const numbers[] = {&problems.scale, &problems.energy,    &problems.lambda,   &problems.primal,
                                         &problems.gap,   &problems.magnitude, &problems.tolerance};
  VectorView<std::int32_t>* const counts[] = {&problems.state, &problems.support, &problems.iterations,
                                              &problems.fresh_count, &problems.idle};
  problems.numbers = arena.vector<double>(places * static_cast<std::int64_t>(std::size(numbers)));
  problems.counts = arena.vector<std::int32_t>(places * static_cast<std::int64_t>(std::size(counts)));
  std::int64_t i = 0;
  for (VectorView<double>* const vector : numbers) *vector = problems.numbers.slice(places * i++, places);
  i = 0;
  for (VectorView<std::int32_t>* const vector : counts) *vector = problems.counts.slice(places * i++, places);
  for (VectorView<double>* const vector : {&problems.weighted, &problems.squares})
    *vector = arena.vector<double>(places);
  problems.start = arena.vector<std::int32_t>(places);
  return problems;
}

void admit_problems(const Context& context, MatrixView<const double> X, VectorView<const std::int32_t> places,
                    VectorView<const double> lambda, double dictionary_scale, const WorkingSetProblems& problems,
                    const ActiveSets& sets, const StartCodes& starts) {
  check_cuda(context, "admit_problems");
  check_matrix(context, "admit_problems", "X", X, problems.x.rows, places.size);
  check_vector(context, "admit_problems", "places", places, places.size);
  check_vector(context, "admit_problems", "lambda", lambda, places.size);
  if (!starts.count.empty()) {
    check_vector(context, "admit_problems", "starts.count", starts.count, places.size);
    check_vector(context, "admit_problems", "starts.first", starts.first, places.size);
    check_vector(context, "admit_problems", "starts.indices", starts.indices, starts.indices.size);
    check_vector(context, "admit_problems", "starts.values", starts.values, starts.indices.size);
  }
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::admit_problems(context, X, places, lambda, dictionary_scale, problems, sets, starts);
}

void look_at_bounds(const Context& context, MatrixView<const double> D, const HalfColumns& half,
                    const HalfColumns& residuals, MatrixView<std::uint32_t> keys, VectorView<const std::int32_t> places,
                    const LookRules& rules, const WorkingSetProblems& problems, const ActiveSets& sets,
                    const PenaltyView<double>& penalty, const HalfBounds& divided) {
  check_cuda(context, "look_at_bounds");
  check_matrix(context, "look_at_bounds", "D", D, problems.x.rows, D.cols);
  SHRINKWARP_REQUIRE(problems.fresh.rows >= penalty.group_size, ShapeError, "look_at_bounds: problems.fresh has ",
                     problems.fresh.rows, " rows, wanted at least the ", penalty.group_size, " atoms of a group");
  check_vector(context, "look_at_bounds", "places", places, places.size);
  const bool weighted = !penalty.weights.empty();
  check_weights(context, "look_at_bounds", penalty, D.cols);
  const std::int64_t columns = D.cols / penalty.group_size * group_columns(penalty.group_size);
  SHRINKWARP_REQUIRE(half.cols() == columns, ShapeError, "look_at_bounds: half has ", half.cols(), " columns, wanted ",
                     columns);
  check_matrix(context, "look_at_bounds", "keys", keys, (columns + kPanelAtoms - 1) / kPanelAtoms, places.size);
  if (weighted) {
    check_vector(context, "look_at_bounds", "divided.factor", divided.factor, half.values().cols);
    check_vector(context, "look_at_bounds", "divided.length", divided.length, half.values().cols);
    check_vector(context, "look_at_bounds", "divided.rounding", divided.rounding, half.values().cols);
  }
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda)
    cuda::look_at_bounds(context, D, half, residuals, keys, places, rules, problems, sets, penalty,
                         weighted ? divided : half.bounds());
}

void update_residuals(const Context& context, MatrixView<const double> D, VectorView<const std::int32_t> places,
                      const WorkingSetProblems& problems, const ActiveSets& sets, const PenaltyView<double>& penalty) {
  check_cuda(context, "update_residuals");
  check_weights(context, "update_residuals", penalty, D.cols);
  check_matrix(context, "update_residuals", "D", D, problems.x.rows, D.cols);
  check_vector(context, "update_residuals", "places", places, places.size);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::update_residuals(context, D, places, problems, sets, penalty);
}

void collect_codes(const Context& context, VectorView<const std::int32_t> places,
                   VectorView<const std::int64_t> offsets, double dictionary_scale, const WorkingSetProblems& problems,
                   const ActiveSets& sets, VectorView<std::int32_t> indices, VectorView<double> values) {
  check_cuda(context, "collect_codes");
  check_vector(context, "collect_codes", "places", places, places.size);
  check_vector(context, "collect_codes", "offsets", offsets, places.size);
  check_vector(context, "collect_codes", "values", values, indices.size);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda)
    cuda::collect_codes(context, places, offsets, dictionary_scale, problems, sets, indices, values);
}

}  // namespace shrinkwarp
