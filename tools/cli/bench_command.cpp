#include <cstdio>
#include <ctime>
#include <iostream>
#include <memory>
#include <sstream>

#include <nlohmann/json.hpp>

#include <shrinkwarp/commit.hpp>
#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/bench/fista_bench.hpp>
#include <shrinkwarp/tools/bench/iteration_bench.hpp>
#include <shrinkwarp/tools/bench/latency_bench.hpp>
#include <shrinkwarp/tools/bench/solve_bench.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

namespace shrinkwarp::cli {
namespace {

struct FistaArguments {
  bench::FistaBenchOptions fista;
  std::vector<int> threads;
  bool json = false;
};

struct IterationArguments {
  bench::IterationBenchOptions iteration;
  std::vector<std::int64_t> problems;
  std::string device = "cpu";
  int threads = 0;
  bool json = false;
};

struct LatencyArguments {
  bench::LatencyBenchOptions latency;
  std::string solver = "auto";
  std::string device = "cpu";
  int threads = 1;
  std::string output;
  bool json = false;
};

struct SolveArguments {
  bench::SolveBenchOptions solve;
  std::vector<double> fractions = {0.5, 0.3, 0.1};
  std::string solver = "auto";
  std::string device = "auto";
  std::string memory_limit = "4GiB";
  std::string output;
  int threads = 0;
  bool json = false;
};

/// What every line of results says of itself.
nlohmann::json identity(const char* benchmark) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return {{"schema", "shrinkwarp-bench-1"},
          {"benchmark", benchmark},
          {"date", date},
          {"version", kVersion},
          {"commit", kCommit}};
}

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

nlohmann::json as_json(const std::vector<PhaseTotals>& totals) {
  nlohmann::json phases = nlohmann::json::array();
  for (const PhaseTotals& phase : totals)
    phases.push_back({{"name", phase.name},
                      {"seconds", phase.seconds},
                      {"calls", phase.calls},
                      {"flops", phase.flops},
                      {"bytes", phase.bytes}});
  return phases;
}

nlohmann::json as_json(const bench::FistaBenchResult& result, const FistaArguments& arguments, int threads) {
  nlohmann::json out = identity(name_of(result.solver));
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
              {"phases", as_json(result.phases)}});
  return out;
}

