// Lambdas on the exact path, and lambda = 0: what the rules promise, against solves for the lambda that was found and plain
// loops.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/random_problems.hpp"

namespace shrinkwarp {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class OnPath : public testing::OnRandomProblems {
 protected:
  LassoOptions options;

  LassoBatch solve(const LambdaRule& rule) const { return OnRandomProblems::solve(rule, options); }
  // By the solver, whose device does not matter.
  LassoBatch solve_at(const std::vector<double>& lambda) const {
    LassoOptions tight = options;
    tight.gap = 1e-12;
    const Context host = Context::cpu(1);
    const Dictionary dictionary(host, {D.data(), n, m, n, {}});
    return solve_lasso(host, dictionary, {X.data(), n, N, n, {}}, LambdaRule::per_problem(lambda), tight);
  }

  std::vector<double> residual(const std::vector<double>& z, std::int64_t i) const {
    std::vector<double> r(X.begin() + i * n, X.begin() + (i + 1) * n);
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t k = 0; k < n; ++k)
        r[static_cast<std::size_t>(k)] -= D[static_cast<std::size_t>(k + j * n)] * z[static_cast<std::size_t>(j)];
    return r;
  }
  static double norm(const std::vector<double>& v) {
    double sum = 0;
    for (const double value : v) sum += value * value;
    return std::sqrt(sum);
  }
  double magnitude(const std::vector<double>& z) const {
    double sum = 0;
    for (std::size_t j = 0; j < z.size(); ++j)
      if (z[j] != 0) sum += (options.penalty.weights.empty() ? 1 : options.penalty.weights[j]) * std::fabs(z[j]);
    return sum;
  }
  static std::int64_t nonzeros(const LassoBatch& batch, std::int64_t i) {
    return batch.codes.offsets[static_cast<std::size_t>(i) + 1] - batch.codes.offsets[static_cast<std::size_t>(i)];
  }
  static void expect_converged(const LassoBatch& batch) {
    for (std::int64_t i = 0; i < batch.size(); ++i) EXPECT_TRUE(batch.converged[static_cast<std::size_t>(i)]) << i;
  }
  // Codes are those of the solver for the lambdas that were found.
  void expect_solved(const LassoBatch& batch) {
    const LassoBatch again = solve_at(batch.lambda);
    for (std::int64_t i = 0; i < N; ++i) {
      const std::vector<double> a = code(batch, i), b = code(again, i);
      for (std::size_t j = 0; j < a.size(); ++j) EXPECT_NEAR(a[j], b[j], 1e-6 * (1 + norm(a))) << i << ' ' << j;
    }
  }
};

SHRINKWARP_ON_EVERY_CONTEXT(OnPath);

TEST_P(OnPath, TheRadiusIsReachedAndCertified) {
  make(15, 45, 9);
  for (const double radius : {0.02, 0.3, 0.8}) {
    const LassoBatch batch = solve(LambdaRule::l1_radius(radius));
    expect_converged(batch);
    for (std::int64_t i = 0; i < N; ++i) {
      const std::vector<double> z = code(batch, i), r = residual(z, i);
      EXPECT_NEAR(magnitude(z), radius, 1e-13 * radius);
      EXPECT_NEAR(batch.objective[static_cast<std::size_t>(i)], norm(r) * norm(r) / 2, 1e-12 * norm(r) * norm(r));
      // The gap at theta = r is no smaller than that at the best multiple.
      double most = 0, along = 0;
      for (std::int64_t j = 0; j < m; ++j) {
        double c = 0;
        for (std::int64_t k = 0; k < n; ++k)
          c += D[static_cast<std::size_t>(k + j * n)] * r[static_cast<std::size_t>(k)];
        most = std::max(most, std::fabs(c));
        along += c * z[static_cast<std::size_t>(j)];
      }
      EXPECT_LE(batch.dual_gap[static_cast<std::size_t>(i)], radius * most - along + 1e-12 * n);
      EXPECT_NEAR(batch.lambda[static_cast<std::size_t>(i)], most, 1e-12 * most);
    }
    expect_solved(batch);
  }
}

