// Groups of atoms with ISTA and FISTA: certificates against plain loops, optima against block coordinate descent, and closed
// forms.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/prepared_lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/random_problems.hpp"

namespace shrinkwarp {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

class Groups : public testing::OnRandomProblems {
 protected:
  // Groups of 2, 3, 6 and all atoms; weights from 1/2 to 2, one group left out; ridges; unpenalised groups.
  std::vector<Penalty> penalties() const {
    std::vector<Penalty> all(6);
    for (Penalty& penalty : all) penalty.group_size = 3;
    all[1].group_size = m;
    all[2].group_size = 2;
    all[2].ridge = 0.5 * static_cast<double>(n);
    all[3].group_size = 6;
    for (std::int64_t g = 0; g < m / 6; ++g)
      all[3].weights.push_back(g == 1 ? kInfinity : std::exp2(static_cast<double>(g % 3) - 1));
    for (std::int64_t g = 0; g < m / 3; ++g)
      all[4].weights.push_back(g == 2 ? 0 : g == 0 ? kInfinity : std::exp2(static_cast<double>(g % 3) - 1));
    all[5] = all[4];
    all[5].ridge = 0.2 * static_cast<double>(n);
    return all;
  }

  LassoOptions with(const Penalty& penalty, double gap = 1e-6) const {
    LassoOptions options;
    options.penalty = penalty;
    options.solver = Solver::fista;
    options.gap = gap;
    return options;
  }

