#include <shrinkwarp/models/lista/batch_pipeline.hpp>

#include <future>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

namespace {

template <class T>
double mean_energy_of(MatrixView<const T> X) {
  double sum = 0;
  for (std::int64_t b = 0; b < X.cols; ++b)
    for (std::int64_t i = 0; i < X.rows; ++i) sum += static_cast<double>(X(i, b)) * static_cast<double>(X(i, b));
  return sum / 2 / static_cast<double>(X.cols);
}

}  // namespace

template <class T>
BatchPipeline<T>::Slot::Slot(const Context& context, std::int64_t rows, std::int64_t size)
    : X(context, rows, size), lambda(context, size), copied(context), read(context) {
  if (!context.is_cuda()) return;
  staged_X = PinnedMatrix<T>(context, rows, size);
  staged_lambda = PinnedMatrix<T>(context, size);
}

template <class T>
BatchPipeline<T>::BatchPipeline(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
                                std::int64_t size)
    : context_(context),
      samples_(samples),
      shares_(shares),
      size_(size),
      slots_{{context, samples.dimension(), size}, {context, samples.dimension(), size}} {
  if (context.is_cuda()) copies_ = Context::cuda(context.device().index);
}

template <class T>
BatchPipeline<T>::~BatchPipeline() {
  try {
    if (copies_) copies_->synchronize();  // or a copy would read page-locked memory that is given back
  } catch (const Error&) {                // the device is lost; who waits for its results hears of it
  }
}

template <class T>
void BatchPipeline<T>::bring(std::int64_t number) {
  Slot& slot = slots_[number % 2];
  const std::int64_t* const chosen = order_.data() + number * size_;
  if (!copies_) {
    samples_.gather(chosen, shares_, pass_, slot.X.matrix(), slot.lambda.vector());
    slot.mean_energy = mean_energy_of<T>(slot.X.matrix());
    return;
  }
  slot.copied.synchronize();
  samples_.gather(chosen, shares_, pass_, slot.staged_X.matrix(), slot.staged_lambda.vector());
  slot.mean_energy = mean_energy_of<T>(slot.staged_X.matrix());
  slot.read.wait(*copies_);
  copy<T>(*copies_, slot.staged_X.matrix(), slot.X.matrix());
  copy<T>(*copies_, slot.staged_lambda.vector(), slot.lambda.vector());
  slot.copied.record(*copies_);
}

template <class T>
void BatchPipeline<T>::begin(std::vector<std::int64_t> order, std::uint64_t pass, std::int64_t first) {
  order_ = std::move(order);
  pass_ = pass;
  next_ = first;
  count_ = static_cast<std::int64_t>(order_.size()) / size_;
  if (next_ < count_) bring(next_);
}

template <class T>
void BatchPipeline<T>::next(FunctionRef<void(int)> step) {
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

template class BatchPipeline<float>;
template class BatchPipeline<double>;

}  // namespace shrinkwarp
