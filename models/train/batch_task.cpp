#include <shrinkwarp/models/train/batch_task.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/models/train/shuffle.hpp>
#include <shrinkwarp/runtime/graph.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/pinned.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

/// Gradients and losses of shares of a batch become those of the batch, on every replica. On CUDA they go from device to
/// device where the replicas have a way, and else over page-locked memory of the host: to the same bits.
template <class T>
class Exchange {
 public:
  /// @param weight  of this replica's share of a batch
  Exchange(const Context& context, Replicas& replicas, double weight, std::int64_t parameters)
      : context_(context), replicas_(replicas), weight_(weight) {
    if (!context.is_cuda()) return;
    constexpr std::int64_t kLeast = sizeof(double);  // of the loss
    const std::int64_t bytes = std::max(kLeast, parameters * static_cast<std::int64_t>(sizeof(T)));
    device_sum_ = replicas.device_sum(context, weight, bytes);
    if (!device_sum_) staged_ = PinnedMatrix<T>(context, parameters);
  }

  /// Waits for the others, and where it goes over the host for what is queued.
  /// @param reference  of the share  @return that of the batch
  double operator()(VectorView<T> gradient, VectorView<double> loss, double reference) {
    if (device_sum_) {
      device_sum_->queue(gradient);
      device_sum_->queue(loss);
      replicas_.add(weight_, &reference, 1);  // the host knows it: it waits for the others, but for no device
      return reference;
    }
    double numbers[] = {0, reference};
    copy<double>(context_, loss, {numbers, 1, {}});
    if (context_.is_cuda()) copy<T>(context_, gradient, staged_.vector());
    context_.synchronize();
    replicas_.add(weight_, context_.is_cuda() ? staged_.vector().data : gradient.data, gradient.size);
    replicas_.add(weight_, numbers, 2);
    if (context_.is_cuda()) copy<T>(context_, staged_.vector(), gradient);
    copy<double>(context_, VectorView<const double>{numbers, 1, {}}, loss);
    context_.synchronize();  // before `numbers` go
    return numbers[1];
  }

 private:
  const Context& context_;
  Replicas& replicas_;
  double weight_;
  std::unique_ptr<DeviceSum> device_sum_;  // on CUDA, where there is one
  PinnedMatrix<T> staged_;                 // on CUDA, where there is none
};

/// The optimizer's buffers and everything else that a step reads and writes on the device.
template <class T>
class Stepper {
 public:
  /// @param batches  in whose slots the batches are, or this replica's shares of them; outlives this
  /// @param batch    samples of all replicas' shares
  Stepper(const Context& context, BatchTask<T>& task, const BatchOptions& options, const BatchPipeline& batches,
          std::int64_t batch, std::int64_t steps_a_pass)
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
        rates_(context_, steps_a_pass) {
    if (options.replicas == nullptr) return;
    exchange_.emplace(context, *options.replicas, static_cast<double>(batches.size()) / static_cast<double>(batch),
                      size_);
  }

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
  /// Queues step `number` of the pass on the batch in a slot; waits for nothing but other replicas.
  /// @return what the source has said of the batch
  double step(int slot, std::int64_t number) {
    double reference = batches_.reference(slot);
    if (exchange_) {
      run(losses_of_[slot], task_.can_record(), [this, slot] { queue_loss(slot, false); });
      reference = (*exchange_)(gradient_.vector(), loss_.vector(), reference);
      run(update_, true, [this] { queue_update(); });
    } else {
      run(steps_[slot], task_.can_record(), [this, slot] {
        queue_loss(slot, false);
        queue_update();
      });
    }
    copy<double>(context_, loss_.vector(), losses_.vector().slice(number, 1));
    task_.keep_step(number);
    return reference;
  }
  /// Of the batch in a slot, as a step on it would find it, and what the source has said of the batch. Synchronises.
  std::pair<double, double> loss(int slot) {
    queue_loss(slot, true);
    double reference = batches_.reference(slot);
    if (exchange_) reference = (*exchange_)(gradient_.vector(), loss_.vector(), reference);
    return {on_host(context_, loss_.vector())[0], reference};
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
    for (Graph& graph : steps_) graph = Graph();
    for (Graph& graph : losses_of_) graph = Graph();
    update_ = Graph();
  }
  /// Queues what `queue` does, as a graph where that can be.
  template <class Queue>
  void run(Graph& graph, bool can_record, Queue queue) {
    if (!can_record || !Graph::can_record(context_)) return queue();
    if (graph.empty()) graph = Graph(context_, queue);
    graph.launch(context_);
  }
  double schedule_value(std::int64_t place) const {
    return on_host(context_, schedule_.vector())[static_cast<std::size_t>(place)];
  }
  void queue_loss(int slot, bool probes) const {
    task_.queue(batches_.batch(slot), batches_.size(), probes, loss_.vector(), gradient_.vector(), scratch_.vector());
  }
  /// A step along the gradient; allocates and waits for nothing.
  void queue_update() const {
    const AdamOptions adam{0.9, 0.999, 1e-8, options_.weight_decay};
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
  std::optional<Exchange<T>> exchange_;  // where there are replicas
  // Of a whole step for each slot; with replicas of its loss, and of what follows the exchange.
  Graph steps_[2], losses_of_[2], update_;
};

/// Of batches one after the other, this replica's shares one after the other.
std::vector<std::int64_t> shares_of(const std::vector<std::int64_t>& order, std::int64_t batch, SampleShare share) {
  std::vector<std::int64_t> its;
  for (std::int64_t first = 0; first + batch <= static_cast<std::int64_t>(order.size()); first += batch) {
    const auto begin = order.begin() + first + share.first;
    its.insert(its.end(), begin, begin + share.count);
  }
  return its;
}

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

  Replicas* const replicas = options.replicas;
  SHRINKWARP_REQUIRE(replicas == nullptr || batch >= replicas->size(), ValueError,
                     "train_on_batches: found batches of ", batch, " samples for ", replicas->size(),
                     " replicas, wanted at least a sample for each");
  const SampleShare share = share_of(replicas, batch);
  BatchPipeline batches(context, task.source(), share.count);
  Stepper<T> stepper(context, task, options, batches, batch, steps);
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
  const auto require_all_well = [&] { do_own_share(replicas, [&] { task.require_all_well(step, place_of); }); };
  // Of this pass's steps so far.
  const auto checked_losses = [&] {
    require_all_well();
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
    const auto [loss, reference] = stepper.loss(slot);
    check(loss, reference, step);
    require_all_well();
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
  enum : std::int64_t { kGoOn, kSave, kStop };
  // What comes before a step. Replicas do the same: all stop where one is to, and save where the first one's time has come.
  const auto before_step = [&]() -> std::int64_t {
    if (cancel != nullptr && cancel->cancelled()) return kStop;
    return (replicas == nullptr || replicas->first()) && now_and_then.is_due() ? kSave : kGoOn;
  };
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
      batches.begin(shares_of(shuffled(task.source().size(), options.seed, its_pass), batch, share), its_pass, step);
      std::optional<int> last;  // slot of a batch that has been stepped on
      for (; step < steps; ++step) {
        batches.next([&](int slot) {
          const std::int64_t choice = replicas != nullptr ? replicas->largest(before_step()) : before_step();
          if (choice == kStop) {
            save(slot);
            SHRINKWARP_THROW(Cancelled, "training: cancelled at ", task.place(phase), "epoch ", epoch + 1, ", step ",
                             step + 1);
          }
          if (choice == kSave) now_and_then.now([&] { save(slot); });
          references[static_cast<std::size_t>(step)] = stepper.step(slot, step);
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
