#include "tests/mutation/count.hpp"

#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>

namespace shrinkwarp::testing {
namespace {

constexpr int kThreads = 64;

__global__ void count_kernel(const float* values, std::int64_t size, int* total) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int count = block_sum<kThreads>(i < size && values[i] != 0.0f ? 1 : 0);
  if (threadIdx.x == 0) atomicAdd(total, count);
}

}  // namespace

void count_nonzeros(const Context& context, VectorView<const float> values, VectorView<int> total) {
  launch(count_kernel, dim3(static_cast<unsigned>((values.size + kThreads - 1) / kThreads)), dim3(kThreads), 0,
         context.stream(), values.data, values.size, total.data);
}

}  // namespace shrinkwarp::testing
