// Cross-entropy against the formula in long double, its gradient against central differences.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/cross_entropy/cross_entropy.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::central_difference;
using testing::expect_same;
using testing::expect_within;
using testing::GuardedHost;
using testing::kEpsilon;
using testing::normal_matrix;
using testing::Placed;
using testing::to_host;

class CrossEntropy : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(CrossEntropy);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// -sum q log p of each sample, with p.
struct Reference {
  std::vector<double> losses;
  std::vector<std::vector<double>> p;
  double mean = 0;

  template <class T>
  Reference(const GuardedHost<T>& Z, const std::vector<std::int32_t>& labels, double s) {
    const auto classes = static_cast<long double>(Z.rows);
    for (std::int64_t j = 0; j < Z.cols; ++j) {
      long double sum = 0, loss = 0;
      for (std::int64_t k = 0; k < Z.rows; ++k) sum += std::exp(static_cast<long double>(Z(k, j)));
      std::vector<double> share;
      for (std::int64_t k = 0; k < Z.rows; ++k) {
        const long double log_p = static_cast<long double>(Z(k, j)) - std::log(sum);
        const long double q = (k == labels[static_cast<std::size_t>(j)] ? 1 - s : 0) + s / classes;
        if (q > 0) loss -= q * log_p;
        share.push_back(static_cast<double>(std::exp(log_p)));
      }
      p.push_back(share);
      losses.push_back(static_cast<double>(loss));
      mean += losses.back() / static_cast<double>(Z.cols);
    }
  }
};

template <class T>
struct Batch {
  const Context& context;
  Placed<T> logits, gradient;
  Tensor<std::int32_t> labels;
  Tensor<double> loss;
  Tensor<std::int64_t> correct;
  Tensor<std::byte> scratch;

  Batch(const Context& c, const GuardedHost<T>& Z, const std::vector<std::int32_t>& y)
      : context(c),
        logits(c, Z),
        gradient(c, GuardedHost<T>(Z.rows, Z.cols)),
        labels(testing::to_device(c, y, Z.cols)),
        loss(c, 1),
        correct(c, 1),
        scratch(c, cross_entropy_scratch(c, Z.cols)) {}
  void run(double smoothing, double scale, MatrixView<T> dlogits) const {
    cross_entropy<T>(context, logits.matrix(), labels.vector(), smoothing, scale, loss.vector(), correct.vector(),
                     dlogits, scratch.vector());
  }
  double mean() const { return testing::to_host(context, loss)[0]; }
  std::int64_t found() const { return testing::to_host(context, correct)[0]; }
};

std::vector<std::int32_t> some_labels(std::int64_t classes, std::int64_t N) {
  std::vector<std::int32_t> labels;
  for (std::int64_t j = 0; j < N; ++j) labels.push_back(static_cast<std::int32_t>(j * 7 % classes));
  return labels;
}

TEST_P(CrossEntropy, ByHand) {
  // Equal logits: p = 1/2 each, the first is the largest. Then one that is sure, whatever its size.
  const auto Z =
      GuardedHost<float>::make(2, 3, [](std::int64_t k, std::int64_t j) { return j < 2 ? 3 : 3e38 * (1 - 2 * k); });
  const Batch<float> batch(context(), Z, {0, 1, 0});
  batch.run(0, 6, batch.gradient.matrix());
  EXPECT_DOUBLE_EQ(batch.mean(), std::log(2.0) * 2 / 3);
  EXPECT_EQ(batch.found(), 2);
  const double wanted[2][3] = {{-1, 1, 0}, {1, -1, 0}};
  expect_within(
      context(), "dlogits", batch.gradient, [&](std::int64_t k, std::int64_t j) { return wanted[k][j]; },
      [](std::int64_t, std::int64_t) { return 1e-7; });
}

