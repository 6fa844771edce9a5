// CUDA body of the augmentation family: a thread a pixel of several channels (planes.cuh), which share its draw and its divisions.
//
// Story, on an H100 (3 TB/s; on paper, not measured): a batch of 256 images of 3 x 32 x 32 floats is 3.1 MB in and out, 2.1 us,
// and 260,000 draws of some hundred integer operations 1.5 us beside that: no draw of its own for an image is worth a launch.
#include <cstdint>

#include <shrinkwarp/kernels/common/planes.cuh>
#include <shrinkwarp/kernels/image_augmentation/augmentation.hpp>

namespace shrinkwarp::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kPlaneThreads)
    augment_kernel(AugmentationShape shape, std::uint64_t seed, std::uint64_t stream, const std::int64_t* sample,
                   MatrixView<const T> X, MatrixView<T> Y) {
  const std::int64_t pixels = shape.height * shape.width, place = thread_place();
  if (place >= X.cols * pixels) return;
  const std::int64_t image = place / pixels, pixel = place % pixels, col = pixel % shape.width;
  const Augmentation draw(shape, seed, stream, sample[image]);
  const std::int64_t h = pixel / shape.width + draw.down;
  const std::int64_t w = (draw.flipped ? shape.width - 1 - col : col) + draw.across;
  const bool inside = h >= 0 && h < shape.height && w >= 0 && w < shape.width;
  const T* const in = X.column(image) + h * shape.width + w;
  T* const out = Y.column(image) + pixel;
  for (std::int64_t c = blockIdx.y; c < shape.channels; c += gridDim.y)
    out[c * pixels] = inside ? in[c * pixels] : T(0);
}

}  // namespace

template <class T>
void augment_images(const Context& context, std::uint64_t seed, std::uint64_t stream,
                    VectorView<const std::int64_t> sample, const AugmentationShape& shape, MatrixView<const T> X,
                    MatrixView<T> Y) {
  launch(augment_kernel<T>, plane_grid(X.cols * shape.height * shape.width, shape.channels, "augment_images"),
         dim3(kPlaneThreads), 0, context.stream(), shape, seed, stream, sample.data, X, Y);
}

template void augment_images<float>(const Context&, std::uint64_t, std::uint64_t, VectorView<const std::int64_t>,
                                    const AugmentationShape&, MatrixView<const float>, MatrixView<float>);
template void augment_images<double>(const Context&, std::uint64_t, std::uint64_t, VectorView<const std::int64_t>,
                                     const AugmentationShape&, MatrixView<const double>, MatrixView<double>);

}  // namespace shrinkwarp::cuda
