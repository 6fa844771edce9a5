// Convolutions against plain loops in double, whose sums of magnitudes bound the rounding; gradients against differences;
// the promise that bits depend neither on the threads nor, of an image, on the others.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/convolution/convolution.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::kThreadSanitizer;
using testing::same_elements;
using testing::to_device;
using testing::to_host;

class Convolution : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Convolution);
class ConvolutionOnCuda : public testing::OnContext {};
SHRINKWARP_ON_CUDA(ConvolutionOnCuda);

struct Case {
  ConvolutionShape shape;
  std::int64_t images;
};

/// Numbers of 8 bits in [-1, 1].
template <class T>
GuardedHost<T> values(std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::uint32_t state = 7919u * (seed + 1);
  return GuardedHost<T>::make(rows, cols, [&](std::int64_t, std::int64_t) {
    state = state * 1664525u + 1013904223u;
    return (static_cast<double>(state >> 24) - 127.5) / 128;
  });
}

/// All that enters a convolution and its gradients, and what stands in the results before.
template <class T>
struct Inputs {
  GuardedHost<T> W, b, X, dY, dW, db, dX;

  explicit Inputs(const Case& c)
      : W(values<T>(c.shape.terms(), c.shape.filters, 1)),
        b(values<T>(c.shape.filters, 1, 2)),
        X(values<T>(c.shape.in_features(), c.images, 3)),
        dY(values<T>(c.shape.out_features(), c.images, 4)),
        dW(values<T>(c.shape.terms(), c.shape.filters, 5)),
        db(values<T>(c.shape.filters, 1, 6)),
        dX(values<T>(c.shape.in_features(), c.images, 7)) {}
};

template <class T>
struct Results {
  GuardedHost<T> Y, dW, db, dX;
};

/// Both ways; memory of everything has guards, and the results are checked for theirs.
template <class T>
Results<T> run(const Context& context, const Case& c, const Inputs<T>& in, T beta, bool bias = true) {
  const auto W = to_device(context, in.W), b = to_device(context, in.b), X = to_device(context, in.X);
  const auto dY = to_device(context, in.dY), dW = to_device(context, in.dW), db = to_device(context, in.db);
  GuardedHost<T> start = in.dX;
  if (beta == T(0)) start = GuardedHost<T>(in.dX.rows, in.dX.cols);  // NaN, which must not be read
  const GuardedHost<T> empty(c.shape.out_features(), c.images);
  const auto Y = to_device(context, empty), dX = to_device(context, start);
  const Tensor<std::byte> forward(context, convolution_scratch<T>(context, c.shape, c.images, false));
  const Tensor<std::byte> backward(context, convolution_scratch<T>(context, c.shape, c.images, true));
  convolution_forward<T>(context, c.shape, W.matrix(), bias ? b.vector() : VectorView<T>{}, X.matrix(), Y.matrix(),
                         forward.vector());
  convolution_backward<T>(context, c.shape, W.matrix(), X.matrix(), dY.matrix(), dW.matrix(), db.vector(), beta,
                          dX.matrix(), backward.vector());
  Results<T> out{to_host(context, Y), to_host(context, dW), to_host(context, db), to_host(context, dX)};
  EXPECT_TRUE(guards_intact(empty, out.Y));
  EXPECT_TRUE(guards_intact(in.dW, out.dW));
  EXPECT_TRUE(guards_intact(in.db, out.db));
  EXPECT_TRUE(guards_intact(start, out.dX));
  return out;
}

/// A sum, and that of its terms' magnitudes.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
  }
};

/// All elements are within `terms` + 2 roundings of the sums (those of a sum in any order, of what is added to it and of alpha).
template <class T>
void expect_near(const GuardedHost<T>& found, const std::vector<Sum>& wanted, std::int64_t terms, const char* what) {
  int wrong = 0;
  for (std::int64_t j = 0; j < found.cols; ++j) {
    for (std::int64_t i = 0; i < found.rows; ++i) {
      const Sum& sum = wanted[static_cast<std::size_t>(i + j * found.rows)];
      const double bound = static_cast<double>(terms + 2) * std::numeric_limits<T>::epsilon() * sum.magnitude;
      const bool right = std::isnan(sum.value) ? std::isnan(found(i, j)) : std::fabs(found(i, j) - sum.value) <= bound;
      if (!right && ++wrong == 1) {
        ADD_FAILURE() << what << "(" << i << ", " << j << ") is " << found(i, j) << ", wanted " << sum.value
                      << " within " << bound;
      }
    }
  }
}

