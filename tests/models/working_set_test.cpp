// The working-set solver where it is hard: dictionaries that are dependent, badly scaled or adversarial, and what must not
// change its bits. That every claim of a result holds on ordinary problems is lasso_test.cpp's business, for all solvers.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
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

using Matrix = std::vector<double>;

// Everything in long double, by plain loops: what the gap of a code truly is, relative to 1/2 ||x||^2.
struct Truth {
  double gap, objective, energy, lambda_max;
};

class WorkingSet : public testing::OnContext {
 public:
  std::int64_t n = 0, m = 0, N = 0;
  Matrix D, X;

 protected:
  void make(std::int64_t rows, std::int64_t atoms, std::int64_t problems, std::uint64_t seed = 1) {
    n = rows;
    m = atoms;
    N = problems;
    D.resize(static_cast<std::size_t>(n * m));
    X.resize(static_cast<std::size_t>(n * N));
    const Context host = Context::cpu(1);
    fill_normal(host, seed, 0, 0, VectorView<double>{D.data(), n * m, {}});
    fill_normal(host, seed, 1, 0, VectorView<double>{X.data(), n * N, {}});
  }
  double* atom(std::int64_t j) { return D.data() + j * n; }
  void copy_atom(std::int64_t from, std::int64_t to, double factor) {
    std::transform(atom(from), atom(from) + n, atom(to), [factor](double v) { return v * factor; });
  }

  /// How many problems: the executor, which runs every thread of every kernel, is to have a tenth.
  std::int64_t some(std::int64_t problems) const { return context().is_cuda() ? (problems + 9) / 10 : problems; }

  Context make_context(int threads) const { return context().is_cuda() ? Context::cuda() : Context::cpu(threads); }

  LassoBatch solve(double fraction, double gap = 1e-6, int threads = 1, std::int64_t max_iterations = 1000) const {
    return solve(LambdaRule::sample_fraction(fraction), gap, threads, max_iterations);
  }
  LassoBatch solve(const LambdaRule& rule, double gap, int threads, std::int64_t max_iterations) const {
    const Context context = make_context(threads);
    const Dictionary dictionary(context, {D.data(), n, m, n, {}});
    LassoOptions options;
    options.solver = Solver::working_set;
    options.gap = gap;
    options.max_iterations = max_iterations;
    return solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, rule, options);
  }

  Truth truth(const LassoBatch& batch, std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    const double* x = X.data() + i * n;
    std::vector<long double> r(x, x + n);
    long double magnitude = 0;
    for (auto k = batch.codes.offsets[at]; k < batch.codes.offsets[at + 1]; ++k) {
      const auto j = batch.codes.indices[static_cast<std::size_t>(k)];
      const long double z = batch.codes.values[static_cast<std::size_t>(k)];
      magnitude += std::fabs(z);
      for (std::int64_t row = 0; row < n; ++row)
        r[static_cast<std::size_t>(row)] -= z * D[static_cast<std::size_t>(row + j * n)];
    }
    long double most = 0, lambda_max = 0, rr = 0, xr = 0, xx = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      long double dr = 0, dx = 0;
      for (std::int64_t row = 0; row < n; ++row) {
        dr += D[static_cast<std::size_t>(row + j * n)] * r[static_cast<std::size_t>(row)];
        dx += static_cast<long double>(D[static_cast<std::size_t>(row + j * n)]) * x[row];
      }
      most = std::max(most, std::fabs(dr));
      lambda_max = std::max(lambda_max, std::fabs(dx));
    }
    for (std::int64_t row = 0; row < n; ++row) {
      rr += r[static_cast<std::size_t>(row)] * r[static_cast<std::size_t>(row)];
      xr += r[static_cast<std::size_t>(row)] * x[row];
      xx += static_cast<long double>(x[row]) * x[row];
    }
    const long double lambda = batch.lambda[at];
    long double s = rr > 0 ? xr / rr : 0;
    if (most > 0) s = std::clamp(s, -lambda / most, lambda / most);
    const long double primal = rr / 2 + lambda * magnitude;
    return {static_cast<double>(primal - (s * xr - s * s * rr / 2)), static_cast<double>(primal),
            static_cast<double>(xx / 2), static_cast<double>(lambda_max)};
  }

  void expect_right(const LassoBatch& batch, double gap) const {
    ASSERT_EQ(batch.size(), N);
    for (std::int64_t i = 0; i < N; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Truth true_one = truth(batch, i);
      EXPECT_TRUE(batch.converged[at]) << i;
      EXPECT_LE(true_one.gap, gap * true_one.energy * (1 + 1e-9) + 1e-13 * true_one.energy) << i;
      EXPECT_GE(batch.dual_gap[at], true_one.gap - 1e-12 * true_one.energy) << i;
      EXPECT_NEAR(batch.objective[at], true_one.objective, 1e-12 * true_one.energy) << i;
    }
  }
};

