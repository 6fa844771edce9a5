// CUDA bodies of the convolution family: matrices of columns (im2col) of a group of images at a time, in 32 MiB, and cuBLAS's
// products of them. Forward a product an image, whose result lies as the image does; backward one product a group, so that the
// sum over its images is cuBLAS's own, for which dY is brought into the order of the columns first: all positions of all
// images of a group beneath each other.
//
//   col [g P, K], element (b P + p, k) the pixel that tap k of position p of image b reads
//
// Story, on an H100 (3 TB/s, 60 TFLOP/s in float; on paper, not measured), 3 x 3, 64 to 64 channels, 56 x 56, an image:
// 231 MFLOP are 3.9 us; col is 7.2 MB, written and read 4.8 us, though a group of four just fits in the second-level cache,
// where most of it stays. X is 0.8 MB, Y as much. 1 x 1, 256 to 64 at 56 x 56: 103 MFLOP are 1.7 us, X and Y 4.0 MB 1.3 us; no
// columns forward and for dX. Backward col is made twice (of X, of the gradient) and dY copied once.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/planes.cuh>
#include <shrinkwarp/kernels/convolution/bodies.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/runtime/arena.hpp>

namespace shrinkwarp::cuda {
namespace {

constexpr std::int64_t kGroupBytes = 32 << 20;

/// col <- the columns of the images of X; ld is X.cols P. Six blocks a multiprocessor: for eight the compiler would spill.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads, 6) unfold_kernel(ConvolutionShape s, MatrixView<const T> X, T* col) {
  const std::int64_t positions = s.positions(), across = s.out_width(), ld = X.cols * positions;
  const std::int64_t place = thread_place();
  if (place >= ld) return;
  const std::int64_t image = place / positions, position = place % positions;
  // In 32 bits, which the sizes of a padded image fit.
  const int height = static_cast<int>(s.height), width = static_cast<int>(s.width),
            dilation = static_cast<int>(s.dilation);
  const int top = static_cast<int>(position / across * s.stride - s.padding);
  const int left = static_cast<int>(position % across * s.stride - s.padding);
  for (std::int64_t c = blockIdx.y; c < s.channels; c += gridDim.y) {
    const T* const plane = X.column(image) + c * s.pixels();
    T* out = col + c * s.taps() * ld + place;
    for (int k = 0; k < s.kernel_height; ++k) {
      const int h = top + k * dilation;
      const bool row = h >= 0 && h < height;
      const T* const from = plane + static_cast<std::int64_t>(h) * width;
      for (int l = 0; l < s.kernel_width; ++l, out += ld) {
        const int w = left + l * dilation;
        *out = row && w >= 0 && w < width ? from[w] : T(0);
      }
    }
  }
}

/// dX <- beta dX + what each pixel entered; a thread a pixel, which sums in the order of the taps.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    fold_kernel(ConvolutionShape s, const T* col, T beta, MatrixView<T> dX) {
  const std::int64_t pixels = s.pixels();
  const std::int64_t place = thread_place();
  if (place >= dX.cols * pixels) return;
  const std::int64_t image = place / pixels, pixel = place % pixels;
  // In 32 bits, which the sizes of a padded image fit: the divisions below are many.
  const int stride = static_cast<int>(s.stride), dilation = static_cast<int>(s.dilation);
  const int bottom = static_cast<int>(pixel / s.width + s.padding),
            right = static_cast<int>(pixel % s.width + s.padding);
  const int down = static_cast<int>(s.out_height()), across = static_cast<int>(s.out_width());
  const std::int64_t positions = s.positions(), ld = dX.cols * positions;
  for (std::int64_t c = blockIdx.y; c < s.channels; c += gridDim.y) {
    const T* from = col + c * s.taps() * ld + image * positions;
    T sum = T(0);
    for (int k = 0; k < s.kernel_height; ++k) {
      const int i = (bottom - k * dilation) / stride;
      const bool row = bottom >= k * dilation && i * stride == bottom - k * dilation && i < down;
      for (int l = 0; l < s.kernel_width; ++l, from += ld) {
        const int j = (right - l * dilation) / stride;
        if (row && right >= l * dilation && j * stride == right - l * dilation && j < across)
          sum += from[static_cast<std::int64_t>(i) * across + j];
      }
    }
    T& out = dX.column(image)[c * pixels + pixel];
    out = beta == T(0) ? sum : std::fma(beta, out, sum);
  }
}

/// out(b P + p, f) <- element (p, f) of image b, out [Y.cols P, F].
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    stack_kernel(std::int64_t positions, std::int64_t filters, MatrixView<const T> Y, T* out) {
  const std::int64_t ld = Y.cols * positions;
  const std::int64_t place = thread_place();
  if (place >= ld) return;
  const T* const from = Y.column(place / positions) + place % positions;
  for (std::int64_t f = blockIdx.y; f < filters; f += gridDim.y) out[place + f * ld] = from[f * positions];
}

/// Y(p, f) of each image <- itself + b[f].
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    add_bias_kernel(std::int64_t positions, VectorView<const T> b, MatrixView<T> Y) {
  const std::int64_t place = thread_place();
  if (place >= Y.cols * positions) return;
  T* const out = Y.column(place / positions) + place % positions;
  for (std::int64_t f = blockIdx.y; f < b.size; f += gridDim.y) out[f * positions] += b[f];
}

/// db[f] <- db[f] + sum over all positions of all images, a block a filter.
template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    bias_gradient_kernel(std::int64_t positions, MatrixView<const T> dY, T* db) {
  const std::int64_t f = blockIdx.x;
  double sum = 0;
  for (std::int64_t image = 0; image < dY.cols; ++image) {
    const T* const plane = dY.column(image) + f * positions;
    for (std::int64_t p = threadIdx.x; p < positions; p += kPlaneThreads) sum += static_cast<double>(plane[p]);
  }
  sum = block_sum<kPlaneThreads>(sum);
  if (threadIdx.x == 0) db[f] += static_cast<T>(sum);
}

