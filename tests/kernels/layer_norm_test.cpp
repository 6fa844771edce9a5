// Layer normalisation against plain sums in double, and its gradients against central differences.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/layer_norm/layer_norm.hpp>
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

class LayerNorm : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(LayerNorm);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kEps = 0.125;

template <class T>
struct Norm {
  const Context& context;
  std::int64_t features, N, skip;
  GuardedHost<T> X, weight, bias, dY;
  Placed<T> x, w, b, dy, y, statistics, dx, dw, db;
  Tensor<std::byte> scratch;
  std::vector<double> mean_, rstd_;

  Norm(const Context& c, std::int64_t rows, std::int64_t samples, std::int64_t skipped = 0, std::int64_t padding = 3,
       double mean = 0)
      : context(c),
        features(rows),
        N(samples),
        skip(skipped),
        X(normal_matrix<T>(rows + skip, N, 1, padding)),
        weight(normal_matrix<T>(rows + skip, 1, 2, 0)),
        bias(normal_matrix<T>(rows + skip, 1, 3, 0)),
        dY(normal_matrix<T>(rows + skip, N, 4, padding)),
        x(c, shifted(mean), skip),
        w(c, weight, skip),
        b(c, bias, skip),
        dy(c, dY, skip),
        y(c, GuardedHost<T>(rows + skip, N, padding), skip),
        statistics(c, GuardedHost<T>(2, N)),
        dx(c, normal_matrix<T>(rows + skip, N, 5, padding), skip),
        dw(c, normal_matrix<T>(rows + skip, 1, 6, 0), skip),
        db(c, normal_matrix<T>(rows + skip, 1, 7, 0), skip),
        scratch(c, layer_norm_backward_scratch(c, rows, N)) {
    prepare();
  }
  const GuardedHost<T>& shifted(double mean) {
    for (std::int64_t j = 0; j < N; ++j)
      for (std::int64_t i = 0; i < X.rows; ++i) X(i, j) += static_cast<T>(mean);
    return X;
  }

  void forward(bool affine = true) const {
    layer_norm_forward<T>(context, x.matrix(), affine ? VectorView<const T>(w.vector()) : VectorView<const T>{},
                          affine ? VectorView<const T>(b.vector()) : VectorView<const T>{}, kEps, y.matrix(),
                          statistics.matrix());
  }
  void backward(T beta, bool affine = true) const {
    layer_norm_backward<T>(context, x.matrix(), statistics.matrix(),
                           affine ? VectorView<const T>(w.vector()) : VectorView<const T>{}, dy.matrix(), beta,
                           dx.matrix(), affine ? dw.vector() : VectorView<T>{}, affine ? db.vector() : VectorView<T>{},
                           scratch.vector());
  }
  double at(const GuardedHost<T>& host, std::int64_t i, std::int64_t j) const {
    return static_cast<double>(host(i + skip, j));
  }
  /// mean, rstd and xhat of the reference, from X as it is now.
  void prepare() {
    const auto count = static_cast<double>(features);
    mean_.assign(static_cast<std::size_t>(N), 0);
    rstd_.assign(static_cast<std::size_t>(N), 0);
    for (std::int64_t j = 0; j < N; ++j) {
      double sum = 0, square = 0;
      for (std::int64_t i = 0; i < features; ++i) sum += at(X, i, j) / count;
      for (std::int64_t i = 0; i < features; ++i) square += (at(X, i, j) - sum) * (at(X, i, j) - sum) / count;
      mean_[static_cast<std::size_t>(j)] = sum;
      rstd_[static_cast<std::size_t>(j)] = 1 / std::sqrt(square + kEps);
    }
  }
  double mean(std::int64_t j) const { return mean_[static_cast<std::size_t>(j)]; }
  double rstd(std::int64_t j) const { return rstd_[static_cast<std::size_t>(j)]; }
  double output(std::int64_t i, std::int64_t j, bool affine) const {
    const double xhat = (at(X, i, j) - mean(j)) * rstd(j);
    return affine ? xhat * at(weight, i, 0) + at(bias, i, 0) : xhat;
  }