/// What only the CPU has.
class WorkingSetOnCpu : public WorkingSet {};

SHRINKWARP_ON_CPU_AND_CUDA(WorkingSet);
INSTANTIATE_TEST_SUITE_P(, WorkingSetOnCpu, ::testing::Values("cpu1"),
                         [](const ::testing::TestParamInfo<const char*>& info) { return std::string(info.param); });

bool same_bits(const LassoBatch& a, const LassoBatch& b) {
  return a.codes.offsets == b.codes.offsets && a.codes.indices == b.codes.indices && a.codes.values == b.codes.values &&
         a.lambda == b.lambda && a.objective == b.objective && a.dual_gap == b.dual_gap &&
         a.iterations == b.iterations && a.converged == b.converged;
}

TEST_P(WorkingSet, ShapesOfAllKinds) {
  const std::int64_t shapes[][2] = {{1, 1}, {1, 50}, {40, 1}, {60, 20}, {63, 130}, {64, 128}, {65, 500}, {100, 1100}};
  for (const auto& shape : shapes) {
    make(shape[0], shape[1], shape[1] > 200 ? some(10) : some(20));
    for (const double fraction : {0.9, 0.5, 0.1, 0.01}) {
      SCOPED_TRACE(::testing::Message() << n << " x " << m << " at " << fraction);
      expect_right(solve(fraction), 1e-6);
    }
    expect_right(solve(0.2, 1e-9), 1e-9);
    expect_right(solve(0.2, 1e-12), 1e-12);
  }
}

TEST_P(WorkingSet, CopiedAndNegatedAtoms) {
  make(30, 400, some(30));
  for (std::int64_t j = 0; j < 150; ++j) {
    copy_atom(j, 150 + j, 1);
    if (j < 100) copy_atom(j, 300 + j, -1);
  }
  for (const double fraction : {0.5, 0.1, 0.02}) expect_right(solve(fraction, 1e-9), 1e-9);
}

TEST_P(WorkingSet, NearlyDependentAtoms) {
  make(30, 400, some(20));
  const Matrix noise = D;
  for (std::int64_t j = 200; j < 400; ++j)  // copies that differ in the sixth digit
    for (std::int64_t i = 0; i < n; ++i)
      atom(j)[i] = atom(j - 200)[i] + 1e-6 * noise[static_cast<std::size_t>(j * n + i)];
  for (const double fraction : {0.5, 0.1, 0.02}) expect_right(solve(fraction, 1e-9), 1e-9);
}

TEST_P(WorkingSet, DependentDictionary) {
  make(80, 300, some(20));
  for (std::int64_t j = 10; j < m; ++j) {  // rank 10
    std::fill_n(atom(j), n, 0.0);
    for (std::int64_t k = 0; k < 10; ++k)
      for (std::int64_t i = 0; i < n; ++i) atom(j)[i] += std::sin(static_cast<double>(j * (k + 1))) * atom(k)[i];
  }
  for (const double fraction : {0.5, 0.1, 0.01}) expect_right(solve(fraction, 1e-9), 1e-9);
}

