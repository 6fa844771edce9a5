// T.npz: all that a phantom's recording was made of, for comparison with what is found in it.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/runtime/io/npz.hpp>
#include <shrinkwarp/tools/phantom/meg_phantom.hpp>

namespace shrinkwarp::phantom {

/// Writes the truth behind a recording; the file appears under its name with `finish`. N samples, n sensors, m columns, S
/// locations, K drives; SI units, the frame of meg_phantom.hpp.
///
///   data, indices, indptr, shape, format   the true codes Z (N, m) as scipy.sparse.load_npz reads them: float32 data,
///                                          int32 indices, indptr int32 or, from 2^31 nonzeros on, int64
///   column_weight (m,)                     w: a code of 1 is w ampere metres
///   lead_field (n, m)                      G: what a sensor reads of 1 A m, neither whitened nor weighted; D is
///                                          W G diag(w) rounded to float32
///   whitener (n, n), noise_covariance (n, n)                       W and C
///   source_position (S, 3), source_orientation (S, 3)
///   sensor_position, sensor_normal, sensor_tangent (n, 3), sensor_is_magnetometer (n,)
///   drive_location (K,) int64, drive_onset, drive_frequency, drive_decay, drive_phase, drive_peak (K,)
///   sample_rate ()
///
/// float64 where no type is named; sensor_is_magnetometer is bool.
class TruthFile {
 public:
  /// @throws IoError (the folder is missing, the target is a folder ...)
  explicit TruthFile(const std::string& path) : writer_(path) {}
  /// To be called once. Cost: about 0.2 us a sensor and column, and a pass over N m zeros. Memory: 16 MB or a row of codes,
  /// 16 n^2 bytes, and some 8 a sample, 200 a location and a drive.
  /// @throws IoError
  void write(const MegPhantom& phantom);
  /// @throws IoError
  void finish() { writer_.finish(); }

 private:
  void write_codes(const MegPhantom& phantom);
  void write_geometry(const MegPhantom& phantom);
  void write_noise(const MegPhantom& phantom);
  void write_drives(const MegPhantom& phantom);

  NpzWriter writer_;
};

}  // namespace shrinkwarp::phantom
