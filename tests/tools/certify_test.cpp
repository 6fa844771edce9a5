// The certifier against the same formulas in quadruple precision: its bounds hold, also where numbers are nasty, and are
// no larger than they have to be.
#include <shrinkwarp/tools/certify/certifier.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::certify {
namespace {

using Quad = __float128;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = std::numeric_limits<long double>::epsilon() / 2;

Quad magnitude(Quad value) {
  return value < 0 ? -value : value;
}
/// Newton's iteration from the root in extended precision doubles its digits.
Quad root(Quad value) {
  if (value == 0) return 0;
  const Quad near = std::sqrt(static_cast<long double>(value));
  return (near + value / near) / 2;
}

/// A dictionary, one observation and its code.
struct Problem {
  std::int64_t n = 0, m = 0;
  std::vector<double> D;  // [n, m], column-major
  std::vector<double> x;  // [n]
  std::vector<double> z;  // [m], dense
  double lambda = 1;
  Penalty penalty = {};

  double weight(std::int64_t j) const {
    return penalty.weights.empty() ? 1.0 : penalty.weights[static_cast<std::size_t>(j / penalty.group_size)];
  }
  bool ends_group(std::int64_t j) const { return (j + 1) % penalty.group_size == 0; }
  double d(std::int64_t i, std::int64_t j) const { return D[static_cast<std::size_t>(j * n + i)]; }
  std::int64_t nonzeros() const { return m - std::count(z.begin(), z.end(), 0.0); }
};

CodeRows rows_of(const std::vector<std::vector<double>>& codes) {
  CodeRows rows;
  for (const std::vector<double>& z : codes) {
    for (std::size_t j = 0; j < z.size(); ++j) {
      if (z[j] == 0) continue;
      rows.indices.push_back(static_cast<std::int64_t>(j));
      rows.values.push_back(z[j]);
    }
    rows.offsets.push_back(static_cast<std::int64_t>(rows.values.size()));
  }
  return rows;
}

Measures measured(const Problem& problem) {
  const Context context = Context::cpu(1);
  const Certifier certifier(context, {problem.D.data(), problem.n, problem.m, problem.n, Device{}}, problem.penalty);
  Measures measures;
  certifier.measure(context, {problem.x.data(), problem.n, 1, problem.n, Device{}}, rows_of({problem.z}),
                    {&problem.lambda, 1, Device{}}, 0, &measures);
  return measures;
}
Certificate certificate_of(const Problem& problem) {
  return measured(problem).at(problem.lambda);
}

/// The certificate's formulas in quadruple precision, without weights and ridge, and the sizes that bounds of rounding are
/// made of.
struct Exact {
  Quad energy = 0, objective = 0, gap = 0, scale = 0;
  Quad largest = 0;        // ||D'r||_inf, or the largest ||D_g'r||
  Quad r_square = 0;       // ||r||^2
  double terms_norm = 0;   // ||x|| + sum_j ||d_j|| |z_j|
  double column_norm = 0;  // largest ||d_j||
};
Exact exact(const Problem& problem) {
  Exact result;
  std::vector<Quad> r(problem.x.begin(), problem.x.end());
  Quad l1 = 0, xr = 0, group = 0;
  for (std::int64_t j = 0; j < problem.m; ++j) {
    const Quad z = problem.z[static_cast<std::size_t>(j)];
    group += z * z;
    if (problem.ends_group(j)) l1 += root(group), group = 0;
    long double square = 0;
    for (std::int64_t i = 0; i < problem.n; ++i) {
      r[static_cast<std::size_t>(i)] -= z * problem.d(i, j);
      square += static_cast<long double>(problem.d(i, j)) * problem.d(i, j);
    }
    const auto norm = static_cast<double>(std::sqrt(square));
    result.column_norm = std::max(result.column_norm, norm);
    result.terms_norm += norm * std::fabs(problem.z[static_cast<std::size_t>(j)]);
  }
  for (std::int64_t i = 0; i < problem.n; ++i) {
    const auto k = static_cast<std::size_t>(i);
    result.r_square += r[k] * r[k];
    xr += r[k] * problem.x[k];
    result.energy += static_cast<Quad>(problem.x[k]) * problem.x[k] / 2;
  }
  result.terms_norm += static_cast<double>(std::sqrt(static_cast<long double>(2 * result.energy)));
  for (std::int64_t j = 0; j < problem.m; ++j) {
    Quad correlation = 0;
    for (std::int64_t i = 0; i < problem.n; ++i) correlation += r[static_cast<std::size_t>(i)] * problem.d(i, j);
    if (problem.penalty.group_size == 1) {
      result.largest = std::max(result.largest, magnitude(correlation));
      continue;
    }
    group += correlation * correlation;
    if (problem.ends_group(j)) result.largest = std::max(result.largest, root(group)), group = 0;
  }
  const Quad lambda = problem.lambda;
  result.objective = result.r_square / 2 + lambda * l1;
  if (result.r_square > 0) {
    result.scale = xr / result.r_square;
    if (magnitude(result.scale) * result.largest > lambda)
      result.scale = (result.scale < 0 ? -1 : 1) * lambda / result.largest;
  }
  result.gap = result.objective - (result.scale * xr - result.scale * result.scale * result.r_square / 2);
  return result;
}

/// F of any code, in quadruple precision.
Quad objective_of(const Problem& problem, const std::vector<Quad>& z) {
  std::vector<Quad> r(problem.x.begin(), problem.x.end());
  Quad objective = 0, group = 0;
  for (std::int64_t j = 0; j < problem.m; ++j) {
    const Quad value = z[static_cast<std::size_t>(j)];
    for (std::int64_t i = 0; i < problem.n; ++i) r[static_cast<std::size_t>(i)] -= value * problem.d(i, j);
    objective += value * value * problem.penalty.ridge / 2;
    group += value * value;
    if (!problem.ends_group(j)) continue;
    if (group != 0) objective += root(group) * problem.lambda * problem.weight(j);
    group = 0;
  }
  for (const Quad value : r) objective += value * value / 2;
  return objective;
}

/// Coordinate descent in quadruple precision, from z and to it: a point whose objective is min F to some 1e-25 of F.
Quad descend(const Problem& problem, std::vector<Quad>& z) {
  std::vector<Quad> r(problem.x.begin(), problem.x.end());
  const auto at = [&](std::int64_t i, std::int64_t j) { return static_cast<Quad>(problem.d(i, j)); };
  for (std::int64_t j = 0; j < problem.m; ++j) {
    for (std::int64_t i = 0; i < problem.n; ++i)
      r[static_cast<std::size_t>(i)] -= z[static_cast<std::size_t>(j)] * at(i, j);
  }
  for (int sweep = 0; sweep < 5000; ++sweep) {
    Quad moved = 0;
    for (std::int64_t j = 0; j < problem.m; ++j) {
      Quad square = 0, u = 0;
      for (std::int64_t i = 0; i < problem.n; ++i) {
        square += at(i, j) * at(i, j);
        u += at(i, j) * r[static_cast<std::size_t>(i)];
      }
      if (square == 0) continue;
      Quad& old = z[static_cast<std::size_t>(j)];
      if (problem.weight(j) == kInfinity) continue;
      u += old * square;
      const Quad size = (magnitude(u) - Quad(problem.lambda) * problem.weight(j)) / (square + problem.penalty.ridge);
      const Quad next = size <= 0 || (u < 0 && problem.penalty.nonnegative) ? 0 : u < 0 ? -size : size;
      const Quad change = next - old;
      for (std::int64_t i = 0; i < problem.n; ++i) r[static_cast<std::size_t>(i)] -= change * at(i, j);
      moved += change * change * square;
      old = next;
    }
    Quad now = 0;
    for (const Quad value : r) now += value * value;
    if (moved <= now * Quad(1e-60)) break;
  }
  return objective_of(problem, z);
}
/// The same by groups: of each a proximal step of its own, ||D_g||_F^2 for ||D_g||_2^2, which takes more sweeps.
Quad descend_by_groups(const Problem& problem, std::vector<Quad>& z) {
  const std::int64_t size = problem.penalty.group_size;
  std::vector<Quad> r(problem.x.begin(), problem.x.end()), u(static_cast<std::size_t>(size));
  const auto add = [&](std::int64_t j, Quad change) {
    for (std::int64_t i = 0; i < problem.n; ++i) r[static_cast<std::size_t>(i)] += change * problem.d(i, j);
  };
  for (std::int64_t j = 0; j < problem.m; ++j) add(j, -z[static_cast<std::size_t>(j)]);
  for (int sweep = 0; sweep < 5000; ++sweep) {
    Quad moved = 0, now = 0;
    for (std::int64_t begin = 0; begin < problem.m; begin += size) {
      if (problem.weight(begin) == kInfinity) continue;
      Quad square = 0, norm = 0;
      for (std::int64_t k = 0; k < size; ++k) {
        Quad along = 0;
        for (std::int64_t i = 0; i < problem.n; ++i) {
          const Quad d = problem.d(i, begin + k);
          square += d * d;
          along += d * r[static_cast<std::size_t>(i)];
        }
        u[static_cast<std::size_t>(k)] = along;
      }
      for (std::int64_t k = 0; k < size; ++k) {
        Quad& value = u[static_cast<std::size_t>(k)];
        value += square * z[static_cast<std::size_t>(begin + k)];
        norm += value * value;
      }
      const Quad left = norm > 0 ? 1 - Quad(problem.lambda) * problem.weight(begin) / root(norm) : 0;
      for (std::int64_t k = 0; k < size; ++k) {
        Quad& old = z[static_cast<std::size_t>(begin + k)];
        const Quad next = left > 0 ? left * u[static_cast<std::size_t>(k)] / (square + problem.penalty.ridge) : Quad(0);
        add(begin + k, old - next);
        moved += (next - old) * (next - old) * square;
        old = next;
      }
    }
    for (const Quad value : r) now += value * value;
    if (moved <= now * Quad(1e-50)) break;
  }
  return objective_of(problem, z);
}
Quad least_objective(const Problem& problem) {
  std::vector<Quad> z(problem.z.begin(), problem.z.end());
  return descend(problem, z);
}

/// Random atoms and observation, and a code of `nonzeros` entries that fits a part of the observation.
Problem random_problem(std::int64_t n, std::int64_t m, std::int64_t nonzeros, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  Problem problem;
  problem.n = n;
  problem.m = m;
  for (std::int64_t i = 0; i < n * m; ++i) problem.D.push_back(normal(random));
  problem.z.assign(static_cast<std::size_t>(m), 0.0);
  for (std::int64_t k = 0; k < nonzeros; ++k)
    problem.z[std::uniform_int_distribution<std::size_t>(0, static_cast<std::size_t>(m) - 1)(random)] = normal(random);
  for (std::int64_t i = 0; i < n; ++i) {
    double value = 0.1 * normal(random);
    for (std::int64_t j = 0; j < m; ++j) value += 1.2 * problem.d(i, j) * problem.z[static_cast<std::size_t>(j)];
    problem.x.push_back(value);
  }
  problem.lambda = std::exp(2 * normal(random));
  return problem;
}

/// The same in numbers of few bits, so that x - D z is exact in float64 and the certifier's r is the one of `exact`:
/// d has 24 bits, z 5, x 40.
Problem dyadic_problem(std::int64_t n, std::int64_t m, std::int64_t nonzeros, std::mt19937_64& random) {
  Problem problem = random_problem(n, m, nonzeros, random);
  for (double& value : problem.D) value = std::nearbyint(std::clamp(value, -7.0, 7.0) * 0x1p20) * 0x1p-20;
  for (double& value : problem.z) value = std::nearbyint(std::clamp(value, -3.0, 3.0) * 8) / 8;
  for (double& value : problem.x) value = std::nearbyint(value * 0x1p23) * 0x1p-23;
  return problem;
}

/// A solution all but for the rounding of lambda, whose residual is exact, among atoms whose correlations are nearly equal:
/// each atom is a permutation of the first, but for its last coordinate, which moves the correlation by up to 8 `step`, and
/// the residual is one number all over, but for some `spread` 2^-38.
Problem near_tie(std::int64_t n, std::int64_t m, double step, std::int64_t spread, std::mt19937_64& random) {
  const auto whole = [&](std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(-most, most)(random);
  };
  Problem problem{n, m, {}, {}, std::vector<double>(static_cast<std::size_t>(m)), 1};
  std::vector<double> atom;
  for (std::int64_t i = 0; i + 1 < n; ++i) atom.push_back(static_cast<double>(whole(1 << 22)) * 0x1p-20);
  for (std::int64_t j = 0; j < m; ++j) {
    std::shuffle(atom.begin(), atom.end(), random);
    problem.D.insert(problem.D.end(), atom.begin(), atom.end());
    problem.D.push_back(static_cast<double>(whole(8)) * 0x1p-4);
  }
  const std::int64_t level = (std::int64_t{1} << 39) + 2 * whole(1 << 30) + 1;
  std::vector<double> r;
  for (std::int64_t i = 0; i < n; ++i) r.push_back(static_cast<double>(level + 2 * whole(spread)) * 0x1p-39);
  r.back() = 16 * step;
  problem.x = r;
  const Exact found = exact(problem);
  problem.lambda = static_cast<double>(found.largest);
  for (std::int64_t j = 0; j < m; ++j) {
    Quad correlation = 0;
    for (std::int64_t i = 0; i < n; ++i)
      correlation += static_cast<Quad>(r[static_cast<std::size_t>(i)]) * problem.d(i, j);
    if (magnitude(correlation) != found.largest) continue;
    problem.z[static_cast<std::size_t>(j)] = correlation < 0 ? -1 : 1;
    for (std::int64_t i = 0; i < n; ++i)
      problem.x[static_cast<std::size_t>(i)] += (correlation < 0 ? -1 : 1) * problem.d(i, j);
    break;
  }
  return problem;
}

double ulp(double value) {
  return std::nextafter(std::fabs(value), kInfinity) - std::fabs(value);
}

/// What holds whatever the numbers are.
void expect_sound(const Problem& problem) {
  const Certificate found = certificate_of(problem);
  const Exact truth = exact(problem);
  EXPECT_LE(magnitude(truth.objective - Quad(found.objective)), Quad(found.objective_rounding));
  // Each is rounded up by itself; what float64 cannot hold is infinite.
  if (found.dual_gap < kInfinity && truth.energy > 0) {
    EXPECT_GE(Quad(found.relative_gap) * truth.energy, Quad(found.dual_gap) - ulp(found.dual_gap));
  }
  EXPECT_GE(found.dual_gap, 0);
  // A dual value is under min F.
  EXPECT_LE(truth.objective - Quad(found.dual_gap), least_objective(problem) * (1 + Quad(1e-24)));
}

// ---- by hand ----

/// D = I, x = (3, 1), lambda = 1.
Problem identity(double first, double second) {
  return {2, 2, {1, 0, 0, 1}, {3, 1}, {first, second}, 1};
}

TEST(Certifier, TheSolutionOfTheIdentityHasNoGap) {
  const Measures measures = measured(identity(2, 0));
  const Certificate found = measures.at(1);
  EXPECT_EQ(found.objective, 3);
  EXPECT_EQ(found.energy, 5);
  EXPECT_LE(found.dual_gap, found.rounding);
  EXPECT_LE(found.rounding, 5 * 80 * kUnit);
  EXPECT_EQ(measures.nonzeros, 1);
  EXPECT_EQ(measures.correlation_excess, 0);
  EXPECT_EQ(measures.kkt_violation, 0);
  EXPECT_EQ(measures.sign_errors, 0);
}

TEST(Certifier, ZeroCode) {
  const Measures measures = measured(identity(0, 0));
  // r = x, ||r||_inf = 3, s = 1/3: gap = 5 - (10/3 - 5/9).
  const Certificate found = measures.at(1);
  EXPECT_NEAR(found.dual_gap, 20.0 / 9, 4e-16);
  EXPECT_NEAR(found.relative_gap, 4.0 / 9, 1e-16);
  EXPECT_EQ(measures.correlation_excess, 2);
  EXPECT_EQ(measures.kkt_violation, 2);
  EXPECT_EQ(measures.nonzeros, 0);
  // From lambda_max on it is the solution.
  for (const double lambda : {3.0, 4.0, 1e300}) {
    EXPECT_LE(measures.at(lambda).relative_gap, 40 * kUnit) << lambda;
    EXPECT_EQ(measures.at(lambda).objective, 5);
  }
}

TEST(Certifier, WrongSignsAreCounted) {
  // r = (4, 1): the first atom is used with the other sign than its correlation, |4 - (-1)| off.
  const Measures measures = measured(identity(-1, 0));
  EXPECT_EQ(measures.sign_errors, 1);
  EXPECT_EQ(measures.kkt_violation, 5);
  EXPECT_EQ(measures.correlation_excess, 3);
  // r = (3, -1): the second atom overshoots.
  EXPECT_EQ(measured(identity(0, 2)).sign_errors, 1);
  EXPECT_EQ(measured(identity(2, 0.5)).sign_errors, 0);
}

/// D = I, x = (3, 4), lambda = 1, one group: the solution is 4/5 of x.
TEST(Certifier, AGroupByHand) {
  Problem problem{2, 2, {1, 0, 0, 1}, {3, 4}, {2.4, 3.2}, 1};
  problem.penalty.group_size = 2;
  const Measures solution = measured(problem);
  EXPECT_NEAR(solution.at(1).objective, 4.5, 1e-15);
  EXPECT_LE(solution.at(1).dual_gap, 1e-15);
  EXPECT_LE(solution.kkt_violation, 1e-15);
  EXPECT_EQ(solution.sign_errors, 0);
  problem.z = {0, 0};
  const Measures zero = measured(problem);
  EXPECT_EQ(zero.correlation_excess, 4);
  EXPECT_NEAR(zero.at(1).dual_gap, 12.5 - (5 - 0.5), 1e-14);  // s = 1/5
  EXPECT_LE(zero.at(5).relative_gap, 40 * kUnit);
  problem.z = {-1, 0};  // r = (4, 4), which points away from z
  EXPECT_EQ(measured(problem).sign_errors, 1);
  EXPECT_NEAR(measured(problem).kkt_violation, std::hypot(5, 4), 1e-14);
  const Context context = Context::cpu(1);
  double found = 0;
  Certifier(context, {problem.D.data(), 2, 2, 2, Device{}}, problem.penalty)
      .lambda_max(context, {problem.x.data(), 2, 1, 2, Device{}}, {&found, 1, Device{}});
  EXPECT_EQ(found, 5);
}

TEST(Certifier, AnObservationOfZeros) {
  Problem problem = identity(0, 0);
  problem.x = {0, 0};
  const Certificate none = certificate_of(problem);
  EXPECT_EQ(none.dual_gap, 0);
  EXPECT_EQ(none.relative_gap, 0);
  EXPECT_EQ(none.rounding, 0);
  EXPECT_EQ(measured(problem).kkt_violation, 0);
  EXPECT_EQ(measured(problem).at(0).relative_gap, 0);
  problem.z = {1, 0};
  const Certificate some = certificate_of(problem);
  EXPECT_NEAR(some.dual_gap, 1.5, 1e-15);
  EXPECT_EQ(some.relative_gap, kInfinity);
}

TEST(Certifier, AResidualOfZeros) {
  // x = D z: nothing is known of the dual, and the gap is F(z).
  const Problem problem = identity(3, 1);
  const Measures measures = measured(problem);
  EXPECT_EQ(measures.at(1).objective, 4);
  EXPECT_NEAR(measures.at(1).dual_gap, 4, 1e-15);
  EXPECT_EQ(measures.kkt_violation, 1);
  EXPECT_EQ(measures.sign_errors, 0);
}

TEST(Certifier, AtomsThatSeeNothing) {
  // All correlations are exactly 0: every scale is feasible and z = 0 optimal at any lambda, 0 included.
  Problem problem{3, 2, {1, 0, 0, 0, 2, 0}, {0, 0, 5}, {0, 0}, 1};
  for (const double lambda : {0.0, 1e-300, 1.0}) {
    EXPECT_LE(measured(problem).at(lambda).relative_gap, 40 * kUnit) << lambda;
  }
  problem.D.assign(6, 0.0);
  problem.z = {2, -3};
  EXPECT_NEAR(certificate_of(problem).dual_gap, 5, 1e-14);
}

// ---- against quadruple precision ----

TEST(Certifier, WhereTheResidualIsExactTheGapIsWithinItsBound) {
  std::mt19937_64 random(1);
  for (const auto& [n, m] : {std::pair{1, 1}, {2, 3}, {3, 70}, {43, 5}, {64, 128}, {306, 1100}}) {
    for (const std::int64_t nonzeros : {0, 1, 3, 20, 250}) {
      if (nonzeros > m) continue;
      for (int round = 0; round < (n > 100 ? 4 : 30); ++round) {
        const Problem problem = dyadic_problem(n, m, nonzeros, random);
        const Certificate found = certificate_of(problem);
        const Exact truth = exact(problem);
        const Quad gap = found.dual_gap, rounding = found.rounding;
        EXPECT_GE(gap, truth.gap);
        EXPECT_LE(gap, truth.gap + rounding);
        EXPECT_LE(magnitude(truth.objective - Quad(found.objective)), Quad(found.objective_rounding));
        // Every term of the bound is some u (n + k) of a number that is under this one.
        const double size = static_cast<double>(truth.objective) +
                            problem.lambda * truth.terms_norm / truth.column_norm + truth.terms_norm * truth.terms_norm;
        EXPECT_LE(found.rounding,
                  ulp(found.dual_gap) + 8 * static_cast<double>(n + problem.nonzeros() + 4) * kUnit * size);
        EXPECT_LE(found.objective_rounding, ulp(found.objective) / 2 + found.rounding);
      }
    }
  }
}

TEST(Certifier, WhereTheResidualIsExactTheGapOfGroupsIsWithinItsBound) {
  std::mt19937_64 random(12);
  // Groups that the tiles of 512 atoms cut, and one of all atoms.
  const std::vector<std::vector<std::int64_t>> shapes = {{3, 70, 7}, {64, 128, 2}, {43, 600, 3}, {20, 1100, 1100}};
  for (const auto& shape : shapes) {
    const std::int64_t n = shape[0], m = shape[1];
    for (const std::int64_t nonzeros : {0, 1, 20}) {
      for (int round = 0; round < 5; ++round) {
        Problem problem = dyadic_problem(n, m, nonzeros, random);
        problem.penalty.group_size = shape[2];
        const Certificate found = certificate_of(problem);
        const Exact truth = exact(problem);
        EXPECT_GE(Quad(found.dual_gap), truth.gap);
        EXPECT_LE(Quad(found.dual_gap), truth.gap + Quad(found.rounding));
        EXPECT_LE(magnitude(truth.objective - Quad(found.objective)), Quad(found.objective_rounding));
        // As without groups, with the roundings of a group's norm; s r may be longer by the root of its size.
        const double size = static_cast<double>(truth.objective) +
                            problem.lambda * truth.terms_norm / truth.column_norm + truth.terms_norm * truth.terms_norm;
        const double terms = static_cast<double>(n + problem.nonzeros() + problem.penalty.group_size + 8);
        EXPECT_LE(found.rounding,
                  ulp(found.dual_gap) + 8 * terms * kUnit * size * std::sqrt(static_cast<double>(shape[2])));
      }
    }
  }
}

TEST(Certifier, SolutionsAmongAtomsThatFloat64CannotTellApart) {
  std::mt19937_64 random(10);
  double loosest = kInfinity;
  for (int round = 0; round < 60; ++round) {
    const std::int64_t n = round % 2 == 0 ? 43 : 12;
    Problem problem = near_tie(n, 200, 0x1p-55, 0, random);
    const Certificate found = certificate_of(problem);
    const Exact truth = exact(problem);
    EXPECT_GE(Quad(found.dual_gap), truth.gap);
    EXPECT_LE(Quad(found.dual_gap), truth.gap + Quad(found.rounding));
    EXPECT_LE(found.relative_gap, 1e-15);
    // Half of it allows for errors to either side.
    const Quad error = magnitude(Quad(found.dual_gap) - Quad(found.rounding) / 2 - truth.gap);
    loosest = std::min(loosest, static_cast<double>(Quad(found.rounding) / 2 / error));

    // The same where products of float64 are subnormal and keep some ten bits.
    problem = near_tie(306, 200, 0x1p-10, 1 << 24, random);
    for (double& value : problem.D) value *= 0x1p-533;
    for (double& value : problem.x) value *= 0x1p-533;
    problem.lambda *= 0x1p-1066;
    const Exact small = exact(problem);
    EXPECT_GE(Quad(certificate_of(problem).relative_gap) * small.energy, small.gap);
  }
  EXPECT_GE(loosest, 1);
  EXPECT_LE(loosest, 20);  // the bound grows with n, errors with its root
}

TEST(Certifier, GapsOfAnyCodeAreNoLargerThanTheirFormula) {
  // The certifier's r is x - D z rounded to float64. That moves Dual by at most |s| ||x - s r|| ||e||, and the ends of the
  // feasible interval by ||d|| ||e|| / ||D'r||_inf of themselves, ||e|| <= 2^-53 ||r||.
  std::mt19937_64 random(2);
  for (const auto& [n, m] : {std::pair{1, 4}, {5, 3}, {43, 97}, {306, 700}}) {
    for (const std::int64_t nonzeros : {1, 4, 60}) {
      for (int round = 0; round < 10; ++round) {
        const Problem problem = random_problem(n, m, nonzeros, random);
        const Certificate found = certificate_of(problem);
        const Exact truth = exact(problem);
        const auto norm = [](Quad square) { return static_cast<double>(std::sqrt(static_cast<long double>(square))); };
        const double x = norm(2 * truth.energy), r = norm(truth.r_square),
                     s = std::fabs(static_cast<double>(truth.scale));
        const double e = 0x1p-53 * r + 2 * static_cast<double>(problem.nonzeros() + 1) * kUnit * truth.terms_norm;
        const double moved = 2 * s * (x + s * r) * (e + r * truth.column_norm * e / static_cast<double>(truth.largest));
        EXPECT_LE(Quad(found.dual_gap), truth.gap + Quad(found.rounding) + moved);
        EXPECT_GE(Quad(found.dual_gap), truth.gap - moved);
      }
    }
  }
}

/// z by coordinate descent in float64: a code as good as float64 lets it be.
void solve(Problem& problem) {
  std::vector<double> r = problem.x;
  problem.z.assign(problem.z.size(), 0.0);
  for (int sweep = 0; sweep < 3000; ++sweep) {
    for (std::int64_t j = 0; j < problem.m; ++j) {
      double square = 0, u = 0;
      for (std::int64_t i = 0; i < problem.n; ++i) {
        square += problem.d(i, j) * problem.d(i, j);
        u += problem.d(i, j) * r[static_cast<std::size_t>(i)];
      }
      if (square == 0) continue;
      double& z = problem.z[static_cast<std::size_t>(j)];
      u = z + u / square;
      const double next = std::copysign(std::max(std::fabs(u) - problem.lambda / square, 0.0), u);
      for (std::int64_t i = 0; i < problem.n; ++i) r[static_cast<std::size_t>(i)] -= (next - z) * problem.d(i, j);
      z = next;
    }
  }
}

/// Random problems under each penalty: with weights, some infinite; z >= 0; a ridge; all of these; unpenalised atoms; and
/// those with a ridge.
std::vector<Problem> penalised_problems(std::int64_t n, std::int64_t m, std::mt19937_64& random) {
  std::vector<Problem> problems;
  for (int kind = 0; kind < 6; ++kind) {
    Problem problem = random_problem(n, m, 3, random);
    Penalty& penalty = problem.penalty;
    if (kind != 1 && kind != 2)
      for (std::int64_t j = 0; j < m; ++j)
        penalty.weights.push_back(j % 5 == 4               ? kInfinity
                                  : j % 4 == 1 && kind > 3 ? 0
                                                           : std::exp(std::normal_distribution<double>()(random)));
    penalty.nonnegative = kind == 1 || kind == 3;
    if (kind == 2 || kind == 3 || kind == 5) penalty.ridge = std::exp(std::normal_distribution<double>()(random));
    for (std::int64_t j = 0; j < m; ++j) {
      double& value = problem.z[static_cast<std::size_t>(j)];
      if (problem.weight(j) == kInfinity) value = 0;
      if (penalty.nonnegative) value = std::fabs(value);
    }
    problem.lambda = 0.05 * std::exp(std::normal_distribution<double>()(random));
    problems.push_back(problem);
  }
  return problems;
}

/// In groups: all atoms in one; groups of `size`, plain, with weights and a ridge, and one of them unpenalised.
std::vector<Problem> grouped_problems(std::int64_t n, std::int64_t m, std::int64_t size, std::mt19937_64& random) {
  std::vector<Problem> problems;
  for (int kind = 0; kind < 4; ++kind) {
    Problem problem = random_problem(n, m, 3, random);
    Penalty& penalty = problem.penalty;
    penalty.group_size = kind == 0 ? m : size;
    for (std::int64_t g = 0; kind > 1 && g < m / size; ++g)
      penalty.weights.push_back(g % 3 == 2                ? kInfinity
                                : g % 3 == 1 && kind == 3 ? 0
                                                          : std::exp(std::normal_distribution<double>()(random)));
    if (kind == 2) penalty.ridge = std::exp(std::normal_distribution<double>()(random));
    for (std::int64_t j = 0; j < m; ++j)
      if (problem.weight(j) == kInfinity) problem.z[static_cast<std::size_t>(j)] = 0;
    problem.lambda = 0.2 * std::exp(std::normal_distribution<double>()(random));
    problems.push_back(problem);
  }
  return problems;
}

/// What holds of a code, and of the solution that `descend` makes of it, rounded to float64.
void expect_bounds(Problem problem, Quad (*descend)(const Problem&, std::vector<Quad>&)) {
  const Certificate rough = certificate_of(problem);
  std::vector<Quad> z(problem.z.begin(), problem.z.end());
  EXPECT_LE(magnitude(objective_of(problem, z) - Quad(rough.objective)), Quad(rough.objective_rounding));
  const Quad least = descend(problem, z);
  EXPECT_LE(objective_of(problem, {problem.z.begin(), problem.z.end()}) - Quad(rough.dual_gap),
            least * (1 + Quad(1e-20)));
  // The solution has a gap of its rounding: some of its units of ||d|| |z| ||r||, and no more.
  std::transform(z.begin(), z.end(), problem.z.begin(), [](Quad value) { return static_cast<double>(value); });
  const Certificate fine = certificate_of(problem);
  const Quad objective = objective_of(problem, {problem.z.begin(), problem.z.end()});
  EXPECT_LE(objective - Quad(fine.dual_gap), least * (1 + Quad(1e-20)));
  const Exact sizes = exact(problem);
  EXPECT_LE(fine.dual_gap, 64 * 0x1p-53 * sizes.terms_norm * sizes.terms_norm);
}

TEST(Certifier, BoundsHoldUnderPenalties) {
  std::mt19937_64 random(11);
  for (const auto& [n, m] : {std::pair{1, 1}, {3, 2}, {12, 9}, {12, 16}}) {
    for (int round = 0; round < 4; ++round) {
      for (const Problem& problem : penalised_problems(n, m, random)) {
        SCOPED_TRACE(::testing::Message()
                     << n << " x " << m << ", ridge " << problem.penalty.ridge << ", nonnegative "
                     << problem.penalty.nonnegative << ", weights " << problem.penalty.weights.size());
        expect_bounds(problem, descend);
      }
    }
  }
}

// With more rows than atoms, so that the descent ends.
TEST(Certifier, BoundsHoldInGroups) {
  std::mt19937_64 random(14);
  for (const auto& [n, m] : {std::pair{3, 2}, {8, 6}, {20, 12}}) {
    for (int round = 0; round < 3; ++round) {
      for (const Problem& problem : grouped_problems(n, m, m == 12 ? 3 : 2, random)) {
        SCOPED_TRACE(::testing::Message()
                     << n << " x " << m << ", groups of " << problem.penalty.group_size << ", ridge "
                     << problem.penalty.ridge << ", weights " << problem.penalty.weights.size());
        expect_bounds(problem, descend_by_groups);
      }
    }
  }
}

TEST(Certifier, BoundsHoldInARadius) {
  std::mt19937_64 random(13);
  for (const auto& [n, m] : {std::pair{1, 1}, {3, 2}, {12, 9}, {12, 16}}) {
    for (int round = 0; round < 8; ++round) {
      Problem problem = random_problem(n, m, 3, random);
      problem.penalty.nonnegative = round % 2 == 1;
      if (round % 4 > 1)
        for (std::int64_t j = 0; j < m; ++j)
          problem.penalty.weights.push_back(j % 5 == 4 ? kInfinity : 1 + 0.25 * static_cast<double>(j % 3));
      for (std::int64_t j = 0; j < m; ++j)
        if (problem.weight(j) == kInfinity) problem.z[static_cast<std::size_t>(j)] = 0;
      if (problem.penalty.nonnegative)
        for (double& value : problem.z) value = std::fabs(value);
      problem.lambda = 0.05 * std::exp(std::normal_distribution<double>()(random));
      const auto norm = [&](const auto& z) {
        Quad sum = 0;
        for (std::int64_t j = 0; j < m; ++j)
          if (z[static_cast<std::size_t>(j)] != 0)
            sum += magnitude(Quad(z[static_cast<std::size_t>(j)])) * problem.weight(j);
        return sum;
      };
      // The solution for lambda is the one in the radius of its norm C; the least value falls by lambda a unit of radius.
      std::vector<Quad> z(problem.z.begin(), problem.z.end());
      const Quad penalised = descend(problem, z);
      const Quad reached = norm(z);
      problem.penalty.radius = static_cast<double>(reached);
      if (problem.penalty.radius == 0) continue;
      const Quad radius = problem.penalty.radius;
      const Quad least = penalised - Quad(problem.lambda) * reached - Quad(problem.lambda) * (radius - reached);
      const auto in_radius = [&](const std::vector<double>& code) {
        return objective_of(problem, {code.begin(), code.end()}) - Quad(problem.lambda) * norm(code);
      };
      const Quad slack = exact(problem).energy * Quad(1e-20);
      // A code from anywhere within.
      const Quad size = norm(problem.z);
      for (double& value : problem.z) value *= size > 0 ? static_cast<double>(radius / size) * 0.75 : 0;
      const Certificate rough = certificate_of(problem);
      EXPECT_LE(magnitude(in_radius(problem.z) - Quad(rough.objective)), Quad(rough.objective_rounding));
      EXPECT_LE(in_radius(problem.z) - Quad(rough.dual_gap), least + slack);
      std::transform(z.begin(), z.end(), problem.z.begin(), [](Quad value) { return static_cast<double>(value); });
      const Certificate fine = certificate_of(problem);
      EXPECT_LE(in_radius(problem.z) - Quad(fine.dual_gap), least + slack);
      const Exact sizes = exact(problem);
      EXPECT_LE(fine.dual_gap, 64 * 0x1p-53 * sizes.terms_norm * sizes.terms_norm);
      // lambda is no part of it.
      EXPECT_EQ(measured(problem).at(7).dual_gap, fine.dual_gap);
    }
  }
}

TEST(Certifier, RefusesPenaltiesThatAreNone) {
  const auto refused = [](Problem problem) {
    try {
      measured(problem);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  Problem problem = identity(2, -1);
  problem.penalty.nonnegative = true;
  EXPECT_NE(refused(problem).find("code 0 has -1 at atom 1, wanted numbers >= 0"), std::string::npos);
  problem.penalty = {{1, kInfinity}};
  EXPECT_NE(refused(problem).find("code 0 has -1 at atom 1, wanted 0 where the weight is infinite"), std::string::npos);
  problem.penalty = {{1, -1}};
  EXPECT_NE(refused(problem).find("weights: the weight of atom 1 is -1"), std::string::npos);
  problem.penalty = {{1, 1, 1}};
  EXPECT_NE(refused(problem).find("found 3 weights, wanted one for each of 2 atoms"), std::string::npos);
  problem.penalty = {{1, 0}, true};
  EXPECT_NE(refused(problem).find("is 0, wanted > 0"), std::string::npos);
  problem.penalty = {{}, false, -1};
  EXPECT_NE(refused(problem).find("the ridge is -1"), std::string::npos);
  problem.penalty = {{}, false, 0, 2.5};
  EXPECT_NE(refused(problem).find("code 0 has an l1 norm of 3, wanted at most the radius of 2.5"), std::string::npos);
  problem.penalty = {{}, false, 1, 3};
  EXPECT_NE(refused(problem).find("found a radius of 3 with a ridge of 1"), std::string::npos);
  problem.penalty = {{1, 0}, false, 0, 3};
  EXPECT_NE(refused(problem).find("is 0, wanted > 0 with a radius"), std::string::npos);
  const auto in_groups = [&](Penalty penalty, std::int64_t size) {
    penalty.group_size = size;
    problem.penalty = penalty;
    return refused(problem);
  };
  EXPECT_NE(in_groups({}, 0).find("the group size is 0, wanted >= 1"), std::string::npos);
  EXPECT_NE(in_groups({}, 3).find("has 2 atoms, wanted a multiple of the group size, 3"), std::string::npos);
  EXPECT_NE(in_groups({{}, true}, 2).find("the group size is 2, wanted 1 where"), std::string::npos);
  EXPECT_NE(in_groups({{1, 1}}, 2).find("found 2 weights, wanted one for each of 1 groups"), std::string::npos);
  EXPECT_NE(in_groups({{-1}}, 2).find("the weight of group 0 is -1"), std::string::npos);
  EXPECT_NE(in_groups({{kInfinity}}, 2).find("at atom 0, wanted 0 where the weight is infinite"), std::string::npos);
  // Atoms that float64 cannot tell from dependent, but extended precision can.
  problem = {2, 2, {1, 0, 1, 0x1p-20}, {3, 1}, {0, 0}, 1, {{0, 0}}};
  EXPECT_EQ(refused(problem), "");
  problem.D = {1, 0, 2, 0};
  EXPECT_NE(refused(problem).find("atom 1 depends on the other atoms of weight 0"), std::string::npos);
  problem.D = {1, 0, 1, 0};  // a copy
  EXPECT_EQ(refused(problem), "");
}

TEST(Certifier, NothingIsUnderItsLowerBound) {
  std::mt19937_64 random(3);
  for (const auto& [n, m] : {std::pair{1, 1}, {4, 9}, {12, 6}, {9, 24}}) {
    for (int round = 0; round < 6; ++round) {
      Problem problem = random_problem(n, m, 3, random);
      expect_sound(problem);
      problem.z.assign(problem.z.size(), 0.0);
      expect_sound(problem);
      solve(problem);
      expect_sound(problem);
    }
  }
}

TEST(Certifier, ResolvesTheGapsOfFloat64Solutions) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 4; ++round) {
    Problem problem = random_problem(60, 120, 6, random);
    problem.lambda =
        0.3 * static_cast<double>(exact(Problem{60, 120, problem.D, problem.x, std::vector<double>(120), 1}).largest);
    solve(problem);
    const Certificate found = certificate_of(problem);
    EXPECT_LE(found.relative_gap, 1e-13);
    EXPECT_LE(found.rounding, 1e-16 * found.energy);
    // The least change of one number that a gap of 1e-13 can tell.
    const auto largest = std::max_element(problem.z.begin(), problem.z.end(),
                                          [](double a, double b) { return std::fabs(a) < std::fabs(b); });
    *largest *= 1 + 1e-6;
    EXPECT_GE(certificate_of(problem).relative_gap, 1.5 * found.relative_gap);
  }
}

TEST(Certifier, NastyNumbers) {
  std::mt19937_64 random(5);
  // Units from one end of float64 to the other: F is of the order of x^2, and what float64 cannot hold is infinite or the
  // next number up, never too small.
  for (const double atoms : {1e-160, 1e-3, 1.0, 1e150}) {
    for (const double units : {0x1p-1060, 1e-300, 1e-160, 1.0, 1e150, 1e300}) {
      Problem problem = random_problem(7, 13, 2, random);
      for (double& value : problem.D) value *= atoms;
      for (double& value : problem.x) value *= units;
      for (double& value : problem.z) value *= units / atoms;
      problem.lambda *= units * atoms;
      if (!std::all_of(problem.z.begin(), problem.z.end(), [](double z) { return std::isfinite(z); })) continue;
      if (!std::isfinite(problem.lambda)) continue;
      expect_sound(problem);
      problem.z.assign(problem.z.size(), 0.0);
      expect_sound(problem);
    }
  }
  // Sums that cancel: x is D z to the last digit or two, with terms a million times as large.
  for (int round = 0; round < 20; ++round) {
    Problem problem = random_problem(6, 12, 4, random);
    for (std::int64_t i = 0; i < 6; ++i)
      problem.D[static_cast<std::size_t>(6 + i)] = -problem.D[static_cast<std::size_t>(i)];
    problem.z[0] = 1e6 / 3;
    problem.z[1] = 1e6 / 3 * (1 + 1e-16 * round);
    for (std::int64_t i = 0; i < 6; ++i) {
      long double sum = 0;
      for (std::int64_t j = 0; j < 12; ++j)
        sum += static_cast<long double>(problem.d(i, j)) * problem.z[static_cast<std::size_t>(j)];
      problem.x[static_cast<std::size_t>(i)] = static_cast<double>(sum);
    }
    expect_sound(problem);
    problem.lambda = 1e-60;  // nothing but the residual counts in F
    expect_sound(problem);
  }
  // A correlation of 0 whose partial sums pass float64 must not hide the largest one.
  {
    const Problem problem{3, 2, {1.5e148, 1.5e148, -3e148, 1e147, 0, 0}, {1e160, 1e160, 1e160}, {0, 0}, 1e306};
    const Exact truth = exact(problem);
    EXPECT_GE(Quad(certificate_of(problem).relative_gap) * truth.energy, truth.gap);
  }
  // Atoms of very different lengths, and many that tie for the largest correlation.
  Problem problem = random_problem(8, 600, 3, random);
  for (std::int64_t j = 0; j < 600; ++j) {
    for (std::int64_t i = 0; i < 8; ++i)
      problem.D[static_cast<std::size_t>(j * 8 + i)] =
          (j % 2 == 0 ? 1 : -1) * problem.d(i, 0) * (j < 500 ? 1 : std::pow(10.0, 500 - j));
  }
  EXPECT_GE(Quad(certificate_of(problem).dual_gap) - exact(problem).gap, -Quad(1e-15) * exact(problem).objective);
}

TEST(Certifier, LambdaMaxIsTheLargestCorrelation) {
  std::mt19937_64 random(6);
  for (const auto& [n, m] : {std::pair{1, 1}, {5, 2000}, {306, 513}}) {
    const Problem problem = random_problem(n, m, 0, random);
    const Context context = Context::cpu(1);
    const Certifier certifier(context, {problem.D.data(), n, m, n, Device{}});
    double found = 0;
    certifier.lambda_max(context, {problem.x.data(), n, 1, n, Device{}}, {&found, 1, Device{}});
    // Rounded to nearest from a sum of n terms in extended precision.
    const Exact truth = exact(problem);
    EXPECT_LE(magnitude(Quad(found) - truth.largest),
              Quad(ulp(found) * 0.5) + Quad(2 * n * kUnit * truth.column_norm * truth.terms_norm));
  }
}

// ---- what others may lose in float64 ----

/// Objective and gap in plain float64, sums from first to last.
std::pair<double, double> plain(const Problem& problem) {
  std::vector<double> r = problem.x;
  double l1 = 0, rr = 0, xr = 0, largest = 0, group = 0;
  for (std::int64_t j = 0; j < problem.m; ++j) {
    const double z = problem.z[static_cast<std::size_t>(j)];
    group += z * z;
    if (problem.ends_group(j)) l1 += problem.penalty.group_size > 1 ? std::sqrt(group) : std::fabs(z), group = 0;
    for (std::int64_t i = 0; i < problem.n; ++i)
      r[static_cast<std::size_t>(i)] -= problem.d(i, j) * problem.z[static_cast<std::size_t>(j)];
  }
  for (std::size_t i = 0; i < r.size(); ++i) rr += r[i] * r[i], xr += r[i] * problem.x[i];
  for (std::int64_t j = 0; j < problem.m; ++j) {
    double correlation = 0;
    for (std::int64_t i = 0; i < problem.n; ++i) correlation += r[static_cast<std::size_t>(i)] * problem.d(i, j);
    group += correlation * correlation;
    if (!problem.ends_group(j)) continue;
    largest = std::max(largest, problem.penalty.group_size > 1 ? std::sqrt(group) : std::fabs(correlation));
    group = 0;
  }
  const double limit = problem.lambda / largest, s = std::clamp(xr / rr, -limit, limit);
  const double objective = rr / 2 + problem.lambda * l1;
  return {objective, objective - s * xr + s * s * rr / 2};
}

TEST(Certifier, PlainFloat64IsWithinItsSlack) {
  std::mt19937_64 random(7);
  double worst = 0;
  for (const auto& [n, m] : {std::pair{1, 3}, {20, 50}, {306, 200}}) {
    for (const std::int64_t nonzeros : {0, 1, 10, 100}) {
      for (int round = 0; round < 10; ++round) {
        Problem problem = random_problem(n, m, nonzeros, random);
        if (round % 2 == 1) problem.penalty.group_size = m % 5 == 0 ? 5 : 3;
        const Measures measures = measured(problem);
        const Certificate found = measures.at(problem.lambda);
        const Float64Slack slack = measures.float64_slack(problem.lambda);
        const auto [objective, gap] = plain(problem);
        EXPECT_LE(std::fabs(objective - found.objective), slack.objective + found.objective_rounding);
        EXPECT_LE(std::fabs(gap - found.dual_gap), slack.dual_gap + found.rounding);
        if (slack.dual_gap > 0) worst = std::max(worst, std::fabs(gap - found.dual_gap) / slack.dual_gap);
      }
    }
  }
  EXPECT_GE(worst, 1e-3);  // a slack that nothing ever fills would hide false claims
}

// ---- optimality conditions, blocks, threads, errors ----

TEST(Certifier, OptimalityConditions) {
  std::mt19937_64 random(8);
  for (const std::int64_t m : {3, 511, 512, 513, 1500}) {
    const Problem problem = random_problem(40, m, 30, random);
    const Measures found = measured(problem);
    std::vector<double> r = problem.x;
    for (std::int64_t j = 0; j < m; ++j) {
      for (std::int64_t i = 0; i < 40; ++i)
        r[static_cast<std::size_t>(i)] -= problem.d(i, j) * problem.z[static_cast<std::size_t>(j)];
    }
    double excess = 0, violation = 0;
    std::int64_t signs = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      double c = 0;
      for (std::int64_t i = 0; i < 40; ++i) c += problem.d(i, j) * r[static_cast<std::size_t>(i)];
      const double z = problem.z[static_cast<std::size_t>(j)];
      excess = std::max(excess, std::fabs(c) / problem.lambda - 1);
      violation = std::max(violation, z == 0 ? std::fabs(c) / problem.lambda - 1
                                             : std::fabs(c / problem.lambda - std::copysign(1.0, z)));
      if (c * z < 0) ++signs;
    }
    const double tolerance = 100 * 0x1p-53 * (1 + excess + 40 * 8 / problem.lambda);
    EXPECT_NEAR(found.correlation_excess, excess, tolerance) << m;
    EXPECT_NEAR(found.kkt_violation, violation, tolerance) << m;
    EXPECT_EQ(found.sign_errors, signs) << m;
    EXPECT_EQ(found.nonzeros, problem.nonzeros()) << m;
  }
}

