// Classifiers of residual layers, with stored activations or with momentum: what they are, and what holds their parameters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>
#include <shrinkwarp/models/resnet/parameters.hpp>
#include <shrinkwarp/models/resnet/sequential.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {

enum class Normalisation { none, layer, batch };

/// What a network is, but for its parameters.
struct NetSpec {
  /// "mlp": a linear layer to `width` features unless the samples have as many, `blocks` residual branches
  /// W2 act(W1 x + b1) + b2, a linear layer to the classes. "resnet18", "resnet34", "resnet50", "resnet101", "resnet152":
  /// torchvision's.
  std::string architecture = "mlp";
  Shape input;
  std::int64_t classes = 0;

  // Of mlp.
  std::int64_t blocks = 4, width = 64, hidden = 64;
  Activation activation = Activation::tanh;
  Normalisation normalisation = Normalisation::none;  ///< of a branch's input
  double dropout = 0;                                 ///< of a branch's hidden features
  bool initial_velocity = false;                      ///< v begins as a branch of its own, not as 0; with momentum

  /// The residual blocks as momentum networks; of a resnet those behind the first of each stage.
  std::optional<MomentumSpec> momentum;
};

/// The layers of a network without parameters, in the order of their tensors.
/// @param list  gets the tensors  @param stages  gets the momentum stages, from the input on
/// @throws ValueError (an architecture that is none, sizes), ShapeError (images that are too small)
template <class T>
std::unique_ptr<Sequential<T>> make_layers(const NetSpec& spec, ParameterList& list,
                                           std::vector<std::shared_ptr<const MomentumNet<T>>>& stages);

/// The momentum stage of an mlp alone, of `width` features each way, where that is all there is.
/// @throws ValueError (no momentum, sizes)
template <class T>
std::shared_ptr<const MomentumNet<T>> make_mlp_stage(const NetSpec& spec, ParameterList& list);

/// A network and its parameters on a device; T is float or double.
template <class T>
class Net {
 public:
  /// Untrained. @throws as make_layers, OutOfMemory
  Net(const Context& context, const NetSpec& spec, std::uint64_t seed);

  const NetSpec& spec() const { return spec_; }
  const ParameterList& list() const { return list_; }
  const Sequential<T>& layers() const { return *layers_; }
  /// Its momentum stages, from the input on.
  const std::vector<std::shared_ptr<const MomentumNet<T>>>& stages() const { return stages_; }
  const ParameterValues<T>& values() const { return values_; }

  /// A pass with the network's parameters and statuses, by default one of evaluation.
  Pass<T> pass(const Context& context) const;
  /// Bytes that a pass of `samples` samples has for activations: what is kept, and what is needed meanwhile.
  struct Memory {
    std::int64_t kept = 0, scratch = 0;
    std::int64_t total() const { return kept + scratch; }
  };
  Memory memory(const Context& context, std::int64_t samples, bool keeps) const;

  /// All tensors. Synchronises.
  void save(const Context& context, Safetensors& file) const;
  /// Takes the tensors of a file that holds them all; gammas alone may be missing, and are those of spec() unless learned.
  /// @param stay  names of tensors that keep their values, whatever the file has
  /// Synchronises. @throws ValueError, ShapeError (naming file and tensor)
  void load(const Context& context, const Safetensors& file, const std::set<std::string>& stay = {});

  /// @param what  begins the message
  /// @throws RangeError naming the layer where exact arithmetic has failed since the last call. Synchronises
  void require_all_well(const Context& context, const std::string& what = "exact arithmetic") const;

 private:
  NetSpec spec_;
  ParameterList list_;
  std::vector<std::shared_ptr<const MomentumNet<T>>> stages_;
  std::unique_ptr<Sequential<T>> layers_;
  ParameterValues<T> values_;
  Tensor<std::int32_t> status_;
};

/// The same network with its residual blocks as momentum networks and all its weights, as momentumnet's
/// transform_to_momentumnet makes it; v begins as 0. Synchronises. @throws ValueError (one that has momentum already), as Net
template <class T>
std::unique_ptr<Net<T>> to_momentum(const Context& context, const Net<T>& net, const MomentumSpec& momentum);

}  // namespace shrinkwarp
