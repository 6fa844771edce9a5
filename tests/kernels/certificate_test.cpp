#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::Guarded;
using testing::GuardedHost;
using testing::guards_intact;
using testing::same_bits;
using testing::same_elements;
using testing::to_device;
using testing::to_host;

class Certificate : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Certificate);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kEps = std::numeric_limits<double>::epsilon();

std::vector<double> normal(std::int64_t count, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(count));
  fill_normal(Context::cpu(1), 31, stream, 0, VectorView<double>{values.data(), count, {}});
  return values;
}

template <class T>
GuardedHost<T> normal_matrix(std::int64_t rows, std::int64_t cols, std::uint64_t stream, std::int64_t padding = 3) {
  const auto values = normal(rows * cols, stream);
  return GuardedHost<T>::make(
      rows, cols, [&](std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i + j * rows)]; },
      padding);
}

/// Codes from empty to full: what is kept lies over a quantile that differs from column to column.
template <class T>
GuardedHost<T> codes_matrix(std::int64_t m, std::int64_t N, std::uint64_t stream) {
  const double cuts[] = {2.3, -10, 10, 1, 0};
  GuardedHost<T> Z = normal_matrix<T>(m, N, stream, 2);
  const GuardedHost<double> coin = normal_matrix<double>(m, N, stream + 100);
  for (std::int64_t b = 0; b < N; ++b) {
    for (std::int64_t j = 0; j < m; ++j) {
      if (coin(j, b) < cuts[b % 5]) Z(j, b) = T(0);
    }
  }
  return Z;
}

template <class T>
GuardedHost<T> column_choice(const GuardedHost<T>& from, const std::vector<std::int64_t>& columns) {
  return GuardedHost<T>::make(
      from.rows, static_cast<std::int64_t>(columns.size()),
      [&](std::int64_t i, std::int64_t j) { return from(i, columns[static_cast<std::size_t>(j)]); }, 1);
}

struct Size {
  std::int64_t n, m, N;
};
const Size kSizes[] = {{43, 597, 7},  {302, 611, 33}, {1, 1, 1},   {5, 1, 130}, {64, 256, 2}, {17, 1300, 3},
                       {33, 65, 130}, {1, 70, 66},    {8, 16, 64}, {7, 3, 0},   {4, 0, 2},    {0, 4, 2}};

// ---- refresh_anchor ----

template <class T>
void check_refresh(const Context& context) {
  struct Shape {
    std::int64_t rows, cols, padding, skip;  // with a skipped row and an ld that is a multiple of 4, 16-byte columns
  };
  for (const Shape& shape : {Shape{43, 7, 3, 0}, Shape{597, 3, 2, 1}, Shape{611, 33, 0, 1}, Shape{1, 130, 2, 1},
                             Shape{1, 1, 0, 0}, Shape{5, 0, 0, 0}, Shape{0, 5, 3, 0}}) {
    SCOPED_TRACE(::testing::Message() << shape.rows << " x " << shape.cols);
    const std::int64_t rows = shape.rows + shape.skip;
    GuardedHost<T> anchor = normal_matrix<T>(rows, shape.cols, 1, shape.padding);
    GuardedHost<T> current = normal_matrix<T>(rows, shape.cols, 2, shape.padding);
    GuardedHost<T> previous = normal_matrix<T>(rows, shape.cols, 3, shape.padding);
    for (std::int64_t b = 0; b < shape.cols; ++b) {
      for (std::int64_t j = 0; j < rows; j += 3) current(j, b) = -anchor(j, b);  // a code of zero
      for (std::int64_t j = 1; j < rows; j += 3) {                               // a small step away
        current(j, b) *= static_cast<T>(1e-6);
        previous(j, b) *= static_cast<T>(1e-6);
      }
    }
    GuardedHost<T> wanted_anchor = anchor, wanted_current = current, wanted_previous = previous;
    for (std::int64_t b = 0; b < shape.cols; ++b) {
      for (std::int64_t j = shape.skip; j < rows; ++j) {
        const double a = anchor(j, b);
        const T z = static_cast<T>(a + static_cast<double>(current(j, b)));
        wanted_anchor(j, b) = z;
        wanted_current(j, b) = T(0);
        wanted_previous(j, b) = static_cast<T>((a + static_cast<double>(previous(j, b))) - static_cast<double>(z));
        if (j % 3 == 0) {
          EXPECT_EQ(z, T(0));
        }
      }
    }
    const auto placed_anchor = to_device(context, anchor), placed_current = to_device(context, current);
    const auto placed_previous = to_device(context, previous);
    const auto inner = [&](const Guarded<T>& placed) {
      const MatrixView<T> all = placed.matrix();
      return MatrixView<T>{all.data + shape.skip, shape.rows, shape.cols, all.ld, all.device};
    };
    refresh_anchor(context, inner(placed_anchor), inner(placed_current), inner(placed_previous));
    const auto check = [&](const GuardedHost<T>& wanted, const GuardedHost<T>& found) {
      EXPECT_TRUE(same_elements(wanted, found));
      EXPECT_TRUE(guards_intact(wanted, found));
    };
    check(wanted_anchor, to_host(context, placed_anchor));
    check(wanted_current, to_host(context, placed_current));
    check(wanted_previous, to_host(context, placed_previous));
  }
}

