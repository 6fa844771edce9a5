#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/active_set/active_set.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::normal_atoms;
using testing::padded;
using testing::same_bits;

/// A problem in double whose atoms are exact in T: 1/2 ||x - D z||^2 + ridge / 2 ||z||^2 + sum threshold_j |z_j|.
struct Problem {
  GuardedHost<double> D;
  std::vector<double> x, thresholds;
  double ridge = 0;
  bool nonnegative = false;

  std::int64_t rows() const { return D.rows; }
  std::int64_t atoms() const { return D.cols; }
  double norm(std::int64_t j) const {
    double energy = 0;
    for (std::int64_t i = 0; i < rows(); ++i) energy += D(i, j) * D(i, j);
    return std::sqrt(energy);
  }
};

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

template <class T>
Problem problem_of(GuardedHost<double> D, const std::vector<double>& x, double threshold) {
  for (std::int64_t j = 0; j < D.cols; ++j) {
    for (std::int64_t i = 0; i < D.rows; ++i) D(i, j) = static_cast<double>(static_cast<T>(D(i, j)));
  }
  Problem problem;
  problem.D = std::move(D);
  problem.x = x;
  problem.thresholds.assign(index_of(problem.atoms()), threshold);
  return problem;
}

std::vector<double> normal_vector(std::int64_t n, std::uint64_t stream) {
  const auto column = normal_atoms(n, 1, stream);
  std::vector<double> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(column(i));
  return values;
}

/// D'(x - D z) - ridge z in long double: what is compared with the thresholds.
std::vector<double> correlations_of(const Problem& problem, const std::vector<double>& z) {
  std::vector<long double> r(problem.x.begin(), problem.x.end());
  for (std::int64_t j = 0; j < problem.atoms(); ++j) {
    for (std::int64_t i = 0; i < problem.rows() && z[index_of(j)] != 0; ++i)
      r[index_of(i)] -= static_cast<long double>(problem.D(i, j)) * z[index_of(j)];
  }
  std::vector<double> result;
  for (std::int64_t j = 0; j < problem.atoms(); ++j) {
    long double sum = -static_cast<long double>(problem.ridge) * z[index_of(j)];
    for (std::int64_t i = 0; i < problem.rows(); ++i) sum += problem.D(i, j) * r[index_of(i)];
    result.push_back(static_cast<double>(sum));
  }
  return result;
}

double objective_of(const Problem& problem, const std::vector<double>& z) {
  std::vector<long double> r(problem.x.begin(), problem.x.end());
  long double penalty = 0;
  for (std::int64_t j = 0; j < problem.atoms(); ++j) {
    for (std::int64_t i = 0; i < problem.rows(); ++i)
      r[index_of(i)] -= static_cast<long double>(problem.D(i, j)) * z[index_of(j)];
    penalty += problem.thresholds[index_of(j)] * std::fabs(z[index_of(j)]) +
               problem.ridge / 2 * z[index_of(j)] * z[index_of(j)];
  }
  for (const long double value : r) penalty += value * value / 2;
  return static_cast<double>(penalty);
}

/// ||x|| + sum ||d_k|| |z_k|: what correlations are differences of, over ||d_j||.
double magnitude_of(const Problem& problem, const std::vector<double>& z) {
  double sum = 0, energy = 0;
  for (const double value : problem.x) energy += value * value;
  for (std::int64_t j = 0; j < problem.atoms(); ++j) sum += problem.norm(j) * std::fabs(z[index_of(j)]);
  return std::sqrt(energy) + sum;
}

/// Coordinate descent in double until it stands still.
std::vector<double> coordinate_descent(const Problem& problem) {
  const std::int64_t m = problem.atoms();
  std::vector<double> z(index_of(m), 0.0), r = problem.x;
  for (int sweep = 0; sweep < 2000; ++sweep) {
    double moved = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      double correlation = 0, energy = problem.ridge;
      for (std::int64_t i = 0; i < problem.rows(); ++i) {
        correlation += problem.D(i, j) * r[index_of(i)];
        energy += problem.D(i, j) * problem.D(i, j);
      }
      if (energy == 0) continue;
      const double old = z[index_of(j)], threshold = problem.thresholds[index_of(j)];
      const double whole = correlation + (energy - problem.ridge) * old;
      double fresh = std::fabs(whole) <= threshold ? 0 : (whole - std::copysign(threshold, whole)) / energy;
      if (problem.nonnegative) fresh = std::max(0.0, fresh);
      for (std::int64_t i = 0; i < problem.rows() && fresh != old; ++i)
        r[index_of(i)] -= problem.D(i, j) * (fresh - old);
      z[index_of(j)] = fresh;
      moved = std::max(moved, std::sqrt(energy) * std::fabs(fresh - old));
    }
    if (moved < 1e-14 * (1 + std::fabs(problem.x[0]))) break;
  }
  return z;
}

/// A working set of all atoms of a problem, in `order`.
template <class T>
struct Solver {
  const Problem& problem;
  Tensor<T> D;
  Tensor<T> gram;  // empty: computed
  ActiveSet<T> set;

  explicit Solver(const Problem& of, std::int64_t capacity = -1)
      : problem(of), D(padded<T>(of.D)), set(Context::cpu(1), capacity < 0 ? of.atoms() : capacity) {
    set.clear(static_cast<T>(of.ridge), of.nonnegative);
  }

