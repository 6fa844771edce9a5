// What a host program with CUDA code of its own does: its kernels make observations on its stream, the solver works on
// that stream between device pointers, its kernels go on with the codes. On the host executor in every order, once on a
// GPU (built by nvcc).
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/models/lasso/prepared_lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/graph.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr int kSize = 32;
constexpr int kCount = 5;

class Embedding : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    if (std::getenv("SHRINKWARP_REQUIRE_GPU") != nullptr) FAIL() << cuda_unavailable_reason();
    GTEST_SKIP() << cuda_unavailable_reason();
  }
};

/// Entry i of observation b; many times each other's size, of both signs.
__host__ __device__ float entry(int i, int b) {
  return static_cast<float>((i * 7 + b * 3) % 11 - 5) * 0.25f;
}
__global__ void observe_kernel(float* X) {
  X[threadIdx.x + blockIdx.x * kSize] = entry(static_cast<int>(threadIdx.x), static_cast<int>(blockIdx.x));
}
__global__ void double_kernel(double* Z) {
  Z[threadIdx.x + blockIdx.x * kSize] *= 2;
}

void solve_on(CudaStream stream) {
  std::vector<double> identity(kSize * kSize, 0.0);
  for (int i = 0; i < kSize; ++i) identity[static_cast<std::size_t>(i * kSize + i)] = 1;
  const Context context = Context::cuda_on(stream);
  EXPECT_EQ(Graph::can_record(context), stream != nullptr && stream != cudaStreamLegacy);
  const Dictionary D(context, MatrixView<const double>{identity.data(), kSize, kSize, kSize, {}});
  const Tensor<float> X(context, kSize, kCount);
  const Tensor<double> Z(context, kSize, kCount);
  LassoOptions options;
  options.gap = 1e-12;
  PreparedLasso prepared(context, D, options, kCount);
  for (int round = 0; round < 2; ++round) {
    launch(observe_kernel, kCount, kSize, 0, stream, X.data());
    const PreparedResults& results = prepared.solve(X.matrix(), LambdaRule::value(0.5), Z.matrix());
    EXPECT_EQ(results.unconverged, 0);
    launch(double_kernel, kCount, kSize, 0, stream, Z.data());
    std::vector<double> codes(kSize * kCount);
    copy(context, Z.vector(), VectorView<double>{codes.data(), kSize * kCount, {}});
    context.synchronize();
    for (int b = 0; b < kCount; ++b)
      for (int i = 0; i < kSize; ++i) {
        const double x = entry(i, b);
        const double wanted = 2 * std::copysign(std::fmax(std::fabs(x) - 0.5, 0), x);
        // A gap of g leaves a code within sqrt(2 g) of the soft-threshold, for the objective is 1-strongly convex.
        const double within = 2 * std::sqrt(2 * results.dual_gap[b]) + 1e-15;
        EXPECT_NEAR(codes[static_cast<std::size_t>(b * kSize + i)], wanted, within) << i << ", " << b;
      }
  }
}

TEST_F(Embedding, SolvesOnTheCallersStream) {
  cudaStream_t stream = nullptr;
  SHRINKWARP_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  solve_on(stream);
  SHRINKWARP_CUDA_CHECK(cudaStreamDestroy(stream));
}

TEST_F(Embedding, SolvesOnTheLegacyDefaultStream) {
  solve_on(nullptr);
  solve_on(cudaStreamLegacy);
}

TEST_F(Embedding, GraphsKeepTheBits) {
  // Recorded blocks on a stream of its own, none on the legacy stream: 200 iterations of problems that all run on.
  std::vector<double> D(kSize * 3 * kSize);
  for (std::size_t i = 0; i < D.size(); ++i) D[i] = static_cast<double>((i * i + 3 * i) % 17) - 8;
  std::vector<float> X(kSize * kCount);
  for (int b = 0; b < kCount; ++b)
    for (int i = 0; i < kSize; ++i) X[static_cast<std::size_t>(b * kSize + i)] = entry(i, b);
  std::vector<std::vector<double>> found;
  for (const bool recorded : {false, true}) {
    const Context context = recorded ? Context::cuda() : Context::cuda_on(nullptr);
    const Dictionary dictionary(context, MatrixView<const double>{D.data(), kSize, 3 * kSize, kSize, {}});
    const Tensor<float> placed(context, kSize, kCount);
    copy(context, VectorView<const float>{X.data(), kSize * kCount, {}}, placed.vector());
    const Tensor<double> Z(context, 3 * kSize, kCount);
    LassoOptions options;
    options.gap = 1e-13;
    options.max_iterations = 190;
    PreparedLasso prepared(context, dictionary, options, kCount);
    const PreparedResults& results = prepared.solve(placed.matrix(), LambdaRule::sample_fraction(0.05), Z.matrix());
    EXPECT_GT(results.iterations[0], 100);  // long enough for a graph to be launched again
    found.emplace_back(3 * kSize * kCount);
    copy(context, Z.vector(), VectorView<double>{found.back().data(), 3 * kSize * kCount, {}});
    context.synchronize();
  }
  EXPECT_EQ(found[0], found[1]);
}

}  // namespace
}  // namespace shrinkwarp
