// Shows what is under way on standard error: a line that is written over on a terminal, one now and then elsewhere.
#pragma once

#include <chrono>
#include <string>

#include <shrinkwarp/runtime/function_ref.hpp>

namespace shrinkwarp::cli {

class ProgressLine {
 public:
  explicit ProgressLine(bool quiet);
  /// Wipes the line.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// @param text  is asked only where it is time for a new line
  void update(FunctionRef<std::string()> text);

 private:
  bool quiet_, terminal_, drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace shrinkwarp::cli
