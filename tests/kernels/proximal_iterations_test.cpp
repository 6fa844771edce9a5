#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>
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
using testing::kThreadSanitizer;
using testing::same_bits;
using testing::same_elements;
using testing::to_device;
using testing::to_host;

class ProximalIterations : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(ProximalIterations);
class ProximalIterationsOnCuda : public testing::OnContext {};  // the CPU computes fp32 in both modes
SHRINKWARP_ON_CUDA(ProximalIterationsOnCuda);

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr MathMode kModes[] = {MathMode::tf32, MathMode::split_tf32};

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 29, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

GuardedHost<float> normal_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t stream, std::int64_t padding) {
  const auto values = normal(rows * cols, stream);
  return GuardedHost<float>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      padding);
}

/// Everything that iterations read and write, on the host. D has columns of zeros; codes are of every density; every
/// fourth problem has no momentum and nothing but NaN for its previous code; every sixth does not move.
struct Inputs {
  std::int64_t n = 0, m = 0, N = 0;
  GuardedHost<float> D, X, anchor, lambda, current, previous, beta;
  GuardedHost<double> t;
  GuardedHost<std::uint8_t> active;
  float step = 0;
  std::vector<float> schedule;  // instead of `step`, where there is any
  bool anchored = true;
  bool with_previous = true;
};

Inputs make_inputs(std::int64_t n, std::int64_t m, std::int64_t N) {
  Inputs in;
  in.n = n, in.m = m, in.N = N;
  in.D = normal_matrix(n, m, 1, 5);
  double energy = 0;
  for (std::int64_t j = 0; j < m; ++j) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (j % 11 == 6) in.D(i, j) = 0;
      energy += std::pow(static_cast<double>(in.D(i, j)), 2);
    }
  }
  in.step = static_cast<float>(0.999 / std::max(energy, 1e-3));  // under 1 / L
  in.X = normal_matrix(n, N, 2, 1);
  const auto codes = [&](std::uint64_t stream, std::int64_t padding) {
    GuardedHost<float> Z = normal_matrix(m, N, stream, padding);
    constexpr std::int64_t kPeriods[] = {1, 7, 2, 1000, 3};
    for (std::int64_t b = 0; b < N; ++b)
      for (std::int64_t j = 0; j < m; ++j)
        if ((j + b) % kPeriods[b % 5] != 0) Z(j, b) = 0;
    return Z;
  };
  in.current = codes(3, 2);
  in.previous = codes(4, 7);
  in.anchor = codes(5, 4);
  in.beta =
      GuardedHost<float>::make(N, 1, [](std::int64_t b, std::int64_t) { return b % 4 == 2 ? 0 : 0.09 * (b % 10 + 1); });
  in.t = GuardedHost<double>::make(N, 1,
                                   [](std::int64_t b, std::int64_t) { return 1 + 0.7 * static_cast<double>(b % 8); });
  for (std::int64_t b = 0; b < N; ++b)
    for (std::int64_t j = 0; j < m && b % 4 == 2; ++j) in.previous(j, b) = kNaN;
  in.lambda = GuardedHost<float>::make(N, 1, [](std::int64_t b, std::int64_t) {
    return b % 5 == 3 ? 0 : b % 7 == 4 ? 1e6 : 0.3 * static_cast<double>(b % 9 + 1);
  });
  in.active = GuardedHost<std::uint8_t>::make(N, 1, [](std::int64_t b, std::int64_t) { return b % 6 != 5; });
  return in;
}

/// Any choice of problems.
Inputs problems_of(const Inputs& in, const std::vector<std::int64_t>& chosen) {
  Inputs out = in;
  out.N = static_cast<std::int64_t>(chosen.size());
  const auto pick = [&](const auto& from, bool vector) {
    using Host = std::decay_t<decltype(from)>;
    return Host::make(vector ? out.N : from.rows, vector ? 1 : out.N, [&](std::int64_t i, std::int64_t j) {
      return vector ? from(chosen[static_cast<std::size_t>(i)]) : from(i, chosen[static_cast<std::size_t>(j)]);
    });
  };
  out.X = pick(in.X, false);
  out.anchor = pick(in.anchor, false);
  out.current = pick(in.current, false);
  out.previous = pick(in.previous, false);
  out.lambda = pick(in.lambda, true);
  out.beta = pick(in.beta, true);
  out.t = pick(in.t, true);
  out.active = pick(in.active, true);
  return out;
}

