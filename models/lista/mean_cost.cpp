#include <shrinkwarp/models/lista/mean_cost.hpp>

#include <algorithm>
#include <numeric>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kMostSamples = 32768;                // of a chunk
constexpr std::int64_t kMostBytes = std::int64_t{1} << 28;  // of a chunk's matrices

/// Beside the matrices below the scratch of a pass has two of codes and one of residuals.
template <class T>
std::int64_t chunk_of(std::int64_t count, std::int64_t n, std::int64_t m) {
  constexpr std::int64_t kDouble = sizeof(double), kElement = sizeof(T);
  const std::int64_t bytes = n * (2 * kDouble + 2 * kElement) + 3 * m * kElement;
  // A chunk takes some seconds at most, in which no cancel is heard.
  constexpr double kFlops = 1e11, kLayers = 10;
  const double a_sample = 4 * kLayers * static_cast<double>(n) * static_cast<double>(m);
  const auto soon = static_cast<std::int64_t>(std::min(kFlops / a_sample, static_cast<double>(kMostSamples)));
  return std::clamp<std::int64_t>(std::min(kMostBytes / bytes, soon), 1, std::max<std::int64_t>(count, 1));
}

}  // namespace

template <class T>
MeanCost<T>::MeanCost(const Context& context, const Dictionary& dictionary, const Samples<T>& samples,
                      const LambdaShares& shares, std::int64_t most, Replicas* replicas)
    : context_(context),
      dictionary_(dictionary),
      samples_(samples),
      shares_(shares),
      replicas_(replicas),
      total_(std::min(samples.size(), most)),
      share_(share_of(replicas, total_)),
      chunk_(chunk_of<T>(share_.count, dictionary.rows(), dictionary.atoms())),
      X_(context, dictionary.rows(), chunk_),
      lambda_(context, chunk_),
      Z_(context, dictionary.atoms(), chunk_),
      R_(context, dictionary.rows(), chunk_),
      correlation_(Tensor<double>::zeros(context, chunk_)),
      primal_(context, chunk_),
      gap_(context, chunk_) {
  if (kExact) return;
  wide_X_ = Tensor<double>(context, dictionary.rows(), chunk_);
  wide_lambda_ = Tensor<double>(context, chunk_);
}

template <class T>
MatrixView<double> MeanCost<T>::exact_X() const {
  if constexpr (kExact) return X_.matrix();
  return wide_X_.matrix();
}
template <class T>
VectorView<double> MeanCost<T>::exact_lambda() const {
  if constexpr (kExact) return lambda_.vector();
  return wide_lambda_.vector();
}

template <class T>
void MeanCost<T>::fill(std::int64_t first, std::int64_t count) const {
  if (filled_ == first) return;
  filled_ = -1;
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(count));
  std::iota(chosen.begin(), chosen.end(), first);
  const Context host = Context::cpu(1);
  const Tensor<T> X(host, samples_.dimension(), count), lambda(host, count);
  samples_.gather(chosen.data(), shares_, 0, X.matrix(), lambda.vector());
  copy<T>(context_, X.matrix(), X_.matrix().columns(0, count));
  copy<T>(context_, lambda.vector(), lambda_.vector().slice(0, count));
  if constexpr (!kExact) {
    const std::vector<double> wide(X.data(), X.data() + X.size()), its(lambda.data(), lambda.data() + count);
    copy<double>(context_, VectorView<const double>{wide.data(), X.size(), {}}, wide_X_.vector().slice(0, X.size()));
    copy<double>(context_, VectorView<const double>{its.data(), count, {}}, wide_lambda_.vector().slice(0, count));
    context_.synchronize();  // before these go
  }
  context_.synchronize();
  filled_ = first;
}

template <class T>
double MeanCost<T>::operator()(const Network<T>& network, const CancelToken* cancel) const {
  double sum = 0;
  do_own_share(replicas_, [&] { sum = sum_of_share(network, cancel); });
  if (replicas_ != nullptr) replicas_->add(1, &sum, 1);
  return sum / static_cast<double>(total_);
}

template <class T>
double MeanCost<T>::sum_of_share(const Network<T>& network, const CancelToken* cancel) const {
  const std::int64_t wanted = network.scratch(context_, chunk_, false);
  if (scratch_.size() < wanted) scratch_ = Tensor<std::byte>(context_, wanted);
  std::vector<double> costs(static_cast<std::size_t>(chunk_));
  double sum = 0;
  const std::int64_t end = share_.first + share_.count;
  for (std::int64_t first = share_.first; first < end; first += chunk_) {
    if (cancel != nullptr && cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "MeanCost: cancelled with ", first - share_.first, " of ", share_.count,
                       " samples seen");
    const std::int64_t count = std::min(chunk_, end - first);
    fill(first, count);
    const MatrixView<T> Z = Z_.matrix().columns(0, count);
    network.forward(context_, X_.matrix().columns(0, count), lambda_.vector().slice(0, count), Z, scratch_.vector());
    const MatrixView<double> X = exact_X().columns(0, count), R = R_.matrix().columns(0, count);
    const VectorView<double> primal = primal_.vector().slice(0, count);
    code_residual<T>(context_, dictionary_.exact(), Z, X, R, {});
    // The primal value alone is wanted: correlations, which only the gap reads, are left at 0.
    dual_gap<T>(context_, X, R, correlation_.vector().slice(0, count), Z, dictionary_.atom_norm(),
                exact_lambda().slice(0, count), primal, gap_.vector().slice(0, count));
    copy<double>(context_, primal, VectorView<double>{costs.data(), count, {}});
    context_.synchronize();
    for (std::int64_t b = 0; b < count; ++b) sum += costs[static_cast<std::size_t>(b)];
  }
  return sum;
}

template class MeanCost<float>;
template class MeanCost<double>;

}  // namespace shrinkwarp
