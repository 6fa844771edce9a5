// The part of the zip format that .npz archives need: members stored on writing, stored or deflated on reading, of any
// size (zip64). minizip was tried and not kept: on 64-bit Linux its reader takes sizes past 4 GiB for 0xffffffff.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {

/// What the directory of an archive says about a member.
struct ZipEntry {
  std::string name;
  int method = 0;  // 0 stored, 8 deflated
  int flags = 0;
  std::uint32_t crc = 0;
  std::int64_t packed = 0;  // bytes in the archive
  std::int64_t size = 0;    // bytes once unpacked
  std::int64_t header = 0;  // offset of its local header
};

/// The checksum of `bytes` more bytes after those that gave `crc`; of the first ones 0.
std::uint32_t zip_checksum(std::uint32_t crc, const void* data, std::int64_t bytes) noexcept;
/// The checksum of two stretches of bytes one behind the other. @param bytes  of the second
std::uint32_t zip_checksum_of_both(std::uint32_t first, std::uint32_t second, std::int64_t bytes) noexcept;

/// From this size on sizes, offsets and counts are written as zip64: as the format has it.
constexpr std::int64_t kZip64Limit = 0xffffffff;
/// Bytes that stand before a member of `size` bytes. @param limit  as in ZipWriter
std::int64_t zip_local_bytes(const std::string& name, std::int64_t size, std::int64_t limit = kZip64Limit);

/// Writes an archive of stored members to `file`, which it neither owns nor commits. The same content gives the same
/// bytes: members bear the date 1 January 1980.
class ZipWriter {
 public:
  /// @param limit  sizes, offsets and counts are written as zip64 where they do not stay below it; as the format has
  ///               it, unless a test lowers it
  explicit ZipWriter(OutputFile& file, std::int64_t limit = kZip64Limit) : file_(file), limit_(limit) {}

  /// Begins a member of `size` bytes. `name` has 1 to 65535 bytes. @throws IoError
  void begin(const std::string& name, std::int64_t size);
  /// The member's next bytes; no more than `size` in all. @throws IoError
  void write(const void* data, std::int64_t bytes);
  /// The same for bytes that others write to the file, of this checksum. @throws IoError
  void skip(std::int64_t bytes, std::uint32_t crc);
  /// Ends a member, all of whose bytes have come. @throws IoError, ShapeError (some have not)
  void end();
  /// Writes the directory. @throws IoError
  void finish();

 private:
  OutputFile& file_;
  std::int64_t limit_;
  std::vector<ZipEntry> entries_;
  std::int64_t missing_ = 0;  // bytes of the member that is open
};

/// The members of an archive, in its order. Allocates as much as the directory takes in the file.
/// @throws IoError (no zip, cut short, parts of it elsewhere, sizes that contradict each other)
std::vector<ZipEntry> read_zip_directory(const InputFile& file);

/// A member being unpacked. `file` must outlive it.
class ZipMember {
 public:
  /// @throws IoError (encrypted, another compression, sizes that cannot be true)
  ZipMember(const InputFile& file, const ZipEntry& entry);
  ZipMember(const ZipMember&) = delete;
  ZipMember& operator=(const ZipMember&) = delete;
  ~ZipMember();

  const Origin& origin() const noexcept { return origin_; }
  /// Unpacks the next `bytes` bytes, exactly. @throws IoError (there are fewer, damaged data)
  void read(void* target, std::int64_t bytes);
  /// Checks that nothing is left and that the checksum fits. @throws IoError
  void finish();

 private:
  struct Inflater;
  std::int64_t inflate_some(void* target, std::int64_t bytes);

  const InputFile& file_;
  Origin origin_;
  std::int64_t next_ = 0;    // offset of the next packed byte
  std::int64_t packed_ = 0;  // packed bytes left
  std::int64_t left_ = 0;    // unpacked bytes left
  std::uint32_t wanted_crc_ = 0;
  std::uint32_t crc_ = 0;
  std::unique_ptr<Inflater> inflater_;  // of a deflated member
};

}  // namespace shrinkwarp