TEST_P(Certificate, RefreshesAnchorsOfFloat) {
  check_refresh<float>(context());
}
TEST_P(Certificate, RefreshesAnchorsOfDouble) {
  check_refresh<double>(context());
}

// ---- code_residual ----

template <class T>
struct Residual {
  GuardedHost<double> R;
  GuardedHost<T> rounded;
};

template <class T>
Residual<T> residual_of(const Context& context, const GuardedHost<double>& D, const GuardedHost<T>& Z,
                        const GuardedHost<double>& X) {
  const auto placed_D = to_device(context, D), placed_X = to_device(context, X);
  const auto placed_Z = to_device(context, Z);
  const GuardedHost<double> no_R(X.rows, X.cols, 4);
  const GuardedHost<T> no_rounded(X.rows, X.cols, 1);
  const auto R = to_device(context, no_R), alone = to_device(context, no_R);
  const auto rounded = to_device(context, no_rounded);
  const CertificateDictionary dictionary(context, placed_D.matrix());
  code_residual<T>(context, dictionary, placed_Z.matrix(), placed_X.matrix(), R.matrix(), rounded.matrix());
  code_residual<T>(context, dictionary, placed_Z.matrix(), placed_X.matrix(), alone.matrix(), {});
  Residual<T> out{to_host(context, R), to_host(context, rounded)};
  EXPECT_TRUE(same_elements(out.R, to_host(context, alone)));
  EXPECT_TRUE(guards_intact(no_R, out.R));
  EXPECT_TRUE(guards_intact(no_rounded, out.rounded));
  EXPECT_TRUE(same_elements(Z, to_host(context, placed_Z)));
  return out;
}

template <class T>
void check_residual(const Context& context) {
  for (const Size& size : kSizes) {
    SCOPED_TRACE(::testing::Message() << size.n << " x " << size.m << ", " << size.N << " problems");
    const auto D = normal_matrix<double>(size.n, size.m, 1, 5), X = normal_matrix<double>(size.n, size.N, 2, 1);
    const auto Z = codes_matrix<T>(size.m, size.N, 3);
    const Residual<T> found = residual_of(context, D, Z, X);
    for (std::int64_t b = 0; b < size.N; ++b) {
      for (std::int64_t i = 0; i < size.n; ++i) {
        long double sum = X(i, b);
        double scale = std::fabs(X(i, b));
        for (std::int64_t j = 0; j < size.m; ++j) {
          sum -= static_cast<long double>(D(i, j)) * Z(j, b);
          scale += std::fabs(D(i, j) * static_cast<double>(Z(j, b)));
        }
        const double bound = static_cast<double>(size.m + 2) * kEps * scale;
        ASSERT_NEAR(found.R(i, b), static_cast<double>(sum), bound) << i << ", " << b;
        ASSERT_EQ(found.rounded(i, b), static_cast<T>(found.R(i, b)));
      }
    }
  }
}

TEST_P(Certificate, FindsResidualsOfFloatCodes) {
  check_residual<float>(context());
}
TEST_P(Certificate, FindsResidualsOfDoubleCodes) {
  check_residual<double>(context());
}

TEST_P(Certificate, GivesAResidualColumnTheSameBitsInAnyBatch) {
  const std::int64_t n = 43, m = 597, N = 70;
  const auto D = normal_matrix<double>(n, m, 1), X = normal_matrix<double>(n, N, 2);
  const auto Z = codes_matrix<float>(m, N, 3);
  const Residual<float> all = residual_of(context(), D, Z, X);
  for (const std::vector<std::int64_t>& columns :
       {std::vector<std::int64_t>{69}, {64, 63, 3}, {1, 69, 0, 68, 33, 34, 35, 36}}) {
    const Residual<float> some = residual_of(context(), D, column_choice(Z, columns), column_choice(X, columns));
    EXPECT_TRUE(same_elements(column_choice(all.R, columns), some.R));
  }
}

TEST_P(Certificate, KeepsNaNInItsColumn) {
  const std::int64_t n = 43, m = 65, N = 9;
  const auto D = normal_matrix<double>(n, m, 1), X = normal_matrix<double>(n, N, 2);
  auto Z = codes_matrix<float>(m, N, 3);
  const Residual<float> clean = residual_of(context(), D, Z, X);
  Z(64, 3) = static_cast<float>(kNaN);
  Z(0, 7) = std::numeric_limits<float>::infinity();
  const Residual<float> found = residual_of(context(), D, Z, X);
  for (std::int64_t b = 0; b < N; ++b) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (b == 3 || b == 7) {
        EXPECT_FALSE(std::isfinite(found.R(i, b)));
      } else {
        EXPECT_TRUE(same_bits(clean.R(i, b), found.R(i, b)));
      }
    }
  }
}