TEST_P(WorkingSet, AtomsOfAllSizes) {
  make(40, 300, 20);
  for (std::int64_t j = 0; j < m; ++j) copy_atom(j, j, std::pow(10.0, static_cast<double>(j % 13) - 6));
  for (const double fraction : {0.5, 0.1, 1e-3}) expect_right(solve(fraction, 1e-9), 1e-9);
}

// Atoms that are nothing in float, and a lambda that makes them matter.
TEST_P(WorkingSet, AtomsAndLambdaUnderTheRangeOfFloat) {
  make(70, 1000, 3);
  for (std::int64_t j = 1; j < m; ++j) copy_atom(j, j, 1e-46);
  for (std::int64_t i = 0; i < n; ++i) atom(0)[i] = i == 0 ? 0 : 1;  // tells nothing of the observations
  for (std::int64_t i = 0; i < n * N; ++i) X[static_cast<std::size_t>(i)] = i % n == 0 ? 1 : 0;
  const LassoBatch batch = solve(LambdaRule::value(1e-48), 1e-3, 1, 30);
  for (std::int64_t i = 0; i < N; ++i) {
    const Truth true_one = truth(batch, i);
    EXPECT_GE(batch.dual_gap[static_cast<std::size_t>(i)], true_one.gap - 1e-12 * true_one.energy) << i;
  }
}

TEST_P(WorkingSet, UnitsOfAllSizes) {
  make(40, 200, 8);
  const LassoBatch plain = solve(0.2);
  for (double& value : D) value *= std::exp2(-43);  // lead fields in tesla have norms of 1e-13
  for (double& value : X) value *= std::exp2(-43);
  const LassoBatch small = solve(0.2);
  expect_right(small, 1e-6);
  EXPECT_EQ(small.codes.indices, plain.codes.indices);
  EXPECT_EQ(small.codes.values, plain.codes.values);
}

TEST_P(WorkingSet, LambdaAroundLambdaMax) {
  make(50, 300, 10);
  for (const double fraction : {1.5, 1.0, 1 - 1e-15, 1 - 1e-12, 1 - 1e-9, 1 - 1e-6, 0.999}) {
    SCOPED_TRACE(fraction);
    const LassoBatch batch = solve(fraction, 1e-9);
    expect_right(batch, 1e-9);
    for (std::int64_t i = 0; i < N; ++i)
      EXPECT_NEAR(batch.lambda[static_cast<std::size_t>(i)], fraction * truth(batch, i).lambda_max,
                  1e-13 * truth(batch, i).lambda_max);
    if (fraction >= 1) {
      EXPECT_EQ(batch.codes.indices.size(), 0U);
    }
  }
}

// The LARS path of this dictionary has many breakpoints: each atom has a small part of its own and a large common one.
TEST_P(WorkingSet, AdversarialPath) {
  make(100, 100, 1);
  std::fill(D.begin(), D.end(), 0.0);
  for (std::int64_t j = 0; j < m; ++j) {
    for (std::int64_t i = 0; i <= j; ++i) atom(j)[i] = (i == j ? 1 : -0.9) * std::pow(0.7, static_cast<double>(j - i));
  }
  for (std::int64_t i = 0; i < n; ++i)
    X[static_cast<std::size_t>(i)] = (i % 2 == 0 ? 1 : -1) * (1.0 + 0.01 * static_cast<double>(i));
  for (const double fraction : {0.3, 0.05, 1e-3, 1e-5}) expect_right(solve(fraction, 1e-9), 1e-9);
}

// Far more atoms in use than the working sets have room for at first: 192 in the smallest places on CUDA.
TEST_P(WorkingSet, ManyAtomsInUse) {
  if (context().is_cuda())
    make(215, 240, 1);
  else
    make(400, 900, 3);
  const LassoBatch batch = solve(context().is_cuda() ? 3e-4 : 0.003, 1e-9);
  expect_right(batch, 1e-9);
  EXPECT_GT(batch.codes.values.size(), static_cast<std::size_t>(192 * N));
}

