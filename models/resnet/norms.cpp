#include <shrinkwarp/models/resnet/norms.hpp>

#include <vector>

#include <shrinkwarp/kernels/batch_norm/batch_norm.hpp>
#include <shrinkwarp/kernels/elementwise/elementwise.hpp>
#include <shrinkwarp/kernels/layer_norm/layer_norm.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

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
struct BatchNorm<T>::Work {
  MatrixView<T> statistics;  // of a pass that keeps nothing
  MatrixView<T> masked;      // of a way back: the gradient behind the ReLU
  VectorView<T> shift;       // with replicas
  VectorView<double> sums;   // the same
  Bytes rest;                // of sums
};

template <class T>
typename BatchNorm<T>::Work BatchNorm<T>::lay_out(Arena& arena, const Context& context, std::int64_t samples,
                                                  bool keeps) const {
  const Shape& shape = this->input();
  Work work;
  if (!keeps) work.statistics = arena.matrix<T>(BatchNormStatistics::kSize, shape.channels);
  if (keeps && relu_) work.masked = arena.matrix<T>(shape.size(), samples);
  work.shift = arena.vector<T>(shape.channels);
  work.sums = arena.vector<double>(2 * shape.channels);
  work.rest = arena.vector<std::byte>(batch_norm_scratch(context, shape.channels, shape.positions(), samples));
  return work;
}

template <class T>
std::int64_t BatchNorm<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  Arena arena(context.device());
  lay_out(arena, context, samples, keeps);
  return arena.used();
}

template <class T>
void BatchNorm<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                           Bytes scratch) const {
  const Shape& shape = this->input();
  const std::int64_t channels = shape.channels;
  Arena arena(scratch);
  const Work work = lay_out(arena, pass.context, X.cols, pass.keeps);
  const MatrixView<T> statistics =
      pass.keeps ? matrix_in<T>(kept, BatchNormStatistics::kSize, channels) : work.statistics;
  const VectorView<T> mean = pass.statistics.slice(mean_, channels),
                      variance = pass.statistics.slice(variance_, channels);
  if (pass.training) {
    if (pass.replicas != nullptr)
      find_shared_statistics(pass, X, statistics, work);
    else
      batch_norm_statistics<T>(pass.context, shape.positions(), X, kEpsilon, statistics, work.rest);
    if (!pass.repeated) batch_norm_update_running<T>(pass.context, statistics, kRunningShare, mean, variance);
  } else {
    batch_norm_running<T>(pass.context, mean, variance, kEpsilon, statistics);
  }
  batch_norm_forward<T>(pass.context, shape.positions(), statistics, pass.values(weight_, channels),
                        pass.values(bias_, channels), relu_, X, Y);
}

/// The batch's first elements are the first replica's, whatever the number of replicas.
template <class T>
void BatchNorm<T>::find_shared_statistics(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> statistics,
                                          const Work& work) const {
  const Context& context = pass.context;
  Replicas& replicas = *pass.replicas;
  const std::int64_t channels = this->input().channels, positions = this->input().positions();
  SHRINKWARP_REQUIRE(
      pass.cancel == nullptr, ValueError,
      "BatchNorm: found a pass with replicas that may be cancelled, wanted one that all of them come to the "
      "end of");
  std::vector<T> shift(static_cast<std::size_t>(channels));
  if (replicas.first()) {
    copy<T>(context, MatrixView<const T>{X.data, 1, channels, positions, X.device},
            MatrixView<T>{shift.data(), 1, channels, 1, {}});
    context.synchronize();
  }
  replicas.add(replicas.first() ? 1 : 0, shift.data(), channels);
  to_device<T>(context, shift, work.shift);
  batch_norm_sums<T>(context, positions, X, work.shift, work.sums, work.rest);

  std::vector<double> sums = on_host(context, work.sums);
  sums.push_back(static_cast<double>(X.cols));
  replicas.add(1, sums.data(), static_cast<std::int64_t>(sums.size()));
  const auto batch = static_cast<std::int64_t>(sums.back());
  sums.pop_back();
  to_device<double>(context, sums, work.sums);
  batch_norm_set_statistics<T>(context, work.shift, work.sums, positions * batch, kEpsilon, statistics);
}

template <class T>
void BatchNorm<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                            T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  const std::int64_t channels = this->input().channels, positions = this->input().positions();
  Arena arena(scratch);
  const Work work = lay_out(arena, pass.context, X.cols, true);
  MatrixView<const T> gradient = dY;
  if (relu_) {
    relu_backward<T>(pass.context, Y, dY, T(0), work.masked);
    gradient = work.masked;
  }
  const auto statistics = matrix_in<const T>(kept, BatchNormStatistics::kSize, channels);
  const VectorView<const T> weight = pass.values(weight_, channels);
  const VectorView<T> dweight = pass.gradients(weight_, channels), dbias = pass.gradients(bias_, channels);
  if (pass.replicas == nullptr || !pass.training) {
    batch_norm_backward<T>(pass.context, positions, statistics, weight, X, gradient, pass.training, beta, dX, dweight,
                           dbias, work.rest);
    return;
  }
  batch_norm_gradient_sums<T>(pass.context, positions, statistics, X, gradient, work.sums, dweight, dbias, work.rest);
  if (dX.empty()) return;
  // Replica r has N_r of the batch's M samples, and its gradients are of L_r, the mean over these. The batch's mean is the
  // sum of (N_r / M) L_r, by whose outputs the gradient is (N_r / M) dY_r; S and P of that are the sums over q of
  // (N_q / M) S_q and (N_q / M) P_q. By X_r it is weight rstd ((N_r / M) dY_r - (S + xhat P) / (positions M)); times
  // M / N_r, as what comes before this layer wants it, weight rstd (dY_r - (S + xhat P) / (positions N_r)).
  std::vector<double> sums = on_host(pass.context, work.sums);
  sums.push_back(1);
  pass.replicas->add(static_cast<double>(X.cols), sums.data(), static_cast<std::int64_t>(sums.size()));
  const double batch = sums.back();
  sums.pop_back();
  for (double& sum : sums) sum /= batch;
  to_device<double>(pass.context, sums, work.sums);
  batch_norm_input_gradient<T>(pass.context, positions, statistics, weight, X, gradient, work.sums, beta, dX);
}

template class LayerNorm<float>;
template class LayerNorm<double>;
template class BatchNorm<float>;
template class BatchNorm<double>;

}  // namespace shrinkwarp
