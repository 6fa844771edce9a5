#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/kernels/principal_basis/principal_basis.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/atoms.hpp"

namespace shrinkwarp {
namespace {

using testing::GuardedHost;
using testing::guards_intact;
using testing::normal_atoms;
using testing::padded;
using testing::same_bits;
using testing::view_of;

constexpr double kFloatUnit = 0x1p-24;

// ---- dictionaries and residuals ----

enum class Atoms { normal, correlated, scaled, dominant, constant };
constexpr Atoms kAtoms[] = {Atoms::normal, Atoms::correlated, Atoms::scaled, Atoms::dominant, Atoms::constant};

/// Every seventh atom, the last of seven, is zero.
GuardedHost<double> make_atoms(Atoms kind, std::int64_t n, std::int64_t m) {
  GuardedHost<double> D = normal_atoms(n, m, 1);
  if (kind == Atoms::correlated) {  // sums of forty waves, each weaker than the one before
    const std::int64_t count = 40;
    const auto weights = normal_atoms(count, m, 2);
    const auto waves = GuardedHost<double>::make(count, n, [](std::int64_t k, std::int64_t i) {
      return std::exp(-0.3 * static_cast<double>(k)) * std::cos(0.7 * static_cast<double>(k * i));
    });
    for (std::int64_t j = 0; j < m; ++j) {
      for (std::int64_t i = 0; i < n; ++i)
        D(i, j) = std::inner_product(&waves(0, i), &waves(0, i) + count, &weights(0, j), 0.0);
    }
  }
  for (std::int64_t j = 0; j < m; ++j) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (kind == Atoms::scaled) D(i, j) *= std::pow(10.0, static_cast<double>(j % 13) - 6);
      if (kind == Atoms::dominant && i != j % n) D(i, j) *= 1e-5;
      if (kind == Atoms::constant) D(i, j) = j % 2 == 0 ? 1 : -1;
      if (j % 7 == 6) D(i, j) = 0;
    }
  }
  return D;
}

/// What residuals may look like; the last two need a basis: all of it in the first coordinate, and in the last one.
enum Residual { normal, zero, tiny, huge, dominant, constant, atom, head, tail, kResiduals };

GuardedHost<double> make_residuals(const GuardedHost<double>& D, const Tensor<double>& basis) {
  const std::int64_t n = D.rows;
  GuardedHost<double> R = normal_atoms(n, kResiduals, 3);
  for (std::int64_t i = 0; i < n; ++i) {
    R(i, zero) = 0;
    R(i, tiny) *= 1e-30;
    R(i, huge) *= 1e30;
    if (i != n / 2) R(i, dominant) *= 1e-7;
    R(i, constant) = 1;
    R(i, atom) = D(i, 0);
    if (basis.size() > 0) R(i, head) = basis.matrix()(i, 0);
    if (basis.size() > 0) R(i, tail) = basis.matrix()(i, n - 1);
  }
  return R;
}

// ---- what is packed ----

std::int64_t atom_entry(const QuantizedDictionary& D, std::int64_t i, std::int64_t j) {
  const std::int64_t first = j / D.panel_atoms() * D.panel_atoms();
  const std::int64_t height = std::min(D.panel_atoms(), D.padded_atoms() - first);
  const std::int32_t pair = D.packed()[first * ((D.rows() + 1) / 2) + i / 2 * height + (j - first)];
  return static_cast<std::int16_t>(static_cast<std::uint32_t>(pair) >> (i % 2 == 0 ? 0 : 16));
}

std::int64_t residual_entry(const QuantizedResiduals& R, std::int64_t i, std::int64_t place) {
  const std::int32_t pair = R.packed(place)[i / 2];
  return static_cast<std::int16_t>(static_cast<std::uint32_t>(pair) >> (i % 2 == 0 ? 0 : 16));
}

// ---- a pass ----

struct Pass {
  GuardedHost<float> C, highest;
};

/// @param order  places, in the order in which the pass takes them
void run(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
         const std::vector<std::int64_t>& order, Pass& pass) {
  const Pass before = pass;
  const auto view = [](GuardedHost<float>& host) {
    return MatrixView<float>{host.memory.data() + GuardedHost<float>::kGuard, host.rows, host.cols, host.ld, {}};
  };
  bounded_correlation(Context::cpu(3), D, bounds, R, order.data(), static_cast<std::int64_t>(order.size()),
                      view(pass.C), view(pass.highest));
  EXPECT_TRUE(guards_intact(before.C, pass.C));
  EXPECT_TRUE(guards_intact(before.highest, pass.highest));
}

/// Of the first `count` places.
Pass run(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R, std::int64_t count) {
  Pass pass{GuardedHost<float>(D.padded_atoms(), R.places()), GuardedHost<float>(D.panels(), R.places())};
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  run(D, bounds, R, order, pass);
  return pass;
}

/// Sets all columns of R at one level.
void set_all(const QuantizedDictionary& D, const Tensor<double>& R, std::int64_t level, QuantizedResiduals& places) {
  for (std::int64_t b = 0; b < R.cols(); ++b) places.set(D, b, level, R.matrix().column(b));
}

/// D'R.
std::vector<long double> products(const GuardedHost<double>& D, const GuardedHost<double>& R) {
  std::vector<long double> result;
  for (std::int64_t b = 0; b < R.cols; ++b) {
    for (std::int64_t j = 0; j < D.cols; ++j) {
      long double sum = 0;
      for (std::int64_t i = 0; i < D.rows; ++i) sum += static_cast<long double>(D(i, j)) * R(i, b);
      result.push_back(sum);
    }
  }
  return result;
}

/// What the pass should say of a panel: magnitudes with what levels leave out, and one rounding for all atoms.
double highest_of(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R, const Pass& pass,
                  std::int64_t panel, std::int64_t b) {
  const std::int64_t first = panel * D.panel_atoms(), last = std::min(first + D.panel_atoms(), D.atoms());
  double most = 0, rounding = 0, norm = 0;
  for (std::int64_t j = first; j < last; ++j) {
    const auto atom_rounding = static_cast<double>(bounds.rounding[j]), atom_norm = static_cast<double>(bounds.norm[j]);
    const double of_rounding =
        atom_rounding * static_cast<double>(R.norm(b)) + atom_norm * static_cast<double>(R.rounding(b));
    const double of_tails = error_bound(bounds, R, b, j) - of_rounding;
    most = std::max(most, std::fabs(static_cast<double>(pass.C(j, b))) + of_tails);
    rounding = std::max(rounding, atom_rounding);
    norm = std::max(norm, atom_norm);
  }
  return most + rounding * static_cast<double>(R.norm(b)) + norm * static_cast<double>(R.rounding(b));
}
// Roundings of what is not under float's range, and the room that the pass adds for them.
constexpr double kHighestRoom = 12 * kFloatUnit;