// ---- correlation_max ----

std::vector<double> correlation_of(const Context& context, const GuardedHost<double>& D, const GuardedHost<double>& R) {
  const auto placed_D = to_device(context, D), placed_R = to_device(context, R);
  const GuardedHost<double> nothing(R.cols, 1);
  const auto result = to_device(context, nothing);
  const std::int64_t elements = correlation_scratch(context, D.cols, R.cols);
  const GuardedHost<double> no_scratch(elements, 1);
  const auto scratch = to_device(context, no_scratch);
  const CertificateDictionary dictionary(context, placed_D.matrix());
  correlation_max(context, dictionary, placed_R.matrix(), result.vector(), scratch.vector());
  const auto found = to_host(context, result);
  EXPECT_TRUE(guards_intact(nothing, found));
  EXPECT_TRUE(guards_intact(no_scratch, to_host(context, scratch)));
  return std::vector<double>(found.memory.begin() + GuardedHost<double>::kGuard,
                             found.memory.begin() + GuardedHost<double>::kGuard + R.cols);
}

TEST_P(Certificate, FindsTheLargestCorrelation) {
  for (const Size& size : kSizes) {
    SCOPED_TRACE(::testing::Message() << size.n << " x " << size.m << ", " << size.N << " problems");
    const auto D = normal_matrix<double>(size.n, size.m, 1, 5), R = normal_matrix<double>(size.n, size.N, 2, 1);
    const std::vector<double> found = correlation_of(context(), D, R);
    for (std::int64_t b = 0; b < size.N; ++b) {
      long double wanted = 0;
      double scale = 0;
      for (std::int64_t j = 0; j < size.m; ++j) {
        long double dot = 0;
        double sum = 0;
        for (std::int64_t i = 0; i < size.n; ++i) {
          dot += static_cast<long double>(D(i, j)) * R(i, b);
          sum += std::fabs(D(i, j) * R(i, b));
        }
        wanted = std::max(wanted, std::fabs(dot));
        scale = std::max(scale, sum);
      }
      ASSERT_NEAR(found[static_cast<std::size_t>(b)], static_cast<double>(wanted),
                  static_cast<double>(size.n + 1) * kEps * scale);
    }
    EXPECT_EQ(correlation_of(context(), D, R), found);
  }
}

TEST_P(Certificate, FindsTheLargestEntryUnderTheIdentity) {
  const std::int64_t n = 130;
  const auto D = GuardedHost<double>::make(n, n, [](std::int64_t i, std::int64_t j) { return i == j; });
  auto R = normal_matrix<double>(n, n, 2);
  for (std::int64_t b = 0; b < n; ++b) R(b, b) = b % 2 == 0 ? 50.0 + static_cast<double>(b) : -77.0;  // in every place
  const std::vector<double> found = correlation_of(context(), D, R);
  for (std::int64_t b = 0; b < n; ++b)
    EXPECT_EQ(found[static_cast<std::size_t>(b)], b % 2 == 0 ? 50.0 + static_cast<double>(b) : 77.0);
}

TEST_P(Certificate, GivesACorrelationTheSameBitsInAnyBatch) {
  const std::int64_t n = 43, m = 597, N = 70;
  const auto D = normal_matrix<double>(n, m, 1), R = normal_matrix<double>(n, N, 2);
  const std::vector<double> all = correlation_of(context(), D, R);
  for (const std::vector<std::int64_t>& columns : {std::vector<std::int64_t>{69}, {64, 63, 3}, {1, 69, 0, 68, 33}}) {
    const std::vector<double> some = correlation_of(context(), D, column_choice(R, columns));
    for (std::size_t k = 0; k < columns.size(); ++k) EXPECT_EQ(some[k], all[static_cast<std::size_t>(columns[k])]) << k;
  }
}

TEST_P(Certificate, CorrelationOfNaNIsNaN) {
  const std::int64_t n = 17, m = 200, N = 70;
  const auto D = normal_matrix<double>(n, m, 1);
  auto R = normal_matrix<double>(n, N, 2);
  const std::vector<double> clean = correlation_of(context(), D, R);
  for (const std::int64_t b : {0, 31, 64, 69}) R(b % n, b) = kNaN;
  const std::vector<double> found = correlation_of(context(), D, R);
  for (std::int64_t b = 0; b < N; ++b) {
    const auto k = static_cast<std::size_t>(b);
    if (b == 0 || b == 31 || b == 64 || b == 69) {
      EXPECT_TRUE(std::isnan(found[k])) << b;
    } else {
      EXPECT_EQ(found[k], clean[k]) << b;
    }
  }
}

// ---- dual_gap ----

struct Gaps {
  GuardedHost<double> primal, gap;
};

