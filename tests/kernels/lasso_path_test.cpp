// The exact path on a set of atoms: between and at its events the codes are stationary, and all atoms within their
// thresholds, by plain loops over the Gram matrix.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/lasso_path/lasso_path.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Problem {
  std::int64_t n = 0, m = 0, rows = 0;
  Tensor<double> D;  // [rows, m], the first n are not 0
  std::vector<double> x, weights;
  double ridge = 0;
  bool nonnegative = false;

  Problem(std::int64_t rows_used, std::int64_t atoms, std::uint64_t seed) : n(rows_used), m(atoms) {
    const Context host = Context::cpu(1);
    rows = (n + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
    D = Tensor<double>::zeros(host, rows, m);
    for (std::int64_t j = 0; j < m; ++j)
      fill_normal(host, seed, 0, static_cast<std::uint64_t>(j * n), VectorView<double>{column(j), n, {}});
    x.assign(static_cast<std::size_t>(rows), 0.0);
    fill_normal(host, seed, 1, 0, VectorView<double>{x.data(), n, {}});
    weights.assign(static_cast<std::size_t>(m), 1.0);
  }
  double* column(std::int64_t j) const { return D.matrix().column(j); }
  double* column(std::int64_t j) { return D.matrix().column(j); }

  LassoPath path() const {
    LassoPath path;
    path.clear(ridge, nonnegative, m);
    std::vector<std::int32_t> atoms(static_cast<std::size_t>(m));
    std::iota(atoms.begin(), atoms.end(), 0);
    std::vector<double> correlations(static_cast<std::size_t>(m));
    correlate_atoms(D.matrix(), atoms.data(), m, x.data(), correlations.data());
    path.add(D.matrix(), atoms.data(), correlations.data(), weights.data(), m);
    return path;
  }

  // How far the code of a path is from optimal for its lambda, beside max_j ||d_j|| ||x||.
  double miss(const LassoPath& path) const {
    std::vector<double> z(static_cast<std::size_t>(m), 0.0), r = x;
    for (std::int64_t k = 0; k < path.support(); ++k) {
      z[static_cast<std::size_t>(path.atom(k))] = path.code(k);
      for (std::int64_t i = 0; i < n; ++i) r[static_cast<std::size_t>(i)] -= column(path.atom(k))[i] * path.code(k);
    }
    const auto squares = [this](const double* v) { return std::inner_product(v, v + n, v, 0.0); };
    double worst = 0, longest = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      const double value = z[static_cast<std::size_t>(j)], weight = weights[static_cast<std::size_t>(j)];
      const double c = std::inner_product(r.data(), r.data() + n, column(j), 0.0) - ridge * value;
      longest = std::max(longest, squares(column(j)));
      if (std::isinf(weight)) {
        EXPECT_EQ(value, 0) << j;
        continue;
      }
      EXPECT_TRUE(value >= 0 || !nonnegative) << j;
      const double threshold = path.lambda() * weight;
      const double off =
          value != 0 ? std::fabs(c - std::copysign(threshold, value)) : (nonnegative ? c : std::fabs(c)) - threshold;
      worst = std::max(worst, off);
    }
    return worst / std::sqrt(longest * squares(x.data()));
  }

  // Follows the path to its end and looks at every event, and in the middle between two. @return how many atoms left
  std::int64_t follow(double tolerance) const {
    LassoPath path = this->path();
    std::int64_t left = 0;
    double before = path.lambda();
    while (path.next_event() != LassoPath::Event::ends) {
      EXPECT_LE(path.next_lambda(), path.lambda());
      path.move_to((path.lambda() + path.next_lambda()) / 2);
      EXPECT_LE(miss(path), tolerance) << "before event " << path.events();
      left += path.next_event() == LassoPath::Event::leaves ? 1 : 0;
      path.pass();
      EXPECT_LE(path.lambda(), before);
      before = path.lambda();
      EXPECT_LE(miss(path), tolerance) << "at event " << path.events();
      if (path.events() > 20 * m + 100 || ::testing::Test::HasFailure()) {
        ADD_FAILURE() << "no end";
        break;
      }
    }
    path.move_to(0);
    EXPECT_LE(miss(path), tolerance) << "at its end";
    return left;
  }
};

// Each event adds the rounding of some products of length n: 1e-15 of ||d|| ||x|| each, times the condition of few atoms.
constexpr double kTolerance = 1e-11;

TEST(LassoPath, IsOptimalAllTheWay) {
  std::int64_t left = 0;
  for (const auto& [n, m] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {5, 3}, {12, 40}, {30, 30}, {40, 100}})
    for (std::uint64_t seed = 1; seed <= 3; ++seed) left += Problem(n, m, seed).follow(kTolerance);
  EXPECT_GT(left, 0) << "no atom ever left: half of the method was not tried";
}

TEST(LassoPath, IsOptimalUnderEveryPenalty) {
  for (int kind = 1; kind < 8; ++kind) {
    Problem problem(20, 50, 7);
    problem.nonnegative = kind & 1;
    if (kind & 2) problem.ridge = 3;
    if (kind & 4)
      for (std::size_t j = 0; j < problem.weights.size(); ++j)
        problem.weights[j] = j % 7 == 3 ? kInfinity : std::exp2(static_cast<double>(j % 5) - 2);
    problem.follow(kTolerance);
  }
}

