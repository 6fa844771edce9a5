// Data-parallel training: processes that hold the same parameters, see each its share of every batch, and add their
// gradients.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Adds vectors that lie on the replicas' devices, without the host. Made by Replicas::device_sum.
class DeviceSum {
 public:
  virtual ~DeviceSum() = default;
  /// values[i] <- the sum that Replicas::add makes, to the same bits. All replicas make the same calls in the same
  /// order. Queued on the context's stream, where it waits for the others': the host does not.
  ///
  /// @param values  on the device, no more bytes than device_sum() was told of, updated
  virtual void queue(VectorView<float> values) = 0;
  virtual void queue(VectorView<double> values) = 0;
};

/// The replicas of a training, 0 to size() - 1; what carries their numbers, MPI say, is behind this. All of them make the
/// same calls in the same order, each by the thread that trains, and a call waits for the others'. All have the same kind of
/// device, data and options.
class Replicas {
 public:
  virtual ~Replicas() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool first() const { return rank() == 0; }

  /// values[i] <- sum of weight values[i] over the replicas, in the order of their ranks, in float64 and rounded once: the same
  /// bits on each of them, and for as many replicas the same in each run.
  ///
  /// @param weight  of this replica's values, finite  @param values  [count] on the host, updated
  virtual void add(double weight, float* values, std::int64_t count) = 0;
  virtual void add(double weight, double* values, std::int64_t count) = 0;
  /// What adds vectors on the replicas' devices; nullptr, on all of them, where no way leads from one device to the
  /// others but over the host, by add(). Called by all of them.
  ///
  /// @param context  of this replica; outlives what is returned, and so do the replicas
  /// @param weight   of this replica's values, finite, for good
  /// @param bytes    of the largest vector
  virtual std::unique_ptr<DeviceSum> device_sum(const Context& context, double weight, std::int64_t bytes) {
    static_cast<void>(context), static_cast<void>(weight), static_cast<void>(bytes);
    return nullptr;
  }
  virtual std::int64_t largest(std::int64_t value) = 0;
  /// The text of the first replica whose is not empty, if any.
  virtual std::string first_text(const std::string& text) = 0;

  /// Whether one of them has been cancelled; called where all of them can stop.
  bool any_cancelled(const CancelToken* cancel) {
    return largest(cancel != nullptr && cancel->cancelled() ? 1 : 0) > 0;
  }
};

/// Consecutive samples.
struct SampleShare {
  std::int64_t first = 0, count = 0;
};
/// What this replica sees of `count` samples; of all where there are no others (nullptr). Shares differ by one sample at most.
inline SampleShare share_of(const Replicas* replicas, std::int64_t count) {
  if (replicas == nullptr) return {0, count};
  const auto begin = [&](std::int64_t rank) {
    return count / replicas->size() * rank + std::min<std::int64_t>(count % replicas->size(), rank);
  };
  return {begin(replicas->rank()), begin(replicas->rank() + 1) - begin(replicas->rank())};
}

/// Does what a replica does without the others, and then waits for them: where one was cancelled, or has met numbers beyond the
/// range of exact arithmetic, all of them throw that. Any other error leaves at once: the caller has to end the others.
/// @throws Cancelled, RangeError, what `work` throws
template <class Work>
void do_own_share(Replicas* replicas, const Work& work) {
  if (replicas == nullptr) return work();
  enum : std::int64_t { kFine, kCancelled, kOutOfRange };
  std::int64_t ended = kFine;
  std::string text;
  try {
    work();
  } catch (const Cancelled& error) {
    ended = kCancelled, text = error.what();
  } catch (const RangeError& error) {
    ended = kOutOfRange, text = error.what();
  }
  const std::int64_t worst = replicas->largest(ended);
  if (worst == kFine) return;
  text = replicas->first_text(ended == worst ? text : std::string());
  if (worst == kCancelled) SHRINKWARP_THROW(Cancelled, text);
  SHRINKWARP_THROW(RangeError, text);
}

}  // namespace shrinkwarp
