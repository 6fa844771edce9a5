// A physically right MEG problem made from nothing: a helmet of coils over a spherical conductor, sources on a folded
// sheet inside it, and a recording of them in sensor noise.
//
// Units are SI: metres, ampere metres, tesla, tesla a metre, seconds. The frame has its origin at the centre of the
// sphere, x to the right, y to the front, z up. Geometry, noise and dictionary are fixed by the sizes alone; the seed
// changes the recording only, so that recordings of two seeds are two sessions of one subject.
//
//   D = W G diag(w)       dictionary [n, m], float32; the mean of its column norms is 1
//   x_i = D z_i + e_i     observation [n], float32; e_i ~ N(0, I), the rms of D z over minutes is 1 to 1.5
//
//   G   lead field: what sensor c reads of a source of 1 A m (Sarvas 1987: primary and volume currents of a dipole in
//       a sphere, in closed form), each coil integrated over four points
//   W   symmetric whitener of the noise covariance C (below): W C W' = I
//   w   depth weights as MNE's (exponent 0.8, limit 10, from the gradiometers), scaled: a code of z is w z ampere
//       metres
//
// Noise covariance. In units of each sensor's own noise it is I + sum_k s_k^2 q_k q_k' with orthonormal q_k: the
// homogeneous ambient field along three axes and six regional dipoles of ongoing brain activity, made orthonormal in
// that order, each with the variance which its own residual carries. So the symmetric root has a closed form,
// (I + Q S^2 Q')^(-1/2) = I - Q (I - (I + S^2)^(-1/2)) Q', and no eigenvalue problem is solved. The ambient terms are
// strong (0.5 pT), so whitening turns their three directions down as a projector (SSP) would, but D keeps full rank.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/tools/phantom/vec3.hpp>

namespace shrinkwarp::phantom {

inline constexpr double kSampleRate = 600;            // samples a second
inline constexpr double kHelmetRadius = 0.12;         // m, every sensor's distance from the centre
inline constexpr double kCortexRadius = 0.07;         // m, mean distance of the sources
inline constexpr double kFoldDepth = 0.008;           // m, times a folding function that stays mostly within -1 .. 1
inline constexpr double kMagnetometerNoise = 20e-15;  // T rms
inline constexpr double kGradiometerNoise = 5e-13;    // T/m rms, that is 5 fT/cm
inline constexpr double kAmbientNoise = 0.5e-12;      // T rms along each axis
inline constexpr double kBrainNoise = 20e-9;          // A m rms of each regional dipole

/// Magnetic field of a current dipole inside a spherical conductor centred at the origin, at a point outside it
/// (J. Sarvas, Phys. Med. Biol. 32 (1987) 11, equation 25). The conductor's radius and profile do not matter; a radial
/// dipole has no field.
///
/// @param position  of the dipole, m
/// @param moment    A m
/// @param point     m, farther from the origin than the conductor reaches (not checked)
/// @return          T
Vec3 field_of_dipole(const Vec3& position, const Vec3& moment, const Vec3& point);

/// A planar gradiometer (two coils 16.8 mm apart along `tangent`, field difference a metre) or a magnetometer (a square
/// coil of 21 mm).
struct Sensor {
  bool magnetometer = false;
  Vec3 position;  // m, centre
  Vec3 normal;    // unit, outwards
  Vec3 tangent;   // unit, perpendicular to the normal: the gradiometer's baseline, the magnetometer's side
};

/// What a sensor reads of a dipole: T/m from a gradiometer, T from a magnetometer. See field_of_dipole.
double reading_of_dipole(const Sensor& sensor, const Vec3& position, const Vec3& moment);

struct MegPhantomOptions {
  std::int64_t sensors = 306;     ///< a multiple of 3 from 3 to 306: two gradiometers and a magnetometer a position
  std::int64_t sources = 5124;    ///< locations, 1 to 1,000,000
  std::int64_t samples = 100000;  ///< at kSampleRate, at least 1
  std::uint64_t seed = 0;         ///< of the recording
  bool free_orientation = false;  ///< three columns a location (moments along x, y, z) in place of one
};

/// One source's part in an event: silent before `onset` and from `onset + 1 s` on, between them with t = time - onset
///   moment(time) = peak sin(2 pi frequency t + phase) exp(-t / decay) (1 - exp(-t / 10 ms)) (1 - t)^2.
struct Drive {
  std::int64_t location = 0;
  double onset = 0;      // s, negative when it began before the recording
  double frequency = 0;  // Hz, 4 .. 20
  double decay = 0;      // s, 0.03 .. 0.15
  double phase = 0;      // rad
  double peak = 0;       // A m, along the location's orientation