  /// Adds atoms with the correlations that the code of this moment leaves.
  void add(const std::vector<std::int32_t>& atoms) {
    const auto all = correlations_of(problem, code());
    std::vector<double> correlations, thresholds;
    for (const std::int32_t j : atoms) {
      correlations.push_back(all[index_of(j)]);
      thresholds.push_back(problem.thresholds[index_of(j)]);
    }
    set.add(D.matrix(), gram.matrix(), atoms.data(), correlations.data(), thresholds.data(),
            static_cast<std::int64_t>(atoms.size()));
  }
  void add_all() {
    std::vector<std::int32_t> atoms(index_of(problem.atoms()));
    std::iota(atoms.begin(), atoms.end(), 0);
    add(atoms);
  }
  /// Correlations in float64, and S stationary for them.
  void settle() {
    const auto all = correlations_of(problem, code());
    for (std::int64_t i = 0; i < set.size(); ++i) set.set_correlation(i, all[index_of(set.atom(i))]);
    set.settle();
  }
  /// z of all atoms; 0 for those that are not in W.
  std::vector<double> code() const {
    std::vector<double> z(index_of(problem.atoms()), 0.0);
    for (std::int64_t i = 0; i < set.size(); ++i) z[index_of(set.atom(i))] = set.code(i);
    return z;
  }
};

constexpr std::int64_t kManySteps = 100000;

/// S is what the set says it is: nonzero codes of S only, signs as allowed, all finite, places and counts right.
template <class T>
void check_valid(const Problem& problem, const ActiveSet<T>& set) {
  std::vector<bool> active(index_of(set.size()));
  for (std::int64_t k = 0; k < set.support(); ++k) {
    const std::int32_t i = set.active(k);
    ASSERT_GE(i, 0);
    ASSERT_LT(i, set.size());
    ASSERT_FALSE(active[index_of(i)]);
    active[index_of(i)] = true;
  }
  for (std::int64_t i = 0; i < set.size(); ++i) {
    ASSERT_TRUE(std::isfinite(set.code(i))) << i;
    ASSERT_EQ(set.is_active(i), active[index_of(i)]) << i;
    if (!active[index_of(i)]) {
      ASSERT_EQ(set.code(i), 0) << i;
    }
    if (problem.nonnegative) {
      ASSERT_GE(set.code(i), 0) << i;
    }
  }
}

/// The optimality conditions, with all correlations in long double:
///   z_j != 0:  corr_j = threshold_j sign(z_j);   z_j = 0:  |corr_j| <= threshold_j (1 + tolerance)
/// each to `units` eps of what a correlation is a difference of.
template <class T>
void check_optimal(const Problem& problem, const ActiveSet<T>& set, const std::vector<double>& z, double tolerance,
                   double units) {
  check_valid(problem, set);
  const auto correlations = correlations_of(problem, z);
  const double magnitude = magnitude_of(problem, z);
  for (std::int64_t j = 0; j < problem.atoms(); ++j) {
    const double c = correlations[index_of(j)], threshold = problem.thresholds[index_of(j)];
    const double room = units * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                        (problem.norm(j) * magnitude + problem.ridge * std::fabs(z[index_of(j)]));
    if (z[index_of(j)] != 0) {
      ASSERT_NEAR(c, std::copysign(threshold, z[index_of(j)]), room) << "atom " << j << ", z " << z[index_of(j)];
    } else {
      ASSERT_LE(problem.nonnegative ? c : std::fabs(c), threshold * (1 + tolerance) + room) << "atom " << j;
    }
  }
}

template <class T>
class ActiveSets : public ::testing::Test {
 protected:
  static constexpr double kEps = static_cast<double>(std::numeric_limits<T>::epsilon());
  static constexpr double kTolerance = std::is_same_v<T, float> ? 1e-6 : 1e-12;
  // n + |S| terms a correlation, over as many steps as atoms join: far more than what is seen.
  static double units(const Problem& problem) { return static_cast<double>(problem.rows() + 4 * problem.atoms() + 20); }

  /// Solves with all atoms, settles, and holds the optimality conditions against it. @return the code
  static std::vector<double> solve(const Problem& problem) {
    Solver<T> solver(problem);
    solver.add_all();
    EXPECT_EQ(solver.set.solve(kTolerance, kManySteps), ActiveSetOutcome::solved);
    check_optimal(problem, solver.set, solver.code(), kTolerance, units(problem));
    solver.settle();
    check_optimal(problem, solver.set, solver.code(), kTolerance, units(problem));
    return solver.code();
  }
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ActiveSets, Types);

TYPED_TEST(ActiveSets, PerpendicularAtomsAreSoftThresholded) {
  using T = TypeParam;
  const auto D = GuardedHost<double>::make(4, 4, [](std::int64_t i, std::int64_t j) { return i == j ? 1 << j : 0; });
  Problem problem = problem_of<T>(D, {3, -2, 0.25, 0.5}, 1);
  const std::vector<double> wanted = {2, -(4.0 - 1) / 4, 0, (4.0 - 1) / 64};
  EXPECT_EQ(this->solve(problem), wanted);
  problem.nonnegative = true;
  EXPECT_EQ(this->solve(problem), (std::vector<double>{2, 0, 0, (4.0 - 1) / 64}));
  problem.nonnegative = false;
  problem.ridge = 4;
  EXPECT_EQ(this->solve(problem)[0], 2.0 / 5);
}

struct Shape {
  std::int64_t n, m;
};

