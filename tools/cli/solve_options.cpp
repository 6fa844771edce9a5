#include <shrinkwarp/tools/cli/solve_options.hpp>

#include <filesystem>
#include <set>

#include <CLI/CLI.hpp>

#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>

namespace shrinkwarp::cli {
namespace {

void add_files(CLI::App& command, SolveOptions& options) {
  command.add_option("--dictionary", options.dictionary, "D.npy (n, m), f4 or f8: a column an atom")->required();
  command.add_option("--observations", options.observations, "X.npy (N, n), f4 or f8: a row an observation")
      ->required();
}

void add_lambda(CLI::App& command, SolveOptions& options) {
  CLI::Option_group* lambda = command.add_option_group("lambda", "the weight of the l1 norm, one of");
  lambda->add_option("--lambda", options.lambda, "one value for all problems; 0 takes least squares")
      ->check(number_from_0());
  lambda
      ->add_option("--lambda-fraction", options.lambda_fraction,
                   "a fraction of lambda_max, over which all penalised codes are 0")
      ->check(positive_number());
  lambda->add_option("--lambda-file", options.lambda_file, "L.npy (N,): a value a problem");
  lambda
      ->add_option("--lambda-fractions", options.lambda_fractions,
                   "several, with commas: one solve after the other, each from the codes of the one before, to "
                   "Z-0.5.npz and so on "
                   "beside Z.npz")
      ->delimiter(',')
      ->check(positive_number());
  lambda
      ->add_option(
          "--l1-radius", options.l1_radius,
          "C: the lambda for which ||z||_1 = C on the exact path, so that z minimises ||x - D z|| with ||z||_1 <= C")
      ->check(positive_number());
  lambda
      ->add_option("--residual-norm", options.residual_norm,
                   "S: the largest lambda with ||x - D z|| <= S on the exact path, for noise of that level")
      ->check(positive_number());
  lambda
      ->add_option("--max-nonzeros", options.max_nonzeros,
                   "K: the lambda at which the exact path would come to more than K nonzeros")
      ->check(whole_number(0, std::int64_t{1} << 31));
  lambda->require_option(0, 1);
  command
      .add_option("--lambda-scope", options.lambda_scope,
                  "whose lambda_max the fraction is of: each sample's own, or the largest of the recording")
      ->check(one_of({"sample", "recording"}))
      ->default_str("sample");
}

constexpr const char* kLeastSquares = "least-squares";
constexpr const char* kLearned = "learned";

void add_solver(CLI::App& command, SolveOptions& options) {
  LassoOptions& lasso = options.lasso;
  command.add_option("--gap", lasso.gap, "relative duality gap to reach: gap <= G * 1/2 ||x||^2")
      ->check(positive_number())
      ->capture_default_str();
  command
      .add_option_function<std::string>(
          "--solver",
          [&options](const std::string& name) {
            options.least_squares = name == kLeastSquares;
            options.learned = name == kLearned;
            options.lasso.solver = options.least_squares || options.learned ? Solver::automatic : solver_named(name);
          },
          "auto takes working-set where it can (plain-working-set for few problems), else fista or, if asked for, "
          "ista; learned has auto go on from the codes of --network; least-squares writes the minimum-norm solution to "
          "Z.npy (N, m)")
      ->check(solver_name({kLearned, kLeastSquares}))
      ->default_str(name_of(lasso.solver));
  command.add_option("--network", options.network, "net.safetensors of shrinkwarp train, for --solver learned");
  command.add_flag_callback(
      "--no-restart", [&lasso] { lasso.restart = false; }, "fista without adaptive restarts");
}

void add_penalty(CLI::App& command, SolveOptions& options) {
  command.add_option("--weights", options.weights,
                     "W.npy (m,): lambda times w_j for atom j; 0 leaves an atom unpenalised, infinity leaves it out; a "
                     "weight for each group with --group-size");
  command
      .add_option("--group-size", options.lasso.penalty.group_size,
                  "G: groups of G consecutive atoms, lambda times the sum of their norms in place of the l1 norm")
      ->check(whole_number(1, std::int64_t{1} << 31))
      ->capture_default_str();
  command.add_flag("--nonnegative", options.lasso.penalty.nonnegative, "codes >= 0");
  command.add_option("--elastic-net", options.lasso.penalty.ridge, "MU: adds MU/2 ||z||^2 to the objective")
      ->check(number_from_0());
}

void add_start(CLI::App& command, SolveOptions& options) {
  command.add_option("--warm-start", options.warm_start,
                     "Z0.npz or Z0.npy (N, m): codes to start from, as a solve of another lambda writes them");
}

void add_resources(CLI::App& command, SolveOptions& options) {
  command.add_option("--device", options.device, "auto, cpu, cuda or cuda:NUMBER; auto takes cuda where it is")
      ->check(device_name())
      ->capture_default_str();
  command.add_option("--max-iterations", options.lasso.max_iterations, "per problem")
      ->check(whole_number(0, std::int64_t{1} << 60))
      ->capture_default_str();
  command.add_option("--memory-limit", options.memory_limit, "for dictionary, running problems and 8 bytes a problem")
      ->check(byte_count())
      ->capture_default_str();
  command.add_option("--threads", options.threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
}

void add_output(CLI::App& command, SolveOptions& options) {
  command.add_flag("--debias", options.debias,
                   "also debiased_data, laid out like data: least-squares amplitudes on the atoms of each code");
  command.add_flag("--resume", options.resume, "go on where an earlier run of the same command ended, if one did");
  command.add_flag("--quiet", options.quiet, "no progress, no summary");
  command.add_flag("--json", options.json, "the summary as one JSON object");
  command
      .add_option("--output", options.output,
                  "Z.npz: CSR (N, m) for scipy.sparse.load_npz, with lambda, "
                  "objective, dual_gap, iterations and converged")
      ->required();
}

LambdaRule named(const char* name, LambdaRule rule) {
  rule.name = name;
  return rule;
}

/// The output and its journal are none of the inputs.
void check_files(const SolveOptions& options) {
  const std::string journal = SolveJournal::path_of(options.output);
  const auto check_input = [&](const char* option, const std::string& path) {
    if (path.empty()) return;
    require_different_files("--output", options.output, option, path);
    require_different_files("the journal of --output", journal, option, path);
  };
  check_input("--dictionary", options.dictionary);
  check_input("--observations", options.observations);
  check_input("--lambda-file", options.lambda_file);
  check_input("--weights", options.weights);
  check_input("--warm-start", options.warm_start);
  check_input("--network", options.network);
}

}  // namespace

void add_solve_options(CLI::App& command, SolveOptions& options) {
  add_files(command, options);
  add_lambda(command, options);
  add_penalty(command, options);
  add_start(command, options);
  add_solver(command, options);
  add_resources(command, options);
  add_output(command, options);
}

void check(const SolveOptions& options) {
  SHRINKWARP_REQUIRE(options.lasso.gap >= kSmallestGap, UsageError, "--gap: found ", options.lasso.gap,
                     ", wanted at least ", kSmallestGap, ", what float64 can certify");
  const bool on_path = options.l1_radius || options.residual_norm || options.max_nonzeros;
  const bool has_lambda = options.lambda || options.lambda_fraction || !options.lambda_file.empty() ||
                          !options.lambda_fractions.empty() || on_path;
  SHRINKWARP_REQUIRE(has_lambda || options.least_squares, UsageError,
                     "found no lambda, wanted one of --lambda, --lambda-fraction, --lambda-fractions, --lambda-file, "
                     "--l1-radius, --residual-norm and --max-nonzeros");
  SHRINKWARP_REQUIRE(!on_path || options.warm_start.empty(), UsageError,
                     "--warm-start: found a lambda on the exact path, which begins at the code 0");
  SHRINKWARP_REQUIRE(
      !on_path ||
          (options.lasso.solver != Solver::fista && options.lasso.solver != Solver::ista && options.lasso.restart),
      UsageError, "--solver: found ", name_of(options.lasso.solver), options.lasso.restart ? "" : " with --no-restart",
      ", wanted auto or one of the working-set solvers, which follow the exact path; the lambda that they store can be "
      "given "
      "to others by --lambda-file");
  SHRINKWARP_REQUIRE(
      !on_path || options.lasso.penalty.group_size == 1, UsageError,
      "--group-size: found a lambda on the exact path, which groups have none of, wanted one of the other "
      "lambda options");
  SHRINKWARP_REQUIRE(!options.l1_radius || options.lasso.penalty.ridge == 0, UsageError,
                     "--l1-radius: found --elastic-net, wanted one or the other");
  SHRINKWARP_REQUIRE(!options.lambda || *options.lambda > 0 || !options.lasso.penalty.nonnegative, UsageError,
                     "--lambda: found 0 with --nonnegative, wanted > 0");
  SHRINKWARP_REQUIRE(options.lambda_scope.empty() || options.lambda_fraction || !options.lambda_fractions.empty(),
                     UsageError,
                     "--lambda-scope: found no fraction, wanted --lambda-fraction or --lambda-fractions with it");
  SHRINKWARP_REQUIRE(!options.debias || !options.lasso.penalty.nonnegative, UsageError,
                     "--debias: found --nonnegative, wanted codes of any sign: least squares have no sign");
  SHRINKWARP_REQUIRE(!options.lasso.penalty.grouped() || !options.lasso.penalty.nonnegative, UsageError,
                     "--group-size: found --nonnegative, wanted codes of any sign");
  SHRINKWARP_REQUIRE(options.learned == !options.network.empty(), UsageError, "--solver learned: found ",
                     options.learned ? "no --network, wanted the network's file with it"
                                     : "--network with another solver, wanted both or neither");
  SHRINKWARP_REQUIRE(
      !options.learned ||
          (!on_path && options.warm_start.empty() && options.weights.empty() && options.lasso.penalty.plain()),
      UsageError, "--solver learned: found --warm-start, a penalty that is not plain or a lambda on the ",
      "exact path, wanted a plain Lasso: the network's codes are the start");
  if (options.least_squares) {
    const bool plain = !has_lambda && options.weights.empty() && options.lasso.penalty.plain() &&
                       options.warm_start.empty() && !options.debias && !options.resume && options.lasso.restart;
    SHRINKWARP_REQUIRE(plain, UsageError, "--solver least-squares: found options of a Lasso, wanted none of lambda, ",
                       "penalty, start, --debias, --no-restart and --resume");
    SHRINKWARP_REQUIRE(std::filesystem::path(options.output).extension() == ".npy", UsageError,
                       "--solver least-squares: found the output '", options.output,
                       "', wanted a name that ends in .npy");
    SHRINKWARP_REQUIRE(options.device == "auto" || options.device == "cpu", UsageError,
                       "--solver least-squares: found --device ", options.device, ", wanted auto or cpu");
  }
  std::set<double> fractions;
  for (const std::string& fraction : options.lambda_fractions)
    SHRINKWARP_REQUIRE(fractions.insert(std::stod(fraction)).second, UsageError, "--lambda-fractions: found ", fraction,
                       " twice, wanted different fractions");
  for (const SolveOptions& solve : solves_of(options)) check_files(solve);
}

std::vector<SolveOptions> solves_of(const SolveOptions& options) {
  if (options.lambda_fractions.empty()) return {options};
  std::vector<SolveOptions> solves;
  for (const std::string& fraction : options.lambda_fractions) {
    SolveOptions solve = options;
    solve.lambda_fractions.clear();
    solve.lambda_fraction = std::stod(fraction);
    const std::filesystem::path output = options.output;
    solve.output = (output.parent_path() / output.stem()).string() + "-" + fraction + output.extension().string();
    if (!solves.empty() && !options.learned) solve.warm_start = solves.back().output;
    solves.push_back(solve);
  }
  return solves;
}

Penalty penalty(const SolveOptions& options) {
  Penalty penalty = options.lasso.penalty;
  if (options.weights.empty()) return penalty;
  penalty.weights = NpyFile::open(options.weights).read_vector();
  penalty.weights_name = options.weights;
  // No weights at all are not the same as a file of none.
  SHRINKWARP_REQUIRE(!penalty.weights.empty(), ShapeError, options.weights, ": found no weights, wanted one for each ",
                     penalty.grouped() ? "group" : "atom");
  return penalty;
}

LambdaRule lambda_rule(const SolveOptions& options) {
  if (options.lambda) return LambdaRule::value(*options.lambda);
  if (options.lambda_fraction) {
    return options.lambda_scope == "recording" ? LambdaRule::recording_fraction(*options.lambda_fraction)
                                               : LambdaRule::sample_fraction(*options.lambda_fraction);
  }
  if (options.l1_radius) return named("--l1-radius", LambdaRule::l1_radius(*options.l1_radius));
  if (options.residual_norm) return named("--residual-norm", LambdaRule::residual_norm(*options.residual_norm));
  if (options.max_nonzeros) return named("--max-nonzeros", LambdaRule::max_nonzeros(*options.max_nonzeros));
  LambdaRule rule = LambdaRule::per_problem(NpyFile::open(options.lambda_file).read_vector());
  rule.name = options.lambda_file;
  return rule;
}

}  // namespace shrinkwarp::cli
