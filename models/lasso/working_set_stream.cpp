// Problems wait in a working-set batch, in the order of their observations, and leave for the sink in the round that finishes
// them; the few that the method gives up go on by proximal gradients in double.
#include <algorithm>
#include <vector>

#include <shrinkwarp/models/lasso/device_working_set.hpp>
#include <shrinkwarp/models/lasso/double_stage.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/stream.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

/// @tparam Batch  WorkingSetBatch or DeviceWorkingSetBatch
template <class Batch>
class Stream {
 public:
  /// @param double_places  of the batch for problems that are given up
  /// @param least          problems of the batch that keep it busy
  Stream(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Flow& flow, Batch& batch,
         std::int64_t double_places, std::int64_t least)
      : flow_(flow),
        batch_(batch),
        least_(least),
        double_staging_(Context::cpu(1), dictionary.rows(), double_places),
        double_(context, dictionary, options, flow, double_staging_.matrix()) {}

  /// @param advance  advance(more) has the batch go on; more: problems will come
  template <class Advance>
  void run(const Advance& advance) {
    flow_.report();
    do {
      flow_.check_cancel();
      fill();
      advance(flow_.more());
      settle();
      if (double_.waiting() >= double_.places() || (batch_.running() == 0 && !flow_.more())) double_.finish();
      flow_.report();
    } while (batch_.running() > 0 || double_.waiting() > 0 || flow_.more());
  }

 private:
  void fill() {
    while (flow_.more() && batch_.room() > 0) {
      const MatrixView<double> staging = batch_.staging();
      const std::int64_t wanted = flow_.wanted(std::min(batch_.room(), staging.cols), batch_.running(), least_);
      if (wanted <= 0) return;
      std::vector<std::int64_t> rows = flow_.take(wanted);
      flow_.read(rows, staging);
      if (rows.empty()) continue;
      std::vector<typename Batch::Problem> problems(rows.size());
      for (std::size_t b = 0; b < rows.size(); ++b) problems[b].index = rows[b];
      batch_.admit(problems);
    }
  }

  void settle() {
    SparseCodes codes, done;
    std::vector<Retired> results;
    std::int64_t i = 0;
    for (const auto& problem : batch_.retire(codes)) {
      if (problem.stuck) {
        double_.add(retired(problem), codes, i);
      } else {
        results.push_back(retired(problem));
        append_code(codes, i, done);
      }
      ++i;
    }
    flow_.deliver(results, done);
  }

  Flow& flow_;
  Batch& batch_;
  std::int64_t least_;
  Tensor<double> double_staging_;  // [n, double_places]
  DoubleStage double_;
};

void run_on_cpu(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Solver solver,
                Flow& flow) {
  const WorkingSetPlan plan =
      plan_working_set(context, dictionary, flow.total(), options.memory_limit, options.penalty);
  flow.begin();
  const WorkingSetDictionary& parts = dictionary.working_set(context, solver == Solver::plain_working_set);
  WorkingSetBatch batch(context, dictionary, parts, options, plan.workers, plan.places, plan.queue);
  // Some that wait beside full pools: pools that find the queue empty come back for more.
  const std::int64_t least = plan.workers * plan.places + std::min<std::int64_t>(plan.queue, 16);
  Stream<WorkingSetBatch> stream(context, dictionary, options, flow, batch, plan.double_places, least);
  flow.log(LogLevel::info, flow.total(), " problems, ", plan.places, " at a time on each of ", plan.workers,
           " threads");
  stream.run([&](bool more) {
    batch.advance(more, [&](std::int64_t index, double lambda_max) {
      return lambda_max < 0 ? flow.known_lambda(index) : flow.lambda_of(index, lambda_max);
    });
  });
}

void run_on_cuda(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Flow& flow) {
  const DeviceWorkingSetPlan plan =
      plan_device_working_set(context, dictionary, flow.total(), options.memory_limit, options.penalty);
  const std::int64_t places = plan.pools.front().places;
  flow.begin();
  DeviceWorkingSetBatch batch(context, dictionary, options, plan, flow.fraction(),
                              [&flow](std::int64_t index) { return flow.known_lambda(index); });
  Stream<DeviceWorkingSetBatch> stream(context, dictionary, options, flow, batch, plan.double_places,
                                       std::min<std::int64_t>(places, 256));
  flow.log(LogLevel::info, flow.total(), " problems, ", places, " at a time");
  stream.run([&](bool) { batch.advance(); });
}

}  // namespace

LassoSummary stream_working_set(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                const LambdaRule& rule, const LassoOptions& options, Solver solver, CodeSink& sink) {
  Flow flow(context, dictionary, source, rule, options, sink);
  if (flow.total() == 0) return flow.summary();
  if (context.is_cuda())
    run_on_cuda(context, dictionary, options, flow);
  else
    run_on_cpu(context, dictionary, options, solver, flow);
  return flow.summary();
}

}  // namespace shrinkwarp
