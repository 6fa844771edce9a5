// Observations and codes on the device, work on a CUDA stream of the host program. It needs the CUDA run time itself, for
// its stream and its memory, and no nvcc.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <cuda_runtime.h>

#include <shrinkwarp/models/lasso/prepared_lasso.hpp>

#include "expect.hpp"

int main() {
  if (shrinkwarp::cuda_device_count() == 0) {
    std::printf("skipped: %s\n", shrinkwarp::cuda_unavailable_reason().c_str());
    const char* const required = std::getenv("SHRINKWARP_REQUIRE_GPU");
    return required && std::strcmp(required, "1") == 0;
  }
  const std::int64_t n = 3, m = 3, N = 2;
  const std::vector<double> D = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const std::vector<float> observed = {3, -0.5f, 0, -2, 1, 4};
  std::vector<double> codes(static_cast<std::size_t>(m * N));

  cudaStream_t stream = nullptr;
  float* X = nullptr;
  double* Z = nullptr;
  cudaStreamCreate(&stream);
  cudaMalloc(reinterpret_cast<void**>(&X), n * N * sizeof(float));
  cudaMalloc(reinterpret_cast<void**>(&Z), m * N * sizeof(double));
  {
    // Once: everything that is needed to solve up to N problems at a time.
    const shrinkwarp::Context context = shrinkwarp::Context::cuda_on(stream);
    const shrinkwarp::Dictionary dictionary(context, {D.data(), n, m, n, {}});
    void* memory = nullptr;
    const std::int64_t bytes = shrinkwarp::PreparedLasso::workspace(context, dictionary, N);
    cudaMalloc(&memory, static_cast<std::size_t>(bytes));
    shrinkwarp::PreparedLasso lasso(context, dictionary, shrinkwarp::LassoOptions{}, N,
                                    {static_cast<std::byte*>(memory), bytes, context.device()});

    // As often as needed: device pointers in, device pointers out, nothing is allocated.
    cudaMemcpyAsync(X, observed.data(), observed.size() * sizeof(float), cudaMemcpyHostToDevice, stream);
    const shrinkwarp::PreparedResults& results =
        lasso.solve(shrinkwarp::MatrixView<const float>{X, n, N, n, context.device()},
                    shrinkwarp::LambdaRule::value(1.25), {Z, m, N, m, context.device()});
    cudaMemcpyAsync(codes.data(), Z, codes.size() * sizeof(double), cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    std::printf("worst relative gap %g\n", results.worst_gap);
    expect(results.unconverged == 0, "both problems are solved");
    cudaFree(memory);  // no call comes after it
  }
  expect(codes[0] > 1.7 && codes[1] == 0 && codes[3] < -0.7 && codes[4] == 0, "by the soft-threshold");
  cudaFree(Z);
  cudaFree(X);
  cudaStreamDestroy(stream);
}
