// Active sets on a device against the optimality conditions in long double, and what their bits must not depend on. What the
// method does on the CPU has its tests in active_set_test.cpp.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"
#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::normal_atoms;
using testing::to_device;
using testing::to_host;

constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr double kTolerance = 1e-12;
constexpr std::int64_t kStepsAnAtom = 20;  // as the solver has it

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// All that a place holds within its sizes.
struct Place {
  std::vector<std::int32_t> atom, active;
  std::vector<double> code, correlation, gram, inverse;
  std::int32_t size = 0, support = 0, steps = 0, outcome = 0;
  double largest = 0;

  bool operator==(const Place& other) const {
    return atom == other.atom && active == other.active && code == other.code && correlation == other.correlation &&
           gram == other.gram && inverse == other.inverse && size == other.size && support == other.support &&
           steps == other.steps && outcome == other.outcome && largest == other.largest;
  }
};

/// P problems of one dictionary on a device: column p of X with lambda[p].
class Batch {
 public:
  Batch(const Context& context, const GuardedHost<double>& D, const GuardedHost<double>& X, std::int64_t capacity,
        bool with_gram = true)
      : context_(context),
        D_(D),
        X_(X),
        device_D_(to_device(context, D)),
        gram_(context, with_gram ? D.cols : 0, with_gram ? D.cols : 0),
        lambda(index_of(X.cols), 1.0),
        tolerance(index_of(X.cols), kTolerance) {
    Arena counting(context.device());
    ActiveSets::lay_out(counting, capacity, X.cols);
    arena_ = std::make_unique<Arena>(context, counting.used());
    sets = ActiveSets::lay_out(*arena_, capacity, X.cols);
    const std::vector<std::int32_t> zeros(index_of(X.cols), 0);
    for (const auto& vector : {sets.size, sets.support, sets.steps, sets.outcome})
      copy(context, VectorView<const std::int32_t>{zeros.data(), X.cols, {}}, vector);
    const std::vector<double> nothing(index_of(X.cols), 0.0);
    copy(context, VectorView<const double>{nothing.data(), X.cols, {}}, sets.largest);
    context.synchronize();
    if (with_gram) gram_matrix(context, device_D_.matrix(), gram_.matrix());
  }

  std::int64_t places() const { return X_.cols; }
  std::vector<std::int32_t> all() const {
    std::vector<std::int32_t> list(index_of(places()));
    std::iota(list.begin(), list.end(), 0);
    return list;
  }

  /// Adds atoms to a place, or the same ones to all of some, with the residuals of this moment.
  void add(const std::vector<std::int32_t>& to, const std::vector<std::int32_t>& atoms) {
    const auto count = static_cast<std::int64_t>(atoms.size());
    GuardedHost<double> residuals(D_.rows, places());
    for (const std::int32_t p : to) {
      const auto r = residual(p);
      for (std::int64_t i = 0; i < D_.rows; ++i) residuals(i, p) = r[index_of(i)];
    }
    const auto R = to_device(context_, residuals);
    // Places that are not meant have rubbish in their lists.
    const auto fresh = to_device(context_, GuardedHost<std::int32_t>::make(std::max<std::int64_t>(count, 1), places(),
                                                                           [&](std::int64_t i, std::int64_t) {
                                                                             return i < count ? atoms[index_of(i)] : -7;
                                                                           }));
    const auto counts =
        to_device(context_, std::vector<std::int32_t>(index_of(places()), static_cast<std::int32_t>(count)), places());
    const auto list = to_device(context_, to, static_cast<std::int64_t>(to.size()));
    add_atoms(context_, device_D_.matrix(), gram_.matrix(), R.matrix(), list.vector(), fresh.matrix(), counts.vector(),
              sets, penalty);
    context_.synchronize();
  }
  void add_all(const std::vector<std::int32_t>& to) {
    std::vector<std::int32_t> atoms(index_of(D_.cols));
    std::iota(atoms.begin(), atoms.end(), 0);
    add(to, atoms);
  }

  void solve(const std::vector<std::int32_t>& which, std::int64_t max_steps = kStepsAnAtom) {
    const auto list = to_device(context_, which, static_cast<std::int64_t>(which.size()));
    const auto lambdas = to_device(context_, lambda, places()), tolerances = to_device(context_, tolerance, places());
    solve_active_sets(context_, list.vector(), lambdas.vector(), tolerances.vector(), max_steps, sets, penalty);
    context_.synchronize();
  }

  /// Before atoms are added.
  void set_penalty(const std::vector<double>& weights, double ridge, bool nonnegative) {
    weights_ = weights;
    device_weights_ = to_device(context_, weights, static_cast<std::int64_t>(weights.size()));
    penalty = {device_weights_.vector(), ridge, nonnegative};
  }
  double threshold(std::int64_t p, std::int64_t j) const {
    return lambda[index_of(p)] * (weights_.empty() ? 1.0 : weights_[index_of(j)]);
  }
  /// What is compared with it.
  double side(double correlation) const { return penalty.nonnegative ? correlation : std::fabs(correlation); }

  /// Starts all places at codes of some atoms. A place with the code {} is left alone.
  void start(const std::vector<std::vector<std::pair<std::int32_t, double>>>& codes) {
    std::vector<std::int32_t> counts;
    for (std::int64_t p = 0; p < places(); ++p) {
      const auto& code = codes[index_of(p)];
      counts.push_back(static_cast<std::int32_t>(code.size()));
      std::vector<std::int32_t> atoms;
      std::vector<double> values;
      for (std::size_t k = 0; k < std::min(code.size(), index_of(sets.capacity)); ++k) {
        atoms.push_back(code[k].first);
        values.push_back(code[k].second);
      }
      const auto size = static_cast<std::int64_t>(atoms.size());
      copy(context_, VectorView<const std::int32_t>{atoms.data(), size, {}},
           VectorView<std::int32_t>{sets.atom.column(p), size, context_.device()});
      copy(context_, VectorView<const double>{values.data(), size, {}},
           VectorView<double>{sets.code.column(p), size, context_.device()});
    }
    context_.synchronize();
    const auto start = to_device(context_, counts, places());
    const auto lambdas = to_device(context_, lambda, places());
    const auto list = to_device(context_, all(), places());
    const auto X = to_device(context_, X_);
    start_active_sets(context_, device_D_.matrix(), gram_.matrix(), X.matrix(), list.vector(), lambdas.vector(),
                      start.vector(), sets, penalty);
    const auto left = to_host(context_, start);
    for (std::int64_t p = 0; p < places(); ++p)
      EXPECT_EQ(left[index_of(p)], counts[index_of(p)] > sets.capacity ? counts[index_of(p)] : 0);
  }

