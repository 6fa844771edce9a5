// Working sets of groups on a device against the optimality conditions in long double and against GroupSet, and what their bits
// must not depend on. What the method does with problems of all kinds has its tests in group_set_test.cpp.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/kernels/group_set/group_sets.hpp>
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

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEps = std::numeric_limits<double>::epsilon();
constexpr double kTolerance = 1e-11;
constexpr std::int64_t kMostSteps = 60;

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// What a place holds.
struct Place {
  std::vector<std::int32_t> atom, active;
  std::vector<double> code, correlation;
  std::int32_t size = 0, support = 0, steps = 0, outcome = 0;

  bool operator==(const Place& other) const {
    return atom == other.atom && active == other.active && code == other.code && correlation == other.correlation &&
           size == other.size && support == other.support && steps == other.steps && outcome == other.outcome;
  }
};

/// P problems of one dictionary in groups of s on a device: column p of X with lambda[p].
class Batch {
 public:
  Batch(const Context& context, const GuardedHost<double>& D, const GuardedHost<double>& X, std::int64_t group_size,
        std::int64_t capacity, std::vector<double> group_weights = {}, double ridge = 0)
      : context_(context),
        D_(D),
        X_(X),
        weights_(std::move(group_weights)),
        device_D_(to_device(context, D)),
        device_weights_(to_device(context, weights_, static_cast<std::int64_t>(weights_.size()))) {
    Arena counting(context.device());
    ActiveSets::lay_out(counting, capacity, X.cols);
    arena_ = std::make_unique<Arena>(context, counting.used());
    sets = ActiveSets::lay_out(*arena_, capacity, X.cols);
    const std::vector<std::int32_t> zeros(index_of(X.cols), 0);
    for (const auto& vector : {sets.size, sets.support, sets.steps, sets.outcome})
      copy(context, VectorView<const std::int32_t>{zeros.data(), X.cols, {}}, vector);
    penalty.weights = device_weights_.vector();
    penalty.ridge = ridge;
    penalty.group_size = group_size;
    lambda.assign(index_of(X.cols), 1.0);
    tolerance.assign(index_of(X.cols), kTolerance);
    const GroupBasis basis(Context::cpu(1), testing::padded<double>(D).matrix(), group_size);
    vectors_ = Tensor<double>(context, group_size, D.cols);
    values_ = Tensor<double>(context, D.cols);
    copy(context, basis.vectors(), vectors_.matrix());
    copy(context, basis.values(), values_.vector());
    context.synchronize();
  }

  std::int64_t places() const { return X_.cols; }
  std::int64_t s() const { return penalty.group_size; }
  GroupBasisView basis() const { return {vectors_.matrix(), values_.vector()}; }
  std::vector<std::int32_t> all() const {
    std::vector<std::int32_t> list(index_of(places()));
    std::iota(list.begin(), list.end(), 0);
    return list;
  }