TEST_P(OnPath, ARadiusThatIsNoneTakesLeastSquares) {
  make(20, 6, 3);  // codes of any radius leave a residual
  const LassoBatch batch = solve(LambdaRule::l1_radius(1e3));
  expect_converged(batch);
  const LassoBatch free = solve(LambdaRule::value(0));
  for (std::int64_t i = 0; i < N; ++i) {
    EXPECT_EQ(batch.lambda[static_cast<std::size_t>(i)], 0);
    for (std::size_t j = 0; j < 6; ++j) EXPECT_NEAR(code(batch, i)[j], code(free, i)[j], 1e-12);
  }
}

TEST_P(OnPath, TheResidualComesDownToTheNorm) {
  make(15, 45, 9);
  for (int kind = 0; kind < 3; ++kind) {
    options = {};
    options.penalty.nonnegative = kind == 1;
    options.penalty.ridge = kind == 2 ? 2 : 0;
    const double wanted = kind == 1 ? 2.8 : 2;
    const LassoBatch batch = solve(LambdaRule::residual_norm(wanted));
    expect_converged(batch);
    for (std::int64_t i = 0; i < N; ++i) {
      const double whole = norm(residual(std::vector<double>(static_cast<std::size_t>(m), 0.0), i));
      EXPECT_NEAR(norm(residual(code(batch, i), i)), std::min(wanted, whole), 1e-12 * whole);
    }
    expect_solved(batch);
  }
}

TEST_P(OnPath, ANoiseLevelOverTheObservationTakesLambdaMax) {
  make(10, 20, 2);
  X[0] = 100;
  const LassoBatch batch = solve(LambdaRule::residual_norm(30));
  const LassoBatch zero = solve(LambdaRule::sample_fraction(1));
  EXPECT_GT(nonzeros(batch, 0), 0);
  EXPECT_EQ(nonzeros(batch, 1), 0);
  EXPECT_EQ(batch.lambda[1], zero.lambda[1]);
}

TEST_P(OnPath, ANoiseLevelThatNoCodeHasIsRefused) {
  make(20, 6, 3);
  LambdaRule rule = LambdaRule::residual_norm(1e-3);
  rule.name = "--residual-norm";
  try {
    solve(rule);
    FAIL() << "not refused";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("the path of row 0 ends at ||x - D z|| = "), std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("wanted a --residual-norm over that, found 0.001"), std::string::npos)
        << error.what();
  }
}

TEST_P(OnPath, CodesHaveAsManyNonzerosAsAllowed) {
  make(15, 45, 9);
  for (const std::int64_t count : {0, 1, 5, 12}) {
    const LassoBatch batch = solve(LambdaRule::max_nonzeros(count));
    expect_converged(batch);
    for (std::int64_t i = 0; i < N; ++i) EXPECT_EQ(nonzeros(batch, i), count);
    expect_solved(batch);
    std::vector<double> less = batch.lambda;
    for (double& lambda : less) lambda *= 1 - 1e-6;
    const LassoBatch more = solve_at(less);
    for (std::int64_t i = 0; i < N; ++i) EXPECT_EQ(nonzeros(more, i), count + 1) << i;
  }
}

TEST_P(OnPath, MoreNonzerosThanThereAreEndNearLeastSquares) {
  make(20, 6, 3);
  const LassoBatch batch = solve(LambdaRule::max_nonzeros(100));
  expect_converged(batch);
  const LassoBatch free = solve(LambdaRule::value(0));
  for (std::int64_t i = 0; i < N; ++i)
    for (std::size_t j = 0; j < 6; ++j) EXPECT_NEAR(code(batch, i)[j], code(free, i)[j], 1e-5);
}

