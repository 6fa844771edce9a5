// Files as the readers and writers of this folder see them: a regular file read by position, and a file in the making
// that appears under its name only when it is complete. POSIX; a failure is an IoError with the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

/// What a message about a file begins with: the function or class at work, the file and, in an archive, the member.
struct Origin {
  const char* function;
  std::string path;
  std::string member = {};
};
std::ostream& operator<<(std::ostream& out, const Origin& origin);

/// Reads up to `bytes` bytes at `offset`, going on after signals and short counts. Less than `bytes` only where the file
/// ends. @return how many, or -1 with the reason in errno
std::int64_t read_fully(int descriptor, std::int64_t offset, void* target, std::int64_t bytes) noexcept;
/// Writes all of them. @return 0, or the reason as in errno
int write_fully(int descriptor, std::int64_t offset, const void* data, std::int64_t bytes) noexcept;
/// Brings to the disk which names are in the folder of `path`, where the file system offers that.
void sync_folder(const std::string& path) noexcept;
/// What the system says about an error number.
std::string system_reason(int error);
/// What is there instead of a regular file: "a folder", "a FIFO" ... @param mode  as in struct stat
const char* kind_of_file(unsigned mode) noexcept;
/// Where a symbolic link leads, however many follow; the path itself where it is none or leads nowhere.
std::string resolved_path(const std::string& path);

/// `text` in one printable line of at most `limit` characters: other bytes as \xNN, the rest cut off with "...".
std::string printable(std::string_view text, std::size_t limit = 80);

/// A regular file opened for reading. Move-only. `read` may be called from several threads.
class InputFile {
 public:
  /// Opens without waiting: a FIFO or a device is refused, never read.
  /// @param function  begins the message of each error of this object
  /// @throws IoError (missing, not permitted, not a regular file)
  static InputFile open(const char* function, const std::string& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const Origin& origin() const noexcept { return origin_; }
  int descriptor() const noexcept { return descriptor_; }
  /// Bytes when the file was opened.
  std::int64_t size() const noexcept { return size_; }
  /// Bytes now. @throws IoError
  std::int64_t current_size() const;
  /// Reads exactly `bytes` bytes at `offset`. Allocates no. @throws IoError (the file ends before, or the system's
  /// reason); never SIGBUS, whatever another process does to the file
  void read(std::int64_t offset, void* target, std::int64_t bytes) const;

 private:
  InputFile(Origin origin, int descriptor) : origin_(std::move(origin)), descriptor_(descriptor) {}
  Origin origin_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

/// A file in the making. Move-only; used by one thread at a time. Until `commit` it has no name, so that nothing of it
/// remains when the object or the process goes, even by SIGKILL. Where the file system has no nameless files (NFS) it
/// lies in the target's folder as `.shrinkwarp-<process>-<number>-<name>.tmp`, which the destructor and the first
/// failed call remove; a killed process leaves it to `remove_leftovers`. After a failed call the object can only be
/// destroyed: further calls throw. Small appends are collected in a buffer of 256 KiB.
class OutputFile {
 public:
  /// A new file that takes the place of `path` at `commit`; until then whatever is there stays as it is. A symbolic
  /// link is followed: the file that it leads to is replaced, the link stays.
  /// @param named  as on a file system without nameless files
  /// @throws IoError (no such folder, not permitted, `path` is there and is no regular file)
  static OutputFile replacing(const char* function, const std::string& path, bool named = false);
  /// A nameless file on the same file system as `path`, for data whose turn comes later; it vanishes with this object
  /// or with the process, even a killed one. @throws IoError
  static OutputFile scratch(const char* function, const std::string& path);
  /// A file that another object makes in the place of `path`, in this process or another one: for `write_at` and `sync` alone.
  /// It cannot be read here: a network file system then writes what was written, and no more of what lies around it.
  /// @param temporary  its temporary_path() @throws IoError
  static OutputFile joining(const char* function, const std::string& path, const std::string& temporary);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  const Origin& origin() const noexcept { return origin_; }
  /// Where `joining` finds the file until `commit`; one without a name is found by this process alone.
  std::string temporary_path() const;
  /// Bytes so far, but for what was reserved.
  std::int64_t size() const noexcept { return written_ + static_cast<std::int64_t>(buffer_.size()); }
  /// Adds bytes at the end. @throws IoError (a full disk, for example)
  void append(const void* data, std::int64_t bytes);
  /// Makes the file `bytes` bytes long. What nobody writes are zeros. @throws IoError
  void reserve(std::int64_t bytes);
  /// Goes past bytes at the end, which others have written, or will, where room was reserved. @throws IoError
  void skip(std::int64_t bytes);
  /// Overwrites [offset, offset + bytes), which must lie within `size()` or what was reserved. @throws IoError
  void write_at(std::int64_t offset, const void* data, std::int64_t bytes);
  /// Reads [offset, offset + bytes), which must lie within `size()`. @throws IoError
  void read_at(std::int64_t offset, void* target, std::int64_t bytes);
  /// Gives the disk blocks wholly within [offset, offset + bytes) back, where the file system can; they read as zeros
  /// afterwards.
  void discard(std::int64_t offset, std::int64_t bytes) noexcept;
  /// Brings what was written here to the disk. @throws IoError
  void sync();
  /// Brings everything to the disk and gives the file its name, in one step for whoever looks at the folder.
  /// @throws IoError; the target is then unchanged. ValueError (a scratch file, or one of another object)
  void commit();

 private:
  explicit OutputFile(Origin origin) : origin_(std::move(origin)) {}
  static OutputFile create(const char* function, const std::string& path, bool named);
  void require_usable() const;
  void flush();
  void write_through(std::int64_t offset, const void* data, std::int64_t bytes);
  [[noreturn]] void fail(const char* doing, int error);
  void abandon() noexcept;

  Origin origin_;
  std::string target_;     // where the file will appear, links resolved
  std::string temporary_;  // where it lies now; empty while it has no name or the final one
  int descriptor_ = -1;    // -1 after a failure or commit
  std::int64_t written_ = 0;
  std::vector<std::byte> buffer_;
};

/// Removes the temporaries that killed processes left of `path` (see OutputFile). Call it only when no other process is
/// writing `path`.
void remove_leftovers(const std::string& path) noexcept;

}  // namespace shrinkwarp

/// Throws IoError about `origin` at byte `offset` (-1: nowhere in particular) with the concatenation of the rest.
#define SHRINKWARP_THROW_IO(origin, offset, ...)                                                                  \
  throw ::shrinkwarp::IoError(::shrinkwarp::concat(origin, ": ", __VA_ARGS__), __FILE__, __LINE__, (origin).path, \
                              offset)