  /// Adds groups to some places, with the residuals of this moment.
  void add(const std::vector<std::int32_t>& to, const std::vector<std::int32_t>& groups) {
    std::vector<std::int32_t> atoms;
    for (const std::int32_t g : groups)
      for (std::int64_t i = 0; i < s(); ++i) atoms.push_back(static_cast<std::int32_t>(g * s() + i));
    const auto count = static_cast<std::int64_t>(atoms.size());
    GuardedHost<double> residuals(D_.rows, places());
    for (const std::int32_t p : to) {
      const auto r = residual(p);
      for (std::int64_t i = 0; i < D_.rows; ++i) residuals(i, p) = static_cast<double>(r[index_of(i)]);
    }
    const auto R = to_device(context_, residuals);
    const auto fresh =
        to_device(context_, GuardedHost<std::int32_t>::make(
                                count, places(), [&](std::int64_t i, std::int64_t) { return atoms[index_of(i)]; }));
    const auto counts =
        to_device(context_, std::vector<std::int32_t>(index_of(places()), static_cast<std::int32_t>(count)), places());
    const auto list = to_device(context_, to, static_cast<std::int64_t>(to.size()));
    add_atoms(context_, device_D_.matrix(), {}, R.matrix(), list.vector(), fresh.matrix(), counts.vector(), sets,
              penalty);
    context_.synchronize();
  }
  void add_all(const std::vector<std::int32_t>& to) {
    std::vector<std::int32_t> groups(index_of(D_.cols / s()));
    std::iota(groups.begin(), groups.end(), 0);
    add(to, groups);
  }
  void solve(const std::vector<std::int32_t>& which, std::int64_t max_steps = kMostSteps) {
    const auto list = to_device(context_, which, static_cast<std::int64_t>(which.size()));
    const auto lambdas = to_device(context_, lambda, places()), tolerances = to_device(context_, tolerance, places());
    solve_group_sets(context_, basis(), list.vector(), lambdas.vector(), tolerances.vector(), max_steps, sets, penalty);
    context_.synchronize();
  }
  /// Starts all places at codes of all atoms; where one is empty the place is left alone.
  void start(const std::vector<std::vector<double>>& codes) {
    std::vector<std::int32_t> counts;
    std::vector<std::int32_t> atoms(index_of(D_.cols));
    std::iota(atoms.begin(), atoms.end(), 0);
    for (std::int64_t p = 0; p < places(); ++p) {
      const auto& code = codes[index_of(p)];
      const auto size = static_cast<std::int64_t>(code.size());
      counts.push_back(static_cast<std::int32_t>(size));
      copy(context_, VectorView<const std::int32_t>{atoms.data(), size, {}},
           VectorView<std::int32_t>{sets.atom.column(p), size, context_.device()});
      copy(context_, VectorView<const double>{code.data(), size, {}},
           VectorView<double>{sets.code.column(p), size, context_.device()});
    }
    context_.synchronize();
    const auto start = to_device(context_, counts, places());
    const auto lambdas = to_device(context_, lambda, places());
    const auto list = to_device(context_, all(), places());
    const auto X = to_device(context_, X_);
    start_group_sets(context_, device_D_.matrix(), {}, X.matrix(), list.vector(), lambdas.vector(), start.vector(),
                     sets, penalty);
    for (const std::int32_t left : testing::to_host(context_, start)) EXPECT_EQ(left, 0);
  }

  Place place(std::int64_t p) const {
    Place found;
    const auto count = [&](VectorView<std::int32_t> vector) {
      return testing::values_of(context_, VectorView<const std::int32_t>(vector))[index_of(p)];
    };
    found.size = count(sets.size);
    found.support = count(sets.support);
    found.steps = count(sets.steps);
    found.outcome = count(sets.outcome);
    const auto column = [&](auto matrix, std::int64_t size) {
      return testing::values_of(
          context_, VectorView<const std::decay_t<decltype(*matrix.data)>>{matrix.column(p), size, context_.device()});
    };
    found.atom = column(sets.atom, found.size);
    found.active = column(sets.active, found.support);
    found.code = column(sets.code, found.size);
    found.correlation = column(sets.correlation, found.size);
    return found;
  }
  std::vector<double> code(std::int64_t p) const {  // of all atoms
    const Place now = place(p);
    std::vector<double> z(index_of(D_.cols), 0.0);
    for (std::size_t i = 0; i < now.atom.size(); ++i) z[index_of(now.atom[i])] = now.code[i];
    return z;
  }
  std::vector<long double> residual(std::int64_t p) const {
    std::vector<long double> r;
    const auto z = code(p);
    for (std::int64_t i = 0; i < D_.rows; ++i) {
      long double value = X_(i, p);
      for (std::int64_t j = 0; j < D_.cols; ++j)
        if (z[index_of(j)] != 0) value -= static_cast<long double>(D_(i, j)) * z[index_of(j)];
      r.push_back(value);
    }
    return r;
  }
  double threshold(std::int64_t p, std::int64_t g) const {
    return lambda[index_of(p)] * (weights_.empty() ? 1.0 : weights_[index_of(g)]);
  }
  /// The smallest lambda whose solution is 0.
  double lambda_max(std::int64_t p) const {
    long double most = 0;
    for (std::int64_t g = 0; g < D_.cols / s(); ++g) {
      long double square = 0;
      for (std::int64_t j = g * s(); j < (g + 1) * s(); ++j) {
        long double sum = 0;
        for (std::int64_t i = 0; i < D_.rows; ++i) sum += static_cast<long double>(D_(i, j)) * X_(i, p);
        square += sum * sum;
      }
      most = std::max(most, std::sqrt(square) / (weights_.empty() ? 1.0 : weights_[index_of(g)]));
    }
    return static_cast<double>(most);
  }
  /// Lambdas as shares of that.
  void set_shares(const std::vector<double>& shares) {
    for (std::int64_t p = 0; p < places(); ++p)
      lambda[index_of(p)] = shares[index_of(p) % shares.size()] * lambda_max(p);
  }

