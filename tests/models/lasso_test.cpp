// The solver against mathematics: every claim of a result is recomputed here by plain loops in double that share
// nothing with the kernels.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/pace.hpp>
#include <shrinkwarp/models/lasso/prepared_lasso.hpp>
#include <shrinkwarp/models/lasso/stream.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

struct Problems {
  std::int64_t n, m, N;
  std::vector<double> D, X;
  MatrixView<const double> dictionary() const { return {D.data(), n, m, n, {}}; }
  MatrixView<const double> observations() const { return {X.data(), n, N, n, {}}; }
};

Problems random_problems(std::int64_t n, std::int64_t m, std::int64_t N, std::uint64_t seed = 1) {
  Problems problems{n, m, N, std::vector<double>(static_cast<std::size_t>(n * m)),
                    std::vector<double>(static_cast<std::size_t>(n * N))};
  const Context host = Context::cpu(1);
  fill_normal(host, seed, 0, 0, VectorView<double>{problems.D.data(), n * m, {}});
  fill_normal(host, seed, 1, 0, VectorView<double>{problems.X.data(), n * N, {}});
  return problems;
}

std::vector<double> dense(const SparseCodes& codes, std::int64_t problem, std::int64_t m) {
  std::vector<double> z(static_cast<std::size_t>(m), 0.0);
  const auto p = static_cast<std::size_t>(problem);
  for (auto k = codes.offsets[p]; k < codes.offsets[p + 1]; ++k)
    z[static_cast<std::size_t>(codes.indices[static_cast<std::size_t>(k)])] = codes.values[static_cast<std::size_t>(k)];
  return z;
}

struct Certificate {
  double objective, gap, energy, lambda_max;
};

Certificate certificate(const Problems& problems, std::int64_t problem, const std::vector<double>& z, double lambda) {
  const double* x = problems.X.data() + problem * problems.n;
  std::vector<double> r(x, x + problems.n);
  double l1 = 0;
  for (std::int64_t j = 0; j < problems.m; ++j) {
    const double value = z[static_cast<std::size_t>(j)];
    l1 += std::fabs(value);
    for (std::int64_t i = 0; i < problems.n; ++i)
      r[static_cast<std::size_t>(i)] -= problems.D[static_cast<std::size_t>(i + j * problems.n)] * value;
  }
  double linf = 0, lambda_max = 0, rr = 0, xr = 0, xx = 0;
  for (std::int64_t j = 0; j < problems.m; ++j) {
    double dr = 0, dx = 0;
    for (std::int64_t i = 0; i < problems.n; ++i) {
      dr += problems.D[static_cast<std::size_t>(i + j * problems.n)] * r[static_cast<std::size_t>(i)];
      dx += problems.D[static_cast<std::size_t>(i + j * problems.n)] * x[i];
    }
    linf = std::max(linf, std::fabs(dr));
    lambda_max = std::max(lambda_max, std::fabs(dx));
  }
  for (std::int64_t i = 0; i < problems.n; ++i) {
    rr += r[static_cast<std::size_t>(i)] * r[static_cast<std::size_t>(i)];
    xr += r[static_cast<std::size_t>(i)] * x[i];
    xx += x[i] * x[i];
  }
  const double limit = linf > 0 ? lambda / linf : std::numeric_limits<double>::infinity();
  const double s = rr > 0 ? std::clamp(xr / rr, -limit, limit) : 0;
  const double primal = rr / 2 + lambda * l1;
  return {primal, primal - (s * xr - s * s * rr / 2), xx / 2, lambda_max};
}

void check_claims(const Problems& problems, const LassoBatch& batch, double gap) {
  ASSERT_EQ(batch.size(), problems.N);
  ASSERT_EQ(batch.codes.size(), problems.N);
  std::vector<std::int64_t> all(static_cast<std::size_t>(problems.N));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  ASSERT_EQ(batch.index, all);
  for (std::int64_t i = 0; i < problems.N; ++i) {
    const auto at = static_cast<std::size_t>(i);
    for (auto k = batch.codes.offsets[at] + 1; k < batch.codes.offsets[at + 1]; ++k)
      ASSERT_LT(batch.codes.indices[static_cast<std::size_t>(k - 1)], batch.codes.indices[static_cast<std::size_t>(k)]);
    const Certificate truth = certificate(problems, i, dense(batch.codes, i, problems.m), batch.lambda[at]);
    EXPECT_TRUE(batch.converged[at]) << "problem " << i;
    EXPECT_LE(truth.gap, gap * truth.energy * (1 + 1e-6) + 1e-13 * truth.energy) << "problem " << i;
    EXPECT_NEAR(batch.dual_gap[at], truth.gap, 1e-12 * truth.energy) << "problem " << i;
    EXPECT_NEAR(batch.objective[at], truth.objective, 1e-12 * truth.energy) << "problem " << i;
  }
}

bool same_bits(const LassoBatch& a, const LassoBatch& b) {
  return a.index == b.index && a.codes.offsets == b.codes.offsets && a.codes.indices == b.codes.indices &&
         a.codes.values == b.codes.values && a.lambda == b.lambda && a.objective == b.objective &&
         a.dual_gap == b.dual_gap && a.iterations == b.iterations && a.converged == b.converged;
}

