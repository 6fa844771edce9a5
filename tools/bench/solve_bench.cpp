#include <shrinkwarp/tools/bench/solve_bench.hpp>

#include <algorithm>
#include <chrono>
#include <numeric>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/bench/clock.hpp>
#include <shrinkwarp/tools/bench/recording.hpp>

namespace shrinkwarp::bench {
double SolveBenchResult::median_seconds() const {
  std::vector<double> sorted = seconds;
  if (sorted.empty()) return first_seconds;
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

SolveBenchResult run_solve_bench(const Context& context, const SolveBenchOptions& options) {
  const TemporaryFolder folder;
  std::string dictionary_path = options.dictionary, observations_path = options.observations;
  if (dictionary_path.empty()) {
    dictionary_path = folder.file("D.npy");
    observations_path = folder.file("X.npy");
    write_phantom(dictionary_path, observations_path, std::min<std::int64_t>(options.problems, 10000));
  }
  SolveBenchResult result;
  const NpyFile file = NpyFile::open(dictionary_path);
  const Tensor<double> D(Context::cpu(1), file.rows(), file.cols());
  file.read_matrix(D.matrix());
  result.rows = file.rows();
  result.atoms = file.cols();
  RepeatedObservations observations(observations_path, options.problems);
  SHRINKWARP_REQUIRE(observations.dimension() == result.rows, ShapeError, observations_path,
                     ": found observations of length ", observations.dimension(), ", wanted ", result.rows,
                     ", the number of rows of ", dictionary_path);
  const Tensor<double> X(Context::cpu(1), result.rows, options.problems);
  observations.read(0, X.matrix());

  LambdaRule rule = LambdaRule::sample_fraction(options.lambda_fraction);
  if (!options.lambda_file.empty()) {
    rule = LambdaRule::per_problem(NpyFile::open(options.lambda_file).read_vector());
    rule.name = options.lambda_file;
  }
  Profile profile;
  LassoOptions lasso;
  lasso.solver = options.solver;
  lasso.gap = options.gap;
  lasso.penalty.group_size = options.group_size;
  lasso.memory_limit = options.memory_limit;
  result.solver = resolved(context, result.rows, result.atoms, options.problems, lasso);
  // The program's own first calls load its code and get its memory, some of which the allocator keeps from the second on.
  // That is not what a dictionary costs, nor what those are charged with that are called again and again in one process.
  for (int warm_up = 0; warm_up < 2; ++warm_up) {
    const std::int64_t few = std::min<std::int64_t>(128, options.problems);
    LambdaRule its_rule = rule;
    if (!its_rule.values.empty()) its_rule.values.resize(static_cast<std::size_t>(few));
    const Dictionary other(context, D.matrix(), dictionary_path);
    solve_lasso(context, other, X.matrix().columns(0, few), its_rule, lasso);
  }
  const auto start = Clock::now();
  const Dictionary dictionary(context, D.matrix(), dictionary_path);
  result.prepare_seconds = seconds_since(start);
  const auto solve = [&] {
    const auto call = Clock::now();
    result.batch = solve_lasso(context, dictionary, X.matrix(), rule, lasso);
    const double seconds = seconds_since(call);
    const LassoBatch& batch = result.batch;
    result.nonzeros = static_cast<std::int64_t>(batch.codes.values.size());
    result.iterations = std::accumulate(batch.iterations.begin(), batch.iterations.end(), std::int64_t{0});
    result.unconverged = std::count(batch.converged.begin(), batch.converged.end(), 0);
    result.worst_gap = 0;
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const double* const x = X.matrix().column(i);
      const double energy = std::inner_product(x, x + result.rows, x, 0.0) / 2;
      const double gap = batch.dual_gap[static_cast<std::size_t>(i)];
      result.worst_gap = std::max(result.worst_gap, energy > 0 ? gap / energy : gap);
    }
    return seconds;
  };
  result.first_seconds = solve();
  if (options.calls == 0) return result;
  for (std::int64_t i = 0; i < options.calls; ++i) result.seconds.push_back(solve());
  lasso.profile = &profile;
  result.profiled_seconds = solve();
  result.phases = profile.phases();
  return result;
}

}  // namespace shrinkwarp::bench