template <class T>
Gaps gaps_of(const Context& context, const GuardedHost<double>& X, const GuardedHost<double>& R,
             const GuardedHost<double>& correlation, const GuardedHost<T>& Z, const GuardedHost<double>& lambda) {
  const auto placed_X = to_device(context, X), placed_R = to_device(context, R);
  const auto placed_correlation = to_device(context, correlation), placed_lambda = to_device(context, lambda);
  const auto placed_Z = to_device(context, Z);
  const GuardedHost<double> nothing(X.cols, 1);
  const auto primal = to_device(context, nothing), gap = to_device(context, nothing);
  dual_gap<T>(context, placed_X.matrix(), placed_R.matrix(), placed_correlation.vector(), placed_Z.matrix(), 0.0,
              placed_lambda.vector(), primal.vector(), gap.vector());
  Gaps out{to_host(context, primal), to_host(context, gap)};
  EXPECT_TRUE(guards_intact(nothing, out.primal));
  EXPECT_TRUE(guards_intact(nothing, out.gap));
  return out;
}

/// What the certificate needs besides the codes, for any R: the sums do not ask where R came from.
struct GapInputs {
  GuardedHost<double> X, R, correlation, lambda;
};

GapInputs gap_inputs(std::int64_t n, std::int64_t N) {
  GapInputs in;
  in.X = normal_matrix<double>(n, N, 1, 2);
  in.R = normal_matrix<double>(n, N, 2, 5);
  in.correlation =
      GuardedHost<double>::make(N, 1, [](std::int64_t b, std::int64_t) { return b % 4 == 3 ? 0 : 0.3 * (b + 1); });
  in.lambda =
      GuardedHost<double>::make(N, 1, [](std::int64_t b, std::int64_t) { return b % 6 == 5 ? 0 : 0.2 * (b % 7 + 1); });
  for (std::int64_t b = 4; b < N; b += 8) {
    for (std::int64_t i = 0; i < n; ++i) in.R(i, b) = b % 16 == 4 ? 0.0 : in.X(i, b);
  }
  return in;
}

template <class T>
void check_gap(const Context& context) {
  for (const Size& size : kSizes) {
    SCOPED_TRACE(::testing::Message() << size.n << " x " << size.m << ", " << size.N << " problems");
    const GapInputs in = gap_inputs(size.n, size.N);
    const auto Z = codes_matrix<T>(size.m, size.N, 3);
    const Gaps found = gaps_of(context, in.X, in.R, in.correlation, Z, in.lambda);
    for (std::int64_t b = 0; b < size.N; ++b) {
      long double xx = 0, rr = 0, xr = 0, l1 = 0;
      for (std::int64_t i = 0; i < size.n; ++i) {
        xx += static_cast<long double>(in.X(i, b)) * in.X(i, b);
        rr += static_cast<long double>(in.R(i, b)) * in.R(i, b);
        xr += static_cast<long double>(in.X(i, b)) * in.R(i, b);
      }
      for (std::int64_t j = 0; j < size.m; ++j) l1 += std::fabs(static_cast<long double>(Z(j, b)));
      const long double primal = rr / 2 + in.lambda(b) * l1;
      long double gap = primal;
      if (rr > 0) {
        // 1/2 ||x||^2 - 1/2 ||x - s r||^2 at the best s with |s| <= lambda / correlation.
        const long double largest = in.correlation(b) > 0 ? in.lambda(b) / static_cast<long double>(in.correlation(b))
                                    : in.lambda(b) > 0    ? std::numeric_limits<long double>::infinity()
                                                          : std::numeric_limits<long double>::quiet_NaN();
        if (std::isnan(largest)) continue;  // 0 / 0: lambda = 0 has no certificate
        const long double s = std::min(std::max(xr / rr, -largest), largest);
        long double apart = 0;
        for (std::int64_t i = 0; i < size.n; ++i) {
          const long double d = in.X(i, b) - s * in.R(i, b);
          apart += d * d;
        }
        gap = std::max(0.0L, primal - (xx / 2 - apart / 2));
      }
      // n + m roundings in sums of squares and magnitudes, the cancellation in <x, r>, and what is added on purpose.
      const double terms = static_cast<double>(size.n + size.m + 100);
      const double magnitude = static_cast<double>(primal + std::sqrt(xx * rr) + xx);
      ASSERT_NEAR(found.primal(b), static_cast<double>(primal), terms * kEps * static_cast<double>(primal)) << b;
      ASSERT_NEAR(found.gap(b), static_cast<double>(gap), 4 * terms * kEps * magnitude) << b;
      ASSERT_GE(found.gap(b), 0.0);
    }
  }
}

TEST_P(Certificate, FindsGapsOfFloatCodes) {
  check_gap<float>(context());
}
TEST_P(Certificate, FindsGapsOfDoubleCodes) {
  check_gap<double>(context());
}