/// Bits of every sum, bound and correlation of one level.
void check_pass(const QuantizedDictionary& D, const QuantizedResiduals& R, const Pass& pass,
                const std::vector<long double>& exact, bool sums) {
  const AtomBounds bounds = D.bounds();
  const std::int64_t count = pass.C.cols;
  for (std::int64_t b = 0; b < count; ++b) {
    SCOPED_TRACE(::testing::Message() << "residual " << b);
    for (std::int64_t j = D.atoms(); j < D.padded_atoms(); ++j) ASSERT_EQ(pass.C(j, b), 0.0F) << j;
    for (std::int64_t panel = 0; panel < D.panels(); ++panel) {
      const std::int64_t first = panel * D.panel_atoms(), last = std::min(first + D.panel_atoms(), D.atoms());
      const double highest = highest_of(D, bounds, R, pass, panel, b);
      for (std::int64_t j = first; j < last; ++j) {
        const long double wanted = exact[static_cast<std::size_t>(j + b * D.atoms())];
        const double c = static_cast<double>(pass.C(j, b)), bound = error_bound(bounds, R, b, j);
        ASSERT_TRUE(std::isfinite(c));
        ASSERT_LE(static_cast<double>(std::fabs(wanted - static_cast<long double>(c))), bound) << "atom " << j;
        ASSERT_GE(static_cast<long double>(pass.highest(panel, b)), std::fabs(wanted)) << "atom " << j;
        ASSERT_GE(static_cast<double>(pass.highest(panel, b)) + 1e-44, std::fabs(c) + bound) << "atom " << j;
        if (!sums) continue;
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < D.level_rows(R.level(b)); ++i) {
          sum += atom_entry(D, i, j) * residual_entry(R, i, b);
          ASSERT_LE(std::abs(sum), std::numeric_limits<std::int32_t>::max());
        }
        const float value = static_cast<float>(sum) * bounds.factor[j] * R.inverse_scale(b);
        ASSERT_EQ(pass.C(j, b), value) << "atom " << j;
      }
      ASSERT_NEAR(static_cast<double>(pass.highest(panel, b)), highest, kHighestRoom * highest + 1e-44) << panel;
    }
  }
}

TEST(BoundedCorrelation, ByHand) {
  // An entry of 32767 units and one of half as many; the residual has one entry, so that only d_0 counts.
  const auto D = GuardedHost<double>::make(2, 2, [](std::int64_t i, std::int64_t j) { return j == 0 ? 4 - 2 * i : 0; });
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), {});
  EXPECT_EQ(quantized.rows(), 2);
  EXPECT_EQ(quantized.atoms(), 2);
  EXPECT_EQ(quantized.levels(), 1);
  EXPECT_EQ(quantized.level_rows(0), 2);
  EXPECT_EQ(quantized.panels(), 1);
  EXPECT_TRUE(quantized.basis().empty());
  const AtomBounds bounds = quantized.bounds();
  EXPECT_NEAR(static_cast<double>(bounds.norm[0]), std::sqrt(20), 1e-4 * std::sqrt(20));
  EXPECT_LE(static_cast<double>(bounds.rounding[0]), 1e-4 * std::sqrt(20));
  EXPECT_EQ(bounds.norm[1], 0.0F);
  QuantizedResiduals R(Context::cpu(1), quantized, 1);
  const auto r = padded<double>(GuardedHost<double>::make(2, 1, [](std::int64_t i, std::int64_t) { return 3 * i; }));
  R.set(quantized, 0, 0, r.data());
  EXPECT_NEAR(static_cast<double>(R.norm(0)), 3, 1e-5);
  EXPECT_EQ(R.tails(0), 0);
  const Pass pass = run(quantized, bounds, R, 1);
  EXPECT_NEAR(static_cast<double>(pass.C(0, 0)), 6, 6e-4);
  EXPECT_EQ(pass.C(1, 0), 0.0F);
  EXPECT_GE(pass.highest(0, 0), 6.0F);
  std::int32_t open[2] = {-1, -1};
  const auto open_at = [&](float threshold) {
    return open_atoms(quantized, bounds, R, 0, &pass.C(0), &pass.highest(0), threshold, open);
  };
  EXPECT_EQ(open_at(5.99F), 1);
  EXPECT_EQ(open[0], 0);
  EXPECT_EQ(open_at(6.01F), 0);
}

