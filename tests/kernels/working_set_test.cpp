// The steps of the working-set method on a device, each against float64 or long double on the host.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/kernels/group_set/group_sets.hpp>
#include <shrinkwarp/kernels/working_set/working_set.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"
#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::normal_atoms;
using testing::to_device;

constexpr double kEps = std::numeric_limits<double>::epsilon();

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// P places for problems of one dictionary, run by hand.
class Bench {
 public:
  Bench(const Context& context, GuardedHost<double> D, std::int64_t places, std::int64_t capacity,
        std::int64_t group_size = 1)
      : context_(context), D_(std::move(D)), device_D_(to_device(context, D_)), s_(group_size), arena_([&] {
          Arena counting(context.device());
          lay_out(counting, places, capacity);
          return Arena(context, counting.used());
        }()) {
    lay_out(arena_, places, capacity);
    penalty.group_size = s_;
    const std::int64_t stride = group_columns(s_), count = D_.cols / s_ * stride;
    half_ = HalfColumns(context, D_.rows, count);
    std::vector<std::int32_t> columns(index_of(count), -1);
    for (std::int64_t j = 0; j < D_.cols; ++j)
      columns[index_of(j / s_ * stride + j % s_)] = static_cast<std::int32_t>(j);
    half_.set(context, device_D_.matrix(), to_device(context, columns, count).vector());
    if (s_ > 1) {
      const GroupBasis basis(Context::cpu(1), testing::padded<double>(D_).matrix(), s_);
      vectors_ = Tensor<double>(context, s_, D_.cols);
      values_ = Tensor<double>(context, D_.cols);
      copy(context, basis.vectors(), vectors_.matrix());
      copy(context, basis.values(), values_.vector());
      context.synchronize();
    }
    residuals_ = HalfColumns(context, D_.rows, places);
    context.synchronize();
  }

  /// Column i of X to places[i].
  void admit(const GuardedHost<double>& X, const std::vector<std::int32_t>& places, const std::vector<double>& lambda,
             double dictionary_scale = 1, const StartCodes& starts = {}) {
    const auto device_X = to_device(context_, X);
    const auto list = to_device(context_, places, static_cast<std::int64_t>(places.size()));
    const auto lambdas = to_device(context_, lambda, static_cast<std::int64_t>(lambda.size()));
    admit_problems(context_, device_X.matrix(), list.vector(), lambdas.vector(), dictionary_scale, problems, sets,
                   starts);
    context_.synchronize();
  }
  void look(const std::vector<std::int32_t>& places, const LookRules& rules) {
    const auto count = static_cast<std::int64_t>(places.size());
    const auto list = to_device(context_, places, count);
    const Tensor<std::uint32_t> keys(context_, (half_.cols() + 7) / 8, count);
    residuals_.set(context_, problems.r, list.vector());
    panel_bounds(context_, half_, residuals_, count, keys.matrix(),
                 {divided_.view(), penalty.nonnegative, group_columns(s_)});
    look_at_bounds(context_, device_D_.matrix(), half_, residuals_, keys.matrix(), list.vector(), rules, problems, sets,
                   penalty, divided_.view());
    context_.synchronize();
  }
  /// The rest of a round.
  void solve(const std::vector<std::int32_t>& places) {
    const auto list = to_device(context_, places, static_cast<std::int64_t>(places.size()));
    const auto start = s_ > 1 ? start_group_sets : start_active_sets;
    start(context_, device_D_.matrix(), {}, problems.r, list.vector(), problems.lambda, problems.start, sets, penalty);
    add_atoms(context_, device_D_.matrix(), {}, problems.r, list.vector(), problems.fresh, problems.fresh_count, sets,
              penalty);
    if (s_ > 1)
      solve_group_sets(context_, {vectors_.matrix(), values_.vector()}, list.vector(), problems.lambda,
                       problems.tolerance, 60, sets, penalty);
    else
      solve_active_sets(context_, list.vector(), problems.lambda, problems.tolerance, 20, sets, penalty);
    residual(places);
  }
  void residual(const std::vector<std::int32_t>& places) {
    const auto list = to_device(context_, places, static_cast<std::int64_t>(places.size()));
    update_residuals(context_, device_D_.matrix(), list.vector(), problems, sets, penalty);
    context_.synchronize();
  }

  double number(VectorView<double> vector, std::int64_t p) const {
    return testing::values_of(context_, VectorView<const double>(vector))[index_of(p)];
  }
  std::int32_t count(VectorView<std::int32_t> vector, std::int64_t p) const {
    return testing::values_of(context_, VectorView<const std::int32_t>(vector))[index_of(p)];
  }
  void put(VectorView<double> vector, std::int64_t p, double value) {
    copy(context_, VectorView<const double>{&value, 1, {}}, vector.slice(p, 1));
    context_.synchronize();
  }
  void put(VectorView<std::int32_t> vector, std::int64_t p, std::int32_t value) {
    copy(context_, VectorView<const std::int32_t>{&value, 1, {}}, vector.slice(p, 1));
    context_.synchronize();
  }
  template <class T>
  std::vector<T> column(MatrixView<T> matrix, std::int64_t p, std::int64_t size) const {
    return testing::values_of(context_, VectorView<const T>{matrix.column(p), size, context_.device()});
  }
  std::vector<std::int32_t> fresh(std::int64_t p) const {
    return column(problems.fresh, p, count(problems.fresh_count, p));
  }
  std::vector<std::int32_t> atoms(std::int64_t p) const { return column(sets.atom, p, count(sets.size, p)); }
  /// Codes of all atoms.
  std::vector<double> code(std::int64_t p) const {
    std::vector<double> z(index_of(D_.cols), 0.0);
    const auto atom = atoms(p);
    const auto values = column(sets.code, p, static_cast<std::int64_t>(atom.size()));
    for (std::size_t i = 0; i < atom.size(); ++i) z[index_of(atom[i])] = values[i];
    return z;
  }

