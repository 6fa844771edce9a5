// Contexts of one device, for one call each at a time.
#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp::python {

/// Makes contexts as calls ask for them side by side, and keeps them for the next. In a process that was forked from the one that
/// made them they are left alone: their threads did not come along.
class Contexts {
 public:
  /// A context for one call; goes back when this goes.
  class Lease {
   public:
    /// @throws as the owner's constructor
    explicit Lease(Contexts& owner) : owner_(owner) {
      if (owner.device().type == DeviceType::cuda) before_.emplace();
      context_ = owner.take();
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { owner_.give_back(std::move(context_)); }
    const Context& operator*() const { return *context_; }

   private:
    Contexts& owner_;
    std::optional<CurrentDevice> before_;
    std::unique_ptr<Context> context_;
  };

  /// @param device  as for Context::named  @throws ValueError, BackendUnavailable
  Contexts(std::string device, int threads);
  Contexts(const Contexts&) = delete;
  Contexts& operator=(const Contexts&) = delete;
  ~Contexts() { leave_those_of_a_parent(); }
  Device device() const { return its_device_; }

 private:
  std::unique_ptr<Context> take();
  std::unique_ptr<Context> make() const { return std::make_unique<Context>(Context::named(device_, threads_)); }
  void give_back(std::unique_ptr<Context> context);
  void leave_those_of_a_parent();

  std::string device_;
  Device its_device_;
  int threads_;
  std::mutex lock_;
  pid_t process_ = -1;
  std::vector<std::unique_ptr<Context>> idle_;
};

}  // namespace shrinkwarp::python