TEST(Certifier, OptimalityConditionsOfGroups) {
  std::mt19937_64 random(13);
  const std::vector<std::vector<std::int64_t>> shapes = {{6, 3}, {513, 3}, {1500, 4}, {1500, 750}};
  for (const auto& shape : shapes) {
    const std::int64_t m = shape[0], size = shape[1];
    Problem problem = random_problem(40, m, 30, random);
    problem.penalty.group_size = size;
    const Measures found = measured(problem);
    std::vector<double> r = problem.x;
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t i = 0; i < 40; ++i)
        r[static_cast<std::size_t>(i)] -= problem.d(i, j) * problem.z[static_cast<std::size_t>(j)];
    double excess = 0, violation = 0;
    std::int64_t signs = 0;
    for (std::int64_t begin = 0; begin < m; begin += size) {
      double norm = 0, distance = 0, c_norm = 0, along = 0;
      for (std::int64_t j = begin; j < begin + size; ++j)
        norm = std::hypot(norm, problem.z[static_cast<std::size_t>(j)]);
      for (std::int64_t j = begin; j < begin + size; ++j) {
        double c = 0;
        for (std::int64_t i = 0; i < 40; ++i) c += problem.d(i, j) * r[static_cast<std::size_t>(i)];
        const double z = problem.z[static_cast<std::size_t>(j)];
        c_norm = std::hypot(c_norm, c);
        distance = std::hypot(distance, norm > 0 ? c / problem.lambda - z / norm : 0);
        along += c * z;
      }
      excess = std::max(excess, c_norm / problem.lambda - 1);
      violation = std::max(violation, norm > 0 ? distance : c_norm / problem.lambda - 1);
      if (along < 0) ++signs;
    }
    const double tolerance = 100 * 0x1p-53 * (1 + excess + 40 * 8 * static_cast<double>(size) / problem.lambda);
    EXPECT_NEAR(found.correlation_excess, excess, tolerance) << m;
    EXPECT_NEAR(found.kkt_violation, violation, tolerance) << m;
    EXPECT_EQ(found.sign_errors, signs) << m;
  }
}