TEST_P(WorkingSet, CorrelatedAtomsAndCoordinatesThatTellThem) {
  make(100, 600, some(20));
  for (std::int64_t j = 0; j < m; ++j)  // smooth: the first few principal coordinates tell nearly all
    for (std::int64_t i = 0; i < n; ++i)
      atom(j)[i] = std::exp(-std::pow((i - j / 6.0) / 8.0, 2)) * (1 + 0.1 * std::cos(j));
  for (const double fraction : {0.8, 0.3, 0.05}) expect_right(solve(fraction, 1e-9), 1e-9);
}

// Problems that want as many coordinates as there can be, side by side.
TEST_P(WorkingSetOnCpu, PoolsOfManyLevels) {
  make(600, 1200, 90);
  std::vector<double> lambdas(static_cast<std::size_t>(N));
  for (std::int64_t j = 0; j < m; ++j)
    for (std::int64_t i = 0; i < n; ++i) atom(j)[i] *= std::exp(-static_cast<double>(i) / 60);
  const LassoBatch largest = solve(2.0, 1e-6);
  for (std::size_t i = 0; i < lambdas.size(); ++i)
    lambdas[i] = largest.lambda[i] * std::pow(10.0, -0.4 - 1.8 * static_cast<double>(i % 30) / 30);
  expect_right(solve(LambdaRule::per_problem(lambdas), 1e-6, 2, 1000), 1e-6);
}

TEST_P(WorkingSet, BitsDoNotDependOnThreadsOrNeighbours) {
  make(70, 500, some(100));
  for (std::int64_t j = 1; j < m; ++j)
    for (std::int64_t i = 0; i < n; ++i) atom(j)[i] = 0.8 * atom(j - 1)[i] + 0.6 * atom(j)[i];
  const LassoBatch all = solve(0.15);
  EXPECT_TRUE(same_bits(all, solve(0.15)));
  EXPECT_TRUE(same_bits(all, solve(0.15, 1e-6, 3)));
  const Matrix observations = X;
  const std::int64_t most = N - 1;
  for (const std::int64_t i : {std::int64_t{0}, most / 3, most}) {
    N = 1;
    X.assign(observations.begin() + i * n, observations.begin() + (i + 1) * n);
    const LassoBatch alone = solve(0.15);
    const auto begin = all.codes.offsets[static_cast<std::size_t>(i)];
    const auto end = all.codes.offsets[static_cast<std::size_t>(i) + 1];
    EXPECT_EQ(alone.codes.values,
              std::vector<double>(all.codes.values.begin() + begin, all.codes.values.begin() + end));
    EXPECT_EQ(alone.dual_gap[0], all.dual_gap[static_cast<std::size_t>(i)]);
    EXPECT_EQ(alone.iterations[0], all.iterations[static_cast<std::size_t>(i)]);
  }
}

// Most panels need no product: small atoms behind large ones, residuals that move less and less.
TEST_P(WorkingSetOnCpu, AtomsOfManyNorms) {
  make(70, 2500, 40);
  for (std::int64_t j = 1; j < m; ++j)
    for (std::int64_t i = 0; i < n; ++i) atom(j)[i] = 0.6 * atom(j - 1)[i] + 0.8 * atom(j)[i];
  for (std::int64_t j = 0; j < m; ++j) copy_atom(j, j, std::exp2(-static_cast<double>(j * 7 % 50) / 10));
  const Matrix observations = X;
  const std::int64_t whole = N;
  for (const double fraction : {1.0, 0.97, 0.8, 0.5, 0.2, 0.05}) {
    SCOPED_TRACE(fraction);
    X = observations;
    N = whole;
    const LassoBatch all = solve(fraction, 1e-9);
    expect_right(all, 1e-9);
    EXPECT_TRUE(same_bits(all, solve(fraction, 1e-9, 3)));
    // Known beforehand, lambda lets the first pass leave more out.
    expect_right(solve(LambdaRule::per_problem(all.lambda), 1e-9, 2, 1000), 1e-9);
    N = 1;
    for (const std::int64_t i : {std::int64_t{3}, whole - 1}) {
      X.assign(observations.begin() + i * n, observations.begin() + (i + 1) * n);
      const LassoBatch alone = solve(fraction, 1e-9);
      EXPECT_EQ(alone.dual_gap[0], all.dual_gap[static_cast<std::size_t>(i)]);
      EXPECT_EQ(alone.iterations[0], all.iterations[static_cast<std::size_t>(i)]);
    }
  }
}