  /// A m at a time in seconds.
  double moment(double time) const;
};

/// Sensors, sources, noise and recording of one phantom. Immutable after construction: used by any number of threads.
class MegPhantom {
 public:
  /// Makes the geometry and the dictionary: about 0.1 us a sensor and source (0.2 s at the default sizes); 12 n m bytes
  /// while it runs.
  /// @throws ValueError naming the option
  explicit MegPhantom(const MegPhantomOptions& options);

  const MegPhantomOptions& options() const { return options_; }
  /// n, the sensors.
  std::int64_t rows() const { return options_.sensors; }
  /// m, the sources times one or three.
  std::int64_t columns() const { return options_.free_orientation ? 3 * options_.sources : options_.sources; }

  /// Rows of D: for each of n/3 helmet positions the gradiometers along its two tangents, then the magnetometer (the
  /// order of the channels in Neuromag's files).
  const std::vector<Sensor>& sensors() const { return sensors_; }
  /// m, [sources].
  const std::vector<Vec3>& source_positions() const { return positions_; }
  /// Unit vectors, [sources]: the normals of the folded sheet, 15 degrees or more off the radius. They are the columns
  /// of a dictionary of fixed orientation, and the directions of the drives in both cases.
  const std::vector<Vec3>& source_orientations() const { return orientations_; }

  /// D [n, m] in C order: element (i, j) at i m + j. Column j is location j or, with free orientation, the moment
  /// along axis j mod 3 at location j div 3.
  const std::vector<float>& dictionary() const { return dictionary_; }
  /// w [m], A m for a code of 1.
  const std::vector<double>& column_weights() const { return weights_; }
  /// C [n, n], T^2, T^2/m or T^2/m^2.
  std::vector<double> noise_covariance() const;
  /// W [n, n] in C order, 1/T or m/T. Symmetric in units of each sensor's noise: W diag(noise) is.
  std::vector<double> whitener() const;

  /// Observations [first, first + count), a row of n each, in whitened units. Row i depends on the options and on i
  /// only, so any split of the recording gives the same bits.
  ///
  /// @param out  [count, n] in C order, written
  ///
  /// Cost  about 5 us a row of 306 on one core; no memory beyond `out`
  /// @throws ValueError (a range outside the recording)
  void observations(std::int64_t first, std::int64_t count, float* out) const;
  /// The same without the noise: D z.
  void signal(std::int64_t first, std::int64_t count, float* out) const;
  /// The codes z behind it, [count, m] in C order, mostly zeros.
  void codes(std::int64_t first, std::int64_t count, float* out) const;
  /// Everything that may sound within samples [first, first + count), in order of its event.
  std::vector<Drive> drives(std::int64_t first, std::int64_t count) const;

 private:
  struct NoiseTerm {
    std::vector<double> direction;  // q [n], unit, in units of each sensor's noise
    double strength = 0;            // s
  };
  void place_sensors();
  void place_sources();
  void make_noise();
  void make_dictionary();
  double sensor_noise(std::int64_t row) const;
  void add_signal(std::int64_t first, std::int64_t count, float* out) const;
  void check_range(const char* function, std::int64_t first, std::int64_t count) const;

  MegPhantomOptions options_;
  std::vector<Sensor> sensors_;     // [n]
  std::vector<Vec3> positions_;     // [sources]
  std::vector<Vec3> orientations_;  // [sources]
  std::vector<NoiseTerm> noise_;    // up to 9
  std::vector<double> weights_;     // [m]
  std::vector<float> dictionary_;   // [n, m]
};

}  // namespace shrinkwarp::phantom
