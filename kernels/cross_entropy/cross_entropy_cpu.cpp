// CPU body of cross_entropy: plain loops in double, a few samples a task.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/cross_entropy/bodies.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kSamples = 16;  // of a task

}  // namespace

template <class T>
void cross_entropy(const Context& context, MatrixView<const T> logits, VectorView<const std::int32_t> labels,
                   const Smoothing& smoothing, double scale, VectorView<double> loss, VectorView<std::int64_t> correct,
                   MatrixView<T> dlogits, const CrossEntropyScratch& scratch) {
  const std::int64_t classes = logits.rows, N = logits.cols;
  const double share = scale / static_cast<double>(N);
  context.parallel_for((N + kSamples - 1) / kSamples, [&](std::int64_t task, int) {
    for (std::int64_t j = task * kSamples; j < std::min(N, (task + 1) * kSamples); ++j) {
      const T* const z = logits.column(j);
      const std::int64_t label = labels[j];
      std::int64_t best = 0;
      for (std::int64_t k = 1; k < classes && !std::isnan(z[best]); ++k)
        if (z[k] > z[best] || std::isnan(z[k])) best = k;
      const bool known = label >= 0 && label < classes;
      const auto most = known ? static_cast<double>(z[best]) : std::numeric_limits<double>::quiet_NaN();
      double exponentials = 0, sum = 0;
      for (std::int64_t k = 0; k < classes; ++k) {
        const double d = static_cast<double>(z[k]) - most;
        exponentials += std::exp(d);
        sum += d;
      }
      const double log_sum = std::log(exponentials);
      scratch.losses[j] =
          smoothing.loss(log_sum, static_cast<double>(z[known ? label : 0]) - most, sum, static_cast<double>(classes));
      scratch.found[j] = best == label ? 1 : 0;
      if (dlogits.empty()) continue;
      T* const g = dlogits.column(j);
      for (std::int64_t k = 0; k < classes; ++k) {
        const double p = std::exp(static_cast<double>(z[k]) - most - log_sum);
        g[k] = static_cast<T>(share * (p - smoothing.target(k == label)));
      }
    }
  });
  double total = 0, found = 0;
  for (std::int64_t j = 0; j < N; ++j) {
    total += scratch.losses[j];
    found += scratch.found[j];
  }
  loss[0] = total / static_cast<double>(N);
  correct[0] = static_cast<std::int64_t>(found);
}

template void cross_entropy<float>(const Context&, MatrixView<const float>, VectorView<const std::int32_t>,
                                   const Smoothing&, double, VectorView<double>, VectorView<std::int64_t>,
                                   MatrixView<float>, const CrossEntropyScratch&);
template void cross_entropy<double>(const Context&, MatrixView<const double>, VectorView<const std::int32_t>,
                                    const Smoothing&, double, VectorView<double>, VectorView<std::int64_t>,
                                    MatrixView<double>, const CrossEntropyScratch&);

}  // namespace shrinkwarp::cpu
