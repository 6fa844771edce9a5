#include <shrinkwarp/models/lista/evaluation.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr double kOptimumGap = 1e-12;

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
  const Tensor<double> restart(context, tiles, N), scratch(context, residual_scratch(context, D, N));
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
                    ObservationSource& source, double lambda_fraction,
                    const std::function<void(MatrixView<const T>)>& codes, const CancelToken* cancel) {
  const std::int64_t n = dictionary.rows(), m = dictionary.atoms();
  const std::int64_t width = std::min(kChunk, source.size());
  const Context host = Context::cpu(1);
  const Tensor<double> read(host, n, width), scaled(host, n, width);
  const Tensor<double> X(context, n, width), lambda(context, width), double_codes(context, m, width);
  const Tensor<double> largest(context, width), scratch(context, correlation_scratch(context, m, width));
  const Tensor<T> X_in_T(context, n, width), lambda_in_T(context, width), Z(context, m, width),
      Z_on_host(host, m, width);
  const Tensor<std::byte> workspace(context, network.scratch(context, width, false));
  const Judge judge(context, dictionary, width);
  LassoOptions exact;
  exact.gap = kOptimumGap;
  exact.cancel = cancel;

  Evaluation result;
  result.layers = network.depth();
  for (std::int64_t first = 0; first < source.size(); first += width) {
    const std::int64_t count = std::min(width, source.size() - first);
    const MatrixView<double> x = read.matrix().columns(0, count);
    source.read(first, x);
    std::vector<double> units, energies;
    std::vector<T> rounded(static_cast<std::size_t>(n * count));
    for (std::int64_t b = 0; b < count; ++b) {
      require_finite(source, first + b, {x.column(b), n, {}});
      const ScaledObservation its = scale_observation(x.column(b), n, scaled.matrix().column(b));
      units.push_back(its.scale);
      energies.push_back(its.energy);
      for (std::int64_t i = 0; i < n; ++i)
        rounded[static_cast<std::size_t>(i + b * n)] = static_cast<T>(scaled.matrix()(i, b));
    }
    const MatrixView<double> its_X = X.matrix().columns(0, count);
    copy<double>(context, scaled.matrix().columns(0, count), its_X);
    copy<T>(context, MatrixView<const T>{rounded.data(), n, count, n, {}}, X_in_T.matrix().columns(0, count));
    correlation_max(context, dictionary.exact(), its_X, largest.vector().slice(0, count), scratch.vector());
    std::vector<double> lambdas(static_cast<std::size_t>(count));
    copy<double>(context, largest.vector().slice(0, count), VectorView<double>{lambdas.data(), count, {}});
    context.synchronize();
    for (double& value : lambdas) value *= lambda_fraction;
    const VectorView<double> its_lambda = lambda.vector().slice(0, count);
    send(context, lambdas, its_lambda);
    send(context, std::vector<T>(lambdas.begin(), lambdas.end()), lambda_in_T.vector().slice(0, count));

    // The optimum, in the user's units and so with the same lambda to a rounding.
    const LassoBatch optimum = solve_lasso(context, dictionary, x, LambdaRule::sample_fraction(lambda_fraction), exact);
    const auto add = [&](const std::pair<std::vector<double>, std::vector<double>>& found, CodesQuality& quality) {
      for (std::size_t b = 0; b < found.first.size(); ++b) {
        const double squared = units[b] * units[b];
        quality.mean_excess += (found.first[b] * squared - optimum.objective[b]) / static_cast<double>(source.size());
        const double gap = energies[b] > 0 ? found.second[b] / energies[b] : 0;
        quality.mean_relative_gap += gap / static_cast<double>(source.size());
        quality.worst_relative_gap = std::max(quality.worst_relative_gap, gap);
      }
    };
    for (const double value : optimum.objective) result.mean_optimum += value / static_cast<double>(source.size());

    const MatrixView<T> z = Z.matrix().columns(0, count);
    network.forward(context, X_in_T.matrix().columns(0, count), lambda_in_T.vector().slice(0, count), z,
                    workspace.vector());
    add(judge.operator()<T>(its_X, its_lambda, z), result.network);
    if (codes) {
      const MatrixView<T> on_host = Z_on_host.matrix().columns(0, count);
      copy<T>(context, z, on_host);
      context.synchronize();
      for (std::int64_t b = 0; b < count; ++b) {
        const double unit = units[static_cast<std::size_t>(b)] / dictionary.scale();
        for (std::int64_t j = 0; j < m; ++j) on_host(j, b) = static_cast<T>(on_host(j, b) * unit);
      }
      codes(on_host);
    }
    const MatrixView<double> y = double_codes.matrix().columns(0, count);
    proximal_codes(context, dictionary, its_X, its_lambda, network.depth(), Momentum::none, y);
    add(judge.operator()<double>(its_X, its_lambda, y), result.ista);
    proximal_codes(context, dictionary, its_X, its_lambda, network.depth(), Momentum::fista, y);
    add(judge.operator()<double>(its_X, its_lambda, y), result.fista);
    result.problems += count;
  }
  return result;
}

template Evaluation evaluate<float>(const Context&, const Dictionary&, const Network<float>&, ObservationSource&,
                                    double, const std::function<void(MatrixView<const float>)>&, const CancelToken*);
template Evaluation evaluate<double>(const Context&, const Dictionary&, const Network<double>&, ObservationSource&,
                                     double, const std::function<void(MatrixView<const double>)>&, const CancelToken*);

}  // namespace shrinkwarp
