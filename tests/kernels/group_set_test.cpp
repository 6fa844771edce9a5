// The group Lasso on a working set, by its optimality conditions in long double, closed forms, the Lasso's active set and a
// slow method of another kind.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/active_set/active_set.hpp>
#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::Integers;
using testing::normal_atoms;
using testing::padded;

constexpr double kUnit = std::numeric_limits<double>::epsilon();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// 1/2 ||x - D z||^2 + ridge / 2 ||z||^2 + sum over g of thresholds_g ||z_g||
struct Problem {
  GuardedHost<double> D;
  std::int64_t s = 1;
  std::vector<double> x, thresholds;
  double ridge = 0;

  std::int64_t groups() const { return D.cols / s; }
};

std::vector<double> normal_vector(std::int64_t n, std::uint64_t stream) {
  const auto column = normal_atoms(n, 1, stream);
  std::vector<double> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(column(i));
  return values;
}

/// D'(x - D z) - ridge z in long double.
std::vector<long double> correlations_of(const Problem& problem, const std::vector<double>& z) {
  std::vector<long double> r(problem.x.begin(), problem.x.end());
  for (std::int64_t j = 0; j < problem.D.cols; ++j)
    for (std::int64_t i = 0; i < problem.D.rows; ++i)
      r[index_of(i)] -= static_cast<long double>(problem.D(i, j)) * z[index_of(j)];
  std::vector<long double> result;
  for (std::int64_t j = 0; j < problem.D.cols; ++j) {
    long double sum = -static_cast<long double>(problem.ridge) * z[index_of(j)];
    for (std::int64_t i = 0; i < problem.D.rows; ++i) sum += problem.D(i, j) * r[index_of(i)];
    result.push_back(sum);
  }
  return result;
}

template <class T>
long double group_norm(const std::vector<T>& v, std::int64_t g, std::int64_t s) {
  long double energy = 0;
  for (std::int64_t i = 0; i < s; ++i)
    energy += static_cast<long double>(v[index_of(g * s + i)]) * v[index_of(g * s + i)];
  return std::sqrt(energy);
}

long double objective_of(const Problem& problem, const std::vector<double>& z) {
  std::vector<long double> r(problem.x.begin(), problem.x.end());
  long double sum = 0;
  for (std::int64_t j = 0; j < problem.D.cols; ++j) {
    for (std::int64_t i = 0; i < problem.D.rows; ++i)
      r[index_of(i)] -= static_cast<long double>(problem.D(i, j)) * z[index_of(j)];
    sum += problem.ridge / 2 * static_cast<long double>(z[index_of(j)]) * z[index_of(j)];
  }
  for (const long double value : r) sum += value * value / 2;
  for (std::int64_t g = 0; g < problem.groups(); ++g)
    if (group_norm(z, g, problem.s) > 0) sum += problem.thresholds[index_of(g)] * group_norm(z, g, problem.s);
  return sum;
}

double largest_atom(const Problem& problem) {
  double most = 0;
  for (std::int64_t j = 0; j < problem.D.cols; ++j) {
    double energy = 0;
    for (std::int64_t i = 0; i < problem.D.rows; ++i) energy += problem.D(i, j) * problem.D(i, j);
    most = std::max(most, std::sqrt(energy));
  }
  return most;
}

/// What the correlations of a code may be off by: sums of n + m terms in double, of the magnitudes that enter them.
double rounding_of(const Problem& problem, const std::vector<double>& z) {
  double reach = 0, x = 0;
  for (const double value : z) reach += std::fabs(value);
  for (const double value : problem.x) x += value * value;
  const double atom = largest_atom(problem);
  return 4 * static_cast<double>(problem.D.rows + problem.D.cols) * kUnit * std::sqrt(static_cast<double>(problem.s)) *
         (atom * (std::sqrt(x) + atom * reach) + problem.ridge * reach);
}

