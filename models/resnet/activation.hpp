// Activations that are layers of their own.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

/// act(x) of each entry. Keeps nothing.
template <class T>
class Activate : public Layer<T> {
 public:
  Activate(const Shape& shape, Activation activation);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  bool reads_output() const override { return activation_ == Activation::relu || activation_ == Activation::tanh; }
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  Activation activation_;
};

}  // namespace shrinkwarp
