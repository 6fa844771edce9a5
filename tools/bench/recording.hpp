// What benchmarks of whole solves read: a recording of any length, real or a phantom.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>

namespace shrinkwarp::bench {

/// A folder that goes with its files. @throws Error
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string file(const char* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Rows of a recording, repeated from the start where more are asked for than there are.
class RepeatedObservations : public ObservationSource {
 public:
  /// @throws IoError, ShapeError (no rows)
  RepeatedObservations(const std::string& path, std::int64_t size);
  std::int64_t size() const override { return size_; }
  std::int64_t dimension() const override { return file_.dimension(); }
  void read(std::int64_t first, MatrixView<double> X) override;

 private:
  NpyObservations file_;
  std::int64_t size_;
};

/// A MEG phantom of 306 channels and 6138 sources, as D.npy and X.npy of so many samples.
void write_phantom(const std::string& dictionary, const std::string& observations, std::int64_t samples);

}  // namespace shrinkwarp::bench
