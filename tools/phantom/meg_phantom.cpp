#include <shrinkwarp/tools/phantom/meg_phantom.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::phantom {

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kMu0Over4Pi = 1e-7;  // T m/A

// Helmet and sheet are caps about an axis that leans back, so that they leave the face free and cover the back.
constexpr double kLean = 15 * kPi / 180;
constexpr double kHelmetAngle = 100 * kPi / 180;  // from the axis to the rim
constexpr double kCortexAngle = 90 * kPi / 180;
constexpr double kSmallestTilt = 15 * kPi / 180;

constexpr double kBaseline = 16.8e-3;          // m between the centres of a gradiometer's coils
constexpr double kGradiometerWidth = 26.4e-3;  // m, across the baseline
constexpr double kMagnetometerSide = 21e-3;    // m

constexpr double kDepthExponent = 0.8;
constexpr double kDepthLimit = 10;

// Events come every 0.25 to 0.75 s: one in each slot of 0.5 s, up to a quarter of a slot off its middle.
constexpr double kSlot = 0.5;
constexpr double kJitter = 0.125;
constexpr double kLatestOnset = 0.2;      // s after the event
constexpr double kDuration = 1;           // s of a drive
constexpr std::int64_t kFirstEvent = -3;  // the earliest one that still sounds at time 0
constexpr std::int64_t kMostSources = 5;
constexpr double kSmallestPeak = 20e-9, kLargestPeak = 80e-9;  // A m

// Streams of the seed.
constexpr std::uint64_t kNoiseStream = 0, kEventStream = 1, kDriveStream = 2;

Vec3 unit(const Vec3& a) {
  return (1 / norm(a)) * a;
}

/// Number `index` of `count` points that cover a cap evenly (spherical Fibonacci lattice about the leaning axis).
Vec3 cap_point(std::int64_t index, std::int64_t count, double half_angle) {
  const double height =
      1 - (1 - std::cos(half_angle)) * (static_cast<double>(index) + 0.5) / static_cast<double>(count);
  const double radius = std::sqrt(std::max(0.0, 1 - height * height));
  // Only the fraction of the turn matters; taking it first keeps the angle exact for large indices.
  const double turns = static_cast<double>(index) * 0.38196601125010515180;  // 2 - golden ratio
  const double angle = 2 * kPi * (turns - std::floor(turns));
  const double x = radius * std::cos(angle), y = radius * std::sin(angle);
  return {x, std::cos(kLean) * y - std::sin(kLean) * height, std::sin(kLean) * y + std::cos(kLean) * height};
}

/// Folding function of a direction: a sum of six plane waves about 25 mm long on the sheet, and its gradient along it.
struct Fold {
  double height;
  Vec3 slope;
};
Fold fold(const Vec3& direction) {
  constexpr int kWaves = 6;
  Fold sum{0, {}};
  for (int i = 0; i < kWaves; ++i) {
    const double z = (2 * i + 1.0) / kWaves - 1;
    const double angle = 2.39996322972865332 * i;  // the golden angle
    const double radius = std::sqrt(1 - z * z);
    const Vec3 wave = (15.0 + i) * Vec3{radius * std::cos(angle), radius * std::sin(angle), z};  // rad a unit
    const double phase = dot(wave, direction) + 2.4 * i;
    sum.height += std::cos(phase) / 3;
    sum.slope = sum.slope - (std::sin(phase) / 3) * wave;
  }
  sum.slope = sum.slope - dot(sum.slope, direction) * direction;
  return sum;
}

/// The vector g such that normal . B(point) = moment . g for a dipole at `position`. With a = point - position,
/// F = a (r a + r^2 - position . point): Sarvas' B = mu0/(4 pi F^2) (F q x r0 - (q x r0 . r) grad F), solved for q.
Vec3 lead_of_point(const Vec3& position, const Vec3& point, const Vec3& normal) {
  const Vec3 offset = point - position;
  const double a = norm(offset), r = norm(point);
  const double along = dot(offset, point);
  const double F = a * (r * a + r * r - dot(position, point));
  const Vec3 grad_F = (a * a / r + along / a + 2 * a + 2 * r) * point - (a + 2 * r + along / a) * position;
  return (kMu0Over4Pi / (F * F)) * cross(position, F * normal - dot(grad_F, normal) * point);
}

