// Problems enter the float batch in the order of their observations; those that float cannot bring to their gap go on in
// a double batch; each leaves for the sink at the certificate that finishes it, so that a slow one holds back no other.
#include <shrinkwarp/models/lasso/stream.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/models/lasso/pace.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>
#include <shrinkwarp/models/lasso/stopping.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

using FloatBatch = ProximalGradientBatch<float>;
using DoubleBatch = ProximalGradientBatch<double>;

// Where a problem that float gave up goes on.
struct HandedOver {
  std::int64_t index;
  double lambda;  // in the batch's units
  std::int64_t iterations;
  std::vector<std::int32_t> indices;
  std::vector<double> values;
};

// Adds code i of `from` to `to`.
void append_code(const SparseCodes& from, std::int64_t i, SparseCodes& to) {
  const auto begin = from.offsets[static_cast<std::size_t>(i)];
  const auto end = from.offsets[static_cast<std::size_t>(i) + 1];
  to.indices.insert(to.indices.end(), from.indices.begin() + begin, from.indices.begin() + end);
  to.values.insert(to.values.end(), from.values.begin() + begin, from.values.begin() + end);
  to.offsets.push_back(static_cast<std::int64_t>(to.values.size()));
}

class Stream {
 public:
  Stream(const Context& context, const Dictionary& dictionary, ObservationSource& source, const LambdaRule& rule,
         const LassoOptions& options, CodeSink& sink, FunctionRef<double()> seconds)
      : context_(context),
        dictionary_(dictionary),
        source_(source),
        rule_(rule),
        options_(options),
        sink_(sink),
        seconds_(seconds),
        size_(source.size()) {}

  LassoSummary run() {
    total_ = size_;
    if (options_.skip)
      for (std::int64_t i = 0; i < size_; ++i) total_ -= options_.skip(i) ? 1 : 0;
    if (total_ == 0) return summary_;
    plan_ = plan_memory(context_, dictionary_, total_, options_.memory_limit);
    if (rule_.kind == LambdaRule::Kind::recording_fraction)
      fixed_lambda_ =
          rule_.number *
          (rule_.lambda_max >= 0 ? rule_.lambda_max : recording_lambda_max(context_, dictionary_, source_, options_));
    staging_ = Tensor<double>(host_, dictionary_.rows(), plan_.places);
    FloatBatch batch(context_, dictionary_, momentum_of(options_), plan_.places, options_.profile);
    log(LogLevel::info, total_, " problems, up to ", plan_.places, " at a time in float and ", plan_.double_places,
        " in double");
    report();
    do {
      check_cancel();
      const double started = seconds_();
      left_ = 0;
      fill(batch);
      if (batch.running() > 0) {
        batch.advance(options_.max_iterations);
        settle(batch);
        pace_.round(seconds_() - started, left_);
        put_back(batch);
      }
      // Double goes to work when a batch for it has come together, or when float has nothing left that it may do.
      if (waiting() > 0 && (batch.running() == 0 || waiting() >= plan_.double_places)) finish_in_double();
      report();
    } while (batch.running() > 0 || waiting() > 0 || more());
    if (stopped_) std::rethrow_exception(stopped_);
    return summary_;
  }

 private:
  std::int64_t waiting() const { return static_cast<std::int64_t>(handed_over_.size()); }

  bool more() const { return !again_.empty() || (next_ < size_ && !stopped_); }

  void check_cancel() const {
    if (options_.cancel && options_.cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "lasso: cancelled with ", summary_.problems, " of ", total_, " problems finished");
  }

  // Lets no more problems in: those that run are finished, then the first error that came here ends the solve.
  void stop() {
    if (stopped_) return;
    stopped_ = std::current_exception();
    log(LogLevel::warning, "an error ends the solve as soon as the running problems have finished");
  }

  double lambda_of(std::int64_t index, double lambda_max) const {
    switch (rule_.kind) {
      case LambdaRule::Kind::value:
        return rule_.number;
      case LambdaRule::Kind::per_problem:
        return rule_.values[static_cast<std::size_t>(index)];
      case LambdaRule::Kind::sample_fraction:
        return rule_.number * lambda_max;
      case LambdaRule::Kind::recording_fraction:
        return fixed_lambda_;
    }
    return rule_.number;
  }

  template <class T>
  void admit(ProximalGradientBatch<T>& batch, const std::vector<typename ProximalGradientBatch<T>::Problem>& problems,
             const SparseCodes* initial) {
    batch.admit(staging_.matrix().columns(0, static_cast<std::int64_t>(problems.size())), problems, {initial, {}},
                [this](std::int64_t index, double lambda_max) { return lambda_of(index, lambda_max); });
    settle(batch);
  }

