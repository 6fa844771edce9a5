// A file that only grows, for work that must survive the process that does it: checksummed records behind a header.
//
//   16 bytes  "shrinkwarp-jrn-1"
//   records   8 bytes  length of the payload
//             8 bytes  XXH3 of length and payload, seeded with the offset of the record in the file
//             payload
//
// The first record is the header, a text. Numbers are little-endian.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {

/// A journal that is open for reading and writing, by one process at a time. Move-only; used by one thread at a time.
///
/// A record that `append` has returned from survives the end of the process, even by SIGKILL; a failure of power takes
/// what was appended in the last two seconds or so. What such an end leaves of a record is no record: reading stops at
/// the first one that is cut short or damaged, and the next `append` takes the place of all that lies from there on.
class Journal {
 public:
  /// Opens the journal, or makes an empty one, and locks it until this object goes or the process ends: by flock, where
  /// the file system has none by fcntl (an open file description lock), where it has neither not at all. The content of
  /// a file that is there stays as it is; a file that was made here goes again when this throws.
  ///
  /// @param function  begins the message of each error of this object
  ///
  /// Cost: reads the file once, 1 MiB at a time. Memory: 1 MiB and the header
  /// @throws IoError (another process has it locked; no regular file; no journal; one of another version; the header
  ///         is damaged; not permitted ...)
  static Journal open(const char* function, const std::string& path);
  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&& other) noexcept;
  /// Brings everything to the disk. The file stays.
  ~Journal();

  const Origin& origin() const noexcept { return origin_; }
  /// Empty in a journal that has none yet: a new one, or one whose maker ended while writing it.
  const std::string& header() const noexcept { return header_; }
  /// Where the last good record ends in the file.
  std::int64_t end() const noexcept { return end_; }
  /// Bytes behind that.
  std::int64_t damaged_bytes() const noexcept { return file_size_ - end_; }
  /// It has a header and something behind it: records, or damaged bytes that may have been some.
  bool may_hold_records() const noexcept { return !header_.empty() && file_size_ > first_; }

  /// Empties the journal and begins it with a header of 1 to 65536 bytes.
  /// @throws ValueError (the size), IoError (disk full ...)
  void begin(std::string_view header);
  /// Adds a record. @return the position of its payload in the file
  /// @throws ValueError (no header yet), IoError (disk full, not brought to the disk ...: the journal is then as it was, and may
  ///         be tried again)
  std::int64_t append(const void* payload, std::int64_t bytes);
  /// Calls visit(position, bytes) for the payload of every record behind the header, in order.
  /// @throws IoError, whatever `visit` throws
  void for_each(FunctionRef<void(std::int64_t, std::int64_t)> visit) const;
  /// Reads bytes of a payload. @throws IoError (no such bytes, or the system's reason)
  void read(std::int64_t position, void* target, std::int64_t bytes) const;
  /// Brings everything to the disk now, for others who open the file. @throws IoError
  void sync();
  /// Removes the file. After it the object can only be destroyed. @throws IoError
  void remove();

 private:
  Journal(Origin origin, int descriptor) : origin_(std::move(origin)), descriptor_(descriptor) {}
  void read_existing();
  bool good_record(std::int64_t offset, std::int64_t& next) const;
  [[noreturn]] void fail(const char* doing, int error) const;

  Origin origin_;
  int descriptor_ = -1;
  std::string header_;
  std::int64_t first_ = 0;      // offset of the first record behind the header
  std::int64_t end_ = 0;        // behind the last good record
  std::int64_t file_size_ = 0;  // at least end_
  bool synced_ = true;
  bool name_synced_ = false;
  std::chrono::steady_clock::time_point last_sync_ = std::chrono::steady_clock::now();
};

}  // namespace shrinkwarp
