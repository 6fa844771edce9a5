// Pooling against plain loops: maxima and where they are exactly, gradients too where they are sums of integers.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/pooling/pooling.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::same_elements;
using testing::to_device;
using testing::to_host;

class Pooling : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Pooling);
class PoolingOnCuda : public testing::OnContext {};
SHRINKWARP_ON_CUDA(PoolingOnCuda);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Integers from -8 to 7, so that windows have equal maxima and sums are exact.
template <class T>
GuardedHost<T> integers(std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::uint32_t state = 7919u * (seed + 1);
  return GuardedHost<T>::make(rows, cols, [&](std::int64_t, std::int64_t) {
    state = state * 1664525u + 1013904223u;
    return static_cast<int>(state >> 28) - 8;
  });
}

template <class T>
struct Pooled {
  GuardedHost<T> Y;
  GuardedHost<std::int32_t> index;
};

template <class T>
Pooled<T> pool(const Context& context, const PoolingShape& s, const GuardedHost<T>& in) {
  const auto X = to_device(context, in);
  const GuardedHost<T> empty(s.out_features(), in.cols);
  const GuardedHost<std::int32_t> no_index(s.out_features(), in.cols);
  const auto Y = to_device(context, empty), alone = to_device(context, empty);
  const auto index = to_device(context, no_index);
  max_pool_forward<T>(context, s, X.matrix(), Y.matrix(), index.matrix());
  max_pool_forward<T>(context, s, X.matrix(), alone.matrix(), {});
  Pooled<T> out{to_host(context, Y), to_host(context, index)};
  EXPECT_TRUE(guards_intact(empty, out.Y));
  EXPECT_TRUE(guards_intact(no_index, out.index));
  EXPECT_TRUE(same_elements(to_host(context, alone), out.Y)) << "without an index";
  return out;
}

/// Largest values and their places by going through each window, and the gradient by handing dY back.
template <class T>
void check_maxima(const Context& context, const PoolingShape& s, const GuardedHost<T>& X, T beta) {
  SCOPED_TRACE(::testing::Message() << s.channels << " x " << s.height << " x " << s.width << ", windows of "
                                    << s.kernel << ", stride " << s.stride << ", padding " << s.padding);
  const Pooled<T> found = pool(context, s, X);
  const auto gradient = integers<T>(s.out_features(), X.cols, 5);
  const auto before = integers<T>(s.in_features(), X.cols, 6);
  GuardedHost<T> wanted = before;
  for (std::int64_t n = 0; n < X.cols; ++n) {
    for (std::int64_t q = 0; q < wanted.rows; ++q) wanted(q, n) = beta == T(0) ? T(0) : beta * before(q, n);
    for (std::int64_t o = 0; o < s.out_features(); ++o) {
      const std::int64_t c = o / s.positions(), i = o % s.positions() / s.out_width(), j = o % s.out_width();
      std::int64_t where = -1;
      for (std::int64_t h = i * s.stride - s.padding; h < i * s.stride - s.padding + s.kernel; ++h) {
        for (std::int64_t w = j * s.stride - s.padding; w < j * s.stride - s.padding + s.kernel; ++w) {
          if (h < 0 || h >= s.height || w < 0 || w >= s.width) continue;
          const std::int64_t q = h * s.width + w;
          const T value = X(c * s.pixels() + q, n);
          if (where < 0 || value > X(c * s.pixels() + where, n) || std::isnan(value)) where = q;
        }
      }
      ASSERT_EQ(found.index(o, n), where) << "window " << o;
      const T largest = X(c * s.pixels() + where, n);
      ASSERT_TRUE(std::isnan(largest) ? std::isnan(found.Y(o, n)) : found.Y(o, n) == largest) << "window " << o;
      wanted(c * s.pixels() + where, n) += gradient(o, n);
    }
  }
  const auto dY = to_device(context, gradient);
  const auto index = to_device(context, found.index);
  const GuardedHost<T> start = beta == T(0) ? GuardedHost<T>(before.rows, before.cols) : before;
  const auto dX = to_device(context, start);
  max_pool_backward<T>(context, s, dY.matrix(), index.matrix(), beta, dX.matrix());
  const GuardedHost<T> got = to_host(context, dX);
  EXPECT_TRUE(guards_intact(start, got));
  for (std::int64_t n = 0; n < X.cols; ++n)
    for (std::int64_t q = 0; q < got.rows; ++q) ASSERT_EQ(got(q, n), wanted(q, n)) << "pixel " << q;
}

