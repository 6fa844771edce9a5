// Observations and codes between a C program and a solve.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/capi/structs.hpp>

namespace shrinkwarp::c {

/// A callback of the program's has failed.
class CallbackError : public Error {
  using Error::Error;
};

inline std::string name_of(const shrinkwarp_observations& observations) {
  return observations.name ? observations.name : "observations";
}

/// Rows that the program makes as they are asked for.
class AskedRows : public ObservationSource {
 public:
  explicit AskedRows(const shrinkwarp_observations& given) : rows_(given), name_(name_of(given)) {}
  std::int64_t size() const override { return rows_.problems; }
  std::int64_t dimension() const override { return rows_.dimension; }
  std::string name() const override { return name_; }
  void read(std::int64_t first, MatrixView<double> X) override {
    const int answer = rows_.read(rows_.read_user, first, X.cols, X.data, X.ld);
    SHRINKWARP_REQUIRE(answer == 0, CallbackError, name_, ": read returned ", answer, " for observations ", first,
                       " to ", first + X.cols - 1, ", wanted 0");
  }

 private:
  shrinkwarp_observations rows_;
  std::string name_;
};

/// @throws ValueError, ShapeError
inline std::unique_ptr<ObservationSource> make_source(const shrinkwarp_observations* argument) {
  const shrinkwarp_observations given = read_struct(argument, "observations");
  const std::int64_t n = given.dimension;
  SHRINKWARP_REQUIRE(given.reserved == 0, ValueError, "observations.reserved is ", given.reserved, ", wanted 0");
  SHRINKWARP_REQUIRE(given.problems >= 0, ShapeError, "observations.problems is ", given.problems, ", wanted >= 0");
  SHRINKWARP_REQUIRE(n >= 1 || (n == 0 && given.problems == 0), ShapeError, "observations.dimension is ", n,
                     ", wanted the dictionary's rows");
  SHRINKWARP_REQUIRE(!given.data || !given.read, ValueError, "observations have data and read, wanted one of them");
  if (given.read) return std::make_unique<AskedRows>(given);
  SHRINKWARP_REQUIRE(given.data || given.problems == 0, ValueError,
                     "observations.data and observations.read are NULL, wanted one of them");
  SHRINKWARP_REQUIRE(given.row_stride == 0 || given.row_stride >= n, ShapeError, "observations.row_stride is ",
                     given.row_stride, ", wanted at least the dimension, ", n, ", or 0 for rows without gaps");
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 60;
  SHRINKWARP_REQUIRE(n == 0 || given.problems <= kMostNumbers / std::max(n, given.row_stride), ShapeError,
                     "observations are ", given.problems, " rows of ", std::max(n, given.row_stride),
                     " numbers, wanted fewer than memory can hold");
  const std::int64_t stride = given.row_stride == 0 ? n : given.row_stride;
  if (given.type == SHRINKWARP_FLOAT32)
    return std::make_unique<RowSource<float>>(static_cast<const float*>(given.data), given.problems, n, stride, 1,
                                              name_of(given));
  SHRINKWARP_REQUIRE(given.type == SHRINKWARP_FLOAT64, ValueError, "observations.type is ", given.type,
                     ", wanted SHRINKWARP_FLOAT32 or SHRINKWARP_FLOAT64");
  return std::make_unique<RowSource<double>>(static_cast<const double*>(given.data), given.problems, n, stride, 1,
                                             name_of(given));
}

/// Points to the batch's arrays.
inline shrinkwarp_batch view_of(const LassoBatch& batch, std::int64_t atoms) {
  shrinkwarp_batch view{};
  view.struct_size = sizeof view;
  view.problems = batch.size();
  view.atoms = atoms;
  view.index = batch.index.data();
  view.offsets = batch.codes.offsets.data();
  view.indices = batch.codes.indices.data();
  view.values = batch.codes.values.data();
  view.lambda = batch.lambda.data();
  view.objective = batch.objective.data();
  view.dual_gap = batch.dual_gap.data();
  view.iterations = batch.iterations.data();
  view.converged = batch.converged.data();
  return view;
}

/// Hands problems to the program as they finish.
class Taker : public CodeSink {
 public:
  Taker(shrinkwarp_take take, void* user, std::int64_t atoms) : take_(take), user_(user), atoms_(atoms) {}
  void append(const LassoBatch& batch) override {
    const shrinkwarp_batch view = view_of(batch, atoms_);
    const int answer = take_(user_, &view);
    SHRINKWARP_REQUIRE(answer == 0, CallbackError, "take returned ", answer, " for ", batch.size(),
                       " problems, wanted 0");
  }

 private:
  shrinkwarp_take take_;
  void* user_;
  std::int64_t atoms_;
};

}  // namespace shrinkwarp::c
