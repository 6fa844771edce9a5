// Working sets of groups: every claim against plain loops in long double, and against FISTA.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = std::numeric_limits<double>::epsilon();

class GroupWorkingSet : public testing::OnContext {
 protected:
  std::int64_t n = 0, m = 0, N = 0;
  std::vector<double> D, X;
  LassoOptions options;

  void make(std::int64_t rows, std::int64_t atoms, std::int64_t problems, std::int64_t group_size) {
    n = rows, m = atoms, N = problems;
    D.resize(static_cast<std::size_t>(n * m));
    X.resize(static_cast<std::size_t>(n * N));
    const Context host = Context::cpu(1);
    fill_normal(host, 8, 0, 0, VectorView<double>{D.data(), n * m, {}});
    fill_normal(host, 8, 1, 0, VectorView<double>{X.data(), n * N, {}});
    options = {};
    options.solver = Solver::working_set;
    options.penalty.group_size = group_size;
  }
  // Each atom much like the one of its place in the group before: what a lead field does.
  void blur() {
    const std::int64_t back = n * options.penalty.group_size;
    for (auto i = static_cast<std::size_t>(back); i < D.size(); ++i)
      D[i] = 0.9 * D[i - static_cast<std::size_t>(back)] + 0.2 * D[i];
  }

  Context make_context(int threads) const { return context().is_cuda() ? Context::cuda() : Context::cpu(threads); }
  LassoBatch solve(const LambdaRule& rule, int threads = 1) const {
    const Context context = make_context(threads);
    const Dictionary dictionary(context, {D.data(), n, m, n, {}});
    return solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, rule, options);
  }

  /// By FISTA on the CPU: it is another method, and nothing of it is at stake here.
  LassoBatch solve_with_fista(const LambdaRule& rule) const {
    const Context context = Context::cpu(1);
    const Dictionary dictionary(context, {D.data(), n, m, n, {}});
    LassoOptions others = options;
    others.solver = Solver::fista;
    return solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, rule, others);
  }

  // Objective, and gap at the best dual-feasible multiple of the residual of the elastic net's longer problem.
  struct Truth {
    long double objective, gap, energy;
    /// What float64 cannot know of the gap: r to some units of what it is a difference of, and D'r to ||d|| times that.
    long double room;
  };
  Truth truth(const LassoBatch& batch, std::int64_t b) const {
    const std::int64_t s = options.penalty.group_size;
    const auto at = static_cast<std::size_t>(b);
    const double* const x = X.data() + b * n;
    std::vector<long double> r(x, x + n), z(static_cast<std::size_t>(m), 0);
    for (auto k = batch.codes.offsets[at]; k < batch.codes.offsets[at + 1]; ++k)
      z[static_cast<std::size_t>(batch.codes.indices[static_cast<std::size_t>(k)])] =
          batch.codes.values[static_cast<std::size_t>(k)];
    long double squares = 0, magnitude = 0, most = 0, rr = 0, xr = 0, energy = 0;
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t i = 0; i < n && z[static_cast<std::size_t>(j)] != 0; ++i)
        r[static_cast<std::size_t>(i)] -= z[static_cast<std::size_t>(j)] * D[static_cast<std::size_t>(i + j * n)];
    for (std::int64_t g = 0; g < m / s; ++g) {
      const double weight = options.penalty.weights.empty() ? 1 : options.penalty.weights[static_cast<std::size_t>(g)];
      long double length = 0, correlated = 0;
      for (std::int64_t j = g * s; j < (g + 1) * s; ++j) {
        const long double value = z[static_cast<std::size_t>(j)];
        long double sum = -options.penalty.ridge * value;
        for (std::int64_t i = 0; i < n; ++i)
          sum += D[static_cast<std::size_t>(i + j * n)] * r[static_cast<std::size_t>(i)];
        length += value * value;
        correlated += sum * sum;
      }
      squares += length;
      EXPECT_TRUE(length == 0 || std::isfinite(weight)) << g;
      if (length > 0) magnitude += weight * std::sqrt(length);
      most = std::max(most, std::sqrt(correlated) / weight);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      rr += r[static_cast<std::size_t>(i)] * r[static_cast<std::size_t>(i)];
      xr += x[i] * r[static_cast<std::size_t>(i)];
      energy += static_cast<long double>(x[i]) * x[i] / 2;
    }
    rr += options.penalty.ridge * squares;
    const long double lambda = batch.lambda[at];
    const long double objective = rr / 2 + lambda * magnitude;
    long double norm = 0, reach = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      long double square = 0;
      for (std::int64_t i = 0; i < n; ++i)
        square +=
            static_cast<long double>(D[static_cast<std::size_t>(i + j * n)]) * D[static_cast<std::size_t>(i + j * n)];
      norm = std::max(norm, std::sqrt(square));
      reach += std::fabs(z[static_cast<std::size_t>(j)]);
    }
    reach *= norm;
    const long double room = 16 * kUnit * (energy + reach * reach);
    if (rr == 0) return {objective, objective, energy, room};
    const long double largest = lambda / most;
    const long double scale = std::clamp(xr / rr, -largest, largest);
    return {objective, objective - scale * xr + scale * scale * rr / 2, energy, room};
  }

  // What is claimed of each problem holds, and its gap is what was asked for.
  void expect_solved(const LassoBatch& batch) const {
    ASSERT_EQ(batch.size(), N);
    for (std::int64_t b = 0; b < N; ++b) {
      const auto at = static_cast<std::size_t>(b);
      const Truth found = truth(batch, b);
      EXPECT_TRUE(batch.converged[at]) << b << ": gap " << batch.dual_gap[at];
      // No problem went on with FISTA, whose first certificate comes after 25 iterations.
      EXPECT_LT(batch.iterations[at], 25) << b;
      EXPECT_LE(found.gap, options.gap * found.energy + found.room) << b;
      EXPECT_LE(found.gap, batch.dual_gap[at] + found.room) << b;
      EXPECT_NEAR(batch.objective[at], found.objective, static_cast<double>(found.room)) << b;
    }
  }
};

