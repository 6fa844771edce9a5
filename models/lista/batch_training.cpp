#include <shrinkwarp/models/lista/batch_training.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/models/lista/batch_pipeline.hpp>
#include <shrinkwarp/runtime/graph.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kDefaultEpochs = 100;
constexpr double kDefaultAdamRate = 1e-3;  // of few layers
constexpr double kFewLayers = 5;
constexpr double kDefaultSgdRate = 1e-2;
constexpr double kDiverged = 100;  // times the cost of codes that are 0

double rate_at(const TrainingOptions& options, double first, double progress) {
  switch (options.schedule) {
    case RateSchedule::cosine:
      return first * (1 + std::cos(std::acos(-1.0) * progress)) / 2;
    case RateSchedule::steps:
      return first * (progress < 0.5 ? 1 : progress < 0.75 ? 0.1 : 0.01);
    case RateSchedule::constant:
      break;
  }
  return first;
}

/// The optimizer's buffers and everything else that a step reads and writes on the device.
template <class T>
class Stepper {
 public:
  /// @param batches  in whose slots the batches are, outlives this
  Stepper(const TrainingRun<T>& run, const BatchPipeline<T>& batches, std::int64_t steps_an_epoch)
      : run_(run),
        context_(run.context),
        batches_(batches),
        size_(run.network.parameters().size),
        adam_(run.options.optimizer != Optimizer::sgd),
        gradient_(context_, size_),
        first_(context_, size_),
        second_(context_, adam_ ? size_ : 0),
        schedule_(context_, Schedule::kSize),
        norm_scratch_(context_, norm_scratch(size_)),
        norm_(context_, 1),
        loss_(context_, 1),
        losses_(context_, steps_an_epoch),
        rates_(context_, steps_an_epoch) {}

  /// From nothing, for the network at its depth.
  void begin() {
    context_.zero_bytes(first_.data(), first_.bytes());
    context_.zero_bytes(second_.data(), second_.bytes());
    context_.zero_bytes(schedule_.data(), schedule_.bytes());
    prepare();
  }
  /// The rates of an epoch's steps, after `origin` steps that were taken before it. A skipped step is not taken, so its rate
  /// is the next one's. Synchronises.
  /// @param rates  [steps_an_epoch]
  void set_rates(std::int64_t origin, const std::vector<double>& rates) const {
    from_host<double>(rates, rates_);
    const auto value = static_cast<double>(origin);
    copy<double>(context_, VectorView<const double>{&value, 1, {}}, schedule_.vector().slice(Schedule::kOrigin, 1));
    context_.synchronize();
  }
  /// Steps taken since begin(), and those of them before the last set_rates(). Synchronise.
  std::int64_t taken() const { return static_cast<std::int64_t>(on_host<double>(schedule_)[Schedule::kSteps]); }
  std::int64_t origin() const { return static_cast<std::int64_t>(on_host<double>(schedule_)[Schedule::kOrigin]); }
  /// Queues step `number` of the epoch on the batch in a slot; waits for nothing.
  void step(int slot, std::int64_t number) {
    if (Graph::can_record(context_)) {
      Graph& graph = graphs_[slot];
      if (graph.empty()) graph = Graph(context_, [this, slot] { queue(slot); });
      graph.launch(context_);
    } else {
      queue(slot);
    }
    copy<double>(context_, loss_.vector(), losses_.vector().slice(number, 1));
  }
  /// Mean cost of the batch in a slot, as a step on it would find it. Synchronises.
  double loss(int slot) const {
    queue_loss(slot);
    return on_host<double>(loss_)[0];
  }
  /// Of the first `count` steps since the numbers began at 0 again. Synchronises.
  std::vector<double> losses(std::int64_t count) const {
    std::vector<double> values(static_cast<std::size_t>(count));
    copy<double>(context_, losses_.vector().slice(0, count), VectorView<double>{values.data(), count, {}});
    context_.synchronize();
    return values;
  }
  /// Goes on after these.
  void set_losses(const std::vector<double>& values) const {
    copy<double>(context_, VectorView<const double>{values.data(), static_cast<std::int64_t>(values.size()), {}},
                 losses_.vector().slice(0, static_cast<std::int64_t>(values.size())));
    context_.synchronize();
  }
  double rate() const { return on_host<double>(schedule_)[Schedule::kRate]; }

  void save(Safetensors& file) const {
    file.add("optimizer.first", {size_}, on_host<T>(first_));
    if (adam_) file.add("optimizer.second", {size_}, on_host<T>(second_));
    file.add("optimizer.schedule", {Schedule::kSize}, on_host<double>(schedule_));
  }
  void load(const Safetensors& file) {
    from_host<T>(file.values<T>("optimizer.first", {size_}), first_);
    if (adam_) from_host<T>(file.values<T>("optimizer.second", {size_}), second_);
    from_host<double>(file.values<double>("optimizer.schedule", {Schedule::kSize}), schedule_);
    prepare();
  }

