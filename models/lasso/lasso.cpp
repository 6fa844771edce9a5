// Streams a source of observations through batches. Problems enter the float batch in order; those that float cannot
// bring to their gap go on in a double batch; results leave in order, whatever order they finish in.
#include <shrinkwarp/models/lasso/lasso.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>
#include <shrinkwarp/models/lasso/stopping.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

using FloatBatch = ProximalGradientBatch<float>;
using DoubleBatch = ProximalGradientBatch<double>;

// What is added to a gap for the rounding of float64 is 1.1e-14 of 1/2 ||x||^2 for the code 0 and little more near it.
constexpr double kSmallestGap = 2e-14;
// How many problems iterate together. On the CPU their codes and differences should stay in the last-level cache beside
// the packed dictionary (96 problems of a 302 x 6138 one; 64 to 128 measured best on a Zen 4 core with 32 MiB). On CUDA
// they should fill the device: about a thousand problems of that dictionary make eight waves of blocks for 132
// multiprocessors (on paper: an iteration of 8192 costs hardly less a problem than one of 512).
struct BatchSize {
  std::int64_t bytes, min_places, max_places;
};
constexpr BatchSize kCpuBatch{std::int64_t{8} << 20, 64, 4096};
constexpr BatchSize kCudaBatch{std::int64_t{80} << 20, 256, 16384};
constexpr std::int64_t kMaxHeldResults = std::int64_t{1} << 20;

// Where a problem that float gave up goes on.
struct HandedOver {
  std::int64_t index;
  double lambda;  // in the batch's units
  std::int64_t iterations;
  std::vector<std::int32_t> indices;
  std::vector<double> values;
};

struct Result {
  double lambda, objective, gap;
  std::int64_t iterations;
  bool converged;
  std::vector<std::int32_t> indices;
  std::vector<double> values;
  std::int64_t bytes() const {
    return static_cast<std::int64_t>(sizeof(Result) + indices.size() * sizeof(std::int32_t) +
                                     values.size() * sizeof(double));
  }
};

void check_options(const LassoOptions& options) {
  SHRINKWARP_REQUIRE(options.gap >= kSmallestGap && std::isfinite(options.gap), ValueError, "lasso: the gap is ",
                     options.gap, ", wanted at least ", kSmallestGap, ", what float64 can certify");
  SHRINKWARP_REQUIRE(options.max_iterations >= 0, ValueError, "lasso: max_iterations is ", options.max_iterations,
                     ", wanted >= 0");
}

void check_rule(const LambdaRule& rule, std::int64_t problems) {
  if (rule.kind == LambdaRule::Kind::per_problem) {
    SHRINKWARP_REQUIRE(static_cast<std::int64_t>(rule.values.size()) == problems, ShapeError, rule.name, ": found ",
                       rule.values.size(), " lambdas, wanted one for each of ", problems, " observations");
    for (std::size_t i = 0; i < rule.values.size(); ++i)
      SHRINKWARP_REQUIRE(rule.values[i] > 0 && std::isfinite(rule.values[i]), ValueError, rule.name,
                         ": lambda of problem ", i, " is ", rule.values[i], ", wanted a finite number > 0");
    return;
  }
  SHRINKWARP_REQUIRE(rule.number > 0 && std::isfinite(rule.number), ValueError, rule.name, ": ",
                     rule.kind == LambdaRule::Kind::value ? "the value" : "the fraction of lambda_max", " is ",
                     rule.number, ", wanted a finite number > 0");
}

