#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

#include "tests/support/atoms.hpp"

namespace shrinkwarp {
namespace {

using testing::AlignedBand;
using testing::GuardedHost;
using testing::normal_atoms;
using testing::padded;
using testing::padded_rows;
using testing::same_bits;

constexpr double kUnit = std::numeric_limits<double>::epsilon() / 2;
constexpr std::int64_t kRows[] = {1, 2, 15, 16, 17, 31, 33, 302};

/// A column in an aligned band, zeros up to whole vectors.
AlignedBand<double> banded(const GuardedHost<double>& host, std::int64_t j) {
  AlignedBand<double> band(padded_rows(host.rows));
  for (std::int64_t i = 0; i < band.size(); ++i) band[i] = i < host.rows ? host(i, j) : 0;
  return band;
}

/// Every third atom, backwards, some twice: as unsorted as a list may be.
std::vector<std::int32_t> some_atoms(std::int64_t count, std::int64_t m) {
  std::vector<std::int32_t> atoms;
  for (std::int64_t k = 0; k < count; ++k) atoms.push_back(static_cast<std::int32_t>((3 * (count - k)) % m));
  return atoms;
}

TEST(SubtractAtoms, ByHand) {
  const auto D = padded<double>(GuardedHost<double>::make(
      3, 2, [](std::int64_t i, std::int64_t j) { return j == 0 ? static_cast<double>(i + 1) : -4.0; }));
  const auto x = banded(GuardedHost<double>::make(3, 1, [](std::int64_t, std::int64_t) { return 10; }), 0);
  AlignedBand<double> r(x.size());
  const std::int32_t atoms[] = {1, 0};
  const double values[] = {0.5, 3};
  subtract_atoms(D.matrix(), atoms, values, 2, x.data(), r.data());
  EXPECT_EQ(r[0], 10 + 2 - 3);
  EXPECT_EQ(r[1], 10 + 2 - 6);
  EXPECT_EQ(r[2], 10 + 2 - 9);
  double correlations[2];
  correlate_atoms(D.matrix(), atoms, 2, r.data(), correlations);
  EXPECT_EQ(correlations[0], -4 * (9 + 6 + 3));
  EXPECT_EQ(correlations[1], 9 + 2 * 6 + 3 * 3);
  EXPECT_EQ(dot(x.data(), r.data(), x.size()), 10 * (9 + 6 + 3));
}

TEST(SubtractAtoms, IsWhatLongDoubleGives) {
  const std::int64_t m = 20;
  for (const std::int64_t n : kRows) {
    const auto host = normal_atoms(n, m, 1), X = normal_atoms(n, 1, 2), Z = normal_atoms(m, 1, 3);
    const auto D = padded<double>(host);
    for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 8, 11}) {
      SCOPED_TRACE(::testing::Message() << n << " rows, " << count << " atoms");
      const auto atoms = some_atoms(count, m);
      const auto x = banded(X, 0);
      AlignedBand<double> r(x.size());
      subtract_atoms(D.matrix(), atoms.data(), &Z(0), count, x.data(), r.data());
      for (std::int64_t i = 0; i < n; ++i) {
        long double wanted = X(i), magnitude = std::fabs(X(i));
        for (std::int64_t k = 0; k < count; ++k) {
          const long double term = static_cast<long double>(Z(k)) * host(i, atoms[static_cast<std::size_t>(k)]);
          wanted -= term;
          magnitude += std::fabs(term);
        }
        // A product and a difference an atom, each rounded where nothing is fused.
        ASSERT_NEAR(r[i], static_cast<double>(wanted),
                    static_cast<double>(2 * count + 1) * kUnit * static_cast<double>(magnitude));
      }
      for (std::int64_t i = n; i < r.size(); ++i) ASSERT_EQ(r[i], 0) << "padding " << i;
      EXPECT_TRUE(r.guards_intact());

      const auto in_place = banded(X, 0);  // x is r
      subtract_atoms(D.matrix(), atoms.data(), &Z(0), count, in_place.data(), in_place.data());
      for (std::int64_t i = 0; i < r.size(); ++i) ASSERT_TRUE(same_bits(r[i], in_place[i])) << i;

      // The atoms in their order: one after the other gives the same bits.
      const auto one_by_one = banded(X, 0);
      for (std::int64_t k = 0; k < count; ++k) {
        subtract_atoms(D.matrix(), &atoms[static_cast<std::size_t>(k)], &Z(k), 1, one_by_one.data(), one_by_one.data());
      }
      for (std::int64_t i = 0; i < r.size(); ++i) ASSERT_TRUE(same_bits(r[i], one_by_one[i])) << i;
    }
  }
}

