#include <shrinkwarp/models/resnet/activation.hpp>

namespace shrinkwarp {

template <class T>
Activate<T>::Activate(const Shape& shape, Activation activation) : Layer<T>(shape, shape), activation_(activation) {}

template <class T>
std::int64_t Activate<T>::kept(const Context&, std::int64_t) const {
  return 0;
}

template <class T>
std::int64_t Activate<T>::scratch(const Context&, std::int64_t, bool) const {
  return 0;
}

template <class T>
void Activate<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes, Bytes) const {
  activation_forward<T>(pass.context, activation_, X, Y);
}

template <class T>
void Activate<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                           T beta, MatrixView<T> dX, Bytes, Bytes) const {
  if (!dX.empty()) activation_backward<T>(pass.context, activation_, reads_output() ? Y : X, dY, beta, dX);
}

template class Activate<float>;
template class Activate<double>;

}  // namespace shrinkwarp