  /// The place is solved: by its own word, by the conditions in long double, and S is what it is said to be.
  void expect_optimal(std::int64_t p) const {
    const Place now = place(p);
    ASSERT_EQ(now.outcome, kSetsSolved) << p;
    std::vector<std::int32_t> in_use;
    for (std::int32_t i = 0; i < now.size; ++i) {
      ASSERT_TRUE(std::isfinite(now.code[index_of(i)]));
      if (now.code[index_of(i)] != 0) in_use.push_back(i);
    }
    ASSERT_EQ(now.active, in_use);
    const auto r = residual(p);
    long double largest = 0, reach = 0;  // of an atom, and of what a residual is a difference of
    for (std::int64_t i = 0; i < D_.rows; ++i) reach += static_cast<long double>(X_(i, p)) * X_(i, p);
    reach = std::sqrt(reach);
    for (std::int64_t j = 0; j < D_.cols; ++j) {
      long double square = penalty.ridge;
      for (std::int64_t i = 0; i < D_.rows; ++i) square += static_cast<long double>(D_(i, j)) * D_(i, j);
      largest = std::max(largest, std::sqrt(square));
    }
    for (const double z : now.code) reach += largest * std::fabs(z);
    const double room = static_cast<double>(1000 * kEps * largest * reach);
    for (std::int64_t first = 0; first < now.size; first += s()) {
      const std::int64_t g = now.atom[index_of(first)] / s();
      long double length = 0, off = 0, whole = 0;
      for (std::int64_t i = 0; i < s(); ++i) {
        const double z = now.code[index_of(first + i)];
        length += static_cast<long double>(z) * z;
      }
      length = std::sqrt(length);
      for (std::int64_t i = 0; i < s(); ++i) {
        const std::int64_t j = g * s() + i;
        ASSERT_EQ(now.atom[index_of(first + i)], j);
        const long double z = now.code[index_of(first + i)];
        long double c = -penalty.ridge * z;
        for (std::int64_t row = 0; row < D_.rows; ++row) c += D_(row, j) * r[index_of(row)];
        ASSERT_NEAR(now.correlation[index_of(first + i)], c, room) << "atom " << j;
        const long double bent = length > 0 ? c - threshold(p, g) * z / length : 0;
        off += bent * bent;
        whole += c * c;
      }
      const double limit = threshold(p, g);
      if (length > 0)
        ASSERT_LE(std::sqrt(off), kTolerance * limit + room) << "group " << g;
      else
        ASSERT_LE(std::sqrt(whole), (1 + kTolerance) * limit + room) << "group " << g;
    }
  }

 private:
  const Context& context_;
  const GuardedHost<double> D_, X_;
  std::vector<double> weights_;
  testing::Guarded<double> device_D_;
  Tensor<double> device_weights_, vectors_, values_;
  std::unique_ptr<Arena> arena_;

 public:
  ActiveSets sets;
  PenaltyView<double> penalty;
  std::vector<double> lambda, tolerance;  // [P]
};

class GroupSetsOnDevice : public testing::OnContext {};
SHRINKWARP_ON_CUDA(GroupSetsOnDevice);

TEST_P(GroupSetsOnDevice, OrthonormalAtomsAreShrunkByGroups) {
  const auto unit = GuardedHost<double>::make(6, 6, [](std::int64_t i, std::int64_t j) { return i == j ? 1.0 : 0.0; });
  const double x[] = {3, 4, 0.3, 0.4, -6, 8};
  const auto X = GuardedHost<double>::make(6, 1, [&](std::int64_t i, std::int64_t) { return x[i]; });
  Batch batch(context(), unit, X, 2, 6);
  batch.add_all({0});
  batch.solve({0});
  const double wanted[] = {3 * 0.8, 4 * 0.8, 0, 0, -6 * 0.9, 8 * 0.9};
  const auto z = batch.code(0);
  for (std::size_t j = 0; j < 6; ++j) EXPECT_NEAR(z[j], wanted[j], 1e-14) << j;
  EXPECT_EQ(batch.place(0).active, (std::vector<std::int32_t>{0, 1, 4, 5}));
}