 private:
  /// For the network at its depth.
  void prepare() {
    const std::int64_t scratch = run_.network.scratch(context_, batches_.X(0).cols, true);
    if (scratch_.size() < scratch) scratch_ = Tensor<std::byte>(context_, scratch);
    for (Graph& graph : graphs_) graph = Graph();
  }
  void queue_loss(int slot) const {
    run_.network.loss(context_, batches_.X(slot), batches_.lambda(slot), loss_.vector(), gradient_.vector(),
                      scratch_.vector());
  }
  /// One step; allocates and waits for nothing.
  void queue(int slot) const {
    const TrainingOptions& options = run_.options;
    const AdamOptions adam{0.9, 0.999, 1e-8, options.weight_decay};
    queue_loss(slot);
    squared_norm<T>(context_, gradient_.vector(), norm_scratch_.vector(), norm_.vector());
    advance_schedule(context_, rates_.vector(), norm_.vector(), options.clip, adam, schedule_.vector());
    if (adam_) {
      adam_step<T>(context_, gradient_.vector(), adam, schedule_.vector(), first_.vector(), second_.vector(),
                   run_.network.parameters());
    } else {
      sgd_step<T>(context_, gradient_.vector(), {options.momentum, false, options.weight_decay}, schedule_.vector(),
                  options.momentum > 0 ? first_.vector() : VectorView<T>{}, run_.network.parameters());
    }
  }
  template <class U>
  std::vector<U> on_host(const Tensor<U>& tensor) const {
    std::vector<U> values(static_cast<std::size_t>(tensor.size()));
    copy<U>(context_, tensor.vector(), VectorView<U>{values.data(), tensor.size(), {}});
    context_.synchronize();
    return values;
  }
  template <class U>
  void from_host(const std::vector<U>& values, const Tensor<U>& tensor) const {
    copy<U>(context_, VectorView<const U>{values.data(), tensor.size(), {}}, tensor.vector());
    context_.synchronize();
  }

  const TrainingRun<T>& run_;
  const Context& context_;
  const BatchPipeline<T>& batches_;
  std::int64_t size_;
  bool adam_;
  Tensor<T> gradient_, first_, second_;
  Tensor<double> schedule_, norm_scratch_, norm_, loss_, losses_, rates_;
  Tensor<std::byte> scratch_;
  Graph graphs_[2];  // of a step, for each slot
};

/// ", for the step of layer 3 is -0.1, wanted steps > 0" where a network with scalar layers has such a step, else nothing.
template <class T>
std::string lost_step(const TrainingRun<T>& run) {
  if (!has_scalar_layers(run.network.spec().kind)) return {};
  const std::vector<T> parameters = run.network.to_host(run.context);
  for (std::int64_t t = 0; t < run.layers(); ++t) {
    const T step = parameters[static_cast<std::size_t>(t)];
    if (!(step > T(0))) {
      return concat(", for the step of layer ", t + 1, " has come to ", step,
                    ", wanted steps > 0 (lbfgs and linesearch keep them so)");
    }
  }
  return {};
}

}  // namespace

