// CPU bodies of the pooling family; a task takes some planes of one image. Maxima go through a row of windows tap by tap, which
// the compiler makes vectors of. The way back adds to where the maxima were, in the order of the windows: a plane is one
// thread's.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/pooling/pooling.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kElementsPerTask = 32768;

#define SHRINKWARP_POOLING_LOOPS(T)                                                                              \
  /* best[j], index[j] <- x[j stride], pixel + j stride where that is larger or NaN */                           \
  SHRINKWARP_CPU_CLONES void take_larger(const T* x, std::int64_t stride, std::int64_t size, std::int32_t pixel, \
                                         T* best, std::int32_t* index) {                                         \
    const auto step = static_cast<std::int32_t>(stride);                                                         \
    for (std::int64_t j = 0; j < size; ++j, pixel += step) {                                                     \
      const T value = x[j * stride];                                                                             \
      const bool take = (value > best[j]) | (value != value);                                                    \
      best[j] = take ? value : best[j];                                                                          \
      index[j] = take ? pixel : index[j];                                                                        \
    }                                                                                                            \
  }                                                                                                              \
  SHRINKWARP_CPU_CLONES void take_larger(const T* x, std::int64_t stride, std::int64_t size, T* best) {          \
    for (std::int64_t j = 0; j < size; ++j) {                                                                    \
      const T value = x[j * stride];                                                                             \
      best[j] = (value > best[j]) | (value != value) ? value : best[j];                                          \
    }                                                                                                            \
  }                                                                                                              \
  SHRINKWARP_CPU_CLONES void scale(T factor, std::int64_t size, T* x) {                                          \
    for (std::int64_t i = 0; i < size; ++i) x[i] *= factor;                                                      \
  }                                                                                                              \
  /* x <- beta x + share */                                                                                      \
  SHRINKWARP_CPU_CLONES void add_share(T beta, T share, std::int64_t size, T* x) {                               \
    for (std::int64_t i = 0; i < size; ++i) x[i] = std::fma(beta, x[i], share);                                  \
  }                                                                                                              \
  SHRINKWARP_CPU_CLONES double sum_of(const T* x, std::int64_t size) {                                           \
    double lane[8] = {};                                                                                         \
    std::int64_t i = 0;                                                                                          \
    for (; i + 8 <= size; i += 8)                                                                                \
      for (int k = 0; k < 8; ++k) lane[k] += static_cast<double>(x[i + k]);                                      \
    for (int k = 0; i < size; ++i, ++k) lane[k] += static_cast<double>(x[i]);                                    \
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));            \
  }
SHRINKWARP_POOLING_LOOPS(float)
SHRINKWARP_POOLING_LOOPS(double)
#undef SHRINKWARP_POOLING_LOOPS

/// body(image, plane) for all planes of `pixels` pixels, several a task.
template <class Body>
void for_planes(const Context& context, std::int64_t images, std::int64_t channels, std::int64_t pixels, Body body) {
  const std::int64_t planes = images * channels;
  const std::int64_t size = std::max<std::int64_t>(kElementsPerTask / pixels, 1);
  context.parallel_for((planes + size - 1) / size, [&](std::int64_t task, int) {
    for (std::int64_t i = task * size; i < std::min((task + 1) * size, planes); ++i) body(i / channels, i % channels);
  });
}

/// The windows of one row, best first -infinity at their first pixels.
template <class T>
void pool_row(const PoolingShape& s, const T* plane, std::int64_t row, T* best, std::int32_t* index) {
  const std::int64_t across = s.out_width(), top = row * s.stride - s.padding;
  const std::int64_t first = std::max<std::int64_t>(top, 0), last = std::min(top + s.kernel, s.height);
  std::fill_n(best, across, -std::numeric_limits<T>::infinity());
  for (std::int64_t j = 0; j < across && index != nullptr; ++j)
    index[j] = static_cast<std::int32_t>(first * s.width + std::max<std::int64_t>(j * s.stride - s.padding, 0));
  for (std::int64_t h = first; h < last; ++h) {
    for (std::int64_t l = 0; l < s.kernel; ++l) {
      // The windows of the row whose tap l is inside of the image.
      const std::int64_t offset = l - s.padding, room = s.width - 1 - offset;
      if (room < 0) continue;
      const std::int64_t begin = offset < 0 ? (-offset + s.stride - 1) / s.stride : 0;
      const std::int64_t end = std::min(room / s.stride + 1, across);
      if (begin >= end) continue;
      const std::int64_t pixel = h * s.width + begin * s.stride + offset;
      if (index == nullptr) {
        take_larger(plane + pixel, s.stride, end - begin, best + begin);
      } else {
        take_larger(plane + pixel, s.stride, end - begin, static_cast<std::int32_t>(pixel), best + begin,
                    index + begin);
      }
    }
  }
}

template <class T>
void start(T beta, std::int64_t size, T* x) {
  if (beta == T(0)) {
    std::fill_n(x, size, T(0));
  } else if (beta != T(1)) {
    scale(beta, size, x);
  }
}

}  // namespace

template <class T>
void max_pool_forward(const Context& context, const PoolingShape& s, MatrixView<const T> X, MatrixView<T> Y,
                      MatrixView<std::int32_t> index) {
  for_planes(context, X.cols, s.channels, s.pixels(), [&](std::int64_t image, std::int64_t c) {
    for (std::int64_t i = 0; i < s.out_height(); ++i) {
      const std::int64_t at = c * s.positions() + i * s.out_width();
      pool_row(s, X.column(image) + c * s.pixels(), i, Y.column(image) + at,
               index.empty() ? nullptr : index.column(image) + at);
    }
  });
}

template <class T>
void max_pool_backward(const Context& context, const PoolingShape& s, MatrixView<const T> dY,
                       MatrixView<const std::int32_t> index, T beta, MatrixView<T> dX) {
  for_planes(context, dX.cols, s.channels, s.pixels(), [&](std::int64_t image, std::int64_t c) {
    T* const plane = dX.column(image) + c * s.pixels();
    const T* const gradient = dY.column(image) + c * s.positions();
    const std::int32_t* const pixel = index.column(image) + c * s.positions();
    start(beta, s.pixels(), plane);
    for (std::int64_t p = 0; p < s.positions(); ++p) plane[pixel[p]] += gradient[p];
  });
}

template <class T>
void average_pool_forward(const Context& context, MatrixView<const T> X, MatrixView<T> Y) {
  const std::int64_t pixels = X.rows / Y.rows;
  for_planes(context, X.cols, Y.rows, pixels, [&](std::int64_t image, std::int64_t c) {
    Y(c, image) = static_cast<T>(sum_of(X.column(image) + c * pixels, pixels) / static_cast<double>(pixels));
  });
}

template <class T>
void average_pool_backward(const Context& context, MatrixView<const T> dY, T beta, MatrixView<T> dX) {
  const std::int64_t pixels = dX.rows / dY.rows;
  for_planes(context, dX.cols, dY.rows, pixels, [&](std::int64_t image, std::int64_t c) {
    T* const plane = dX.column(image) + c * pixels;
    const T share = dY(c, image) / static_cast<T>(pixels);
    if (beta == T(0)) {
      std::fill_n(plane, pixels, share);
    } else {
      add_share(beta, share, pixels, plane);
    }
  });
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

}  // namespace shrinkwarp::cpu
