#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/lista_network/lista_network.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::kThreadSanitizer;
using testing::to_device;
using testing::to_host;

class ListaNetworks : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(ListaNetworks);
class ListaNetworksOnCuda : public testing::OnContext {};
SHRINKWARP_ON_CUDA(ListaNetworksOnCuda);

constexpr ListaKind kKinds[] = {ListaKind::free, ListaKind::coupled, ListaKind::momentum};

/// A network and its problems on the host, in double, column-major.
struct Inputs {
  ListaLayout layout;
  std::int64_t N = 0;
  std::vector<double> D, X, lambda, parameters;
};

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 37, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

/// Unit atoms, weights near those of ISTA, lambda of a tenth to a half of what would leave nothing.
Inputs make_inputs(ListaKind kind, std::int64_t n, std::int64_t m, std::int64_t N, std::int64_t layers) {
  Inputs in;
  in.layout = {kind, n, m, layers};
  in.N = N;
  in.D = normal(n * m, 1);
  in.X = normal(n * N, 2);
  for (std::int64_t j = 0; j < m; ++j) {
    double norm = 0;
    for (std::int64_t i = 0; i < n; ++i) norm += std::pow(in.D[static_cast<std::size_t>(i + j * n)], 2);
    for (std::int64_t i = 0; i < n; ++i) in.D[static_cast<std::size_t>(i + j * n)] /= std::sqrt(norm);
  }
  const double step = 1 / (4 * static_cast<double>(m) / static_cast<double>(n) + 1);
  for (std::int64_t b = 0; b < N; ++b) in.lambda.push_back(0.3 + 0.3 * static_cast<double>(b % 5));
  in.parameters = normal(in.layout.size(), 3);
  const auto d = [&](std::int64_t i, std::int64_t j) { return in.D[static_cast<std::size_t>(i + j * n)]; };
  for (std::int64_t t = 0; t < layers; ++t) {
    for (std::int64_t c = 0; c < in.layout.weight_cols(); ++c) {
      for (std::int64_t r = 0; r < in.layout.weight_rows(); ++r) {
        double& w = in.parameters[static_cast<std::size_t>(in.layout.weights(t) + r + c * in.layout.weight_rows())];
        w *= 0.02;
        if (kind == ListaKind::coupled) {
          w += step * d(r, c);
        } else if (c < m) {
          double gram = 0;
          for (std::int64_t i = 0; i < n; ++i) gram += d(i, r) * d(i, c);
          w += (r == c ? 1 : 0) - step * gram;
        } else {
          w += step * d(c - m, r);
        }
      }
    }
    for (std::int64_t j = 0; j < m; ++j) {
      double& theta = in.parameters[static_cast<std::size_t>(in.layout.thresholds(t) + j)];
      theta = j % 7 == 3 ? -0.05 : step * (1 + 0.3 * std::tanh(theta));
    }
    if (kind == ListaKind::momentum)
      in.parameters[static_cast<std::size_t>(in.layout.gamma(t))] = 0.2 + 0.1 * static_cast<double>(t);
  }
  return in;
}

