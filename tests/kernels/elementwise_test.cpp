#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/elementwise/elementwise.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::expect_within;
using testing::GuardedHost;
using testing::kEpsilon;
using testing::normal_matrix;
using testing::Placed;

class Elementwise : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Elementwise);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double relu_of(double u) {
  return u < 0 ? 0 : u;
}

/// Of matrices with a NaN in the first element of A, the last of B, and zeros; in place and apart.
template <class T>
void check(const Context& context, std::int64_t rows, std::int64_t cols, std::int64_t skip, std::int64_t padding) {
  SCOPED_TRACE(::testing::Message() << rows << " x " << cols);
  GuardedHost<T> A = normal_matrix<T>(rows + skip, cols, 1, padding),
                 B = normal_matrix<T>(rows + skip, cols, 2, padding);
  A(skip, 0) = B(skip + rows - 1, cols - 1) = static_cast<T>(kNaN);
  if (rows > 2) A(skip + 1, 0) = T(0);
  const auto a = [&](std::int64_t i, std::int64_t j) { return static_cast<double>(A(i + skip, j)); };
  const auto b = [&](std::int64_t i, std::int64_t j) { return static_cast<double>(B(i + skip, j)); };
  const auto exact = [](std::int64_t, std::int64_t) { return 0.0; };
  const auto half_unit = [&](std::int64_t i, std::int64_t j) {
    return kEpsilon<T> * (std::fabs(a(i, j)) + std::fabs(b(i, j)));
  };
  const auto sum = [&](std::int64_t i, std::int64_t j) { return relu_of(a(i, j) + b(i, j)); };
  const auto slope = [&](std::int64_t i, std::int64_t j) { return a(i, j) <= 0 ? 0 : b(i, j); };
  const auto fresh = [&] { return Placed<T>(context, GuardedHost<T>(rows + skip, cols, padding), skip); };
  const Placed<T> placed_A(context, A, skip), placed_B(context, B, skip), over_A(context, A, skip),
      over_B(context, B, skip);

  const Placed<T> Z = fresh();
  add_relu<T>(context, placed_A.matrix(), placed_B.matrix(), Z.matrix());
  expect_within(context, "add_relu", Z, sum, half_unit);
  add_relu<T>(context, placed_A.matrix(), over_B.matrix(), over_B.matrix());
  expect_within(context, "add_relu", over_B, sum, half_unit);

  const Placed<T> plain = fresh();
  const auto plain_sum = [&](std::int64_t i, std::int64_t j) { return a(i, j) + b(i, j); };
  add<T>(context, placed_A.matrix(), placed_B.matrix(), plain.matrix());
  expect_within(context, "add", plain, plain_sum, half_unit);
  add<T>(context, over_A.matrix(), placed_B.matrix(), over_A.matrix());
  expect_within(context, "add", over_A, plain_sum, half_unit);

  const Placed<T> dX = fresh(), added(context, normal_matrix<T>(rows + skip, cols, 3, padding), skip),
                  over_dY(context, B, skip);
  relu_backward<T>(context, placed_A.matrix(), placed_B.matrix(), T(0), dX.matrix());
  expect_within(context, "relu_backward", dX, slope, exact);
  relu_backward<T>(context, placed_A.matrix(), over_dY.matrix(), T(0), over_dY.matrix());
  expect_within(context, "relu_backward", over_dY, slope, exact);
  relu_backward<T>(context, placed_A.matrix(), placed_B.matrix(), T(1), added.matrix());
  expect_within(
      context, "relu_backward", added,
      [&](std::int64_t i, std::int64_t j) { return static_cast<double>(added.before(i + skip, j)) + slope(i, j); },
      [&](std::int64_t i, std::int64_t j) {
        return kEpsilon<T> * (std::fabs(static_cast<double>(added.before(i + skip, j))) + std::fabs(slope(i, j)));
      });
}

TEST_P(Elementwise, AgreesWithTheFormulas) {
  check<float>(context(), 7, 5, 0, 3);
  check<float>(context(), 1, 3, 0, 0);
  check<float>(context(), 533, 3, 1, 2);  // 16 bytes at once, more than a piece
  check<double>(context(), 70, testing::kThreadSanitizer ? 9 : 260, 1, 1);
}

TEST_P(Elementwise, NamesWhatIsWrong) {
  const Context& c = context();
  const Placed<float> a(c, normal_matrix<float>(3, 2, 1)), b(c, normal_matrix<float>(2, 3, 1));
  const MatrixView<float> A = a.matrix(), B = b.matrix();
  EXPECT_THROW(add<float>(c, A, B, A), ShapeError);
  EXPECT_THROW(add_relu<float>(c, A, B, A), ShapeError);
  EXPECT_THROW(add_relu<float>(c, A, A, B), ShapeError);
  EXPECT_THROW(relu_backward<float>(c, A, B, 0.0f, A), ShapeError);
  EXPECT_THROW(relu_backward<float>(c, A, A, 0.0f, B), ShapeError);
}

struct QueuedElementwise {
  const Context& context;
  Tensor<float> A, B, Y, dX;
  explicit QueuedElementwise(const Context& c)
      : context(c),
        A(testing::numbers<float>(c, 9, 6, 1)),
        B(testing::numbers<float>(c, 9, 6, 2)),
        Y(testing::numbers<float>(c, 9, 6, 3)),
        dX(testing::numbers<float>(c, 9, 6, 4)) {}
  void queue() {
    add<float>(context, A.matrix(), B.matrix(), Y.matrix());
    add_relu<float>(context, A.matrix(), B.matrix(), B.matrix());
    relu_backward<float>(context, Y.matrix(), B.matrix(), 1.0f, dX.matrix());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, B, Y, dX); }
};
class ElementwiseQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(ElementwiseQueued);
TEST_P(ElementwiseQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedElementwise>();
}

}  // namespace
}  // namespace shrinkwarp