TEST_P(Pooling, FindsMaximaAndHandsGradientsBack) {
  for (const PoolingShape& s :
       {PoolingShape{1, 1, 1, 1}, PoolingShape{3, 8, 7, 3, 2, 1}, PoolingShape{2, 7, 9, 2, 2},
        PoolingShape{2, 5, 6, 3, 1, 1}, PoolingShape{9, 4, 4, 2, 3}, PoolingShape{1, 2, 3, 4, 1, 2},
        PoolingShape{1, 2, 2, 5, 3, 2}, PoolingShape{2, 70, 70, 3, 2, 1}}) {
    check_maxima<float>(context(), s, integers<float>(s.in_features(), 3, 1), 0);
    check_maxima<double>(context(), s, integers<double>(s.in_features(), 2, 2), 1);
  }
  const PoolingShape s{2, 6, 7, 3, 2, 1};
  check_maxima<float>(context(), s, integers<float>(s.in_features(), 2, 3), -0.5f);
  GuardedHost<double> X = integers<double>(s.in_features(), 2, 4);
  for (const std::int64_t q : {0, 20, 21, 83}) X(q, 1) = kNaN;
  for (std::int64_t q = 0; q < 42; ++q) X(q, 0) = -kInfinity;
  check_maxima<double>(context(), s, X, 1);
}

TEST_P(Pooling, ByHand) {
  // Of equal maxima the first counts, and of NaNs the last.
  const auto found =
      pool<double>(context(), {1, 2, 4, 2, 2}, GuardedHost<double>::make(8, 1, [](std::int64_t i, std::int64_t) {
                     return std::vector<double>{1, 5, kNaN, 2, 5, 3, 7, kNaN}[static_cast<std::size_t>(i)];
                   }));
  EXPECT_EQ(found.Y(0), 5);
  EXPECT_EQ(found.index(0), 1);
  EXPECT_TRUE(std::isnan(found.Y(1)));
  EXPECT_EQ(found.index(1), 7);
}

TEST_P(Pooling, GradientsAreDifferencesOfTheLoss) {
  // No two pixels are nearer than 1, so a step of 1/4 changes no maximum; everything is exact.
  const PoolingShape s{2, 5, 4, 3, 2, 1};
  auto X = GuardedHost<double>::make(s.in_features(), 1, [](std::int64_t i, std::int64_t) { return i * 17 % 41; });
  const auto gradient = integers<double>(s.out_features(), 1, 1);
  const auto index = to_device(context(), pool(context(), s, X).index);
  const auto dY = to_device(context(), gradient), dX = to_device(context(), X);
  max_pool_backward<double>(context(), s, dY.matrix(), index.matrix(), 0, dX.matrix());
  const auto found = to_host(context(), dX);
  const auto loss = [&] {
    const auto Y = pool(context(), s, X).Y;
    double sum = 0;
    for (std::int64_t o = 0; o < Y.rows; ++o) sum += gradient(o) * Y(o);
    return sum;
  };
  for (std::int64_t q = 0; q < X.rows; ++q) {
    const double kept = X(q);
    X(q) = kept + 0.25;
    const double above = loss();
    X(q) = kept - 0.25;
    EXPECT_EQ((above - loss()) * 2, found(q)) << q;
    X(q) = kept;
  }
}

