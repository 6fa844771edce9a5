// Least squares and singular values against what defines them: orthogonality, reconstruction, least norm.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/kernels/least_squares/least_squares.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/kernels/singular_values/singular_values.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 23, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

struct Shape {
  std::int64_t n, m;
};
const Shape kShapes[] = {{1, 1}, {5, 3}, {3, 5}, {40, 40}, {60, 17}, {17, 60}, {7, 0}};

TEST(SingularValues, RebuildTheMatrix) {
  for (const auto& [n, m] : kShapes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << m);
    const std::vector<double> A = normal(n * m, 1);
    const SingularValues parts = singular_values(Context::cpu(1), {A.data(), n, m, n, {}});
    const std::int64_t k = std::min(n, m);
    ASSERT_EQ(static_cast<std::int64_t>(parts.values.size()), k);
    EXPECT_TRUE(std::is_sorted(parts.values.rbegin(), parts.values.rend()));
    EXPECT_EQ(parts.rank(), k);
    // Backward error: some eps ||A||, with n + m for the sums.
    const double bound = k == 0 ? 0 : static_cast<double>(4 * (n + m)) * kEps * parts.values[0];
    for (std::int64_t j = 0; j < m; ++j) {
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l)
          sum += parts.left.matrix()(i, l) * parts.values[static_cast<std::size_t>(l)] * parts.right.matrix()(l, j);
        EXPECT_NEAR(sum, A[static_cast<std::size_t>(i + j * n)], bound);
      }
    }
    for (std::int64_t a = 0; a < k; ++a) {
      for (std::int64_t b = 0; b < k; ++b) {
        double left = 0, right = 0;
        for (std::int64_t i = 0; i < n; ++i) left += parts.left.matrix()(i, a) * parts.left.matrix()(i, b);
        for (std::int64_t j = 0; j < m; ++j) right += parts.right.matrix()(a, j) * parts.right.matrix()(b, j);
        EXPECT_NEAR(left, a == b, static_cast<double>(4 * (n + m)) * kEps);
        EXPECT_NEAR(right, a == b, static_cast<double>(4 * (n + m)) * kEps);
      }
    }
  }
}

TEST(SingularValues, TellTheRank) {
  // Column j of five is column j % 2 times j + 1.
  const std::vector<double> base = normal(20, 2);
  std::vector<double> A;
  for (int j = 0; j < 5; ++j)
    for (int i = 0; i < 10; ++i) A.push_back(base[static_cast<std::size_t>(i + 10 * (j % 2))] * (j + 1));
  EXPECT_EQ(singular_values(Context::cpu(1), {A.data(), 10, 5, 10, {}}).rank(), 2);
  std::fill(A.begin(), A.end(), 0.0);
  EXPECT_EQ(singular_values(Context::cpu(1), {A.data(), 10, 5, 10, {}}).rank(), 0);
}

TEST(SingularValues, RefuseWhatLapackCannotCount) {
  std::vector<double> A(1);
  EXPECT_THROW(singular_values(Context::cpu(1), {A.data(), 30000, 30000, 30000, {}}), ShapeError);
}

// A'(b - A z) = 0, and z in the row space: orthogonal to every v with A v = 0.
TEST(LeastSquares, LeaveAResidualThatNoColumnSees) {
  LeastSquares problem;  // one object for all, large and small
  const SingleThreadedBlas single;
  for (const auto& [n, m] : kShapes) {
    SCOPED_TRACE(::testing::Message() << n << " x " << m);
    const std::vector<double> A = normal(n * m, 3), b = normal(n, 4);
    std::vector<double> z(static_cast<std::size_t>(m));
    const MatrixView<double> columns = problem.columns(n, m);
    for (std::int64_t j = 0; j < m; ++j) std::copy_n(A.data() + j * n, n, columns.column(j));
    problem.solve(b.data(), z.data());
    std::vector<double> r = b;
    for (std::int64_t j = 0; j < m; ++j)
      for (std::int64_t i = 0; i < n; ++i)
        r[static_cast<std::size_t>(i)] -= A[static_cast<std::size_t>(i + j * n)] * z[static_cast<std::size_t>(j)];
    double size = 0;
    for (const double value : z) size += std::fabs(value);
    for (const double value : b) size += std::fabs(value);
    for (std::int64_t j = 0; j < m; ++j) {
      double correlation = 0;
      for (std::int64_t i = 0; i < n; ++i)
        correlation += A[static_cast<std::size_t>(i + j * n)] * r[static_cast<std::size_t>(i)];
      EXPECT_NEAR(correlation, 0, static_cast<double>(100 * (n + m)) * kEps * size);
    }
    if (m <= n) continue;
    const SingularValues parts = singular_values(Context::cpu(1), {A.data(), n, m, n, {}});
    std::vector<double> outside = z;  // of the row space
    for (std::int64_t k = 0; k < n; ++k) {
      double along = 0;
      for (std::int64_t j = 0; j < m; ++j) along += parts.right.matrix()(k, j) * z[static_cast<std::size_t>(j)];
      for (std::int64_t j = 0; j < m; ++j) outside[static_cast<std::size_t>(j)] -= along * parts.right.matrix()(k, j);
    }
    for (const double value : outside) EXPECT_NEAR(value, 0, static_cast<double>(100 * (n + m)) * kEps * size);
  }
}

TEST(LeastSquares, ShareAmongCopiesAndLeaveEmptyColumnsOut) {
  LeastSquares problem;
  const SingleThreadedBlas single;
  const std::vector<double> base = normal(12, 5), b = normal(6, 6);
  const MatrixView<double> columns = problem.columns(6, 4);  // a, a, 0, c
  std::copy_n(base.data(), 6, columns.column(0));
  std::copy_n(base.data(), 6, columns.column(1));
  std::fill_n(columns.column(2), 6, 0.0);
  std::copy_n(base.data() + 6, 6, columns.column(3));
  std::vector<double> z(4), alone(2);
  problem.solve(b.data(), z.data());
  std::copy_n(base.data(), 12, problem.columns(6, 2).data);
  problem.solve(b.data(), alone.data());
  EXPECT_NEAR(z[0], z[1], 1e-14);
  EXPECT_NEAR(z[0] + z[1], alone[0], 1e-13);
  EXPECT_EQ(z[2], 0);
  EXPECT_NEAR(z[3], alone[1], 1e-13);
}

}  // namespace
}  // namespace shrinkwarp