TEST(Certifier, AProblemDoesNotFeelItsNeighboursNorThreads) {
  std::mt19937_64 random(9);
  const Problem base = random_problem(43, 597, 0, random);
  const std::int64_t N = 101;
  std::vector<double> X, lambda;
  std::vector<std::vector<double>> codes;
  std::normal_distribution<double> normal;
  for (std::int64_t b = 0; b < N; ++b) {
    for (int i = 0; i < 43; ++i) X.push_back(normal(random));
    codes.emplace_back(597, 0.0);
    for (std::int64_t k = 0; k < b % 7; ++k)
      codes.back()[static_cast<std::size_t>(b * 31 + k * 97) % 597] = normal(random);
    lambda.push_back(0.5 + static_cast<double>(b));
  }
  const auto all_of = [&](int threads) {
    const Context context = Context::cpu(threads);
    const Certifier certifier(context, {base.D.data(), 43, 597, 43, Device{}});
    std::vector<Measures> out(static_cast<std::size_t>(N));
    certifier.measure(context, {X.data(), 43, N, 43, Device{}}, rows_of(codes), {lambda.data(), N, Device{}}, 0,
                      out.data());
    return out;
  };
  const std::vector<Measures> one = all_of(1), three = all_of(3);
  for (std::int64_t b = 0; b < N; ++b) {
    const auto k = static_cast<std::size_t>(b);
    Problem alone = base;
    alone.x.assign(X.begin() + b * 43, X.begin() + (b + 1) * 43);
    alone.z = codes[k];
    alone.lambda = lambda[k];
    const Measures single = measured(alone);
    for (const Measures& measures : {one[k], three[k]}) {
      EXPECT_EQ(measures.at(lambda[k]).dual_gap, single.at(lambda[k]).dual_gap);
      EXPECT_EQ(measures.at(lambda[k]).objective, single.at(lambda[k]).objective);
      EXPECT_EQ(measures.at(lambda[k]).rounding, single.at(lambda[k]).rounding);
      EXPECT_EQ(measures.kkt_violation, single.kkt_violation);
      EXPECT_EQ(measures.nonzeros, single.nonzeros);
    }
  }
}

