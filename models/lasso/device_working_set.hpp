// The batch behind the working-set solver on CUDA: pools of places for small, large and the largest working sets. A problem
// starts in the smallest; one that outgrows its place starts once more in the next larger, and comes to the same bits there.
//
// A problem keeps a working set W of atoms and is solved exactly on them (kernels/active_set/active_sets.hpp). A pass over all
// atoms on tensor cores (kernels/panel_bounds) bounds the correlations of its residual, and what it leaves open float64
// decides (kernels/working_set): the atoms to be added to W, or the certificate. A problem with an initial code starts with its
// atoms as W, and at the code where that is better than 0. Under a penalty in groups all this is said of groups
// (kernels/group_set/group_sets.hpp); where the largest places have no room for those of a problem, it is given up.
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
  /// Of the pool whose turn it is to be filled.
  std::int64_t room() const { return front().room(); }
  /// Where observations are put that admit() takes.
  MatrixView<double> staging() { return front().staging(); }
  /// Takes in the first columns of staging(). @param problems [count <= room()]
  void admit(const std::vector<Problem>& problems);
  /// Queues a round of the pool that was filled and waits for that of the other one, whose turn comes then: what the host
  /// does with its results, and until it is filled, goes on beside the device's work.
  void advance();
  /// Problems that are done, or stuck, since the last call; their codes, in the user's units, are appended to `codes`.
  const std::vector<Problem>& retire(SparseCodes& codes);

 private:
  /// Problems that wait for a place of a pool.
  struct Queue {
    std::vector<Problem> problems;
    std::vector<double> observations;
  };
  /// Places of one size, and a stream for them.
  struct Pool {
    std::unique_ptr<Context> context;
    std::unique_ptr<DevicePool> places;
  };
  DevicePool& front() const { return *fronts_[turn_].places; }
  Pool make_pool(std::int64_t capacity, std::int64_t places) const;
  std::vector<double> lambda_of(const std::vector<Problem>& problems) const;
  void finish(DevicePool& pool, std::size_t size);
  void refill(std::size_t size);

  const Context& context_;
  const Dictionary& dictionary_;
  const LassoOptions& options_;
  const DevicePenalty penalty_;
  const DeviceWorkingSetPlan plan_;
  const double fraction_;
  const std::function<double(std::int64_t)> lambda_;
  std::vector<Pool> fronts_;   // of the smallest size, two where there are places for two
  std::size_t turn_ = 0;       // of them
  std::vector<Pool> larger_;   // [sizes], by size, the smallest left out; made when they are first needed
  std::vector<Queue> queues_;  // [sizes] what waits for a place
  std::vector<Problem> finished_, retired_;
  SparseCodes codes_;
};

}  // namespace shrinkwarp
