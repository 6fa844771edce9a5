#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>

#include <nlohmann/json.hpp>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>
#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

namespace shrinkwarp::cli {
namespace {

struct Arguments {
  std::string dictionary, observations, output, lambda_file;
  std::optional<double> lambda, lambda_fraction;
  std::string lambda_scope = "sample";
  double gap = 1e-6;
  std::string solver = "auto";
  bool no_restart = false;
  std::string device = "auto";
  std::int64_t max_iterations = 100000;
  std::string memory_limit = "4GiB";
  int threads = 0;
  bool quiet = false;
  bool json = false;
};

CancelToken interrupted;

/// Lets SIGINT and SIGTERM end the solve at its next check, so that temporary files are removed.
class InterruptScope {
 public:
  InterruptScope() {
    std::signal(SIGINT, [](int) { interrupted.cancel(); });
    std::signal(SIGTERM, [](int) { interrupted.cancel(); });
  }
  ~InterruptScope() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
  }
};

LambdaRule lambda_rule(const Arguments& arguments) {
  if (arguments.lambda) return LambdaRule::value(*arguments.lambda);
  if (arguments.lambda_fraction) {
    return arguments.lambda_scope == "recording" ? LambdaRule::recording_fraction(*arguments.lambda_fraction)
                                                 : LambdaRule::sample_fraction(*arguments.lambda_fraction);
  }
  LambdaRule rule = LambdaRule::per_problem(NpyFile::open(arguments.lambda_file).read_vector());
  rule.name = arguments.lambda_file;
  return rule;
}

Solver solver_named(const std::string& name) {
  return name == "ista" ? Solver::ista : name == "fista" ? Solver::fista : Solver::automatic;
}

void print_summary(const Arguments& arguments, const Context& context, const Dictionary& dictionary,
                   const LassoSummary& summary, double seconds) {
  const double problems = static_cast<double>(std::max<std::int64_t>(summary.problems, 1));
  const double rate = static_cast<double>(summary.problems) / std::max(seconds, 1e-9);
  const std::string solver = arguments.solver == "auto" ? "fista" : arguments.solver;
  if (arguments.json) {
    const nlohmann::json out = {
        {"problems", summary.problems},       {"converged", summary.problems - summary.unconverged},
        {"unconverged", summary.unconverged}, {"gap", arguments.gap},
        {"worst_gap", summary.worst_gap},     {"nonzeros", summary.nonzeros},
        {"iterations", summary.iterations},   {"rows", dictionary.rows()},
        {"atoms", dictionary.atoms()},        {"solver", solver},
        {"device", context.description()},    {"seconds", seconds},
        {"problems_per_second", rate},        {"output", arguments.output}};
    std::cout << out.dump() << '\n';
    return;
  }
  if (arguments.quiet) return;
  std::printf("problems     %s, dictionary %lld x %lld\n", with_commas(summary.problems).c_str(),
              static_cast<long long>(dictionary.rows()), static_cast<long long>(dictionary.atoms()));
  std::printf("converged    %s to a relative gap of %g, worst %.2e\n",
              with_commas(summary.problems - summary.unconverged).c_str(), arguments.gap, summary.worst_gap);
  std::printf("codes        %.1f nonzeros a problem\n", static_cast<double>(summary.nonzeros) / problems);
  std::printf("solver       %s, %.0f iterations a problem\n", solver.c_str(),
              static_cast<double>(summary.iterations) / problems);
  std::printf("device       %s\n", context.description().c_str());
  std::printf("time         %s, %s problems/s\n", duration_text(seconds).c_str(), short_number(rate).c_str());
  std::printf("output       %s\n", arguments.output.c_str());
  std::fflush(stdout);
}

int run(const Arguments& arguments) {
  const auto started = std::chrono::steady_clock::now();
  LassoOptions options;
  options.solver = solver_named(arguments.solver);
  options.restart = !arguments.no_restart;
  options.gap = arguments.gap;
  options.max_iterations = arguments.max_iterations;
  options.memory_limit = parse_bytes(arguments.memory_limit);

  require_different_files("--output", arguments.output, "--dictionary", arguments.dictionary);
  require_different_files("--output", arguments.output, "--observations", arguments.observations);
  if (!arguments.lambda_file.empty())
    require_different_files("--output", arguments.output, "--lambda-file", arguments.lambda_file);
  const NpyFile dictionary_file = NpyFile::open(arguments.dictionary);
  NpyObservations observations(arguments.observations);
  SHRINKWARP_REQUIRE(dictionary_file.rows() > 0 && dictionary_file.cols() > 0, ShapeError, arguments.dictionary,
                     ": found a dictionary of ", dictionary_file.rows(), " x ", dictionary_file.cols(),
                     ", wanted at least one row and one atom (n, m)");
  SHRINKWARP_REQUIRE(observations.size() > 0, ShapeError, arguments.observations,
                     ": found no rows, wanted at least one observation (N, n)");
  SHRINKWARP_REQUIRE(observations.dimension() == dictionary_file.rows(), ShapeError, arguments.observations,
                     ": found observations of length ", observations.dimension(), ", wanted ", dictionary_file.rows(),
                     ", the number of rows of ", arguments.dictionary);
  const LambdaRule rule = lambda_rule(arguments);
  SparseCodesFile output(arguments.output, dictionary_file.cols());

  const Context context = make_context(arguments.device, arguments.threads);
  const Dictionary dictionary = [&] {
    const Context host = Context::cpu(1);
    const Tensor<double> D(host, dictionary_file.rows(), dictionary_file.cols());
    dictionary_file.read_matrix(D.matrix());
    return Dictionary(context, D.matrix(), arguments.dictionary);
  }();

  const InterruptScope interrupt;
  LassoSummary summary;
  {
    ProgressBar bar(arguments.quiet || arguments.json);
    options.cancel = &interrupted;
    options.progress = [&bar](const Progress& progress) { bar.update(progress); };
    try {
      summary = solve_lasso(context, dictionary, observations, rule, options, output);
    } catch (const Cancelled& error) {
      SHRINKWARP_THROW(Cancelled, "interrupted, no file is written: ", error.what());
    }
  }
  output.finish();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_summary(arguments, context, dictionary, summary, seconds);
  if (summary.unconverged == 0) return kDone;
  std::cerr << "shrinkwarp: " << with_commas(summary.unconverged) << " of " << with_commas(summary.problems)
            << " problems missed the gap of " << arguments.gap << " within " << with_commas(arguments.max_iterations)
            << " iterations; " << arguments.output << " is written and says which\n";
  return kUnconverged;
}

}  // namespace

