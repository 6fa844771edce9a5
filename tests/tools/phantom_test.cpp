// The MEG phantom: the field of a dipole against the laws that determine it, the sensors, the whitening, the scaling of
// the dictionary, and the recording as a function of its position alone.
#include <shrinkwarp/tools/phantom/meg_phantom.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::phantom {
namespace {

constexpr double kMu0Over4Pi = 1e-7;

Vec3 unit(const Vec3& a) {
  return (1 / norm(a)) * a;
}

/// Source places and measuring points that meet in every combination; points are outside the farthest source.
const std::vector<Vec3> kPlaces = {{0.01, -0.02, 0.05}, {-0.06, 0.01, 0.02}, {0, 0.03, 0.065}, {0.002, 0.001, -0.003}};
const std::vector<Vec3> kPoints = {{0, 0, 0.12}, {0.1, 0.05, 0.02}, {-0.03, 0.1, -0.04}, {-0.08, -0.07, 0.03}};
const Vec3 kMoment{3e-9, -8e-9, 5e-9};

MegPhantomOptions small(bool free_orientation = false) {
  MegPhantomOptions options;
  options.sensors = 30;
  options.sources = 200;
  options.samples = 25000;
  options.seed = 7;
  options.free_orientation = free_orientation;
  return options;
}

/// The default sizes, made once.
const MegPhantom& whole() {
  static const MegPhantom phantom{MegPhantomOptions{}};
  return phantom;
}

std::vector<float> observations(const MegPhantom& phantom, std::int64_t first, std::int64_t count) {
  std::vector<float> rows(static_cast<std::size_t>(count * phantom.rows()));
  phantom.observations(first, count, rows.data());
  return rows;
}
std::vector<float> signal(const MegPhantom& phantom, std::int64_t first, std::int64_t count) {
  std::vector<float> rows(static_cast<std::size_t>(count * phantom.rows()));
  phantom.signal(first, count, rows.data());
  return rows;
}

/// Columns of D as doubles, column-major.
std::vector<std::vector<double>> columns_of(const MegPhantom& phantom) {
  const auto n = static_cast<std::size_t>(phantom.rows()), m = static_cast<std::size_t>(phantom.columns());
  std::vector<std::vector<double>> columns(m, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < m; ++j) columns[j][i] = static_cast<double>(phantom.dictionary()[i * m + j]);
  }
  return columns;
}
double dot_of(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
double norm_of(const std::vector<double>& a) {
  return std::sqrt(dot_of(a, a));
}

// ---- the field of a dipole. Outside the conductor B is the gradient of a harmonic function that vanishes at infinity,
// and its radial component is that of the primary current alone: the first three tests determine it. ----

TEST(FieldOfDipole, RadialComponentIsBiotSavartsOfThePrimaryCurrent) {
  for (const Vec3& place : kPlaces) {
    for (const Vec3& point : kPoints) {
      const Vec3 offset = point - place;
      const Vec3 primary = (kMu0Over4Pi / std::pow(norm(offset), 3)) * cross(kMoment, offset);
      const Vec3 field = field_of_dipole(place, kMoment, point);
      EXPECT_NEAR(dot(field, unit(point)), dot(primary, unit(point)), 1e-13 * norm(field));
    }
  }
}

TEST(FieldOfDipole, DivergenceAndCurlVanishOutside) {
  // Fourth-order differences: error about (h / 4 cm)^4 = 2e-8 of a derivative, rounding 1e-16 (4 cm) / h = 1e-14.
  const double h = 5e-4;
  const std::array<Vec3, 3> axes = {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};
  for (const Vec3& place : kPlaces) {
    for (const Vec3& point : kPoints) {
      std::array<Vec3, 3> slope;  // of B along each axis
      double scale = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        const auto at = [&](double steps) { return field_of_dipole(place, kMoment, point + steps * h * axes[i]); };
        slope[i] = (1 / (12 * h)) * (8 * (at(1) - at(-1)) - (at(2) - at(-2)));
        scale = std::max(scale, norm(slope[i]));
      }
      EXPECT_NEAR(slope[0].x + slope[1].y + slope[2].z, 0, 1e-6 * scale);
      EXPECT_NEAR(slope[1].z - slope[2].y, 0, 1e-6 * scale);
      EXPECT_NEAR(slope[2].x - slope[0].z, 0, 1e-6 * scale);
      EXPECT_NEAR(slope[0].y - slope[1].x, 0, 1e-6 * scale);
    }
  }
}