  // The next `count` problems that are to be solved, or as many as there are; ascending.
  std::vector<std::int64_t> take(std::int64_t count) {
    std::vector<std::int64_t> rows;
    while (!again_.empty() && static_cast<std::int64_t>(rows.size()) < count) {
      rows.push_back(again_.front());
      again_.pop_front();
    }
    for (; !stopped_ && next_ < size_ && static_cast<std::int64_t>(rows.size()) < count; ++next_)
      if (!options_.skip || !options_.skip(next_)) rows.push_back(next_);
    return rows;
  }

  // Reads ascending rows into staging. At one that cannot be had the list ends, and the stream is stopped.
  void read(std::vector<std::int64_t>& rows) {
    std::size_t done = 0;
    try {
      while (done < rows.size()) {
        std::size_t end = done + 1;
        while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
        const MatrixView<double> X =
            staging_.matrix().columns(static_cast<std::int64_t>(done), static_cast<std::int64_t>(end - done));
        source_.read(rows[done], X);
        for (std::int64_t b = 0; b < X.cols; ++b, ++done)
          require_finite(source_, rows[done], {X.column(b), X.rows, {}});
      }
    } catch (...) {
      stop();
      rows.resize(done);
    }
  }

  // Fills free places with the next problems; those that their starting code already solves make room for more.
  void fill(FloatBatch& batch) {
    while (more()) {
      const std::int64_t width = std::min(plan_.places, pace_.width(old_));
      const std::int64_t room = std::min(width, plan_.in_flight - waiting()) - batch.running();
      if (room <= 0) return;
      std::vector<std::int64_t> rows = take(room);
      read(rows);
      if (rows.empty()) continue;
      std::vector<FloatBatch::Problem> problems(rows.size());
      std::optional<SparseCodes> initial;
      if (options_.initial) initial.emplace();
      for (std::size_t b = 0; b < rows.size(); ++b) {
        problems[b].index = rows[b];
        problems[b].lambda = -1;
        if (initial) append_code(*options_.initial, rows[b], *initial);
      }
      admit(batch, problems, initial ? &*initial : nullptr);
      if (batch.running() < width) {  // some were solved as they came in: as many of them as there are, perhaps
        report();
        check_cancel();
      }
    }
  }

