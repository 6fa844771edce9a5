// What a long call asks Python for while it runs without the interpreter's lock: progress, Ctrl-C, log lines.
#pragma once

#include <chrono>

#include <nanobind/nanobind.h>

#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/progress.hpp>

namespace shrinkwarp::python {

/// progress() and poll() ask at most ten times a second, on the thread that runs the call. An exception of Python's, KeyboardInterrupt among them, cancels
/// the call and is kept.
class Listener {
 public:
  Listener() : Listener(nanobind::none(), nanobind::none()) {}
  /// @param progress  None, or called with (done, total)  @param log  None, or called with (is_warning, line)
  Listener(nanobind::object progress, nanobind::object log) : progress_(std::move(progress)), log_(std::move(log)) {}

  ProgressCallback progress();
  /// Whether anybody listens is asked before.
  LogCallback log();
  const CancelToken* token() const { return &token_; }
  /// Looks whether there was a Ctrl-C, where a call has nothing to tell.
  void poll();
  /// Calls `body` with the interpreter's lock, unless the call has been cancelled; what Python raises cancels it.
  void in_python(FunctionRef<void()> body);
  /// What Python raised, or None.
  nanobind::object raised() const { return raised_; }

 private:
  bool is_time();

  nanobind::object progress_, log_, raised_ = nanobind::none();
  CancelToken token_;
  std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

}  // namespace shrinkwarp::python
