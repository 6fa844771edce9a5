#include <shrinkwarp/models/resnet/image_layers.hpp>

#include <algorithm>
#include <cmath>

namespace shrinkwarp {
namespace {

Shape output_of(const ConvolutionShape& shape) {
  return {shape.filters, shape.out_height(), shape.out_width()};
}
Shape output_of(const PoolingShape& shape) {
  return {shape.channels, shape.out_height(), shape.out_width()};
}

/// @throws ValueError (no window, or one that does not move), ShapeError where it does not fit into the padded image
void require_fit(const char* layer, const Shape& input, std::int64_t kernel, std::int64_t stride,
                 std::int64_t padding) {
  SHRINKWARP_REQUIRE(kernel >= 1 && stride >= 1 && padding >= 0, ValueError, layer, ": found a kernel of ", kernel,
                     ", a stride of ", stride, " and a padding of ", padding, ", wanted at least 1, 1 and 0");
  const std::int64_t least = std::min(input.height, input.width) + 2 * padding;
  SHRINKWARP_REQUIRE(least >= kernel, ShapeError, layer, ": found images of ", input.height, " x ", input.width,
                     ", wanted at least ", kernel - 2 * padding, " pixels each way for a kernel of ", kernel,
                     " with padding ", padding);
}

ConvolutionShape convolution(const Shape& input, std::int64_t filters, std::int64_t kernel, std::int64_t stride,
                             std::int64_t padding) {
  require_fit("Convolution", input, kernel, stride, padding);
  return {input.channels, input.height, input.width, filters, kernel, kernel, stride, padding, 1};
}

PoolingShape pooling(const Shape& input, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  require_fit("MaxPool", input, kernel, stride, padding);
  return {input.channels, input.height, input.width, kernel, stride, padding};
}

}  // namespace

// ---- Convolution ---------------------------------------------------------------------------------------------------

template <class T>
Convolution<T>::Convolution(ParameterList& list, const std::string& name, const Shape& input, std::int64_t filters,
                            std::int64_t kernel, std::int64_t stride, std::int64_t padding)
    : Layer<T>(input, output_of(convolution(input, filters, kernel, stride, padding))),
      shape_(convolution(input, filters, kernel, stride, padding)) {
  const double fan_out = static_cast<double>(filters * kernel * kernel);
  weight_ =
      list.add(name + ".weight", {filters, input.channels, kernel, kernel}, Initial::normal(std::sqrt(2 / fan_out)));
}

template <class T>
std::int64_t Convolution<T>::kept(const Context&, std::int64_t) const {
  return 0;
}

template <class T>
std::int64_t Convolution<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  const std::int64_t there = convolution_scratch<T>(context, shape_, samples, false);
  return aligned_bytes(keeps ? std::max(there, convolution_scratch<T>(context, shape_, samples, true)) : there);
}

template <class T>
void Convolution<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes, Bytes scratch) const {
  convolution_forward<T>(pass.context, shape_, pass.matrix(weight_, shape_.terms(), shape_.filters), {}, X, Y, scratch);
}

template <class T>
void Convolution<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T>, MatrixView<const T> dY,
                              T beta, MatrixView<T> dX, Bytes, Bytes scratch) const {
  convolution_backward<T>(pass.context, shape_, pass.matrix(weight_, shape_.terms(), shape_.filters), X, dY,
                          pass.gradient_matrix(weight_, shape_.terms(), shape_.filters), {}, beta, dX, scratch);
}

// ---- MaxPool -------------------------------------------------------------------------------------------------------

template <class T>
MaxPool<T>::MaxPool(const Shape& input, std::int64_t kernel, std::int64_t stride, std::int64_t padding)
    : Layer<T>(input, output_of(pooling(input, kernel, stride, padding))),
      shape_(pooling(input, kernel, stride, padding)) {}

template <class T>
std::int64_t MaxPool<T>::kept(const Context&, std::int64_t samples) const {
  return matrix_bytes<std::int32_t>(this->output().size(), samples);
}

template <class T>
std::int64_t MaxPool<T>::scratch(const Context&, std::int64_t, bool) const {
  return 0;
}

template <class T>
void MaxPool<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes) const {
  const MatrixView<std::int32_t> index = matrix_in<std::int32_t>(kept, Y.rows, Y.cols);
  max_pool_forward<T>(pass.context, shape_, X, Y, pass.keeps ? index : MatrixView<std::int32_t>{});
}

template <class T>
void MaxPool<T>::backward(const Pass<T>& pass, MatrixView<const T>, MatrixView<const T>, MatrixView<const T> dY, T beta,
                          MatrixView<T> dX, Bytes kept, Bytes) const {
  if (dX.empty()) return;
  max_pool_backward<T>(pass.context, shape_, dY, matrix_in<const std::int32_t>(kept, dY.rows, dY.cols), beta, dX);
}

// ---- AveragePool ---------------------------------------------------------------------------------------------------

template <class T>
AveragePool<T>::AveragePool(const Shape& input) : Layer<T>(input, Shape{input.channels, 1, 1}) {}

template <class T>
std::int64_t AveragePool<T>::kept(const Context&, std::int64_t) const {
  return 0;
}

template <class T>
std::int64_t AveragePool<T>::scratch(const Context&, std::int64_t, bool) const {
  return 0;
}

template <class T>
void AveragePool<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes, Bytes) const {
  average_pool_forward<T>(pass.context, X, Y);
}

template <class T>
void AveragePool<T>::backward(const Pass<T>& pass, MatrixView<const T>, MatrixView<const T>, MatrixView<const T> dY,
                              T beta, MatrixView<T> dX, Bytes, Bytes) const {
  if (!dX.empty()) average_pool_backward<T>(pass.context, dY, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T) \
  template class Convolution<T>;  \
  template class MaxPool<T>;      \
  template class AveragePool<T>;
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
