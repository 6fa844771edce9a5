// CPU body of the augmentation family: an image a task, row by row.
#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/image_augmentation/augmentation.hpp>

namespace shrinkwarp::cpu {

template <class T>
void augment_images(const Context& context, std::uint64_t seed, std::uint64_t stream,
                    VectorView<const std::int64_t> sample, const AugmentationShape& shape, MatrixView<const T> X,
                    MatrixView<T> Y) {
  const std::int64_t height = shape.height, width = shape.width;
  context.parallel_for(X.cols, [&](std::int64_t b, int) {
    const Augmentation draw(shape, seed, stream, sample[b]);
    // Columns [begin, end) of the crop are inside of the image.
    const std::int64_t begin = std::min(std::max<std::int64_t>(-draw.across, 0), width);
    const std::int64_t end = std::max(begin, std::min(width - draw.across, width));
    for (std::int64_t row = 0; row < shape.channels * height; ++row) {
      const std::int64_t h = row % height + draw.down;
      T* const out = Y.column(b) + row * width;
      if (h < 0 || h >= height) {
        std::fill_n(out, width, T(0));
        continue;
      }
      const T* const in = X.column(b) + (row / height * height + h) * width;
      std::fill_n(out, begin, T(0));
      std::copy_n(in + begin + draw.across, end - begin, out + begin);
      std::fill_n(out + end, width - end, T(0));
      if (draw.flipped) std::reverse(out, out + width);
    }
  });
}

template void augment_images<float>(const Context&, std::uint64_t, std::uint64_t, VectorView<const std::int64_t>,
                                    const AugmentationShape&, MatrixView<const float>, MatrixView<float>);
template void augment_images<double>(const Context&, std::uint64_t, std::uint64_t, VectorView<const std::int64_t>,
                                     const AugmentationShape&, MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp::cpu
