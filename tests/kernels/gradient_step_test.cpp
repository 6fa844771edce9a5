#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/gradient_step/group_step.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::Guarded;
using testing::GuardedHost;
using testing::guards_intact;
using testing::same_bits;
using testing::same_elements;
using testing::to_device;
using testing::to_host;

class GradientStep : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(GradientStep);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Standard normal values, the same on every machine.
std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 17, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

template <class T>
GuardedHost<T> normal_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t stream, std::int64_t padding = 3) {
  const auto values = normal(rows * cols, stream);
  return GuardedHost<T>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      padding);
}

/// Everything that one iteration reads, on the host. Column b of the codes has about `density(b)` nonzeros.
template <class T>
struct Inputs {
  std::int64_t n, m, N;
  GuardedHost<T> D, X, current, previous, anchor, beta, lambda;
  GuardedHost<std::uint8_t> active;
  T step;
};

template <class T>
Inputs<T> make_inputs(std::int64_t n, std::int64_t m, std::int64_t N) {
  Inputs<T> in{n, m, N, {}, {}, {}, {}, {}, {}, {}, {}, T(0.5) / static_cast<T>(n + m)};
  in.D = normal_matrix<T>(n, m, 1, 5);
  in.X = normal_matrix<T>(n, N, 2, 1);
  // From empty to full, so that every way through a sparse code is taken; and so that neighbours differ.
  const double densities[] = {1, 0.03, 0.3, 0, 0.6, 0.1, 1};
  const auto coin = normal(m * N, 3);
  const auto kept = [&](std::int64_t i, std::int64_t j) {
    const double uniform = std::erfc(-coin[static_cast<std::size_t>(i + j * m)] / std::sqrt(2.0)) / 2;
    return uniform < densities[j % 7];
  };
  const auto codes = [&](std::uint64_t stream, std::int64_t padding) {
    GuardedHost<T> Z = normal_matrix<T>(m, N, stream, padding);
    for (std::int64_t j = 0; j < N; ++j) {
      for (std::int64_t i = 0; i < m; ++i) {
        if (!kept(i, j)) Z(i, j) = T(0);
      }
    }
    return Z;
  };
  in.current = codes(4, 2);
  in.previous = codes(5, 7);
  in.anchor = codes(6, 4);
  for (std::int64_t j = 0; j < N; ++j) {  // here and there z = 0 although its two parts are not
    for (std::int64_t i = j % 3; i < m; i += 11) in.anchor(i, j) = -in.current(i, j);
  }
  in.beta = GuardedHost<T>::make(N, 1, [](std::int64_t b, std::int64_t) { return b % 4 == 2 ? 0 : 0.1 * (b % 10); });
  in.lambda = GuardedHost<T>::make(N, 1, [](std::int64_t b, std::int64_t) {
    return b % 5 == 3 ? 0 : b % 5 == 4 ? 1e6 : 0.4 * static_cast<double>(b % 9 + 1);
  });
  in.active = GuardedHost<std::uint8_t>::make(N, 1, [](std::int64_t b, std::int64_t) { return b % 6 != 5; });
  return in;
}

/// Column `column` of the batch alone, or any choice of columns.
template <class T>
Inputs<T> columns_of(const Inputs<T>& in, const std::vector<std::int64_t>& columns) {
  const auto N = static_cast<std::int64_t>(columns.size());
  Inputs<T> out = in;
  out.N = N;
  const auto pick = [&](const auto& from, bool vector) {
    using Host = std::decay_t<decltype(from)>;
    return Host::make(vector ? N : from.rows, vector ? 1 : N, [&](std::int64_t i, std::int64_t j) {
      return vector ? from(columns[static_cast<std::size_t>(i)]) : from(i, columns[static_cast<std::size_t>(j)]);
    });
  };
  out.X = pick(in.X, false);
  out.current = pick(in.current, false);
  out.previous = pick(in.previous, false);
  out.anchor = pick(in.anchor, false);
  out.beta = pick(in.beta, true);
  out.lambda = pick(in.lambda, true);
  out.active = pick(in.active, true);
  return out;
}

template <class T>
struct Outputs {
  GuardedHost<T> R, next, restart;
  GuardedHost<std::int32_t> support;
};

struct Options {
  bool anchored = true;
  bool all_active = false;
  bool weighted = false;
  bool nonnegative = false;
  double ridge = 0;
  std::int64_t group_size = 1;  // over 1: group_step
  bool plain() const { return !weighted && !nonnegative && ridge == 0; }
};

/// Weights of groups, one in five infinite.
double weight_of(std::int64_t j, const Options& options) {
  constexpr double kWeights[] = {1, 0.25, 3, std::numeric_limits<double>::infinity(), 0.75};
  return options.weighted ? kWeights[j % 5] : 1;
}

