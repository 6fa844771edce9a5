// Everything is counted at its largest: codes as if no entry were zero, both batches as if both ran, scratch as if every
// thread had the largest task. A limit that is not tight costs nothing by that.
#include <shrinkwarp/models/lasso/memory_plan.hpp>

#include <algorithm>

#include <shrinkwarp/kernels/singular_values/singular_values.hpp>
#include <shrinkwarp/models/lasso/device_pool.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/pace.hpp>
#include <shrinkwarp/models/lasso/path_batch.hpp>
#include <shrinkwarp/models/lasso/proximal_gradient.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

// How many problems iterate together. On the CPU their codes and differences should stay in the last-level cache beside
// the packed dictionary (96 problems of a 302 x 6138 one; 64 to 128 measured best on a Zen 4 core with 32 MiB); a small
// dictionary needs many, or its products are too small to be shared out to threads. On CUDA they
// should fill the device: an iteration of 1024 problems of the dictionary above takes .41 us a problem on an H100, of
// 4096 .31, of 16384 .29 (measured). How many of these places are in use is Pace's business.
struct BatchSize {
  std::int64_t bytes, min_places, max_places;
};
constexpr BatchSize kCpuBatch{std::int64_t{8} << 20, 64, 4096};
constexpr BatchSize kCudaBatch{std::int64_t{320} << 20, 256, 16384};

constexpr std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// While a dictionary is made: D in float64 twice and in float once, its certificate's form twice, its packed float form
// twice; 44 bytes an entry. Afterwards 40: the certificate's form, packed float and, once needed, packed double. Packed
// forms are padded to whole vectors.
std::int64_t dictionary_bytes(std::int64_t n, std::int64_t m) {
  constexpr std::int64_t kLanes = 16;
  return 44 * round_up(n, kLanes) * round_up(m, kLanes);
}

// Beside the dictionary: it in 16-bit integers, its columns in float and double, the Gram matrix of a small one, the basis
// twice while it is made.
std::int64_t working_set_parts(std::int64_t n, std::int64_t m) {
  const bool small = WorkingSetDictionary::is_small(n, m);
  return QuantizedDictionary::most_bytes(n, m) + 8 * m + 12 * round_up(n, 16) * m +
         (m <= WorkingSetDictionary::kGramAtoms ? 4 * m * m : 0) + (small ? 8 * round_up(m, 16) * m : 0) +
         std::min<std::int64_t>(8 * n * round_up(m, 16), std::int64_t{1} << 20) + (n <= 2048 ? 40 * n * n : 0);
}

// Beside the dictionary on CUDA: it in half precision, a penalty, and the Gram matrix of one that is not too large.
std::int64_t device_working_set_parts(std::int64_t n, std::int64_t m, std::int64_t group_size) {
  return HalfColumns::bytes(n, m) + DevicePenalty::bytes(n, m, group_size) +
         (m <= DeviceWorkingSetDictionary::kMostGramAtoms ? 8 * m * m : 0);
}

// Sizes of places on CUDA. Most problems stay within the first one: 158 atoms is the most seen at a tenth of lambda_max on a
// lead field of 302 x 6138. The largest is what the vectors of a block have room for in shared memory, and more atoms, or groups,
// than there are rows are never in use at once.
std::vector<std::int64_t> device_capacities(std::int64_t n, std::int64_t m, std::int64_t group_size) {
  const std::int64_t largest = std::min({std::int64_t{1024}, m, group_size * (4 * n + 64)});
  std::vector<std::int64_t> capacities;
  // A group is so many atoms, and sixteen of them are two rounds.
  for (const std::int64_t capacity : {192, 512})
    if (capacity < largest && (group_size == 1 || capacity >= 16 * group_size)) capacities.push_back(capacity);
  capacities.push_back(largest);
  return capacities;
}

// Of places for what outgrows the smallest. In groups a tenth of lambda_max takes 350 atoms on that lead field: most problems do.
std::int64_t most_places(std::int64_t capacity, std::int64_t group_size) {
  if (capacity > 512) return 64;
  return group_size > 1 ? 4096 : 512;
}

// A code out of a batch that has no zero.
constexpr std::int64_t code_bytes(std::int64_t m) {
  return 12 * m + 128;
}

std::int64_t thread_bytes(const Context& context, std::int64_t n, std::int64_t places) {
  if (context.is_cuda()) return 0;
  return context.threads() * (12 * product_scratch(n, places) + (std::int64_t{64} << 10));
}

MemoryPlan with_places(std::int64_t places) {
  const std::int64_t double_places = std::min(places, Pace::kSure);
  return {places, double_places, places + double_places};
}

