// Solves on a device that has no more memory than memory_limit: on the host executor, whose memory can be any.
#ifdef SHRINKWARP_SIMT
#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/lasso/device_pool.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/memory_plan.hpp>

#include "tests/support/simt/executor.hpp"

namespace shrinkwarp {
namespace {

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 7, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

// The dictionary's memory is in the limit too: all of it is made and given out here.
TEST(MemoryLimit, IsAllThatASolveOnADeviceTakes) {
  constexpr std::int64_t n = 40, m = 1200, N = 2;
  const std::vector<double> D = normal(n * m, 1), X = normal(n * N, 2);
  for (const std::int64_t s : {1, 12, 150}) {
    for (const bool weighted : {false, true}) {
      if (weighted && s != 12) continue;
      for (const std::int64_t more : {0, 4 << 20}) {
        LassoOptions options;
        options.solver = Solver::working_set;
        options.penalty.group_size = s;
        if (weighted) options.penalty.weights.assign(static_cast<std::size_t>(m / s), 2.0);
        options.memory_limit = more + least_memory(Context::cuda(), n, m, options.solver, options.penalty);
        SCOPED_TRACE(::testing::Message() << "groups of " << s << ", weights " << weighted << ", " << more << " more");
        simt::Settings settings = simt::settings();
        settings.device_memory = static_cast<std::size_t>(options.memory_limit);
        const simt::ScopedSettings scoped(settings);
        const Context context = Context::cuda();
        const Dictionary dictionary(context, {D.data(), n, m, n, {}});
        const LassoBatch batch =
            solve_lasso(context, dictionary, {X.data(), n, N, n, {}}, LambdaRule::sample_fraction(0.7), options);
        for (const bool converged : batch.converged) EXPECT_TRUE(converged);
      }
    }
  }
}

TEST(MemoryLimit, PlansOfPoolsKeepIt) {
  constexpr std::int64_t n = 302, m = 1200;
  const std::vector<double> D = normal(n * m, 1);
  const Context context = Context::cuda();
  const Dictionary dictionary(context, {D.data(), n, m, n, {}});
  for (const std::int64_t s : {1, 3, 100}) {
    Penalty penalty;
    penalty.group_size = s;
    const std::int64_t least = least_memory(context, n, m, Solver::working_set, penalty);
    std::int64_t before = 0;
    for (const std::int64_t more : {0, 20, 60, 200, 2000}) {
      const std::int64_t limit = least + (more << 20);
      const DeviceWorkingSetPlan plan = plan_device_working_set(context, dictionary, 100000, limit, penalty);
      std::int64_t pools = 0;
      for (const auto& pool : plan.pools) {
        EXPECT_GE(pool.places, 1);
        pools += DevicePool::bytes(n, m, pool.capacity, pool.places, s);
      }
      EXPECT_LE(pools, limit);
      // What more there is, the pools have, but for a place of the largest and what waits in double.
      if (more >= 60) {
        EXPECT_GT(pools, before + (more << 19) / 4) << more;
      }
      if (more < 60) before = pools;
    }
  }
}

}  // namespace
}  // namespace shrinkwarp

#endif  // SHRINKWARP_SIMT
