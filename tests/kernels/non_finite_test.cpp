#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/non_finite/non_finite.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_cases.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::normal_matrix;
using testing::Placed;

class NonFinite : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(NonFinite);

template <class T>
std::int64_t count_of(const Context& context, const Placed<T>& A) {
  const Tensor<std::int64_t> count = testing::to_device<std::int64_t>(context, {-5}, 1);
  count_non_finite<T>(context, A.matrix(), count.vector());
  return testing::to_host(context, count)[0];
}

/// None, then one after the other at the ends of columns, of pieces and between; with bad ones around the matrix.
template <class T>
void check(const Context& context, std::int64_t rows, std::int64_t cols, std::int64_t skip, std::int64_t padding) {
  SCOPED_TRACE(::testing::Message() << rows << " x " << cols << ", " << sizeof(T) << " bytes");
  using Limits = std::numeric_limits<T>;
  GuardedHost<T> A = normal_matrix<T>(rows + skip, cols, 1, padding);
  for (std::int64_t i = 0; i < skip; ++i)
    for (std::int64_t j = 0; j < cols; ++j) A(i, j) = Limits::quiet_NaN();
  A(skip, 0) = Limits::max();
  A(skip + rows - 1, cols - 1) = -Limits::denorm_min();
  EXPECT_EQ(count_of(context, Placed<T>(context, A, skip)), 0);
  const T bad[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), -Limits::quiet_NaN()};
  std::int64_t count = 0;
  for (const std::int64_t row : {std::int64_t{0}, rows / 2, rows - 1}) {
    for (const std::int64_t col : {std::int64_t{0}, cols - 1}) {
      T& element = A(skip + row, col);
      if (element - element == 0) ++count;  // it was a number
      element = bad[count % 4];
      EXPECT_EQ(count_of(context, Placed<T>(context, A, skip)), count);
    }
  }
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) A(skip + i, j) = Limits::infinity();
  EXPECT_EQ(count_of(context, Placed<T>(context, A, skip)), rows * cols);
}

TEST_P(NonFinite, CountsThemWhereverTheyAre) {
  check<float>(context(), 1, 1, 0, 0);
  check<float>(context(), 7, 5, 0, 3);
  check<float>(context(), 533, 3, 1, 2);  // 16 bytes at once, more than a piece
  check<double>(context(), 70, testing::kThreadSanitizer ? 9 : 260, 1, 1);
}

TEST_P(NonFinite, NothingHasNone) {
  const Tensor<std::int64_t> count = testing::to_device<std::int64_t>(context(), {-5}, 1);
  count_non_finite<float>(context(), MatrixView<const float>{nullptr, 0, 3, 0, context().device()}, count.vector());
  EXPECT_EQ(testing::to_host(context(), count)[0], 0);
}

TEST_P(NonFinite, NamesWhatIsWrong) {
  const Context& c = context();
  const Placed<float> a(c, normal_matrix<float>(3, 2, 1));
  const Tensor<std::int64_t> two(c, 2);
  EXPECT_THROW(count_non_finite<float>(c, a.matrix(), two.vector()), ShapeError);
}

struct QueuedNonFinite {
  const Context& context;
  Tensor<float> A;
  Tensor<std::int64_t> count;
  explicit QueuedNonFinite(const Context& c) : context(c), A(testing::numbers<float>(c, 9, 6, 1)), count(c, 1) {
    const float bad = std::numeric_limits<float>::infinity();
    copy(c, VectorView<const float>{&bad, 1, {}}, A.vector().slice(17, 1));
    c.synchronize();
  }
  void queue() { count_non_finite<float>(context, A.matrix(), count.vector()); }
  std::vector<unsigned char> written() const { return testing::bits_of(context, count); }
};
class NonFiniteQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(NonFiniteQueued);
TEST_P(NonFiniteQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedNonFinite>();
}

}  // namespace
}  // namespace shrinkwarp
