// Normalisation over the features of a sample, and over the samples of a batch.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

/// (x - mean) / sqrt(variance + 1e-5) weight + bias, over the features of a sample. Tensors NAME.weight and NAME.bias.
template <class T>
class LayerNorm : public Layer<T> {
 public:
  LayerNorm(ParameterList& list, const std::string& name, std::int64_t features);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  std::int64_t weight_, bias_;
};

/// The same over the samples of a batch and the positions of a channel, in training; by running statistics else. Tensors
/// NAME.weight, NAME.bias, NAME.running_mean, NAME.running_var. A ReLU may follow in the same pass. Training takes two
/// values of a channel at least. Replicas have the statistics of the whole batch, the same bits on each of them.
template <class T>
class BatchNorm : public Layer<T> {
 public:
  BatchNorm(ParameterList& list, const std::string& name, const Shape& shape, bool relu = false);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  std::int64_t least_samples() const override { return this->input().positions() > 1 ? 1 : 2; }
  bool asks_replicas() const override { return true; }
  bool reads_output() const override { return relu_; }
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  struct Work;
  Work lay_out(Arena& arena, const Context& context, std::int64_t samples, bool keeps) const;
  void find_shared_statistics(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> statistics,
                              const Work& work) const;

  bool relu_;
  std::int64_t weight_, bias_, mean_, variance_;
};

}  // namespace shrinkwarp
