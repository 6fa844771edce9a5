#include <shrinkwarp/tools/bench/fista_bench.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/bench/clock.hpp>
#include <shrinkwarp/tools/bench/recording.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/files/solve_fingerprint.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>
#include <shrinkwarp/tools/files/solve_output.hpp>

namespace shrinkwarp::bench {
namespace {

// Best of several, as a ceiling should be: both products of an iteration, on random numbers.
double product_rate(const Context& context, std::int64_t n, std::int64_t m, std::int64_t problems) {
  const std::int64_t count = std::min<std::int64_t>(problems, 4096);  // wider products are no faster
  const Tensor<float> D(context, n, m);
  const Tensor<float> R(context, n, count);
  const Tensor<float> C(context, m, count);
  fill_normal(context, 1, 0, 0, D.vector());
  fill_normal(context, 2, 0, 0, R.vector());
  double best = 0;
  for (int round = 0; round < 4; ++round) {
    const auto start = Clock::now();
    gemm(context, Transpose::yes, Transpose::no, 1.0f, D.matrix(), R.matrix(), 0.0f, C.matrix());
    gemm(context, Transpose::no, Transpose::no, 1.0f, D.matrix(), C.matrix(), 0.0f, R.matrix());
    context.synchronize();
    if (round > 0)
      best = std::max(best, 4.0 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(count) /
                                seconds_since(start));
    fill_normal(context, 2, 0, 0, R.vector());
  }
  return best;
}

}  // namespace

FistaBenchResult run_fista_bench(const Context& context, const FistaBenchOptions& options) {
  const TemporaryFolder folder;
  std::string dictionary_path = options.dictionary;
  std::string observations_path = options.observations;
  if (dictionary_path.empty()) {
    dictionary_path = folder.file("D.npy");
    observations_path = folder.file("X.npy");
    write_phantom(dictionary_path, observations_path, options.problems);
  }

  FistaBenchResult result;
  result.device = context.description();
  result.blas = cpu_blas_core_name();
  result.problems = options.problems;
  Profile profile;
  LassoOptions lasso;
  lasso.solver = result.solver;
  lasso.gap = options.gap;
  lasso.profile = &profile;

  const auto start = Clock::now();
  {
    const NpyFile file = NpyFile::open(dictionary_path);
    RepeatedObservations observations(observations_path, options.problems);
    result.rows = file.rows();
    result.atoms = file.cols();
    const std::string output = folder.file("Z.npz");
    SolveJournal journal(output);
    const auto [dictionary, dictionary_hash] = LoadedDictionary::from_file(context, file, dictionary_path);
    result.prepare_seconds = seconds_since(start);
    const LambdaRule rule = LambdaRule::sample_fraction(options.lambda_fraction);
    journal.start(fingerprint_of(context, dictionary, dictionary_hash, observations, rule, lasso), observations,
                  dictionary.atoms(), nullptr);
    NotedObservations noted(observations, journal);
    result.summary = solve_lasso(context, dictionary, noted, rule, lasso, journal);
    write_output(journal, output, nullptr);
    journal.remove();
  }
  result.seconds = seconds_since(start);
  result.product_rate = product_rate(context, result.rows, result.atoms, options.problems);
  result.solve_rate = 4.0 * static_cast<double>(result.rows) * static_cast<double>(result.atoms) *
                      static_cast<double>(result.summary.iterations) / result.seconds;
  result.phases = profile.phases();
  return result;
}

}  // namespace shrinkwarp::bench