TEST(FieldOfDipole, FarAwayItIsThatOfTheMagneticMomentHalfPlaceTimesMoment) {
  for (const Vec3& place : kPlaces) {
    for (const Vec3& point : kPoints) {
      const Vec3 far = 1e4 * point;
      const Vec3 direction = unit(far);
      const Vec3 magnetic = 0.5 * cross(place, kMoment);
      const Vec3 wanted =
          (kMu0Over4Pi / std::pow(norm(far), 3)) * (3 * dot(magnetic, direction) * direction - magnetic);
      EXPECT_LE(norm(field_of_dipole(place, kMoment, far) - wanted), 1e-3 * norm(wanted));  // next order: 1e-4
    }
  }
}

TEST(FieldOfDipole, RadialDipoleIsSilent) {
  for (const Vec3& place : kPlaces) {
    const Vec3 radial = 1e-8 * unit(place);
    const Vec3 tangential = 1e-8 * unit(cross(place, {0.3, 1, 0.2}));
    for (const Vec3& point : kPoints) {
      EXPECT_LE(norm(field_of_dipole(place, radial, point)), 1e-12 * norm(field_of_dipole(place, tangential, point)));
    }
  }
}

TEST(FieldOfDipole, LinearInTheMoment) {
  const Vec3 other{-1e-9, 2e-9, 7e-9};
  for (const Vec3& point : kPoints) {
    const Vec3 sum = field_of_dipole(kPlaces[0], 2 * kMoment + other, point);
    const Vec3 parts = 2 * field_of_dipole(kPlaces[0], kMoment, point) + field_of_dipole(kPlaces[0], other, point);
    EXPECT_LE(norm(sum - parts), 1e-14 * norm(sum));
  }
}

TEST(FieldOfDipole, TurnsWithItsSource) {
  const Vec3 axis = unit({1, 2, -0.5});
  const double angle = 0.8;
  const auto turn = [&](const Vec3& v) {
    return std::cos(angle) * v + std::sin(angle) * cross(axis, v) + (1 - std::cos(angle)) * dot(axis, v) * axis;
  };
  for (const Vec3& place : kPlaces) {
    for (const Vec3& point : kPoints) {
      const Vec3 field = field_of_dipole(place, kMoment, point);
      EXPECT_LE(norm(field_of_dipole(turn(place), turn(kMoment), turn(point)) - turn(field)), 1e-13 * norm(field));
    }
  }
}

// A 10 nA m tangential dipole 7 cm from the centre, read 2.8 cm beside it on the helmet: a few hundred femtotesla.
TEST(FieldOfDipole, OrderOfMagnitude) {
  const double field = norm(field_of_dipole({0, 0, 0.07}, {10e-9, 0, 0}, {0, 0.028, 0.117}));
  EXPECT_GT(field, 1e-13);
  EXPECT_LT(field, 1e-12);
}

// ---- sensors and sources ----

TEST(MegPhantom, SensorsStandOnTheHelmetInNeuromagsOrder) {
  const auto& sensors = whole().sensors();
  ASSERT_EQ(sensors.size(), 306u);
  for (std::size_t i = 0; i < sensors.size(); ++i) {
    const Sensor& sensor = sensors[i];
    EXPECT_EQ(sensor.magnetometer, i % 3 == 2);
    EXPECT_NEAR(norm(sensor.position), kHelmetRadius, 1e-15);
    EXPECT_NEAR(norm(sensor.normal), 1, 1e-14);
    EXPECT_NEAR(norm(sensor.tangent), 1, 1e-14);
    EXPECT_NEAR(dot(sensor.normal, sensor.tangent), 0, 1e-14);
    // The face stays free: in front nothing is far under the centre.
    if (sensor.position.y > 0.08) {
      EXPECT_GT(sensor.position.z, -0.02);
    }
  }
  double closest = 1, loneliest = 0;
  for (std::size_t i = 0; i < sensors.size(); i += 3) {
    EXPECT_EQ(norm(sensors[i].position - sensors[i + 1].position), 0);
    EXPECT_EQ(norm(sensors[i].position - sensors[i + 2].position), 0);
    EXPECT_NEAR(dot(sensors[i].tangent, sensors[i + 1].tangent), 0, 1e-14);
    double nearest = 1;
    for (std::size_t j = 0; j < sensors.size(); j += 3) {
      if (j != i) nearest = std::min(nearest, norm(sensors[i].position - sensors[j].position));
    }
    closest = std::min(closest, nearest);
    loneliest = std::max(loneliest, nearest);
  }
  EXPECT_GT(closest, 0.024);  // a real helmet has 34 mm
  EXPECT_LT(loneliest, 0.040);
}

