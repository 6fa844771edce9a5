// NumPy's .npy files: arrays of this project's element types, read by position or mapped, written in one piece or
// piece by piece. Files are little-endian, and so must the machine be.
//
// One rule joins the two orders: an observation or a code is a ROW of its file and a COLUMN in memory (X.npy is (N, n),
// X is [n, N]: for a C-order file the same bytes), whereas a dictionary keeps its place (D.npy is (n, m), D is [n, m]).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// NumPy's names: b1 bool, u1 uint8, i4 int32, i8 int64, f4 float, f8 double, s byte strings of one length ('|S3').
enum class ElementType { b1, u1, i4, i8, f4, f8, s };

/// The element type of C++ type T. A b1 is read as uint8_t: a file may hold other bytes than a bool may.
template <class T>
constexpr ElementType element_type() {
  static_assert(sizeof(T) == 0, "T is none of uint8_t, int32_t, int64_t, float, double");
  return ElementType::s;
}
template <>
constexpr ElementType element_type<std::uint8_t>() {
  return ElementType::u1;
}
template <>
constexpr ElementType element_type<std::int32_t>() {
  return ElementType::i4;
}
template <>
constexpr ElementType element_type<std::int64_t>() {
  return ElementType::i8;
}
template <>
constexpr ElementType element_type<float>() {
  return ElementType::f4;
}
template <>
constexpr ElementType element_type<double>() {
  return ElementType::f8;
}

/// Bytes of one element; 0 for s, where ArrayHeader::item_size says it.
constexpr std::int64_t element_size(ElementType type) {
  return type == ElementType::b1 || type == ElementType::u1   ? 1
         : type == ElementType::i4 || type == ElementType::f4 ? 4
         : type == ElementType::i8 || type == ElementType::f8 ? 8
                                                              : 0;
}

/// Whether elements of a file may be looked at as elements of type `wanted`: the same type, or b1 as u1.
constexpr bool reads_as(ElementType found, ElementType wanted) {
  return found == wanted || (found == ElementType::b1 && wanted == ElementType::u1);
}

/// What stands before the data of an array.
struct ArrayHeader {
  ElementType type = ElementType::f4;
  std::int64_t item_size = 4;       // bytes of one element; the length for s
  bool fortran_order = false;       // the first index runs fastest
  std::vector<std::int64_t> shape;  // empty: a single element
  std::int64_t data_offset = 0;     // bytes from the beginning of the file to the data

  /// Elements. @throws ShapeError (a negative size, or bytes() would pass 2^63)
  std::int64_t size() const;
  /// Bytes of the data. @throws ShapeError as size()
  std::int64_t bytes() const;
  /// NumPy's spelling of the type: "<f4", "|S3".
  std::string descr() const;
};

/// Bytes of an array of elements of `item_size` bytes; -1 for a negative size or where they would pass 2^63.
std::int64_t array_bytes(const std::vector<std::int64_t>& shape, std::int64_t item_size);

/// A shape as Python prints it: "(597, 43)", "(5,)", "()".
std::string shape_text(const std::vector<std::int64_t>& shape);

/// Bytes that hold everything before the data, from the file's first 12 (or fewer, if it has no more).
/// @throws IoError (no .npy file, an unknown version, more than 1 MiB of header)
std::int64_t npy_header_bytes(const void* head, std::int64_t available, const Origin& origin);

/// Parses the header of format versions 1.0, 2.0 and 3.0: a Python dict with the keys 'descr', 'fortran_order' and
/// 'shape', each once, in any order, and nothing else.
/// @param head       the file's first bytes; read only
/// @param available  how many there are; npy_header_bytes() of them are looked at
/// @param origin     begins the message of an error
/// @throws IoError naming what was found and what was wanted: cut off, not such a dict, an element type not in
///         ElementType (big-endian, structured, objects ...), a negative size, a shape of 2^63 bytes or more
ArrayHeader parse_npy_header(const void* head, std::int64_t available, const Origin& origin);

/// Everything before the data, version 1.0, padded to a multiple of 64 bytes (`header.data_offset` is not used).
/// @throws ShapeError as ArrayHeader::bytes, or more dimensions than the format holds
std::string npy_header_text(const ArrayHeader& header);

/// An array of any element type in memory, its elements in the file's order.
struct NpyArray {
  ArrayHeader header;
  std::vector<std::byte> data;  // header.bytes()

  /// A copy of elements in C order. @throws ShapeError (as ArrayHeader::bytes)
  static NpyArray of(ElementType type, const std::vector<std::int64_t>& shape, const void* data);
  /// A 0-d array '|S<length>'. NumPy has no strings of length 0: the empty one is a single zero.
  static NpyArray of_text(std::string_view text);

  /// The elements in the file's order. @throws ValueError (another element type)
  template <class T>
  VectorView<const T> as() const {
    SHRINKWARP_REQUIRE(reads_as(header.type, element_type<T>()), ValueError, "NpyArray::as: found elements ",
                       header.descr(), ", wanted ", ArrayHeader{element_type<T>(), sizeof(T), false, {}, 0}.descr());
    return {reinterpret_cast<const T*>(data.data()), header.size(), Device{}};
  }
  /// The string of a single element of type s, without the zeros that fill it up. @throws ValueError
  std::string text() const;
};

