#include <shrinkwarp/models/lista/full_batch.hpp>

#include <algorithm>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

namespace shrinkwarp {
namespace {

/// Samples of a part: at most so many that a way there and back takes a thread some ten seconds, in which no cancel is heard; a number
/// that depends on neither threads nor depth, for the sums of a part are its bits.
std::int64_t most_samples(std::int64_t rows, std::int64_t atoms) {
  constexpr std::int64_t kFewSamples = 64, kMostSamples = 32768;
  constexpr double kFlops = 1e11, kLayers = 10;
  const double a_sample = 12 * kLayers * static_cast<double>(rows) * static_cast<double>(atoms);
  const auto samples = static_cast<std::int64_t>(std::min(kFlops / a_sample, static_cast<double>(kMostSamples)));
  return std::max(samples, kFewSamples);
}

void add_to(double* sums, const double* part, std::int64_t size) {
  for (std::int64_t i = 0; i < size; ++i) sums[i] += part[i];
}

}  // namespace

template <class T>
FullBatch<T>::FullBatch(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
                        std::int64_t most, std::int64_t most_scratch, Replicas* replicas, std::int64_t most_told)
    : context_(context),
      replicas_(replicas),
      most_scratch_(most_scratch),
      most_told_(most_told),
      parts_(context, samples, shares, std::min(samples.size(), most),
             most_samples(samples.dimension(), samples.atoms()), false, 0, replicas),
      memory_(static_cast<std::size_t>(parts_.workers())) {
  for (int worker = 0; worker < parts_.workers(); ++worker)
    memory_[static_cast<std::size_t>(worker)].loss = Tensor<double>(parts_.context(worker), 1);
}

/// Samples of a part that go through the network at once. On the CPU a pass goes by slices of its own: there the sums of a
/// part must not depend on the threads, of which scratch has a slice each.
template <class T>
std::int64_t FullBatch<T>::width(const Network<T>& network) const {
  std::int64_t width = parts_.size();
  while (context_.is_cuda() && width > 1 && network.scratch(context_, width, true) > most_scratch_)
    width = (width + 1) / 2;
  return width;
}

template <class T>
double FullBatch<T>::cost(const Network<T>& network, std::vector<double>* gradient, const CancelToken* cancel) const {
  const std::int64_t size = network.parameters().size + 1;  // the cost comes last
  const bool tells_parts = replicas_ != nullptr && parts_.count() * size <= most_told_;
  std::vector<double> sums(static_cast<std::size_t>(size)), told;
  if (tells_parts) told.resize(static_cast<std::size_t>(parts_.count() * size));
  do_own_share(replicas_, [&] {
    parts_.each(
        cancel, [&](const typename SampleParts<T>::Part& part, int worker) { sum_of(network, part, worker); },
        [&](std::int64_t part, int worker) {
          add_to(tells_parts ? told.data() + part * size : sums.data(),
                 memory_[static_cast<std::size_t>(worker)].sums.data(), size);
        });
  });
  if (tells_parts) {
    replicas_->add(1, told.data(), parts_.count() * size);  // to zeros
    for (std::int64_t part = 0; part < parts_.count(); ++part) add_to(sums.data(), told.data() + part * size, size);
  } else if (replicas_ != nullptr) {
    replicas_->add(1, sums.data(), size);
  }
  gradient->assign(sums.begin(), sums.end() - 1);
  return sums.back();
}

/// What the samples of a part add to the gradient of the mean cost, and to the cost.
template <class T>
void FullBatch<T>::sum_of(const Network<T>& network, const typename SampleParts<T>::Part& part, int worker) const {
  const Context& context = parts_.context(worker);
  Memory& memory = memory_[static_cast<std::size_t>(worker)];
  const std::int64_t width = this->width(network), size = network.parameters().size;
  const std::int64_t wanted = network.scratch(context, width, true);
  if (memory.scratch.size() < wanted) memory.scratch = Tensor<std::byte>(context, wanted);
  if (memory.gradient.size() < size) memory.gradient = Tensor<T>(context, size);
  const VectorView<T> gradient = memory.gradient.vector().slice(0, size);
  memory.sums.assign(static_cast<std::size_t>(size + 1), 0.0);
  for (std::int64_t begin = 0; begin < part.X.cols; begin += width) {
    const std::int64_t count = std::min(width, part.X.cols - begin);
    const double share = static_cast<double>(count) / static_cast<double>(parts_.total());
    network.loss(context, part.X.columns(begin, count), part.lambda.slice(begin, count), memory.loss.vector(), gradient,
                 memory.scratch.vector());
    double loss = 0;
    copy<double>(context, memory.loss.vector(), {&loss, 1, {}});
    const std::vector<T> found = on_host(context, gradient);  // waits for the loss too
    for (std::size_t i = 0; i < found.size(); ++i) memory.sums[i] += share * static_cast<double>(found[i]);
    memory.sums.back() += share * loss;
  }
}

template class FullBatch<float>;
template class FullBatch<double>;

}  // namespace shrinkwarp