template <class T>
void train_on_batches(const TrainingRun<T>& run) {
  Network<T>& network = run.network;
  const TrainingOptions& options = run.options;
  const std::int64_t batch = std::min(options.batch, run.samples.size());
  const std::int64_t steps = run.samples.size() / batch;  // the samples that are left over are others in each epoch
  const std::int64_t whole = options.epochs > 0 ? options.epochs : kDefaultEpochs;
  // Trained steps are long, and what a change of a weight spoils in a layer those after it multiply: at 1e-3 networks of 10
  // layers that begin as step-LISTA diverge, and those of 30 at 3e-4.
  const double few = std::min(1.0, kFewLayers / static_cast<double>(run.layers()));
  const double first_rate = options.rate > 0                      ? options.rate
                            : options.optimizer == Optimizer::sgd ? kDefaultSgdRate
                                                                  : kDefaultAdamRate * few * few;
  // Depths before the last share the epochs of the last one.
  const auto epochs_of = [&](std::int64_t depth) {
    return depth == run.layers() ? whole : std::max<std::int64_t>(1, whole / run.layers());
  };
  // Of the steps of one epoch, `taken` of its depth having been taken before.
  const auto rates_of = [&](std::int64_t depth, std::int64_t taken) {
    std::vector<double> rates;
    const double count = static_cast<double>(epochs_of(depth)) * static_cast<double>(steps);
    for (std::int64_t i = taken; i < taken + steps; ++i)
      rates.push_back(rate_at(options, first_rate, static_cast<double>(i) / count));
    return rates;
  };

  BatchPipeline<T> batches(run.context, run.samples, options.lambda, batch);
  Stepper<T> stepper(run, batches, steps);
  std::int64_t depth = run.first_depth(), epoch = 0, step = 0;    // the next step, of `steps`
  std::vector<double> energies(static_cast<std::size_t>(steps));  // of this epoch's batches so far
  // What has diverged is neither stored nor judged. A batch is held against its own energy: observations may differ by any
  // factor, and one of them may be most of all there is.
  const auto check = [&](double loss, double energy, std::int64_t number) {
    if (loss <= kDiverged * energy) return;
    const double unit = run.samples.unit() * run.samples.unit();
    SHRINKWARP_THROW(DivergedError, "training of ", layers_text(depth), ", epoch ", epoch + 1, ", step ", number + 1,
                     " of ", steps, ": found the loss ", loss * unit, ", wanted a finite one under ",
                     kDiverged * energy * unit, ", a hundred times that of codes that are 0 for the same batch",
                     lost_step(run), "; a smaller rate or a clipped gradient may help");
  };
  // Of this epoch's steps so far.
  const auto checked_losses = [&] {
    std::vector<double> losses = stepper.losses(step);
    for (std::int64_t i = 0; i < step; ++i)
      check(losses[static_cast<std::size_t>(i)], energies[static_cast<std::size_t>(i)], i);
    return losses;
  };
  const auto save = [&](int slot) {  // which holds the next step's batch
    if (!run.store.save) return;
    const std::vector<double> losses = checked_losses();
    // Or going on from a state that its last step has spoiled would help nobody.
    check(stepper.loss(slot), batches.mean_energy(slot), step);
    Safetensors file;
    const std::vector<T> parameters = network.to_host(run.context);
    file.add("parameters", {static_cast<std::int64_t>(parameters.size())}, parameters);
    file.add("progress", {3}, std::vector<std::int64_t>{depth, epoch, step});
    file.add("losses", {step}, losses);
    file.add("energies", {step}, std::vector<double>(energies.begin(), energies.begin() + step));
    stepper.save(file);
    run.best.save(file);
    run.store.save(file);
  };
  bool resumed = false;
  if (run.store.resume) {
    const Safetensors& file = *run.store.resume;
    const std::vector<std::int64_t> progress = file.values<std::int64_t>("progress", {3});
    depth = progress[0], epoch = progress[1], step = progress[2];
    network.set_depth(depth);
    network.to_device(run.context, file.values<T>("parameters", {network.parameters().size}));
    stepper.load(file);
    stepper.set_losses(file.values<double>("losses", {step}));
    const std::vector<double> stored = file.values<double>("energies", {step});
    std::copy_n(stored.begin(), std::min(stored.size(), energies.size()), energies.begin());
    run.best.load(file);
    resumed = true;
  }
  SaveNowAndThen now_and_then(run.store.interval);
  std::uint64_t pass = 0;  // over the samples, all depths counted
  for (std::int64_t d = run.first_depth(); d < depth; ++d) pass += static_cast<std::uint64_t>(epochs_of(d));
  for (; depth <= run.layers(); ++depth, epoch = 0) {
    network.set_depth(depth);
    const bool last = depth == run.layers();
    if (!resumed) stepper.begin();
    for (; epoch < epochs_of(depth); ++epoch, step = 0) {
      const std::int64_t taken = resumed ? stepper.origin() : stepper.taken();
      stepper.set_rates(taken, rates_of(depth, taken));
      resumed = false;
      const std::uint64_t its_pass = 1 + pass + static_cast<std::uint64_t>(epoch);
      batches.begin(shuffled(run.samples.size(), options.seed, its_pass), its_pass, step);
      for (; step < steps; ++step) {
        batches.next([&](int slot) {
          if (run.cancel != nullptr && run.cancel->cancelled()) {
            save(slot);
            SHRINKWARP_THROW(Cancelled, "training: cancelled at layer ", depth, ", epoch ", epoch + 1, ", step ",
                             step + 1);
          }
          now_and_then([&] { save(slot); });
          energies[static_cast<std::size_t>(step)] = batches.mean_energy(slot);
          stepper.step(slot, step);
        });
      }
      double mean = 0;
      for (const double loss : checked_losses()) mean += loss / static_cast<double>(steps);
      const double validation = last ? run.best.look_at(network) : std::numeric_limits<double>::quiet_NaN();
      if (run.event) run.event({depth, epoch + 1, mean, validation, run.best.validation(), stepper.rate()});
      if (last && run.best.is_stale()) return;
    }
    pass += static_cast<std::uint64_t>(epochs_of(depth));
    if (!last) run.consider_as_it_is();
  }
}

template void train_on_batches<float>(const TrainingRun<float>&);
template void train_on_batches<double>(const TrainingRun<double>&);

}  // namespace shrinkwarp