/// `in` after K iterations. What is only read, and everything around what is written, must keep its bits.
Inputs iterate(const Context& context, const Inputs& in, std::int64_t iterations, Momentum rule, MathMode mode) {
  const auto D = to_device(context, in.D), X = to_device(context, in.X), anchor = to_device(context, in.anchor);
  const auto lambda = to_device(context, in.lambda), beta = to_device(context, in.beta);
  const auto current = to_device(context, in.current), previous = to_device(context, in.previous);
  const auto t = to_device(context, in.t);
  const auto active = to_device(context, in.active);
  const auto schedule = to_device(context, in.schedule, static_cast<std::int64_t>(in.schedule.size()));
  const StepDictionary<float> dictionary(context, D.matrix());
  const Tensor<float> scratch(context, iterations_scratch(context, dictionary, in.N));
  proximal_iterations(context, dictionary, X.matrix(), in.anchored ? anchor.matrix() : MatrixView<float>{},
                      lambda.vector(), active.vector(), {in.step, schedule.vector()}, iterations, rule, mode,
                      current.matrix(), in.with_previous ? previous.matrix() : MatrixView<float>{}, t.vector(),
                      beta.vector(), scratch.vector());
  Inputs out = in;
  out.current = to_host(context, current);
  out.previous = to_host(context, previous);
  out.t = to_host(context, t);
  out.beta = to_host(context, beta);
  EXPECT_TRUE(same_elements(in.X, to_host(context, X)));
  EXPECT_TRUE(same_elements(in.anchor, to_host(context, anchor)));
  EXPECT_TRUE(same_elements(in.lambda, to_host(context, lambda)));
  EXPECT_TRUE(guards_intact(in.current, out.current));
  EXPECT_TRUE(guards_intact(in.previous, out.previous));
  EXPECT_TRUE(guards_intact(in.t, out.t));
  EXPECT_TRUE(guards_intact(in.beta, out.beta));
  return out;
}

::testing::AssertionResult same_state(const Inputs& a, const Inputs& b) {
  if (auto same = same_elements(a.current, b.current); !same) return same << " of current";
  if (auto same = same_elements(a.previous, b.previous); !same) return same << " of previous";
  if (auto same = same_elements(a.t, b.t); !same) return same << " of t";
  return same_elements(a.beta, b.beta) << " of beta";
}

double soft(double u, double t) {
  return std::fabs(u) <= t ? 0 : u > 0 ? u - t : u + t;
}

/// By how much a sum of products may be off, as a share of the sum of their magnitudes: what the header says.
double sum_error(bool on_cuda, MathMode mode, std::int64_t terms) {
  const auto count = static_cast<double>(terms);
  if (!on_cuda) return (count + 4) * 0x1p-23;
  if (mode == MathMode::tf32) return 0x1p-10 * (1 + 0x1p-12) + (count + 16) * 0x1p-23;
  return 0x1p-21 * (1 + 0x1p-10) + (3 * count + 16) * 0x1p-23;
}

/// One iteration of problem b from a state in double, and by how much a float one from the same state may be off.
struct Reference {
  std::vector<double> next, bound;

  Reference(const Inputs& in, std::int64_t b, double step, const std::vector<double>& current,
            const std::vector<double>& previous, double beta, bool on_cuda, MathMode mode) {
    const auto n = static_cast<std::size_t>(in.n), m = static_cast<std::size_t>(in.m);
    constexpr double eps = std::numeric_limits<float>::epsilon();
    const double residual_error = sum_error(on_cuda, mode, in.m), gradient_error = sum_error(on_cuda, mode, in.n);
    std::vector<double> y(m), size(m), residual(n), off(n);
    for (std::size_t j = 0; j < m; ++j) {
      y[j] = beta == 0 ? current[j] : current[j] + beta * (current[j] - previous[j]);
      size[j] = std::fabs(current[j]) + (beta == 0 ? 0 : beta * (std::fabs(current[j]) + std::fabs(previous[j])));
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto row = static_cast<std::int64_t>(i);
      residual[i] = in.X(row, b);
      off[i] = 8 * eps * std::fabs(residual[i]);
      for (std::size_t j = 0; j < m; ++j) {
        const double d = in.D(row, static_cast<std::int64_t>(j));
        residual[i] -= d * y[j];
        off[i] += (residual_error + 2 * eps) * std::fabs(d) * size[j];
      }
    }
    const double threshold = step * static_cast<double>(in.lambda(b));
    for (std::size_t j = 0; j < m; ++j) {
      const auto atom = static_cast<std::int64_t>(j);
      double gradient = 0, gradient_off = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double d = in.D(static_cast<std::int64_t>(i), atom);
        gradient += d * residual[i];
        gradient_off += std::fabs(d) * (off[i] + gradient_error * (std::fabs(residual[i]) + off[i]));
      }
      const double anchor = in.anchored ? in.anchor(atom, b) : 0.0f;
      next.push_back(soft(anchor + y[j] + step * gradient, threshold) - anchor);
      bound.push_back(step * gradient_off +
                      eps * (4 * step * std::fabs(gradient) + 4 * size[j] + 4 * std::fabs(anchor) + 4 * threshold) +
                      std::numeric_limits<float>::min());
    }
  }
};

