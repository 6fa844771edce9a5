// The mean Lasso cost of a network over all samples, and its gradient, for minimisers that see all data at once and for
// validation.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/samples.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0, go through a network a chunk at a time; a single chunk stays on the device.
template <class T>
class FullBatch {
 public:
  /// @param samples  outlive this
  /// @param most     as many of them at most, the first
  FullBatch(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
            std::int64_t most = std::numeric_limits<std::int64_t>::max());

  /// Mean cost at the network's depth, in the units of the samples. Synchronises.
  /// @param gradient  [parameters], written; nullptr for none
  double cost(const Network<T>& network, std::vector<double>* gradient) const;

 private:
  void fill(std::int64_t first, std::int64_t count) const;

  const Context& context_;
  const Samples<T>& samples_;
  LambdaShares shares_;
  std::int64_t count_, chunk_;
  Tensor<T> X_, lambda_;
  mutable std::int64_t filled_ = -1;  // the chunk that lies in X_ begins with this sample
  mutable Tensor<std::byte> scratch_;
  mutable Tensor<T> gradient_;
  Tensor<double> loss_;
};

}  // namespace shrinkwarp