TEST(LassoPath, CopiesAndSumsOfAtomsWait) {
  Problem problem(16, 40, 3);
  const auto set = [&](std::int64_t j, const auto& value) {
    for (std::int64_t i = 0; i < problem.n; ++i) problem.column(j)[i] = value(i);
  };
  for (std::int64_t j = 0; j < 10; ++j) {
    set(10 + j, [&](std::int64_t i) { return problem.column(j)[i]; });
    set(20 + j, [&](std::int64_t i) { return -problem.column(j)[i]; });
  }
  set(30, [&](std::int64_t i) { return problem.column(0)[i] + problem.column(1)[i]; });
  set(31, [](std::int64_t) { return 0; });
  problem.follow(kTolerance);
}

TEST(LassoPath, CorrelatedAtomsJoinAndLeave) {
  Problem problem(30, 60, 11);
  for (std::int64_t j = 1; j < problem.m; ++j)
    for (std::int64_t i = 0; i < problem.n; ++i)
      problem.column(j)[i] = 0.97 * problem.column(j - 1)[i] + 0.24 * problem.column(j)[i];
  EXPECT_GT(problem.follow(1e-10), 5);
}

TEST(LassoPath, SumsAndRatesAreThoseOfTheCodes) {
  Problem problem(20, 50, 5);
  problem.ridge = 0.5;
  for (std::size_t j = 0; j < problem.weights.size(); ++j) problem.weights[j] = 1 + 0.1 * static_cast<double>(j % 4);
  LassoPath path = problem.path();
  for (int event = 0; event < 8; ++event) path.pass();
  const auto residual_squares = [&] {
    std::vector<double> r = problem.x;
    for (std::int64_t k = 0; k < path.support(); ++k)
      for (std::int64_t i = 0; i < problem.n; ++i)
        r[static_cast<std::size_t>(i)] -= problem.column(path.atom(k))[i] * path.code(k);
    return std::inner_product(r.begin(), r.end(), r.begin(), 0.0);
  };
  const auto norm = [&] {
    double sum = 0;
    for (std::int64_t k = 0; k < path.support(); ++k)
      sum += problem.weights[static_cast<std::size_t>(path.atom(k))] * std::fabs(path.code(k));
    return sum;
  };
  const auto squares = [&] {
    double sum = 0;
    for (std::int64_t k = 0; k < path.support(); ++k) sum += path.code(k) * path.code(k);
    return sum;
  };
  const double energy = std::inner_product(problem.x.begin(), problem.x.end(), problem.x.begin(), 0.0);
  EXPECT_NEAR(path.explained(), energy - residual_squares(), 1e-12 * energy);
  EXPECT_NEAR(path.norm(), norm(), 1e-13 * norm());
  EXPECT_NEAR(path.squares(), squares(), 1e-13 * squares());
  const double norm_before = path.norm(), squares_before = path.squares();
  const double norm_rate = path.norm_rate(), squares_rate = path.squares_rate(), rate_squares = path.rate_squares();
  const double fall = (path.lambda() - path.next_lambda()) / 2;
  path.move_to(path.lambda() - fall);
  EXPECT_NEAR(path.norm(), norm_before + fall * norm_rate, 1e-12 * path.norm());
  EXPECT_NEAR(path.squares(), squares_before + 2 * fall * squares_rate + fall * fall * rate_squares,
              1e-12 * path.squares());
}

TEST(LassoPath, SettlesFromBetterCorrelations) {
  const Problem problem(20, 50, 9);
  LassoPath path = problem.path();
  for (int event = 0; event < 10; ++event) path.pass();
  std::vector<double> exact;
  for (std::int64_t k = 0; k < path.support(); ++k) exact.push_back(path.target(k));
  const double before = path.code(0);
  path.settle(exact.data());
  EXPECT_EQ(path.code(0), before);
  exact[0] += 0.1;  // the code of that atom, and with it the others, has to grow
  path.settle(exact.data());
  EXPECT_GT(path.code(0), before);
}

TEST(LassoPath, GrowsAndStartsAgain) {
  const Problem problem(20, 50, 13);
  LassoPath path = problem.path();
  const double first = path.lambda();
  for (int event = 0; event < 5; ++event) path.pass();
  const double code = path.code(0), lambda = path.lambda();
  path.restart();
  EXPECT_EQ(path.lambda(), first);
  EXPECT_EQ(path.support(), 0);
  for (int event = 0; event < 5; ++event) path.pass();
  EXPECT_EQ(path.code(0), code);
  EXPECT_EQ(path.lambda(), lambda);

  // Bit by bit the same from atoms that come in two parts.
  LassoPath parts;
  parts.clear(0, false, 50);
  for (std::int32_t begin : {0, 20}) {
    std::vector<std::int32_t> atoms(begin == 0 ? 20 : 30);
    std::iota(atoms.begin(), atoms.end(), begin);
    std::vector<double> correlations(atoms.size());
    const auto count = static_cast<std::int64_t>(atoms.size());
    correlate_atoms(problem.D.matrix(), atoms.data(), count, problem.x.data(), correlations.data());
    parts.add(problem.D.matrix(), atoms.data(), correlations.data(), problem.weights.data(), count);
  }
  for (int event = 0; event < 5; ++event) parts.pass();
  EXPECT_EQ(parts.code(0), code);
}

TEST(LassoPath, NothingHasAPathThatEndsAtOnce) {
  Problem problem(4, 3, 1);
  std::fill(problem.x.begin(), problem.x.end(), 0.0);
  EXPECT_EQ(problem.path().next_event(), LassoPath::Event::ends);
  EXPECT_EQ(problem.path().lambda(), 0);
  LassoPath empty;
  empty.clear(0, false, 1);
  EXPECT_EQ(empty.next_event(), LassoPath::Event::ends);
}

}  // namespace
}  // namespace shrinkwarp
