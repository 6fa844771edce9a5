#include <shrinkwarp/models/lista/training.hpp>

#include <cmath>

#include <shrinkwarp/models/lista/batch_training.hpp>
#include <shrinkwarp/models/lista/full_batch_training.hpp>

namespace shrinkwarp {
namespace {

void check(const TrainingOptions& options) {
  SHRINKWARP_REQUIRE(
      options.lambda.low > 0 && options.lambda.low <= options.lambda.high && std::isfinite(options.lambda.high),
      ValueError, "train: lambda's shares are ", options.lambda.low, " to ", options.lambda.high,
      ", wanted 0 < low <= high");
  SHRINKWARP_REQUIRE(options.epochs >= 0 && options.batch >= 1 && options.patience >= 0, ValueError,
                     "train: epochs is ", options.epochs, ", batch ", options.batch, ", patience ", options.patience,
                     ", wanted >= 0, >= 1 and >= 0");
  SHRINKWARP_REQUIRE(options.rate >= 0 && std::isfinite(options.rate) && options.clip > 0, ValueError,
                     "train: rate is ", options.rate, ", clip ", options.clip,
                     ", wanted a finite rate >= 0 and clip > 0");
}

}  // namespace

Optimizer resolved(Optimizer optimizer, NetworkKind kind) {
  if (optimizer != Optimizer::automatic) return optimizer;
  return has_scalar_layers(kind) ? Optimizer::lbfgs : Optimizer::adam;
}

template <class T>
TrainingResult train(const Context& context, const Dictionary& dictionary, Network<T>& network,
                     const Samples<T>& samples, const Samples<T>& validation, const TrainingOptions& options,
                     const TrainingStore& store, const std::function<void(const TrainingEvent&)>& event,
                     const CancelToken* cancel) {
  check(options);
  const MeanCost<T> judge(context, dictionary, validation, options.lambda, validation.size(), options.replicas);
  TrainingResult result;
  {
    const std::unique_ptr<Network<T>> ista = make_network<T>(context, dictionary, network.spec());
    ista->become_ista(context, dictionary);
    result.ista_validation = judge(*ista, cancel);
  }
  BestParameters<T> best(context, network, judge, options.patience, cancel);
  const TrainingRun<T> run{context, network, samples, judge, options, store, event, cancel, best};
  if (sees_all(resolved(options.optimizer, network.spec().kind)))
    train_on_all(run);
  else
    train_on_batches(run);
  network.set_depth(network.spec().layers);
  network.to_device(context, best.parameters());
  result.validation = best.validation();
  if (!(result.validation <= result.ista_validation)) {
    network.become_ista(context, dictionary);
    result.validation = result.ista_validation;
    result.fell_back = true;
  }
  return result;
}

template <class T>
void start_from_steps(const Context& context, const Dictionary& dictionary, Network<T>& network,
                      const Samples<double>& samples, const Samples<double>& validation, const LambdaShares& lambda,
                      const TrainingStore& store, const std::function<void(const TrainingEvent&)>& event,
                      const CancelToken* cancel, Replicas* replicas) {
  NetworkSpec spec;
  spec.kind = NetworkKind::step;
  spec.layers = network.spec().layers;
  const std::unique_ptr<Network<double>> steps = make_network<double>(context, dictionary, spec);
  TrainingOptions options;
  options.lambda = lambda;
  options.replicas = replicas;
  train<double>(context, dictionary, *steps, samples, validation, options, store, event, cancel);
  network.become_step_network(context, dictionary, steps->to_host(context));
}

#define SHRINKWARP_INSTANTIATE(T)                                                                           \
  template TrainingResult train<T>(const Context&, const Dictionary&, Network<T>&, const Samples<T>&,       \
                                   const Samples<T>&, const TrainingOptions&, const TrainingStore&,         \
                                   const std::function<void(const TrainingEvent&)>&, const CancelToken*);   \
  template void start_from_steps<T>(const Context&, const Dictionary&, Network<T>&, const Samples<double>&, \
                                    const Samples<double>&, const LambdaShares&, const TrainingStore&,      \
                                    const std::function<void(const TrainingEvent&)>&, const CancelToken*, Replicas*);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
