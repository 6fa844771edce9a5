#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/shrink_layer/shrink_layer.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::expect_same;
using testing::expect_within;
using testing::GuardedHost;
using testing::kEpsilon;
using testing::normal_matrix;
using testing::Placed;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class ShrinkLayer : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(ShrinkLayer);

/// One operation of a batch with everything around it, on a context.
template <class T>
struct Batch {
  const Context& context;
  std::int64_t m, N;
  GuardedHost<T> U, dY, theta, lambda;
  Placed<T> u, y, dy, h, factors, lambdas, dtheta;
  Tensor<std::byte> scratch;

  /// With `skip`, matrices whose columns start at multiples of 16 bytes where m + skip + padding is a multiple of 4.
  Batch(const Context& c, std::int64_t atoms, std::int64_t samples, std::int64_t skip, std::int64_t padding)
      : context(c),
        m(atoms),
        N(samples),
        U(normal_matrix<T>(m + skip, N, 1, padding)),
        dY(normal_matrix<T>(m + skip, N, 2, padding)),
        theta(normal_matrix<T>(m + skip, 1, 3, 0)),
        lambda(normal_matrix<T>(N, 1, 4, 0)),
        u(c, U, skip),
        y(c, GuardedHost<T>(m + skip, N, padding), skip),
        dy(c, dY, skip),
        h(c, GuardedHost<T>(m + skip, N, padding), skip),
        factors(c, theta, skip),
        lambdas(c, with_magnitudes(lambda)),
        dtheta(c, normal_matrix<T>(m + skip, 1, 5, 0), skip),
        scratch(c, shrink_layer_scratch(c, m, N)) {}
  static const GuardedHost<T>& with_magnitudes(GuardedHost<T>& host) {
    for (std::int64_t b = 0; b < host.rows; ++b) host(b) = std::fabs(host(b));
    return host;
  }

  double threshold(std::int64_t j, std::int64_t b) const {
    const auto factor = static_cast<double>(theta(j + u.skip));
    return static_cast<double>(lambda(b)) * (factor < 0 ? 0 : factor);
  }
  double code(std::int64_t j, std::int64_t b) const {
    const auto at = static_cast<double>(U(j + u.skip, b));
    const double size = std::fabs(at) - threshold(j, b);
    return std::isnan(at + threshold(j, b)) ? kNaN : size > 0 ? std::copysign(size, at) : 0;
  }
  double H(std::int64_t j, std::int64_t b) const {
    return code(j, b) == 0 ? 0 : static_cast<double>(dY(j + u.skip, b));
  }
  void forward() { shrink_layer_forward<T>(context, factors.vector(), lambdas.vector(), u.matrix(), y.matrix()); }
  void backward() {
    shrink_layer_backward<T>(context, factors.vector(), lambdas.vector(), y.matrix(), dy.matrix(), h.matrix(),
                             dtheta.vector(), scratch.vector());
  }

  void check() {
    SCOPED_TRACE(::testing::Message() << m << " x " << N);
    forward();
    backward();
    const auto codes = [&](std::int64_t j, std::int64_t b) { return code(j, b); };
    const auto unit = [&](std::int64_t j, std::int64_t b) {
      return kEpsilon<T> * (std::fabs(static_cast<double>(U(j + u.skip, b))) + threshold(j, b));
    };
    expect_within(context, "Y", y, codes, unit);
    const auto kept = [&](std::int64_t j, std::int64_t b) { return H(j, b); };
    const auto exact = [](std::int64_t, std::int64_t) { return 0.0; };
    expect_within(context, "H", h, kept, exact);
    const auto sum = [&](std::int64_t j, bool magnitudes) {
      double all = static_cast<double>(dtheta.before(j + u.skip));
      if (magnitudes) all = std::fabs(all);
      if (theta(j + u.skip) < T(0)) return all;
      for (std::int64_t b = 0; b < N; ++b) {
        const double z = code(j, b), sign = z > 0 ? 1 : z < 0 ? -1 : z;
        const double term = -static_cast<double>(lambda(b)) * sign * H(j, b);
        all += magnitudes ? std::fabs(term) : term;
      }
      return all;
    };
    // Terms and sums are in double, then two are rounded to T.
    const double terms = 2 * kEpsilon<T> + static_cast<double>(N) * kEpsilon<double>;
    expect_within(
        context, "dtheta", dtheta, [&](std::int64_t j, std::int64_t) { return sum(j, false); },
        [&](std::int64_t j, std::int64_t) { return terms * sum(j, true); });
    // In place.
    shrink_layer_forward<T>(context, factors.vector(), lambdas.vector(), u.matrix(), u.matrix());
    expect_within(context, "Y in place", u, codes, unit);
    shrink_layer_backward<T>(context, factors.vector(), lambdas.vector(), u.matrix(), dy.matrix(), dy.matrix(),
                             dtheta.vector(), scratch.vector());
    expect_within(context, "H in place", dy, kept, exact);
  }
};