  void check(bool affine, T beta) {
    forward(affine);
    // Mean and rstd are rounded once; sums in double are within a unit for each of their terms, here and there.
    const double sums = 2 * kEpsilon<double> * static_cast<double>(features);
    expect_within(
        context, "statistics", statistics, [&](std::int64_t k, std::int64_t j) { return k == 0 ? mean(j) : rstd(j); },
        [&](std::int64_t k, std::int64_t j) {
          return (kEpsilon<T> + sums) * (k == 0 ? std::fabs(mean(j)) + 4 : rstd(j));
        });
    const auto reach = [&](std::int64_t i, std::int64_t j) {  // of xhat before the mean is taken away
      return (std::fabs(at(X, i, j)) + std::fabs(mean(j)) + 1) * rstd(j);
    };
    expect_within(
        context, "Y", y, [&](std::int64_t i, std::int64_t j) { return output(i, j, affine); },
        [&](std::int64_t i, std::int64_t j) {
          return 4 * kEpsilon<T> * (reach(i, j) * (affine ? std::fabs(at(weight, i, 0)) : 1) + 1);
        });

    backward(beta, affine);
    const auto scaled = [&](std::int64_t i, std::int64_t j) { return at(dY, i, j) * (affine ? at(weight, i, 0) : 1); };
    std::vector<double> g(static_cast<std::size_t>(N)), p = g, magnitude = g;  // means over features
    for (std::int64_t j = 0; j < N; ++j) {
      const auto b = static_cast<std::size_t>(j);
      for (std::int64_t i = 0; i < features; ++i) {
        g[b] += scaled(i, j) / static_cast<double>(features);
        p[b] += scaled(i, j) * output(i, j, false) / static_cast<double>(features);
        magnitude[b] += std::fabs(scaled(i, j)) * (1 + reach(i, j)) / static_cast<double>(features);
      }
    }
    expect_within(
        context, "dX", dx,
        [&](std::int64_t i, std::int64_t j) {
          const auto b = static_cast<std::size_t>(j);
          return (beta == T(0) ? 0 : static_cast<double>(beta) * at(dx.before, i, j)) +
                 rstd(j) * (scaled(i, j) - g[b] - output(i, j, false) * p[b]);
        },
        [&](std::int64_t i, std::int64_t j) {
          const double most = magnitude[static_cast<std::size_t>(j)];
          return 8 * kEpsilon<T> *
                 ((beta == T(0) ? 0 : std::fabs(at(dx.before, i, j))) +
                  rstd(j) * (std::fabs(scaled(i, j)) + most + reach(i, j) * most));
        });
    const auto over_samples = [&](const char* what, const Placed<T>& placed, bool product) {
      expect_within(
          context, what, placed,
          [&](std::int64_t i, std::int64_t) {
            double sum = at(placed.before, i, 0);
            for (std::int64_t j = 0; affine && j < N; ++j) sum += at(dY, i, j) * (product ? output(i, j, false) : 1);
            return sum;
          },
          [&](std::int64_t i, std::int64_t) {
            double sum = std::fabs(at(placed.before, i, 0));
            for (std::int64_t j = 0; affine && j < N; ++j) sum += std::fabs(at(dY, i, j)) * (1 + reach(i, j));
            return 4 * kEpsilon<T> * sum;
          });
    };
    over_samples("dweight", dw, true);
    over_samples("dbias", db, false);
  }
};