  /// D'r - ridge z for the place's residual.
  std::vector<double> correlations(std::int64_t p) const {
    const auto r = column(problems.r, p, D_.rows);
    const auto z = penalty.ridge > 0 ? code(p) : std::vector<double>(index_of(D_.cols), 0.0);
    std::vector<double> result;
    for (std::int64_t j = 0; j < D_.cols; ++j) {
      long double sum = -static_cast<long double>(penalty.ridge) * z[index_of(j)];
      for (std::int64_t i = 0; i < D_.rows; ++i) sum += static_cast<long double>(D_(i, j)) * r[index_of(i)];
      result.push_back(static_cast<double>(sum));
    }
    return result;
  }
  /// What is compared with lambda: their magnitudes, or what the penalty makes of them.
  std::vector<double> sides(std::int64_t p) const {
    auto result = correlations(p);
    for (std::size_t j = 0; j < result.size(); ++j)
      result[j] = (penalty.nonnegative ? result[j] : std::fabs(result[j])) / weight(static_cast<std::int64_t>(j));
    return result;
  }
  double weight(std::int64_t j) const { return weights_.empty() ? 1 : weights_[index_of(j)]; }  ///< of atom or group j
  /// Of groups: the norms of their correlations by their weights.
  std::vector<double> group_sides(std::int64_t p) const {
    const auto c = correlations(p);
    std::vector<double> result;
    for (std::int64_t g = 0; g < D_.cols / s_; ++g) {
      double square = 0;
      for (std::int64_t j = g * s_; j < (g + 1) * s_; ++j) square += c[index_of(j)] * c[index_of(j)];
      result.push_back(std::sqrt(square) / weight(g));
    }
    return result;
  }
  void set_penalty(const std::vector<double>& weights, double ridge, bool nonnegative) {
    weights_ = weights;
    device_weights_ = to_device(context_, weights, static_cast<std::int64_t>(weights.size()));
    const std::int64_t stride = group_columns(s_);
    std::vector<double> of_columns;
    for (std::int64_t j = 0; j < half_.cols(); ++j) of_columns.push_back(weight(j / stride));
    if (!weights.empty()) divided_ = DividedBounds(context_, half_, {of_columns.data(), half_.cols(), {}});
    penalty = {device_weights_.vector(), ridge, nonnegative, s_};
  }
  const GuardedHost<double>& D() const { return D_; }
  const Context& context() const { return context_; }
  MatrixView<const double> device_D() const { return device_D_.matrix(); }
  const HalfColumns& half() const { return half_; }
  const HalfColumns& residuals() const { return residuals_; }

 private:
  void lay_out(Arena& arena, std::int64_t places, std::int64_t capacity) {
    sets = ActiveSets::lay_out(arena, capacity, places);
    problems = WorkingSetProblems::lay_out(arena, D_.rows, places, s_);
  }
  const Context& context_;
  GuardedHost<double> D_;
  testing::Guarded<double> device_D_;
  std::int64_t s_;

 public:
  ActiveSets sets;
  WorkingSetProblems problems;
  PenaltyView<double> penalty;

 private:
  Arena arena_;
  HalfColumns half_, residuals_;
  std::vector<double> weights_;
  Tensor<double> device_weights_, vectors_, values_;
  DividedBounds divided_;
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<long double>(a[i]) * b[i];
  return static_cast<double>(sum);
}

double largest(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

LookRules rules_of(double gap, double fraction, std::int64_t max_iterations = 100) {
  LookRules rules;
  rules.gap = gap;
  rules.fraction = fraction;
  rules.atom_norm = 20;
  rules.max_iterations = max_iterations;
  return rules;
}

class WorkingSetSteps : public testing::OnContext {};
SHRINKWARP_ON_CUDA(WorkingSetSteps);

// ---- problems come in ----

TEST_P(WorkingSetSteps, ProblemsComeInAtTheirScale) {
  auto X = normal_atoms(37, 5, 2);
  for (std::int64_t i = 0; i < 37; ++i) {
    X(i, 1) *= 1e-13;
    X(i, 2) *= 1e200;
    X(i, 3) = 0;
    X(i, 4) = i == 36 ? -8 : 1;
  }
  Bench bench(context(), normal_atoms(37, 20, 1), 7, 20);
  const std::vector<std::int32_t> places{6, 0, 3, 2, 5};
  bench.admit(X, places, {-1, 3e-13, -0.5, 2, 64}, 4);
  for (std::size_t b = 0; b < 5; ++b) {
    SCOPED_TRACE(b);
    const std::int32_t p = places[b];
    double most = 0, energy = 0;
    for (std::int64_t i = 0; i < 37; ++i) most = std::max(most, std::fabs(X(i, static_cast<std::int64_t>(b))));
    const double scale = most > 0 ? std::exp2(std::floor(std::log2(most))) : 1;
    EXPECT_EQ(bench.number(bench.problems.scale, p), scale);
    const auto x = bench.column(bench.problems.x, p, 37);
    for (std::int64_t i = 0; i < 37; ++i) {
      EXPECT_EQ(x[index_of(i)], X(i, static_cast<std::int64_t>(b)) / scale);
      energy += x[index_of(i)] * x[index_of(i)] / 2;
    }
    EXPECT_EQ(bench.column(bench.problems.r, p, 37), x);
    EXPECT_NEAR(bench.number(bench.problems.energy, p), energy, 37 * kEps * energy);
    EXPECT_EQ(bench.count(bench.problems.state, p), kProblemRuns);
    for (const auto& vector : {bench.problems.support, bench.problems.iterations, bench.problems.fresh_count,
                               bench.problems.idle, bench.sets.size, bench.sets.support, bench.sets.steps})
      EXPECT_EQ(bench.count(vector, p), 0);
    EXPECT_EQ(bench.number(bench.problems.magnitude, p), 0);
  }
  const double lambdas[] = {-1, 3e-13 / bench.number(bench.problems.scale, 0) / 4, -1, 2.0 / 4, 64.0 / 8 / 4};
  for (std::size_t b = 0; b < 5; ++b) EXPECT_EQ(bench.number(bench.problems.lambda, places[b]), lambdas[b]) << b;
  // Far beyond any lambda_max, and of the range of what follows.
  bench.admit(X.make(37, 1, [](std::int64_t, std::int64_t) { return 1e-200; }), {1}, {1e200});
  EXPECT_EQ(bench.number(bench.problems.lambda, 1), 1e30);
}

// ---- looks ----

TEST_P(WorkingSetSteps, LambdaMaxIsExact) {
  // Close rivals of the largest correlation: halves cannot tell them, float64 must.
  for (const std::int64_t m : {1, 7, 9, 200}) {
    auto D = normal_atoms(40, m, 1);
    const auto X = normal_atoms(40, 3, 2);
    for (std::int64_t j = 9; j < m; ++j)
      for (std::int64_t i = 0; i < 40; ++i)
        if (j % 3 == 0) D(i, j) = X(i, j % 2) * (1 + 1e-9 * static_cast<double>(j * 7 % 101));
    Bench bench(context(), D, 3, m);
    bench.admit(X, {0, 1, 2}, {-1, -1, -1});
    bench.look({2, 0, 1}, rules_of(1e-9, 0.5));
    for (const std::int64_t p : {0, 1, 2}) {
      const double lambda_max = largest(bench.sides(p));
      EXPECT_NEAR(bench.number(bench.problems.lambda, p), 0.5 * lambda_max, 40 * kEps * 0.5 * lambda_max) << m;
    }
  }
}

TEST_P(WorkingSetSteps, LargeLambdaIsDoneAtOnce) {
  const auto D = normal_atoms(40, 100, 1), X = normal_atoms(40, 1, 2);
  for (const double fraction : {1.0, 1.5, 1e9}) {
    Bench bench(context(), D, 1, 100);
    bench.admit(X, {0}, {-1});
    bench.look({0}, rules_of(1e-9, fraction));
    EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemDone);
    EXPECT_EQ(bench.count(bench.problems.fresh_count, 0), 0);
    EXPECT_EQ(bench.count(bench.problems.iterations, 0), 0);
    EXPECT_LT(bench.number(bench.problems.tolerance, 0), 0);
    const double energy = bench.number(bench.problems.energy, 0);
    EXPECT_NEAR(bench.number(bench.problems.primal, 0), energy, 40 * kEps * energy);
    EXPECT_LE(bench.number(bench.problems.gap, 0), 1e-13 * energy);
  }
  // A little under it one atom is wanted.
  Bench bench(context(), D, 1, 100);
  bench.admit(X, {0}, {-1});
  bench.look({0}, rules_of(1e-12, 1 - 1e-4));
  EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemRuns);
  EXPECT_GE(bench.count(bench.problems.fresh_count, 0), 1);
}

