#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
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
  for (int sweep = 0; sweep < 20000; ++sweep) {
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
  static double units(const Problem& problem) {
    return static_cast<double>(problem.rows() + 4 * problem.atoms() + 20);
  }

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

/// Small integers from a hash: the same on every machine.
class Integers {
 public:
  explicit Integers(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) {}
  std::int64_t operator()(std::int64_t least, std::int64_t most) {
    state_ ^= state_ << 13U;
    state_ ^= state_ >> 7U;
    state_ ^= state_ << 17U;
    return least + static_cast<std::int64_t>((state_ >> 11U) % static_cast<std::uint64_t>(most - least + 1));
  }

 private:
  std::uint64_t state_;
};

TYPED_TEST(ActiveSets, ThousandsOfDegenerateProblems) {
  using T = TypeParam;
  // Entries are small integers and atoms come twice, so that correlations tie and S is often dependent; every third
  // problem has atoms without a penalty.
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    Integers pick(seed);
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
    ASSERT_EQ(solver.set.solve(this->kTolerance, kManySteps), ActiveSetOutcome::solved);
    ASSERT_LT(solver.set.steps(), 20 + 10 * m);
    check_optimal(problem, solver.set, solver.code(), this->kTolerance, this->units(problem));
    if (::testing::Test::HasFatalFailure()) return;
  }
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
    const double wanted = objective_of(problem, coordinate_descent(problem));
    EXPECT_NEAR(objective_of(problem, solver.code()), wanted, this->units(problem) * this->kEps * wanted);
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
  // Smooth bumps, each nearly its neighbour: what is left of one outside of the others is next to nothing. Float may end
  // up stuck; what it has then is valid, and no worse than its own rounding can tell from the optimum.
  using T = TypeParam;
  const std::int64_t n = 50, m = 120;
  for (const double width : {1.5, 4.0, 10.0}) {
    const auto D = GuardedHost<double>::make(n, m, [&](std::int64_t i, std::int64_t j) {
      const double t = (static_cast<double>(i) - static_cast<double>(j) * (n - 1) / (m - 1)) / width;
      return std::exp(-t * t / 2);
    });
    for (const double share : {0.3, 0.03, 0.001}) {
      for (const bool nonnegative : {false, true}) {
        SCOPED_TRACE(::testing::Message() << "width " << width << ", lambda " << share
                                          << (nonnegative ? ", nonnegative" : ""));
        Problem problem = problem_of<T>(D, normal_vector(n, 2), share);
        problem.nonnegative = nonnegative;
        Solver<T> solver(problem);
        solver.add_all();
        const double start = objective_of(problem, solver.code());
        const auto outcome = solver.set.solve(this->kTolerance, 2000);
        check_valid(problem, solver.set);
        solver.settle();
        check_valid(problem, solver.set);
        const auto z = solver.code();
        double worst = 0;
        const auto c = correlations_of(problem, z);
        for (std::size_t j = 0; j < z.size(); ++j) worst = std::max(worst, (nonnegative ? c[j] : std::fabs(c[j])) / share - 1);
        std::printf("%s w %g share %g nn %d: %s steps %d S %d obj %.9g (start %g), worst over %.3g, |z| %.3g\n", sizeof(T) == 4 ? "f" : "d", width, share, nonnegative,
                    outcome == ActiveSetOutcome::solved ? "solved" : "STUCK", (int)solver.set.steps(), (int)solver.set.support(), objective_of(problem, z), start, worst, magnitude_of(problem, z));
      }
    }
  }
}

}  // namespace
}  // namespace shrinkwarp
