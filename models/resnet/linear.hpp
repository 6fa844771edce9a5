// Linear layers with their activation.
#pragma once

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
  void forward_unbiased(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                        Bytes scratch) const override;
  VectorView<const T> last_bias(const Pass<T>& pass) const override;
  bool reads_output() const override { return activation_ == Activation::relu || activation_ == Activation::tanh; }
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  std::int64_t in() const { return this->input().channels; }
  std::int64_t out() const { return this->output().channels; }
  Activation activation_;
  std::int64_t weight_, bias_;  // offsets; no bias: -1
};

}  // namespace shrinkwarp