std::vector<double> column(const GuardedHost<float>& Z, std::int64_t b) {
  std::vector<double> values;
  for (std::int64_t j = 0; j < Z.rows; ++j) values.push_back(Z(j, b));
  return values;
}

/// One iteration from `in` against the formulas in double. @return how many problems restarted, and how many went on
std::pair<int, int> check_one(const Context& context, const Inputs& in, Momentum rule, MathMode mode) {
  const Inputs out = iterate(context, in, 1, rule, mode);
  std::pair<int, int> seen;
  for (std::int64_t b = 0; b < in.N; ++b) {
    const auto now = column(in.current, b), before = column(in.previous, b), found = column(out.current, b);
    const double beta = in.with_previous ? in.beta(b) : 0;
    const bool moves = in.active(b) != 0;
    double restart = 0, restart_size = 0;
    if (moves) {
      const Reference reference(in, b, static_cast<double>(in.step), now, before, beta, context.is_cuda(), mode);
      for (std::size_t j = 0; j < now.size(); ++j) {
        EXPECT_NEAR(found[j], reference.next[j], reference.bound[j]) << "code (" << j << ", " << b << ")";
        if (::testing::Test::HasFailure()) return seen;
        const double step_back = beta == 0 ? 0 : beta * (now[j] - before[j]);
        const double y = now[j] + step_back;
        const double size = std::fabs(now[j]) + (beta == 0 ? 0 : beta * (std::fabs(now[j]) + std::fabs(before[j])));
        restart += (y - found[j]) * (found[j] - now[j]);
        restart_size += (size + std::fabs(found[j])) * (std::fabs(found[j]) + std::fabs(now[j]));
      }
    } else {
      EXPECT_EQ(found, now) << "problem " << b << " is not active";
    }
    if (in.with_previous) {
      EXPECT_EQ(column(out.previous, b), now) << "previous of " << b;
    }
    if (rule == Momentum::none) {
      EXPECT_EQ(out.beta(b), 0.0f) << b;
      EXPECT_EQ(out.t(b), in.t(b)) << b;
      continue;
    }
    const double doubt = static_cast<double>(in.m + 12) * 0x1p-23 * restart_size;
    if (rule == Momentum::fista_restart && moves && std::fabs(restart) <= doubt) continue;
    const double next = (1 + std::sqrt(1 + 4 * in.t(b) * in.t(b))) / 2;
    const bool restarts = rule == Momentum::fista_restart && moves && restart > 0;
    (restarts ? seen.first : seen.second) += 1;
    EXPECT_NEAR(out.t(b), restarts ? 1 : next, 1e-15 * next) << "t of " << b;
    EXPECT_NEAR(out.beta(b), restarts ? 0 : (in.t(b) - 1) / next, 1e-7) << "beta of " << b;
  }
  return seen;
}

/// Problems of which a tile of 32 is made on CUDA, and for which blocks go on to a second tile.
std::int64_t many(const Context& context) {
  return context.is_cuda() ? 32 * context.multiprocessors() + 3 : 35;
}