/// extrapolated_residual, then gradient_step on its result. Inputs and everything outside the outputs must come back
/// as they were.
template <class T>
Outputs<T> iterate(const Context& context, const Inputs<T>& in, Options options = {}) {
  const auto D = to_device(context, in.D);
  const StepDictionary<T> dictionary(context, D.matrix());
  EXPECT_EQ(dictionary.rows(), in.n);
  EXPECT_EQ(dictionary.cols(), in.m);
  EXPECT_EQ(dictionary.device(), context.device());
  const auto X = to_device(context, in.X), current = to_device(context, in.current);
  const auto previous = to_device(context, in.previous), anchor = to_device(context, in.anchor);
  const auto beta = to_device(context, in.beta), lambda = to_device(context, in.lambda);
  const auto active = to_device(context, in.active);
  const GuardedHost<T> no_R(in.n, in.N, 2);
  const auto R = to_device(context, no_R);
  const std::int64_t tiles = step_tiles(context, in.m);
  const GuardedHost<T> no_restart(tiles, in.N);
  const GuardedHost<std::int32_t> no_support(tiles, in.N, 1);
  const auto restart = to_device(context, no_restart);
  const auto support = to_device(context, no_support);
  const Tensor<T> scratch(context, residual_scratch(context, dictionary.rows(), dictionary.cols(), in.N));
  const auto host_weights = GuardedHost<T>::make(in.m / options.group_size, 1,
                                                 [&](std::int64_t j, std::int64_t) { return weight_of(j, options); });
  const auto weights = to_device(context, host_weights);
  const GuardedHost<T> no_moved(in.m, in.N, 6);
  const auto moved = to_device(context, no_moved);
  PenaltyView<T> penalty{{}, options.ridge, options.nonnegative, options.group_size};
  if (options.weighted) penalty.weights = weights.vector();

  extrapolated_residual(context, dictionary, current.matrix(), previous.matrix(), beta.vector(), X.matrix(), R.matrix(),
                        scratch.vector());
  EXPECT_TRUE(same_elements(in.previous, to_host(context, previous)));
  const MatrixView<T> anchors = options.anchored ? anchor.matrix() : MatrixView<T>{};
  const VectorView<const std::uint8_t> moves = options.all_active ? VectorView<const std::uint8_t>{} : active.vector();
  const StepPartials<T> partials{restart.matrix(), support.matrix()};
  if (options.group_size > 1) {
    group_step(context, dictionary, R.matrix(), anchors, current.matrix(), previous.matrix(), beta.vector(), in.step,
               lambda.vector(), moves, partials, penalty, moved.matrix());
    EXPECT_TRUE(guards_intact(no_moved, to_host(context, moved)));
  } else {
    gradient_step(context, dictionary, R.matrix(), anchors, current.matrix(), previous.matrix(), beta.vector(), in.step,
                  lambda.vector(), moves, partials, penalty);
  }

  Outputs<T> out{to_host(context, R), to_host(context, previous), to_host(context, restart), to_host(context, support)};
  EXPECT_TRUE(same_elements(in.D, to_host(context, D)));
  EXPECT_TRUE(same_elements(in.X, to_host(context, X)));
  EXPECT_TRUE(same_elements(in.current, to_host(context, current)));
  EXPECT_TRUE(same_elements(in.anchor, to_host(context, anchor)));
  EXPECT_TRUE(same_elements(in.beta, to_host(context, beta)));
  EXPECT_TRUE(same_elements(in.lambda, to_host(context, lambda)));
  EXPECT_TRUE(guards_intact(no_R, out.R));
  EXPECT_TRUE(guards_intact(in.previous, out.next));
  EXPECT_TRUE(guards_intact(no_restart, out.restart));
  EXPECT_TRUE(guards_intact(no_support, out.support));
  EXPECT_TRUE(guards_intact(in.current, to_host(context, current)));
  return out;
}

template <class T>
::testing::AssertionResult same_outputs(const Outputs<T>& a, const Outputs<T>& b) {
  if (auto same = same_elements(a.R, b.R); !same) return same << " of R";
  if (auto same = same_elements(a.next, b.next); !same) return same << " of next";
  if (auto same = same_elements(a.restart, b.restart); !same) return same << " of restart";
  return same_elements(a.support, b.support);
}

double soft(double u, double t) {
  return std::fabs(u) <= t ? 0 : u > 0 ? u - t : u + t;
}

/// Compares with the formulas in double, each entry within the rounding that its own terms allow: a sum of k products
/// is off by at most k eps sum |a||b| in any order, with or without fused multiply-adds.
template <class T>
void check_against_reference(const Inputs<T>& in, const Outputs<T>& out, Options options) {
  const double eps = std::numeric_limits<T>::epsilon();
  const double tiny = std::numeric_limits<T>::min();
  const auto n = static_cast<double>(in.n), m = static_cast<double>(in.m);
  const std::int64_t tiles = out.restart.rows;
  for (std::int64_t b = 0; b < in.N; ++b) {
    const double beta = in.beta(b);
    const auto y = [&](std::int64_t j) {
      const double now = in.current(j, b);
      return beta == 0 ? now : now + beta * (now - static_cast<double>(in.previous(j, b)));
    };
    const auto y_size = [&](std::int64_t j) {
      const double now = std::fabs(static_cast<double>(in.current(j, b)));
      return beta == 0 ? now : now + beta * (now + std::fabs(static_cast<double>(in.previous(j, b))));
    };
    std::vector<double> residual(static_cast<std::size_t>(in.n)), size(static_cast<std::size_t>(in.n));
    for (std::int64_t i = 0; i < in.n; ++i) {
      residual[static_cast<std::size_t>(i)] = in.X(i, b);
      size[static_cast<std::size_t>(i)] = std::fabs(static_cast<double>(in.X(i, b)));
    }
    for (std::int64_t j = 0; j < in.m; ++j) {
      const double now = y(j), now_size = y_size(j);
      if (now_size == 0) continue;
      for (std::int64_t i = 0; i < in.n; ++i) {
        const double d = in.D(i, j);
        residual[static_cast<std::size_t>(i)] -= d * now;
        size[static_cast<std::size_t>(i)] += std::fabs(d) * now_size;
      }
    }
    for (std::int64_t i = 0; i < in.n; ++i) {
      ASSERT_NEAR(out.R(i, b), residual[static_cast<std::size_t>(i)],
                  (m + 4) * eps * size[static_cast<std::size_t>(i)] + tiny)
          << "R(" << i << ", " << b << ")";
    }

    const bool moves = options.all_active || in.active(b) != 0;
    const double t = static_cast<double>(in.step) * static_cast<double>(in.lambda(b));
    double restart = 0, restart_size = 0;
    std::int64_t support = 0;
    // The points before shrinking, and how far rounding may put them off.
    std::vector<double> point(static_cast<std::size_t>(in.m)), off(static_cast<std::size_t>(in.m));
    for (std::int64_t j = 0; moves && j < in.m; ++j) {
      double g = 0, g_size = 0;
      for (std::int64_t i = 0; i < in.n; ++i) {
        const double product = static_cast<double>(in.D(i, j)) * static_cast<double>(out.R(i, b));
        g += product;
        g_size += std::fabs(product);
      }
      const double step = in.step, anchor = options.anchored ? static_cast<double>(in.anchor(j, b)) : 0;
      point[static_cast<std::size_t>(j)] = anchor + y(j) + step * g;
      off[static_cast<std::size_t>(j)] = (n + 4) * step * g_size + 4 * y_size(j) + 4 * std::fabs(anchor);
    }
    double norm = 0, error = 0;  // of the group
    for (std::int64_t j = 0; j < in.m; ++j) {
      const T next = out.next(j, b);
      const T a = options.anchored ? in.anchor(j, b) : T(0);
      support += next != -a;
      if (!moves) {
        ASSERT_TRUE(same_bits(next, in.current(j, b))) << "(" << j << ", " << b << ")";
        continue;
      }
      const std::int64_t group = j / options.group_size;
      const double step = in.step, anchor = a;
      const double weight = weight_of(group, options);
      const double threshold = std::isinf(weight) ? weight : t * weight;
      // Shrinking, of a group too, and the step to the anchored form pass an error of their argument on at most as it is.
      if (j % options.group_size == 0) {
        norm = error = 0;
        for (std::int64_t k = j; k < j + options.group_size; ++k) {
          norm = std::hypot(norm, point[static_cast<std::size_t>(k)]);
          error = std::hypot(error, off[static_cast<std::size_t>(k)]);
        }
      }
      const double shrunk = options.group_size == 1
                                ? soft(point[static_cast<std::size_t>(j)], threshold)
                                : (norm <= threshold ? 0 : (1 - threshold / norm) * point[static_cast<std::size_t>(j)]);
      double code = std::isinf(weight) ? 0 : shrunk / (1 + step * options.ridge);
      if (options.nonnegative) code = std::max(code, 0.0);
      const double wanted = code - anchor;
      const double bound = eps * (error + 4 * (std::isinf(weight) ? 0 : threshold)) + tiny;
      ASSERT_NEAR(next, wanted, bound) << "next(" << j << ", " << b << ")";
      const double now = in.current(j, b), z = next;
      restart += (y(j) - z) * (z - now);
      restart_size += (y_size(j) + std::fabs(z)) * (std::fabs(z) + std::fabs(now));
    }
    double found = 0;
    std::int64_t found_support = 0;
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      found += out.restart(tile, b);
      found_support += out.support(tile, b);
    }
    ASSERT_NEAR(found, restart, (m + 8) * eps * restart_size + tiny) << "restart of " << b;
    ASSERT_EQ(found_support, support) << "support of " << b;
  }
}

