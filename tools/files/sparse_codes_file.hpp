// Z.npz: the codes as scipy.sparse.load_npz reads them, with what belongs to each problem beside them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/npz_parts.hpp>

namespace shrinkwarp {

/// What all who write such a file together know of it.
struct SparseCodesSizes {
  std::int64_t problems = 0;
  std::int64_t atoms = 0;
  std::int64_t nonzeros = 0;  ///< of all problems
  bool debiased = false;      ///< there is an array `debiased_data` beside `data`, which it lies like
  /// Arrays that have an element a problem or a nonzero.
  int arrays() const { return debiased ? 9 : 8; }
};

/// Consecutive problems, [first, last), and their nonzeros among all.
struct SparseCodesRange {
  std::int64_t first = 0, last = 0;
  std::int64_t first_nonzero = 0, last_nonzero = 0;
};

/// Makes a file of problems in the order of their observations; it appears under its name with `finish`. CSR (N, m):
/// float64 data, int32 indices, indptr int32 or, from 2^31 nonzeros on, int64; lambda, objective and dual_gap float64,
/// iterations int64, converged bool, each (N,); fingerprint, a text. The problems are SparseCodesPart's to write.
class SparseCodesFile {
 public:
  /// @param shared  other processes write parts of it
  /// @throws IoError (the folder is missing, the target is a folder ...)
  SparseCodesFile(const std::string& path, const SparseCodesSizes& sizes, bool shared = false);
  /// What parts are opened by.
  std::string temporary_path() const { return frame_.temporary_path(); }
  /// @param fingerprint  of the making; stored as the array `fingerprint`, a single byte string
  /// @param ranges       of all parts, which are finished, in the order of their problems
  /// @param checksums    what each of them returned
  /// @throws ValueError (problems or nonzeros are in no range), IoError
  void finish(const std::string& fingerprint, const std::vector<SparseCodesRange>& ranges,
              const std::vector<std::vector<std::uint32_t>>& checksums);

 private:
  SparseCodesSizes sizes_;
  NpzFrame frame_;
};

/// Writes some of the problems of such a file. Memory: 256 KiB an array, whatever N is.
class SparseCodesPart {
 public:
  /// @param path       of the file, for messages  @param temporary  its temporary_path()
  /// @throws IoError
  SparseCodesPart(const std::string& path, const std::string& temporary, const SparseCodesSizes& sizes,
                  const SparseCodesRange& range);
  SparseCodesPart(const SparseCodesPart&) = delete;
  SparseCodesPart& operator=(const SparseCodesPart&) = delete;
  /// The next problems. @param amplitudes  of the codes' entries, where debiased
  /// @throws ValueError (others than the next, or more nonzeros than the range has), ShapeError (amplitudes), IoError
  void append(const LassoBatch& batch, const std::vector<double>& amplitudes = {});
  /// @param sync  bring it to the disk: where another process finishes the file
  /// @return a checksum of each array's elements
  /// @throws ValueError (problems or nonzeros are missing), IoError
  std::vector<std::uint32_t> finish(bool sync);

 private:
  SparseCodesSizes sizes_;
  SparseCodesRange range_;  // that is left to write
  OutputFile file_;
  std::vector<NpzPart> parts_;  // of the arrays
};

}  // namespace shrinkwarp