TEST_P(ProximalIterations, AgreesWithDouble) {
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1}, {9, 7}, {20, 43}, {33, 64}, {17, 130}, {7, 300}};
  std::pair<int, int> seen;
  for (const auto& [n, m] : shapes) {
    for (const std::int64_t N : {std::int64_t{1}, std::int64_t{17}, many(context())}) {
      if (N > 17 && m > 130) continue;
      if (kThreadSanitizer && (N > 17 ? m > 7 : N == 17 && m > 130)) continue;
      Inputs in = make_inputs(n, m, N);
      for (const MathMode mode : kModes) {
        for (const Momentum rule : {Momentum::fista_restart, Momentum::none, Momentum::fista}) {
          in.anchored = rule != Momentum::none;
          SCOPED_TRACE(::testing::Message() << n << " x " << m << ", " << N << " problems, mode "
                                            << static_cast<int>(mode) << ", rule " << static_cast<int>(rule));
          const auto counts = check_one(context(), in, rule, mode);
          if (HasFailure()) return;
          if (rule != Momentum::fista_restart) continue;
          seen.first += counts.first;
          seen.second += counts.second;
          // A problem that begins here has no momentum yet, whatever beta holds.
          in.with_previous = false;
          check_one(context(), in, rule, mode);
          in.with_previous = true;
          if (HasFailure()) return;
        }
      }
    }
  }
  EXPECT_GT(seen.first, 20) << "too few restarts to tell anything";
  EXPECT_GT(seen.second, 20);
}

// On the chip as between launches: K iterations have the bits of K launches for one.
TEST_P(ProximalIterations, TakesOneIterationAfterTheOther) {
  for (const auto& [n, m] : {std::pair<std::int64_t, std::int64_t>{20, 43}, {11, 140}}) {
    Inputs in = make_inputs(n, m, kThreadSanitizer ? 9 : 37);
    for (const MathMode mode : kModes) {
      for (const Momentum rule : {Momentum::none, Momentum::fista, Momentum::fista_restart}) {
        for (const bool scheduled : {false, true}) {
          std::vector<float> steps;
          for (int k = 0; k < 4; ++k) steps.push_back(in.step * (scheduled ? 1 - 0.1f * static_cast<float>(k) : 1));
          Inputs expected = in;
          for (std::int64_t K = 1; K <= 4; ++K) {
            expected.schedule.clear();
            expected.step = steps[static_cast<std::size_t>(K - 1)];
            expected = iterate(context(), expected, 1, rule, mode);
            Inputs begun = in;
            if (scheduled) {
              begun.step = kNaN;  // not looked at
              begun.schedule.assign(steps.begin(), steps.begin() + K);
            }
            ASSERT_TRUE(same_state(iterate(context(), begun, K, rule, mode), expected))
                << K << " iterations, mode " << static_cast<int>(mode) << ", rule " << static_cast<int>(rule);
          }
        }
      }
    }
  }
}

// The proximal-gradient map does not stretch distances when its step is at most 1 / L, so errors add up: by (1 + beta) and
// beta of those of the two codes that make the extrapolated point, and the error of one iteration from there.
TEST_P(ProximalIterations, StaysWithDouble) {
  Inputs in = make_inputs(20, 43, 18);
  in.anchored = false;
  in.with_previous = false;
  for (std::int64_t b = 0; b < in.N; ++b) {
    in.t(b) = 1;
    in.active(b) = 1;
    for (std::int64_t j = 0; j < in.m; ++j) in.current(j, b) = 0;
  }
  constexpr std::int64_t kIterations = 9;
  const auto check = [&](const Inputs& out, Momentum rule, bool on_tensor_cores, MathMode mode) {
    for (std::int64_t b = 0; b < in.N; ++b) {
      std::vector<double> now(static_cast<std::size_t>(in.m), 0.0), before = now;
      double off = 0, off_before = 0, t = 1, beta = 0;
      for (std::int64_t k = 0; k < kIterations; ++k) {
        const Reference reference(in, b, static_cast<double>(in.step), now, before, beta, on_tensor_cores, mode);
        double local = 0;
        for (const double bound : reference.bound) local += bound * bound;
        // Bounds at the double's state hold for the float's, which is as close, but for a hundredth.
        const double next_off = (1 + beta) * off + beta * off_before + 1.01 * std::sqrt(local);
        off_before = std::exchange(off, next_off);
        before = std::exchange(now, reference.next);
        const double next_t = (1 + std::sqrt(1 + 4 * t * t)) / 2;
        beta = rule == Momentum::none ? 0 : static_cast<float>((t - 1) / next_t);
        t = next_t;
      }
      double distance = 0, size = 0;
      for (std::size_t j = 0; j < now.size(); ++j) {
        distance += std::pow(out.current(static_cast<std::int64_t>(j), b) - now[j], 2);
        size += now[j] * now[j];
      }
      ASSERT_LE(std::sqrt(distance), off) << "problem " << b << ", mode " << static_cast<int>(mode);
      if (mode == MathMode::split_tf32 && size > 0) {
        ASSERT_LT(off, 3e-3 * std::sqrt(size)) << "a bound that says little";
      }
    }
  };
  for (const Momentum rule : {Momentum::none, Momentum::fista}) {
    for (const MathMode mode : kModes)
      check(iterate(context(), in, kIterations, rule, mode), rule, context().is_cuda(), mode);

    // The same by the two products of the batch solvers.
    const auto D = to_device(context(), in.D), X = to_device(context(), in.X), lambda = to_device(context(), in.lambda);
    const StepDictionary<float> dictionary(context(), D.matrix());
    Tensor<float> current = Tensor<float>::zeros(context(), in.m, in.N), previous(context(), in.m, in.N);
    const Tensor<float> R(context(), in.n, in.N), beta = Tensor<float>::zeros(context(), in.N);
    const auto t = to_device(context(), in.t);
    const Tensor<float> restart(context(), step_tiles(context(), in.m), in.N);
    const Tensor<std::int32_t> support(context(), step_tiles(context(), in.m), in.N);
    const Tensor<float> scratch(context(), residual_scratch(context(), dictionary.rows(), dictionary.cols(), in.N));
    for (std::int64_t k = 0; k < kIterations; ++k) {
      extrapolated_residual(context(), dictionary, current.matrix(), previous.matrix(), beta.vector(), X.matrix(),
                            R.matrix(), scratch.vector());
      gradient_step(context(), dictionary, R.matrix(), {}, current.matrix(), previous.matrix(), beta.vector(), in.step,
                    lambda.vector(), {}, StepPartials<float>{restart.matrix(), support.matrix()});
      std::swap(current, previous);
      update_momentum(context(), rule, {restart.matrix(), support.matrix()}, t.vector(), beta.vector(), {});
    }
    Inputs out = in;
    const auto values = to_host(context(), current);
    for (std::int64_t b = 0; b < in.N; ++b)
      for (std::int64_t j = 0; j < in.m; ++j) out.current(j, b) = values[static_cast<std::size_t>(j + b * in.m)];
    check(out, rule, false, MathMode::split_tf32);
  }
}

