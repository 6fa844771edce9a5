#include <shrinkwarp/tools/python/core/contexts.hpp>

#include <unistd.h>

#include <optional>
#include <utility>

namespace shrinkwarp::python {

Contexts::Contexts(std::string device, int threads) : device_(std::move(device)), threads_(threads) {
  std::optional<CurrentDevice> before;
  if (device_ != "cpu") before.emplace();  // which would ask for devices
  std::unique_ptr<Context> context = make();
  its_device_ = context->device();
  give_back(std::move(context));
}

std::unique_ptr<Context> Contexts::take() {
  std::unique_ptr<Context> context;
  {
    const std::lock_guard<std::mutex> guard(lock_);
    leave_those_of_a_parent();
    if (!idle_.empty()) {
      context = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  return context ? std::move(context) : make();
}

void Contexts::give_back(std::unique_ptr<Context> context) {
  const std::lock_guard<std::mutex> guard(lock_);
  leave_those_of_a_parent();
  idle_.push_back(std::move(context));
}

// Not destroyed either, which would wait for threads that are not there.
void Contexts::leave_those_of_a_parent() {
  if (process_ == getpid()) return;
  for (std::unique_ptr<Context>& context : idle_) static_cast<void>(context.release());
  idle_.clear();
  process_ = getpid();
}

}  // namespace shrinkwarp::python
