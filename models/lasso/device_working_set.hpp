// The batch behind the working-set solver on CUDA: pools of places for small, large and the largest working sets. A problem
// starts in the smallest; one that outgrows its place starts once more in the next larger, and comes to the same bits there.
//
// A problem keeps a working set W of atoms and is solved exactly on them (kernels/active_set/active_sets.hpp). A pass over all
// atoms on tensor cores (kernels/panel_bounds) bounds the correlations of its residual, and what it leaves open float64
// decides (kernels/working_set): the atoms to be added to W, or the certificate.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <shrinkwarp/models/lasso/device_pool.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

/// Pools of problems, with the interface of WorkingSetBatch.
///
/// Numerics     inner solves, residuals and certificates in float64, the certificate from the code that is delivered
/// Determinism  a problem's bits do not depend on the others or on the number of places
class DeviceWorkingSetBatch {
 public:
  using Problem = WorkingSetBatch::Problem;

  /// @param fraction  of lambda_max, for problems whose lambda is not known
  /// @param lambda    gives lambda of a problem in the user's units from its index, negative where it is the fraction
  DeviceWorkingSetBatch(const Context& context, const Dictionary& dictionary, const LassoOptions& options,
                        const DeviceWorkingSetPlan& plan, double fraction, std::function<double(std::int64_t)> lambda);

  std::int64_t running() const;
  std::int64_t room() const { return pools_.front()->room(); }
  void admit(MatrixView<const double> X, const std::vector<Problem>& problems);
  /// Rounds until there is room worth filling; where no more problems will come, one round.
  void advance(bool more);
  /// Problems that are done, or stuck, since the last call; their codes, in the user's units, are appended to `codes`.
  const std::vector<Problem>& retire(SparseCodes& codes);

 private:
  /// Problems that wait for a place of a pool.
  struct Queue {
    std::vector<Problem> problems;
    std::vector<double> observations;
  };
  void admit(std::size_t pool, MatrixView<const double> X, const std::vector<Problem>& problems);
  void refill(std::size_t pool);

  const Context& context_;
  const Dictionary& dictionary_;
  const LassoOptions& options_;
  const DeviceWorkingSetPlan plan_;
  const double fraction_;
  const std::function<double(std::int64_t)> lambda_;
  std::vector<std::unique_ptr<DevicePool>> pools_;  // made when they are first needed
  std::vector<Queue> queues_;                       // [pools]; what waits for each
  std::vector<Problem> finished_, retired_;
  SparseCodes codes_;
};

}  // namespace shrinkwarp