template <class T>
void check(const Context& context, std::int64_t classes, std::int64_t N, double smoothing) {
  SCOPED_TRACE(::testing::Message() << classes << " x " << N);
  GuardedHost<T> Z = normal_matrix<T>(classes, N, 1);
  for (std::int64_t k = 0; k < classes; ++k) Z(k, N - 1) += T(30);
  const std::vector<std::int32_t> labels = some_labels(classes, N);
  const Reference wanted(Z, labels, smoothing);
  std::int64_t found = 0;
  for (std::int64_t j = 0; j < N; ++j) {
    std::int64_t best = 0;
    for (std::int64_t k = 1; k < classes; ++k)
      if (Z(k, j) > Z(best, j)) best = k;
    found += best == labels[static_cast<std::size_t>(j)];
  }
  const Batch<T> batch(context, Z, labels);
  batch.run(smoothing, 2, batch.gradient.matrix());
  // Some units for each of the terms, none of which is over 40.
  const double unit = 4 * kEpsilon<double> * static_cast<double>(classes + N);
  EXPECT_NEAR(batch.mean(), wanted.mean, 40 * unit);
  EXPECT_EQ(batch.found(), found);
  const auto exact = [&](std::int64_t k, std::int64_t j) {
    const double q =
        (k == labels[static_cast<std::size_t>(j)] ? 1 - smoothing : 0) + smoothing / static_cast<double>(classes);
    return 2 * (wanted.p[static_cast<std::size_t>(j)][static_cast<std::size_t>(k)] - q) / static_cast<double>(N);
  };
  const auto bound = [&](std::int64_t k, std::int64_t j) {
    return kEpsilon<T> * std::fabs(exact(k, j)) + 40 * unit / static_cast<double>(N);
  };
  expect_within(context, "dlogits", batch.gradient, exact, bound);
  batch.run(smoothing, 2, {});
  EXPECT_NEAR(batch.mean(), wanted.mean, 40 * unit);
  batch.run(smoothing, 2, batch.logits.matrix());
  expect_within(context, "dlogits over logits", batch.logits, exact, bound);
}
TEST_P(CrossEntropy, AgreesWithTheFormula) {
  check<float>(context(), 10, 37, 0);
  check<float>(context(), 67, 5, 0.1);
  check<double>(context(), 3, testing::kThreadSanitizer ? 20 : 300, 0.25);
  check<float>(context(), 1, 2, 0.5);
}

TEST_P(CrossEntropy, ExtremesAndNaN) {
  GuardedHost<float> Z = normal_matrix<float>(40, 4, 2);
  Z(39, 1) = static_cast<float>(kNaN);
  Z(5, 2) = static_cast<float>(-kInfinity);
  const std::vector<std::int32_t> labels = {1, 39, 0, 3};
  Batch<float> batch(context(), Z, labels);
  batch.run(0, 1, batch.gradient.matrix());
  EXPECT_TRUE(std::isnan(batch.mean()));
  const GuardedHost<float> G = to_host(context(), batch.gradient.memory);
  for (std::int64_t j = 0; j < 4; ++j)
    for (std::int64_t k = 0; k < 40; ++k) EXPECT_EQ(std::isnan(G(k, j)), j == 1) << k << " " << j;
  EXPECT_EQ(G(5, 2), 0.0f);
  Z(39, 1) = 0;
  const Batch<float> finite(context(), Z, labels);
  finite.run(0, 1, {});
  EXPECT_TRUE(std::isfinite(finite.mean()));
  finite.run(0.1, 1, {});  // minus infinity may have no weight
  EXPECT_EQ(finite.mean(), kInfinity);
  for (const std::int32_t label : {-1, 40}) {
    const Batch<float> unknown(context(), Z, {1, label, 0, 3});
    unknown.run(0, 1, unknown.gradient.matrix());
    EXPECT_TRUE(std::isnan(unknown.mean()));
  }
}