// Against a fine midpoint rule over the square, and over the coils' widths at the ends of the baseline. Two points of
// Gauss' rule leave (side^4 / 4320) of a fourth derivative: (21 mm)^4 / 4320 / (36 mm)^4 x 4! is under 1e-3.
TEST(MegPhantom, CoilsReadTheFieldAndItsDifference) {
  const Vec3 place{0.01, 0.02, 0.06};
  constexpr int kSteps = 40;
  const auto middle = [](int i) { return (i + 0.5) / kSteps - 0.5; };
  std::array<double, 2> largest{};
  for (const Sensor& sensor : whole().sensors()) {
    double& most = largest[sensor.magnetometer ? 1 : 0];
    most = std::max(most, std::abs(reading_of_dipole(sensor, place, kMoment)));
  }
  for (const Sensor& sensor : whole().sensors()) {
    const Vec3 across = cross(sensor.normal, sensor.tangent);
    const auto normal_field = [&](double u, double v) {
      return dot(field_of_dipole(place, kMoment, sensor.position + u * sensor.tangent + v * across), sensor.normal);
    };
    double wanted = 0;
    for (int i = 0; i < kSteps; ++i) {
      if (sensor.magnetometer) {
        for (int j = 0; j < kSteps; ++j) {
          wanted += normal_field(21e-3 * middle(i), 21e-3 * middle(j)) / (kSteps * kSteps);
        }
      } else {
        const double v = 26.4e-3 * middle(i);
        wanted += (normal_field(8.4e-3, v) - normal_field(-8.4e-3, v)) / 16.8e-3 / kSteps;
      }
    }
    EXPECT_NEAR(reading_of_dipole(sensor, place, kMoment), wanted, 2e-3 * largest[sensor.magnetometer ? 1 : 0]);
  }
}

TEST(MegPhantom, SourcesLieOnAFoldedSheetAndNoneIsRadial) {
  const auto& positions = whole().source_positions();
  const auto& orientations = whole().source_orientations();
  ASSERT_EQ(positions.size(), 5124u);
  ASSERT_EQ(orientations.size(), 5124u);
  double nearest = 1, farthest = 0, steep = 0;
  for (std::size_t k = 0; k < positions.size(); ++k) {
    const double radius = norm(positions[k]);
    nearest = std::min(nearest, radius);
    farthest = std::max(farthest, radius);
    EXPECT_NEAR(norm(orientations[k]), 1, 1e-14);
    const double cosine = dot(positions[k], orientations[k]) / radius;
    EXPECT_LE(cosine, std::cos(15 * std::acos(-1.0) / 180) + 1e-12);
    EXPECT_GT(cosine, 0);
    if (cosine < 0.7) steep += 1;
  }
  EXPECT_GT(nearest, 0.054);
  EXPECT_LT(nearest, 0.064);
  EXPECT_GT(farthest, 0.076);
  EXPECT_LT(farthest, 0.086);
  EXPECT_GT(steep / 5124, 0.2);  // walls of the folds
}

// ---- dictionary ----