TEST_P(WorkingSetSteps, ARowOfZerosIsDone) {
  for (const double lambda : {-1.0, 0.0, 3.0}) {
    Bench bench(context(), normal_atoms(10, 30, 1), 2, 30);
    bench.admit(GuardedHost<double>::make(10, 2, [](std::int64_t i, std::int64_t b) { return b == 0 ? 0.0 : i + 1.0; }),
                {0, 1}, {lambda, -1});
    bench.look({0, 1}, rules_of(1e-9, 0.3));
    EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemDone);
    EXPECT_EQ(bench.number(bench.problems.gap, 0), 0);
    EXPECT_EQ(bench.number(bench.problems.primal, 0), 0);
    EXPECT_EQ(bench.number(bench.problems.scale, 0), 1);
    EXPECT_EQ(bench.number(bench.problems.lambda, 0), lambda < 0 ? 0 : lambda);
    EXPECT_EQ(bench.count(bench.problems.state, 1), kProblemRuns);
  }
}

/// A whole problem by hand, each look against the host.
void run(Bench& bench, std::int64_t p, const LookRules& rules, int most_rounds) {
  const std::vector<std::int32_t> list{static_cast<std::int32_t>(p)};
  const auto x = bench.column(bench.problems.x, p, bench.D().rows);
  for (int round = 0; round < most_rounds; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    const auto correlations = bench.correlations(p), sides = bench.sides(p);
    const auto before = bench.atoms(p);
    bench.look(list, rules);
    const double lambda = bench.number(bench.problems.lambda, p), most = largest(sides);
    const PenaltyView<double>& penalty = bench.penalty;
    const auto r = bench.column(bench.problems.r, p, bench.D().rows);
    const auto z = bench.code(p);
    double magnitude = 0, weighted = 0;
    for (std::int64_t j = 0; j < bench.D().cols; ++j) {
      const double value = z[index_of(j)];
      magnitude += std::fabs(value);
      if (value == 0) continue;
      EXPECT_TRUE(value > 0 || !penalty.nonnegative);
      weighted += bench.weight(j) * std::fabs(value);
    }
    EXPECT_NEAR(bench.number(bench.problems.magnitude, p), magnitude, 100 * kEps * magnitude);
    const std::int32_t state = bench.count(bench.problems.state, p);
    const double own = dot(r, r) + penalty.ridge * dot(z, z);
    const double primal = own / 2 + lambda * weighted;
    const double gap = gap_under_penalty(primal, own, dot(x, r), std::max(most, 0.999 * lambda), lambda,
                                         rules.atom_norm * magnitude, penalty.nonnegative);
    const double energy = dot(x, x) / 2;
    if (state == kProblemDone) {
      // The gap is a difference of sums like primal.
      const double room = 10 * static_cast<double>(x.size()) * kEps * energy;
      EXPECT_NEAR(bench.number(bench.problems.primal, p), primal, room);
      EXPECT_NEAR(bench.number(bench.problems.gap, p), gap, room);
      EXPECT_LE(bench.number(bench.problems.gap, p), rules.gap * energy);
      EXPECT_LT(bench.number(bench.problems.tolerance, p), 0);
      EXPECT_EQ(bench.count(bench.problems.fresh_count, p), 0);
      EXPECT_EQ(bench.count(bench.problems.iterations, p), round);
      EXPECT_EQ(bench.count(bench.problems.support, p), bench.count(bench.sets.support, p));
      return;
    }
    ASSERT_EQ(state, kProblemRuns);
    EXPECT_GT(gap, rules.gap * energy * (1 - 1e-9));
    EXPECT_EQ(bench.count(bench.problems.iterations, p), round + 1);
    const double tolerance = bench.number(bench.problems.tolerance, p);
    EXPECT_GE(tolerance, 1e-12);
    EXPECT_LE(tolerance, 1e-3);
    // New atoms are distinct, not in W, no two of a panel, and in the order of panels.
    const auto fresh = bench.fresh(p);
    ASSERT_LE(fresh.size(), 64U);
    for (std::size_t k = 0; k < fresh.size(); ++k) {
      EXPECT_GE(fresh[k], 0);
      ASSERT_LT(fresh[k], bench.D().cols);
      EXPECT_EQ(std::count(before.begin(), before.end(), fresh[k]), 0) << fresh[k];
      if (k > 0) {
        EXPECT_LT(fresh[k - 1] / 8, fresh[k] / 8);
      }
    }
    // The worst violator is among them: its panel's bound is the highest but for what bounds are off, 1.1e-3 of the lengths.
    // With a ridge panels of S have higher bounds than their correlations, and an atom there may have to wait.
    double least_weight = 1;
    for (std::int64_t j = 0; j < bench.D().cols; ++j) least_weight = std::min(least_weight, bench.weight(j));
    const double off = 2.2e-3 * std::sqrt(dot(r, r)) * rules.atom_norm / least_weight;
    double worst = 0, chosen = 0;
    for (std::int64_t j = 0; j < bench.D().cols; ++j)
      if (std::count(before.begin(), before.end(), static_cast<std::int32_t>(j)) == 0)
        worst = std::max(worst, sides[index_of(j)]);
    for (const std::int32_t j : fresh) {
      chosen = std::max(chosen, sides[index_of(j)]);
      EXPECT_TRUE(std::isfinite(bench.weight(j)));
    }
    if (worst > lambda && penalty.ridge == 0) {
      EXPECT_GE(chosen, worst - off);
    }
    // Correlations of W that float64 has seen are those.
    const auto set = bench.column(bench.sets.correlation, p, static_cast<std::int64_t>(before.size()));
    for (std::size_t i = 0; i < before.size(); ++i)
      EXPECT_NEAR(set[i], correlations[index_of(before[i])], 1e-11 * rules.atom_norm * std::sqrt(2 * energy));
    bench.solve(list);
    if (::testing::Test::HasFatalFailure()) return;
  }
  FAIL() << "not done in " << most_rounds << " rounds";
}