TEST(BoundedCorrelation, KeepsItsBoundAtEveryLevel) {
  for (const std::int64_t n : {1, 2, 31, 33, 70, 302}) {
    for (const std::int64_t m : {1, 7, 24, 48, 49, 100, 500}) {
      if (n == 70 && m != 49 && m != 500) continue;
      for (const Atoms kind : kAtoms) {
        if (n == 302 && m != (kind == Atoms::correlated ? 500 : 49)) continue;
        const auto D = make_atoms(kind, n, m);
        const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
        const auto R = make_residuals(D, basis);
        const auto exact = products(D, R);
        const auto r = padded<double>(R);
        for (const bool rotated : {false, true}) {
          const QuantizedDictionary quantized(Context::cpu(3), view_of(D),
                                              rotated ? basis.matrix() : MatrixView<double>{});
          ASSERT_EQ(quantized.levels(), rotated ? (n + 31) / 32 : 1);
          QuantizedResiduals places(Context::cpu(3), quantized, kResiduals);
          for (std::int64_t level = 0; level < quantized.levels(); ++level) {
            SCOPED_TRACE(::testing::Message() << n << " x " << m << ", atoms " << static_cast<int>(kind)
                                              << (rotated ? ", rotated, level " : ", level ") << level);
            set_all(quantized, r, level, places);
            check_pass(quantized, places, run(quantized, quantized.bounds(), places, kResiduals), exact, n * m < 4000);
            if (::testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

/// sqrt(sum over k of v_k^2).
template <class Entry>
double norm_of(std::int64_t first, std::int64_t last, Entry entry) {
  long double energy = 0;
  for (std::int64_t i = first; i < last; ++i) energy += entry(i) * entry(i);
  return static_cast<double>(std::sqrt(energy));
}

TEST(BoundedCorrelation, EveryNormIsRoundedUp) {
  const std::int64_t m = 30;
  for (const std::int64_t n : {1, 31, 33, 70}) {
    for (const Atoms kind : kAtoms) {
      SCOPED_TRACE(::testing::Message() << n << " rows, atoms " << static_cast<int>(kind));
      const auto D = make_atoms(kind, n, m);
      const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
      const auto R = make_residuals(D, basis);
      const auto r = padded<double>(R);
      const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
      const AtomBounds bounds = quantized.bounds();
      QuantizedResiduals places(Context::cpu(1), quantized, kResiduals);
      const auto coordinate = [&](const GuardedHost<double>& from, std::int64_t i, std::int64_t j) {
        long double sum = 0;
        for (std::int64_t k = 0; k < n; ++k) sum += static_cast<long double>(basis.matrix()(k, i)) * from(k, j);
        return sum;
      };
      for (std::int64_t j = 0; j < m; ++j) {
        std::vector<long double> d;
        for (std::int64_t i = 0; i < n; ++i) d.push_back(coordinate(D, i, j));
        const auto quantity = [&](std::int64_t i) {
          return static_cast<long double>(atom_entry(quantized, i, j)) * bounds.factor[j];
        };
        const double rounding =
            norm_of(0, n, [&](std::int64_t i) { return d[static_cast<std::size_t>(i)] - quantity(i); });
        EXPECT_LE(rounding, static_cast<double>(bounds.rounding[j]));
        EXPECT_LE(norm_of(0, n, quantity), static_cast<double>(bounds.norm[j]));
        // A unit is 1 / 4e4 of the norm or 1 / 32767 of the largest entry, and half of one is lost at most.
        EXPECT_LE(static_cast<double>(bounds.rounding[j]),
                  (0.5 * std::sqrt(static_cast<double>(n)) / 32000 + 1e-6) * static_cast<double>(bounds.norm[j]));
        for (std::int64_t level = 0; level < quantized.levels(); ++level) {
          const std::int64_t rows = quantized.level_rows(level);
          // The products with the basis are right to n units each.
          const double room = 1e-15 * static_cast<double>(n * n) * static_cast<double>(bounds.norm[j]);
          const double beyond = norm_of(rows, n, [&](std::int64_t i) { return d[static_cast<std::size_t>(i)]; });
          EXPECT_LE(beyond, static_cast<double>(bounds.tail(j, level)) + room);
          EXPECT_NEAR(beyond, static_cast<double>(bounds.tail(j, level)), 2e-6 * beyond + room);
        }
      }
      for (std::int64_t level = 0; level < quantized.levels(); ++level) {
        set_all(quantized, r, level, places);
        const std::int64_t rows = quantized.level_rows(level);
        for (std::int64_t b = 0; b < kResiduals; ++b) {
          SCOPED_TRACE(::testing::Message() << "residual " << b << ", level " << level);
          std::vector<long double> v;
          for (std::int64_t i = 0; i < n; ++i) v.push_back(coordinate(R, i, b));
          const auto at = [&](std::int64_t i) { return v[static_cast<std::size_t>(i)]; };
          const auto rest = [&](std::int64_t i) {
            return at(i) - static_cast<long double>(residual_entry(places, i, b)) * places.inverse_scale(b);
          };
          const double whole = norm_of(0, n, [&](std::int64_t i) { return static_cast<long double>(R(i, b)); });
          EXPECT_EQ(places.level(b), level);
          EXPECT_LE(whole, static_cast<double>(places.norm(b)));
          EXPECT_NEAR(whole, static_cast<double>(places.norm(b)), 2e-6 * whole);
          EXPECT_LE(norm_of(0, rows, rest), static_cast<double>(places.rounding(b)));
          const double beyond = places.tails(b) == 0 ? 0 : static_cast<double>(places.tail(b, 0).norm);
          EXPECT_LE(norm_of(rows, n, at), beyond);
          ASSERT_LE(places.tails(b), 1);
          if (places.tails(b) == 1) {
            EXPECT_EQ(places.tail(b, 0).level, level);
          }
        }
      }
    }
  }
}

TEST(BoundedCorrelation, BoundsAreNotLoose) {
  // With errors of rounding that are independent of the vectors, d'r - c has the size of a bound's two terms over sqrt(n)
  // each, which is 1 / sqrt(2 n) of their sum or more; so it is with what is beyond a level. Over 500 atoms the root mean
  // square of that is right to a few hundredths.
  const std::int64_t m = 500;
  for (const std::int64_t n : {31, 70, 302}) {
    GuardedHost<double> D = normal_atoms(n, m, 1);
    const auto R = normal_atoms(n, 4, 3);
    const auto exact = products(D, R);
    const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
    const auto r = padded<double>(R);
    for (const bool rotated : {false, true}) {
      const QuantizedDictionary quantized(Context::cpu(1), view_of(D), rotated ? basis.matrix() : MatrixView<double>{});
      QuantizedResiduals places(Context::cpu(1), quantized, R.cols);
      for (std::int64_t level = 0; level < quantized.levels(); ++level) {
        if (rotated && level + 1 == quantized.levels()) continue;  // float's rounding of the rotation is bounded worst
        SCOPED_TRACE(::testing::Message() << n << " rows, level " << level << (rotated ? ", rotated" : ""));
        set_all(quantized, r, level, places);
        const Pass pass = run(quantized, quantized.bounds(), places, R.cols);
        for (std::int64_t b = 0; b < R.cols; ++b) {
          double squares = 0;
          for (std::int64_t j = 0; j < m; ++j) {
            const double error =
                static_cast<double>(exact[static_cast<std::size_t>(j + b * m)]) - static_cast<double>(pass.C(j, b));
            squares += std::pow(error / error_bound(quantized.bounds(), places, b, j), 2);
          }
          EXPECT_GE(std::sqrt(squares / static_cast<double>(m)), 0.8 / std::sqrt(2 * static_cast<double>(n))) << b;
        }
      }
    }
  }
}

TEST(BoundedCorrelation, BoundsAreNearlyAttained) {
  // r along what was rounded away of d: the first term is the error. The second one is 4 / 5 of it, for a residual of n
  // entries alike is rounded to 1 / 5e4 of its norm where an atom is to 1 / 4e4.
  const std::int64_t n = 302, m = 20;
  const auto D = normal_atoms(n, m, 1);
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), {});
  const auto R = GuardedHost<double>::make(n, m, [&](std::int64_t i, std::int64_t j) {
    return D(i, j) -
           static_cast<double>(atom_entry(quantized, i, j)) * static_cast<double>(quantized.bounds().factor[j]);
  });
  const auto exact = products(D, R);
  QuantizedResiduals places(Context::cpu(1), quantized, m);
  set_all(quantized, padded<double>(R), 0, places);
  const Pass pass = run(quantized, quantized.bounds(), places, m);
  for (std::int64_t j = 0; j < m; ++j) {
    const double error =
        std::fabs(static_cast<double>(exact[static_cast<std::size_t>(j + j * m)]) - static_cast<double>(pass.C(j, j)));
    const double bound = error_bound(quantized.bounds(), places, j, j);
    EXPECT_LE(error, bound);
    EXPECT_GE(error, 0.45 * bound);  // 5 / 9, less a tenth for q_d'(r - q_r / s_r)
  }
}

TEST(BoundedCorrelation, SumsDoNotOverflow) {
  // Parallel vectors have the largest q_d'q_r: entries alike, one that dominates the others, two sizes of them. All sums
  // are exact, check_pass() sees to it.
  for (const std::int64_t n : {1, 2, 3, 8, 31, 302, 5001}) {
    const auto shape = [&](std::int64_t i, std::int64_t j) {
      const double value = j / 2 == 0   ? 1
                           : j / 2 == 1 ? (i == 0 ? std::sqrt(static_cast<double>(n)) : 1)
                           : j / 2 == 2 ? (i % 2 == 0 ? 1 : 1e-3)
                                        : static_cast<double>(i + 1) / static_cast<double>(n);
      return j % 2 == 0 ? value : -value;
    };
    const auto D = GuardedHost<double>::make(n, 8, shape);
    const QuantizedDictionary quantized(Context::cpu(1), view_of(D), {});
    QuantizedResiduals places(Context::cpu(1), quantized, D.cols);
    for (const double scale : {1.0, 1.7, 1e-30, 1e-25, 1e-20, 1e30}) {
      SCOPED_TRACE(::testing::Message() << n << " rows, residuals times " << scale);
      const auto R =
          GuardedHost<double>::make(n, 8, [&](std::int64_t i, std::int64_t j) { return scale * shape(i, j); });
      set_all(quantized, padded<double>(R), 0, places);
      check_pass(quantized, places, run(quantized, quantized.bounds(), places, D.cols), products(D, R), true);
      if (HasFatalFailure()) return;
      if (n == 302) {  // and the 32 bits are used: 2e9 of them for vectors whose norm is what limits them
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < n; ++i) sum += atom_entry(quantized, i, 0) * residual_entry(places, i, 0);
        EXPECT_GT(sum, 1900000000);
      }
    }
  }
}

TEST(BoundedCorrelation, OfVeryManyRows) {
  // Float sums of two million squares that are all rounded one way are not right to a thousandth, nor is what is lost.
  const std::int64_t n = 2000000;
  const auto D = GuardedHost<double>::make(n, 1, [](std::int64_t, std::int64_t) { return 1.0 / 3; });
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), {});
  QuantizedResiduals places(Context::cpu(1), quantized, 1);
  set_all(quantized, padded<double>(D), 0, places);
  check_pass(quantized, places, run(quantized, quantized.bounds(), places, 1), products(D, D), true);
  const double lost = norm_of(0, n, [&](std::int64_t i) {
    return D(i, 0) - static_cast<long double>(residual_entry(places, i, 0)) * places.inverse_scale(0);
  });
  EXPECT_LE(lost, static_cast<double>(places.rounding(0)));
}

TEST(BoundedCorrelation, OfNothing) {
  const auto none = GuardedHost<double>(5, 0), no_rows = GuardedHost<double>(0, 3);
  {
    const auto basis = principal_basis(Context::cpu(1), view_of(none));
    for (const bool rotated : {false, true}) {
      const QuantizedDictionary quantized(Context::cpu(3), view_of(none),
                                          rotated ? basis.matrix() : MatrixView<double>{});
      EXPECT_EQ(quantized.atoms(), 0);
      EXPECT_EQ(quantized.padded_atoms(), 0);
      EXPECT_EQ(quantized.panels(), 0);
      EXPECT_EQ(quantized.typical_norm(), 0);
      QuantizedResiduals places(Context::cpu(1), quantized, 2);
      set_all(quantized, padded<double>(normal_atoms(5, 2, 3)), 0, places);
      run(quantized, quantized.bounds(), places, 2);
      EXPECT_EQ(open_atoms(quantized, quantized.bounds(), places, 0, nullptr, nullptr, 0, nullptr), 0);
    }
  }
  const QuantizedDictionary quantized(Context::cpu(1), view_of(no_rows), {});
  QuantizedResiduals places(Context::cpu(1), quantized, 1);
  places.set(quantized, 0, 0, nullptr);
  const Pass pass = run(quantized, quantized.bounds(), places, 1);
  for (std::int64_t j = 0; j < quantized.padded_atoms(); ++j) EXPECT_EQ(pass.C(j, 0), 0.0F);
  EXPECT_EQ(pass.highest(0, 0), 0.0F);
  run(quantized, quantized.bounds(), places, 0);
}

TEST(BoundedCorrelation, OpenAtomsAreThoseThatMayPass) {
  for (const std::int64_t m : {1, 24, 49, 500, 1700}) {
    const auto D = make_atoms(Atoms::correlated, 70, m);
    const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
    const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
    const AtomBounds bounds = quantized.bounds();
    const auto R = make_residuals(D, basis);
    const auto r = padded<double>(R);
    QuantizedResiduals places(Context::cpu(1), quantized, kResiduals);
    for (std::int64_t level = 0; level < quantized.levels(); ++level) {
      set_all(quantized, r, level, places);
      const Pass pass = run(quantized, bounds, places, kResiduals);
      for (std::int64_t b = 0; b < kResiduals; ++b) {
        std::vector<double> most;
        for (std::int64_t j = 0; j < m; ++j)
          most.push_back(std::fabs(static_cast<double>(pass.C(j, b))) + error_bound(bounds, places, b, j));
        std::vector<double> sorted = most;
        std::sort(sorted.begin(), sorted.end());
        const auto size = static_cast<std::size_t>(m);
        for (const double at :
             {0.0, sorted[0], sorted[size / 2], sorted[size * 9 / 10], sorted[size - 1], 2 * sorted[size - 1]}) {
          SCOPED_TRACE(::testing::Message() << m << " atoms, level " << level << ", residual " << b << ", over " << at);
          const auto threshold = static_cast<float>(at);
          std::vector<std::int32_t> open(size + 1, -7);
          const std::int64_t count =
              open_atoms(quantized, bounds, places, b, &pass.C(0, b), &pass.highest(0, b), threshold, open.data());
          ASSERT_GE(count, 0);
          ASSERT_LE(count, m);
          EXPECT_EQ(open[size], -7);
          ASSERT_TRUE(std::is_sorted(open.begin(), open.begin() + count));
          std::vector<bool> is_open(size);
          for (std::int64_t k = 0; k < count; ++k) {
            ASSERT_GE(open[static_cast<std::size_t>(k)], 0);
            ASSERT_LT(open[static_cast<std::size_t>(k)], m);
            ASSERT_FALSE(is_open[static_cast<std::size_t>(open[static_cast<std::size_t>(k)])]);
            is_open[static_cast<std::size_t>(open[static_cast<std::size_t>(k)])] = true;
          }
          for (std::size_t j = 0; j < size; ++j) {
            const double room = 4 * kFloatUnit * most[j];  // float's four roundings may decide
            if (most[j] > static_cast<double>(threshold) + room) {
              EXPECT_TRUE(is_open[j]) << j;
            }
            if (most[j] < static_cast<double>(threshold) - room || most[j] == 0) {
              EXPECT_FALSE(is_open[j]) << j;
            }
          }
        }
      }
    }
  }
}

TEST(BoundedCorrelation, NormsOfGroupsKeepTheirBounds) {
  for (const Atoms kind : kAtoms) {
    for (const std::int64_t s : {1, 2, 3, 7, 42}) {
      const std::int64_t m = 84;
      // Member i of group g lies at place m - 1 - (g s + i).
      std::vector<std::int32_t> place_of(static_cast<std::size_t>(m));
      std::iota(place_of.rbegin(), place_of.rend(), 0);
      const auto D = make_atoms(kind, 70, m);
      const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
      const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
      const AtomBounds bounds = quantized.bounds();
      const auto R = make_residuals(D, basis);
      const auto r = padded<double>(R);
      const std::vector<long double> exact = products(D, R);
      QuantizedResiduals places(Context::cpu(1), quantized, kResiduals);
      for (std::int64_t level = 0; level < quantized.levels(); ++level) {
        set_all(quantized, r, level, places);
        const Pass pass = run(quantized, bounds, places, kResiduals);
        for (std::int64_t b = 0; b < kResiduals; ++b) {
          SCOPED_TRACE(::testing::Message() << "groups of " << s << ", level " << level << ", residual " << b);
          std::vector<float> upper(static_cast<std::size_t>(quantized.padded_atoms()));
          std::vector<double> about(static_cast<std::size_t>(m / s) + 1, -7), most(about);
          group_bounds(quantized, bounds, places, b, &pass.C(0, b), s, place_of.data(), upper.data(), about.data(),
                       most.data());
          EXPECT_EQ(about.back(), -7);
          EXPECT_EQ(most.back(), -7);
          for (std::int64_t g = 0; g < m / s; ++g) {
            long double square = 0;
            double known = 0, bound = 0;
            for (std::int64_t member = g * s; member < (g + 1) * s; ++member) {
              const std::int64_t j = m - 1 - member;
              const auto c = static_cast<double>(pass.C(j, b));
              const double limit = std::fabs(c) + error_bound(bounds, places, b, j);
              square += exact[static_cast<std::size_t>(b * m + j)] * exact[static_cast<std::size_t>(b * m + j)];
              known += c * c;
              bound += limit * limit;
            }
            const auto at = static_cast<std::size_t>(g);
            EXPECT_EQ(about[at], known);
            // Float rounds each magnitude by six units at most, up or down, for which there is twice as much room; what is
            // under its range it knows to 1e-44.
            const double under = 6 * std::sqrt(static_cast<double>(s)) * 1e-44;
            EXPECT_GE(std::sqrt(most[at]) + under, std::sqrt(static_cast<double>(square)));
            EXPECT_LE(std::sqrt(most[at]), std::sqrt(bound) * (1 + 1e-6 + 8 * kFloatUnit) + under);
            EXPECT_GE(std::sqrt(most[at]) + under, std::sqrt(bound));
          }
        }
      }
    }
  }
}

TEST(BoundedCorrelation, WeightsDivideCorrelationsAndBounds) {
  const std::int64_t n = 70, m = 100;
  const auto D = make_atoms(Atoms::normal, n, m);
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
  const AtomBounds plain = quantized.bounds();
  // Powers of two, so that all is exact; atom 5 weighs infinitely much, but for its tail in the way of 0 * inf.
  const auto weighted = [&](const float* from, std::int64_t columns) {
    auto tensor = Tensor<float>::zeros(Context::cpu(1), quantized.padded_atoms(), columns);
    for (std::int64_t l = 0; l < columns; ++l) {
      for (std::int64_t j = 0; j < m; ++j) {
        const float weight = std::ldexp(1.0F, static_cast<int>(j % 5) - 2);
        tensor.matrix()(j, l) = j == 5 ? 0.0F : from[j + l * quantized.padded_atoms()] / weight;
      }
    }
    return tensor;
  };
  const auto factor = weighted(plain.factor.data, 1), rounding = weighted(plain.rounding.data, 1),
             norm = weighted(plain.norm.data, 1), tails = weighted(plain.tail.data, quantized.levels());
  const AtomBounds bounds{factor.vector(), rounding.vector(), norm.vector(), tails.matrix(), {}};
  QuantizedResiduals places(Context::cpu(1), quantized, 3);
  set_all(quantized, padded<double>(normal_atoms(n, 3, 3)), 1, places);
  const Pass of_plain = run(quantized, plain, places, 3), of_weighted = run(quantized, bounds, places, 3);
  for (std::int64_t b = 0; b < 3; ++b) {
    for (std::int64_t j = 0; j < m; ++j) {
      const float weight = std::ldexp(1.0F, static_cast<int>(j % 5) - 2);
      EXPECT_EQ(of_weighted.C(j, b), j == 5 ? 0.0F : of_plain.C(j, b) / weight);
    }
    for (std::int64_t panel = 0; panel < quantized.panels(); ++panel) {
      const double wanted = highest_of(quantized, bounds, places, of_weighted, panel, b);
      EXPECT_NEAR(static_cast<double>(of_weighted.highest(panel, b)), wanted, kHighestRoom * wanted);
    }
    std::vector<std::int32_t> open(static_cast<std::size_t>(m));
    const std::int64_t count =
        open_atoms(quantized, bounds, places, b, &of_weighted.C(0, b), &of_weighted.highest(0, b), 0, open.data());
    EXPECT_EQ(std::count(open.begin(), open.begin() + count, 5), 0);
    EXPECT_EQ(std::count(open.begin(), open.begin() + count, 4), 1);
  }
}

TEST(BoundedCorrelation, AColumnHasTheSameBitsAnywhere) {
  const std::int64_t n = 70, m = 100;
  const auto D = make_atoms(Atoms::correlated, n, m);
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
  const auto R = make_residuals(D, basis);
  const auto r = padded<double>(R);
  const auto levels = quantized.levels();
  ASSERT_EQ(levels, 3);
  const auto column = [&](const Pass& pass, std::int64_t b) {
    std::vector<float> values;
    for (std::int64_t j = 0; j < pass.C.rows; ++j) values.push_back(pass.C(j, b));
    for (std::int64_t p = 0; p < pass.highest.rows; ++p) values.push_back(pass.highest(p, b));
    return values;
  };
  for (std::int64_t level = 0; level < levels; ++level) {
    for (std::int64_t b = 0; b < kResiduals; ++b) {
      SCOPED_TRACE(::testing::Message() << "residual " << b << ", level " << level);
      QuantizedResiduals alone(Context::cpu(1), quantized, 1);
      alone.set(quantized, 0, level, r.matrix().column(b));
      const auto wanted = column(run(quantized, quantized.bounds(), alone, 1), 0);

      // At every place of three groups, put there with others of this and of another level, passed in two orders.
      QuantizedResiduals among(Context::cpu(1), quantized, 3 * alone.group());
      for (std::int64_t place = 0; place < among.places(); ++place) {
        std::vector<QuantizedResiduals::Vector> vectors;
        std::vector<std::int64_t> order;
        for (std::int64_t other = 0; other < among.places(); ++other) {
          const bool same = other >= alone.group() || other == place;
          const std::int64_t from = other == place ? b : (other + b + 1) % kResiduals;
          vectors.push_back({other, same ? level : (level + 1) % levels, r.matrix().column(from), false});
          order.push_back(other);
        }
        among.put(quantized, vectors.data(), among.places());
        for (const bool reversed : {false, true}) {
          if (reversed) std::reverse(order.begin(), order.end());
          Pass pass{GuardedHost<float>(quantized.padded_atoms(), among.places()),
                    GuardedHost<float>(quantized.panels(), among.places())};
          run(quantized, quantized.bounds(), among, order, pass);
          const auto found = column(pass, place);
          ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), found.begin(), same_bits<float>));
        }
      }
    }
  }
}