void check_initial(const SparseCodes& initial, std::int64_t problems, std::int64_t atoms) {
  SHRINKWARP_REQUIRE(initial.size() == problems, ShapeError, "lasso: ", initial.size(), " initial codes for ", problems,
                     " observations, wanted one each");
  const auto entries = static_cast<std::int64_t>(initial.values.size());
  SHRINKWARP_REQUIRE(initial.indices.size() == initial.values.size() && initial.offsets.front() == 0 &&
                         initial.offsets.back() == entries,
                     ShapeError, "lasso: initial codes with ", initial.indices.size(), " indices, ", entries,
                     " values and offsets ", initial.offsets.front(), " to ", initial.offsets.back(),
                     ", wanted as many of each and offsets from 0 to their number");
  for (std::size_t i = 0; i + 1 < initial.offsets.size(); ++i) {
    const std::int64_t begin = initial.offsets[i];
    const std::int64_t end = initial.offsets[i + 1];
    SHRINKWARP_REQUIRE(begin <= end && end <= entries, ShapeError, "lasso: initial code ", i, " has offsets ", begin,
                       " to ", end, ", wanted ascending ones up to ", entries);
    for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k)
      SHRINKWARP_REQUIRE(initial.indices[k] >= 0 && initial.indices[k] < atoms && std::isfinite(initial.values[k]),
                         ValueError, "lasso: initial code ", i, " has ", initial.values[k], " at atom ",
                         initial.indices[k], ", wanted finite values at atoms 0 to ", atoms - 1);
  }
}

// Reads observations and refuses what no solver can do anything with.
void read_observations(ObservationSource& source, std::int64_t first, MatrixView<double> X) {
  source.read(first, X);
  for (std::int64_t b = 0; b < X.cols; ++b)
    for (std::int64_t i = 0; i < X.rows; ++i)
      SHRINKWARP_REQUIRE(std::isfinite(X(i, b)), ValueError, source.name(), ": entry ", i, " of row ", first + b,
                         " is ", X(i, b), ", wanted a finite number");
}

// Largest lambda_max of the recording, in the user's units.
double recording_lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                            const CancelToken* cancel) {
  const std::int64_t block =
      std::clamp<std::int64_t>(kCpuBatch.bytes / (dictionary.rows() * 8), 1, kCpuBatch.max_places);
  const Context host = Context::cpu(1);
  const Tensor<double> read(host, dictionary.rows(), block);
  const Tensor<double> X(context, dictionary.rows(), block);
  const Tensor<double> correlation(context, block);
  const Tensor<double> scratch(context, correlation_scratch(context, dictionary.atoms(), block));
  std::vector<double> found(static_cast<std::size_t>(block));
  double largest = 0;
  for (std::int64_t first = 0; first < source.size(); first += block) {
    if (cancel && cancel->cancelled()) SHRINKWARP_THROW(Cancelled, "lasso: cancelled while looking for lambda_max");
    const std::int64_t count = std::min(block, source.size() - first);
    read_observations(source, first, read.matrix().columns(0, count));
    copy(context, read.matrix().columns(0, count), X.matrix().columns(0, count));
    correlation_max(context, dictionary.exact(), X.matrix().columns(0, count), correlation.vector().slice(0, count),
                    scratch.vector());
    copy(context, correlation.vector().slice(0, count), VectorView<double>{found.data(), count, {}});
    context.synchronize();
    largest = std::max(largest, *std::max_element(found.begin(), found.begin() + count));
  }
  return largest * dictionary.scale();
}

class Stream {
 public:
  Stream(const Context& context, const Dictionary& dictionary, ObservationSource& source, const LambdaRule& rule,
         const LassoOptions& options, CodeSink& sink)
      : context_(context),
        dictionary_(dictionary),
        source_(source),
        rule_(rule),
        options_(options),
        sink_(sink),
        total_(source.size()) {}

  LassoSummary run() {
    if (rule_.kind == LambdaRule::Kind::recording_fraction)
      fixed_lambda_ = rule_.number * recording_lambda_max(context_, dictionary_, source_, options_.cancel);
    plan();
    FloatBatch batch(context_, dictionary_, momentum_of(options_), places_, options_.profile);
    report();
    while (summary_.problems < total_) {
      check_cancel();
      fill(batch);
      if (batch.running() > 0) {
        batch.advance(options_.max_iterations);
        settle(batch);
      }
      // Double goes to work when a batch for it has come together, or when float has nothing left that it may do.
      if (!handed_over_.empty() && (batch.running() == 0 || static_cast<std::int64_t>(handed_over_.size()) >= places_))
        finish_in_double();
      deliver();
      report();
    }
    return summary_;
  }

