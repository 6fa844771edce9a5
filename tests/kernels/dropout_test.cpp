// Dropout against the words of fill_bits: the mask is theirs on every backend.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/dropout/dropout.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::normal_matrix;
using testing::Placed;
using testing::to_host;

class Dropout : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Dropout);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Tensor<std::int64_t> step_on(const Context& context, std::int64_t step) {
  return testing::to_device<std::int64_t>(context, {step}, 1);
}

template <class T>
void check_mask(const Context& context, std::int64_t rows, std::int64_t cols, double probability, std::int64_t layer,
                std::int64_t step, std::int64_t begin = 0) {
  GuardedHost<T> X = normal_matrix<T>(rows, cols, 1);
  X(rows - 1, cols - 1) = static_cast<T>(kNaN);
  std::vector<std::uint32_t> bits(static_cast<std::size_t>(rows * cols));
  fill_bits(Context::cpu(1), 99, (static_cast<std::uint64_t>(layer) << 40) + static_cast<std::uint64_t>(step),
            begin * rows, VectorView<std::uint32_t>{bits.data(), rows * cols, {}});
  const Placed<T> x(context, X), y(context, GuardedHost<T>(rows, cols));
  const Tensor<std::int64_t> on_device = step_on(context, step);
  dropout<T>(context, probability, 99, layer, on_device.vector(), begin, x.matrix(), y.matrix());
  dropout<T>(context, probability, 99, layer, on_device.vector(), begin, x.matrix(), x.matrix());
  const GuardedHost<T> Y = to_host(context, y.memory), over = to_host(context, x.memory);
  EXPECT_TRUE(guards_intact(y.before, Y));
  EXPECT_TRUE(guards_intact(x.before, over));
  for (std::int64_t j = 0; j < cols; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const bool keeps =
          bits[static_cast<std::size_t>(i + j * rows)] >= std::fmin(probability * 4294967296.0, 4294967295.0);
      const T wanted = X(i, j) * (keeps ? static_cast<T>(1 / (1 - probability)) : T(0));
      EXPECT_TRUE(Y(i, j) == wanted || (std::isnan(Y(i, j)) && std::isnan(wanted))) << i << " " << j;
      EXPECT_TRUE(over(i, j) == wanted || (std::isnan(over(i, j)) && std::isnan(wanted))) << i << " " << j;
    }
  }
}

TEST_P(Dropout, MaskIsThatOfTheWords) {
  check_mask<float>(context(), 7, 5, 0.5, 0, 0);
  check_mask<float>(context(), 1, 9, 0.25, 3, 1);
  check_mask<double>(context(), 1030, 3, 0.1, 16777215, (std::int64_t{1} << 40) - 1);
  check_mask<float>(context(), 64, testing::kThreadSanitizer ? 3 : 300, 0.9, 5, 7);
  check_mask<double>(context(), 6, 4, 0, 1, 2);
  check_mask<float>(context(), 7, 5, 0.5, 2, 1, 3);  // columns of a batch, whose first word is within a group of four
  check_mask<double>(context(), 3, 4, 0.5, 2, 1, 700000001);
  check_mask<float>(context(), 6, 4, 1 - 0x1p-53, 1, 2);
}

TEST_P(Dropout, KeepsTheMeanAndDrawsAnewForEachLayerAndStep) {
  constexpr std::int64_t rows = 100, cols = 40;
  const Placed<double> ones(context(), GuardedHost<double>::make(rows, cols, [](auto, auto) { return 1; }));
  const auto mask = [&](std::int64_t layer, std::int64_t step) {
    const Placed<double> y(context(), GuardedHost<double>(rows, cols));
    const Tensor<std::int64_t> on_device = step_on(context(), step);
    dropout<double>(context(), 0.25, 1, layer, on_device.vector(), 0, ones.matrix(), y.matrix());
    return to_host(context(), y.memory);
  };
  const GuardedHost<double> first = mask(1, 1);
  double sum = 0;
  for (std::int64_t j = 0; j < cols; ++j)
    for (std::int64_t i = 0; i < rows; ++i) sum += first(i, j);
  // The mean of 4000 numbers of variance 1/3: five deviations are 0.046.
  EXPECT_NEAR(sum / (rows * cols), 1, 0.046);
  EXPECT_TRUE(same_elements(first, mask(1, 1)));
  EXPECT_FALSE(same_elements(first, mask(2, 1)));
  EXPECT_FALSE(same_elements(first, mask(1, 2)));
}

TEST_P(Dropout, NamesWhatIsWrong) {
  const Context& c = context();
  const Placed<float> x(c, normal_matrix<float>(3, 2, 1)), y(c, normal_matrix<float>(2, 3, 1));
  const Tensor<std::int64_t> step = step_on(c, 0);
  const auto call = [&](double probability, std::int64_t layer, VectorView<const std::int64_t> s, MatrixView<float> Y,
                        std::int64_t first = 0) { dropout<float>(c, probability, 1, layer, s, first, x.matrix(), Y); };
  for (const double probability : {-0.1, 1.0, kNaN})
    EXPECT_THROW(call(probability, 0, step.vector(), x.matrix()), ValueError);
  EXPECT_THROW(call(0.5, -1, step.vector(), x.matrix()), ValueError);
  EXPECT_THROW(call(0.5, 16777216, step.vector(), x.matrix()), ValueError);
  EXPECT_THROW(call(0.5, 0, step.vector(), x.matrix(), -1), ValueError);
  EXPECT_THROW(call(0.5, 0, {}, x.matrix()), ShapeError);
  EXPECT_THROW(call(0.5, 0, step.vector(), y.matrix()), ShapeError);
}

struct QueuedDropout {
  const Context& context;
  Tensor<std::int64_t> step;
  Tensor<float> X;
  explicit QueuedDropout(const Context& c) : context(c), step(step_on(c, 3)), X(testing::numbers<float>(c, 9, 40, 1)) {}
  void queue() { dropout<float>(context, 0.25, 1, 2, step.vector(), 0, X.matrix(), X.matrix()); }
  std::vector<unsigned char> written() const { return testing::bits_of(context, X); }
};
class DropoutQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(DropoutQueued);
TEST_P(DropoutQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedDropout>();
}

}  // namespace
}  // namespace shrinkwarp
