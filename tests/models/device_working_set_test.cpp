// Pools of places on a device: problems that outgrow theirs, wait for a larger one and come to the same bits there.
#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/device_working_set.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>

#include "tests/support/contexts.hpp"

namespace shrinkwarp {
namespace {

using Problem = DeviceWorkingSetBatch::Problem;
using Pools = std::vector<DeviceWorkingSetPlan::Pool>;

constexpr std::int64_t kRows = 40, kAtoms = 150;

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 7, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

struct Result {
  Problem problem;
  std::vector<std::int32_t> indices;
  std::vector<double> values;
};

bool same_bits(const Result& a, const Result& b) {
  return a.indices == b.indices && a.values == b.values && a.problem.lambda == b.problem.lambda &&
         a.problem.scale == b.problem.scale && a.problem.energy == b.problem.energy &&
         a.problem.primal == b.problem.primal && a.problem.gap == b.problem.gap &&
         a.problem.iterations == b.problem.iterations && a.problem.stuck == b.problem.stuck;
}

class DeviceWorkingSet : public testing::OnContext {
 protected:
  const std::vector<double> D = normal(kRows * kAtoms, 0);
  std::vector<double> X;
  LassoOptions options;
  std::vector<double> lambdas;  // given, in the user's units; empty: the fraction
  static constexpr double kFraction = 0.05;

  void make(std::int64_t problems) { X = normal(kRows * problems, 1); }
  std::int64_t problems() const { return static_cast<std::int64_t>(X.size()) / kRows; }

  /// All problems, as a stream gives them in: what comes out by index.
  std::map<std::int64_t, Result> run(const Pools& pools) {
    options.gap = 1e-9;
    const Dictionary dictionary(context(), {D.data(), kRows, kAtoms, kRows, {}});
    DeviceWorkingSetPlan plan;
    plan.pools = pools;
    DeviceWorkingSetBatch batch(context(), dictionary, options, plan, kFraction, [this](std::int64_t i) {
      return lambdas.empty() ? -1.0 : lambdas[static_cast<std::size_t>(i)];
    });
    std::map<std::int64_t, Result> results;
    std::int64_t next = 0, rounds = 0;
    EXPECT_EQ(batch.room(), (pools.front().places + 1) / 2);  // of the first of two pools
    EXPECT_EQ(batch.running(), 0);
    std::int64_t room_in_all = 0;
    while (next < problems() || batch.running() > 0) {
      const std::int64_t count = std::min(batch.room(), problems() - next), room = batch.room();
      std::vector<Problem> fresh(static_cast<std::size_t>(count));
      for (Problem& problem : fresh) problem.index = next++;
      const std::int64_t running = batch.running();
      std::copy_n(X.data() + (next - count) * kRows, count * kRows, batch.staging().data);
      batch.admit(fresh);
      EXPECT_EQ(batch.room(), room - count);
      EXPECT_EQ(batch.running(), running + count);
      batch.advance();
      SparseCodes codes;
      std::int64_t i = 0;
      for (const Problem& problem : batch.retire(codes)) {
        const auto begin = codes.offsets[static_cast<std::size_t>(i)],
                   end = codes.offsets[static_cast<std::size_t>(i) + 1];
        ++i;
        EXPECT_EQ(results.count(problem.index), 0U) << problem.index << " came twice";
        results[problem.index] = {problem,
                                  {codes.indices.begin() + begin, codes.indices.begin() + end},
                                  {codes.values.begin() + begin, codes.values.begin() + end}};
      }
      EXPECT_EQ(codes.size(), i);
      EXPECT_EQ(batch.running() + static_cast<std::int64_t>(results.size()), next);  // none is lost on its way
      if (++rounds > 1000) {
        ADD_FAILURE() << "no end after a thousand rounds";
        break;
      }
    }
    EXPECT_TRUE(batch.retire(none_).empty());  // each leaves once
    for (int turn = 0; turn < 2; ++turn, batch.advance()) room_in_all += batch.room();
    EXPECT_EQ(room_in_all, std::max<std::int64_t>(pools.front().places, 2));  // a single pool comes twice
    EXPECT_EQ(static_cast<std::int64_t>(results.size()), problems());
    return results;
  }
  void expect_same(const std::map<std::int64_t, Result>& a, const std::map<std::int64_t, Result>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [index, result] : a) EXPECT_TRUE(same_bits(result, b.at(index))) << index;
  }

