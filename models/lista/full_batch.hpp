// The mean Lasso cost of a network over all samples, and its gradient, for minimisers that see all data at once. The cost
// alone is MeanCost's.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/sample_parts.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/replicas.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0, go through a network a part at a time. On CUDA, where a way back keeps all layers of all
/// samples, as many of a part go at once as most_scratch has room for.
///
/// Replicas tell each other the sums of each part, and add them as one process does: the same bits, whatever their number. Where
/// there are too many parameters for that, each tells the sum over its parts: the same bits for as many replicas.
template <class T>
class FullBatch {
 public:
  /// @param samples  outlive this
  /// @param most     as many of them at most, the first
  /// @param most_scratch  bytes, or what a single sample takes where that is more
  /// @param replicas      each of which looks at its share of the samples; outlive this; nullptr: there are no others
  /// @param most_told     parts times parameters that replicas tell each other of
  FullBatch(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
            std::int64_t most = std::numeric_limits<std::int64_t>::max(),
            std::int64_t most_scratch = std::int64_t{1} << 28, Replicas* replicas = nullptr,
            std::int64_t most_told = std::int64_t{1} << 22);

  /// Mean cost at the network's depth, in the units of the samples. Synchronises.
  /// @throws Cancelled
  /// @param gradient  [parameters], written
  /// @param cancel    is asked between parts; may be nullptr
  double cost(const Network<T>& network, std::vector<double>* gradient, const CancelToken* cancel = nullptr) const;

 private:
  /// What a worker has for a part.
  struct Memory {
    Tensor<std::byte> scratch;
    Tensor<T> gradient;
    Tensor<double> loss;
    std::vector<double> sums;  // of the gradient's elements, and of the cost behind them
  };
  void sum_of(const Network<T>& network, const typename SampleParts<T>::Part& part, int worker) const;
  std::int64_t width(const Network<T>& network) const;

  const Context& context_;
  Replicas* replicas_;
  std::int64_t most_scratch_, most_told_;
  SampleParts<T> parts_;
  mutable std::vector<Memory> memory_;
};

}  // namespace shrinkwarp