 private:
  // Memory: the dictionary as it is, both batches, a quarter of the limit for results that wait for an earlier one.
  void plan() {
    const std::int64_t n = dictionary_.rows();
    const std::int64_t m = dictionary_.atoms();
    // In float64 for certificates, on the CPU twice; in float and, once a problem needs it, double twice for the products.
    const std::int64_t fixed = n * m * static_cast<std::int64_t>(4 * sizeof(double) + 2 * sizeof(float));
    result_budget_ = options_.memory_limit / 4;
    const auto needed = [&](std::int64_t places) {
      return FloatBatch::workspace(context_, dictionary_, places) + double_workspace(places) +
             places * n * static_cast<std::int64_t>(sizeof(double));
    };
    const std::int64_t room = options_.memory_limit - result_budget_ - fixed;
    const std::int64_t state = 3 * m * static_cast<std::int64_t>(sizeof(float)) + n * 24;
    const BatchSize& size = context_.is_cuda() ? kCudaBatch : kCpuBatch;
    places_ = std::clamp<std::int64_t>(size.bytes / state / 32 * 32, size.min_places, size.max_places);
    places_ = std::max<std::int64_t>(1, std::min(places_, total_));
    while (places_ > 1 && needed(places_) > room) places_ /= 2;
    SHRINKWARP_REQUIRE(needed(places_) <= room, ValueError, "lasso: memory_limit is ", options_.memory_limit,
                       " bytes, wanted at least ", (fixed + needed(1)) / 3 * 4 + 4, " for a dictionary of ", n, " x ",
                       m);
    staging_ = Tensor<double>(host_, n, places_);
  }

  // The double batch has twice the bytes a place; it is laid out only when a problem needs it, but planned for here.
  std::int64_t double_workspace(std::int64_t places) const {
    return 2 * FloatBatch::workspace(context_, dictionary_, places);
  }

  void check_cancel() const {
    if (options_.cancel && options_.cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "lasso: cancelled with ", summary_.problems, " of ", total_,
                       " problems finished and ", delivered_, " delivered");
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
    batch.admit(staging_.matrix().columns(0, static_cast<std::int64_t>(problems.size())), problems, {initial},
                [this](std::int64_t index, double lambda_max) { return lambda_of(index, lambda_max); });
    settle(batch);
  }

  // Fills free places with the next problems; those that their starting code already solves make room for more.
  void fill(FloatBatch& batch) {
    while (batch.running() < places_ && next_ < total_ && held_bytes_ <= result_budget_ &&
           next_ - delivered_ < kMaxHeldResults) {
      const std::int64_t count = std::min(places_ - batch.running(), total_ - next_);
      read_observations(source_, next_, staging_.matrix().columns(0, count));
      std::vector<FloatBatch::Problem> problems(static_cast<std::size_t>(count));
      for (std::int64_t b = 0; b < count; ++b) {
        problems[static_cast<std::size_t>(b)].index = next_ + b;
        problems[static_cast<std::size_t>(b)].lambda = -1;
      }
      std::optional<SparseCodes> initial;
      if (options_.initial) initial = slice(*options_.initial, next_, count);
      waiting_.resize(static_cast<std::size_t>(next_ + count - delivered_));
      next_ += count;
      admit(batch, problems, initial ? &*initial : nullptr);
      if (batch.running() < places_) {  // some were solved as they came in: as many of them as there are, perhaps
        check_cancel();
        deliver();
        report();
      }
    }
  }

  static SparseCodes slice(const SparseCodes& codes, std::int64_t first, std::int64_t count) {
    SparseCodes part;
    const auto begin = codes.offsets[static_cast<std::size_t>(first)];
    const auto end = codes.offsets[static_cast<std::size_t>(first + count)];
    part.indices.assign(codes.indices.begin() + begin, codes.indices.begin() + end);
    part.values.assign(codes.values.begin() + begin, codes.values.begin() + end);
    for (std::int64_t i = 1; i <= count; ++i)
      part.offsets.push_back(codes.offsets[static_cast<std::size_t>(first + i)] - begin);
    return part;
  }