// Beside the batches themselves.
std::int64_t held_bytes(const Context& context, std::int64_t n, std::int64_t m, const MemoryPlan& plan) {
  const std::int64_t staging = 8 * n * plan.places;
  const std::int64_t leaving = 2 * code_bytes(m) * plan.places;  // from the batch, and in order for the sink
  const std::int64_t waiting = code_bytes(m) * plan.in_flight;   // for the double batch
  return staging + leaving + waiting + thread_bytes(context, n, plan.places);
}

// One problem in float and one in double, 16 (n + m) elements and some scalars each at the very most; on CUDA pieces of
// the residual as well.
std::int64_t smallest_batches(const Context& context, std::int64_t n, std::int64_t m) {
  const std::int64_t pieces = context.is_cuda() ? 12 * n * (m / 512 + 1) : 0;
  return 208 * (n + m) + pieces + (std::int64_t{64} << 10);
}

}  // namespace

std::int64_t product_scratch(std::int64_t rows, std::int64_t places) {
  const std::int64_t columns = std::min<std::int64_t>(128, round_up(places, 8));
  return columns * (272 * ((rows + 255) / 256) + 64);
}

std::int64_t unpenalised_bytes(std::int64_t rows, std::int64_t atoms, const Penalty& penalty) {
  const std::int64_t count = penalty.group_size * std::count(penalty.weights.begin(), penalty.weights.end(), 0.0);
  if (count == 0) return 0;
  return dictionary_bytes(rows, atoms) + 8 * rows * (atoms + count) + SingularValues::most_bytes(rows, count);
}

std::int64_t least_memory(const Context& context, std::int64_t rows, std::int64_t atoms, Solver solver,
                          const Penalty& penalty) {
  const std::int64_t least = dictionary_bytes(rows, atoms) + smallest_batches(context, rows, atoms) +
                             held_bytes(context, rows, atoms, with_places(1)) + unpenalised_bytes(rows, atoms, penalty);
  if (!has_working_sets(solver)) return least;
  if (context.is_cuda()) {
    std::int64_t pools = device_working_set_parts(rows, atoms, penalty.group_size);
    for (const std::int64_t capacity : device_capacities(rows, atoms, penalty.group_size))
      pools += DevicePool::bytes(rows, atoms, capacity, 1, penalty.group_size);
    return least + pools;
  }
  return least + working_set_parts(rows, atoms) + WorkingSetBatch::bytes(rows, atoms, penalty.group_size, 1, 1, 1);
}

MemoryPlan plan_memory(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                       std::int64_t memory_limit, std::int64_t group_size) {
  const std::int64_t n = dictionary.rows();
  const std::int64_t m = dictionary.atoms();
  const std::int64_t least = least_memory(context, n, m, Solver::fista);
  SHRINKWARP_REQUIRE(memory_limit >= least, ValueError, "lasso: memory_limit is ", memory_limit,
                     " bytes, wanted at least ", least, " for a dictionary of ", n, " x ", m);
  const auto needed = [&](const MemoryPlan& plan) {
    // The double batch has twice the bytes a place; it is laid out only when a problem needs it, but planned for here.
    const auto batch = [&](std::int64_t places) {
      return ProximalGradientBatch<float>::workspace(context, dictionary, places, group_size);
    };
    return dictionary_bytes(n, m) + batch(plan.places) + 2 * batch(plan.double_places) +
           held_bytes(context, n, m, plan);
  };
  const BatchSize& size = context.is_cuda() ? kCudaBatch : kCpuBatch;
  const std::int64_t codes = group_size > 1 ? 4 : 3;
  const std::int64_t state = codes * m * static_cast<std::int64_t>(sizeof(float)) + n * 24;
  std::int64_t places = std::clamp<std::int64_t>(size.bytes / state / 32 * 32, size.min_places, size.max_places);
  places = std::max<std::int64_t>(1, std::min(places, problems));
  while (places > 1 && needed(with_places(places)) > memory_limit) places /= 2;
  return with_places(places);
}