TEST_P(WorkingSetSteps, LooksAreRightUntilTheProblemIsDone) {
  for (const std::int64_t m : {6, 60, 500}) {
    if (testing::kThreadSanitizer && m != 60) continue;
    for (const auto& [fraction, gap] : {std::pair{0.9, 1e-6}, {0.3, 1e-12}, {0.05, 1e-3}}) {
      SCOPED_TRACE(::testing::Message() << m << " atoms at " << fraction << ", gap " << gap);
      Bench bench(context(), normal_atoms(40, m, 1), 3, std::min<std::int64_t>(m, 224));
      bench.admit(normal_atoms(40, 1, 2), {1}, {-1});
      run(bench, 1, rules_of(gap, fraction), 40);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(WorkingSetSteps, LooksAreRightUnderPenalties) {
  constexpr std::int64_t m = 100;
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<double> weights;
  for (std::int64_t j = 0; j < m; ++j)
    weights.push_back(j % 7 == 3 || j / 8 == 4 ? infinity : std::exp2(static_cast<double>(j % 5) - 2));
  for (const int kind : {1, 2, 4, 7}) {
    if (testing::kThreadSanitizer && kind != 7) continue;
    SCOPED_TRACE(kind);
    Bench bench(context(), normal_atoms(40, m, 1), 2, m);
    bench.set_penalty((kind & 1) != 0 ? weights : std::vector<double>(), (kind & 2) != 0 ? 5.0 : 0.0, (kind & 4) != 0);
    bench.admit(normal_atoms(40, 1, 2), {1}, {-1});
    const double lambda_max = std::max(largest(bench.sides(1)), 0.0);
    run(bench, 1, rules_of(1e-10, 0.2), 60);
    if (HasFatalFailure()) return;
    EXPECT_NEAR(bench.number(bench.problems.lambda, 1), 0.2 * lambda_max, 40 * kEps * lambda_max);
    EXPECT_GT(bench.count(bench.sets.support, 1), 0);
  }
}

/// A problem in groups by hand, each look against the host.
void run_groups(Bench& bench, std::int64_t p, const LookRules& rules, int most_rounds) {
  const std::vector<std::int32_t> list{static_cast<std::int32_t>(p)};
  const std::int64_t s = bench.penalty.group_size, groups = bench.D().cols / s;
  const auto x = bench.column(bench.problems.x, p, bench.D().rows);
  const double energy = dot(x, x) / 2;
  for (int round = 0; round < most_rounds; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    const auto correlations = bench.correlations(p), sides = bench.group_sides(p);
    const auto before = bench.atoms(p);
    bench.look(list, rules);
    const double lambda = bench.number(bench.problems.lambda, p), most = largest(sides);
    const auto r = bench.column(bench.problems.r, p, bench.D().rows);
    const auto z = bench.code(p);
    double magnitude = 0, weighted = 0;
    for (std::int64_t g = 0; g < groups; ++g) {
      double square = 0;
      for (std::int64_t j = g * s; j < (g + 1) * s; ++j) {
        magnitude += std::fabs(z[index_of(j)]);
        square += z[index_of(j)] * z[index_of(j)];
      }
      if (square > 0) weighted += bench.weight(g) * std::sqrt(square);
    }
    const double own = dot(r, r) + bench.penalty.ridge * dot(z, z), primal = own / 2 + lambda * weighted;
    const double gap = gap_under_penalty(primal, own, dot(x, r), std::max(most, 0.999 * lambda), lambda,
                                         rules.atom_norm * magnitude, false);
    const auto set = bench.column(bench.sets.correlation, p, static_cast<std::int64_t>(before.size()));
    for (std::size_t i = 0; i < before.size(); ++i)
      EXPECT_NEAR(set[i], correlations[index_of(before[i])], 1e-11 * rules.atom_norm * std::sqrt(2 * energy));
    const std::int32_t state = bench.count(bench.problems.state, p);
    const double tolerance = bench.number(bench.problems.tolerance, p);
    if (state == kProblemDone) {
      const double room = 10 * static_cast<double>(x.size()) * kEps * energy;
      EXPECT_NEAR(bench.number(bench.problems.primal, p), primal, room);
      EXPECT_NEAR(bench.number(bench.problems.gap, p), gap, room);
      EXPECT_LE(bench.number(bench.problems.gap, p), rules.gap * energy);
      EXPECT_LT(tolerance, 0);
      EXPECT_EQ(bench.count(bench.problems.fresh_count, p), 0);
      EXPECT_EQ(bench.count(bench.problems.iterations, p), round);
      return;
    }
    ASSERT_EQ(state, kProblemRuns);
    EXPECT_GT(gap, rules.gap * energy * (1 - 1e-9));
    // Whole groups, distinct, not in W; the worst violator among them, but for what bounds are off by.
    const auto fresh = bench.fresh(p);
    ASSERT_EQ(static_cast<std::int64_t>(fresh.size()) % s, 0);
    ASSERT_LE(fresh.size(), index_of(WorkingSetProblems::most_new_atoms(s)));
    double worst = 0, chosen = 0, least_weight = 1;
    for (std::int64_t g = 0; g < groups; ++g) {
      least_weight = std::min(least_weight, bench.weight(g));
      if (std::count(before.begin(), before.end(), static_cast<std::int32_t>(g * s)) == 0)
        worst = std::max(worst, sides[index_of(g)]);
    }
    for (std::size_t k = 0; k < fresh.size(); ++k) {
      const std::int32_t first = fresh[k - k % index_of(s)];
      ASSERT_EQ(first % s, 0);
      ASSERT_EQ(fresh[k], first + static_cast<std::int32_t>(k % index_of(s)));
      ASSERT_LT(fresh[k], bench.D().cols);
      EXPECT_EQ(std::count(before.begin(), before.end(), fresh[k]), 0) << fresh[k];
      EXPECT_EQ(std::count(fresh.begin(), fresh.end(), fresh[k]), 1) << fresh[k];
      chosen = std::max(chosen, sides[index_of(first / s)]);
      EXPECT_TRUE(std::isfinite(bench.weight(first / s)));
    }
    const double off = 2.2e-3 * std::sqrt(static_cast<double>(s) * dot(r, r)) * rules.atom_norm / least_weight;
    if (worst > lambda && bench.penalty.ridge == 0) {
      EXPECT_GE(chosen, worst - off);
    }
    // While groups are missing, W is solved to a tenth of what the furthest new one is over lambda by.
    EXPECT_GE(tolerance, 1e-14);
    EXPECT_LE(tolerance, std::max(1e-3, 0.1 * ((worst + off) / lambda - 1) + 1e-12));
    bench.solve(list);
    if (::testing::Test::HasFatalFailure()) return;
  }
  FAIL() << "not done in " << most_rounds << " rounds";
}

TEST_P(WorkingSetSteps, LooksAreRightInGroups) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const std::int64_t s : {2, 3, 5, 8, 12, 100}) {
    for (const bool with_all : {false, true}) {
      if (testing::kThreadSanitizer && s != 12) continue;
      SCOPED_TRACE(::testing::Message() << "groups of " << s << (with_all ? ", weights and a ridge" : ""));
      const std::int64_t groups = s < 100 ? 31 : 9;
      Bench bench(context(), normal_atoms(24, groups * s, 1), 2, groups * s, s);
      std::vector<double> weights;
      for (std::int64_t g = 0; g < groups && with_all; ++g)
        weights.push_back(g % 7 == 3 ? infinity : std::exp2(static_cast<double>(g % 5) - 2));
      bench.set_penalty(weights, with_all ? 5.0 : 0.0, false);
      bench.admit(normal_atoms(24, 1, 2), {1}, {-1});
      const double lambda_max = largest(bench.group_sides(1));
      run_groups(bench, 1, rules_of(1e-9, 0.1), 60);
      if (HasFatalFailure()) return;
      EXPECT_NEAR(bench.number(bench.problems.lambda, 1), 0.1 * lambda_max, 100 * kEps * lambda_max);
      EXPECT_GT(bench.count(bench.sets.support, 1), 0);
    }
  }
}

TEST_P(WorkingSetSteps, NothingCorrelatesAboveZero) {
  // Nonnegative codes where all correlations are negative, and weights that leave every atom out: lambda_max is 0.
  const auto D = normal_atoms(20, 30, 1);
  const auto X = normal_atoms(20, 1, 2);
  auto against = D;
  for (std::int64_t j = 0; j < 30; ++j) {
    double along = 0;
    for (std::int64_t i = 0; i < 20; ++i) along += D(i, j) * X(i, 0);
    for (std::int64_t i = 0; i < 20; ++i) against(i, j) = along > 0 ? -D(i, j) : D(i, j);
  }
  for (const bool nonnegative : {true, false}) {
    Bench bench(context(), against, 1, 30);
    bench.set_penalty(
        nonnegative ? std::vector<double>() : std::vector<double>(30, std::numeric_limits<double>::infinity()), 0,
        nonnegative);
    for (const double lambda : {-1.0, 0.7}) {
      bench.admit(X, {0}, {lambda});
      bench.look({0}, rules_of(1e-9, 0.5));
      EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemDone);
      EXPECT_EQ(bench.number(bench.problems.lambda, 0), std::max(lambda, 0.0) / bench.number(bench.problems.scale, 0));
      EXPECT_LE(bench.number(bench.problems.gap, 0), 1e-13 * bench.number(bench.problems.energy, 0));
    }
  }
}

