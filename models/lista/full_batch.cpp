#include <shrinkwarp/models/lista/full_batch.hpp>

#include <algorithm>
#include <numeric>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

/// Samples of a chunk: so many that a way there and back takes a second or a few, in which no cancel is heard; a number that
/// depends on neither threads nor depth, for the sums of a chunk are its bits.
std::int64_t chunk_of(std::int64_t count, std::int64_t rows, std::int64_t atoms) {
  constexpr std::int64_t kFewSamples = 64, kMostSamples = 32768;
  constexpr double kFlops = 1e11, kLayers = 10;
  const double a_sample = 12 * kLayers * static_cast<double>(rows) * static_cast<double>(atoms);
  const auto samples = static_cast<std::int64_t>(std::min(kFlops / a_sample, static_cast<double>(kMostSamples)));
  return std::clamp<std::int64_t>(count, 1, std::max(samples, kFewSamples));
}

}  // namespace

template <class T>
FullBatch<T>::FullBatch(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
                        std::int64_t most, std::int64_t most_scratch, Replicas* replicas)
    : context_(context),
      samples_(samples),
      shares_(shares),
      replicas_(replicas),
      total_(std::min(samples.size(), most)),
      share_(share_of(replicas, total_)),
      chunk_(chunk_of(share_.count, samples.dimension(), samples.atoms())),
      most_scratch_(most_scratch),
      X_(context, samples.dimension(), chunk_),
      lambda_(context, chunk_),
      loss_(context, 1) {}

template <class T>
void FullBatch<T>::fill(std::int64_t first, std::int64_t count) const {
  if (filled_ == first) return;
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(count));
  std::iota(chosen.begin(), chosen.end(), first);
  const Context host = Context::cpu(1);
  const Tensor<T> X(host, samples_.dimension(), count), lambda(host, count);
  samples_.gather(chosen.data(), shares_, 0, X.matrix(), lambda.vector());
  copy<T>(context_, X.matrix(), X_.matrix().columns(0, count));
  copy<T>(context_, lambda.vector(), lambda_.vector().slice(0, count));
  context_.synchronize();
  filled_ = first;
}

/// Samples of a chunk that go through the network at once. On the CPU a pass goes by slices of its own: there the sums of a
/// chunk must not depend on the threads, of which scratch has a slice each.
template <class T>
std::int64_t FullBatch<T>::width(const Network<T>& network) const {
  std::int64_t width = chunk_;
  while (context_.is_cuda() && width > 1 && network.scratch(context_, width, true) > most_scratch_)
    width = (width + 1) / 2;
  return width;
}

template <class T>
double FullBatch<T>::cost(const Network<T>& network, std::vector<double>* gradient, const CancelToken* cancel) const {
  gradient->assign(static_cast<std::size_t>(network.parameters().size), 0.0);
  double mean = 0;
  do_own_share(replicas_, [&] { mean = add_share(network, *gradient, cancel); });
  if (replicas_ == nullptr) return mean;
  replicas_->add(1, &mean, 1);
  replicas_->add(1, gradient->data(), static_cast<std::int64_t>(gradient->size()));
  return mean;
}

/// What the samples of this replica add to the mean cost and to its gradient.
template <class T>
double FullBatch<T>::add_share(const Network<T>& network, std::vector<double>& gradient,
                               const CancelToken* cancel) const {
  const std::int64_t width = this->width(network), size = network.parameters().size;
  const std::int64_t wanted = network.scratch(context_, width, true);
  if (scratch_.size() < wanted) scratch_ = Tensor<std::byte>(context_, wanted);
  if (gradient_.size() < size) gradient_ = Tensor<T>(context_, size);
  std::vector<T> part(static_cast<std::size_t>(size));
  double mean = 0;
  const std::int64_t end = share_.first + share_.count;
  for (std::int64_t first = share_.first; first < end; first += chunk_) {
    if (cancel != nullptr && cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "FullBatch: cancelled with ", first - share_.first, " of ", share_.count,
                       " samples seen");
    const std::int64_t held = std::min(chunk_, end - first);
    fill(first, held);
    for (std::int64_t begin = 0; begin < held; begin += width) {
      const std::int64_t count = std::min(width, held - begin);
      const double share = static_cast<double>(count) / static_cast<double>(total_);
      network.loss(context_, X_.matrix().columns(begin, count), lambda_.vector().slice(begin, count), loss_.vector(),
                   gradient_.vector().slice(0, size), scratch_.vector());
      double loss = 0;
      copy<double>(context_, loss_.vector(), VectorView<double>{&loss, 1, {}});
      copy<T>(context_, gradient_.vector().slice(0, size), VectorView<T>{part.data(), size, {}});
      context_.synchronize();
      mean += share * loss;
      for (std::size_t i = 0; i < part.size(); ++i) gradient[i] += share * static_cast<double>(part[i]);
    }
  }
  return mean;
}

template class FullBatch<float>;
template class FullBatch<double>;

}  // namespace shrinkwarp
