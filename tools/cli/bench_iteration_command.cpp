#include <cstdio>
#include <iostream>
#include <memory>

#include <shrinkwarp/tools/bench/iteration_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

struct IterationArguments {
  bench::IterationBenchOptions iteration;
  std::vector<std::int64_t> problems;
  std::string device = "cpu";
  int threads = 0;
  bool json = false;
};

int run_iteration(const IterationArguments& arguments) {
  const Context context = Context::named(arguments.device, arguments.threads);
  const double product_flops =
      4.0 * static_cast<double>(arguments.iteration.rows) * static_cast<double>(arguments.iteration.atoms);
  if (!arguments.json) {
    std::printf("%s; dictionary %lld x %lld, float32; TFLOP/s and, for the rest, microseconds a problem\n",
                context.description().c_str(), static_cast<long long>(arguments.iteration.rows),
                static_cast<long long>(arguments.iteration.atoms));
    std::printf("%9s %10s %10s %10s %10s %12s %12s\n", "problems", "residual", "step", "both", "sgemm", "momentum",
                "certificate");
  }
  for (const std::int64_t problems : arguments.problems) {
    const bench::IterationBenchResult result = bench::run_iteration_bench(context, arguments.iteration, problems);
    const double flops = product_flops * static_cast<double>(problems);
    if (arguments.json) {
      nlohmann::json out = bench_identity("iteration");
      out.update({{"device", context.description()},
                  {"rows", arguments.iteration.rows},
                  {"atoms", arguments.iteration.atoms},
                  {"density", arguments.iteration.density},
                  {"problems", problems},
                  {"residual_seconds", result.residual_seconds},
                  {"step_seconds", result.step_seconds},
                  {"momentum_seconds", result.momentum_seconds},
                  {"certificate_seconds", result.certificate_seconds},
                  {"sgemm_seconds", result.product_seconds}});
      std::cout << json_line(out) << std::endl;
      continue;
    }
    const double microsecond = 1e6 / static_cast<double>(problems);
    std::printf("%9s %10.2f %10.2f %10.2f %10.2f %12.4f %12.4f\n", with_commas(problems).c_str(),
                0.5e-12 * flops / result.residual_seconds, 0.5e-12 * flops / result.step_seconds,
                1e-12 * flops / (result.residual_seconds + result.step_seconds), 1e-12 * flops / result.product_seconds,
                microsecond * result.momentum_seconds, microsecond * result.certificate_seconds);
    std::fflush(stdout);
  }
  return kDone;
}

}  // namespace

void add_bench_iteration(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<IterationArguments>();
  arguments->problems = {256, 1024, 4096};
  CLI::App* iteration = bench.add_subcommand(
      "iteration", "One iteration and one certificate on random numbers, against sgemm at the same shapes");
  iteration->add_option("--rows", arguments->iteration.rows, "n, the length of an observation")
      ->check(whole_number(1, 1 << 20))
      ->capture_default_str();
  iteration->add_option("--atoms", arguments->iteration.atoms, "m")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  iteration->add_option("--density", arguments->iteration.density, "share of nonzeros in the codes, up to 1")
      ->check(positive_number())
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  iteration->add_option("--problems", arguments->problems, "one line for each number given")
      ->check(whole_number(1, std::int64_t{1} << 30))
      ->delimiter(',')
      ->capture_default_str();
  iteration->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  iteration->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  iteration->add_flag("--json", arguments->json, "one JSON object a line");
  iteration->footer("Example:\n  shrinkwarp bench iteration --problems 256,4096 --device cuda");
  iteration->callback([arguments, &action] { action = [arguments] { return run_iteration(*arguments); }; });
}

}  // namespace shrinkwarp::cli