TEST(CorrelateAtoms, IsWhatLongDoubleGives) {
  const std::int64_t m = 20;
  for (const std::int64_t n : kRows) {
    const auto host = normal_atoms(n, m, 1), R = normal_atoms(n, 1, 2);
    const auto D = padded<double>(host);
    const auto r = banded(R, 0);
    for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 8, 11}) {
      SCOPED_TRACE(::testing::Message() << n << " rows, " << count << " atoms");
      const auto atoms = some_atoms(count, m);
      AlignedBand<double> result(count);
      correlate_atoms(D.matrix(), atoms.data(), count, r.data(), result.data());
      for (std::int64_t k = 0; k < count; ++k) {
        const std::int32_t j = atoms[static_cast<std::size_t>(k)];
        long double wanted = 0, magnitude = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          wanted += static_cast<long double>(host(i, j)) * R(i);
          magnitude += std::fabs(static_cast<long double>(host(i, j)) * R(i));
        }
        // Sixteen chains of n / 16 and their four additions; one more where products are rounded.
        ASSERT_NEAR(result[k], static_cast<double>(wanted),
                    (static_cast<double>(n) / 16 + 6) * kUnit * static_cast<double>(magnitude));
        ASSERT_TRUE(same_bits(result[k], dot(D.matrix().column(j), r.data(), r.size())));
      }
      EXPECT_TRUE(result.guards_intact());
    }
  }
}

TEST(CorrelateAll, IsWhatLongDoubleGives) {
  for (const std::int64_t n : {1, 2, 15, 33, 302}) {
    for (const std::int64_t m : {1, 15, 16, 17, 63, 64, 65, 130}) {
      SCOPED_TRACE(::testing::Message() << n << " rows, " << m << " atoms");
      const auto D = normal_atoms(n, m, 1), R = normal_atoms(n, 1, 2);
      const auto transposed =
          padded<double>(GuardedHost<double>::make(m, n, [&](std::int64_t j, std::int64_t i) { return D(i, j); }));
      const auto r = banded(R, 0);
      AlignedBand<double> result(padded_rows(m));
      correlate_all(transposed.matrix(), r.data(), result.data());
      for (std::int64_t j = 0; j < m; ++j) {
        long double wanted = 0, magnitude = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          wanted += static_cast<long double>(D(i, j)) * R(i);
          magnitude += std::fabs(static_cast<long double>(D(i, j)) * R(i));
        }
        // A chain of n, each product rounded too where nothing is fused.
        ASSERT_NEAR(result[j], static_cast<double>(wanted),
                    static_cast<double>(n + 1) * kUnit * static_cast<double>(magnitude));
      }
      for (std::int64_t j = m; j < result.size(); ++j) ASSERT_EQ(result[j], 0) << "padding " << j;
      EXPECT_TRUE(result.guards_intact());
    }
  }
}

TEST(CorrelateAll, OfSeveralVectorsHasTheBitsOfEach) {
  for (const std::int64_t n : {1, 33}) {
    for (const std::int64_t m : {1, 16, 130}) {
      const auto D = normal_atoms(n, m, 1), R = normal_atoms(n, 9, 2);
      const auto transposed =
          padded<double>(GuardedHost<double>::make(m, n, [&](std::int64_t j, std::int64_t i) { return D(i, j); }));
      for (const std::int64_t count : {0, 1, 3, 4, 5, 9}) {
        SCOPED_TRACE(::testing::Message() << n << " rows, " << m << " atoms, " << count << " vectors");
        std::vector<const double*> vectors;
        for (std::int64_t k = 0; k < count; ++k) vectors.push_back(&R(0, k));
        AlignedBand<double> result(padded_rows(m) * count), alone(padded_rows(m));
        correlate_all(transposed.matrix(), vectors.data(), count,
                      {result.data(), padded_rows(m), count, padded_rows(m), {}});
        for (std::int64_t k = 0; k < count; ++k) {
          correlate_all(transposed.matrix(), vectors[static_cast<std::size_t>(k)], alone.data());
          for (std::int64_t j = 0; j < alone.size(); ++j)
            ASSERT_TRUE(same_bits(result[k * alone.size() + j], alone[j])) << "vector " << k << ", atom " << j;
        }
        EXPECT_TRUE(result.guards_intact());
      }
    }
  }
}