class Lasso : public testing::OnContext {
 protected:
  LassoBatch solve(const Problems& problems, const LambdaRule& rule, const LassoOptions& options = {}) {
    const Context& context = this->context();
    const Dictionary dictionary(context, problems.dictionary());
    return solve_lasso(context, dictionary, problems.observations(), rule, options);
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(Lasso);

TEST_P(Lasso, IdentityDictionaryGivesSoftThresholding) {
  Problems problems = random_problems(5, 5, 3);
  std::fill(problems.D.begin(), problems.D.end(), 0.0);
  for (std::int64_t j = 0; j < 5; ++j) problems.D[static_cast<std::size_t>(j * 6)] = 1;
  LassoOptions options;
  options.gap = 1e-12;
  const LassoBatch batch = solve(problems, LambdaRule::value(0.5), options);
  for (std::int64_t i = 0; i < 3; ++i) {
    const std::vector<double> z = dense(batch.codes, i, 5);
    for (std::int64_t j = 0; j < 5; ++j) {
      const double x = problems.X[static_cast<std::size_t>(j + 5 * i)];
      EXPECT_NEAR(z[static_cast<std::size_t>(j)], std::copysign(std::max(std::fabs(x) - 0.5, 0.0), x), 1e-6);
    }
  }
}

// On CUDA the iterations between two certificates are one launch for a dictionary that fits, and two products each for one
// that does not; so the profile says.
TEST_P(Lasso, IterationsStayOnTheChipWhereTheDictionaryFits) {
  for (const std::int64_t m : {30, 513}) {
    const Problems problems = random_problems(8, m, m == 30 ? 9 : 2);
    for (const auto& [solver, restart] :
         {std::pair<Solver, bool>{Solver::fista, true}, {Solver::fista, false}, {Solver::ista, true}}) {
      if (m > 500 && !(solver == Solver::fista && restart)) continue;
      LassoOptions options;
      options.solver = solver;
      options.restart = restart;
      options.gap = 1e-3;
      const LassoBatch found = solve(problems, LambdaRule::sample_fraction(0.6), options);
      check_claims(problems, found, 1e-3);
      Profile profile;
      options.profile = &profile;
      EXPECT_TRUE(same_bits(solve(problems, LambdaRule::sample_fraction(0.6), options), found));
      const auto ran = [&](const std::string& phase) {
        return std::any_of(profile.phases().begin(), profile.phases().end(),
                           [&](const PhaseTotals& totals) { return totals.name == phase; });
      };
      const bool on_chip = context().is_cuda() && m == 30;
      EXPECT_EQ(ran("iterations on chip"), on_chip) << m << " atoms";
      EXPECT_EQ(ran("gradient step"), !on_chip) << m << " atoms";
    }
  }
}

TEST_P(Lasso, EveryClaimHolds) {
  const Problems problems = random_problems(13, 37, 9);
  std::vector<Solver> solvers{Solver::ista, Solver::fista, Solver::automatic};
  if (!context().is_cuda()) solvers.push_back(Solver::working_set);
  for (const Solver solver : solvers) {
    for (const double fraction : {0.9, 0.3}) {
      LassoOptions options;
      options.solver = solver;
      check_claims(problems, solve(problems, LambdaRule::sample_fraction(fraction), options), options.gap);
    }
  }
  LassoOptions options;
  options.restart = false;
  check_claims(problems, solve(problems, LambdaRule::sample_fraction(0.3), options), options.gap);
}

TEST_P(Lasso, GoesOnInDoubleForSmallGaps) {
  const Problems problems = random_problems(11, 29, 5);
  for (const double gap : {1e-9, 1e-13}) {
    LassoOptions options;
    options.gap = gap;
    check_claims(problems, solve(problems, LambdaRule::sample_fraction(0.2), options), gap);
  }
}

TEST_P(Lasso, SatisfiesTheOptimalityConditions) {
  const Problems problems = random_problems(9, 20, 2);
  LassoOptions options;
  options.gap = 1e-13;
  const double fraction = 0.3;
  const LassoBatch batch = solve(problems, LambdaRule::sample_fraction(fraction), options);
  for (std::int64_t i = 0; i < problems.N; ++i) {
    const std::vector<double> z = dense(batch.codes, i, problems.m);
    const double lambda = batch.lambda[static_cast<std::size_t>(i)];
    EXPECT_NEAR(lambda, fraction * certificate(problems, i, z, lambda).lambda_max, 1e-12 * lambda);
    for (std::int64_t j = 0; j < problems.m; ++j) {
      double correlation = 0;
      for (std::int64_t row = 0; row < problems.n; ++row) {
        double r = problems.X[static_cast<std::size_t>(row + i * problems.n)];
        for (std::int64_t k = 0; k < problems.m; ++k)
          r -= problems.D[static_cast<std::size_t>(row + k * problems.n)] * z[static_cast<std::size_t>(k)];
        correlation += problems.D[static_cast<std::size_t>(row + j * problems.n)] * r;
      }
      if (z[static_cast<std::size_t>(j)] != 0) {
        EXPECT_NEAR(correlation, std::copysign(lambda, z[static_cast<std::size_t>(j)]), 1e-5 * lambda);
      } else {
        EXPECT_LE(std::fabs(correlation), lambda * (1 + 1e-5));
      }
    }
  }
}

TEST_P(Lasso, IstaDescendsAndStopsAtTheIterationAsked) {
  const Problems problems = random_problems(8, 24, 3);
  std::vector<double> last(3, std::numeric_limits<double>::infinity());
  for (const std::int64_t iterations : {0, 1, 2, 3, 10, 24, 25, 26, 60}) {
    LassoOptions options;
    options.solver = Solver::ista;
    options.gap = 2e-14;
    options.max_iterations = iterations;
    const LassoBatch batch = solve(problems, LambdaRule::sample_fraction(0.1), options);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(batch.iterations[i], iterations);
      EXPECT_FALSE(batch.converged[i]);
      EXPECT_LE(batch.objective[i], last[i] * (1 + 1e-6));
      EXPECT_EQ(batch.codes.offsets[i + 1] == 0, iterations == 0);
      last[i] = batch.objective[i];
    }
  }
}

TEST_P(Lasso, FirstIterationsAreIsta) {
  // y_0 = z_0 and the first momentum is 0: two iterations of FISTA are two of ISTA.
  const Problems problems = random_problems(8, 24, 3);
  LassoOptions options;
  options.gap = 2e-14;
  options.max_iterations = 2;
  options.solver = Solver::ista;
  const LassoBatch ista = solve(problems, LambdaRule::sample_fraction(0.1), options);
  options.solver = Solver::fista;
  EXPECT_TRUE(same_bits(ista, solve(problems, LambdaRule::sample_fraction(0.1), options)));
  options.max_iterations = 3;
  const LassoBatch fista = solve(problems, LambdaRule::sample_fraction(0.1), options);
  options.solver = Solver::ista;
  EXPECT_FALSE(same_bits(solve(problems, LambdaRule::sample_fraction(0.1), options), fista));
}

TEST_P(Lasso, BitsDoNotDependOnNeighboursOrMemory) {
  const Problems problems = random_problems(10, 33, 70);
  const LambdaRule rule = LambdaRule::sample_fraction(0.2);
  LassoOptions options;
  options.solver = Solver::fista;
  options.gap = 1e-8;
  const LassoBatch whole = solve(problems, rule, options);
  EXPECT_TRUE(same_bits(whole, solve(problems, rule, options)));

  LassoOptions small = options;
  small.memory_limit = least_memory(context(), 10, 33);
  EXPECT_TRUE(same_bits(whole, solve(problems, rule, small)));

  // Problem 41 alone.
  Problems alone = problems;
  alone.N = 1;
  alone.X.assign(problems.X.begin() + 410, problems.X.begin() + 420);
  const LassoBatch single = solve(alone, rule, options);
  EXPECT_EQ(dense(single.codes, 0, 33), dense(whole.codes, 41, 33));
  EXPECT_EQ(single.dual_gap[0], whole.dual_gap[41]);
  EXPECT_EQ(single.iterations[0], whole.iterations[41]);
}

TEST_P(Lasso, LambdaRules) {
  const Problems problems = random_problems(7, 15, 4);
  std::vector<double> lambda_max(4);
  for (std::int64_t i = 0; i < 4; ++i)
    lambda_max[static_cast<std::size_t>(i)] = certificate(problems, i, std::vector<double>(15, 0.0), 1.0).lambda_max;
  const double largest = *std::max_element(lambda_max.begin(), lambda_max.end());
  const LassoBatch recording = solve(problems, LambdaRule::recording_fraction(0.4));
  const LassoBatch value = solve(problems, LambdaRule::value(0.7));
  const LassoBatch each = solve(problems, LambdaRule::per_problem({0.1, 0.2, 0.3, 0.4}));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(recording.lambda[i], 0.4 * largest, 1e-12 * largest);
    EXPECT_EQ(value.lambda[i], 0.7);
    EXPECT_DOUBLE_EQ(each.lambda[i], 0.1 * static_cast<double>(i + 1));
  }
  check_claims(problems, each, 1e-6);
}

