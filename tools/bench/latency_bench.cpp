#include <shrinkwarp/tools/bench/latency_bench.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/bench/clock.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>

namespace shrinkwarp::bench {
double LatencyBenchResult::quantile(double q) const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return sorted.at(std::max<std::size_t>(rank, 1) - 1);
}

LatencyBenchResult run_latency_bench(const Context& context, const LatencyBenchOptions& options) {
  LatencyBenchResult result;
  const auto start = Clock::now();
  const NpyFile file = NpyFile::open(options.dictionary);
  const Dictionary dictionary = LoadedDictionary::from_file(context, file, options.dictionary).dictionary;
  result.rows = file.rows();
  result.atoms = file.cols();
  result.prepare_seconds = seconds_since(start);

  NpyObservations observations(options.observations);
  const std::int64_t block = options.block;
  const std::int64_t calls = std::min(options.calls, observations.size() / block);
  SHRINKWARP_REQUIRE(calls > 0, ShapeError, options.observations, ": found ", observations.size(),
                     " rows, wanted at least ", block, ", the observations of a call");
  SHRINKWARP_REQUIRE(observations.dimension() == file.rows(), ShapeError, options.observations,
                     ": found observations of length ", observations.dimension(), ", wanted ", file.rows(),
                     ", the number of rows of ", options.dictionary);
  const Tensor<double> X(Context::cpu(1), file.rows(), calls * block);
  observations.read(0, X.matrix());
  std::vector<double> lambdas;
  if (!options.lambda_file.empty()) lambdas = NpyFile::open(options.lambda_file).read_vector();
  SHRINKWARP_REQUIRE(options.lambda_file.empty() || static_cast<std::int64_t>(lambdas.size()) >= calls * block,
                     ShapeError, options.lambda_file, ": found ", lambdas.size(), " values, wanted at least ",
                     calls * block);

  LassoOptions lasso;
  lasso.solver = options.solver;
  lasso.gap = options.gap;
  const auto solve = [&](std::int64_t i) {
    LambdaRule rule = LambdaRule::sample_fraction(options.lambda_fraction);
    if (!lambdas.empty())
      rule = LambdaRule::per_problem({lambdas.begin() + i * block, lambdas.begin() + (i + 1) * block});
    return solve_lasso(context, dictionary, X.matrix().columns(i * block, block), rule, lasso);
  };
  solve(0);
  const auto first = Clock::now();
  for (std::int64_t i = 0; i < calls && (i == 0 || seconds_since(first) <= options.limit_seconds); ++i) {
    const auto call = Clock::now();
    LassoBatch problems = solve(i);
    result.seconds.push_back(seconds_since(call));
    for (std::int64_t& row : problems.index) row += i * block;
    result.problems.push_back(std::move(problems));
  }
  return result;
}

}  // namespace shrinkwarp::bench
