// Z.npz: the codes as scipy.sparse.load_npz reads them, with what belongs to each problem beside them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>

namespace shrinkwarp {

/// Writes finished problems as they come; the file appears under its name with `finish`. CSR (N, m): float64 data,
/// int32 indices, indptr int32 or, from 2^31 nonzeros on, int64; lambda, objective and dual_gap float64, iterations
/// int64, converged bool, each (N,). Memory: 8 bytes a problem.
class SparseCodesFile : public CodeSink {
 public:
  /// @throws IoError (the folder is missing, the target is a folder ...)
  SparseCodesFile(const std::string& path, std::int64_t atoms);
  void append(const LassoBatch& batch) override;
  /// @throws IoError
  void finish();

 private:
  NpzWriter writer_;
  std::int64_t atoms_;
  int data_, indices_, lambda_, objective_, dual_gap_, iterations_, converged_;
  std::vector<std::int64_t> indptr_{0};
};

}  // namespace shrinkwarp