  void finish_in_double() {
    if (!double_batch_)
      double_batch_ =
          std::make_unique<DoubleBatch>(context_, dictionary_, momentum_of(options_), places_, options_.profile);
    DoubleBatch& batch = *double_batch_;
    while (!handed_over_.empty() || batch.running() > 0) {
      check_cancel();
      const std::int64_t count =
          std::min<std::int64_t>(places_ - batch.running(), static_cast<std::int64_t>(handed_over_.size()));
      std::vector<DoubleBatch::Problem> problems;
      SparseCodes initial;
      for (std::int64_t b = 0; b < count; ++b) {
        const HandedOver& from = handed_over_.front();
        DoubleBatch::Problem problem;
        problem.index = from.index;
        problem.lambda = from.lambda;
        problem.iterations = from.iterations;
        problems.push_back(problem);
        initial.indices.insert(initial.indices.end(), from.indices.begin(), from.indices.end());
        initial.values.insert(initial.values.end(), from.values.begin(), from.values.end());
        initial.offsets.push_back(static_cast<std::int64_t>(initial.values.size()));
        read_observations(source_, from.index, staging_.matrix().columns(b, 1));
        handed_over_.pop_front();
      }
      if (count > 0) admit(batch, problems, &initial);
      if (batch.running() > 0) {
        batch.advance(options_.max_iterations);
        settle(batch);
      }
      deliver();
      report();
    }
  }

  // Takes finished problems out of a batch, and out of the float batch those that have to go on in double.
  template <class T>
  void settle(ProximalGradientBatch<T>& batch) {
    constexpr bool is_float = std::is_same_v<T, float>;
    std::vector<std::uint8_t> leave;
    for (const auto& problem : batch.problems())
      leave.push_back(finished(problem, options_) || (is_float && beyond_float(problem, options_)) ? 1 : 0);
    SparseCodes codes;
    const auto& retired = batch.retire(leave, codes);
    for (std::size_t i = 0; i < retired.size(); ++i) {
      const auto& problem = retired[i];
      const auto begin = codes.offsets[i];
      const auto end = codes.offsets[i + 1];
      std::vector<std::int32_t> indices(codes.indices.begin() + begin, codes.indices.begin() + end);
      std::vector<double> values(codes.values.begin() + begin, codes.values.begin() + end);
      if (finished(problem, options_)) {
        keep(problem, std::move(indices), std::move(values));
      } else {
        handed_over_.push_back(
            {problem.index, problem.lambda, problem.iterations, std::move(indices), std::move(values)});
      }
    }
  }

  template <class P>
  void keep(const P& problem, std::vector<std::int32_t> indices, std::vector<double> values) {
    const double squared = problem.scale * problem.scale;
    Result result{problem.lambda * problem.scale * dictionary_.scale(),
                  problem.primal * squared,
                  problem.gap * squared,
                  problem.iterations,
                  problem.gap <= options_.gap * problem.energy,
                  std::move(indices),
                  std::move(values)};
    SHRINKWARP_REQUIRE(
        std::isfinite(result.objective) && std::isfinite(result.gap) &&
            std::all_of(result.values.begin(), result.values.end(), [](double value) { return std::isfinite(value); }),
        ValueError, source_.name(), ": the result of row ", problem.index,
        " leaves the range of float64, wanted a dictionary and observations in closer units");
    summary_.problems += 1;
    summary_.unconverged += result.converged ? 0 : 1;
    summary_.nonzeros += static_cast<std::int64_t>(result.values.size());
    summary_.iterations += result.iterations;
    summary_.worst_gap = std::max(summary_.worst_gap, problem.relative_gap());
    held_bytes_ += result.bytes();
    waiting_[static_cast<std::size_t>(problem.index - delivered_)] = std::move(result);
  }

