// Problems wait in the working-set batch's queue, in the order of their observations, and leave for the sink in the round
// that finishes them; the few that the method gives up go on by proximal gradients in double.
#include <algorithm>
#include <vector>

#include <shrinkwarp/models/lasso/double_stage.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/stream.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

class Stream {
 public:
  Stream(const Context& context, const Dictionary& dictionary, const LassoOptions& options, Flow& flow,
         const WorkingSetPlan& plan)
      : flow_(flow),
        staging_(Context::cpu(1), dictionary.rows(), std::max(plan.queue, plan.double_places)),
        batch_(context, dictionary, options, plan.workers, plan.places, plan.queue),
        double_(context, dictionary, options, flow, staging_.matrix().columns(0, plan.double_places)) {
    flow_.log(LogLevel::info, flow_.total(), " problems, ", plan.places, " at a time on each of ", plan.workers,
              " threads");
  }

  void run() {
    flow_.report();
    do {
      flow_.check_cancel();
      fill();
      batch_.advance(flow_.more(),
                     [this](std::int64_t index, double lambda_max) { return flow_.lambda_of(index, lambda_max); });
      settle();
      if (double_.waiting() >= double_.places() || (batch_.running() == 0 && !flow_.more())) double_.finish();
      flow_.report();
    } while (batch_.running() > 0 || double_.waiting() > 0 || flow_.more());
  }

 private:
  void fill() {
    while (flow_.more() && batch_.room() > 0) {
      std::vector<std::int64_t> rows = flow_.take(std::min(batch_.room(), staging_.cols()));
      flow_.read(rows, staging_.matrix());
      if (rows.empty()) continue;
      std::vector<WorkingSetBatch::Problem> problems(rows.size());
      for (std::size_t b = 0; b < rows.size(); ++b) problems[b].index = rows[b];
      batch_.admit(staging_.matrix().columns(0, static_cast<std::int64_t>(rows.size())), problems);
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
  Tensor<double> staging_;  // [n, queue], observations on their way in
  WorkingSetBatch batch_;
  DoubleStage double_;
};

}  // namespace

LassoSummary stream_working_set(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                                const LambdaRule& rule, const LassoOptions& options, CodeSink& sink) {
  Flow flow(context, dictionary, source, rule, options, sink);
  if (flow.total() == 0) return flow.summary();
  const WorkingSetPlan plan = plan_working_set(context, dictionary, flow.total(), options.memory_limit);
  flow.begin();
  Stream(context, dictionary, options, flow, plan).run();
  return flow.summary();
}

}  // namespace shrinkwarp
