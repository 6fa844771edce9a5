// Where the time of a long call goes, by phase. Costs nothing when no profile is asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

/// Sums over all passes through one phase.
struct PhaseTotals {
  const char* name = "";
  double seconds = 0;
  double flops = 0;  ///< that the mathematics asks for
  double bytes = 0;  ///< that have to move at least once between memory and processor
  std::int64_t calls = 0;
};

/// Collects phases in the order they first ran. For one thread.
class Profile {
 public:
  void add(const char* name, double seconds, double flops, double bytes) {
    for (PhaseTotals& phase : phases_) {
      if (phase.name == name) {
        phase.seconds += seconds;
        phase.flops += flops;
        phase.bytes += bytes;
        ++phase.calls;
        return;
      }
    }
    phases_.push_back({name, seconds, flops, bytes, 1});
  }
  const std::vector<PhaseTotals>& phases() const { return phases_; }

 private:
  std::vector<PhaseTotals> phases_;
};

/// Adds the time from its construction to its destruction to a phase. On CUDA it waits for the stream at its end, which
/// stretches the whole but attributes it rightly. A null profile does nothing.
class PhaseTimer {
 public:
  /// @param name  a string literal, one object a phase
  PhaseTimer(const Context& context, Profile* profile, const char* name, double flops = 0, double bytes = 0)
      : context_(context), profile_(profile), name_(name), flops_(flops), bytes_(bytes) {
    if (profile_) started_ = std::chrono::steady_clock::now();
  }
  ~PhaseTimer() {
    if (!profile_) return;
    try {
      context_.synchronize();
    } catch (...) {
      return;  // the failed call reports itself where the caller waits next
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started_;
    profile_->add(name_, elapsed.count(), flops_, bytes_);
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  const Context& context_;
  Profile* profile_;
  const char* name_;
  double flops_;
  double bytes_;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace shrinkwarp
