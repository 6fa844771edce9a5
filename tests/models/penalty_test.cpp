// Weights, elastic nets and nonnegative codes: every claim against plain loops on the elastic net as a longer Lasso, for all
// solvers on all backends. Codes of other origin are test_penalty.py's business.
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

class WithPenalty : public testing::OnRandomProblems {
 protected:
  // From 1/4 to 4; one atom in seven is left out.
  std::vector<double> some_weights() const {
    std::vector<double> weights;
    for (std::int64_t j = 0; j < m; ++j)
      weights.push_back(j % 7 == 3 ? kInfinity : std::exp2(static_cast<double>(j % 5) - 2));
    return weights;
  }
  std::vector<Penalty> penalties() const {
    std::vector<Penalty> all(6);
    all[0].weights = some_weights();
    all[1].nonnegative = true;
    all[2].ridge = 0.5 * static_cast<double>(n);
    all[3].weights = some_weights();
    all[3].nonnegative = true;
    all[3].ridge = 0.1 * static_cast<double>(n);
    all[4].weights = some_weights();
    all[4].weights[0] = all[4].weights[static_cast<std::size_t>(m - 1)] = 0;
    all[5] = all[4];
    all[5].ridge = 0.2 * static_cast<double>(n);
    return all;
  }
  std::vector<Solver> solvers() {
    std::vector<Solver> all{Solver::ista, Solver::fista, Solver::working_set};
    if (!context().is_cuda()) all.push_back(Solver::plain_working_set);  // no different there
    return all;
  }