  /// Correlations of W in long double, rounded: as the solver sets them from time to time.
  void refresh(std::int64_t p) {
    const Place now = place(p);
    const auto all = correlations(p);
    std::vector<double> values;
    for (const std::int32_t j : now.atom) values.push_back(static_cast<double>(all[index_of(j)]));
    copy(context_, VectorView<const double>{values.data(), now.size, {}},
         VectorView<double>{sets.correlation.column(p), now.size, context_.device()});
    context_.synchronize();
  }

  Place place(std::int64_t p) const {
    Place found;
    found.size = testing::values_of(context_, VectorView<const std::int32_t>(sets.size))[index_of(p)];
    found.support = testing::values_of(context_, VectorView<const std::int32_t>(sets.support))[index_of(p)];
    found.steps = testing::values_of(context_, VectorView<const std::int32_t>(sets.steps))[index_of(p)];
    found.outcome = testing::values_of(context_, VectorView<const std::int32_t>(sets.outcome))[index_of(p)];
    found.largest = testing::values_of(context_, VectorView<const double>(sets.largest))[index_of(p)];
    const auto column = [&](auto matrix, std::int64_t count) {
      return testing::values_of(
          context_, VectorView<const std::decay_t<decltype(*matrix.data)>>{matrix.column(p), count, context_.device()});
    };
    found.atom = column(sets.atom, found.size);
    found.active = column(sets.active, found.support);
    found.code = column(sets.code, found.size);
    found.correlation = column(sets.correlation, found.size);
    const auto square = [&](auto matrix, std::int64_t count) {
      const auto whole = column(matrix, sets.capacity * std::max<std::int64_t>(count, 1));
      std::vector<double> values;
      for (std::int64_t j = 0; j < count; ++j)
        values.insert(values.end(), whole.begin() + j * sets.capacity, whole.begin() + j * sets.capacity + count);
      return values;
    };
    found.gram = square(sets.gram, found.size);
    found.inverse = square(sets.inverse, found.support);
    return found;
  }

  /// z of all atoms.
  std::vector<double> code(std::int64_t p) const {
    const Place now = place(p);
    std::vector<double> z(index_of(D_.cols), 0.0);
    for (std::size_t i = 0; i < now.atom.size(); ++i) z[index_of(now.atom[i])] = now.code[i];
    return z;
  }
  std::vector<double> residual(std::int64_t p) const {
    std::vector<long double> r;
    for (std::int64_t i = 0; i < D_.rows; ++i) r.push_back(X_(i, p));
    const auto z = code(p);
    for (std::int64_t j = 0; j < D_.cols; ++j)
      for (std::int64_t i = 0; i < D_.rows && z[index_of(j)] != 0; ++i)
        r[index_of(i)] -= static_cast<long double>(D_(i, j)) * z[index_of(j)];
    return {r.begin(), r.end()};
  }
  /// D'(x - D z) - ridge z
  std::vector<long double> correlations(std::int64_t p) const {
    const auto z = code(p);
    std::vector<long double> r, result;
    for (std::int64_t i = 0; i < D_.rows; ++i) {
      long double value = X_(i, p);
      for (std::int64_t j = 0; j < D_.cols; ++j)
        if (z[index_of(j)] != 0) value -= static_cast<long double>(D_(i, j)) * z[index_of(j)];
      r.push_back(value);
    }
    for (std::int64_t j = 0; j < D_.cols; ++j) {
      long double sum = -static_cast<long double>(penalty.ridge) * z[index_of(j)];
      for (std::int64_t i = 0; i < D_.rows; ++i) sum += D_(i, j) * r[index_of(i)];
      result.push_back(sum);
    }
    return result;
  }
  double objective(std::int64_t p) const {
    long double sum = 0;
    for (const double value : residual(p)) sum += static_cast<long double>(value) * value / 2;
    const auto z = code(p);
    for (std::int64_t j = 0; j < D_.cols; ++j)
      if (const long double value = z[index_of(j)]; value != 0)
        sum += threshold(p, j) * std::fabs(value) + penalty.ridge * value * value / 2;
    return static_cast<double>(sum);
  }
  double norm(std::int64_t j) const {
    long double sum = 0;
    for (std::int64_t i = 0; i < D_.rows; ++i) sum += static_cast<long double>(D_(i, j)) * D_(i, j);
    return static_cast<double>(std::sqrt(sum));
  }
  double lambda_max(std::int64_t p) const {  // of the code of this moment
    double most = 0;
    const auto c = correlations(p);
    for (std::int64_t j = 0; j < D_.cols; ++j)
      most =
          std::max(most, side(static_cast<double>(c[index_of(j)])) / (weights_.empty() ? 1.0 : weights_[index_of(j)]));
    return most;
  }

  /// S is what it is said to be: nonzero, finite codes of S and of nothing else.
  void expect_valid(std::int64_t p) const {
    const Place now = place(p);
    std::vector<bool> in_use(now.atom.size());
    for (const std::int32_t i : now.active) {
      ASSERT_GE(i, 0);
      ASSERT_LT(i, now.size);
      ASSERT_FALSE(in_use[index_of(i)]) << "twice in S";
      in_use[index_of(i)] = true;
    }
    for (std::size_t i = 0; i < now.code.size(); ++i) {
      ASSERT_TRUE(std::isfinite(now.code[i])) << i;
      ASSERT_EQ(now.code[i] != 0, in_use[i]) << i << ": " << now.code[i];
    }
  }

  /// The optimality conditions on W, to `units` eps of what a correlation is a difference of. What the place has as its
  /// correlations is right to the same.
  void expect_optimal(std::int64_t p, double units) const {
    ASSERT_EQ(place(p).outcome, kSetsSolved);
    expect_conditions(p, units);
  }
  /// The same of a place that may be stuck.
  void expect_conditions(std::int64_t p, double units) const {
    expect_valid(p);
    const Place now = place(p);
    const auto z = code(p);
    const auto truth = correlations(p);
    long double energy = 0;
    for (std::int64_t i = 0; i < D_.rows; ++i) energy += static_cast<long double>(X_(i, p)) * X_(i, p);
    double magnitude = std::sqrt(static_cast<double>(energy));
    for (std::int64_t j = 0; j < D_.cols; ++j)
      magnitude += std::hypot(norm(j), std::sqrt(penalty.ridge)) * std::fabs(z[index_of(j)]);
    for (std::size_t i = 0; i < now.atom.size(); ++i) {
      const std::int32_t j = now.atom[i];
      const auto c = static_cast<double>(truth[index_of(j)]);
      const double length = std::hypot(norm(j), std::sqrt(penalty.ridge));
      const double room = units * kEps * length * magnitude;
      ASSERT_NEAR(now.correlation[i], c, room) << "atom " << j;
      if (now.code[i] != 0) {
        ASSERT_NEAR(c, std::copysign(threshold(p, j), now.code[i]), room) << "atom " << j << ", z " << now.code[i];
        ASSERT_TRUE(now.code[i] > 0 || !penalty.nonnegative) << "atom " << j << ", z " << now.code[i];
      } else {
        ASSERT_LE(side(c), threshold(p, j) * (1 + kTolerance) + room) << "atom " << j;
      }
    }
  }