TEST(MegPhantom, WhitenerIsTheSymmetricRootOfTheCovariance) {
  for (const std::int64_t sensors : {3, 6, 30, 306}) {
    MegPhantomOptions options = small();
    options.sensors = sensors;
    options.sources = 1;
    const MegPhantom phantom(options);
    const std::vector<double> W = phantom.whitener(), C = phantom.noise_covariance();
    const auto n = static_cast<std::size_t>(sensors);
    std::vector<double> WC(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t j = 0; j < n; ++j) WC[i * n + j] += W[i * n + k] * C[k * n + j];
      }
    }
    const auto noise = [&](std::size_t i) {
      return phantom.sensors()[i].magnetometer ? kMagnetometerNoise : kGradiometerNoise;
    };
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_GE(C[i * n + i], noise(i) * noise(i));
      for (std::size_t j = 0; j < n; ++j) {
        double value = 0;
        for (std::size_t k = 0; k < n; ++k) value += WC[i * n + k] * W[j * n + k];
        ASSERT_NEAR(value, i == j ? 1 : 0, 1e-10) << sensors << ": " << i << ' ' << j;
        ASSERT_NEAR(W[i * n + j] * noise(j), W[j * n + i] * noise(i), 1e-14);
      }
    }
  }
}

TEST(MegPhantom, DictionaryIsTheWhitenedWeightedLeadField) {
  for (const bool free_orientation : {false, true}) {
    const MegPhantom phantom(small(free_orientation));
    const auto columns = columns_of(phantom);
    ASSERT_EQ(columns.size(), free_orientation ? 600u : 200u);
    const std::vector<double> W = phantom.whitener();
    const auto n = static_cast<std::size_t>(phantom.rows());
    const std::array<Vec3, 3> axes = {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};
    for (std::size_t j = 0; j < columns.size(); j += 7) {
      const std::size_t k = free_orientation ? j / 3 : j;
      const Vec3 moment =
          phantom.column_weights()[j] * (free_orientation ? axes[j % 3] : phantom.source_orientations()[k]);
      std::vector<double> field, wanted(n, 0.0);
      for (const Sensor& sensor : phantom.sensors()) {
        field.push_back(reading_of_dipole(sensor, phantom.source_positions()[k], moment));
      }
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t c = 0; c < n; ++c) wanted[i] += W[i * n + c] * field[c];
      }
      for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(columns[j][i], wanted[i], 1e-7 * norm_of(wanted));
    }
  }
}

TEST(MegPhantom, ColumnNormsHaveMeanOneAndDepthWeightsAreMnes) {
  const MegPhantom phantom(small());
  const auto columns = columns_of(phantom);
  double sum = 0;
  for (const auto& column : columns) sum += norm_of(column);
  EXPECT_NEAR(sum / static_cast<double>(columns.size()), 1, 1e-6);

  // Power of each lead in the gradiometers; weights are power^-0.4, held where 1/power exceeds 100 times the smallest.
  std::vector<double> inverse;
  for (std::size_t k = 0; k < columns.size(); ++k) {
    double power = 0;
    for (const Sensor& sensor : phantom.sensors()) {
      if (sensor.magnetometer) continue;
      const double g = reading_of_dipole(sensor, phantom.source_positions()[k], phantom.source_orientations()[k]);
      power += g * g;
    }
    inverse.push_back(1 / power);
  }
  std::vector<double> sorted = inverse;
  std::sort(sorted.begin(), sorted.end());
  const auto over = std::find_if(sorted.begin(), sorted.end(), [&](double v) { return v > 100 * sorted[0]; });
  const double limit = over == sorted.end() ? sorted.back() : *over;
  const auto weight = [&](std::size_t k) { return std::pow(std::min(inverse[k] / limit, 1.0), 0.4); };
  for (std::size_t k = 0; k < columns.size(); ++k) {
    EXPECT_NEAR(phantom.column_weights()[k] / phantom.column_weights()[0], weight(k) / weight(0), 1e-10);
  }
}

TEST(MegPhantom, FreeColumnsCombineToTheFixedOnes) {
  const MegPhantom fixed(small(false)), free(small(true));
  const auto one = columns_of(fixed), three = columns_of(free);
  for (std::size_t k = 0; k < one.size(); ++k) {
    const Vec3& q = fixed.source_orientations()[k];
    // The three columns of a location share a weight.
    EXPECT_EQ(free.column_weights()[3 * k], free.column_weights()[3 * k + 1]);
    EXPECT_EQ(free.column_weights()[3 * k], free.column_weights()[3 * k + 2]);
    const double ratio = fixed.column_weights()[k] / free.column_weights()[3 * k];
    for (std::size_t i = 0; i < one[k].size(); ++i) {
      const double sum = q.x * three[3 * k][i] + q.y * three[3 * k + 1][i] + q.z * three[3 * k + 2][i];
      ASSERT_NEAR(one[k][i], ratio * sum, 1e-6 * std::max(1.0, ratio));
    }
  }
}