TYPED_TEST(ActiveSets, RandomProblemsAreOptimal) {
  using T = TypeParam;
  for (const Shape& shape : {Shape{1, 1}, Shape{5, 3}, Shape{30, 20}, Shape{43, 100}, Shape{60, 15}, Shape{60, 161}}) {
    for (const double share : {0.8, 0.3, 0.1, 0.02}) {
      for (const bool nonnegative : {false, true}) {
        for (const double ridge : {0.0, 3.0}) {
          SCOPED_TRACE(::testing::Message() << shape.n << " x " << shape.m << ", lambda " << share << " of the largest"
                                            << (nonnegative ? ", nonnegative" : "") << ", ridge " << ridge);
          Problem problem = problem_of<T>(normal_atoms(shape.n, shape.m, 1), normal_vector(shape.n, 2), 0);
          problem.nonnegative = nonnegative;
          problem.ridge = ridge;
          double largest = 0;
          for (const double c : correlations_of(problem, std::vector<double>(index_of(shape.m), 0.0)))
            largest = std::max(largest, nonnegative ? c : std::fabs(c));
          std::fill(problem.thresholds.begin(), problem.thresholds.end(), share * largest);
          const auto z = this->solve(problem);
          if (::testing::Test::HasFatalFailure()) return;
          if (largest > 0) {
            EXPECT_GT(std::count_if(z.begin(), z.end(), [](double v) { return v != 0; }), 0);
          }
        }
      }
    }
  }
}

TYPED_TEST(ActiveSets, FindsWhatCoordinateDescentFinds) {
  using T = TypeParam;
  for (std::uint64_t stream = 1; stream <= 6; ++stream) {
    for (const bool nonnegative : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "problem " << stream << (nonnegative ? ", nonnegative" : ""));
      Problem problem = problem_of<T>(normal_atoms(30, 40, 10 * stream), normal_vector(30, 10 * stream + 1), 4);
      problem.nonnegative = nonnegative;
      problem.ridge = stream % 2 == 0 ? 2 : 0;
      for (std::size_t j = 0; j < problem.thresholds.size(); ++j)
        problem.thresholds[j] *= stream > 3 ? static_cast<double>(j % 4 + 1) / 2 : 1;
      const auto found = this->solve(problem), wanted = coordinate_descent(problem);
      // The optimum is unique. Its distance is what correlations are off, over the least curvature of S, which is over a
      // hundredth of an atom's energy here.
      for (std::size_t j = 0; j < wanted.size(); ++j)
        EXPECT_NEAR(found[j], wanted[j], 100 * this->units(problem) * this->kEps) << j;
      EXPECT_NEAR(objective_of(problem, found), objective_of(problem, wanted),
                  this->units(problem) * this->kEps * objective_of(problem, std::vector<double>(wanted.size(), 0.0)));
    }
  }
}

// ---- degenerate problems ----

TYPED_TEST(ActiveSets, ThousandsOfDegenerateProblems) {
  using T = TypeParam;
  // Entries are small integers and atoms come twice, so that correlations tie and S is often dependent; every third
  // problem has atoms without a penalty.
  int stuck = 0;
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    testing::Integers pick(seed);
    const bool large = seed % 4 == 0;
    const std::int64_t n = pick(1, large ? 20 : 6), m = pick(1, large ? 40 : 12), size = pick(1, 3);
    GuardedHost<double> D(n, m);
    std::vector<double> x;
    for (std::int64_t i = 0; i < n; ++i) x.push_back(static_cast<double>(pick(-4, 4)));
    for (std::int64_t j = 0; j < m; ++j) {
      const std::int64_t copied = j > 0 && pick(0, 3) == 0 ? pick(0, j - 1) : -1, factor = pick(0, 1) == 0 ? 1 : -1;
      for (std::int64_t i = 0; i < n; ++i)
        D(i, j) = copied >= 0 ? static_cast<double>(factor) * D(i, copied) : static_cast<double>(pick(-size, size));
    }
    Problem problem = problem_of<T>(D, x, 1);
    for (double& threshold : problem.thresholds) threshold = static_cast<double>(pick(seed % 3 == 0 ? 0 : 1, 4)) / 2;
    problem.nonnegative = pick(0, 2) == 0;
    problem.ridge = pick(0, 3) == 0 ? 1 : 0;
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ": " << n << " x " << m
                                      << (problem.nonnegative ? ", nonnegative" : "") << ", ridge " << problem.ridge);
    Solver<T> solver(problem);
    solver.add_all();
    const auto outcome = solver.set.solve(this->kTolerance, kManySteps);
    ASSERT_LT(solver.set.steps(), 20 + 10 * m);
    if (outcome == ActiveSetOutcome::solved) {
      check_optimal(problem, solver.set, solver.code(), this->kTolerance, this->units(problem));
    } else {
      ++stuck;
      check_valid(problem, solver.set);
      EXPECT_LE(objective_of(problem, solver.code()), objective_of(problem, std::vector<double>(index_of(m), 0.0)));
    }
    if (this->HasFatalFailure()) return;
  }
  // Float cannot tell a determinant of such integers from nothing each time.
  EXPECT_LE(stuck, (std::is_same_v<T, float> ? 6 : 0));
}

/// Columns of `from`, each times a factor.
struct Copy {
  std::int64_t column;
  double factor;
};
GuardedHost<double> copies(const GuardedHost<double>& from, const std::vector<Copy>& of) {
  return GuardedHost<double>::make(
      from.rows, static_cast<std::int64_t>(of.size()),
      [&](std::int64_t i, std::int64_t j) { return of[index_of(j)].factor * from(i, of[index_of(j)].column); });
}