TEST_P(Lasso, LambdaFromLambdaMaxOnGivesZero) {
  const Problems problems = random_problems(7, 15, 4);
  const LassoBatch batch = solve(problems, LambdaRule::sample_fraction(1.0));
  EXPECT_TRUE(batch.codes.values.empty());
  EXPECT_EQ(batch.iterations, std::vector<std::int64_t>(4, 0));
  check_claims(problems, batch, 1e-6);
  EXPECT_TRUE(solve(problems, LambdaRule::value(1e6)).codes.values.empty());
}

TEST_P(Lasso, ZeroAtomsZeroObservationsAndEmptyBatchesAreLegal) {
  Problems problems = random_problems(6, 12, 3);
  std::fill_n(problems.D.begin() + 4 * 6, 6, 0.0);  // atom 4
  std::fill_n(problems.X.begin() + 1 * 6, 6, 0.0);  // observation 1
  const LassoBatch batch = solve(problems, LambdaRule::sample_fraction(0.2));
  check_claims(problems, batch, 1e-6);
  EXPECT_EQ(batch.codes.offsets[1], batch.codes.offsets[2]);
  EXPECT_EQ(batch.lambda[1], 0);
  EXPECT_EQ(batch.dual_gap[1], 0);
  EXPECT_TRUE(std::none_of(batch.codes.indices.begin(), batch.codes.indices.end(), [](int j) { return j == 4; }));

  problems.N = 0;
  problems.X.clear();
  EXPECT_EQ(solve(problems, LambdaRule::sample_fraction(0.2)).size(), 0);

  Problems nothing = random_problems(4, 3, 2);
  std::fill(nothing.D.begin(), nothing.D.end(), 0.0);
  const LassoBatch zeros = solve(nothing, LambdaRule::value(0.1));
  EXPECT_TRUE(zeros.codes.values.empty());
  check_claims(nothing, zeros, 1e-6);
}

TEST_P(Lasso, SmallestShapes) {
  check_claims(random_problems(1, 1, 1), solve(random_problems(1, 1, 1), LambdaRule::sample_fraction(0.5)), 1e-6);
  check_claims(random_problems(20, 3, 2), solve(random_problems(20, 3, 2), LambdaRule::sample_fraction(0.1)), 1e-6);
  check_claims(random_problems(1, 30, 2), solve(random_problems(1, 30, 2), LambdaRule::sample_fraction(0.1)), 1e-6);
}

