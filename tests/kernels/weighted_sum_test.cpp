#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/weighted_sum/weighted_sum.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::normal_matrix;
using testing::Placed;

class WeightedSum : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(WeightedSum);

/// Shares of a batch that are no binary fractions: their products are rounded.
std::vector<double> shares(std::int64_t count) {
  std::vector<double> weights;
  for (std::int64_t c = 0; c < count; ++c) weights.push_back((3.0 + static_cast<double>(c)) / 17);
  return weights;
}

/// What a loop gives, in which every product is rounded before it is added.
template <class T>
T expected(const std::vector<double>& weights, const GuardedHost<T>& parts, std::int64_t row) {
  double sum = 0;
  for (std::int64_t c = 0; c < parts.cols; ++c) {
    const volatile double product = weights[static_cast<std::size_t>(c)] * static_cast<double>(parts(row, c));
    sum += product;
  }
  return static_cast<T>(sum);
}

template <class T>
void check(const Context& context, std::int64_t rows, std::int64_t cols, std::int64_t skip, std::int64_t padding) {
  SCOPED_TRACE(::testing::Message() << rows << " x " << cols);
  GuardedHost<T> parts = normal_matrix<T>(rows + skip, cols, 1, padding);
  parts(skip, cols - 1) = std::numeric_limits<T>::quiet_NaN();
  if (rows > 2) parts(skip + rows - 1, 0) = std::numeric_limits<T>::quiet_NaN();
  if (rows > 3)
    for (std::int64_t c = 0; c < cols; ++c) parts(skip + 1, c) = T(-0.0);
  if (rows > 4) parts(skip + 2, 0) = std::numeric_limits<T>::infinity();
  const std::vector<double> weights = shares(cols);
  const Placed<T> placed(context, parts, skip), sums(context, GuardedHost<T>(rows + skip, 1, padding), skip);
  const Tensor<double> its = testing::to_device(context, weights, cols);
  weighted_sum<T>(context, its.vector(), placed.matrix(), sums.vector());
  const GuardedHost<T> found = to_host(context, sums.memory);
  EXPECT_TRUE(testing::guards_intact(sums.before, found));
  for (std::int64_t i = 0; i < rows; ++i) {
    const T wanted = expected(weights, parts, i + skip);
    if (std::isnan(wanted))
      EXPECT_TRUE(std::isnan(found(i + skip))) << i;
    else
      EXPECT_TRUE(testing::same_bits(wanted, found(i + skip))) << i << ": " << wanted << " and " << found(i + skip);
  }
}

TEST_P(WeightedSum, HasTheBitsOfALoop) {
  check<float>(context(), 1, 1, 0, 0);
  check<float>(context(), 5, 2, 0, 3);
  check<float>(context(), 533, 3, 1, 2);  // 16 bytes at once, and what is left over
  check<double>(context(), 533, 9, 1, 2);
  check<double>(context(), testing::kThreadSanitizer ? 1100 : 10000, 2, 1, 1);  // more than a turn of all threads
}

TEST_P(WeightedSum, AddsInTheOrderOfColumns) {
  // By hand: 1e16 + 1 is 1e16, so that order shows.
  const Context& c = context();
  const Tensor<double> ones = testing::to_device<double>(c, {1, 1, 1}, 3);
  const Tensor<double> parts = testing::to_device<double>(c, {1e16, 1, 1, -1e16, -1e16, 1e16}, 2, 3);
  const Tensor<double> sums(c, 2);
  weighted_sum<double>(c, ones.vector(), parts.matrix(), sums.vector());
  EXPECT_EQ(testing::to_host(c, sums), (std::vector<double>{0, 0}));
  const Tensor<double> others = testing::to_device<double>(c, {1e16, -1e16, -1e16, 1e16, 1, 1}, 2, 3);
  weighted_sum<double>(c, ones.vector(), others.matrix(), sums.vector());
  EXPECT_EQ(testing::to_host(c, sums), (std::vector<double>{1, 1}));
}

TEST_P(WeightedSum, NamesWhatIsWrong) {
  const Context& c = context();
  const Tensor<double> two(c, 2), three(c, 3);
  const Tensor<float> parts(c, 4, 2), sums(c, 4), few(c, 3);
  EXPECT_THROW(weighted_sum<float>(c, three.vector(), parts.matrix(), sums.vector()), ShapeError);
  EXPECT_THROW(weighted_sum<float>(c, two.vector(), parts.matrix(), few.vector()), ShapeError);
  EXPECT_THROW(weighted_sum<float>(c, {}, MatrixView<const float>{}, {}), ShapeError);
  VectorView<float> elsewhere = sums.vector();
  elsewhere.device = c.is_cuda() ? Device{} : Device{DeviceType::cuda, 0};
  EXPECT_THROW(weighted_sum<float>(c, two.vector(), parts.matrix(), elsewhere), DeviceError);
  EXPECT_THROW(weighted_sum<float>(c, two.vector(), parts.matrix(), VectorView<float>{nullptr, 4, c.device()}),
               ValueError);
  const Tensor<float> none(c, 0, 2), nothing(c, 0);
  EXPECT_NO_THROW(weighted_sum<float>(c, two.vector(), none.matrix(), nothing.vector()));
}

struct QueuedWeightedSum {
  const Context& context;
  Tensor<double> weights;
  Tensor<float> parts, sums;
  explicit QueuedWeightedSum(const Context& c)
      : context(c),
        weights(testing::numbers<double>(c, 3, 1, 1)),
        parts(testing::numbers<float>(c, 9, 3, 2)),
        sums(testing::numbers<float>(c, 9, 1, 3)) {}
  void queue() { weighted_sum<float>(context, weights.vector(), parts.matrix(), sums.vector()); }
  std::vector<unsigned char> written() const { return testing::bits_of(context, sums); }
};
class WeightedSumQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(WeightedSumQueued);
TEST_P(WeightedSumQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedWeightedSum>();
}

}  // namespace
}  // namespace shrinkwarp
