#include <shrinkwarp/runtime/thread_pool.hpp>

#include <system_error>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

// Loops of a solve follow each other within microseconds, or within what one thread does between them; waiting so many polls
// before sleeping keeps the workers hot without holding a processor for longer than some tens of microseconds, or where each
// thread has one of its own and they are few, for some hundreds.
constexpr int kPolls = 2000, kPatientPolls = 8000;

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // takes about as long
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  const auto workers = static_cast<std::size_t>(threads - 1);
  polls_ = placement_.applies(workers) ? kPatientPolls : kPolls;
  workers_.reserve(workers);
  try {
    for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {  // those that there are must end, or their std::thread ends the process
    const std::size_t made = workers_.size() + 1;
    end_workers();
    SHRINKWARP_THROW(Error, "ThreadPool: found room for ", made, " of ", threads, " threads: ", error.code().message());
  }
}

ThreadPool::~ThreadPool() {
  end_workers();
}

void ThreadPool::end_workers() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take_iterations(int worker) {
  try {
    for (;;) {
      const std::int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      (*body_)(i, worker);
    }
  } catch (...) {
    next_.store(count_, std::memory_order_relaxed);
    std::lock_guard<std::mutex> lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::work(int worker) {
  std::uint64_t seen = 0;
  for (;;) {
    for (int poll = 0; poll < polls_ && generation_.load(std::memory_order_acquire) == seen; ++poll) pause_briefly();
    {
      std::unique_lock<std::mutex> lock(mutex_);
      start_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
      seen = generation_.load(std::memory_order_relaxed);
      if (stop_) return;
      if (!open_) continue;
      busy_.fetch_add(1, std::memory_order_relaxed);
    }
    take_iterations(worker);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::lock_guard<std::mutex> lock(mutex_);
      finished_.notify_one();
    }
  }
}

void ThreadPool::run(std::int64_t count, FunctionRef<void(std::int64_t, int)> body) {
  if (count <= 0) return;
  if (workers_.empty() || count == 1) {
    for (std::int64_t i = 0; i < count; ++i) body(i, 0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    body_ = &body;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    error_ = nullptr;
    open_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  placement_.keep_clear(workers_);
  start_.notify_all();
  take_iterations(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
  }
  for (int poll = 0; poll < polls_ && busy_.load(std::memory_order_acquire) != 0; ++poll) pause_briefly();
  std::unique_lock<std::mutex> lock(mutex_);
  finished_.wait(lock, [&] { return busy_.load(std::memory_order_acquire) == 0; });
  body_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace shrinkwarp
