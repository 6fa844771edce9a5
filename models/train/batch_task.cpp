#include <shrinkwarp/models/train/batch_task.hpp>

#include <algorithm>
#include <optional>
#include <vector>

#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/models/train/shuffle.hpp>
#include <shrinkwarp/runtime/graph.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

/// The optimizer's buffers and everything else that a step reads and writes on the device.
template <class T>
class Stepper {
 public:
  /// @param batches  in whose slots the batches are, outlives this
  Stepper(const Context& context, BatchTask<T>& task, const BatchOptions& options, const BatchPipeline& batches,
          std::int64_t steps_a_pass)
      : context_(context),
        task_(task),
        options_(options),
        batches_(batches),
        size_(task.parameters().size),
        gradient_(context_, size_),
        first_(context_, size_),
        second_(context_, options.adam ? size_ : 0),
        schedule_(context_, Schedule::kSize),
        norm_scratch_(context_, norm_scratch(size_)),
        norm_(context_, 1),
        loss_(context_, 1),
        losses_(context_, steps_a_pass),
        rates_(context_, steps_a_pass) {}

  /// From nothing, for the phase that has been entered.
  void begin() {
    context_.zero_bytes(first_.data(), first_.bytes());
    context_.zero_bytes(second_.data(), second_.bytes());
    context_.zero_bytes(schedule_.data(), schedule_.bytes());
    prepare();
  }
  /// The rates of a pass's steps, after `origin` steps that were taken before it. A skipped step is not taken, so its rate
  /// is the next one's. Synchronises.
  void set_rates(std::int64_t origin, const std::vector<double>& rates) const {
    to_device(context_, rates, rates_.vector());
    const std::vector<double> value{static_cast<double>(origin)};
    to_device(context_, value, schedule_.vector().slice(Schedule::kOrigin, 1));
  }
  /// Steps taken since begin(), and those of them before the last set_rates(). Synchronise.
  std::int64_t taken() const { return static_cast<std::int64_t>(schedule_value(Schedule::kSteps)); }
  std::int64_t origin() const { return static_cast<std::int64_t>(schedule_value(Schedule::kOrigin)); }
  double rate() const { return schedule_value(Schedule::kRate); }
  /// Queues step `number` of the pass on the batch in a slot; waits for nothing.
  void step(int slot, std::int64_t number) {
    if (Graph::can_record(context_)) {
      Graph& graph = graphs_[slot];
      if (graph.empty()) graph = Graph(context_, [this, slot] { queue(slot); });
      graph.launch(context_);
    } else {
      queue(slot);
    }
    copy<double>(context_, loss_.vector(), losses_.vector().slice(number, 1));
    task_.keep_step(number);
  }
  /// Of the batch in a slot, as a step on it would find it. Synchronises.
  double loss(int slot) const {
    queue_loss(slot, true);
    return on_host(context_, loss_.vector())[0];
  }
  /// Of the first `count` steps since the numbers began at 0 again. Synchronises.
  std::vector<double> losses(std::int64_t count) const { return on_host(context_, losses_.vector().slice(0, count)); }
  /// Goes on after these.
  void set_losses(const std::vector<double>& values) const {
    to_device(context_, values, losses_.vector().slice(0, static_cast<std::int64_t>(values.size())));
  }

  void save(Safetensors& file) const {
    file.add("optimizer.first", {size_}, on_host(context_, first_.vector()));
    if (options_.adam) file.add("optimizer.second", {size_}, on_host(context_, second_.vector()));
    file.add("optimizer.schedule", {Schedule::kSize}, on_host(context_, schedule_.vector()));
  }
  void load(const Safetensors& file) {
    to_device(context_, file.values<T>("optimizer.first", {size_}), first_.vector());
    if (options_.adam) to_device(context_, file.values<T>("optimizer.second", {size_}), second_.vector());
    to_device(context_, file.values<double>("optimizer.schedule", {Schedule::kSize}), schedule_.vector());
    prepare();
  }

