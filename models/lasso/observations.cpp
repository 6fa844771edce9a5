#include <shrinkwarp/models/lasso/observations.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/models/lasso/checks.hpp>
#include <shrinkwarp/models/lasso/unpenalised.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

void require_finite(const ObservationSource& source, std::int64_t row, VectorView<const double> x) {
  double nothing = 0;  // NaN where an entry is not finite
  for (std::int64_t i = 0; i < x.size; ++i) nothing += x[i] * 0.0;
  if (nothing == 0) return;
  for (std::int64_t i = 0; i < x.size; ++i)
    SHRINKWARP_REQUIRE(std::isfinite(x[i]), ValueError, source.name(), ": entry ", i, " of row ", row, " is ", x[i],
                       ", wanted a finite number");
}

void find_lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                     const LassoOptions& options, FunctionRef<void(std::int64_t, VectorView<const double>)> found) {
  SHRINKWARP_REQUIRE(dictionary.device() == context.device(), DeviceError, "lasso: the dictionary lies on ",
                     dictionary.device(), ", wanted ", context.device());
  SHRINKWARP_REQUIRE(source.dimension() == dictionary.rows() || source.size() == 0, ShapeError,
                     "lasso: observations have length ", source.dimension(), ", wanted the dictionary's ",
                     dictionary.rows(), " rows");
  check_penalty(options.penalty, dictionary.atoms());
  if (has_unpenalised(options.penalty))
    return find_lambda_max_with_unpenalised(context, dictionary, source, options, found);
  // Blocks of 8 MiB at most, and small beside the limit.
  const std::int64_t bytes = std::min(std::int64_t{8} << 20, options.memory_limit / 8);
  const std::int64_t block = std::clamp<std::int64_t>(bytes / (dictionary.rows() * 8), 1, 4096);
  const Context host = Context::cpu(1);
  const Tensor<double> read(host, dictionary.rows(), block);
  const Tensor<double> X(context, dictionary.rows(), block);
  const Tensor<double> correlation(context, block);
  const Tensor<double> scratch(context,
                               correlation_scratch(context, dictionary.atoms(), block, options.penalty.group_size));
  PenaltyView<double> penalty{{}, 0, options.penalty.nonnegative, options.penalty.group_size};
  Tensor<double> weights;
  if (!options.penalty.weights.empty()) {
    const auto count = static_cast<std::int64_t>(options.penalty.weights.size());
    weights = Tensor<double>(context, count);
    copy(context, VectorView<const double>{options.penalty.weights.data(), count, {}}, weights.vector());
    penalty.weights = weights.vector();
  }
  std::vector<double> values(static_cast<std::size_t>(block));
  for (std::int64_t first = 0; first < source.size(); first += block) {
    if (options.cancel && options.cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "lasso: cancelled while looking for lambda_max");
    const std::int64_t count = std::min(block, source.size() - first);
    source.read(first, read.matrix().columns(0, count));
    for (std::int64_t b = 0; b < count; ++b)
      require_finite(source, first + b, {read.matrix().column(b), dictionary.rows(), {}});
    copy(context, read.matrix().columns(0, count), X.matrix().columns(0, count));
    correlation_max<double>(context, dictionary.exact(), X.matrix().columns(0, count), {}, penalty,
                            correlation.vector().slice(0, count), scratch.vector());
    copy(context, correlation.vector().slice(0, count), VectorView<double>{values.data(), count, {}});
    context.synchronize();
    for (std::int64_t b = 0; b < count; ++b) {
      double& value = values[static_cast<std::size_t>(b)];
      value = lambda_max_of(value, 1, dictionary.scale());
    }
    found(first, {values.data(), count, {}});
  }
}

std::vector<double> lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                               const LassoOptions& options) {
  std::vector<double> all;
  find_lambda_max(context, dictionary, source, options, [&](std::int64_t first, VectorView<const double> values) {
    for (std::int64_t i = 0; i < values.size; ++i) {
      SHRINKWARP_REQUIRE(std::isfinite(values[i]), ValueError, source.name(), ": lambda_max of row ", first + i,
                         " leaves the range of float64, wanted a dictionary and observations in closer units");
      all.push_back(values[i]);
    }
  });
  return all;
}

double recording_lambda_max(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                            const LassoOptions& options) {
  double largest = 0;
  bool lost = false;  // one that is not 0
  find_lambda_max(context, dictionary, source, options, [&](std::int64_t, VectorView<const double> values) {
    for (std::int64_t i = 0; i < values.size; ++i) {
      lost = lost || std::isnan(values[i]);
      if (values[i] > largest) largest = values[i];
    }
  });
  SHRINKWARP_REQUIRE(std::isfinite(largest) && !(lost && largest == 0), ValueError, source.name(),
                     ": lambda_max leaves the range of float64, wanted a dictionary and observations in closer units");
  return largest;
}

}  // namespace shrinkwarp
