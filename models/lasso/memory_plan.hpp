// How many problems run side by side, and what that takes.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

/// What solving with unpenalised atoms takes beside the solve: another dictionary, D once more in float64, and what the
/// atoms are decomposed with. 0 where there are none.
std::int64_t unpenalised_bytes(std::int64_t rows, std::int64_t atoms, const Penalty& penalty);

struct MemoryPlan {
  std::int64_t places = 1;         ///< of the float batch
  std::int64_t double_places = 1;  ///< of the double batch, which starts when as many problems wait for it
  std::int64_t in_flight = 2;      ///< most problems in both batches and waiting
};

/// Elements of scratch that a thread of the CPU takes for its largest task of a product, once in float and once in
/// double: packed columns in chunks of 256 + 16 rows, 128 columns at most.
std::int64_t product_scratch(std::int64_t rows, std::int64_t places);

/// The largest batches that are of use, no more than there are problems, and within the limit.
/// @throws ValueError (the limit is under least_memory())
MemoryPlan plan_memory(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                       std::int64_t memory_limit, std::int64_t group_size);

struct WorkingSetPlan {
  std::int64_t workers = 1;        ///< threads, each with a pool
  std::int64_t places = 1;         ///< of a pool
  std::int64_t queue = 1;          ///< problems that wait
  std::int64_t double_places = 1;  ///< of the batch for those that the method gives up
};

/// The same for the working-set solver: no more than 1000 problems in its pools, its queue and its batch in double.
/// Working sets of groups are counted at their largest, which leaves room for fewer of them.
WorkingSetPlan plan_working_set(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                                std::int64_t memory_limit, const Penalty& penalty = {});

struct PathPlan {
  std::int64_t workers = 1;  ///< threads
  std::int64_t chunk = 1;    ///< problems that are solved before any of them leaves
};

/// The same for problems that are solved along their paths.
PathPlan plan_path(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                   std::int64_t memory_limit);

struct DeviceWorkingSetPlan {
  struct Pool {
    std::int64_t capacity = 1;  ///< atoms of a working set
    std::int64_t places = 1;
  };
  std::vector<Pool> pools;  ///< capacities ascending
  std::int64_t double_places = 1;
};

/// The same for the working-set solver on CUDA.
DeviceWorkingSetPlan plan_device_working_set(const Context& context, const Dictionary& dictionary,
                                             std::int64_t problems, std::int64_t memory_limit,
                                             const Penalty& penalty = {});

}  // namespace shrinkwarp