template <class T>
void check_sizes(const Context& context) {
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1}, {3, 5}, {43, 597}, {64, 128}, {302, 611}};
  for (const auto& [n, m] : shapes) {
    for (const std::int64_t N : {0, 1, 2, 7, 33, 130}) {
      if (n * m * N > (testing::kThreadSanitizer ? 1'000'000 : 10'000'000)) continue;
      const auto in = make_inputs<T>(n, m, N);
      for (const bool anchored : {false, true}) {
        SCOPED_TRACE(::testing::Message() << n << " x " << m << ", " << N << " problems, anchored " << anchored);
        const Options options{anchored, N % 2 == 1};
        check_against_reference(in, iterate(context, in, options), options);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(GradientStep, AgreesWithDoubleInFloat) {
  check_sizes<float>(context());
}

TEST_P(GradientStep, AgreesWithDoubleInDouble) {
  check_sizes<double>(context());
}

template <class T>
void check_penalties(const Context& context) {
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1}, {3, 5}, {43, 597}, {64, 128}};
  for (const auto& [n, m] : shapes) {
    for (const std::int64_t N : {0, 1, 7, 33}) {
      const auto in = make_inputs<T>(n, m, N);
      for (const bool anchored : {false, true}) {
        for (const Options& options : {Options{anchored, N % 2 == 1, true, false, 0},
                                       {anchored, false, false, true, 0},
                                       {anchored, false, false, false, 0.3 * static_cast<double>(n + m)},
                                       {anchored, true, true, true, 1e-3},
                                       {anchored, true, true, false, 1e12}}) {
          SCOPED_TRACE(::testing::Message()
                       << n << " x " << m << ", " << N << " problems, anchored " << anchored << ", weighted "
                       << options.weighted << ", nonnegative " << options.nonnegative << ", ridge " << options.ridge);
          check_against_reference(in, iterate(context, in, options), options);
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(GradientStep, TakesTheStepOfAPenaltyInFloat) {
  check_penalties<float>(context());
}

TEST_P(GradientStep, TakesTheStepOfAPenaltyInDouble) {
  check_penalties<double>(context());
}

// Groups that tiles cut and that they do not, small and large, all of m at last.
template <class T>
void check_groups(const Context& context) {
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{3, 6}, {43, 594}, {64, 384}};
  for (const auto& [n, m] : shapes) {
    for (const std::int64_t size : {std::int64_t{2}, std::int64_t{3}, m / 6 * 2, m}) {
      for (const std::int64_t N : {0, 1, 6}) {
        const auto in = make_inputs<T>(n, m, N);
        for (const bool anchored : {false, true}) {
          for (const Options& options : {Options{anchored, N % 2 == 1, true, false, 0, size},
                                         {anchored, false, true, false, 0.3 * static_cast<double>(n + m), size},
                                         {anchored, true, false, false, 0, size}}) {
            SCOPED_TRACE(::testing::Message() << n << " x " << m << ", " << N << " problems, anchored " << anchored
                                              << ", groups of " << size << ", ridge " << options.ridge);
            check_against_reference(in, iterate(context, in, options), options);
            if (::testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(GradientStep, ShrinksGroupsInFloat) {
  check_groups<float>(context());
}

TEST_P(GradientStep, ShrinksGroupsInDouble) {
  check_groups<double>(context());
}

// Weights of 1 and a ridge of 1e-300 are no penalty to speak of, and go through the other epilogue.
TEST_P(GradientStep, GivesTheSameCodesThroughBothEpilogues) {
  auto in = make_inputs<float>(43, 597, 7);
  for (std::int64_t b = 0; b < 7; ++b) in.lambda(b) += 1;  // not 0, which the other takes for the smallest number
  EXPECT_TRUE(same_outputs(iterate(context(), in), iterate(context(), in, {true, false, false, false, 1e-300})));
}

// More rows than one chunk of a CPU panel, and an odd number of them; more columns than one block.
TEST_P(GradientStep, AgreesWithDoubleWhereTallOrMany) {
  for (const auto& [n, m, N] : {std::array<std::int64_t, 3>{531, 50, 9}, {5, 7, 300}, {17, 1300, 3}}) {
    SCOPED_TRACE(::testing::Message() << n << " x " << m << ", " << N << " problems");
    const auto in = make_inputs<float>(n, m, N);
    check_against_reference(in, iterate(context(), in), {});
  }
}

template <class T>
void check_by_hand(const Context& context) {
  // D = [1 2; 0 1], x = (4, 1), current = (1, 1), previous = (0, 2), beta = 1/2: y = (1.5, 0.5),
  // D y = (2.5, 0.5), R = (1.5, 0.5); D'R = (1.5, 3.5); step 1/2: y + step D'R = (2.25, 2.25).
  Inputs<T> in{2, 2, 1, {}, {}, {}, {}, {}, {}, {}, {}, T(0.5)};
  const auto column = [](std::vector<double> values) {
    return GuardedHost<T>::make(static_cast<std::int64_t>(values.size()), 1,
                                [&](std::int64_t i, std::int64_t) { return values[static_cast<std::size_t>(i)]; });
  };
  in.D = GuardedHost<T>::make(2, 2, [](std::int64_t i, std::int64_t j) { return i == j ? 1 : i == 0 ? 2 : 0; });
  in.X = column({4, 1});
  in.current = column({1, 1});
  in.previous = column({0, 2});
  in.anchor = column({0, -2.5});
  in.beta = column({0.5});
  in.lambda = column({0.5});
  in.active = GuardedHost<std::uint8_t>::make(1, 1, [](std::int64_t, std::int64_t) { return 1; });

  auto out = iterate(context, in, {false, true});
  EXPECT_EQ(out.R(0), T(1.5));
  EXPECT_EQ(out.R(1), T(0.5));
  EXPECT_EQ(out.next(0), T(2));  // threshold 1/4
  EXPECT_EQ(out.next(1), T(2));
  EXPECT_EQ(out.restart(0), T((1.5 - 2) * (2 - 1) + (0.5 - 2) * (2 - 1)));
  EXPECT_EQ(out.support(0), 2);

  out = iterate(context, in, {true, true});
  EXPECT_EQ(out.next(0), T(2));
  EXPECT_EQ(out.next(1), T(2.5));  // -2.5 + 2.25 = -0.25 is thresholded to z = 0: the difference is minus the anchor
  EXPECT_EQ(out.restart(0), T((1.5 - 2) * (2 - 1) + (0.5 - 2.5) * (2.5 - 1)));
  EXPECT_EQ(out.support(0), 1);
}

TEST_P(GradientStep, GivesWhatAReaderGets) {
  check_by_hand<float>(context());
  check_by_hand<double>(context());
}

// D = I, X = x, no momentum, step 1: one step from any point lands on st(x, lambda), the solution.
TEST_P(GradientStep, SolvesTheIdentityInOneStep) {
  auto in = make_inputs<double>(97, 97, 7);
  in.D = GuardedHost<double>::make(97, 97, [](std::int64_t i, std::int64_t j) { return i == j; });
  in.beta = GuardedHost<double>::make(7, 1, [](std::int64_t, std::int64_t) { return 0; });
  in.step = 1;
  const auto out = iterate(context(), in, {false, true});
  for (std::int64_t b = 0; b < 7; ++b) {
    for (std::int64_t j = 0; j < 97; ++j)
      ASSERT_NEAR(out.next(j, b), soft(in.X(j, b), in.lambda(b)),
                  4e-16 * (std::fabs(in.X(j, b)) + 2 * std::fabs(in.current(j, b))));
  }
}

template <class T>
void check_same_bits(const Context& context) {
  for (const auto& [n, m] : {std::pair<std::int64_t, std::int64_t>{43, 597}, {102, 300}}) {
    const auto in = make_inputs<T>(n, m, 130);
    const auto all = iterate(context, in);
    EXPECT_TRUE(same_outputs(all, iterate(context, in))) << "twice";
    const auto check = [&](const std::vector<std::int64_t>& columns) {
      const auto part = iterate(context, columns_of(in, columns));
      for (std::size_t k = 0; k < columns.size(); ++k) {
        const auto of = [&](const auto& matrix, std::int64_t column) {
          using Host = std::decay_t<decltype(matrix)>;
          return Host::make(matrix.rows, 1, [&](std::int64_t i, std::int64_t) { return matrix(i, column); });
        };
        const auto alone = static_cast<std::int64_t>(k);
        const std::int64_t b = columns[k];
        ASSERT_TRUE(same_elements(of(part.R, alone), of(all.R, b))) << "R, column " << b;
        ASSERT_TRUE(same_elements(of(part.next, alone), of(all.next, b))) << "next, column " << b;
        ASSERT_TRUE(same_elements(of(part.restart, alone), of(all.restart, b))) << "restart, column " << b;
        ASSERT_TRUE(same_elements(of(part.support, alone), of(all.support, b))) << "support, column " << b;
      }
    };
    for (std::int64_t b = 0; b < 14; ++b) check({b});  // of every density
    check({0, 1});
    check({129, 3, 1, 64, 7, 0, 5});
    std::vector<std::int64_t> reversed;
    for (std::int64_t b = 129; b >= 0; --b) reversed.push_back(b);
    check(reversed);
    check({1, 8, 15, 22, 29, 36, 43, 50, 57, 64, 71, 78});  // sparse columns among sparse ones
    check({1, 0, 6, 7, 13, 14, 20, 21, 8, 27});             // and among full ones
  }
}

TEST_P(GradientStep, GivesAColumnTheSameBitsInAnyBatch) {
  check_same_bits<float>(context());
  check_same_bits<double>(context());
}

TEST_P(GradientStep, GivesAColumnInGroupsTheSameBitsInAnyBatch) {
  const auto in = make_inputs<float>(20, 300, 9);
  const std::vector<std::int64_t> some{8, 0, 3, 6};
  for (const std::int64_t size : {3, 150}) {
    const Options options{true, false, true, false, 0, size};
    const auto all = iterate(context(), in, options), part = iterate(context(), columns_of(in, some), options);
    for (std::size_t k = 0; k < some.size(); ++k)
      for (std::int64_t j = 0; j < 300; ++j)
        ASSERT_TRUE(same_bits(part.next(j, static_cast<std::int64_t>(k)), all.next(j, some[k])))
            << j << ", " << some[k];
    if (context().is_cuda()) continue;
    for (const int threads : {2, 5}) EXPECT_TRUE(same_outputs(all, iterate(Context::cpu(threads), in, options)));
  }
}

// Large enough that the work is cut by columns, by rows and by atoms.
TEST(GradientStepCpu, GivesTheSameBitsForAnyNumberOfThreads) {
  for (const auto& [n, m, N] :
       {std::array<std::int64_t, 3>{302, 611, 1}, {302, 611, 130}, {302, 2000, 3}, {302, 2000, 20}}) {
    const auto in = make_inputs<float>(n, m, N);
    const auto one = iterate(Context::cpu(1), in);
    for (const int threads : {2, 3, 8}) {
      EXPECT_TRUE(same_outputs(one, iterate(Context::cpu(threads), in))) << threads << " threads, " << N << " problems";
    }
  }
}

TEST(GradientStepCpu, TakesDictionariesWithoutRowsOrAtoms) {
  for (const auto& [n, m] : {std::pair<std::int64_t, std::int64_t>{0, 9}, {9, 0}, {0, 0}}) {
    const auto in = make_inputs<double>(n, m, 7);
    check_against_reference(in, iterate(Context::cpu(1), in), {});
  }
}

// NaN stays in its column and shows there, whether it comes from X, from a full or from an empty code.
template <class T>
void check_nan(const Context& context, const Inputs<T>& in) {
  for (const char* where : {"X", "current", "previous"}) {
    auto sick = in;
    for (const std::int64_t b : {3, 4}) {
      if (*where == 'X') sick.X(40, b) = static_cast<T>(kNaN);
      if (*where == 'c') sick.current(500, b) = static_cast<T>(kNaN);
      if (*where == 'p') sick.previous(500, b) = static_cast<T>(kNaN);
    }
    const auto healthy = iterate(context, in), out = iterate(context, sick);
    for (std::int64_t b = 0; b < 10; ++b) {
      for (std::int64_t i = 0; i < 43; ++i) {
        if ((b == 3 || b == 4) && (*where != 'X' || i == 40)) {
          ASSERT_TRUE(std::isnan(out.R(i, b))) << where << ", R(" << i << ", " << b << ")";
        } else {
          ASSERT_TRUE(same_bits(out.R(i, b), healthy.R(i, b))) << where;
        }
      }
      for (std::int64_t j = 0; j < 597; ++j) {
        if (b == 3 || b == 4) {
          ASSERT_TRUE(std::isnan(out.next(j, b))) << where << ", next(" << j << ", " << b << ")";
        } else {
          ASSERT_TRUE(same_bits(out.next(j, b), healthy.next(j, b))) << where;
        }
      }
    }
  }
}

template <class T>
void check_extremes(const Context& context) {
  auto in = make_inputs<T>(43, 597, 10);

  // Where beta is 0, previous is not read: NaN in it does not show.
  auto ista = in;
  ista.beta = GuardedHost<T>::make(10, 1, [](std::int64_t, std::int64_t) { return 0; });
  const auto clean = iterate(context, ista);
  ista.previous = GuardedHost<T>::make(
      597, 10, [](std::int64_t, std::int64_t) { return kNaN; }, 7);
  EXPECT_TRUE(same_elements(clean.next, iterate(context, ista).next));

  // lambda 0 thresholds nothing; a huge one everything: z = anchor + next = 0.
  auto huge = in;
  huge.lambda = GuardedHost<T>::make(10, 1, [](std::int64_t b, std::int64_t) { return b % 2 == 0 ? 1e30 : 0; });
  for (const bool anchored : {false, true}) {
    const auto out = iterate(context, huge, {anchored, true});
    for (std::int64_t b = 0; b < 10; ++b) {
      std::int64_t support = 0;
      for (std::int64_t tile = 0; tile < out.support.rows; ++tile) support += out.support(tile, b);
      if (b % 2 == 0) {
        EXPECT_EQ(support, 0);
      } else {
        EXPECT_GT(support, 590);
      }
      for (std::int64_t j = 0; b % 2 == 0 && j < 597; ++j)
        ASSERT_EQ(out.next(j, b) + (anchored ? in.anchor(j, b) : T(0)), T(0));
    }
  }

  check_nan(context, in);
  // And among sparse codes; the columns 3 and 4 of this batch are sparse and empty.
  check_nan(context, columns_of(make_inputs<T>(43, 597, 28), {1, 8, 10, 15, 3, 22, 5, 12, 17, 19}));
}

TEST_P(GradientStep, KeepsExtremesApart) {
  check_extremes<float>(context());
  check_extremes<double>(context());
}

// ISTA never lets the objective grow, and with step 1/L FISTA reaches a much lower one in as many steps.
TEST_P(GradientStep, DescendsAsIstaAndFistaDo) {
  constexpr std::int64_t n = 20, m = 50, N = 3;
  const auto D = normal_matrix<double>(n, m, 1), X = normal_matrix<double>(n, N, 2);
  double trace = 0;  // of D'D, over L
  for (std::int64_t j = 0; j < m; ++j) {
    for (std::int64_t i = 0; i < n; ++i) trace += D(i, j) * D(i, j);
  }
  const double lambda = 2;
  const auto objective = [&](const GuardedHost<double>& Z, std::int64_t b) {
    double value = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      double r = X(i, b);
      for (std::int64_t j = 0; j < m; ++j) r -= D(i, j) * Z(j, b);
      value += r * r / 2;
    }
    for (std::int64_t j = 0; j < m; ++j) value += lambda * std::fabs(Z(j, b));
    return value;
  };
  const auto zeros = [](std::int64_t, std::int64_t) { return 0; };
  const auto device_D = to_device(context(), D), device_X = to_device(context(), X);
  const StepDictionary<double> dictionary(context(), device_D.matrix());
  const std::int64_t tiles = step_tiles(context(), m);
  double last[2][N];
  for (const Momentum rule : {Momentum::none, Momentum::fista_restart}) {
    auto current = to_device(context(), GuardedHost<double>::make(m, N, zeros));
    auto previous = to_device(context(), GuardedHost<double>::make(m, N, zeros));
    const auto R = to_device(context(), GuardedHost<double>(n, N)),
               restart = to_device(context(), GuardedHost<double>(tiles, N));
    const auto support = to_device(context(), GuardedHost<std::int32_t>(tiles, N));
    const auto nonzeros = to_device(context(), GuardedHost<std::int32_t>(N, 1));
    const auto beta = to_device(context(), GuardedHost<double>::make(N, 1, zeros));
    const auto lambdas =
        to_device(context(), GuardedHost<double>::make(N, 1, [&](std::int64_t, std::int64_t) { return lambda; }));
    const auto t = to_device(context(), GuardedHost<double>::make(N, 1, [](std::int64_t, std::int64_t) { return 1; }));
    const Tensor<double> scratch(context(), residual_scratch(context(), dictionary.rows(), dictionary.cols(), N));
    std::vector<double> before(N, std::numeric_limits<double>::infinity());
    for (int k = 0; k < 60; ++k) {
      extrapolated_residual(context(), dictionary, current.matrix(), previous.matrix(), beta.vector(),
                            device_X.matrix(), R.matrix(), scratch.vector());
      gradient_step(context(), dictionary, R.matrix(), MatrixView<double>{}, current.matrix(), previous.matrix(),
                    beta.vector(), 1 / trace, lambdas.vector(), VectorView<const std::uint8_t>{},
                    StepPartials<double>{restart.matrix(), support.matrix()});
      std::swap(current, previous);
      update_momentum(context(), rule, StepPartials<const double>{restart.matrix(), support.matrix()}, t.vector(),
                      beta.vector(), nonzeros.vector());
      const auto Z = to_host(context(), current);
      const auto counted = to_host(context(), nonzeros);
      for (std::int64_t b = 0; b < N; ++b) {
        std::int32_t count = 0;
        for (std::int64_t j = 0; j < m; ++j) count += Z(j, b) != 0;
        ASSERT_EQ(counted(b), count);
        const double value = objective(Z, b);
        if (rule == Momentum::none) {
          ASSERT_LE(value, before[static_cast<std::size_t>(b)] + 1e-12);
        }
        before[static_cast<std::size_t>(b)] = value;
        last[rule == Momentum::none ? 0 : 1][b] = value;
      }
    }
  }
  for (std::int64_t b = 0; b < N; ++b) EXPECT_LT(last[1][b], last[0][b]);
}

template <class T>
void check_momentum(const Context& context, std::int64_t tiles, std::int64_t N) {
  const auto restart_at = [](std::int64_t k) {
    return [k](std::int64_t tile, std::int64_t b) {
      // Sums of either sign, of zero and of NaN.
      if (b % 5 == 4) return tile == 0 ? kNaN : 1.0;
      if (b % 5 == 3) return tile % 2 == 0 ? 1.0 : -1.0;
      return static_cast<double>((b * 7 + tile * 3 + k * 5) % 11 - 5);
    };
  };
  const auto support_at = [](std::int64_t tile, std::int64_t b) {
    return static_cast<std::int32_t>((tile * 13 + b) % 29);
  };
  for (const Momentum rule : {Momentum::none, Momentum::fista, Momentum::fista_restart}) {
    const auto t_start = GuardedHost<double>::make(N, 1, [](std::int64_t, std::int64_t) { return 1; });
    const auto beta_start = GuardedHost<T>::make(N, 1, [](std::int64_t, std::int64_t) { return 0; });
    const GuardedHost<std::int32_t> no_support(N, 1);
    const auto t = to_device(context, t_start);
    const auto beta = to_device(context, beta_start);
    const auto support = to_device(context, no_support);
    std::vector<double> wanted_t(static_cast<std::size_t>(N), 1.0);
    for (std::int64_t k = 0; k < 6; ++k) {
      const auto partial = GuardedHost<T>::make(tiles, N, restart_at(k), 2);
      const auto restart = to_device(context, partial);
      const auto counts = to_device(context, GuardedHost<std::int32_t>::make(tiles, N, support_at, 5));
      update_momentum(context, rule, StepPartials<const T>{restart.matrix(), counts.matrix()}, t.vector(),
                      beta.vector(), k == 2 ? VectorView<std::int32_t>{} : support.vector());
      const auto found_t = to_host(context, t);
      const auto found_beta = to_host(context, beta);
      const auto found_support = to_host(context, support);
      ASSERT_TRUE(guards_intact(t_start, found_t));
      ASSERT_TRUE(guards_intact(beta_start, found_beta));
      ASSERT_TRUE(guards_intact(no_support, found_support));
      for (std::int64_t b = 0; b < N; ++b) {
        double sum = 0;
        std::int32_t nonzeros = 0;
        for (std::int64_t tile = 0; tile < tiles; ++tile) {
          sum += static_cast<double>(partial(tile, b));
          nonzeros += support_at(tile, b);
        }
        ASSERT_EQ(found_support(b), nonzeros);
        double& old = wanted_t[static_cast<std::size_t>(b)];
        if (rule == Momentum::none) {
          ASSERT_EQ(found_beta(b), T(0));
          continue;
        }
        const bool restarts = rule == Momentum::fista_restart && sum > 0;
        const double next = restarts ? 1 : (1 + std::sqrt(1 + 4 * old * old)) / 2;
        const double momentum = restarts ? 0 : (old - 1) / next;
        ASSERT_NEAR(found_t(b), next, 1e-14 * next) << b;
        ASSERT_NEAR(found_beta(b), momentum, 2 * std::numeric_limits<T>::epsilon()) << b;
        if (restarts) {
          ASSERT_EQ(found_t(b), 1);
          ASSERT_EQ(found_beta(b), T(0));
        }
        old = found_t(b);
      }
    }
  }
}

TEST_P(GradientStep, MovesTheMomentumOn) {
  for (const auto& [tiles, N] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {4, 37}, {33, 300}, {3, 0}}) {
    check_momentum<float>(context(), tiles, N);
    check_momentum<double>(context(), tiles, N);
  }
}

TEST_P(GradientStep, RefusesWeightsThatDoNotFit) {
  const auto in = make_inputs<float>(3, 5, 2);
  const auto D = to_device(context(), in.D);
  const StepDictionary<float> dictionary(context(), D.matrix());
  const std::int64_t tiles = step_tiles(context(), 5);
  const auto R = to_device(context(), in.X), current = to_device(context(), in.current);
  const auto previous = to_device(context(), in.previous), beta = to_device(context(), in.beta);
  const auto weights = to_device(context(), GuardedHost<float>::make(4, 1, [](auto, auto) { return 1; }));
  const Tensor<float> restart(context(), tiles, 2);
  const Tensor<std::int32_t> support(context(), tiles, 2);
  EXPECT_THROW(
      gradient_step<float>(context(), dictionary, R.matrix(), {}, current.matrix(), previous.matrix(), beta.vector(),
                           0.1F, beta.vector(), {}, {restart.matrix(), support.matrix()}, {weights.vector(), 0, false}),
      ShapeError);
}

TEST_P(GradientStep, RefusesGroupsThatDoNotFit) {
  const auto in = make_inputs<float>(3, 6, 2);
  const auto D = to_device(context(), in.D);
  const StepDictionary<float> dictionary(context(), D.matrix());
  const auto R = to_device(context(), in.X), current = to_device(context(), in.current);
  const auto previous = to_device(context(), in.previous), beta = to_device(context(), in.beta);
  const auto weights = to_device(context(), GuardedHost<float>::make(6, 1, [](auto, auto) { return 1; }));
  const Tensor<float> restart(context(), step_tiles(context(), 6), 2), moved(context(), 6, 2), small(context(), 5, 2);
  const Tensor<std::int32_t> support(context(), step_tiles(context(), 6), 2);
  const StepPartials<float> partials{restart.matrix(), support.matrix()};
  const auto step = [&](PenaltyView<float> penalty, float size, MatrixView<float> to) {
    group_step<float>(context(), dictionary, R.matrix(), {}, current.matrix(), previous.matrix(), beta.vector(), size,
                      beta.vector(), {}, partials, penalty, to);
  };
  step({weights.vector().slice(0, 2), 0, false, 3}, 0.1F, moved.matrix());
  step({{}, 0, false, 1}, 0.1F, moved.matrix());
  EXPECT_THROW(step({weights.vector(), 0, false, 3}, 0.1F, moved.matrix()), ShapeError);
  EXPECT_THROW(step({{}, 0, false, 4}, 0.1F, moved.matrix()), ShapeError);
  EXPECT_THROW(step({{}, 0, false, 0}, 0.1F, moved.matrix()), ValueError);
  EXPECT_THROW(step({{}, 0, true, 3}, 0.1F, moved.matrix()), ValueError);
  EXPECT_THROW(step({{}, 0, false, 3}, 0, moved.matrix()), ValueError);
  EXPECT_THROW(step({{}, 0, false, 3}, 0.1F, small.matrix()), ShapeError);
  EXPECT_THROW(gradient_step<float>(context(), dictionary, R.matrix(), {}, current.matrix(), previous.matrix(),
                                    beta.vector(), 0.1F, beta.vector(), {}, partials, {{}, 0, false, 3}),
               ValueError);
}

TEST_P(GradientStep, RefusesWhatDoesNotFit) {
  constexpr std::int64_t n = 6, m = 9, N = 4;
  const Context& on = context();
  const Tensor<float> D = Tensor<float>::zeros(on, n, m);
  const StepDictionary<float> dictionary(on, D.matrix());
  const std::int64_t tiles = step_tiles(on, m);
  const Tensor<float> X = Tensor<float>::zeros(on, n, N), R = Tensor<float>::zeros(on, n, N);
  const Tensor<float> current = Tensor<float>::zeros(on, m, N), previous = Tensor<float>::zeros(on, m, N);
  const Tensor<float> vector = Tensor<float>::zeros(on, N), longer = Tensor<float>::zeros(on, N + 1);
  const Tensor<float> restart(on, tiles, N);
  const Tensor<std::int32_t> support(on, tiles, N);
  const Tensor<double> t = Tensor<double>::zeros(on, N);
  const Tensor<float> scratch(on, residual_scratch(on, dictionary.rows(), dictionary.cols(), N));
  const StepPartials<float> partials{restart.matrix(), support.matrix()};
  const auto elsewhere = [](auto view) {
    view.device = {DeviceType::cuda, 42};
    return view;
  };
  const auto narrow = [](auto view) {
    view.ld = view.rows - 1;
    return view;
  };
  const auto null = [](auto view) {
    view.data = nullptr;
    return view;
  };

  EXPECT_THROW(StepDictionary<float>(on, elsewhere(D.matrix())), DeviceError);
  EXPECT_THROW(StepDictionary<float>(on, narrow(D.matrix())), ShapeError);

  const auto residual = [&](MatrixView<float> z, MatrixView<float> w, VectorView<float> beta, MatrixView<float> x,
                            MatrixView<float> r) {
    extrapolated_residual(on, dictionary, z, w, beta, x, r, scratch.vector());
  };
  residual(current.matrix(), previous.matrix(), vector.vector(), X.matrix(), R.matrix());
  const auto bad = [&](MatrixView<float> view) {
    return std::vector<MatrixView<float>>{view.columns(0, N - 1), narrow(view),
                                          MatrixView<float>{view.data, view.rows - 1, N, view.ld, view.device}};
  };
  for (const auto& view : bad(current.matrix())) {
    EXPECT_THROW(residual(view, previous.matrix(), vector.vector(), X.matrix(), R.matrix()), ShapeError);
    EXPECT_THROW(residual(previous.matrix(), view, vector.vector(), X.matrix(), R.matrix()), ShapeError);
  }
  for (const auto& view : bad(X.matrix())) {
    EXPECT_THROW(residual(current.matrix(), previous.matrix(), vector.vector(), view, R.matrix()), ShapeError);
    EXPECT_THROW(residual(current.matrix(), previous.matrix(), vector.vector(), X.matrix(), view), ShapeError);
  }
  EXPECT_THROW(residual(current.matrix(), previous.matrix(), longer.vector(), X.matrix(), R.matrix()), ShapeError);
  EXPECT_THROW(residual(elsewhere(current.matrix()), previous.matrix(), vector.vector(), X.matrix(), R.matrix()),
               DeviceError);
  EXPECT_THROW(residual(current.matrix(), previous.matrix(), elsewhere(vector.vector()), X.matrix(), R.matrix()),
               DeviceError);
  EXPECT_THROW(residual(current.matrix(), previous.matrix(), vector.vector(), X.matrix(), elsewhere(R.matrix())),
               DeviceError);
  EXPECT_THROW(residual(current.matrix(), previous.matrix(), vector.vector(), null(X.matrix()), R.matrix()),
               ValueError);

  struct Arguments {
    MatrixView<float> R, anchor, current, previous;
    VectorView<float> beta;
    float step;
    VectorView<float> lambda;
    VectorView<const std::uint8_t> active;
    StepPartials<float> partials;
  };
  const Arguments good{R.matrix(),      {}, current.matrix(), previous.matrix(), vector.vector(), 0.5f,
                       vector.vector(), {}, partials};
  const auto step = [&](const Arguments& a) {
    gradient_step(on, dictionary, a.R, a.anchor, a.current, a.previous, a.beta, a.step, a.lambda, a.active, a.partials);
  };
  step(good);
  const auto with = [&](auto change) {
    Arguments changed = good;
    change(changed);
    return changed;
  };
  for (const float value : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()})
    EXPECT_THROW(step(with([&](Arguments& a) { a.step = value; })), ValueError);
  for (const auto& view : bad(current.matrix())) {
    EXPECT_THROW(step(with([&](Arguments& a) { a.current = view; })), ShapeError);
    EXPECT_THROW(step(with([&](Arguments& a) { a.previous = view; })), ShapeError);
    EXPECT_THROW(step(with([&](Arguments& a) { a.anchor = view; })), ShapeError);
  }
  for (const auto& view : bad(R.matrix())) EXPECT_THROW(step(with([&](Arguments& a) { a.R = view; })), ShapeError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.beta = longer.vector(); })), ShapeError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.lambda = longer.vector(); })), ShapeError);
  const Tensor<std::uint8_t> flags = Tensor<std::uint8_t>::zeros(on, N + 1);
  EXPECT_THROW(step(with([&](Arguments& a) { a.active = flags.vector(); })), ShapeError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.partials.restart.rows = tiles + 1; })), ShapeError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.partials.support.cols = N - 1; })), ShapeError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.R = elsewhere(a.R); })), DeviceError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.previous = elsewhere(a.previous); })), DeviceError);
  EXPECT_THROW(step(with([&](Arguments& a) { a.partials.support = elsewhere(a.partials.support); })), DeviceError);

  const StepPartials<const float> read{partials.restart, partials.support};
  const auto update = [&](StepPartials<const float> p, VectorView<double> steps, VectorView<float> beta,
                          VectorView<std::int32_t> count) {
    update_momentum(on, Momentum::fista, p, steps, beta, count);
  };
  const Tensor<std::int32_t> count(on, N + 1);
  EXPECT_THROW(update(read, t.vector(), longer.vector(), {}), ShapeError);
  EXPECT_THROW(update(read, t.vector().slice(0, N - 1), vector.vector(), {}), ShapeError);
  EXPECT_THROW(update(read, t.vector(), vector.vector(), count.vector()), ShapeError);
  EXPECT_THROW(update(read, elsewhere(t.vector()), vector.vector(), {}), DeviceError);
  StepPartials<const float> uneven = read;
  uneven.support.rows = tiles + 1;
  EXPECT_THROW(update(uneven, t.vector(), vector.vector(), {}), ShapeError);

  EXPECT_THROW(residual_scratch(on, dictionary.rows(), dictionary.cols(), -1), ShapeError);
  EXPECT_THROW(step_tiles(on, -1), ShapeError);
}

