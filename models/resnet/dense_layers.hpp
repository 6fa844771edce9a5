// Layers of features without places: linear ones with their activation, normalisation, dropout.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

/// act(W x + b). Tensors NAME.weight (out, in) and NAME.bias (out).
template <class T>
class Linear : public Layer<T> {
 public:
  /// Weights begin uniform within 1 / sqrt(in), as PyTorch's; so does the bias.
  Linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out, Activation activation,
         bool bias = true);

  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  VectorView<const T> forward_unbiased(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                                       Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  std::int64_t in() const { return this->input().channels; }
  std::int64_t out() const { return this->output().channels; }
  Activation activation_;
  std::int64_t weight_, bias_;  // offsets; no bias: -1
};

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
/// NAME.weight, NAME.bias, NAME.running_mean, NAME.running_var. A ReLU may follow in the same pass.
template <class T>
class BatchNorm : public Layer<T> {
 public:
  BatchNorm(ParameterList& list, const std::string& name, const Shape& shape, bool relu = false);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  bool relu_;
  std::int64_t weight_, bias_, mean_, variance_;
};

/// In training each entry is 0 with `probability`, else divided by 1 - probability. Which ones is a function of the pass's
/// seed and step, the number of the layer and the place of the entry.
template <class T>
class Dropout : public Layer<T> {
 public:
  /// @param number  of its own for each dropout layer of a network  @throws ValueError (probability not in [0, 1))
  Dropout(const Shape& shape, double probability, std::uint32_t number);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  double probability_;
  std::uint32_t number_;
};

}  // namespace shrinkwarp
