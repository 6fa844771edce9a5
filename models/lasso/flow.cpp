#include <shrinkwarp/models/lasso/flow.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>

namespace shrinkwarp {

void append_code(const SparseCodes& from, std::int64_t i, SparseCodes& to) {
  const auto begin = from.offsets[static_cast<std::size_t>(i)];
  const auto end = from.offsets[static_cast<std::size_t>(i) + 1];
  to.indices.insert(to.indices.end(), from.indices.begin() + begin, from.indices.begin() + end);
  to.values.insert(to.values.end(), from.values.begin() + begin, from.values.begin() + end);
  to.offsets.push_back(static_cast<std::int64_t>(to.values.size()));
}

void append_start(const SparseCodes& initial, std::int64_t i, const Penalty& penalty, SparseCodes& to) {
  for (auto k = initial.offsets[static_cast<std::size_t>(i)]; k < initial.offsets[static_cast<std::size_t>(i) + 1];
       ++k) {
    const std::int32_t atom = initial.indices[static_cast<std::size_t>(k)];
    const double value = initial.values[static_cast<std::size_t>(k)];
    if (value == 0 || std::isinf(penalty.weight_of(atom)) || (penalty.nonnegative && value < 0)) continue;
    to.indices.push_back(atom);
    to.values.push_back(value);
  }
  to.offsets.push_back(static_cast<std::int64_t>(to.values.size()));
}

Flow::Flow(const Context& context, const Dictionary& dictionary, ObservationSource& source, const LambdaRule& rule,
           const LassoOptions& options, CodeSink& sink)
    : context_(context),
      dictionary_(dictionary),
      source_(source),
      rule_(rule),
      options_(options),
      sink_(sink),
      size_(source.size()),
      total_(size_),
      end_(options.share ? 0 : size_) {
  if (options_.skip)
    for (std::int64_t i = 0; i < size_; ++i) total_ -= options_.skip(i) ? 1 : 0;
  if (options_.share) options_.share->begin(size_);
}

void Flow::begin() {
  if (rule_.kind == LambdaRule::Kind::recording_fraction)
    fixed_lambda_ = fraction_of(rule_.number, rule_.lambda_max >= 0
                                                  ? rule_.lambda_max
                                                  : recording_lambda_max(context_, dictionary_, source_, options_));
}

std::vector<std::int64_t> Flow::take(std::int64_t count) {
  std::vector<std::int64_t> rows;
  while (!again_.empty() && static_cast<std::int64_t>(rows.size()) < count) {
    rows.push_back(again_.front());
    again_.pop_front();
  }
  while (!stopped_ && next_ < size_ && static_cast<std::int64_t>(rows.size()) < count) {
    if (next_ == end_) {
      const ProblemShare::Range range = options_.share->next();
      next_ = range.empty() ? size_ : range.first;
      end_ = range.empty() ? size_ : range.last;
      continue;
    }
    if (!options_.skip || !options_.skip(next_)) rows.push_back(next_);
    ++next_;
  }
  return rows;
}

std::int64_t Flow::wanted(std::int64_t free, std::int64_t under_way, std::int64_t least) const {
  if (!options_.share) return free;
  return std::min(free, std::max<std::int64_t>(options_.share->fair(least), least) - under_way);
}

void Flow::put_back(const std::vector<std::int64_t>& rows) {
  again_.insert(again_.end(), rows.begin(), rows.end());
  std::sort(again_.begin(), again_.end());
}

void Flow::read(std::vector<std::int64_t>& rows, MatrixView<double> X) {
  std::size_t done = 0;
  try {
    while (done < rows.size()) {
      std::size_t end = done + 1;
      while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
      const MatrixView<double> part = X.columns(static_cast<std::int64_t>(done), static_cast<std::int64_t>(end - done));
      source_.read(rows[done], part);
      for (std::int64_t b = 0; b < part.cols; ++b, ++done)
        require_finite(source_, rows[done], {part.column(b), part.rows, {}});
    }
  } catch (...) {
    stop();
    rows.resize(done);
  }
}

double Flow::lambda_of(std::int64_t index, double lambda_max) const {
  switch (rule_.kind) {
    case LambdaRule::Kind::value:
      return rule_.number;
    case LambdaRule::Kind::per_problem:
      return rule_.values[static_cast<std::size_t>(index)];
    case LambdaRule::Kind::sample_fraction:
      return fraction_of(rule_.number, lambda_max);
    case LambdaRule::Kind::recording_fraction:
      return fixed_lambda_;
    case LambdaRule::Kind::l1_radius:
    case LambdaRule::Kind::residual_norm:
    case LambdaRule::Kind::max_nonzeros:
      break;  // has a batch of its own
  }
  return rule_.number;
}

double Flow::known_lambda(std::int64_t index) const {
  return rule_.kind == LambdaRule::Kind::sample_fraction ? -1 : lambda_of(index, 0);
}

void Flow::deliver(const std::vector<Retired>& problems, const SparseCodes& codes) {
  std::vector<std::size_t> order(problems.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return problems[a].index < problems[b].index; });
  LassoBatch results;
  for (const std::size_t i : order) append_result(problems[i], codes, static_cast<std::int64_t>(i), results);
  if (results.size() == 0) return;
  const PhaseTimer timer(context_, options_.profile, "output");
  sink_.append(results);
  count(results);
}

// Adds the problem with code i of `codes`, in the user's units.
void Flow::append_result(const Retired& problem, const SparseCodes& codes, std::int64_t i, LassoBatch& finished) {
  const InUserUnits result = in_user_units(problem, dictionary_.scale());
  const auto code = codes.values.begin() + codes.offsets[static_cast<std::size_t>(i)];
  const auto end = codes.values.begin() + codes.offsets[static_cast<std::size_t>(i) + 1];
  if (!result.numbers_fit || (code != end && !result.codes_fit) ||
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
  finished.lambda.push_back(problem.asked_lambda);
  finished.objective.push_back(result.objective);
  finished.dual_gap.push_back(result.dual_gap);
  finished.iterations.push_back(problem.iterations);
  finished.converged.push_back(problem.gap <= options_.gap * problem.energy ? 1 : 0);
  worst_gap_ = std::max(worst_gap_, problem.energy > 0 ? problem.gap / problem.energy : problem.gap);
}

// What the sink has taken.
void Flow::count(const LassoBatch& batch) {
  summary_.problems += batch.size();
  summary_.unconverged += std::count(batch.converged.begin(), batch.converged.end(), 0);
  summary_.nonzeros += static_cast<std::int64_t>(batch.codes.values.size());
  summary_.iterations += std::accumulate(batch.iterations.begin(), batch.iterations.end(), std::int64_t{0});
  summary_.worst_gap = worst_gap_;
}

void Flow::stop() {
  if (stopped_) return;
  stopped_ = std::current_exception();
  log(LogLevel::warning, "an error ends the solve as soon as the running problems have finished");
}

void Flow::check_cancel() const {
  if (options_.cancel && options_.cancel->cancelled())
    SHRINKWARP_THROW(Cancelled, "lasso: cancelled with ", summary_.problems, " of ", total_, " problems finished");
}

void Flow::report() const {
  if (!options_.progress) return;
  Progress progress;
  progress.done = summary_.problems;
  progress.total = total_;
  progress.unconverged = summary_.unconverged;
  progress.worst_gap = summary_.worst_gap;
  progress.iterations = summary_.iterations;
  options_.progress(progress);
}

LassoSummary Flow::summary() const {
  if (stopped_) std::rethrow_exception(stopped_);
  return summary_;
}

}  // namespace shrinkwarp
