// Linear layers against sums in double, whose tolerance counts the terms; their gradients against central differences.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/linear/linear.hpp>
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

class Linear : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Linear);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Activation kActivations[] = {Activation::none, Activation::relu, Activation::gelu, Activation::tanh};

double act(Activation activation, double u) {
  switch (activation) {
    case Activation::relu:
      return u < 0 ? 0 : u;
    case Activation::gelu:
      return 0.5 * u * std::erfc(-u / std::sqrt(2.0));
    case Activation::tanh:
      return std::tanh(u);
    default:
      return u;
  }
}
double slope(Activation activation, double u) {
  switch (activation) {
    case Activation::relu:
      return u > 0 ? 1 : 0;
    case Activation::gelu:
      return 0.5 * std::erfc(-u / std::sqrt(2.0)) + u * std::exp(-u * u / 2) / std::sqrt(2 * std::acos(-1.0));
    case Activation::tanh:
      return 1 - std::tanh(u) * std::tanh(u);
    default:
      return 1;
  }
}

/// One layer of a batch with everything around it, on a context.
template <class T>
struct Layer {
  const Context& context;
  std::int64_t in, out, N;
  Activation activation;
  GuardedHost<T> W, b, X, dY;  // what is read, on the host
  Placed<T> w, bias, x, y, u, dy, dw, db, dx;
  Tensor<std::byte> scratch;

  /// With `skip`, matrices whose columns start at multiples of 16 bytes where rows + 1 + padding is a multiple of 4.
  Layer(const Context& c, std::int64_t in_, std::int64_t out_, std::int64_t samples, Activation a,
        std::int64_t skip = 0, std::int64_t padding = 3)
      : context(c),
        in(in_),
        out(out_),
        N(samples),
        activation(a),
        W(normal_matrix<T>(in + skip, out, 1, padding)),
        b(normal_matrix<T>(out + skip, 1, 2, 0)),
        X(normal_matrix<T>(in + skip, N, 3, padding)),
        dY(normal_matrix<T>(out + skip, N, 4, padding)),
        w(c, W, skip),
        bias(c, b, skip),
        x(c, X, skip),
        y(c, GuardedHost<T>(out + skip, N, padding), skip),
        u(c, GuardedHost<T>(out + skip, N, padding), skip),
        dy(c, dY, skip),
        dw(c, normal_matrix<T>(in + skip, out, 5, padding), skip),
        db(c, normal_matrix<T>(out + skip, 1, 6, 0), skip),
        dx(c, normal_matrix<T>(in + skip, N, 7, padding), skip),
        scratch(c, linear_backward_scratch<T>(c, in, out, N, a)) {}

  double at(const GuardedHost<T>& host, const Placed<T>& placed, std::int64_t i, std::int64_t j) const {
    return static_cast<double>(host(i + placed.skip, j));
  }
  /// W'X + b (magnitudes: the same of absolute values).
  double before(std::int64_t o, std::int64_t j, bool with_bias, bool magnitudes) const {
    double sum = with_bias ? at(b, bias, o, 0) : 0;
    if (magnitudes) sum = std::fabs(sum);
    for (std::int64_t i = 0; i < in; ++i) {
      const double term = at(W, w, i, o) * at(X, x, i, j);
      sum += magnitudes ? std::fabs(term) : term;
    }
    return sum;
  }
  void forward(bool with_bias = true, bool keeps = true) const {
    linear_forward<T>(context, w.matrix(), with_bias ? VectorView<const T>(bias.vector()) : VectorView<const T>{},
                      activation, x.matrix(), y.matrix(), keeps ? u.matrix() : MatrixView<T>{});
  }
  void backward(T beta, bool with_bias = true, bool wants_input = true) const {
    linear_backward<T>(context, w.matrix(), activation, x.matrix(), y.matrix(), u.matrix(), dy.matrix(), dw.matrix(),
                       with_bias ? db.vector() : VectorView<T>{}, beta, wants_input ? dx.matrix() : MatrixView<T>{},
                       scratch.vector());
  }