TEST_P(Lasso, UnitsDoNotMatter) {
  const Problems problems = random_problems(9, 25, 4);
  const LassoBatch reference = solve(problems, LambdaRule::sample_fraction(0.3));
  for (const double unit : {std::exp2(-43), std::exp2(400), std::exp2(-500)}) {
    Problems scaled = problems;
    for (double& value : scaled.D) value *= std::exp2(-30);
    for (double& value : scaled.X) value *= unit;
    const LassoBatch batch = solve(scaled, LambdaRule::sample_fraction(0.3));
    ASSERT_EQ(batch.codes.indices, reference.codes.indices);
    EXPECT_EQ(batch.iterations, reference.iterations);
    for (std::size_t k = 0; k < batch.codes.values.size(); ++k)
      EXPECT_EQ(batch.codes.values[k], reference.codes.values[k] * unit * std::exp2(30));
  }
}

// In a batch's own units a lambda has a largest value, and digits to lose; the one that is delivered is the one asked for.
TEST_P(Lasso, LambdaIsDeliveredAsItWasAsked) {
  Problems problems = random_problems(9, 25, 4);
  for (double& value : problems.D) value *= std::exp2(-60);
  for (double& value : problems.X) value *= std::exp2(-300);
  EXPECT_EQ(solve(problems, LambdaRule::value(1e300)).lambda, std::vector<double>(4, 1e300));
  const std::vector<double> plain = solve(problems, LambdaRule::sample_fraction(1)).lambda;
  const LassoBatch large = solve(problems, LambdaRule::sample_fraction(std::exp2(200)));
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(large.lambda[i], plain[i] * std::exp2(200));
  EXPECT_TRUE(large.codes.values.empty());

  for (double& value : problems.D) value *= std::exp2(160);
  for (double& value : problems.X) value *= std::exp2(400);
  LassoOptions options;
  options.max_iterations = 25;
  EXPECT_EQ(solve(problems, LambdaRule::value(3e-290), options).lambda, std::vector<double>(4, 3e-290));
}

// A code that the subnormal range rounds is not the one that was certified.
TEST_P(Lasso, RefusesCodesUnderTheRangeOfFloat64) {
  Problems problems = random_problems(9, 25, 4);
  for (double& value : problems.D) value *= std::exp2(600);
  for (double& value : problems.X) value *= std::exp2(-460);
  try {
    solve(problems, LambdaRule::sample_fraction(0.3));
    FAIL() << "codes of 2^-1060";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("leaves the range of float64"), std::string::npos) << error.what();
  }
  EXPECT_EQ(solve(problems, LambdaRule::sample_fraction(1.5)).size(), 4);  // their codes are 0
}

// A fraction of lambda_max that is 0 only because float64 has no smaller number would be another problem.
TEST_P(Lasso, RefusesFractionsUnderTheRangeOfFloat64) {
  Problems problems = random_problems(9, 25, 4);
  for (double& value : problems.D) value *= std::exp2(-1000);
  for (double& value : problems.X) value *= std::exp2(-60);
  EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(0.3)), ValueError);  // lambda_max is under it
  EXPECT_THROW(solve(problems, LambdaRule::recording_fraction(0.3)), ValueError);
  for (double& value : problems.X) value *= std::exp2(60);
  EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(1e-20)), ValueError);  // lambda is
  EXPECT_THROW(solve(problems, LambdaRule::recording_fraction(1e-20)), ValueError);
}

// Also those on their way from float to double.
TEST_P(Lasso, RefusesCodesUnderTheRangeOfFloat64BetweenItsStages) {
  Problems problems = random_problems(9, 25, 4);
  for (double& value : problems.D) value *= std::exp2(800);
  for (double& value : problems.X) value *= std::exp2(-460);
  LassoOptions options;
  options.solver = Solver::fista;
  options.gap = 1e-10;
  EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(0.3), options), ValueError);
  const Context& context = this->context();
  const Dictionary dictionary(context, problems.dictionary());
  if (context.is_cuda()) return;
  PreparedLasso prepared(context, dictionary, options, problems.N);
  std::vector<double> Z(static_cast<std::size_t>(25 * problems.N));
  EXPECT_THROW(
      prepared.solve(problems.observations(), LambdaRule::sample_fraction(0.3), {Z.data(), 25, problems.N, 25, {}}),
      ValueError);
}

// An objective that is 0 only because float64 has no smaller number would bound nothing.
TEST_P(Lasso, RefusesObjectivesUnderTheRangeOfFloat64) {
  Problems problems = random_problems(9, 25, 4);
  for (double& value : problems.X) value *= std::exp2(-540);
  EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(0.3)), ValueError);
}

TEST_P(Lasso, WarmStartFromTheSolutionNeedsNoIteration) {
  const Problems problems = random_problems(9, 25, 6);
  std::vector<Solver> solvers{Solver::ista, Solver::fista};
  if (!context().is_cuda()) solvers.push_back(Solver::working_set);
  LassoOptions options;
  for (const Solver solver : solvers) {
    options.solver = solver;
    options.initial = nullptr;
    const LassoBatch cold = solve(problems, LambdaRule::sample_fraction(0.3), options);
    options.initial = &cold.codes;
    const LassoBatch warm = solve(problems, LambdaRule::sample_fraction(0.3), options);
    EXPECT_EQ(warm.iterations, std::vector<std::int64_t>(6, 0));
    check_claims(problems, warm, options.gap);
  }
  const SparseCodes too_few;
  options.initial = &too_few;
  EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(0.3), options), ShapeError);
}

TEST_P(Lasso, ReportsProgressAndCanBeCancelled) {
  const Problems problems = random_problems(9, 25, 6);
  LassoOptions options;
  std::vector<std::int64_t> done;
  options.progress = [&](const Progress& progress) {
    EXPECT_EQ(progress.total, 6);
    done.push_back(progress.done);
  };
  solve(problems, LambdaRule::sample_fraction(0.3), options);
  ASSERT_FALSE(done.empty());
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 6);

  CancelToken token;
  token.cancel();
  options.cancel = &token;
  EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(0.3), options), Cancelled);
  EXPECT_THROW(solve(problems, LambdaRule::recording_fraction(0.3), options), Cancelled);
}

