#include <shrinkwarp/models/resnet/sequential.hpp>

#include <algorithm>

namespace shrinkwarp {

/// Where the activations between layers lie, what each layer keeps, and what is shared.
template <class T>
struct Sequential<T>::Layout {
  std::vector<MatrixView<T>> between;  // [layers - 1]
  std::vector<Bytes> kept;             // [layers], where something is kept
  MatrixView<T> gradients[2];          // for the way back
  Bytes scratch;                       // of one layer at a time
};

template <class T>
Sequential<T>::Sequential(std::vector<LayerPointer<T>> layers)
    : Layer<T>(layers.empty() ? Shape{} : layers.front()->input(), layers.empty() ? Shape{} : layers.back()->output()),
      layers_(std::move(layers)) {
  SHRINKWARP_REQUIRE(!layers_.empty(), ValueError, "Sequential: found no layers, wanted at least one");
  for (std::size_t i = 1; i < layers_.size(); ++i) {
    SHRINKWARP_REQUIRE(layers_[i]->input() == layers_[i - 1]->output(), ShapeError, "Sequential: layer ", i + 1,
                       " takes ", layers_[i]->input(), ", but the one before it gives ", layers_[i - 1]->output());
  }
}

template <class T>
std::int64_t Sequential<T>::widest() const {
  std::int64_t widest = 0;
  for (std::size_t i = 0; i + 1 < layers_.size(); ++i) widest = std::max(widest, layers_[i]->output().size());
  return widest;
}

template <class T>
typename Sequential<T>::Layout Sequential<T>::layout(Arena& kept, Arena& scratch, const Context& context,
                                                     std::int64_t samples, bool keeps) const {
  Layout layout;
  MatrixView<T> turns[2];
  if (!keeps)
    for (MatrixView<T>& turn : turns) turn = scratch.matrix<T>(layers_.size() > 1 ? widest() : 0, samples);
  std::int64_t most = 0;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer<T>& layer = *layers_[i];
    const std::int64_t size = layer.output().size();
    if (keeps) layout.kept.push_back(kept.vector<std::byte>(layer.kept(context, samples)));
    if (i + 1 < layers_.size()) {
      layout.between.push_back(keeps ? kept.matrix<T>(size, samples)
                                     : MatrixView<T>{turns[i % 2].data, size, samples, size, turns[i % 2].device});
    }
    most = std::max(most, layer.scratch(context, samples, keeps));
  }
  if (keeps && layers_.size() > 1)
    for (MatrixView<T>& gradient : layout.gradients) gradient = scratch.matrix<T>(widest(), samples);
  layout.scratch = scratch.vector<std::byte>(most);
  return layout;
}

template <class T>
std::int64_t Sequential<T>::kept(const Context& context, std::int64_t samples) const {
  Arena kept(context.device()), scratch(context.device());
  layout(kept, scratch, context, samples, true);
  return kept.used();
}

template <class T>
std::int64_t Sequential<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  Arena kept(context.device()), scratch(context.device());
  layout(kept, scratch, context, samples, keeps);
  return scratch.used();
}

template <class T>
void Sequential<T>::run(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch,
                        bool biased) const {
  Arena kept_arena(pass.keeps ? kept : Bytes{nullptr, 0, pass.context.device()}), scratch_arena(scratch);
  const Layout lies = layout(kept_arena, scratch_arena, pass.context, X.cols, pass.keeps);
  MatrixView<const T> input = X;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const bool last = i + 1 == layers_.size();
    if (pass.cancel != nullptr && pass.cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "Sequential: cancelled at layer ", i + 1);
    const MatrixView<T> output = last ? Y : lies.between[i];
    const Bytes its = pass.keeps ? lies.kept[i] : Bytes{};
    if (last && !biased)
      layers_[i]->forward_unbiased(pass, input, output, its, lies.scratch);
    else
      layers_[i]->forward(pass, input, output, its, lies.scratch);
    input = output;
  }
}

template <class T>
void Sequential<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                            Bytes scratch) const {
  run(pass, X, Y, kept, scratch, true);
}

template <class T>
void Sequential<T>::forward_unbiased(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                                     Bytes scratch) const {
  run(pass, X, Y, kept, scratch, false);
}

template <class T>
VectorView<const T> Sequential<T>::last_bias(const Pass<T>& pass) const {
  return layers_.back()->last_bias(pass);
}

template <class T>
void Sequential<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                             T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  Arena kept_arena(kept), scratch_arena(scratch);
  const Layout lies = layout(kept_arena, scratch_arena, pass.context, X.cols, true);
  MatrixView<const T> gradient = dY;
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const MatrixView<const T> input = i == 0 ? X : lies.between[i - 1];
    const MatrixView<const T> output = i + 1 == layers_.size() ? Y : lies.between[i];
    if (i == 0) {
      layers_[i]->backward(pass, input, output, gradient, beta, dX, lies.kept[i], lies.scratch);
      return;
    }
    const MatrixView<T>& place = lies.gradients[i % 2];
    const MatrixView<T> to_input{place.data, input.rows, input.cols, input.rows, place.device};
    layers_[i]->backward(pass, input, output, gradient, T(0), to_input, lies.kept[i], lies.scratch);
    gradient = to_input;
  }
}

template class Sequential<float>;
template class Sequential<double>;

}  // namespace shrinkwarp