/// The same for a sensor: two points of Gauss' rule along each side of a magnetometer, and across each coil of a
/// gradiometer, whose coils stand at the ends of the baseline.
Vec3 lead_of_sensor(const Sensor& sensor, const Vec3& position) {
  const double gauss = 0.5 / std::sqrt(3.0);
  const Vec3 across = cross(sensor.normal, sensor.tangent);
  Vec3 lead;
  for (const double end : {-1.0, 1.0}) {
    for (const double side : {-1.0, 1.0}) {
      const double u = end * (sensor.magnetometer ? gauss * kMagnetometerSide : 0.5 * kBaseline);
      const double v = side * gauss * (sensor.magnetometer ? kMagnetometerSide : kGradiometerWidth);
      const double weight = sensor.magnetometer ? 0.25 : end * 0.5 / kBaseline;
      const Vec3 point = sensor.position + u * sensor.tangent + v * across;
      lead = lead + weight * lead_of_point(position, point, sensor.normal);
    }
  }
  return lead;
}

double largest(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}

/// MNE's depth weights of amplitudes: (min(1/p, limit) / limit)^(exponent/2) with powers p, where limit is the first
/// 1/p (in ascending order) that exceeds kDepthLimit^2 times the smallest, or the largest if none does.
std::vector<double> depth_weights(const std::vector<double>& powers) {
  std::vector<double> inverse(powers.size());
  std::transform(powers.begin(), powers.end(), inverse.begin(), [](double p) { return 1 / p; });
  const double bound = kDepthLimit * kDepthLimit * *std::min_element(inverse.begin(), inverse.end());
  double limit = largest(inverse);
  for (const double value : inverse) {
    if (value > bound) limit = std::min(limit, value);
  }
  for (double& value : inverse) value = std::pow(std::min(value / limit, 1.0), kDepthExponent / 2);
  return inverse;
}

double uniform(std::uint32_t bits, double low, double high) {
  return low + (high - low) * static_cast<double>(philox::uniform<float>(bits));
}

/// row += amplitude * topography. Spelled as fused multiply-adds: the same bits on every instruction set.
SHRINKWARP_CPU_CLONES void accumulate(float amplitude, const float* topography, float* row, std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) row[c] = std::fma(amplitude, topography[c], row[c]);
}

}  // namespace

Vec3 field_of_dipole(const Vec3& position, const Vec3& moment, const Vec3& point) {
  return {dot(moment, lead_of_point(position, point, {1, 0, 0})),
          dot(moment, lead_of_point(position, point, {0, 1, 0})),
          dot(moment, lead_of_point(position, point, {0, 0, 1}))};
}

double reading_of_dipole(const Sensor& sensor, const Vec3& position, const Vec3& moment) {
  return dot(moment, lead_of_sensor(sensor, position));
}

double Drive::moment(double time) const {
  const double t = time - onset;
  if (t < 0 || t >= kDuration) return 0;
  const double fade = 1 - t / kDuration;
  return peak * std::sin(2 * kPi * frequency * t + phase) * std::exp(-t / decay) * (1 - std::exp(-t / 0.01)) * fade *
         fade;
}

MegPhantom::MegPhantom(const MegPhantomOptions& options) : options_(options) {
  SHRINKWARP_REQUIRE(options.sensors >= 3 && options.sensors <= 306 && options.sensors % 3 == 0, ValueError,
                     "MegPhantom: sensors is ", options.sensors, ", wanted a multiple of 3 from 3 to 306");
  SHRINKWARP_REQUIRE(options.sources >= 1 && options.sources <= 1000000, ValueError, "MegPhantom: sources is ",
                     options.sources, ", wanted 1 to 1000000");
  SHRINKWARP_REQUIRE(options.samples >= 1, ValueError, "MegPhantom: samples is ", options.samples,
                     ", wanted at least 1");
  place_sensors();
  place_sources();
  make_noise();
  make_dictionary();
}

void MegPhantom::place_sensors() {
  const std::int64_t count = options_.sensors / 3;
  for (std::int64_t i = 0; i < count; ++i) {
    const Vec3 normal = cap_point(i, count, kHelmetAngle);
    const Vec3 axis{0, -std::sin(kLean), std::cos(kLean)};
    const Vec3 around = unit(cross(axis, normal));  // no point of the lattice lies on the axis
    const Vec3 down = cross(around, normal);
    const Vec3 position = kHelmetRadius * normal;
    sensors_.push_back({false, position, normal, down});
    sensors_.push_back({false, position, normal, around});
    sensors_.push_back({true, position, normal, down});
  }
}