TEST_P(GroupWorkingSet, EveryClaimHolds) {
  struct Shape {
    std::int64_t n, m, s;
  };
  // In turn: without and with passes in integers, one row, one group, few rows.
  for (const auto& [rows, atoms, s] :
       {Shape{20, 60, 3}, {70, 966, 7}, {66, 1000, 2}, {1, 12, 3}, {30, 12, 12}, {40, 240, 12}, {5, 40, 4}}) {
    for (const double fraction : {0.8, 0.3, 0.05}) {
      for (const double gap : {1e-6, 1e-9}) {
        if (context().is_cuda() && gap == 1e-6) continue;  // no other way is taken
        SCOPED_TRACE(::testing::Message() << rows << " x " << atoms << ", groups of " << s << " at " << fraction);
        make(rows, atoms, 3, s);
        options.gap = gap;
        expect_solved(solve(LambdaRule::sample_fraction(fraction)));
      }
    }
  }
}

TEST_P(GroupWorkingSet, SimilarAtoms) {
  for (const double gap : {1e-6, 1e-9, 1e-12}) {
    for (const auto& [rows, atoms] : {std::pair<std::int64_t, std::int64_t>{24, 120}, {64, 1200}}) {
      make(rows, atoms, 3, 3);
      blur();
      options.gap = gap;
      expect_solved(solve(LambdaRule::sample_fraction(0.1)));
    }
  }
}

TEST_P(GroupWorkingSet, CopiedGroupsAndGroupsOfZeros) {
  make(68, 1200, 3, 3);
  for (std::int64_t i = 0; i < n * 3; ++i) {
    for (std::int64_t g = 200; g < 300; ++g)
      D[static_cast<std::size_t>(i + g * 3 * n)] = D[static_cast<std::size_t>(i + g % 40 * 3 * n)];
    D[static_cast<std::size_t>(i + 7 * 3 * n)] = 0;
    if (i < n) D[static_cast<std::size_t>(i + 9 * 3 * n)] = 0;
  }
  options.gap = 1e-9;
  expect_solved(solve(LambdaRule::sample_fraction(0.1)));
}

TEST_P(GroupWorkingSet, WeightsAndRidges) {
  struct Shape {
    std::int64_t n, m, s;
  };
  for (const auto& [rows, atoms, s] : {Shape{20, 60, 3}, {70, 960, 3}, {30, 1200, 100}}) {
    for (const double ridge : {0.0, 0.5}) {
      make(rows, atoms, 3, s);
      options.gap = 1e-9;
      options.penalty.ridge = ridge * static_cast<double>(n);
      for (std::int64_t g = 0; g < m / s; ++g)
        options.penalty.weights.push_back(g % 7 == 3 ? kInfinity : std::exp2(static_cast<double>(g % 5) - 2));
      expect_solved(solve(LambdaRule::sample_fraction(0.2)));
    }
  }
}

