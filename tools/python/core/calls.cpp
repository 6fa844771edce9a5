#include <shrinkwarp/tools/python/core/calls.hpp>

#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>

namespace shrinkwarp::python {

void Listener::in_python(FunctionRef<void()> body) {
  if (token_.cancelled()) return;
  const Locked lock;
  try {
    unless_exiting([&] {
      if (PyErr_CheckSignals() != 0) nanobind::raise_python_error();
      body();
    });
  } catch (nanobind::python_error& error) {
    raised_ = nanobind::borrow(error.value());
    token_.cancel();
  }
}

bool Listener::is_time() {
  const auto now = std::chrono::steady_clock::now();
  if (now - asked_ < std::chrono::milliseconds(100)) return false;
  asked_ = now;
  return true;
}

void Listener::poll() {
  if (is_time()) in_python([] {});
}

ProgressCallback Listener::progress() {
  return [this](const Progress& progress) {
    if (!is_time() && progress.done < progress.total) return;
    in_python([&] {
      if (!progress_.is_none()) progress_(progress.done, progress.total);
    });
  };
}

LogCallback Listener::log() {
  if (log_.is_none()) return {};
  return [this](LogLevel level, const std::string& line) {
    in_python([&] { log_(level == LogLevel::warning, nanobind::str(line.c_str())); });
  };
}

}  // namespace shrinkwarp::python
