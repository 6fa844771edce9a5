// NumPy's .npz archives: a zip with a member `<name>.npy` an array. The writer stores without compression and gives the
// same bytes for the same content; the reader takes stored and deflated members.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {

/// Writes an archive whose arrays grow side by side, of any size (zip64). Move-only; used by one thread at a time.
///
/// A growing array collects in a nameless scratch file of its own in the target's folder; `finish` gathers them, member
/// after member in the order of `add` and `put`, in a file that takes the target's name at the end (see OutputFile).
/// Until then the target stays as it was, and nothing is left behind on failure, when the writer is destroyed
/// unfinished, or when the process is killed (but see OutputFile on NFS).
/// Disk: the size of the result, and 64 MiB more while `finish` copies, where the file system can free parts of files;
/// elsewhere the largest array more. Memory: 256 KiB an array.
class NpzWriter {
 public:
  /// Fails early: an unusable folder or target is found here and not after the work.
  /// @throws IoError
  explicit NpzWriter(const std::string& path);
  NpzWriter(NpzWriter&&) noexcept;
  NpzWriter& operator=(NpzWriter&&) noexcept;
  ~NpzWriter();

  /// An array that grows: 1-D, or of rows of shape `row_shape` each.
  /// @return its id for `append`
  /// @throws ValueError (`name` empty, taken, over 1000 bytes or with '/', '\' or control characters; type s),
  ///         ShapeError (a size of `row_shape` is not positive), IoError
  int add(const std::string& name, ElementType type, const std::vector<std::int64_t>& row_shape = {});
  /// The next `count` elements of array `id`, C order. Whole rows need not come together.
  /// @throws ValueError (no such id, or after finish), ShapeError (count < 0), IoError (disk full ...; the writer can
  ///         only be destroyed then, every other call is a ValueError)
  void append(int id, const void* data, std::int64_t count);
  /// The same, with the element type checked. @throws ValueError (another type), and as above
  template <class T>
  void append(int id, VectorView<T> values) {
    require_type(id, element_type<std::remove_const_t<T>>());
    append(id, values.data, values.size);
  }
  /// A small array given whole; it is kept in memory until `finish`.
  /// @param shape  {} for a single element
  /// @param data   [product of shape], read only
  /// @throws ValueError (`name` as in `add`; type s), ShapeError (a negative size, 2^63 bytes or more)
  void put(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape, const void* data);
  /// A byte string as a 0-d array '|S<length>': what scipy.sparse.load_npz wants under the name "format".
  /// @throws ValueError (`name` as in `add`)
  void put_text(const std::string& name, std::string_view text);
  /// Elements that array `id` has so far. @throws ValueError (no such id, or finished)
  std::int64_t size(int id) const;
  /// Writes the archive, brings it to the disk and gives it its name. Copies each growing array once.
  /// After it, and after its IoError, every other call is a ValueError.
  /// @throws ShapeError (an array ends within a row; nothing has happened), IoError (the target is unchanged)
  void finish();

 private:
  struct Impl;
  void require_type(int id, ElementType type) const;
  std::unique_ptr<Impl> impl_;
};

class ZipMember;

/// An array of an archive, read front to back in the file's order: memory does not grow with it. Move-only; used by one
/// thread at a time and no longer than its NpzReader lives.
class NpzStream {
 public:
  NpzStream(NpzStream&&) noexcept;
  NpzStream& operator=(NpzStream&&) noexcept;
  ~NpzStream();

  const ArrayHeader& header() const noexcept { return header_; }
  /// Elements still to come.
  std::int64_t missing() const noexcept { return missing_; }
  /// The next `count` elements, `header().item_size` bytes each. The one that takes the last checks the checksum.
  /// Allocates no. @throws ShapeError (count < 0, or fewer are missing), IoError (damaged or cut short)
  void read(void* target, std::int64_t count);

 private:
  friend class NpzReader;
  NpzStream(std::unique_ptr<ZipMember> member, ArrayHeader header);
  std::unique_ptr<ZipMember> member_;
  ArrayHeader header_;
  std::int64_t missing_;
};

/// An archive open for reading. Move-only; used by one thread at a time.
class NpzReader {
 public:
  /// Reads the directory of the archive. Members whose names do not end in ".npy" are passed over.
  /// @throws IoError (missing, no regular file, no zip, two arrays of one name)
  static NpzReader open(const std::string& path);
  NpzReader(NpzReader&&) noexcept;
  NpzReader& operator=(NpzReader&&) noexcept;
  ~NpzReader();

  const std::string& path() const noexcept;
  /// The arrays in the archive's order, without ".npy".
  const std::vector<std::string>& names() const noexcept;
  bool contains(std::string_view name) const noexcept;
  /// Reads an array whole. Memory grows with the data that is really there, whatever sizes the file claims.
  /// @throws ValueError (no such array; the message lists those there are), IoError (encrypted, another compression,
  ///         checksum, cut short, sizes that contradict each other, as parse_npy_header), OutOfMemory
  NpyArray read(const std::string& name) const;
  /// The array to be read piece by piece; several may be open side by side. @throws ValueError, IoError as read()
  NpzStream stream(const std::string& name) const;

 private:
  struct Impl;
  explicit NpzReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shrinkwarp