TEST_P(GradientStep, TakesEmptyBatches) {
  const auto in = make_inputs<float>(5, 8, 0);
  iterate(context(), in);
  const StepDictionary<float> none;
  EXPECT_EQ(none.rows(), 0);
  EXPECT_EQ(none.bytes(), 0);
}

// One entry that is NaN makes its group NaN, and nothing else.
TEST_P(GradientStep, NaNShowsInItsGroup) {
  auto in = make_inputs<float>(4, 300, 3);
  std::fill_n(&in.beta(0), 3, 0.0F);
  for (const std::int64_t j : {127, 191})
    in.anchor(j, 1) = static_cast<float>(kNaN);  // the ends of tiles cut their groups
  const Options options{true, true, false, false, 0, 5};
  const auto out = iterate(context(), in, options);
  for (std::int64_t b = 0; b < 3; ++b)
    for (std::int64_t j = 0; j < 300; ++j)
      EXPECT_EQ(std::isnan(out.next(j, b)), b == 1 && (j / 5 == 25 || j / 5 == 38)) << j << ", " << b;
}

template <class T>
struct QueuedStep {
  static constexpr std::int64_t n = 20, m = 140, N = 9;
  const Context& context;
  StepDictionary<T> D;
  Tensor<T> X, anchor, current, previous, R, scratch, beta, lambda, restart;
  Tensor<std::int32_t> tile_support, support;
  Tensor<double> t;