  // Counts the problems that have grown old. Where they are more than may be, all but those that are furthest start again
  // later.
  void put_back(FloatBatch& batch) {
    const std::int64_t young = pace_.young_rounds() * FloatBatch::kCheckInterval;
    const auto& problems = batch.problems();
    old_ = std::count_if(problems.begin(), problems.end(), [&](const auto& p) { return p.iterations > young; });
    if (old_ <= Pace::kSure) return;
    std::vector<std::size_t> order(problems.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return problems[a].iterations > problems[b].iterations; });
    std::vector<std::uint8_t> leave(problems.size(), 0);
    for (auto i = static_cast<std::size_t>(Pace::kSure); i < order.size(); ++i) leave[order[i]] = 1;
    SparseCodes dropped;
    for (const auto& problem : batch.retire(leave, dropped)) again_.push_back(problem.index);
    std::sort(again_.begin(), again_.end());
    log(LogLevel::info, "problems have turned slow: ", order.size() - static_cast<std::size_t>(Pace::kSure),
        " start again later");
    old_ = Pace::kSure;
  }

  void finish_in_double() {
    log(LogLevel::info, waiting(), " problems go on in double");
    if (!double_batch_)
      double_batch_ = std::make_unique<DoubleBatch>(context_, dictionary_, momentum_of(options_), plan_.double_places,
                                                    options_.profile);
    DoubleBatch& batch = *double_batch_;
    while (waiting() > 0 || batch.running() > 0) {
      check_cancel();
      const std::int64_t count = std::min(plan_.double_places - batch.running(), waiting());
      std::vector<DoubleBatch::Problem> problems;
      SparseCodes initial;
      for (std::int64_t left = count; left > 0; --left) {
        const HandedOver from = std::move(handed_over_.front());
        handed_over_.pop_front();
        const MatrixView<double> x = staging_.matrix().columns(static_cast<std::int64_t>(problems.size()), 1);
        try {
          source_.read(from.index, x);
          require_finite(source_, from.index, {x.data, x.rows, {}});
        } catch (...) {
          stop();  // all others are finished
          continue;
        }
        DoubleBatch::Problem problem;
        problem.index = from.index;
        problem.lambda = from.lambda;
        problem.iterations = from.iterations;
        problems.push_back(problem);
        initial.indices.insert(initial.indices.end(), from.indices.begin(), from.indices.end());
        initial.values.insert(initial.values.end(), from.values.begin(), from.values.end());
        initial.offsets.push_back(static_cast<std::int64_t>(initial.values.size()));
      }
      if (!problems.empty()) admit(batch, problems, &initial);
      if (batch.running() > 0) {
        batch.advance(options_.max_iterations);
        settle(batch);
      }
      report();
    }
  }

  // Takes finished problems out of a batch and hands them to the sink, and out of the float batch those that have to go
  // on in double.
  template <class T>
  void settle(ProximalGradientBatch<T>& batch) {
    constexpr bool is_float = std::is_same_v<T, float>;
    std::vector<std::uint8_t> leave;
    for (const auto& problem : batch.problems())
      leave.push_back(finished(problem, options_) || (is_float && beyond_float(problem, options_)) ? 1 : 0);
    SparseCodes codes;
    const auto& retired = batch.retire(leave, codes);
    if (is_float) left_ += static_cast<std::int64_t>(retired.size());

    std::vector<std::size_t> order(retired.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return retired[a].index < retired[b].index; });
    LassoBatch results;
    for (const std::size_t i : order) {
      const auto& problem = retired[i];
      if (finished(problem, options_)) {
        append_result(problem, codes, static_cast<std::int64_t>(i), results);
      } else {
        const auto begin = codes.offsets[i];
        const auto end = codes.offsets[i + 1];
        handed_over_.push_back({problem.index, problem.lambda, problem.iterations,
                                std::vector<std::int32_t>(codes.indices.begin() + begin, codes.indices.begin() + end),
                                std::vector<double>(codes.values.begin() + begin, codes.values.begin() + end)});
      }
    }
    if (results.size() == 0) return;
    const PhaseTimer timer(context_, options_.profile, "output");
    sink_.append(results);
    count(results);
  }

  // Adds the problem with code i of `codes`, in the user's units.
  template <class P>
  void append_result(const P& problem, const SparseCodes& codes, std::int64_t i, LassoBatch& finished) {
    const double squared = problem.scale * problem.scale;
    const double objective = problem.primal * squared;
    const double gap = problem.gap * squared;
    const auto code = codes.values.begin() + codes.offsets[static_cast<std::size_t>(i)];
    const auto end = codes.values.begin() + codes.offsets[static_cast<std::size_t>(i) + 1];
    if (!std::isfinite(objective) || !std::isfinite(gap) ||
        !std::all_of(code, end, [](double value) { return std::isfinite(value); })) {
      try {
        SHRINKWARP_THROW(ValueError, source_.name(), ": the result of row ", problem.index,
                         " leaves the range of float64, wanted a dictionary and observations in closer units");
      } catch (...) {
        stop();
      }
      return;
    }
    finished.index.push_back(problem.index);
    append_code(codes, i, finished.codes);
    finished.lambda.push_back(problem.lambda * problem.scale * dictionary_.scale());
    finished.objective.push_back(objective);
    finished.dual_gap.push_back(gap);
    finished.iterations.push_back(problem.iterations);
    finished.converged.push_back(problem.gap <= options_.gap * problem.energy ? 1 : 0);
    worst_gap_ = std::max(worst_gap_, problem.relative_gap());
  }

  // What the sink has taken.
  void count(const LassoBatch& batch) {
    summary_.problems += batch.size();
    summary_.unconverged += std::count(batch.converged.begin(), batch.converged.end(), 0);
    summary_.nonzeros += static_cast<std::int64_t>(batch.codes.values.size());
    summary_.iterations += std::accumulate(batch.iterations.begin(), batch.iterations.end(), std::int64_t{0});
    summary_.worst_gap = worst_gap_;
  }

  template <class... Parts>
  void log(LogLevel level, const Parts&... parts) const {
    if (options_.log) options_.log(level, concat(parts...));
  }

  void report() const {
    if (!options_.progress) return;
    Progress progress;
    progress.done = summary_.problems;
    progress.total = total_;
    progress.unconverged = summary_.unconverged;
    progress.worst_gap = summary_.worst_gap;
    progress.iterations = summary_.iterations;
    options_.progress(progress);
  }

  const Context& context_;
  const Dictionary& dictionary_;
  ObservationSource& source_;
  const LambdaRule& rule_;
  const LassoOptions& options_;
  CodeSink& sink_;
  FunctionRef<double()> seconds_;
  const Context host_ = Context::cpu(1);

  std::int64_t size_;               // of the source
  std::int64_t total_ = 0;          // of them to be solved
  std::int64_t next_ = 0;           // first problem that has not entered
  std::deque<std::int64_t> again_;  // problems that were put back, ascending
  MemoryPlan plan_;
  Pace pace_;
  std::int64_t left_ = 0;  // problems that left the float batch in this round
  std::int64_t old_ = 0;   // of those in the float batch
  double fixed_lambda_ = 0;
  Tensor<double> staging_;  // [n, places], observations on their way in
  std::deque<HandedOver> handed_over_;
  std::unique_ptr<DoubleBatch> double_batch_;
  std::exception_ptr stopped_;  // why no more problems are let in
  double worst_gap_ = 0;
  LassoSummary summary_;
};

}  // namespace

LassoSummary stream_problems(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                             const LambdaRule& rule, const LassoOptions& options, CodeSink& sink,
                             FunctionRef<double()> seconds) {
  return Stream(context, dictionary, source, rule, options, sink, seconds).run();
}

}  // namespace shrinkwarp
