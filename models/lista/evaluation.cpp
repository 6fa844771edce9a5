#include <shrinkwarp/models/lista/evaluation.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/models/lista/full_batch.hpp>
#include <shrinkwarp/models/lista/network_run.hpp>
#include <shrinkwarp/models/lista/networks.hpp>
#include <shrinkwarp/models/lista/oracle_ista.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr double kOptimumGap = 1e-12;                       // that is asked for
constexpr double kPoorOptimumGap = 1e-11;                   // beyond which it is said
constexpr std::int64_t kHeldBytes = std::int64_t{1} << 30;  // of observations whose cost is differentiated

/// Certificates of the codes of a chunk.
class Judge {
 public:
  Judge(const Context& context, const Dictionary& dictionary, std::int64_t problems)
      : context_(context),
        dictionary_(dictionary),
        residual_(context, dictionary.rows(), problems),
        correlation_(context, problems),
        primal_(context, problems),
        gap_(context, problems),
        scratch_(context, correlation_scratch(context, dictionary.atoms(), problems)) {}

  /// Objectives and gaps, in the units of X.
  template <class U>
  std::pair<std::vector<double>, std::vector<double>> operator()(MatrixView<const double> X,
                                                                 VectorView<const double> lambda,
                                                                 MatrixView<const U> Z) const {
    const MatrixView<double> R = residual_.matrix().columns(0, X.cols);
    const VectorView<double> correlation = correlation_.vector().slice(0, X.cols);
    const VectorView<double> primal = primal_.vector().slice(0, X.cols), gap = gap_.vector().slice(0, X.cols);
    code_residual<U>(context_, dictionary_.exact(), Z, X, R, {});
    correlation_max(context_, dictionary_.exact(), R, correlation, scratch_.vector());
    dual_gap<U>(context_, X, R, correlation, Z, dictionary_.atom_norm(), lambda, primal, gap);
    std::pair<std::vector<double>, std::vector<double>> found;
    for (auto [from, to] : {std::pair(primal, &found.first), std::pair(gap, &found.second)}) {
      to->resize(static_cast<std::size_t>(X.cols));
      copy<double>(context_, from, VectorView<double>{to->data(), X.cols, {}});
    }
    context_.synchronize();
    return found;
  }

 private:
  const Context& context_;
  const Dictionary& dictionary_;
  Tensor<double> residual_, correlation_, primal_, gap_, scratch_;
};

double half_squares(const double* x, std::int64_t n) {
  return std::inner_product(x, x + n, x, 0.0) / 2;
}

template <class T>
void send(const Context& context, const std::vector<T>& values, VectorView<T> target) {
  copy<T>(context, VectorView<const T>{values.data(), target.size, {}}, target);
  context.synchronize();
}

}  // namespace

void proximal_codes(const Context& context, const Dictionary& dictionary, MatrixView<const double> X,
                    VectorView<const double> lambda, std::int64_t iterations, Momentum momentum, MatrixView<double> Z) {
  const StepDictionary<double>& D = dictionary.packed<double>(context);
  const double lipschitz = dictionary.lipschitz(context), step = lipschitz > 0 ? 1 / lipschitz : 1;
  const std::int64_t N = X.cols, tiles = step_tiles(context, D.cols());
  const Tensor<double> other(context, D.cols(), N), R(context, D.rows(), N), t(context, N), beta(context, N);
  const Tensor<double> restart(context, tiles, N), scratch(context, residual_scratch(context, D.rows(), D.cols(), N));
  const Tensor<std::int32_t> support(context, tiles, N);
  send(context, std::vector<double>(static_cast<std::size_t>(N), 1.0), t.vector());
  context.zero_bytes(beta.data(), beta.bytes());
  MatrixView<double> current = Z, previous = other.matrix();
  for (std::int64_t b = 0; b < N; ++b)
    context.zero_bytes(Z.column(b), Z.rows * static_cast<std::int64_t>(sizeof(double)));
  context.zero_bytes(other.data(), other.bytes());
  for (std::int64_t k = 0; k < iterations; ++k) {
    extrapolated_residual<double>(context, D, current, previous, beta.vector(), X, R.matrix(), scratch.vector());
    gradient_step<double>(context, D, R.matrix(), {}, current, previous, beta.vector(), step, lambda, {},
                          {restart.matrix(), support.matrix()});
    std::swap(current, previous);
    update_momentum<double>(context, momentum, {restart.matrix(), support.matrix()}, t.vector(), beta.vector(), {});
  }
  if (current.data != Z.data) copy<double>(context, current, Z);
  context.synchronize();
}

