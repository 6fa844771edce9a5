// Argument checks and dispatch of the augmentation family.
#include <shrinkwarp/kernels/image_augmentation/image_augmentation.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

namespace cpu {
template <class T>
void augment_images(const Context& context, std::uint64_t seed, std::uint64_t stream,
                    VectorView<const std::int64_t> sample, const AugmentationShape& shape, MatrixView<const T> X,
                    MatrixView<T> Y);
}
namespace cuda {
template <class T>
void augment_images(const Context& context, std::uint64_t seed, std::uint64_t stream,
                    VectorView<const std::int64_t> sample, const AugmentationShape& shape, MatrixView<const T> X,
                    MatrixView<T> Y);
}

template <class T>
void augment_images(const Context& context, std::uint64_t seed, std::int64_t pass,
                    VectorView<const std::int64_t> sample, const AugmentationShape& shape,
                    identity_t<MatrixView<const T>> X, MatrixView<T> Y) {
  constexpr const char* kFunction = "augment_images";
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const auto size = [&](const char* name, std::int64_t value, std::int64_t least) {
    SHRINKWARP_REQUIRE(value >= least && value <= kMost, ShapeError, kFunction, ": shape.", name, " is ", value,
                       ", wanted ", least, " to ", kMost);
  };
  size("channels", shape.channels, 1);
  size("height", shape.height, 1);
  size("width", shape.width, 1);
  size("padding", shape.padding, 0);
  SHRINKWARP_REQUIRE(pass >= 0 && pass < std::int64_t{1} << 32, ValueError, kFunction, ": pass is ", pass,
                     ", wanted from 0 to under 2^32");
  check_vector(context, kFunction, "sample", sample, X.cols);
  check_matrix(context, kFunction, "X", X, shape.features(), X.cols);
  check_matrix(context, kFunction, "Y", Y, shape.features(), X.cols);
  if (Y.empty()) return;
  const std::uint64_t stream = kAugmentationStream + static_cast<std::uint64_t>(pass);
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::augment_images<T>(context, seed, stream, sample, shape, X, Y);
  }
  cpu::augment_images<T>(context, seed, stream, sample, shape, X, Y);
}

template void augment_images<float>(const Context&, std::uint64_t, std::int64_t, VectorView<const std::int64_t>,
                                    const AugmentationShape&, MatrixView<const float>, MatrixView<float>);
template void augment_images<double>(const Context&, std::uint64_t, std::int64_t, VectorView<const std::int64_t>,
                                     const AugmentationShape&, MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp
