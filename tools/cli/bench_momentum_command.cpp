#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>

#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/tools/bench/momentum_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>

namespace shrinkwarp::cli {
namespace {

using bench::MomentumPass;
using bench::MomentumWay;

struct BenchMomentumArguments {
  bench::MomentumBenchOptions net;
  std::vector<std::string> ways;
  std::int64_t runs = 7;
  std::string device = "cpu";
  int threads = 0;
  std::string save;
  bool plain = false, on_request = false, json = false;
};

/// The runs of one pass of a way.
struct MomentumRuns : bench::TimedRuns {
  MomentumWay way;
  MomentumPass pass;
  bench::MomentumErrors errors;
  bench::ActivationBytes bytes;
  double flops;

  MomentumRuns(const bench::MomentumBench& bench, MomentumWay way, MomentumPass pass,
               const bench::MomentumErrors& errors)
      : way(way), pass(pass), errors(errors), bytes(bench.bytes(way)), flops(bench.flops(way, pass)) {}
  void run(bench::MomentumBench& bench) {
    const bench::CallTime products = bench.time_products(way, pass);
    add(bench.time(way, pass), products);
  }
};

MomentumWay momentum_way(const std::string& name) {
  return *std::find_if(std::begin(bench::kMomentumWays), std::end(bench::kMomentumWays),
                       [&](MomentumWay way) { return name == bench::name_of(way); });
}

/// Those of the stored ways whose step of training is the quickest by the median; or nullptr.
const MomentumRuns* quickest_stored(const std::vector<MomentumRuns>& all) {
  const MomentumRuns* quickest = nullptr;
  for (const MomentumRuns& runs : all) {
    if (!is_stored(runs.way) || runs.pass != MomentumPass::training) continue;
    if (quickest == nullptr || bench::median_of(runs.cpu_seconds) < bench::median_of(quickest->cpu_seconds))
      quickest = &runs;
  }
  return quickest;
}

nlohmann::json momentum_identity(const bench::MomentumBenchOptions& net, const Context& context,
                                 const BenchMomentumArguments& arguments) {
  nlohmann::json out = bench_identity("momentum");
  out.update({{"device", context.description()},
              {"threads", arguments.threads},
              {"blas", cpu_blas_core_name()},
              {"instruction_set", cpu_instruction_set()},
              {"width", net.width},
              {"hidden", net.hidden},
              {"layers", net.layers},
              {"batch", net.batch},
              {"gamma", net.gamma},
              {"form", net.form == MomentumForm::plain ? "plain" : "damped"}});
  return out;
}

nlohmann::json as_json(const MomentumRuns& runs, const MomentumRuns* stored, const nlohmann::json& identity) {
  nlohmann::json out = identity;
  const double median = bench::median_of(runs.seconds);
  out.update({{"way", name_of(runs.way)},
              {"pass", name_of(runs.pass)},
              {"kept_bytes", runs.bytes.kept},
              {"peak_activation_bytes", runs.bytes.peak()},
              {"inverse_error", runs.errors.inverse},
              {"gradient_error", runs.errors.gradient},
              {"flops", runs.flops},
              {"seconds", runs.seconds},
              {"cpu_seconds", runs.cpu_seconds},
              {"gemm_seconds", runs.gemm_seconds},
              {"gemm_cpu_seconds", runs.gemm_cpu_seconds},
              {"median_seconds", median},
              {"flops_per_second", runs.flops / median},
              {"fraction_of_gemm", bench::median_ratio(runs.gemm_seconds, runs.seconds)},
              {"fraction_of_gemm_cpu", bench::median_ratio(runs.gemm_cpu_seconds, runs.cpu_seconds)}});
  if (stored != nullptr && runs.pass == MomentumPass::training) {
    out["over_stored"] = bench::median_ratio(runs.seconds, stored->seconds);
    out["over_stored_cpu"] = bench::median_ratio(runs.cpu_seconds, stored->cpu_seconds);
  }
  return out;
}

void print_table(const std::vector<MomentumRuns>& all, const bench::MomentumBenchOptions& net, const Context& context) {
  std::printf("%s; OpenBLAS %s kernels\n", context.description().c_str(), cpu_blas_core_name());
  std::printf("%lld layers of width %lld and %lld hidden features, %lld samples, gamma %.6g, %s\n",
              static_cast<long long>(net.layers), static_cast<long long>(net.width), static_cast<long long>(net.hidden),
              static_cast<long long>(net.batch), net.gamma, net.form == MomentumForm::plain ? "plain" : "damped");
  std::printf("%-22s %-9s %11s %8s %8s %12s %10s %12s %9s %9s %12s\n", "way", "pass", "median, ms", "GFLOP/s",
              "of gemm", "by CPU time", "of stored", "by CPU time", "MB kept", "MB peak", "inverse off");
  const MomentumRuns* const stored = quickest_stored(all);
  for (const MomentumRuns& runs : all) {
    const double median = bench::median_of(runs.seconds);
    std::printf("%-22s %-9s %11.2f %8.1f %6.0f %% %10.0f %%", name_of(runs.way), name_of(runs.pass), 1e3 * median,
                1e-9 * runs.flops / median, 100 * bench::median_ratio(runs.gemm_seconds, runs.seconds),
                100 * bench::median_ratio(runs.gemm_cpu_seconds, runs.cpu_seconds));
    if (runs.pass == MomentumPass::training) {
      if (stored != nullptr)
        std::printf(" %10.2f %12.2f", bench::median_ratio(runs.seconds, stored->seconds),
                    bench::median_ratio(runs.cpu_seconds, stored->cpu_seconds));
      else
        std::printf(" %10s %12s", "", "");
      std::printf(" %9.1f %9.1f", 1e-6 * static_cast<double>(runs.bytes.kept),
                  1e-6 * static_cast<double>(runs.bytes.peak()));
      if (runs.way != MomentumWay::residual_stored) std::printf(" %12.1e", runs.errors.inverse);
    }
    std::printf("\n");
  }
  std::fflush(stdout);
}

/// Answers lines such as "exact-recomputed training" on standard input with the times of one run, to their end.
void answer_momentum_requests(bench::MomentumBench& bench, std::vector<MomentumRuns>& all) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string way, pass;
    words >> way >> pass;
    const auto found = std::find_if(all.begin(), all.end(), [&](const MomentumRuns& runs) {
      return way == name_of(runs.way) && pass == name_of(runs.pass);
    });
    SHRINKWARP_REQUIRE(found != all.end(), UsageError, "bench momentum: found the request '", line,
                       "', wanted one such as 'exact-recomputed training', of a way that runs");
    found->clear();
    found->run(bench);
    std::cout << json_line({{"seconds", found->seconds[0]},
                            {"cpu_seconds", found->cpu_seconds[0]},
                            {"gemm_seconds", found->gemm_seconds[0]},
                            {"gemm_cpu_seconds", found->gemm_cpu_seconds[0]}})
              << std::endl;
  }
}

