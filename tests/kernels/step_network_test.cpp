#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/kernels/step_network/step_network.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::kThreadSanitizer;
using testing::same_bits;
using testing::same_elements;
using testing::to_device;
using testing::to_host;
using testing::values_of;

class StepNetworks : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(StepNetworks);

/// A network and its problems on the host, in double.
struct Inputs {
  std::int64_t n = 0, m = 0, N = 0;
  std::vector<double> D, W, X, lambda;  // column-major; W empty for D
  std::vector<double> steps, thresholds;
  SupportSelection selection;
};

/// Unit atoms, lambda a tenth to a half of each lambda_max, steps around 1 / L. W is D with noise.
Inputs make_inputs(std::int64_t n, std::int64_t m, std::int64_t N, std::int64_t layers, bool own_W) {
  Inputs in;
  in.n = n, in.m = m, in.N = N;
  const auto normal = [](std::int64_t count, std::uint64_t stream) {
    std::vector<double> values(static_cast<std::size_t>(count));
    fill_normal(Context::cpu(1), 31, stream, 0, VectorView<double>{values.data(), count, {}});
    return values;
  };
  in.D = normal(n * m, 1);
  in.X = normal(n * N, 2);
  double energy = 0;
  for (std::int64_t j = 0; j < m; ++j) {
    double norm = 0;
    for (std::int64_t i = 0; i < n; ++i) norm += std::pow(in.D[static_cast<std::size_t>(i + j * n)], 2);
    for (std::int64_t i = 0; i < n; ++i) in.D[static_cast<std::size_t>(i + j * n)] /= std::sqrt(norm);
    energy += 1;
  }
  const double L = 4 * energy / static_cast<double>(n) + 1;  // over the largest eigenvalue, by far more often than not
  if (own_W) {
    in.W = normal(n * m, 3);
    for (std::size_t i = 0; i < in.W.size(); ++i) in.W[i] = in.D[i] + 0.1 * in.W[i] / std::sqrt(static_cast<double>(n));
  }
  for (std::int64_t b = 0; b < N; ++b) {
    double largest = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      double c = 0;
      for (std::int64_t i = 0; i < n; ++i)
        c += in.D[static_cast<std::size_t>(i + j * n)] * in.X[static_cast<std::size_t>(i + b * n)];
      largest = std::max(largest, std::fabs(c));
    }
    in.lambda.push_back(largest * (0.1 + 0.4 * static_cast<double>(b % 5) / 4));
  }
  for (std::int64_t t = 0; t < layers; ++t) {
    in.steps.push_back((1 + 0.3 * static_cast<double>(t % 3)) / L);
    if (own_W) in.thresholds.push_back((0.8 + 0.2 * static_cast<double>(t % 2)) / L);
  }
  return in;
}

template <class T>
GuardedHost<T> matrix_of(const std::vector<double>& values, std::int64_t rows, std::int64_t cols,
                         std::int64_t padding) {
  return GuardedHost<T>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      padding);
}

template <class T>
std::vector<T> in_type(const std::vector<double>& values) {
  return std::vector<T>(values.begin(), values.end());
}

