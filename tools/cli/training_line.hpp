// Shows a running training on standard error: a line that is written over on a terminal, one now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>

#include <shrinkwarp/models/lista/training.hpp>

namespace shrinkwarp::cli {

class TrainingLine {
 public:
  TrainingLine(bool quiet, std::int64_t layers);
  /// Wipes the line.
  ~TrainingLine();
  TrainingLine(const TrainingLine&) = delete;
  TrainingLine& operator=(const TrainingLine&) = delete;

  /// @param event  in the user's units
  void update(const TrainingEvent& event);

 private:
  bool quiet_, terminal_, drawn_ = false;
  std::int64_t layers_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace shrinkwarp::cli
