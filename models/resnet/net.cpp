#include <shrinkwarp/models/resnet/net.hpp>

#include <algorithm>
#include <array>

#include <shrinkwarp/models/resnet/dropout.hpp>
#include <shrinkwarp/models/resnet/image_layers.hpp>
#include <shrinkwarp/models/resnet/linear.hpp>
#include <shrinkwarp/models/resnet/norms.hpp>
#include <shrinkwarp/models/resnet/residual.hpp>
#include <shrinkwarp/models/resnet/torchvision.hpp>

namespace shrinkwarp {
namespace {

template <class T>
using Stages = std::vector<std::shared_ptr<const MomentumNet<T>>>;

/// Makes the layers of a network in the order of their tensors.
template <class T>
class Maker {
 public:
  Maker(const NetSpec& spec, ParameterList& list, Stages<T>& stages) : spec_(spec), list_(list), stages_(stages) {}

  std::unique_ptr<Sequential<T>> make() {
    if (spec_.architecture == "mlp")
      make_mlp();
    else
      make_resnet(resnet_layout(spec_.architecture));
    return std::make_unique<Sequential<T>>(std::move(layers_));
  }
  std::shared_ptr<const MomentumNet<T>> make_stage() {
    make_blocks();
    return stages_.front();
  }

 private:
  void make_mlp() {
    Shape features{spec_.input.size()};
    if (features.channels != spec_.width)
      layers_.push_back(std::make_shared<Linear<T>>(list_, "stem", features.channels, spec_.width, Activation::none));
    make_blocks();
    layers_.push_back(std::make_shared<Linear<T>>(list_, "head", spec_.width, spec_.classes, Activation::none));
  }

  void make_blocks() {
    const LayerPointer<T> initial =
        spec_.momentum && spec_.initial_velocity ? make_branch("initial_velocity") : LayerPointer<T>();
    std::vector<LayerPointer<T>> branches;
    for (std::int64_t t = 0; t < spec_.blocks; ++t) branches.push_back(make_branch("blocks." + std::to_string(t)));
    if (spec_.momentum)
      add_momentum("momentum", std::move(branches), false, initial);
    else
      layers_.push_back(std::make_shared<ResidualStage<T>>(std::move(branches)));
  }

  LayerPointer<T> make_branch(const std::string& name) {
    std::vector<LayerPointer<T>> layers;
    if (spec_.normalisation == Normalisation::layer)
      layers.push_back(std::make_shared<LayerNorm<T>>(list_, name + ".norm", spec_.width));
    if (spec_.normalisation == Normalisation::batch)
      layers.push_back(std::make_shared<BatchNorm<T>>(list_, name + ".norm", Shape{spec_.width}));
    layers.push_back(
        std::make_shared<Linear<T>>(list_, name + ".linear1", spec_.width, spec_.hidden, spec_.activation));
    if (spec_.dropout > 0)
      layers.push_back(std::make_shared<Dropout<T>>(Shape{spec_.hidden}, spec_.dropout, ++dropouts_));
    layers.push_back(
        std::make_shared<Linear<T>>(list_, name + ".linear2", spec_.hidden, spec_.width, Activation::none));
    return std::make_shared<Sequential<T>>(std::move(layers));
  }

  void make_resnet(const ResnetLayout& layout) {
    layers_.push_back(std::make_shared<Convolution<T>>(list_, "conv1", spec_.input, 64, 7, 2, 3));
    layers_.push_back(std::make_shared<BatchNorm<T>>(list_, "bn1", layers_.back()->output(), true));
    layers_.push_back(std::make_shared<MaxPool<T>>(layers_.back()->output(), 3, 2, 1));
    for (std::size_t i = 0; i < layout.blocks.size(); ++i) {
      const std::string name = "layer" + std::to_string(i + 1);
      const std::int64_t channels = std::int64_t{64} << i;
      std::vector<LayerPointer<T>> blocks;
      for (std::int64_t t = 0; t < layout.blocks[i]; ++t) {
        const Shape& shape = blocks.empty() ? layers_.back()->output() : blocks.back()->output();
        const std::string block = name + "." + std::to_string(t);
        const std::int64_t stride = t == 0 && i > 0 ? 2 : 1;
        blocks.push_back(layout.bottleneck ? make_bottleneck<T>(list_, block, shape, channels, stride)
                                           : make_basic_block<T>(list_, block, shape, channels, stride));
      }
      layers_.push_back(blocks.front());
      if (spec_.momentum && blocks.size() > 1)
        add_momentum(name + ".momentum", {blocks.begin() + 1, blocks.end()}, true, nullptr);
      else
        layers_.insert(layers_.end(), blocks.begin() + 1, blocks.end());
    }
    layers_.push_back(std::make_shared<AveragePool<T>>(layers_.back()->output()));
    layers_.push_back(
        std::make_shared<Linear<T>>(list_, "fc", layers_.back()->output().channels, spec_.classes, Activation::none));
  }

  void add_momentum(const std::string& name, std::vector<LayerPointer<T>> branches, bool whole,
                    const LayerPointer<T>& initial) {
    MomentumSpec momentum = *spec_.momentum;
    momentum.whole = whole;
    const auto stage = std::make_shared<MomentumNet<T>>(list_, name, std::move(branches), momentum,
                                                        static_cast<std::int64_t>(stages_.size()), initial);
    stages_.push_back(stage);
    layers_.push_back(stage);
  }