TEST_P(GroupWorkingSet, UnpenalisedGroups) {
  make(70, 960, 3, 3);
  options.penalty.weights.assign(320, 1);
  options.penalty.weights[5] = options.penalty.weights[319] = 0;
  const LassoBatch sets = solve(LambdaRule::sample_fraction(0.3));
  const LassoBatch fista = solve_with_fista(LambdaRule::sample_fraction(0.3));
  for (std::size_t b = 0; b < 3; ++b) {
    EXPECT_TRUE(sets.converged[b]);
    EXPECT_NEAR(sets.lambda[b], fista.lambda[b], 1e-12 * fista.lambda[b]);
    EXPECT_LE(std::fabs(sets.objective[b] - fista.objective[b]), sets.dual_gap[b] + fista.dual_gap[b]);
  }
}

TEST_P(GroupWorkingSet, AgreesWithFista) {
  make(66, 1002, 4, 3);
  blur();
  const LassoBatch sets = solve(LambdaRule::sample_fraction(0.3));
  const LassoBatch fista = solve_with_fista(LambdaRule::sample_fraction(0.3));
  for (std::size_t b = 0; b < 4; ++b) {
    EXPECT_NEAR(sets.lambda[b], fista.lambda[b], 1e-12 * fista.lambda[b]);
    // Each objective is over the smallest one by its gap at most.
    EXPECT_LE(std::fabs(sets.objective[b] - fista.objective[b]), sets.dual_gap[b] + fista.dual_gap[b]);
  }
}

// Groups of one atom and two columns of zeros are the Lasso on these atoms.
TEST_P(GroupWorkingSet, GroupsWithOneAtomAreTheLasso) {
  for (const std::int64_t atoms : {60, 1200}) {
    make(66, atoms, 4, 3);
    std::vector<double> alone;
    for (std::int64_t j = 0; j < m; ++j) {
      const auto column = D.begin() + j * n;
      if (j % 3 == 1)
        alone.insert(alone.end(), column, column + n);
      else
        std::fill(column, column + n, 0.0);
    }
    options.gap = 1e-9;
    const LassoBatch groups = solve(LambdaRule::sample_fraction(0.2));
    expect_solved(groups);
    D = alone;
    m /= 3;
    options.penalty.group_size = 1;
    const LassoBatch lasso = solve(LambdaRule::sample_fraction(0.2));
    for (std::size_t b = 0; b < 4; ++b)
      EXPECT_LE(std::fabs(groups.objective[b] - lasso.objective[b]), groups.dual_gap[b] + lasso.dual_gap[b]);
  }
}

TEST_P(GroupWorkingSet, BitsDoNotDependOnNeighboursThreadsOrMemory) {
  for (const auto& [rows, atoms] : {std::pair<std::int64_t, std::int64_t>{20, 60}, {70, 960}}) {
    make(rows, atoms, context().is_cuda() ? 14 : 40, 3);
    const LassoBatch whole = solve(LambdaRule::sample_fraction(0.3));
    const auto expect_same = [&](const LassoBatch& other) {
      EXPECT_EQ(whole.codes.offsets, other.codes.offsets);
      EXPECT_EQ(whole.codes.indices, other.codes.indices);
      EXPECT_EQ(whole.codes.values, other.codes.values);
      EXPECT_EQ(whole.dual_gap, other.dual_gap);
      EXPECT_EQ(whole.objective, other.objective);
    };
    expect_same(solve(LambdaRule::sample_fraction(0.3), 2));
    expect_same(solve(LambdaRule::sample_fraction(0.3), 3));
    options.memory_limit = least_memory(make_context(2), n, m, options.solver, options.penalty);
    expect_same(solve(LambdaRule::sample_fraction(0.3), 2));
    // Alone.
    const std::vector<double> all = X;
    for (std::int64_t b = 0, count = std::exchange(N, 1); b < count; b += 13) {
      X.assign(all.begin() + b * n, all.begin() + (b + 1) * n);
      const LassoBatch one = solve(LambdaRule::sample_fraction(0.3));
      const auto at = static_cast<std::size_t>(b);
      EXPECT_EQ(one.objective[0], whole.objective[at]);
      EXPECT_EQ(one.dual_gap[0], whole.dual_gap[at]);
      EXPECT_TRUE(std::equal(one.codes.values.begin(), one.codes.values.end(),
                             whole.codes.values.begin() + whole.codes.offsets[at],
                             whole.codes.values.begin() + whole.codes.offsets[at + 1]));
    }
  }
}

TEST_P(GroupWorkingSet, StartsFromCodes) {
  for (const std::int64_t atoms : {60, 960}) {
    make(70, atoms, 3, 3);
    options.gap = 1e-9;
    const LassoBatch cold = solve(LambdaRule::sample_fraction(0.2));
    options.initial = &cold.codes;
    const LassoBatch there = solve(LambdaRule::sample_fraction(0.2));
    expect_solved(there);
    for (const std::int64_t iterations : there.iterations) EXPECT_LE(iterations, 1);
    expect_solved(solve(LambdaRule::sample_fraction(0.1)));
    // Codes that nobody would start from: one entry of each group, too many atoms to be in use.
    SparseCodes far;
    for (std::int64_t b = 0; b < N; ++b) {
      for (std::int64_t j = b; j < m; j += 3) {
        far.indices.push_back(static_cast<std::int32_t>(j));
        far.values.push_back(static_cast<double>(j % 5) - 2);
      }
      far.offsets.push_back(static_cast<std::int64_t>(far.values.size()));
    }
    options.initial = &far;
    expect_solved(solve(LambdaRule::sample_fraction(0.2)));
  }
}