 private:
  const Context& context_;
  GuardedHost<double> D_, X_;
  testing::Guarded<double> device_D_;
  Tensor<double> gram_;
  std::unique_ptr<Arena> arena_;
  std::vector<double> weights_;
  Tensor<double> device_weights_;

 public:
  ActiveSets sets;
  PenaltyView<double> penalty;
  std::vector<double> lambda, tolerance;  // [P]
};

/// n + |W| terms a correlation, over as many steps as atoms join.
double units_of(const GuardedHost<double>& D) {
  return static_cast<double>(D.rows + 4 * D.cols + 20);
}
/// What the contract says of any dictionary, 1e-11, in eps.
constexpr double kPromised = 1e-11 / kEps;

class ActiveSetsOnDevice : public testing::OnContext {
 protected:
  /// Solves all places with all atoms at once, lambda as shares of lambda_max.
  Batch solved(const GuardedHost<double>& D, const GuardedHost<double>& X, const std::vector<double>& shares,
               double units) const {
    Batch batch(context(), D, X, D.cols);
    for (std::int64_t p = 0; p < X.cols; ++p)
      batch.lambda[index_of(p)] = shares[index_of(p) % shares.size()] * batch.lambda_max(p);
    batch.add_all(batch.all());
    batch.solve(batch.all());
    for (std::int64_t p = 0; p < X.cols; ++p) {
      SCOPED_TRACE(::testing::Message() << "place " << p);
      batch.expect_optimal(p, units);
    }
    return batch;
  }
};
SHRINKWARP_ON_CUDA(ActiveSetsOnDevice);

// ---- D'D and new atoms ----

TEST_P(ActiveSetsOnDevice, GramMatrixAddsRowsInOrder) {
  for (const std::int64_t n : {1, 7, 8, 9, 41}) {
    for (const std::int64_t m : {1, 63, 64, 65, 130}) {
      if (testing::kThreadSanitizer && (n != 9 || m != 65)) continue;
      SCOPED_TRACE(::testing::Message() << n << " x " << m);
      const auto D = normal_atoms(n, m, 1);
      const GuardedHost<double> before(m, m);
      const auto G = to_device(context(), before);
      gram_matrix(context(), to_device(context(), D).matrix(), G.matrix());
      const auto found = to_host(context(), G);
      ASSERT_TRUE(guards_intact(before, found));
      for (std::int64_t j = 0; j < m; ++j) {
        for (std::int64_t i = 0; i < m; ++i) {
          double sum = 0;
          for (std::int64_t k = 0; k < n; ++k) sum = std::fma(D(k, i), D(k, j), sum);
          ASSERT_EQ(found(i, j), sum) << i << ", " << j;
        }
      }
    }
  }
}

TEST_P(ActiveSetsOnDevice, AddAtomsFillsItsPlaceAlone) {
  const auto D = normal_atoms(37, 60, 1), X = normal_atoms(37, 3, 2);
  Batch with(context(), D, X, 50), without(context(), D, X, 50, false);
  for (Batch* batch : {&with, &without}) {
    batch->add({0, 2}, {5, 59, 0});
    batch->add({2}, {17, 58, 1, 2, 3, 30});
    batch->add({2}, {});
  }
  for (const std::int32_t p : {0, 1, 2}) EXPECT_TRUE(with.place(p) == without.place(p)) << p;
  EXPECT_EQ(with.place(1).size, 0);
  EXPECT_EQ(with.place(0).atom, (std::vector<std::int32_t>{5, 59, 0}));
  const Place found = with.place(2);
  ASSERT_EQ(found.atom, (std::vector<std::int32_t>{5, 59, 0, 17, 58, 1, 2, 3, 30}));
  const auto truth = with.correlations(2);
  double largest = 0, length = 0;
  for (std::int64_t i = 0; i < 37; ++i) length += X(i, 2) * X(i, 2);
  for (std::size_t i = 0; i < 9; ++i) {
    const std::int32_t j = found.atom[i];
    EXPECT_EQ(found.code[i], 0);
    EXPECT_NEAR(found.correlation[i], static_cast<double>(truth[index_of(j)]),
                37 * kEps * with.norm(j) * std::sqrt(length));
    largest = std::max(largest, std::fabs(found.correlation[i]) / with.norm(j));
    for (std::size_t k = 0; k < 9; ++k) {
      double sum = 0;
      for (std::int64_t row = 0; row < 37; ++row) sum = std::fma(D(row, j), D(row, found.atom[k]), sum);
      EXPECT_EQ(found.gram[i + 9 * k], sum);
    }
  }
  EXPECT_NEAR(found.largest, largest, 37 * kEps * std::sqrt(length));
}

TEST_P(ActiveSetsOnDevice, GivenAndComputedGramsGiveTheSameBits) {
  const auto D = normal_atoms(40, 70, 1), X = normal_atoms(40, 2, 2);
  Batch with(context(), D, X, 70), without(context(), D, X, 70, false);
  for (Batch* batch : {&with, &without}) {
    batch->lambda = {2.0, 6.0};
    for (const int parity : {1, 0}) {
      std::vector<std::int32_t> atoms;
      for (std::int32_t j = 69; j >= 0; --j)
        if (j % 2 == parity) atoms.push_back(j);
      batch->add(batch->all(), atoms);
      batch->solve(batch->all());
    }
  }
  for (const std::int32_t p : {0, 1}) {
    EXPECT_GT(with.place(p).support, 10);
    EXPECT_TRUE(with.place(p) == without.place(p)) << p;
    with.expect_optimal(p, units_of(D));
  }
}

// ---- solutions ----

TEST_P(ActiveSetsOnDevice, PerpendicularAtomsAreSoftThresholded) {
  const auto D = GuardedHost<double>::make(4, 4, [](std::int64_t i, std::int64_t j) { return i == j ? 1 << j : 0; });
  const double x[] = {3, -2, 0.25, 0.5};
  Batch batch(context(), D, GuardedHost<double>::make(4, 1, [&](std::int64_t i, std::int64_t) { return x[i]; }), 4);
  batch.add_all({0});
  batch.solve({0});
  EXPECT_EQ(batch.code(0), (std::vector<double>{2, -(4.0 - 1) / 4, 0, (4.0 - 1) / 64}));
  EXPECT_EQ(batch.place(0).steps, 3);  // an atom each
  EXPECT_EQ(batch.place(0).outcome, kSetsSolved);
}

struct Shape {
  std::int64_t n, m;
};

