// What holds a training's state between two runs, and how a training may end before its time.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {

/// Both may be empty.
struct TrainingStore {
  /// Called now and then, and where training is cancelled after it has begun, with all that going on takes. A state that it
  /// gets has not diverged: the loss of the next step is known.
  std::function<void(const Safetensors&)> save;
  /// Seconds between two calls of save; twenty times what the last one took where that is longer. 0 calls it after each step.
  double interval = 0.5;
  /// A state that save got; nullptr starts afresh. Rate, schedule and clip may be others than before.
  const Safetensors* resume = nullptr;
};

/// A loss that is not finite or that has grown beyond all measure.
class DivergedError : public Error {
  using Error::Error;
};

/// Calls save at intervals as TrainingStore has them.
class SaveNowAndThen {
 public:
  explicit SaveNowAndThen(double interval) : interval_(interval), next_(Clock::now() + Seconds(interval)) {}

  bool is_due() const { return Clock::now() >= next_; }
  template <class Save>
  void operator()(Save save) {
    if (is_due()) now(save);
  }
  /// Whether it is due or not.
  template <class Save>
  void now(Save save) {
    const auto before = Clock::now();
    save();
    const auto after = Clock::now();
    next_ = after + std::max(Seconds(interval_), interval_ > 0 ? 20 * Seconds(after - before) : Seconds(0));
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  double interval_;
  std::chrono::time_point<Clock, Seconds> next_;
};

}  // namespace shrinkwarp
