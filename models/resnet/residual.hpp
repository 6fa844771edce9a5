// Residual networks with stored activations: what momentum networks are made of and compared with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/models/resnet/layer.hpp>
#include <shrinkwarp/models/resnet/sequential.hpp>

namespace shrinkwarp {

/// A block of torchvision's ResNets: relu(body(x) + shortcut(x)), with x itself where there is no shortcut.
template <class T>
class ResidualBlock : public Layer<T> {
 public:
  /// @param shortcut  of the body's shapes, or nullptr  @throws ShapeError (inputs or outputs that differ)
  ResidualBlock(LayerPointer<T> body, LayerPointer<T> shortcut);

  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  std::int64_t least_samples() const override {
    return std::max(body_->least_samples(), shortcut_ ? shortcut_->least_samples() : 1);
  }
  bool asks_replicas() const override { return body_->asks_replicas() || (shortcut_ && shortcut_->asks_replicas()); }
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  bool reads_output() const override { return true; }
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  struct Kept;
  struct Work;
  Kept lay_out_kept(Arena& arena, const Context& context, std::int64_t samples) const;
  Work lay_out_work(Arena& arena, const Context& context, std::int64_t samples, bool keeps) const;

  LayerPointer<T> body_, shortcut_;
};

/// torchvision's BasicBlock: two convolutions of 3 x 3. Tensors NAME.conv1.weight, NAME.bn1..., NAME.downsample.0 and .1 where
/// stride or channels change.
template <class T>
LayerPointer<T> make_basic_block(ParameterList& list, const std::string& name, const Shape& input,
                                 std::int64_t channels, std::int64_t stride);
/// torchvision's Bottleneck: 1 x 1 to `channels`, 3 x 3, 1 x 1 to four times as many; the stride is the second one's.
template <class T>
LayerPointer<T> make_bottleneck(ParameterList& list, const std::string& name, const Shape& input, std::int64_t channels,
                                std::int64_t stride);

/// x <- x + f_t(x) for t = 1 ... T.
template <class T>
class ResidualStage : public Layer<T> {
 public:
  /// @throws ValueError (no branches), ShapeError (shapes that differ)
  explicit ResidualStage(std::vector<LayerPointer<T>> branches);

  const std::vector<LayerPointer<T>>& branches() const { return branches_; }

  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  std::int64_t least_samples() const override { return least_samples_of<T>(branches_); }
  bool asks_replicas() const override { return any_asks_replicas<T>(branches_); }
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  struct Kept;
  struct Work;
  Kept lay_out_kept(Arena& arena, const Context& context, std::int64_t samples) const;
  Work lay_out_work(Arena& arena, const Context& context, std::int64_t samples, bool keeps) const;

  std::vector<LayerPointer<T>> branches_;
};

}  // namespace shrinkwarp
