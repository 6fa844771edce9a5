#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/index.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include <shrinkwarp/models/lasso/batch_penalty.hpp>
#include <shrinkwarp/models/lasso/working_set_pool.hpp>

namespace shrinkwarp {

WorkingSetBatch::WorkingSetBatch(const Context& context, const Dictionary& dictionary,
                                 const WorkingSetDictionary& parts, const LassoOptions& options, std::int64_t workers,
                                 std::int64_t places, std::int64_t queue)
    : context_(context),
      dictionary_(dictionary),
      parts_(parts),
      options_(options),
      penalty_(in_batch_units(options.penalty, dictionary)),
      staging_(context, dictionary.rows(), queue),
      waiting_(context, dictionary.rows(), queue),
      queue_(index_of(queue)) {
  const AtomBounds bounds = divided_bounds();
  if (penalty_.grouped()) basis_ = GroupBasis(context, parts.exact_columns, penalty_.group_size);
  pools_.resize(index_of(workers));
  context.parallel_for(workers, [&](std::int64_t t, int) {  // side by side: fresh pages are most of what they cost
    pools_[index_of(t)] = penalty_.grouped()
                              ? make_group_pool(dictionary, parts, basis_, options, penalty_, bounds, places)
                              : make_atom_pool(dictionary, parts, options, penalty_, bounds, places);
  });
}

// The atoms' bounds divided by their weights: those of C and of the errors, each rounded up once more.
AtomBounds WorkingSetBatch::divided_bounds() {
  const AtomBounds whole = parts_.quantized.bounds();
  if (penalty_.weights.empty() || whole.norm.size == 0) return whole;
  const std::int64_t padded = parts_.quantized.padded_atoms();
  divided_ = Tensor<float>::zeros(context_, padded, 3 + parts_.quantized.levels());
  divided_largest_.assign(index_of(parts_.quantized.panels()), 0);
  const MatrixView<float> divided = divided_.matrix();
  for (std::int64_t j = 0; j < dictionary_.atoms(); ++j) {
    const double weight = penalty_.weight_of(parts_.order[index_of(j)]);
    const auto up = [weight](double bound) {
      const double quotient = bound / weight;
      const auto rounded = static_cast<float>(quotient);
      return static_cast<double>(rounded) < quotient ? std::nextafterf(rounded, std::numeric_limits<float>::max())
                                                     : rounded;
    };
    constexpr double kUnit = 6e-8;
    divided(j, 0) = static_cast<float>(static_cast<double>(whole.factor[j]) / weight);
    divided(j, 1) = up(static_cast<double>(whole.rounding[j]) + kUnit * static_cast<double>(whole.norm[j]));
    divided(j, 2) = up(static_cast<double>(whole.norm[j]));
    for (std::int64_t level = 0; level < whole.tail.cols; ++level)
      divided(j, 3 + level) = up(static_cast<double>(whole.tail(j, level)));
    float& largest = divided_largest_[index_of(j / parts_.quantized.panel_atoms())];
    largest = std::max(largest, norm_bound(divided(j, 2), divided(j, 1)));
  }
  return {{divided.column(0), padded, {}},
          {divided.column(1), padded, {}},
          {divided.column(2), padded, {}},
          divided.columns(3, whole.tail.cols),
          {divided_largest_.data(), parts_.quantized.panels(), {}}};
}

std::int64_t WorkingSetBatch::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size,
                                    std::int64_t workers, std::int64_t places, std::int64_t queue) {
  const bool grouped = group_size > 1;
  const std::int64_t set = grouped ? group_set_bytes(rows, atoms, group_size) : active_set_bytes(rows, atoms);
  const std::int64_t scratch = grouped ? group_scratch_bytes(rows, atoms, group_size) : atom_scratch_bytes(rows, atoms);
  const std::int64_t levels = (rows + QuantizedDictionary::kLevelRows - 1) / QuantizedDictionary::kLevelRows;
  const std::int64_t weights = (4 * (3 + levels) + 8) * (atoms + 16) + 4 * (atoms / 12 + 1);
  const std::int64_t basis = grouped ? GroupBasis::bytes(atoms, group_size) : 0;
  return workers * (WorkingSetPool::bytes(rows, atoms, places) + places * set + scratch) + queue * (8 * rows + 128) +
         weights + basis;
}