int run_fista(const FistaArguments& arguments) {
  SHRINKWARP_REQUIRE(arguments.fista.dictionary.empty() == arguments.fista.observations.empty(), UsageError,
                     "bench fista: found only one of --dictionary and --observations, wanted both or neither");
  for (const int threads : arguments.threads) {
    const Context context = make_context(arguments.fista.device, threads);
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

int run_iteration(const IterationArguments& arguments) {
  const Context context = make_context(arguments.device, arguments.threads);
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
      nlohmann::json out = identity("iteration");
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

void write_codes(const std::string& path, const bench::LatencyBenchResult& result) {
  std::int64_t nonzeros = 0;
  for (const LassoBatch& problem : result.problems) nonzeros += static_cast<std::int64_t>(problem.codes.values.size());
  SparseCodesFile file(path, result.atoms, nonzeros);
  for (const LassoBatch& problem : result.problems) file.append(problem);
  file.finish("");
}

int run_latency(LatencyArguments arguments) {
  arguments.latency.solver = solver_named(arguments.solver);
  const Context context = make_context(arguments.device, arguments.threads);
  const bench::LatencyBenchResult result = bench::run_latency_bench(context, arguments.latency);
  std::int64_t unconverged = 0;
  for (const LassoBatch& problem : result.problems) unconverged += problem.converged[0] ? 0 : 1;
  if (!arguments.output.empty()) write_codes(arguments.output, result);
  const auto calls = static_cast<std::int64_t>(result.seconds.size());
  if (arguments.json) {
    nlohmann::json out = identity("latency");
    out.update({{"device", context.description()},
                {"threads", arguments.threads},
                {"solver", arguments.solver},
                {"rows", result.rows},
                {"atoms", result.atoms},
                {"gap", arguments.latency.gap},
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
  std::printf("%s calls for one problem each by %s, %s unconverged: median %.3f ms, 99 %% within %.3f ms\n",
              with_commas(calls).c_str(), arguments.solver.c_str(), with_commas(unconverged).c_str(),
              1e3 * result.quantile(0.5), 1e3 * result.quantile(0.99));
  std::fflush(stdout);
  return kDone;
}

void write_codes(const std::string& path, std::int64_t atoms, const LassoBatch& batch) {
  SparseCodesFile file(path, atoms, static_cast<std::int64_t>(batch.codes.values.size()));
  file.append(batch);
  file.finish("");
}

int run_solves(SolveArguments arguments) {
  arguments.solve.solver = solver_named(arguments.solver);
  arguments.solve.memory_limit = parse_bytes(arguments.memory_limit);
  if (!arguments.solve.lambda_file.empty()) arguments.fractions.resize(1);
  const Context context = make_context(arguments.device, arguments.threads);
  if (!arguments.json) {
    std::printf("%s, %s problems a call\n", context.description().c_str(),
                with_commas(arguments.solve.problems).c_str());
    std::printf("%8s %12s %12s %14s %10s %10s %10s\n", "lambda", "solver", "problems/s", "us a problem", "nonzeros",
                "iterations", "worst gap");
  }
  for (const double fraction : arguments.fractions) {
    arguments.solve.lambda_fraction = fraction;
    const bench::SolveBenchResult result = bench::run_solve_bench(context, arguments.solve);
    if (!arguments.output.empty()) write_codes(arguments.output, result.atoms, result.batch);
    const auto problems = static_cast<double>(arguments.solve.problems);
    if (arguments.json) {
      nlohmann::json out = identity("solve");
      out.update({{"device", context.description()},
                  {"threads", arguments.threads},
                  {"blas", cpu_blas_core_name()},
                  {"solver", shrinkwarp::name_of(result.solver)},
                  {"rows", result.rows},
                  {"atoms", result.atoms},
                  {"problems", arguments.solve.problems},
                  {"lambda_fraction", fraction},
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
                  {"phases", as_json(result.phases)}});
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

void add_fista(CLI::App& bench, Action& action);
void add_iteration(CLI::App& bench, Action& action);
void add_latency(CLI::App& bench, Action& action);
void add_solve_bench(CLI::App& bench, Action& action);

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Measure, beside what the same machine can do at the same shapes");
  command->require_subcommand(1);
  command->footer("Example:\n  shrinkwarp bench fista");
  add_fista(*command, action);
  add_iteration(*command, action);
  add_latency(*command, action);
  add_solve_bench(*command, action);
}

namespace {

void add_fista(CLI::App& bench, Action& action) {
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

void add_iteration(CLI::App& bench, Action& action) {
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

void add_latency(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<LatencyArguments>();
  CLI::App* latency = bench.add_subcommand(
      "latency", "One problem at a time with a dictionary that is prepared: a call of the library for each");
  latency->add_option("--dictionary", arguments->latency.dictionary, "D.npy (n, m)")->required();
  latency
      ->add_option("--observations", arguments->latency.observations, "X.npy (N, n); a call a row, from the first on")
      ->required();
  CLI::Option* fraction =
      latency->add_option("--lambda-fraction", arguments->latency.lambda_fraction, "of each sample's lambda_max")
          ->check(positive_number())
          ->capture_default_str();
  latency->add_option("--lambda-file", arguments->latency.lambda_file, "L.npy: a value a row")->excludes(fraction);
  latency->add_option("--gap", arguments->latency.gap, "relative")->check(positive_number())->capture_default_str();
  latency->add_option("--solver", arguments->solver, "as solve takes it")->check(solver_name())->capture_default_str();
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

void add_solve_bench(CLI::App& bench, Action& action) {
  auto arguments = std::make_shared<SolveArguments>();
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
  solve->callback([arguments, &action] { action = [arguments] { return run_solves(*arguments); }; });
}

}  // namespace

}  // namespace shrinkwarp::cli
