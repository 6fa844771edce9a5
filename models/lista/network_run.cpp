#include <shrinkwarp/models/lista/network_run.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kWidth = 1024;  // problems of a batch

const Context& this_host() {
  thread_local const Context host = Context::cpu(1);
  return host;
}

bool is_finite(const double* x, std::int64_t n) {
  return std::all_of(x, x + n, [](double value) { return std::isfinite(value); });
}

}  // namespace

template <class T>
NetworkRun<T>::NetworkRun(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                          std::int64_t width)
    : context_(context),
      dictionary_(dictionary),
      network_(network),
      scaled_(this_host(), dictionary.rows(), width),
      X_(context, dictionary.rows(), width),
      lambda_(context, width),
      largest_(context, width),
      correlation_scratch_(context, correlation_scratch(context, dictionary.atoms(), width)),
      rounded_(this_host(), dictionary.rows(), width),
      X_in_T_(context, dictionary.rows(), width),
      lambda_in_T_(context, width),
      codes_(context, dictionary.atoms(), width),
      codes_on_host_(this_host(), dictionary.atoms(), width),
      user_codes_(this_host(), dictionary.atoms(), width),
      scratch_(context, network.scratch(context, width, false)),
      units_(static_cast<std::size_t>(width)),
      energies_(units_.size()),
      lambdas_(units_.size()),
      lambdas_in_T_(units_.size()) {}

template <class T>
void NetworkRun<T>::run(MatrixView<const double> x, FunctionRef<double(std::int64_t, double)> lambda_of) {
  const std::int64_t n = dictionary_.rows();
  count_ = x.cols;
  const MatrixView<double> scaled = scaled_.matrix().columns(0, count_);
  const MatrixView<T> rounded = rounded_.matrix().columns(0, count_);
  for (std::int64_t b = 0; b < count_; ++b) {
    const ScaledObservation its = scale_observation(x.column(b), n, scaled.column(b));
    units_[static_cast<std::size_t>(b)] = its.scale;
    energies_[static_cast<std::size_t>(b)] = its.energy;
    for (std::int64_t i = 0; i < n; ++i) rounded(i, b) = static_cast<T>(scaled(i, b));
  }
  copy<double>(context_, scaled, X_.matrix().columns(0, count_));
  copy<T>(context_, rounded, X_in_T_.matrix().columns(0, count_));
  const VectorView<double> largest = largest_.vector().slice(0, count_);
  correlation_max(context_, dictionary_.exact(), X(), largest, correlation_scratch_.vector());
  copy<double>(context_, largest, VectorView<double>{lambdas_.data(), count_, {}});
  context_.synchronize();
  for (std::int64_t b = 0; b < count_; ++b) {
    double& lambda = lambdas_[static_cast<std::size_t>(b)];
    const double asked = lambda_of(b, lambda_max_of(lambda, unit(b), dictionary_.scale()));
    lambda = asked / unit(b) / dictionary_.scale();
    lambdas_in_T_[static_cast<std::size_t>(b)] = static_cast<T>(lambda);
  }
  copy<double>(context_, VectorView<const double>{lambdas_.data(), count_, {}}, lambda_.vector().slice(0, count_));
  const VectorView<T> lambda = lambda_in_T_.vector().slice(0, count_);
  copy<T>(context_, VectorView<const T>{lambdas_in_T_.data(), count_, {}}, lambda);
  network_.forward(context_, X_in_T_.matrix().columns(0, count_), lambda, codes_.matrix().columns(0, count_),
                   scratch_.vector());
  context_.synchronize();
}

template <class T>
MatrixView<const double> NetworkRun<T>::user_codes() {
  const MatrixView<T> found = codes_on_host_.matrix().columns(0, count_);
  const MatrixView<double> result = user_codes_.matrix().columns(0, count_);
  copy<T>(context_, codes(), found);
  context_.synchronize();
  for (std::int64_t b = 0; b < count_; ++b) {
    const double unit = this->unit(b) / dictionary_.scale();
    for (std::int64_t j = 0; j < result.rows; ++j) result(j, b) = static_cast<double>(found(j, b)) * unit;
  }
  return result;
}

template <class T>
SparseCodes network_codes(const Context& context, const Dictionary& dictionary, const Network<T>& network,
                          ObservationSource& source, const LambdaRule& rule, std::int64_t memory,
                          const CancelToken* cancel) {
  using Kind = LambdaRule::Kind;
  SHRINKWARP_REQUIRE(
      !rule.follows_path() && (rule.kind != Kind::recording_fraction || rule.lambda_max >= 0), ValueError,
      "network_codes: found a lambda that is a point of the exact path or a fraction of a lambda_max that "
      "is not known yet, wanted a value or a fraction");
  const std::int64_t n = dictionary.rows(), width = std::min(kWidth, source.size());
  NetworkRun<T> run(context, dictionary, network, width);
  const Tensor<double> read(this_host(), n, width);
  SparseCodes codes;
  const auto offset_bytes = (source.size() + 1) * static_cast<std::int64_t>(sizeof(std::int64_t));
  constexpr std::int64_t kEntryBytes = sizeof(double) + sizeof(std::int32_t);
  bool full = false;
  for (std::int64_t first = 0; first < source.size() && !full; first += width) {
    if (cancel != nullptr && cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "network_codes: cancelled with ", first, " of ", source.size(), " problems");
    const MatrixView<double> x = read.matrix().columns(0, std::min(width, source.size() - first));
    source.read(first, x);
    std::vector<bool> good;
    for (std::int64_t b = 0; b < x.cols; ++b) {
      good.push_back(is_finite(x.column(b), n));
      if (!good.back()) std::fill_n(x.column(b), n, 0.0);
    }
    run.run(x, [&](std::int64_t b, double lambda_max) {
      switch (rule.kind) {
        case Kind::value:
          return rule.number;
        case Kind::per_problem:
          return rule.values[static_cast<std::size_t>(first + b)];
        case Kind::recording_fraction:
          return rule.number * rule.lambda_max;
        default:
          return rule.number * lambda_max;
      }
    });
    const MatrixView<const double> found = run.user_codes();
    for (std::int64_t b = 0; b < x.cols && !full; ++b) {
      const double* const code = found.column(b);
      const auto in_use = [code](std::int64_t j) { return code[j] != 0 && std::isfinite(code[j]); };
      std::int64_t entries = 0;
      for (std::int64_t j = 0; j < found.rows; ++j) entries += in_use(j) ? 1 : 0;
      full = (static_cast<std::int64_t>(codes.values.size()) + entries) * kEntryBytes + offset_bytes > memory;
      if (full) break;
      for (std::int64_t j = 0; good[static_cast<std::size_t>(b)] && j < found.rows; ++j) {
        if (!in_use(j)) continue;
        codes.indices.push_back(static_cast<std::int32_t>(j));
        codes.values.push_back(code[j]);
      }
      codes.offsets.push_back(static_cast<std::int64_t>(codes.values.size()));
    }
  }
  codes.offsets.resize(static_cast<std::size_t>(source.size()) + 1, codes.offsets.back());
  return codes;
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                 \
  template class NetworkRun<T>;                                                                                   \
  template SparseCodes network_codes<T>(const Context&, const Dictionary&, const Network<T>&, ObservationSource&, \
                                        const LambdaRule&, std::int64_t, const CancelToken*);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
