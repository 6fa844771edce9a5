// Context, thread pool, tensors, views, arena, errors.
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/event.hpp>
#include <shrinkwarp/runtime/profile.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

TEST(Context, RunsEachIterationOnceWhateverTheThreads) {
  for (const int threads : {1, 2, 5}) {
    const Context context = Context::cpu(threads);
    ASSERT_EQ(context.threads(), threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
      std::atomic<bool> worker_in_range{true};
      context.parallel_for(count, [&](std::int64_t i, int worker) {
        hits[static_cast<std::size_t>(i)].fetch_add(1);
        if (worker < 0 || worker >= threads) worker_in_range = false;
      });
      for (const auto& hit : hits) ASSERT_EQ(hit.load(), 1);
      ASSERT_TRUE(worker_in_range);
    }
  }
}

TEST(Context, RunsManyLoopsInARow) {
  const Context context = Context::cpu(3);
  std::atomic<std::int64_t> sum{0};
  for (int loop = 0; loop < 5000; ++loop) context.parallel_for(4, [&](std::int64_t i, int) { sum += i; });
  EXPECT_EQ(sum.load(), 5000 * 6);
}

TEST(Context, RethrowsWhatABodyThrowsAndGoesOn) {
  const Context context = Context::cpu(3);
  EXPECT_THROW(context.parallel_for(100,
                                    [](std::int64_t i, int) {
                                      if (i == 41) throw std::out_of_range("41");
                                    }),
               std::out_of_range);
  std::atomic<int> hits{0};
  context.parallel_for(100, [&](std::int64_t, int) { ++hits; });
  EXPECT_EQ(hits.load(), 100);
}

// A container or a user may have a limit of threads; here address space for their stacks runs out, of which the sanitizers
// reserve more than the test could limit.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Context, ThreadsThatCannotBeMadeAreAnError) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  const rlimit limited{std::min<rlim_t>(rlim_t{1} << 30, before.rlim_max), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limited), 0);
  std::string found;
  try {
    Context::cpu(100000);
  } catch (const Error& error) {
    found = error.what();
  }
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  EXPECT_NE(found.find("of 100000 threads"), std::string::npos) << found;
  EXPECT_EQ(Context::cpu(3).threads(), 3);
}
#endif

TEST(Context, NamesWhatItRefuses) {
  EXPECT_THROW(Context::cpu(-1), ValueError);
  EXPECT_THROW(Context::cpu(1).cublas(), BackendUnavailable);
  EXPECT_THROW(Context::cpu(1).allocate(-5), ValueError);
  try {
    Context::cpu(1).allocate(std::int64_t{1} << 60);
    FAIL() << "an exabyte was allocated";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.bytes(), std::int64_t{1} << 60);
    EXPECT_NE(std::string(error.what()).find("1152921504606846976"), std::string::npos) << error.what();
  }
}

TEST(Context, SaysWhyThereIsNoCuda) {
  if (cuda_device_count() > 0) {
    EXPECT_EQ(cuda_unavailable_reason(), "");
    EXPECT_TRUE(Context::best().is_cuda());
    EXPECT_THROW(Context::cuda(cuda_device_count()), BackendUnavailable);
  } else {
    EXPECT_NE(cuda_unavailable_reason(), "");
    EXPECT_FALSE(Context::best().is_cuda());
    EXPECT_THROW(Context::cuda(), BackendUnavailable);
    EXPECT_THROW(Context::cuda_on(nullptr), BackendUnavailable);
  }
}

TEST(Tensor, MovesAndCopiesWithPitch) {
  const Context context = Context::cpu(1);
  Tensor<float> source = Tensor<float>::zeros(context, 3, 4);
  std::iota(source.data(), source.data() + 12, 0.0f);
  const float* const data = source.data();
  Tensor<float> moved = std::move(source);
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(source.data(), nullptr);
  EXPECT_EQ(source.size(), 0);

  Tensor<float> target = Tensor<float>::zeros(context, 5, 4);
  const MatrixView<float> window{target.data() + 1, 3, 4, 5, {}};
  copy(context, moved.matrix(), window);
  for (std::int64_t j = 0; j < 4; ++j) {
    EXPECT_EQ(target.matrix()(0, j), 0.0f);
    for (std::int64_t i = 0; i < 3; ++i) EXPECT_EQ(target.matrix()(i + 1, j), static_cast<float>(i + 3 * j));
    EXPECT_EQ(target.matrix()(4, j), 0.0f);
  }
  EXPECT_THROW(copy(context, moved.matrix(), target.matrix()), ShapeError);
  EXPECT_THROW(Tensor<float>(context, -1, 2), ShapeError);
  EXPECT_THROW(Tensor<double>(context, std::int64_t{1} << 31, std::int64_t{1} << 30), OutOfMemory);
}

TEST(Tensor, RefusesToCopyToAnotherDevice) {
  const Context context = Context::cpu(1);
  const Tensor<float> tensor = Tensor<float>::zeros(context, 2, 2);
  MatrixView<float> elsewhere = tensor.matrix();
  elsewhere.device = {DeviceType::cuda, 7};
  EXPECT_THROW(copy(context, tensor.matrix(), elsewhere), DeviceError);
}

TEST(Arena, CountsWhatItHandsOut) {
  const Context context = Context::cpu(1);
  const auto lay_out = [](Arena& arena) {
    const MatrixView<double> matrix = arena.matrix<double>(7, 3);
    const VectorView<std::uint8_t> vector = arena.vector<std::uint8_t>(300);
    return std::make_pair(matrix, vector);
  };
  Arena counter(context.device());
  lay_out(counter);
  EXPECT_EQ(counter.used(), 256 + 512);
  Arena arena(context, counter.used());
  const auto [matrix, vector] = lay_out(arena);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(matrix.data) % 256, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(vector.data) % 256, 0u);
  EXPECT_EQ(static_cast<void*>(vector.data), static_cast<void*>(reinterpret_cast<char*>(matrix.data) + 256));
  EXPECT_THROW(arena.vector<float>(1), OutOfMemory);
}

TEST(Event, IsNothingOnTheCpu) {
  const Context context = Context::cpu(2), other = Context::cpu(1);
  Event event(context);
  event.record(context);
  Event moved = std::move(event);
  event = Event(other);
  moved.wait(other);
  moved.synchronize();
  event.synchronize();
}

TEST(Profile, AddsUpPhases) {
  const Context context = Context::cpu(1);
  Profile profile;
  const char* const name = "phase";
  for (int i = 0; i < 3; ++i) const PhaseTimer timer(context, &profile, name, 10, 20);
  ASSERT_EQ(profile.phases().size(), 1u);
  EXPECT_EQ(profile.phases()[0].calls, 3);
  EXPECT_EQ(profile.phases()[0].flops, 30);
  EXPECT_EQ(profile.phases()[0].bytes, 60);
  EXPECT_GE(profile.phases()[0].seconds, 0);
}

TEST(Error, KeepsWhereItWasThrown) {
  try {
    SHRINKWARP_REQUIRE(1 > 2, ShapeError, "found ", 1, ", wanted ", 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "found 1, wanted 2");
    EXPECT_NE(std::string(error.file()).find("runtime_test.cpp"), std::string::npos);
    EXPECT_GT(error.line(), 0);
  }
}

TEST(CancelToken, StaysCancelled) {
  CancelToken token;
  EXPECT_FALSE(token.cancelled());
  token.cancel();
  EXPECT_TRUE(token.cancelled());
}

}  // namespace
}  // namespace shrinkwarp