void add_solve(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("solve", "Solve a Lasso problem for every row of a recording");
  command->add_option("--dictionary", arguments->dictionary, "D.npy (n, m), f4 or f8: a column an atom")->required();
  command->add_option("--observations", arguments->observations, "X.npy (N, n), f4 or f8: a row an observation")
      ->required();
  CLI::Option_group* lambda = command->add_option_group("lambda", "the weight of the l1 norm, one of");
  lambda->add_option("--lambda", arguments->lambda, "one value for all problems")->check(positive_number());
  lambda->add_option("--lambda-fraction", arguments->lambda_fraction, "a fraction of lambda_max = ||D'x||_inf")
      ->check(positive_number());
  lambda->add_option("--lambda-file", arguments->lambda_file, "L.npy (N,): a value a problem");
  lambda->require_option(1);
  command
      ->add_option("--lambda-scope", arguments->lambda_scope,
                   "whose lambda_max the fraction is of: each sample's own, or the largest of the recording")
      ->check(one_of({"sample", "recording"}))
      ->needs("--lambda-fraction")
      ->capture_default_str();
  command->add_option("--gap", arguments->gap, "relative duality gap to reach: gap <= G * 1/2 ||x||^2")
      ->check(positive_number())
      ->capture_default_str();
  command->add_option("--solver", arguments->solver, "auto takes fista")
      ->check(one_of({"auto", "fista", "ista"}))
      ->capture_default_str();
  command->add_flag("--no-restart", arguments->no_restart, "fista without adaptive restarts");
  command->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER; auto takes cuda where it is")
      ->check(device_name())
      ->capture_default_str();
  command->add_option("--max-iterations", arguments->max_iterations, "per problem")
      ->check(whole_number(0, std::int64_t{1} << 60))
      ->capture_default_str();
  command->add_option("--memory-limit", arguments->memory_limit, "for dictionary, running problems and held results")
      ->check(byte_count())
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command->add_flag("--quiet", arguments->quiet, "no progress, no summary");
  command->add_flag("--json", arguments->json, "the summary as one JSON object");
  command
      ->add_option("--output", arguments->output,
                   "Z.npz: CSR (N, m) for scipy.sparse.load_npz, with lambda, "
                   "objective, dual_gap, iterations and converged")
      ->required();
  command->footer(
      "Exit status: 0 all converged, 3 written but some missed the gap, 2 usage, 1 other errors.\n"
      "Example:\n  shrinkwarp solve --dictionary D.npy --observations X.npy --lambda-fraction 0.5 --output Z.npz");
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace shrinkwarp::cli
