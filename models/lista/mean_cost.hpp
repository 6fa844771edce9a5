// The mean Lasso cost of a network over all samples, for validation: a forward pass, and the cost of its codes in float64.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/replicas.hpp>

namespace shrinkwarp {

/// Samples, with their lambdas of pass 0, go through a network a chunk at a time; a single chunk stays on the device.
///
/// Memory: on the device at most some 256 MiB, what a forward pass keeps of its last two layers counted; on the CPU the scratch of
/// as many slices as there are threads more; on the host a chunk of samples while one is brought.
template <class T>
class MeanCost {
 public:
  /// @param context, dictionary, samples  outlive this
  /// @param most      as many samples at most, the first
  /// @param replicas  each of which looks at its share of the samples; outlive this; nullptr: there are no others
  MeanCost(const Context& context, const Dictionary& dictionary, const Samples<T>& samples, const LambdaShares& shares,
           std::int64_t most = std::numeric_limits<std::int64_t>::max(), Replicas* replicas = nullptr);

  /// Mean of 1/2 ||x - D z||^2 + lambda ||z||_1 at the network's depth, in the units of the samples: x, D and z as they are, in
  /// float64. The same bits whatever the threads, and on all replicas. Synchronises.
  /// @param cancel  is asked between chunks; may be nullptr  @throws Cancelled
  double operator()(const Network<T>& network, const CancelToken* cancel = nullptr) const;

 private:
  static constexpr bool kExact = std::is_same_v<T, double>;

  double sum_of_share(const Network<T>& network, const CancelToken* cancel) const;
  void fill(std::int64_t first, std::int64_t count) const;
  MatrixView<double> exact_X() const;
  VectorView<double> exact_lambda() const;

  const Context& context_;
  const Dictionary& dictionary_;
  const Samples<T>& samples_;
  LambdaShares shares_;
  Replicas* replicas_;
  std::int64_t total_;  // samples of all replicas
  SampleShare share_;   // of this one
  std::int64_t chunk_;
  Tensor<T> X_, lambda_, Z_;
  Tensor<double> wide_X_, wide_lambda_;  // X_ and lambda_ for T = float
  Tensor<double> R_, correlation_, primal_, gap_;
  mutable Tensor<std::byte> scratch_;
  mutable std::int64_t filled_ = -1;  // the chunk that lies in X_ begins with this sample
};

}  // namespace shrinkwarp
