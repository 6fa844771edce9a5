#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/prox/prox.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::Guarded;
using testing::GuardedHost;
using testing::same_bits;
using testing::to_device;
using testing::to_host;

class Prox : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Prox);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// How a matrix lies in memory. With a skipped first row and an ld that is a multiple of 4 its columns start at
/// multiples of 16 bytes (a guard band is 67 elements), else they start anywhere.
struct Layout {
  std::int64_t rows, cols, padding, skip;
};

const Layout kLayouts[] = {
    {43, 7, 3, 0},  {597, 2, 2, 1}, {302, 33, 1, 1}, {611, 130, 0, 1}, {1, 1, 0, 0},
    {1, 130, 2, 1}, {512, 1, 3, 1}, {513, 3, 2, 1},  {1023, 2, 4, 1},  {1026, 2, 5, 1},
    {32, 33, 0, 0}, {5, 0, 0, 0},   {0, 4, 4, 0},    {3, 9, 0, 1},     {2048, 2, 3, 1},
};

template <class T>
GuardedHost<T> normal_matrix(const Layout& layout, std::uint64_t stream) {
  const std::int64_t rows = layout.rows + layout.skip;
  std::vector<double> values(static_cast<std::size_t>(rows * layout.cols));
  fill_normal(Context::cpu(1), 23, stream, 0,
              VectorView<double>{values.data(), static_cast<std::int64_t>(values.size()), {}});
  return GuardedHost<T>::make(
      rows, layout.cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      layout.padding);
}

template <class T>
MatrixView<T> view(const Guarded<T>& placed, const Layout& layout) {
  const MatrixView<T> all = placed.matrix();
  return {all.data + layout.skip, layout.rows, layout.cols, all.ld, all.device};
}

template <class T>
void expect_same_memory(const GuardedHost<T>& expected, const GuardedHost<T>& found) {
  ASSERT_EQ(expected.memory.size(), found.memory.size());
  for (std::size_t k = 0; k < expected.memory.size(); ++k) {
    if (std::isnan(expected.memory[k]) && std::isnan(found.memory[k])) continue;
    ASSERT_TRUE(same_bits(expected.memory[k], found.memory[k]))
        << "element " << static_cast<std::int64_t>(k) - GuardedHost<T>::kGuard << ": " << expected.memory[k] << " and "
        << found.memory[k];
  }
}

/// From 0 over usual sizes to one that leaves nothing.
template <class T>
GuardedHost<T> thresholds(std::int64_t cols) {
  return GuardedHost<T>::make(cols, 1, [](std::int64_t b, std::int64_t) { return b % 5 == 4 ? 100 : 0.4 * (b % 5); });
}

template <class T>
void check_soft_threshold(const Context& context) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(::testing::Message() << layout.rows << " x " << layout.cols << " skip " << layout.skip);
    GuardedHost<T> U = normal_matrix<T>(layout, 1);
    if (layout.rows > 2 && layout.cols > 1) U(layout.skip + 2, 1) = static_cast<T>(kNaN);
    const GuardedHost<T> t = thresholds<T>(layout.cols);
    const GuardedHost<T> before(layout.rows + layout.skip, layout.cols, layout.padding);
    GuardedHost<T> expected = before;
    GuardedHost<T> expected_in_place = U;
    for (std::int64_t b = 0; b < layout.cols; ++b) {
      for (std::int64_t i = layout.skip; i < layout.skip + layout.rows; ++i) {
        const T u = U(i, b);
        const T z = std::fabs(u) <= t(b) ? T(0) : std::copysign(std::fabs(u) - t(b), u);
        expected(i, b) = std::isnan(u) ? u : z;
        expected_in_place(i, b) = expected(i, b);
      }
    }
    const auto placed_U = to_device(context, U), placed_t = to_device(context, t),
               placed_Z = to_device(context, before);
    soft_threshold_columns(context, view(placed_U, layout), placed_t.vector(), view(placed_Z, layout));
    expect_same_memory(expected, to_host(context, placed_Z));
    expect_same_memory(U, to_host(context, placed_U));

    soft_threshold_columns(context, view(placed_U, layout), placed_t.vector(), view(placed_U, layout));
    expect_same_memory(expected_in_place, to_host(context, placed_U));
  }
}

TEST_P(Prox, SoftThresholdsFloat) {
  check_soft_threshold<float>(context());
}
TEST_P(Prox, SoftThresholdsDouble) {
  check_soft_threshold<double>(context());
}