/// The conditions at the solution, each to the tolerance times the threshold and rounding.
void expect_optimal(const Problem& problem, const std::vector<double>& z, double tolerance) {
  const std::vector<long double> c = correlations_of(problem, z);
  const double rounding = rounding_of(problem, z);
  for (std::int64_t g = 0; g < problem.groups(); ++g) {
    const double threshold = problem.thresholds[index_of(g)];
    const double room = tolerance * threshold + rounding;
    const long double length = group_norm(z, g, problem.s);
    if (length == 0) {
      EXPECT_LE(group_norm(c, g, problem.s), threshold + room) << "group " << g;
      continue;
    }
    std::vector<long double> aside(index_of(problem.s));
    for (std::int64_t i = 0; i < problem.s; ++i)
      aside[index_of(i)] = c[index_of(g * problem.s + i)] - threshold * (z[index_of(g * problem.s + i)] / length);
    EXPECT_LE(group_norm(aside, 0, problem.s), room) << "group " << g;
  }
}

/// A problem, what solves it, and its code in the order of the atoms.
class Solved {
 public:
  explicit Solved(const Problem& problem, std::int64_t capacity = 0)
      : problem_(problem),
        D_(padded<double>(problem.D)),
        basis_(Context::cpu(1), D_.matrix(), problem.s),
        set(Context::cpu(1), problem.s, capacity > 0 ? capacity : problem.groups()) {
    set.clear(problem.ridge);
    scratch.reserve(Context::cpu(1), std::max<std::int64_t>(2, problem.groups()) * problem.s);
  }

  /// Adds groups with the code 0, from the correlations of the code in hand.
  void add(const std::vector<std::int32_t>& groups) {
    const std::vector<long double> c = correlations_of(problem_, code());
    std::vector<double> correlations, thresholds;
    for (const std::int32_t g : groups) {
      thresholds.push_back(problem_.thresholds[index_of(g)]);
      for (std::int64_t i = 0; i < problem_.s; ++i)
        correlations.push_back(static_cast<double>(c[index_of(g * problem_.s + i)]));
    }
    set.add(D_.matrix(), basis_, groups.data(), correlations.data(), thresholds.data(),
            static_cast<std::int64_t>(groups.size()));
  }
  void add_all() {
    std::vector<std::int32_t> all(index_of(problem_.groups()));
    std::iota(all.begin(), all.end(), 0);
    add(all);
  }
  std::vector<double> code() const {
    std::vector<double> z(index_of(problem_.D.cols), 0.0);
    for (std::int64_t p = 0; p < set.size(); ++p)
      std::copy_n(set.code(p), problem_.s, z.begin() + set.group(p) * problem_.s);
    return z;
  }

 private:
  const Problem& problem_;
  Tensor<double> D_;
  GroupBasis basis_;

 public:
  GroupSet set;
  GroupSetScratch scratch;
};

Problem random_problem(std::int64_t n, std::int64_t groups, std::int64_t s, double fraction, std::uint64_t seed) {
  Problem problem;
  problem.D = normal_atoms(n, groups * s, 2 * seed);
  problem.s = s;
  problem.x = normal_vector(n, 2 * seed + 1);
  const std::vector<long double> c = correlations_of(problem, std::vector<double>(index_of(groups * s), 0.0));
  long double most = 0;
  for (std::int64_t g = 0; g < groups; ++g) most = std::max(most, group_norm(c, g, s));
  problem.thresholds.assign(index_of(groups), fraction * static_cast<double>(most));
  return problem;
}

/// Proximal gradients of one step size from the trace of D'D: nothing in common with what is tested.
std::vector<double> solved_slowly(const Problem& problem, int iterations) {
  long double lipschitz = problem.ridge;
  for (std::int64_t j = 0; j < problem.D.cols; ++j)
    for (std::int64_t i = 0; i < problem.D.rows; ++i) lipschitz += problem.D(i, j) * problem.D(i, j);
  std::vector<double> z(index_of(problem.D.cols), 0.0);
  for (int k = 0; k < iterations; ++k) {
    const std::vector<long double> c = correlations_of(problem, z);
    std::vector<double> u(z.size());
    for (std::size_t j = 0; j < z.size(); ++j) u[j] = static_cast<double>(z[j] + c[j] / lipschitz);
    for (std::int64_t g = 0; g < problem.groups(); ++g) {
      const long double norm = group_norm(u, g, problem.s);
      const long double threshold = problem.thresholds[index_of(g)] / lipschitz;
      for (std::int64_t i = 0; i < problem.s; ++i)
        z[index_of(g * problem.s + i)] =
            norm > threshold ? static_cast<double>((1 - threshold / norm) * u[index_of(g * problem.s + i)]) : 0;
    }
  }
  return z;
}

