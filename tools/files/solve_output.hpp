// From the journal of a solve to its output.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/models/lasso/debias.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/files/solve_journal.hpp>
#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

namespace shrinkwarp {

/// The output of a solve in the making, from journals that hold every problem. Processes that have parts of the journal,
/// have synced and then merged them, write it together: each a range of the problems, to its place in one file. All take
/// the steps begin, write and finish in turn, each when all have taken the one before; begin and finish are the first one's
/// alone. Until finish returns the target is unchanged; the file in the making goes with the object that has begun it.
///
/// Memory: some MiB, whatever the number of problems is; where its amplitudes are debiased what Debias takes beside.
class SolveOutput {
 public:
  /// @param debias  nullptr, or what makes `debiased_data`, from the observations
  /// @param source  of the observations, looked at for that alone
  /// All are to outlive it.
  SolveOutput(const SolveJournal& journal, const std::string& output, const Debias* debias = nullptr,
              ObservationSource* source = nullptr);

  /// Makes the file. @return where the others find it @throws IoError
  std::string begin();
  /// Writes the range of this process.
  /// @param file     what begin() has returned
  /// @param between  called after each MiB or so; what it throws ends the writing
  /// @throws IoError, ValueError (a problem is not in the journal, another observation than the one that was solved)
  void write(const std::string& file, FunctionRef<void()> between);
  /// What finish() has to know of all: to be replaced by the sum of all processes' numbers, one by one, after write().
  std::vector<std::int64_t>& numbers() { return numbers_; }
  /// Completes the file, with what it was made of: see difference_of_output. @throws IoError
  void finish();

 private:
  std::vector<double> amplitudes_of(const LassoBatch& block, const std::vector<std::uint64_t>& hashes) const;

  const SolveJournal& journal_;
  std::string output_;
  const Debias* debias_;
  ObservationSource* source_;
  SparseCodesSizes sizes_;
  std::vector<SparseCodesRange> ranges_;  // of all
  std::vector<std::int64_t> numbers_;     // two halves of the observations' hash, and of each process its checksums
  std::optional<SparseCodesFile> file_;   // of the first process
};

/// The same by one process, which has all parts. @throws as the steps do, Cancelled
void write_output(const SolveJournal& journal, const std::string& output, const CancelToken* cancel);

}  // namespace shrinkwarp