/// The formulas of the contract in long double. @return the mean cost; codes [m, N] to `codes`
long double reference(const Inputs& in, std::vector<double>* codes = nullptr) {
  using Real = long double;
  const ListaLayout& layout = in.layout;
  const std::int64_t n = layout.rows, m = layout.atoms;
  Real total = 0;
  if (codes) codes->clear();
  for (std::int64_t b = 0; b < in.N; ++b) {
    std::vector<Real> z(static_cast<std::size_t>(m)), v = z, u = z, r(static_cast<std::size_t>(n));
    const auto x = [&](std::int64_t i) { return in.X[static_cast<std::size_t>(i + b * n)]; };
    const auto residual = [&] {
      for (std::int64_t i = 0; i < n; ++i) {
        Real& value = r[static_cast<std::size_t>(i)];
        value = x(i);
        for (std::int64_t j = 0; j < m; ++j)
          value -= in.D[static_cast<std::size_t>(i + j * n)] * z[static_cast<std::size_t>(j)];
      }
    };
    const Real lambda = in.lambda[static_cast<std::size_t>(b)];
    for (std::int64_t t = 0; t < layout.layers; ++t) {
      const double* const W = in.parameters.data() + layout.weights(t);
      residual();
      for (std::int64_t j = 0; j < m; ++j) {
        Real sum = 0;
        if (layout.kind == ListaKind::coupled) {
          sum = z[static_cast<std::size_t>(j)];
          for (std::int64_t i = 0; i < n; ++i) sum += W[i + j * n] * r[static_cast<std::size_t>(i)];
        } else {
          for (std::int64_t k = 0; k < m; ++k) sum += W[j + k * m] * z[static_cast<std::size_t>(k)];
          for (std::int64_t i = 0; i < n; ++i) sum += W[j + (m + i) * m] * x(i);
        }
        const Real threshold =
            lambda * std::max(in.parameters[static_cast<std::size_t>(layout.thresholds(t) + j)], 0.0);
        u[static_cast<std::size_t>(j)] =
            std::fabs(sum) <= threshold ? 0 : (sum > 0 ? sum - threshold : sum + threshold);
      }
      for (std::int64_t j = 0; j < m; ++j) {
        const auto at = static_cast<std::size_t>(j);
        if (layout.kind == ListaKind::momentum) {
          const Real gamma = in.parameters[static_cast<std::size_t>(layout.gamma(t))];
          v[at] = gamma * v[at] + (1 - gamma) * (u[at] - z[at]);
          z[at] += v[at];
        } else {
          z[at] = u[at];
        }
      }
    }
    residual();
    for (const Real value : r) total += value * value / 2;
    for (const Real value : z) total += lambda * std::fabs(value);
    if (codes) codes->insert(codes->end(), z.begin(), z.end());
  }
  return total / static_cast<Real>(in.N);
}

template <class T>
GuardedHost<T> matrix_of(const std::vector<double>& values, std::int64_t rows, std::int64_t cols,
                         std::int64_t padding) {
  return GuardedHost<T>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      padding);
}

/// The inputs on a device.
template <class T>
struct Placed {
  const Context& context;
  ListaLayout layout;
  testing::Guarded<T> D, X;
  Tensor<T> lambda, parameters;

  Placed(const Context& context, const Inputs& in)
      : context(context),
        layout(in.layout),
        D(to_device(context, matrix_of<T>(in.D, in.layout.rows, in.layout.atoms, 3))),
        X(to_device(context, matrix_of<T>(in.X, in.layout.rows, in.N, 5))),
        lambda(to_device(context, std::vector<T>(in.lambda.begin(), in.lambda.end()), in.N)),
        parameters(to_device(context, std::vector<T>(in.parameters.begin(), in.parameters.end()), in.layout.size())) {
    context.synchronize();
  }
  ListaNetwork<T> network() const { return {layout, D.matrix(), parameters.vector()}; }

  GuardedHost<T> codes() const {
    const GuardedHost<T> before(layout.atoms, lambda.size(), 4);
    const auto Z = to_device(context, before);
    const Tensor<std::byte> scratch(context, lista_network_scratch(context, network(), lambda.size(), false));
    lista_network_forward<T>(context, network(), X.matrix(), lambda.vector(), Z.matrix(), scratch.vector());
    const GuardedHost<T> after = to_host(context, Z);
    EXPECT_TRUE(guards_intact(before, after));
    return after;
  }
  std::vector<T> gradient(double* loss = nullptr) const {
    const Tensor<std::byte> scratch(context, lista_network_scratch(context, network(), lambda.size(), true));
    const Tensor<double> cost(context, 1);
    const GuardedHost<T> before(layout.size(), 1, 0);
    const auto found = to_device(context, before);
    lista_network_loss<T>(context, network(), X.matrix(), lambda.vector(), cost.vector(), found.vector(),
                          scratch.vector());
    if (loss) *loss = to_host(context, cost)[0];
    const GuardedHost<T> after = to_host(context, found);
    EXPECT_TRUE(guards_intact(before, after));
    std::vector<T> values;
    for (std::int64_t i = 0; i < layout.size(); ++i) values.push_back(after(i));
    return values;
  }
};