TEST(Certifier, ChecksArguments) {
  const Context context = Context::cpu(1);
  const std::vector<double> D(6, 1.0), X(4, 1.0);
  double lambda[] = {1, 1};
  Measures out[2];
  EXPECT_THROW(Certifier(context, {D.data(), 0, 3, 0, Device{}}), ShapeError);
  EXPECT_THROW(Certifier(context, {D.data(), 3, 2, 2, Device{}}), ShapeError);
  const Certifier certifier(context, {D.data(), 2, 3, 2, Device{}});
  const MatrixView<const double> two{X.data(), 2, 2, 2, Device{}};
  const CodeRows codes = rows_of({{0, 0, 0}, {0, 0, 0}});
  EXPECT_THROW(certifier.measure(context, two.columns(0, 1), codes, {lambda, 2, Device{}}, 0, out), ShapeError);
  EXPECT_THROW(certifier.measure(context, two, codes, {lambda, 1, Device{}}, 0, out), ShapeError);
  EXPECT_THROW(certifier.lambda_max(context, two, {lambda, 1, Device{}}), ShapeError);
  const CodeRows huge = rows_of({{0, 0, 0}, {1e308, 1e308, 0}});
  try {
    certifier.measure(context, two, huge, {lambda, 2, Device{}}, 40, out);
    ADD_FAILURE() << "accepted";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("problem 41"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace shrinkwarp::certify
