// Shows a running training on standard error: a line that is written over on a terminal, one now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>

#include <shrinkwarp/models/lista/training.hpp>

namespace shrinkwarp::cli {

class TrainingLine {
 public:
  /// @param unit  of costs in the user's units
  TrainingLine(bool quiet, std::int64_t layers, double unit);
  /// Wipes the line.
  ~TrainingLine();
  TrainingLine(const TrainingLine&) = delete;
  TrainingLine& operator=(const TrainingLine&) = delete;

  void update(const TrainingEvent& event);

 private:
  bool quiet_, terminal_, drawn_ = false;
  std::int64_t layers_;
  double unit_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace shrinkwarp::cli
