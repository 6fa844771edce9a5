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
  CPU_ZERO(&usable_);
  if (sched_getaffinity(0, sizeof(usable_), &usable_) == 0) count_ = CPU_COUNT(&usable_);
  given_ = usable_;
}

void Placement::keep_clear(std::vector<std::thread>& workers) {
  if (!applies(workers.size())) return;
  const int here = sched_getcpu();
  if (here < 0 || here == avoided_) return;
  avoided_ = here;
  cpu_set_t others = usable_;
  CPU_CLR(here, &others);
  for (std::thread& worker : workers) {
    cpu_set_t found;
    if (pthread_getaffinity_np(worker.native_handle(), sizeof(found), &found) == 0 && CPU_EQUAL(&found, &given_))
      pthread_setaffinity_np(worker.native_handle(), sizeof(others), &others);
  }
  given_ = others;
}

}  // namespace shrinkwarp
