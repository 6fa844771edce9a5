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

/// Bytes of a sample: beside the matrices below the scratch of a pass has two of codes and one of residuals.
template <class T>
std::int64_t bytes_a_sample(std::int64_t n, std::int64_t m) {
  constexpr std::int64_t kDouble = sizeof(double), kElement = sizeof(T);
  return n * (2 * kDouble + 2 * kElement) + 3 * m * kElement;
}

template <class T>
std::int64_t most_samples(std::int64_t n, std::int64_t m) {
  const std::int64_t bytes = bytes_a_sample<T>(n, m);
  // A part takes a thread some ten seconds at most, in which no cancel is heard.
  constexpr double kFlops = 1e11, kLayers = 10;
  const double a_sample = 4 * kLayers * static_cast<double>(n) * static_cast<double>(m);
  const auto soon = static_cast<std::int64_t>(std::min(kFlops / a_sample, static_cast<double>(kMostSamples)));
  return std::max<std::int64_t>(1, std::min(kMostBytes / bytes, soon));
}

}  // namespace

template <class T>
MeanCost<T>::MeanCost(const Context& context, const Dictionary& dictionary, const Samples<T>& samples,
                      const LambdaShares& shares, std::int64_t most, Replicas* replicas)
    : dictionary_(dictionary),
      replicas_(replicas),
      parts_(context, samples, shares, std::min(samples.size(), most),
             most_samples<T>(dictionary.rows(), dictionary.atoms()), true,
             bytes_a_sample<T>(dictionary.rows(), dictionary.atoms()), replicas),
      memory_(static_cast<std::size_t>(parts_.workers())) {
  for (int worker = 0; worker < parts_.workers(); ++worker) {
    const Context& its = parts_.context(worker);
    Memory& memory = memory_[static_cast<std::size_t>(worker)];
    memory.Z = Tensor<T>(its, dictionary.atoms(), parts_.size());
    memory.R = Tensor<double>(its, dictionary.rows(), parts_.size());
    memory.correlation = Tensor<double>::zeros(its, parts_.size());
    memory.primal = Tensor<double>(its, parts_.size());
    memory.gap = Tensor<double>(its, parts_.size());
  }
}

template <class T>
double MeanCost<T>::operator()(const Network<T>& network, const CancelToken* cancel) const {
  std::vector<double> sums(static_cast<std::size_t>(parts_.count())), found(memory_.size());
  do_own_share(replicas_, [&] {
    parts_.each(
        cancel,
        [&](const typename SampleParts<T>::Part& part, int worker) {
          found[static_cast<std::size_t>(worker)] = sum_of(network, part, worker);
        },
        [&](std::int64_t part, int worker) {
          sums[static_cast<std::size_t>(part)] = found[static_cast<std::size_t>(worker)];
        });
  });
  if (replicas_ != nullptr) replicas_->add(1, sums.data(), parts_.count());  // to zeros
  return std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(parts_.total());
}

/// Of the costs of a part's samples.
template <class T>
double MeanCost<T>::sum_of(const Network<T>& network, const typename SampleParts<T>::Part& part, int worker) const {
  const Context& context = parts_.context(worker);
  Memory& memory = memory_[static_cast<std::size_t>(worker)];
  const std::int64_t wanted = network.scratch(context, parts_.size(), false), count = part.X.cols;
  if (memory.scratch.size() < wanted) memory.scratch = Tensor<std::byte>(context, wanted);
  const MatrixView<T> Z = memory.Z.matrix().columns(0, count);
  network.forward(context, part.X, part.lambda, Z, memory.scratch.vector());
  const MatrixView<double> R = memory.R.matrix().columns(0, count);
  const VectorView<double> primal = memory.primal.vector().slice(0, count);
  code_residual<T>(context, dictionary_.exact(), Z, part.wide_X, R, {});
  // The primal value alone is wanted: correlations, which only the gap reads, are left at 0.
  dual_gap<T>(context, part.wide_X, R, memory.correlation.vector().slice(0, count), Z, dictionary_.atom_norm(),
              part.wide_lambda, primal, memory.gap.vector().slice(0, count));
  const std::vector<double> costs = on_host(context, primal);
  return std::accumulate(costs.begin(), costs.end(), 0.0);
}

template class MeanCost<float>;
template class MeanCost<double>;

}  // namespace shrinkwarp