constexpr double kTight = 1e-11;
constexpr std::int64_t kSteps = 200;

TEST(GroupBasis, DecomposesEveryGroup) {
  for (const std::int64_t s : {1, 2, 3, 7, 16, 17, 40}) {
    GuardedHost<double> D = normal_atoms(30, 3 * s, static_cast<std::uint64_t>(s));
    for (std::int64_t i = 0; i < D.rows; ++i) {
      D(i, 0) = 0;                                      // a column of zeros
      if (s > 1) D(i, s + 1) = D(i, s);                 // a copy
      if (s > 2) D(i, 2 * s + 2) = 1e-9 * D(i, 2 * s);  // nearly nothing
    }
    const auto columns = padded<double>(D);
    const GroupBasis basis(Context::cpu(2), columns.matrix(), s);
    ASSERT_EQ(basis.group_size(), s);
    for (std::int64_t g = 0; g < 3; ++g) {
      const double* const Q = basis.vectors(g);
      const double* const values = basis.values(g);
      double largest = 0;
      for (std::int64_t k = 0; k < s; ++k) largest = std::max(largest, values[k]);
      const double room = 20 * static_cast<double>(30 + s) * kUnit;
      for (std::int64_t i = 0; i < s; ++i) {
        EXPECT_GE(values[i], 0);
        for (std::int64_t j = 0; j < s; ++j) {
          double square = 0, whole = 0, gram = 0;
          for (std::int64_t k = 0; k < s; ++k) {
            square += Q[k + i * s] * Q[k + j * s];
            whole += Q[i + k * s] * values[k] * Q[j + k * s];
          }
          for (std::int64_t k = 0; k < D.rows; ++k) gram += D(k, g * s + i) * D(k, g * s + j);
          EXPECT_NEAR(square, i == j ? 1 : 0, room) << s << " " << g;
          EXPECT_NEAR(whole, gram, room * largest) << s << " " << g;
        }
      }
    }
  }
}

TEST(GroupBasis, RefusesWhatIsNoGroup) {
  const auto columns = Tensor<double>::zeros(Context::cpu(1), 16, 7);
  EXPECT_THROW(GroupBasis(Context::cpu(1), columns.matrix(), 2), ShapeError);
  EXPECT_THROW(GroupBasis(Context::cpu(1), columns.matrix(), 0), ShapeError);
}

// D = I: z_g = max(1 - t / ||x_g||, 0) x_g.
TEST(GroupSet, OrthonormalAtomsAreShrunkByGroups) {
  Problem problem;
  problem.D = GuardedHost<double>::make(6, 6, [](std::int64_t i, std::int64_t j) { return i == j ? 1.0 : 0.0; });
  problem.s = 3;
  problem.x = {3, 0, 4, 0.3, 0.4, 0};
  problem.thresholds = {1, 0.6};
  Solved solved(problem);
  solved.add_all();
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  const std::vector<double> z = solved.code();
  const double expected[] = {2.4, 0, 3.2, 0, 0, 0};
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(z[i], expected[i], 1e-14);
  EXPECT_EQ(solved.set.support(), 1);
  EXPECT_FALSE(solved.set.is_active(1));
}

TEST(GroupSet, RandomProblems) {
  std::uint64_t seed = 1;
  for (const std::int64_t s : {1, 2, 3, 7}) {
    for (const auto& [n, groups] : {std::pair<std::int64_t, std::int64_t>{40, 30}, {61, 8}, {9, 25}, {1, 5}, {17, 1}}) {
      for (const double fraction : {0.9, 0.5, 0.1, 0.01}) {
        for (const double ridge : {0.0, 3.0}) {
          SCOPED_TRACE(::testing::Message() << n << " x " << groups << " groups of " << s << " at " << fraction);
          Problem problem = random_problem(n, groups, s, fraction, ++seed);
          problem.ridge = ridge;
          Integers integers(seed);
          for (double& threshold : problem.thresholds) threshold *= static_cast<double>(integers(1, 4)) / 4;
          Solved solved(problem);
          solved.add_all();
          ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
          expect_optimal(problem, solved.code(), kTight);
        }
      }
    }
  }
}

