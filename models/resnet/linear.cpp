#include <shrinkwarp/models/resnet/linear.hpp>

#include <cmath>

namespace shrinkwarp {

template <class T>
Linear<T>::Linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out,
                  Activation activation, bool bias)
    : Layer<T>({in}, {out}), activation_(activation) {
  const Initial initial = Initial::uniform(1 / std::sqrt(static_cast<double>(in)));
  weight_ = list.add(name + ".weight", {out, in}, initial);
  bias_ = bias ? list.add(name + ".bias", {out}, initial) : -1;
}

template <class T>
std::int64_t Linear<T>::kept(const Context&, std::int64_t samples) const {
  // What gelu saw.
  return activation_ == Activation::gelu ? matrix_bytes<T>(out(), samples) : 0;
}

template <class T>
std::int64_t Linear<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  return keeps ? aligned_bytes(linear_backward_scratch<T>(context, in(), out(), samples, activation_)) : 0;
}

template <class T>
void Linear<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes) const {
  const bool keeps = pass.keeps && activation_ == Activation::gelu;
  const VectorView<const T> bias = bias_ < 0 ? VectorView<const T>{} : pass.values(bias_, out());
  linear_forward<T>(pass.context, pass.matrix(weight_, in(), out()), bias, activation_, X, Y,
                    keeps ? matrix_in<T>(kept, out(), X.cols) : MatrixView<T>{});
}

template <class T>
void Linear<T>::forward_unbiased(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                                 Bytes scratch) const {
  if (last_bias(pass).empty()) return forward(pass, X, Y, kept, scratch);
  linear_forward<T>(pass.context, pass.matrix(weight_, in(), out()), {}, Activation::none, X, Y, {});
}

template <class T>
VectorView<const T> Linear<T>::last_bias(const Pass<T>& pass) const {
  if (bias_ < 0 || activation_ != Activation::none) return {};
  return pass.values(bias_, out());
}

template <class T>
void Linear<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                         T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  const VectorView<T> dbias = bias_ < 0 ? VectorView<T>{} : pass.gradients(bias_, out());
  const bool gelu = activation_ == Activation::gelu;
  linear_backward<T>(pass.context, pass.matrix(weight_, in(), out()), activation_, X, Y,
                     gelu ? matrix_in<const T>(kept, out(), X.cols) : MatrixView<const T>{}, dY,
                     pass.gradient_matrix(weight_, in(), out()), dbias, beta, dX, scratch);
}

template class Linear<float>;
template class Linear<double>;

}  // namespace shrinkwarp