template <class T>
void check_against_loops(const Context& context, const Case& c, const Inputs<T>& in, T beta) {
  const ConvolutionShape& s = c.shape;
  SCOPED_TRACE(::testing::Message() << s.channels << " x " << s.height << " x " << s.width << ", " << s.filters
                                    << " of " << s.kernel_height << " x " << s.kernel_width << ", stride " << s.stride
                                    << ", " << c.images << " images");
  const std::int64_t P = s.positions(), N = c.images;
  std::vector<Sum> Y(static_cast<std::size_t>(s.out_features() * N)), dX(static_cast<std::size_t>(s.in_features() * N));
  std::vector<Sum> dW(static_cast<std::size_t>(s.weights())), db(static_cast<std::size_t>(s.filters));
  for (std::int64_t f = 0; f < s.filters; ++f) {
    db[static_cast<std::size_t>(f)].add(in.db(f));
    for (std::int64_t k = 0; k < s.terms(); ++k) dW[static_cast<std::size_t>(k + f * s.terms())].add(in.dW(k, f));
  }
  for (std::int64_t n = 0; n < N; ++n) {
    for (std::int64_t q = 0; q < s.in_features() && beta != T(0); ++q)
      dX[static_cast<std::size_t>(q + n * s.in_features())].add(static_cast<double>(beta) * in.dX(q, n));
    for (std::int64_t f = 0; f < s.filters; ++f) {
      for (std::int64_t p = 0; p < P; ++p) {
        const std::int64_t i = p / s.out_width(), j = p % s.out_width();
        const double g = in.dY(f * P + p, n);
        Sum& y = Y[static_cast<std::size_t>(f * P + p + n * s.out_features())];
        y.add(in.b(f));
        db[static_cast<std::size_t>(f)].add(g);
        for (std::int64_t k = 0; k < s.terms(); ++k) {
          const std::int64_t h = i * s.stride + k / s.kernel_width % s.kernel_height * s.dilation - s.padding;
          const std::int64_t w = j * s.stride + k % s.kernel_width * s.dilation - s.padding;
          const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
          const std::int64_t q = k / s.taps() * s.pixels() + h * s.width + w;
          const double x = inside ? static_cast<double>(in.X(q, n)) : 0;
          y.add(in.W(k, f) * x);
          dW[static_cast<std::size_t>(k + f * s.terms())].add(g * x);
          if (inside) dX[static_cast<std::size_t>(q + n * s.in_features())].add(g * in.W(k, f));
        }
      }
    }
  }
  const Results<T> found = run<T>(context, c, in, beta);
  expect_near(found.Y, Y, s.terms() + 1, "Y");
  expect_near(found.dW, dW, P * N + 1, "dW");
  expect_near(found.db, db, 2, "db");  // summed in double
  expect_near(found.dX, dX, s.filters * s.taps() + 1, "dX");
}

/// Shapes with a single place, taps that are outside of the image everywhere, several tasks of each kind.
const Case kCases[] = {{{1, 1, 1, 1, 1, 1}, 1},          {{3, 5, 4, 2, 3, 3, 1, 1}, 3},
                       {{2, 9, 6, 3, 2, 3, 2, 1, 2}, 2}, {{5, 7, 5, 4, 1, 1}, 3},
                       {{3, 7, 6, 5, 1, 1, 2}, 2},       {{2, 1, 2, 2, 5, 5, 1, 3}, 2},
                       {{3, 15, 17, 2, 7, 7, 2, 3}, 2},  {{60, 3, 3, 2, 3, 3, 1, 1}, 10},
                       {{2, 3, 2, 300, 1, 1}, 2},        {{600, 2, 2, 2, 1, 1}, 1}};

TEST_P(Convolution, AgreesWithLoopsBothWays) {
  for (const Case& c : kCases) {
    check_against_loops<float>(context(), c, Inputs<float>(c), 0);
    check_against_loops<double>(context(), c, Inputs<double>(c), 1);
  }
  check_against_loops<float>(context(), kCases[1], Inputs<float>(kCases[1]), -0.5f);
  if (kThreadSanitizer) return;
  // Several bands of rows; columns of one channel that fill a thread's piece; on CUDA a group for each image.
  const Case large{{1, 156, 155, 1, 10, 10, 1, 0}, 2};
  check_against_loops<double>(context(), large, Inputs<double>(large), 0);
  const Case wide{{1, 60, 40, 2, 1, 1}, 1};
  check_against_loops<float>(context(), wide, Inputs<float>(wide), 0);
}

TEST_P(Convolution, NanReachesWhatItEnters) {
  for (const Case& c : {kCases[1], kCases[2], kCases[3]}) {
    Inputs<double> in(c);
    in.X(c.shape.in_features() - 1, c.images - 1) = std::numeric_limits<double>::quiet_NaN();
    in.dY(0, 0) = std::numeric_limits<double>::quiet_NaN();
    check_against_loops<double>(context(), c, in, 1);
  }
}