  // Hands over what has finished without a hole before it.
  void deliver() {
    const PhaseTimer timer(context_, options_.profile, "output");
    LassoBatch batch;
    batch.first = delivered_;
    while (!waiting_.empty() && waiting_.front()) {
      const Result& result = *waiting_.front();
      batch.lambda.push_back(result.lambda);
      batch.objective.push_back(result.objective);
      batch.dual_gap.push_back(result.gap);
      batch.iterations.push_back(result.iterations);
      batch.converged.push_back(result.converged ? 1 : 0);
      batch.codes.indices.insert(batch.codes.indices.end(), result.indices.begin(), result.indices.end());
      batch.codes.values.insert(batch.codes.values.end(), result.values.begin(), result.values.end());
      batch.codes.offsets.push_back(static_cast<std::int64_t>(batch.codes.values.size()));
      held_bytes_ -= result.bytes();
      ++delivered_;
      waiting_.pop_front();
    }
    if (batch.size() > 0) sink_.append(batch);
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
  const Context host_ = Context::cpu(1);

  std::int64_t total_;
  std::int64_t next_ = 0;       // first problem that has not entered
  std::int64_t delivered_ = 0;  // first problem that has not left
  std::int64_t places_ = 0;
  std::int64_t result_budget_ = 0;
  std::int64_t held_bytes_ = 0;
  double fixed_lambda_ = 0;
  Tensor<double> staging_;                     // [n, places], observations on their way in
  std::deque<std::optional<Result>> waiting_;  // of problems delivered_ .. next_ - 1
  std::deque<HandedOver> handed_over_;
  std::unique_ptr<DoubleBatch> double_batch_;
  LassoSummary summary_;
};

class MemorySource : public ObservationSource {
 public:
  explicit MemorySource(MatrixView<const double> X) : X_(X) {}
  std::int64_t size() const override { return X_.cols; }
  std::int64_t dimension() const override { return X_.rows; }
  void read(std::int64_t first, MatrixView<double> X) override {
    for (std::int64_t b = 0; b < X.cols; ++b) std::copy_n(X_.column(first + b), X.rows, X.column(b));
  }

 private:
  MatrixView<const double> X_;
};

class MemorySink : public CodeSink {
 public:
  void append(const LassoBatch& batch) override {
    const auto join = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    const std::int64_t start = result.codes.offsets.back();
    for (std::size_t i = 1; i < batch.codes.offsets.size(); ++i)
      result.codes.offsets.push_back(start + batch.codes.offsets[i]);
    join(result.codes.indices, batch.codes.indices);
    join(result.codes.values, batch.codes.values);
    join(result.lambda, batch.lambda);
    join(result.objective, batch.objective);
    join(result.dual_gap, batch.dual_gap);
    join(result.iterations, batch.iterations);
    join(result.converged, batch.converged);
  }
  LassoBatch result;
};

}  // namespace

LassoSummary solve_lasso(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                         const LambdaRule& rule, const LassoOptions& options, CodeSink& sink) {
  check_options(options);
  check_rule(rule, source.size());
  SHRINKWARP_REQUIRE(dictionary.device() == context.device(), DeviceError, "lasso: the dictionary lies on ",
                     dictionary.device(), ", wanted ", context.device());
  SHRINKWARP_REQUIRE(source.dimension() == dictionary.rows() || source.size() == 0, ShapeError,
                     "lasso: observations have length ", source.dimension(), ", wanted the dictionary's ",
                     dictionary.rows(), " rows");
  if (options.initial) check_initial(*options.initial, source.size(), dictionary.atoms());
  if (source.size() == 0) return {};
  return Stream(context, dictionary, source, rule, options, sink).run();
}

LassoBatch solve_lasso(const Context& context, const Dictionary& dictionary, MatrixView<const double> X,
                       const LambdaRule& rule, const LassoOptions& options) {
  MemorySource source(X);
  MemorySink sink;
  solve_lasso(context, dictionary, source, rule, options, sink);
  return std::move(sink.result);
}

}  // namespace shrinkwarp
