#include <shrinkwarp/models/lista/mean_cost.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kMostSamples = 32768;                // of a part
constexpr std::int64_t kMostBytes = std::int64_t{1} << 28;  // of its matrices

/// Beside the matrices below the scratch of a pass has two of codes and one of residuals.
template <class T>
std::int64_t most_samples(std::int64_t n, std::int64_t m) {
  constexpr std::int64_t kDouble = sizeof(double), kElement = sizeof(T);
  const std::int64_t bytes = n * (2 * kDouble + 2 * kElement) + 3 * m * kElement;
  // A part takes some seconds at most, in which no cancel is heard.
  constexpr double kFlops = 1e11, kLayers = 10;
  const double a_sample = 4 * kLayers * static_cast<double>(n) * static_cast<double>(m);
  const auto soon = static_cast<std::int64_t>(std::min(kFlops / a_sample, static_cast<double>(kMostSamples)));
  return std::max<std::int64_t>(1, std::min(kMostBytes / bytes, soon));
}

}  // namespace

template <class T>
MeanCost<T>::MeanCost(const Context& context, const Dictionary& dictionary, const Samples<T>& samples,
                      const LambdaShares& shares, std::int64_t most, Replicas* replicas)
    : context_(context),
      dictionary_(dictionary),
      replicas_(replicas),
      parts_(context, samples, shares, std::min(samples.size(), most),
             most_samples<T>(dictionary.rows(), dictionary.atoms()), true, replicas),
      Z_(context, dictionary.atoms(), parts_.size()),
      R_(context, dictionary.rows(), parts_.size()),
      correlation_(Tensor<double>::zeros(context, parts_.size())),
      primal_(context, parts_.size()),
      gap_(context, parts_.size()) {}

template <class T>
double MeanCost<T>::operator()(const Network<T>& network, const CancelToken* cancel) const {
  std::vector<double> sums(static_cast<std::size_t>(parts_.count()));
  do_own_share(replicas_, [&] {
    const SampleShare own = parts_.own();
    for (std::int64_t part = own.first; part < own.first + own.count; ++part) {
      if (cancel != nullptr && cancel->cancelled())
        SHRINKWARP_THROW(Cancelled, "MeanCost: cancelled with ", part - own.first, " of ", own.count, " parts seen");
      sums[static_cast<std::size_t>(part)] = sum_of(network, part);
    }
  });
  if (replicas_ != nullptr) replicas_->add(1, sums.data(), parts_.count());  // to zeros
  return std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(parts_.total());
}

/// Of the costs of a part's samples.
template <class T>
double MeanCost<T>::sum_of(const Network<T>& network, std::int64_t part) const {
  const std::int64_t wanted = network.scratch(context_, parts_.size(), false);
  if (scratch_.size() < wanted) scratch_ = Tensor<std::byte>(context_, wanted);
  const typename SampleParts<T>::Part its = parts_.at(part);
  const std::int64_t count = its.X.cols;
  const MatrixView<T> Z = Z_.matrix().columns(0, count);
  network.forward(context_, its.X, its.lambda, Z, scratch_.vector());
  const MatrixView<double> R = R_.matrix().columns(0, count);
  const VectorView<double> primal = primal_.vector().slice(0, count);
  code_residual<T>(context_, dictionary_.exact(), Z, its.wide_X, R, {});
  // The primal value alone is wanted: correlations, which only the gap reads, are left at 0.
  dual_gap<T>(context_, its.wide_X, R, correlation_.vector().slice(0, count), Z, dictionary_.atom_norm(),
              its.wide_lambda, primal, gap_.vector().slice(0, count));
  const std::vector<double> costs = on_host(context_, primal);
  return std::accumulate(costs.begin(), costs.end(), 0.0);
}

template class MeanCost<float>;
template class MeanCost<double>;

}  // namespace shrinkwarp