TEST(MegPhantom, NeighboursAreHighlyCorrelated) {
  const auto columns = columns_of(whole());
  double sum = 0;
  int count = 0;
  for (std::size_t j = 0; j < columns.size(); j += 100, ++count) {
    double most = 0;
    for (std::size_t k = 0; k < columns.size(); ++k) {
      if (k == j) continue;
      most = std::max(most, std::abs(dot_of(columns[j], columns[k])) / (norm_of(columns[j]) * norm_of(columns[k])));
    }
    EXPECT_GT(most, 0.9) << j;
    EXPECT_LT(most, 1.0) << j;
    sum += most;
  }
  EXPECT_GT(sum / count, 0.97);
}

TEST(MegPhantom, EveryNumberIsNormalInFloat32) {
  MegPhantomOptions options;
  options.free_orientation = true;
  options.sources = 1000;
  for (const MegPhantom& phantom : {MegPhantom(options), MegPhantom(small(true)), MegPhantom(small())}) {
    for (const float value : phantom.dictionary()) ASSERT_TRUE(std::isnormal(value)) << value;
    for (const double value : phantom.column_weights()) ASSERT_TRUE(std::isnormal(value) && value > 0) << value;
    for (const float value : observations(phantom, 0, 1000)) ASSERT_TRUE(std::isfinite(value)) << value;
  }
}

// The pivots of a Cholesky factorisation of D D' are squared distances of a row from the span of the rows above.
TEST(MegPhantom, DictionaryHasFullRowRank) {
  const MegPhantom phantom(small());
  const auto n = static_cast<std::size_t>(phantom.rows()), m = static_cast<std::size_t>(phantom.columns());
  std::vector<double> A(n * n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < m; ++k) {
        A[i * n + j] +=
            static_cast<double>(phantom.dictionary()[i * m + k]) * static_cast<double>(phantom.dictionary()[j * m + k]);
      }
    }
  }
  for (std::size_t p = 0; p < n; ++p) {
    ASSERT_GT(A[p * n + p], 1e-6) << p;  // float32 rounding alone would leave 1e-14
    for (std::size_t i = p + 1; i < n; ++i) {
      const double factor = A[i * n + p] / A[p * n + p];
      for (std::size_t j = p; j < n; ++j) A[i * n + j] -= factor * A[p * n + j];
    }
  }
}

TEST(MegPhantom, SmallestSizes) {
  for (const bool free_orientation : {false, true}) {
    MegPhantomOptions options;
    options.sensors = 3;
    options.sources = 1;
    options.samples = 1;
    options.free_orientation = free_orientation;
    const MegPhantom phantom(options);
    EXPECT_EQ(phantom.rows(), 3);
    EXPECT_EQ(phantom.columns(), free_orientation ? 3 : 1);
    double sum = 0;
    for (const auto& column : columns_of(phantom)) sum += norm_of(column);
    EXPECT_NEAR(sum / static_cast<double>(phantom.columns()), 1, 1e-6);
    for (const float value : observations(phantom, 0, 1)) EXPECT_TRUE(std::isfinite(value));
  }
}

// ---- recording ----

TEST(MegPhantom, ObservationsMinusSignalAreWhiteNoiseOfUnitVariance) {
  const MegPhantom phantom(small());
  const std::int64_t count = 20000;
  const auto n = static_cast<std::size_t>(phantom.rows());
  const auto rows = static_cast<std::size_t>(count);
  const std::vector<float> x = observations(phantom, 1000, count), s = signal(phantom, 1000, count);
  std::vector<double> noise(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) noise[i] = static_cast<double>(x[i]) - static_cast<double>(s[i]);
  const double root = std::sqrt(static_cast<double>(count));
  for (std::size_t a = 0; a < n; ++a) {
    double mean = 0, next = 0;
    for (std::size_t i = 0; i < rows; ++i) mean += noise[i * n + a] / static_cast<double>(count);
    for (std::size_t i = 1; i < rows; ++i) {
      next += noise[i * n + a] * noise[(i - 1) * n + a] / static_cast<double>(count);
    }
    EXPECT_NEAR(mean, 0, 4.5 / root);
    EXPECT_NEAR(next, 0, 4.5 / root);
    for (std::size_t b = 0; b <= a; ++b) {
      double product = 0;
      for (std::size_t i = 0; i < rows; ++i)
        product += noise[i * n + a] * noise[i * n + b] / static_cast<double>(count);
      EXPECT_NEAR(product, a == b ? 1 : 0, 4.5 * (a == b ? std::sqrt(2.0) : 1.0) / root) << a << ' ' << b;
    }
  }
}

