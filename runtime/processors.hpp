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
  /// Whether anything is done for a pool of so many workers: not where there are more threads than processors, for then some
  /// have to share, nor for many workers, of whom one that is late is missed little.
  bool applies(std::size_t workers) const { return workers <= kMostWorkers && static_cast<int>(workers) < count_; }
  /// The calling thread is about to hand out a loop. Calls the system where it has moved since the last one. Workers whose
  /// processors somebody else has changed keep those.
  void keep_clear(std::vector<std::thread>& workers);

 private:
  static constexpr std::size_t kMostWorkers = 8;
  cpu_set_t usable_;
  cpu_set_t given_;   // to the workers
  int count_ = 0;     // of those that are usable; 0 where the system does not say
  int avoided_ = -1;  // by the workers
};

}  // namespace shrinkwarp