/// A .npy file open for reading. Move-only; the const members may be called from several threads. Reading goes by
/// position and not through a mapping: a file larger than memory streams, and one that is cut short meanwhile gives
/// an IoError.
class NpyFile {
 public:
  /// Reads and checks the header. The data must end with the file: too few bytes and too many are both refused.
  /// @throws IoError: missing, a folder, a FIFO, a device, or as parse_npy_header
  static NpyFile open(const std::string& path);
  NpyFile(NpyFile&&) noexcept;
  NpyFile& operator=(NpyFile&&) noexcept;
  ~NpyFile();

  const std::string& path() const noexcept;
  const ArrayHeader& header() const noexcept;
  /// The sizes of a 2-D array. @throws ShapeError (any other)
  std::int64_t rows() const;
  std::int64_t cols() const;

  /// The data, mapped read-only at the first call and until this object goes; costs address space, not memory.
  /// Touching it gives SIGBUS if the file is cut short after this call: where that may happen, use the readers below.
  /// @throws IoError (the file is shorter by now, or the system refuses)
  const std::byte* data() const;
  /// The elements in the file's order, mapped as data(). @throws IoError (another type, data not aligned, or as data())
  template <class T>
  VectorView<const T> as() const {
    return {static_cast<const T*>(typed(element_type<T>())), header().size(), Device{}};
  }

  /// Rows [first, first + count) of a 2-D file (N, n) of f4 or f8, row first + b to column b.
  ///
  /// @param out  [n, count] on the CPU, ld >= n; padding rows keep their bits
  ///
  /// Numerics  f8 to float rounds to nearest, past its range to infinity; all else is exact. NaN stays NaN.
  /// Cost      C order: one pass over the bytes, straight into `out` when types agree and ld == n. Fortran order: n
  ///           short reads and a transposition in cache. Allocates 1 MiB at most, unless straight
  /// @throws ShapeError (not 2-D, `out`, the range), DeviceError, IoError (element type, the file is shorter by now)
  template <class T>
  void read_rows(std::int64_t first, std::int64_t count, MatrixView<T> out) const;

  /// A whole 2-D file (n, m) of f4 or f8, element (i, j) to out(i, j).
  ///
  /// @param out  [n, m] on the CPU, ld >= n; padding rows keep their bits
  ///
  /// Numerics and errors as read_rows. Cost: as read_rows with the orders exchanged
  template <class T>
  void read_matrix(MatrixView<T> out) const;

  /// A whole 1-D file of f4 or f8. @throws ShapeError (not 1-D), IoError (element type, shorter by now)
  std::vector<double> read_vector() const;

  /// Tells the system that read_rows(first, count) comes soon, so that it may read while the caller works. A hint, at
  /// once back; without effect in Fortran order and outside the file.
  void prefetch_rows(std::int64_t first, std::int64_t count) const noexcept;

 private:
  struct Impl;
  explicit NpyFile(std::unique_ptr<Impl> impl);
  const void* typed(ElementType type) const;
  std::unique_ptr<Impl> impl_;
};

/// Writes an array of known shape piece by piece, in C order; it appears under its name only when finished, and
/// nothing is left of it otherwise (see OutputFile). Move-only; used by one thread at a time.
class NpyWriter {
 public:
  /// @throws ShapeError (a negative size, 2^63 bytes or more), ValueError (type s), IoError
  NpyWriter(const std::string& path, ElementType type, const std::vector<std::int64_t>& shape);
  NpyWriter(NpyWriter&&) noexcept = default;
  NpyWriter& operator=(NpyWriter&&) noexcept = default;

  /// The next `count` elements. @throws ShapeError (more than the shape holds, count < 0), IoError (disk full ...)
  void append(const void* data, std::int64_t count);
  /// The next X.cols rows of an array (N, X.rows) of the same type: column b of X becomes a row.
  /// @throws ShapeError, DeviceError, ValueError (another element type), IoError
  void append_rows(MatrixView<const float> X);
  void append_rows(MatrixView<const double> X);
  /// Elements still to come.
  std::int64_t missing() const noexcept { return missing_; }
  /// Brings the file to the disk and gives it its name. @throws ShapeError (elements are missing), IoError; the target
  /// is then unchanged
  void finish();

 private:
  template <class T>
  void append_columns(MatrixView<const T> X);
  ArrayHeader header_;
  std::int64_t missing_;
  OutputFile file_;
};

/// Writes a whole array, C order, as NpyWriter does. @param data  [product of shape], read only
/// @throws ShapeError, ValueError, IoError
void write_npy(const std::string& path, ElementType type, const std::vector<std::int64_t>& shape, const void* data);
/// Writes X [n, N] as (N, n), a row a problem: what read_rows reads. @throws ShapeError, DeviceError, IoError
void write_npy_rows(const std::string& path, MatrixView<const float> X);
void write_npy_rows(const std::string& path, MatrixView<const double> X);
/// Writes D [n, m] as (n, m), element (i, j) at (i, j) in C order: what read_matrix reads. Allocates 1 MiB or 16 rows.
/// @throws ShapeError, DeviceError, IoError
void write_npy_matrix(const std::string& path, MatrixView<const float> D);
void write_npy_matrix(const std::string& path, MatrixView<const double> D);
/// Writes a 1-D array. @throws DeviceError, IoError
void write_npy_vector(const std::string& path, VectorView<const float> values);
void write_npy_vector(const std::string& path, VectorView<const double> values);

}  // namespace shrinkwarp