TEST_P(LayerNorm, ByHand) {
  // mean 2, variance 1 + 3; xhat = +-1/2
  const auto X = testing::to_device<double>(context(), {1, 3}, 2, 1),
             w = testing::to_device<double>(context(), {2, 4}, 2), b = testing::to_device<double>(context(), {1, 0}, 2);
  const Tensor<double> Y(context(), 2, 1), statistics(context(), 2, 1);
  layer_norm_forward<double>(context(), X.matrix(), w.vector(), b.vector(), 3, Y.matrix(), statistics.matrix());
  EXPECT_EQ(testing::to_host(context(), Y), (std::vector<double>{0, 2}));
  EXPECT_EQ(testing::to_host(context(), statistics), (std::vector<double>{2, 0.5}));
}

TEST_P(LayerNorm, AgreesWithSumsInDouble) {
  Norm<float>(context(), 37, 11).check(true, 0.0f);
  Norm<float>(context(), 300, 3, 1, 3).check(true, 1.0f);  // 16 bytes at once
  Norm<float>(context(), 5, 4).check(false, 0.0f);
  Norm<float>(context(), 1, 3).check(true, 1.0f);
  Norm<float>(context(), 24, 7, 0, 3, 4096).check(true, 0.0f);  // a large mean
  Norm<double>(context(), 19, testing::kThreadSanitizer ? 20 : 130, 1, 0).check(true, 1.0);
  Norm<float>(context(), 6, 0).check(true, 0.0f);
}

TEST_P(LayerNorm, WorksInPlaceAndKeepsNaNInItsSample) {
  Norm<float> apart(context(), 21, 5), within(context(), 21, 5);
  apart.X(20, 2) = static_cast<float>(kNaN);
  for (Norm<float>* norm : {&apart, &within}) norm->x = Placed<float>(context(), apart.X);
  apart.forward();
  layer_norm_forward<float>(context(), within.x.matrix(), within.w.vector(), within.b.vector(), kEps, within.x.matrix(),
                            within.statistics.matrix());
  const GuardedHost<float> Y = to_host(context(), apart.y.memory), in_place = to_host(context(), within.x.memory);
  for (std::int64_t j = 0; j < 5; ++j) {
    for (std::int64_t i = 0; i < 21; ++i) {
      EXPECT_EQ(std::isnan(Y(i, j)), j == 2);
      EXPECT_TRUE(j == 2 || Y(i, j) == in_place(i, j));
    }
  }
  apart.backward(0.0f);
  layer_norm_backward<float>(context(), apart.x.matrix(), apart.statistics.matrix(), apart.w.vector(),
                             within.dy.matrix(), 0.0f, within.dy.matrix(), {}, {}, within.scratch.vector());
  const GuardedHost<float> dX = to_host(context(), apart.dx.memory), over = to_host(context(), within.dy.memory);
  for (std::int64_t j = 0; j < 5; ++j)
    for (std::int64_t i = 0; i < 21; ++i) EXPECT_TRUE(j == 2 ? std::isnan(dX(i, j)) : dX(i, j) == over(i, j));
}

TEST_P(LayerNorm, BitsDoNotDependOnThreads) {
  const Context alone = Context::cpu(1);
  const Context& other = context().is_cuda() ? context() : alone;
  const std::int64_t N = testing::kThreadSanitizer ? 70 : 300;
  Norm<float> a(context(), 45, N), b(other, 45, N);
  for (const Norm<float>* norm : {&a, &b}) {
    norm->forward();
    norm->backward(1.0f);
  }
  expect_same(context(), a.y, other, b.y);
  expect_same(context(), a.dx, other, b.dx);
  expect_same(context(), a.dw, other, b.dw);
  expect_same(context(), a.db, other, b.db);
}