TEST_P(ListaNetworks, CodesAndLossAreThoseOfTheFormulas) {
  for (const ListaKind kind : kKinds) {
    for (const auto [n, m, N, layers] :
         {std::array<std::int64_t, 4>{7, 13, 5, 4}, {1, 1, 1, 1}, {20, 70, 67, 3}, {3, 5, 530, 2}}) {
      if (kThreadSanitizer && context().is_cuda() && N > 60) continue;  // takes minutes
      const Inputs in = make_inputs(kind, n, m, N, layers);
      std::vector<double> wanted;
      const auto cost = static_cast<double>(reference(in, &wanted));
      const Placed<double> in_double(context(), in);
      const Placed<float> in_float(context(), in);
      const GuardedHost<double> Z = in_double.codes();
      const GuardedHost<float> z = in_float.codes();
      for (std::int64_t b = 0; b < N; ++b) {
        for (std::int64_t j = 0; j < m; ++j) {
          ASSERT_NEAR(Z(j, b), wanted[static_cast<std::size_t>(j + b * m)], 1e-11) << j << " " << b;
          ASSERT_NEAR(z(j, b), wanted[static_cast<std::size_t>(j + b * m)], 1e-4) << j << " " << b;
        }
      }
      double loss = 0;
      in_double.gradient(&loss);
      EXPECT_NEAR(loss, cost, 1e-12 * cost);
      in_float.gradient(&loss);
      EXPECT_NEAR(loss, cost, 1e-5 * cost);
    }
  }
}

TEST_P(ListaNetworks, GradientsAreCentralDifferences) {
  for (const ListaKind kind : kKinds) {
    Inputs in = make_inputs(kind, 4, 7, 5, 3);
    double loss = 0;
    const std::vector<double> found = Placed<double>(context(), in).gradient(&loss);
    const std::vector<float> rounded = Placed<float>(context(), in).gradient();
    double largest = 0;
    for (const double value : found) largest = std::max(largest, std::fabs(value));
    ASSERT_GT(largest, 1e-3);
    for (std::size_t i = 0; i < found.size(); ++i) {
      constexpr double kH = 1e-9;  // so small that no entry comes over its threshold; costs are in long double
      const double at = in.parameters[i], right = at + kH, left = at - kH;
      in.parameters[i] = right;
      const long double above = reference(in);
      in.parameters[i] = left;
      const long double under = reference(in);
      in.parameters[i] = at;
      const auto wanted = static_cast<double>((above - under) / (static_cast<long double>(right) - left));
      EXPECT_NEAR(found[i], wanted, 1e-6 * largest) << static_cast<int>(kind) << " " << i;
      EXPECT_NEAR(rounded[i], wanted, 1e-4 * largest) << static_cast<int>(kind) << " " << i;
    }
  }
}

TEST_P(ListaNetworks, GradientsOfManyProblemsAreTheMeanOfTheirParts) {
  const std::int64_t all = kThreadSanitizer && context().is_cuda() ? 131 : 1301;
  for (const ListaKind kind : kKinds) {
    const Inputs in = make_inputs(kind, 6, 20, all, 3);
    double loss = 0;
    const std::vector<double> whole = Placed<double>(context(), in).gradient(&loss);
    std::vector<double> mean(whole.size());
    double mean_loss = 0;
    for (const auto [first, count] : {std::array<std::int64_t, 2>{0, all / 3}, {all / 3, all - all / 3}}) {
      Inputs part = in;
      part.N = count;
      part.X.assign(in.X.begin() + first * 6, in.X.begin() + (first + count) * 6);
      part.lambda.assign(in.lambda.begin() + first, in.lambda.begin() + first + count);
      double cost = 0;
      const std::vector<double> its = Placed<double>(context(), part).gradient(&cost);
      const double share = static_cast<double>(count) / static_cast<double>(all);
      for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += share * its[i];
      mean_loss += share * cost;
    }
    EXPECT_NEAR(loss, mean_loss, 1e-12 * loss);
    double largest = 0;
    for (const double value : whole) largest = std::max(largest, std::fabs(value));
    for (std::size_t i = 0; i < mean.size(); ++i) ASSERT_NEAR(whole[i], mean[i], 1e-12 * largest) << i;
  }
}

TEST_P(ListaNetworks, BitsDoNotDependOnThreads) {
  for (const ListaKind kind : kKinds) {
    const Inputs in = make_inputs(kind, 6, 20, kThreadSanitizer && context().is_cuda() ? 70 : 1301, 3);
    const Placed<float> placed(context(), in);
    const std::vector<float> once = placed.gradient();
    EXPECT_EQ(once, placed.gradient());
    if (context().is_cuda()) continue;
    const Context five = Context::cpu(5);
    EXPECT_EQ(once, Placed<float>(five, in).gradient());
    EXPECT_TRUE(testing::same_elements(placed.codes(), Placed<float>(five, in).codes()));
  }
}

