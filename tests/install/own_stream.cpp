// Work on a CUDA stream of the host program. It needs the CUDA run time itself, for its stream, and no nvcc.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <cuda_runtime.h>

#include <shrinkwarp/models/lasso/lasso.hpp>

#include "expect.hpp"

int main() {
  if (shrinkwarp::cuda_device_count() == 0) {
    std::printf("skipped: %s\n", shrinkwarp::cuda_unavailable_reason().c_str());
    const char* const required = std::getenv("SHRINKWARP_REQUIRE_GPU");
    return required && std::strcmp(required, "1") == 0;
  }
  const std::int64_t n = 3, N = 2;
  const std::vector<double> D = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const std::vector<double> X = {3, -0.5, 0, -2, 1, 4};

  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  {
    const shrinkwarp::Context context = shrinkwarp::Context::cuda_on(stream);
    const shrinkwarp::Dictionary dictionary(context, {D.data(), n, n, n, {}});
    const shrinkwarp::LassoBatch batch = shrinkwarp::solve_lasso(
        context, dictionary, {X.data(), n, N, n, {}}, shrinkwarp::LambdaRule::value(1.25), shrinkwarp::LassoOptions{});
    expect(batch.codes.size() == N && batch.converged[0] && batch.converged[1], "both problems are solved");
    expect(batch.codes.offsets == std::vector<std::int64_t>({0, 1, 3}), "by one atom and by two");
  }
  cudaStreamDestroy(stream);
}