// ---- codes to start at ----

TEST_P(WorkingSetSteps, ProblemsStartAtTheirCodes) {
  const auto D = normal_atoms(40, 90, 1), X = normal_atoms(40, 4, 2);
  LookRules rules = rules_of(1e-9, 0.3);
  for (const bool plain : {true, false}) {
    if (testing::kThreadSanitizer && plain) continue;
    SCOPED_TRACE(plain);
    const auto with_penalty = [&](Bench& bench) {
      if (!plain) bench.set_penalty(std::vector<double>(90, 2.0), 0.5, true);
    };
    Bench cold(context(), D, 1, 90);
    with_penalty(cold);
    cold.admit(X.make(40, 1, [&](std::int64_t i, std::int64_t) { return X(i, 0); }), {0}, {-1}, 4);
    for (int round = 0; round < 30 && cold.count(cold.problems.state, 0) == kProblemRuns; ++round) {
      cold.look({0}, rules);
      cold.solve({0});
    }
    ASSERT_EQ(cold.count(cold.problems.state, 0), kProblemDone);
    // Place 3 starts at that, in the user's units and with another code before it; 1 at nothing, 2 at more than it has room
    // for, 0 at a bad code.
    const double unit = cold.number(cold.problems.scale, 0) / 4;
    std::vector<std::int32_t> indices{77};
    std::vector<double> values{1e-7};
    const auto z = cold.code(0);
    for (std::int32_t j = 0; j < 90; ++j) {
      if (z[index_of(j)] == 0) continue;
      indices.push_back(j);
      values.push_back(z[index_of(j)] * unit);
    }
    const auto size = static_cast<std::int32_t>(values.size());
    indices.insert(indices.end(), {5, 6});
    values.insert(values.end(), {1e5, 1e5});
    const auto count = to_device(context(), std::vector<std::int32_t>{size - 1, 0, 61, 2}, 4);
    const auto first = to_device(context(), std::vector<std::int64_t>{1, 1, 1, size}, 4);
    const auto there = to_device(context(), indices, size + 2);
    const auto numbers = to_device(context(), values, size + 2);
    Bench bench(context(), D, 4, 60);
    with_penalty(bench);
    const std::vector<std::int32_t> places{3, 1, 2, 0};
    auto same = X;
    for (std::int64_t i = 0; i < 40; ++i) same(i, 1) = X(i, 0);
    bench.admit(same, places, {-1, -1, -1, -1}, 4, {count.vector(), first.vector(), there.vector(), numbers.vector()});
    rules.starts = true;
    bench.look(places, rules);
    EXPECT_EQ(bench.number(bench.problems.lambda, 3), cold.number(cold.problems.lambda, 0));
    for (const std::int64_t p : {0, 3}) {
      EXPECT_EQ(bench.count(bench.problems.state, p), kProblemRuns);
      EXPECT_EQ(bench.count(bench.problems.fresh_count, p), 0);
      EXPECT_EQ(bench.count(bench.problems.iterations, p), 0);
      EXPECT_EQ(bench.count(bench.problems.idle, p), 0);
      EXPECT_GT(bench.number(bench.problems.tolerance, p), 0);
    }
    EXPECT_EQ(bench.count(bench.problems.state, 2), kProblemFull);
    EXPECT_LT(bench.number(bench.problems.tolerance, 2), 0);
    EXPECT_GE(bench.count(bench.problems.fresh_count, 1), 1);
    bench.solve(places);
    EXPECT_EQ(bench.count(bench.problems.start, 3), 0);
    EXPECT_EQ(bench.count(bench.sets.support, 3), size - 1);
    EXPECT_EQ(bench.atoms(0), (std::vector<std::int32_t>{5, 6}));
    const auto begun = bench.code(3);
    for (std::size_t j = 0; j < 90; ++j) EXPECT_NEAR(begun[j], z[j], 1e-11) << j;
    bench.look({3, 1, 0}, rules);
    EXPECT_EQ(bench.count(bench.problems.state, 3), kProblemDone);  // at once
    EXPECT_EQ(bench.count(bench.problems.iterations, 3), 0);
    // From 0 to the same bits beside problems that start at codes.
    for (int round = 0; round < 30 && bench.count(bench.problems.state, 1) == kProblemRuns; ++round) {
      bench.solve({1});
      bench.look({1}, rules);
    }
    EXPECT_EQ(bench.code(1), z);
    EXPECT_EQ(bench.number(bench.problems.gap, 1), cold.number(cold.problems.gap, 0));
  }
}