  void check(bool with_bias, bool keeps, T beta) {
    // A sum of k terms is within k units of that of their magnitudes, no activation is steeper than 1.13, and each is within
    // 4 units in the last place of its own.
    const auto u_bound = [&](std::int64_t o, std::int64_t j) {
      return static_cast<double>(in + 2) * kEpsilon<T> * before(o, j, with_bias, true);
    };
    const auto exact = [&](std::int64_t o, std::int64_t j) { return before(o, j, with_bias, false); };
    forward(with_bias, keeps);
    if (keeps) expect_within(context, "U", u, exact, u_bound);
    expect_within(
        context, "Y", y, [&](std::int64_t o, std::int64_t j) { return act(activation, exact(o, j)); },
        [&](std::int64_t o, std::int64_t j) {
          return 1.13 * u_bound(o, j) + 5 * kEpsilon<T> * (1 + std::fabs(exact(o, j)));
        });
    if (!keeps) return;

    // H from what the layer itself has found, so that no bound of U enters.
    const GuardedHost<T> found_U = to_host(context, u.memory), found_Y = to_host(context, y.memory);
    const auto H = [&](std::int64_t o, std::int64_t j) {
      const double g = at(dY, dy, o, j), value = at(found_Y, y, o, j);
      if (activation == Activation::relu) return value > 0 ? g : 0;
      if (activation == Activation::tanh) return g * (1 - value * value);
      return g * slope(activation, at(found_U, u, o, j));
    };
    const double wide = 1.2 * kEpsilon<T>;
    const GuardedHost<T> dw0 = dw.before, db0 = db.before, dx0 = dx.before;
    backward(beta, with_bias);
    std::vector<double> h(static_cast<std::size_t>(out * N));
    for (std::int64_t j = 0; j < N; ++j)
      for (std::int64_t o = 0; o < out; ++o) h[static_cast<std::size_t>(o + j * out)] = H(o, j);
    const auto gradient = [&](const char* what, const Placed<T>& placed, std::int64_t terms, const auto& initial,
                              const auto& term) {  // term(i, j, k, of magnitudes); an H is within 8 units of 1.2 |dY|
      expect_within(
          context, what, placed,
          [&](std::int64_t i, std::int64_t j) {
            double sum = initial(i, j);
            for (std::int64_t k = 0; k < terms; ++k) sum += term(i, j, k, false);
            return sum;
          },
          [&](std::int64_t i, std::int64_t j) {
            double sum = std::fabs(initial(i, j));
            for (std::int64_t k = 0; k < terms; ++k) sum += std::fabs(term(i, j, k, true));
            return static_cast<double>(terms + 10) * wide * sum;
          });
    };
    const auto h_at = [&](std::int64_t o, std::int64_t j, bool magnitudes) {
      return magnitudes ? at(dY, dy, o, j) : h[static_cast<std::size_t>(o + j * out)];
    };
    gradient(
        "dW", dw, N, [&](std::int64_t i, std::int64_t o) { return at(dw0, dw, i, o); },
        [&](std::int64_t i, std::int64_t o, std::int64_t j, bool m) { return at(X, x, i, j) * h_at(o, j, m); });
    gradient(
        "db", db, with_bias ? N : 0, [&](std::int64_t o, std::int64_t) { return at(db0, db, o, 0); },
        [&](std::int64_t o, std::int64_t, std::int64_t j, bool m) { return h_at(o, j, m); });
    gradient(
        "dX", dx, out,
        [&](std::int64_t i, std::int64_t j) {
          return beta == T(0) ? 0.0 : static_cast<double>(beta) * at(dx0, dx, i, j);
        },
        [&](std::int64_t i, std::int64_t j, std::int64_t o, bool m) { return at(W, w, i, o) * h_at(o, j, m); });
  }
};

