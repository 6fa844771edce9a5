// Internal to training: all samples in parts that do not depend on how many replicas look at them, so that neither do sums
// over the parts in their order.
#pragma once

#include <cstdint>
#include <type_traits>

#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0. Those of this replica's parts stay on the device where they are few, else some are
/// brought at a time.
template <class T>
class SampleParts {
 public:
  /// @param context, samples, replicas  outlive this; replicas may be nullptr: all parts are looked at here
  /// @param total  as many samples, the first; 1 <= total <= samples.size()
  /// @param most   samples of a part at most; and on the device, where that is more than a part
  /// @param wide   whether their values are wanted in double too
  SampleParts(const Context& context, const Samples<T>& samples, const LambdaShares& shares, std::int64_t total,
              std::int64_t most, bool wide, const Replicas* replicas);

  std::int64_t total() const { return total_; }
  /// Samples of a part; the last may have fewer.
  std::int64_t size() const { return size_; }
  std::int64_t count() const { return (total_ + size_ - 1) / size_; }
  /// Which parts this replica looks at.
  SampleShare own() const { return own_; }

  /// On the device.
  struct Part {
    MatrixView<const T> X;            ///< [n, samples]
    VectorView<const T> lambda;       ///< [samples]
    MatrixView<const double> wide_X;  ///< the same, where they are wanted
    VectorView<const double> wide_lambda;
  };
  /// One of this replica's. Synchronises where it has to be brought.
  Part at(std::int64_t part) const;

 private:
  void bring(std::int64_t first) const;

  const Context& context_;
  const Samples<T>& samples_;
  LambdaShares shares_;
  std::int64_t total_, size_;
  SampleShare own_;
  std::int64_t held_;  // parts on the device
  bool wide_;
  Tensor<T> X_, lambda_;
  Tensor<double> wide_X_, wide_lambda_;  // of T = float
  mutable std::int64_t brought_ = -1;    // the first of these parts
};

}  // namespace shrinkwarp
