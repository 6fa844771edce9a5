// Safetensors files, the exchange format of networks' weights (Hugging Face): named tensors and named strings.
//
//   8 bytes                length of the header, little-endian
//   header                 JSON: {"__metadata__": {"key": "text", ...},
//                                 "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
//   data                   the tensors' elements, row-major and little-endian; offsets count from here
//
// The data of the tensors follow each other and fill the file to its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

/// The format's element types, in its own order: the smallest first. Those of stored_type() are numbers here, the rest is
/// kept as bytes.
enum class StoredType { boolean, u8, i8, f8_e5m2, f8_e4m3, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64 };

/// The element type of C++ type T.
template <class T>
constexpr StoredType stored_type() {
  static_assert(sizeof(T) == 0, "T is none of uint8_t, int32_t, int64_t, uint64_t, float, double");
  return StoredType::boolean;
}
template <>
constexpr StoredType stored_type<std::uint8_t>() {
  return StoredType::u8;
}
template <>
constexpr StoredType stored_type<std::int32_t>() {
  return StoredType::i32;
}
template <>
constexpr StoredType stored_type<std::int64_t>() {
  return StoredType::i64;
}
template <>
constexpr StoredType stored_type<std::uint64_t>() {
  return StoredType::u64;
}
template <>
constexpr StoredType stored_type<float>() {
  return StoredType::f32;
}
template <>
constexpr StoredType stored_type<double>() {
  return StoredType::f64;
}

/// Bytes of one element.
std::int64_t stored_size(StoredType type) noexcept;
/// The format's name of a type: "F32".
const char* stored_name(StoredType type) noexcept;

struct StoredTensor {
  StoredType type = StoredType::f32;
  std::vector<std::int64_t> shape;  // empty: a single element
  std::vector<std::byte> bytes;     // row-major, product of shape * stored_size(type)
};

/// What a file holds, in memory. Its tensors are whole: as many bytes as type and shape say.
class Safetensors {
 public:
  /// Texts by their keys, in UTF-8.
  std::map<std::string, std::string> metadata;

  /// The file that it was read from; empty where it was made here.
  const std::string& path() const noexcept { return path_; }
  const std::map<std::string, StoredTensor>& tensors() const noexcept { return tensors_; }
  /// @throws ValueError (no such tensor; the message lists those there are)
  const StoredTensor& at(const std::string& name) const;

  /// Takes a tensor in.
  /// @param name  UTF-8
  /// @throws ValueError (`name` is taken, or "__metadata__"), ShapeError (a negative size, or another number of bytes)
  void add(const std::string& name, StoredTensor tensor);
  /// The same from numbers. @param values  [product of shape], row-major
  template <class T>
  void add(const std::string& name, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    const auto* first = reinterpret_cast<const std::byte*>(values.data());
    add(name, {stored_type<T>(), std::move(shape), {first, first + values.size() * sizeof(T)}});
  }

  /// The elements of a tensor that must have this shape, row-major.
  ///
  /// Numerics  float is read from f64 too and double from f32; f64 to float rounds to nearest, past its range to
  ///           infinity. All else is exact, and of exactly type T. NaN stays NaN.
  /// @throws ValueError (no such tensor, another type), ShapeError (another shape); the message names file and tensor
  template <class T>
  std::vector<T> values(const std::string& name, const std::vector<std::int64_t>& shape) const;

  /// Writes down among the metadata what the tensors hash to: to be called when all are in.
  void seal();
  /// Whether the tensors are what seal() saw; true where it was not called.
  /// @throws nothing; a text that is no hash is no match
  bool is_intact() const;

 private:
  std::string tensors_hash() const;

  friend Safetensors read_safetensors(const std::string& path);
  std::string path_;
  std::map<std::string, StoredTensor> tensors_;
};

/// Reads a file whole. Refused is all that the format does not allow: a header over 100 MB, no JSON, a key twice, an
/// unknown dtype or key, data_offsets that disagree with dtype and shape, overlap, leave holes or miss the file's end.
/// Memory: the file once, taken only after its header has been found to agree with its size.
/// @throws IoError (naming the file, what was found and what was wanted), OutOfMemory
Safetensors read_safetensors(const std::string& path);

/// Writes a file; it appears under its name when complete, and until then whatever is there stays (see OutputFile).
/// The same content gives the same bytes: tensors lie by type, the largest first, then by name, each at a multiple of
/// its element's size. Memory: the header.
/// @throws ValueError (a name or a text is no UTF-8, a header over 100 MB), IoError (a full disk, for example)
void write_safetensors(const std::string& path, const Safetensors& contents);

}  // namespace shrinkwarp