TEST_P(Linear, ByHand) {
  // W' = [1 2; -1 0], b = (1, -1), x = (2, -1):  u = (1, -3)
  const auto W = testing::to_device<double>(context(), {1, 2, -1, 0}, 2, 2),
             X = testing::to_device<double>(context(), {2, -1}, 2, 1),
             b = testing::to_device<double>(context(), {1, -1}, 2),
             dY = testing::to_device<double>(context(), {5, 7}, 2, 1),
             Y = testing::to_device<double>(context(), {kNaN, kNaN}, 2, 1),
             dW = testing::to_device<double>(context(), {0, 0, 0, 1}, 2, 2),
             db = testing::to_device<double>(context(), {1, 1}, 2),
             dX = testing::to_device<double>(context(), {kNaN, kNaN}, 2, 1);
  const Tensor<std::byte> scratch(context(), linear_backward_scratch<double>(context(), 2, 2, 1, Activation::relu));
  linear_forward<double>(context(), W.matrix(), b.vector(), Activation::relu, X.matrix(), Y.matrix(), {});
  EXPECT_EQ(testing::to_host(context(), Y), (std::vector<double>{1, 0}));
  linear_backward<double>(context(), W.matrix(), Activation::relu, X.matrix(), Y.matrix(), {}, dY.matrix(), dW.matrix(),
                          db.vector(), 0.0, dX.matrix(), scratch.vector());
  EXPECT_EQ(testing::to_host(context(), dW), (std::vector<double>{10, -5, 0, 1}));
  EXPECT_EQ(testing::to_host(context(), db), (std::vector<double>{6, 1}));
  EXPECT_EQ(testing::to_host(context(), dX), (std::vector<double>{5, 10}));
  // 1/2 u + 2 y, then 1/2 u alone
  linear_blend<double>(context(), W.matrix(), b.vector(), 0.5, X.matrix(), 2.0, Y.matrix());
  EXPECT_EQ(testing::to_host(context(), Y), (std::vector<double>{2.5, -1.5}));
  const auto fresh = testing::to_device<double>(context(), {kNaN, kNaN}, 2, 1);
  linear_blend<double>(context(), W.matrix(), {}, 0.5, X.matrix(), 0.0, fresh.matrix());
  EXPECT_EQ(testing::to_host(context(), fresh), (std::vector<double>{0, -1}));
}

TEST_P(Linear, AgreesWithSumsInDouble) {
  for (const Activation activation : kActivations) {
    SCOPED_TRACE(static_cast<int>(activation));
    Layer<float>(context(), 5, 19, 13, activation).check(true, true, 0.0f);
    Layer<float>(context(), 12, 4, 9, activation, 1, 3).check(true, true, 1.0f);  // 16 bytes at once
    Layer<float>(context(), 3, 6, 4, activation).check(false, false, 0.0f);
    Layer<double>(context(), 7, 11, 5, activation, 1, 0).check(false, true, 1.0);
  }
  // More samples than a slice and more features than a block.
  Layer<float>(context(), 3, 7, testing::kThreadSanitizer ? 130 : 300, Activation::tanh).check(true, true, 0.0f);
  Layer<double>(context(), 2, 530, 3, Activation::relu, 1, 1).check(true, true, 0.0);
  Layer<float>(context(), 530, 2, 3, Activation::none).check(true, true, 1.0f);
  Layer<float>(context(), 2, 3, 0, Activation::gelu).check(true, true, 0.0f);
}

TEST_P(Linear, BlendsInAndLeavesOut) {
  for (const float beta : {0.0f, 0.75f}) {
    Layer<float> layer(context(), 6, 9, 5, Activation::none);
    const Placed<float> v(context(), beta == 0 ? GuardedHost<float>(9, 5) : normal_matrix<float>(9, 5, 9));
    linear_blend<float>(context(), layer.w.matrix(), layer.bias.vector(), 0.3f, layer.x.matrix(), beta, v.matrix());
    const auto before = [&](std::int64_t o, std::int64_t j) {
      return beta == 0 ? 0.0 : static_cast<double>(beta) * static_cast<double>(v.before(o, j));
    };
    expect_within(
        context(), "Y", v,
        [&](std::int64_t o, std::int64_t j) {
          return static_cast<double>(0.3f) * layer.before(o, j, true, false) + before(o, j);
        },
        [&](std::int64_t o, std::int64_t j) {
          return 10 * kEpsilon<float> * (0.3 * layer.before(o, j, true, true) + std::fabs(before(o, j)));
        });
  }
  Layer<float> layer(context(), 4, 5, 3, Activation::tanh);
  layer.forward();
  layer.backward(0.0f, false, false);
  for (const Placed<float>* untouched : {&layer.db, &layer.dx})
    EXPECT_TRUE(same_elements(to_host(context(), untouched->memory), untouched->before));
}