// A code t z along the solution z of orthonormal atoms is better than 0 while t is under 2.
TEST_P(GroupSetsOnDevice, StartsEndWhereNothingIsAsGood) {
  const auto unit = GuardedHost<double>::make(3, 3, [](std::int64_t i, std::int64_t j) { return i == j ? 1.0 : 0.0; });
  const auto X = GuardedHost<double>::make(3, 2, [](std::int64_t i, std::int64_t) { return i + 1.0; });
  Batch batch(context(), unit, X, 3, 3);
  const double share = 1 - 1 / std::sqrt(14.0);
  std::vector<std::vector<double>> codes;
  for (const double t : {1.99, 2.01}) codes.push_back({t * share, 2 * t * share, 3 * t * share});
  batch.start(codes);
  EXPECT_EQ(batch.code(0), codes[0]);
  EXPECT_EQ(batch.code(1), std::vector<double>(3, 0.0));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(batch.place(0).correlation[i], X(static_cast<std::int64_t>(i), 0) - codes[0][i], 1e-14);
    EXPECT_EQ(batch.place(1).correlation[i], X(static_cast<std::int64_t>(i), 0));
  }
}

// Sizes of groups on either side of a warp and of a panel, supports in each tier and beyond them.
TEST_P(GroupSetsOnDevice, RandomProblemsAreOptimal) {
  struct Shape {
    std::int64_t n, m, s;
  };
  for (const auto& [n, m, s] :
       {Shape{20, 60, 3}, {40, 90, 2}, {50, 96, 4}, {30, 66, 33}, {12, 65, 13}, {130, 150, 3}, {8, 24, 1}}) {
    SCOPED_TRACE(::testing::Message() << n << " x " << m << " in groups of " << s);
    Batch batch(context(), normal_atoms(n, m, 1), normal_atoms(n, 3, 2), s, m);
    batch.set_shares({0.7, 0.2, 0.01});
    batch.add_all(batch.all());
    batch.solve(batch.all());
    for (std::int64_t p = 0; p < 3; ++p) batch.expect_optimal(p);
    if (n == 130) {
      EXPECT_GT(batch.place(2).support, 96);
    }
  }
}

TEST_P(GroupSetsOnDevice, AgreesWithGroupSet) {
  const std::int64_t n = 24, m = 60, s = 3;
  const auto D = normal_atoms(n, m, 5), X = normal_atoms(n, 1, 6);
  Batch batch(context(), D, X, s, m);
  batch.set_shares({0.1});
  batch.add_all({0});
  batch.solve({0});
  const Context host = Context::cpu(1);
  const auto padded = testing::padded<double>(D);
  const GroupBasis basis(host, padded.matrix(), s);
  GroupSet set(host, s, m / s);
  set.clear(0);
  std::vector<std::int32_t> groups(index_of(m / s));
  std::iota(groups.begin(), groups.end(), 0);
  std::vector<double> correlations, thresholds(groups.size(), batch.lambda[0]);
  for (std::int64_t j = 0; j < m; ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += D(i, j) * X(i, 0);
    correlations.push_back(sum);
  }
  set.add(padded.matrix(), basis, groups.data(), correlations.data(), thresholds.data(), m / s);
  GroupSetScratch scratch;
  scratch.reserve(host, m);
  ASSERT_EQ(set.solve(scratch, kTolerance, kMostSteps), GroupSetOutcome::solved);
  const auto z = batch.code(0);
  for (std::int64_t g = 0; g < m / s; ++g)
    for (std::int64_t i = 0; i < s; ++i) EXPECT_NEAR(z[index_of(g * s + i)], set.code(g)[i], 1e-9) << g;
  EXPECT_EQ(batch.place(0).support, set.support() * s);
  EXPECT_NEAR(batch.place(0).steps, static_cast<double>(set.steps()), 2);  // sums are added in other orders
}

