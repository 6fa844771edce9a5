#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>

#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/tools/bench/nets_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

using bench::NetPass;

struct NetsArguments {
  bench::NetsBenchOptions nets;
  std::vector<std::string> networks = {"lista", "coupled", "step"};
  std::int64_t runs = 7;
  std::string device = "cpu";
  int threads = 0;
  std::string save;
  bool on_request = false;
  bool json = false;
};

constexpr NetPass kPasses[] = {NetPass::forward, NetPass::training};

/// The runs of one pass of a network.
struct NetRuns : bench::TimedRuns {
  bench::NetBench& network;
  NetPass pass;

  NetRuns(bench::NetBench& network, NetPass pass) : network(network), pass(pass) {}
  void run() {
    const bench::CallTime products = network.time_products(pass);
    add(network.time(pass), products);
  }
};

void print_heading(const Context& context, const NetsArguments& arguments) {
  std::printf("%s; OpenBLAS %s kernels\n", context.description().c_str(), cpu_blas_core_name());
  std::printf("dictionary %lld x %lld, %lld layers, %s problems a batch, lambda at %g of lambda_max\n",
              static_cast<long long>(arguments.nets.rows), static_cast<long long>(arguments.nets.atoms),
              static_cast<long long>(arguments.nets.layers), with_commas(arguments.nets.batch).c_str(),
              arguments.nets.lambda_fraction);
  std::printf("%-8s %-8s %-9s %8s %11s %11s %9s %9s %8s %12s\n", "network", "type", "pass", "GFLOP", "median, ms",
              "best, ms", "GFLOP/s", "gemm", "of gemm", "by CPU time");
}

void print_row(const NetRuns& runs) {
  const double flops = runs.network.flops(runs.pass), median = bench::median_of(runs.seconds);
  std::printf("%-8s %-8s %-9s %8.2f %11.2f %11.2f %9.1f %9.1f %6.0f %% %10.0f %%\n", name_of(runs.network.kind()),
              runs.network.type(), name_of(runs.pass), 1e-9 * flops, 1e3 * median,
              1e3 * *std::min_element(runs.seconds.begin(), runs.seconds.end()), 1e-9 * flops / median,
              1e-9 * flops / bench::median_of(runs.gemm_seconds),
              100 * bench::median_ratio(runs.gemm_seconds, runs.seconds),
              100 * bench::median_ratio(runs.gemm_cpu_seconds, runs.cpu_seconds));
  std::fflush(stdout);
}

nlohmann::json as_json(const NetRuns& runs, const Context& context, const NetsArguments& arguments) {
  const double flops = runs.network.flops(runs.pass);
  nlohmann::json out = bench_identity("nets");
  out.update({{"device", context.description()},
              {"threads", arguments.threads},
              {"blas", cpu_blas_core_name()},
              {"instruction_set", cpu_instruction_set()},
              {"network", name_of(runs.network.kind())},
              {"type", runs.network.type()},
              {"pass", name_of(runs.pass)},
              {"rows", arguments.nets.rows},
              {"atoms", arguments.nets.atoms},
              {"layers", arguments.nets.layers},
              {"batch", arguments.nets.batch},
              {"lambda_fraction", arguments.nets.lambda_fraction},
              {"density", runs.network.density()},
              {"flops", flops},
              {"seconds", runs.seconds},
              {"cpu_seconds", runs.cpu_seconds},
              {"gemm_seconds", runs.gemm_seconds},
              {"gemm_cpu_seconds", runs.gemm_cpu_seconds},
              {"median_seconds", bench::median_of(runs.seconds)},
              {"fastest_seconds", *std::min_element(runs.seconds.begin(), runs.seconds.end())},
              {"flops_per_second", flops / bench::median_of(runs.seconds)},
              {"gemm_flops_per_second", flops / bench::median_of(runs.gemm_seconds)},
              {"fraction_of_gemm", bench::median_ratio(runs.gemm_seconds, runs.seconds)}});
  return out;
}

