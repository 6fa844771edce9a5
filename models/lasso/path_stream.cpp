// Problems go through a path batch a few hundred at a time, and leave for the sink when all of these are done.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/path_batch.hpp>
#include <shrinkwarp/models/lasso/stream.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

LassoSummary stream_path(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                         const LambdaRule& rule, const LassoOptions& options, CodeSink& sink) {
  const Context host = Context::cpu(context.is_cuda() ? 0 : context.threads());
  std::optional<Dictionary> copied;
  if (context.is_cuda()) copied.emplace(host, dictionary.in_user_units(context).matrix());
  const Dictionary& D = copied ? *copied : dictionary;
  Flow flow(host, D, source, rule, options, sink);
  if (flow.total() == 0) return flow.summary();
  const PathPlan plan = plan_path(host, D, flow.total(), options.memory_limit);
  PathBatch batch(host, D, rule, options, plan.workers);
  const Tensor<double> staging(host, D.rows(), plan.chunk);
  flow.log(LogLevel::info, flow.total(), " problems on ", plan.workers, " threads");
  flow.report();
  while (flow.more()) {
    flow.check_cancel();
    std::vector<std::int64_t> rows =
        flow.take(flow.wanted(plan.chunk, 0, std::min<std::int64_t>(plan.chunk, 16 * plan.workers)));
    flow.read(rows, staging.matrix());
    const PathBatch::Result result =
        batch.solve(rows, staging.matrix().columns(0, static_cast<std::int64_t>(rows.size())));
    flow.deliver(result.problems, result.codes);
    if (result.unreachable >= 0) {
      try {
        char distance[32], wanted[32];
        std::snprintf(distance, sizeof distance, "%.17g", result.distance);
        std::snprintf(wanted, sizeof wanted, "%.17g", rule.number);
        SHRINKWARP_THROW(ValueError, source.name(), ": the path of row ", result.unreachable,
                         " ends at ||x - D z|| = ", distance, ", wanted a ", rule.name, " over that, found ", wanted);
      } catch (...) {
        flow.stop();
      }
    }
    flow.report();
  }
  flow.check_cancel();
  return flow.summary();
}

}  // namespace shrinkwarp