  std::vector<double> residual(const double* x, const std::vector<double>& z) const {
    std::vector<double> r(x, x + n);
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t i = 0; i < n; ++i) r[at(i)] -= D[at(i + j * n)] * z[at(j)];
    return r;
  }
  // ||D_j .. D_(j + size - 1)' r - ridge z||, of the group that begins with atom j.
  double correlation(const Penalty& penalty, std::int64_t begin, const std::vector<double>& r,
                     const std::vector<double>& z) const {
    double square = 0;
    for (std::int64_t j = begin; j < begin + penalty.group_size; ++j) {
      double sum = -penalty.ridge * z[at(j)];
      for (std::int64_t i = 0; i < n; ++i) sum += D[at(i + j * n)] * r[at(i)];
      square += sum * sum;
    }
    return std::sqrt(square);
  }
  static double dot(const double* a, const double* b, std::int64_t size) {
    double sum = 0;
    for (std::int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
    return sum;
  }
  double objective(const Penalty& penalty, const double* x, const std::vector<double>& z, double lambda) const {
    const std::vector<double> r = residual(x, z);
    double sum = (dot(r.data(), r.data(), n) + penalty.ridge * dot(z.data(), z.data(), m)) / 2;
    for (std::int64_t j = 0; j < m; j += penalty.group_size) {
      const double norm = std::sqrt(dot(z.data() + j, z.data() + j, penalty.group_size));
      if (norm > 0) sum += lambda * penalty.weight_of(j) * norm;
    }
    return sum;
  }

  // The optimum by block coordinate descent: each group exactly but for a step of its own Lipschitz bound, to the end.
  double least_objective(const Penalty& penalty, const double* x, double lambda) const {
    const std::int64_t size = penalty.group_size;
    std::vector<double> z(at(m)), r(x, x + n), u(at(size));
    double last = kInfinity;
    for (int sweep = 0; sweep < 50000; ++sweep) {
      for (std::int64_t begin = 0; begin < m; begin += size) {
        const double weight = penalty.weight_of(begin);
        if (std::isinf(weight)) continue;
        double bound = 0;  // ||D_g||_F^2 >= ||D_g||_2^2
        for (std::int64_t k = 0; k < n * size; ++k) bound += D[at(begin * n + k)] * D[at(begin * n + k)];
        double norm = 0;
        for (std::int64_t k = 0; k < size; ++k) {
          u[at(k)] = z[at(begin + k)] + dot(&D[at((begin + k) * n)], r.data(), n) / bound;
          norm = std::hypot(norm, u[at(k)]);
        }
        const double factor = norm > 0 ? std::max(1 - lambda * weight / bound / norm, 0.0) : 0;
        for (std::int64_t k = 0; k < size; ++k) {
          const double next = factor * u[at(k)] / (1 + penalty.ridge / bound);
          const double change = next - z[at(begin + k)];
          if (change == 0) continue;
          for (std::int64_t i = 0; i < n; ++i) r[at(i)] -= D[at((begin + k) * n + i)] * change;
          z[at(begin + k)] = next;
        }
      }
      if (sweep % 100 != 99) continue;
      const double now = objective(penalty, x, z, lambda);
      if (last - now <= 1e-15 * dot(x, x, n)) return std::min(last, now);
      last = now;
    }
    return last;
  }

  void check(const Penalty& penalty, const LassoBatch& batch, double gap) const {
    ASSERT_EQ(batch.size(), N);
    for (std::int64_t i = 0; i < N; ++i) {
      const double* x = X.data() + i * n;
      const double energy = dot(x, x, n) / 2, lambda = batch.lambda[at(i)];
      const std::vector<double> z = code(batch, i), r = residual(x, z);
      const double primal = objective(penalty, x, z, lambda);
      EXPECT_TRUE(batch.converged[at(i)]) << i;
      EXPECT_LE(batch.dual_gap[at(i)], gap * energy) << i;
      EXPECT_NEAR(batch.objective[at(i)], primal, 1e-12 * energy) << i;
      const double least = least_objective(penalty, x, lambda);
      EXPECT_LE(primal - least, batch.dual_gap[at(i)] + 1e-13 * energy) << i;
      EXPECT_GE(primal - least, -1e-11 * energy) << i;  // the descent's own distance
      // The gap itself, where no group is unpenalised.
      double most = 0;
      bool free = false;
      for (std::int64_t j = 0; j < m; j += penalty.group_size) {
        free = free || penalty.weight_of(j) == 0;
        if (!free) most = std::max(most, correlation(penalty, j, r, z) / penalty.weight_of(j));
        for (std::int64_t k = j; k < j + penalty.group_size; ++k)
          EXPECT_TRUE(z[at(k)] == 0 || !std::isinf(penalty.weight_of(j))) << k;
      }
      if (free) continue;
      const double rr = dot(r.data(), r.data(), n) + penalty.ridge * dot(z.data(), z.data(), m);
      const double xr = dot(x, r.data(), n), s = std::min(xr / rr, lambda / most);
      EXPECT_NEAR(batch.dual_gap[at(i)], primal - s * xr + s * s * rr / 2, 1e-12 * energy) << i;
    }
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(Groups);

TEST_P(Groups, EveryClaimHolds) {
  for (const auto& [rows, atoms] : {std::pair{13, 36}, {21, 12}}) {
    if (context().is_cuda() && rows == 21) break;  // for the executor's sake
    make(rows, atoms, context().is_cuda() ? 1 : 3);
    for (const Penalty& penalty : penalties()) {
      SCOPED_TRACE(::testing::Message() << rows << " x " << atoms << ", groups of " << penalty.group_size << ", ridge "
                                        << penalty.ridge << ", weights " << penalty.weights.size());
      check(penalty, solve(LambdaRule::sample_fraction(0.6), with(penalty)), 1e-6);
      check(penalty, solve(LambdaRule::recording_fraction(0.2), with(penalty, 1e-9)), 1e-9);
    }
    LassoOptions options = with(penalties()[0]);
    options.solver = Solver::ista;
    check(options.penalty, solve(LambdaRule::sample_fraction(0.5), options), 1e-6);
    if (context().is_cuda()) continue;
    for (const Penalty& penalty : penalties()) {
      options = with(penalty, 1e-9);
      options.solver = Solver::working_set;
      check(penalty, solve(LambdaRule::recording_fraction(0.2), options), 1e-9);
    }
  }
}

// Under the identity each group is shrunk by itself.
TEST_P(Groups, TheIdentityHasAClosedForm) {
  make(12, 12, 4);
  for (std::int64_t j = 0; j < m; ++j)
    for (std::int64_t i = 0; i < n; ++i) D[at(i + j * n)] = i == j;
  Penalty penalty;
  penalty.group_size = 3;
  penalty.weights = {1, 0.5, kInfinity, 2};
  penalty.ridge = 0.25;
  const double lambda = 0.8;
  const LassoBatch batch = solve(LambdaRule::value(lambda), with(penalty, 1e-13));
  for (std::int64_t b = 0; b < N; ++b) {
    const std::vector<double> z = code(batch, b);
    for (std::int64_t j = 0; j < m; ++j) {
      const double* const group = &X[at(b * n + j / 3 * 3)];
      const double weight = penalty.weight_of(j), norm = std::sqrt(dot(group, group, 3));
      const double wanted =
          std::isinf(weight) ? 0 : std::max(1 - lambda * weight / norm, 0.0) * X[at(b * n + j)] / 1.25;
      // Strongly convex: 1/2 ||z - z*||^2 <= gap.
      EXPECT_NEAR(z[at(j)], wanted, 1e-6) << b << ", " << j;
      EXPECT_EQ(z[at(j)] == 0, wanted == 0) << b << ", " << j;
    }
  }
}

TEST_P(Groups, LambdaMaxIsWhereCodesEnd) {
  make(13, 36, 3);
  for (const Penalty& penalty : penalties()) {
    if (std::find(penalty.weights.begin(), penalty.weights.end(), 0.0) != penalty.weights.end()) continue;
    const LassoBatch over = solve(LambdaRule::sample_fraction(1.0001), with(penalty));
    EXPECT_TRUE(over.codes.values.empty());
    const LassoBatch under = solve(LambdaRule::sample_fraction(0.9), with(penalty, 1e-9));
    for (std::int64_t i = 0; i < N; ++i) {
      EXPECT_LT(under.codes.offsets[at(i)], under.codes.offsets[at(i + 1)]) << i;
      double most = 0;
      const std::vector<double> x(X.begin() + i * n, X.begin() + (i + 1) * n), zero(at(m));
      for (std::int64_t j = 0; j < m; j += penalty.group_size)
        most = std::max(most, correlation(penalty, j, x, zero) / penalty.weight_of(j));
      EXPECT_NEAR(over.lambda[at(i)], 1.0001 * most, 1e-13 * most) << i;
    }
  }
}

TEST_P(Groups, PreparedSolversGiveTheSameBitsAndStartsAreTaken) {
  make(13, 36, 4);
  const Dictionary dictionary(context(), {D.data(), n, m, n, {}});
  const Tensor<double> X_there = testing::to_device(context(), X, n, N), Z(context(), m, N);
  LassoOptions options = with(penalties()[3]);
  const LassoBatch batch = solve(LambdaRule::sample_fraction(0.3), options);
  PreparedLasso prepared(context(), dictionary, options, N);
  const PreparedResults& results = prepared.solve(X_there.matrix(), LambdaRule::sample_fraction(0.3), Z.matrix());
  const std::vector<double> codes = testing::to_host(context(), Z);
  for (std::int64_t i = 0; i < N; ++i) {
    EXPECT_EQ(results.dual_gap[i], batch.dual_gap[at(i)]);
    EXPECT_EQ(code(batch, i), std::vector<double>(codes.begin() + i * m, codes.begin() + (i + 1) * m));
  }
  options.initial = &batch.codes;
  const LassoBatch again = solve(LambdaRule::sample_fraction(0.3), options);
  for (const std::int64_t iterations : again.iterations) EXPECT_EQ(iterations, 0);
  EXPECT_EQ(again.codes.values, batch.codes.values);
}

TEST_P(Groups, LeastMemoryIsEnough) {
  make(20, 60, context().is_cuda() ? 1 : 3);
  for (const Penalty& penalty : penalties()) {
    LassoOptions options = with(penalty);
    options.memory_limit = least_memory(context(), n, m, Solver::fista, penalty);
    options.solver = Solver::fista;
    EXPECT_TRUE(solve(LambdaRule::sample_fraction(0.8), options).converged[0]);
    --options.memory_limit;
    EXPECT_THROW(solve(LambdaRule::sample_fraction(0.5), options), ValueError);
  }
}

TEST_P(Groups, NamesWhatItRefuses) {
  make(4, 6, 2);
  const auto refused = [&](LassoOptions options) -> std::string {
    try {
      solve(LambdaRule::value(1), options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto expect = [&](const LassoOptions& options, const char* says) {
    const std::string found = refused(options);
    EXPECT_NE(found.find(says), std::string::npos) << found;
  };
  Penalty penalty;
  penalty.group_size = 4;
  expect(with(penalty), "the dictionary has 6 atoms, wanted a multiple of the group size, 4");
  penalty.group_size = 0;
  expect(with(penalty), "the group size is 0, wanted >= 1");
  penalty.group_size = 3;
  penalty.nonnegative = true;
  expect(with(penalty), "the group size is 3, wanted 1 where codes are to be nonnegative");
  penalty.nonnegative = false;
  penalty.weights.assign(6, 1);
  expect(with(penalty), "weights: found 6 weights, wanted one for each of 2 groups");
  penalty.weights = {1, -1};
  expect(with(penalty), "weights: the weight of group 1 is -1, wanted 0, infinity or a number from");
}

}  // namespace
}  // namespace shrinkwarp