template <class T>
void check_tanh(const Context& context) {
  std::vector<T> numbers = {T(0),
                            T(-0.0),
                            static_cast<T>(kInfinity),
                            static_cast<T>(-kInfinity),
                            static_cast<T>(kNaN),
                            std::numeric_limits<T>::max(),
                            std::numeric_limits<T>::lowest(),
                            std::numeric_limits<T>::min()};
  for (double x = 1e-6; x < 30; x *= 1.01) numbers.push_back(static_cast<T>(numbers.size() % 2 ? x : -x));
  const auto size = static_cast<std::int64_t>(numbers.size());
  const auto W = testing::to_device(context, numbers, 1, size);  // times 1
  const Placed<T> X(context, GuardedHost<T>::make(1, 1, [](auto, auto) { return 1; }));
  const Placed<T> Y(context, GuardedHost<T>(size, 1));
  linear_forward<T>(context, W.matrix(), {}, Activation::tanh, X.matrix(), Y.matrix(), {});
  const auto exact = [&](std::int64_t i, std::int64_t) {
    return std::tanh(static_cast<double>(numbers[static_cast<std::size_t>(i)]));
  };
  expect_within(context, "tanh", Y, exact,
                [&](std::int64_t i, std::int64_t j) { return 5 * kEpsilon<T> * std::fabs(exact(i, j)); });
  const GuardedHost<T> found = to_host(context, Y.memory);
  EXPECT_EQ(found(2), T(1));
  EXPECT_EQ(found(3), T(-1));
  EXPECT_EQ(found(5), T(1));
  EXPECT_EQ(found(6), T(-1));
}
TEST_P(Linear, TanhOfAllSizes) {
  check_tanh<float>(context());
  check_tanh<double>(context());
}

/// An activation alone: as that of a layer whose weights are 1, in place and apart, and its gradient.
template <class T>
void check_activation(const Context& context, Activation activation, std::int64_t rows, std::int64_t cols,
                      std::int64_t skip, std::int64_t padding) {
  SCOPED_TRACE(::testing::Message() << static_cast<int>(activation) << ", " << rows << " x " << cols);
  GuardedHost<T> X = normal_matrix<T>(rows + skip, cols, 1, padding),
                 dY = normal_matrix<T>(rows + skip, cols, 2, padding);
  X(skip + rows - 1, cols - 1) = static_cast<T>(kNaN);
  const auto x = [&](std::int64_t i, std::int64_t j) { return static_cast<double>(X(i + skip, j)); };
  const auto dy = [&](std::int64_t i, std::int64_t j) { return static_cast<double>(dY(i + skip, j)); };
  const Placed<T> placed(context, X, skip), over(context, X, skip), gradient(context, dY, skip),
      over_gradient(context, dY, skip), y(context, GuardedHost<T>(rows + skip, cols, padding), skip),
      dx(context, GuardedHost<T>(rows + skip, cols, padding), skip),
      added(context, normal_matrix<T>(rows + skip, cols, 3, padding), skip);
  activation_forward<T>(context, activation, placed.matrix(), y.matrix());
  const auto units = [&](std::int64_t i, std::int64_t j) { return 5 * kEpsilon<T> * (1 + std::fabs(x(i, j))); };
  const auto value = [&](std::int64_t i, std::int64_t j) { return act(activation, x(i, j)); };
  expect_within(context, "Y", y, value, units);
  activation_forward<T>(context, activation, over.matrix(), over.matrix());
  expect_within(context, "Y in place", over, value, units);
  const bool from_output = activation == Activation::relu || activation == Activation::tanh;
  const MatrixView<const T> its = activation == Activation::none ? MatrixView<const T>{}
                                  : from_output                  ? y.matrix()
                                                                 : placed.matrix();
  // NaN in Y of relu lets dY through; an activation's slope is under 1.2 and found within 8 units of that.
  const auto slope_of = [&](std::int64_t i, std::int64_t j) {
    const bool through = activation == Activation::relu && std::isnan(x(i, j));
    return through ? dy(i, j) : dy(i, j) * slope(activation, x(i, j));
  };
  const auto bound = [&](std::int64_t i, std::int64_t j) { return 10 * kEpsilon<T> * std::fabs(dy(i, j)); };
  activation_backward<T>(context, activation, its, gradient.matrix(), T(0), dx.matrix());
  expect_within(context, "dX", dx, slope_of, bound);
  activation_backward<T>(context, activation, its, over_gradient.matrix(), T(0), over_gradient.matrix());
  expect_within(context, "dX in place", over_gradient, slope_of, bound);
  activation_backward<T>(context, activation, its, gradient.matrix(), T(0.5), added.matrix());
  const auto before = [&](std::int64_t i, std::int64_t j) { return static_cast<double>(added.before(i + skip, j)); };
  expect_within(
      context, "dX added", added, [&](std::int64_t i, std::int64_t j) { return 0.5 * before(i, j) + slope_of(i, j); },
      [&](std::int64_t i, std::int64_t j) { return bound(i, j) + kEpsilon<T> * std::fabs(before(i, j)); });
}
TEST_P(Linear, ActivationsAloneAgreeWithTheFormulas) {
  for (const Activation activation : kActivations) {
    check_activation<float>(context(), activation, 7, 5, 0, 3);
    check_activation<float>(context(), activation, 533, 2, 1, 2);  // 16 bytes at once, more than a piece
    check_activation<double>(context(), activation, 1, 70, 0, 0);
  }
  const Placed<float> a(context(), normal_matrix<float>(3, 2, 1)), b(context(), normal_matrix<float>(2, 3, 1));
  const MatrixView<float> A = a.matrix(), B = b.matrix();
  EXPECT_THROW(activation_forward<float>(context(), Activation::relu, A, B), ShapeError);
  EXPECT_THROW(activation_backward<float>(context(), Activation::gelu, {}, A, 0.0f, A), ShapeError);
  EXPECT_THROW(activation_backward<float>(context(), Activation::none, {}, A, 0.0f, B), ShapeError);
}

