// Training on batches by SGD or Adam, whatever is trained: passes over shuffled samples, rates, checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <shrinkwarp/models/train/batch_pipeline.hpp>
#include <shrinkwarp/models/train/rate_schedule.hpp>
#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/models/train/training_store.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// What is trained on batches. A training has phases, each with passes of its own and an optimizer that begins anew.
template <class T>
class BatchTask {
 public:
  virtual ~BatchTask() = default;

  /// On the device: the same memory for good.
  virtual VectorView<T> parameters() const = 0;
  virtual const BatchSource& source() const = 0;

  virtual std::int64_t first_phase() const { return 1; }
  virtual std::int64_t last_phase() const { return 1; }
  /// Passes over the samples in a phase.
  virtual std::int64_t epochs(std::int64_t phase) const = 0;
  /// Called where a phase begins or goes on.
  virtual void enter(std::int64_t) {}
  /// Called where a phase that is not the last one has ended.
  virtual void leave(std::int64_t) {}

  /// Bytes of scratch that queue() needs in this phase for batches of `count` samples.
  virtual std::int64_t scratch(std::int64_t count) const = 0;
  /// Queues the mean loss of a batch, or of this replica's share of one, and its gradient. Allocates nothing, waits for
  /// nothing but what can_record() says.
  ///
  /// @param loss      [1], written  @param gradient  [parameters().size], written
  /// @param probes    no step follows: nothing else may change but what is written here
  virtual void queue(VectorView<std::byte> batch, std::int64_t count, bool probes, VectorView<double> loss,
                     VectorView<T> gradient, VectorView<std::byte> scratch) const = 0;
  /// Whether queue() waits for nothing, other replicas either, and can be recorded.
  virtual bool can_record() const { return true; }
  /// Called behind each step that has been queued, for what else it has found. @param number  of the step in its pass
  virtual void keep_step(std::int64_t number) { static_cast<void>(number); }

  /// A loss beyond it has diverged. @param reference  what gather() has returned for the batch; of replicas the mean
  virtual double largest_loss(double reference) const = 0;
  /// What the largest loss is, for a message: "a hundred times ..."
  virtual std::string largest_loss_text() const = 0;
  /// What 1 of a loss is in the user's units.
  virtual double unit() const { return 1; }
  /// ", for ..." where something about the parameters says why a training has diverged, else nothing.
  virtual std::string why_diverged() const { return {}; }
  /// Refuses what only the device knows to have gone wrong so far. Synchronises. Called where losses are looked at.
  /// @param steps  of this pass that have been queued; what has gone wrong behind them has done so in the next one's
  /// @param place  of a step, by its number in the pass: "training of 3 layers, epoch 2, step 5 of 9", begins the message
  virtual void require_all_well(std::int64_t steps, FunctionRef<std::string(std::int64_t)> place) const {
    static_cast<void>(steps), static_cast<void>(place);
  }

  /// Called at the end of a pass with the mean loss of its batches. What throws Cancelled is called again where training goes on:
  /// nothing may have changed. @return whether training goes on
  virtual bool finish_epoch(std::int64_t phase, std::int64_t epoch, std::int64_t steps, double mean_loss,
                            double rate) = 0;

  /// What else a state has than parameters and optimizer. All replicas save and load, and what one has saved may be loaded by
  /// another number of them. @param steps  of the pass that have been taken
  virtual void save(Safetensors& file, std::int64_t steps) const = 0;
  virtual void load(const Safetensors& file, std::int64_t steps) = 0;
  /// Where a training stands but for pass and step: "layer 3, ", or nothing; and what it is of: "3 layers".
  virtual std::string place(std::int64_t) const { return {}; }
  virtual std::string subject(std::int64_t phase) const = 0;
};

struct BatchOptions {
  bool adam = true;          ///< else SGD
  std::int64_t batch = 256;  ///< samples; at most as many as there are
  double rate = 1e-3;        ///< at the start
  RateSchedule schedule = RateSchedule::cosine;
  double momentum = 0.9;                                  ///< of SGD
  bool nesterov = false;                                  ///< of SGD
  double weight_decay = 0;                                ///< decoupled from Adam's gradient
  double clip = std::numeric_limits<double>::infinity();  ///< largest norm of a batch's gradient
  std::uint64_t seed = 0;                                 ///< of shuffling
  Replicas* replicas = nullptr;                           ///< that train together; nullptr: there are no others
};

/// Trains. On CUDA a step is one recorded graph; with replicas two, between which their gradients come together: on the
/// devices where there is a Replicas::device_sum, so that no step waits for its device, or on the host.
///
/// Replicas share each batch out among them, and take the same step. Which samples a batch has does not depend on how many they
/// are, so neither do losses and parameters, but for the rounding of sums. The first one's store is asked when to save; all call
/// it.
///
/// @param cancel  asked between steps, and by the task at the end of a pass; may be nullptr
///
/// Determinism  the same bits for the same inputs, options, device and number of replicas, whatever the threads, and whether
///              or not it was interrupted and resumed, as far as the task's
/// @throws ValueError (batches of fewer samples than replicas), DivergedError, Cancelled, what the task and the store throw
template <class T>
void train_on_batches(const Context& context, BatchTask<T>& task, const BatchOptions& options,
                      const TrainingStore& store, const CancelToken* cancel);

}  // namespace shrinkwarp