TEST_P(ShrinkLayer, ByHand) {
  const auto theta = testing::to_device<double>(context(), {1, -2}, 2),
             lambda = testing::to_device<double>(context(), {3, 0.5}, 2),
             U = testing::to_device<double>(context(), {4, 7, -2, 0}, 2, 2),
             dY = testing::to_device<double>(context(), {10, 20, 30, kNaN}, 2, 2),
             dtheta = testing::to_device<double>(context(), {1, 5}, 2);
  const Tensor<double> Y(context(), 2, 2), H(context(), 2, 2);
  const Tensor<std::byte> scratch(context(), shrink_layer_scratch(context(), 2, 2));
  shrink_layer_forward<double>(context(), theta.vector(), lambda.vector(), U.matrix(), Y.matrix());
  EXPECT_EQ(testing::to_host(context(), Y), (std::vector<double>{1, 7, -1.5, 0}));
  shrink_layer_backward<double>(context(), theta.vector(), lambda.vector(), Y.matrix(), dY.matrix(), H.matrix(),
                                dtheta.vector(), scratch.vector());
  EXPECT_EQ(testing::to_host(context(), H), (std::vector<double>{10, 20, 30, 0}));
  EXPECT_EQ(testing::to_host(context(), dtheta), (std::vector<double>{1 - 3 * 10 + 0.5 * 30, 5}));
}

TEST_P(ShrinkLayer, AgreesWithTheFormulas) {
  Batch<float>(context(), 7, 5, 0, 3).check();
  Batch<float>(context(), 1, 3, 0, 0).check();
  Batch<float>(context(), 4, 0, 0, 0).check();
  Batch<float>(context(), 533, 3, 1, 2).check();  // 16 bytes at once, more than a piece
  Batch<double>(context(), 35, testing::kThreadSanitizer ? 70 : 300, 1, 1).check();
}

TEST_P(ShrinkLayer, NaNComesThrough) {
  Batch<float> batch(context(), 6, 4, 0, 1);
  batch.U(2, 1) = static_cast<float>(kNaN);
  batch.theta(2) = 0.5f;
  batch.u = Placed<float>(context(), batch.U);
  batch.factors = Placed<float>(context(), batch.theta);
  batch.check();
  EXPECT_TRUE(std::isnan(testing::to_host(context(), batch.dtheta.memory)(2)));
}

TEST_P(ShrinkLayer, BitsDoNotDependOnThreads) {
  if (context().is_cuda()) return;
  const Context alone = Context::cpu(1);
  Batch<float> a(context(), 19, 700, 0, 2), b(alone, 19, 700, 0, 2);
  for (Batch<float>* batch : {&a, &b}) {
    batch->forward();
    batch->backward();
  }
  expect_same(context(), a.y, alone, b.y);
  expect_same(context(), a.h, alone, b.h);
  expect_same(context(), a.dtheta, alone, b.dtheta);
}

TEST_P(ShrinkLayer, NamesWhatIsWrong) {
  const Context& c = context();
  const Placed<float> a(c, normal_matrix<float>(3, 2, 1)), b(c, normal_matrix<float>(2, 3, 1)),
      three(c, normal_matrix<float>(3, 1, 2)), two(c, normal_matrix<float>(2, 1, 2));
  const MatrixView<float> A = a.matrix(), B = b.matrix();
  const VectorView<float> theta = three.vector(), lambda = two.vector();
  const Tensor<std::byte> memory(c, shrink_layer_scratch(c, 3, 2));
  const VectorView<std::byte> scratch = memory.vector();
  EXPECT_THROW(shrink_layer_forward<float>(c, lambda, lambda, A, A), ShapeError);
  EXPECT_THROW(shrink_layer_forward<float>(c, theta, theta, A, A), ShapeError);
  EXPECT_THROW(shrink_layer_forward<float>(c, theta, lambda, B, A), ShapeError);
  EXPECT_THROW(shrink_layer_backward<float>(c, theta, lambda, B, A, A, theta, scratch), ShapeError);
  EXPECT_THROW(shrink_layer_backward<float>(c, theta, lambda, A, B, A, theta, scratch), ShapeError);
  EXPECT_THROW(shrink_layer_backward<float>(c, theta, lambda, A, A, A, lambda, scratch), ShapeError);
  EXPECT_THROW(shrink_layer_backward<float>(c, theta, lambda, A, A, A, theta, scratch.slice(0, 8)), ShapeError);
}

struct QueuedShrinkLayer {
  const Context& context;
  Tensor<float> theta, lambda, U, Y, dY, dtheta;
  Tensor<std::byte> scratch;
  explicit QueuedShrinkLayer(const Context& c)
      : context(c),
        theta(testing::numbers<float>(c, 9, 1, 1)),
        lambda(testing::numbers<float>(c, 6, 1, 2)),
        U(testing::numbers<float>(c, 9, 6, 3)),
        Y(testing::numbers<float>(c, 9, 6, 4)),
        dY(testing::numbers<float>(c, 9, 6, 5)),
        dtheta(testing::numbers<float>(c, 9, 1, 6)),
        scratch(c, shrink_layer_scratch(c, 9, 6)) {}
  void queue() {
    shrink_layer_forward<float>(context, theta.vector(), lambda.vector(), U.matrix(), Y.matrix());
    shrink_layer_backward<float>(context, theta.vector(), lambda.vector(), Y.matrix(), dY.matrix(), dY.matrix(),
                                 dtheta.vector(), scratch.vector());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y, dY, dtheta); }
};
class ShrinkLayerQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(ShrinkLayerQueued);
TEST_P(ShrinkLayerQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedShrinkLayer>();
}

}  // namespace
}  // namespace shrinkwarp
