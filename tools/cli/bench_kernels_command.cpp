#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/tools/bench/kernels_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

struct KernelsArguments {
  bench::KernelsBenchOptions kernels;
  std::vector<std::string> shapes;
  std::int64_t rows = 0, atoms = 0, problems = 0;
  std::string device = "cpu";
  int threads = 0;
  bool json = false;
};

/// The shapes asked for: one of one's own, or those of the names.
std::vector<bench::KernelShape> shapes_of(const KernelsArguments& arguments) {
  if (arguments.rows > 0)
    return {{"custom", arguments.rows, arguments.atoms, arguments.problems > 0 ? arguments.problems : 4096}};
  std::vector<bench::KernelShape> shapes;
  for (bench::KernelShape shape : bench::kernel_shapes()) {
    const bool asked =
        std::find(arguments.shapes.begin(), arguments.shapes.end(), shape.name) != arguments.shapes.end();
    if (!arguments.shapes.empty() && !asked) continue;
    if (arguments.problems > 0) shape.problems = arguments.problems;
    shapes.push_back(shape);
  }
  return shapes;
}

int run_kernels(const KernelsArguments& arguments) {
  const Context context = Context::named(arguments.device, arguments.threads);
  const bench::DeviceCeilings ceilings = bench::measure_ceilings(context, arguments.kernels);
  if (!arguments.json) {
    std::printf("%s; copy %.1f GB/s, gemm", context.description().c_str(), 1e-9 * ceilings.copy);
    for (const auto& [mode, rate] : {std::pair<const char*, double>{"fp32", ceilings.fp32},
                                     {"fp64", ceilings.fp64},
                                     {"tf32", ceilings.tf32},
                                     {"split_tf32", ceilings.split_tf32}})
      if (rate > 0) std::printf(" %s %.1f", mode, 1e-9 * rate);
    std::printf(" GFLOP/s\n%-22s %-10s %14s %9s %12s %10s %7s %10s %7s\n", "kernel", "mode", "n x m", "problems",
                "median, us", "GB/s", "of copy", "GFLOP/s", "of gemm");
  }
  for (const bench::KernelShape& shape : shapes_of(arguments)) {
    const auto report = [&](const bench::KernelTiming& timing) {
      const double byte_rate = timing.bytes / timing.median_seconds, flop_rate = timing.flops / timing.median_seconds;
      if (arguments.json) {
        nlohmann::json out = bench_identity("kernels");
        out.update({{"device", context.description()},
                    {"threads", arguments.threads},
                    {"blas", cpu_blas_core_name()},
                    {"instruction_set", cpu_instruction_set()},
                    {"kernel", timing.kernel},
                    {"mode", timing.mode},
                    {"shape", shape.name},
                    {"rows", shape.rows},
                    {"atoms", shape.atoms},
                    {"problems", timing.problems},
                    {"density", arguments.kernels.density},
                    {"iterations", timing.iterations},
                    {"runs", arguments.kernels.runs},
                    {"calls", timing.calls},
                    {"median_seconds", timing.median_seconds},
                    {"fastest_seconds", timing.fastest_seconds},
                    {"flops", timing.flops},
                    {"bytes", timing.bytes},
                    {"flops_per_second", flop_rate},
                    {"bytes_per_second", byte_rate},
                    {"copy_bytes_per_second", ceilings.copy},
                    {"gemm_flops_per_second", timing.gemm},
                    {"percent_of_copy", 100 * byte_rate / ceilings.copy},
                    {"percent_of_gemm", 100 * flop_rate / timing.gemm}});
        std::cout << json_line(out) << std::endl;
        return;
      }
      const std::string size = std::to_string(shape.rows) + " x " + std::to_string(shape.atoms);
      std::printf("%-22s %-10s %14s %9s %12.2f %10.1f %5.0f %% %10.1f %5.0f %%\n", timing.kernel.c_str(),
                  timing.mode.c_str(), size.c_str(), with_commas(timing.problems).c_str(), 1e6 * timing.median_seconds,
                  1e-9 * byte_rate, 100 * byte_rate / ceilings.copy, 1e-9 * flop_rate, 100 * flop_rate / timing.gemm);
      std::fflush(stdout);
    };
    bench::run_kernels_bench(context, arguments.kernels, shape, ceilings, report);
  }
  return kDone;
}

}  // namespace

void add_bench_kernels(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<KernelsArguments>();
  CLI::App* kernels = bench.add_subcommand(
      "kernels", "Each hot kernel on random numbers, against what the device copies and multiplies");
  std::vector<std::string> shapes;
  for (const bench::KernelShape& shape : bench::kernel_shapes()) shapes.push_back(shape.name);
  CLI::Option* named =
      kernels
          ->add_option("--shapes", arguments->shapes,
                       "small (64 x 256), medium (102 x 1000), large (306 x 6138); all where none is given")
          ->check(one_of(shapes))
          ->delimiter(',');
  kernels->add_option("--kernels", arguments->kernels.kernels, "by name; all where none is given")
      ->check(one_of(bench::kernel_names()))
      ->delimiter(',');
  CLI::Option* rows = kernels->add_option("--rows", arguments->rows, "n, of a shape of one's own")
                          ->check(whole_number(1, 1 << 20))
                          ->excludes(named);
  CLI::Option* atoms = kernels->add_option("--atoms", arguments->atoms, "m, likewise")->check(whole_number(1, 1 << 24));
  rows->needs(atoms);
  atoms->needs(rows);
  kernels->add_option("--problems", arguments->problems, "N, for every shape")
      ->check(whole_number(1, std::int64_t{1} << 30));
  kernels->add_option("--iterations", arguments->kernels.iterations, "of proximal_iterations")
      ->check(whole_number(1, 1'000'000))
      ->capture_default_str();
  kernels->add_option("--density", arguments->kernels.density, "share of nonzeros in the codes, up to 1")
      ->check(positive_number())
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  kernels->add_option("--runs", arguments->kernels.runs, "timed runs, of which the median is taken")
      ->check(whole_number(1, 1'000'000))
      ->capture_default_str();
  kernels->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  kernels->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  kernels->add_flag("--json", arguments->json, "one JSON object a line");
  kernels->footer("Example:\n  shrinkwarp bench kernels --shapes small,medium --device cuda");
  kernels->callback([arguments, &action] { action = [arguments] { return run_kernels(*arguments); }; });
}

}  // namespace shrinkwarp::cli
