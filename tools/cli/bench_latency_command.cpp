#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include <shrinkwarp/tools/bench/latency_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

struct LatencyArguments {
  bench::LatencyBenchOptions latency;
  std::string solver = "auto";
  std::string device = "cpu";
  int threads = 1;
  std::string output;
  bool json = false;
};

int run_latency(LatencyArguments arguments) {
  arguments.latency.solver = solver_named(arguments.solver);
  const Context context = Context::named(arguments.device, arguments.threads);
  const bench::LatencyBenchResult result = bench::run_latency_bench(context, arguments.latency);
  std::int64_t unconverged = 0;
  for (const LassoBatch& problems : result.problems)
    unconverged += std::count(problems.converged.begin(), problems.converged.end(), 0);
  if (!arguments.output.empty()) write_codes(arguments.output, result.atoms, result.problems);
  const auto calls = static_cast<std::int64_t>(result.seconds.size());
  if (arguments.json) {
    nlohmann::json out = bench_identity("latency");
    out.update({{"device", context.description()},
                {"threads", arguments.threads},
                {"solver", arguments.solver},
                {"rows", result.rows},
                {"atoms", result.atoms},
                {"gap", arguments.latency.gap},
                {"block", arguments.latency.block},
                {"calls", calls},
                {"unconverged", unconverged},
                {"prepare_seconds", result.prepare_seconds},
                {"median_seconds", result.quantile(0.5)},
                {"p99_seconds", result.quantile(0.99)},
                {"seconds", result.seconds}});
    std::cout << json_line(out) << std::endl;
    return kDone;
  }
  std::printf("%s; dictionary %lld x %lld, prepared in %s\n", context.description().c_str(),
              static_cast<long long>(result.rows), static_cast<long long>(result.atoms),
              duration_text(result.prepare_seconds).c_str());
  const std::string each =
      arguments.latency.block == 1 ? "one problem" : with_commas(arguments.latency.block) + " problems";
  std::printf("%s calls for %s each by %s, %s unconverged: median %.3f ms, 99 %% within %.3f ms\n",
              with_commas(calls).c_str(), each.c_str(), arguments.solver.c_str(), with_commas(unconverged).c_str(),
              1e3 * result.quantile(0.5), 1e3 * result.quantile(0.99));
  std::fflush(stdout);
  return kDone;
}

}  // namespace

void add_bench_latency(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<LatencyArguments>();
  CLI::App* latency = bench.add_subcommand(
      "latency",
      "Few problems at a time with a dictionary that is prepared: a call of the library for each, or for a block");
  latency->add_option("--dictionary", arguments->latency.dictionary, "D.npy (n, m)")->required();
  latency->add_option("--observations", arguments->latency.observations, "X.npy (N, n); calls from its first row on")
      ->required();
  CLI::Option* fraction =
      latency->add_option("--lambda-fraction", arguments->latency.lambda_fraction, "of each sample's lambda_max")
          ->check(positive_number())
          ->capture_default_str();
  latency->add_option("--lambda-file", arguments->latency.lambda_file, "L.npy: a value a row")->excludes(fraction);
  latency->add_option("--gap", arguments->latency.gap, "relative")->check(positive_number())->capture_default_str();
  latency->add_option("--solver", arguments->solver, "as solve takes it")->check(solver_name())->capture_default_str();
  latency->add_option("--block", arguments->latency.block, "consecutive rows of a call")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  latency->add_option("--calls", arguments->latency.calls, "at most, and one that is not counted before")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  latency->add_option("--seconds", arguments->latency.limit_seconds, "no call begins later than this after the first")
      ->check(positive_number())
      ->capture_default_str();
  latency->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  latency->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  latency->add_option("--output", arguments->output, "Z.npz for the codes, as solve writes it");
  latency->add_flag("--json", arguments->json, "one JSON object");
  latency->footer("Example:\n  shrinkwarp bench latency --dictionary D.npy --observations X.npy --lambda-fraction 0.5");
  latency->callback([arguments, &action] { action = [arguments] { return run_latency(*arguments); }; });
}

}  // namespace shrinkwarp::cli
