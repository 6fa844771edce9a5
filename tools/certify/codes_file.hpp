// Codes of any origin, read row by row: a scipy.sparse CSR matrix in an .npz, or a dense .npy.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/tools/certify/certifier.hpp>

namespace shrinkwarp::certify {

/// Numbers that a file of codes states about each problem.
struct ClaimedNumbers {
  std::vector<double> values;  // [N]
  bool single = false;         // written in float32
};

/// What an .npz holds beside the codes. Each array is optional.
struct Claims {
  std::optional<ClaimedNumbers> lambda;  // finite, >= 0
  std::optional<ClaimedNumbers> objective;
  std::optional<ClaimedNumbers> dual_gap;
  std::optional<std::vector<std::uint8_t>> converged;  // [N], of {0, 1}
};

/// A file of N codes of m atoms each, open for reading from front to back. Move-only.
///
/// .npz: what scipy.sparse.save_npz writes of a CSR matrix, packed or not: `format` csr, `shape` (N, m), `indptr` and
/// `indices` int32 or int64, `data` float32 or float64. Indices of a row may come in any order; entries that stand more
/// than once are added in the file's order and in its precision, and stored zeros are no nonzeros: the code is the row of
/// the matrix's toarray(). Also read, where there: lambda, objective, dual_gap (float32 or float64) and converged (bool),
/// (N,) each.
/// .npy: (N, m), float32 or float64, C or Fortran order.
///
/// Memory: what is asked for at a time; 8 bytes a problem for indptr, and 8 for each claim.
class CodesFile {
 public:
  /// @throws IoError, ShapeError, ValueError, naming the file and the array
  static CodesFile open(const std::string& path);
  CodesFile(CodesFile&&) noexcept;
  CodesFile& operator=(CodesFile&&) noexcept;
  ~CodesFile();

  const std::string& path() const noexcept;
  std::int64_t size() const noexcept;   // N
  std::int64_t atoms() const noexcept;  // m
  const Claims& claims() const noexcept;

  /// Replaces `out` by the codes of the next `count` problems.
  /// @throws ShapeError (fewer are left), ValueError (an index out of range, a value that is not finite: row and
  ///         column), IoError
  void read(std::int64_t count, CodeRows& out);

 private:
  struct Impl;
  struct SparseImpl;
  struct DenseImpl;
  explicit CodesFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shrinkwarp::certify