TEST_P(OnPath, WeightsAreHeeded) {
  make(15, 45, 5);
  for (std::int64_t j = 0; j < m; ++j)
    options.penalty.weights.push_back(j % 7 == 3 ? kInfinity : std::exp2(static_cast<double>(j % 5) - 2));
  for (const LambdaRule& rule :
       {LambdaRule::l1_radius(0.2), LambdaRule::residual_norm(2.5), LambdaRule::max_nonzeros(6)}) {
    const LassoBatch batch = solve(rule);
    expect_converged(batch);
    for (std::int64_t i = 0; i < N; ++i) {
      if (rule.kind == LambdaRule::Kind::l1_radius) {
        EXPECT_NEAR(magnitude(code(batch, i)), 0.2, 1e-13);
      }
      if (rule.kind == LambdaRule::Kind::residual_norm) {
        EXPECT_NEAR(norm(residual(code(batch, i), i)), 2.5, 1e-12);
      }
      if (rule.kind == LambdaRule::Kind::max_nonzeros) {
        EXPECT_EQ(nonzeros(batch, i), 6);
      }
    }
    expect_solved(batch);
  }
}

TEST_P(OnPath, LargeDictionariesAreLookedAtInIntegers) {
  make(70, 1100, 5);
  for (std::int64_t j = 1; j < m; ++j)  // neighbours are alike
    for (std::int64_t k = 0; k < n; ++k)
      D[static_cast<std::size_t>(k + j * n)] =
          0.8 * D[static_cast<std::size_t>(k + (j - 1) * n)] + 0.6 * D[static_cast<std::size_t>(k + j * n)];
  const LassoBatch batch = solve(LambdaRule::max_nonzeros(30));
  expect_converged(batch);
  for (std::int64_t i = 0; i < N; ++i) EXPECT_EQ(nonzeros(batch, i), 30);
  expect_solved(batch);
}

TEST_P(OnPath, BitsDoNotDependOnNeighboursOrUnits) {
  make(15, 45, 40);
  for (const LambdaRule& rule :
       {LambdaRule::l1_radius(0.3), LambdaRule::residual_norm(2), LambdaRule::max_nonzeros(7)}) {
    const LassoBatch all = solve(rule);
    const std::vector<double> kept = X;
    X.assign(kept.begin() + 17 * n, kept.begin() + 18 * n);
    N = 1;
    const LassoBatch one = solve(rule);
    EXPECT_EQ(code(all, 17), code(one, 0));
    EXPECT_EQ(all.lambda[17], one.lambda[0]);
    EXPECT_EQ(all.dual_gap[17], one.dual_gap[0]);
    for (double& value : D) value *= 0x1p-40;
    LambdaRule scaled = rule;
    if (rule.kind == LambdaRule::Kind::l1_radius) scaled.number *= 0x1p40;
    const LassoBatch units = solve(scaled);
    EXPECT_EQ(units.lambda[0], one.lambda[0] * 0x1p-40);
    for (double& value : D) value *= 0x1p40;
    X = kept;
    N = 40;
  }
}

TEST_P(OnPath, RowsOfZerosAndLimitsOfSteps) {
  make(10, 20, 3);
  std::fill_n(X.begin() + n, n, 0.0);
  for (const LambdaRule& rule :
       {LambdaRule::l1_radius(0.3), LambdaRule::residual_norm(1), LambdaRule::max_nonzeros(7)}) {
    LassoBatch batch = solve(rule);
    expect_converged(batch);
    EXPECT_EQ(nonzeros(batch, 1), 0);
    EXPECT_EQ(batch.dual_gap[1], 0);
    options.max_iterations = 0;
    batch = solve(rule);
    EXPECT_FALSE(batch.converged[0]);
    EXPECT_EQ(batch.iterations[0], 0);
    EXPECT_GT(batch.dual_gap[0], 0);
    options.max_iterations = LassoOptions{}.max_iterations;
  }
}

