#include <shrinkwarp/models/lista/sample_parts.hpp>

#include <algorithm>
#include <numeric>
#include <type_traits>

namespace shrinkwarp {
namespace {

/// Replicas and threads are to have some parts each; and a part at least what networks compute at once on a thread
/// (lista_network's slices), or the weights would be packed more often.
constexpr std::int64_t kMostParts = 64, kFewSamples = 512;

/// @param bytes  that a worker needs
std::vector<Context> workers_for(const Context& context, std::int64_t parts, std::int64_t bytes) {
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 28;
  const std::int64_t room = std::max<std::int64_t>(1, kMostBytes / std::max<std::int64_t>(bytes, 1));
  const auto count = static_cast<int>(std::min({std::int64_t{context.threads()}, parts, room}));
  std::vector<Context> workers;
  for (int i = 0; i < count && count > 1; ++i) workers.push_back(Context::cpu(context.threads() / count));
  return workers;
}

std::int64_t part_size(std::int64_t total, std::int64_t most) {
  return std::clamp<std::int64_t>(std::max(kFewSamples, (total + kMostParts - 1) / kMostParts), 1,
                                  std::max<std::int64_t>(1, std::min(most, total)));
}

}  // namespace

template <class T>
SampleParts<T>::SampleParts(const Context& context, const Samples<T>& samples, const LambdaShares& shares,
                            std::int64_t total, std::int64_t most, bool wide, std::int64_t bytes,
                            const Replicas* replicas)
    : context_(context),
      samples_(samples),
      shares_(shares),
      total_(total),
      size_(part_size(total, most)),
      own_(share_of(replicas, count())),
      workers_(workers_for(context, own_.count, bytes * size_)),
      held_(std::clamp<std::int64_t>(most / size_ / workers() * workers(), workers(),
                                     std::max<std::int64_t>(workers(), own_.count))),
      wide_(wide),
      X_(context, samples.dimension(), held_ * size_),
      lambda_(context, held_ * size_) {
  if (std::is_same_v<T, double> || !wide) return;
  wide_X_ = Tensor<double>(context, samples.dimension(), held_ * size_);
  wide_lambda_ = Tensor<double>(context, held_ * size_);
}

template <class T>
typename SampleParts<T>::Part SampleParts<T>::at(std::int64_t part) const {
  const std::int64_t begin = (part - brought_) * size_, samples = std::min(size_, total_ - part * size_);
  Part its{X_.matrix().columns(begin, samples), lambda_.vector().slice(begin, samples), {}, {}};
  if constexpr (std::is_same_v<T, double>) {
    its.wide_X = its.X, its.wide_lambda = its.lambda;
  } else if (wide_) {
    its.wide_X = wide_X_.matrix().columns(begin, samples),
    its.wide_lambda = wide_lambda_.vector().slice(begin, samples);
  }
  return its;
}

/// A part and those behind it that are looked at beside it, if they are not there.
template <class T>
void SampleParts<T>::bring(std::int64_t part) const {
  const std::int64_t first = own_.first + (part - own_.first) / held_ * held_;
  if (brought_ == first) return;
  brought_ = -1;
  const std::int64_t begin = first * size_;
  const std::int64_t last = std::min({total_, begin + held_ * size_, (own_.first + own_.count) * size_});
  const std::int64_t count = last - begin;
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(count));
  std::iota(chosen.begin(), chosen.end(), begin);
  const Context host = Context::cpu(1);
  const Tensor<T> X(host, samples_.dimension(), count), lambda(host, count);
  samples_.gather(chosen.data(), shares_, 0, X.matrix(), lambda.vector());
  copy<T>(context_, X.matrix(), X_.matrix().columns(0, count));
  copy<T>(context_, lambda.vector(), lambda_.vector().slice(0, count));
  if (wide_X_.size() > 0) {
    const std::vector<double> wide(X.data(), X.data() + X.size()), its(lambda.data(), lambda.data() + count);
    copy<double>(context_, VectorView<const double>{wide.data(), X.size(), {}}, wide_X_.vector().slice(0, X.size()));
    copy<double>(context_, VectorView<const double>{its.data(), count, {}}, wide_lambda_.vector().slice(0, count));
    context_.synchronize();  // before these go
  }
  context_.synchronize();
  brought_ = first;
}

template class SampleParts<float>;
template class SampleParts<double>;

}  // namespace shrinkwarp
