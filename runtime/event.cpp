#include <shrinkwarp/runtime/event.hpp>

#include <utility>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/cuda_device.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

void require_same(const char* function, Device found, Device wanted) {
  SHRINKWARP_REQUIRE(found == wanted, DeviceError, function, ": the context is on ", found, ", wanted ", wanted,
                     ", the event's device");
}

}  // namespace

Event::Event(const Context& context) : device_(context.device()) {
  if constexpr (kHasCuda) {
    if (context.select_cuda()) handle_ = cuda::create_event();
  }
}

Event::Event(Event&& other) noexcept : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

Event& Event::operator=(Event&& other) noexcept {
  Event moved(std::move(other));
  std::swap(device_, moved.device_);
  std::swap(handle_, moved.handle_);
  return *this;
}

Event::~Event() {
  if constexpr (kHasCuda) {
    if (handle_) cuda::destroy_event(handle_);
  }
}

void Event::record(const Context& context) {
  require_same("Event::record", context.device(), device_);
  if constexpr (kHasCuda) {
    if (handle_ && context.select_cuda()) cuda::record_event(handle_, context.stream());
  }
}

void Event::wait(const Context& context) const {
  require_same("Event::wait", context.device(), device_);
  if constexpr (kHasCuda) {
    if (handle_ && context.select_cuda()) cuda::await_event(context.stream(), handle_);
  }
}

void Event::synchronize() const {
  if constexpr (kHasCuda) {
    if (handle_) cuda::synchronize(handle_);
  }
}

}  // namespace shrinkwarp
