// Pooling of images: the largest value of each window, as torch.nn.MaxPool2d, and the average of each channel, as
// torch.nn.AdaptiveAvgPool2d(1), forward and backward. An image is a column in C order (channels, height, width).
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/host_device.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Sizes of a pooling by maxima. All > 0, but 0 <= padding <= kernel / 2; the kernel fits into the padded image, and a plane
/// has less than 2^30 pixels.
struct PoolingShape {
  std::int64_t channels = 0;
  std::int64_t height = 0;  ///< in pixels
  std::int64_t width = 0;
  std::int64_t kernel = 0;  ///< pixels of a window, both ways
  std::int64_t stride = 1;  ///< pixels from one window to the next, both ways
  std::int64_t padding =
      0;  ///< pixels that windows reach beyond the image on all four sides; they never are the largest

  SHRINKWARP_HOST_DEVICE std::int64_t out_height() const { return (height + 2 * padding - kernel) / stride + 1; }
  SHRINKWARP_HOST_DEVICE std::int64_t out_width() const { return (width + 2 * padding - kernel) / stride + 1; }
  SHRINKWARP_HOST_DEVICE std::int64_t positions() const { return out_height() * out_width(); }
  SHRINKWARP_HOST_DEVICE std::int64_t pixels() const { return height * width; }
  std::int64_t in_features() const { return channels * pixels(); }      ///< rows of X
  std::int64_t out_features() const { return channels * positions(); }  ///< rows of Y
};

/// Largest value of each window of each channel, and where it is.
///
///   Y[c, i, j] <- max X[c, h, w],   i stride - padding <= h < i stride - padding + kernel, w likewise, inside of the image
///
/// @param X      [in_features(), N], read only
/// @param Y      [out_features(), N], written, must not overlap X
/// @param index  [out_features(), N], written: h width + w of the maximum, which the way back needs; or empty
///
/// Numerics     exact. The first of equal maxima, in C order of the window, counts; of NaNs, which are larger than all, the
///              last. As in PyTorch
/// Determinism  same bits on every backend
/// Cost         X read once, Y and index written; kernel^2 comparisons an element of Y. Scratch none. Allocates no,
///              synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void max_pool_forward(const Context& context, const PoolingShape& shape, identity_t<MatrixView<const T>> X,
                      MatrixView<T> Y, MatrixView<std::int32_t> index);

/// Gradient of max_pool_forward.
///
///   dX[c, q] <- beta dX[c, q] + sum of dY[c, i, j] over the windows with index[c, i, j] = q
///
/// @param dY     [out_features(), N], read only
/// @param index  [out_features(), N], as max_pool_forward has written it; read only
/// @param beta   0: dX is not read; else what stands in dX counts beta times
/// @param dX     [in_features(), N], written, must not overlap what is read
///
/// Numerics     a sum of at most ceil(kernel / stride)^2 terms in T, in C order of the windows
/// Determinism  same bits run to run; on the CPU they do not depend on the threads. No atomics
/// Cost         dY and index read, dX written. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void max_pool_backward(const Context& context, const PoolingShape& shape, identity_t<MatrixView<const T>> dY,
                       identity_t<MatrixView<const std::int32_t>> index, T beta, MatrixView<T> dX);

/// Average of each channel over all of its P pixels.
///
///   Y[c] <- 1/P sum over p of X[c, p]
///
/// @param X  [C P, N], read only
/// @param Y  [C, N], written; its rows say what C is
///
/// Numerics     summed in double, rounded once. NaN in a channel gives NaN
/// Determinism  same bits run to run; on the CPU they do not depend on the threads
/// Cost         X read once. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError (also rows of X that are no multiple of C), DeviceError
template <class T>
void average_pool_forward(const Context& context, identity_t<MatrixView<const T>> X, MatrixView<T> Y);

/// Gradient of average_pool_forward.
///
///   dX[c, p] <- beta dX[c, p] + dY[c] / P
///
/// @param dY    [C, N], read only
/// @param beta  0: dX is not read; else what stands in dX counts beta times
/// @param dX    [C P, N], written, must not overlap dY
///
/// Numerics     dY[c] / P is rounded, the sum with beta dX again. NaN in dY[c] gives NaN in its channel
/// Determinism  same bits on every backend
/// Cost         dX written once. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError (also rows of dX that are no multiple of C), DeviceError
template <class T>
void average_pool_backward(const Context& context, identity_t<MatrixView<const T>> dY, T beta, MatrixView<T> dX);

}  // namespace shrinkwarp
