#include <shrinkwarp/models/lasso/device_working_set.hpp>

#include <algorithm>
#include <utility>

namespace shrinkwarp {

DeviceWorkingSetBatch::DeviceWorkingSetBatch(const Context& context, const Dictionary& dictionary,
                                             const LassoOptions& options, const DeviceWorkingSetPlan& plan,
                                             double fraction, std::function<double(std::int64_t)> lambda)
    : context_(context),
      dictionary_(dictionary),
      options_(options),
      plan_(plan),
      fraction_(fraction),
      lambda_(std::move(lambda)),
      pools_(plan.pools.size()),
      queues_(plan.pools.size()) {
  pools_.front() = std::make_unique<DevicePool>(context, dictionary, options, fraction, plan.pools.front().capacity,
                                                plan.pools.front().places);
}

std::int64_t DeviceWorkingSetBatch::running() const {
  std::int64_t count = 0;
  for (const auto& pool : pools_) count += pool ? pool->running() : 0;
  for (const Queue& queue : queues_) count += static_cast<std::int64_t>(queue.problems.size());
  return count;
}

void DeviceWorkingSetBatch::admit(MatrixView<const double> X, const std::vector<Problem>& problems) {
  admit(0, X, problems);
}

void DeviceWorkingSetBatch::admit(std::size_t pool, MatrixView<const double> X, const std::vector<Problem>& problems) {
  std::vector<double> lambda;
  for (const Problem& problem : problems) lambda.push_back(lambda_(problem.index));
  pools_[pool]->admit(X, problems, lambda);
}

// What waits for a pool goes in as far as there is room.
void DeviceWorkingSetBatch::refill(std::size_t pool) {
  Queue& queue = queues_[pool];
  if (queue.problems.empty()) return;
  if (!pools_[pool])
    pools_[pool] = std::make_unique<DevicePool>(context_, dictionary_, options_, fraction_, plan_.pools[pool].capacity,
                                                plan_.pools[pool].places);
  const std::int64_t rows = dictionary_.rows();
  const std::int64_t count = std::min(pools_[pool]->room(), static_cast<std::int64_t>(queue.problems.size()));
  const std::vector<Problem> first(queue.problems.begin(), queue.problems.begin() + count);
  admit(pool, {queue.observations.data(), rows, count, rows, {}}, first);
  queue.problems.erase(queue.problems.begin(), queue.problems.begin() + count);
  queue.observations.erase(queue.observations.begin(), queue.observations.begin() + rows * count);
}

void DeviceWorkingSetBatch::advance(bool more) {
  // So many free places are worth the host's attention.
  const std::int64_t enough = std::max<std::int64_t>(1, plan_.pools.front().places / 8);
  do {
    for (std::size_t i = 0; i < pools_.size(); ++i) {
      refill(i);
      if (!pools_[i]) continue;
      const bool largest = i + 1 == pools_.size();
      Queue none;
      Queue& next = largest ? none : queues_[i + 1];
      pools_[i]->round(finished_, codes_, next.problems, next.observations);
      for (Problem problem : none.problems) {  // no place is larger: proximal gradients start it at 0
        problem.stuck = true;
        finished_.push_back(problem);
        codes_.offsets.push_back(codes_.offsets.back());
      }
    }
  } while (more && room() < enough);
}

const std::vector<DeviceWorkingSetBatch::Problem>& DeviceWorkingSetBatch::retire(SparseCodes& codes) {
  retired_ = std::exchange(finished_, {});
  const std::int64_t start = codes.offsets.back();
  for (std::size_t i = 1; i < codes_.offsets.size(); ++i) codes.offsets.push_back(start + codes_.offsets[i]);
  codes.indices.insert(codes.indices.end(), codes_.indices.begin(), codes_.indices.end());
  codes.values.insert(codes.values.end(), codes_.values.begin(), codes_.values.end());
  codes_ = {};
  return retired_;
}

}  // namespace shrinkwarp