TEST_P(WorkingSetSteps, TheFirstAtomsAreTheHighestPanels) {
  // Correlations are known: atom j has (j * 37 % 101) of its one row. Sixteen panels are chosen, by their best atoms.
  const auto D = GuardedHost<double>::make(
      3, 200, [](std::int64_t i, std::int64_t j) { return i == 1 ? static_cast<double>(j * 37 % 101) : 0.0; });
  Bench bench(context(), D, 1, 200);
  bench.admit(GuardedHost<double>::make(3, 1, [](std::int64_t i, std::int64_t) { return i == 1 ? 1.0 : 0.0; }), {0},
              {10});
  bench.look({0}, rules_of(1e-9, 0));
  std::vector<std::int64_t> bests;
  for (std::int64_t p = 0; p < 25; ++p) {
    std::int64_t best = 8 * p;
    for (std::int64_t j = 8 * p; j < 8 * p + 8; ++j)
      if (D(1, j) > D(1, best)) best = j;
    bests.push_back(best);
  }
  auto order = bests;
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return D(1, a) > D(1, b); });
  const double least = D(1, order[15]);
  std::vector<std::int32_t> wanted;
  for (const std::int64_t j : bests)
    if (D(1, j) >= least) wanted.push_back(static_cast<std::int32_t>(j));
  EXPECT_EQ(bench.fresh(0), wanted);
  EXPECT_GE(wanted.size(), 16U);
}

TEST_P(WorkingSetSteps, AHandfulOfViolatorsIsFoundByFloat64) {
  // Atoms are equal in half precision; some of them are over lambda by 1e-6 of it. One a panel is wanted, the worst.
  const auto D = GuardedHost<double>::make(4, 64, [](std::int64_t i, std::int64_t j) {
    return i == 0 ? 1 + (j % 9 == 4 ? 2e-6 : j % 9 == 5 ? 1e-6 : 0) : (i == j % 3 + 1 ? 1.0 : 0.0);
  });
  Bench bench(context(), D, 1, 64);
  bench.admit(GuardedHost<double>::make(4, 1, [](std::int64_t i, std::int64_t) { return i == 0 ? 1.0 : 0.0; }), {0},
              {1 + 5e-7});
  // One atom in W already, so that the first panels are not just taken.
  bench.put(bench.sets.size, 0, 1);
  bench.put({bench.sets.atom.column(0), 1, context().device()}, 0, 13);
  bench.put({bench.sets.code.column(0), 1, context().device()}, 0, 0.0);
  bench.look({0}, rules_of(1e-15, 0));
  std::vector<std::int32_t> wanted;
  for (std::int32_t p = 0; p < 8; ++p) {
    std::int32_t best = -1;
    for (std::int32_t j = 8 * p; j < 8 * p + 8; ++j)
      if (j != 13 && D(0, j) > 1 + 5e-7 && (best < 0 || D(0, j) > D(0, best))) best = j;
    if (best >= 0) wanted.push_back(best);
  }
  EXPECT_GE(wanted.size(), 6U);
  EXPECT_EQ(bench.fresh(0), wanted);
  EXPECT_EQ(bench.column(bench.sets.correlation, 0, 1)[0], 1 + (13 % 9 == 4 ? 2e-6 : 0));
}

