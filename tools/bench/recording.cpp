#include <shrinkwarp/tools/bench/recording.hpp>

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/phantom/meg_phantom.hpp>

namespace shrinkwarp::bench {

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "shrinkwarp-bench-XXXXXX").string();
  SHRINKWARP_REQUIRE(mkdtemp(pattern.data()) != nullptr, Error, "bench: no temporary folder like ", pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

RepeatedObservations::RepeatedObservations(const std::string& path, std::int64_t size) : file_(path), size_(size) {
  SHRINKWARP_REQUIRE(file_.size() > 0, ShapeError, path, ": found no rows, wanted at least one observation");
}

void RepeatedObservations::read(std::int64_t first, MatrixView<double> X) {
  for (std::int64_t b = 0; b < X.cols;) {
    const std::int64_t row = (first + b) % file_.size();
    const std::int64_t count = std::min(X.cols - b, file_.size() - row);
    file_.read(row, X.columns(b, count));
    b += count;
  }
}

void write_phantom(const std::string& dictionary, const std::string& observations, std::int64_t samples) {
  phantom::MegPhantomOptions options;
  options.sources = 6138;
  options.samples = samples;
  const phantom::MegPhantom phantom(options);
  write_npy(dictionary, ElementType::f4, {phantom.rows(), phantom.columns()}, phantom.dictionary().data());
  std::vector<float> rows(static_cast<std::size_t>(samples * phantom.rows()));
  phantom.observations(0, samples, rows.data());
  write_npy(observations, ElementType::f4, {samples, phantom.rows()}, rows.data());
}

}  // namespace shrinkwarp::bench
