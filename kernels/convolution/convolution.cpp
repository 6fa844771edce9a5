// Argument checks and dispatch of the convolution family.
#include <shrinkwarp/kernels/convolution/convolution.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/convolution/bodies.hpp>

namespace shrinkwarp {
namespace {

void check_shape(const char* function, const ConvolutionShape& s) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;  // that sums of two fit in 32 bits
  const auto size = [&](const char* name, std::int64_t value, std::int64_t least) {
    SHRINKWARP_REQUIRE(value >= least && value <= kMost, ShapeError, function, ": shape.", name, " is ", value,
                       ", wanted ", least, " to ", kMost);
  };
  size("channels", s.channels, 1);
  size("height", s.height, 1);
  size("width", s.width, 1);
  size("filters", s.filters, 1);
  size("kernel_height", s.kernel_height, 1);
  size("kernel_width", s.kernel_width, 1);
  size("stride", s.stride, 1);
  size("padding", s.padding, 0);
  size("dilation", s.dilation, 1);
  const std::int64_t tall = s.height + 2 * s.padding, wide = s.width + 2 * s.padding;
  const std::int64_t reach_down = s.dilation * (s.kernel_height - 1) + 1;
  const std::int64_t reach_across = s.dilation * (s.kernel_width - 1) + 1;
  SHRINKWARP_REQUIRE(reach_down <= tall && reach_across <= wide && tall <= kMost && wide <= kMost, ShapeError, function,
                     ": the kernel reaches over ", reach_down, " x ", reach_across, " pixels, wanted at most the ",
                     tall, " x ", wide, " of the padded image, and those at most ", kMost);
}

template <class T>
void check_scratch(const Context& context, const char* function, const ConvolutionShape& shape, std::int64_t images,
                   bool backward, VectorView<std::byte> scratch) {
  const std::int64_t wanted = convolution_scratch<T>(context, shape, images, backward);
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, function, ": scratch has ", scratch.size,
                     " bytes, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, function, "scratch", scratch, scratch.size);
}

}  // namespace

template <class T>
std::int64_t convolution_scratch(const Context& context, const ConvolutionShape& shape, std::int64_t images,
                                 bool backward) {
  check_shape("convolution_scratch", shape);
  SHRINKWARP_REQUIRE(images >= 0, ShapeError, "convolution_scratch: images is ", images, ", wanted >= 0");
  if (images == 0) return 0;
  if (context.is_cuda()) {
    if constexpr (kHasCuda) return cuda::convolution_scratch<T>(context, shape, images, backward);
  }
  return cpu::convolution_scratch<T>(context, shape, images, backward);
}

template <class T>
void convolution_forward(const Context& context, const ConvolutionShape& shape, identity_t<MatrixView<const T>> W,
                         identity_t<VectorView<const T>> b, identity_t<MatrixView<const T>> X, MatrixView<T> Y,
                         VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "convolution_forward";
  check_shape(kFunction, shape);
  check_matrix(context, kFunction, "W", W, shape.terms(), shape.filters);
  if (!b.empty()) check_vector(context, kFunction, "b", b, shape.filters);
  check_matrix(context, kFunction, "X", X, shape.in_features(), X.cols);
  check_matrix(context, kFunction, "Y", Y, shape.out_features(), X.cols);
  check_scratch<T>(context, kFunction, shape, X.cols, false, scratch);
  if (Y.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::convolution_forward<T>(context, shape, W, b, X, Y, scratch);
  }
  cpu::convolution_forward<T>(context, shape, W, b, X, Y, scratch);
}

template <class T>
void convolution_backward(const Context& context, const ConvolutionShape& shape, identity_t<MatrixView<const T>> W,
                          identity_t<MatrixView<const T>> X, identity_t<MatrixView<const T>> dY, MatrixView<T> dW,
                          VectorView<T> db, T beta, MatrixView<T> dX, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "convolution_backward";
  check_shape(kFunction, shape);
  check_matrix(context, kFunction, "W", W, shape.terms(), shape.filters);
  check_matrix(context, kFunction, "X", X, shape.in_features(), X.cols);
  check_matrix(context, kFunction, "dY", dY, shape.out_features(), X.cols);
  check_matrix(context, kFunction, "dW", dW, shape.terms(), shape.filters);
  if (!db.empty()) check_vector(context, kFunction, "db", db, shape.filters);
  if (!dX.empty()) check_matrix(context, kFunction, "dX", dX, shape.in_features(), X.cols);
  check_scratch<T>(context, kFunction, shape, X.cols, true, scratch);
  if (dY.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::convolution_backward<T>(context, shape, W, X, dY, dW, db, beta, dX, scratch);
  }
  cpu::convolution_backward<T>(context, shape, W, X, dY, dW, db, beta, dX, scratch);
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

}  // namespace shrinkwarp
