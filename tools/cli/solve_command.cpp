#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <new>
#include <optional>

#include <nlohmann/json.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/files/build_id.hpp>
#include <shrinkwarp/tools/files/finished_output.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>

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
  bool resume = false;
  bool quiet = false;
  bool json = false;
};

CancelToken interrupted;
volatile sig_atomic_t interrupting_signal = 0;
constexpr int kSignals[] = {SIGINT, SIGTERM};
volatile sig_atomic_t caught[std::size(kSignals)] = {};

extern "C" void interrupt(int number) {
  interrupting_signal = number;
  interrupted.cancel();
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    if (caught[i]) signal(kSignals[i], SIG_DFL);  // the next one, of either kind, kills
  }
}

/// Lets SIGINT and SIGTERM end the solve at its next check; one that the program was started to ignore, as nohup and
/// background jobs of a shell are, stays ignored.
class InterruptScope {
 public:
  InterruptScope() {
    struct sigaction action {};
    action.sa_handler = interrupt;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (const int number : kSignals) sigaddset(&action.sa_mask, number);
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler == SIG_IGN) continue;
      caught[i] = 1;
      sigaction(kSignals[i], &action, nullptr);
    }
  }
  ~InterruptScope() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      if (caught[i]) sigaction(kSignals[i], &before_[i], nullptr);
      caught[i] = 0;
    }
  }
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  struct sigaction before_[std::size(kSignals)];
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

LassoOptions lasso_options(const Arguments& arguments) {
  SHRINKWARP_REQUIRE(arguments.gap >= kSmallestGap, UsageError, "--gap: found ", arguments.gap, ", wanted at least ",
                     kSmallestGap, ", what float64 can certify");
  LassoOptions options;
  options.solver = solver_named(arguments.solver);
  options.restart = !arguments.no_restart;
  options.gap = arguments.gap;
  options.max_iterations = arguments.max_iterations;
  options.cancel = &interrupted;
  return options;
}

void check_names(const Arguments& arguments) {
  const std::string journal = SolveJournal::path_of(arguments.output);
  const auto check = [&](const char* option, const std::string& path) {
    if (path.empty()) return;
    require_different_files("--output", arguments.output, option, path);
    require_different_files("the journal of --output", journal, option, path);
  };
  check("--dictionary", arguments.dictionary);
  check("--observations", arguments.observations);
  check("--lambda-file", arguments.lambda_file);
}

/// The output is there and no journal of it.
bool finished_before(const Arguments& arguments) {
  std::error_code ignored;
  return std::filesystem::exists(arguments.output, ignored) &&
         !std::filesystem::exists(SolveJournal::path_of(arguments.output), ignored);
}

void check_sizes(const Arguments& arguments, const NpyFile& dictionary, const NpyObservations& observations) {
  SHRINKWARP_REQUIRE(dictionary.rows() > 0 && dictionary.cols() > 0, ShapeError, arguments.dictionary,
                     ": found a dictionary of ", dictionary.rows(), " x ", dictionary.cols(),
                     ", wanted at least one row and one atom (n, m)");
  SHRINKWARP_REQUIRE(observations.size() > 0, ShapeError, arguments.observations,
                     ": found no rows, wanted at least one observation (N, n)");
  SHRINKWARP_REQUIRE(observations.dimension() == dictionary.rows(), ShapeError, arguments.observations,
                     ": found observations of length ", observations.dimension(), ", wanted ", dictionary.rows(),
                     ", the number of rows of ", arguments.dictionary);
}

/// What --memory-limit leaves for the solver beside the arrays that have an element a problem.
std::int64_t solver_memory(const Arguments& arguments, const Context& context, const NpyFile& dictionary,
                           std::int64_t problems, const LambdaRule& rule) {
  const std::int64_t limit = parse_bytes(arguments.memory_limit);
  const std::int64_t by_problem =
      SolveJournal::memory(problems) + static_cast<std::int64_t>(rule.values.size() * sizeof(double));
  const std::int64_t least = by_problem + least_memory(context, dictionary.rows(), dictionary.cols());
  SHRINKWARP_REQUIRE(limit >= least, ValueError, "--memory-limit: found ", limit, " bytes, wanted at least ", least,
                     " for a dictionary of ", dictionary.rows(), " x ", dictionary.cols(), " and ", problems,
                     " problems");
  return limit - by_problem;
}