 private:
  /// For the phase that has been entered.
  void prepare() {
    const std::int64_t scratch = task_.scratch(batches_.size());
    if (scratch_.size() < scratch) scratch_ = Tensor<std::byte>(context_, scratch);
    for (Graph& graph : graphs_) graph = Graph();
  }
  double schedule_value(std::int64_t place) const {
    return on_host(context_, schedule_.vector())[static_cast<std::size_t>(place)];
  }
  void queue_loss(int slot, bool probes) const {
    task_.queue(batches_.batch(slot), batches_.size(), probes, loss_.vector(), gradient_.vector(), scratch_.vector());
  }
  /// One step; allocates and waits for nothing.
  void queue(int slot) const {
    const AdamOptions adam{0.9, 0.999, 1e-8, options_.weight_decay};
    queue_loss(slot, false);
    squared_norm<T>(context_, gradient_.vector(), norm_scratch_.vector(), norm_.vector());
    advance_schedule(context_, rates_.vector(), norm_.vector(), options_.clip, adam, schedule_.vector());
    if (options_.adam) {
      adam_step<T>(context_, gradient_.vector(), adam, schedule_.vector(), first_.vector(), second_.vector(),
                   task_.parameters());
    } else {
      sgd_step<T>(context_, gradient_.vector(), {options_.momentum, options_.nesterov, options_.weight_decay},
                  schedule_.vector(), options_.momentum > 0 ? first_.vector() : VectorView<T>{}, task_.parameters());
    }
  }

  const Context& context_;
  BatchTask<T>& task_;
  BatchOptions options_;
  const BatchPipeline& batches_;
  std::int64_t size_;
  Tensor<T> gradient_, first_, second_;
  Tensor<double> schedule_, norm_scratch_, norm_, loss_, losses_, rates_;
  Tensor<std::byte> scratch_;
  Graph graphs_[2];  // of a step, for each slot
};

}  // namespace