TEST(LargestMagnitude, IsTheLargestWhereverItStands) {
  for (std::int64_t size = 1; size <= 40; ++size) {
    std::vector<double> x(static_cast<std::size_t>(size), -0.5);
    for (auto& at : x) {
      const double before = at;
      at = -3;
      ASSERT_EQ(largest_magnitude(x.data(), size), 3) << size;
      at = std::numeric_limits<double>::quiet_NaN();
      ASSERT_EQ(largest_magnitude(x.data(), size), size > 1 ? 0.5 : 0) << size;
      at = before;
    }
  }
  EXPECT_EQ(largest_magnitude(nullptr, 0), 0);
}

/// The largest |result - d'r| / (float_error ||d|| ||r||) of atoms and a vector that are rounded to float first.
double float_looseness(const GuardedHost<double>& host, const GuardedHost<double>& R, std::int64_t count) {
  const auto D = padded<float>(host);
  const auto r = padded<float>(R);
  const auto atoms = some_atoms(count, host.cols);
  AlignedBand<float> result(count);
  correlate_atoms(D.matrix(), atoms.data(), count, r.data(), result.data());
  EXPECT_TRUE(result.guards_intact());
  double most = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int32_t j = atoms[static_cast<std::size_t>(k)];
    long double wanted = 0, dd = 0, rr = 0;
    for (std::int64_t i = 0; i < host.rows; ++i) {
      wanted += static_cast<long double>(host(i, j)) * R(i);
      dd += static_cast<long double>(host(i, j)) * host(i, j);
      rr += static_cast<long double>(R(i)) * R(i);
    }
    const long double bound = float_error(host.rows) * std::sqrt(dd * rr);
    most = std::max(most, static_cast<double>(std::fabs(static_cast<long double>(result[k]) - wanted) / bound));

    AlignedBand<float> alone(1);  // the same bits without neighbours
    correlate_atoms(D.matrix(), &j, 1, r.data(), alone.data());
    EXPECT_TRUE(same_bits(alone[0], result[k]));
  }
  return most;
}

TEST(CorrelateAtomsInFloat, KeepsItsBound) {
  for (const std::int64_t n : kRows) {
    for (const std::int64_t count : {0, 1, 3, 4, 5, 19}) {
      SCOPED_TRACE(::testing::Message() << n << " rows, " << count << " atoms");
      EXPECT_LE(float_looseness(normal_atoms(n, 20, 1), normal_atoms(n, 1, 2), count), 1);
    }
  }
}

TEST(CorrelateAtomsInFloat, KeepsItsBoundWhereAllRoundingsPullOneWay) {
  // Nothing cancels, d is parallel to r and both are rounded down by nearly a unit; how their sums are rounded differs
  // from number to number, and the worst of many is kept.
  for (const std::int64_t n : {1, 16, 33, 302, 4800}) {
    SCOPED_TRACE(::testing::Message() << n << " rows");
    double most = 0;
    for (int k = 0; k < 300; ++k) {
      const double value = 1 + k * 0x1p-23 * 257 + 0.99 * 0x1p-24;
      const auto same = [value](std::int64_t, std::int64_t) { return value; };
      most = std::max(most,
                      float_looseness(GuardedHost<double>::make(n, 1, same), GuardedHost<double>::make(n, 1, same), 1));
    }
    EXPECT_LE(most, 1);
    // The two arguments' roundings alone.
    EXPECT_GE(most, 1.9 / (static_cast<double>(n) / 16 + 12));
  }
}

}  // namespace
}  // namespace shrinkwarp