TEST_P(Convolution, IsACorrelationByHand) {
  // 2 x 2 taps on 2 x 3 pixels, at both places; then with zeros around, at every second one.
  const auto W = testing::to_device<float>(context(), {1, 10, 100, 1000}, 4);
  const auto X = testing::to_device<float>(context(), {1, 2, 3, 4, 5, 6}, 6);
  const auto Y = testing::to_device<float>(context(), {0, 0, 0, 0}, 4);
  const auto found = [&](const ConvolutionShape& s) {
    const Tensor<std::byte> scratch(context(), convolution_scratch<float>(context(), s, 1, false));
    convolution_forward<float>(context(), s, W.matrix(), {}, X.matrix(),
                               {Y.data(), s.out_features(), 1, s.out_features(), context().device()}, scratch.vector());
    return to_host(context(), Y);
  };
  EXPECT_EQ(found({1, 2, 3, 1, 2, 2}), (std::vector<float>{5421, 6532, 0, 0}));
  EXPECT_EQ(found({1, 2, 3, 1, 2, 2, 2, 1}), (std::vector<float>{1000, 3200, 40, 65}));
}

TEST_P(Convolution, GradientsAreDifferencesOfTheLoss) {
  // The loss <dY, Y> is linear in each argument and all numbers are multiples of 2^-8: central differences are exact.
  const Case c{{2, 3, 4, 2, 2, 3, 1, 1}, 2};
  Inputs<double> in(c);
  const auto zero = [](std::int64_t, std::int64_t) { return 0; };
  in.dW = GuardedHost<double>::make(in.dW.rows, in.dW.cols, zero);
  in.db = GuardedHost<double>::make(in.db.rows, 1, zero);
  const auto loss = [&] {
    const auto Y = run<double>(context(), c, in, 0).Y;
    double sum = 0;
    for (std::int64_t n = 0; n < Y.cols; ++n)
      for (std::int64_t i = 0; i < Y.rows; ++i) sum += Y(i, n) * in.dY(i, n);
    return sum;
  };
  const Results<double> found = run<double>(context(), c, in, 0);
  const auto check = [&](GuardedHost<double>& argument, const GuardedHost<double>& gradient, std::int64_t step) {
    for (std::int64_t k = 0; k < argument.rows * argument.cols; k += step) {
      double& entry = argument(k % argument.rows, k / argument.rows);
      const double kept = entry;
      entry = kept + 1;
      const double above = loss();
      entry = kept - 1;
      EXPECT_EQ((above - loss()) / 2, gradient(k % argument.rows, k / argument.rows)) << k;
      entry = kept;
    }
  };
  check(in.W, found.dW, 5);
  check(in.b, found.db, 1);
  check(in.X, found.dX, 7);
}

TEST_P(Convolution, WritesNoInputGradientThatIsNotWanted) {
  for (const Case& c : {kCases[1], kCases[3]}) {
    const Inputs<float> in(c);
    const Results<float> all = run<float>(context(), c, in, 0);
    const auto X = to_device(context(), in.X), dY = to_device(context(), in.dY), dW = to_device(context(), in.dW);
    const auto W = to_device(context(), in.W);
    const Tensor<std::byte> scratch(context(), convolution_scratch<float>(context(), c.shape, c.images, true));
    convolution_backward<float>(context(), c.shape, W.matrix(), X.matrix(), dY.matrix(), dW.matrix(), {}, 0, {},
                                scratch.vector());
    EXPECT_TRUE(same_elements(to_host(context(), dW), all.dW));
  }
}

TEST(ConvolutionOnCpu, BitsDependNeitherOnThreadsNorOnOtherImages) {
  const Context one = Context::cpu(1), three = Context::cpu(3);
  for (const Case& c :
       {Case{{60, 9, 7, 5, 3, 3, 1, 1}, 5}, Case{{70, 40, 40, 300, 1, 1}, 2}, Case{{3, 64, 64, 9, 7, 7, 2, 3}, 3}}) {
    const Inputs<float> in(c);
    const Results<float> a = run<float>(one, c, in, 1), b = run<float>(three, c, in, 1);
    EXPECT_TRUE(same_elements(a.Y, b.Y));
    EXPECT_TRUE(same_elements(a.dW, b.dW));
    EXPECT_TRUE(same_elements(a.db, b.db));
    EXPECT_TRUE(same_elements(a.dX, b.dX));
    const Case single{c.shape, 1};
    const Results<float> alone = run<float>(three, single, Inputs<float>(single), 1);
    for (std::int64_t i = 0; i < a.Y.rows; ++i) ASSERT_EQ(alone.Y(i), a.Y(i));
    // dX of the first image: its dY is the first column's, what stood there before too.
    for (std::int64_t i = 0; i < a.dX.rows; ++i) ASSERT_EQ(alone.dX(i), a.dX(i));
  }
}

