// CUDA body of non_finite: a warp a piece of a column, 16 bytes a lane (columns.cuh); warps that find something add it up.
//
// Story: memory bound, one read an element. 64 x 56 x 56 features, 128 samples, float, 103 MB: on paper, at the 3.0 TB/s
// of an H100, 34 us.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/non_finite/non_finite.hpp>

namespace shrinkwarp::cuda {
namespace {

template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads) non_finite_kernel(MatrixView<const T> A, unsigned long long* count) {
  const std::int64_t col = warp_column();
  if (col >= A.cols) return;
  const T* const a = A.column(col);
  unsigned found = 0;
  walk_column<kCount>(
      A.rows, [&](std::int64_t row, auto width) { return load_lanes<width.value>(a + row); },
      [&](std::int64_t, auto width, auto loaded) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) found += std::isfinite(loaded.value[i]) ? 0 : 1;
      });
  found = warp_sum(found);
  if (found > 0 && threadIdx.x % kWarpSize == 0) atomicAdd(count, static_cast<unsigned long long>(found));
}

}  // namespace

template <class T>
void count_non_finite(const Context& context, MatrixView<const T> A, std::int64_t* count) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  launch(aligned16(A) ? non_finite_kernel<T, kWide> : non_finite_kernel<T, 1>, column_grid(A.rows, A.cols),
         dim3(kColumnThreads), 0, context.stream(), A, reinterpret_cast<unsigned long long*>(count));
}

template void count_non_finite<float>(const Context&, MatrixView<const float>, std::int64_t*);
template void count_non_finite<double>(const Context&, MatrixView<const double>, std::int64_t*);

}  // namespace shrinkwarp::cuda
