// What happens to one image: the draw that both bodies of the family share.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/image_augmentation/image_augmentation.hpp>
#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// Y[h, w] is X[h + down, (flipped ? width - 1 - w : w) + across].
struct Augmentation {
  std::int64_t down, across;  // from -padding to padding
  bool flipped;

  SHRINKWARP_HOST_DEVICE Augmentation(const AugmentationShape& shape, std::uint64_t seed, std::uint64_t stream,
                                      std::int64_t sample) {
    const philox::Words words = philox::bits(seed, stream, static_cast<std::uint64_t>(sample));
    const auto choices = static_cast<std::uint64_t>(2 * shape.padding + 1);
    down = static_cast<std::int64_t>((words.word[0] * choices) >> 32) - shape.padding;
    across = static_cast<std::int64_t>((words.word[1] * choices) >> 32) - shape.padding;
    flipped = shape.flip && (words.word[2] & 1u) != 0;
  }
};

}  // namespace shrinkwarp
