// The mean Lasso cost of a network over all samples, for validation: a forward pass, and the cost of its codes in float64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/sample_parts.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/replicas.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0, go through a network a part at a time.
///
/// Memory: on the device at most some 256 MiB, what a forward pass keeps of its last two layers counted; on the CPU the scratch of
/// as many slices as there are threads more; on the host as many samples while they are brought.
template <class T>
class MeanCost {
 public:
  /// @param context, dictionary, samples  outlive this
  /// @param most      as many samples at most, the first
  /// @param replicas  each of which looks at its share of the samples; outlive this; nullptr: there are no others
  MeanCost(const Context& context, const Dictionary& dictionary, const Samples<T>& samples, const LambdaShares& shares,
           std::int64_t most = std::numeric_limits<std::int64_t>::max(), Replicas* replicas = nullptr);

  /// Mean of 1/2 ||x - D z||^2 + lambda ||z||_1 at the network's depth, in the units of the samples: x, D and z as they are, in
  /// float64. The same bits whatever the threads and the number of replicas. Synchronises.
  /// @param cancel  is asked between parts; may be nullptr  @throws Cancelled
  double operator()(const Network<T>& network, const CancelToken* cancel = nullptr) const;

 private:
  /// What a worker has for a part.
  struct Memory {
    Tensor<T> Z;
    Tensor<double> R, correlation, primal, gap;
    Tensor<std::byte> scratch;
  };
  double sum_of(const Network<T>& network, const typename SampleParts<T>::Part& part, int worker) const;

  const Dictionary& dictionary_;
  Replicas* replicas_;
  SampleParts<T> parts_;
  mutable std::vector<Memory> memory_;
};

}  // namespace shrinkwarp
