// The processors that threads may run on, as taskset, containers and launchers have it.
#pragma once

#include <thread>
#include <vector>

#include <sched.h>

namespace shrinkwarp {

/// How many the calling thread may run on; at least 1.
int usable_processors();

/// Keeps the workers of a pool off the processor of the thread that hands out their loops. In virtual machines Linux may
/// take a processor that sleeps for a busy one, and leave a thread that is woken for milliseconds behind the one that has
/// woken it; most loops are shorter than that.
class Placement {
 public:
  /// Of workers that the calling thread makes.
  Placement();
  /// The calling thread is about to hand out a loop. Calls the system where it has moved since the last one. Does nothing
  /// where there are more threads than processors, for then some have to share.
  void keep_clear(std::vector<std::thread>& workers);

 private:
  cpu_set_t usable_;
  int count_ = 0;     // of them; 0 where the system does not say
  int avoided_ = -1;  // by the workers
};

}  // namespace shrinkwarp
