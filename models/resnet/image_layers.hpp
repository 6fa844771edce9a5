// Layers of images: convolutions and pooling.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/kernels/convolution/convolution.hpp>
#include <shrinkwarp/kernels/pooling/pooling.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

/// torch.nn.Conv2d without a bias. Tensor NAME.weight (filters, channels, kernel, kernel).
template <class T>
class Convolution : public Layer<T> {
 public:
  /// Weights begin normal with variance 2 / (filters kernel^2), as torchvision's ResNets do (He et al. 2015, fan out).
  /// @throws ValueError (kernel, stride, padding), ShapeError (a kernel that is larger than the padded image)
  Convolution(ParameterList& list, const std::string& name, const Shape& input, std::int64_t filters,
              std::int64_t kernel, std::int64_t stride, std::int64_t padding);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  ConvolutionShape shape_;
  std::int64_t weight_;
};

/// torch.nn.MaxPool2d.
template <class T>
class MaxPool : public Layer<T> {
 public:
  /// @throws as Convolution
  MaxPool(const Shape& input, std::int64_t kernel, std::int64_t stride, std::int64_t padding);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  PoolingShape shape_;
};

/// torch.nn.AdaptiveAvgPool2d(1): a channel's average.
template <class T>
class AveragePool : public Layer<T> {
 public:
  explicit AveragePool(const Shape& input);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;
};

}  // namespace shrinkwarp