TEST(BoundedCorrelation, ChangesKeepTheBound) {
  // A residual of each kind moves by others of all sizes, at levels in no order; what it has come to is known exactly.
  const std::int64_t n = 70, m = 100;
  const double steps[] = {0.5, -1e-2, 3, 1e-9, 0};
  for (const Atoms kind : kAtoms) {
    const auto D = make_atoms(kind, n, m);
    const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
    const auto R = make_residuals(D, basis);
    for (const bool rotated : {false, true}) {
      const QuantizedDictionary quantized(Context::cpu(1), view_of(D), rotated ? basis.matrix() : MatrixView<double>{});
      QuantizedResiduals places(Context::cpu(1), quantized, kResiduals),
          together(Context::cpu(1), quantized, kResiduals);
      Pass pass{GuardedHost<float>(quantized.padded_atoms(), kResiduals),
                GuardedHost<float>(quantized.panels(), kResiduals)};
      Pass of_together = pass;
      std::vector<std::int64_t> order(kResiduals);
      std::iota(order.begin(), order.end(), 0);
      auto now = R;
      for (std::int64_t step = -1; step < 5; ++step) {
        SCOPED_TRACE(::testing::Message()
                     << "atoms " << static_cast<int>(kind) << (rotated ? ", rotated" : "") << ", step " << step);
        const std::int64_t level = (step + 5) * 2 % quantized.levels();
        auto change = R;
        if (step >= 0) {
          for (std::int64_t b = 0; b < kResiduals; ++b) {
            for (std::int64_t i = 0; i < n; ++i) {
              const double before = now(i, b);
              now(i, b) += steps[step] * R(i, (b + step + 1) % kResiduals);
              change(i, b) = now(i, b) - before;
              if (before + change(i, b) != now(i, b))
                change(i, b) = 0, now(i, b) = before;  // the change is to be exact
            }
          }
        }
        const auto v = padded<double>(change);
        std::vector<QuantizedResiduals::Vector> vectors;
        for (std::int64_t b = 0; b < kResiduals; ++b) vectors.push_back({b, level, v.matrix().column(b), step >= 0});
        for (const auto& vector : vectors) places.put(quantized, &vector, 1);
        together.put(quantized, vectors.data(), kResiduals);
        run(quantized, quantized.bounds(), places, order, pass);
        run(quantized, quantized.bounds(), together, order, of_together);
        check_pass(quantized, places, pass, products(D, now), false);
        if (HasFatalFailure()) return;
        for (std::int64_t b = 0; b < kResiduals; ++b) {
          EXPECT_EQ(places.adds(b), step >= 0);
          for (std::int64_t j = 0; j < m; ++j) ASSERT_TRUE(same_bits(pass.C(j, b), of_together.C(j, b)));
          std::vector<std::int32_t> open(static_cast<std::size_t>(m));
          const double threshold = static_cast<double>(pass.highest(0, b)) / 2;
          const std::int64_t count = open_atoms(quantized, quantized.bounds(), places, b, &pass.C(0, b),
                                                &pass.highest(0, b), threshold, open.data());
          for (std::int64_t j = 0; j < m; ++j) {
            const double most =
                std::fabs(static_cast<double>(pass.C(j, b))) + error_bound(quantized.bounds(), places, b, j);
            if (most <= threshold * (1 + 1e-6)) continue;
            EXPECT_TRUE(std::binary_search(open.begin(), open.begin() + count, j)) << j;
          }
        }
      }
    }
  }
}

