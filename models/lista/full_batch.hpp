// The mean Lasso cost of a network over all samples, and its gradient, for minimisers that see all data at once. The cost
// alone is MeanCost's.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/replicas.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0, go through a network a chunk at a time; a single chunk stays on the device. On CUDA, where
/// a way back keeps all layers of all samples, as many of a chunk go at once as most_scratch has room for.
template <class T>
class FullBatch {
 public:
  /// @param samples  outlive this
  /// @param most     as many of them at most, the first
  /// @param most_scratch  bytes, or what a single sample takes where that is more
  /// @param replicas      each of which looks at its share of the samples; outlive this; nullptr: there are no others
  FullBatch(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
            std::int64_t most = std::numeric_limits<std::int64_t>::max(),
            std::int64_t most_scratch = std::int64_t{1} << 28, Replicas* replicas = nullptr);

  /// Mean cost at the network's depth, in the units of the samples; the same bits on all replicas. Synchronises.
  /// @throws Cancelled
  /// @param gradient  [parameters], written
  /// @param cancel    is asked between chunks; may be nullptr
  double cost(const Network<T>& network, std::vector<double>* gradient, const CancelToken* cancel = nullptr) const;

 private:
  double add_share(const Network<T>& network, std::vector<double>& gradient, const CancelToken* cancel) const;
  void fill(std::int64_t first, std::int64_t count) const;
  std::int64_t width(const Network<T>& network) const;

  const Context& context_;
  const Samples<T>& samples_;
  LambdaShares shares_;
  Replicas* replicas_;
  std::int64_t total_;  // samples of all replicas
  SampleShare share_;   // of this one
  std::int64_t chunk_, most_scratch_;
  Tensor<T> X_, lambda_;
  mutable std::int64_t filled_ = -1;  // the chunk that lies in X_ begins with this sample
  mutable Tensor<std::byte> scratch_;
  mutable Tensor<T> gradient_;
  Tensor<double> loss_;
};

}  // namespace shrinkwarp