// Notes what it is given: every problem once, ascending within a batch.
class NotingSink : public CodeSink {
 public:
  void append(const LassoBatch& batch) override {
    EXPECT_GT(batch.size(), 0);
    EXPECT_TRUE(std::is_sorted(batch.index.begin(), batch.index.end()));
    for (const std::int64_t i : batch.index) EXPECT_TRUE(seen.insert(i).second) << "problem " << i << " came twice";
    all.append(batch);
  }
  std::set<std::int64_t> seen;
  MemorySink all;
};

class RowsOf : public ObservationSource {
 public:
  explicit RowsOf(const Problems& problems) : problems_(problems) {}
  std::int64_t size() const override { return problems_.N; }
  std::int64_t dimension() const override { return problems_.n; }
  void read(std::int64_t first, MatrixView<double> X) override {
    for (std::int64_t b = 0; b < X.cols; ++b)
      std::copy_n(problems_.X.data() + (first + b) * problems_.n, problems_.n, X.column(b));
  }

 private:
  const Problems& problems_;
};

// Rows that lie on the context's device, in double and in float, with gaps between them.
TEST_P(Lasso, ReadsRowsOfTheDevice) {
  Problems problems = random_problems(6, 18, 40);
  for (double& x : problems.X) x = static_cast<float>(x);
  const LassoBatch expected = solve(problems, LambdaRule::sample_fraction(0.3));
  const Dictionary dictionary(context(), problems.dictionary());
  const auto solved_from = [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t ld = problems.n + 3;
    std::vector<T> padded(static_cast<std::size_t>(ld * problems.N), T(-1));
    for (std::int64_t b = 0; b < problems.N; ++b)
      for (std::int64_t i = 0; i < problems.n; ++i)
        padded[static_cast<std::size_t>(i + b * ld)] = static_cast<T>(problems.observations()(i, b));
    const Tensor<T> X(context(), ld, problems.N);
    to_device(context(), padded, X.vector());
    DeviceSource<T> source(context(), MatrixView<const T>{X.data(), problems.n, problems.N, ld, context().device()});
    MemorySink sink;
    solve_lasso(context(), dictionary, source, LambdaRule::sample_fraction(0.3), {}, sink);
    return sink.in_order();
  };
  EXPECT_TRUE(same_bits(solved_from(double{}), expected));
  EXPECT_TRUE(same_bits(solved_from(float{}), expected));
  const MatrixView<const float> elsewhere{nullptr, 6, 0, 6, {DeviceType::cuda, 7}};
  EXPECT_THROW(DeviceSource<float>(context(), elsewhere), DeviceError);
}

// Cancels at the first report that shows finished problems; each of them has been delivered by then.
TEST_P(Lasso, StopsInTheMiddleAndHasDeliveredWhatIsFinished) {
  const Problems problems = random_problems(6, 18, 9000);
  const Context& context = this->context();
  const Dictionary dictionary(context, problems.dictionary());
  for (const double fraction : {1.5, 0.1}) {  // solved as they come in, and not
    for (const double gap : {1e-3, 1e-12}) {  // in float, and in double
      CancelToken token;
      LassoOptions options;
      options.gap = gap;
      options.memory_limit = least_memory(context, 6, 18) + (1 << 18);
      options.cancel = &token;
      std::int64_t done = 0;
      options.progress = [&](const Progress& progress) {
        done = progress.done;
        if (done > 0) token.cancel();
      };
      RowsOf source(problems);
      NotingSink sink;
      EXPECT_THROW(solve_lasso(context, dictionary, source, LambdaRule::sample_fraction(fraction), options, sink),
                   Cancelled);
      EXPECT_GT(done, 0);
      EXPECT_LT(done, problems.N);
      EXPECT_EQ(static_cast<std::int64_t>(sink.seen.size()), done);
    }
  }
}

// Counts how often each row is read.
class CountedRows : public RowsOf {
 public:
  explicit CountedRows(const Problems& problems) : RowsOf(problems), reads(static_cast<std::size_t>(problems.N)) {}
  void read(std::int64_t first, MatrixView<double> X) override {
    RowsOf::read(first, X);
    for (std::int64_t b = 0; b < X.cols; ++b) ++reads[static_cast<std::size_t>(first + b)];
    entered = std::max(entered, first + X.cols);
  }
  std::vector<int> reads;
  std::int64_t entered = 0;
};

// Problems that are quick run many side by side. When they turn slow, by a clock that says so, all but some start again
// later, and their results are what they would have been.
TEST_P(Lasso, PutsBackWhatTurnsOutSlow) {
  const Problems problems = random_problems(3, 5, context().is_cuda() ? 1200 : 8000);
  const Dictionary dictionary(context(), problems.dictionary());
  const LambdaRule rule = LambdaRule::sample_fraction(0.05);
  LassoOptions options;
  options.solver = Solver::ista;  // several rounds each
  const LassoBatch plain = solve_lasso(context(), dictionary, problems.observations(), rule, options);

  CountedRows source(problems);
  NotingSink sink;
  double now = 0;
  std::int64_t most_in_flight = 0;
  const auto clock = [&] {  // asked twice a round
    const std::int64_t in_flight = source.entered - static_cast<std::int64_t>(sink.seen.size());
    most_in_flight = std::max(most_in_flight, in_flight);
    now += most_in_flight > 600 ? 0.5 : 1e-3;
    return now;
  };
  stream_proximal_gradient(context(), dictionary, source, rule, options, sink, clock);
  EXPECT_EQ(static_cast<std::int64_t>(sink.seen.size()), problems.N);
  EXPECT_GT(most_in_flight, 600);
  EXPECT_TRUE(std::any_of(source.reads.begin(), source.reads.end(), [](int count) { return count > 1; }));
  EXPECT_TRUE(same_bits(sink.all.in_order(), plain));
}