TEST(GroupSet, AgreesWithASlowMethod) {
  Problem problem = random_problem(12, 5, 3, 0.3, 400);
  problem.ridge = 0.5;  // which makes the solution unique, and the slow method linear
  Solved solved(problem);
  solved.add_all();
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  // The strongly convex objective has a modulus of .5, the step is 1 / trace, about 1 / 180: e^-27 after 10000 steps.
  const std::vector<double> slow = solved_slowly(problem, 10000), z = solved.code();
  for (std::size_t j = 0; j < z.size(); ++j) EXPECT_NEAR(z[j], slow[j], 1e-10) << j;
}

TEST(GroupSet, GroupsOfOneAreTheLasso) {
  Problem problem = random_problem(30, 50, 1, 0.1, 500);
  Solved solved(problem);
  solved.add_all();
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  const auto D = padded<double>(problem.D);
  ActiveSet<double> lasso(Context::cpu(1), 50);
  lasso.clear(0, false);
  std::vector<std::int32_t> atoms(50);
  std::iota(atoms.begin(), atoms.end(), 0);
  std::vector<double> correlations;
  for (const long double c : correlations_of(problem, std::vector<double>(50, 0.0)))
    correlations.push_back(static_cast<double>(c));
  lasso.add(D.matrix(), {}, atoms.data(), correlations.data(), problem.thresholds.data(), 50);
  ASSERT_EQ(lasso.solve(1e-12, 1000), ActiveSetOutcome::solved);
  for (std::int64_t j = 0; j < 50; ++j) EXPECT_NEAR(solved.code()[index_of(j)], lasso.code(j), 1e-9) << j;
}

// Copied, negated, scaled, nearly copied groups and groups of zeros; more of them than rows.
TEST(GroupSet, DependentGroups) {
  for (const std::int64_t s : {1, 2, 3}) {
    for (const double fraction : {0.5, 0.1, 0.02}) {
      for (const double nearly : {0.0, 1e-3, 1e-8, 1e-13}) {
        SCOPED_TRACE(::testing::Message() << s << " at " << fraction << ", nearly " << nearly);
        Problem problem = random_problem(20, 24, s, 1, 600 + static_cast<std::uint64_t>(s));
        const GuardedHost<double> noise = normal_atoms(20, 24 * s, 700);
        for (std::int64_t g = 8; g < 24; ++g) {
          for (std::int64_t k = 0; k < s; ++k) {
            for (std::int64_t i = 0; i < 20; ++i) {
              const double from = problem.D(i, g % 8 * s + k);
              problem.D(i, g * s + k) = (g % 3 == 0 ? -from : from) + nearly * noise(i, g * s + k);
              if (g == 23 || (g == 22 && k == 0)) problem.D(i, g * s + k) = 0;
            }
          }
        }
        for (std::int64_t g = 0; g < 24; ++g)
          problem.thresholds[index_of(g)] *= fraction * (g < 16 ? 1 : 1 + 1e-3 * static_cast<double>(g));
        Solved solved(problem);
        solved.add_all();
        EXPECT_EQ(solved.set.solve(solved.scratch, 1e-9, kSteps), GroupSetOutcome::solved);
        expect_optimal(problem, solved.code(), 1e-9);
      }
    }
  }
}

TEST(GroupSet, AnInfiniteThresholdKeepsAGroupOut) {
  Problem problem = random_problem(20, 6, 3, 0.1, 800);
  problem.thresholds[2] = kInfinity;
  Solved solved(problem);
  solved.add_all();
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  EXPECT_FALSE(solved.set.is_active(2));
  EXPECT_EQ(solved.set.support(), 5);
}