TEST(MegPhantom, AnySplitOfTheRecordingGivesTheSameBits) {
  for (const bool free_orientation : {false, true}) {
    const MegPhantom phantom(small(free_orientation));
    const std::int64_t count = 4000;
    const std::vector<float> together = observations(phantom, 0, count);
    std::vector<float> pieces;
    std::int64_t step = 1;
    for (std::int64_t first = 0; first < count; first += step, step = step % 700 + 13) {
      const auto piece = observations(phantom, first, std::min(step, count - first));
      pieces.insert(pieces.end(), piece.begin(), piece.end());
      step = std::min(step, count - first);
    }
    EXPECT_EQ(pieces, together);
    EXPECT_EQ(observations(phantom, phantom.options().samples - 1, 1).size(), 30u);
    EXPECT_TRUE(observations(phantom, phantom.options().samples, 0).empty());
  }
}

TEST(MegPhantom, ALongerRecordingBeginsTheSameAndSeedsDifferInTheRecordingOnly) {
  const MegPhantom base(small());
  MegPhantomOptions options = small();
  options.samples = 90000;
  const MegPhantom longer(options);
  EXPECT_EQ(observations(longer, 0, 3000), observations(base, 0, 3000));
  options.seed = 8;
  const MegPhantom other(options);
  EXPECT_EQ(other.dictionary(), base.dictionary());
  EXPECT_EQ(other.column_weights(), base.column_weights());
  const auto a = observations(base, 0, 3000), b = observations(other, 0, 3000);
  std::size_t same = 0;
  for (std::size_t i = 0; i < a.size(); ++i) same += a[i] == b[i] ? 1 : 0;
  EXPECT_LT(same, a.size() / 1000);
  EXPECT_NE(signal(base, 0, 3000), signal(other, 0, 3000));
}

TEST(MegPhantom, SignalIsTheDictionaryTimesTheCodes) {
  for (const bool free_orientation : {false, true}) {
    const MegPhantom phantom(small(free_orientation));
    const std::int64_t first = 500, count = 700;
    const auto n = static_cast<std::size_t>(phantom.rows()), m = static_cast<std::size_t>(phantom.columns());
    std::vector<float> z(static_cast<std::size_t>(count) * m);
    phantom.codes(first, count, z.data());
    const auto s = signal(phantom, first, count);
    std::size_t nonzeros = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      for (std::size_t c = 0; c < n; ++c) {
        double sum = 0, size = 0;
        for (std::size_t j = 0; j < m; ++j) {
          const double term = static_cast<double>(phantom.dictionary()[c * m + j]) * static_cast<double>(z[i * m + j]);
          sum += term;
          size += std::abs(term);
        }
        ASSERT_NEAR(static_cast<double>(s[i * n + c]), sum, 32 * 6e-8 * size + 1e-30);
      }
      for (std::size_t j = 0; j < m; ++j) nonzeros += z[i * m + j] != 0 ? 1 : 0;
    }
    const double mean = static_cast<double>(nonzeros) / static_cast<double>(count);
    EXPECT_GT(mean, free_orientation ? 6 : 2);  // 3 sources an event, two events a second, each sounds a second
    EXPECT_LT(mean, free_orientation ? 36 : 12);
  }
}

TEST(MegPhantom, SignalRmsIsBetweenOneAndTwo) {
  for (const std::uint64_t seed : {0, 1, 2}) {
    MegPhantomOptions options = small();
    options.seed = seed;
    options.sensors = 102;
    options.sources = 2000;
    options.samples = 100000;
    const MegPhantom phantom(options);
    double sum = 0;
    for (std::int64_t first = 0; first < options.samples; first += 10000) {
      for (const float value : signal(phantom, first, 10000)) {
        sum += static_cast<double>(value) * static_cast<double>(value);
      }
    }
    const double rms = std::sqrt(sum / static_cast<double>(options.samples * options.sensors));
    EXPECT_GT(rms, 1.0) << seed;
    EXPECT_LT(rms, 2.0) << seed;
  }
}