TEST_P(WorkingSetOnCpu, PenaltiesOnAtomsOfManyNorms) {
  make(70, 2500, 10);
  for (std::int64_t j = 0; j < m; ++j) copy_atom(j, j, std::exp2(-static_cast<double>(j * 7 % 50) / 10));
  const Context context = make_context(1);
  const Dictionary dictionary(context, {D.data(), n, m, n, {}});
  LassoOptions options;
  options.gap = 1e-9;
  for (const bool nonnegative : {false, true}) {
    options.penalty.nonnegative = nonnegative;
    options.penalty.weights.clear();
    for (std::int64_t j = 0; j < m; ++j)
      options.penalty.weights.push_back(j % 11 == 10 ? std::numeric_limits<double>::infinity()
                                                     : std::exp2(static_cast<double>(j % 9) / 3 - 1));
    for (const double fraction : {0.8, 0.3}) {
      SCOPED_TRACE(::testing::Message() << (nonnegative ? "nonnegative, " : "") << fraction);
      const auto with = [&](Solver solver) {
        options.solver = solver;
        options.max_iterations = solver == Solver::fista ? 100000 : 1000;
        return solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::sample_fraction(fraction),
                           options);
      };
      const LassoBatch found = with(Solver::working_set), wanted = with(Solver::fista);
      for (std::int64_t i = 0; i < N; ++i) {
        const auto at = static_cast<std::size_t>(i);
        double energy = 0;
        for (std::int64_t row = 0; row < n; ++row) energy += std::pow(X[static_cast<std::size_t>(row + i * n)], 2) / 2;
        EXPECT_TRUE(found.converged[at] && wanted.converged[at]);
        EXPECT_NEAR(found.lambda[at], wanted.lambda[at], 1e-12 * wanted.lambda[at]);
        EXPECT_NEAR(found.objective[at], wanted.objective[at], 2e-9 * energy);
      }
    }
  }
}

// The panel that may hold the largest correlation holds none: the first coordinates do not tell its large atoms from nothing.
TEST_P(WorkingSetOnCpu, LargeAtomsBeyondTheCoordinatesThatAreMultiplied) {
  make(300, 2000, 12);
  for (std::int64_t j = 0; j < m; ++j) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (j < 40)
        atom(j)[i] = i == j ? 100 - static_cast<double>(j) / 10 : 0;
      else if (i >= 20)
        atom(j)[i] = 0;
    }
    double energy = 0;
    for (std::int64_t i = 0; i < n; ++i) energy += atom(j)[i] * atom(j)[i];
    if (j >= 40) copy_atom(j, j, 1 / std::sqrt(energy));
  }
  for (std::int64_t i = 0; i < n * N; ++i) X[static_cast<std::size_t>(i)] = i % n == 100 ? 1 : i % n == 5 ? 0.02 : 0;
  for (const double fraction : {0.9, 0.5, 0.1}) expect_right(solve(fraction, 1e-9), 1e-9);
}

TEST_P(WorkingSet, StopsAtMaxIterationsWithTheGapThatItHas) {
  make(60, 400, 12);
  for (const std::int64_t most : {0, 1, 2}) {
    const LassoBatch batch = solve(0.05, 1e-10, 1, most);
    for (std::int64_t i = 0; i < N; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Truth true_one = truth(batch, i);
      EXPECT_FALSE(batch.converged[at]);
      EXPECT_EQ(batch.iterations[at], most);
      EXPECT_NEAR(batch.dual_gap[at], true_one.gap, 1e-9 * true_one.energy);
      EXPECT_GT(batch.dual_gap[at], 1e-10 * true_one.energy);
    }
  }
}

