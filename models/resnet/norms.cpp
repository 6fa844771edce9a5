#include <shrinkwarp/models/resnet/norms.hpp>

#include <shrinkwarp/kernels/batch_norm/batch_norm.hpp>
#include <shrinkwarp/kernels/elementwise/elementwise.hpp>
#include <shrinkwarp/kernels/layer_norm/layer_norm.hpp>

namespace shrinkwarp {
namespace {

constexpr double kEpsilon = 1e-5;      // PyTorch's, of both norms
constexpr double kRunningShare = 0.1;  // of a batch in running statistics, PyTorch's momentum

}  // namespace

template <class T>
LayerNorm<T>::LayerNorm(ParameterList& list, const std::string& name, std::int64_t features)
    : Layer<T>({features}, {features}),
      weight_(list.add(name + ".weight", {features}, Initial::constant(1))),
      bias_(list.add(name + ".bias", {features}, Initial::constant(0))) {}

template <class T>
std::int64_t LayerNorm<T>::kept(const Context&, std::int64_t samples) const {
  return matrix_bytes<T>(2, samples);
}

template <class T>
std::int64_t LayerNorm<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  if (!keeps) return kept(context, samples);
  return aligned_bytes(layer_norm_backward_scratch(context, this->input().channels, samples));
}

template <class T>
void LayerNorm<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                           Bytes scratch) const {
  const std::int64_t features = this->input().channels;
  layer_norm_forward<T>(pass.context, X, pass.values(weight_, features), pass.values(bias_, features), kEpsilon, Y,
                        matrix_in<T>(pass.keeps ? kept : scratch, 2, X.cols));
}

template <class T>
void LayerNorm<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T>, MatrixView<const T> dY,
                            T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  const std::int64_t features = this->input().channels;
  layer_norm_backward<T>(pass.context, X, matrix_in<const T>(kept, 2, X.cols), pass.values(weight_, features), dY, beta,
                         dX, pass.gradients(weight_, features), pass.gradients(bias_, features), scratch);
}

template <class T>
BatchNorm<T>::BatchNorm(ParameterList& list, const std::string& name, const Shape& shape, bool relu)
    : Layer<T>(shape, shape),
      relu_(relu),
      weight_(list.add(name + ".weight", {shape.channels}, Initial::constant(1))),
      bias_(list.add(name + ".bias", {shape.channels}, Initial::constant(0))),
      mean_(list.add_statistics(name + ".running_mean", {shape.channels}, Initial::constant(0))),
      variance_(list.add_statistics(name + ".running_var", {shape.channels}, Initial::constant(1))) {}

template <class T>
std::int64_t BatchNorm<T>::kept(const Context&, std::int64_t) const {
  return aligned_bytes(BatchNormStatistics::kSize * this->input().channels * static_cast<std::int64_t>(sizeof(T)));
}

template <class T>
std::int64_t BatchNorm<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  const Shape& shape = this->input();
  const std::int64_t sums = aligned_bytes(batch_norm_scratch(context, shape.channels, shape.positions(), samples));
  // A pass that keeps nothing has its statistics here, a way back the gradient behind the ReLU.
  const std::int64_t masked = relu_ ? matrix_bytes<T>(shape.size(), samples) : 0;
  return sums + (keeps ? masked : kept(context, samples));
}

template <class T>
void BatchNorm<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                           Bytes scratch) const {
  const Shape& shape = this->input();
  const std::int64_t channels = shape.channels, its = this->kept(pass.context, X.cols);
  const Bytes place = pass.keeps ? kept : scratch.slice(0, its);
  const Bytes sums = pass.keeps ? scratch : scratch.slice(its, scratch.size - its);
  const MatrixView<T> statistics = matrix_in<T>(place, BatchNormStatistics::kSize, channels);
  const VectorView<T> mean = pass.statistics.slice(mean_, channels),
                      variance = pass.statistics.slice(variance_, channels);
  if (pass.training) {
    batch_norm_statistics<T>(pass.context, shape.positions(), X, kEpsilon, statistics, sums);
    if (!pass.repeated) batch_norm_update_running<T>(pass.context, statistics, kRunningShare, mean, variance);
  } else {
    batch_norm_running<T>(pass.context, mean, variance, kEpsilon, statistics);
  }
  batch_norm_forward<T>(pass.context, shape.positions(), statistics, pass.values(weight_, channels),
                        pass.values(bias_, channels), relu_, X, Y);
}

template <class T>
void BatchNorm<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                            T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  const Shape& shape = this->input();
  const std::int64_t channels = shape.channels;
  const std::int64_t masked = relu_ ? matrix_bytes<T>(shape.size(), X.cols) : 0;
  MatrixView<const T> gradient = dY;
  if (relu_) {
    const MatrixView<T> behind = matrix_in<T>(scratch, shape.size(), X.cols);
    relu_backward<T>(pass.context, Y, dY, T(0), behind);
    gradient = behind;
  }
  batch_norm_backward<T>(pass.context, shape.positions(),
                         matrix_in<const T>(kept, BatchNormStatistics::kSize, channels), pass.values(weight_, channels),
                         X, gradient, pass.training, beta, dX, pass.gradients(weight_, channels),
                         pass.gradients(bias_, channels), scratch.slice(masked, scratch.size - masked));
}

template class LayerNorm<float>;
template class LayerNorm<double>;
template class BatchNorm<float>;
template class BatchNorm<double>;

}  // namespace shrinkwarp
