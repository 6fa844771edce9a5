#include <shrinkwarp/kernels/group_set/group_sets.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {
namespace cuda {
void start_group_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                      MatrixView<const double> R, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                      const PenaltyView<double>& penalty);
void solve_group_sets(const Context& context, const GroupBasisView& basis, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<const double> tolerance, std::int64_t max_steps,
                      const ActiveSets& sets, const PenaltyView<double>& penalty);
}  // namespace cuda

namespace {

void check_groups(const Context& context, const char* function, const PenaltyView<double>& penalty,
                  std::int64_t atoms) {
  const std::int64_t s = penalty.group_size;
  SHRINKWARP_REQUIRE(s >= 1 && atoms % s == 0, ShapeError, function, ": penalty.group_size is ", s,
                     ", wanted a divisor of the ", atoms, " atoms");
  SHRINKWARP_REQUIRE(!penalty.nonnegative, ValueError, function, ": found nonnegative codes, wanted groups without it");
  if (!penalty.weights.empty()) check_vector(context, function, "penalty.weights", penalty.weights, atoms / s);
}

}  // namespace

void start_group_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                      MatrixView<const double> R, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                      const PenaltyView<double>& penalty) {
  check_operands(context, "start_group_sets", D, gram, R, places, sets);
  const std::int64_t all = sets.size.size;
  check_vector(context, "start_group_sets", "lambda", lambda, all);
  check_vector(context, "start_group_sets", "start", start, all);
  check_groups(context, "start_group_sets", penalty, D.cols);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::start_group_sets(context, D, gram, R, places, lambda, start, sets, penalty);
}

void solve_group_sets(const Context& context, const GroupBasisView& basis, VectorView<const std::int32_t> places,
                      VectorView<const double> lambda, VectorView<const double> tolerance, std::int64_t max_steps,
                      const ActiveSets& sets, const PenaltyView<double>& penalty) {
  check_cuda(context, "solve_group_sets");
  check_sets(context, "solve_group_sets", sets);
  SHRINKWARP_REQUIRE(max_steps >= 0, ValueError, "solve_group_sets: max_steps is ", max_steps, ", wanted >= 0");
  const std::int64_t all = sets.size.size;
  check_groups(context, "solve_group_sets", penalty, basis.values.size);
  check_matrix(context, "solve_group_sets", "basis.vectors", basis.vectors, penalty.group_size, basis.values.size);
  check_vector(context, "solve_group_sets", "basis.values", basis.values, basis.values.size);
  check_vector(context, "solve_group_sets", "places", places, places.size);
  check_vector(context, "solve_group_sets", "lambda", lambda, all);
  check_vector(context, "solve_group_sets", "tolerance", tolerance, all);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::solve_group_sets(context, basis, places, lambda, tolerance, max_steps, sets, penalty);
}

}  // namespace shrinkwarp
