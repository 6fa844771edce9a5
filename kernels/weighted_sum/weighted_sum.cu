// CUDA body of weighted_sum: 16 bytes of each column a thread and turn, four columns on their way at a time.
//
// Story: memory bound, (R + 1) accesses a row and two operations in double on each element that is read. 1e8 parameters
// in float, of which each of 8 processes adds an eighth: 450 MB, on paper 94 us at the 4.8 TB/s of an H200. Where a
// double takes 64 times as long as a float, as on GPUs for graphics, arithmetic takes as long as memory.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/weighted_sum/weighted_sum.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocksPerMultiprocessor = 8;  // no more can run at once; the stride loop does the rest

/// Of rows [i, i + kCount). A product that the compiler fused with its sum would have other bits.
template <int kCount, class T>
__device__ __forceinline__ void add_rows(const double* weights, const MatrixView<const T>& parts, std::int64_t i,
                                         T* sums) {
  double sum[kCount] = {};
#pragma unroll 4
  for (std::int64_t c = 0; c < parts.cols; ++c) {
    const double weight = weights[c];
    const auto part = load_lanes<kCount>(parts.column(c) + i);
#pragma unroll
    for (int k = 0; k < kCount; ++k) sum[k] = __dadd_rn(sum[k], __dmul_rn(weight, static_cast<double>(part.value[k])));
  }
  Lanes<T, kCount> rounded;
#pragma unroll
  for (int k = 0; k < kCount; ++k) rounded.value[k] = static_cast<T>(sum[k]);
  store_lanes<kCount>(sums + i, rounded);
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    weighted_sum_kernel(const double* weights, MatrixView<const T> parts, T* sums) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t group = thread; group < parts.rows / kCount; group += stride)
    add_rows<kCount>(weights, parts, group * kCount, sums);
  if (kCount > 1 && thread < parts.rows % kCount)
    add_rows<1>(weights, parts, parts.rows - parts.rows % kCount + thread, sums);
}

}  // namespace

template <class T>
void weighted_sum(const Context& context, VectorView<const double> weights, MatrixView<const T> parts,
                  VectorView<T> sums) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(parts) && aligned16(sums.data);
  const std::int64_t block = kThreads * (wide ? kWide : 1);
  const std::int64_t blocks =
      std::min((sums.size + block - 1) / block, kBlocksPerMultiprocessor * context.multiprocessors());
  launch(wide ? weighted_sum_kernel<T, kWide> : weighted_sum_kernel<T, 1>, dim3(static_cast<unsigned>(blocks)),
         dim3(kThreads), 0, context.stream(), weights.data, parts, sums.data);
}

#define SHRINKWARP_INSTANTIATE(T) \
  template void weighted_sum<T>(const Context&, VectorView<const double>, MatrixView<const T>, VectorView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
