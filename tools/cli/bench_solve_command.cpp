#include <cstdio>
#include <iostream>
#include <memory>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/tools/bench/solve_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

struct SolveBenchArguments {
  bench::SolveBenchOptions solve;
  std::vector<double> fractions = {0.5, 0.3, 0.1};
  std::string solver = "auto";
  std::string device = "auto";
  std::string memory_limit = "4GiB";
  std::string output;
  int threads = 0;
  bool json = false;
};

int run_bench_solve(SolveBenchArguments arguments) {
  arguments.solve.solver = solver_named(arguments.solver);
  arguments.solve.memory_limit = parse_bytes(arguments.memory_limit);
  if (!arguments.solve.lambda_file.empty()) arguments.fractions.resize(1);
  const Context context = Context::named(arguments.device, arguments.threads);
  if (!arguments.json) {
    std::printf("%s, %s problems a call\n", context.description().c_str(),
                with_commas(arguments.solve.problems).c_str());
    std::printf("%8s %12s %12s %14s %10s %10s %10s\n", "lambda", "solver", "problems/s", "us a problem", "nonzeros",
                "iterations", "worst gap");
  }
  for (const double fraction : arguments.fractions) {
    arguments.solve.lambda_fraction = fraction;
    const bench::SolveBenchResult result = bench::run_solve_bench(context, arguments.solve);
    if (!arguments.output.empty()) write_codes(arguments.output, result.atoms, {result.batch});
    const auto problems = static_cast<double>(arguments.solve.problems);
    if (arguments.json) {
      nlohmann::json out = bench_identity("solve");
      out.update({{"device", context.description()},
                  {"threads", arguments.threads},
                  {"blas", cpu_blas_core_name()},
                  {"solver", shrinkwarp::name_of(result.solver)},
                  {"rows", result.rows},
                  {"atoms", result.atoms},
                  {"problems", arguments.solve.problems},
                  {"lambda_fraction", fraction},
                  {"group_size", arguments.solve.group_size},
                  {"gap", arguments.solve.gap},
                  {"prepare_seconds", result.prepare_seconds},
                  {"first_seconds", result.first_seconds},
                  {"seconds", result.seconds},
                  {"problems_per_second", problems / result.median_seconds()},
                  {"nonzeros", result.nonzeros},
                  {"iterations", result.iterations},
                  {"unconverged", result.unconverged},
                  {"worst_gap", result.worst_gap},
                  {"profiled_seconds", result.profiled_seconds},
                  {"phases", phases_json(result.phases)}});
      std::cout << out.dump() << std::endl;
      continue;
    }
    std::printf("%8.3g %12s %12s %14.3f %10.1f %10.1f %10.2e\n", fraction, shrinkwarp::name_of(result.solver),
                with_commas(static_cast<std::int64_t>(problems / result.median_seconds())).c_str(),
                1e6 * result.median_seconds() / problems, static_cast<double>(result.nonzeros) / problems,
                static_cast<double>(result.iterations) / problems, result.worst_gap);
    double accounted = 0;
    for (const PhaseTotals& phase : result.phases) {
      accounted += phase.seconds;
      std::printf("%21s %-16s %10.3f us a problem, %4.1f %%\n", "", phase.name, 1e6 * phase.seconds / problems,
                  100 * phase.seconds / result.profiled_seconds);
    }
    if (context.is_cuda() || context.threads() == 1)
      std::printf("%21s %-16s %10.3f us a problem\n", "", "the rest",
                  1e6 * (result.profiled_seconds - accounted) / problems);
    else if (!result.phases.empty())
      std::printf("%21s (phases are added over %d threads)\n", "", context.threads());
    std::fflush(stdout);
  }
  return kDone;
}

}  // namespace

void add_bench_solve(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<SolveBenchArguments>();
  CLI::App* solve = bench.add_subcommand(
      "solve", "Problems a second of whole calls, from observations in memory to codes in memory, phase by phase");
  CLI::Option* dictionary = solve->add_option("--dictionary", arguments->solve.dictionary,
                                              "D.npy (n, m); without it a MEG phantom, 306 x 6138");
  solve->add_option("--observations", arguments->solve.observations, "X.npy (N, n); rows are repeated as needed")
      ->needs(dictionary);
  dictionary->needs("--observations");
  solve->add_option("--problems", arguments->solve.problems, "of a call")
      ->check(whole_number(1, std::int64_t{1} << 30))
      ->capture_default_str();
  CLI::Option* fractions =
      solve->add_option("--lambda-fractions", arguments->fractions, "of each sample's lambda_max; a line each")
          ->check(positive_number())
          ->delimiter(',')
          ->capture_default_str();
  solve->add_option("--lambda-file", arguments->solve.lambda_file, "L.npy: a value a problem")->excludes(fractions);
  solve->add_option("--gap", arguments->solve.gap, "relative")->check(positive_number())->capture_default_str();
  solve->add_option("--group-size", arguments->solve.group_size, "as solve takes it")
      ->check(whole_number(1, std::int64_t{1} << 31))
      ->capture_default_str();
  solve->add_option("--solver", arguments->solver, "as solve takes it")->check(solver_name())->capture_default_str();
  solve
      ->add_option("--calls", arguments->solve.calls,
                   "that are timed, after a first one that prepares more; 0 for that alone")
      ->check(whole_number(0, 1000))
      ->capture_default_str();
  solve->add_option("--memory-limit", arguments->memory_limit, "as solve takes it")
      ->check(byte_count())
      ->capture_default_str();
  solve->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  solve->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  solve->add_option("--output", arguments->output, "Z.npz for the codes of the last line, as solve writes it");
  solve->add_flag("--json", arguments->json, "one JSON object a line");
  solve->footer("Example:\n  shrinkwarp bench solve --problems 100000 --lambda-fractions 0.5,0.1");
  solve->callback([arguments, &action] { action = [arguments] { return run_bench_solve(*arguments); }; });
}

}  // namespace shrinkwarp::cli