  // Objective and gap of code z: rows n .. n + m - 1 of the longer problem are -sqrt(ridge) z. What unpenalised atoms
  // correlate with the residual is projected away, atom by atom until it is (they are few, and not parallel).
  struct Truth {
    double objective, gap, energy;
  };
  Truth truth(const Penalty& penalty, const double* x, const std::vector<double>& z, double lambda) const {
    const auto weight = [&](std::int64_t j) {
      return penalty.weights.empty() ? 1.0 : penalty.weights[static_cast<std::size_t>(j)];
    };
    const auto d = [&](std::int64_t i, std::int64_t j) { return D[static_cast<std::size_t>(i + j * n)]; };
    std::vector<double> r(x, x + n), v = z;
    double magnitude = 0, squares = 0, energy = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      const double value = z[static_cast<std::size_t>(j)];
      if (value == 0) continue;
      EXPECT_TRUE(std::isfinite(weight(j)) && (value > 0 || !penalty.nonnegative)) << j;
      magnitude += weight(j) * std::fabs(value);
      squares += value * value;
      for (std::int64_t i = 0; i < n; ++i) r[static_cast<std::size_t>(i)] -= d(i, j) * value;
    }
    double primal = penalty.ridge * squares / 2 + lambda * magnitude;
    for (std::int64_t i = 0; i < n; ++i) {
      primal += r[static_cast<std::size_t>(i)] * r[static_cast<std::size_t>(i)] / 2;
      energy += x[i] * x[i] / 2;
    }
    const auto correlation = [&](std::int64_t j) {
      double sum = -penalty.ridge * v[static_cast<std::size_t>(j)];
      for (std::int64_t i = 0; i < n; ++i) sum += d(i, j) * r[static_cast<std::size_t>(i)];
      return sum;
    };
    for (int sweep = 0; sweep < 200; ++sweep) {
      for (std::int64_t j = 0; j < m; ++j) {
        if (weight(j) > 0) continue;
        double whole = penalty.ridge;
        for (std::int64_t i = 0; i < n; ++i) whole += d(i, j) * d(i, j);
        const double change = correlation(j) / whole;
        v[static_cast<std::size_t>(j)] += change;
        for (std::int64_t i = 0; i < n; ++i) r[static_cast<std::size_t>(i)] -= d(i, j) * change;
      }
    }
    double most = 0, rr = 0, xr = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      rr += penalty.ridge * v[static_cast<std::size_t>(j)] * v[static_cast<std::size_t>(j)];
      if (weight(j) > 0)
        most = std::max(most, (penalty.nonnegative ? correlation(j) : std::fabs(correlation(j))) / weight(j));
    }
    for (std::int64_t i = 0; i < n; ++i) {
      rr += r[static_cast<std::size_t>(i)] * r[static_cast<std::size_t>(i)];
      xr += x[i] * r[static_cast<std::size_t>(i)];
    }
    const double limit = most > 0 ? lambda / most : kInfinity;
    const double s = rr > 0 ? std::clamp(xr / rr, penalty.nonnegative ? 0 : -limit, limit) : 0;
    return {primal, primal - s * xr + s * s * rr / 2, energy};
  }

  void check(const Penalty& penalty, const LassoBatch& batch, double gap) const {
    ASSERT_EQ(batch.size(), N);
    for (std::size_t i = 0; i < batch.index.size(); ++i) {
      std::vector<double> z(static_cast<std::size_t>(m));
      for (auto k = batch.codes.offsets[i]; k < batch.codes.offsets[i + 1]; ++k)
        z[static_cast<std::size_t>(batch.codes.indices[static_cast<std::size_t>(k)])] =
            batch.codes.values[static_cast<std::size_t>(k)];
      const Truth found = truth(penalty, X.data() + static_cast<std::int64_t>(i) * n, z, batch.lambda[i]);
      EXPECT_TRUE(batch.converged[i]) << i;
      EXPECT_LE(found.gap, gap * found.energy * (1 + 1e-6) + 1e-13 * found.energy) << i;
      EXPECT_NEAR(batch.dual_gap[i], found.gap, 2e-12 * found.energy) << i;
      EXPECT_NEAR(batch.objective[i], found.objective, 2e-12 * found.energy) << i;
    }
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(WithPenalty);

/// Where other solvers would take long.
class WithPenaltyOnWorkingSets : public WithPenalty {};
INSTANTIATE_TEST_SUITE_P(, WithPenaltyOnWorkingSets, ::testing::Values("cpu1", "cpu3", "cuda"),
                         [](const ::testing::TestParamInfo<const char*>& info) { return std::string(info.param); });

TEST_P(WithPenalty, EveryClaimHolds) {
  for (const auto& [rows, atoms] : {std::pair{13, 37}, {21, 8}}) {
    make(rows, atoms, 5);
    for (const Penalty& penalty : penalties()) {
      for (const Solver solver : solvers()) {
        SCOPED_TRACE(::testing::Message()
                     << rows << " x " << atoms << ", ridge " << penalty.ridge << ", nonnegative " << penalty.nonnegative
                     << ", weights " << penalty.weights.size() << ", solver " << static_cast<int>(solver));
        LassoOptions options;
        options.penalty = penalty;
        options.solver = solver;
        check(penalty, solve(LambdaRule::sample_fraction(0.3), options), options.gap);
        // To a smaller gap too; on the executor working sets do that below.
        if (solver == Solver::ista || (context().is_cuda() && solver == Solver::working_set)) continue;
        options.gap = 1e-11;
        check(penalty, solve(LambdaRule::recording_fraction(0.1), options), options.gap);
      }
    }
  }
}

// Dictionaries too large to be read whole: passes in integers, blocks of atoms, many tiles.
TEST_P(WithPenaltyOnWorkingSets, EveryClaimHoldsOfManyAtoms) {
  if (context().is_cuda())
    make(40, 300, 2);
  else
    make(70, 1500, 6);
  for (const Penalty& penalty : penalties()) {
    for (const double fraction : {0.5, 0.1}) {
      if (context().is_cuda() && fraction > 0.1) continue;
      LassoOptions options;
      options.penalty = penalty;
      options.solver = Solver::working_set;
      if (context().is_cuda()) options.gap = 1e-11;
      check(penalty, solve(LambdaRule::sample_fraction(fraction), options), options.gap);
    }
  }
}

TEST_P(WithPenalty, PreparedSolversGiveTheSameBits) {
  make(13, 37, 5);
  const Dictionary dictionary(context(), {D.data(), n, m, n, {}});
  const Tensor<double> X_there = testing::to_device(context(), X, n, N), Z(context(), m, N);
  for (const Penalty& penalty : penalties()) {
    if (std::find(penalty.weights.begin(), penalty.weights.end(), 0.0) != penalty.weights.end()) continue;
    LassoOptions options;
    options.penalty = penalty;
    options.solver = Solver::fista;
    const LassoBatch batch = solve(LambdaRule::sample_fraction(0.3), options);
    PreparedLasso prepared(context(), dictionary, options, N);
    const PreparedResults& results = prepared.solve(X_there.matrix(), LambdaRule::sample_fraction(0.3), Z.matrix());
    const std::vector<double> codes = testing::to_host(context(), Z);
    for (std::size_t i = 0; i < batch.index.size(); ++i) {
      EXPECT_EQ(results.objective[static_cast<std::int64_t>(i)], batch.objective[i]);
      EXPECT_EQ(results.dual_gap[static_cast<std::int64_t>(i)], batch.dual_gap[i]);
      for (auto k = batch.codes.offsets[i]; k < batch.codes.offsets[i + 1]; ++k)
        EXPECT_EQ(codes[static_cast<std::size_t>(batch.codes.indices[static_cast<std::size_t>(k)]) +
                        i * static_cast<std::size_t>(m)],
                  batch.codes.values[static_cast<std::size_t>(k)]);
    }
  }
}

TEST_P(WithPenalty, UnitsDoNotMatter) {
  make(9, 20, 3);
  for (Penalty penalty : penalties()) {
    LassoOptions options;
    options.penalty = penalty;
    const LassoBatch one = solve(LambdaRule::sample_fraction(0.3), options);
    const std::vector<double> D_one = D, X_one = X;
    for (double& value : D) value *= 0x1p-60;
    for (double& value : X) value *= 0x1p40;
    options.penalty.ridge *= 0x1p-120;
    const LassoBatch other = solve(LambdaRule::sample_fraction(0.3), options);
    D = D_one, X = X_one;
    ASSERT_EQ(one.codes.indices, other.codes.indices);
    for (std::size_t k = 0; k < one.codes.values.size(); ++k)
      EXPECT_EQ(one.codes.values[k] * 0x1p100, other.codes.values[k]);
    for (std::size_t i = 0; i < one.objective.size(); ++i) {
      EXPECT_EQ(one.objective[i] * 0x1p80, other.objective[i]);
      EXPECT_EQ(one.dual_gap[i] * 0x1p80, other.dual_gap[i]);
    }
  }
}

// Squares of their norms and singular values are 0 or infinite in double.
TEST_P(WithPenalty, UnpenalisedAtomsAndOthersMayBeTinyOrHuge) {
  LassoOptions options;
  for (const int exponent : {-560, 560}) {
    make(9, 20, 3);
    options.penalty = penalties()[4];
    const LassoBatch one = solve(LambdaRule::sample_fraction(0.3), options);
    for (double& value : D) value *= std::exp2(exponent);
    for (double& value : X) value *= 0x1p-100;
    const LassoBatch other = solve(LambdaRule::sample_fraction(0.3), options);
    ASSERT_EQ(one.codes.indices, other.codes.indices);
    for (std::size_t k = 0; k < one.codes.values.size(); ++k) {
      // LAPACK scales such matrices by what is no power of two.
      const double value = one.codes.values[k];
      EXPECT_NEAR(value, other.codes.values[k] * std::exp2(exponent + 100), 1e-9 * std::fabs(value));
    }
  }
}

TEST_P(WithPenalty, BadRowsAreNamedWithUnpenalisedAtomsToo) {
  make(9, 20, 4);
  X[static_cast<std::size_t>(2 * n + 5)] = std::numeric_limits<double>::quiet_NaN();
  LassoOptions options;
  options.penalty = penalties()[4];
  try {
    solve(LambdaRule::value(1), options);
    FAIL() << "wanted an error";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("entry 5 of row 2 is nan"), std::string::npos) << error.what();
  }
}

