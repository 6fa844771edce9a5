// Tests that run on every backend: cpu with one and with three threads, and CUDA where there is a device. They are
// compiled once and linked twice, with the library and with the host executor, where Context::cuda() is the executor.
//
//   class ProxStep : public testing::OnContext {};
//   SHRINKWARP_ON_EVERY_CONTEXT(ProxStep);
//   TEST_P(ProxStep, DoesSomething) { ... context() ... }
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp::testing {

class OnContext : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    if (name == "cpu1") {
      context_ = Context::cpu(1);
    } else if (name == "cpu3") {
      context_ = Context::cpu(3);
    } else if (cuda_device_count() > 0) {
      context_ = Context::cuda();
    } else {
      const char* const required = std::getenv("SHRINKWARP_REQUIRE_GPU");
      if (required && std::string(required) == "1") FAIL() << "a GPU is required: " << cuda_unavailable_reason();
      GTEST_SKIP() << "no GPU: " << cuda_unavailable_reason();
    }
  }
  const Context& context() const { return *context_; }

 private:
  std::optional<Context> context_;
};

#ifdef __SANITIZE_THREAD__
/// Looks for races, and makes kernels a hundred times slower: tests may leave their largest shapes out.
inline constexpr bool kThreadSanitizer = true;
#define SHRINKWARP_EVERY_CONTEXT "cpu3", "cuda"  // one thread has no races
#else
inline constexpr bool kThreadSanitizer = false;
#define SHRINKWARP_EVERY_CONTEXT "cpu1", "cpu3", "cuda"
#endif

#define SHRINKWARP_ON_EVERY_CONTEXT(Fixture)                                       \
  INSTANTIATE_TEST_SUITE_P(, Fixture, ::testing::Values(SHRINKWARP_EVERY_CONTEXT), \
                           [](const ::testing::TestParamInfo<const char*>& info) { return std::string(info.param); })
/// For what makes its own threads on the CPU.
#define SHRINKWARP_ON_CPU_AND_CUDA(Fixture)                              \
  INSTANTIATE_TEST_SUITE_P(, Fixture, ::testing::Values("cpu1", "cuda"), \
                           [](const ::testing::TestParamInfo<const char*>& info) { return std::string(info.param); })
/// For what only CUDA promises.
#define SHRINKWARP_ON_CUDA(Fixture)                              \
  INSTANTIATE_TEST_SUITE_P(, Fixture, ::testing::Values("cuda"), \
                           [](const ::testing::TestParamInfo<const char*>& info) { return std::string(info.param); })

/// rows x cols values with leading dimension `rows`, copied to the context's device.
template <class T>
Tensor<T> to_device(const Context& context, const std::vector<T>& values, std::int64_t rows, std::int64_t cols = 1) {
  Tensor<T> tensor(context, rows, cols);
  copy(context, VectorView<const T>{values.data(), rows * cols, {}}, tensor.vector());
  context.synchronize();
  return tensor;
}

/// The elements of a vector on the context's device, after what is queued has run.
template <class T>
std::vector<T> values_of(const Context& context, VectorView<const T> view) {
  std::vector<T> values(static_cast<std::size_t>(view.size));
  copy(context, view, VectorView<T>{values.data(), view.size, {}});
  context.synchronize();
  return values;
}

/// All values of a tensor, after what is queued has run.
template <class T>
std::vector<T> to_host(const Context& context, const Tensor<T>& tensor) {
  return values_of<T>(context, tensor.vector());
}

}  // namespace shrinkwarp::testing