TEST_P(Certificate, TheSolutionUnderTheIdentityHasNoGap) {
  // D = I: the solution is st(x, lambda), the zero code has the gap 1/2 ||x||^2 - dual by hand.
  const std::int64_t n = 67, N = 33;
  const auto D = GuardedHost<double>::make(n, n, [](std::int64_t i, std::int64_t j) { return i == j; });
  const auto X = normal_matrix<double>(n, N, 1);
  const auto lambda = GuardedHost<double>::make(N, 1, [](std::int64_t b, std::int64_t) { return 0.05 * (b + 1); });
  const auto vector = [](const std::vector<double>& values) {
    return GuardedHost<double>::make(static_cast<std::int64_t>(values.size()), 1,
                                     [&](std::int64_t i, std::int64_t) { return values[static_cast<std::size_t>(i)]; });
  };
  for (const bool solved : {true, false}) {
    const auto Z = GuardedHost<double>::make(
        n, N, [&](std::int64_t i, std::int64_t b) { return solved ? soft_threshold(X(i, b), lambda(b)) : 0.0; });
    const Residual<double> residual = residual_of(context(), D, Z, X);
    const std::vector<double> correlation = correlation_of(context(), D, residual.R);
    const Gaps found = gaps_of(context(), X, residual.R, vector(correlation), Z, lambda);
    for (std::int64_t b = 0; b < N; ++b) {
      double energy = 0, largest = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        energy += X(i, b) * X(i, b);
        largest = std::max(largest, std::fabs(X(i, b)));
      }
      const double s = std::min(1.0, lambda(b) / largest);
      const double wanted = solved ? 0 : 0.5 * energy * (1 - s) * (1 - s);
      EXPECT_NEAR(found.gap(b), wanted, 200 * kEps * energy) << b;
    }
  }
}

// ---- penalties ----

struct Penalised {
  bool weighted, nonnegative;
  double ridge;
  std::int64_t group_size = 1;  // 0 for all of m
};
// In groups of 100 and more a group lies in several tiles, in groups of 3 it is cut by their ends.
constexpr Penalised kPenalties[] = {{true, false, 0},     {false, true, 0},      {false, false, 0.7},
                                    {true, true, 3},      {true, false, 0.7, 3}, {false, false, 0, 100},
                                    {true, false, 0.3, 0}};