TEST_P(GroupSetsOnDevice, WeightsAndRidges) {
  std::vector<double> weights;
  for (std::int64_t g = 0; g < 20; ++g)
    weights.push_back(g % 6 == 4 ? kInfinity : std::exp2(static_cast<double>(g % 5) - 2));
  for (const double ridge : {0.0, 7.0}) {
    Batch batch(context(), normal_atoms(25, 60, 1), normal_atoms(25, 2, 3), 3, 60, weights, ridge);
    batch.set_shares({0.3, 0.05});
    batch.add_all(batch.all());
    batch.solve(batch.all());
    for (std::int64_t p = 0; p < 2; ++p) {
      batch.expect_optimal(p);
      const auto z = batch.code(p);
      for (std::size_t j = 0; j < z.size(); ++j) EXPECT_TRUE(z[j] == 0 || j / 3 % 6 != 4) << j;
    }
  }
}

// Copies of groups, groups of zeros, and more groups than rows.
TEST_P(GroupSetsOnDevice, DependentGroups) {
  const auto base = normal_atoms(10, 60, 1);
  const auto D = GuardedHost<double>::make(10, 60, [&](std::int64_t i, std::int64_t j) {
    return j / 3 == 7 ? 0.0 : j >= 45 ? base(i, j - 45) : base(i, j);
  });
  Batch batch(context(), D, normal_atoms(10, 3, 2), 3, 60);
  batch.set_shares({0.5, 0.05, 1e-3});
  batch.add_all(batch.all());
  batch.solve(batch.all());
  for (std::int64_t p = 0; p < 3; ++p) batch.expect_optimal(p);
}

// Atoms that hardly differ, as those of a lead field: steps are cut at zeros and along lines.
TEST_P(GroupSetsOnDevice, SimilarGroups) {
  const auto base = normal_atoms(16, 120, 1);
  GuardedHost<double> D(16, 120);
  for (std::int64_t j = 0; j < 120; ++j)
    for (std::int64_t i = 0; i < 16; ++i) D(i, j) = j < 3 ? base(i, j) : 0.97 * D(i, j - 3) + 0.1 * base(i, j);
  Batch batch(context(), D, normal_atoms(16, 6, 2), 3, 120);
  batch.set_shares({0.6, 0.3, 0.1, 0.03, 0.01, 1e-3});
  batch.add_all(batch.all());
  batch.solve(batch.all());
  for (std::int64_t p = 0; p < 6; ++p) batch.expect_optimal(p);
}

TEST_P(GroupSetsOnDevice, GroupsJoinASolvedSet) {
  Batch batch(context(), normal_atoms(30, 90, 1), normal_atoms(30, 2, 2), 3, 90);
  batch.set_shares({0.1, 0.02});
  for (std::int32_t g = 0; g < 30; g += 6) {
    batch.add(batch.all(), {g, g + 1, g + 2, g + 3, g + 4, g + 5});
    batch.solve(batch.all());
    for (std::int64_t p = 0; p < 2; ++p) batch.expect_optimal(p);
  }
}

TEST_P(GroupSetsOnDevice, StartsAreTheirCodesOrNothing) {
  Batch cold(context(), normal_atoms(12, 24, 1), normal_atoms(12, 4, 2), 3, 24);
  cold.set_shares({0.1});
  cold.add_all(cold.all());
  cold.solve(cold.all());
  Batch batch(context(), normal_atoms(12, 24, 1), normal_atoms(12, 4, 2), 3, 24);
  batch.lambda = cold.lambda;
  // Its solution, a code that is worse than 0, one that is no number, none.
  auto far = cold.code(1);
  for (double& z : far) z = 100;
  auto broken = cold.code(2);
  broken[7] = std::numeric_limits<double>::quiet_NaN();
  batch.start({cold.code(0), far, broken, {}});
  const auto started = batch.place(0);
  EXPECT_EQ(started.code, cold.place(0).code);
  EXPECT_EQ(started.support, cold.place(0).support);
  EXPECT_EQ(batch.place(3).size, 0);
  for (const std::int64_t p : {1, 2}) {
    EXPECT_EQ(batch.place(p).size, 24);
    EXPECT_EQ(batch.place(p).support, 0);
    EXPECT_EQ(batch.code(p), std::vector<double>(24, 0.0));
  }
  batch.solve({0, 1, 2});
  EXPECT_LE(batch.place(0).steps, 1);
  for (std::int64_t p = 0; p < 3; ++p) batch.expect_optimal(p);
}