/// A step over and under what a tile, a warp or the chip takes on CUDA: rows and atoms by 16 and 32, problems by 16, 32 and
/// 64 (on 4 multiprocessors), over 256 and 512 atoms, and so many rows that no tile of problems fits.
TEST_P(ListaNetworks, CodesAreRightOnBothSidesOfEveryEdge) {
  std::vector<std::array<std::int64_t, 4>> shapes = {
      {16, 16, 16, 2}, {17, 33, 15, 2}, {33, 15, 17, 2}, {31, 32, 65, 3}, {4000, 3, 2, 2}};
  if (!kThreadSanitizer)
    shapes.insert(shapes.end(), {{32, 31, 129, 2}, {64, 36, 130, 2}, {3, 256, 2, 2}, {70, 257, 2, 2}, {2, 513, 2, 2}});
  for (const ListaKind kind : kKinds) {
    for (const auto [n, m, N, layers] : shapes) {
      const Inputs in = make_inputs(kind, n, m, N, layers);
      std::vector<double> wanted;
      const auto cost = static_cast<double>(reference(in, &wanted));
      const Placed<float> placed(context(), in);
      const GuardedHost<float> Z = placed.codes();
      double largest = 0;
      for (const double value : wanted) largest = std::max(largest, std::fabs(value));
      for (std::int64_t b = 0; b < N; ++b)
        for (std::int64_t j = 0; j < m; ++j)
          ASSERT_NEAR(Z(j, b), wanted[static_cast<std::size_t>(j + b * m)], 1e-4 * std::max(largest, 1.0))
              << "kind " << static_cast<int>(kind) << ", " << n << " x " << m << ", " << j << " " << b;
      double loss = 0;
      placed.gradient(&loss);
      EXPECT_NEAR(loss, cost, 1e-5 * cost);
    }
  }
}

TEST_P(ListaNetworks, FirstLayerDoesNotReadWhatMeetsZeros) {
  for (const ListaKind kind : {ListaKind::free, ListaKind::momentum}) {
    for (const std::int64_t m : {13, kThreadSanitizer ? 14 : 520}) {  // 520: layer by layer on CUDA
      Inputs in = make_inputs(kind, 3, m, 2, 2);
      const Placed<float> clean(context(), in);
      std::fill_n(in.parameters.begin(), m * m, std::numeric_limits<double>::quiet_NaN());
      const Placed<float> other(context(), in);
      EXPECT_TRUE(testing::same_elements(clean.codes(), other.codes()));
      EXPECT_EQ(clean.gradient(), other.gradient());
    }
  }
}

TEST_P(ListaNetworks, ANaNStaysInItsProblem) {
  for (const ListaKind kind : kKinds) {
    Inputs in = make_inputs(kind, 5, 20, 18, 3);
    const GuardedHost<float> clean = Placed<float>(context(), in).codes();
    in.X[5 * 3 + 4] = std::numeric_limits<double>::quiet_NaN();
    const GuardedHost<float> Z = Placed<float>(context(), in).codes();
    for (std::int64_t b = 0; b < 18; ++b)
      for (std::int64_t j = 0; j < 20; ++j)
        ASSERT_TRUE(b == 3 ? std::isnan(Z(j, b)) : Z(j, b) == clean(j, b)) << j << " " << b;
  }
}

/// Whatever the tile that a problem is in, and whether things are multiples of 16 bytes or not.
TEST_P(ListaNetworksOnCuda, AColumnsBitsDependOnThatColumnAlone) {
  for (const ListaKind kind : kKinds) {
    const std::int64_t many = kThreadSanitizer ? 70 : 250;
    Inputs in = make_inputs(kind, 12, 36, many, 3);
    const Placed<float> all(context(), in);
    const GuardedHost<float> together = all.codes();
    const auto D = to_device(context(), std::vector<float>(in.D.begin(), in.D.end()), 12, 36);
    const auto X = to_device(context(), std::vector<float>(in.X.begin(), in.X.end()), 12, many);
    const ListaNetwork<float> network{in.layout, D.matrix(), all.parameters.vector()};
    const Tensor<std::byte> scratch(context(), lista_network_scratch(context(), network, many, false));
    for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, many}, {5, 40}, {61, 3}}) {
      const Tensor<float> Z(context(), 36, count);
      lista_network_forward(context(), network, X.matrix().columns(first, count),
                            all.lambda.vector().slice(first, count), Z.matrix(), scratch.vector());
      const std::vector<float> found = to_host(context(), Z);
      for (std::int64_t b = 0; b < count; ++b)
        for (std::int64_t j = 0; j < 36; ++j)
          ASSERT_TRUE(testing::same_bits(found[static_cast<std::size_t>(j + b * 36)], together(j, first + b)))
              << static_cast<int>(kind) << " " << j << " " << b;
    }
  }
}