  explicit QueuedStep(const Context& c)
      : context(c),
        D(c, testing::numbers<T>(c, n, m, 1).matrix()),
        X(testing::numbers<T>(c, n, N, 2)),
        anchor(testing::numbers<T>(c, m, N, 3)),
        current(testing::numbers<T>(c, m, N, 4)),
        previous(testing::numbers<T>(c, m, N, 5)),
        R(Tensor<T>::zeros(c, n, N)),
        scratch(c, residual_scratch(c, D.rows(), D.cols(), N)),
        beta(testing::to_device(c, std::vector<T>(N, T(0.5)), N)),
        lambda(testing::to_device(c, std::vector<T>(N, T(0.25)), N)),
        restart(Tensor<T>::zeros(c, step_tiles(c, m), N)),
        tile_support(Tensor<std::int32_t>::zeros(c, step_tiles(c, m), N)),
        support(Tensor<std::int32_t>::zeros(c, N)),
        t(testing::to_device(c, std::vector<double>(N, 2.0), N)) {}
  void queue() {
    extrapolated_residual(context, D, current.matrix(), previous.matrix(), beta.vector(), X.matrix(), R.matrix(),
                          scratch.vector());
    gradient_step(context, D, R.matrix(), anchor.matrix(), current.matrix(), previous.matrix(), beta.vector(),
                  T(1.0 / 64), lambda.vector(), {}, StepPartials<T>{restart.matrix(), tile_support.matrix()});
    update_momentum(context, Momentum::fista_restart, StepPartials<const T>{restart.matrix(), tile_support.matrix()},
                    t.vector(), beta.vector(), support.vector());
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, R, previous, restart, tile_support, t, beta, support);
  }
};

class GradientStepQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(GradientStepQueued);

TEST_P(GradientStepQueued, RunsOnABorrowedStreamAndInAGraphInFloat) {
  testing::check_queued<QueuedStep<float>>();
}
TEST_P(GradientStepQueued, RunsOnABorrowedStreamAndInAGraphInDouble) {
  testing::check_queued<QueuedStep<double>>();
}

}  // namespace
}  // namespace shrinkwarp