TEST_P(GroupWorkingSet, EdgesOfLambda) {
  make(70, 960, 3, 3);
  std::fill(X.begin() + n, X.begin() + 2 * n, 0.0);
  const LassoBatch none = solve(LambdaRule::sample_fraction(1));
  EXPECT_TRUE(none.codes.values.empty());
  expect_solved(none);
  // In any units.
  for (double& value : D) value *= 1e150;
  for (double& value : X) value *= 1e-120;
  const LassoBatch scaled = solve(LambdaRule::sample_fraction(1));
  for (std::size_t b = 0; b < 3; ++b) EXPECT_NEAR(scaled.lambda[b] * 1e-30, none.lambda[b], 1e-13 * none.lambda[b]);
  expect_solved(solve(LambdaRule::sample_fraction(0.3)));
}

// A lambda so small that nearly as many groups are in use as there are rows, and one that is beyond passes.
TEST_P(GroupWorkingSet, SmallLambdas) {
  make(40, 1650, 2, 3);
  expect_solved(solve(LambdaRule::sample_fraction(1e-3)));
  make(10, 30, 2, 3);
  expect_solved(solve(LambdaRule::sample_fraction(1e-4)));
  make(40, 1650, 1, 3);
  options.max_iterations = 3000;
  const LassoBatch tiny = solve(LambdaRule::value(1e-40));
  const Truth found = truth(tiny, 0);
  EXPECT_LE(found.gap, tiny.dual_gap[0] + found.room);
}

TEST_P(GroupWorkingSet, StopsAtMaxIterationsWithItsGap) {
  make(70, 960, 3, 3);
  options.gap = 1e-9;
  for (const std::int64_t most : {0, 1, 3}) {
    options.max_iterations = most;
    const LassoBatch batch = solve(LambdaRule::sample_fraction(0.1));
    for (std::int64_t b = 0; b < N; ++b) {
      const auto at = static_cast<std::size_t>(b);
      EXPECT_EQ(batch.iterations[at], most);
      EXPECT_FALSE(batch.converged[at]);
      const Truth found = truth(batch, b);
      EXPECT_LE(found.gap, batch.dual_gap[at] + found.room);
    }
  }
}

SHRINKWARP_ON_CPU_AND_CUDA(GroupWorkingSet);

TEST(GroupWorkingSetPlan, AutomaticTakesItWhereItFits) {
  LassoOptions options;
  options.penalty.group_size = 3;
  const Context context = Context::cpu(1);
  EXPECT_EQ(resolved(context, 70, 960, 560, options), Solver::plain_working_set);
  EXPECT_EQ(resolved(context, 70, 960, 561, options), Solver::working_set);
  const std::int64_t least = least_memory(context, 70, 960, Solver::working_set, options.penalty);
  options.memory_limit = least;
  EXPECT_EQ(resolved(context, 70, 960, 561, options), Solver::working_set);
  options.memory_limit = least - 1;
  EXPECT_EQ(resolved(context, 70, 960, 1000, options), Solver::fista);
}

TEST(GroupWorkingSetPlan, APlanCountsItsSets) {
  constexpr std::int64_t n = 70, m = 960;
  const std::vector<double> D(static_cast<std::size_t>(n * m), 1.0);
  LassoOptions options;
  options.penalty.group_size = 3;
  const Context context = Context::cpu(1);
  const Dictionary dictionary(context, {D.data(), n, m, n, {}});
  const WorkingSetPlan plan = plan_working_set(context, dictionary, 1000000, std::int64_t{1} << 40, options.penalty);
  EXPECT_EQ(plan.places, WorkingSetBatch::kPlaces);
  // Half of what these places take does not hold as many.
  const std::int64_t sets = WorkingSetBatch::bytes(n, m, 3, plan.workers, plan.places, plan.queue);
  const std::int64_t least = least_memory(context, n, m, Solver::working_set, options.penalty);
  ASSERT_GT(sets / 2, least);
  EXPECT_LT(plan_working_set(context, dictionary, 1000000, sets / 2, options.penalty).places, plan.places);
}

}  // namespace
}  // namespace shrinkwarp
