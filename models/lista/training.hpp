// Training of a network on the mean Lasso cost: no labels, no codes of a solver.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/rate_schedule.hpp>
#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/models/train/training_store.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/progress.hpp>

namespace shrinkwarp {

enum class Optimizer {
  automatic,    ///< lbfgs for networks with scalar layers, else adam
  adam,         ///< on batches
  sgd,          ///< on batches, with momentum
  line_search,  ///< gradient descent on all samples (Ablin, Moreau, Massias, Gramfort 2019)
  lbfgs,        ///< on all samples
};

/// What automatic stands for; the others for themselves.
Optimizer resolved(Optimizer optimizer, NetworkKind kind);
/// Whether it sees all samples in each iteration, and so has no batches, rates or schedule. @param optimizer  resolved
constexpr bool sees_all(Optimizer optimizer) {
  return optimizer == Optimizer::line_search || optimizer == Optimizer::lbfgs;
}

struct TrainingOptions {
  LambdaShares lambda;
  Optimizer optimizer = Optimizer::automatic;
  /// Networks of 1, 2, ... layers first, each from the one before it, or all layers at once; unset takes the first for networks
  /// with scalar layers.
  std::optional<bool> layerwise;
  std::int64_t epochs =
      0;  ///< passes over the samples of the whole network, iterations of those that see all; 0 takes a default
  std::int64_t batch = 256;  ///< samples of a batch of adam and sgd
  double rate =
      0;  ///< of adam and sgd at the start; 0 takes a default: 1e-3 and 1e-2, of adam less for more than 5 layers
  RateSchedule schedule = RateSchedule::cosine;
  double momentum = 0.9;                                  ///< of sgd
  double weight_decay = 0;                                ///< of adam (decoupled) and sgd
  double clip = std::numeric_limits<double>::infinity();  ///< largest norm of a batch's gradient
  std::int64_t patience = 0;     ///< validations without progress after which training ends; 0 never ends it
  std::uint64_t seed = 0;        ///< of shuffling
  Replicas* replicas = nullptr;  ///< that train together; nullptr: there are no others
};

/// Where a training stands, at each of its validations.
struct TrainingEvent {
  std::int64_t depth = 0;      ///< layers in training
  std::int64_t epoch = 0;      ///< or iteration, of this depth
  double loss = 0;             ///< mean Lasso cost of the samples, of the last epoch for adam and sgd
  double validation = 0;       ///< of the validation samples; NaN where depth is not the network's
  double best_validation = 0;  ///< so far, of the whole network
  double rate = 0;             ///< learning rate or step
};

/// The same with costs in the user's units. @param unit, judged_unit  cost_unit() of samples and validation samples
inline TrainingEvent in_units(TrainingEvent event, double unit, double judged_unit) {
  event.loss *= unit;
  event.validation *= judged_unit;
  event.best_validation *= judged_unit;
  return event;
}

struct TrainingResult {
  double validation = 0;       ///< mean Lasso cost of the network that is returned
  double ista_validation = 0;  ///< of ISTA of the same depth
  bool fell_back = false;      ///< no trained network was better than ISTA, which is returned
};

/// Trains a network in place. What it ends with are the parameters that were best on the validation samples, never worse
/// there than ISTA of its depth.
///
/// @param network     untrained, or with parameters to start from
/// @param samples     to train on  @param validation  to choose by
/// @param event       called at each validation; may be empty
/// @param cancel      may be nullptr; asked between steps
///
/// Determinism  the same bits for the same inputs, options, device and number of replicas, whatever the threads, and whether
///              or not it was interrupted and resumed; for other numbers of replicas, which it may be resumed with too, the same
///              but for the rounding of sums
/// @throws ValueError (options), DivergedError, Cancelled, what the store throws
template <class T>
TrainingResult train(const Context& context, const Dictionary& dictionary, Network<T>& network,
                     const Samples<T>& samples, const Samples<T>& validation, const TrainingOptions& options,
                     const TrainingStore& store, const std::function<void(const TrainingEvent&)>& event,
                     const CancelToken* cancel);

/// A better start than ISTA for networks with weight matrices: trains step-LISTA of the same depth, as train does with the
/// default options, and has the network become it.
///
/// @param store     of this training alone, whose states are none of train()'s on the network
/// @param replicas  as TrainingOptions has them
///
/// @throws as train
template <class T>
void start_from_steps(const Context& context, const Dictionary& dictionary, Network<T>& network,
                      const Samples<double>& samples, const Samples<double>& validation, const LambdaShares& lambda,
                      const TrainingStore& store, const std::function<void(const TrainingEvent&)>& event,
                      const CancelToken* cancel, Replicas* replicas = nullptr);

}  // namespace shrinkwarp