/// Answers lines such as "lista float32 training" on standard input with the times of one run, to their end.
void answer_requests(std::vector<NetRuns>& all) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string network, type, pass;
    words >> network >> type >> pass;
    const auto found = std::find_if(all.begin(), all.end(), [&](const NetRuns& runs) {
      return network == name_of(runs.network.kind()) && type == runs.network.type() && pass == name_of(runs.pass);
    });
    SHRINKWARP_REQUIRE(found != all.end(), UsageError, "bench nets: found the request '", line,
                       "', wanted one such as 'lista float32 training', of a network that runs");
    found->clear();
    found->run();
    std::cout << json_line({{"seconds", found->seconds[0]},
                            {"cpu_seconds", found->cpu_seconds[0]},
                            {"gemm_seconds", found->gemm_seconds[0]},
                            {"gemm_cpu_seconds", found->gemm_cpu_seconds[0]}})
              << std::endl;
  }
}

int run_nets(const NetsArguments& arguments) {
  const Context context = Context::named(arguments.device, arguments.threads);
  const bench::NetProblems problems(context, arguments.nets);
  std::vector<NetworkKind> kinds;
  for (const std::string& name : arguments.networks) kinds.push_back(*network_kind(name));
  const std::vector<std::unique_ptr<bench::NetBench>> networks = make_net_benches(context, problems, kinds);
  std::vector<NetRuns> all;
  for (const std::unique_ptr<bench::NetBench>& network : networks)
    for (const NetPass pass : kPasses) all.emplace_back(*network, pass);
  const auto run_all = [&] {
    for (NetRuns& runs : all) runs.run();
  };
  run_all();  // to warm up
  if (!arguments.save.empty()) save_nets(arguments.save, problems, networks);
  if (arguments.on_request) {
    nlohmann::json out = bench_identity("nets");
    out.update({{"device", context.description()}, {"blas", cpu_blas_core_name()}});
    std::cout << json_line(out) << std::endl;
    answer_requests(all);
    return kDone;
  }
  for (NetRuns& runs : all) runs.clear();
  for (std::int64_t run = 0; run < arguments.runs; ++run) run_all();
  if (!arguments.json) print_heading(context, arguments);
  for (const NetRuns& runs : all) {
    if (arguments.json)
      std::cout << json_line(as_json(runs, context, arguments)) << std::endl;
    else
      print_row(runs);
  }
  return kDone;
}

}  // namespace

void add_bench_nets(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<NetsArguments>();
  CLI::App* nets = bench.add_subcommand(
      "nets", "Learned networks, forward and a step of training, against gemm at the shapes of their own products");
  nets->add_option("--rows", arguments->nets.rows, "n")->check(whole_number(1, 1 << 20))->capture_default_str();
  nets->add_option("--atoms", arguments->nets.atoms, "m")->check(whole_number(1, 1 << 20))->capture_default_str();
  nets->add_option("--layers", arguments->nets.layers, "T")->check(whole_number(1, 10'000))->capture_default_str();
  nets->add_option("--batch", arguments->nets.batch, "problems of a pass")
      ->check(whole_number(1, 1 << 30))
      ->capture_default_str();
  nets->add_option("--lambda-fraction", arguments->nets.lambda_fraction, "of each problem's lambda_max")
      ->check(positive_number())
      ->capture_default_str();
  nets->add_option("--networks", arguments->networks, "lista, coupled (float32), step (float32 and float64)")
      ->check(one_of({"lista", "coupled", "step"}))
      ->delimiter(',')
      ->capture_default_str();
  CLI::Option* runs = nets->add_option("--runs", arguments->runs,
                                       "timed runs of each pass, each network and pass in turn, after one to warm up")
                          ->check(whole_number(1, 1'000'000))
                          ->capture_default_str();
  nets->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  nets->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  nets->add_option("--save", arguments->save,
                   "N.safetensors: problems, parameters, codes and gradients, for others to compare with");
  CLI::Option* json = nets->add_flag("--json", arguments->json, "one JSON object a network and pass");
  nets->add_flag("--on-request", arguments->on_request,
                 "one run for each line such as 'lista float32 training' on standard input")
      ->excludes(runs)
      ->excludes(json);
  nets->footer("Example:\n  shrinkwarp bench nets --threads 1 --lambda-fraction 0.8");
  nets->callback([arguments, &action] { action = [arguments] { return run_nets(*arguments); }; });
}

}  // namespace shrinkwarp::cli
