#include <shrinkwarp/models/resnet/dropout.hpp>

#include <shrinkwarp/kernels/dropout/dropout.hpp>
#include <shrinkwarp/kernels/elementwise/elementwise.hpp>

namespace shrinkwarp {

template <class T>
Dropout<T>::Dropout(const Shape& shape, double probability, std::uint32_t number)
    : Layer<T>(shape, shape), probability_(probability), number_(number) {
  SHRINKWARP_REQUIRE(probability >= 0 && probability < 1, ValueError, "Dropout: probability is ", probability,
                     ", wanted at least 0 and less than 1");
}

template <class T>
std::int64_t Dropout<T>::kept(const Context&, std::int64_t) const {
  return 0;
}

template <class T>
std::int64_t Dropout<T>::scratch(const Context&, std::int64_t samples, bool keeps) const {
  return keeps ? matrix_bytes<T>(this->input().size(), samples) : 0;
}

template <class T>
void Dropout<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes, Bytes) const {
  if (pass.training)
    dropout<T>(pass.context, probability_, pass.seed, number_, pass.step, pass.first_sample, X, Y);
  else
    copy<T>(pass.context, X, Y);
}

template <class T>
void Dropout<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T>, MatrixView<const T> dY,
                          T beta, MatrixView<T> dX, Bytes, Bytes scratch) const {
  if (dX.empty()) return;
  const MatrixView<T> masked = beta == T(0) ? dX : matrix_in<T>(scratch, X.rows, X.cols);
  if (pass.training)
    dropout<T>(pass.context, probability_, pass.seed, number_, pass.step, pass.first_sample, dY, masked);
  else
    copy<T>(pass.context, dY, masked);
  if (beta != T(0)) add<T>(pass.context, masked, dX, dX);
}

template class Dropout<float>;
template class Dropout<double>;

}  // namespace shrinkwarp
