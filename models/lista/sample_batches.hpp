// Internal to training: samples as batches that steps read, observations first and then a lambda each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/batch_pipeline.hpp>

namespace shrinkwarp {

template <class T>
class SampleBatches : public BatchSource {
 public:
  /// @param samples  outlives this
  SampleBatches(const Samples<T>& samples, const LambdaShares& shares) : samples_(samples), shares_(shares) {}

  std::int64_t size() const override { return samples_.size(); }
  std::int64_t bytes(std::int64_t count) const override {
    return (samples_.dimension() + 1) * count * static_cast<std::int64_t>(sizeof(T));
  }
  /// @return mean of 1/2 ||x||^2 over the batch: the cost of codes that are 0
  double gather(const Batch& batch, std::byte* target) const override {
    auto* const first = reinterpret_cast<T*>(target);
    const std::int64_t n = samples_.dimension();
    const MatrixView<T> X{first, n, batch.count, n, {}};
    samples_.gather(batch.samples, shares_, batch.pass, X, {first + n * batch.count, batch.count, {}});
    double sum = 0;
    for (std::int64_t b = 0; b < X.cols; ++b)
      for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(X(i, b)) * static_cast<double>(X(i, b));
    return sum / 2 / static_cast<double>(batch.count);
  }

  /// [n, count] and [count] of a batch.
  MatrixView<const T> X(VectorView<std::byte> batch, std::int64_t count) const {
    return {reinterpret_cast<const T*>(batch.data), samples_.dimension(), count, samples_.dimension(), batch.device};
  }
  VectorView<const T> lambda(VectorView<std::byte> batch, std::int64_t count) const {
    return {reinterpret_cast<const T*>(batch.data) + samples_.dimension() * count, count, batch.device};
  }

 private:
  const Samples<T>& samples_;
  LambdaShares shares_;
};

}  // namespace shrinkwarp
