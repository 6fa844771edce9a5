#include <shrinkwarp/models/train/batch_pipeline.hpp>

#include <future>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

BatchPipeline::Slot::Slot(const Context& context, std::int64_t bytes)
    : batch(context, bytes), copied(context), read(context) {
  if (context.is_cuda()) staged = PinnedMatrix<std::byte>(context, bytes);
}

BatchPipeline::BatchPipeline(const Context& context, const BatchSource& source, std::int64_t size)
    : context_(context),
      source_(source),
      size_(size),
      slots_{{context, source.bytes(size)}, {context, source.bytes(size)}} {
  if (context.is_cuda()) copies_ = Context::cuda(context.device().index);
}

BatchPipeline::~BatchPipeline() {
  try {
    if (copies_) copies_->synchronize();  // or a copy would read page-locked memory that is given back
  } catch (const Error&) {                // the device is lost; who waits for its results hears of it
  }
}

void BatchPipeline::bring(std::int64_t number) {
  Slot& slot = slots_[number % 2];
  const BatchSource::Batch batch{order_.data() + number * size_, size_, pass_, number, count_};
  if (!copies_) {
    slot.reference = source_.gather(batch, slot.batch.data());
    return;
  }
  slot.copied.synchronize();
  slot.reference = source_.gather(batch, slot.staged.data());
  slot.read.wait(*copies_);
  copy<std::byte>(*copies_, slot.staged.vector(), slot.batch.vector());
  slot.copied.record(*copies_);
}

void BatchPipeline::begin(std::vector<std::int64_t> order, std::uint64_t pass, std::int64_t first) {
  order_ = std::move(order);
  pass_ = pass;
  next_ = first;
  count_ = static_cast<std::int64_t>(order_.size()) / size_;
  if (next_ < count_) bring(next_);
}

void BatchPipeline::next(FunctionRef<void(int)> step) {
  const std::int64_t following = next_ + 1;
  const auto number = static_cast<int>(next_ % 2);
  if (copies_) {
    slots_[number].copied.wait(context_);
    step(number);
    slots_[number].read.record(context_);
    if (following < count_) bring(following);
  } else {
    std::future<void> brought;
    if (following < count_) brought = std::async(std::launch::async, [this, following] { bring(following); });
    step(number);
    if (brought.valid()) brought.get();
  }
  next_ = following;
}

}  // namespace shrinkwarp
