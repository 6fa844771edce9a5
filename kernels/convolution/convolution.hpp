// Convolutions of images, as torch.nn.Conv2d computes them (cross-correlations), forward and backward. An image is a column in
// C order (channels, height, width).
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/host_device.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Sizes of a convolution. All > 0, but for padding >= 0; the kernel with its dilation fits into the padded image.
struct ConvolutionShape {
  std::int64_t channels = 0;  ///< C
  std::int64_t height = 0;    ///< H, in pixels
  std::int64_t width = 0;
  std::int64_t filters = 0;  ///< F
  std::int64_t kernel_height = 0;
  std::int64_t kernel_width = 0;
  std::int64_t stride = 1;    ///< pixels from one position of the kernel to the next, both ways
  std::int64_t padding = 0;   ///< pixels of zeros on all four sides
  std::int64_t dilation = 1;  ///< pixels between neighbouring taps of the kernel, both ways

  SHRINKWARP_HOST_DEVICE std::int64_t out_height() const {
    return (height + 2 * padding - dilation * (kernel_height - 1) - 1) / stride + 1;
  }
  SHRINKWARP_HOST_DEVICE std::int64_t out_width() const {
    return (width + 2 * padding - dilation * (kernel_width - 1) - 1) / stride + 1;
  }
  SHRINKWARP_HOST_DEVICE std::int64_t positions() const { return out_height() * out_width(); }  ///< P
  SHRINKWARP_HOST_DEVICE std::int64_t pixels() const { return height * width; }
  SHRINKWARP_HOST_DEVICE std::int64_t taps() const { return kernel_height * kernel_width; }
  SHRINKWARP_HOST_DEVICE std::int64_t terms() const { return channels * taps(); }  ///< K, of one output
  std::int64_t in_features() const { return channels * pixels(); }                 ///< rows of X
  std::int64_t out_features() const { return filters * positions(); }              ///< rows of Y
  std::int64_t weights() const { return terms() * filters; }                       ///< elements of W
};

/// Bytes of scratch that convolution_forward and, where `backward`, convolution_backward need for `images` images, aligned
/// to 256. On the CPU a piece of at most 1 MiB (4 MiB backward; twice that in double) for each thread, but at least a row of
/// positions of all terms (backward: all positions of one channel), and backward at most 16 MiB (32 MiB) of partial sums. On
/// CUDA at most 32 MiB, but at least what one image takes. None forward where the kernel is a single tap at stride 1 without
/// padding.
/// @throws ShapeError (a shape that is none, images < 0)
template <class T>
std::int64_t convolution_scratch(const Context& context, const ConvolutionShape& shape, std::int64_t images,
                                 bool backward);

/// Convolution of each image with all filters.
///
///   Y[f, i, j] <- b[f] + sum over c, k, l of W[f, c, k, l] X[c, i stride + k dilation - padding, j stride + l dilation - padding]
///
/// with zeros outside of the image, for each column. One product an image, Y = Col W, of a matrix Col [P, K] that holds a
/// pixel for each position and term.
///
/// @param W        [K, F]: column f is the filter (C, kernel_height, kernel_width) in C order, so that the memory is that
///                 of PyTorch's weight; read only
/// @param b        [F], or empty for none; read only
/// @param X        [in_features(), N], read only
/// @param Y        [out_features(), N], an image of F channels a column; written, must not overlap what is read
/// @param scratch  convolution_scratch(..., false) bytes on the device; not kept
///
/// Numerics     sums in T, in the order of the backend's BLAS. NaN in a filter or a pixel gives NaN in what it enters
/// Determinism  same bits run to run; on the CPU an image's bits depend neither on the threads nor on N
/// Cost         2 P K F flops an image; on CUDA Col costs 2 P K sizeof(T) bytes an image on top. Allocates as the BLAS does,
///              synchronises no, capturable yes (CUDA, after a first call)
/// @throws ShapeError, ValueError (scratch not aligned to 256 bytes), DeviceError, CublasError
template <class T>
void convolution_forward(const Context& context, const ConvolutionShape& shape, identity_t<MatrixView<const T>> W,
                         identity_t<VectorView<const T>> b, identity_t<MatrixView<const T>> X, MatrixView<T> Y,
                         VectorView<std::byte> scratch);

/// Gradients of a convolution.
///
///   dW <- dW + sum over the images of Col' dY        db[f] <- db[f] + sum over the images and positions of dY[f, ...]
///   dX[c, h, w] <- beta dX[c, h, w] + sum of W[f, c, k, l] dY[f, i, j] over what h, w entered
///
/// @param W        [K, F], read only; not read where dX is empty
/// @param X        [in_features(), N], read only
/// @param dY       [out_features(), N], read only
/// @param dW       [K, F], added to
/// @param db       [F], added to, or empty where it is not wanted
/// @param beta     0: dX is not read; else what stands in dX counts beta times
/// @param dX       [in_features(), N], written, or empty where it is not wanted; must not overlap what is read
/// @param scratch  convolution_scratch(..., true) bytes on the device; not kept
///
/// Numerics     sums in T, in the order of the backend's BLAS, and of the images; those of db in double
/// Determinism  same bits run to run; on the CPU they do not depend on the threads. No atomics: a pixel of dX sums what it
///              entered in the order of the kernel's taps
/// Cost         4 P K F flops an image, half of that without dX; on CUDA 4 P K + 2 P F elements of traffic an image on top.
///              Allocates as the BLAS does, synchronises no, capturable yes (CUDA, after a first call)
/// @throws ShapeError, ValueError (scratch not aligned to 256 bytes), DeviceError, CublasError
template <class T>
void convolution_backward(const Context& context, const ConvolutionShape& shape, identity_t<MatrixView<const T>> W,
                          identity_t<MatrixView<const T>> X, identity_t<MatrixView<const T>> dY, MatrixView<T> dW,
                          VectorView<T> db, T beta, MatrixView<T> dX, VectorView<std::byte> scratch);

}  // namespace shrinkwarp