// ---- launchers ---------------------------------------------------------------------------------------------------

/// Images of a group, and the memory for it.
template <class T>
struct Plan {
  std::int64_t group;
  T* columns = nullptr;  // [group P, K]
  T* stacked = nullptr;  // [group P, F], backward

  Plan(Arena& arena, const ConvolutionShape& s, std::int64_t images, bool backward) {
    const std::int64_t P = s.positions(), K = s.terms();
    if (!backward && is_product(s)) {
      group = images;
      return;
    }
    const std::int64_t bytes = P * (K + (backward ? s.filters : 0)) * static_cast<std::int64_t>(sizeof(T));
    group = std::clamp<std::int64_t>(kGroupBytes / bytes, 1, images);
    columns = arena.matrix<T>(group * P, K).data;
    if (backward) stacked = arena.matrix<T>(group * P, s.filters).data;
  }
};

template <class T>
void unfold(const Context& context, const ConvolutionShape& s, MatrixView<const T> X, T* columns) {
  launch(unfold_kernel<T>, plane_grid(X.cols * s.positions(), s.channels, "convolution"), dim3(kPlaneThreads), 0,
         context.stream(), s, X, columns);
}

}  // namespace

template <class T>
std::int64_t convolution_scratch(const Context& context, const ConvolutionShape& shape, std::int64_t images,
                                 bool backward) {
  Arena counting{context.device()};
  Plan<T>(counting, shape, images, backward);
  return counting.used();
}

template <class T>
void convolution_forward(const Context& context, const ConvolutionShape& s, MatrixView<const T> W,
                         VectorView<const T> b, MatrixView<const T> X, MatrixView<T> Y, VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const Plan<T> plan(arena, s, X.cols, false);
  const std::int64_t P = s.positions();
  const Device device = context.device();
  for (std::int64_t first = 0; first < X.cols; first += plan.group) {
    const std::int64_t count = std::min(plan.group, X.cols - first);
    const MatrixView<const T> images = X.columns(first, count);
    MatrixView<const T> columns{images.data, P, s.channels, P, device};
    std::int64_t stride = images.ld;
    if (!is_product(s)) {
      unfold(context, s, images, plan.columns);
      columns = {plan.columns, P, s.terms(), count * P, device};
      stride = P;
    }
    gemm_strided_batched<T>(context, Transpose::no, Transpose::no, T(1), columns, stride, W, 0, T(0),
                            {Y.column(first), P, s.filters, P, device}, Y.ld, count);
  }
  if (b.empty()) return;
  launch(add_bias_kernel<T>, plane_grid(Y.cols * P, s.filters, "convolution_forward"), dim3(kPlaneThreads), 0,
         context.stream(), P, b, Y);
}

template <class T>
void convolution_backward(const Context& context, const ConvolutionShape& s, MatrixView<const T> W,
                          MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dW, VectorView<T> db, T beta,
                          MatrixView<T> dX, VectorView<std::byte> scratch) {
  Arena arena(scratch);
  const Plan<T> plan(arena, s, X.cols, true);
  const std::int64_t P = s.positions();
  const Device device = context.device();
  for (std::int64_t first = 0; first < X.cols; first += plan.group) {
    const std::int64_t count = std::min(plan.group, X.cols - first), stacked_rows = count * P;
    const MatrixView<T> columns{plan.columns, stacked_rows, s.terms(), stacked_rows, device};
    const MatrixView<T> stacked{plan.stacked, stacked_rows, s.filters, stacked_rows, device};
    unfold(context, s, X.columns(first, count), plan.columns);
    launch(stack_kernel<T>, plane_grid(stacked_rows, s.filters, "convolution_backward"), dim3(kPlaneThreads), 0,
           context.stream(), P, s.filters, dY.columns(first, count), stacked.data);
    gemm<T>(context, Transpose::yes, Transpose::no, T(1), columns, stacked, T(1), dW);
    if (dX.empty() || is_product(s)) continue;
    gemm<T>(context, Transpose::no, Transpose::yes, T(1), stacked, W, T(0), columns);
    launch(fold_kernel<T>, plane_grid(count * s.pixels(), s.channels, "convolution_backward"), dim3(kPlaneThreads), 0,
           context.stream(), s, static_cast<const T*>(columns.data), beta, dX.columns(first, count));
  }
  if (!dX.empty() && is_product(s)) {
    gemm_strided_batched<T>(context, Transpose::no, Transpose::yes, T(1),
                            MatrixView<const T>{dY.data, P, s.filters, P, device}, dY.ld, W, 0, beta,
                            {dX.data, P, s.channels, P, device}, dX.ld, dX.cols);
  }
  launch(bias_gradient_kernel<T>, dim3(grid_size(db.size, "convolution_backward")), dim3(kPlaneThreads), 0,
         context.stream(), P, dY, db.data);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                  \
  template std::int64_t convolution_scratch<T>(const Context&, const ConvolutionShape&, std::int64_t, bool);       \
  template void convolution_forward<T>(const Context&, const ConvolutionShape&, MatrixView<const T>,               \
                                       VectorView<const T>, MatrixView<const T>, MatrixView<T>,                    \
                                       VectorView<std::byte>);                                                     \
  template void convolution_backward<T>(const Context&, const ConvolutionShape&, MatrixView<const T>,              \
                                        MatrixView<const T>, MatrixView<const T>, MatrixView<T>, VectorView<T>, T, \
                                        MatrixView<T>, VectorView<std::byte>);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cuda