/// All that the bits of a result depend on. The memory limit is not among it, nor where files lie.
Fingerprint fingerprint_of(const Arguments& arguments, const Context& context, const Dictionary& dictionary,
                           std::uint64_t dictionary_hash, const ObservationSource& observations,
                           const LambdaRule& rule) {
  Fingerprint fingerprint;
  fingerprint.add("--dictionary", concat(dictionary.rows(), " x ", dictionary.atoms()));
  fingerprint.add_hash("values of --dictionary", dictionary_hash);
  fingerprint.add("--observations", concat(observations.size(), " x ", observations.dimension()));
  if (arguments.lambda) fingerprint.add("--lambda", *arguments.lambda);
  if (arguments.lambda_fraction) {
    fingerprint.add("--lambda-fraction", *arguments.lambda_fraction);
    fingerprint.add("--lambda-scope", arguments.lambda_scope);
  }
  if (rule.kind == LambdaRule::Kind::recording_fraction)
    fingerprint.add("lambda_max of the recording", rule.lambda_max);
  if (!arguments.lambda_file.empty())
    fingerprint.add_hash(
        "values of --lambda-file",
        hash_bytes(rule.values.data(), static_cast<std::int64_t>(rule.values.size() * sizeof(double))));
  fingerprint.add("--gap", arguments.gap);
  fingerprint.add("--max-iterations", arguments.max_iterations);
  fingerprint.add("--solver", std::string(name_of(resolved(solver_named(arguments.solver)))));
  fingerprint.add("restarts", arguments.no_restart ? "no" : "yes");
  if (!context.is_cuda()) {
    fingerprint.add("--threads", std::int64_t{context.threads()});
    fingerprint.add("instruction set", std::string(cpu_instruction_set()));
  }
  fingerprint.add("device", context.description());
  fingerprint.add("BLAS", concat("OpenBLAS, ", cpu_blas_core_name()));
  fingerprint.add("Lipschitz bound", dictionary.lipschitz());
  fingerprint.add("program", concat(kVersion, ", build ", build_id()));
  return fingerprint;
}

LassoSummary joined(LassoSummary a, const LassoSummary& b) {
  a.problems += b.problems;
  a.unconverged += b.unconverged;
  a.nonzeros += b.nonzeros;
  a.iterations += b.iterations;
  a.worst_gap = std::max(a.worst_gap, b.worst_gap);
  return a;
}

/// What a solve that has not come to its end says.
std::string kept_text(const SolveJournal& journal, std::int64_t problems) {
  if (journal.held() == 0) return "no problem was finished";
  return concat(with_commas(journal.held()), " of ", with_commas(problems), " problems are kept in ",
                std::filesystem::path(journal.path()).filename().string(), ", --resume goes on with them");
}

struct Outcome {
  LassoSummary summary;      // of all problems
  std::int64_t resumed = 0;  // problems that an earlier run had solved
  double seconds = 0;
};

void print_summary(const Arguments& arguments, const Context& context, const Dictionary& dictionary,
                   const Outcome& outcome) {
  const LassoSummary& summary = outcome.summary;
  const double problems = static_cast<double>(std::max<std::int64_t>(summary.problems, 1));
  const double rate = static_cast<double>(summary.problems - outcome.resumed) / std::max(outcome.seconds, 1e-9);
  const std::string solver = name_of(resolved(solver_named(arguments.solver)));
  if (arguments.json) {
    const nlohmann::json out = {{"problems", summary.problems},
                                {"converged", summary.problems - summary.unconverged},
                                {"unconverged", summary.unconverged},
                                {"resumed", outcome.resumed},
                                {"gap", arguments.gap},
                                {"worst_gap", summary.worst_gap},
                                {"nonzeros", summary.nonzeros},
                                {"iterations", summary.iterations},
                                {"rows", dictionary.rows()},
                                {"atoms", dictionary.atoms()},
                                {"solver", solver},
                                {"device", context.description()},
                                {"seconds", outcome.seconds},
                                {"problems_per_second", rate},
                                {"output", arguments.output}};
    std::cout << out.dump() << '\n';
    return;
  }
  if (arguments.quiet) return;
  std::printf("problems     %s, dictionary %lld x %lld\n", with_commas(summary.problems).c_str(),
              static_cast<long long>(dictionary.rows()), static_cast<long long>(dictionary.atoms()));
  if (outcome.resumed > 0)
    std::printf("resumed      %s of them had been solved before\n", with_commas(outcome.resumed).c_str());
  std::printf("converged    %s to a relative gap of %g, worst %.2e\n",
              with_commas(summary.problems - summary.unconverged).c_str(), arguments.gap, summary.worst_gap);
  std::printf("codes        %.1f nonzeros a problem\n", static_cast<double>(summary.nonzeros) / problems);
  std::printf("solver       %s, %.0f iterations a problem\n", solver.c_str(),
              static_cast<double>(summary.iterations) / problems);
  std::printf("device       %s\n", context.description().c_str());
  std::printf("time         %s, %s problems/s\n", duration_text(outcome.seconds).c_str(), short_number(rate).c_str());
  std::printf("output       %s\n", arguments.output.c_str());
  std::fflush(stdout);
}

int say_finished(const Arguments& arguments) {
  if (arguments.json) {
    std::cout << nlohmann::json{{"finished", true}, {"output", arguments.output}}.dump() << '\n';
  } else if (!arguments.quiet) {
    std::printf("%s is finished, there is nothing to resume\n", arguments.output.c_str());
    std::fflush(stdout);
  }
  return kDone;
}

/// For an output without a journal: it is finished if this solve would make the same.
void require_same_output(const Arguments& arguments, const Fingerprint& fingerprint, ObservationSource& observations) {
  constexpr const char* kAfresh = "; without --resume a solve starts afresh and replaces it";
  std::string difference;
  try {
    difference = difference_of_output(arguments.output, fingerprint, observations, &interrupted);
  } catch (const IoError& error) {
    SHRINKWARP_THROW(Error, error.what(), kAfresh);
  }
  SHRINKWARP_REQUIRE(difference.empty(), ValueError, arguments.output,
                     " is of a solve that differs from this one: ", difference, kAfresh);
}