TEST(ConvolutionOnCpu, ScratchIsBounded) {
  const Context context = Context::cpu(2);
  const ConvolutionShape layer{64, 56, 56, 64, 3, 3, 1, 1};
  EXPECT_LE(convolution_scratch<float>(context, layer, 1000, false), 2 << 20);
  EXPECT_LE(convolution_scratch<float>(context, layer, 1000, true), (2 * 4 + 16) << 20);
  EXPECT_EQ(convolution_scratch<float>(context, {64, 56, 56, 64, 1, 1}, 1000, false), 0);
}

TEST_P(ConvolutionOnCuda, ScratchIsBounded) {
  const ConvolutionShape layer{64, 56, 56, 64, 3, 3, 1, 1};
  for (const bool backward : {false, true}) {
    const std::int64_t bytes = convolution_scratch<float>(context(), layer, 1000, backward);
    EXPECT_GT(bytes, 16 << 20);
    EXPECT_LE(bytes, 32 << 20);
    EXPECT_EQ(convolution_scratch<float>(context(), layer, 2000, backward), bytes);
  }
}

TEST_P(Convolution, RefusesWhatDoesNotFit) {
  const ConvolutionShape good{2, 4, 4, 3, 3, 3, 1, 1};
  const auto call = [&](const ConvolutionShape& s, std::int64_t rows, std::int64_t bytes) {
    const Tensor<float> W = Tensor<float>::zeros(context(), 18, 3), X = Tensor<float>::zeros(context(), 32, 2);
    const Tensor<float> Y(context(), rows, 2);
    const Tensor<std::byte> scratch(context(), bytes);
    convolution_forward<float>(context(), s, W.matrix(), {}, X.matrix(), Y.matrix(), scratch.vector());
  };
  const std::int64_t bytes = convolution_scratch<float>(context(), good, 2, false);
  call(good, 48, bytes);
  EXPECT_THROW(call(good, 47, bytes), ShapeError);
  EXPECT_THROW(call(good, 48, bytes - 1), ShapeError);
  for (const ConvolutionShape& bad :
       {ConvolutionShape{0, 4, 4, 3, 3, 3, 1, 1}, ConvolutionShape{2, 4, 4, 3, 3, 3, 0, 1},
        ConvolutionShape{2, 4, 4, 3, 3, 3, 1, -1}, ConvolutionShape{2, 4, 4, 3, 3, 3, 1, 1, 3},
        ConvolutionShape{2, 4, 4, 3, 7, 3, 1, 1}, ConvolutionShape{1, 4, 4, 3, 3, 3, 1, 1}}) {
    EXPECT_THROW(call(bad, 48, bytes), ShapeError);
  }
}

struct QueuedConvolutions {
  const Context& context;
  ConvolutionShape taps{3, 6, 5, 4, 3, 3, 2, 1}, product{4, 3, 3, 2, 1, 1};
  Tensor<float> X, W, V, b, Y, Z, dV, dW, db, dY, dX;
  Tensor<std::byte> scratch;

  explicit QueuedConvolutions(const Context& c)
      : context(c),
        X(testing::numbers<float>(c, taps.in_features(), 3, 1)),
        W(testing::numbers<float>(c, taps.terms(), 4, 2)),
        V(testing::numbers<float>(c, product.terms(), 2, 3)),
        b(testing::numbers<float>(c, 4, 1, 4)),
        Y(Tensor<float>::zeros(c, taps.out_features(), 3)),
        Z(Tensor<float>::zeros(c, product.out_features(), 3)),
        dV(Tensor<float>::zeros(c, product.terms(), 2)),
        dW(Tensor<float>::zeros(c, taps.terms(), 4)),
        db(Tensor<float>::zeros(c, 4)),
        dY(Tensor<float>::zeros(c, taps.out_features(), 3)),
        dX(Tensor<float>::zeros(c, taps.in_features(), 3)),
        scratch(c, convolution_scratch<float>(c, taps, 3, true) + convolution_scratch<float>(c, product, 3, true)) {
    c.cublas();
    c.synchronize();
  }
  void queue() {
    const auto s = scratch.vector();
    convolution_forward<float>(context, taps, W.matrix(), b.vector(), X.matrix(), Y.matrix(), s);
    convolution_forward<float>(context, product, V.matrix(), {}, Y.matrix(), Z.matrix(), s);
    convolution_backward<float>(context, product, V.matrix(), Y.matrix(), Z.matrix(), dV.matrix(), {}, 1, dY.matrix(),
                                s);
    convolution_backward<float>(context, taps, W.matrix(), X.matrix(), dY.matrix(), dW.matrix(), db.vector(), 1,
                                dX.matrix(), s);
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y, Z, dV, dW, db, dY, dX); }
};

TEST_P(ConvolutionOnCuda, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedConvolutions>();
}

}  // namespace
}  // namespace shrinkwarp
