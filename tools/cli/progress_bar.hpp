// Shows a running solve on standard error: a bar on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>

#include <shrinkwarp/runtime/progress.hpp>

namespace shrinkwarp::cli {

class ProgressBar {
 public:
  explicit ProgressBar(bool quiet);
  /// Wipes the bar.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Draws at most ten times a second on a terminal, every ten seconds elsewhere.
  void update(const Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point started_;
  Clock::time_point last_;
};

}  // namespace shrinkwarp::cli