void MegPhantom::place_sources() {
  for (std::int64_t k = 0; k < options_.sources; ++k) {
    const Vec3 direction = cap_point(k, options_.sources, kCortexAngle);
    const Fold folding = fold(direction);
    const double radius = kCortexRadius + kFoldDepth * folding.height;
    const double steepness = norm(folding.slope);
    // Crowns and floors of the folds are lifted to the smallest tilt: an exactly radial source would be silent.
    const double tilt = std::max(kSmallestTilt, std::atan(kFoldDepth * steepness / radius));
    const Vec3 downhill = steepness > 0
                              ? (-1 / steepness) * folding.slope
                              : unit(cross(direction, std::abs(direction.x) < 0.5 ? Vec3{1, 0, 0} : Vec3{0, 1, 0}));
    positions_.push_back(radius * direction);
    orientations_.push_back(std::cos(tilt) * direction + std::sin(tilt) * downhill);
  }
}

double MegPhantom::sensor_noise(std::int64_t row) const {
  return sensors_[static_cast<std::size_t>(row)].magnetometer ? kMagnetometerNoise : kGradiometerNoise;
}

void MegPhantom::make_noise() {
  const auto n = static_cast<std::size_t>(rows());
  std::vector<std::vector<double>> topographies;
  for (const Vec3& axis : {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}}) {
    std::vector<double> topography(n, 0.0);  // gradiometers are blind to a homogeneous field
    for (std::size_t c = 0; c < n; ++c) {
      if (sensors_[c].magnetometer) topography[c] = kAmbientNoise * dot(axis, sensors_[c].normal) / kMagnetometerNoise;
    }
    topographies.push_back(topography);
  }
  // Tangential dipoles 2 cm under the sheet: left and right occipital, left and right temporal, parietal, frontal.
  const Vec3 up{0, 0, 1}, right{1, 0, 0};
  const std::array<std::array<Vec3, 2>, 6> regions = {{{Vec3{-0.5, -0.9, 0.1}, up},
                                                       {Vec3{0.5, -0.9, 0.1}, up},
                                                       {Vec3{-1, 0, 0.1}, up},
                                                       {Vec3{1, 0, 0.1}, up},
                                                       {Vec3{0, -0.4, 0.9}, right},
                                                       {Vec3{0, 0.8, 0.6}, right}}};
  for (const auto& [place, towards] : regions) {
    const Vec3 direction = unit(place);
    const Vec3 moment = kBrainNoise * unit(towards - dot(towards, direction) * direction);
    std::vector<double> topography(n);
    for (std::size_t c = 0; c < n; ++c) {
      topography[c] = reading_of_dipole(sensors_[c], (kCortexRadius - 0.02) * direction, moment) /
                      sensor_noise(static_cast<std::int64_t>(c));
    }
    topographies.push_back(topography);
  }
  for (std::vector<double>& topography : topographies) {
    const auto length = [&] {
      double sum = 0;
      for (const double value : topography) sum += value * value;
      return std::sqrt(sum);
    };
    const double before = length();
    for (int pass = 0; pass < 2; ++pass) {  // the second pass removes what rounding left of the first
      for (const NoiseTerm& term : noise_) {
        double product = 0;
        for (std::size_t c = 0; c < n; ++c) product += term.direction[c] * topography[c];
        for (std::size_t c = 0; c < n; ++c) topography[c] -= product * term.direction[c];
      }
    }
    const double strength = length();
    if (!(strength > 1e-6 * before)) continue;  // few sensors: the terms so far explain this one
    for (double& value : topography) value /= strength;
    noise_.push_back({topography, strength});
  }
}

