// What residual networks are made of: layers with a forward and a backward pass, for a batch of samples.
//
// Activations are matrices [features, N] with ld = features, a column a sample; an image's features are its channels, rows and
// columns in C order. A layer keeps nothing itself: its parameters lie in vectors of the whole network, and what its backward pass
// needs of the forward pass in memory of the caller's. So a momentum network can have its branches without keeping any of that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/resnet/parameters.hpp>
#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Of a sample: an image, or as many features as channels.
struct Shape {
  std::int64_t channels = 0, height = 1, width = 1;

  std::int64_t positions() const { return height * width; }
  std::int64_t size() const { return channels * positions(); }
  bool operator==(const Shape& other) const {
    return channels == other.channels && height == other.height && width == other.width;
  }
  bool operator!=(const Shape& other) const { return !(*this == other); }
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << shape.channels;
  return shape.positions() == 1 ? out : out << " x " << shape.height << " x " << shape.width;
}

/// Another input of a network's branches, the same for all layers, and where its gradient is added to.
template <class T>
struct SideInput {
  MatrixView<const T> value;  ///< [its features, N]
  MatrixView<T> gradient;     ///< the same; or empty: not wanted
};

/// What a pass through a network has for all layers.
template <class T>
struct Pass {
  explicit Pass(const Context& context) : context(context) {}

  const Context& context;
  VectorView<const T> parameters;       ///< of the whole network
  VectorView<T> statistics;             ///< of the whole network; a forward pass in training changes them
  VectorView<T> gradient;               ///< by the parameters; a backward pass adds to it
  bool training = false;                ///< normalise by the batch, drop out
  bool keeps = false;                   ///< a backward pass is to follow
  bool repeated = false;                ///< the same pass has been made before: statistics stay
  std::uint64_t seed = 0;               ///< of dropout
  VectorView<const std::int64_t> step;  ///< [1] on the device: which step of a training it is
  const std::vector<SideInput<T>>* side = nullptr;
  VectorView<std::int32_t> status;      ///< one of each momentum stage, see ExactStatus
  const CancelToken* cancel = nullptr;  ///< asked between layers; may be nullptr
  /// That have the other samples of the batch; nullptr: these are all. All make the same passes, with gradients of the mean
  /// over their own samples: those by parameters, times their shares of the batch, add up to the batch's.
  Replicas* replicas = nullptr;
  std::int64_t first_sample = 0;  ///< of these in the whole batch

  VectorView<const T> values(std::int64_t offset, std::int64_t size) const { return parameters.slice(offset, size); }
  MatrixView<const T> matrix(std::int64_t offset, std::int64_t rows, std::int64_t cols) const {
    return {parameters.data + offset, rows, cols, rows, parameters.device};
  }
  VectorView<T> gradients(std::int64_t offset, std::int64_t size) const { return gradient.slice(offset, size); }
  MatrixView<T> gradient_matrix(std::int64_t offset, std::int64_t rows, std::int64_t cols) const {
    return {gradient.data + offset, rows, cols, rows, gradient.device};
  }
};

/// Memory that a layer is lent, aligned to 256.
using Bytes = VectorView<std::byte>;

/// To the next multiple of 256.
constexpr std::int64_t aligned_bytes(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}
/// What a matrix takes, rounded so. @throws OutOfMemory (2^63 bytes or more)
template <class T>
std::int64_t matrix_bytes(std::int64_t rows, std::int64_t cols) {
  Arena counting(Device{});
  counting.matrix<T>(rows, cols);
  return counting.used();
}
/// What lies at the beginning of lent memory.
template <class T>
MatrixView<T> matrix_in(Bytes bytes, std::int64_t rows, std::int64_t cols) {
  return {reinterpret_cast<T*>(bytes.data), rows, cols, rows, bytes.device};
}

/// Move-only in effect: layers are made once and shared by networks.
template <class T>
class Layer {
 public:
  Layer(const Shape& input, const Shape& output) : input_(input), output_(output) {}
  virtual ~Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  const Shape& input() const { return input_; }
  const Shape& output() const { return output_; }

  /// Bytes, multiples of 256, that a forward pass leaves for the backward pass of `samples` samples.
  virtual std::int64_t kept(const Context& context, std::int64_t samples) const = 0;
  /// Bytes, multiples of 256, that a pass needs while it runs, a backward pass too where `keeps`.
  virtual std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const = 0;

  /// @param X     [input().size(), N]  @param Y  [output().size(), N], written; does not overlap X
  /// @param kept  kept() bytes where pass.keeps, else not touched
  ///
  /// Queued on the context's stream; allocates nothing, waits for nothing, unless it asks replicas (asks_replicas). On the CPU
  /// the bits do not depend on its threads. @throws what kernels and replicas throw
  virtual void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                       Bytes scratch) const = 0;
  /// The same but for the last addition, that of last_bias() to each column, which is left to the caller.
  virtual void forward_unbiased(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                                Bytes scratch) const {
    forward(pass, X, Y, kept, scratch);
  }
  /// [output().size()]; or empty: nothing is left.
  virtual VectorView<const T> last_bias(const Pass<T>&) const { return {}; }
  /// Fewest samples that a pass of training takes.
  virtual std::int64_t least_samples() const { return 1; }
  /// Whether passes of training that have replicas ask them. Such a pass waits for the stream and for the others, allocates
  /// on the host, cannot be recorded as a graph and cannot be cancelled, for all have to come to its end.
  virtual bool asks_replicas() const { return false; }
  /// Whether backward() reads Y; if not, it may be empty there.
  virtual bool reads_output() const { return false; }
  /// dX <- beta dX + J'dY, and the gradient by the parameters is added to pass.gradient.
  ///
  /// @param X, Y  of the forward pass; Y may be what forward_unbiased has given  @param dY  read only
  /// @param kept  what the forward pass has left; used up, so that one forward pass has one backward pass
  /// @param beta  0 (dX is not read) or 1  @param dX  [input().size(), N]; or empty: not wanted
  virtual void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY,
                        T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const = 0;

 private:
  Shape input_, output_;
};

}  // namespace shrinkwarp