TEST_P(OnPath, DuplicatesAndDependentAtoms) {
  make(8, 24, 4);
  for (std::int64_t j = 0; j < 8; ++j) {
    std::copy_n(D.begin() + j * n, n, D.begin() + (8 + j) * n);
    std::fill_n(D.begin() + (16 + j) * n, n, 0.0);
  }
  for (std::int64_t k = 0; k < n; ++k)
    D[static_cast<std::size_t>(k + 16 * n)] = D[static_cast<std::size_t>(k)] - D[static_cast<std::size_t>(k + n)];
  expect_converged(solve(LambdaRule::l1_radius(0.5)));
  expect_converged(solve(LambdaRule::residual_norm(0.5)));
  const LassoBatch batch = solve(LambdaRule::max_nonzeros(4));
  expect_converged(batch);
  for (std::int64_t i = 0; i < N; ++i) EXPECT_EQ(nonzeros(batch, i), 4);
}

// Whole numbers with ties and copies, smooth bumps, and atoms that are nearly others. What converged keeps its promise; what
// is nearly dependent may be given up.
TEST_P(OnPath, WhatConvergedKeepsItsPromise) {
  std::int64_t converged = 0, all = 0;
  for (int kind = 0; kind < 3; ++kind) {
    make(kind == 1 ? 20 : 6, kind == 1 ? 200 : 14, 12);
    for (std::size_t k = 0; k < D.size(); ++k) {
      const auto i = static_cast<double>(k % static_cast<std::size_t>(n)),
                 j = static_cast<double>(k / static_cast<std::size_t>(n));
      const double far = i / static_cast<double>(n - 1) - j / static_cast<double>(m - 1);
      if (kind == 0) D[k] = std::nearbyint(D[k]);
      if (kind == 1) D[k] = std::exp(-far * far / 0.02);
      if (kind == 2 && j >= 7) D[k] = D[k - static_cast<std::size_t>(7 * n)] + 1e-6 * D[k];
    }
    if (kind == 0)
      for (double& x : X) x = std::nearbyint(x);
    for (const bool nonnegative : {false, true}) {
      options.penalty.nonnegative = nonnegative;
      for (const LambdaRule& rule : {LambdaRule::l1_radius(1), LambdaRule::l1_radius(1e4), LambdaRule::residual_norm(2),
                                     LambdaRule::max_nonzeros(3)}) {
        LassoBatch batch;
        try {
          batch = solve(rule);
        } catch (const ValueError&) {
          EXPECT_EQ(rule.kind, LambdaRule::Kind::residual_norm);
          continue;
        }
        for (std::int64_t i = 0; i < N; ++i, ++all) {
          const std::vector<double> z = code(batch, i);
          if (rule.kind == LambdaRule::Kind::l1_radius) {
            EXPECT_LE(magnitude(z), rule.number * (1 + 1e-11));
          }
          if (nonnegative) {
            EXPECT_GE(*std::min_element(z.begin(), z.end()), 0);
          }
          if (rule.kind == LambdaRule::Kind::max_nonzeros) {
            EXPECT_LE(nonzeros(batch, i), 3);
          }
          if (!batch.converged[static_cast<std::size_t>(i)]) continue;
          ++converged;
          if (rule.kind == LambdaRule::Kind::residual_norm) {
            EXPECT_LE(norm(residual(z, i)), 2 * (1 + 1e-8)) << kind << ' ' << i;
          }
        }
      }
    }
  }
  EXPECT_GT(converged, 3 * all / 4);
}

TEST_P(OnPath, ACancelIsHeardInTheMiddle) {
  make(10, 400, 4);
  CancelToken token;
  options.cancel = &token;
  options.penalty.ridge = 100;
  token.cancel();
  EXPECT_THROW(solve(LambdaRule::max_nonzeros(300)), Cancelled);
}

