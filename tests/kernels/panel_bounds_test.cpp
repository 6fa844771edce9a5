// Bounds of panels against correlations in long double, and the columns in half precision that they are made of.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"
#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"

namespace shrinkwarp {
namespace {

using testing::Guarded;
using testing::GuardedHost;
using testing::guards_intact;
using testing::normal_atoms;
using testing::to_device;
using testing::to_host;

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// What the bits of a half stand for; finite ones only.
double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const double fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

template <class T>
std::vector<T> download(const Context& context, VectorView<const T> view) {
  std::vector<T> values(index_of(view.size));
  copy(context, view, VectorView<T>{values.data(), view.size, {}});
  context.synchronize();
  return values;
}

/// HalfColumns with their copies on the host.
struct Halves {
  HalfColumns columns;
  std::vector<std::uint16_t> values;
  std::vector<float> factor, length, rounding;
  std::int64_t ld = 0;

  void fetch(const Context& context) {
    const auto view = columns.values();
    ld = view.ld;
    values = download(context, VectorView<const std::uint16_t>{view.data, view.ld * view.cols, view.device});
    factor = download(context, columns.factor());
    length = download(context, columns.length());
    rounding = download(context, columns.rounding());
  }
  double value(std::int64_t i, std::int64_t j) const {
    return half_value(values[index_of(i + j * ld)]) * static_cast<double>(factor[index_of(j)]);
  }
};

Halves half_columns(const Context& context, const GuardedHost<double>& V, std::vector<std::int32_t> from) {
  Halves halves;
  const auto count = static_cast<std::int64_t>(from.size());
  halves.columns = HalfColumns(context, V.rows, count);
  const auto placed = to_device(context, V);
  const auto list = to_device(context, from, count);
  halves.columns.set(context, placed.matrix(), list.vector());
  halves.fetch(context);
  return halves;
}

std::vector<std::int32_t> all_of(std::int64_t count) {
  std::vector<std::int32_t> list(index_of(count));
  std::iota(list.begin(), list.end(), 0);
  return list;
}

Halves half_columns(const Context& context, const GuardedHost<double>& V) {
  return half_columns(context, V, all_of(V.cols));
}

long double norm_of(const GuardedHost<double>& V, std::int64_t j) {
  long double sum = 0;
  for (std::int64_t i = 0; i < V.rows; ++i) sum += static_cast<long double>(V(i, j)) * V(i, j);
  return std::sqrt(sum);
}

long double correlation(const GuardedHost<double>& D, std::int64_t j, const GuardedHost<double>& R, std::int64_t b) {
  long double sum = 0;
  for (std::int64_t i = 0; i < D.rows; ++i) sum += static_cast<long double>(D(i, j)) * R(i, b);
  return std::fabs(sum);
}

std::int64_t panels_of(std::int64_t atoms) {
  return (atoms + kPanelAtoms - 1) / kPanelAtoms;
}

/// Keys of all columns of R, whose guards are looked at.
GuardedHost<std::uint32_t> keys_of(const Context& context, const Halves& D, const Halves& R, std::int64_t count,
                                   const PanelPenalty& penalty = {}) {
  const GuardedHost<std::uint32_t> before(panels_of(D.columns.cols()), count);
  const auto keys = to_device(context, before);
  panel_bounds(context, D.columns, R.columns, count, keys.matrix(), penalty);
  const auto after = to_host(context, keys);
  EXPECT_TRUE(guards_intact(before, after));
  return after;
}

constexpr long double kLeast = 1e-37L, kUnits = 1 + 0x1p-18L;

/// keys >= |d'r| for all atoms of a panel; no more than that, twice its error and what a key is rounded by; and the atom
/// that they name comes to the top within its error.
void expect_bounds(const GuardedHost<double>& D, const Halves& half_D, const GuardedHost<double>& R,
                   const Halves& half_R, const GuardedHost<std::uint32_t>& keys) {
  const auto accumulation = static_cast<long double>(panel_accumulation(half_D.columns));
  ASSERT_NEAR(static_cast<double>(accumulation), static_cast<double>((D.rows + 31) / 32 * 32 + 64) * 0x1p-22, 1e-9);
  for (std::int64_t b = 0; b < keys.cols; ++b) {
    for (std::int64_t p = 0; p < keys.rows; ++p) {
      const std::uint32_t key = keys(p, b);
      const auto bound = static_cast<long double>(float_of(key));
      const std::int64_t named = p * kPanelAtoms + key % kPanelAtoms;
      long double most = 0, limit = kLeast, reach = 0;
      for (std::int64_t j = p * kPanelAtoms; j < std::min(D.cols, (p + 1) * kPanelAtoms); ++j) {
        const auto at = index_of(j), its = index_of(b);
        const long double length = half_D.length[at], its_length = half_R.length[its];
        const long double error = (half_D.rounding[at] + accumulation * length) * its_length +
                                  length * static_cast<long double>(half_R.rounding[its]);
        const long double value = correlation(D, j, R, b);
        most = std::max(most, value);
        limit = std::max(limit, value + 2 * error + kLeast);
        if (j == named) reach = value + 2 * error;
      }
      ASSERT_TRUE(std::isfinite(bound));
      ASSERT_GE(bound, most) << "panel " << p << " of " << b;
      ASSERT_LE(bound, limit * kUnits) << "panel " << p << " of " << b;
      ASSERT_GE((reach + kLeast) * kUnits, most) << "panel " << p << " of " << b << " names " << named;
    }
  }
}

class PanelBounds : public testing::OnContext {};
SHRINKWARP_ON_CUDA(PanelBounds);

// ---- columns in half precision ----

TEST_P(PanelBounds, ColumnsAreRoundedWithinTheirBounds) {
  for (const std::int64_t n : {1, 31, 32, 33, 100}) {
    SCOPED_TRACE(n);
    auto V = normal_atoms(n, 9, 3);
    for (std::int64_t i = 0; i < n; ++i) {
      V(i, 1) *= 1e-13;
      V(i, 2) *= 1e30;
      V(i, 3) = 0;
      V(i, 4) *= std::exp2(-static_cast<double>(i % 40));  // some of it far under a half's range
      V(i, 5) = std::ldexp(1.0, static_cast<int>(i % 3));
      V(i, 6) = i == n - 1 ? -1.9999999 : 1e-9;  // rounds to 2
    }
    const Halves halves = half_columns(context(), V);
    ASSERT_EQ(halves.columns.rows(), n);
    ASSERT_EQ(halves.columns.cols(), 9);
    for (std::int64_t j = 0; j < 9; ++j) {
      SCOPED_TRACE(j);
      const auto f = static_cast<double>(halves.factor[index_of(j)]);
      double largest = 0;
      long double kept = 0, lost = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        largest = std::max(largest, std::fabs(V(i, j)));
        const double q = halves.value(i, j);
        // To float and to half, nearest each time; under 2^-14 of the factor the unit stays.
        ASSERT_LE(std::fabs(V(i, j) - q), std::fabs(V(i, j)) * (0x1p-11 + 0x1p-23) + f * 0x1p-25);
        kept += static_cast<long double>(q) * q;
        lost += (static_cast<long double>(V(i, j)) - q) * (static_cast<long double>(V(i, j)) - q);
      }
      if (largest > 0) {
        ASSERT_EQ(f, std::exp2(std::floor(std::log2(largest))));
      } else {
        ASSERT_EQ(f, 0);
      }
      const long double length = std::max(norm_of(V, j), std::sqrt(kept));
      ASSERT_GE(halves.length[index_of(j)], length);
      ASSERT_LE(halves.length[index_of(j)], length * (1 + 0x1p-22L));
      ASSERT_GE(halves.rounding[index_of(j)], std::sqrt(lost));
      ASSERT_LE(halves.rounding[index_of(j)], std::sqrt(lost) * (1 + 0x1p-22L));
    }
  }
}

TEST_P(PanelBounds, WhatIsPaddedStaysZero) {
  const auto V = normal_atoms(33, 130, 3);
  const Halves halves = half_columns(context(), V);
  ASSERT_EQ(halves.ld, 64);
  ASSERT_EQ(halves.factor.size(), 256U);
  for (std::int64_t j = 0; j < 256; ++j) {
    for (std::int64_t i = 0; i < 64; ++i) {
      if (i >= 33 || j >= 130) {
        ASSERT_EQ(halves.values[index_of(i + j * 64)], 0) << i << ", " << j;
      }
    }
    if (j >= 130) {
      ASSERT_EQ(halves.factor[index_of(j)], 0);
      ASSERT_EQ(halves.length[index_of(j)], 0);
      ASSERT_EQ(halves.rounding[index_of(j)], 0);
    }
  }
  EXPECT_GE(HalfColumns::bytes(33, 130), 256 * (2 * 64 + 12));
  EXPECT_LE(HalfColumns::bytes(33, 130), 256 * (2 * 64 + 12) + 4096);
}

TEST_P(PanelBounds, SetTakesTheColumnsThatItIsTold) {
  const auto V = normal_atoms(40, 12, 3);
  const Halves all = half_columns(context(), V);
  Halves some = half_columns(context(), V, {7, 0, 11, 7, 3});
  const auto expect_columns = [&](const std::vector<std::int32_t>& from) {
    for (std::size_t k = 0; k < from.size(); ++k) {
      const auto source = static_cast<std::size_t>(from[k]);
      EXPECT_TRUE(std::equal(some.values.begin() + static_cast<std::ptrdiff_t>(64 * k),
                             some.values.begin() + static_cast<std::ptrdiff_t>(64 * (k + 1)),
                             all.values.begin() + static_cast<std::ptrdiff_t>(64 * source)));
      EXPECT_EQ(some.factor[k], all.factor[source]);
      EXPECT_EQ(some.length[k], all.length[source]);
      EXPECT_EQ(some.rounding[k], all.rounding[source]);
    }
  };
  expect_columns({7, 0, 11, 7, 3});
  const auto placed = to_device(context(), V);
  const auto list = to_device(context(), std::vector<std::int32_t>{5, 2}, 2);
  some.columns.set(context(), placed.matrix(), list.vector());  // the others stay
  some.fetch(context());
  expect_columns({5, 2, 11, 7, 3});
  some.columns.set(context(), placed.matrix(), {nullptr, 0, context().device()});
  some.fetch(context());
  expect_columns({5, 2, 11, 7, 3});
}

// ---- bounds ----

TEST_P(PanelBounds, HoldAtAllShapes) {
  const std::vector<std::int64_t> rows =
      testing::kThreadSanitizer ? std::vector<std::int64_t>{33} : std::vector<std::int64_t>{1, 31, 32, 33, 70};
  const std::vector<std::int64_t> atoms =
      testing::kThreadSanitizer ? std::vector<std::int64_t>{129} : std::vector<std::int64_t>{1, 7, 8, 9, 127, 129};
  const std::vector<std::int64_t> counts =
      testing::kThreadSanitizer ? std::vector<std::int64_t>{129} : std::vector<std::int64_t>{1, 127, 129};
  for (const std::int64_t n : rows) {
    for (const std::int64_t m : atoms) {
      const auto D = normal_atoms(n, m, 1);
      const Halves half_D = half_columns(context(), D);
      for (const std::int64_t count : counts) {
        SCOPED_TRACE(::testing::Message() << n << " x " << m << ", " << count << " residuals");
        const auto R = normal_atoms(n, count, 2);
        const Halves half_R = half_columns(context(), R);
        expect_bounds(D, half_D, R, half_R, keys_of(context(), half_D, half_R, count));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(PanelBounds, AreTightWhereRoundingIsNothing) {
  // Small integers are exact in half precision: only the term of the accumulation is left of the error.
  const auto D = GuardedHost<double>::make(
      20, 24, [](std::int64_t i, std::int64_t j) { return static_cast<double>((i * 7 + j * j * 5) % 9 - 4); });
  const auto R = GuardedHost<double>::make(
      20, 3, [](std::int64_t i, std::int64_t b) { return static_cast<double>((i * i + 3 * b) % 7 - 3); });
  const Halves half_D = half_columns(context(), D), half_R = half_columns(context(), R);
  const auto keys = keys_of(context(), half_D, half_R, 3);
  for (std::int64_t b = 0; b < 3; ++b) {
    ASSERT_EQ(half_R.rounding[index_of(b)], 0);
    for (std::int64_t p = 0; p < 3; ++p) {
      long double most = 0, error = 0;
      for (std::int64_t j = 8 * p; j < 8 * p + 8; ++j) {
        most = std::max(most, correlation(D, j, R, b));
        error = std::max(error, 96 * 0x1p-22L * norm_of(D, j) * norm_of(R, b));
      }
      ASSERT_GE(static_cast<long double>(float_of(keys(p, b))), most);
      ASSERT_LE(static_cast<long double>(float_of(keys(p, b))), (most + error * (1 + 1e-5L)) * kUnits);
    }
  }
}

TEST_P(PanelBounds, HoldForColumnsOfAllSizes) {
  // Magnitudes out of [2^-120, 2^120] are all rounding; a product of two is in the range of float or is its largest number.
  const double sizes[] = {0, 1e-200, 1e-150, 1e-45, 1e-35, 1e-30, 1e-13, 1, 1e13, 1e30, 1e35, 1e60, 1e150};
  constexpr std::int64_t n = 35, kSizes = std::size(sizes);
  auto D = normal_atoms(n, kPanelAtoms * kSizes, 1), R = normal_atoms(n, kSizes, 2);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < D.cols; ++j) D(i, j) *= sizes[j / kPanelAtoms];
    for (std::int64_t b = 0; b < kSizes; ++b) R(i, b) *= sizes[b];
  }
  const Halves half_D = half_columns(context(), D), half_R = half_columns(context(), R);
  const auto keys = keys_of(context(), half_D, half_R, kSizes);
  constexpr auto kMost = static_cast<long double>(std::numeric_limits<float>::max());
  for (std::int64_t b = 0; b < kSizes; ++b) {
    for (std::int64_t p = 0; p < kSizes; ++p) {
      SCOPED_TRACE(::testing::Message() << "atoms of " << sizes[p] << ", a residual of " << sizes[b]);
      const float bound = float_of(keys(p, b));
      ASSERT_TRUE(std::isfinite(bound));
      long double most = 0, lengths = 0;
      for (std::int64_t j = 8 * p; j < 8 * p + 8; ++j) {
        most = std::max(most, correlation(D, j, R, b));
        lengths = std::max(lengths, norm_of(D, j) * norm_of(R, b));
      }
      const bool in_range = sizes[p] <= 1e35 && sizes[b] <= 1e35;
      if (most < 1e38L) {
        ASSERT_GE(static_cast<long double>(bound), most);
      } else {
        ASSERT_GE(static_cast<long double>(bound), 0.99L * kMost);
      }
      // Where both are halves 1.1e-3 of the lengths is the most: 2^-11 each, the accumulation, and what a half of the least
      // elements loses. Where one is none it is all error: their lengths.
      const bool halves = in_range && sizes[p] >= 1e-35 && sizes[b] >= 1e-35;
      if (halves && lengths < 1e37L) {
        ASSERT_LE(static_cast<long double>(bound), (most + 2 * 1.1e-3L * lengths + kLeast) * kUnits);
      } else if (in_range && lengths < 1e37L) {
        // Lengths under 1e-45 are taken for that.
        const long double tiny = 1.5e-45L * static_cast<long double>(n) * (sizes[p] + sizes[b] + 1);
        ASSERT_LE(static_cast<long double>(bound), (2.01L * lengths + tiny + kLeast) * kUnits);
      }
    }
  }
}

// ---- bounds under penalties ----

TEST_P(PanelBounds, HoldUnderWeightsAndSigns) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr std::int64_t n = 35, m = 83, count = 3;
  const auto D = GuardedHost<double>::make(n, m, [base = normal_atoms(n, m, 1)](std::int64_t i, std::int64_t j) {
    return base(i, j) * (j % 11 == 7 ? 1e-35 : 1.0);
  });
  const auto R = normal_atoms(n, count, 2);
  // Of all sizes; one atom in five is left out, and all of the third panel.
  const double sizes[] = {1, 0.3, 7, 1e-18, 1e18, 1e-3, 123456.789};
  std::vector<double> weights;
  for (std::int64_t j = 0; j < m; ++j) weights.push_back(j % 5 == 2 || j / 8 == 2 ? kInfinity : sizes[j % 7]);
  const Halves half_D = half_columns(context(), D), half_R = half_columns(context(), R);
  const DividedBounds divided(context(), half_D.columns, {weights.data(), m, {}});
  const auto accumulation = static_cast<long double>(panel_accumulation(half_D.columns));
  for (const bool weighted : {false, true}) {
    for (const bool nonnegative : {false, true}) {
      if (!weighted && !nonnegative) continue;
      SCOPED_TRACE(::testing::Message() << "weights " << weighted << ", nonnegative " << nonnegative);
      const auto keys =
          keys_of(context(), half_D, half_R, count, {weighted ? divided.view() : HalfBounds{}, nonnegative});
      for (std::int64_t b = 0; b < count; ++b) {
        for (std::int64_t p = 0; p < panels_of(m); ++p) {
          const auto bound = static_cast<long double>(float_of(keys(p, b)));
          const std::int64_t named = p * kPanelAtoms + keys(p, b) % kPanelAtoms;
          long double most = 0, limit = kLeast, reach = 0;
          for (std::int64_t j = p * kPanelAtoms; j < std::min(m, (p + 1) * kPanelAtoms); ++j) {
            const long double weight = weighted ? weights[index_of(j)] : 1.0;
            long double value = 0;
            for (std::int64_t i = 0; i < n; ++i) value += static_cast<long double>(D(i, j)) * R(i, b);
            value = (nonnegative ? std::max(value, 0.0L) : std::fabs(value)) / weight;
            const long double length = half_D.length[index_of(j)], its_length = half_R.length[index_of(b)];
            // As without weights, and 2^-22 of the lengths for the divided factor.
            const long double error =
                ((half_D.rounding[index_of(j)] + (accumulation + 0x1p-22L) * length) * its_length +
                 length * static_cast<long double>(half_R.rounding[index_of(b)])) /
                weight;
            // A factor out of range: the atom is all rounding.
            const bool lost = weighted && half_D.factor[index_of(j)] / weights[index_of(j)] < 1.2e-38;
            most = std::max(most, value);
            limit = std::max(limit, value + (lost ? 3 * length * its_length / weight : 2 * error) + kLeast);
            if (j == named) reach = lost ? limit : value + 2 * error;
          }
          ASSERT_GE(bound, most) << "panel " << p << " of " << b;
          ASSERT_LE(bound, limit * kUnits) << "panel " << p << " of " << b;
          ASSERT_GE((reach + kLeast) * kUnits, most) << "panel " << p << " of " << b << " names " << named;
          if (weighted && p == 2) {
            ASSERT_LE(bound, kLeast * kUnits);  // no atom is there
          }
        }
      }
    }
  }
  // Bounds of the weight 1 cost no more than what a factor is rounded by.
  const std::vector<double> ones(index_of(m), 1.0);
  const DividedBounds same(context(), half_D.columns, {ones.data(), m, {}});
  EXPECT_EQ(testing::values_of(context(), same.view().factor), half_D.factor);
  EXPECT_EQ(testing::values_of(context(), same.view().length), half_D.length);
  EXPECT_EQ(same.view().factor.size, 128);
  EXPECT_GE(DividedBounds::bytes(m), 12 * 128);
  EXPECT_EQ(DividedBounds().view().factor.size, 0);
}

// Groups of s atoms in as many columns as they take: their norms, by panels of several groups and by panels of a group.
TEST_P(PanelBounds, HoldForGroups) {
  constexpr std::int64_t n = 35, count = 3;
  constexpr long double kLeastNorm = 1e-18L;
  for (const std::int64_t s : {2, 3, 4, 5, 8, 12}) {
    const std::int64_t groups = 23, m = groups * s, together = group_columns(s), columns = groups * together;
    ASSERT_GE(together, s);
    ASSERT_TRUE(together == 2 || together == 4 || together % 8 == 0) << together;
    const auto D = GuardedHost<double>::make(n, m, [base = normal_atoms(n, m, 1), s](std::int64_t i, std::int64_t j) {
      return base(i, j) * (j / s % 7 == 3 ? 1e-30 : j / s % 7 == 5 ? 1e15 : 1.0);
    });
    const auto R = normal_atoms(n, count, 2);
    std::vector<std::int32_t> from(index_of(columns), -1);
    for (std::int64_t j = 0; j < m; ++j) from[index_of(j / s * together + j % s)] = static_cast<std::int32_t>(j);
    const Halves half_D = half_columns(context(), D, from), half_R = half_columns(context(), R);
    const auto accumulation = static_cast<long double>(panel_accumulation(half_D.columns));
    std::vector<double> weights(index_of(columns));
    for (std::int64_t j = 0; j < columns; ++j)
      weights[index_of(j)] =
          j / together == 4 ? std::numeric_limits<double>::infinity() : static_cast<double>(j / together % 3 + 1);
    const DividedBounds divided(context(), half_D.columns, {weights.data(), columns, {}});
    for (const bool weighted : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "groups of " << s << ", weights " << weighted);
      const auto keys =
          keys_of(context(), half_D, half_R, count, {weighted ? divided.view() : HalfBounds{}, false, together});
      const std::int64_t width = std::min<std::int64_t>(together, 8);  // columns that are looked at together
      for (std::int64_t b = 0; b < count; ++b) {
        for (std::int64_t p = 0; p < panels_of(columns); ++p) {
          const auto bound = static_cast<long double>(float_of(keys(p, b)));
          const std::int64_t named = keys(p, b) % 8;
          ASSERT_LT(named, 8 / width);
          long double most = 0, limit = 0, reach = 0;
          for (std::int64_t first = p * 8; first < std::min(columns, p * 8 + 8); first += width) {
            long double square = 0, above = 0;
            for (std::int64_t c = first; c < first + width; ++c) {
              const std::int32_t j = from[index_of(c)];
              const long double weight = weighted ? weights[index_of(c)] : 1.0;
              const long double value = j < 0 ? 0 : correlation(D, j, R, b) / weight;
              const long double length = half_D.length[index_of(c)], its_length = half_R.length[index_of(b)];
              const long double error =
                  ((half_D.rounding[index_of(c)] + (accumulation + 0x1p-22L) * length) * its_length +
                   length * static_cast<long double>(half_R.rounding[index_of(b)])) /
                  weight;
              square += value * value;
              above += (value + 2 * error) * (value + 2 * error);
            }
            most = std::max(most, std::sqrt(square));
            limit = std::max(limit, std::sqrt(above));
            if (first == p * 8 + named * width) reach = std::sqrt(above);
          }
          ASSERT_TRUE(std::isfinite(bound));
          ASSERT_GE(bound, most) << "panel " << p << " of " << b;
          ASSERT_LE(bound, (limit + kLeastNorm) * kUnits) << "panel " << p << " of " << b;
          ASSERT_GE((reach + kLeastNorm) * kUnits, most) << "panel " << p << " of " << b << " names " << named;
        }
      }
    }
  }
  EXPECT_EQ(group_columns(1), 1);
  EXPECT_EQ(group_columns(1000), 1000);
  EXPECT_EQ(group_columns(1001), 1008);
}

TEST_P(PanelBounds, NormsOutOfRangeAreTheMostThereIs) {
  const auto D = GuardedHost<double>::make(4, 4, [](std::int64_t i, std::int64_t j) { return i == j ? 1e19 : 0.0; });
  const auto R = GuardedHost<double>::make(4, 1, [](std::int64_t, std::int64_t) { return 10.0; });
  const Halves half_D = half_columns(context(), D), half_R = half_columns(context(), R);
  const auto keys = keys_of(context(), half_D, half_R, 1, {{}, false, 4});
  EXPECT_EQ(keys(0, 0), 0x7f7ffff8u);
}

TEST_P(PanelBounds, NamesTheLaterOfEqualAtoms) {
  auto D = normal_atoms(20, 24, 1);
  const auto R = normal_atoms(20, 2, 2);
  for (std::int64_t i = 0; i < 20; ++i) {
    for (std::int64_t j = 0; j < 8; ++j) D(i, j) = D(i, 0);  // all of the first panel
    D(i, 13) = 5 * R(i, 0);
    D(i, 10) = -5 * R(i, 0);  // and one that stands out of the second, negated too
    for (std::int64_t j = 16; j < 24; ++j) D(i, j) = 0;
  }
  const Halves half_D = half_columns(context(), D), half_R = half_columns(context(), R);
  const auto keys = keys_of(context(), half_D, half_R, 2);
  for (std::int64_t b = 0; b < 2; ++b) {
    EXPECT_EQ(keys(0, b) % 8, 7U);
    EXPECT_EQ(keys(2, b) % 8, 7U);  // zeros
    EXPECT_LE(static_cast<long double>(float_of(keys(2, b))), kLeast * kUnits);
  }
  EXPECT_EQ(keys(1, 0) % 8, 5U);
}

TEST_P(PanelBounds, AColumnsBitsAreItsOwn) {
  constexpr std::int64_t n = 40, m = 140, count = 130;
  const auto D = normal_atoms(n, m, 1), R = normal_atoms(n, count, 2);
  const Halves half_D = half_columns(context(), D), half_R = half_columns(context(), R);
  const auto all = keys_of(context(), half_D, half_R, count);
  EXPECT_TRUE(testing::same_elements(all, keys_of(context(), half_D, half_R, count)));
  const auto few = keys_of(context(), half_D, half_R, 3);  // of the same columns only the first ones
  for (const std::int32_t b : {0, 2, 63, 64, 127, 128, 129}) {
    SCOPED_TRACE(b);
    // Alone, and the last of three.
    const auto alone = keys_of(context(), half_D, half_columns(context(), R, {b}), 1);
    const auto last = keys_of(context(), half_D, half_columns(context(), R, {5, 9, b}), 3);
    for (std::int64_t p = 0; p < all.rows; ++p) {
      ASSERT_EQ(alone(p, 0), all(p, b));
      ASSERT_EQ(last(p, 2), all(p, b));
      if (b < 3) {
        ASSERT_EQ(few(p, b), all(p, b));
      }
    }
  }
}

TEST_P(PanelBounds, NothingToDo) {
  const auto D = normal_atoms(4, 9, 1);
  const Halves half_D = half_columns(context(), D);
  const GuardedHost<std::uint32_t> before(2, 1);
  const auto keys = to_device(context(), before);
  MatrixView<std::uint32_t> none = keys.matrix();
  none.cols = 0;
  panel_bounds(context(), half_D.columns, half_D.columns, 0, none);
  EXPECT_TRUE(testing::same_elements(before, to_host(context(), keys)));
}

TEST_P(PanelBounds, RefusesWhatDoesNotFit) {
  const auto V = to_device(context(), normal_atoms(10, 20, 1));
  const auto list = to_device(context(), all_of(20), 20);
  HalfColumns D(context(), 10, 20), R(context(), 10, 5), other(context(), 11, 5);
  EXPECT_THROW(R.set(context(), V.matrix(), list.vector()), ShapeError);
  EXPECT_THROW(other.set(context(), V.matrix(), list.vector().slice(0, 5)), ShapeError);
  const auto host = normal_atoms(10, 20, 1);
  EXPECT_THROW(D.set(context(), testing::view_of(host), list.vector()), DeviceError);
  const std::vector<std::int32_t> numbers = all_of(20);
  EXPECT_THROW(D.set(context(), V.matrix(), {numbers.data(), 20, {}}), DeviceError);
  D.set(context(), V.matrix(), list.vector());
  R.set(context(), V.matrix(), list.vector().slice(0, 5));

  const Tensor<std::uint32_t> keys(context(), 3, 5);
  EXPECT_THROW(panel_bounds(context(), D, other, 5, keys.matrix()), ShapeError);
  EXPECT_THROW(panel_bounds(context(), D, R, 6, keys.matrix()), ShapeError);
  EXPECT_THROW(panel_bounds(context(), D, R, -1, keys.matrix()), ShapeError);
  EXPECT_THROW(panel_bounds(context(), D, R, 4, keys.matrix()), ShapeError);
  EXPECT_THROW(panel_bounds(context(), R, R, 5, keys.matrix()), ShapeError);
  MatrixView<std::uint32_t> elsewhere = keys.matrix();
  elsewhere.device = {};
  EXPECT_THROW(panel_bounds(context(), D, R, 5, elsewhere), DeviceError);
  panel_bounds(context(), D, R, 5, keys.matrix());
  const std::vector<double> ones(20, 1.0);
  EXPECT_THROW(DividedBounds(context(), D, {ones.data(), 19, {}}), ShapeError);
  const DividedBounds of_R(context(), HalfColumns(context(), 10, 200), {std::vector<double>(200, 1.0).data(), 200, {}});
  EXPECT_THROW(panel_bounds(context(), D, R, 5, keys.matrix(), {of_R.view(), false}), ShapeError);
  const DividedBounds of_D(context(), D, {ones.data(), 20, {}});
  HalfBounds there = of_D.view();
  panel_bounds(context(), D, R, 5, keys.matrix(), {there, true});
  there.rounding.device = {};
  EXPECT_THROW(panel_bounds(context(), D, R, 5, keys.matrix(), {there, false}), DeviceError);

  for (const std::int64_t together : {-8, 0, 3, 12})
    EXPECT_THROW(panel_bounds(context(), D, R, 5, keys.matrix(), {{}, false, together}), ShapeError) << together;
  EXPECT_THROW(panel_bounds(context(), D, R, 5, keys.matrix(), {{}, true, 4}), ValueError);

  const Context cpu = Context::cpu(1);
  EXPECT_THROW(HalfColumns(cpu, 10, 20), DeviceError);
  EXPECT_THROW(D.set(cpu, testing::view_of(host), {numbers.data(), 20, {}}), DeviceError);
  EXPECT_THROW(panel_bounds(cpu, D, R, 5, keys.matrix()), DeviceError);
  EXPECT_THROW(DividedBounds(cpu, D, {ones.data(), 20, {}}), DeviceError);
}

}  // namespace
}  // namespace shrinkwarp
