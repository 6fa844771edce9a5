// OpenBLAS on one thread, for the time of a call.
#pragma once

#include <mutex>

extern "C" {
void openblas_set_num_threads(int threads);
int openblas_get_num_threads(void);
}

namespace shrinkwarp {

// The thread count of OpenBLAS is one number for the whole process. The first scope to open keeps the host's number and
// sets one, the last to close puts it back, so that contexts in several threads do not undo each other.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (open_++ == 0) {
      found_ = openblas_get_num_threads();
      if (found_ != 1) openblas_set_num_threads(1);
    }
  }
  ~SingleThreadedBlas() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--open_ == 0 && found_ != 1) openblas_set_num_threads(found_);
  }
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

 private:
  static inline std::mutex mutex_;
  static inline int open_ = 0;
  static inline int found_ = 1;
};

}  // namespace shrinkwarp