// Plain tf32 misses what split_tf32 promises, so the tests above can tell the two apart.
TEST_P(ProximalIterationsOnCuda, SplitIsCloserThanTf32) {
  Inputs in = make_inputs(33, 64, 16);
  const Inputs out = iterate(context(), in, 1, Momentum::none, MathMode::tf32);
  int missed = 0;
  for (std::int64_t b = 0; b < in.N; ++b) {
    if (in.active(b) == 0) continue;
    const Reference reference(in, b, static_cast<double>(in.step), column(in.current, b), column(in.previous, b),
                              in.beta(b), true, MathMode::split_tf32);
    for (std::int64_t j = 0; j < in.m; ++j)
      missed += std::fabs(out.current(j, b) - reference.next[static_cast<std::size_t>(j)]) >
                reference.bound[static_cast<std::size_t>(j)];
  }
  EXPECT_GT(missed, 50);
}

TEST_P(ProximalIterations, BitsDependOnTheProblemAlone) {
  const std::int64_t N = many(context());
  const Inputs in = make_inputs(12, 23, N);
  for (const MathMode mode : kModes) {
    const Inputs all = iterate(context(), in, 3, Momentum::fista_restart, mode);
    ASSERT_TRUE(same_state(all, iterate(context(), in, 3, Momentum::fista_restart, mode))) << "twice";
    const std::vector<std::vector<std::int64_t>> choices = {
        {N - 1}, {0}, {5, 5, N - 1, 16, 3, 31, 32, 2, 8, 13, 0, 1, 4, 6, 7, 9, 10, 20}};
    for (const auto& chosen : choices) {
      ASSERT_TRUE(same_state(iterate(context(), problems_of(in, chosen), 3, Momentum::fista_restart, mode),
                             problems_of(all, chosen)))
          << chosen.size() << " problems";
    }
    // A neighbour that is not finite.
    Inputs ill = problems_of(in, choices[2]);
    for (std::int64_t i = 0; i < in.n; ++i) ill.X(i, 4) = kNaN;
    const Inputs found = iterate(context(), ill, 3, Momentum::fista_restart, mode);
    for (std::int64_t b = 0; b < ill.N; ++b) {
      if (b == 4) continue;
      for (std::int64_t j = 0; j < in.m; ++j)
        ASSERT_TRUE(same_bits(found.current(j, b), all.current(j, choices[2][static_cast<std::size_t>(b)])))
            << j << ", " << b;
    }
  }
}