int run_bench_momentum(BenchMomentumArguments& arguments) {
  const Context context = Context::named(arguments.device, arguments.threads);
  arguments.net.form = arguments.plain ? MomentumForm::plain : MomentumForm::damped;
  std::vector<MomentumWay> ways;
  for (const std::string& name : arguments.ways) ways.push_back(momentum_way(name));
  bench::MomentumBench bench(context, arguments.net, ways);
  std::vector<MomentumRuns> all;
  for (const MomentumWay way : ways) {
    const bench::MomentumErrors errors = bench.check(way);
    for (const MomentumPass pass : {MomentumPass::forward, MomentumPass::training})
      all.emplace_back(bench, way, pass, errors);
  }
  const nlohmann::json identity = momentum_identity(bench.options(), context, arguments);
  if (!arguments.save.empty()) bench.save(arguments.save);
  if (arguments.on_request) {
    std::cout << json_line(identity) << std::endl;
    answer_momentum_requests(bench, all);
    return kDone;
  }
  for (std::int64_t run = 0; run <= arguments.runs; ++run) {
    for (MomentumRuns& runs : all) {
      runs.run(bench);
      if (run == 0) runs.clear();  // to warm up
    }
  }
  if (!arguments.json) {
    print_table(all, bench.options(), context);
    return kDone;
  }
  for (const MomentumRuns& runs : all) std::cout << json_line(as_json(runs, quickest_stored(all), identity)) << '\n';
  return kDone;
}

}  // namespace

void add_bench_momentum(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<BenchMomentumArguments>();
  for (const MomentumWay way : bench::kMomentumWays) arguments->ways.emplace_back(name_of(way));
  CLI::App* momentum = bench.add_subcommand(
      "momentum",
      "Momentum networks, forward and a step of training, with activations recomputed and stored, beside residual "
      "networks and gemm at the shapes of their products");
  momentum->add_option("--width", arguments->net.width, "features of a sample")
      ->check(whole_number(1, 1 << 20))
      ->capture_default_str();
  momentum->add_option("--hidden", arguments->net.hidden, "hidden features of a branch")
      ->check(whole_number(1, 1 << 20))
      ->capture_default_str();
  momentum->add_option("--layers", arguments->net.layers, "T")->check(whole_number(1, 10'000))->capture_default_str();
  momentum->add_option("--batch", arguments->net.batch, "samples of a pass")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  momentum->add_option("--gamma", arguments->net.gamma, "momentum, over 0 and at most 1")
      ->check(positive_number())
      ->capture_default_str();
  momentum->add_flag("--plain", arguments->plain, "v <- gamma v + f in place of v <- gamma v + (1 - gamma) f");
  momentum->add_option("--ways", arguments->ways, "those to time; nothing is compared with one that is left out")
      ->check(one_of(arguments->ways))
      ->delimiter(',')
      ->capture_default_str();
  CLI::Option* runs = momentum
                          ->add_option("--runs", arguments->runs,
                                       "timed runs of each pass, each way and pass in turn, after one to warm up")
                          ->check(whole_number(1, 1'000'000))
                          ->capture_default_str();
  momentum->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  momentum->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  momentum->add_option("--save", arguments->save,
                       "N.safetensors: weights, samples, outputs and gradients, for others to compare with");
  CLI::Option* json = momentum->add_flag("--json", arguments->json, "one JSON object a way and pass");
  momentum
      ->add_flag("--on-request", arguments->on_request,
                 "one run for each line such as 'exact-recomputed training' on standard input")
      ->excludes(runs)
      ->excludes(json);
  momentum->footer("Example:\n  shrinkwarp bench momentum --threads 1 --layers 16");
  momentum->callback([arguments, &action] { action = [arguments] { return run_bench_momentum(*arguments); }; });
}

}  // namespace shrinkwarp::cli