template <class T>
void check_averages(const Context& context, std::int64_t channels, std::int64_t pixels, std::int64_t images, T beta) {
  auto in = integers<T>(channels * pixels, images, 1);
  in(channels * pixels - 1, images - 1) = std::numeric_limits<T>::quiet_NaN();
  const auto X = to_device(context, in);
  const GuardedHost<T> empty(channels, images);
  const auto Y = to_device(context, empty);
  average_pool_forward<T>(context, X.matrix(), Y.matrix());
  const auto found = to_host(context, Y);
  EXPECT_TRUE(guards_intact(empty, found));
  const GuardedHost<T> start = beta == T(0) ? GuardedHost<T>(channels * pixels, images) : in;
  const auto dX = to_device(context, start);
  average_pool_backward<T>(context, Y.matrix(), beta, dX.matrix());
  const auto back = to_host(context, dX);
  EXPECT_TRUE(guards_intact(start, back));
  for (std::int64_t n = 0; n < images; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (std::int64_t p = 0; p < pixels; ++p) sum += in(c * pixels + p, n);
      const T mean = static_cast<T>(sum / static_cast<double>(pixels));  // the sum is exact, the rest is rounded alike
      EXPECT_TRUE(std::isnan(sum) ? std::isnan(found(c, n)) : found(c, n) == mean) << c << " of " << n;
      const T share = mean / static_cast<T>(pixels);
      for (std::int64_t p = 0; p < pixels; ++p) {
        const T before = in(c * pixels + p, n), got = back(c * pixels + p, n);
        const T wanted = beta == T(0) ? share : std::fma(beta, before, share);
        ASSERT_TRUE(std::isnan(wanted) ? std::isnan(got) : got == wanted) << "pixel " << p << " of " << c;
      }
    }
  }
}

TEST_P(Pooling, AveragesChannels) {
  check_averages<float>(context(), 5, 49, 3, 0);
  check_averages<double>(context(), 9, 7, 2, 1);
  check_averages<float>(context(), 3, 1, 2, -0.5f);
  check_averages<double>(context(), 1, 100, 1, 0);
}

TEST_P(Pooling, RefusesWhatDoesNotFit) {
  const PoolingShape good{2, 4, 4, 2, 2};
  const Tensor<float> X = Tensor<float>::zeros(context(), 32, 2), Y(context(), 8, 2), wrong(context(), 7, 2);
  const Tensor<std::int32_t> index(context(), 8, 2);
  max_pool_forward<float>(context(), good, X.matrix(), Y.matrix(), index.matrix());
  EXPECT_THROW(max_pool_forward<float>(context(), good, X.matrix(), wrong.matrix(), index.matrix()), ShapeError);
  EXPECT_THROW(max_pool_backward<float>(context(), good, wrong.matrix(), index.matrix(), 0, X.matrix()), ShapeError);
  EXPECT_THROW(max_pool_backward<float>(context(), good, Y.matrix(), {}, 0, X.matrix()), ShapeError);
  EXPECT_THROW(average_pool_forward<float>(context(), X.matrix(), wrong.matrix()), ShapeError);
  EXPECT_THROW(average_pool_backward<float>(context(), wrong.matrix(), 0, X.matrix()), ShapeError);
  for (const PoolingShape& bad :
       {PoolingShape{2, 4, 4, 5, 2}, PoolingShape{2, 4, 4, 2, 0}, PoolingShape{2, 4, 4, 3, 2, 2},
        PoolingShape{0, 4, 4, 2, 2}, PoolingShape{2, 4, 4, 2, 2, -1}}) {
    EXPECT_THROW(max_pool_forward<float>(context(), bad, X.matrix(), Y.matrix(), index.matrix()), ShapeError);
  }
}

struct QueuedPooling {
  const Context& context;
  PoolingShape shape{3, 6, 5, 3, 2, 1};
  Tensor<float> X, Y, Z, dX;
  Tensor<std::int32_t> index;

  explicit QueuedPooling(const Context& c)
      : context(c),
        X(testing::numbers<float>(c, shape.in_features(), 2, 1)),
        Y(Tensor<float>::zeros(c, shape.out_features(), 2)),
        Z(Tensor<float>::zeros(c, shape.channels, 2)),
        dX(Tensor<float>::zeros(c, shape.in_features(), 2)),
        index(Tensor<std::int32_t>::zeros(c, shape.out_features(), 2)) {
    c.synchronize();
  }
  void queue() {
    max_pool_forward<float>(context, shape, X.matrix(), Y.matrix(), index.matrix());
    average_pool_forward<float>(context, Y.matrix(), Z.matrix());
    average_pool_backward<float>(context, Z.matrix(), 1, Y.matrix());
    max_pool_backward<float>(context, shape, Y.matrix(), index.matrix(), 1, dX.matrix());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y, Z, dX, index); }
};

TEST_P(PoolingOnCuda, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedPooling>();
}

}  // namespace
}  // namespace shrinkwarp