/// The formulas of the contract, problem by problem in long double. @return codes [m, N]; the costs to `costs`
std::vector<double> reference(const Inputs& in, long double* mean_cost = nullptr) {
  using Real = long double;
  std::vector<double> codes;
  Real total = 0;
  for (std::int64_t b = 0; b < in.N; ++b) {
    std::vector<Real> z(static_cast<std::size_t>(in.m)), r(static_cast<std::size_t>(in.n));
    const auto residual = [&] {
      for (std::int64_t i = 0; i < in.n; ++i)
        r[static_cast<std::size_t>(i)] = in.X[static_cast<std::size_t>(i + b * in.n)];
      for (std::int64_t j = 0; j < in.m; ++j)
        for (std::int64_t i = 0; i < in.n; ++i)
          r[static_cast<std::size_t>(i)] -=
              in.D[static_cast<std::size_t>(i + j * in.n)] * z[static_cast<std::size_t>(j)];
    };
    for (std::size_t t = 0; t < in.steps.size(); ++t) {
      residual();
      const Real factor = in.thresholds.empty() ? in.steps[t] : std::max(in.thresholds[t], 0.0);
      const Real threshold = in.lambda[static_cast<std::size_t>(b)] * factor;
      std::vector<Real> magnitudes;
      for (std::int64_t j = 0; j < in.m; ++j) {
        Real c = 0;
        for (std::int64_t i = 0; i < in.n; ++i)
          c += (in.W.empty() ? in.D : in.W)[static_cast<std::size_t>(i + j * in.n)] * r[static_cast<std::size_t>(i)];
        z[static_cast<std::size_t>(j)] += in.steps[t] * c;
        magnitudes.push_back(std::fabs(z[static_cast<std::size_t>(j)]));
      }
      const std::int64_t kept = selected_entries(in.selection, static_cast<std::int64_t>(t), in.m);
      std::sort(magnitudes.rbegin(), magnitudes.rend());
      for (Real& entry : z) {
        const Real size = std::fabs(entry);
        if (kept > 0 && size >= magnitudes[static_cast<std::size_t>(kept - 1)] && size > threshold) continue;
        entry = size <= threshold ? 0 : (entry > 0 ? entry - threshold : entry + threshold);
      }
    }
    residual();
    for (const Real value : r) total += value * value / 2;
    for (const Real value : z) total += in.lambda[static_cast<std::size_t>(b)] * std::fabs(value);
    codes.insert(codes.end(), z.begin(), z.end());
  }
  if (mean_cost) *mean_cost = total / static_cast<Real>(in.N);
  return codes;
}

struct Gradient {
  double loss = 0;
  std::vector<double> steps, thresholds;
};

/// The inputs on a device.
template <class T>
struct Placed {
  const Context& context;
  StepNetworkOperands<T> operands;
  Tensor<T> steps, thresholds;
  testing::Guarded<T> X;
  Tensor<T> lambda;
  SupportSelection selection;

  Placed(const Context& context, const Inputs& in)
      : context(context),
        steps(to_device(context, in_type<T>(in.steps), static_cast<std::int64_t>(in.steps.size()))),
        thresholds(to_device(context, in_type<T>(in.thresholds), static_cast<std::int64_t>(in.thresholds.size()))),
        X(to_device(context, matrix_of<T>(in.X, in.n, in.N, 3))),
        lambda(to_device(context, in_type<T>(in.lambda), in.N)),
        selection(in.selection) {
    const auto D = to_device(context, matrix_of<T>(in.D, in.n, in.m, 5));
    if (in.W.empty()) {
      operands = StepNetworkOperands<T>(context, D.matrix());
    } else {
      const auto W = to_device(context, matrix_of<T>(in.W, in.n, in.m, 2));
      operands = StepNetworkOperands<T>(context, D.matrix(), W.matrix());
    }
    context.synchronize();
  }
  StepNetwork<T> network() const { return {operands, steps.vector(), thresholds.vector(), selection}; }

  GuardedHost<T> codes() const {
    const std::int64_t m = operands.atoms(), N = lambda.size();
    const GuardedHost<T> before(m, N, 4);
    const auto Z = to_device(context, before);
    const Tensor<std::byte> scratch(context, step_network_scratch(context, network(), N, false));
    step_network_forward<T>(context, network(), X.matrix(), lambda.vector(), Z.matrix(), scratch.vector());
    const GuardedHost<T> after = to_host(context, Z);
    EXPECT_TRUE(guards_intact(before, after));
    return after;
  }
  Gradient gradient() const {
    const Tensor<std::byte> scratch(context, step_network_scratch(context, network(), lambda.size(), true));
    const Tensor<double> loss(context, 1), d_steps(context, steps.size()), d_thresholds(context, thresholds.size());
    step_network_loss<T>(context, network(), X.matrix(), lambda.vector(), loss.vector(), d_steps.vector(),
                         d_thresholds.vector(), scratch.vector());
    return {to_host(context, loss)[0], to_host(context, d_steps), to_host(context, d_thresholds)};
  }
};

/// `all`, but for ThreadSanitizer few where every one of a thread's steps is watched.
std::int64_t problems(const Context& context, std::int64_t all) {
  return kThreadSanitizer && context.is_cuda() ? 18 : all;
}