TEST_P(WithPenalty, LeastMemoryIsEnough) {
  make(20, 60, 3);
  for (const Penalty& penalty : penalties()) {
    LassoOptions options;
    options.penalty = penalty;
    options.solver = Solver::fista;
    options.memory_limit = least_memory(context(), n, m, options.solver, penalty);
    check(penalty, solve(LambdaRule::sample_fraction(0.5), options), options.gap);
    --options.memory_limit;
    EXPECT_THROW(solve(LambdaRule::sample_fraction(0.5), options), ValueError);
  }
}

TEST_P(WithPenalty, NamesWhatItRefuses) {
  make(4, 6, 2);
  const auto refused = [&](const Penalty& penalty) -> std::string {
    LassoOptions options;
    options.penalty = penalty;
    try {
      solve(LambdaRule::value(1), options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const auto expect = [&](const Penalty& penalty, const char* says) {
    const std::string found = refused(penalty);
    EXPECT_NE(found.find(says), std::string::npos) << found;
  };
  Penalty penalty;
  penalty.weights.assign(5, 1);
  penalty.weights_name = "W.npy";
  expect(penalty, "W.npy: found 5 weights, wanted one for each of 6 atoms");
  penalty.weights.assign(6, 1);
  for (const double bad : {-1.0, std::numeric_limits<double>::quiet_NaN(), -kInfinity, 1e-19, 1e19}) {
    penalty.weights[4] = bad;
    expect(penalty, "W.npy: the weight of atom 4 is ");
  }
  penalty.weights[4] = 0;
  penalty.nonnegative = true;
  expect(penalty, "the weight of atom 4 is 0, wanted > 0 where codes are to be nonnegative");
  penalty = {};
  for (const double bad : {-1.0, std::numeric_limits<double>::quiet_NaN(), kInfinity, 1e35}) {
    penalty.ridge = bad;
    expect(penalty, "the ridge is ");
  }
  penalty = {};
  penalty.weights.assign(6, 0);
  LassoOptions options;
  options.penalty = penalty;
  const Dictionary dictionary(context(), {D.data(), n, m, n, {}});
  EXPECT_THROW(PreparedLasso(context(), dictionary, options, 1), ValueError);
}

}  // namespace
}  // namespace shrinkwarp