TEST_P(WorkingSetSteps, EndsOfProblems) {
  const auto D = normal_atoms(40, 300, 1), X = normal_atoms(40, 1, 2);
  {  // out of iterations: done with the gap that it has, at once or after two rounds
    for (const std::int64_t most : {0, 2}) {
      Bench bench(context(), D, 1, 300);
      bench.admit(X, {0}, {-1});
      const LookRules rules = rules_of(1e-12, 0.1, most);
      for (std::int64_t round = 0; round < most; ++round) {
        bench.look({0}, rules);
        EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemRuns);
        bench.solve({0});
      }
      bench.look({0}, rules);
      EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemDone);
      EXPECT_EQ(bench.count(bench.problems.iterations, 0), most);
      const double energy = bench.number(bench.problems.energy, 0);
      EXPECT_GT(bench.number(bench.problems.gap, 0), 1e-6 * energy);
      EXPECT_GT(bench.number(bench.problems.primal, 0), 0);
    }
  }
  {  // full: what is wanted does not fit, W stays as it is
    Bench bench(context(), D, 1, 20);
    bench.admit(X, {0}, {-1});
    bench.look({0}, rules_of(1e-9, 0.1));
    EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemRuns);
    bench.solve({0});
    EXPECT_EQ(bench.count(bench.sets.size, 0), 16);
    bench.look({0}, rules_of(1e-9, 0.1));
    EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemFull);
    EXPECT_EQ(bench.count(bench.problems.fresh_count, 0), 0);
    EXPECT_EQ(bench.count(bench.sets.size, 0), 16);
    EXPECT_LT(bench.number(bench.problems.tolerance, 0), 0);
    const auto code = bench.code(0);
    bench.solve({0});  // as the solver does with all
    EXPECT_EQ(bench.code(0), code);
  }
  {  // stuck: no more to add, and not within a gap that cannot be had
    Bench bench(context(), D, 1, 300);
    bench.admit(X, {0}, {-1});
    int rounds = 0;
    for (; rounds < 40; ++rounds) {
      bench.look({0}, rules_of(1e-17, 0.1));
      if (bench.count(bench.problems.state, 0) != kProblemRuns) break;
      bench.solve({0});
    }
    EXPECT_EQ(bench.count(bench.problems.state, 0), kProblemStuck);
    EXPECT_EQ(bench.count(bench.problems.idle, 0), 3);
    EXPECT_EQ(bench.count(bench.problems.fresh_count, 0), 0);
    EXPECT_LT(bench.number(bench.problems.tolerance, 0), 0);
    const double energy = bench.number(bench.problems.energy, 0);
    EXPECT_LE(bench.number(bench.problems.gap, 0), 1e-12 * energy);
  }
  {  // stuck: its active set is, over and over
    Bench bench(context(), D, 1, 300);
    bench.admit(X, {0}, {-1});
    for (int round = 0; round < 3; ++round) {
      bench.put(bench.sets.outcome, 0, kSetsStuck);
      bench.look({0}, rules_of(1e-9, 0.1));
      EXPECT_EQ(bench.count(bench.problems.state, 0), round < 2 ? kProblemRuns : kProblemStuck);
      EXPECT_EQ(bench.count(bench.problems.fresh_count, 0) > 0, round < 2);
    }
  }
}

TEST_P(WorkingSetSteps, BitsDoNotDependOnTheOthers) {
  const auto D = normal_atoms(40, 200, 1), X = normal_atoms(40, 6, 2);
  const LookRules rules = rules_of(1e-9, 0.2);
  const auto state = [&](const Bench& bench, std::int64_t p) {
    std::vector<double> all = bench.column(bench.problems.r, p, 40);
    for (const auto& vector : {bench.problems.lambda, bench.problems.primal, bench.problems.gap,
                               bench.problems.magnitude, bench.problems.tolerance})
      all.push_back(bench.number(vector, p));
    for (const std::int32_t j : bench.atoms(p)) all.push_back(j);
    for (const double z : bench.code(p)) all.push_back(z);
    all.push_back(bench.count(bench.problems.state, p));
    return all;
  };
  Bench together(context(), D, 8, 200);
  const std::vector<std::int32_t> places{7, 3, 0, 5, 1, 6};
  together.admit(X, places, std::vector<double>(6, -1));
  for (int round = 0; round < 3; ++round) {
    together.look({0, 1, 3, 5, 6, 7}, rules);
    together.solve({0, 1, 3, 5, 6, 7});
  }
  for (const std::int64_t b : {0, 2, 5}) {
    Bench alone(context(), D, 1, 100);
    alone.admit(X.make(40, 1, [&](std::int64_t i, std::int64_t) { return X(i, b); }), {0}, {-1});
    for (int round = 0; round < 3; ++round) {
      alone.look({0}, rules);
      alone.solve({0});
    }
    EXPECT_EQ(state(alone, 0), state(together, places[index_of(b)])) << b;
  }
}

// ---- residuals and codes ----

/// A place with a code by hand: S in an order of its own within W.
void put_code(Bench& bench, std::int64_t p, const std::vector<std::int32_t>& atoms, const std::vector<double>& codes,
              const std::vector<std::int32_t>& active) {
  const Device device = bench.context().device();
  for (std::size_t i = 0; i < atoms.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    bench.put({bench.sets.atom.column(p), at + 1, device}, at, atoms[i]);
    bench.put({bench.sets.code.column(p), at + 1, device}, at, codes[i]);
  }
  for (std::size_t k = 0; k < active.size(); ++k) {
    const auto at = static_cast<std::int64_t>(k);
    bench.put({bench.sets.active.column(p), at + 1, device}, at, active[k]);
  }
  bench.put(bench.sets.size, p, static_cast<std::int32_t>(atoms.size()));
  bench.put(bench.sets.support, p, static_cast<std::int32_t>(active.size()));
}

TEST_P(WorkingSetSteps, ResidualsAreThoseOfTheCode) {
  for (const std::int64_t n : {1, 127, 130, 300}) {
    const auto D = normal_atoms(n, 30, 1), X = normal_atoms(n, 2, 2);
    Bench bench(context(), D, 2, 30);
    bench.admit(X, {0, 1}, {1, 1});
    put_code(bench, 0, {4, 29, 0, 7}, {1.5, 0, -2, 0.25}, {2, 0, 3});
    put_code(bench, 1, {4}, {1}, {0});
    bench.put(bench.problems.state, 1, kProblemDone);  // runs no more
    const auto rest = bench.column(bench.problems.r, 1, n);
    bench.residual({1, 0});
    const auto r = bench.column(bench.problems.r, 0, n), x = bench.column(bench.problems.x, 0, n);
    for (std::int64_t i = 0; i < n; ++i) {
      // In the order of S.
      double sum = x[index_of(i)];
      sum = std::fma(2.0, D(i, 0), sum);
      sum = std::fma(-1.5, D(i, 4), sum);
      sum = std::fma(-0.25, D(i, 7), sum);
      ASSERT_EQ(r[index_of(i)], sum) << i;
    }
    EXPECT_EQ(bench.number(bench.problems.magnitude, 0), 3.75);
    EXPECT_EQ(bench.column(bench.problems.r, 1, n), rest);
    EXPECT_EQ(bench.number(bench.problems.magnitude, 1), 0);
  }
}

