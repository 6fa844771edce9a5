// Layers as Python runs them: values of their tensors come with each call, and what a backward pass needs is an object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>
#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/python/core/contexts.hpp>

namespace shrinkwarp::python {

/// (N, features) on the CPU.
template <class T>
using Rows = nanobind::ndarray<const T, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;

/// Rows as columns on a context's device: the array's own memory where it lies there, else a copy.
template <class T>
class DeviceColumns {
 public:
  /// @param array  Rows, or a CudaArray on a context on CUDA, whose first axis are the rows  @throws ValueError, DeviceError
  DeviceColumns(const Context& context, const nanobind::object& array);
  MatrixView<const T> view() const { return view_; }

 private:
  nanobind::object array_;
  Tensor<T> copy_;
  MatrixView<const T> view_;
};

/// What makes two passes the same one.
struct PassOptions {
  bool training = false;
  std::uint64_t seed = 0;
  std::int64_t step = 0;
};

/// What a forward pass has left. It belongs to the layers that made it; threads that go back from it take turns.
template <class T>
struct Kept {
  std::int64_t samples = 0;
  PassOptions options;
  Tensor<T> parameters, statistics;
  Tensor<std::int64_t> step;
  std::vector<DeviceColumns<T>> side;
  Tensor<std::byte> memory;
  Tensor<std::int32_t> status;
  mutable std::mutex turn;
  bool used = false;          // by a backward pass
  bool rests = false;         // the velocity of a stage begins as 0
  bool is_beginning = false;  // inverse() has made it: there is no way back from it
  // What came as a CudaArray: where it did, so do results of its kind.
  bool lends_rows = false, lends_values = false;
};

/// A forward pass's results.
template <class T>
struct ForwardResult {
  nanobind::object Y;             // a CudaArray where X is one, else NumPy's
  std::unique_ptr<Kept<T>> kept;  // where it is to be kept
  nanobind::list statistics;      // of a training pass: those of the list's entries, in their order
};

/// One layer, which may be a whole network, and the list of its tensors. Any number of threads may use it.
template <class T>
class Layers {
 public:
  using Stage = std::shared_ptr<const MomentumNet<T>>;

  explicit Layers(Contexts& contexts) : contexts_(contexts) {}
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  ParameterList& list() { return list_; }
  std::vector<Stage>& stages() { return stages_; }
  void set_layer(LayerPointer<T> layer) { layer_ = std::move(layer); }
  /// Makes a momentum stage the only layer.
  void set_stage(Stage stage) {
    stages_ = {stage};
    layer_ = std::move(stage);
  }
  const Layer<T>& layer() const { return *layer_; }

  /// (name, shape, whether an optimizer changes it) of each tensor.
  nanobind::list entries() const;
  /// Values of all tensors before training, in the order of entries().
  nanobind::list initial(std::uint64_t seed) const;
  /// Bytes for activations of a pass: what is kept, and what is needed meanwhile.
  std::pair<std::int64_t, std::int64_t> memory(std::int64_t samples, bool keeps) const;

  // Inputs, values and gradients are Rows or CudaArrays on the layers' device, and results are CudaArrays where X is one,
  // gradients of tensors where their values are.

  /// @param values  of all tensors, in the order of entries()  @param side  other inputs
  ForwardResult<T> forward(const nanobind::object& X, const nanobind::list& values, const nanobind::list& side,
                           bool keeps, const PassOptions& options) const;
  /// The gradients by X (or None), by each tensor (None of statistics) and by each side input (None where not wanted).
  /// @param X, Y  of the forward pass; where the layer is one momentum stage that begins with v = 0 they may be empty
  nanobind::tuple backward(Kept<T>& kept, const nanobind::object& X, const nanobind::object& Y,
                           const nanobind::object& dY, bool wants_dX, const std::vector<bool>& side_wanted) const;

  // Where the layer is a single momentum stage that stores no activations.

  /// The state behind the last layer, from x = X and v = V, which may be None.
  std::unique_ptr<Kept<T>> advance(const nanobind::object& X, const nanobind::object& V, const nanobind::list& values,
                                   const nanobind::list& side, const PassOptions& options) const;
  /// The state that led to `kept`, which stays. @throws ValueError (inverse() has made that), RangeError (it is no state of
  /// these layers)
  std::unique_ptr<Kept<T>> inverse(const Kept<T>& kept) const;
  /// x and v.
  nanobind::tuple values_of(const Kept<T>& kept) const;
  /// The same as 64-bit fixed-point numbers, in exact arithmetic.
  nanobind::tuple fixed_of(const Kept<T>& kept) const;
  /// Of all that leads back, beside x and v.
  std::int64_t buffer_bytes(const Kept<T>& kept) const;

 private:
  std::unique_ptr<Kept<T>> begin(const Context& context, const nanobind::object& X, const nanobind::list& values,
                                 const nanobind::list& side, const PassOptions& options) const;
  Pass<T> pass(const Context& context, const Kept<T>& kept, std::vector<SideInput<T>>& side) const;
  MomentumState<T> state_in(const Kept<T>& kept, VectorView<std::byte> memory) const;
  void pack(const Context& context, const nanobind::list& values, Kept<T>& kept) const;
  /// make(offset, shape) of each tensor that is learned, or of each that is not, and None of the others.
  template <class Make>
  nanobind::list of_entries(bool learned, const Make& make) const;
  nanobind::list unpack(const Context& context, const Tensor<T>& vector, bool learned) const;
  nanobind::list lend(const Context& context, Tensor<T> vector, bool learned) const;
  bool is_stage() const { return stages_.size() == 1 && stages_[0].get() == layer_.get(); }
  const MomentumNet<T>& only_stage() const;
  void require_way_back(const Context& context, const MomentumState<T>& state, bool rests, const char* what) const;

  Contexts& contexts_;
  ParameterList list_;
  std::vector<Stage> stages_;
  LayerPointer<T> layer_;
};

/// A layer whose passes are Python's: an object with forward(X, keeps, repeated) -> Y and backward(dY, wants_dX) -> dX
/// or None, of arrays (N, features): Rows, or CudaArrays on CUDA; X is not to be held beyond the backward pass.
template <class T>
class PythonLayer : public Layer<T> {
 public:
  PythonLayer(std::int64_t features, nanobind::object object) : Layer<T>({features}, {features}), object_(object) {}
  ~PythonLayer() override;
  std::int64_t kept(const Context&, std::int64_t) const override { return 0; }
  std::int64_t scratch(const Context&, std::int64_t, bool) const override { return 0; }
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  nanobind::object object_;
};

}  // namespace shrinkwarp::python