TEST_P(ActiveSetsOnDevice, RandomProblemsAreOptimal) {
  for (const Shape& shape : {Shape{1, 1}, Shape{5, 3}, Shape{30, 20}, Shape{43, 100}, Shape{60, 15}, Shape{60, 161}}) {
    if (testing::kThreadSanitizer && shape.m != 20) continue;
    SCOPED_TRACE(::testing::Message() << shape.n << " x " << shape.m);
    const auto D = normal_atoms(shape.n, shape.m, 1), X = normal_atoms(shape.n, 4, 2);
    const Batch batch = solved(D, X, {0.8, 0.3, 0.1, 0.02}, units_of(D));
    if (HasFatalFailure()) return;
    for (const std::int64_t p : {0, 1, 2, 3}) EXPECT_GT(batch.place(p).support, 0);
  }
}

TEST_P(ActiveSetsOnDevice, CorrelatedAtomsCrossZeroOnTheirWay) {
  // Smooth neighbours: an atom that joins drives others out again, so that there are more steps than atoms in the end.
  const std::int64_t m = testing::kThreadSanitizer ? 40 : 120;
  const auto D = GuardedHost<double>::make(60, m, [&](std::int64_t i, std::int64_t j) {
    const double at = static_cast<double>(j) * 60 / static_cast<double>(m);
    return std::exp(-std::pow((static_cast<double>(i) - at) / 5, 2)) * (1 + 0.1 * std::cos(static_cast<double>(j)));
  });
  const Batch batch = solved(D, normal_atoms(60, 3, 2), {0.3, 0.05, 0.002}, kPromised);
  EXPECT_GT(batch.place(1).steps, batch.place(1).support + 2);
}

TEST_P(ActiveSetsOnDevice, CopiesOfAtomsDoNotMatter) {
  // Everything twice, with both signs, at half its length, where it is not worth its threshold, and as zeros.
  const auto once = normal_atoms(20, 12, 1), X = normal_atoms(20, 2, 2);
  const double factors[] = {1, 1, -1, 0.5, 0};
  const auto often = GuardedHost<double>::make(
      20, 60, [&](std::int64_t i, std::int64_t j) { return factors[j / 12] * once(i, j % 12); });
  const std::vector<double> shares{0.5, 0.1};
  const Batch wanted = solved(once, X, shares, units_of(once)), found = solved(often, X, shares, units_of(often));
  for (const std::int64_t p : {0, 1}) {
    const auto z = found.code(p), sum = wanted.code(p);
    // The optimum of the atoms once is unique; its curvature is over a hundredth of an atom's energy.
    for (std::size_t j = 0; j < 12; ++j)
      EXPECT_NEAR(z[j] + z[j + 12] - z[j + 24], sum[j], 100 * units_of(often) * kEps);
    for (std::size_t j = 36; j < 60; ++j) EXPECT_EQ(z[j], 0) << j;
  }
}

TEST_P(ActiveSetsOnDevice, NearlyDependentAtoms) {
  // Copies that differ by so much: told apart, or taken for dependent. The objective is that without them but for as much.
  const auto base = normal_atoms(30, 20, 1), noise = normal_atoms(30, 20, 3), X = normal_atoms(30, 2, 2);
  for (const double off : {1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-14}) {
    if (testing::kThreadSanitizer && off != 1e-7) continue;
    SCOPED_TRACE(off);
    const auto D = GuardedHost<double>::make(30, 60, [&](std::int64_t i, std::int64_t j) {
      return base(i, j % 20) + (j < 20 ? 0 : j < 40 ? off : -2 * off) * noise(i, j % 20);
    });
    Batch batch(context(), D, X, 60);
    batch.lambda = {0.3 * batch.lambda_max(0), 0.02 * batch.lambda_max(1)};
    batch.add_all(batch.all());
    batch.solve(batch.all());
    const Batch wanted = solved(base, X, {0.3, 0.02}, units_of(base));
    for (const std::int64_t p : {0, 1}) {
      // By 1e-12 they are no more told apart by their norms, but still by their correlations: S may be stuck there.
      if (off == 1e-12)
        batch.expect_conditions(p, 10 * kPromised);
      else
        batch.expect_optimal(p, 10 * kPromised);
      if (HasFatalFailure()) return;
      EXPECT_NEAR(batch.objective(p), wanted.objective(p), 1e3 * off * wanted.objective(p) + 1e-12);
    }
  }
}

TEST_P(ActiveSetsOnDevice, SmoothBumpsWearTheInverseOut) {
  // Bumps with a little noise or none: what is left of one outside of the others is down to nothing.
  for (std::uint64_t seed = 1; seed <= (testing::kThreadSanitizer ? 1 : 12); ++seed) {
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
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ": " << n << " x " << m << ", width " << width << ", noise "
                                      << noise);
    Batch batch(context(), D, normal_atoms(n, 2, 1000 + seed), m);
    batch.lambda = {0.1, 0.001};
    batch.add_all(batch.all());
    const double start[] = {batch.objective(0), batch.objective(1)};
    batch.solve(batch.all());
    for (const std::int64_t p : {0, 1}) {
      ASSERT_LT(batch.place(p).steps, 50 + 5 * m);
      batch.expect_optimal(p, units_of(D) + kPromised);
      if (HasFatalFailure()) return;
      EXPECT_LE(batch.objective(p), start[p]);
    }
  }
}

TEST_P(ActiveSetsOnDevice, DependentAtomsStayWithinTheirRank) {
  const auto basis = normal_atoms(40, 5, 1), mix = normal_atoms(5, 60, 2), X = normal_atoms(40, 3, 3);
  const auto D = GuardedHost<double>::make(40, 60, [&](std::int64_t i, std::int64_t j) {
    double sum = 0;
    for (std::int64_t k = 0; k < 5; ++k) sum += basis(i, k) * mix(k, j);
    return sum;
  });
  const Batch batch = solved(D, X, {0.5, 0.05, 1e-3}, kPromised);
  for (const std::int64_t p : {0, 1, 2}) EXPECT_LE(batch.place(p).support, 5);
}

TEST_P(ActiveSetsOnDevice, AtomsOfAnyLength) {
  auto D = normal_atoms(30, 39, 1);
  for (std::int64_t j = 0; j < 39; ++j)
    for (std::int64_t i = 0; i < 30; ++i) D(i, j) *= std::pow(10.0, static_cast<double>(j % 13) - 6);
  D(0, 13) = 1e-200;  // one whose energy is out of range, and one of zeros
  for (std::int64_t i = 0; i < 30; ++i) D(i, 14) = 0;
  for (std::int64_t i = 1; i < 30; ++i) D(i, 13) = 0;
  solved(D, normal_atoms(30, 4, 2), {0.3, 1e-3, 1e-6, 1e-9}, kPromised);
}