// Starts of every kind, on dictionaries that are read whole and that are looked at in integers: the solution, its own
// neighbour's, one for another lambda, codes far from all, with every atom, with dependent atoms, and none.
TEST_P(WorkingSet, StartsFromAnyCode) {
  for (const auto& [rows, atoms] : {std::pair{12, 60}, {40, 3000}}) {
    if (context().is_cuda() && atoms > 1000) continue;  // one kind there
    make(rows, atoms, 6);
    copy_atom(0, 1, 1);
    const LassoBatch cold = solve(0.2, 1e-9);
    const LassoBatch other = solve(0.4, 1e-9);
    SparseCodes neighbours, far, full, dependent, empty;
    for (std::int64_t i = 0; i < N; ++i) {
      const auto next = static_cast<std::size_t>((i + 1) % N);
      for (auto k = cold.codes.offsets[next]; k < cold.codes.offsets[next + 1]; ++k) {
        neighbours.indices.push_back(cold.codes.indices[static_cast<std::size_t>(k)]);
        neighbours.values.push_back(cold.codes.values[static_cast<std::size_t>(k)]);
      }
      for (std::int32_t j = 0; j < 5; ++j) {
        far.indices.push_back(7 * j);
        far.values.push_back(1e6 * (j - 2.5));
      }
      for (std::int32_t j = 0; j < m; ++j) {
        full.indices.push_back(j);
        full.values.push_back(0.01);
      }
      dependent.indices.insert(dependent.indices.end(), {0, 1, 2});
      dependent.values.insert(dependent.values.end(), {1, -2, 3});
      for (SparseCodes* codes : {&neighbours, &far, &full, &dependent, &empty})
        codes->offsets.push_back(static_cast<std::int64_t>(codes->values.size()));
    }
    std::int64_t cold_rounds = 0, warm_rounds = 0;
    const std::vector<const SparseCodes*> starts{&cold.codes, &other.codes, &neighbours, &far,
                                                 &full,       &dependent,   &empty};
    for (const SparseCodes* start : starts) {
      const Context context = make_context(2);
      const Dictionary dictionary(context, {D.data(), n, m, n, {}});
      LassoOptions options;
      options.solver = Solver::working_set;
      options.gap = 1e-9;
      options.initial = start;
      const LassoBatch warm =
          solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::sample_fraction(0.2), options);
      for (std::int64_t i = 0; i < N; ++i) {
        const auto at = static_cast<std::size_t>(i);
        EXPECT_TRUE(warm.converged[at]);
        const Truth found = truth(warm, i);
        EXPECT_LE(found.gap, 1.001e-9 * found.energy);
        EXPECT_EQ(warm.lambda[at], cold.lambda[at]);
        if (start == &cold.codes) {
          EXPECT_EQ(warm.iterations[at], 0);
        }
        if (start == &empty) {
          EXPECT_EQ(warm.objective[at], cold.objective[at]);
        }
        if (start == &other.codes) {
          cold_rounds += cold.iterations[at];
          warm_rounds += warm.iterations[at];
        }
      }
    }
    EXPECT_LE(warm_rounds, cold_rounds);
  }
}

// A row of zeros has lambda 0, under which the atoms that it starts with come to zero without a threshold to stop at.
TEST_P(WorkingSetOnCpu, RowsOfZerosStartFromAnyCode) {
  for (const auto& [rows, atoms] : {std::pair{12, 60}, {100, 1000}}) {
    make(rows, atoms, 6);
    const LassoBatch start = solve(0.3, 1e-9);
    std::fill(X.begin(), X.end(), 0.0);
    const Context context = make_context(2);
    const Dictionary dictionary(context, {D.data(), n, m, n, {}});
    for (const Solver solver : {Solver::working_set, Solver::plain_working_set}) {
      LassoOptions options;
      options.solver = solver;
      options.initial = &start.codes;
      const LassoBatch found =
          solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::sample_fraction(0.3), options);
      EXPECT_TRUE(found.codes.values.empty());
      EXPECT_EQ(found.dual_gap, std::vector<double>(static_cast<std::size_t>(N), 0.0));
    }
  }
}