 private:
  SparseCodes none_;
};
SHRINKWARP_ON_CUDA(DeviceWorkingSet);

TEST_P(DeviceWorkingSet, ProblemsThatOutgrowTheirPlacesComeToTheSameBits) {
  for (const std::int64_t group_size : {1, 3}) {
    SCOPED_TRACE(::testing::Message() << "groups of " << group_size);
    options.penalty.group_size = group_size;
    make(3);
    const auto wanted = run({{kAtoms, 3}});
    std::size_t most = 0, fewest = kAtoms;
    for (const auto& [index, result] : wanted) {
      EXPECT_FALSE(result.problem.stuck);
      EXPECT_LE(result.problem.gap, 1e-9 * result.problem.energy);
      most = std::max(most, result.indices.size());
      fewest = std::min(fewest, result.indices.size());
      EXPECT_TRUE(std::is_sorted(result.indices.begin(), result.indices.end()));
    }
    EXPECT_GT(fewest, 20U);  // so each outgrows the first places below
    // All outgrow them in the same round and wait for the one place of the next ones; then for that of the last.
    expect_same(run({{20, 3}, {36, 1}, {kAtoms, 1}}), wanted);
    // One after the other, and with more room behind.
    expect_same(run({{20, 1}, {kAtoms, 3}}), wanted);
  }
}

TEST_P(DeviceWorkingSet, PlacesAreUsedAgain) {
  make(4);
  const auto wanted = run({{kAtoms, 4}});
  expect_same(run({{kAtoms, 1}}), wanted);
  expect_same(run({{60, 3}, {kAtoms, 2}}), wanted);
}

TEST_P(DeviceWorkingSet, LambdaMayBeGiven) {
  make(3);
  const auto found = run({{kAtoms, 3}});
  const Dictionary dictionary(context(), {D.data(), kRows, kAtoms, kRows, {}});
  for (const auto& [index, result] : found)
    lambdas.push_back(result.problem.lambda * result.problem.scale * dictionary.scale());
  expect_same(run({{30, 2}, {kAtoms, 1}}), found);
}

TEST_P(DeviceWorkingSet, InitialCodesComeToTheSameBitsInAnyPlaces) {
  for (const std::int64_t group_size : {1, 3}) {
    SCOPED_TRACE(::testing::Message() << "groups of " << group_size);
    make(4);
    options.initial = nullptr;
    options.penalty.group_size = group_size;
    options.penalty.weights.assign(static_cast<std::size_t>(kAtoms / group_size), 2.0);
    options.penalty.ridge = 1;
    const auto cold = run({{kAtoms, 4}});
    // The solution, unordered with an atom twice; half of it; an entry; more atoms than the first places have room for.
    SparseCodes initial;
    for (const auto& [index, result] : cold) {
      std::size_t size = result.indices.size();
      if (index == 1) size /= 2;
      if (index == 2) size = 1;
      for (std::size_t k = size; k-- > 0;) {
        initial.indices.push_back(result.indices[k]);
        initial.values.push_back(result.values[k]);
      }
      if (index == 0) {
        initial.indices.push_back(result.indices[0]);
        initial.values.push_back(1e9);
      }
      for (std::int32_t j = 0; index == 3 && j < 100; ++j) {
        initial.indices.push_back(j);
        initial.values.push_back(1e-9);
      }
      initial.offsets.push_back(static_cast<std::int64_t>(initial.values.size()));
    }
    options.initial = &initial;
    const auto warm = run({{kAtoms, 4}});
    EXPECT_EQ(warm.at(0).problem.iterations, 0);
    for (const auto& [index, result] : warm) {
      EXPECT_FALSE(result.problem.stuck);
      EXPECT_LE(result.problem.gap, 1e-9 * result.problem.energy);
      EXPECT_NEAR(result.problem.primal, cold.at(index).problem.primal, 2e-9 * result.problem.energy);
      EXPECT_EQ(result.problem.lambda, cold.at(index).problem.lambda);
    }
    expect_same(run({{24, 3}, {70, 1}, {kAtoms, 2}}), warm);
    // A code that no place has room for is none.
    const auto small = run({{99, 4}});
    EXPECT_TRUE(same_bits(small.at(0), warm.at(0)));
    options.initial = nullptr;
    EXPECT_TRUE(same_bits(small.at(3), run({{99, 4}}).at(3)));
  }
}

TEST_P(DeviceWorkingSet, WhatOutgrowsTheLargestPlacesIsGivenUp) {
  make(4);
  for (const auto& [index, result] : run({{16, 2}, {24, 1}})) {
    EXPECT_TRUE(result.problem.stuck);
    EXPECT_EQ(result.problem.index, index);
    EXPECT_LT(result.problem.lambda, 0);  // to be found once more
    EXPECT_EQ(result.problem.iterations, 0);
    EXPECT_TRUE(result.indices.empty());
  }
}

TEST_P(DeviceWorkingSet, BytesAreEnough) {
  for (const std::int64_t n : {1, 40, 302}) {
    for (const std::int64_t m : {1, 150, 6138}) {
      for (const std::int64_t capacity : {1, 192, 1024}) {
        for (const auto& [places, s] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {7, 3}, {512, 1}, {512, 20}}) {
          if (m % s != 0) continue;
          Arena counting(context().device());
          ActiveSets::lay_out(counting, capacity, places);
          WorkingSetProblems::lay_out(counting, n, places, s);
          counting.matrix<double>(n, places);  // observations and lambdas on their way in, keys, the list
          counting.vector<double>(places);
          counting.matrix<std::uint32_t>((m / s * group_columns(s) + 7) / 8, places);
          counting.vector<std::int32_t>(places);
          counting.vector<std::int64_t>(places);  // codes on their way out
          counting.vector<std::int32_t>(32 * places);
          counting.vector<double>(32 * places);
          const std::int64_t wanted = counting.used() + HalfColumns::bytes(n, places);
          const std::int64_t said = DevicePool::bytes(n, m, capacity, places, s);
          EXPECT_GE(said, wanted) << n << " x " << m << ", " << places << " of " << capacity;
          EXPECT_LE(said, wanted + wanted / 10 + 16384) << n << " x " << m << ", " << places << " of " << capacity;
        }
      }
    }
  }
}

}  // namespace
}  // namespace shrinkwarp