TEST_P(StepNetworks, CodesAndLossAreThoseOfTheFormulas) {
  for (const bool own_W : {false, true}) {
    for (const auto [n, m, N, layers] : {std::array<std::int64_t, 4>{7, 13, 5, 4}, {1, 1, 1, 1}, {20, 70, 67, 3}}) {
      Inputs in = make_inputs(n, m, N, layers, own_W);
      for (const bool selects : {false, true}) {
        in.selection = selects ? SupportSelection{6, 13} : SupportSelection{};
        long double exact_loss = 0;
        const std::vector<double> wanted = reference(in, &exact_loss);
        const auto loss = static_cast<double>(exact_loss);
        const Placed<double> in_double(context(), in);
        const GuardedHost<double> Z = in_double.codes();
        for (std::int64_t b = 0; b < N; ++b)
          for (std::int64_t j = 0; j < m; ++j)
            ASSERT_NEAR(Z(j, b), wanted[static_cast<std::size_t>(j + b * m)], 1e-12) << j << " " << b;
        EXPECT_NEAR(in_double.gradient().loss, loss, 1e-12 * loss);

        const Placed<float> in_float(context(), in);
        const GuardedHost<float> z = in_float.codes();
        for (std::int64_t b = 0; b < N; ++b)
          for (std::int64_t j = 0; j < m; ++j)
            ASSERT_NEAR(z(j, b), wanted[static_cast<std::size_t>(j + b * m)], 1e-5) << j << " " << b;
        EXPECT_NEAR(in_float.gradient().loss, loss, 1e-5 * loss);
      }
    }
  }
}

TEST_P(StepNetworks, GradientsAreCentralDifferences) {
  for (const bool own_W : {false, true}) {
    Inputs in = make_inputs(9, 21, problems(context(), 70), 5, own_W);
    if (own_W) in.thresholds[3] = -0.1;
    for (const bool selects : {false, true}) {
      in.selection = selects ? SupportSelection{5, 12} : SupportSelection{};
      const Gradient found = Placed<double>(context(), in).gradient();
      const auto difference = [&](std::vector<double>& parameters, std::size_t t) {
        constexpr double kH = 1e-9;  // so small that no entry comes over its threshold; costs are in long double
        const double at = parameters[t];
        long double above = 0, under = 0;
        const double right = at + kH, left = at - kH;
        parameters[t] = right;
        reference(in, &above);
        parameters[t] = left;
        reference(in, &under);
        parameters[t] = at;
        return static_cast<double>((above - under) / (static_cast<long double>(right) - left));
      };
      double scale = 0;
      for (const double value : found.steps) scale = std::max(scale, std::fabs(value));
      ASSERT_GT(scale, 1e-3);
      for (std::size_t t = 0; t < in.steps.size(); ++t)
        EXPECT_NEAR(found.steps[t], difference(in.steps, t), 1e-6 * scale) << own_W << selects << t;
      for (std::size_t t = 0; t < in.thresholds.size(); ++t)
        EXPECT_NEAR(found.thresholds[t], difference(in.thresholds, t), 1e-6 * scale) << own_W << selects << t;
      if (own_W) {
        EXPECT_EQ(found.thresholds[3], 0.0);
      }

      const Gradient rounded = Placed<float>(context(), in).gradient();
      for (std::size_t t = 0; t < in.steps.size(); ++t)
        EXPECT_NEAR(rounded.steps[t], found.steps[t], 1e-4 * scale) << own_W << selects << t;
    }
  }
}

