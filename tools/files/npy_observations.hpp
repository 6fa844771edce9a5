// X.npy (N, n), a row an observation, as the solvers read it.
#pragma once

#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {

class NpyObservations : public ObservationSource {
 public:
  /// @throws IoError, ShapeError (not 2-D)
  explicit NpyObservations(const std::string& path) : file_(NpyFile::open(path)) { file_.rows(); }
  std::int64_t size() const override { return file_.rows(); }
  std::int64_t dimension() const override { return file_.cols(); }
  std::string name() const override { return file_.path(); }
  void read(std::int64_t first, MatrixView<double> X) override {
    file_.read_rows(first, X.cols, X);
    file_.prefetch_rows(first + X.cols, X.cols);
  }

 private:
  NpyFile file_;
};

}  // namespace shrinkwarp