TEST_P(ActiveSetsOnDevice, HundredsOfDegenerateProblems) {
  // Entries are small integers and atoms come twice, so that correlations tie and S is often dependent.
  for (std::uint64_t seed = 1; seed <= (testing::kThreadSanitizer ? 4 : 30); ++seed) {
    testing::Integers pick(seed);
    const bool large = seed % 4 == 0;
    const std::int64_t n = pick(1, large ? 20 : 6), m = pick(1, large ? 40 : 12), size = pick(1, 3);
    GuardedHost<double> D(n, m);
    const auto X =
        GuardedHost<double>::make(n, 8, [&](std::int64_t, std::int64_t) { return static_cast<double>(pick(-4, 4)); });
    for (std::int64_t j = 0; j < m; ++j) {
      const std::int64_t copied = j > 0 && pick(0, 3) == 0 ? pick(0, j - 1) : -1, factor = pick(0, 1) == 0 ? 1 : -1;
      for (std::int64_t i = 0; i < n; ++i)
        D(i, j) = copied >= 0 ? static_cast<double>(factor) * D(i, copied) : static_cast<double>(pick(-size, size));
    }
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ": " << n << " x " << m);
    Batch batch(context(), D, X, m);
    for (double& lambda : batch.lambda) lambda = static_cast<double>(pick(1, 4)) / 2;
    batch.add_all(batch.all());
    batch.solve(batch.all());
    for (std::int64_t p = 0; p < 8; ++p) {
      batch.expect_optimal(p, units_of(D));
      ASSERT_LT(batch.place(p).steps, 20 + 10 * m);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(ActiveSetsOnDevice, AtomsThatComeToZeroTogetherLeaveTogether) {
  // Twins d_0 and d_1, each with the same angle to d_2: their codes stay equal, and reach zero in the same step.
  const double values[3][3] = {{4, 0, 3}, {0, 4, 3}, {0, 0, 1}}, x[] = {9, 9, 3};
  const auto D = GuardedHost<double>::make(3, 3, [&](std::int64_t i, std::int64_t j) { return values[i][j]; });
  Batch batch(context(), D, GuardedHost<double>::make(3, 1, [&](std::int64_t i, std::int64_t) { return x[i]; }), 3);
  batch.add({0}, {0, 1});
  batch.solve({0});
  EXPECT_EQ(batch.place(0).support, 2);
  EXPECT_EQ(batch.code(0)[0], batch.code(0)[1]);
  batch.add({0}, {2});  // it takes over
  batch.solve({0});
  batch.expect_optimal(0, units_of(D));
  // Up with lambda, all by settling.
  for (const double lambda : {2.0, 5.0, 40.0, 57.0}) {
    batch.lambda = {lambda};
    batch.solve({0});
    batch.expect_optimal(0, units_of(D));
  }
  batch.lambda = {1e3};
  batch.solve({0});
  EXPECT_EQ(batch.place(0).support, 0);
  EXPECT_EQ(batch.code(0), std::vector<double>(3, 0.0));
}

TEST_P(ActiveSetsOnDevice, GoesOnAsTheSolverDoes) {
  // Atoms come in rounds, correlations are set anew now and then.
  const auto D = normal_atoms(50, 90, 1), X = normal_atoms(50, 2, 2);
  const Batch wanted = solved(D, X, {0.3, 0.03}, units_of(D));
  for (const std::int32_t round : {7, 16, 40}) {
    if (testing::kThreadSanitizer && round != 40) continue;
    SCOPED_TRACE(round);
    Batch batch(context(), D, X, 90);
    batch.lambda = wanted.lambda;
    for (std::int32_t first = 90; first > 0; first -= round) {  // the last ones first
      std::vector<std::int32_t> atoms;
      for (std::int32_t j = std::max(0, first - round); j < first; ++j) atoms.push_back(j);
      batch.add(batch.all(), atoms);
      batch.solve(batch.all());
      batch.refresh(1);
      for (const std::int64_t p : {0, 1}) batch.expect_optimal(p, units_of(D));
      if (HasFatalFailure()) return;
    }
    for (const std::int64_t p : {0, 1}) {
      // S has at most 40 atoms of 50 dimensions: the least curvature is over a thousandth of an atom's energy.
      const auto found = batch.code(p), code = wanted.code(p);
      for (std::size_t j = 0; j < 90; ++j) EXPECT_NEAR(found[j], code[j], 1000 * units_of(D) * kEps) << j;
    }
  }
}

TEST_P(ActiveSetsOnDevice, LambdaUpAndDownWearsNothingOut) {
  // Hundreds of atoms join and leave, by settling upwards and by growing downwards, some of them nearly dependent.
  const auto base = normal_atoms(30, 40, 1), X = normal_atoms(30, 2, 2);
  const auto D = GuardedHost<double>::make(30, 40, [&](std::int64_t i, std::int64_t j) {
    return j % 4 == 3 ? base(i, j - 1) + 1e-4 * base(i, j) : base(i, j);
  });
  Batch batch(context(), D, X, 40);
  batch.add_all(batch.all());
  const double most[] = {batch.lambda_max(0), batch.lambda_max(1)};
  for (int round = 0; round < (testing::kThreadSanitizer ? 3 : 20); ++round) {
    SCOPED_TRACE(round);
    for (const std::size_t p : {0, 1})
      batch.lambda[p] = most[p] * (round % 2 == 0 ? 0.02 + 0.001 * round : 0.4 + 0.02 * round);
    batch.solve(batch.all());
    for (const std::int64_t p : {0, 1}) batch.expect_optimal(p, kPromised);
    if (HasFatalFailure()) return;
  }
}

// ---- penalties ----

/// Weights from 1/4 to 4.
std::vector<double> some_weights(std::int64_t m) {
  std::vector<double> weights;
  for (std::int64_t j = 0; j < m; ++j) weights.push_back(std::exp2(static_cast<double>(j * 3 % 5) - 2));
  return weights;
}

TEST_P(ActiveSetsOnDevice, PerpendicularAtomsAreShrunkAsThePenaltySays) {
  const auto D = GuardedHost<double>::make(4, 4, [](std::int64_t i, std::int64_t j) { return i == j ? 1 << j : 0; });
  const double x[] = {3, -2, 0.25, 0.5};
  const auto X = GuardedHost<double>::make(4, 1, [&](std::int64_t i, std::int64_t) { return x[i]; });
  const auto code = [&](const std::vector<double>& weights, double ridge, bool nonnegative) {
    Batch batch(context(), D, X, 4);
    batch.set_penalty(weights, ridge, nonnegative);
    batch.add_all({0});
    batch.solve({0});
    EXPECT_EQ(batch.place(0).outcome, kSetsSolved);
    return batch.code(0);
  };
  // D'x = 3, -4, 1, 4 and D'D = 1, 4, 16, 64.
  EXPECT_EQ(code({2, 0.5, 0.5, 8}, 0, false), (std::vector<double>{1, -3.5 / 4, 0.5 / 16, 0}));
  EXPECT_EQ(code({}, 0, true), (std::vector<double>{2, 0, 0, 3.0 / 64}));
  const auto elastic = code({}, 1, false);
  const double wanted[] = {2.0 / 2, -3.0 / 5, 0, 3.0 / 65};
  for (std::size_t j = 0; j < 4; ++j) EXPECT_NEAR(elastic[j], wanted[j], 4 * kEps);
  EXPECT_EQ(code({2, 0.5, 0.5, 2}, 4, true), (std::vector<double>{1.0 / 5, 0, 0.5 / 20, 2.0 / 68}));
}

TEST_P(ActiveSetsOnDevice, ProblemsUnderPenaltiesAreOptimal) {
  // Random atoms, and smooth ones that drive each other out; at a tenth and a fiftieth of lambda_max.
  for (const bool smooth : {false, true}) {
    const std::int64_t n = smooth ? 30 : 25, m = testing::kThreadSanitizer ? 20 : 60;
    const auto D = GuardedHost<double>::make(n, m, [&, random = normal_atoms(n, m, 1)](std::int64_t i, std::int64_t j) {
      const double t = (static_cast<double>(i) - static_cast<double>(j * n) / static_cast<double>(m)) / 3;
      return smooth ? std::exp(-t * t) : random(i, j);
    });
    for (const int kind : {1, 2, 4, 7}) {
      if ((testing::kThreadSanitizer || smooth) && kind != 7) continue;
      SCOPED_TRACE(::testing::Message() << "smooth " << smooth << ", kind " << kind);
      Batch batch(context(), D, normal_atoms(n, 2, 2), m);
      batch.set_penalty((kind & 1) != 0 ? some_weights(m) : std::vector<double>(), (kind & 2) != 0 ? 0.3 : 0.0,
                        (kind & 4) != 0);
      batch.lambda = {0.1 * batch.lambda_max(0), 0.02 * batch.lambda_max(1)};
      std::vector<std::int32_t> first, rest;
      for (std::int32_t j = 0; j < m; ++j) (j % 3 == 0 ? first : rest).push_back(j);
      for (const auto& atoms : {first, rest}) {
        batch.add(batch.all(), atoms);
        batch.solve(batch.all());
      }
      for (const std::int64_t p : {0, 1}) {
        batch.expect_optimal(p, units_of(D) + (smooth ? kPromised : 0));
        if (HasFatalFailure()) return;
        EXPECT_GT(batch.place(p).support, 1);
      }
      batch.lambda = {0.5 * batch.lambda[0], 20 * batch.lambda[1]};  // on, and by settling
      batch.solve(batch.all());
      for (const std::int64_t p : {0, 1}) batch.expect_optimal(p, units_of(D) + kPromised);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(ActiveSetsOnDevice, DegenerateProblemsUnderPenalties) {
  // Small integers, atoms twice, thresholds that tie.
  for (std::uint64_t seed = 1; seed <= (testing::kThreadSanitizer ? 2 : 12); ++seed) {
    testing::Integers pick(seed);
    const std::int64_t n = pick(1, 6), m = pick(1, 12);
    GuardedHost<double> D(n, m);
    const auto X =
        GuardedHost<double>::make(n, 4, [&](std::int64_t, std::int64_t) { return static_cast<double>(pick(-4, 4)); });
    for (std::int64_t j = 0; j < m; ++j) {
      const std::int64_t copied = j > 0 && pick(0, 2) == 0 ? pick(0, j - 1) : -1, factor = pick(0, 1) == 0 ? 1 : -1;
      for (std::int64_t i = 0; i < n; ++i)
        D(i, j) = copied >= 0 ? static_cast<double>(factor) * D(i, copied) : static_cast<double>(pick(-2, 2));
    }
    std::vector<double> weights;
    for (std::int64_t j = 0; j < m; ++j) weights.push_back(static_cast<double>(pick(1, 2)));
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ": " << n << " x " << m);
    Batch batch(context(), D, X, m);
    batch.set_penalty(seed % 3 == 0 ? std::vector<double>() : weights, seed % 2 == 0 ? 0.0 : 1.0, seed % 4 < 2);
    for (double& lambda : batch.lambda) lambda = static_cast<double>(pick(1, 4)) / 2;
    batch.add_all(batch.all());
    batch.solve(batch.all());
    for (std::int64_t p = 0; p < 4; ++p) {
      batch.expect_optimal(p, units_of(D));
      ASSERT_LT(batch.place(p).steps, 20 + 10 * m);
      if (HasFatalFailure()) return;
    }
  }
}

// ---- codes to start at ----

TEST_P(ActiveSetsOnDevice, StartsAreTheirCodesOrNothing) {
  const auto D = normal_atoms(20, 30, 1);
  auto X = normal_atoms(20, 6, 2);
  for (int kind = 0; kind < 8; kind += 7) {  // plain, and all of a penalty
    SCOPED_TRACE(kind);
    Batch batch(context(), D, X, 12);
    if (kind > 0) batch.set_penalty(some_weights(30), 0.5, true);
    for (std::int64_t p = 0; p < 6; ++p) batch.lambda[index_of(p)] = 0.2 * batch.lambda_max(p);
    // Atoms that are worth something at first, for each place.
    std::vector<std::vector<std::pair<std::int32_t, double>>> codes(6);
    for (const std::int64_t p : {0, 1, 2, 3, 4, 5}) {
      const auto c = batch.correlations(p);
      for (std::int32_t j = 29; j >= 0 && codes[index_of(p)].size() < 4; --j) {
        const auto correlation = static_cast<double>(c[index_of(j)]);
        if (batch.side(correlation) > 2 * batch.threshold(p, j))
          codes[index_of(p)].emplace_back(j, 1e-2 * correlation / (batch.norm(j) * batch.norm(j)));
      }
      ASSERT_GE(codes[index_of(p)].size(), 1U);
    }
    codes[1].front().second *= 1e9;                                        // worse than nothing
    codes[2].front().second = std::numeric_limits<double>::infinity();     // none
    codes[3].clear();                                                      // from 0
    for (std::int32_t j = 0; j < 13; ++j) codes[4].emplace_back(j, 1e-3);  // more than there is room for
    const std::vector<std::pair<std::int32_t, double>> given = codes[0];
    batch.start(codes);
    for (const std::int64_t p : {0, 5}) {  // begun, with correlations of the code
      const Place now = batch.place(p);
      ASSERT_EQ(now.size, static_cast<std::int32_t>(codes[index_of(p)].size()));
      EXPECT_EQ(now.support, now.size);
      const auto truth = batch.correlations(p);
      for (std::size_t i = 0; i < now.atom.size(); ++i) {
        EXPECT_EQ(now.atom[i], codes[index_of(p)][i].first);
        EXPECT_EQ(now.code[i], codes[index_of(p)][i].second);
        EXPECT_EQ(now.active[i], static_cast<std::int32_t>(i));
        EXPECT_NEAR(now.correlation[i], static_cast<double>(truth[index_of(now.atom[i])]), 1e-12);
      }
      EXPECT_GT(now.largest, 0);
    }
    for (const std::int64_t p : {1, 2}) {  // their atoms, with the code 0 and its correlations
      const Place now = batch.place(p);
      ASSERT_EQ(now.size, static_cast<std::int32_t>(codes[index_of(p)].size()));
      EXPECT_EQ(now.support, 0);
      EXPECT_EQ(now.code, std::vector<double>(index_of(now.size), 0.0));
      const auto truth = batch.correlations(p);
      for (std::size_t i = 0; i < now.atom.size(); ++i)
        EXPECT_NEAR(now.correlation[i], static_cast<double>(truth[index_of(now.atom[i])]), 1e-12);
    }
    for (const std::int64_t p : {3, 4}) EXPECT_EQ(batch.place(p).size, 0);
    // What follows is a solve like another: from every start to the same code.
    Batch cold(context(), D, X, 12);
    if (kind > 0) cold.set_penalty(some_weights(30), 0.5, true);
    cold.lambda = batch.lambda;
    for (const std::int32_t p : {0, 1, 2, 5}) {
      std::vector<std::int32_t> atoms;
      for (const auto& [atom, value] : codes[index_of(p)]) atoms.push_back(atom);
      cold.add({p}, atoms);
      cold.solve({p});
      batch.solve({p});
      batch.expect_optimal(p, units_of(D));
      const auto found = batch.code(p), wanted = cold.code(p);
      for (std::size_t j = 0; j < 30; ++j) EXPECT_NEAR(found[j], wanted[j], 1000 * units_of(D) * kEps) << j;
    }
  }
}

TEST_P(ActiveSetsOnDevice, DependentStartsAreNotStartedAt) {
  auto D = normal_atoms(10, 6, 1);
  for (std::int64_t i = 0; i < 10; ++i) D(i, 4) = 2 * D(i, 1);
  const auto X =
      GuardedHost<double>::make(10, 1, [&](std::int64_t i, std::int64_t) { return D(i, 1) + D(i, 2) - D(i, 0); });
  Batch batch(context(), D, X, 6);
  batch.lambda = {0.1};
  batch.start({{{1, 0.3}, {2, 0.5}, {4, 0.1}}});
  EXPECT_EQ(batch.place(0).size, 3);
  EXPECT_EQ(batch.place(0).support, 0);
  batch.solve({0});
  batch.expect_optimal(0, units_of(D));
  EXPECT_GT(batch.place(0).support, 0);
}

// ---- what does not touch the bits ----

TEST_P(ActiveSetsOnDevice, BitsAreThoseOfAnyCapacityPlaceAndCompany) {
  // S outgrows each tier on its way, or begins beyond them: at capacity 1080 no inverse fits shared memory.
  struct Case {
    std::int64_t n, m;
    std::vector<std::int64_t> capacities;
    std::int32_t support;  // at least
  };
  std::vector<Case> cases{
      {60, 40, {40, 100, 200, 600, 1080}, 25}, {90, 80, {80, 1080}, 66}, {120, 110, {110, 600, 1080}, 98}};
  if (testing::kThreadSanitizer) cases = {{60, 40, {40, 1080}, 25}};
  for (const Case& shape : cases) {
    const auto D = normal_atoms(shape.n, shape.m, 1), X = normal_atoms(shape.n, 1, 2);
    const auto run = [&](Batch& batch, std::int32_t place, const std::vector<std::int32_t>& beside) {
      std::vector<std::int32_t> which{place}, first, rest;
      which.insert(which.begin(), beside.begin(), beside.end());
      for (std::int32_t j = 0; j < shape.m; ++j) (j % 3 == 0 ? first : rest).push_back(j);
      for (const auto& atoms : {first, rest}) {
        batch.add(which, atoms);
        batch.solve(which);
      }
      return batch.place(place);
    };
    const double lambda = 0.005 * Batch(context(), D, X, 1, false).lambda_max(0);
    Place wanted;
    for (const std::int64_t capacity : shape.capacities) {
      SCOPED_TRACE(::testing::Message() << shape.n << " x " << shape.m << " at capacity " << capacity);
      Batch batch(context(), D, X, capacity);
      batch.lambda = {lambda};
      const Place found = run(batch, 0, {});
      if (capacity == shape.capacities.front()) {
        wanted = found;
        batch.expect_optimal(0, 10 * units_of(D));
        ASSERT_GE(found.support, shape.support);
      }
      EXPECT_TRUE(found == wanted);
    }
    // The third of four, the others with problems and supports of their own.
    auto several = normal_atoms(shape.n, 4, 5);
    for (std::int64_t i = 0; i < shape.n; ++i) several(i, 2) = X(i, 0);
    Batch batch(context(), D, several, shape.m);
    batch.lambda = {30 * lambda, 2 * lambda, lambda, lambda};
    EXPECT_TRUE(run(batch, 2, {3, 0, 1}) == wanted);
    for (const std::int64_t p : {0, 1, 3}) batch.expect_optimal(p, 10 * units_of(D));
  }
}

TEST_P(ActiveSetsOnDevice, LeavesPlacesAlone) {
  const auto D = normal_atoms(30, 50, 1), X = normal_atoms(30, 4, 2);
  Batch batch(context(), D, X, 50);
  for (double& lambda : batch.lambda) lambda = 3;
  batch.add_all(batch.all());
  batch.solve({0, 1, 2, 3});
  std::vector<Place> before;
  for (const std::int64_t p : {0, 1, 2, 3}) before.push_back(batch.place(p));
  batch.lambda = {1, 1, 1, 1};
  batch.tolerance = {kTolerance, -1, kTolerance, -1e-300};
  batch.solve({3, 1, 0});  // 2 is not in the list, 1 and 3 run no more
  EXPECT_FALSE(batch.place(0) == before[0]);
  for (const std::int64_t p : {1, 2, 3}) EXPECT_TRUE(batch.place(p) == before[index_of(p)]) << p;
  batch.solve({});
  batch.tolerance = {-1, -1, -1, -1};
  const Place now = batch.place(0);
  batch.solve(batch.all());
  EXPECT_TRUE(batch.place(0) == now);
}

TEST_P(ActiveSetsOnDevice, EmptySetsAreSolved) {
  Batch batch(context(), normal_atoms(5, 3, 1), normal_atoms(5, 2, 2), 3);
  batch.add({0}, {});
  batch.solve(batch.all());
  EXPECT_EQ(batch.place(0).size, 0);
  EXPECT_EQ(batch.place(0).outcome, kSetsSolved);
  EXPECT_EQ(batch.place(0).largest, 0);
  batch.lambda = {1e6, 1e6};
  batch.add_all(batch.all());
  batch.solve(batch.all());
  for (const std::int64_t p : {0, 1}) {
    EXPECT_EQ(batch.place(p).support, 0);
    EXPECT_EQ(batch.place(p).steps, 0);
    EXPECT_EQ(batch.place(p).outcome, kSetsSolved);
  }
}

// ---- when rounding or the steps stand in the way ----

TEST_P(ActiveSetsOnDevice, StopsAfterTheStepsItMayTake) {
  const auto D = normal_atoms(180, 200, 1), X = normal_atoms(180, 1, 2);
  Batch batch(context(), D, X, 200);
  batch.lambda = {0.002 * batch.lambda_max(0)};
  batch.add_all({0});
  double last = batch.objective(0);
  batch.solve({0}, 0);  // a hundred steps
  Place now = batch.place(0);
  EXPECT_EQ(now.outcome, kSetsStuck);
  EXPECT_GE(now.steps, 100);
  EXPECT_LE(now.steps, 100 + now.size);  // that atom was let in
  batch.expect_valid(0);
  EXPECT_GT(now.support, 50);
  EXPECT_LT(batch.objective(0), last);
  // It goes on from there, and an allowance beyond 32 bits is none too many.
  last = batch.objective(0);
  batch.solve({0}, std::int64_t{1} << 40);
  EXPECT_LT(batch.objective(0), last);
  batch.expect_optimal(0, 10 * units_of(D));
}

TEST_P(ActiveSetsOnDevice, StuckSetsKeepWhatTheySay) {
  // A Gram matrix that is none of the atoms': indefinite where two of them meet. Rounding could not do worse.
  const auto D = normal_atoms(30, 20, 1), X = normal_atoms(30, 1, 2);
  Batch batch(context(), D, X, 20);
  batch.lambda = {0.2 * batch.lambda_max(0)};
  batch.add_all({0});
  const auto gram = batch.sets.gram;
  std::vector<double> values =
      testing::values_of(context(), VectorView<const double>{gram.column(0), 400, context().device()});
  for (std::size_t j = 0; j < 20; ++j)
    for (std::size_t i = 0; i < 20; ++i)
      if (i != j) values[i + 20 * j] = (i + j) % 3 == 0 ? 60.0 : -60.0;
  copy(context(), VectorView<const double>{values.data(), 400, {}},
       VectorView<double>{gram.column(0), 400, context().device()});
  context().synchronize();
  for (int time = 0; time < 4; ++time) {
    batch.solve({0});
    batch.expect_valid(0);
    if (HasFatalFailure()) return;
    ASSERT_LT(batch.place(0).steps, 4 * (20 * 20 + 100 + 40));
  }
}

// ---- errors ----

TEST_P(ActiveSetsOnDevice, RefusesWhatDoesNotFit) {
  const auto D = normal_atoms(10, 12, 1);
  const auto device_D = to_device(context(), D);
  const Tensor<double> G(context(), 12, 12), wrong(context(), 11, 12), R(context(), 10, 2), short_R(context(), 9, 2);
  const auto list = to_device(context(), std::vector<std::int32_t>{0, 1}, 2);
  const Tensor<std::int32_t> fresh(context(), 4, 2), counts(context(), 2), few(context(), 1);
  const Tensor<double> numbers(context(), 2), one(context(), 1);
  Batch batch(context(), D, normal_atoms(10, 2, 2), 12);
  const ActiveSets& sets = batch.sets;
  const MatrixView<const double> none;

  EXPECT_THROW(gram_matrix(context(), device_D.matrix(), wrong.matrix()), ShapeError);
  EXPECT_THROW(gram_matrix(context(), testing::view_of(D), G.matrix()), DeviceError);
  const auto add = [&](MatrixView<const double> d, MatrixView<const double> gram, MatrixView<const double> r,
                       VectorView<const std::int32_t> number, const ActiveSets& to) {
    add_atoms(context(), d, gram, r, list.vector(), fresh.matrix(), number, to);
  };
  EXPECT_THROW(add(device_D.matrix(), wrong.matrix(), R.matrix(), counts.vector(), sets), ShapeError);
  EXPECT_THROW(add(device_D.matrix(), none, short_R.matrix(), counts.vector(), sets), ShapeError);
  EXPECT_THROW(add(device_D.matrix(), none, R.matrix(), few.vector(), sets), ShapeError);
  EXPECT_THROW(add(testing::view_of(D), none, R.matrix(), counts.vector(), sets), DeviceError);
  ActiveSets odd = sets;
  odd.capacity = 11;
  EXPECT_THROW(add(device_D.matrix(), none, R.matrix(), counts.vector(), odd), ShapeError);

  const auto solve = [&](VectorView<const double> lambda, VectorView<const double> tolerance, std::int64_t steps,
                         const ActiveSets& of) {
    solve_active_sets(context(), list.vector(), lambda, tolerance, steps, of);
  };
  EXPECT_THROW(solve(one.vector(), numbers.vector(), 1, sets), ShapeError);
  EXPECT_THROW(solve(numbers.vector(), one.vector(), 1, sets), ShapeError);
  EXPECT_THROW(solve(numbers.vector(), numbers.vector(), -1, sets), ValueError);
  EXPECT_THROW(solve(numbers.vector(), numbers.vector(), 1, odd), ShapeError);
  odd = sets;
  odd.steps.size = 1;
  EXPECT_THROW(solve(numbers.vector(), numbers.vector(), 1, odd), ShapeError);
  odd = sets;
  odd.code.device = {};
  EXPECT_THROW(solve(numbers.vector(), numbers.vector(), 1, odd), DeviceError);
  const auto start = [&](VectorView<const double> lambda, VectorView<std::int32_t> number, const ActiveSets& of,
                         const PenaltyView<double>& penalty) {
    start_active_sets(context(), device_D.matrix(), none, R.matrix(), list.vector(), lambda, number, of, penalty);
  };
  EXPECT_THROW(start(one.vector(), counts.vector(), sets, {}), ShapeError);
  EXPECT_THROW(start(numbers.vector(), few.vector(), sets, {}), ShapeError);
  EXPECT_THROW(start(numbers.vector(), counts.vector(), sets, {numbers.vector(), 0, false}), ShapeError);
  EXPECT_THROW(start(numbers.vector(), counts.vector(), odd, {}), DeviceError);
  Batch large(context(), D, normal_atoms(10, 2, 2), 1091, false);  // 11.5 numbers an atom, of 98 KiB
  EXPECT_THROW(solve(numbers.vector(), numbers.vector(), 1, large.sets), ValueError);
  EXPECT_THROW(start(numbers.vector(), counts.vector(), large.sets, {}), ValueError);

  const Context cpu = Context::cpu(1);
  EXPECT_THROW(gram_matrix(cpu, testing::view_of(D), {}), DeviceError);
  EXPECT_THROW(add_atoms(cpu, testing::view_of(D), {}, {}, {}, {}, {}, sets), DeviceError);
  EXPECT_THROW(solve_active_sets(cpu, {}, {}, {}, 1, sets), DeviceError);
  EXPECT_THROW(start_active_sets(cpu, testing::view_of(D), {}, {}, {}, {}, {}, sets), DeviceError);
}

}  // namespace
}  // namespace shrinkwarp