WorkingSetBatch::~WorkingSetBatch() {
  if (!options_.profile) return;
  for (const auto& pool : pools_)
    for (const PhaseTotals& phase : pool->profile().phases())
      options_.profile->add(phase.name, phase.seconds, phase.flops, phase.bytes);
}

std::int64_t WorkingSetBatch::running() const {
  std::int64_t count = queued_ - std::min(queued_, next_.load());
  for (const auto& pool : pools_) count += pool->running();
  return count;
}

std::int64_t WorkingSetBatch::room() const {
  return static_cast<std::int64_t>(queue_.size()) - (queued_ - std::min(queued_, next_.load()));
}

void WorkingSetBatch::admit(const std::vector<Problem>& problems) {
  const MatrixView<const double> X = staging_.matrix().columns(0, static_cast<std::int64_t>(problems.size()));
  // What still waits moves to the front.
  const std::int64_t first = std::min(queued_, next_.load());
  const std::int64_t kept = queued_ - first;
  const MatrixView<double> waiting = waiting_.matrix();
  for (std::int64_t b = 0; b < kept && first > 0; ++b) {
    queue_[index_of(b)] = queue_[index_of(first + b)];
    std::copy_n(waiting.column(first + b), waiting.rows, waiting.column(b));
  }
  std::copy(problems.begin(), problems.end(), queue_.begin() + kept);
  if (kept == 0)
    std::swap(staging_, waiting_);
  else
    for (std::int64_t b = 0; b < X.cols; ++b) std::copy_n(X.column(b), X.rows, waiting.column(kept + b));
  queued_ = kept + X.cols;
  next_ = 0;
}

// The next problem of the queue into a place of the pool. @return there was one
bool WorkingSetBatch::take(WorkingSetPool& pool) {
  const std::int64_t next = next_.fetch_add(1);
  if (next >= queued_) return false;
  pool.fill(waiting_.matrix().column(next), waiting_.rows(), queue_[index_of(next)]);
  return true;
}

void WorkingSetBatch::work(WorkingSetPool& pool, bool more, FunctionRef<double(std::int64_t, double)> lambda_of) {
  // A round of the stream: long enough to be worth it, short enough to hear of a cancel and to lose little.
  constexpr double kSeconds = 0.2;
  const auto started = std::chrono::steady_clock::now();
  const auto stop = [&] {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    return elapsed.count() > kSeconds || (options_.cancel && options_.cancel->cancelled());
  };
  if (pool.small()) {
    while (!stop()) {
      while (pool.has_room() && take(pool)) {
      }
      if (pool.running() == 0) return;
      pool.solve_small(lambda_of);
    }
    return;
  }
  for (;;) {
    if (pool.pass_is_due()) {
      bool empty = false;
      while (pool.has_room() && !empty) empty = !take(pool);
      if (pool.running() == 0 || (empty && more)) return;
      pool.pass(lambda_of);
    }
    // A hard problem may take seconds, and what is done waits for the stream: those that are left come next time.
    pool.step(stop, lambda_of);
    if (stop()) return;
  }
}

void WorkingSetBatch::advance(bool more, FunctionRef<double(std::int64_t, double)> lambda_of) {
  context_.parallel_for(static_cast<std::int64_t>(pools_.size()),
                        [&](std::int64_t i, int) { work(*pools_[index_of(i)], more, lambda_of); });
}

const std::vector<WorkingSetBatch::Problem>& WorkingSetBatch::retire(SparseCodes& codes) {
  retired_.clear();
  for (const auto& pool : pools_) pool->retire(retired_, codes);
  return retired_;
}

}  // namespace shrinkwarp