TEST_P(Lasso, RunsNoMoreThanTheSureNumberOfSlowProblems) {
  const Problems problems = random_problems(3, 5, 1500);
  const Dictionary dictionary(context(), problems.dictionary());
  CountedRows source(problems);
  NotingSink sink;
  double now = 0;
  std::int64_t most_in_flight = 0;
  const auto clock = [&] {
    most_in_flight = std::max(most_in_flight, source.entered - static_cast<std::int64_t>(sink.seen.size()));
    return now += 1;
  };
  stream_proximal_gradient(context(), dictionary, source, LambdaRule::sample_fraction(0.1), {}, sink, clock);
  EXPECT_EQ(static_cast<std::int64_t>(sink.seen.size()), problems.N);
  EXPECT_GT(most_in_flight, 100);
  EXPECT_LE(most_in_flight, Pace::kSure);
  EXPECT_TRUE(std::all_of(source.reads.begin(), source.reads.end(), [](int count) { return count == 1; }));
}

// A warm start within float's reach but not within the gap is handed over at once: no more wait than fit.
TEST_P(Lasso, WaitingForDoubleIsBounded) {
  const Problems problems = random_problems(3, 5, 1500);
  const Dictionary dictionary(context(), problems.dictionary());
  const LambdaRule rule = LambdaRule::sample_fraction(0.1);
  LassoOptions options;
  const LassoBatch near = solve_lasso(context(), dictionary, problems.observations(), rule, options);
  options.gap = 1e-10;
  options.initial = &near.codes;
  options.memory_limit = least_memory(context(), 3, 5) + (1 << 16);
  CountedRows source(problems);
  class WatchingSink : public NotingSink {
   public:
    explicit WatchingSink(const CountedRows& source) : source_(source) {}
    void append(const LassoBatch& batch) override {
      NotingSink::append(batch);
      most = std::max(most, source_.entered - static_cast<std::int64_t>(seen.size()));
    }
    std::int64_t most = 0;

   private:
    const CountedRows& source_;
  } sink(source);
  solve_lasso(context(), dictionary, source, rule, options, sink);
  EXPECT_EQ(static_cast<std::int64_t>(sink.seen.size()), problems.N);
  EXPECT_LT(sink.most, 1000);
}

TEST_P(Lasso, SkipsWhatIsToldToBeDone) {
  const Problems problems = random_problems(9, 25, 32);
  const Context& context = this->context();
  const Dictionary dictionary(context, problems.dictionary());
  LassoOptions options;
  const LassoBatch cold =
      solve_lasso(context, dictionary, problems.observations(), LambdaRule::sample_fraction(0.3), {});
  const auto skip = [](std::int64_t i) { return i < 7 || i % 3 == 1 || i == 31; };
  for (const bool warm : {false, true}) {
    for (const LambdaRule& rule : {LambdaRule::sample_fraction(0.3), LambdaRule::recording_fraction(0.3),
                                   LambdaRule::per_problem(std::vector<double>(32, 0.4))}) {
      options.initial = warm ? &cold.codes : nullptr;
      options.skip = nullptr;
      const LassoBatch whole = solve_lasso(context, dictionary, problems.observations(), rule, options);
      std::int64_t total = 0;
      options.skip = skip;
      options.progress = [&](const Progress& progress) { total = progress.total; };
      const LassoBatch part = solve_lasso(context, dictionary, problems.observations(), rule, options);
      options.progress = nullptr;
      EXPECT_EQ(total, part.size());
      std::size_t at = 0;
      for (std::int64_t i = 0; i < problems.N; ++i) {
        if (skip(i)) continue;
        const auto w = static_cast<std::size_t>(i);
        ASSERT_LT(at, part.index.size());
        EXPECT_EQ(part.index[at], i);
        EXPECT_EQ(dense(part.codes, static_cast<std::int64_t>(at), 25), dense(whole.codes, i, 25));
        EXPECT_EQ(part.lambda[at], whole.lambda[w]);
        EXPECT_EQ(part.dual_gap[at], whole.dual_gap[w]);
        EXPECT_EQ(part.iterations[at], whole.iterations[w]);
        ++at;
      }
      EXPECT_EQ(at, part.index.size());
    }
  }
  options.skip = [](std::int64_t) { return true; };
  options.initial = nullptr;
  EXPECT_EQ(solve_lasso(context, dictionary, problems.observations(), LambdaRule::sample_fraction(0.3), options).size(),
            0);
}

/// Gives a solve every second range of five problems, as if another took the rest.
class EverySecond : public ProblemShare {
 public:
  explicit EverySecond(std::int64_t remainder) : remainder_(remainder) {}
  void begin(std::int64_t problems) override {
    ++passes;
    problems_ = problems;
    next_ = remainder_;
  }
  Range next() override {
    const std::int64_t first = 5 * std::exchange(next_, next_ + 2);
    return {std::min(first, problems_), std::min(first + 5, problems_)};
  }
  std::int64_t fair(std::int64_t least) const override { return least; }
  int passes = 0;

 private:
  std::int64_t remainder_, problems_ = 0, next_ = 0;
};