TEST_P(Linear, NaNStaysInItsSample) {
  for (const Activation activation : kActivations) {
    Layer<float> layer(context(), 6, 9, 5, activation);
    layer.X(5, 3) = static_cast<float>(kNaN);
    layer.x = Placed<float>(context(), layer.X);
    layer.forward();
    layer.backward(0.0f);
    const GuardedHost<float> Y = to_host(context(), layer.y.memory), dW = to_host(context(), layer.dw.memory);
    for (std::int64_t j = 0; j < 5; ++j)
      for (std::int64_t o = 0; o < 9; ++o) EXPECT_EQ(std::isnan(Y(o, j)), j == 3) << o << " " << j;
    EXPECT_TRUE(std::isnan(dW(5, 0)));
  }
}

TEST_P(Linear, BitsDoNotDependOnThreadsOrOnWhatIsKept) {
  const Context alone = Context::cpu(1);
  const Context& other = context().is_cuda() ? context() : alone;
  const std::int64_t N = testing::kThreadSanitizer ? 70 : 600;
  for (const Activation activation : {Activation::tanh, Activation::none}) {
    Layer<float> a(context(), 33, 140, N, activation), b(other, 33, 140, N, activation);
    a.forward();
    b.forward(true, activation == Activation::none);
    expect_same(context(), a.y, other, b.y);
    a.backward(1.0f);
    b.backward(1.0f);
    expect_same(context(), a.dw, other, b.dw);
    expect_same(context(), a.db, other, b.db);
    expect_same(context(), a.dx, other, b.dx);
  }
}

TEST_P(Linear, GradientsAreThoseOfCentralDifferences) {
  constexpr std::int64_t in = 4, out = 5, N = 3;
  for (const Activation activation : kActivations) {
    Layer<double> layer(context(), in, out, N, activation);
    layer.forward();
    layer.backward(0.0);
    const auto cost = [&] {  // <dY, Y>
      double sum = 0;
      for (std::int64_t j = 0; j < N; ++j)
        for (std::int64_t o = 0; o < out; ++o) sum += layer.dY(o, j) * act(activation, layer.before(o, j, true, false));
      return sum;
    };
    // Differences are within h^2 of the derivative, some 1e-9 here, and within eps / h of themselves, 1e-10.
    const auto bound = [](std::int64_t, std::int64_t) { return 1e-8; };
    expect_within(
        context(), "dW", layer.dw,
        [&](std::int64_t i, std::int64_t o) { return layer.dw.before(i, o) + central_difference(layer.W(i, o), cost); },
        bound);
    expect_within(
        context(), "db", layer.db,
        [&](std::int64_t o, std::int64_t) { return layer.db.before(o) + central_difference(layer.b(o), cost); }, bound);
    expect_within(
        context(), "dX", layer.dx,
        [&](std::int64_t i, std::int64_t j) { return central_difference(layer.X(i, j), cost); }, bound);
  }
}

