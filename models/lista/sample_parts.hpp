// Internal to training: all samples in parts that do not depend on how many replicas look at them, so that neither do sums
// over the parts in their order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0. Those of this replica's parts stay on the device where they are few, else some are
/// brought at a time. A part is too small for all threads of a CPU: they take several, one each.
template <class T>
class SampleParts {
 public:
  /// @param context, samples, replicas  outlive this; replicas may be nullptr: all parts are looked at here
  /// @param total  as many samples, the first; 1 <= total <= samples.size()
  /// @param most   samples of a part at most; and on the device, where that is more than a part
  /// @param wide   whether their values are wanted in double too
  /// @param bytes  that whoever looks at a part needs for each of its samples: all at once have 256 MiB, or one has what it needs
  SampleParts(const Context& context, const Samples<T>& samples, const LambdaShares& shares, std::int64_t total,
              std::int64_t most, bool wide, std::int64_t bytes, const Replicas* replicas);

  std::int64_t total() const { return total_; }
  /// Samples of a part; the last may have fewer.
  std::int64_t size() const { return size_; }
  std::int64_t count() const { return (total_ + size_ - 1) / size_; }
  /// Which parts this replica looks at.
  SampleShare own() const { return own_; }

  /// How many of its parts are looked at at once: on the CPU they share the threads of the context.
  int workers() const { return workers_.empty() ? 1 : static_cast<int>(workers_.size()); }
  /// What a worker computes with.
  const Context& context(int worker) const {
    return workers_.empty() ? context_ : workers_[static_cast<std::size_t>(worker)];
  }

  /// On the device.
  struct Part {
    MatrixView<const T> X;            ///< [n, samples]
    VectorView<const T> lambda;       ///< [samples]
    MatrixView<const double> wide_X;  ///< the same, where they are wanted
    VectorView<const double> wide_lambda;
  };
  /// look(Part, worker) for each of this replica's parts, workers() of them at once, and take(part, worker) of these in their
  /// order when all have been looked at. @throws Cancelled, between two rounds; what they throw
  template <class Look, class Take>
  void each(const CancelToken* cancel, const Look& look, const Take& take) const {
    const std::int64_t end = own_.first + own_.count;
    for (std::int64_t first = own_.first; first < end; first += workers()) {
      if (cancel != nullptr && cancel->cancelled())
        SHRINKWARP_THROW(Cancelled, "training: cancelled with ", first - own_.first, " of ", own_.count,
                         " parts of the samples seen");
      const std::int64_t count = std::min<std::int64_t>(workers(), end - first);
      bring(first);
      if (workers_.empty())
        look(at(first), 0);
      else
        context_.parallel_for(count, [&](std::int64_t i, int) { look(at(first + i), static_cast<int>(i)); });
      for (std::int64_t i = 0; i < count; ++i) take(first + i, static_cast<int>(i));
    }
  }

 private:
  void bring(std::int64_t part) const;
  Part at(std::int64_t part) const;

  const Context& context_;
  const Samples<T>& samples_;
  LambdaShares shares_;
  std::int64_t total_, size_;
  SampleShare own_;
  std::vector<Context> workers_;  // none: the context itself
  std::int64_t held_;             // parts on the device, a multiple of workers() where they are not all
  bool wide_;
  Tensor<T> X_, lambda_;
  Tensor<double> wide_X_, wide_lambda_;  // of T = float
  mutable std::int64_t brought_ = -1;    // the first of these parts
};

}  // namespace shrinkwarp
