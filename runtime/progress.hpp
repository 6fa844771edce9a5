// How a long call tells its caller where it stands, and how the caller stops it. The library itself never prints.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace shrinkwarp {

/// State of a running solve.
struct Progress {
  std::int64_t done = 0;         ///< problems finished (certified or given up)
  std::int64_t total = 0;        ///< problems in all
  std::int64_t unconverged = 0;  ///< of those finished, how many missed the requested gap
  double worst_gap = 0;          ///< largest relative duality gap among the finished
  std::int64_t iterations = 0;   ///< problem-iterations so far (sum over problems)
};

/// Called from the solving thread between blocks of iterations; must not throw.
using ProgressCallback = std::function<void(const Progress&)>;

enum class LogLevel { info, warning };

/// Told what a running call decides, a line at a time, without a newline. Called from the solving thread; must not throw.
using LogCallback = std::function<void(LogLevel level, const std::string& line)>;

/// Asks a running call to stop at its next check. Setting it is async-signal-safe and thread-safe.
class CancelToken {
 public:
  void cancel() noexcept { flag_.store(true, std::memory_order_relaxed); }
  bool cancelled() const noexcept { return flag_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> flag_{false};
  static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets this flag");
};

}  // namespace shrinkwarp