/// Codes and gradients on the chip, and layer by layer in double.
struct QueuedLista {
  const Context& context;
  ListaLayout layout{ListaKind::momentum, 5, 12, 3};
  Tensor<float> D, X, lambda, parameters, Z, gradient;
  Tensor<double> D_double, X_double, lambda_double, parameters_double, Z_double, gradient_double, loss;
  Tensor<std::byte> scratch, scratch_double;

  template <class T>
  ListaNetwork<T> network(const Tensor<T>& its_D, const Tensor<T>& its_parameters) const {
    return {layout, its_D.matrix(), its_parameters.vector()};
  }
  explicit QueuedLista(const Context& context)
      : context(context),
        D(testing::numbers<float>(context, 5, 12, 1)),
        X(testing::numbers<float>(context, 5, 20, 2)),
        lambda(to_device(context, std::vector<float>(20, 0.25f), 20)),
        parameters(testing::numbers<float>(context, layout.size(), 1, 3)),
        Z(testing::numbers<float>(context, 12, 20, 4)),
        gradient(testing::numbers<float>(context, layout.size(), 1, 5)),
        D_double(testing::numbers<double>(context, 5, 12, 1)),
        X_double(testing::numbers<double>(context, 5, 20, 2)),
        lambda_double(to_device(context, std::vector<double>(20, 0.25), 20)),
        parameters_double(testing::numbers<double>(context, layout.size(), 1, 3)),
        Z_double(testing::numbers<double>(context, 12, 20, 4)),
        gradient_double(testing::numbers<double>(context, layout.size(), 1, 5)),
        loss(testing::numbers<double>(context, 2, 1, 6)),
        scratch(context, lista_network_scratch(context, network(D, parameters), 20, true)),
        scratch_double(context, lista_network_scratch(context, network(D_double, parameters_double), 20, true)) {}

  void queue() {
    const auto both = [&](const auto& net, const auto& x, const auto& penalty, const auto& codes, const auto& slopes,
                          VectorView<double> cost, const Tensor<std::byte>& bytes) {
      lista_network_forward(context, net, x.matrix(), penalty.vector(), codes.matrix(), bytes.vector());
      lista_network_loss(context, net, x.matrix(), penalty.vector(), cost, slopes.vector(), bytes.vector());
    };
    both(network(D, parameters), X, lambda, Z, gradient, loss.vector().slice(0, 1), scratch);
    both(network(D_double, parameters_double), X_double, lambda_double, Z_double, gradient_double,
         loss.vector().slice(1, 1), scratch_double);
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, Z, gradient, Z_double, gradient_double, loss);
  }
};

TEST_P(ListaNetworksOnCuda, RunOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedLista>();
}

TEST_P(ListaNetworks, RefusesWhatDoesNotFit) {
  const Inputs in = make_inputs(ListaKind::free, 5, 9, 3, 3);
  const Placed<double> placed(context(), in);
  const Tensor<std::byte> scratch(context(), lista_network_scratch(context(), placed.network(), 3, true));
  const Tensor<double> Z(context(), 9, 3), loss(context(), 1), gradient(context(), in.layout.size());
  const auto forward = [&](const ListaNetwork<double>& network, MatrixView<double> codes, VectorView<std::byte> bytes) {
    lista_network_forward<double>(context(), network, placed.X.matrix(), placed.lambda.vector(), codes, bytes);
  };
  ListaNetwork<double> none = placed.network(), other = placed.network();
  none.layout.layers = 0;
  other.layout.kind = ListaKind::momentum;  // which has a number more a layer
  EXPECT_THROW(forward(none, Z.matrix(), scratch.vector()), ShapeError);
  EXPECT_THROW(forward(other, Z.matrix(), scratch.vector()), ShapeError);
  EXPECT_THROW(forward(placed.network(), Z.matrix().columns(0, 2), scratch.vector()), ShapeError);
  EXPECT_THROW(forward(placed.network(), Z.matrix(), scratch.vector().slice(0, 8)), ShapeError);
  EXPECT_THROW(
      lista_network_loss<double>(context(), placed.network(), placed.X.matrix(), placed.lambda.vector(), loss.vector(),
                                 gradient.vector().slice(1, in.layout.size() - 1), scratch.vector()),
      ShapeError);
}

}  // namespace
}  // namespace shrinkwarp