/// The largest correlation and the gap under each penalty against the formulas in long double.
template <class T>
void check_penalties(const Context& context) {
  constexpr double kWeights[] = {1, 0.25, 3, std::numeric_limits<double>::infinity(), 0.75};
  for (const Size& size : {Size{43, 597, 7}, {302, 211, 33}, {1, 1, 1}, {5, 1, 130}, {17, 1300, 3}, {7, 3, 0}}) {
    const auto D = normal_matrix<double>(size.n, size.m, 1, 5), X = normal_matrix<double>(size.n, size.N, 2, 1);
    for (const Penalised& kind : kPenalties) {
      const std::int64_t group_size = kind.group_size > 0 ? kind.group_size : size.m;
      if (size.m % group_size != 0) continue;
      if (testing::kThreadSanitizer && group_size > 1 && size.m > 600) continue;
      SCOPED_TRACE(::testing::Message() << size.n << " x " << size.m << ", " << size.N << " problems, ridge "
                                        << kind.ridge << ", groups of " << group_size);
      auto Z = codes_matrix<T>(size.m, size.N, 3);
      const auto weight = [&](std::int64_t j) { return kind.weighted ? kWeights[j / group_size % 5] : 1.0; };
      for (std::int64_t b = 0; b < size.N; ++b)
        for (std::int64_t j = 0; j < size.m; ++j)
          if (std::isinf(weight(j)) || (kind.nonnegative && Z(j, b) < T(0))) Z(j, b) = T(0);
      const auto placed_D = to_device(context, D), placed_X = to_device(context, X);
      const auto placed_Z = to_device(context, Z);
      const auto weights = to_device(
          context, GuardedHost<double>::make(size.m / group_size, 1,
                                             [&](std::int64_t g, std::int64_t) { return weight(g * group_size); }));
      const auto lambda = to_device(
          context, GuardedHost<double>::make(size.N, 1, [](std::int64_t b, std::int64_t) { return 0.5 * (b + 1.0); }));
      const GuardedHost<double> none(size.N, 1);
      const auto R = to_device(context, GuardedHost<double>(size.n, size.N, 4));
      const auto largest = to_device(context, none), first = to_device(context, none);
      const auto primal = to_device(context, none), gap = to_device(context, none);
      const CertificateDictionary dictionary(context, placed_D.matrix());
      const Tensor<double> scratch(context, correlation_scratch(context, size.m, size.N, group_size));
      PenaltyView<double> penalty{{}, kind.ridge, kind.nonnegative, group_size};
      if (kind.weighted) penalty.weights = weights.vector();
      code_residual<T>(context, dictionary, placed_Z.matrix(), placed_X.matrix(), R.matrix(), {});
      correlation_max<T>(context, dictionary, R.matrix(), placed_Z.matrix(), penalty, largest.vector(),
                         scratch.vector());
      correlation_max<T>(context, dictionary, placed_X.matrix(), {}, penalty, first.vector(), scratch.vector());
      dual_gap<T>(context, placed_X.matrix(), R.matrix(), largest.vector(), placed_Z.matrix(), 1.0, lambda.vector(),
                  primal.vector(), gap.vector(), penalty);
      const auto found_R = to_host(context, R), found = to_host(context, largest), at_zero = to_host(context, first);
      const auto found_primal = to_host(context, primal), found_gap = to_host(context, gap);
      EXPECT_TRUE(guards_intact(none, found));
      EXPECT_TRUE(guards_intact(none, found_gap));
      for (std::int64_t b = 0; b < size.N; ++b) {
        long double most = 0, most_at_zero = 0, bound = 0, rr = 0, xr = 0, magnitude = 0;
        double reach = 0;
        for (std::int64_t i = 0; i < size.n; ++i) {
          rr += static_cast<long double>(found_R(i, b)) * found_R(i, b);
          xr += static_cast<long double>(found_R(i, b)) * X(i, b);
        }
        const long double terms = rr;
        long double group = 0, group_at_zero = 0, group_bound = 0, group_z = 0;  // sums of squares
        for (std::int64_t j = 0; j < size.m; ++j) {
          const long double z = Z(j, b);
          long double c = -kind.ridge * z, cx = 0, of = std::fabs(c);
          for (std::int64_t i = 0; i < size.n; ++i) {
            c += static_cast<long double>(D(i, j)) * found_R(i, b);
            cx += static_cast<long double>(D(i, j)) * X(i, b);
            of += std::fabs(static_cast<long double>(D(i, j)) * (std::fabs(found_R(i, b)) + std::fabs(X(i, b))));
          }
          rr += kind.ridge * z * z;
          reach += static_cast<double>(std::fabs(z));
          if (j % group_size == 0) group = group_at_zero = group_bound = group_z = 0;
          if (!kind.nonnegative || c > 0) group += c * c;
          if (!kind.nonnegative || cx > 0) group_at_zero += cx * cx;
          group_bound += of * of;
          group_z += z * z;
          if ((j + 1) % group_size != 0) continue;
          most = std::max(most, std::sqrt(group) / weight(j));
          most_at_zero = std::max(most_at_zero, std::sqrt(group_at_zero) / weight(j));
          bound = std::max(bound, std::sqrt(group_bound) / weight(j));
          if (group_z != 0) magnitude += weight(j) * std::sqrt(group_z);
        }
        const double correlation_bound = static_cast<double>((size.n + group_size + 6) * kEps * bound);
        ASSERT_NEAR(found(b), static_cast<double>(most), correlation_bound) << b;
        ASSERT_NEAR(at_zero(b), static_cast<double>(most_at_zero), correlation_bound) << b;
        const double l = 0.5 * (b + 1.0);
        const long double objective = rr / 2 + l * magnitude;
        const double relative = static_cast<double>(size.n + size.m + 8) * kEps;
        ASSERT_NEAR(found_primal(b), static_cast<double>(objective), relative * static_cast<double>(objective)) << b;
        if (rr == 0) continue;
        const long double limit = found(b) > 0 ? l / static_cast<long double>(found(b)) : 1e300L;
        const long double s = std::min(std::max(xr / rr, kind.nonnegative ? 0 : -limit), limit);
        const long double wanted = objective - s * xr + s * s * rr / 2;
        // Sums of magnitudes at most ||x||^2 + ||r||^2, squared scales, and what the gap itself adds for rounding.
        long double xx = 0;
        for (std::int64_t i = 0; i < size.n; ++i) xx += static_cast<long double>(X(i, b)) * X(i, b);
        const long double size_of = objective + std::fabs(s) * (xx + terms) + s * s * rr;
        const double delta = 4 * kEps * (std::sqrt(static_cast<double>(rr)) + 2 * reach);
        const double added = static_cast<double>(16 * kEps * (objective + std::fabs(s * xr))) +
                             std::sqrt(static_cast<double>(rr)) * delta + delta * delta;
        ASSERT_GE(found_gap(b), 0) << b;
        ASSERT_NEAR(found_gap(b), static_cast<double>(wanted), 4 * relative * static_cast<double>(size_of) + added)
            << b;
      }
    }
  }
}

TEST_P(Certificate, FindsGapsUnderPenaltiesOfFloatCodes) {
  check_penalties<float>(context());
}
TEST_P(Certificate, FindsGapsUnderPenaltiesOfDoubleCodes) {
  check_penalties<double>(context());
}

TEST_P(Certificate, NaNStaysNaNUnderAPenalty) {
  const auto D = normal_matrix<double>(5, 700, 1);
  auto X = normal_matrix<double>(5, 3, 2);
  X(2, 1) = kNaN;
  const auto placed_D = to_device(context(), D), placed_X = to_device(context(), X);
  const CertificateDictionary dictionary(context(), placed_D.matrix());
  const Tensor<double> scratch(context(), correlation_scratch(context(), 700, 3)), result(context(), 3);
  correlation_max<double>(context(), dictionary, placed_X.matrix(), {}, {{}, 1, true}, result.vector(),
                          scratch.vector());
  const std::vector<double> found = testing::to_host(context(), result);
  EXPECT_TRUE(found[0] > 0 && std::isnan(found[1]) && found[2] > 0);
}

