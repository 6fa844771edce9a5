// `shrinkwarp solve`: from files to a journal of what is finished, and from there to the output.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include <shrinkwarp/models/lasso/checks.hpp>
#include <shrinkwarp/models/lasso/debias.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/learned_start.hpp>
#include <shrinkwarp/tools/cli/least_squares.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/cli/solve_options.hpp>
#include <shrinkwarp/tools/cli/solve_summary.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/cli/warm_start.hpp>
#include <shrinkwarp/tools/files/finished_output.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>
#include <shrinkwarp/tools/files/solve_fingerprint.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>

namespace shrinkwarp::cli {
namespace {

/// The output is there and no journal of it.
bool finished_before(const SolveOptions& options) {
  std::error_code ignored;
  return std::filesystem::exists(options.output, ignored) &&
         !std::filesystem::exists(SolveJournal::path_of(options.output), ignored);
}

void check_sizes(const SolveOptions& options, const NpyFile& dictionary, const NpyObservations& observations) {
  SHRINKWARP_REQUIRE(dictionary.rows() > 0 && dictionary.cols() > 0, ShapeError, options.dictionary,
                     ": found a dictionary of ", dictionary.rows(), " x ", dictionary.cols(),
                     ", wanted at least one row and one atom (n, m)");
  SHRINKWARP_REQUIRE(observations.size() > 0, ShapeError, options.observations,
                     ": found no rows, wanted at least one observation (N, n)");
  SHRINKWARP_REQUIRE(observations.dimension() == dictionary.rows(), ShapeError, options.observations,
                     ": found observations of length ", observations.dimension(), ", wanted ", dictionary.rows(),
                     ", the number of rows of ", options.dictionary);
}

/// What --memory-limit leaves for the solver beside the arrays that have an element a problem.
std::int64_t solver_memory(const SolveOptions& options, const Context& context, const NpyFile& dictionary,
                           std::int64_t problems, const LambdaRule& rule, const LassoOptions& lasso) {
  const std::int64_t limit = parse_bytes(options.memory_limit);
  const std::int64_t by_problem = SolveJournal::memory(problems) +
                                  static_cast<std::int64_t>(rule.values.size() * sizeof(double)) +
                                  (lasso.initial ? bytes_of(*lasso.initial) : 0) +
                                  (options.debias ? Debias::bytes(context, dictionary.rows(), dictionary.cols()) : 0);
  const std::int64_t least =
      by_problem + least_memory(context, dictionary.rows(), dictionary.cols(), options.lasso.solver, lasso.penalty);
  SHRINKWARP_REQUIRE(limit >= least, ValueError, "--memory-limit: found ", limit, " bytes, wanted at least ", least,
                     " for a dictionary of ", dictionary.rows(), " x ", dictionary.cols(), " and ", problems,
                     " problems");
  return limit - by_problem;
}

/// What a solve that has not come to its end says.
std::string kept_text(const SolveOptions& options, const SolveJournal& journal, std::int64_t problems) {
  if (journal.held() == 0) return "no problem was finished";
  return concat(with_commas(journal.held()), " of ", with_commas(problems), " problems are kept in ", options.output,
                ".journal, --resume goes on with them");
}

/// For an output without a journal: it is finished if this solve would make the same.
void require_same_output(const SolveOptions& options, const Fingerprint& fingerprint, ObservationSource& observations,
                         const CancelToken* cancel) {
  constexpr const char* kAfresh = "; without --resume a solve starts afresh and replaces it";
  std::string difference;
  try {
    difference = difference_of_output(options.output, fingerprint, observations, cancel);
  } catch (const IoError& error) {
    SHRINKWARP_THROW(Error, error.what(), kAfresh);
  }
  SHRINKWARP_REQUIRE(difference.empty(), ValueError, options.output,
                     " is of a solve that differs from this one: ", difference, kAfresh);
}

/// Opens the journal of the output. Problems that it holds, or may hold where it is damaged, are not lost by mistake.
std::unique_ptr<SolveJournal> open_journal(const SolveOptions& options) {
  auto journal = std::make_unique<SolveJournal>(options.output);
  const std::string damage =
      journal->damaged_bytes() > 0 ? with_commas(journal->damaged_bytes()) + " bytes at its end are damaged" : "";
  SHRINKWARP_REQUIRE(options.resume || (journal->held() == 0 && damage.empty()), Error, journal->path(), " holds ",
                     with_commas(journal->held()), " finished problems of an earlier run", damage.empty() ? "" : ", ",
                     damage, ": --resume goes on with them, deleting the file starts afresh");
  if (!damage.empty())
    std::cerr << "shrinkwarp: " << journal->path() << ": " << damage << "; the problems in them are solved again\n";
  return journal;
}

/// What all solves of a command share.
struct Inputs {
  NpyFile dictionary_file;
  NpyObservations observations;
  Context context;
  Penalty penalty;
  std::optional<LoadedDictionary> dictionary;  // loaded once it is needed: what is wrong elsewhere is said before
  double lambda_max = -1;                      // of the recording, once it is needed
};

/// One solve, to its output.
int run_one(const SolveOptions& options, Inputs& inputs) {
  const auto started = std::chrono::steady_clock::now();
  const bool finished = options.resume && finished_before(options);
  const NpyFile& dictionary_file = inputs.dictionary_file;
  NpyObservations& observations = inputs.observations;
  const Context& context = inputs.context;
  LambdaRule rule = lambda_rule(options);
  LassoOptions lasso = options.lasso;
  lasso.penalty = inputs.penalty;
  SparseCodes initial;
  if (!options.warm_start.empty()) {
    initial = read_warm_start(options.warm_start, observations.size(), dictionary_file.cols());
    lasso.initial = &initial;
  }
  lasso.memory_limit = solver_memory(options, context, dictionary_file, observations.size(), rule, lasso);

  lasso.solver = rule.follows_path()
                     ? Solver::working_set
                     : resolved(context, dictionary_file.rows(), dictionary_file.cols(), observations.size(), lasso);

  const std::unique_ptr<SolveJournal> opened = finished ? nullptr : open_journal(options);
  if (!finished) remove_leftovers(options.output);

  const InterruptScope interrupts;
  lasso.cancel = interrupts.token();
  if (!inputs.dictionary) inputs.dictionary = LoadedDictionary::from_file(context, dictionary_file, options.dictionary);
  const auto& [dictionary, dictionary_hash] = *inputs.dictionary;

  SolveOutcome outcome;
  outcome.solver = lasso.solver;
  try {
    if (rule.kind == LambdaRule::Kind::recording_fraction) {
      if (inputs.lambda_max < 0) inputs.lambda_max = recording_lambda_max(context, dictionary, observations, lasso);
      rule.lambda_max = inputs.lambda_max;
    }
    if (options.learned) {
      const std::int64_t least = least_memory(context, dictionary.rows(), dictionary.atoms(), lasso.solver);
      initial = learned_start(options.network, context, *inputs.dictionary, options.dictionary, observations, rule,
                              lasso.memory_limit - least, lasso.cancel);
      lasso.initial = &initial;
      lasso.memory_limit -= bytes_of(initial);
      outcome.learned_starts = 0;
      for (std::size_t i = 1; i < initial.offsets.size(); ++i)
        outcome.learned_starts += initial.offsets[i] > initial.offsets[i - 1] ? 1 : 0;
    }
    Fingerprint fingerprint = fingerprint_of(context, dictionary, dictionary_hash, observations, rule, lasso);
    if (options.debias) fingerprint.add("--debias", "yes");
    if (finished) {
      require_same_output(options, fingerprint, observations, lasso.cancel);
      print_finished(options);
      return kDone;
    }
    SolveJournal& journal = *opened;
    const LassoSummary before = journal.start(fingerprint, observations, dictionary.atoms(), lasso.cancel);
    try {
      ProgressBar bar(options.quiet || options.json, before.problems);
      lasso.progress = [&bar](const Progress& progress) { bar.update(progress); };
      lasso.skip = [&journal](std::int64_t problem) { return journal.holds(problem); };
      NotedObservations noted(observations, journal);
      outcome.summary = before;
      outcome.summary += solve_lasso(context, dictionary, noted, rule, lasso, journal);
      outcome.resumed = before.problems;
      std::optional<Debias> debias;
      if (options.debias) debias.emplace(context, dictionary);
      journal.write_result(options.output, lasso.cancel, debias ? &*debias : nullptr, &observations);
    } catch (const Cancelled&) {
      throw;
    } catch (const std::exception& error) {
      if (journal.held() == 0) throw;
      const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
      SHRINKWARP_THROW(Error, memory ? "out of memory" : error.what(), "; ",
                       kept_text(options, journal, observations.size()));
    }
  } catch (const Cancelled&) {
    std::cerr << "shrinkwarp: interrupted" << (finished ? "" : ": " + kept_text(options, *opened, observations.size()))
              << '\n';
    return kSignal + interrupts.number();
  }
  opened->remove();
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_summary(options, context, dictionary, outcome);
  const LassoSummary& summary = outcome.summary;
  if (summary.unconverged == 0) return kDone;
  std::cerr << "shrinkwarp: " << with_commas(summary.unconverged) << " of " << with_commas(summary.problems)
            << " problems missed the gap of " << lasso.gap;
  if (!rule.follows_path()) std::cerr << " within " << with_commas(lasso.max_iterations) << " iterations";
  std::cerr << "; " << options.output << " is written and says which\n";
  return kUnconverged;
}

int run_solve(const SolveOptions& options) {
  check(options);
  Inputs inputs{NpyFile::open(options.dictionary),
                NpyObservations(options.observations),
                Context::named(options.least_squares ? "cpu" : options.device, options.threads),
                {},
                {}};
  check_sizes(options, inputs.dictionary_file, inputs.observations);
  if (options.least_squares)
    return run_least_squares(options, inputs.context, inputs.dictionary_file, inputs.observations);
  inputs.penalty = penalty(options);
  check_penalty(inputs.penalty, inputs.dictionary_file.cols());
  int worst = kDone;
  for (const SolveOptions& solve : solves_of(options)) {
    const int status = run_one(solve, inputs);
    if (status != kDone && status != kUnconverged) return status;
    worst = std::max(worst, status);
  }
  return worst;
}

}  // namespace

void add_solve(CLI::App& app, Action& action) {
  auto options = std::make_shared<SolveOptions>();
  CLI::App* command = app.add_subcommand("solve", "Solve a Lasso problem for every row of a recording");
  add_solve_options(*command, *options);
  command->footer(
      "Finished problems are kept in OUTPUT.journal until the output is written.\n"
      "Exit status: 0 all converged, 3 written but some missed the gap, 2 usage, 1 other errors, 130 and 143 "
      "interrupted.\n"
      "Example:\n  shrinkwarp solve --dictionary D.npy --observations X.npy --lambda-fraction 0.5 --output Z.npz");
  command->callback([options, &action] { action = [options] { return run_solve(*options); }; });
}

}  // namespace shrinkwarp::cli
