#include <shrinkwarp/runtime/processors.hpp>

#include <algorithm>

#include <pthread.h>

namespace shrinkwarp {

int usable_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Placement::Placement() {
  if (sched_getaffinity(0, sizeof(usable_), &usable_) == 0) count_ = CPU_COUNT(&usable_);
}

void Placement::keep_clear(std::vector<std::thread>& workers) {
  if (static_cast<int>(workers.size()) >= count_) return;
  const int here = sched_getcpu();
  if (here < 0 || here == avoided_) return;
  avoided_ = here;
  cpu_set_t others = usable_;
  CPU_CLR(here, &others);
  for (std::thread& worker : workers) pthread_setaffinity_np(worker.native_handle(), sizeof(others), &others);
}

}  // namespace shrinkwarp
