#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/principal_basis/principal_basis.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::normal_atoms;
using testing::same_bits;
using testing::view_of;

constexpr double kEps = std::numeric_limits<double>::epsilon();

/// Eigenvalues of D D' by cyclic Jacobi rotations in long double, largest first.
std::vector<double> eigenvalues(const GuardedHost<double>& D) {
  const auto n = static_cast<std::size_t>(D.rows);
  std::vector<long double> A(n * n, 0);
  for (std::int64_t k = 0; k < D.cols; ++k) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t i = 0; i < n; ++i) {
        A[i + j * n] +=
            static_cast<long double>(D(static_cast<std::int64_t>(i), k)) * D(static_cast<std::int64_t>(j), k);
      }
    }
  }
  for (int sweep = 0; sweep < 12; ++sweep) {  // they converge quadratically
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        if (A[p + q * n] == 0) continue;
        const long double theta = (A[q + q * n] - A[p + p * n]) / (2 * A[p + q * n]);
        const long double t = (theta >= 0 ? 1 : -1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const long double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (std::size_t i = 0; i < n; ++i) {
          const long double a = A[i + p * n], b = A[i + q * n];
          A[i + p * n] = c * a - s * b;
          A[i + q * n] = s * a + c * b;
        }
        for (std::size_t i = 0; i < n; ++i) {
          const long double a = A[p + i * n], b = A[q + i * n];
          A[p + i * n] = c * a - s * b;
          A[q + i * n] = s * a + c * b;
        }
      }
    }
  }
  std::vector<double> values;
  for (std::size_t i = 0; i < n; ++i) values.push_back(static_cast<double>(std::max(0.0L, A[i + i * n])));
  std::sort(values.rbegin(), values.rend());
  return values;
}

/// Orthonormal columns, and behind every k coordinates the energy of D that `values` leave there.
void check_basis(const GuardedHost<double>& D, const std::vector<double>& values) {
  const std::int64_t n = D.rows;
  const Tensor<double> basis = principal_basis(Context::cpu(3), view_of(D));
  ASSERT_EQ(basis.rows(), n);
  ASSERT_EQ(basis.cols(), n);
  const MatrixView<const double> U = basis.matrix();
  for (std::int64_t a = 0; a < n; ++a) {
    for (std::int64_t b = 0; b <= a; ++b) {
      long double product = 0;
      for (std::int64_t i = 0; i < n; ++i) product += static_cast<long double>(U(i, a)) * U(i, b);
      ASSERT_NEAR(static_cast<double>(product), a == b ? 1 : 0, 4 * static_cast<double>(n) * kEps) << a << ", " << b;
    }
  }
  // D D' and its eigenvectors are each right to some n units of its norm, and n - k values add up.
  const double tolerance = 8 * static_cast<double>(n) * static_cast<double>(n + D.cols) * kEps * values[0];
  long double found = 0, least = 0;
  for (std::int64_t k = n - 1; k >= 0; --k) {
    for (std::int64_t j = 0; j < D.cols; ++j) {
      long double coordinate = 0;
      for (std::int64_t i = 0; i < n; ++i) coordinate += static_cast<long double>(U(i, k)) * D(i, j);
      found += coordinate * coordinate;
    }
    least += values[static_cast<std::size_t>(k)];
    ASSERT_NEAR(static_cast<double>(found), static_cast<double>(least), tolerance) << "beyond " << k;
  }

  const Tensor<double> again = principal_basis(Context::cpu(1), view_of(D));
  for (std::int64_t i = 0; i < basis.size(); ++i) ASSERT_TRUE(same_bits(basis.data()[i], again.data()[i]));
}

TEST(PrincipalBasis, OfPerpendicularAtomsIsTheirOrder) {
  const double lengths[] = {2, -7, 0, 3};
  const auto D = GuardedHost<double>::make(
      4, 4, [&](std::int64_t i, std::int64_t j) { return i == (j + 1) % 4 ? lengths[j] : 0.0; });
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const std::int64_t wanted[] = {2, 0, 1, 3};  // where the atoms of length 7, 3, 2 and 0 point
  for (std::int64_t k = 0; k < 4; ++k) {
    for (std::int64_t i = 0; i < 4; ++i) EXPECT_EQ(std::fabs(basis.matrix()(i, k)), i == wanted[k] ? 1 : 0);
  }
}

TEST(PrincipalBasis, LeavesTheLeastOutOfRandomAtoms) {
  const struct {
    std::int64_t n, m;
  } sizes[] = {{1, 1}, {1, 7}, {2, 1}, {2, 50}, {7, 7}, {17, 40}, {33, 100}, {33, 12}, {40, 1}};  // also m < n
  for (const auto& size : sizes) {
    SCOPED_TRACE(::testing::Message() << size.n << " x " << size.m);
    const auto D = normal_atoms(size.n, size.m, 1);
    check_basis(D, eigenvalues(D));
  }
}

TEST(PrincipalBasis, LeavesTheLeastOutOfCorrelatedAtoms) {
  // Singular values over eight orders of magnitude: squares over sixteen.
  const std::int64_t n = 31, m = 60;
  const auto left = normal_atoms(n, n, 1), right = normal_atoms(n, m, 2);
  const auto D = GuardedHost<double>::make(n, m, [&](std::int64_t i, std::int64_t j) {
    double sum = 0;
    for (std::int64_t k = 0; k < n; ++k) sum += left(i, k) * std::exp(-0.6 * static_cast<double>(k)) * right(k, j);
    return sum;
  });
  check_basis(D, eigenvalues(D));
}

TEST(PrincipalBasis, OfAtomsOfFewerDimensions) {
  const std::int64_t n = 20, m = 90, rank = 5;
  const auto left = normal_atoms(n, rank, 1), right = normal_atoms(rank, m, 2);
  for (const double scale : {1.0, 1e-100, 1e100}) {
    SCOPED_TRACE(scale);
    const auto D = GuardedHost<double>::make(n, m, [&](std::int64_t i, std::int64_t j) {
      double sum = 0;
      for (std::int64_t k = 0; k < rank; ++k) sum += left(i, k) * right(k, j);
      return scale * sum;
    });
    const std::vector<double> values = eigenvalues(D);
    EXPECT_LE(values[rank], 1e-15 * values[0]);
    check_basis(D, values);
  }
}

TEST(PrincipalBasis, OfNothingIsABasis) {
  check_basis(GuardedHost<double>::make(9, 4, [](std::int64_t, std::int64_t) { return 0.0; }),
              std::vector<double>(9, 0.0));
  check_basis(GuardedHost<double>(9, 0), std::vector<double>(9, 0.0));
}

TEST(PrincipalBasis, RefusesWhatDoesNotFit) {
  const Context context = Context::cpu(1);
  EXPECT_THROW(principal_basis(context, MatrixView<const double>{nullptr, 0, 4, 0, {}}), ShapeError);
  EXPECT_THROW(principal_basis(context, MatrixView<const double>{nullptr, 32767, 0, 32767, {}}), ShapeError);
  const auto D = normal_atoms(4, 3, 1);
  MatrixView<const double> view = view_of(D);
  view.ld = 3;
  EXPECT_THROW(principal_basis(context, view), ShapeError);
  view = view_of(D);
  view.device = Device{DeviceType::cuda, 0};
  EXPECT_THROW(principal_basis(context, view), DeviceError);
}

}  // namespace
}  // namespace shrinkwarp
