#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/tools/bench/fista_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

struct FistaArguments {
  bench::FistaBenchOptions fista;
  std::vector<int> threads;
  bool json = false;
};

void print_table(const bench::FistaBenchResult& result) {
  const auto iterations = static_cast<double>(std::max<std::int64_t>(result.summary.iterations, 1));
  std::printf("%s; OpenBLAS %s kernels\n", result.device.c_str(), result.blas.c_str());
  std::printf("dictionary %lld x %lld, %s problems, %s problem-iterations, %lld unconverged, worst gap %.2e\n",
              static_cast<long long>(result.rows), static_cast<long long>(result.atoms),
              with_commas(result.problems).c_str(), with_commas(result.summary.iterations).c_str(),
              static_cast<long long>(result.summary.unconverged), result.summary.worst_gap);
  std::printf("%-26s %9s %7s %10s %9s %9s\n", "phase", "seconds", "share", "us/prob-it", "GFLOP/s", "GB/s");
  double accounted = result.prepare_seconds;
  std::printf("%-26s %9.3f %6.1f%%\n", "preparation", result.prepare_seconds,
              100 * result.prepare_seconds / result.seconds);
  for (const PhaseTotals& phase : result.phases) {
    accounted += phase.seconds;
    std::printf("%-26s %9.3f %6.1f%% %10.3f %9.1f %9.1f\n", phase.name, phase.seconds,
                100 * phase.seconds / result.seconds, 1e6 * phase.seconds / iterations,
                1e-9 * phase.flops / phase.seconds, 1e-9 * phase.bytes / phase.seconds);
  }
  std::printf("%-26s %9.3f %6.1f%%\n", "the rest", result.seconds - accounted,
              100 * (result.seconds - accounted) / result.seconds);
  std::printf("%-26s %9.3f\n", "whole solve", result.seconds);
  std::printf("flops are those of dense products; the CPU's residual product leaves zeros out\n");
  std::printf("useful rate of the whole solve %.1f GFLOP/s = %.0f %% of sgemm's %.1f GFLOP/s at the same shapes\n",
              1e-9 * result.solve_rate, 100 * result.solve_rate / result.product_rate, 1e-9 * result.product_rate);
}

nlohmann::json as_json(const bench::FistaBenchResult& result, const FistaArguments& arguments, int threads) {
  nlohmann::json out = bench_identity(name_of(result.solver));
  out.update({{"device", result.device},
              {"threads", threads},
              {"blas", result.blas},
              {"rows", result.rows},
              {"atoms", result.atoms},
              {"problems", result.problems},
              {"lambda_fraction", arguments.fista.lambda_fraction},
              {"gap", arguments.fista.gap},
              {"iterations", result.summary.iterations},
              {"unconverged", result.summary.unconverged},
              {"worst_gap", result.summary.worst_gap},
              {"seconds", result.seconds},
              {"prepare_seconds", result.prepare_seconds},
              {"solve_flops_per_second", result.solve_rate},
              {"sgemm_flops_per_second", result.product_rate},
              {"fraction_of_sgemm", result.solve_rate / result.product_rate},
              {"phases", phases_json(result.phases)}});
  return out;
}

int run_fista(const FistaArguments& arguments) {
  SHRINKWARP_REQUIRE(arguments.fista.dictionary.empty() == arguments.fista.observations.empty(), UsageError,
                     "bench fista: found only one of --dictionary and --observations, wanted both or neither");
  for (const int threads : arguments.threads) {
    const Context context = Context::named(arguments.fista.device, threads);
    const bench::FistaBenchResult result = bench::run_fista_bench(context, arguments.fista);
    if (arguments.json) {
      std::cout << json_line(as_json(result, arguments, threads)) << std::endl;
    } else {
      print_table(result);
      std::fflush(stdout);
    }
  }
  return kDone;
}

}  // namespace

void add_bench_fista(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<FistaArguments>();
  arguments->threads = {1, 2};
  CLI::App* fista = bench.add_subcommand(
      "fista", "A whole solve, file to file, against the rate of sgemm at the same shapes, phase by phase");
  fista->add_option("--dictionary", arguments->fista.dictionary, "D.npy (n, m); without it a MEG phantom, 306 x 6138");
  fista->add_option("--observations", arguments->fista.observations, "X.npy (N, n); rows are repeated as needed");
  fista->add_option("--problems", arguments->fista.problems, "observations to solve")
      ->check(whole_number(1, std::int64_t{1} << 40))
      ->capture_default_str();
  fista->add_option("--lambda-fraction", arguments->fista.lambda_fraction, "of each sample's lambda_max")
      ->check(positive_number())
      ->capture_default_str();
  fista->add_option("--gap", arguments->fista.gap, "relative")->check(positive_number())->capture_default_str();
  fista->add_option("--device", arguments->fista.device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  fista->add_option("--threads", arguments->threads, "one run for each number given")
      ->check(whole_number(1, 4096))
      ->delimiter(',')
      ->capture_default_str();
  fista->add_flag("--json", arguments->json, "one JSON object a run");
  fista->footer("Example:\n  shrinkwarp bench fista --problems 1000 --lambda-fraction 0.3 --threads 1,2");
  fista->callback([arguments, &action] { action = [arguments] { return run_fista(*arguments); }; });
}

}  // namespace shrinkwarp::cli