// The objective is that of the code after each step, so that no step may raise it, and the bits do not depend on stops.
TEST(GroupSet, DescendsStepByStep) {
  Problem problem = random_problem(40, 40, 3, 0.05, 900);
  for (std::int64_t j = 3; j < problem.D.cols; ++j)  // each much like the one before
    for (std::int64_t i = 0; i < 40; ++i) problem.D(i, j) = 0.2 * problem.D(i, j) + 0.8 * problem.D(i, j - 3);
  Solved whole(problem), stepwise(problem);
  whole.add_all();
  ASSERT_EQ(whole.set.solve(whole.scratch, kTight, kSteps), GroupSetOutcome::solved);
  stepwise.add_all();
  long double before = objective_of(problem, stepwise.code());
  std::int64_t steps = 0;
  for (auto outcome = GroupSetOutcome::stuck; outcome == GroupSetOutcome::stuck; ++steps) {
    ASSERT_LE(steps, kSteps);
    outcome = stepwise.set.solve(stepwise.scratch, kTight, steps);
    const long double after = objective_of(problem, stepwise.code());
    EXPECT_LE(after, before + 100 * kUnit * before) << steps;
    before = after;
  }
  EXPECT_GT(steps, 5);
  expect_optimal(problem, stepwise.code(), kTight);
}

TEST(GroupSet, GrowsAndDropsGroups) {
  Problem problem = random_problem(40, 20, 3, 0.3, 1000);
  Solved solved(problem, 4), at_once(problem);
  solved.add({3, 17, 5, 11});
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  solved.set.reserve(Context::cpu(1), 13);
  solved.add({0, 1, 2, 4, 6, 7, 8, 9, 10});
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  const std::vector<double> before = solved.code();
  const std::int64_t support = solved.set.support();
  ASSERT_LT(support, 13);
  solved.set.keep_active();
  EXPECT_EQ(solved.set.size(), support);
  EXPECT_EQ(solved.set.support(), support);
  EXPECT_EQ(solved.code(), before);
  // What stays is still solved.
  const std::int64_t steps = solved.set.steps();
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  EXPECT_EQ(solved.set.steps(), steps);
  std::vector<std::int32_t> others;
  for (std::int32_t g = 0; g < 20; ++g)
    if (group_norm(before, g, 3) == 0) others.push_back(g);
  solved.set.reserve(Context::cpu(1), 20);
  solved.add(others);
  ASSERT_EQ(solved.set.solve(solved.scratch, kTight, kSteps), GroupSetOutcome::solved);
  expect_optimal(problem, solved.code(), kTight);
}

TEST(GroupSet, StartsFromACode) {
  Problem problem = random_problem(40, 20, 3, 0.3, 1100);
  Solved first(problem), second(problem);
  first.add_all();
  ASSERT_EQ(first.set.solve(first.scratch, kTight, kSteps), GroupSetOutcome::solved);
  second.add_all();
  const std::vector<double> z = first.code();
  const std::vector<long double> c = correlations_of(problem, z);
  for (std::int64_t p = 0; p < 20; ++p) {
    std::vector<double> correlation;
    for (std::int64_t i = 0; i < 3; ++i) correlation.push_back(static_cast<double>(c[index_of(3 * p + i)]));
    second.set.set_code(p, z.data() + 3 * p);
    second.set.set_correlation(p, correlation.data());
  }
  EXPECT_EQ(second.set.support(), first.set.support());
  EXPECT_EQ(second.set.solve(second.scratch, 10 * kTight, 0), GroupSetOutcome::solved);
  EXPECT_EQ(second.set.steps(), 0);
}

TEST(GroupSet, RefusesWhatDoesNotFit) {
  const Problem problem = random_problem(20, 12, 3, 0.1, 1200);
  Solved solved(problem, 8);
  EXPECT_THROW(solved.add({0, 1, 2, 3, 4, 5, 6, 7, 8}), ShapeError);
  solved.add({0, 1, 2, 3, 4, 5, 6, 7});
  GroupSetScratch small;  // for less than the 24 atoms
  small.reserve(Context::cpu(1), 16);
  EXPECT_THROW(solved.set.solve(small, kTight, kSteps), ShapeError);
}

}  // namespace
}  // namespace shrinkwarp