TEST_P(ProximalIterations, WhatIsNotFiniteShows) {
  const Inputs good = make_inputs(10, 20, 5);
  for (const MathMode mode : kModes) {
    for (const float ill : {kNaN, std::numeric_limits<float>::infinity()}) {
      Inputs in = good;
      in.X(9, 0) = ill;
      in.current(19, 1) = ill;
      in.previous(0, 3) = ill;  // problem 2 has no momentum
      const Inputs out = iterate(context(), in, 1, Momentum::fista_restart, mode);
      for (const std::int64_t b : {0, 1, 3}) {
        int shown = 0;
        for (std::int64_t j = 0; j < in.m; ++j) shown += !std::isfinite(out.current(j, b));
        EXPECT_GE(shown, 10) << "problem " << b << ", " << ill;  // but for columns of zeros
      }
      for (std::int64_t j = 0; j < in.m; ++j)
        EXPECT_TRUE(std::isfinite(out.current(j, 2)) && std::isfinite(out.current(j, 4))) << ill;
    }
    Inputs in = good;
    in.D(3, 7) = kNaN;
    const Inputs out = iterate(context(), in, 1, Momentum::none, mode);
    for (std::int64_t b = 0; b < in.N; ++b) EXPECT_TRUE(std::isnan(out.current(7, b))) << b;
  }
}

// Soft-thresholding, to be checked by hand: D = I, and one iteration of step 1 from 0 ends there.
TEST_P(ProximalIterations, TheIdentityGivesTheSoftThreshold) {
  Inputs in = make_inputs(3, 3, 2);
  in.anchored = in.with_previous = false;
  in.step = 1;
  for (std::int64_t j = 0; j < 3; ++j) {
    for (std::int64_t i = 0; i < 3; ++i) in.D(i, j) = i == j;
    for (std::int64_t b = 0; b < 2; ++b) in.current(j, b) = 0;
    in.X(j, 0) = static_cast<float>(2 * j - 3);  // -3, -1, 1
    in.X(j, 1) = static_cast<float>(j);
  }
  in.lambda(0) = 0.5f;
  in.lambda(1) = 1.5f;
  for (const MathMode mode : kModes) {
    const Inputs out = iterate(context(), in, 2, Momentum::none, mode);
    EXPECT_EQ(column(out.current, 0), (std::vector<double>{-2.5, -0.5, 0.5}));
    EXPECT_EQ(column(out.current, 1), (std::vector<double>{0, 0, 0.5}));
  }
}

TEST_P(ProximalIterations, TakesWhatJustFits) {
  const std::int64_t limit = context().is_cuda() ? context().block_memory() : 1 << 20;
  for (const std::int64_t m : {512, 256}) {
    if (kThreadSanitizer && m == 512) continue;
    std::int64_t n = 1;
    while (n < 300 && iteration_plan(n + 1, m, 5, limit, 1)) ++n;
    const Inputs in = make_inputs(n, m, 5);
    for (const MathMode mode : kModes) {
      SCOPED_TRACE(::testing::Message() << n << " x " << m);
      check_one(context(), in, Momentum::fista, mode);
    }
    if (context().is_cuda()) {
      const Inputs large = make_inputs(n + 1, m, 1);
      EXPECT_THROW(iterate(context(), large, 1, Momentum::fista, MathMode::tf32), ShapeError);
    }
  }
  if (context().is_cuda()) {
    EXPECT_FALSE(iteration_plan(context(), 1, 513, 5));
  }
}

TEST_P(ProximalIterations, TakesNothing) {
  for (const MathMode mode : kModes) {
    const Inputs in = make_inputs(4, 6, 3);
    EXPECT_TRUE(same_state(iterate(context(), in, 0, Momentum::fista, mode), in)) << "no iterations";
    iterate(context(), make_inputs(4, 6, 0), 2, Momentum::fista, mode);
    // Without sensors the soft-threshold alone is left.
    Inputs blind = make_inputs(0, 2, 1);
    blind.with_previous = blind.anchored = false;
    blind.step = 1;
    blind.lambda(0) = 0.25f;
    blind.current(0, 0) = 1;
    blind.current(1, 0) = -0.125f;
    const Inputs out = iterate(context(), blind, 2, Momentum::none, mode);
    EXPECT_EQ(column(out.current, 0), (std::vector<double>{0.5, 0}));
  }
}