// ---- a column's bits, and NaN ----

TEST_P(Certificate, GivesAGapTheSameBitsInAnyBatch) {
  const std::int64_t n = 43, m = 597, N = 40;
  const GapInputs in = gap_inputs(n, N);
  const auto Z = codes_matrix<float>(m, N, 3);
  const Gaps all = gaps_of(context(), in.X, in.R, in.correlation, Z, in.lambda);
  const std::vector<std::int64_t> columns = {39, 0, 17, 18};
  const auto pick = [&](const GuardedHost<double>& from) {
    return GuardedHost<double>::make(static_cast<std::int64_t>(columns.size()), 1, [&](std::int64_t i, std::int64_t) {
      return from(columns[static_cast<std::size_t>(i)]);
    });
  };
  const Gaps some = gaps_of(context(), column_choice(in.X, columns), column_choice(in.R, columns), pick(in.correlation),
                            column_choice(Z, columns), pick(in.lambda));
  EXPECT_TRUE(same_elements(pick(all.primal), some.primal));
  EXPECT_TRUE(same_elements(pick(all.gap), some.gap));
}

TEST_P(Certificate, GapOfNaNIsNaN) {
  const std::int64_t n = 43, m = 65, N = 12;
  GapInputs in = gap_inputs(n, N);
  auto Z = codes_matrix<float>(m, N, 3);
  in.X(42, 1) = kNaN;
  in.R(0, 2) = kNaN;
  in.correlation(6) = kNaN;
  Z(64, 8) = static_cast<float>(kNaN);
  in.lambda(9) = kNaN;
  const Gaps found = gaps_of(context(), in.X, in.R, in.correlation, Z, in.lambda);
  for (const std::int64_t b : {1, 2, 6, 8, 9}) EXPECT_TRUE(std::isnan(found.gap(b))) << b;
  for (const std::int64_t b : {0, 4, 10}) EXPECT_FALSE(std::isnan(found.gap(b))) << b;
}

// ---- errors ----

TEST_P(Certificate, GroupsAreTheSameBitsInAnyBatchAndNaNStays) {
  const std::int64_t m = 600, N = 9;
  const auto D = normal_matrix<double>(5, m, 1);
  auto X = normal_matrix<double>(5, N, 2);
  X(2, 1) = kNaN;
  const auto placed_D = to_device(context(), D);
  const CertificateDictionary dictionary(context(), placed_D.matrix());
  for (const std::int64_t group_size : {3, 300}) {
    const auto find = [&](const Context& on, const GuardedHost<double>& columns) {
      const auto placed = to_device(on, columns);
      const Tensor<double> scratch(on, correlation_scratch(on, m, columns.cols, group_size)), result(on, columns.cols);
      correlation_max<double>(on, dictionary, placed.matrix(), {}, {{}, 0, false, group_size}, result.vector(),
                              scratch.vector());
      return testing::to_host(on, result);
    };
    const std::vector<double> all = find(context(), X);
    for (std::int64_t b = 0; b < N; ++b) {
      EXPECT_EQ(std::isnan(all[static_cast<std::size_t>(b)]), b == 1) << b;
      if (b == 1) continue;
      EXPECT_EQ(find(context(), column_choice(X, {b})).front(), all[static_cast<std::size_t>(b)]) << b;
    }
    if (context().is_cuda()) continue;
    EXPECT_EQ(find(Context::cpu(7), column_choice(X, {0, 2})).back(), all[2]);
  }
}

TEST_P(Certificate, RefusesGroupsThatDoNotFit) {
  const Context& c = context();
  const CertificateDictionary dictionary(c, Tensor<double>::zeros(c, 5, 8).matrix());
  const auto R = Tensor<double>::zeros(c, 5, 3), codes = Tensor<double>::zeros(c, 8, 3);
  const auto weights = Tensor<double>::zeros(c, 8), numbers = Tensor<double>::zeros(c, 3);
  const Tensor<double> scratch(c, correlation_scratch(c, 8, 3, 4));
  const auto run = [&](PenaltyView<double> penalty) {
    correlation_max<double>(c, dictionary, R.matrix(), {}, penalty, numbers.vector(), scratch.vector());
  };
  const auto measure = [&](PenaltyView<double> penalty) {
    dual_gap<double>(c, R.matrix(), R.matrix(), numbers.vector(), codes.matrix(), 1.0, numbers.vector(),
                     numbers.vector(), numbers.vector(), penalty);
  };
  run({{}, 0, false, 4});
  for (const auto& call : {std::function<void(PenaltyView<double>)>(run), {measure}}) {
    EXPECT_THROW(call({weights.vector(), 0, false, 4}), ShapeError);
    EXPECT_THROW(call({{}, 0, false, 3}), ShapeError);
    EXPECT_THROW(call({{}, 0, false, -1}), ValueError);
    EXPECT_THROW(call({{}, 0, true, 4}), ValueError);
  }
}