TEST(MegPhantom, DrivesAreSmoothAndWithinTheirRanges) {
  const MegPhantom phantom(small());
  const auto drives = phantom.drives(0, phantom.options().samples);
  // 25,000 samples are 42 s: about 86 events of 3 sources.
  EXPECT_GT(drives.size(), 180u);
  EXPECT_LT(drives.size(), 350u);
  for (const Drive& drive : drives) {
    EXPECT_GE(drive.location, 0);
    EXPECT_LT(drive.location, 200);
    EXPECT_GE(drive.frequency, 4);
    EXPECT_LE(drive.frequency, 20);
    EXPECT_GE(drive.decay, 0.03);
    EXPECT_LE(drive.decay, 0.15);
    EXPECT_EQ(drive.moment(drive.onset), 0);
    EXPECT_EQ(drive.moment(drive.onset - 0.01), 0);
    EXPECT_NEAR(drive.moment(drive.onset + 1), 0, 1e-20 * drive.peak);
    EXPECT_EQ(drive.moment(drive.onset + 1.001), 0);
    double before = 0;
    for (double time = drive.onset; time < drive.onset + 1.1; time += 1e-4) {
      const double now = drive.moment(time);
      ASSERT_LE(std::abs(now), drive.peak);
      // The steepest possible: the rise of 10 ms plus a turn of 20 Hz.
      ASSERT_LE(std::abs(now - before), 1e-4 * drive.peak * (1 / 0.01 + 1 / 0.03 + 2 * std::acos(-1.0) * 20 + 2));
      before = now;
    }
  }
  // Any part of the recording knows what sounds in it.
  std::size_t checked = 0;
  for (const Drive& drive : drives) {
    const auto sample = static_cast<std::int64_t>((drive.onset + 0.5) * kSampleRate);
    if (sample < 0 || sample >= phantom.options().samples) continue;
    const auto here = phantom.drives(sample, 1);
    EXPECT_TRUE(std::any_of(here.begin(), here.end(), [&](const Drive& d) {
      return d.location == drive.location && d.onset == drive.onset && d.peak == drive.peak;
    }));
    ++checked;
  }
  EXPECT_GT(checked, 100u);
}

// ---- errors ----

std::string message_of(const MegPhantomOptions& options) {
  try {
    const MegPhantom phantom(options);
  } catch (const ValueError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(MegPhantom, BadOptionsAreNamed) {
  for (const std::int64_t sensors : {-3, 0, 1, 100, 307, 309}) {
    MegPhantomOptions options = small();
    options.sensors = sensors;
    EXPECT_EQ(message_of(options),
              "MegPhantom: sensors is " + std::to_string(sensors) + ", wanted a multiple of 3 from 3 to 306");
  }
  for (const std::int64_t sources : {-1, 0, 1000001}) {
    MegPhantomOptions options = small();
    options.sources = sources;
    EXPECT_EQ(message_of(options), "MegPhantom: sources is " + std::to_string(sources) + ", wanted 1 to 1000000");
  }
  for (const std::int64_t samples : {-1, 0}) {
    MegPhantomOptions options = small();
    options.samples = samples;
    EXPECT_EQ(message_of(options), "MegPhantom: samples is " + std::to_string(samples) + ", wanted at least 1");
  }
}

TEST(MegPhantom, RangesOutsideTheRecordingAreErrors) {
  const MegPhantom phantom(small());
  const std::int64_t samples = phantom.options().samples;
  std::vector<float> out(60);
  EXPECT_THROW(phantom.observations(-1, 1, out.data()), ValueError);
  EXPECT_THROW(phantom.observations(0, -1, out.data()), ValueError);
  EXPECT_THROW(phantom.observations(samples - 1, 2, out.data()), ValueError);
  EXPECT_THROW(phantom.signal(samples + 1, 0, out.data()), ValueError);
  EXPECT_THROW(phantom.codes(INT64_MAX, INT64_MAX, out.data()), ValueError);
  EXPECT_THROW(phantom.drives(0, samples + 1), ValueError);
}

}  // namespace
}  // namespace shrinkwarp::phantom