void MegPhantom::make_dictionary() {
  const auto n = static_cast<std::size_t>(rows());
  const auto m = static_cast<std::size_t>(columns());
  const std::size_t axes = options_.free_orientation ? 3 : 1;
  std::vector<double> field(n * m);  // column-major: first G, then W G
  std::vector<double> powers(positions_.size());
  for (std::size_t k = 0; k < positions_.size(); ++k) {
    double xx = 0, yy = 0, zz = 0, xy = 0, yz = 0, zx = 0, fixed = 0;  // Gram matrix of the gradiometers' leads
    for (std::size_t c = 0; c < n; ++c) {
      const Vec3 g = lead_of_sensor(sensors_[c], positions_[k]);
      const double along = dot(g, orientations_[k]);
      double* target = &field[k * axes * n + c];
      if (axes == 3) {
        target[0] = g.x;
        target[n] = g.y;
        target[2 * n] = g.z;
      } else {
        target[0] = along;
      }
      if (sensors_[c].magnetometer) continue;
      xx += g.x * g.x, yy += g.y * g.y, zz += g.z * g.z;
      xy += g.x * g.y, yz += g.y * g.z, zx += g.z * g.x;
      fixed += along * along;
    }
    // The largest eigenvalue; the radial direction is silent, so the determinant is 0 and a quadratic remains.
    const double trace = xx + yy + zz;
    const double minors = xx * yy - xy * xy + yy * zz - yz * yz + zz * xx - zx * zx;
    powers[k] = axes == 3 ? (trace + std::sqrt(std::max(0.0, trace * trace - 4 * minors))) / 2 : fixed;
  }
  for (std::size_t j = 0; j < m; ++j) {
    double* column = &field[j * n];
    for (std::size_t c = 0; c < n; ++c) column[c] /= sensor_noise(static_cast<std::int64_t>(c));
    for (const NoiseTerm& term : noise_) {
      double product = 0;
      for (std::size_t c = 0; c < n; ++c) product += term.direction[c] * column[c];
      product *= 1 - 1 / std::sqrt(1 + term.strength * term.strength);
      for (std::size_t c = 0; c < n; ++c) column[c] -= product * term.direction[c];
    }
  }
  const std::vector<double> depth = depth_weights(powers);
  double sum_of_norms = 0;
  for (std::size_t j = 0; j < m; ++j) {
    double square = 0;
    for (std::size_t c = 0; c < n; ++c) square += field[j * n + c] * field[j * n + c];
    sum_of_norms += depth[j / axes] * std::sqrt(square);
  }
  const double scale = static_cast<double>(m) / sum_of_norms;
  weights_.resize(m);
  dictionary_.resize(n * m);
  for (std::size_t j = 0; j < m; ++j) weights_[j] = scale * depth[j / axes];
  for (std::size_t c = 0; c < n; ++c) {
    for (std::size_t j = 0; j < m; ++j) dictionary_[c * m + j] = static_cast<float>(weights_[j] * field[j * n + c]);
  }
}

std::vector<double> MegPhantom::noise_covariance() const {
  const std::int64_t n = rows();
  std::vector<double> result;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double value = i == j ? 1 : 0;
      for (const NoiseTerm& term : noise_) {
        value += term.strength * term.strength * term.direction[static_cast<std::size_t>(i)] *
                 term.direction[static_cast<std::size_t>(j)];
      }
      result.push_back(sensor_noise(i) * value * sensor_noise(j));
    }
  }
  return result;
}

std::vector<double> MegPhantom::whitener() const {
  const std::int64_t n = rows();
  std::vector<double> result;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double value = i == j ? 1 : 0;
      for (const NoiseTerm& term : noise_) {
        value -= (1 - 1 / std::sqrt(1 + term.strength * term.strength)) * term.direction[static_cast<std::size_t>(i)] *
                 term.direction[static_cast<std::size_t>(j)];
      }
      result.push_back(value / sensor_noise(j));
    }
  }
  return result;
}

void MegPhantom::check_range(const char* function, std::int64_t first, std::int64_t count) const {
  SHRINKWARP_REQUIRE(first >= 0 && count >= 0 && first <= options_.samples && count <= options_.samples - first,
                     ValueError, function, ": first is ", first, " and count ", count, ", wanted a range within ",
                     options_.samples, " samples");
}

