#include <shrinkwarp/kernels/active_set/active_sets.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {
namespace cuda {
void gram_matrix(const Context& context, MatrixView<const double> D, MatrixView<double> G);
void add_atoms(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
               MatrixView<const double> R, VectorView<const std::int32_t> places, MatrixView<const std::int32_t> fresh,
               VectorView<const std::int32_t> fresh_count, const ActiveSets& sets, const PenaltyView<double>& penalty);
void start_active_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                       MatrixView<const double> R, VectorView<const std::int32_t> places,
                       VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                       const PenaltyView<double>& penalty);
void solve_active_sets(const Context& context, VectorView<const std::int32_t> places, VectorView<const double> lambda,
                       VectorView<const double> tolerance, std::int64_t max_steps, const ActiveSets& sets,
                       const PenaltyView<double>& penalty);
}  // namespace cuda

void check_sets(const Context& context, const char* function, const ActiveSets& sets) {
  const std::int64_t capacity = sets.capacity, places = sets.size.size;
  check_matrix(context, function, "sets.atom", sets.atom, capacity, places);
  check_matrix(context, function, "sets.active", sets.active, capacity, places);
  check_matrix(context, function, "sets.code", sets.code, capacity, places);
  check_matrix(context, function, "sets.correlation", sets.correlation, capacity, places);
  check_matrix(context, function, "sets.gram", sets.gram, capacity * capacity, places);
  check_matrix(context, function, "sets.inverse", sets.inverse, capacity * capacity, places);
  check_vector(context, function, "sets.size", sets.size, places);
  check_vector(context, function, "sets.support", sets.support, places);
  check_vector(context, function, "sets.steps", sets.steps, places);
  check_vector(context, function, "sets.outcome", sets.outcome, places);
  check_vector(context, function, "sets.largest", sets.largest, places);
}

void check_operands(const Context& context, const char* function, MatrixView<const double> D,
                    MatrixView<const double> gram, MatrixView<const double> R, VectorView<const std::int32_t> places,
                    const ActiveSets& sets) {
  check_cuda(context, function);
  check_sets(context, function, sets);
  check_matrix(context, function, "D", D, D.rows, D.cols);
  if (!gram.empty()) check_matrix(context, function, "gram", gram, D.cols, D.cols);
  check_matrix(context, function, "R", R, D.rows, sets.size.size);
  check_vector(context, function, "places", places, places.size);
}

ActiveSets ActiveSets::lay_out(Arena& arena, std::int64_t capacity, std::int64_t places) {
  ActiveSets sets;
  sets.capacity = capacity;
  for (MatrixView<std::int32_t>* matrix : {&sets.atom, &sets.active})
    *matrix = arena.matrix<std::int32_t>(capacity, places);
  for (MatrixView<double>* matrix : {&sets.code, &sets.correlation}) *matrix = arena.matrix<double>(capacity, places);
  for (MatrixView<double>* matrix : {&sets.gram, &sets.inverse})
    *matrix = arena.matrix<double>(capacity * capacity, places);
  for (VectorView<std::int32_t>* vector : {&sets.size, &sets.support, &sets.steps, &sets.outcome})
    *vector = arena.vector<std::int32_t>(places);
  sets.largest = arena.vector<double>(places);
  return sets;
}

void gram_matrix(const Context& context, MatrixView<const double> D, MatrixView<double> G) {
  check_cuda(context, "gram_matrix");
  check_matrix(context, "gram_matrix", "D", D, D.rows, D.cols);
  check_matrix(context, "gram_matrix", "G", G, D.cols, D.cols);
  if (G.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::gram_matrix(context, D, G);
}

void add_atoms(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
               MatrixView<const double> R, VectorView<const std::int32_t> places, MatrixView<const std::int32_t> fresh,
               VectorView<const std::int32_t> fresh_count, const ActiveSets& sets, const PenaltyView<double>& penalty) {
  check_operands(context, "add_atoms", D, gram, R, places, sets);
  const std::int64_t all = sets.size.size;
  check_matrix(context, "add_atoms", "fresh", fresh, fresh.rows, all);
  check_vector(context, "add_atoms", "fresh_count", fresh_count, all);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::add_atoms(context, D, gram, R, places, fresh, fresh_count, sets, penalty);
}

void start_active_sets(const Context& context, MatrixView<const double> D, MatrixView<const double> gram,
                       MatrixView<const double> R, VectorView<const std::int32_t> places,
                       VectorView<const double> lambda, VectorView<std::int32_t> start, const ActiveSets& sets,
                       const PenaltyView<double>& penalty) {
  check_operands(context, "start_active_sets", D, gram, R, places, sets);
  const std::int64_t all = sets.size.size;
  check_vector(context, "start_active_sets", "lambda", lambda, all);
  check_vector(context, "start_active_sets", "start", start, all);
  if (!penalty.weights.empty()) check_vector(context, "start_active_sets", "penalty.weights", penalty.weights, D.cols);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::start_active_sets(context, D, gram, R, places, lambda, start, sets, penalty);
}

void solve_active_sets(const Context& context, VectorView<const std::int32_t> places, VectorView<const double> lambda,
                       VectorView<const double> tolerance, std::int64_t max_steps, const ActiveSets& sets,
                       const PenaltyView<double>& penalty) {
  check_cuda(context, "solve_active_sets");
  check_sets(context, "solve_active_sets", sets);
  SHRINKWARP_REQUIRE(max_steps >= 0, ValueError, "solve_active_sets: max_steps is ", max_steps, ", wanted >= 0");
  const std::int64_t all = sets.size.size;
  check_vector(context, "solve_active_sets", "places", places, places.size);
  check_vector(context, "solve_active_sets", "lambda", lambda, all);
  check_vector(context, "solve_active_sets", "tolerance", tolerance, all);
  if (!penalty.weights.empty())
    check_vector(context, "solve_active_sets", "penalty.weights", penalty.weights, penalty.weights.size);
  if (places.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::solve_active_sets(context, places, lambda, tolerance, max_steps, sets, penalty);
}

}  // namespace shrinkwarp