TEST_P(LayerNorm, GradientsAreThoseOfCentralDifferences) {
  Norm<double> norm(context(), 4, 3);
  norm.forward();
  norm.backward(0.0);
  const auto cost = [&] {  // <dY, Y>
    norm.prepare();
    double sum = 0;
    for (std::int64_t j = 0; j < 3; ++j)
      for (std::int64_t i = 0; i < 4; ++i) sum += norm.dY(i, j) * norm.output(i, j, true);
    return sum;
  };
  // Within h^2 of the derivative, some 1e-9 here, and eps / h of rounding.
  const auto bound = [](std::int64_t, std::int64_t) { return 1e-8; };
  expect_within(
      context(), "dX", norm.dx, [&](std::int64_t i, std::int64_t j) { return central_difference(norm.X(i, j), cost); },
      bound);
  expect_within(
      context(), "dweight", norm.dw,
      [&](std::int64_t i, std::int64_t) { return norm.dw.before(i) + central_difference(norm.weight(i), cost); },
      bound);
  expect_within(
      context(), "dbias", norm.db,
      [&](std::int64_t i, std::int64_t) { return norm.db.before(i) + central_difference(norm.bias(i), cost); }, bound);
}

TEST_P(LayerNorm, NamesWhatIsWrong) {
  const Context& c = context();
  Norm<float> l(c, 3, 2);
  const MatrixView<float> X = l.x.matrix(), Y = l.y.matrix(), S = l.statistics.matrix();
  const VectorView<float> w = l.w.vector(), few = w.slice(0, 2);
  EXPECT_THROW(layer_norm_forward<float>(c, X, few, {}, 0, Y, S), ShapeError);
  EXPECT_THROW(layer_norm_forward<float>(c, X, {}, few, 0, Y, S), ShapeError);
  EXPECT_THROW(layer_norm_forward<float>(c, X, w, w, -1, Y, S), ValueError);
  EXPECT_THROW(layer_norm_forward<float>(c, X, w, w, kNaN, Y, S), ValueError);
  EXPECT_THROW(layer_norm_forward<float>(c, X, w, w, 0, S, S), ShapeError);
  EXPECT_THROW(layer_norm_forward<float>(c, X, w, w, 0, Y, Y), ShapeError);
  EXPECT_THROW(layer_norm_forward<float>(c, {nullptr, 0, 2, 1, c.device()}, {}, {}, 0, Y, S), ShapeError);
  const VectorView<std::byte> scratch = l.scratch.vector();
  const auto backward = [&](MatrixView<float> dy, MatrixView<float> dx, VectorView<float> dw, VectorView<std::byte> s) {
    layer_norm_backward<float>(c, X, S, w, dy, 0.0f, dx, dw, l.db.vector(), s);
  };
  EXPECT_THROW(backward(S, Y, w, scratch), ShapeError);
  EXPECT_THROW(backward(Y, S, w, scratch), ShapeError);
  EXPECT_THROW(backward(Y, Y, few, scratch), ShapeError);
  EXPECT_THROW(backward(Y, Y, w, scratch.slice(0, scratch.size - 1)), ShapeError);
  EXPECT_THROW(layer_norm_backward_scratch(c, -1, 2), ShapeError);
}

struct QueuedLayerNorm {
  const Context& context;
  Tensor<float> X, w, Y, S, dY, dw;
  Tensor<std::byte> scratch;
  explicit QueuedLayerNorm(const Context& c)
      : context(c),
        X(testing::numbers<float>(c, 9, 6, 1)),
        w(testing::numbers<float>(c, 9, 1, 2)),
        Y(testing::numbers<float>(c, 9, 6, 3)),
        S(testing::numbers<float>(c, 2, 6, 4)),
        dY(testing::numbers<float>(c, 9, 6, 5)),
        dw(testing::numbers<float>(c, 9, 1, 6)),
        scratch(c, layer_norm_backward_scratch(c, 9, 6)) {}
  void queue() {
    layer_norm_forward<float>(context, X.matrix(), w.vector(), {}, kEps, Y.matrix(), S.matrix());
    layer_norm_backward<float>(context, X.matrix(), S.matrix(), w.vector(), Y.matrix(), 1.0f, dY.matrix(), dw.vector(),
                               {}, scratch.vector());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y, S, dY, dw); }
};
class LayerNormQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(LayerNormQueued);
TEST_P(LayerNormQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedLayerNorm>();
}

}  // namespace
}  // namespace shrinkwarp
