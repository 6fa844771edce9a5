// A fixed set of threads that share the iterations of one loop at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/processors.hpp>

namespace shrinkwarp {

/// Runs loops on `threads` threads, the calling one among them. One loop at a time, from one thread. A thread that the
/// system wakes when all iterations have been taken has no part in the loop, and nobody waits for it.
class ThreadPool {
 public:
  /// @throws Error (the system gives no more threads)
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }
  /// body(i, worker) for every i in [0, count); returns when all have run. See Context::parallel_for.
  void run(std::int64_t count, FunctionRef<void(std::int64_t, int)> body);

 private:
  void end_workers();
  void work(int worker);
  void take_iterations(int worker);

  Placement placement_;
  int polls_ = 0;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable finished_;
  std::atomic<std::uint64_t> generation_{0};  // number of the loop that workers may join; changed under mutex_
  std::atomic<int> busy_{0};                  // workers in the current loop; they join under mutex_
  bool open_ = false;                         // whether they may; under mutex_
  bool stop_ = false;

  const FunctionRef<void(std::int64_t, int)>* body_ = nullptr;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::exception_ptr error_;  // first one thrown by a body; under mutex_
};

}  // namespace shrinkwarp