TEST_P(Certificate, RefusesWhatDoesNotFit) {
  const Context& c = context();
  const CertificateDictionary dictionary(c, Tensor<double>::zeros(c, 5, 8).matrix());
  const Tensor<double> X(c, 5, 3), R(c, 5, 3), wrong(c, 4, 3);
  const Tensor<float> codes(c, 8, 3), fewer(c, 8, 2), rounded(c, 5, 3);
  const Tensor<double> numbers(c, 3), few(c, 2);
  EXPECT_THROW(refresh_anchor(c, codes.matrix(), codes.matrix(), fewer.matrix()), ShapeError);
  EXPECT_THROW(code_residual<float>(c, dictionary, fewer.matrix(), X.matrix(), R.matrix(), {}), ShapeError);
  EXPECT_THROW(code_residual<float>(c, dictionary, codes.matrix(), wrong.matrix(), R.matrix(), {}), ShapeError);
  EXPECT_THROW(code_residual<float>(c, dictionary, codes.matrix(), X.matrix(), wrong.matrix(), {}), ShapeError);
  EXPECT_THROW(code_residual<float>(c, dictionary, codes.matrix(), X.matrix(), R.matrix(), fewer.matrix()), ShapeError);
  const Tensor<double> scratch(c, correlation_scratch(c, 8, 3));
  EXPECT_THROW(correlation_max(c, dictionary, wrong.matrix(), numbers.vector(), scratch.vector()), ShapeError);
  EXPECT_THROW(correlation_max(c, dictionary, R.matrix(), few.vector(), scratch.vector()), ShapeError);
  EXPECT_THROW(correlation_max(c, dictionary, R.matrix(), numbers.vector(), {}), ShapeError);
  EXPECT_THROW(dual_gap<float>(c, X.matrix(), R.matrix(), few.vector(), codes.matrix(), 1.0, numbers.vector(),
                               numbers.vector(), numbers.vector()),
               ShapeError);
  EXPECT_THROW(dual_gap<float>(c, X.matrix(), wrong.matrix(), numbers.vector(), codes.matrix(), 1.0, numbers.vector(),
                               numbers.vector(), numbers.vector()),
               ShapeError);
  MatrixView<double> elsewhere = R.matrix();
  elsewhere.device = c.is_cuda() ? Device{} : Device{DeviceType::cuda, 0};
  EXPECT_THROW(code_residual<float>(c, dictionary, codes.matrix(), X.matrix(), elsewhere, {}), DeviceError);
  EXPECT_THROW(correlation_max(c, dictionary, elsewhere, numbers.vector(), scratch.vector()), DeviceError);
  EXPECT_THROW(dual_gap<float>(c, X.matrix(), elsewhere, numbers.vector(), codes.matrix(), 1.0, numbers.vector(),
                               numbers.vector(), numbers.vector()),
               DeviceError);
}

template <class T>
struct QueuedCertificate {
  static constexpr std::int64_t n = 20, m = 140, N = 9;
  const Context& context;
  CertificateDictionary D;
  Tensor<double> X, R, correlation, scratch, lambda, primal, gap;
  Tensor<T> anchor, current, previous, rounded;

  explicit QueuedCertificate(const Context& c)
      : context(c),
        D(c, testing::numbers<double>(c, n, m, 1).matrix()),
        X(testing::numbers<double>(c, n, N, 2)),
        R(Tensor<double>::zeros(c, n, N)),
        correlation(Tensor<double>::zeros(c, N)),
        scratch(c, correlation_scratch(c, m, N)),
        lambda(testing::to_device(c, std::vector<double>(N, 0.5), N)),
        primal(Tensor<double>::zeros(c, N)),
        gap(Tensor<double>::zeros(c, N)),
        anchor(testing::numbers<T>(c, m, N, 3)),
        current(testing::numbers<T>(c, m, N, 4)),
        previous(testing::numbers<T>(c, m, N, 5)),
        rounded(Tensor<T>::zeros(c, n, N)) {}
  void queue() {
    refresh_anchor(context, anchor.matrix(), current.matrix(), previous.matrix());
    code_residual<T>(context, D, anchor.matrix(), X.matrix(), R.matrix(), rounded.matrix());
    correlation_max(context, D, R.matrix(), correlation.vector(), scratch.vector());
    dual_gap<T>(context, X.matrix(), R.matrix(), correlation.vector(), anchor.matrix(), 1.0, lambda.vector(),
                primal.vector(), gap.vector());
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, anchor, current, previous, R, rounded, correlation, primal, gap);
  }
};

class CertificateQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(CertificateQueued);

TEST_P(CertificateQueued, RunsOnABorrowedStreamAndInAGraphInFloat) {
  testing::check_queued<QueuedCertificate<float>>();
}
TEST_P(CertificateQueued, RunsOnABorrowedStreamAndInAGraphInDouble) {
  testing::check_queued<QueuedCertificate<double>>();
}

}  // namespace
}  // namespace shrinkwarp
