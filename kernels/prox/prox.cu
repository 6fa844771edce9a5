// CUDA body of prox: two elementwise kernels, a warp a piece of a column.
//
// Story: memory bound. An element costs 2 (soft_threshold_columns) or 3 (prox_step) accesses and 2 or 4 flops; at
// 3.0 TB/s the H100 could do 20 flops a byte. Medium, m 6138, float, on paper:
//   soft_threshold_columns   49 KB a problem; N = 512: 25 MB, in L2 5 us;  N = 8192: 402 MB, 135 us
//   prox_step                74 KB a problem; N = 512: 38 MB, in L2 7 us;  N = 8192: 603 MB, 200 us
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/columns.cuh>
#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/prox/prox.hpp>

namespace shrinkwarp::cuda {
namespace {

/// Z = st(U, threshold), a warp a piece of a column; U may be Z.
template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    soft_threshold_kernel(MatrixView<const T> U, const T* thresholds, MatrixView<T> Z) {
  const std::int64_t col = warp_column();
  if (col >= Z.cols) return;
  const T* const u = U.data + col * U.ld;
  T* const z = Z.data + col * Z.ld;
  const T threshold = thresholds[col];
  walk_column<kCount>(
      Z.rows, [&](std::int64_t row, auto width) { return load_lanes<width.value>(u + row); },
      [&](std::int64_t row, auto width, auto lanes) {
#pragma unroll
        for (int i = 0; i < width.value; ++i) lanes.value[i] = soft_threshold(lanes.value[i], threshold);
        store_lanes<width.value>(z + row, lanes);
      });
}

template <class T, int kCount>
struct GradAndCode {
  Lanes<T, kCount> g;
  Lanes<T, kCount> z;
};

/// Z = st(Z - step grad, step lambda), a warp a piece of a column; inactive columns are not touched.
template <class T, int kCount>
__global__ void __launch_bounds__(kColumnThreads)
    prox_step_kernel(MatrixView<const T> grad, T step, const T* lambda, const std::uint8_t* active, MatrixView<T> Z) {
  const std::int64_t col = warp_column();
  if (col >= Z.cols) return;
  if (active != nullptr && active[col] == 0) return;
  const T* const g = grad.data + col * grad.ld;
  T* const z = Z.data + col * Z.ld;
  const T threshold = step * lambda[col];
  walk_column<kCount>(
      Z.rows,
      [&](std::int64_t row, auto width) {
        return GradAndCode<T, width.value>{load_lanes<width.value>(g + row), load_lanes<width.value>(z + row)};
      },
      [&](std::int64_t row, auto width, auto both) {
#pragma unroll
        for (int i = 0; i < width.value; ++i)
          both.z.value[i] = soft_threshold(std::fma(-step, both.g.value[i], both.z.value[i]), threshold);
        store_lanes<width.value>(z + row, both.z);
      });
}

}  // namespace

template <class T>
void soft_threshold_columns(const Context& context, MatrixView<const T> U, VectorView<const T> thresholds,
                            MatrixView<T> Z) {
  if (Z.empty()) return;
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(U) && aligned16(Z);
  launch(wide ? soft_threshold_kernel<T, kWide> : soft_threshold_kernel<T, 1>, column_grid(Z.rows, Z.cols),
         dim3(kColumnThreads), 0, context.stream(), U, thresholds.data, Z);
}

template <class T>
void prox_step(const Context& context, MatrixView<const T> grad, T step, VectorView<const T> lambda,
               VectorView<const std::uint8_t> active, MatrixView<T> Z) {
  if (Z.empty()) return;
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned16(grad) && aligned16(Z);
  launch(wide ? prox_step_kernel<T, kWide> : prox_step_kernel<T, 1>, column_grid(Z.rows, Z.cols), dim3(kColumnThreads),
         0, context.stream(), grad, step, lambda.data, active.empty() ? nullptr : active.data, Z);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                   \
  template void soft_threshold_columns<T>(const Context&, MatrixView<const T>, VectorView<const T>, MatrixView<T>); \
  template void prox_step<T>(const Context&, MatrixView<const T>, T, VectorView<const T>,                           \
                             VectorView<const std::uint8_t>, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