std::vector<Drive> MegPhantom::drives(std::int64_t first, std::int64_t count) const {
  check_range("drives", first, count);
  std::vector<Drive> result;
  if (count == 0) return result;
  const double from = static_cast<double>(first) / kSampleRate;
  const double to = static_cast<double>(first + count - 1) / kSampleRate;
  const double longest = kJitter + kLatestOnset + kDuration;
  const auto begin = std::max(kFirstEvent, static_cast<std::int64_t>(std::floor((from - longest) / kSlot - 0.5)));
  const auto end = static_cast<std::int64_t>(std::ceil((to + kJitter) / kSlot - 0.5));
  for (std::int64_t event = begin; event <= end; ++event) {
    const auto number = static_cast<std::uint64_t>(event - kFirstEvent);
    const philox::Words when = philox::bits(options_.seed, kEventStream, number);
    const double start = (static_cast<double>(event) + 0.5) * kSlot + uniform(when.word[0], -kJitter, kJitter);
    const auto sources = 1 + static_cast<std::int64_t>(uniform(when.word[1], 0, kMostSources));
    for (std::int64_t s = 0; s < sources; ++s) {
      const std::uint64_t index = 2 * (number * kMostSources + static_cast<std::uint64_t>(s));
      const philox::Words where = philox::bits(options_.seed, kDriveStream, index);
      const philox::Words how = philox::bits(options_.seed, kDriveStream, index + 1);
      Drive drive;
      drive.location = static_cast<std::int64_t>(
          (static_cast<std::uint64_t>(where.word[0]) * static_cast<std::uint64_t>(options_.sources)) >> 32);
      drive.onset = start + uniform(where.word[1], 0, kLatestOnset);
      drive.peak = uniform(where.word[2], kSmallestPeak, kLargestPeak);
      drive.frequency = uniform(how.word[0], 4, 20);
      drive.decay = uniform(how.word[1], 0.03, 0.15);
      drive.phase = uniform(how.word[2], 0, 2 * kPi);
      result.push_back(drive);
    }
  }
  return result;
}

void MegPhantom::add_signal(std::int64_t first, std::int64_t count, float* out) const {
  const std::int64_t n = rows(), m = columns();
  std::vector<float> topography(static_cast<std::size_t>(n));  // of a moment of 1 A m
  for (const Drive& drive : drives(first, count)) {
    const auto begin = std::max(first, static_cast<std::int64_t>(std::floor(drive.onset * kSampleRate)));
    const auto end =
        std::min(first + count, static_cast<std::int64_t>(std::ceil((drive.onset + kDuration) * kSampleRate)));
    if (begin >= end) continue;
    const auto k = static_cast<std::size_t>(drive.location);
    for (std::int64_t c = 0; c < n; ++c) {
      const float* row = &dictionary_[static_cast<std::size_t>(c * m)];
      const Vec3& q = orientations_[k];
      const double value = options_.free_orientation
                               ? dot(q, Vec3{row[3 * k], row[3 * k + 1], row[3 * k + 2]}) / weights_[3 * k]
                               : row[k] / weights_[k];
      topography[static_cast<std::size_t>(c)] = static_cast<float>(value);
    }
    for (std::int64_t i = begin; i < end; ++i) {
      const double moment = drive.moment(static_cast<double>(i) / kSampleRate);
      accumulate(static_cast<float>(moment), topography.data(), out + (i - first) * n, n);
    }
  }
}

void MegPhantom::observations(std::int64_t first, std::int64_t count, float* out) const {
  check_range("observations", first, count);
  // Whitened sensor noise is white: what C colours, W takes away exactly. So it is drawn white.
  const Context context = Context::cpu(1);
  fill_normal<float>(context, options_.seed, kNoiseStream, first * rows(), {out, count * rows(), context.device()});
  add_signal(first, count, out);
}

void MegPhantom::signal(std::int64_t first, std::int64_t count, float* out) const {
  check_range("signal", first, count);
  std::fill(out, out + count * rows(), 0.0f);
  add_signal(first, count, out);
}

void MegPhantom::codes(std::int64_t first, std::int64_t count, float* out) const {
  check_range("codes", first, count);
  const std::int64_t m = columns();
  std::fill(out, out + count * m, 0.0f);
  for (const Drive& drive : drives(first, count)) {
    const auto k = static_cast<std::size_t>(drive.location);
    const Vec3& q = orientations_[k];
    for (std::int64_t i = first; i < first + count; ++i) {
      const double moment = drive.moment(static_cast<double>(i) / kSampleRate);
      float* row = out + (i - first) * m;
      if (options_.free_orientation) {
        row[3 * k] += static_cast<float>(q.x * moment / weights_[3 * k]);
        row[3 * k + 1] += static_cast<float>(q.y * moment / weights_[3 * k]);
        row[3 * k + 2] += static_cast<float>(q.z * moment / weights_[3 * k]);
      } else {
        row[k] += static_cast<float>(moment / weights_[k]);
      }
    }
  }
}

}  // namespace shrinkwarp::phantom