TEST_P(Linear, NamesWhatIsWrong) {
  const Context& c = context();
  Layer<float> l(c, 3, 4, 2, Activation::gelu);
  const MatrixView<float> W = l.w.matrix(), X = l.x.matrix(), Y = l.y.matrix(), U = l.u.matrix();
  const VectorView<float> b = l.bias.vector();
  const auto forward = [&](MatrixView<const float> w, VectorView<const float> bias, MatrixView<const float> x,
                           MatrixView<float> y,
                           MatrixView<float> u) { linear_forward<float>(c, w, bias, Activation::gelu, x, y, u); };
  EXPECT_THROW(forward({}, b, X, Y, U), ShapeError);
  EXPECT_THROW(forward(W, b.slice(0, 3), X, Y, U), ShapeError);
  EXPECT_THROW(forward(W, b, Y, Y, U), ShapeError);
  EXPECT_THROW(forward(W, b, X, X, U), ShapeError);
  EXPECT_THROW(forward(W, b, X, Y, U.columns(0, 1)), ShapeError);
  MatrixView<float> elsewhere = Y;
  elsewhere.device.index = 7;
  EXPECT_THROW(forward(W, b, X, elsewhere, U), DeviceError);
  EXPECT_THROW(linear_blend<float>(c, W, b, 1.0f, X, 0.0f, X), ShapeError);
  EXPECT_THROW(linear_backward_scratch<float>(c, 3, 4, -1, Activation::none), ShapeError);
  const auto backward = [&](MatrixView<const float> u, MatrixView<float> dw, VectorView<float> db, MatrixView<float> dx,
                            VectorView<std::byte> scratch) {
    linear_backward<float>(c, W, Activation::gelu, X, {}, u, l.dy.matrix(), dw, db, 0.0f, dx, scratch);
  };
  const VectorView<std::byte> scratch = l.scratch.vector();
  EXPECT_THROW(backward({}, l.dw.matrix(), l.db.vector(), l.dx.matrix(), scratch), ShapeError);
  EXPECT_THROW(backward(U, X, l.db.vector(), l.dx.matrix(), scratch), ShapeError);
  EXPECT_THROW(backward(U, l.dw.matrix(), l.db.vector().slice(0, 1), l.dx.matrix(), scratch), ShapeError);
  EXPECT_THROW(backward(U, l.dw.matrix(), l.db.vector(), Y, scratch), ShapeError);
  EXPECT_THROW(backward(U, l.dw.matrix(), l.db.vector(), l.dx.matrix(), scratch.slice(0, scratch.size - 1)),
               ShapeError);
}

struct QueuedLinear {
  const Context& context;
  Tensor<float> W, b, X, Y, dY, dW, db, dX;
  Tensor<std::byte> scratch;
  explicit QueuedLinear(const Context& c)
      : context(c),
        W(testing::numbers<float>(c, 5, 8, 1)),
        b(testing::numbers<float>(c, 8, 1, 2)),
        X(testing::numbers<float>(c, 5, 6, 3)),
        Y(testing::numbers<float>(c, 8, 6, 4)),
        dY(testing::numbers<float>(c, 8, 6, 5)),
        dW(testing::numbers<float>(c, 5, 8, 6)),
        db(testing::numbers<float>(c, 8, 1, 7)),
        dX(testing::numbers<float>(c, 5, 6, 8)),
        scratch(c, linear_backward_scratch<float>(c, 5, 8, 6, Activation::tanh)) {
    static_cast<void>(c.cublas());
  }
  void queue() {
    linear_forward<float>(context, W.matrix(), b.vector(), Activation::tanh, X.matrix(), Y.matrix(), {});
    linear_backward<float>(context, W.matrix(), Activation::tanh, X.matrix(), Y.matrix(), {}, dY.matrix(), dW.matrix(),
                           db.vector(), 1.0f, dX.matrix(), scratch.vector());
    linear_blend<float>(context, W.matrix(), b.vector(), 0.5f, X.matrix(), 0.5f, dY.matrix());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y, dY, dW, db, dX); }
};
class LinearQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(LinearQueued);
TEST_P(LinearQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedLinear>();
}

}  // namespace
}  // namespace shrinkwarp
