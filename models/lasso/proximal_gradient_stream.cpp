// Problems enter the float batch in the order of their observations; those that float cannot bring to their gap go on in
// a double batch; each leaves for the sink at the certificate that finishes it, so that a slow one holds back no other.
#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include <shrinkwarp/models/lasso/double_stage.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/pace.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>
#include <shrinkwarp/models/lasso/stopping.hpp>
#include <shrinkwarp/models/lasso/stream.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

using FloatBatch = ProximalGradientBatch<float>;

class Stream {
 public:
  Stream(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Flow& flow,
         const MemoryPlan& plan, FunctionRef<double()> seconds)
      : options_(options),
        flow_(flow),
        plan_(plan),
        seconds_(seconds),
        staging_(Context::cpu(1), dictionary.rows(), plan.places),
        batch_(context, dictionary, momentum_of(options), options.penalty, plan.places, options.profile),
        double_(context, dictionary, options, flow, staging_.matrix().columns(0, plan.double_places)) {}

  void run() {
    flow_.log(LogLevel::info, flow_.total(), " problems, up to ", plan_.places, " at a time in float and ",
              plan_.double_places, " in double");
    flow_.report();
    do {
      flow_.check_cancel();
      const double started = seconds_();
      left_ = 0;
      fill();
      if (batch_.running() > 0) {
        batch_.advance(options_.max_iterations);
        settle();
        pace_.round(seconds_() - started, left_);
        put_back();
      }
      // Double goes to work when a batch for it has come together, or when float has nothing left that it may do.
      if (batch_.running() == 0 || double_.waiting() >= plan_.double_places) double_.finish();
      flow_.report();
    } while (batch_.running() > 0 || double_.waiting() > 0 || flow_.more());
  }

 private:
  // Fills free places with the next problems; those that their starting code already solves make room for more.
  void fill() {
    while (flow_.more()) {
      const std::int64_t width = std::min(plan_.places, pace_.width(old_));
      const std::int64_t free = std::min(width, plan_.in_flight - double_.waiting()) - batch_.running();
      const std::int64_t room = flow_.wanted(free, batch_.running(), std::min(plan_.places, Pace::kSure));
      if (room <= 0) return;
      std::vector<std::int64_t> rows = flow_.take(room);
      flow_.read(rows, staging_.matrix());
      if (rows.empty()) continue;
      std::vector<FloatBatch::Problem> problems(rows.size());
      std::optional<SparseCodes> initial;
      if (options_.initial) initial.emplace();
      for (std::size_t b = 0; b < rows.size(); ++b) {
        problems[b].index = rows[b];
        problems[b].lambda = -1;
        if (initial) append_start(*options_.initial, rows[b], options_.penalty, *initial);
      }
      batch_.admit(staging_.matrix().columns(0, static_cast<std::int64_t>(problems.size())), problems,
                   {initial ? &*initial : nullptr, {}},
                   [this](std::int64_t index, double lambda_max) { return flow_.lambda_of(index, lambda_max); });
      settle();
      if (batch_.running() < width) {  // some were solved as they came in: as many of them as there are, perhaps
        flow_.report();
        flow_.check_cancel();
      }
    }
  }

  // Counts the problems that have grown old. Where they are more than may be, all but those that are furthest start again
  // later.
  void put_back() {
    const std::int64_t young = pace_.young_rounds() * FloatBatch::kCheckInterval;
    const auto& problems = batch_.problems();
    old_ = std::count_if(problems.begin(), problems.end(), [&](const auto& p) { return p.iterations > young; });
    if (old_ <= Pace::kSure) return;
    std::vector<std::size_t> order(problems.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return problems[a].iterations > problems[b].iterations; });
    std::vector<std::uint8_t> leave(problems.size(), 0);
    for (auto i = static_cast<std::size_t>(Pace::kSure); i < order.size(); ++i) leave[order[i]] = 1;
    SparseCodes dropped;
    std::vector<std::int64_t> rows;
    for (const auto& problem : batch_.retire(leave, dropped)) rows.push_back(problem.index);
    flow_.put_back(rows);
    flow_.log(LogLevel::info, "problems have turned slow: ", rows.size(), " start again later");
    old_ = Pace::kSure;
  }

  // Takes finished problems out of the batch, and those that have to go on in double.
  void settle() {
    std::vector<std::uint8_t> leave;
    for (const auto& problem : batch_.problems())
      leave.push_back(finished(problem, options_) || beyond_float(problem, options_) ? 1 : 0);
    SparseCodes codes, done;
    std::vector<Retired> results;
    std::int64_t i = 0;
    for (const auto& problem : batch_.retire(leave, codes)) {
      if (finished(problem, options_)) {
        results.push_back(retired(problem));
        append_code(codes, i, done);
      } else {
        double_.add(retired(problem), codes, i);
      }
      ++i;
    }
    left_ += i;
    flow_.deliver(results, done);
  }

  const LassoOptions& options_;
  Flow& flow_;
  const MemoryPlan plan_;
  FunctionRef<double()> seconds_;
  Tensor<double> staging_;  // [n, places], observations on their way in
  FloatBatch batch_;
  DoubleStage double_;
  Pace pace_;
  std::int64_t left_ = 0;  // problems that left the float batch in this round
  std::int64_t old_ = 0;   // of those in the float batch
};

}  // namespace

LassoSummary stream_proximal_gradient(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                      const LambdaRule& rule, const LassoOptions& options, CodeSink& sink,
                                      FunctionRef<double()> seconds) {
  Flow flow(context, dictionary, source, rule, options, sink);
  if (flow.total() == 0) return flow.summary();
  const MemoryPlan plan =
      plan_memory(context, dictionary, flow.total(), options.memory_limit, options.penalty.group_size);
  flow.begin();
  Stream(context, dictionary, options, flow, plan, seconds).run();
  return flow.summary();
}

}  // namespace shrinkwarp
