// CUDA bodies of the pooling family, a thread a place of several planes (planes.cuh).
//
// Story, on an H100 (3 TB/s; on paper, not measured): all of it is memory. The maxima behind the first convolution of a ResNet,
// 64 x 112 x 112 to 64 x 56 x 56 in windows of 3 x 3, an image: 3.2 MB in, 0.8 MB of values and 0.8 MB of indices out, 1.6 us;
// each pixel is read by up to four windows, out of the first-level cache. The way back looks up the at most four windows of
// a pixel. Averages read X once, a warp a plane.
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/planes.cuh>
#include <shrinkwarp/kernels/pooling/pooling.hpp>

namespace shrinkwarp::cuda {
namespace {

/// A thread a window; index may be null.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    max_pool_kernel(PoolingShape s, MatrixView<const T> X, MatrixView<T> Y, MatrixView<std::int32_t> index) {
  const std::int64_t positions = s.positions(), place = thread_place();
  if (place >= X.cols * positions) return;
  const std::int64_t image = place / positions, position = place % positions;
  const int width = static_cast<int>(s.width);
  const int top = static_cast<int>(position / s.out_width() * s.stride - s.padding);
  const int left = static_cast<int>(position % s.out_width() * s.stride - s.padding);
  const int bottom = static_cast<int>(top + s.kernel < s.height ? top + s.kernel : s.height);
  const int right = static_cast<int>(left + s.kernel < s.width ? left + s.kernel : s.width);
  const int first_row = top < 0 ? 0 : top, first_col = left < 0 ? 0 : left;
  for (std::int64_t c = blockIdx.y; c < s.channels; c += gridDim.y) {
    const T* const plane = X.column(image) + c * s.pixels();
    int pixel = first_row * width + first_col;
    T best = plane[pixel];
    for (int h = first_row; h < bottom; ++h) {
      for (int w = first_col; w < right; ++w) {
        const T value = plane[h * width + w];
        if (value > best || value != value) {
          best = value;
          pixel = h * width + w;
        }
      }
    }
    Y.column(image)[c * positions + position] = best;
    if (index.data != nullptr) index.column(image)[c * positions + position] = pixel;
  }
}

/// A thread a pixel, which asks the windows that hold it in their order.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    max_pool_gradient_kernel(PoolingShape s, MatrixView<const T> dY, MatrixView<const std::int32_t> index, T beta,
                             MatrixView<T> dX) {
  const std::int64_t pixels = s.pixels(), positions = s.positions(), place = thread_place();
  if (place >= dX.cols * pixels) return;
  const std::int64_t image = place / pixels, pixel = place % pixels;
  const std::int64_t h = pixel / s.width + s.padding, w = pixel % s.width + s.padding, across = s.out_width();
  const std::int64_t top = h < s.kernel ? 0 : (h - s.kernel) / s.stride + 1;
  const std::int64_t left = w < s.kernel ? 0 : (w - s.kernel) / s.stride + 1;
  const std::int64_t bottom = h / s.stride < s.out_height() ? h / s.stride + 1 : s.out_height();
  const std::int64_t right = w / s.stride < across ? w / s.stride + 1 : across;
  for (std::int64_t c = blockIdx.y; c < s.channels; c += gridDim.y) {
    const T* const gradient = dY.column(image) + c * positions;
    const std::int32_t* const largest = index.column(image) + c * positions;
    T sum = T(0);
    for (std::int64_t i = top; i < bottom; ++i)
      for (std::int64_t j = left; j < right; ++j)
        if (largest[i * across + j] == pixel) sum += gradient[i * across + j];
    T& out = dX.column(image)[c * pixels + pixel];
    out = beta == T(0) ? sum : std::fma(beta, out, sum);
  }
}

constexpr int kWarps = kPlaneThreads / kWarpSize;

/// A warp a plane.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    average_kernel(std::int64_t pixels, MatrixView<const T> X, MatrixView<T> Y) {
  const std::int64_t plane = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  if (plane >= Y.rows * Y.cols) return;  // a whole warp
  const std::int64_t image = plane / Y.rows, c = plane % Y.rows;
  const T* const from = X.column(image) + c * pixels;
  double sum = 0;
  for (std::int64_t p = threadIdx.x % kWarpSize; p < pixels; p += kWarpSize) sum += static_cast<double>(from[p]);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarpSize == 0) Y(c, image) = static_cast<T>(sum / static_cast<double>(pixels));
}

/// A thread a pixel.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    average_gradient_kernel(std::int64_t pixels, MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  const std::int64_t place = thread_place();
  if (place >= dX.cols * pixels) return;
  const std::int64_t image = place / pixels, pixel = place % pixels;
  for (std::int64_t c = blockIdx.y; c < dY.rows; c += gridDim.y) {
    const T share = dY(c, image) / static_cast<T>(pixels);
    T& out = dX.column(image)[c * pixels + pixel];
    out = beta == T(0) ? share : std::fma(beta, out, share);
  }
}

}  // namespace

// ---- launchers ---------------------------------------------------------------------------------------------------

template <class T>
void max_pool_forward(const Context& context, const PoolingShape& s, MatrixView<const T> X, MatrixView<T> Y,
                      MatrixView<std::int32_t> index) {
  if (index.empty()) index.data = nullptr;
  launch(max_pool_kernel<T>, plane_grid(X.cols * s.positions(), s.channels, "max_pool_forward"), dim3(kPlaneThreads), 0,
         context.stream(), s, X, Y, index);
}

template <class T>
void max_pool_backward(const Context& context, const PoolingShape& s, MatrixView<const T> dY,
                       MatrixView<const std::int32_t> index, T beta, MatrixView<T> dX) {
  launch(max_pool_gradient_kernel<T>, plane_grid(dX.cols * s.pixels(), s.channels, "max_pool_backward"),
         dim3(kPlaneThreads), 0, context.stream(), s, dY, index, beta, dX);
}

template <class T>
void average_pool_forward(const Context& context, MatrixView<const T> X, MatrixView<T> Y) {
  launch(average_kernel<T>, dim3(grid_size(ceil_div(Y.rows * Y.cols, kWarps), "average_pool_forward")),
         dim3(kPlaneThreads), 0, context.stream(), X.rows / Y.rows, X, Y);
}

template <class T>
void average_pool_backward(const Context& context, MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  const std::int64_t pixels = dX.rows / dY.rows;
  launch(average_gradient_kernel<T>, plane_grid(dX.cols * pixels, dY.rows, "average_pool_backward"),
         dim3(kPlaneThreads), 0, context.stream(), pixels, dY, beta, dX);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                            \
  template void max_pool_forward<T>(const Context&, const PoolingShape&, MatrixView<const T>, MatrixView<T>, \
                                    MatrixView<std::int32_t>);                                               \
  template void max_pool_backward<T>(const Context&, const PoolingShape&, MatrixView<const T>,               \
                                     MatrixView<const std::int32_t>, T, MatrixView<T>);                      \
  template void average_pool_forward<T>(const Context&, MatrixView<const T>, MatrixView<T>);                 \
  template void average_pool_backward<T>(const Context&, MatrixView<const T>, T, MatrixView<T>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