WorkingSetPlan plan_working_set(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                                std::int64_t memory_limit, const Penalty& penalty) {
  // In all no more than 1000 problems are under way, as Pace has it: in the pools' places, in the queue, which keeps a
  // quarter so that no pool waits for the next round, and on their way through double.
  constexpr std::int64_t kDoublePlaces = 64;
  constexpr std::int64_t kInFlight = 1000 - kDoublePlaces;
  constexpr std::int64_t kRunning = kInFlight / 4 * 3;
  const std::int64_t n = dictionary.rows();
  const std::int64_t m = dictionary.atoms();
  const std::int64_t least = least_memory(context, n, m, Solver::working_set, penalty);
  SHRINKWARP_REQUIRE(memory_limit >= least, ValueError, "lasso: memory_limit is ", memory_limit,
                     " bytes, wanted at least ", least, " for a dictionary of ", n, " x ", m);
  WorkingSetPlan plan;
  plan.workers = std::min({static_cast<std::int64_t>(context.threads()), problems, kRunning});
  plan.places =
      std::min({WorkingSetBatch::kPlaces, (problems + plan.workers - 1) / plan.workers, kRunning / plan.workers});
  const auto needed = [&] {
    plan.queue = std::clamp<std::int64_t>(kInFlight - plan.workers * plan.places, 1, problems);
    plan.double_places = std::min(kDoublePlaces, plan.queue);
    const std::int64_t in_flight = plan.queue + plan.workers * plan.places + plan.double_places;
    return dictionary_bytes(n, m) + working_set_parts(n, m) +
           WorkingSetBatch::bytes(n, m, penalty.group_size, plan.workers, plan.places, plan.queue) +
           2 * ProximalGradientBatch<float>::workspace(context, dictionary, plan.double_places, penalty.group_size) +
           held_bytes(context, n, m, {plan.queue, plan.double_places, in_flight});
  };
  while (needed() > memory_limit && plan.places > 1) plan.places /= 2;
  while (needed() > memory_limit && plan.workers > 1) plan.workers /= 2;
  if (needed() > memory_limit) plan.queue = plan.double_places = 1;
  return plan;
}

PathPlan plan_path(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                   std::int64_t memory_limit) {
  constexpr std::int64_t kGroupsAThread = 4;
  constexpr std::int64_t kMostChunk = 1000 / PathBatch::kGroup * PathBatch::kGroup;  // what a killed process loses
  const std::int64_t n = dictionary.rows();
  const std::int64_t m = dictionary.atoms();
  PathPlan plan;
  const std::int64_t groups = (problems + PathBatch::kGroup - 1) / PathBatch::kGroup;
  plan.workers = std::min(static_cast<std::int64_t>(context.threads()), groups);
  const auto needed = [&] {
    plan.chunk = std::min({problems, kMostChunk, kGroupsAThread * plan.workers * PathBatch::kGroup});
    return dictionary_bytes(n, m) + working_set_parts(n, m) + PathBatch::bytes(n, m, plan.workers) +
           plan.chunk * (8 * n + 3 * code_bytes(std::min(n + 1, m)));
  };
  while (needed() > memory_limit && plan.workers > 1) plan.workers /= 2;
  SHRINKWARP_REQUIRE(needed() <= memory_limit, ValueError, "lasso: memory_limit is ", memory_limit,
                     " bytes, wanted at least ", needed(), " for paths on a dictionary of ", n, " x ", m);
  return plan;
}

DeviceWorkingSetPlan plan_device_working_set(const Context& context, const Dictionary& dictionary,
                                             std::int64_t problems, std::int64_t memory_limit, const Penalty& penalty) {
  constexpr std::int64_t kMostPlaces = 8192, kDoublePlaces = 64;
  const std::int64_t n = dictionary.rows();
  const std::int64_t m = dictionary.atoms();
  const std::int64_t s = penalty.group_size;
  const std::int64_t least = least_memory(context, n, m, Solver::working_set, penalty);
  SHRINKWARP_REQUIRE(memory_limit >= least, ValueError, "lasso: memory_limit is ", memory_limit,
                     " bytes, wanted at least ", least, " for a dictionary of ", n, " x ", m);
  DeviceWorkingSetPlan plan;
  for (const std::int64_t capacity : device_capacities(n, m, s))
    plan.pools.push_back({capacity, std::min(problems, most_places(capacity, s))});
  plan.pools.front().places = std::min(problems, kMostPlaces);
  plan.double_places = std::min(kDoublePlaces, problems);
  const auto needed = [&] {
    std::int64_t bytes = dictionary_bytes(n, m) + device_working_set_parts(n, m, s) +
                         2 * ProximalGradientBatch<float>::workspace(context, dictionary, plan.double_places, s) +
                         held_bytes(context, n, m, with_places(plan.double_places));
    for (const auto& pool : plan.pools) bytes += DevicePool::bytes(n, m, pool.capacity, pool.places, s);
    return bytes;
  };
  // The largest pool gives way first: the first one is to hold most of the memory.
  const auto largest = [&] {
    return std::max_element(plan.pools.begin(), plan.pools.end(), [&](const auto& a, const auto& b) {
      const std::int64_t first = plan.pools.front().capacity;
      const auto weight = [&](const auto& pool) {
        if (pool.places == 1) return std::int64_t{0};  // it has nothing to give
        return DevicePool::bytes(n, m, pool.capacity, pool.places, s) * (pool.capacity > first ? 4 : 1);
      };
      return weight(a) < weight(b);
    });
  };
  while (needed() > memory_limit) {
    auto& pool = *largest();
    if (pool.places > 1)
      pool.places -= (pool.places + 7) / 8;
    else if (plan.double_places > 1)
      plan.double_places /= 2;
    else
      break;
  }
  return plan;
}

}  // namespace shrinkwarp
