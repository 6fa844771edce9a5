// Internal to training: what the ways to train share.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <shrinkwarp/models/lista/mean_cost.hpp>
#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/training.hpp>

namespace shrinkwarp {

/// The parameters that were best on the validation samples.
template <class T>
class BestParameters {
 public:
  /// Begins with the network as it is, at its full depth. @throws Cancelled: there is nothing to keep yet
  BestParameters(const Context& context, Network<T>& network, const MeanCost<T>& judge, std::int64_t patience,
                 const CancelToken* cancel)
      : context_(context),
        judge_(judge),
        patience_(patience),
        parameters_(network.to_host(context)),
        validation_(judge(network, cancel)) {}

  /// Judges the network, which is at its full depth. @return its validation cost
  double look_at(const Network<T>& network) {
    const double cost = judge_(network);
    if (cost < validation_ || std::isnan(validation_)) {
      validation_ = cost;
      parameters_ = network.to_host(context_);
      stale_ = 0;
    } else {
      ++stale_;
    }
    return cost;
  }
  /// Judges a start of the last depth, at its full depth too, which patience does not count.
  void consider(const Network<T>& network) {
    look_at(network);
    stale_ = 0;
  }
  bool is_stale() const { return patience_ > 0 && stale_ >= patience_; }
  double validation() const { return validation_; }
  const std::vector<T>& parameters() const { return parameters_; }

  void save(Safetensors& file) const {
    file.add("best.parameters", {static_cast<std::int64_t>(parameters_.size())}, parameters_);
    file.add("best.validation", {1}, std::vector<double>{validation_});
    file.add("best.stale", {1}, std::vector<std::int64_t>{stale_});
  }
  void load(const Safetensors& file) {
    parameters_ = file.values<T>("best.parameters", {static_cast<std::int64_t>(parameters_.size())});
    validation_ = file.values<double>("best.validation", {1})[0];
    stale_ = file.values<std::int64_t>("best.stale", {1})[0];
  }

 private:
  const Context& context_;
  const MeanCost<T>& judge_;
  std::int64_t patience_;
  std::vector<T> parameters_;
  double validation_ = 0;
  std::int64_t stale_ = 0;
};

/// One training, as train() hands it on.
template <class T>
struct TrainingRun {
  const Context& context;
  Network<T>& network;
  const Samples<T>& samples;
  const MeanCost<T>& judge;
  const TrainingOptions& options;
  const TrainingStore& store;
  const std::function<void(const TrainingEvent&)>& event;
  const CancelToken* cancel;
  BestParameters<T>& best;

  std::int64_t layers() const { return network.spec().layers; }
  bool is_layerwise() const { return options.layerwise.value_or(has_scalar_layers(network.spec().kind)); }
  std::int64_t first_depth() const { return is_layerwise() ? 1 : layers(); }
  /// Whether this training has been, or any replica's.
  bool is_cancelled() const {
    if (options.replicas != nullptr) return options.replicas->any_cancelled(cancel);
    return cancel != nullptr && cancel->cancelled();
  }
  /// The layers trained so far with those to come as they began may be better than what those learn.
  void consider_as_it_is() const {
    network.set_depth(layers());
    best.consider(network);
  }
};

/// "1 layer", "2 layers"
inline std::string layers_text(std::int64_t depth) {
  return std::to_string(depth) + (depth == 1 ? " layer" : " layers");
}

}  // namespace shrinkwarp