/// On both sides of what a block, a warp and a launch take on CUDA; there float and double are made by different kernels.
TEST_P(StepNetworks, SizesAroundTilesGiveTheSame) {
  std::vector<std::array<std::int64_t, 4>> shapes = {{8, 64, 98, 2}, {17, 129, 17, 2}, {3, 9, 1, 1}};
  if (!kThreadSanitizer)
    shapes.insert(shapes.end(), {{16, 140, 131, 2}, {7, 257, 33, 2}, {5, 513, 3, 2}, {2, 3, 2051, 2}});
  for (const auto [n, m, N, layers] : shapes) {
    const Inputs in = make_inputs(n, m, N, layers, false);
    long double exact_loss = 0;
    const std::vector<double> wanted = reference(in, &exact_loss);
    const auto loss = static_cast<double>(exact_loss);
    const Placed<float> in_float(context(), in);
    const GuardedHost<float> z = in_float.codes();
    for (std::int64_t b = 0; b < N; ++b)
      for (std::int64_t j = 0; j < m; ++j)
        ASSERT_NEAR(z(j, b), wanted[static_cast<std::size_t>(j + b * m)], 1e-5)
            << m << " " << N << ": " << j << " " << b;
    const Gradient found = Placed<double>(context(), in).gradient(), rounded = in_float.gradient();
    EXPECT_NEAR(found.loss, loss, 1e-12 * loss) << m << " " << N;
    EXPECT_NEAR(rounded.loss, loss, 1e-5 * loss) << m << " " << N;
    double scale = 0;
    for (const double value : found.steps) scale = std::max(scale, std::fabs(value));
    ASSERT_GT(scale, 1e-3);
    for (std::size_t t = 0; t < in.steps.size(); ++t)
      EXPECT_NEAR(rounded.steps[t], found.steps[t], 1e-4 * scale) << m << " " << N << ": " << t;
  }
}

// With so small a lambda no problem of a block is left that a CPU would take by the entries of its codes.
TEST_P(StepNetworks, FullCodes) {
  for (const bool own_W : {false, true}) {
    Inputs in = make_inputs(9, 21, 70, 4, own_W);
    for (double& lambda : in.lambda) lambda *= 0.02;
    long double exact_loss = 0;
    const std::vector<double> wanted = reference(in, &exact_loss);
    const auto zeros = std::count(wanted.begin(), wanted.end(), 0.0);
    ASSERT_LT(static_cast<double>(zeros), 0.1 * static_cast<double>(wanted.size()));
    const Placed<double> placed(context(), in);
    const GuardedHost<double> Z = placed.codes();
    for (std::int64_t b = 0; b < in.N; ++b)
      for (std::int64_t j = 0; j < in.m; ++j)
        ASSERT_NEAR(Z(j, b), wanted[static_cast<std::size_t>(j + b * in.m)], 1e-12) << j << " " << b;
    const Gradient found = placed.gradient();
    EXPECT_NEAR(found.loss, static_cast<double>(exact_loss), 1e-12 * found.loss);
    double scale = 0;
    for (const double value : found.steps) scale = std::max(scale, std::fabs(value));
    ASSERT_GT(scale, 1e-3);
    for (std::size_t t = 0; t < in.steps.size(); ++t) {
      constexpr double kH = 1e-9;
      const double at = in.steps[t], right = at + kH, left = at - kH;
      long double above = 0, under = 0;
      in.steps[t] = right;
      reference(in, &above);
      in.steps[t] = left;
      reference(in, &under);
      in.steps[t] = at;
      const auto difference = static_cast<double>((above - under) / (static_cast<long double>(right) - left));
      EXPECT_NEAR(found.steps[t], difference, 1e-6 * scale) << own_W << t;
    }

    Inputs few = in;  // the same bits in a batch of one's own
    few.N = 3;
    few.X.assign(in.X.begin() + 40 * 9, in.X.begin() + 43 * 9);
    few.lambda.assign(in.lambda.begin() + 40, in.lambda.begin() + 43);
    const GuardedHost<double> some = Placed<double>(context(), few).codes();
    for (std::int64_t b = 0; b < 3; ++b)
      for (std::int64_t j = 0; j < in.m; ++j) ASSERT_TRUE(same_bits(some(j, b), Z(j, b + 40))) << j << " " << b;
  }
}

