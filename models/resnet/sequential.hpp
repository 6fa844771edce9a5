// Layers one after another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

template <class T>
using LayerPointer = std::shared_ptr<const Layer<T>>;

/// Fewest samples that all of them take in training.
template <class T>
std::int64_t least_samples_of(const std::vector<LayerPointer<T>>& layers) {
  std::int64_t least = 1;
  for (const LayerPointer<T>& layer : layers) least = std::max(least, layer->least_samples());
  return least;
}

/// Whether one of them asks replicas.
template <class T>
bool any_asks_replicas(const std::vector<LayerPointer<T>>& layers) {
  return std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return layer->asks_replicas(); });
}

/// At least one layer, each with the shape that the one before it gives. A pass that keeps nothing has two activations at a time.
/// A forward pass that is cancelled ends between two layers. @throws Cancelled
template <class T>
class Sequential : public Layer<T> {
 public:
  /// @throws ValueError (no layers), ShapeError (shapes that do not fit; names the layers)
  explicit Sequential(std::vector<LayerPointer<T>> layers);

  const std::vector<LayerPointer<T>>& layers() const { return layers_; }

  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  std::int64_t least_samples() const override { return least_samples_of<T>(layers_); }
  bool asks_replicas() const override { return any_asks_replicas<T>(layers_); }
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void forward_unbiased(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                        Bytes scratch) const override;
  VectorView<const T> last_bias(const Pass<T>& pass) const override;
  bool reads_output() const override { return layers_.back()->reads_output(); }
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  struct Layout;
  Layout layout(Arena& kept, Arena& scratch, const Context& context, std::int64_t samples, bool keeps) const;
  void run(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch, bool biased) const;
  std::int64_t widest() const;

  std::vector<LayerPointer<T>> layers_;
};

}  // namespace shrinkwarp
