// Shows a running solve on standard error: a bar on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>

#include <shrinkwarp/runtime/progress.hpp>

namespace shrinkwarp::cli {

class ProgressBar {
 public:
  /// @param before  problems that were solved earlier and count as done
  explicit ProgressBar(bool quiet, std::int64_t before = 0);
  /// Wipes the bar.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Draws at most ten times a second on a terminal, every ten seconds elsewhere.
  void update(const Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;
  bool quiet_;
  std::int64_t before_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point started_;
  Clock::time_point last_;
};

}  // namespace shrinkwarp::cli
