// `shrinkwarp solve`: from files to a journal of what is finished, and from there to the output.
#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <shrinkwarp/models/lasso/checks.hpp>
#include <shrinkwarp/models/lasso/debias.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/learned_start.hpp>
#include <shrinkwarp/tools/cli/least_squares.hpp>
#include <shrinkwarp/tools/cli/progress_bar.hpp>
#include <shrinkwarp/tools/cli/shared_inputs.hpp>
#include <shrinkwarp/tools/cli/shared_journal.hpp>
#include <shrinkwarp/tools/cli/shared_output.hpp>
#include <shrinkwarp/tools/cli/shared_solve.hpp>
#include <shrinkwarp/tools/cli/solve_options.hpp>
#include <shrinkwarp/tools/cli/solve_summary.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/cli/warm_start.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>
#include <shrinkwarp/tools/files/solve_fingerprint.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {
namespace {

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

/// What all solves of a command share.
struct Inputs {
  NpyFile dictionary_file;
  NpyObservations observations;
  Context context;
  Penalty penalty;
  std::optional<LoadedDictionary> dictionary;  // loaded once it is needed: what is wrong elsewhere is said before
  double lambda_max = -1;                      // of the recording, once it is needed
};

LassoSummary sum_of(Ranks& ranks, const LassoSummary& own) {
  std::int64_t numbers[] = {own.problems, own.unconverged, own.nonzeros, own.iterations};
  ranks.sum(numbers, 4);
  LassoSummary all;
  all.problems = numbers[0];
  all.unconverged = numbers[1];
  all.nonzeros = numbers[2];
  all.iterations = numbers[3];
  all.worst_gap = own.worst_gap;
  ranks.largest(all.worst_gap);
  return all;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What one solve needs beside its inputs.
struct Solve {
  LambdaRule rule;
  LassoOptions lasso;
  SparseCodes initial;  // where lasso.initial points
};

void begin_solve(const SolveOptions& options, const Inputs& inputs, Solve& solve) {
  const auto& [rows, atoms] = std::pair(inputs.dictionary_file.rows(), inputs.dictionary_file.cols());
  const std::int64_t problems = inputs.observations.size();
  LassoOptions& lasso = solve.lasso;
  solve.rule = lambda_rule(options);
  lasso = options.lasso;
  lasso.penalty = inputs.penalty;
  if (!options.warm_start.empty()) {
    solve.initial = read_warm_start(options.warm_start, problems, atoms);
    lasso.initial = &solve.initial;
  }
  lasso.memory_limit = solver_memory(options, inputs.context, inputs.dictionary_file, problems, solve.rule, lasso);
  lasso.solver =
      solve.rule.follows_path() ? Solver::working_set : resolved(inputs.context, rows, atoms, problems, lasso);
}

/// The codes of the network of --solver learned, to start from.
void start_from_network(const SolveOptions& options, Inputs& inputs, Solve& solve, SolveOutcome& outcome) {
  LassoOptions& lasso = solve.lasso;
  const Dictionary& dictionary = inputs.dictionary->dictionary;
  const std::int64_t least = least_memory(inputs.context, dictionary.rows(), dictionary.atoms(), lasso.solver);
  solve.initial = learned_start(options.network, inputs.context, *inputs.dictionary, options.dictionary,
                                inputs.observations, solve.rule, lasso.memory_limit - least, lasso.cancel);
  lasso.initial = &solve.initial;
  lasso.memory_limit -= bytes_of(solve.initial);
  outcome.learned_starts = 0;
  for (std::size_t i = 1; i < solve.initial.offsets.size(); ++i)
    outcome.learned_starts += solve.initial.offsets[i] > solve.initial.offsets[i - 1] ? 1 : 0;
}

/// What ranks do while they wait for one another, as long as this lives.
class WhileWaiting {
 public:
  WhileWaiting(Ranks& ranks, const std::function<void()>& work) : ranks_(ranks) { ranks_.while_waiting = work; }
  ~WhileWaiting() { ranks_.while_waiting = nullptr; }
  WhileWaiting(const WhileWaiting&) = delete;
  WhileWaiting& operator=(const WhileWaiting&) = delete;

 private:
  Ranks& ranks_;
};

/// Solves what the journal does not hold, and writes the output. @return how that ended
Ending finish_solve(const SolveOptions& options, Ranks& ranks, Inputs& inputs, Solve& solve, SolveJournal& journal,
                    const InterruptScope& interrupts, const LassoSummary& before, SolveOutcome& outcome) {
  const Context& context = inputs.context;
  const Dictionary& dictionary = inputs.dictionary->dictionary;
  LassoOptions& lasso = solve.lasso;
  const auto merge = [&] {
    journal.merge([&](std::int64_t* values, std::int64_t count) { ranks.largest(values, count); },
                  [&](std::int64_t* values, std::int64_t count) { ranks.sum(values, count); });
  };
  if (!ranks.alone()) {
    merge();  // what others hold is not solved either
    require_once(ranks, journal, inputs.observations.size());
  }
  outcome.resumed = before.problems;
  outcome.summary = before;

  ProgressBar bar(options.quiet || options.json || !ranks.first(), before.problems);
  ProgressOfRanks progress(ranks, interrupts, bar);
  ChunksOfRanks chunks(ranks);
  lasso.progress = [&](const Progress& now) { progress.update(now); };
  lasso.skip = [&](std::int64_t problem) { return journal.holds(problem); };
  if (!ranks.alone()) lasso.share = &chunks;
  ranks.reset();
  const auto started = std::chrono::steady_clock::now();
  LassoSummary solved;
  std::exception_ptr error;
  try {
    NotedObservations noted(inputs.observations, journal);
    solved = solve_lasso(context, dictionary, noted, solve.rule, lasso, journal);
  } catch (...) {
    error = std::current_exception();
    ranks.raise(Ranks::failed, 1);
  }
  const double busy = seconds_since(started);
  progress.exchange(true);
  const WhileWaiting heard(ranks, [&] { progress.exchange(); });
  Ending ending = agree(ranks, error);
  outcome.solve_seconds = seconds_since(started);
  ranks.largest(outcome.solve_seconds);
  if (ending.kind != Ending::fine) return ending;

  outcome.summary += sum_of(ranks, solved);
  outcome.busy_seconds = ranks.all(busy);
  outcome.problems_of_ranks = ranks.all(static_cast<double>(solved.problems));
  if (!ranks.alone()) {
    ending = ending_of(ranks, [&] { journal.sync(); });
    if (ending.kind != Ending::fine) return ending;
    merge();
  }
  const auto solved_at = std::chrono::steady_clock::now();
  ending =
      write_shared_output(options, ranks, context, dictionary, inputs.observations, journal, progress, lasso.cancel);
  outcome.output_seconds = seconds_since(solved_at);
  return ending;
}

/// One solve, to its output.
int run_one(const SolveOptions& options, Ranks& ranks, Inputs& inputs) {
  const auto started = std::chrono::steady_clock::now();
  const bool finished = finished_before(options, ranks);
  const Context& context = inputs.context;
  NpyObservations& observations = inputs.observations;
  Solve solve;
  together(ranks, [&] { begin_solve(options, inputs, solve); });
  LassoOptions& lasso = solve.lasso;
  const std::unique_ptr<SolveJournal> journal = finished ? nullptr : open_journal(options, ranks);

  const InterruptScope interrupts;
  lasso.cancel = interrupts.token();
  if (!inputs.dictionary)
    inputs.dictionary =
        load_dictionary(ranks, context, inputs.dictionary_file, options.dictionary, [&](const Dictionary& dictionary) {
          prepare_dictionary(context, dictionary, observations.size(), solve.rule, lasso);
        });
  const auto& [dictionary, dictionary_hash] = *inputs.dictionary;

  SolveOutcome outcome;
  outcome.solver = lasso.solver;
  try {
    if (solve.rule.kind == LambdaRule::Kind::recording_fraction) {
      if (inputs.lambda_max < 0)
        inputs.lambda_max = lambda_max_of_recording(ranks, context, dictionary, observations, lasso);
      solve.rule.lambda_max = inputs.lambda_max;
    }
    if (options.learned) start_from_network(options, inputs, solve, outcome);
    Fingerprint fingerprint = fingerprint_of(context, dictionary, dictionary_hash, observations, solve.rule, lasso);
    if (options.debias) fingerprint.add("--debias", "yes");
    require_same_on_all(ranks, fingerprint, &observations);
    if (finished) {
      together(ranks, [&] {
        if (ranks.first()) require_same_output(options, fingerprint, observations, lasso.cancel);
      });
      if (ranks.first()) print_finished(options);
      return kDone;
    }
    LassoSummary before;
    together(ranks, [&] { before = journal->start(fingerprint, observations, dictionary.atoms(), lasso.cancel); });
    before = sum_of(ranks, before);
    const Ending ending = finish_solve(options, ranks, inputs, solve, *journal, interrupts, before, outcome);
    if (ending.kind == Ending::failed) {
      const std::int64_t held = held_by_all(ranks, *journal).problems;
      ending.rethrow(held == 0 ? "" : "; " + kept_text(options, held, observations.size()));
    }
    ending.rethrow();
  } catch (const Cancelled&) {
    std::int64_t number = interrupts.number();
    ranks.largest(&number, 1);
    const std::int64_t held = finished ? 0 : held_by_all(ranks, *journal).problems;
    if (ranks.first())
      std::cerr << "shrinkwarp: interrupted" << (finished ? "" : ": " + kept_text(options, held, observations.size()))
                << '\n';
    return kSignal + static_cast<int>(number);
  }
  together(ranks, [&] { journal->remove(); });
  outcome.seconds = seconds_since(started);
  if (ranks.first()) print_summary(options, context, dictionary, outcome);
  const LassoSummary& summary = outcome.summary;
  if (summary.unconverged == 0) return kDone;
  if (!ranks.first()) return kUnconverged;
  std::cerr << "shrinkwarp: " << with_commas(summary.unconverged) << " of " << with_commas(summary.problems)
            << " problems missed the gap of " << lasso.gap;
  if (!solve.rule.follows_path()) std::cerr << " within " << with_commas(lasso.max_iterations) << " iterations";
  std::cerr << "; " << options.output << " is written and says which\n";
  return kUnconverged;
}

int run_solve(const SolveOptions& options, Ranks& ranks) {
  std::optional<Inputs> inputs;
  together(ranks, [&] {
    check(options);
    SHRINKWARP_REQUIRE(ranks.alone() || !(options.learned || options.least_squares), UsageError, "--solver ",
                       options.learned ? "learned" : "least-squares", ": found ", ranks.size(),
                       " ranks, wanted one process: it does not share out its problems");
    inputs.emplace(Inputs{NpyFile::open(options.dictionary),
                          NpyObservations(options.observations),
                          context_of(ranks, options.least_squares ? "cpu" : options.device, options.threads),
                          {},
                          {}});
    check_sizes(options, inputs->dictionary_file, inputs->observations);
    if (options.least_squares) return;
    inputs->penalty = penalty(options);
    check_penalty(inputs->penalty, inputs->dictionary_file.cols());
  });
  if (options.least_squares)
    return run_least_squares(options, inputs->context, inputs->dictionary_file, inputs->observations);
  int worst = kDone;
  for (const SolveOptions& one : solves_of(options)) {
    const int status = run_one(one, ranks, *inputs);
    if (status != kDone && status != kUnconverged) return status;
    worst = std::max(worst, status);
  }
  return worst;
}

}  // namespace

void add_solve(CLI::App& app, Action& action, Ranks& ranks) {
  auto options = std::make_shared<SolveOptions>();
  CLI::App* command = app.add_subcommand("solve", "Solve a Lasso problem for every row of a recording");
  add_solve_options(*command, *options);
  command->footer(
      "Finished problems are kept in OUTPUT.journal until the output is written.\n"
      "Exit status: 0 all converged, 3 written but some missed the gap, 2 usage, 1 other errors, 130 and 143 "
      "interrupted.\n"
      "Processes that mpirun has started share the problems: docs/cluster.md.\n"
      "Example:\n  shrinkwarp solve --dictionary D.npy --observations X.npy --lambda-fraction 0.5 --output Z.npz");
  command->callback([options, &action, &ranks] { action = [options, &ranks] { return run_solve(*options, ranks); }; });
}

}  // namespace shrinkwarp::cli