TEST_P(Lasso, SharesItsProblems) {
  const Problems problems = random_problems(9, 25, 62);
  const Context& context = this->context();
  const Dictionary dictionary(context, problems.dictionary());
  std::vector<double> some_zero(62, 0.4);
  for (std::size_t i = 0; i < some_zero.size(); i += 3) some_zero[i] = 0;
  for (const Solver solver : {Solver::fista, Solver::working_set}) {
    for (const LambdaRule& rule :
         {LambdaRule::sample_fraction(0.3), LambdaRule::per_problem(some_zero), LambdaRule::max_nonzeros(3)}) {
      if (rule.follows_path() && solver == Solver::fista) continue;
      LassoOptions options;
      options.solver = solver;
      const LassoBatch whole = solve_lasso(context, dictionary, problems.observations(), rule, options);
      options.skip = [](std::int64_t i) { return i % 7 == 2; };
      std::vector<int> times(62, 0);
      for (const std::int64_t remainder : {0, 1}) {
        EverySecond share(remainder);
        options.share = &share;
        std::int64_t total = 0;
        options.progress = [&total](const Progress& progress) { total = progress.total; };
        const LassoBatch part = solve_lasso(context, dictionary, problems.observations(), rule, options);
        EXPECT_EQ(total, 53);  // those of others as well
        EXPECT_EQ(share.passes, rule.kind == LambdaRule::Kind::per_problem ? 2 : 1);
        for (std::int64_t at = 0; at < part.size(); ++at) {
          const std::int64_t i = part.index[static_cast<std::size_t>(at)];
          EXPECT_EQ(i / 5 % 2, remainder);
          EXPECT_EQ(dense(part.codes, at, 25), dense(whole.codes, i, 25));
          EXPECT_EQ(part.dual_gap[static_cast<std::size_t>(at)], whole.dual_gap[static_cast<std::size_t>(i)]);
          ++times[static_cast<std::size_t>(i)];
        }
      }
      for (std::int64_t i = 0; i < 62; ++i) EXPECT_EQ(times[static_cast<std::size_t>(i)], i % 7 == 2 ? 0 : 1) << i;
    }
  }
}

// A row that is no observation ends the solve, but not before those that were let in are finished.
TEST_P(Lasso, FinishesTheProblemsBeforeABadRow) {
  Problems problems = random_problems(6, 18, 40);
  const Context& context = this->context();
  const Dictionary dictionary(context, problems.dictionary());
  problems.X[6 * 23 + 4] = std::numeric_limits<double>::quiet_NaN();
  for (const double gap : {1e-4, 1e-12}) {
    LassoOptions options;
    options.gap = gap;
    RowsOf source(problems);
    NotingSink sink;
    try {
      solve_lasso(context, dictionary, source, LambdaRule::sample_fraction(0.2), options, sink);
      FAIL() << "a NaN was taken";
    } catch (const ValueError& error) {
      EXPECT_NE(std::string(error.what()).find("entry 4 of row 23 is nan"), std::string::npos) << error.what();
    }
    EXPECT_EQ(sink.seen.size(), 23u);
    EXPECT_EQ(*sink.seen.rbegin(), 22);
  }
}

// A problem that goes on in double is read again. Where that fails, all others are finished first.
TEST_P(Lasso, FinishesTheProblemsBesideARowThatIsGone) {
  static constexpr std::int64_t kGone = 7;
  class GoneRow : public RowsOf {
   public:
    using RowsOf::RowsOf;
    void read(std::int64_t first, MatrixView<double> X) override {
      if (first <= kGone && kGone < first + X.cols && reads_++ > 0) throw IoError("gone", __FILE__, __LINE__, "X.npy");
      RowsOf::read(first, X);
    }

   private:
    int reads_ = 0;
  };
  const Problems problems = random_problems(6, 18, 40);
  const Dictionary dictionary(context(), problems.dictionary());
  LassoOptions options;
  options.solver = Solver::fista;
  options.gap = 1e-12;
  GoneRow source(problems);
  NotingSink sink;
  EXPECT_THROW(solve_lasso(context(), dictionary, source, LambdaRule::sample_fraction(0.2), options, sink), IoError);
  EXPECT_EQ(sink.seen.size(), 39u);
  EXPECT_EQ(sink.seen.count(kGone), 0u);
}

TEST_P(Lasso, ASinkThatFailsEndsTheSolve) {
  class FullDisk : public CodeSink {
   public:
    void append(const LassoBatch&) override { throw IoError("disk full", __FILE__, __LINE__, "Z.npz"); }
  } sink;
  const Problems problems = random_problems(6, 18, 40);
  const Dictionary dictionary(context(), problems.dictionary());
  RowsOf source(problems);
  EXPECT_THROW(solve_lasso(context(), dictionary, source, LambdaRule::sample_fraction(0.2), {}, sink), IoError);
}

TEST_P(Lasso, LeastMemoryIsEnough) {
  for (const auto& [n, m] : {std::pair<int, int>{1, 1}, {1, 300}, {300, 1}, {7, 19}, {260, 40}, {40, 600}}) {
    const Problems problems = random_problems(n, m, 3);
    LassoOptions options;
    options.gap = 1e-10;  // in double, too, where float gets that far
    options.max_iterations = 50;
    options.memory_limit = least_memory(context(), n, m);
    EXPECT_EQ(solve(problems, LambdaRule::sample_fraction(0.5), options).size(), 3);
    options.memory_limit -= 1;
    EXPECT_THROW(solve(problems, LambdaRule::sample_fraction(0.5), options), ValueError);
  }
}

TEST_P(Lasso, RecordingLambdaMaxMayBeKnown) {
  const Problems problems = random_problems(7, 15, 30);
  const Dictionary dictionary(context(), problems.dictionary());
  RowsOf source(problems);
  LambdaRule rule = LambdaRule::recording_fraction(0.4);
  const LassoBatch found = solve(problems, rule);
  rule.lambda_max = recording_lambda_max(context(), dictionary, source, {});
  EXPECT_TRUE(same_bits(solve(problems, rule), found));
  EXPECT_EQ(found.lambda[3], 0.4 * rule.lambda_max);
}