template <class T>
Evaluation evaluate(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                    ObservationSource& source, double lambda_fraction, bool oracle,
                    const std::function<void(MatrixView<const double>)>& codes, const CancelToken* cancel) {
  const std::int64_t width = std::min(kChunk, source.size());
  const Tensor<double> read(Context::cpu(1), dictionary.rows(), width), baseline(context, dictionary.atoms(), width);
  NetworkRun<T> run(context, dictionary, network, width);
  const Judge judge(context, dictionary, width);
  LassoOptions exact;
  exact.gap = kOptimumGap;
  exact.cancel = cancel;

  const Context host = Context::cpu(context.is_cuda() ? 0 : context.threads());
  Tensor<double> D, host_codes;
  if (oracle) {
    D = dictionary_in<double>(host, context, dictionary);
    host_codes = Tensor<double>(host, dictionary.atoms(), width);
  }

  Evaluation result;
  result.layers = network.depth();
  if (oracle) result.oracle_ista.emplace();
  const auto problems = static_cast<double>(source.size());
  for (std::int64_t first = 0; first < source.size(); first += width) {
    const MatrixView<double> x = read.matrix().columns(0, std::min(width, source.size() - first));
    source.read(first, x);
    for (std::int64_t b = 0; b < x.cols; ++b) require_finite(source, first + b, {x.column(b), x.rows, {}});
    const LassoBatch optimum = solve_lasso(context, dictionary, x, LambdaRule::sample_fraction(lambda_fraction), exact);
    for (std::int64_t b = 0; b < optimum.size(); ++b) {
      const auto at = static_cast<std::size_t>(b);
      result.mean_optimum += optimum.objective[at] / problems;
      const double energy = half_squares(x.column(b), x.rows);
      const double gap = energy > 0 ? optimum.dual_gap[at] / energy : 0;
      result.optimum_gap = std::max(result.optimum_gap, gap);
      result.optimum_missed += gap <= kPoorOptimumGap ? 0 : 1;
    }
    const auto add = [&](const std::pair<std::vector<double>, std::vector<double>>& found, CodesQuality& quality) {
      for (std::size_t b = 0; b < found.first.size(); ++b) {
        const double unit = run.unit(static_cast<std::int64_t>(b)), energy = run.energy(static_cast<std::int64_t>(b));
        const double excess = found.first[b] * unit * unit - optimum.objective[b];
        double gap = energy > 0 ? found.second[b] / energy : 0;
        const bool finite = std::isfinite(excess) && std::isfinite(gap);
        if (!finite) gap = std::numeric_limits<double>::infinity();
        quality.not_finite += finite ? 0 : 1;
        quality.mean_excess += (finite ? excess : gap) / problems;
        quality.mean_relative_gap += gap / problems;
        quality.worst_relative_gap = std::max(quality.worst_relative_gap, gap);
      }
    };
    run.run(x, [&](std::int64_t, double lambda_max) { return lambda_fraction * lambda_max; });
    add(judge.operator()<T>(run.X(), run.lambda(), run.codes()), result.network);
    if (codes) codes(run.user_codes());
    const MatrixView<double> z = baseline.matrix().columns(0, x.cols);
    proximal_codes(context, dictionary, run.X(), run.lambda(), network.depth(), Momentum::none, z);
    add(judge.operator()<double>(run.X(), run.lambda(), z), result.ista);
    proximal_codes(context, dictionary, run.X(), run.lambda(), network.depth(), Momentum::fista, z);
    add(judge.operator()<double>(run.X(), run.lambda(), z), result.fista);
    if (oracle) {
      const MatrixView<double> on_host = host_codes.matrix().columns(0, x.cols);
      const double lipschitz = dictionary.lipschitz(context);
      oracle_ista_codes(host, D.matrix(), lipschitz > 0 ? lipschitz : 1, run.scaled(), run.host_lambda(),
                        network.depth(), on_host);
      copy<double>(context, on_host, z);
      context.synchronize();
      add(judge.operator()<double>(run.X(), run.lambda(), z), *result.oracle_ista);
    }
    result.problems += x.cols;
  }
  return result;
}

template <class T>
Safetensors cost_gradient(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                          ObservationSource& source, double lambda_fraction) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(source.size()));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  const Samples<T> samples(context, dictionary, source, std::move(all), kHeldBytes);
  const FullBatch<T> batch(context, samples, {lambda_fraction, lambda_fraction, 0});
  std::vector<double> gradient;
  batch.cost(network, &gradient);
  Safetensors file;
  network.save_gradient(gradient, samples.unit() * samples.unit(), file);
  return file;
}

template Safetensors cost_gradient<float>(const Context&, const Dictionary&, const Network<float>&, ObservationSource&,
                                          double);
template Safetensors cost_gradient<double>(const Context&, const Dictionary&, const Network<double>&,
                                           ObservationSource&, double);
template Evaluation evaluate<float>(const Context&, const Dictionary&, const Network<float>&, ObservationSource&,
                                    double, bool, const std::function<void(MatrixView<const double>)>&,
                                    const CancelToken*);
template Evaluation evaluate<double>(const Context&, const Dictionary&, const Network<double>&, ObservationSource&,
                                     double, bool, const std::function<void(MatrixView<const double>)>&,
                                     const CancelToken*);

}  // namespace shrinkwarp