// What a killed process loses at most, with however many threads.
TEST_P(WorkingSetOnCpu, NoMoreThanAThousandProblemsAreUnderWay) {
  make(70, 1000, 1);
  const Dictionary dictionary(Context::cpu(1), {D.data(), n, m, n, {}});
  for (const int threads : {1, 2, 11, 12, 64, 1000}) {
    const Context context = Context::cpu(threads);
    const WorkingSetPlan plan = plan_working_set(context, dictionary, 1000000, std::int64_t{1} << 40);
    EXPECT_LE(plan.workers * plan.places + plan.queue + plan.double_places, 1000) << threads;
    EXPECT_EQ(plan.workers, std::min(threads, 702)) << threads;
    EXPECT_GE(plan.places, 1) << threads;
    EXPECT_GE(plan.queue, 234) << threads;
    if (threads <= 2) {
      EXPECT_EQ(plan.places, WorkingSetBatch::kPlaces);
    }
  }
}

// A problem that takes a second or more, most of it in double; one that was not left would be delivered.
TEST_P(WorkingSetOnCpu, HearsACancelInTheMiddleOfAProblem) {
  make(200, 466, 1);
  for (double& value : D) value = value > 0.43 ? 1 : value < -0.43 ? -1 : 0;
  const Context context = Context::cpu(1);
  const Dictionary dictionary(context, {D.data(), n, m, n, {}});
  CancelToken token;
  LassoOptions options;
  options.solver = Solver::working_set;
  options.gap = 1e-13;
  options.cancel = &token;
  std::thread other([&token] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    token.cancel();
  });
  EXPECT_THROW(solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::sample_fraction(1e-6), options),
               Cancelled);
  other.join();
}

TEST_P(WorkingSet, EveryRuleOfLambda) {
  make(30, 100, 4);
  const LassoBatch fractions = solve(0.3, 1e-9);
  double largest = 0;
  for (std::int64_t i = 0; i < N; ++i) {
    const double lambda_max = truth(fractions, i).lambda_max;
    EXPECT_NEAR(fractions.lambda[static_cast<std::size_t>(i)], 0.3 * lambda_max, 1e-14 * lambda_max);
    largest = std::max(largest, lambda_max);
  }
  // The same lambdas, given one by one: to the same gaps, though not in the same units.
  const LassoBatch given = solve(LambdaRule::per_problem(fractions.lambda), 1e-9, 1, 1000);
  expect_right(given, 1e-9);
  EXPECT_EQ(given.lambda, fractions.lambda);
  EXPECT_EQ(given.codes.indices, fractions.codes.indices);
  const LassoBatch one = solve(LambdaRule::value(fractions.lambda[2]), 1e-9, 1, 1000);
  expect_right(one, 1e-9);
  EXPECT_EQ(one.lambda, std::vector<double>(4, fractions.lambda[2]));
  const LassoBatch recording = solve(LambdaRule::recording_fraction(0.3), 1e-9, 1, 1000);
  expect_right(recording, 1e-9);
  for (const double lambda : recording.lambda) EXPECT_NEAR(lambda, 0.3 * largest, 1e-13 * largest);
}

TEST_P(WorkingSet, LeastMemoryIsEnoughAndKeepsTheBits) {
  const std::int64_t shapes[][2] = {{1, 1}, {1, 100}, {100, 1}, {30, 300}};
  for (const auto& shape : shapes) {
    SCOPED_TRACE(::testing::Message() << shape[0] << " x " << shape[1]);
    make(shape[0], shape[1], 3);
    const Context context = make_context(1);
    const Dictionary dictionary(context, {D.data(), n, m, n, {}});
    LassoOptions options;
    options.solver = Solver::working_set;
    options.gap = 1e-9;
    const auto solve_within = [&](std::int64_t limit) {
      options.memory_limit = limit;
      return solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::sample_fraction(0.2), options);
    };
    const LassoBatch plenty = solve_within(std::int64_t{4} << 30);
    expect_right(plenty, 1e-9);
    const std::int64_t least = least_memory(context, n, m, Solver::working_set);
    for (const std::int64_t limit : {least, least + least / 50, 2 * least})
      EXPECT_TRUE(same_bits(plenty, solve_within(limit))) << limit;
    EXPECT_THROW(solve_within(least - 1), ValueError);
  }
}

