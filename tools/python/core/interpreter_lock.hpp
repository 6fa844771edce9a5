// The interpreter's lock, for calls that outlive the interpreter.
#pragma once

#include <cxxabi.h>

#include <nanobind/nanobind.h>

namespace shrinkwarp::python {

/// Never returns.
[[noreturn]] void stop_for_good();

/// Runs what may ask for the interpreter's lock. While the interpreter exits, CPython before 3.14 ends a thread that asks for it, by
/// unwinding its stack: that of a daemon thread in a solve, whose destructors may not be unwound through and need the lock themselves.
/// Such a thread stops here, as CPython 3.14 has it, and goes with the process.
template <class Body>
decltype(auto) unless_exiting(Body&& body) {
  try {
    return body();
  } catch (abi::__forced_unwind&) {
    stop_for_good();
  }
}

/// Without the lock while it lives.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
  ~Unlocked() {
    unless_exiting([this] { PyEval_RestoreThread(state_); });
  }

 private:
  PyThreadState* state_;
};

/// With the lock while it lives, on a thread that may have it or not.
class Locked {
 public:
  Locked() : state_(unless_exiting([] { return PyGILState_Ensure(); })) {}
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  ~Locked() { PyGILState_Release(state_); }

 private:
  PyGILState_STATE state_;
};

}  // namespace shrinkwarp::python