TEST(BoundedCorrelation, AtomsLieInTheOrderThatIsGiven) {
  const std::int64_t n = 70, m = 100;
  const auto D = make_atoms(Atoms::correlated, n, m);
  std::vector<std::int32_t> order(static_cast<std::size_t>(m));
  for (std::int64_t k = 0; k < m; ++k) order[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(37 * k % m);
  const auto sorted = GuardedHost<double>::make(
      n, m, [&](std::int64_t i, std::int64_t k) { return D(i, order[static_cast<std::size_t>(k)]); });
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const auto r = padded<double>(make_residuals(D, basis));
  const auto pass_of = [&](const QuantizedDictionary& quantized) {
    QuantizedResiduals places(Context::cpu(1), quantized, kResiduals);
    set_all(quantized, r, 1, places);
    return run(quantized, quantized.bounds(), places, kResiduals);
  };
  const Pass ordered = pass_of(QuantizedDictionary(Context::cpu(2), view_of(D), basis.matrix(), order)),
             moved = pass_of(QuantizedDictionary(Context::cpu(2), view_of(sorted), basis.matrix()));
  for (std::int64_t b = 0; b < kResiduals; ++b)
    for (std::int64_t k = 0; k < m; ++k) ASSERT_TRUE(same_bits(ordered.C(k, b), moved.C(k, b))) << k;
  order.pop_back();
  EXPECT_THROW(QuantizedDictionary(Context::cpu(1), view_of(D), basis.matrix(), order), ShapeError);
}

TEST(BoundedCorrelation, LeavesOutPanelsWhoseAtomsCannotMatter) {
  // Two whole vectors of panels and some, in any instruction set.
  const std::int64_t n = 70, m = 48 * 37 + 5, count = 11;
  GuardedHost<double> D = normal_atoms(n, m, 1);
  for (std::int64_t j = 0; j < m; ++j)
    for (std::int64_t i = 0; i < n; ++i) D(i, j) *= std::exp2(-static_cast<double>(j) / 250);
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
  const AtomBounds bounds = quantized.bounds();
  QuantizedResiduals places(Context::cpu(1), quantized, count);
  Pass pass{GuardedHost<float>(quantized.padded_atoms(), count), GuardedHost<float>(quantized.panels(), count)};
  const auto stale = Tensor<std::uint8_t>::zeros(Context::cpu(1), quantized.panels(), count);
  std::vector<PanelLimit> limits(static_cast<std::size_t>(count));
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  const auto view = [](GuardedHost<float>& host) {
    return MatrixView<float>{host.memory.data() + GuardedHost<float>::kGuard, host.rows, host.cols, host.ld, {}};
  };
  auto now = normal_atoms(n, count, 3);
  const auto step = normal_atoms(n, count, 4);
  const auto norm_of_column = [&](const GuardedHost<double>& v, std::int64_t b, double factor) {
    return static_cast<float>(factor * norm_of(0, n, [&](std::int64_t i) { return v(i, b); }) * (1 + 1e-6));
  };
  const double lengths[] = {0, 0.02, 0.05, 0.3, 0.01};
  std::int64_t left_out = 0, left_out_again = 0, whole_again = 0;
  for (std::int64_t round = 0; round < 5; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    const Tensor<std::uint8_t> before(Context::cpu(1), quantized.panels(), count);
    std::copy_n(stale.data(), stale.size(), before.data());
    auto change = step;
    for (std::int64_t b = 0; b < count; ++b) {
      for (std::int64_t i = 0; i < n; ++i) {
        change(i, b) *= lengths[round];
        if (round > 0) now(i, b) += change(i, b);
      }
    }
    const auto whole = padded<double>(now), moved = padded<double>(change);
    const std::vector<long double> exact = products(D, now);
    const auto largest_of = [&](std::int64_t b) {
      return static_cast<double>(
          *std::max_element(exact.begin() + b * m, exact.begin() + (b + 1) * m,
                            [](long double x, long double y) { return std::fabs(x) < std::fabs(y); }));
    };
    for (std::int64_t b = 0; b < count; ++b) {
      PanelLimit& limit = limits[static_cast<std::size_t>(b)] = {};
      limit.norm = norm_of_column(now, b, 1);
      bool adds = round > 0;
      if (round == 0) {
        limit.share = 0.7F;
      } else {
        limit.under = static_cast<float>(0.7 * std::fabs(largest_of(b)));
        limit.moved = norm_of_column(step, b, lengths[round]);
        for (std::int64_t panel = 0; panel < quantized.panels(); ++panel)
          if (stale.matrix()(panel, b) != 0 &&
              !(panel_reach(limit, bounds.largest[panel], pass.highest(panel, b)) < limit.under))
            adds = false;
        if (!adds) ++whole_again;
      }
      const QuantizedResiduals::Vector vector{b, 2, (adds ? moved : whole).matrix().column(b), adds};
      places.put(quantized, &vector, 1);
    }
    bounded_correlation(Context::cpu(1), quantized, bounds, places, order.data(), count, view(pass.C),
                        view(pass.highest), {limits.data(), stale.matrix()});
    for (std::int64_t b = 0; b < count; ++b) {
      const PanelLimit& limit = limits[static_cast<std::size_t>(b)];
      const double under = 0.7 * std::fabs(largest_of(b));
      float most = 0;
      for (std::int64_t panel = 0; panel < quantized.panels(); ++panel) {
        const bool out = stale.matrix()(panel, b) != 0;
        const std::int64_t first = panel * quantized.panel_atoms(), last = std::min(first + quantized.panel_atoms(), m);
        for (std::int64_t j = first; j < last; ++j) {
          const auto wanted = static_cast<double>(exact[static_cast<std::size_t>(j + b * m)]);
          ASSERT_GE(static_cast<double>(pass.highest(panel, b)), std::fabs(wanted)) << "atom " << j;
          if (out) continue;
          ASSERT_LE(std::fabs(wanted - static_cast<double>(pass.C(j, b))), error_bound(bounds, places, b, j)) << j;
        }
        if (!out) continue;
        most = std::max(most, pass.highest(panel, b));
        EXPECT_LT(static_cast<double>(pass.highest(panel, b)), under * (1 + 1e-6));
        ++left_out;
        if (before.matrix()(panel, b) != 0) ++left_out_again;
      }
      EXPECT_EQ(limit.left_out, most);
      for (std::int64_t panel = 0; panel < quantized.panels() && places.adds(b); ++panel)  // what was stale is still
        EXPECT_GE(stale.matrix()(panel, b), before.matrix()(panel, b));
    }
  }
  // Small atoms are left out from the first round on, some a second time, and a long step brings all of them back.
  EXPECT_GT(left_out, 2 * count);
  EXPECT_GT(left_out_again, count);
  EXPECT_GT(whole_again, 0);
  EXPECT_LT(left_out, 5 * count * quantized.panels() - count);

  // Nothing is left out under a limit of 0, not even what is 0.
  for (PanelLimit& limit : limits) limit = {};
  const auto zero = Tensor<double>::zeros(Context::cpu(1), 80);
  for (std::int64_t b = 0; b < count; ++b) {
    limits[static_cast<std::size_t>(b)].norm = 0;
    places.set(quantized, b, 2, zero.data());
  }
  bounded_correlation(Context::cpu(1), quantized, bounds, places, order.data(), count, view(pass.C), view(pass.highest),
                      {limits.data(), stale.matrix()});
  EXPECT_EQ(std::count(stale.data(), stale.data() + stale.size(), 0), stale.size());
  const Tensor<std::uint8_t> narrow(Context::cpu(1), quantized.panels(), count - 1);
  EXPECT_THROW(bounded_correlation(Context::cpu(1), quantized, bounds, places, order.data(), count, view(pass.C),
                                   view(pass.highest), {limits.data(), narrow.matrix()}),
               ShapeError);
  AtomBounds without = bounds;
  without.largest = {};
  EXPECT_THROW(bounded_correlation(Context::cpu(1), quantized, without, places, order.data(), count, view(pass.C),
                                   view(pass.highest), {limits.data(), stale.matrix()}),
               ShapeError);
}

TEST(BoundedCorrelation, ASmallChangeAddsLittleToTheBound) {
  const std::int64_t n = 70, m = 100;
  const auto D = make_atoms(Atoms::correlated, n, m);
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
  const auto r = padded<double>(normal_atoms(n, 1, 3));
  Tensor<double> change = padded<double>(normal_atoms(n, 1, 4));
  for (std::int64_t i = 0; i < n; ++i) change.data()[i] *= 1e-3;
  QuantizedResiduals places(Context::cpu(1), quantized, 1);
  places.set(quantized, 0, 1, r.data());
  const double before = error_bound(quantized.bounds(), places, 0, 0);
  const QuantizedResiduals::Vector vector{0, 0, change.data(), true};
  places.put(quantized, &vector, 1);
  EXPECT_EQ(places.tails(0), 2);
  // The bound of the change alone, and the rounding of the sum.
  QuantizedResiduals alone(Context::cpu(1), quantized, 1);
  alone.set(quantized, 0, 0, change.data());
  const double added = error_bound(quantized.bounds(), alone, 0, 0);
  const double norms = static_cast<double>(quantized.bounds().norm[0]) * static_cast<double>(places.norm(0));
  EXPECT_GE(error_bound(quantized.bounds(), places, 0, 0), before + added);
  EXPECT_LE(error_bound(quantized.bounds(), places, 0, 0), (before + added) * (1 + 1e-5) + 2 * kFloatUnit * norms);
}

TEST(BoundedCorrelation, NthLargestIsJustUnderThatOfTheSortedNumbers) {
  for (const std::int64_t count : {1, 2, 15, 16, 17, 128, 301}) {
    const auto numbers = normal_atoms(count, 3, 5);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (const int kind : {0, 1, 2}) {
      for (std::int64_t i = 0; i < count; ++i) {
        float& value = values[static_cast<std::size_t>(i)];
        value = static_cast<float>(std::fabs(numbers(i, kind)));
        if (kind == 1) value = std::floor(4 * value);  // many are alike, some 0
        if (kind == 2)
          value = std::ldexp(value, static_cast<int>(i * 37 % 270) - 148);  // from under float's normal range
      }
      auto sorted = values;
      std::sort(sorted.begin(), sorted.end(), std::greater<float>());
      for (std::int64_t n = 1; n <= count; ++n) {
        const float wanted = sorted[static_cast<std::size_t>(n - 1)], found = nth_largest(values.data(), count, n);
        ASSERT_LE(found, wanted) << n << " of " << count;
        // The next number with eight bits of mantissa is beyond it.
        ASSERT_GT(found + std::max(found, std::numeric_limits<float>::min()) / 128, wanted) << n << " of " << count;
      }
    }
  }
}

TEST(BoundedCorrelation, PackingDoesNotDependOnThreads) {
  const auto D = make_atoms(Atoms::correlated, 40, 1000);
  const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
  const QuantizedDictionary one(Context::cpu(1), view_of(D), basis.matrix());
  const QuantizedDictionary three(Context::cpu(3), view_of(D), basis.matrix());
  EXPECT_TRUE(std::equal(one.packed(), one.packed() + one.padded_atoms() * 20, three.packed()));
  const AtomBounds a = one.bounds(), b = three.bounds();
  for (std::int64_t j = 0; j < one.padded_atoms(); ++j) {
    ASSERT_TRUE(same_bits(a.factor[j], b.factor[j]) && same_bits(a.rounding[j], b.rounding[j]) &&
                same_bits(a.norm[j], b.norm[j]) && same_bits(a.tail(j, 0), b.tail(j, 0)));
  }
}

TEST(BoundedCorrelation, TypicalIsWhatNineInTenDoNotPass) {
  for (const std::int64_t m : {1, 9, 10, 11, 500}) {
    SCOPED_TRACE(m);
    const auto D = make_atoms(Atoms::scaled, 70, m);
    const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
    const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
    const AtomBounds bounds = quantized.bounds();
    const auto check = [&](double typical, const float* values) {
      const auto under = std::count_if(values, values + m, [&](float v) { return static_cast<double>(v) < typical; });
      const auto within = std::count_if(values, values + m, [&](float v) { return static_cast<double>(v) <= typical; });
      EXPECT_LE(10 * under, 9 * m);
      EXPECT_GE(10 * within, 9 * m);
    };
    check(quantized.typical_norm(), bounds.norm.data);
    for (std::int64_t level = 0; level < quantized.levels(); ++level)
      check(quantized.typical_tail(level), bounds.tail.column(level));
    EXPECT_EQ(quantized.typical_tail(quantized.levels() - 1), 0);
  }
}

TEST(BoundedCorrelation, BytesAreNoMoreThanSaid) {
  for (const std::int64_t n : {1, 31, 33, 302}) {
    for (const std::int64_t m : {1, 16, 17, 500}) {
      const auto D = normal_atoms(n, m, 1);
      const Tensor<double> basis = principal_basis(Context::cpu(1), view_of(D));
      const QuantizedDictionary quantized(Context::cpu(1), view_of(D), basis.matrix());
      const std::int64_t padded = quantized.padded_atoms();
      const std::int64_t bytes = 4 * padded * ((n + 1) / 2 + 3 + quantized.levels()) +
                                 4 * quantized.basis().rows * quantized.basis().cols + 8 * quantized.levels() +
                                 4 * quantized.bounds().largest.size;
      EXPECT_LE(bytes, QuantizedDictionary::most_bytes(n, m)) << n << " x " << m;
    }
  }
}

TEST(BoundedCorrelation, RefusesWhatDoesNotFit) {
  const Context context = Context::cpu(1);
  const auto host = normal_atoms(5, 30, 1), square = normal_atoms(5, 5, 2), oblong = normal_atoms(5, 4, 2);
  const auto on_cuda = [](MatrixView<const double> view) {
    view.device = Device{DeviceType::cuda, 0};
    return view;
  };
  const auto make = [&](MatrixView<const double> D, MatrixView<const double> basis) {
    const QuantizedDictionary quantized(context, D, basis);
  };
  EXPECT_THROW(make(on_cuda(view_of(host)), {}), DeviceError);
  EXPECT_THROW(make(view_of(host), on_cuda(view_of(square))), DeviceError);
  EXPECT_THROW(make(view_of(host), view_of(oblong)), ShapeError);
  EXPECT_THROW(make({nullptr, std::int64_t{1} << 28, 0, std::int64_t{1} << 28, {}}, {}), ShapeError);
  EXPECT_THROW(make({nullptr, 0, std::int64_t{1} << 31, 0, {}}, {}), ShapeError);

  const QuantizedDictionary D(context, view_of(host), view_of(square));
  const QuantizedResiduals R(context, D, 4);
  const Tensor<float> C(context, D.padded_atoms(), 4), highest(context, D.panels(), 4);
  const auto call = [&](const std::vector<std::int64_t>& places, MatrixView<float> c, MatrixView<float> high) {
    bounded_correlation(context, D, D.bounds(), R, places.data(), static_cast<std::int64_t>(places.size()), c, high);
  };
  EXPECT_THROW(call({0, -1}, C.matrix(), highest.matrix()), ShapeError);
  EXPECT_THROW(call({0, R.places()}, C.matrix(), highest.matrix()), ShapeError);
  EXPECT_THROW(call({0}, C.matrix(), highest.matrix().columns(0, 3)), ShapeError);
  EXPECT_THROW(call({0}, C.matrix().columns(0, 3), highest.matrix()), ShapeError);
  const Tensor<float> low(context, D.padded_atoms() - 1, 4);
  EXPECT_THROW(call({0}, low.matrix(), highest.matrix()), ShapeError);
  MatrixView<float> elsewhere = C.matrix();
  elsewhere.device = Device{DeviceType::cuda, 0};
  EXPECT_THROW(call({0}, elsewhere, highest.matrix()), DeviceError);
}

}  // namespace
}  // namespace shrinkwarp
