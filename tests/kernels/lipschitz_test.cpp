#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/lipschitz/lipschitz.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

class Lipschitz : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Lipschitz);

// Rayleigh quotient after many plain power iterations: never above L.
double lower_bound(const std::vector<double>& D, std::int64_t n, std::int64_t m) {
  std::vector<double> v(static_cast<std::size_t>(m), 1.0), r(static_cast<std::size_t>(n));
  for (std::size_t j = 0; j < v.size(); ++j) v[j] += 0.01 * static_cast<double>(j % 7);
  double quotient = 0;
  for (int round = 0; round < 3000; ++round) {
    double norm = 0;
    for (const double x : v) norm += x * x;
    for (double& x : v) x /= std::sqrt(norm);
    r.assign(r.size(), 0.0);
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t i = 0; i < n; ++i)
        r[static_cast<std::size_t>(i)] += D[static_cast<std::size_t>(i + j * n)] * v[static_cast<std::size_t>(j)];
    quotient = 0;
    for (const double x : r) quotient += x * x;
    for (std::int64_t j = 0; j < m; ++j) {
      v[static_cast<std::size_t>(j)] = 0;
      for (std::int64_t i = 0; i < n; ++i)
        v[static_cast<std::size_t>(j)] += D[static_cast<std::size_t>(i + j * n)] * r[static_cast<std::size_t>(i)];
    }
  }
  return quotient;
}

TEST_P(Lipschitz, IsAboveAndCloseForWideAndTall) {
  const Context& context = this->context();
  for (const auto& [n, m] : {std::pair<std::int64_t, std::int64_t>{7, 31}, {31, 7}, {1, 9}, {9, 1}, {16, 16}}) {
    std::vector<double> D(static_cast<std::size_t>(n * m));
    fill_normal(Context::cpu(1), 5, static_cast<std::uint64_t>(n), 0, VectorView<double>{D.data(), n * m, {}});
    const Tensor<double> on_device = testing::to_device(context, D, n, m);
    const double bound = lipschitz_bound(context, on_device.matrix());
    const double reached = lower_bound(D, n, m);
    EXPECT_GE(bound, reached * (1 - 1e-12)) << n << " x " << m;
    EXPECT_LE(bound, reached * (1 + 2e-6)) << n << " x " << m;
  }
}

TEST_P(Lipschitz, IsExactWhereEveryDirectionLeads) {
  const Context& context = this->context();
  // Orthogonal rows of equal norm 3: every eigenvalue of D D' is 9, the case in which a power converges slowest.
  const std::vector<double> D = {3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0};
  const Tensor<double> on_device = testing::to_device(context, D, 3, 4);
  const double bound = lipschitz_bound(context, on_device.matrix());
  EXPECT_GE(bound, 9);
  EXPECT_LE(bound, 9 * (1 + 2e-6));
}

TEST_P(Lipschitz, SurvivesSmallAndLargeUnits) {
  const Context& context = this->context();
  for (const double unit : {1e-13, 1e12}) {
    const std::vector<double> D = {unit, 0, 0, 2 * unit};
    const Tensor<double> on_device = testing::to_device(context, D, 2, 2);
    EXPECT_NEAR(lipschitz_bound(context, on_device.matrix()) / (4 * unit * unit), 1, 2e-6);
  }
}

TEST_P(Lipschitz, TakesZerosAndRefusesNaN) {
  const Context& context = this->context();
  const Tensor<double> zeros = Tensor<double>::zeros(context, 3, 4);
  EXPECT_EQ(lipschitz_bound(context, zeros.matrix()), 0);
  const Tensor<double> nan = testing::to_device<double>(context, {1.0, std::numeric_limits<double>::quiet_NaN()}, 1, 2);
  EXPECT_THROW(lipschitz_bound(context, nan.matrix()), ValueError);
  EXPECT_THROW(lipschitz_bound(context, zeros.matrix(), 0.0), ValueError);
}

}  // namespace
}  // namespace shrinkwarp