/// Atoms that are there twice, observations of nothing, and more entries than there are.
TEST_P(StepNetworks, SelectionTakesAllThatAreEqual) {
  Inputs in = make_inputs(6, 40, 9, 3, true);
  for (std::size_t i = 0; i < 6 * 20; ++i) {
    in.D[i + 6 * 20] = in.D[i];
    in.W[i + 6 * 20] = in.W[i];
  }
  for (std::size_t i = 0; i < 6; ++i) in.X[i + 6 * 4] = 0;
  for (const SupportSelection selection : {SupportSelection{2.5, 100}, SupportSelection{40, 100}}) {
    in.selection = selection;
    const std::vector<double> wanted = reference(in);
    const GuardedHost<double> Z = Placed<double>(context(), in).codes();
    const GuardedHost<float> z = Placed<float>(context(), in).codes();
    for (std::int64_t b = 0; b < 9; ++b) {
      for (std::int64_t j = 0; j < 40; ++j) {
        ASSERT_NEAR(Z(j, b), wanted[static_cast<std::size_t>(j + b * 40)], 1e-12) << j << " " << b;
        ASSERT_NEAR(z(j, b), wanted[static_cast<std::size_t>(j + b * 40)], 1e-5) << j << " " << b;
      }
    }
  }
}

TEST_P(StepNetworks, BitsDependOnTheProblemAlone) {
  for (const bool own_W : {true, false}) {
    Inputs in = make_inputs(12, 40, 131, 4, own_W);
    if (own_W) in.selection = {4, 10};
    const GuardedHost<float> all = Placed<float>(context(), in).codes();
    Inputs few = in;
    few.N = 3;
    few.X.assign(in.X.begin() + 100 * 12, in.X.begin() + 103 * 12);
    few.lambda.assign(in.lambda.begin() + 100, in.lambda.begin() + 103);
    const GuardedHost<float> some = Placed<float>(context(), few).codes();
    for (std::int64_t b = 0; b < 3; ++b)
      for (std::int64_t j = 0; j < 40; ++j) ASSERT_TRUE(same_bits(some(j, b), all(j, b + 100))) << j << " " << b;

    const Gradient once = Placed<float>(context(), in).gradient(), again = Placed<float>(context(), in).gradient();
    EXPECT_EQ(once.loss, again.loss);
    EXPECT_EQ(once.steps, again.steps);
    EXPECT_EQ(once.thresholds, again.thresholds);
    if (!context().is_cuda()) {
      const Context five = Context::cpu(5);
      const Gradient by_five = Placed<float>(five, in).gradient();
      EXPECT_EQ(once.loss, by_five.loss);
      EXPECT_EQ(once.steps, by_five.steps);
      EXPECT_EQ(once.thresholds, by_five.thresholds);
    }
  }
}

TEST_P(StepNetworks, NaNStaysWithItsProblem) {
  for (const bool own_W : {false, true}) {
    Inputs in = make_inputs(9, 20, 18, 2, own_W);
    if (own_W) in.selection = {10, 20};
    const GuardedHost<float> before = Placed<float>(context(), in).codes();
    in.X[8 + 9 * 4] = std::nan("");
    const Placed<float> placed(context(), in);
    const GuardedHost<float> after = placed.codes();
    for (std::int64_t b = 0; b < 18; ++b)
      for (std::int64_t j = 0; j < 20; ++j)
        ASSERT_TRUE(b == 4 ? std::isnan(after(j, b)) : same_bits(after(j, b), before(j, b))) << j << " " << b;
    EXPECT_TRUE(std::isnan(placed.gradient().loss));
  }
}

template <class T>
void check_bad_steps(const Context& context, bool own_W) {
  for (const double bad : {0.0, -0.1, std::numeric_limits<double>::infinity(), std::nan("")}) {
    Inputs in = make_inputs(5, 9, 3, 3, own_W);
    in.steps[1] = bad;
    const Placed<T> placed(context, in);
    const GuardedHost<T> Z = placed.codes();
    for (std::int64_t b = 0; b < 3; ++b)
      for (std::int64_t j = 0; j < 9; ++j) EXPECT_TRUE(std::isnan(Z(j, b)));
    const Gradient gradient = placed.gradient();
    EXPECT_TRUE(std::isnan(gradient.loss));
    for (const double value : gradient.steps) EXPECT_TRUE(std::isnan(value));
    for (const double value : gradient.thresholds) EXPECT_TRUE(std::isnan(value));
  }
}