// What had been delivered when a solve was cancelled is right, and the rest can be solved alone.
TEST_P(WorkingSet, CanBeCancelledAndGoOn) {
  make(30, 100, context().is_cuda() ? 6 : 3000);  // more than are under way at once
  const Context context = make_context(1);
  const Dictionary dictionary(context, {D.data(), n, m, n, {}});
  LassoOptions options;
  options.solver = Solver::working_set;
  options.memory_limit = least_memory(context, n, m, Solver::working_set);
  const LambdaRule rule = LambdaRule::sample_fraction(0.3);
  struct Source : ObservationSource {
    const WorkingSet& of;
    explicit Source(const WorkingSet& test) : of(test) {}
    std::int64_t size() const override { return of.N; }
    std::int64_t dimension() const override { return of.n; }
    void read(std::int64_t first, MatrixView<double> to) override {
      for (std::int64_t b = 0; b < to.cols; ++b) std::copy_n(of.X.data() + (first + b) * of.n, of.n, to.column(b));
    }
  };
  struct Sink : CodeSink {
    std::vector<std::int64_t> index;
    std::vector<double> objective, gap;
    void append(const LassoBatch& batch) override {
      index.insert(index.end(), batch.index.begin(), batch.index.end());
      objective.insert(objective.end(), batch.objective.begin(), batch.objective.end());
      gap.insert(gap.end(), batch.dual_gap.begin(), batch.dual_gap.end());
    }
  };
  Source source(*this);
  Sink whole, parts;
  solve_lasso(context, dictionary, source, rule, options, whole);
  ASSERT_EQ(whole.index.size(), static_cast<std::size_t>(N));

  CancelToken token;
  options.cancel = &token;
  options.progress = [&](const Progress& progress) {
    if (progress.done >= 2) token.cancel();
  };
  EXPECT_THROW(solve_lasso(context, dictionary, source, rule, options, parts), Cancelled);
  const std::vector<std::int64_t> first = parts.index;
  EXPECT_GE(first.size(), 2U);
  EXPECT_LT(first.size(), static_cast<std::size_t>(N));
  options.cancel = nullptr;
  options.progress = {};
  options.skip = [&](std::int64_t i) { return std::count(first.begin(), first.end(), i) > 0; };
  EXPECT_EQ(solve_lasso(context, dictionary, source, rule, options, parts).problems,
            N - static_cast<std::int64_t>(first.size()));
  ASSERT_EQ(parts.index.size(), static_cast<std::size_t>(N));
  for (std::size_t k = 0; k < static_cast<std::size_t>(N); ++k) {
    const auto at = static_cast<std::size_t>(std::find(parts.index.begin(), parts.index.end(), whole.index[k]) -
                                             parts.index.begin());
    ASSERT_LT(at, static_cast<std::size_t>(N));
    EXPECT_EQ(parts.objective[at], whole.objective[k]);
    EXPECT_EQ(parts.gap[at], whole.gap[k]);
  }
}

TEST_P(WorkingSet, RefusesWhatItDoesNotDo) {
  make(4, 6, 1);
  const Context context = make_context(1);
  const Dictionary dictionary(context, {D.data(), n, m, n, {}});
  LassoOptions options;
  options.solver = Solver::working_set;
  options.memory_limit = least_memory(context, n, m, Solver::working_set) - 1;
  EXPECT_THROW(solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::value(1), options), ValueError);
  ++options.memory_limit;
  EXPECT_EQ(solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::value(1), options).size(), 1);
}

}  // namespace
}  // namespace shrinkwarp
