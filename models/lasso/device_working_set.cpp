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
      penalty_(context, dictionary, options.penalty),
      plan_(plan),
      fraction_(fraction),
      lambda_(std::move(lambda)),
      larger_(plan.pools.size()),
      queues_(plan.pools.size()) {
  const DeviceWorkingSetPlan::Pool& smallest = plan.pools.front();
  const std::int64_t half = smallest.places / 2;
  fronts_.push_back(make_pool(smallest.capacity, smallest.places - half));
  if (half > 0) fronts_.push_back(make_pool(smallest.capacity, half));
}

DeviceWorkingSetBatch::Pool DeviceWorkingSetBatch::make_pool(std::int64_t capacity, std::int64_t places) const {
  Pool pool;
  pool.context = std::make_unique<Context>(Context::cuda(context_.device().index));
  pool.places = std::make_unique<DevicePool>(*pool.context, dictionary_, options_, penalty_, fraction_, capacity,
                                             places, plan_.pools.back().capacity);
  return pool;
}

std::int64_t DeviceWorkingSetBatch::running() const {
  std::int64_t count = 0;
  for (const auto* pools : {&fronts_, &larger_})
    for (const Pool& pool : *pools) count += pool.places ? pool.places->running() : 0;
  for (const Queue& queue : queues_) count += static_cast<std::int64_t>(queue.problems.size());
  return count;
}

std::vector<double> DeviceWorkingSetBatch::lambda_of(const std::vector<Problem>& problems) const {
  std::vector<double> lambda;
  lambda.reserve(problems.size());
  for (const Problem& problem : problems) lambda.push_back(lambda_(problem.index));
  return lambda;
}

void DeviceWorkingSetBatch::admit(const std::vector<Problem>& problems) {
  front().admit(problems, lambda_of(problems));
}

// Results of a round; what has outgrown its place waits for one of the next size.
void DeviceWorkingSetBatch::finish(DevicePool& pool, std::size_t size) {
  Queue none;
  const bool largest = size + 1 == queues_.size();
  Queue& next = largest ? none : queues_[size + 1];
  pool.finish_round(finished_, codes_, next.problems, next.observations);
  for (Problem problem : none.problems) {  // no place is larger: proximal gradients start it at 0
    problem.stuck = true;
    finished_.push_back(problem);
    codes_.offsets.push_back(codes_.offsets.back());
  }
}

// What waits for a size goes in as far as there is room: the last first, for their order means nothing.
void DeviceWorkingSetBatch::refill(std::size_t size) {
  Queue& queue = queues_[size];
  if (queue.problems.empty()) return;
  Pool& pool = larger_[size];
  if (!pool.places) pool = make_pool(plan_.pools[size].capacity, plan_.pools[size].places);
  const std::int64_t rows = dictionary_.rows();
  const std::int64_t count = std::min(pool.places->room(), static_cast<std::int64_t>(queue.problems.size()));
  const std::vector<Problem> last(queue.problems.end() - count, queue.problems.end());
  std::copy_n(queue.observations.end() - rows * count, rows * count, pool.places->staging().data);
  pool.places->admit(last, lambda_of(last));
  queue.problems.resize(queue.problems.size() - last.size());
  queue.observations.resize(queue.problems.size() * static_cast<std::size_t>(rows));
}

void DeviceWorkingSetBatch::advance() {
  front().begin_round();
  for (std::size_t size = 1; size < larger_.size(); ++size) {  // they have had the time of the front's last round
    if (larger_[size].places) finish(*larger_[size].places, size);
    refill(size);
    if (larger_[size].places) larger_[size].places->begin_round();
  }
  turn_ = (turn_ + 1) % fronts_.size();
  finish(front(), 0);
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
