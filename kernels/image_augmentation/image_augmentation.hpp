// Random crops and flips of images, for training. An image is a column in C order (channels, height, width).
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// What may happen to an image. Sizes > 0.
struct AugmentationShape {
  std::int64_t channels = 0;
  std::int64_t height = 0;  ///< in pixels
  std::int64_t width = 0;
  std::int64_t padding = 0;  ///< pixels of zeros on all four sides, out of which a crop of the old size is taken; >= 0
  bool flip = false;         ///< whether half of the images are flipped left-right

  std::int64_t features() const { return channels * height * width; }  ///< rows of X and Y
};

/// A random crop of each padded image, flipped or not, as torchvision's RandomCrop(size, padding) and RandomHorizontalFlip.
///
///   Y[c, h, w] <- X[c, h + down - padding, (flipped ? width - 1 - w : w) + across - padding],   0 outside of the image
///
/// for each column, all channels alike; down and across are uniform in 0 .. 2 padding, flipped has probability 1/2.
///
/// @param seed    of the training
/// @param pass    number of the pass over the samples, 0 <= pass < 2^32
/// @param sample  [N], the number of each image among all samples, >= 0; read on the context's device
/// @param X       [features(), N], read only
/// @param Y       [features(), N], written; must not overlap X
///
/// Numerics     copies: NaN in a pixel goes where the pixel goes
/// Determinism  same bits on every backend. What happens to an image is a function of (seed, pass, sample) and the shape alone,
///              whatever the batch: philox::bits(seed, kAugmentationStream + pass, sample), of which words 0 and 1 become
///              floor(word (2 padding + 1) / 2^32), with a bias under 2^-32 (2 padding + 1), and the last bit of word 2 flips
/// Cost         X read, Y written. Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, ValueError (pass), DeviceError
template <class T>
void augment_images(const Context& context, std::uint64_t seed, std::int64_t pass,
                    VectorView<const std::int64_t> sample, const AugmentationShape& shape,
                    identity_t<MatrixView<const T>> X, MatrixView<T> Y);

/// The first of the 2^32 streams of a seed that augmentation draws from; other uses of the seed take others.
inline constexpr std::uint64_t kAugmentationStream = 0x6175676d00000000u;

}  // namespace shrinkwarp