  const NetSpec& spec_;
  ParameterList& list_;
  Stages<T>& stages_;
  std::vector<LayerPointer<T>> layers_;
  std::uint32_t dropouts_ = 0;
};

void check(const NetSpec& spec) {
  SHRINKWARP_REQUIRE(spec.input.channels > 0 && spec.input.height > 0 && spec.input.width > 0 && spec.classes > 0,
                     ValueError, "Net: found an input of ", spec.input, " and ", spec.classes,
                     " classes, wanted all sizes over 0");
  if (spec.architecture != "mlp") return;
  SHRINKWARP_REQUIRE(spec.dropout >= 0 && spec.dropout < 1, ValueError, "Net: found a dropout of ", spec.dropout,
                     ", wanted at least 0 and less than 1");
  SHRINKWARP_REQUIRE(spec.blocks > 0 && spec.width > 0 && spec.hidden > 0, ValueError, "Net: found ", spec.blocks,
                     " blocks of width ", spec.width, " with ", spec.hidden, " hidden features, wanted all over 0");
}

}  // namespace

template <class T>
std::unique_ptr<Sequential<T>> make_layers(const NetSpec& spec, ParameterList& list, Stages<T>& stages) {
  check(spec);
  return Maker<T>(spec, list, stages).make();
}

template <class T>
std::shared_ptr<const MomentumNet<T>> make_mlp_stage(const NetSpec& spec, ParameterList& list) {
  check(spec);
  SHRINKWARP_REQUIRE(spec.momentum && spec.architecture == "mlp", ValueError,
                     "make_mlp_stage: found a network without momentum or no mlp, wanted an mlp with it");
  Stages<T> stages;
  return Maker<T>(spec, list, stages).make_stage();
}

template <class T>
Net<T>::Net(const Context& context, const NetSpec& spec, std::uint64_t seed)
    : spec_(spec),
      layers_(make_layers<T>(spec_, list_, stages_)),
      values_(context, list_, seed),
      status_(context, static_cast<std::int64_t>(stages_.size())) {
  clear_status(context, status_.vector());
}

template <class T>
Pass<T> Net<T>::pass(const Context& context) const {
  Pass<T> pass(context);
  pass.parameters = values_.parameters();
  pass.statistics = values_.statistics();
  pass.status = status_.vector();
  return pass;
}

template <class T>
typename Net<T>::Memory Net<T>::memory(const Context& context, std::int64_t samples, bool keeps) const {
  return {keeps ? layers_->kept(context, samples) : 0, layers_->scratch(context, samples, keeps)};
}

template <class T>
void Net<T>::save(const Context& context, Safetensors& file) const {
  values_.save(context, list_, file);
}

template <class T>
void Net<T>::load(const Context& context, const Safetensors& file, const std::set<std::string>& stay) {
  values_.load(context, list_, file, [&](const ParameterList::Entry& entry) {
    constexpr std::string_view kGamma = ".gamma";
    const std::string& name = entry.name;
    if (stay.count(name) > 0) return true;
    const bool gamma =
        name.size() > kGamma.size() && name.compare(name.size() - kGamma.size(), kGamma.size(), kGamma) == 0;
    if (!gamma || file.tensors().count(name) == 0) return gamma;
    if (entry.learned) return false;
    // What buffers have room for.
    const std::vector<float> found = file.values<float>(name, entry.shape);
    for (std::size_t t = 0; t < found.size(); ++t) {
      const auto wanted = static_cast<float>(entry.initial.values[t]);
      SHRINKWARP_REQUIRE(found[t] == wanted, ValueError, file.path(), ": element ", t, " of the tensor '", name,
                         "' is ", found[t], ", wanted ", wanted, ", the gamma of the network that takes it");
    }
    return true;
  });
}

template <class T>
void Net<T>::require_all_well(const Context& context, const std::string& what) const {
  if (stages_.empty()) return;
  try {
    shrinkwarp::require_all_well(context, status_.vector(), what);
  } catch (const RangeError&) {
    clear_status(context, status_.vector());
    throw;
  }
}

template <class T>
std::unique_ptr<Net<T>> to_momentum(const Context& context, const Net<T>& net, const MomentumSpec& momentum) {
  SHRINKWARP_REQUIRE(!net.spec().momentum, ValueError,
                     "to_momentum: found a network with momentum, wanted a residual one");
  NetSpec spec = net.spec();
  spec.momentum = momentum;
  spec.initial_velocity = false;  // there are no weights for one
  auto result = std::make_unique<Net<T>>(context, spec, 0);
  Safetensors weights;
  net.save(context, weights);
  result->load(context, weights);
  return result;
}

#define SHRINKWARP_INSTANTIATE(T)                                                                     \
  template std::unique_ptr<Sequential<T>> make_layers<T>(const NetSpec&, ParameterList&, Stages<T>&); \
  template std::shared_ptr<const MomentumNet<T>> make_mlp_stage<T>(const NetSpec&, ParameterList&);   \
  template class Net<T>;                                                                              \
  template std::unique_ptr<Net<T>> to_momentum<T>(const Context&, const Net<T>&, const MomentumSpec&);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
