// Internal to training: batches of samples, brought to where steps read them while the step before runs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/event.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/pinned.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// Two batches on the context's device, slots 0 and 1 in turn: a step reads one while the other is filled.
///
/// On CUDA the host gathers a batch in page-locked memory while the step before it runs, and a second stream copies it:
///
///   context's stream   step 0 in slot 0      step 1 in slot 1      step 2 in slot 0      ...
///   second stream            copy batch 1 to 1     copy batch 2 to 0     copy batch 3 to 1
///
/// A step waits for the copy of its batch, a copy for the step that last read its slot, both by events; the host waits
/// only until the page-locked buffer that it fills has been copied, so it is never more than two steps ahead. On the CPU a
/// second thread gathers the batch beside the step.
///
/// Memory: two batches on the device, on CUDA two more on the host. On CUDA next() allocates nothing where the samples are
/// held in memory.
template <class T>
class BatchPipeline {
 public:
  /// @param context, samples  outlive this
  /// @param size              samples of a batch, 1 to samples.size()
  BatchPipeline(const Context& context, const Samples<T>& samples, const LambdaShares& shares, std::int64_t size);
  ~BatchPipeline();
  BatchPipeline(const BatchPipeline&) = delete;
  BatchPipeline& operator=(const BatchPipeline&) = delete;

  /// Where steps read a slot's batch, [n, size] and [size]: the same memory for good, as recorded graphs need it.
  MatrixView<const T> X(int slot) const { return slots_[slot].X.matrix(); }
  VectorView<const T> lambda(int slot) const { return slots_[slot].lambda.vector(); }
  /// Mean of 1/2 ||x||^2 over the batch that next() has in a slot: the cost of codes that are 0.
  double mean_energy(int slot) const { return slots_[slot].mean_energy; }

  /// A pass over the samples in `order`, of which batch i takes those from i size on, beginning with batch `first`; what is
  /// left over comes in no batch. @param pass  of LambdaShares::of  @throws as Samples::gather
  void begin(std::vector<std::int64_t> order, std::uint64_t pass, std::int64_t first);
  /// Calls step(slot) for the next batch, which is in that slot for all that the step queues on the context, and brings the
  /// batch after it. @throws what the step throws, and as Samples::gather for the batch after it
  void next(FunctionRef<void(int)> step);

 private:
  struct Slot {
    Tensor<T> X, lambda;
    PinnedMatrix<T> staged_X, staged_lambda;  // on CUDA
    Event copied, read;                       // since when the slot holds its batch, and since when no step reads it
    double mean_energy = 0;
    Slot(const Context& context, std::int64_t rows, std::int64_t size);
  };
  void bring(std::int64_t number);

  const Context& context_;
  const Samples<T>& samples_;
  LambdaShares shares_;
  std::int64_t size_;
  std::optional<Context> copies_;  // CUDA's second stream
  Slot slots_[2];
  std::vector<std::int64_t> order_;
  std::uint64_t pass_ = 0;
  std::int64_t next_ = 0, count_ = 0;  // batches of this pass
};

}  // namespace shrinkwarp
