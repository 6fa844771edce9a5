// Crops and flips against the published Philox draw, applied pixel by pixel; that they are spread evenly; that neighbours do not
// matter.
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/image_augmentation/image_augmentation.hpp>
#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::to_device;
using testing::to_host;

class Augmentations : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Augmentations);
class AugmentationsOnCuda : public testing::OnContext {};
SHRINKWARP_ON_CUDA(AugmentationsOnCuda);

/// No two pixels of a batch are alike, and none is zero.
template <class T>
GuardedHost<T> counted(std::int64_t rows, std::int64_t cols) {
  return GuardedHost<T>::make(rows, cols, [&](std::int64_t i, std::int64_t j) { return 1 + i + j * rows; });
}

template <class T>
GuardedHost<T> augmented(const Context& context, std::uint64_t seed, std::int64_t pass,
                         const std::vector<std::int64_t>& samples, const AugmentationShape& shape,
                         const GuardedHost<T>& in) {
  const auto X = to_device(context, in);
  const GuardedHost<T> empty(in.rows, in.cols);
  const auto Y = to_device(context, empty);
  const auto sample = testing::to_device(context, samples, in.cols);
  augment_images<T>(context, seed, pass, sample.vector(), shape, X.matrix(), Y.matrix());
  const auto out = to_host(context, Y);
  EXPECT_TRUE(guards_intact(empty, out));
  return out;
}

template <class T>
void check_pixels(const Context& context, const AugmentationShape& s, std::int64_t pass) {
  const std::vector<std::int64_t> samples = {7, 0, (std::int64_t{1} << 40) + 3, 12, 13, 99};
  const auto N = static_cast<std::int64_t>(samples.size());
  const auto in = counted<T>(s.features(), N);
  const auto out = augmented<T>(context, 0x123456789abcdef0u, pass, samples, s, in);
  for (std::int64_t b = 0; b < N; ++b) {
    const philox::Words words =
        philox::bits(0x123456789abcdef0u, kAugmentationStream + static_cast<std::uint64_t>(pass),
                     static_cast<std::uint64_t>(samples[static_cast<std::size_t>(b)]));
    const std::int64_t choices = 2 * s.padding + 1;
    const std::int64_t down = (words.word[0] * choices) >> 32, across = (words.word[1] * choices) >> 32;
    const bool flipped = s.flip && words.word[2] % 2 == 1;
    for (std::int64_t i = 0; i < s.features(); ++i) {
      const std::int64_t c = i / s.width / s.height, h = i / s.width % s.height + down - s.padding;
      const std::int64_t col = i % s.width, w = (flipped ? s.width - 1 - col : col) + across - s.padding;
      const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
      ASSERT_EQ(out(i, b), inside ? in((c * s.height + h) * s.width + w, b) : T(0))
          << "pixel " << i << " of image " << b;
    }
  }
}

TEST_P(Augmentations, CropsAndFlipsAsDrawn) {
  check_pixels<float>(context(), {3, 8, 6, 2, true}, 0);
  check_pixels<double>(context(), {9, 5, 7, 4, true}, 0xffffffff);
  check_pixels<float>(context(), {1, 2, 3, 9, false}, 1);  // whole images may be cropped away
  check_pixels<float>(context(), {2, 4, 5, 0, false}, 1);  // nothing happens
  check_pixels<float>(context(), {2, 1, 1, 1, true}, 1);
}

TEST_P(Augmentations, AreSpreadEvenly) {
  // 3 x 3 offsets and two directions of a picture whose pixels tell them; a number of 18,000 / 18 has a deviation under 31.
  const AugmentationShape s{1, 3, 3, 1, true};
  constexpr std::int64_t N = testing::kThreadSanitizer ? 180 : 18000;
  std::vector<std::int64_t> samples(N);
  std::iota(samples.begin(), samples.end(), 0);
  const auto in = GuardedHost<float>::make(9, N, [](std::int64_t i, std::int64_t) { return 1 + i; });
  const auto first = augmented<float>(context(), 5, 0, samples, s, in),
             second = augmented<float>(context(), 5, 1, samples, s, in);
  const auto other = augmented<float>(context(), 6, 0, samples, s, in);
  std::map<std::vector<float>, int> times;
  int same_in_pass = 0, same_in_seed = 0;
  for (std::int64_t b = 0; b < N; ++b) {
    const auto picture = [&](const GuardedHost<float>& from) {
      return std::vector<float>(from.memory.begin() + static_cast<std::ptrdiff_t>(from.at(0, b)),
                                from.memory.begin() + static_cast<std::ptrdiff_t>(from.at(0, b)) + 9);
    };
    ++times[picture(first)];
    same_in_pass += picture(first) == picture(second);
    same_in_seed += picture(first) == picture(other);
  }
  EXPECT_EQ(times.size(), 18u);
  if (testing::kThreadSanitizer) return;
  const double mean = N / 18.0, deviation = std::sqrt(mean);
  for (const auto& [picture, count] : times) EXPECT_NEAR(count, mean, 5 * deviation);
  EXPECT_NEAR(same_in_pass, mean, 5 * deviation);
  EXPECT_NEAR(same_in_seed, mean, 5 * deviation);
}

TEST_P(Augmentations, RefuseWhatDoesNotFit) {
  const AugmentationShape good{1, 2, 3, 1, true};
  const auto X = Tensor<float>::zeros(context(), 6, 2);
  const Tensor<float> Y(context(), 6, 2), wrong(context(), 5, 2);
  const auto sample = Tensor<std::int64_t>::zeros(context(), 3);
  const auto call = [&](std::int64_t pass, std::int64_t samples, const AugmentationShape& shape,
                        const Tensor<float>& out) {
    augment_images<float>(context(), 1, pass, sample.vector().slice(0, samples), shape, X.matrix(), out.matrix());
  };
  call(0, 2, good, Y);
  EXPECT_THROW(call(-1, 2, good, Y), ValueError);
  EXPECT_THROW(call(std::int64_t{1} << 32, 2, good, Y), ValueError);
  EXPECT_THROW(call(0, 3, good, Y), ShapeError);
  EXPECT_THROW(call(0, 2, good, wrong), ShapeError);
  EXPECT_THROW(call(0, 2, {1, 2, 3, -1, true}, Y), ShapeError);
  EXPECT_THROW(call(0, 2, {1, 6, 0, 1, true}, Y), ShapeError);
}

struct QueuedAugmentation {
  const Context& context;
  Tensor<float> X, Y;
  Tensor<std::int64_t> sample;

  explicit QueuedAugmentation(const Context& c)
      : context(c),
        X(testing::numbers<float>(c, 60, 4, 1)),
        Y(Tensor<float>::zeros(c, 60, 4)),
        sample(testing::to_device<std::int64_t>(c, {3, 1, 4, 15}, 4)) {
    c.synchronize();
  }
  void queue() { augment_images<float>(context, 9, 2, sample.vector(), {3, 4, 5, 2, true}, X.matrix(), Y.matrix()); }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Y); }
};

TEST_P(AugmentationsOnCuda, RunOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedAugmentation>();
}

}  // namespace
}  // namespace shrinkwarp
