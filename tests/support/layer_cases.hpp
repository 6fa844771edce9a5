// What the tests of layers share: normal numbers with guards, elements within a bound, central differences.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/context.hpp>

#include "tests/support/guarded.hpp"

namespace shrinkwarp::testing {

/// rows x cols standard normal numbers, rounded to T; each stream has its own. The first element is at a multiple of 16 bytes
/// after one that is skipped: see `from_second_row`.
template <class T>
GuardedHost<T> normal_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t stream, std::int64_t padding = 3) {
  std::vector<double> values(static_cast<std::size_t>(rows * cols));
  fill_normal(Context::cpu(1), 17, stream, 0, VectorView<double>{values.data(), rows * cols, {}});
  return GuardedHost<T>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      padding);
}

/// rows x cols elements whose columns start at multiples of 16 bytes where rows + skip + padding is a multiple of 4: behind a
/// guard band of 67 elements and one row that is skipped. With skip 0 they start anywhere.
template <class T>
struct Placed {
  GuardedHost<T> before;
  Guarded<T> memory;
  std::int64_t skip;

  Placed(const Context& context, const GuardedHost<T>& host, std::int64_t skipped = 0)
      : before(host), memory(to_device(context, host)), skip(skipped) {}
  MatrixView<T> matrix() const {
    MatrixView<T> all = memory.matrix();
    return {all.data + skip, all.rows - skip, all.cols, all.ld, all.device};
  }
  VectorView<T> vector() const { return {memory.matrix().data + skip, memory.rows - skip, memory.device}; }
};

/// Elements of `found` lie within bound(i, j) of expected(i, j), NaN where that is NaN, and nothing else has been written.
template <class T, class Expected, class Bound>
void expect_within(const Context& context, const char* what, const Placed<T>& placed, Expected expected, Bound bound) {
  const GuardedHost<T> found = to_host(context, placed.memory);
  EXPECT_TRUE(guards_intact(placed.before, found)) << what;
  for (std::int64_t j = 0; j < found.cols; ++j) {
    for (std::int64_t i = placed.skip; i < found.rows; ++i) {
      const double wanted = expected(i - placed.skip, j), got = static_cast<double>(found(i, j));
      if (std::isnan(wanted) && std::isnan(got)) continue;
      ASSERT_LE(std::fabs(got - wanted), bound(i - placed.skip, j))
          << what << " (" << i - placed.skip << ", " << j << "): found " << got << ", wanted " << wanted;
    }
  }
}

/// The elements have the same bits.
template <class T>
void expect_same(const Context& context, const Placed<T>& a, const Context& other, const Placed<T>& b) {
  EXPECT_TRUE(same_elements(to_host(context, a.memory), to_host(other, b.memory)));
}

template <class T>
constexpr double kEpsilon = static_cast<double>(std::numeric_limits<T>::epsilon());

/// (f(x + h) - f(x - h)) / 2 h for an element x that f depends on.
template <class Function>
double central_difference(double& x, const Function& f) {
  constexpr double kStep = 1e-5;
  const double at = x;
  x = at + kStep;
  const double above = f();
  x = at - kStep;
  const double below = f();
  x = at;
  return (above - below) / (2 * kStep);
}

}  // namespace shrinkwarp::testing