TEST_P(StepNetworks, StepsThatAreNoneGiveNaN) {
  for (const bool own_W : {false, true}) {
    check_bad_steps<double>(context(), own_W);
    check_bad_steps<float>(context(), own_W);
  }
}

/// One launch, and many.
struct QueuedNetworks {
  explicit QueuedNetworks(const Context& context)
      : context(context), D(testing::numbers<float>(context, 6, 11, 1)), tied(context, D.matrix()) {}
  StepNetwork<float> network(bool selects) const {
    return {tied, steps.vector(), {}, selects ? SupportSelection{20, 50} : SupportSelection{}};
  }
  void queue() {
    for (const bool selects : {false, true}) {
      Tensor<float>& Z = selects ? selected : codes;
      Tensor<double>& sums = selects ? selected_sums : plain_sums;
      const auto bytes = (selects ? selected_scratch : scratch).vector();
      step_network_forward<float>(context, network(selects), X.matrix(), lambda.vector(), Z.matrix(), bytes);
      step_network_loss<float>(context, network(selects), X.matrix(), lambda.vector(), sums.vector().slice(0, 1),
                               sums.vector().slice(1, 2), {}, bytes);
    }
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, codes, selected, plain_sums, selected_sums);
  }

  const Context& context;
  Tensor<float> D;
  StepNetworkOperands<float> tied;
  Tensor<float> X = testing::numbers<float>(context, 6, 5, 2);
  Tensor<float> lambda = to_device(context, std::vector<float>(5, 0.25f), 5);
  Tensor<float> steps = to_device(context, std::vector<float>{0.125f, 0.25f}, 2);
  Tensor<float> codes = testing::numbers<float>(context, 11, 5, 3),
                selected = testing::numbers<float>(context, 11, 5, 4);
  Tensor<double> plain_sums = testing::numbers<double>(context, 3, 1, 5);
  Tensor<double> selected_sums = testing::numbers<double>(context, 3, 1, 6);
  Tensor<std::byte> scratch{context, step_network_scratch(context, network(false), 5, true)};
  Tensor<std::byte> selected_scratch{context, step_network_scratch(context, network(true), 5, true)};
};
class StepNetworksQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(StepNetworksQueued);
TEST_P(StepNetworksQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedNetworks>();
}

TEST_P(StepNetworks, RefusesWhatDoesNotFit) {
  const Inputs in = make_inputs(5, 9, 3, 3, true);
  const Placed<double> placed(context(), in);
  const Tensor<std::byte> scratch(context(), step_network_scratch(context(), placed.network(), 3, true));
  const Tensor<double> Z(context(), 9, 3), loss(context(), 1), three(context(), 3), two(context(), 2);
  const auto forward = [&](StepNetwork<double> network, MatrixView<double> codes, VectorView<std::byte> bytes) {
    step_network_forward<double>(context(), network, placed.X.matrix(), placed.lambda.vector(), codes, bytes);
  };
  StepNetwork<double> none = placed.network(), uneven = placed.network(), over = placed.network();
  none.steps = {};
  uneven.thresholds = two.vector();
  over.selection.most_percent = 101;
  EXPECT_THROW(forward(none, Z.matrix(), scratch.vector()), ShapeError);
  EXPECT_THROW(forward(uneven, Z.matrix(), scratch.vector()), ShapeError);
  EXPECT_THROW(forward(over, Z.matrix(), scratch.vector()), ValueError);
  EXPECT_THROW(forward(placed.network(), Z.matrix().columns(0, 2), scratch.vector()), ShapeError);
  EXPECT_THROW(forward(placed.network(), Z.matrix(), scratch.vector().slice(0, 8)), ShapeError);
  EXPECT_THROW(step_network_loss<double>(context(), placed.network(), placed.X.matrix(), placed.lambda.vector(),
                                         loss.vector(), two.vector(), three.vector(), scratch.vector()),
               ShapeError);
  EXPECT_THROW(step_network_loss<double>(context(), placed.network(), placed.X.matrix(), placed.lambda.vector(),
                                         loss.vector(), three.vector(), {}, scratch.vector()),
               ShapeError);
}

}  // namespace
}  // namespace shrinkwarp
