// .npz archives of arrays whose sizes are known before: several writers, of other processes too, then write their parts of
// the arrays to their places in one file, in any order. The bytes are those that NpzWriter makes of the same arrays.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/io/zip.hpp>

namespace shrinkwarp {

/// Whether an array of an archive may have this name. @throws ValueError (as NpzWriter::add, but for a name that is taken)
void require_array_name(const char* function, const std::string& name);

/// Where in an archive its arrays lie, one behind the other. Whoever adds the same ones finds the same places.
class NpzLayout {
 public:
  /// @param limit  as in ZipWriter
  explicit NpzLayout(std::int64_t limit = kZip64Limit) : limit_(limit) {}
  /// An array in C order. @return its id: 0, 1 ...
  /// @throws ValueError (`name` as in NpzWriter::add; type s), ShapeError (a negative size, 2^63 bytes or more)
  int add(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape);
  /// Bytes from the beginning of the file to the elements of an array.
  std::int64_t offset(int id) const { return arrays_.at(static_cast<std::size_t>(id)).header.data_offset; }
  /// Behind the last array.
  std::int64_t end() const noexcept { return end_; }

 private:
  friend class NpzFrame;
  struct Array {
    std::string name;
    ArrayHeader header;  // data_offset counts from the beginning of the archive
  };
  std::int64_t limit_;
  std::vector<Array> arrays_;
  std::int64_t end_ = 0;
};

/// What is written to one place of a file, piece by piece; small pieces collect in a buffer of 256 KiB. Move-only.
class NpzPart {
 public:
  /// @param file    outlives it
  /// @param offset  of the first byte in the file, which has room from there on
  NpzPart(OutputFile& file, std::int64_t offset) : file_(&file), next_(offset) {}
  /// @throws IoError
  void append(const void* data, std::int64_t bytes);
  /// Writes what is in the buffer. @throws IoError
  void flush();
  /// The zip checksum of all that was appended.
  std::uint32_t checksum() const noexcept { return checksum_; }

 private:
  OutputFile* file_;
  std::int64_t next_;  // of the buffer in the file
  std::uint32_t checksum_ = 0;
  std::vector<std::byte> buffer_;
};

/// All of an archive but the elements of a layout's arrays. Of those who write one together one has it.
class NpzFrame {
 public:
  /// Makes the file (see OutputFile), with room for the layout's arrays. @param shared  others join it: it then has a name
  /// @throws IoError
  NpzFrame(const std::string& path, NpzLayout layout, bool shared);
  /// For OutputFile::joining.
  std::string temporary_path() const { return file_.temporary_path(); }
  /// Writes elements of the layout's arrays, as others do. @throws IoError
  void write_at(std::int64_t offset, const void* data, std::int64_t bytes) { file_.write_at(offset, data, bytes); }
  /// Writes the frame, with small arrays behind the layout's, brings the file to the disk and gives it its name. All
  /// elements have been written, and synced where another process has done it. After it the object can only be destroyed.
  /// @param checksums  of each array's elements
  /// @throws ShapeError (another number of checksums), IoError (the target is unchanged)
  void finish(const std::vector<std::uint32_t>& checksums, const std::vector<std::pair<std::string, NpyArray>>& small);

 private:
  NpzLayout layout_;
  OutputFile file_;
};

}  // namespace shrinkwarp