TYPED_TEST(ActiveSets, CopiesOfAtomsDoNotMatter) {
  // Everything twice, with both signs and at half its length, where it is not worth its threshold.
  using T = TypeParam;
  const auto D = normal_atoms(20, 12, 1);
  const auto x = normal_vector(20, 2);
  std::vector<Copy> of;
  for (const double factor : {1.0, 1.0, -1.0, 0.5, 0.0}) {
    for (std::int64_t j = 0; j < D.cols; ++j) of.push_back({j, factor});
  }
  for (const bool nonnegative : {false, true}) {
    Problem once = problem_of<T>(D, x, 1), often = problem_of<T>(copies(D, of), x, 1);
    often.nonnegative = nonnegative;
    const auto found = this->solve(often);
    if (this->HasFatalFailure()) return;
    const auto wanted = this->solve(once);
    for (std::size_t j = 0; j < wanted.size(); ++j)
      EXPECT_NEAR(found[j] + found[j + 12] - found[j + 24], wanted[j], 100 * this->units(often) * this->kEps) << j;
    for (std::size_t j = 36; j < found.size(); ++j) EXPECT_EQ(found[j], 0);
  }
}

TYPED_TEST(ActiveSets, DependentAtomsGiveTheSameFit) {
  // Sixty atoms of a space of five dimensions, all with correlations at stake: S has five atoms at most.
  using T = TypeParam;
  const auto basis = normal_atoms(40, 5, 1), mix = normal_atoms(5, 60, 2);
  const auto x = normal_vector(40, 3);
  const auto D = GuardedHost<double>::make(40, 60, [&](std::int64_t i, std::int64_t j) {
    double sum = 0;
    for (std::int64_t k = 0; k < 5; ++k) sum += basis(i, k) * mix(k, j);
    return sum;
  });
  for (const double threshold : {4.0, 0.5, 0.01}) {
    SCOPED_TRACE(threshold);
    const Problem problem = problem_of<T>(D, x, threshold);
    Solver<T> solver(problem);
    solver.add_all();
    EXPECT_EQ(solver.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    EXPECT_LE(solver.set.support(), 5);
    solver.settle();
    check_optimal(problem, solver.set, solver.code(), this->kTolerance, this->units(problem));
    // Coordinate descent is slow here, and not at the end when it is stopped.
    const double reached = objective_of(problem, coordinate_descent(problem));
    EXPECT_LE(objective_of(problem, solver.code()), reached * (1 + this->units(problem) * this->kEps));
  }
}

TYPED_TEST(ActiveSets, AtomsOfAnyLength) {
  // Atoms over twelve orders of magnitude: with thresholds of their length the problem is the same in other units.
  using T = TypeParam;
  const auto D = normal_atoms(30, 39, 1);
  const auto x = normal_vector(30, 2);
  std::vector<Copy> of;
  for (std::int64_t j = 0; j < D.cols; ++j) of.push_back({j, std::ldexp(1.0, static_cast<int>(40 * j / 38 - 20))});
  for (const double threshold : {2.0, 0.3}) {
    SCOPED_TRACE(threshold);
    const Problem plain = problem_of<T>(D, x, threshold);
    Problem scaled = problem_of<T>(copies(D, of), x, threshold);
    const auto of_one_threshold = this->solve(scaled);
    if (this->HasFatalFailure()) return;
    for (std::size_t j = 0; j < of.size(); ++j) scaled.thresholds[j] *= of[j].factor;
    const auto found = this->solve(scaled), wanted = this->solve(plain);
    if (this->HasFatalFailure()) return;
    for (std::size_t j = 0; j < wanted.size(); ++j)
      EXPECT_NEAR(found[j] * of[j].factor, wanted[j], 100 * this->units(plain) * this->kEps) << j;
  }
}

TYPED_TEST(ActiveSets, NearlyDependentAtoms) {
  // Smooth bumps, some with a little noise: what is left of one outside of the others is down to nothing, and rounding wears
  // the inverse out. Float may end up stuck; what it has then is valid, and no worse than no code at all.
  using T = TypeParam;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    testing::Integers pick(seed);
    const std::int64_t n = pick(10, 60), m = pick(20, 120);
    const double width = std::exp(static_cast<double>(pick(-10, 30)) / 10);
    const double noise = pick(0, 2) == 0 ? 0.0 : std::exp(-static_cast<double>(pick(0, 12)));
    const auto random = normal_atoms(n, m, seed);
    const auto D = GuardedHost<double>::make(n, m, [&](std::int64_t i, std::int64_t j) {
      const double place = static_cast<double>(j * (n - 1)) / static_cast<double>(m - 1);
      const double t = (static_cast<double>(i) - place) / width;
      return std::exp(-t * t / 2) + noise * random(i, j);
    });
    for (const double threshold : {0.1, 0.001}) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << ", width " << width << ", noise " << noise
                                        << ", threshold " << threshold);
      Problem problem = problem_of<T>(D, normal_vector(n, 1000 + seed), threshold);
      problem.nonnegative = seed % 4 == 0;
      Solver<T> solver(problem);
      solver.add_all();
      const double start = objective_of(problem, solver.code());
      const auto outcome = solver.set.solve(this->kTolerance, kManySteps);
      ASSERT_LT(solver.set.steps(), 50 + 5 * m);
      if (outcome == ActiveSetOutcome::solved) {
        // An inverse may wear until S is this far from where it should be.
        const double wear = (std::is_same_v<T, float> ? 2e-5 : 1e-11) / this->kEps;
        check_optimal(problem, solver.set, solver.code(), this->kTolerance, this->units(problem) + wear);
      } else {
        EXPECT_TRUE((std::is_same_v<T, float>));
        check_valid(problem, solver.set);
      }
      const double found = objective_of(problem, solver.code());
      EXPECT_LE(found, start);
      solver.settle();
      check_valid(problem, solver.set);
      EXPECT_LE(objective_of(problem, solver.code()), found + this->units(problem) * this->kEps * start);
      if (this->HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(ActiveSets, ThresholdsOfTheirOwn) {
  using T = TypeParam;
  for (const bool nonnegative : {false, true}) {
    Problem problem = problem_of<T>(normal_atoms(40, 30, 1), normal_vector(40, 2), 3);
    problem.nonnegative = nonnegative;
    for (const std::size_t j : {0U, 7U, 8U, 29U}) problem.thresholds[j] = 0;  // as an intercept
    for (const std::size_t j : {1U, 9U}) problem.thresholds[j] = 1e20;
    problem.thresholds[2] = 1e300;  // infinity in float
    const auto z = this->solve(problem);
    if (this->HasFatalFailure()) return;
    for (const std::size_t j : {0U, 7U, 8U, 29U}) {
      EXPECT_TRUE(z[j] != 0 || nonnegative) << j;
    }
    for (const std::size_t j : {1U, 2U, 9U}) EXPECT_EQ(z[j], 0) << j;
    const auto wanted = coordinate_descent(problem);
    for (std::size_t j = 0; j < wanted.size(); ++j)
      EXPECT_NEAR(z[j], wanted[j], 100 * this->units(problem) * this->kEps) << j;
  }
}

TYPED_TEST(ActiveSets, WithoutThresholdsItIsLeastSquares) {
  // Ten atoms and their copies for a vector of their span: nothing is left.
  using T = TypeParam;
  const auto D = normal_atoms(30, 10, 1), mix = normal_atoms(10, 1, 2);
  std::vector<Copy> of;
  for (const double factor : {1.0, -2.0}) {
    for (std::int64_t j = 0; j < D.cols; ++j) of.push_back({j, factor});
  }
  Problem problem = problem_of<T>(copies(D, of), std::vector<double>(30, 0.0), 0);
  for (std::int64_t j = 0; j < 10; ++j) {
    for (std::int64_t i = 0; i < 30; ++i) problem.x[index_of(i)] += mix(j) * problem.D(i, j);
  }
  const auto z = this->solve(problem);
  for (std::size_t j = 0; j < 10; ++j)
    EXPECT_NEAR(z[j] - 2 * z[j + 10], mix(static_cast<std::int64_t>(j)), 100 * this->units(problem) * this->kEps) << j;
}

TYPED_TEST(ActiveSets, WithoutThresholdsACodeMayComeToZeroAndStay) {
  // The first atom is all there is to begin with, and nothing when the second has joined.
  GuardedHost<double> D = normal_atoms(2, 2, 1);
  D(0, 0) = 2;
  D(1, 0) = 0;
  D(0, 1) = D(1, 1) = 1;
  const auto z = this->solve(problem_of<TypeParam>(D, {1, 1}, 0));
  EXPECT_EQ(z[0], 0);
  EXPECT_EQ(z[1], 1);
}

TYPED_TEST(ActiveSets, OneAtomAndNone) {
  using T = TypeParam;
  const auto D = GuardedHost<double>::make(3, 2, [](std::int64_t i, std::int64_t j) { return j == 0 ? i - 1 : 0; });
  Problem problem = problem_of<T>(D, {-4, 7, 2}, 2);
  Solver<T> solver(problem);
  EXPECT_EQ(solver.set.solve(0, 10), ActiveSetOutcome::solved);  // an empty W
  solver.set.settle();
  EXPECT_EQ(solver.set.steps(), 0);
  solver.add({1});  // an atom of zeros
  EXPECT_EQ(solver.set.solve(0, 10), ActiveSetOutcome::solved);
  EXPECT_EQ(solver.set.support(), 0);
  solver.add({0});
  EXPECT_EQ(solver.set.solve(0, 10), ActiveSetOutcome::solved);
  EXPECT_EQ(solver.set.size(), 2);
  EXPECT_EQ(solver.set.support(), 1);
  EXPECT_EQ(solver.set.atom(0), 1);
  EXPECT_EQ(solver.set.atom(1), 0);
  EXPECT_EQ(solver.set.active(0), 1);
  EXPECT_FALSE(solver.set.is_active(0));
  EXPECT_TRUE(solver.set.is_active(1));
  EXPECT_EQ(solver.set.code(1), (6.0 - 2) / 2);
  EXPECT_EQ(solver.set.correlation(1), T(2));
  EXPECT_EQ(solver.set.threshold(1), T(2));
  // Atoms of zeros that have no threshold either.
  std::fill(problem.thresholds.begin(), problem.thresholds.end(), 0.0);
  EXPECT_EQ(this->solve(problem), (std::vector<double>{3, 0}));
}

TYPED_TEST(ActiveSets, EqualCorrelationsTakeTurns) {
  // All of four atoms have the same correlation: the first one goes first, and none is left over.
  using T = TypeParam;
  const auto D = GuardedHost<double>::make(4, 4, [](std::int64_t i, std::int64_t j) { return i == j ? 2 : 1; });
  const Problem problem = problem_of<T>(D, {1, 1, 1, 1}, 1);
  const auto z = this->solve(problem);
  for (const double value : z) EXPECT_NEAR(value, 4.0 / 25, 4 * this->kEps);  // 25 z = 5 - 1: all atoms sum to 5
}

TYPED_TEST(ActiveSets, GrowsInRounds) {
  using T = TypeParam;
  const Problem problem = problem_of<T>(normal_atoms(50, 90, 1), normal_vector(50, 2), 5);
  const auto wanted = this->solve(problem);
  for (const std::int64_t round : {1, 7, 16, 40}) {
    SCOPED_TRACE(round);
    Solver<T> solver(problem);
    for (std::int64_t first = problem.atoms(); first > 0; first -= round) {  // the last ones first
      std::vector<std::int32_t> atoms;
      for (std::int64_t k = std::max<std::int64_t>(0, first - round); k < first; ++k)
        atoms.push_back(static_cast<std::int32_t>(k));
      solver.add(atoms);
      ASSERT_EQ(solver.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    }
    solver.settle();
    const auto found = solver.code();
    check_optimal(problem, solver.set, found, this->kTolerance, this->units(problem));
    for (std::size_t j = 0; j < wanted.size(); ++j)
      EXPECT_NEAR(found[j], wanted[j], 100 * this->units(problem) * this->kEps) << j;
  }
}

/// All that a set tells.
template <class T>
std::vector<double> state_of(const ActiveSet<T>& set) {
  std::vector<double> all{static_cast<double>(set.size()), static_cast<double>(set.support()),
                          static_cast<double>(set.steps())};
  for (std::int64_t i = 0; i < set.size(); ++i) {
    for (const double value : {static_cast<double>(set.atom(i)), set.code(i), static_cast<double>(set.correlation(i)),
                               static_cast<double>(set.threshold(i)), set.is_active(i) ? 1.0 : 0.0})
      all.push_back(value);
  }
  for (std::int64_t k = 0; k < set.support(); ++k) all.push_back(set.active(k));
  return all;
}

TYPED_TEST(ActiveSets, SameBitsAgainAndAfterAnotherProblem) {
  using T = TypeParam;
  const Problem problem = problem_of<T>(normal_atoms(50, 90, 1), normal_vector(50, 2), 2);
  Solver<T> first(problem), again(problem);
  first.add_all();
  EXPECT_EQ(first.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);

  Problem other = problem_of<T>(normal_atoms(50, 90, 5), normal_vector(50, 6), 1);
  const auto D = padded<T>(other.D);
  std::vector<std::int32_t> atoms(90);
  std::iota(atoms.begin(), atoms.end(), 0);
  const auto correlations = correlations_of(other, std::vector<double>(90, 0.0));
  again.set.clear(T(3), true);
  again.set.add(D.matrix(), {}, atoms.data(), correlations.data(), other.thresholds.data(), 90);
  again.set.solve(1e-3, kManySteps);
  EXPECT_GT(again.set.support(), 0);
  again.set.clear(T(0), false);
  EXPECT_EQ(again.set.size(), 0);
  EXPECT_EQ(again.set.steps(), 0);
  again.add_all();
  EXPECT_EQ(again.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
  EXPECT_EQ(state_of(first.set), state_of(again.set));
}

TYPED_TEST(ActiveSets, RestartKeepsTheGramMatrix) {
  using T = TypeParam;
  Problem problem = problem_of<T>(normal_atoms(50, 90, 1), normal_vector(50, 2), 2);
  Solver<T> fresh(problem), used(problem);
  used.add_all();
  used.set.solve(this->kTolerance, kManySteps);
  problem.x = normal_vector(50, 9);  // another vector, other thresholds
  for (std::size_t j = 0; j < 90; ++j) problem.thresholds[j] = 3 + static_cast<double>(j % 3);
  fresh.add_all();
  used.set.restart(correlations_of(problem, std::vector<double>(90, 0.0)).data(), problem.thresholds.data());
  EXPECT_EQ(state_of(used.set), state_of(fresh.set));
  for (Solver<T>* solver : {&fresh, &used})
    EXPECT_EQ(solver->set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
  EXPECT_GT(fresh.set.support(), 5);
  EXPECT_EQ(state_of(used.set), state_of(fresh.set));
}

TYPED_TEST(ActiveSets, ReserveKeepsTheBits) {
  using T = TypeParam;
  const Problem problem = problem_of<T>(normal_atoms(50, 90, 1), normal_vector(50, 2), 2);
  std::vector<std::int32_t> some(20), rest(70);
  std::iota(some.begin(), some.end(), 0);
  std::iota(rest.begin(), rest.end(), 20);
  Solver<T> whole(problem), growing(problem, 20);
  EXPECT_EQ(growing.set.capacity(), 32);  // whole vectors
  for (Solver<T>* solver : {&whole, &growing}) {
    solver->add(some);
    EXPECT_EQ(solver->set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
  }
  const auto before = state_of(growing.set);
  growing.set.reserve(Context::cpu(1), 5);
  EXPECT_EQ(growing.set.capacity(), 32);
  growing.set.reserve(Context::cpu(1), 90);
  EXPECT_GE(growing.set.capacity(), 90);
  EXPECT_EQ(state_of(growing.set), before);
  for (Solver<T>* solver : {&whole, &growing}) {
    solver->settle();
    solver->add(rest);
    EXPECT_EQ(solver->set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    solver->settle();
  }
  EXPECT_EQ(state_of(growing.set), state_of(whole.set));
}

TYPED_TEST(ActiveSets, TakesAGramMatrix) {
  // Entries are small integers, so that all products are exact: the bits are the same.
  using T = TypeParam;
  testing::Integers pick(7);
  const auto D =
      GuardedHost<double>::make(21, 60, [&](std::int64_t, std::int64_t) { return static_cast<double>(pick(-3, 3)); });
  std::vector<double> x;
  for (int i = 0; i < 21; ++i) x.push_back(static_cast<double>(pick(-9, 9)));
  Problem problem = problem_of<T>(D, x, 4);
  problem.ridge = 0.5;
  Solver<T> computed(problem), given(problem);
  given.gram = Tensor<T>(Context::cpu(1), 60, 60);
  for (std::int64_t j = 0; j < 60; ++j) {
    for (std::int64_t i = 0; i < 60; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < 21; ++k) sum += D(k, i) * D(k, j);
      given.gram.matrix()(i, j) = static_cast<T>(sum);
    }
  }
  std::vector<std::int32_t> odd, even;
  for (std::int32_t j = 59; j >= 0; --j) (j % 2 == 0 ? even : odd).push_back(j);
  for (const auto& atoms : {odd, even}) {
    for (Solver<T>* solver : {&computed, &given}) {
      solver->add(atoms);
      EXPECT_EQ(solver->set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    }
    EXPECT_EQ(state_of(computed.set), state_of(given.set));
  }
  EXPECT_GT(given.set.support(), 5);
}

TYPED_TEST(ActiveSets, GramOfAnyBlocks) {
  // W grows by blocks of all sizes; what the set has computed shows in the correlations, which follow each move.
  using T = TypeParam;
  testing::Integers pick(3);
  const auto D =
      GuardedHost<double>::make(9, 70, [&](std::int64_t, std::int64_t) { return static_cast<double>(pick(-2, 2)); });
  for (const std::int64_t block : {1, 2, 3, 5, 17, 33}) {
    SCOPED_TRACE(block);
    const Problem problem = problem_of<T>(D, std::vector<double>(9, 16.0), 1000);  // no atom is worth it
    for (std::int32_t j = 0; j < 70; ++j) {
      if (j % 9 != 0 && j != 69) continue;
      Solver<T> solver(problem);
      for (std::int64_t first = 0; first < 70; first += block) {
        std::vector<std::int32_t> atoms;
        for (std::int64_t k = first; k < std::min<std::int64_t>(70, first + block); ++k)
          atoms.push_back(static_cast<std::int32_t>(k));
        solver.add(atoms);
      }
      std::vector<double> z(70, 0.0);
      z[index_of(j)] = -8;
      ASSERT_TRUE(solver.set.start(z.data()));
      const auto wanted = correlations_of(problem, z);
      for (std::int64_t i = 0; i < 70; ++i) solver.set.set_correlation(i, wanted[index_of(i)]);
      // S is settled but for a step that changes z_j by 1: its correlation lacks the atom's energy.
      const double energy = problem.norm(j) * problem.norm(j);
      solver.set.set_correlation(j, -1000 + energy);
      solver.set.settle();
      for (std::int64_t i = 0; i < 70; ++i) {
        double product = 0;
        for (std::int64_t k = 0; k < 9; ++k) product += D(k, i) * D(k, j);
        const double before = i == j ? -1000 + energy : wanted[index_of(i)];
        ASSERT_NEAR(static_cast<double>(solver.set.correlation(i)), before - product, 1000 * this->kEps) << i;
      }
    }
  }
}

TYPED_TEST(ActiveSets, StartsAtACode) {
  using T = TypeParam;
  const Problem problem = problem_of<T>(normal_atoms(50, 90, 1), normal_vector(50, 2), 4);
  const auto wanted = this->solve(problem);
  for (const double off : {0.0, 0.1}) {
    SCOPED_TRACE(off);
    std::vector<double> codes = wanted;
    for (double& value : codes) value *= 1 + off;
    for (std::size_t j = 0; j < codes.size() && off > 0; j += 9) codes[j] += j % 2 == 0 ? off : -off;  // strangers, too
    Solver<T> solver(problem);
    solver.add_all();
    ASSERT_TRUE(solver.set.start(codes.data()));
    check_valid(problem, solver.set);
    EXPECT_EQ(solver.code(), codes);
    solver.settle();
    EXPECT_EQ(solver.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    solver.settle();
    const auto found = solver.code();
    check_optimal(problem, solver.set, found, this->kTolerance, this->units(problem));
    for (std::size_t j = 0; j < wanted.size(); ++j)
      EXPECT_NEAR(found[j], wanted[j], 100 * this->units(problem) * this->kEps) << j;
  }
}

TYPED_TEST(ActiveSets, DoesNotStartAtDependentAtoms) {
  using T = TypeParam;
  std::vector<Copy> of;
  for (std::int64_t j = 0; j < 20; ++j) of.push_back({j % 15, j < 15 ? 1.0 : -1.0});
  const Problem problem = problem_of<T>(copies(normal_atoms(30, 15, 1), of), normal_vector(30, 2), 2);
  Solver<T> solver(problem);
  solver.add_all();
  std::vector<double> codes(20, 0.0);
  for (const std::size_t j : {3U, 4U, 18U}) codes[j] = 1;  // atom 18 is atom 3
  EXPECT_FALSE(solver.set.start(codes.data()));
  check_valid(problem, solver.set);
  EXPECT_EQ(solver.set.support(), 0);
  EXPECT_EQ(solver.code(), std::vector<double>(20, 0.0));
  // It can be solved from there.
  EXPECT_EQ(solver.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
  check_optimal(problem, solver.set, solver.code(), this->kTolerance, this->units(problem));
}

TYPED_TEST(ActiveSets, SettlesFromCorrelationsThatWereSet) {
  // By hand: perpendicular atoms. The second one's sign is wrong, it leaves; the third has no threshold, it may cross.
  using T = TypeParam;
  const auto D = GuardedHost<double>::make(3, 3, [](std::int64_t i, std::int64_t j) { return i == j ? 1 : 0; });
  Problem problem = problem_of<T>(D, {3, -2, -5}, 1);
  problem.thresholds[2] = 0;
  Solver<T> solver(problem);
  solver.add_all();
  const double codes[] = {5, 1, 2};
  ASSERT_TRUE(solver.set.start(codes));
  solver.settle();
  EXPECT_EQ(solver.code(), (std::vector<double>{2, 0, -5}));
  EXPECT_EQ(solver.set.support(), 2);
  EXPECT_FALSE(solver.set.is_active(1));
  for (const auto& [i, wanted] : {std::pair<int, T>{0, T(1)}, {1, T(-2)}, {2, T(0)}})
    EXPECT_EQ(solver.set.correlation(i), wanted);
  // Where z >= 0 it may not.
  problem.nonnegative = true;
  Solver<T> other(problem);
  other.add_all();
  ASSERT_TRUE(other.set.start(codes));
  other.settle();
  check_valid(problem, other.set);
  EXPECT_NEAR(other.set.code(0), 2, 8 * this->kEps);  // on its way in three steps
  EXPECT_EQ(other.set.support(), 1);
}

TYPED_TEST(ActiveSets, AtomsThatComeToZeroTogetherLeaveTogether) {
  // Twins d_0 and d_1, each with the same angle to d_2: their codes stay equal, and reach zero in the same step.
  using T = TypeParam;
  const auto D = GuardedHost<double>::make(3, 3, [](std::int64_t i, std::int64_t j) {
    const double values[3][3] = {{4, 0, 3}, {0, 4, 3}, {0, 0, 1}};
    return values[i][j];
  });
  for (const bool nonnegative : {false, true}) {
    Problem problem = problem_of<T>(D, {9, 9, 3}, 1);
    problem.nonnegative = nonnegative;
    Solver<T> solver(problem);
    solver.add_all();
    const double codes[] = {2, 2, 0.25};
    ASSERT_TRUE(solver.set.start(codes));
    solver.settle();
    check_valid(problem, solver.set);
    EXPECT_EQ(solver.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    check_optimal(problem, solver.set, solver.code(), this->kTolerance, this->units(problem));
    for (std::int64_t k = 0; k < solver.set.support(); ++k) EXPECT_NE(solver.set.code(solver.set.active(k)), 0);
  }
}

TYPED_TEST(ActiveSets, StopsAfterTheStepsItMayTake) {
  using T = TypeParam;
  const Problem problem = problem_of<T>(normal_atoms(50, 90, 1), normal_vector(50, 2), 2);
  Solver<T> whole(problem), stopped(problem);
  whole.add_all();
  EXPECT_EQ(whole.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
  stopped.add_all();
  double last = objective_of(problem, stopped.code());
  EXPECT_EQ(stopped.set.solve(this->kTolerance, 0), ActiveSetOutcome::stuck);
  EXPECT_EQ(stopped.set.steps(), 0);
  int stops = 0;
  while (stopped.set.solve(this->kTolerance, stopped.set.steps() + 1) == ActiveSetOutcome::stuck) {
    ++stops;
    check_valid(problem, stopped.set);
    const double now = objective_of(problem, stopped.code());  // each atom that joins brings it down
    EXPECT_LT(now, last + this->units(problem) * this->kEps * last);
    last = now;
    if (this->HasFatalFailure() || stops > 1000) break;
  }
  EXPECT_GT(stops, 10);
  EXPECT_EQ(state_of(stopped.set), state_of(whole.set));  // an interrupted solve goes on where it was
}

TYPED_TEST(ActiveSets, BytesAreWhatTheyAreSaidToBe) {
  using T = TypeParam;
  std::int64_t last = 0;
  for (const std::int64_t capacity : {1, 16, 17, 100, 512, 2048}) {
    const ActiveSet<T> set(Context::cpu(1), capacity);
    EXPECT_GE(set.capacity(), capacity);
    EXPECT_LT(set.capacity(), capacity + ActiveSet<T>::kPadding);
    const std::int64_t bytes = ActiveSet<T>::bytes(capacity);
    const auto size = static_cast<std::int64_t>(sizeof(T));
    EXPECT_GE(bytes, 2 * set.capacity() * set.capacity() * size);  // G and an inverse
    EXPECT_LE(bytes, 2 * set.capacity() * (set.capacity() + 16) * size + 150 * set.capacity() + 8192);
    EXPECT_GE(bytes, last);
    last = bytes;
  }
}

TYPED_TEST(ActiveSets, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  const Context context = Context::cpu(1);
  ActiveSet<T> set(context, 16);
  set.clear(T(0), false);
  const auto D = Tensor<T>::zeros(context, 16, 20);
  std::vector<std::int32_t> atoms(20);
  std::iota(atoms.begin(), atoms.end(), 0);
  const std::vector<double> numbers(20, 1.0);
  const auto add = [&](MatrixView<const T> view, std::int64_t count) {
    set.add(view, {}, atoms.data(), numbers.data(), numbers.data(), count);
  };
  EXPECT_THROW(add(D.matrix(), 17), ShapeError);
  EXPECT_EQ(set.size(), 0);
  MatrixView<const T> odd = D.matrix();
  odd.rows = 15;
  EXPECT_THROW(add(odd, 3), ShapeError);
  odd = D.matrix();
  odd.ld = 17;
  EXPECT_THROW(add(odd, 3), ShapeError);
  EXPECT_EQ(set.size(), 0);
  add(D.matrix(), 10);
  EXPECT_THROW(add(D.matrix(), 7), ShapeError);
  EXPECT_EQ(set.size(), 10);
  add(D.matrix(), 6);
  EXPECT_EQ(set.size(), 16);
}

}  // namespace
}  // namespace shrinkwarp
