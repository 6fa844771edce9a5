// What networks are trained and judged on: observations, and for each a lambda.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// lambda as a share of each sample's own lambda_max: one for all, or drawn between two, evenly in its logarithm.
struct LambdaShares {
  double low = 0.1, high = 0.1;  ///< 0 < low <= high
  std::uint64_t seed = 0;
  /// The share of a sample in a pass over the data: a function of the seed and both.
  double of(std::int64_t sample, std::uint64_t pass) const;
};

/// Chosen rows of a source, in T on the host where memory allows it, else read anew each time. Numbers are for D / scale() of
/// the dictionary and divided by unit(), a power of two that brings the largest entry of all to [1, 2).
template <class T>
class Samples {
 public:
  /// @param source  outlives this
  /// @param rows    which observations, ascending; sample i is of row rows[i]
  /// @param memory  bytes that the observations may take on the host
  /// @param cancel  is asked between chunks; may be nullptr
  /// Reads the source twice. @throws ShapeError (another length than the dictionary's rows; no rows), ValueError (NaN or
  ///         infinity: names the row), Cancelled, and as source.read
  Samples(const Context& context, const Dictionary& dictionary, ObservationSource& source,
          std::vector<std::int64_t> rows, std::int64_t memory, const CancelToken* cancel = nullptr);

  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  const std::vector<std::int64_t>& rows() const { return rows_; }
  std::int64_t dimension() const { return dimension_; }
  std::int64_t atoms() const { return atoms_; }  ///< of the dictionary
  double unit() const { return unit_; }
  /// ||D'x||_inf of each, in the units of gather().
  const std::vector<double>& lambda_max() const { return lambda_max_; }
  /// Mean of 1/2 ||x||^2, in the units of gather().
  double mean_energy() const { return mean_energy_; }
  /// Of the observations' values in float64, sample after sample: XXH3 with 64 bits (runtime/io/hash.hpp).
  std::uint64_t hash() const { return hash_; }

  /// @param samples  [count]  @param X  [n, count] on the host, written  @param lambda  [count] on the host, written
  /// @param pass     of LambdaShares::of
  void gather(const std::int64_t* samples, const LambdaShares& shares, std::uint64_t pass, MatrixView<T> X,
              VectorView<T> lambda) const;

 private:
  ObservationSource& source_;
  std::vector<std::int64_t> rows_;
  std::int64_t dimension_, atoms_;
  double unit_ = 1;
  double mean_energy_ = 0;
  std::uint64_t hash_ = 0;
  std::vector<double> lambda_max_;
  std::vector<T> held_;  // [n, N], or empty
};

/// Which rows of a source are trained on and which are judged by.
struct SampleRows {
  std::vector<std::int64_t> training, validation;
};
/// Every tenth row judges; of fewer than 20 all do both. Where there are `judges` from elsewhere all are trained on and none judges.
SampleRows split_rows(std::int64_t count, bool judges);
/// Those of `rows` that step-LISTA sees as the start of another network.
std::vector<std::int64_t> start_rows(const std::vector<std::int64_t>& rows);

/// What a cost of 1 in the units of gather() is in the user's. @param name  begins the message
/// @throws ValueError (observations whose costs float64 does not hold)
template <class T>
double cost_unit(const Samples<T>& samples, const std::string& name);

}  // namespace shrinkwarp
