// Z.npz: the codes as scipy.sparse.load_npz reads them, with what belongs to each problem beside them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>

namespace shrinkwarp {

/// Writes problems in the order of their observations; the file appears under its name with `finish`. CSR (N, m):
/// float64 data, int32 indices, indptr int32 or, from 2^31 nonzeros on, int64; lambda, objective and dual_gap float64,
/// iterations int64, converged bool, each (N,); fingerprint, a text. Memory: 256 KiB an array, whatever N is.
class SparseCodesFile {
 public:
  /// @param nonzeros  of all problems together
  /// @param debiased  whether there is an array `debiased_data` beside `data`, which it lies like
  /// @throws IoError (the folder is missing, the target is a folder ...)
  SparseCodesFile(const std::string& path, std::int64_t atoms, std::int64_t nonzeros, bool debiased = false);
  /// The next problems. @param amplitudes  of the codes' entries, where debiased. @throws ValueError (others than the next), IoError
  void append(const LassoBatch& batch, const std::vector<double>& amplitudes = {});
  /// @param fingerprint  of the making; stored as the array `fingerprint`, a single byte string
  /// @throws ValueError (nonzeros are missing, or were too many), IoError
  void finish(const std::string& fingerprint);

 private:
  NpzWriter writer_;
  std::int64_t atoms_;
  std::int64_t nonzeros_;
  int data_, indices_, indptr_, lambda_, objective_, dual_gap_, iterations_, converged_;
  bool wide_;                  // indptr is int64
  int debiased_ = -1;          // -1 where there is none
  std::int64_t problems_ = 0;  // so far
  std::int64_t entries_ = 0;   // likewise
};

}  // namespace shrinkwarp