/// Opens the journal of the output. Problems that it holds, or may hold where it is damaged, are not lost by mistake.
std::unique_ptr<SolveJournal> open_journal(const Arguments& arguments) {
  auto journal = std::make_unique<SolveJournal>(arguments.output);
  const std::string damage =
      journal->damaged_bytes() > 0 ? with_commas(journal->damaged_bytes()) + " bytes at its end are damaged" : "";
  SHRINKWARP_REQUIRE(arguments.resume || (journal->held() == 0 && damage.empty()), Error, journal->path(), " holds ",
                     with_commas(journal->held()), " finished problems of an earlier run", damage.empty() ? "" : ", ",
                     damage, ": --resume goes on with them, deleting the file starts afresh");
  if (!damage.empty())
    std::cerr << "shrinkwarp: " << journal->path() << ": " << damage << "; the problems in them are solved again\n";
  return journal;
}

int run(const Arguments& arguments) {
  const auto started = std::chrono::steady_clock::now();
  LassoOptions options = lasso_options(arguments);
  check_names(arguments);
  const bool finished = arguments.resume && finished_before(arguments);

  const NpyFile dictionary_file = NpyFile::open(arguments.dictionary);
  NpyObservations observations(arguments.observations);
  check_sizes(arguments, dictionary_file, observations);
  LambdaRule rule = lambda_rule(arguments);
  const Context context = make_context(arguments.device, arguments.threads);
  options.memory_limit = solver_memory(arguments, context, dictionary_file, observations.size(), rule);

  const std::unique_ptr<SolveJournal> opened = finished ? nullptr : open_journal(arguments);
  if (!finished) remove_leftovers(arguments.output);

  const InterruptScope interrupt_scope;
  std::uint64_t dictionary_hash = 0;
  const Dictionary dictionary = [&] {
    const Context host = Context::cpu(1);
    const Tensor<double> D(host, dictionary_file.rows(), dictionary_file.cols());
    dictionary_file.read_matrix(D.matrix());
    dictionary_hash = hash_bytes(D.data(), D.bytes());
    return Dictionary(context, D.matrix(), arguments.dictionary);
  }();

  Outcome outcome;
  try {
    if (rule.kind == LambdaRule::Kind::recording_fraction)
      rule.lambda_max = recording_lambda_max(context, dictionary, observations, options);
    const Fingerprint fingerprint = fingerprint_of(arguments, context, dictionary, dictionary_hash, observations, rule);
    if (finished) {
      require_same_output(arguments, fingerprint, observations);
      return say_finished(arguments);
    }
    SolveJournal& journal = *opened;
    const LassoSummary before = journal.start(fingerprint, observations, dictionary.atoms(), &interrupted);
    try {
      ProgressBar bar(arguments.quiet || arguments.json, before.problems);
      options.progress = [&bar](const Progress& progress) { bar.update(progress); };
      options.skip = [&journal](std::int64_t problem) { return journal.holds(problem); };
      NotedObservations noted(observations, journal);
      outcome.summary = joined(before, solve_lasso(context, dictionary, noted, rule, options, journal));
      outcome.resumed = before.problems;
      journal.write_result(arguments.output, &interrupted);
    } catch (const Cancelled&) {
      throw;
    } catch (const std::exception& error) {
      if (journal.held() == 0) throw;
      const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
      SHRINKWARP_THROW(Error, memory ? "out of memory" : error.what(), "; ", kept_text(journal, observations.size()));
    }
  } catch (const Cancelled&) {
    std::cerr << "shrinkwarp: interrupted" << (finished ? "" : ": " + kept_text(*opened, observations.size())) << '\n';
    return kSignal + interrupting_signal;
  }
  opened->remove();
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_summary(arguments, context, dictionary, outcome);
  const LassoSummary& summary = outcome.summary;
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
  command
      ->add_option("--memory-limit", arguments->memory_limit, "for dictionary, running problems and 8 bytes a problem")
      ->check(byte_count())
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command->add_flag("--resume", arguments->resume, "go on where an earlier run of the same command ended, if one did");
  command->add_flag("--quiet", arguments->quiet, "no progress, no summary");
  command->add_flag("--json", arguments->json, "the summary as one JSON object");
  command
      ->add_option("--output", arguments->output,
                   "Z.npz: CSR (N, m) for scipy.sparse.load_npz, with lambda, "
                   "objective, dual_gap, iterations and converged")
      ->required();
  command->footer(
      "Finished problems are kept in OUTPUT.journal until the output is written.\n"
      "Exit status: 0 all converged, 3 written but some missed the gap, 2 usage, 1 other errors, 130 and 143 "
      "interrupted.\n"
      "Example:\n  shrinkwarp solve --dictionary D.npy --observations X.npy --lambda-fraction 0.5 --output Z.npz");
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace shrinkwarp::cli