TEST_P(CrossEntropy, BitsDoNotDependOnThreads) {
  const Context alone = Context::cpu(1);
  const Context& other = context().is_cuda() ? context() : alone;
  const GuardedHost<float> Z = normal_matrix<float>(11, 90, 3);
  const Batch<float> a(context(), Z, some_labels(11, 90)), b(other, Z, some_labels(11, 90));
  for (const Batch<float>* batch : {&a, &b}) batch->run(0.1, 1, batch->gradient.matrix());
  EXPECT_EQ(a.mean(), b.mean());
  expect_same(context(), a.gradient, other, b.gradient);
}

TEST_P(CrossEntropy, GradientIsThatOfCentralDifferences) {
  GuardedHost<double> Z = normal_matrix<double>(5, 3, 4);
  const std::vector<std::int32_t> labels = {4, 0, 2};
  const Batch<double> batch(context(), Z, labels);
  batch.run(0.2, 1, batch.gradient.matrix());
  expect_within(
      context(), "dlogits", batch.gradient,
      [&](std::int64_t k, std::int64_t j) {
        return central_difference(Z(k, j), [&] { return Reference(Z, labels, 0.2).mean; });
      },
      [](std::int64_t, std::int64_t) { return 1e-9; });  // h^2 of derivatives under 1, eps / h of rounding
}

TEST_P(CrossEntropy, NamesWhatIsWrong) {
  const Context& c = context();
  const Batch<float> l(c, normal_matrix<float>(3, 2, 1), {0, 1});
  const MatrixView<float> Z = l.logits.matrix();
  const auto call = [&](MatrixView<float> logits, VectorView<const std::int32_t> labels, double smoothing,
                        VectorView<double> loss, VectorView<std::int64_t> correct, MatrixView<float> dlogits,
                        VectorView<std::byte> scratch) {
    cross_entropy<float>(c, logits, labels, smoothing, 1, loss, correct, dlogits, scratch);
  };
  const auto y = l.labels.vector();
  const auto loss = l.loss.vector();
  const auto correct = l.correct.vector();
  const VectorView<std::byte> scratch = l.scratch.vector();
  EXPECT_THROW(call({}, {}, 0, loss, correct, {}, scratch), ShapeError);
  EXPECT_THROW(call(Z, y.slice(0, 1), 0, loss, correct, {}, scratch), ShapeError);
  for (const double smoothing : {-0.1, 1.0, kNaN})
    EXPECT_THROW(call(Z, y, smoothing, loss, correct, {}, scratch), ValueError);
  EXPECT_THROW(call(Z, y, 0, {}, correct, {}, scratch), ShapeError);
  EXPECT_THROW(call(Z, y, 0, loss, {}, {}, scratch), ShapeError);
  EXPECT_THROW(call(Z, y, 0, loss, correct, Z.columns(0, 1), scratch), ShapeError);
  EXPECT_THROW(call(Z, y, 0, loss, correct, Z, scratch.slice(0, scratch.size - 1)), ShapeError);
  EXPECT_THROW(cross_entropy_scratch(c, -1), ShapeError);
}

struct QueuedCrossEntropy {
  const Context& context;
  Tensor<float> Z, G;
  Tensor<std::int32_t> labels;
  Tensor<double> loss;
  Tensor<std::int64_t> correct;
  Tensor<std::byte> scratch;
  explicit QueuedCrossEntropy(const Context& c)
      : context(c),
        Z(testing::numbers<float>(c, 9, 6, 1)),
        G(testing::numbers<float>(c, 9, 6, 2)),
        labels(testing::to_device<std::int32_t>(c, {0, 1, 2, 3, 4, 5}, 6)),
        loss(testing::to_device<double>(c, {0}, 1)),
        correct(testing::to_device<std::int64_t>(c, {-1}, 1)),
        scratch(c, cross_entropy_scratch(c, 6)) {}
  void queue() {
    cross_entropy<float>(context, Z.matrix(), labels.vector(), 0.1, 1, loss.vector(), correct.vector(), G.matrix(),
                         scratch.vector());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, G, loss, correct); }
};
class CrossEntropyQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(CrossEntropyQueued);
TEST_P(CrossEntropyQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedCrossEntropy>();
}

}  // namespace
}  // namespace shrinkwarp