TEST_P(ProximalIterations, RefusesWhatDoesNotFit) {
  const Context& c = context();
  const StepDictionary<float> D(c, Tensor<float>::zeros(c, 4, 6).matrix());
  const Tensor<float> X = Tensor<float>::zeros(c, 4, 3), codes = Tensor<float>::zeros(c, 6, 3),
                      previous = Tensor<float>::zeros(c, 6, 3), short_codes = Tensor<float>::zeros(c, 5, 3);
  const Tensor<float> lambda = Tensor<float>::zeros(c, 3), beta = Tensor<float>::zeros(c, 3),
                      two = Tensor<float>::zeros(c, 2);
  const Tensor<double> t = Tensor<double>::zeros(c, 3), t2 = Tensor<double>::zeros(c, 2);
  const Tensor<float> scratch(c, iterations_scratch(c, D, 3));
  struct Call {
    StepSizes steps{1.0f, {}};
    std::int64_t iterations = 2;
    MathMode mode = MathMode::tf32;
    MatrixView<const float> X, anchor;
    MatrixView<float> current, previous;
    VectorView<const float> lambda;
    VectorView<float> beta;
    VectorView<double> t;
  };
  const auto with = [&](auto change) {
    Call call;
    call.X = X.matrix();
    call.current = codes.matrix();
    call.previous = previous.matrix();
    call.lambda = lambda.vector();
    call.beta = beta.vector();
    call.t = t.vector();
    change(call);
    proximal_iterations(c, D, call.X, call.anchor, call.lambda, {}, call.steps, call.iterations, Momentum::fista,
                        call.mode, call.current, call.previous, call.t, call.beta, scratch.vector());
  };
  EXPECT_NO_THROW(with([](Call&) {}));
  EXPECT_THROW(with([](Call& call) { call.steps.all = 0; }), ValueError);
  EXPECT_THROW(with([](Call& call) { call.iterations = -1; }), ValueError);
  EXPECT_THROW(with([](Call& call) { call.mode = MathMode::fp32; }), ValueError);
  EXPECT_THROW(with([&](Call& call) { call.steps.each = lambda.vector(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.X = codes.matrix(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.current = short_codes.matrix(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.previous = short_codes.matrix(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.anchor = short_codes.matrix(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.lambda = two.vector(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.beta = two.vector(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.t = t2.vector(); }), ShapeError);
  EXPECT_THROW(with([&](Call& call) { call.X.device = {DeviceType::cuda, 42}; }), DeviceError);
  if (!c.is_cuda()) {
    EXPECT_THROW(proximal_iterations(c, D, X.matrix(), {}, lambda.vector(), {}, {1.0f, {}}, 2, Momentum::fista,
                                     MathMode::tf32, codes.matrix(), previous.matrix(), t.vector(), beta.vector(), {}),
                 ShapeError);
  }
}

// ---- the plan ----

constexpr std::int64_t kSm90 = 227 * 1024, kSm80 = 163 * 1024, kSm120 = 99 * 1024;

TEST(IterationPlan, CountsTheMemoryOfABlock) {
  const auto plan = iteration_plan(64, 256, 100'000, kSm90, 132);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->tile, 32);
  EXPECT_EQ(plan->atom_tiles, 4);
  EXPECT_EQ(plan->line, 72);  // 64 would put atoms 0, 2, 5 and 7 into the same banks
  EXPECT_EQ(plan->shared_bytes, 4 * (72 * 256 + (10 * 64 + 8) * 32));
  EXPECT_EQ(plan->blocks, 132);
  EXPECT_TRUE(iteration_plan(64, 256, 100'000, kSm80, 108)->tile == 32);
  EXPECT_FALSE(iteration_plan(64, 256, 100'000, kSm120, 108));
}

TEST(IterationPlan, LinesKeepReadsInDifferentBanks) {
  for (std::int64_t n = 1; n <= 90; ++n) {
    const auto plan = iteration_plan(n, 8, 1, kSm90, 1);
    ASSERT_TRUE(plan);
    EXPECT_GE(plan->line, n);
    EXPECT_EQ(plan->line % 16, 8) << n;
    EXPECT_LT(plan->line - n, 16) << n;
  }
}

TEST(IterationPlan, EndsWhereTheMemoryEnds) {
  for (const std::int64_t limit : {kSm90, kSm80, kSm120}) {
    for (const std::int64_t m : {8, 128, 129, 256, 257, 512}) {
      for (const std::int64_t n : {1, 8, 20, 64, 72, 80, 96, 128}) {
        const auto plan = iteration_plan(n, m, 1000, limit, 4);
        if (!plan) {
          EXPECT_FALSE(iteration_plan(n, m, 1, limit, 4));
          EXPECT_FALSE(iteration_plan(n + 8, m, 1000, limit, 4)) << "more sensors fit, fewer do not";
          continue;
        }
        EXPECT_LE(plan->shared_bytes, limit);
        EXPECT_TRUE(iteration_plan(n, m, 1000, plan->shared_bytes, 4)->shared_bytes == plan->shared_bytes);
        const auto tighter = iteration_plan(n, m, 1000, plan->shared_bytes - 1, 4);
        EXPECT_TRUE(plan->tile == 32 ? tighter && tighter->tile == 16 : !tighter);
      }
    }
  }
  // The largest that the header names.
  for (const auto& [limit, n, m] : {std::tuple<std::int64_t, std::int64_t, std::int64_t>{kSm90, 80, 512},
                                    {kSm90, 136, 256},
                                    {kSm90, 200, 128},
                                    {kSm80, 56, 512},
                                    {kSm80, 88, 256},
                                    {kSm80, 136, 128}}) {
    EXPECT_TRUE(iteration_plan(n, m, 1, limit, 1)) << n << " x " << m;
    EXPECT_FALSE(iteration_plan(n + 1, m, 1, limit, 1)) << n << " x " << m;
  }
  EXPECT_TRUE(iteration_plan(1, kMostIterationAtoms, 1, kSm90, 1));
  EXPECT_FALSE(iteration_plan(1, kMostIterationAtoms + 1, 1, std::int64_t{1} << 40, 1));
  EXPECT_FALSE(iteration_plan(std::int64_t{1} << 60, 1, 1, kSm90, 1));
}

TEST(IterationPlan, GivesEachMultiprocessorATile) {
  const auto tile = [](std::int64_t m, std::int64_t problems) {
    return iteration_plan(20, m, problems, kSm90, 100)->tile;
  };
  EXPECT_EQ(tile(128, 32 * 99), 16);
  EXPECT_EQ(tile(128, 32 * 99 + 1), 32);
  EXPECT_EQ(tile(256, 32 * 99 + 1), 32);
  EXPECT_EQ(tile(257, 32 * 99 + 1), 16) << "the registers hold no more";
  EXPECT_EQ(iteration_plan(20, 128, 33, kSm90, 100)->blocks, 3);
  EXPECT_EQ(iteration_plan(20, 128, 1 << 20, kSm90, 100)->blocks, 100);
  EXPECT_EQ(iteration_plan(20, 128, 1, kSm90, 100)->atom_tiles, 2);
  EXPECT_EQ(iteration_plan(20, 129, 1, kSm90, 100)->atom_tiles, 4);
  EXPECT_EQ(iteration_plan(20, 256, 1, kSm90, 100)->atom_tiles, 4);
  EXPECT_EQ(iteration_plan(20, 257, 1, kSm90, 100)->atom_tiles, 8);
  EXPECT_THROW(iteration_plan(-1, 1, 1, kSm90, 1), ShapeError);
}

// ---- the stream ----

struct QueuedIterations {
  const Context& context;
  StepDictionary<float> D;
  Tensor<float> X, anchor, lambda, current, previous, beta, steps;
  Tensor<double> t;

  explicit QueuedIterations(const Context& c)
      : context(c),
        D(c, testing::numbers<float>(c, 9, 20, 1).matrix()),
        X(testing::numbers<float>(c, 9, 19, 2)),
        anchor(testing::numbers<float>(c, 20, 19, 3)),
        lambda(Tensor<float>::zeros(c, 19)),
        current(testing::numbers<float>(c, 20, 19, 4)),
        previous(testing::numbers<float>(c, 20, 19, 5)),
        beta(Tensor<float>::zeros(c, 19)),
        steps(to_device(c, std::vector<float>{0.01f, 0.005f}, 2)),
        t(to_device(c, std::vector<double>(19, 1.0), 19)) {}
  void queue() {
    for (const MathMode mode : kModes)
      proximal_iterations(context, D, X.matrix(), anchor.matrix(), lambda.vector(), {}, {0, steps.vector()}, 2,
                          Momentum::fista_restart, mode, current.matrix(), previous.matrix(), t.vector(), beta.vector(),
                          {});
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, current, previous, t, beta); }
};

TEST_P(ProximalIterationsOnCuda, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedIterations>();
}

}  // namespace
}  // namespace shrinkwarp
