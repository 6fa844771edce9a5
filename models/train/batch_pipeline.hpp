// Internal to training: batches of samples, brought to where steps read them while the step before runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/event.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/pinned.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// Where batches come from.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// Samples in all.
  virtual std::int64_t size() const = 0;
  /// Bytes of a batch of `count` samples.
  virtual std::int64_t bytes(std::int64_t count) const = 0;
  /// Which batch it is.
  struct Batch {
    const std::int64_t* samples = nullptr;  ///< [count]
    std::int64_t count = 0;
    std::uint64_t pass = 0;    ///< over the samples
    std::int64_t number = 0;   ///< in its pass
    std::int64_t batches = 0;  ///< of a pass
  };
  /// Writes a batch to memory on the host, aligned to 256 bytes. Called from another thread than the steps'.
  /// @return what a loss of the batch is held against, see BatchTask::largest_loss
  virtual double gather(const Batch& batch, std::byte* target) const = 0;
};

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
/// Memory: two batches on the device, on CUDA two more on the host.
class BatchPipeline {
 public:
  /// @param context, source  outlive this
  /// @param size             samples of a batch, 1 to source.size()
  BatchPipeline(const Context& context, const BatchSource& source, std::int64_t size);
  ~BatchPipeline();
  BatchPipeline(const BatchPipeline&) = delete;
  BatchPipeline& operator=(const BatchPipeline&) = delete;

  std::int64_t size() const { return size_; }
  /// Where steps read a slot's batch: the same memory for good, as recorded graphs need it.
  VectorView<std::byte> batch(int slot) const { return slots_[slot].batch.vector(); }
  /// What the source has said of the batch that next() has in a slot.
  double reference(int slot) const { return slots_[slot].reference; }

  /// A pass over the samples in `order`, of which batch i takes those from i size on, beginning with batch `first`; what is
  /// left over comes in no batch. @throws as BatchSource::gather
  void begin(std::vector<std::int64_t> order, std::uint64_t pass, std::int64_t first);
  /// Calls step(slot) for the next batch, which is in that slot for all that the step queues on the context, and brings the
  /// batch after it. @throws what the step throws, and as BatchSource::gather for the batch after it
  void next(FunctionRef<void(int)> step);

 private:
  struct Slot {
    Tensor<std::byte> batch;
    PinnedMatrix<std::byte> staged;  // on CUDA
    Event copied, read;              // since when the slot holds its batch, and since when no step reads it
    double reference = 0;
    Slot(const Context& context, std::int64_t bytes);
  };
  void bring(std::int64_t number);

  const Context& context_;
  const BatchSource& source_;
  std::int64_t size_;
  std::optional<Context> copies_;  // CUDA's second stream
  Slot slots_[2];
  std::vector<std::int64_t> order_;
  std::uint64_t pass_ = 0;
  std::int64_t next_ = 0, count_ = 0;  // batches of this pass
};

}  // namespace shrinkwarp