TEST_P(GroupSetsOnDevice, BitsAreThoseOfAnyCapacityPlaceAndCompany) {
  const auto D = normal_atoms(40, 60, 1), X = normal_atoms(40, 5, 2);
  const auto run = [&](std::int64_t capacity, const std::vector<std::int64_t>& columns) {
    const auto some =
        GuardedHost<double>::make(40, static_cast<std::int64_t>(columns.size()),
                                  [&](std::int64_t i, std::int64_t p) { return X(i, columns[index_of(p)]); });
    Batch batch(context(), D, some, 3, capacity);
    for (std::size_t p = 0; p < columns.size(); ++p)
      batch.lambda[p] = (0.3 / static_cast<double>(columns[p] + 1)) * batch.lambda_max(static_cast<std::int64_t>(p));
    batch.add_all(batch.all());
    batch.solve(batch.all());
    std::vector<Place> found;
    for (std::int64_t p = 0; p < batch.places(); ++p) found.push_back(batch.place(p));
    return found;
  };
  const auto whole = run(60, {0, 1, 2, 3, 4});
  // Where a place's vectors leave no room for the matrix it lies in device memory.
  for (const std::int64_t capacity : {61, 200, 1000}) EXPECT_EQ(run(capacity, {0, 1, 2, 3, 4}), whole) << capacity;
  EXPECT_EQ(run(60, {3, 1}), (std::vector<Place>{whole[3], whole[1]}));
}

TEST_P(GroupSetsOnDevice, LeavesPlacesAlone) {
  Batch batch(context(), normal_atoms(20, 30, 1), normal_atoms(20, 3, 2), 3, 30);
  batch.set_shares({0.2});
  batch.add_all(batch.all());
  const Place first = batch.place(0), last = batch.place(2);
  batch.tolerance[2] = -1;
  batch.solve({1, 2});
  EXPECT_EQ(batch.place(0), first);
  EXPECT_EQ(batch.place(2), last);
  batch.expect_optimal(1);
}

TEST_P(GroupSetsOnDevice, EmptySetsAreSolved) {
  Batch batch(context(), normal_atoms(20, 30, 1), normal_atoms(20, 1, 2), 3, 30);
  batch.solve({0});
  EXPECT_EQ(batch.place(0).outcome, kSetsSolved);
  EXPECT_EQ(batch.place(0).support, 0);
}

TEST_P(GroupSetsOnDevice, StopsAfterTheStepsItMayTake) {
  Batch batch(context(), normal_atoms(20, 60, 1), normal_atoms(20, 1, 2), 3, 60);
  batch.set_shares({0.01});
  batch.add_all({0});
  batch.solve({0}, 2);
  EXPECT_EQ(batch.place(0).outcome, kSetsStuck);
  EXPECT_EQ(batch.place(0).steps, 2);
  batch.solve({0});
  batch.expect_optimal(0);
}

TEST_P(GroupSetsOnDevice, RefusesWhatDoesNotFit) {
  Batch batch(context(), normal_atoms(20, 30, 1), normal_atoms(20, 1, 2), 3, 30);
  EXPECT_THROW(batch.solve({0}, -1), ValueError);
  batch.penalty.group_size = 4;
  EXPECT_THROW(batch.solve({0}), ShapeError);
  EXPECT_THROW(batch.start({{1, 1, 1, 1}}), ShapeError);
  batch.penalty.group_size = 3;
  batch.penalty.nonnegative = true;
  EXPECT_THROW(batch.solve({0}), ValueError);
  EXPECT_THROW(batch.start({{1, 1, 1}}), ValueError);
  Batch large(context(), normal_atoms(20, 30, 1), normal_atoms(20, 1, 2), 3, 1700);
  EXPECT_THROW(large.solve({0}), ValueError);
}

}  // namespace
}  // namespace shrinkwarp