TEST_P(Lasso, LambdaMaxOfEachIsItsLargestCorrelation) {
  // The atoms are (1, 0), (0, 2) and (3, 4) / 5; with weights, signs and atoms without a penalty by hand as well.
  const Problems problems{2, 3, 4, {1, 0, 0, 2, 0.6, 0.8}, {5, 0, 1, -3, 0, 0, -2, 0.5}};
  const Dictionary dictionary(context(), problems.dictionary());
  RowsOf source(problems);
  const auto found = [&](const Penalty& penalty) {
    LassoOptions options;
    options.penalty = penalty;
    const std::vector<double> each = lambda_max(context(), dictionary, source, options);
    EXPECT_EQ(recording_lambda_max(context(), dictionary, source, options),
              *std::max_element(each.begin(), each.end()));
    return each;
  };
  EXPECT_EQ(found({}), (std::vector<double>{5, 6, 0, 2}));
  Penalty penalty;
  penalty.nonnegative = true;
  EXPECT_EQ(found(penalty), (std::vector<double>{5, 1, 0, 1}));
  penalty = {};
  penalty.weights = {0.5, 4, std::numeric_limits<double>::infinity()};
  EXPECT_EQ(found(penalty), (std::vector<double>{10, 2, 0, 4}));
  penalty.weights = {0, 1, std::numeric_limits<double>::infinity()};
  const std::vector<double> beside = found(penalty);  // x without its first entry, which the first atom takes
  const std::vector<double> wanted = {0, 6, 0, 1};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(beside[i], wanted[i], 1e-15 * 8);

  // Many blocks of few rows.
  const Problems many = random_problems(3, 5, 20);
  const Dictionary other(context(), many.dictionary());
  RowsOf rows(many);
  LassoOptions options;
  options.memory_limit = 8 * 3 * 8 * 4;
  const std::vector<double> in_blocks = lambda_max(context(), other, rows, options);
  EXPECT_EQ(in_blocks, lambda_max(context(), other, rows, {}));
  EXPECT_EQ(in_blocks.size(), 20u);
  EXPECT_THROW(lambda_max(context(), dictionary, rows, {}), ShapeError);
}

TEST_P(Lasso, RefusesInitialCodesThatAreNone) {
  const Problems problems = random_problems(4, 8, 2);
  const SparseCodes good{{0, 1, 2}, {3, 7}, {0.5, -0.5}};
  const auto solve_from = [&](const SparseCodes& codes) {
    LassoOptions options;
    options.initial = &codes;
    return solve(problems, LambdaRule::sample_fraction(0.5), options);
  };
  check_claims(problems, solve_from(good), 1e-6);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(solve_from({{0, 1, 2}, {3, 8}, {0.5, -0.5}}), ValueError);
  EXPECT_THROW(solve_from({{0, 1, 2}, {-1, 7}, {0.5, -0.5}}), ValueError);
  EXPECT_THROW(solve_from({{0, 1, 2}, {3, 7}, {nan, -0.5}}), ValueError);
  EXPECT_THROW(solve_from({{0, 2, 1}, {3, 7}, {0.5, -0.5}}), ShapeError);
  EXPECT_THROW(solve_from({{0, 3, 2}, {3, 7}, {0.5, -0.5}}), ShapeError);
  EXPECT_THROW(solve_from({{0, 1, 2}, {3}, {0.5, -0.5}}), ShapeError);
  EXPECT_THROW(solve_from({{0, 1}, {3}, {0.5}}), ShapeError);
}

TEST_P(Lasso, NamesWhatItRefuses) {
  const Context& context = this->context();
  Problems problems = random_problems(4, 8, 3);
  const Dictionary dictionary(context, problems.dictionary());
  const auto message = [&](const LambdaRule& rule, const LassoOptions& options) -> std::string {
    try {
      solve_lasso(context, dictionary, problems.observations(), rule, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message(LambdaRule::value(-1), {}).find("lambda: the value is -1, wanted a finite number >= 0"),
            std::string::npos);
  EXPECT_NE(message(LambdaRule::sample_fraction(0), {}).find("fraction"), std::string::npos);
  EXPECT_NE(message(LambdaRule::per_problem({1, 2}), {}).find("found 2 lambdas, wanted one for each of 3 observations"),
            std::string::npos);
  EXPECT_NE(message(LambdaRule::per_problem({1, 2, -3}), {}).find("lambda of problem 2 is -3"), std::string::npos);
  LassoOptions options;
  options.gap = 0;
  EXPECT_NE(message(LambdaRule::value(1), options).find("the gap is 0"), std::string::npos);
  options.gap = 1e-6;
  options.memory_limit = 1000;
  EXPECT_NE(message(LambdaRule::value(1), options).find("memory_limit is 1000"), std::string::npos);
  problems.X[4 * 2 + 1] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(message(LambdaRule::value(1), {}).find("entry 1 of row 2 is nan"), std::string::npos);
  const Problems longer = random_problems(5, 8, 3);
  EXPECT_THROW(solve_lasso(context, dictionary, longer.observations(), LambdaRule::value(1), {}), ShapeError);
  problems.D[3 + 4 * 5] = std::numeric_limits<double>::infinity();
  try {
    const Dictionary refused(context, problems.dictionary());
    FAIL() << "an infinite entry was taken";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("(3, 5) is inf"), std::string::npos) << error.what();
  }
  EXPECT_THROW(Dictionary(context, MatrixView<const double>{nullptr, 4, 0, 4, {}}), ShapeError);
}

}  // namespace
}  // namespace shrinkwarp
