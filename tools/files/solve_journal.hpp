// What a solve has finished so far, kept in a journal beside its output. From there to the output: solve_output.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/journal.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/solve_record.hpp>
#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

namespace shrinkwarp {

/// The journal of one output, `<output>.journal`; where the output is a link, beside the file that it leads to. Processes
/// that solve its problems together have a part of it each, numbered from 0: `<output>.journal`, `<output>.journal.1` and so
/// on. Part 0 of one is the journal of a process alone; parts of more processes than there are now go on to count. While
/// this lives no other process can have its parts. Problems are kept as they are delivered, each with a hash of its
/// observation; the process may end at any moment. A part without records is removed when this goes; one with damage stays.
///
/// Memory: memory(N), up to a quarter of a byte a problem, and the hashes of the observations that are being solved.
class SolveJournal : public CodeSink {
 public:
  static std::string path_of(const std::string& output, int part = 0);
  /// The parts that lie beside an output, ascending.
  static std::vector<int> parts_of(const std::string& output);
  /// Bytes for N problems.
  static std::int64_t memory(std::int64_t problems) { return 8 * problems; }

  /// Opens its part of the journal, or makes an empty one, after looking whether a file can be made at `output`; and of
  /// the parts from `parts` on that are there those whose number leaves the remainder `part`.
  /// @throws IoError (as Journal::open and OutputFile::scratch; a journal of something else than a solve)
  explicit SolveJournal(const std::string& output, int part = 0, int parts = 1);
  ~SolveJournal() override;
  SolveJournal(const SolveJournal&) = delete;
  SolveJournal& operator=(const SolveJournal&) = delete;

  /// Of the part that is written.
  const std::string& path() const { return own().origin().path; }
  std::int64_t held() const { return held_; }  ///< problems, in its own parts
  /// Whether a problem is held, by this or, once merge() was called, by others.
  bool holds(std::int64_t problem) const { return positions_[static_cast<std::size_t>(problem)] >= 0; }
  /// Behind the last good record, or the header: what a killed process, a failure of power or a bad disk left.
  std::int64_t damaged_bytes() const;

  /// Begins a journal that holds no problem, or goes on with one that does.
  ///
  /// @param fingerprint  of this solve; that of the journal must be the same
  /// @param source       its observations; those of the problems held must be the same, bit by bit. They are all read
  /// @param cancel       may be nullptr
  /// @return a summary of the problems held
  /// @throws ValueError (names what differs, or the row that does), IoError, Cancelled, what the source throws
  LassoSummary start(const Fingerprint& fingerprint, ObservationSource& source, std::int64_t atoms,
                     const CancelToken* cancel);
  /// Takes note of an observation that is about to be solved. @throws ValueError (it was another one a moment ago)
  void note_row(const ObservationSource& source, std::int64_t row, VectorView<const double> x);
  /// Keeps problems whose observations have been noted. @throws IoError (disk full ...), ValueError (not noted)
  void append(const LassoBatch& batch) override;

  /// Makes known what the parts of others hold, who call it too; to be called after start().
  /// @param largest  largest(values, count): of the values of all who call it, one by one
  /// @param sum      likewise their sum
  /// @throws what `largest` and `sum` throw
  void merge(FunctionRef<void(std::int64_t*, std::int64_t)> largest,
             FunctionRef<void(std::int64_t*, std::int64_t)> sum);
  /// Brings its parts to the disk, so that others can read them. @throws IoError
  void sync();

  int part() const { return part_; }
  /// Of the processes that have parts now.
  int parts() const { return processes_; }
  /// The text of the fingerprint that start() was given.
  std::string fingerprint() const;
  /// Of all problems that are held, as far as merge() has made them known.
  SparseCodesSizes sizes(bool debiased) const;
  /// Problems for each process, with about the same number of bytes; the same on all that have merged.
  std::vector<SparseCodesRange> ranges() const;
  /// An entry, whosever part it is in: others have synced theirs. @param entry  gets its bytes
  /// @throws ValueError (none of the problem is held), IoError
  EntryHead read_entry(std::int64_t problem, std::vector<std::byte>& entry) const;
  /// Removes its parts. After it the object can only be destroyed. @throws IoError
  void remove();

 private:
  struct Part {
    Journal journal;
    std::int64_t held = 0;
  };
  const Journal& own() const { return parts_.at(part_).journal; }
  void open(int part);
  void find_problems(int number, const Part& part, LassoSummary& summary);
  void check_rows(ObservationSource& source, const CancelToken* cancel, LassoSummary& summary) const;
  void count_nonzeros(std::int64_t problem, std::int64_t nonzeros);
  std::int64_t read(std::int64_t position, void* target, std::int64_t least, std::int64_t most) const;
  const Origin& origin_of(std::int64_t position) const;

  std::string output_;
  int part_;
  int processes_;
  std::map<int, Part> parts_;                 // that are open here
  mutable std::map<int, InputFile> foreign_;  // parts of others, as they are needed
  std::int64_t held_ = 0;
  std::int64_t block_ = 1;                  // problems, for nonzeros_
  std::vector<std::int64_t> nonzeros_;      // of each block of problems, in its own parts
  std::vector<std::int64_t> all_nonzeros_;  // in the parts of others as well
  std::int64_t atoms_ = 0;
  bool removed_ = false;
  std::vector<std::int64_t> positions_;  // [N], of the entries: part and place in its file (position_of); -1 not held
  std::unordered_map<std::int64_t, std::uint64_t> row_hashes_;  // of the observations that are being solved
};

/// Observations that are noted in a journal as they are read.
class NotedObservations : public ObservationSource {
 public:
  NotedObservations(ObservationSource& source, SolveJournal& journal) : source_(source), journal_(journal) {}
  std::int64_t size() const override { return source_.size(); }
  std::int64_t dimension() const override { return source_.dimension(); }
  std::string name() const override { return source_.name(); }
  void read(std::int64_t first, MatrixView<double> X) override;

 private:
  ObservationSource& source_;
  SolveJournal& journal_;
};

}  // namespace shrinkwarp