TEST_P(WorkingSetSteps, CodesLeaveAscendingInTheUsersUnits) {
  auto X = normal_atoms(20, 3, 2);
  for (std::int64_t i = 0; i < 20; ++i) X(i, 1) *= 1e-13;
  Bench bench(context(), normal_atoms(20, 400, 1), 4, 300);
  bench.admit(X, {3, 1, 0}, {1, 1, 1}, 8);
  std::vector<std::int32_t> atoms, active;
  std::vector<double> codes;
  for (std::int32_t i = 0; i < 290; ++i) {  // more than a block has threads
    atoms.push_back((i * 149 + 3) % 400);
    codes.push_back(i % 2 == 0 ? 0.0 : i);
    if (i % 2 == 1) active.insert(active.begin() + i % 7 % (i / 2 + 1), i);
  }
  put_code(bench, 3, atoms, codes, active);
  put_code(bench, 1, {200, 5, 100}, {2, -3, 0}, {0, 1});
  put_code(bench, 0, {}, {}, {});
  // In this order, with a gap and guards between them.
  const GuardedHost<std::int32_t> indices_before(160, 1);
  const GuardedHost<double> values_before(160, 1);
  const auto indices = to_device(context(), indices_before);
  const auto values = to_device(context(), values_before);
  const auto places = to_device(context(), std::vector<std::int32_t>{1, 0, 3}, 3);
  const auto offsets = to_device(context(), std::vector<std::int64_t>{1, 3, 9}, 3);
  collect_codes(context(), places.vector(), offsets.vector(), 8, bench.problems, bench.sets, indices.vector(),
                values.vector());
  const auto found = testing::to_host(context(), indices);
  const auto numbers = testing::to_host(context(), values);
  EXPECT_TRUE(testing::guards_intact(indices_before, found));
  EXPECT_TRUE(testing::guards_intact(values_before, numbers));
  EXPECT_EQ(found(1), 5);
  EXPECT_EQ(found(2), 200);
  const double unit = bench.number(bench.problems.scale, 1) / 8;
  EXPECT_LT(unit, 1e-12);
  EXPECT_EQ(numbers(1), -3 * unit);
  EXPECT_EQ(numbers(2), 2 * unit);
  const double its_unit = bench.number(bench.problems.scale, 3) / 8;
  std::int64_t at = 9;
  for (std::int32_t j = 0; j < 400; ++j) {
    for (std::size_t i = 1; i < 290; i += 2) {
      if (atoms[i] != j) continue;
      ASSERT_EQ(found(at), j);
      ASSERT_EQ(numbers(at), codes[i] * its_unit);
      ++at;
    }
  }
  EXPECT_EQ(at, 9 + 145);
  for (std::int64_t i = 0; i < 160; ++i) {
    if (i == 1 || i == 2 || (i >= 9 && i < at)) continue;
    EXPECT_EQ(found(i), indices_before(i)) << i;
    EXPECT_TRUE(std::isnan(numbers(i))) << i;
  }
}

// ---- errors ----

TEST_P(WorkingSetSteps, RefusesWhatDoesNotFit) {
  Bench bench(context(), normal_atoms(10, 20, 1), 3, 20);
  const auto X = to_device(context(), normal_atoms(10, 2, 2)), odd = to_device(context(), normal_atoms(9, 2, 2));
  const auto list = to_device(context(), std::vector<std::int32_t>{0, 1}, 2);
  const Tensor<double> lambda(context(), 2), one(context(), 1);
  const auto admit = [&](MatrixView<const double> x, VectorView<const double> lambdas) {
    admit_problems(context(), x, list.vector(), lambdas, 1, bench.problems, bench.sets);
  };
  EXPECT_THROW(admit(odd.matrix(), lambda.vector()), ShapeError);
  EXPECT_THROW(admit(X.matrix(), one.vector()), ShapeError);
  const auto host = normal_atoms(10, 2, 2);
  EXPECT_THROW(admit(testing::view_of(host), lambda.vector()), DeviceError);
  bench.admit(normal_atoms(10, 2, 2), {0, 1}, {1, 1});

  const Tensor<std::uint32_t> keys(context(), 3, 2), few(context(), 3, 1);
  const auto look = [&](MatrixView<const double> D, MatrixView<std::uint32_t> k,
                        const PenaltyView<double>& penalty = {}) {
    look_at_bounds(context(), D, bench.half(), bench.residuals(), k, list.vector(), {}, bench.problems, bench.sets,
                   penalty);
  };
  const Tensor<double> weights(context(), 20);
  EXPECT_THROW(look(bench.device_D(), keys.matrix(), {lambda.vector(), 0, false}), ShapeError);
  EXPECT_THROW(look(bench.device_D(), keys.matrix(), {weights.vector(), 0, false}), ShapeError);  // bounds are missing
  EXPECT_THROW(update_residuals(context(), bench.device_D(), list.vector(), bench.problems, bench.sets,
                                {lambda.vector(), 0, false}),
               ShapeError);
  const Tensor<std::int32_t> starts(context(), 2);
  EXPECT_THROW(admit_problems(context(), X.matrix(), list.vector(), lambda.vector(), 1, bench.problems, bench.sets,
                              {starts.vector(), {}, {}, {}}),
               ShapeError);
  EXPECT_THROW(look(X.matrix(), keys.matrix()), ShapeError);
  EXPECT_THROW(look(bench.device_D(), few.matrix()), ShapeError);
  EXPECT_THROW(look(testing::view_of(bench.D()), keys.matrix()), DeviceError);

  EXPECT_THROW(update_residuals(context(), odd.matrix(), list.vector(), bench.problems, bench.sets), ShapeError);
  EXPECT_THROW(update_residuals(context(), testing::view_of(bench.D()), list.vector(), bench.problems, bench.sets),
               DeviceError);
  const Tensor<std::int64_t> offsets(context(), 2), single(context(), 1);
  const Tensor<std::int32_t> indices(context(), 5);
  const Tensor<double> values(context(), 5), less(context(), 4);
  const auto collect = [&](VectorView<const std::int64_t> at, VectorView<double> to) {
    collect_codes(context(), list.vector(), at, 1, bench.problems, bench.sets, indices.vector(), to);
  };
  EXPECT_THROW(collect(single.vector(), values.vector()), ShapeError);
  EXPECT_THROW(collect(offsets.vector(), less.vector()), ShapeError);

  const Context cpu = Context::cpu(1);
  EXPECT_THROW(admit_problems(cpu, {}, {}, {}, 1, bench.problems, bench.sets), DeviceError);
  EXPECT_THROW(look_at_bounds(cpu, {}, bench.half(), bench.residuals(), {}, {}, {}, bench.problems, bench.sets),
               DeviceError);
  EXPECT_THROW(update_residuals(cpu, {}, {}, bench.problems, bench.sets), DeviceError);
  EXPECT_THROW(collect_codes(cpu, {}, {}, 1, bench.problems, bench.sets, {}, {}), DeviceError);
}

}  // namespace
}  // namespace shrinkwarp