template <class T>
void check_prox_step(const Context& context) {
  for (const Layout& layout : kLayouts) {
    for (const bool all_active : {false, true}) {
      SCOPED_TRACE(::testing::Message() << layout.rows << " x " << layout.cols << " skip " << layout.skip);
      GuardedHost<T> grad = normal_matrix<T>(layout, 2);
      const GuardedHost<T> Z = normal_matrix<T>(layout, 3);
      if (layout.rows > 0 && layout.cols > 1) grad(layout.skip, 1) = static_cast<T>(kNaN);
      const GuardedHost<T> lambda = thresholds<T>(layout.cols);
      const auto active =
          GuardedHost<std::uint8_t>::make(layout.cols, 1, [](std::int64_t b, std::int64_t) { return b % 3 != 2; });
      const T step = static_cast<T>(0.37);
      GuardedHost<T> expected = Z;
      for (std::int64_t b = 0; b < layout.cols; ++b) {
        if (!all_active && active(b) == 0) continue;
        for (std::int64_t i = layout.skip; i < layout.skip + layout.rows; ++i)
          expected(i, b) = soft_threshold(std::fma(-step, grad(i, b), Z(i, b)), step * lambda(b));
      }
      const auto placed_grad = to_device(context, grad), placed_Z = to_device(context, Z);
      const auto placed_lambda = to_device(context, lambda);
      const auto placed_active = to_device(context, active);
      prox_step(context, view(placed_grad, layout), step, placed_lambda.vector(),
                all_active ? VectorView<const std::uint8_t>{} : placed_active.vector(), view(placed_Z, layout));
      expect_same_memory(expected, to_host(context, placed_Z));
      expect_same_memory(grad, to_host(context, placed_grad));
      if (layout.rows > 0 && layout.cols > 1) {
        EXPECT_TRUE(std::isnan(expected(layout.skip, 1)));
      }
    }
  }
}

TEST_P(Prox, StepsFloat) {
  check_prox_step<float>(context());
}
TEST_P(Prox, StepsDouble) {
  check_prox_step<double>(context());
}

TEST_P(Prox, SolvesTheIdentityInOneStep) {
  // D = I, L = 1: one step from anywhere lands on st(x, lambda), and stays there.
  const std::vector<double> x = {3, -2, 0.5, -0.25, 0, 1};
  const std::vector<double> solution = {2, -1, 0, 0, 0, 0};
  std::vector<double> z = {7, 7, 7, -7, 0.125, -3};
  const auto lambda = to_device<double>(context(), {1}, 1);
  for (int iteration = 0; iteration < 2; ++iteration) {
    std::vector<double> gradient(6);
    for (std::size_t i = 0; i < 6; ++i) gradient[i] = z[i] - x[i];
    const auto placed_z = to_device(context(), z, 6), placed_gradient = to_device(context(), gradient, 6);
    prox_step(context(), placed_gradient.matrix(), 1.0, lambda.vector(), {}, placed_z.matrix());
    z = to_host(context(), placed_z);
    EXPECT_EQ(z, solution);
  }
}

TEST_P(Prox, RefusesWhatDoesNotFit) {
  const auto Z = to_device<float>(context(), std::vector<float>(12), 4, 3);
  const auto small = to_device<float>(context(), std::vector<float>(8), 4, 2);
  const auto t = to_device<float>(context(), std::vector<float>(3), 3);
  const auto wrong = to_device<float>(context(), std::vector<float>(2), 2);
  const Context& c = context();
  EXPECT_THROW(soft_threshold_columns(c, small.matrix(), t.vector(), Z.matrix()), ShapeError);
  EXPECT_THROW(soft_threshold_columns(c, Z.matrix(), wrong.vector(), Z.matrix()), ShapeError);
  EXPECT_THROW(prox_step(c, small.matrix(), 1.0f, t.vector(), {}, Z.matrix()), ShapeError);
  EXPECT_THROW(prox_step(c, Z.matrix(), 1.0f, wrong.vector(), {}, Z.matrix()), ShapeError);
  EXPECT_THROW(prox_step(c, Z.matrix(), 0.0f, t.vector(), {}, Z.matrix()), ValueError);
  EXPECT_THROW(prox_step(c, Z.matrix(), std::numeric_limits<float>::quiet_NaN(), t.vector(), {}, Z.matrix()),
               ValueError);
  MatrixView<float> narrow = Z.matrix();
  narrow.ld = 3;
  EXPECT_THROW(soft_threshold_columns(c, narrow, t.vector(), Z.matrix()), ShapeError);
  MatrixView<float> elsewhere = Z.matrix();
  elsewhere.device = c.is_cuda() ? Device{} : Device{DeviceType::cuda, 0};
  EXPECT_THROW(soft_threshold_columns(c, elsewhere, t.vector(), Z.matrix()), DeviceError);
  EXPECT_THROW(prox_step(c, elsewhere, 1.0f, t.vector(), {}, Z.matrix()), DeviceError);
  std::vector<std::uint8_t> flags(2);
  EXPECT_THROW(prox_step(c, Z.matrix(), 1.0f, t.vector(), VectorView<const std::uint8_t>{flags.data(), 2, c.device()},
                         Z.matrix()),
               ShapeError);
}

struct QueuedProx {
  const Context& context;
  Tensor<float> grad, Z, lambda, thresholded;

  explicit QueuedProx(const Context& c)
      : context(c),
        grad(testing::numbers<float>(c, 37, 5, 1)),
        Z(testing::numbers<float>(c, 37, 5, 2)),
        lambda(testing::to_device<float>(c, {0, 0.125f, 0.25f, 0.5f, 8}, 5)),
        thresholded(Tensor<float>::zeros(c, 37, 5)) {}
  void queue() {
    prox_step(context, grad.matrix(), 0.25f, lambda.vector(), {}, Z.matrix());
    soft_threshold_columns(context, Z.matrix(), lambda.vector(), thresholded.matrix());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, Z, thresholded); }
};

class ProxQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(ProxQueued);

TEST_P(ProxQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedProx>();
}

}  // namespace
}  // namespace shrinkwarp