template <class T>
void train_on_batches(const Context& context, BatchTask<T>& task, const BatchOptions& options,
                      const TrainingStore& store, const CancelToken* cancel) {
  const std::int64_t batch = std::min(options.batch, task.source().size());
  const std::int64_t steps = task.source().size() / batch;  // the samples that are left over are others in each pass
  // Of the steps of one pass, `taken` of its phase having been taken before.
  const auto rates_of = [&](std::int64_t phase, std::int64_t taken) {
    std::vector<double> rates;
    const double count = static_cast<double>(task.epochs(phase)) * static_cast<double>(steps);
    for (std::int64_t i = taken; i < taken + steps; ++i)
      rates.push_back(rate_at(options.schedule, options.rate, static_cast<double>(i) / count));
    return rates;
  };

  BatchPipeline batches(context, task.source(), batch);
  Stepper<T> stepper(context, task, options, batches, steps);
  std::int64_t phase = task.first_phase(), epoch = 0, step = 0;     // the next step, of `steps`
  std::vector<double> references(static_cast<std::size_t>(steps));  // of this pass's batches so far
  const auto place_of = [&](std::int64_t number) {
    return concat("training of ", task.subject(phase), ", epoch ", epoch + 1, ", step ", std::min(number + 1, steps),
                  " of ", steps);
  };
  // What has diverged is neither stored nor judged.
  const auto check = [&](double loss, double reference, std::int64_t number) {
    const double most = task.largest_loss(reference);
    if (loss <= most) return;
    SHRINKWARP_THROW(DivergedError, place_of(number), ": found the loss ", loss * task.unit(),
                     ", wanted a finite one under ", most * task.unit(), ", ", task.largest_loss_text(),
                     task.why_diverged(), "; a smaller rate or a clipped gradient may help");
  };
  // Of this pass's steps so far.
  const auto checked_losses = [&] {
    task.require_all_well(step, place_of);
    std::vector<double> losses = stepper.losses(step);
    for (std::int64_t i = 0; i < step; ++i)
      check(losses[static_cast<std::size_t>(i)], references[static_cast<std::size_t>(i)], i);
    return losses;
  };
  const VectorView<T> parameters = task.parameters();
  const auto save = [&](int slot) {  // which holds the next step's batch, or at the end of a pass the last one's
    if (!store.save) return;
    const std::vector<double> losses = checked_losses();
    // Or going on from a state that its last step has spoiled would help nobody.
    check(stepper.loss(slot), batches.reference(slot), step);
    task.require_all_well(step, place_of);
    Safetensors file;
    file.add("parameters", {parameters.size}, on_host(context, parameters));
    file.add("progress", {3}, std::vector<std::int64_t>{phase, epoch, step});
    file.add("losses", {step}, losses);
    file.add("energies", {step}, std::vector<double>(references.begin(), references.begin() + step));
    stepper.save(file);
    task.save(file, step);
    store.save(file);
  };
  bool resumed = false;
  if (store.resume) {
    const Safetensors& file = *store.resume;
    const std::vector<std::int64_t> progress = file.values<std::int64_t>("progress", {3});
    phase = progress[0], epoch = progress[1], step = progress[2];
    task.enter(phase);
    to_device(context, file.values<T>("parameters", {parameters.size}), parameters);
    stepper.load(file);
    stepper.set_losses(file.values<double>("losses", {step}));
    const std::vector<double> stored = file.values<double>("energies", {step});
    std::copy_n(stored.begin(), std::min(stored.size(), references.size()), references.begin());
    task.load(file, step);
    resumed = true;
  }
  SaveNowAndThen now_and_then(store.interval);
  std::uint64_t pass = 0;  // over the samples, all phases counted
  for (std::int64_t p = task.first_phase(); p < phase; ++p) pass += static_cast<std::uint64_t>(task.epochs(p));
  for (; phase <= task.last_phase(); ++phase, epoch = 0) {
    task.enter(phase);
    if (!resumed) stepper.begin();
    for (; epoch < task.epochs(phase); ++epoch, step = 0) {
      const std::int64_t taken = resumed ? stepper.origin() : stepper.taken();
      stepper.set_rates(taken, rates_of(phase, taken));
      resumed = false;
      const std::uint64_t its_pass = 1 + pass + static_cast<std::uint64_t>(epoch);
      batches.begin(shuffled(task.source().size(), options.seed, its_pass), its_pass, step);
      std::optional<int> last;  // slot of a batch that has been stepped on
      for (; step < steps; ++step) {
        batches.next([&](int slot) {
          if (cancel != nullptr && cancel->cancelled()) {
            save(slot);
            SHRINKWARP_THROW(Cancelled, "training: cancelled at ", task.place(phase), "epoch ", epoch + 1, ", step ",
                             step + 1);
          }
          now_and_then([&] { save(slot); });
          references[static_cast<std::size_t>(step)] = batches.reference(slot);
          stepper.step(slot, step);
          last = slot;
        });
      }
      double mean = 0;
      for (const double loss : checked_losses()) mean += loss / static_cast<double>(steps);
      try {
        if (!task.finish_epoch(phase, epoch + 1, steps, mean, stepper.rate())) return;
      } catch (const Cancelled&) {
        if (last) save(*last);  // else the state is the one that training has gone on from
        throw;
      }
    }
    pass += static_cast<std::uint64_t>(task.epochs(phase));
    if (phase != task.last_phase()) task.leave(phase);
  }
}

template void train_on_batches<float>(const Context&, BatchTask<float>&, const BatchOptions&, const TrainingStore&,
                                      const CancelToken*);
template void train_on_batches<double>(const Context&, BatchTask<double>&, const BatchOptions&, const TrainingStore&,
                                       const CancelToken*);

}  // namespace shrinkwarp