TEST_P(OnPath, WhatDoesNotGoTogetherIsRefused) {
  make(4, 6, 1);
  const auto refused = [&](const LambdaRule& rule, const std::string& says) {
    try {
      solve(rule);
      ADD_FAILURE() << says << " is not refused";
    } catch (const ValueError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  };
  options.solver = Solver::fista;
  refused(LambdaRule::l1_radius(1), "another solver");
  options.solver = Solver::automatic;
  options.penalty.group_size = 2;
  refused(LambdaRule::max_nonzeros(1), "groups of 2 atoms");
  options.penalty.group_size = 1;
  const SparseCodes none{{0, 0}, {}, {}};
  options.initial = &none;
  refused(LambdaRule::max_nonzeros(1), "initial codes");
  options.initial = nullptr;
  options.penalty.ridge = 1;
  refused(LambdaRule::l1_radius(1), "a ridge with an l1 radius");
  options.penalty.ridge = 0;
  options.penalty.weights.assign(6, 1);
  options.penalty.weights[2] = 0;
  refused(LambdaRule::residual_norm(1), "a weight of 0");
  options.penalty.weights.clear();
  refused(LambdaRule::l1_radius(0), "found 0, wanted a finite number > 0");
  refused(LambdaRule::residual_norm(-1), "found -1, wanted a finite number > 0");
  refused(LambdaRule::max_nonzeros(-1), "found -1, wanted a finite number >= 0");
  options.penalty.nonnegative = true;
  refused(LambdaRule::value(0), "found 0, wanted > 0 where codes are to be nonnegative");
}

TEST_P(OnPath, LambdaZeroIsLeastSquaresOfLeastNorm) {
  for (const auto& [rows, atoms] : std::vector<std::pair<std::int64_t, std::int64_t>>{{6, 20}, {20, 6}, {1, 1}}) {
    make(rows, atoms, 4);
    if (atoms > 3) std::copy_n(D.begin(), n, D.begin() + 3 * n);  // and dependent
    const LassoBatch batch = solve(LambdaRule::value(0));
    expect_converged(batch);
    for (std::int64_t i = 0; i < N; ++i) {
      const std::vector<double> z = code(batch, i), r = residual(z, i);
      EXPECT_EQ(batch.lambda[static_cast<std::size_t>(i)], 0);
      EXPECT_NEAR(batch.objective[static_cast<std::size_t>(i)], norm(r) * norm(r) / 2, 1e-13 * n);
      for (std::int64_t j = 0; j < m; ++j) {
        double c = 0;
        for (std::int64_t k = 0; k < n; ++k)
          c += D[static_cast<std::size_t>(k + j * n)] * r[static_cast<std::size_t>(k)];
        EXPECT_NEAR(c, 0, 1e-12 * n);
      }
      if (atoms > 3) {
        EXPECT_NEAR(z[0], z[3], 1e-13);
      }
    }
  }
}

TEST_P(OnPath, LambdasOfAFileMayBeZero) {
  make(8, 20, 5);
  const std::vector<double> lambdas{1, 0, 2, 0, 1};
  std::int64_t done = 0, total = 0;
  options.progress = [&](const Progress& progress) {
    done = progress.done;
    total = progress.total;
  };
  const LassoBatch batch = solve(LambdaRule::per_problem(lambdas));
  EXPECT_EQ(done, 5);
  EXPECT_EQ(total, 5);
  expect_converged(batch);
  EXPECT_EQ(batch.lambda, lambdas);
  const LassoBatch free = solve(LambdaRule::value(0));
  EXPECT_EQ(code(batch, 1), code(free, 1));
  EXPECT_LT(nonzeros(batch, 2), 8);

  options.penalty.weights.assign(20, 1);
  options.penalty.weights[5] = kInfinity;
  options.penalty.ridge = 0.5;
  options.solver = Solver::fista;
  const LassoBatch ridge = solve(LambdaRule::per_problem(lambdas));
  expect_converged(ridge);
  for (const std::int64_t i : {1, 3}) {  // D'r = ridge z, but for the atom that is left out
    const std::vector<double> z = code(ridge, i), r = residual(z, i);
    EXPECT_EQ(z[5], 0);
    for (std::int64_t j = 0; j < m; ++j) {
      double c = 0;
      for (std::int64_t k = 0; k < n; ++k) c += D[static_cast<std::size_t>(k + j * n)] * r[static_cast<std::size_t>(k)];
      EXPECT_NEAR(j == 5 ? 0 : c, 0.5 * z[static_cast<std::size_t>(j)], 1e-12);
    }
  }
}

}  // namespace
}  // namespace shrinkwarp
