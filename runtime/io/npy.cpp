#include <shrinkwarp/runtime/io/npy.hpp>

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <mutex>
#include <system_error>
#include <utility>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The .npy reader and writer copy little-endian bytes and need a little-endian machine"
#endif

namespace shrinkwarp {
namespace {

constexpr char kNpyMagic[] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};
constexpr std::int64_t kMaxNpyHeaderBytes = 1 << 20;  // NumPy itself writes 128 for anything but structured types
constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kNpyBufferBytes = 1 << 20;  // stays in a second-level cache
// One line of the cache holds 16 floats: a square of 16 x 16 is read and written by whole lines.
constexpr std::int64_t kTile = 16;
constexpr const char* kWantedTypes = "'|b1', '|u1', '<i4', '<i8', '<f4', '<f8' or '|S<length>'";

/// A cursor over the Python literal of a header.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::int64_t offset, const Origin& origin)
      : text_(text), offset_(offset), origin_(origin) {}

  void parse(ArrayHeader& header) {
    bool has_descr = false;
    bool has_order = false;
    bool has_shape = false;
    expect('{', "'{'");
    while (!accept('}')) {
      const std::string_view key = string("a key in quotes or '}'");
      expect(':', "':'");
      if (key == "descr") {
        once(has_descr, key);
        element(header);
      } else if (key == "fortran_order") {
        once(has_order, key);
        header.fortran_order = boolean();
      } else if (key == "shape") {
        once(has_shape, key);
        header.shape = shape();
      } else {
        fail("found the key '", printable(key), "', wanted 'descr', 'fortran_order' or 'shape'");
      }
      if (!accept(',')) {
        expect('}', "',' or '}'");
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) unexpected("nothing more");
    if (!has_descr || !has_order || !has_shape) {
      fail("found no key '", !has_descr ? "descr" : !has_order ? "fortran_order" : "shape", "'");
    }
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(const Args&... args) const {
    SHRINKWARP_THROW_IO(origin_, offset_ + static_cast<std::int64_t>(at_), "header: ", args...);
  }
  [[noreturn]] void unexpected(const char* wanted) const {
    const std::string found = at_ < text_.size() ? "'" + printable(text_.substr(at_), 20) + "'" : "the end";
    fail("found ", found, " at byte ", offset_ + static_cast<std::int64_t>(at_), ", wanted ", wanted);
  }
  void once(bool& seen, std::string_view key) const {
    if (std::exchange(seen, true)) fail("found the key '", key, "' twice");
  }
  void skip_space() {
    while (at_ < text_.size() && std::strchr(" \t\n\r\f", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* wanted) {
    if (!accept(c)) unexpected(wanted);
  }
  /// The inside of a Python string; one with an escape in it is none of ours.
  std::string_view string(const char* wanted) {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') unexpected(wanted);
    const std::size_t end = text_.find_first_of(quote == '\'' ? "'\\\n" : "\"\\\n", at_ + 1);
    if (end == std::string_view::npos || text_[end] != quote) unexpected(wanted);
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inside;
  }
  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return word == "True";
      }
    }
    unexpected("True or False after 'fortran_order'");
  }
  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> sizes;
    expect('(', "'(' after 'shape'");
    bool comma = true;
    while (!accept(')')) {
      if (!comma) unexpected("',' or ')' in 'shape'");
      sizes.push_back(integer());
      comma = accept(',');
    }
    if (sizes.size() == 1 && !comma) fail("found shape (", sizes[0], "), wanted a tuple: (", sizes[0], ",)");
    return sizes;
  }
  std::int64_t integer() {
    skip_space();
    const std::size_t begin = at_;
    const bool negative = accept('-');
    std::int64_t value = 0;
    bool fits = true;
    const std::size_t digits = at_;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      fits = fits && !__builtin_mul_overflow(value, std::int64_t{10}, &value) &&
             !__builtin_add_overflow(value, std::int64_t{text_[at_] - '0'}, &value);
    }
    if (at_ == digits) unexpected("a size in 'shape'");
    const std::string found = printable(text_.substr(begin, at_ - begin), 40);
    if (negative) fail("found the size ", found, " in 'shape', wanted 0 or more");
    if (!fits) fail("found the size ", found, " in 'shape', wanted less than 2^63");
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // a long of Python 2
    return value;
  }
  void element(ArrayHeader& header) {
    skip_space();
    if (at_ < text_.size() && (text_[at_] == '[' || text_[at_] == '(')) {
      fail("found the structured element type ", printable(text_.substr(at_), 40), ", wanted ", kWantedTypes);
    }
    const std::string_view descr = string("an element type in quotes after 'descr'");
    const char* hint = "";
    if (descr.size() >= 3) {
      const char order = descr[0];
      const std::string_view kind = descr.substr(1);
      if (kind[0] == 'S' && order == '|') {
        std::int64_t length = 0;
        bool good = kind.size() <= 10;
        for (const char c : kind.substr(1)) {
          good = good && c >= '0' && c <= '9';
          if (good) length = length * 10 + (c - '0');
        }
        if (good && length > 0) {
          header.type = ElementType::s;
          header.item_size = length;
          return;
        }
      }
      for (const auto& [name, type] :
           {std::pair{"b1", ElementType::b1}, std::pair{"u1", ElementType::u1}, std::pair{"i4", ElementType::i4},
            std::pair{"i8", ElementType::i8}, std::pair{"f4", ElementType::f4}, std::pair{"f8", ElementType::f8}}) {
        if (kind != name) continue;
        const bool single = element_size(type) == 1;
        if (order == '<' || (single && (order == '|' || order == '>'))) {
          header.type = type;
          header.item_size = element_size(type);
          return;
        }
        if (order == '>') hint = " (big-endian)";
      }
    }
    if (descr.size() > 1 && descr[1] == 'O') hint = " (Python objects)";
    fail("found the element type '", printable(descr, 40), "'", hint, ", wanted ", kWantedTypes);
  }

  std::string_view text_;
  std::int64_t offset_;
  const Origin& origin_;
  std::size_t at_ = 0;
};

/// Checks a matrix of a caller.
template <class T>
void require_matrix(const char* function, const char* argument, const MatrixView<T>& view, std::int64_t rows,
                    std::int64_t cols) {
  SHRINKWARP_REQUIRE(view.device.type == DeviceType::cpu, DeviceError, function, ": ", argument, " lies on ",
                     view.device, ", wanted cpu");
  SHRINKWARP_REQUIRE(view.rows == rows && view.cols == cols, ShapeError, function, ": ", argument, " is ", view.rows,
                     " x ", view.cols, ", wanted ", rows, " x ", cols);
  SHRINKWARP_REQUIRE(view.ld >= view.rows || view.cols <= 1, ShapeError, function, ": ", argument, " has ld ", view.ld,
                     ", wanted >= ", view.rows);
  SHRINKWARP_REQUIRE(view.rows >= 0 && view.cols >= 0 && (view.data != nullptr || view.empty()), ShapeError, function,
                     ": ", argument, " is ", view.rows, " x ", view.cols, " without data");
}

/// Reads `out.cols` lines of `out.rows` elements that lie one after the other from `offset` on: line b to column b.
template <class From, class To>
void read_lines(const InputFile& file, std::int64_t offset, MatrixView<To> out) {
  if (out.empty()) return;
  constexpr std::int64_t kSize = sizeof(From);
  if (std::is_same_v<From, To> && (out.ld == out.rows || out.cols == 1)) {
    return file.read(offset, out.data, out.rows * out.cols * kSize);
  }
  // Elements of the run [done, total), which knows nothing of columns, are dealt out to them.
  const std::int64_t total = out.rows * out.cols;
  const std::int64_t capacity = std::min(total, kNpyBufferBytes / kSize);
  const std::unique_ptr<From[]> buffer(new From[static_cast<std::size_t>(capacity)]);
  std::int64_t column = 0;
  std::int64_t row = 0;
  for (std::int64_t done = 0; done < total;) {
    const std::int64_t count = std::min(capacity, total - done);
    file.read(offset + done * kSize, buffer.get(), count * kSize);
    for (std::int64_t used = 0; used < count;) {
      const std::int64_t length = std::min(out.rows - row, count - used);
      const From* from = buffer.get() + used;
      To* to = out.column(column) + row;
      for (std::int64_t i = 0; i < length; ++i) to[i] = static_cast<To>(from[i]);
      used += length;
      row += length;
      if (row == out.rows) {
        row = 0;
        ++column;
      }
    }
    done += count;
  }
}

/// Reads elements [first, first + out.cols) of `out.rows` lines, `stride` elements apart from `offset` on: of line i to
/// row i.
template <class From, class To>
void read_lines_transposed(const InputFile& file, std::int64_t offset, std::int64_t stride, std::int64_t first,
                           MatrixView<To> out) {
  if (out.empty()) return;
  constexpr std::int64_t kSize = sizeof(From);
  constexpr std::int64_t kWidest = kNpyBufferBytes / kSize / kTile - kTile;
  const std::int64_t width = std::min(out.cols, kWidest);
  // Short whole lines come many at a time; others one by one, an odd number of tiles apart, so that a tile's lines do
  // not meet in one set of the cache.
  const bool whole = width == stride && width < 512;
  const std::int64_t pitch = whole ? width : ((width + kTile - 1) / kTile * kTile) | kTile;
  const std::int64_t height = std::min(out.rows, kNpyBufferBytes / kSize / pitch);
  const std::unique_ptr<From[]> buffer(new From[static_cast<std::size_t>(height * pitch)]);
  for (std::int64_t left = 0; left < out.cols; left += width) {
    const std::int64_t cols = std::min(width, out.cols - left);
    for (std::int64_t top = 0; top < out.rows; top += height) {
      const std::int64_t rows = std::min(height, out.rows - top);
      if (whole) {
        file.read(offset + top * stride * kSize, buffer.get(), rows * cols * kSize);
      } else {
        for (std::int64_t i = 0; i < rows; ++i) {
          file.read(offset + ((top + i) * stride + first + left) * kSize, buffer.get() + i * pitch, cols * kSize);
        }
      }
      for (std::int64_t b0 = 0; b0 < cols; b0 += kTile) {
        for (std::int64_t i0 = 0; i0 < rows; i0 += kTile) {
          for (std::int64_t b = b0; b < std::min(b0 + kTile, cols); ++b) {
            To* to = out.column(left + b) + top;
            for (std::int64_t i = i0; i < std::min(i0 + kTile, rows); ++i) {
              to[i] = static_cast<To>(buffer[static_cast<std::size_t>(i * pitch + b)]);
            }
          }
        }
      }
    }
  }
}

}  // namespace

std::int64_t array_bytes(const std::vector<std::int64_t>& shape, std::int64_t item_size) {
  std::int64_t bytes = item_size;
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0) return -1;
    empty |= size == 0;
  }
  if (empty) return 0;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::int64_t ArrayHeader::bytes() const {
  const std::int64_t bytes = array_bytes(shape, item_size);
  SHRINKWARP_REQUIRE(bytes >= 0, ShapeError, "ArrayHeader: shape ", shape_text(shape), " of ", item_size,
                     "-byte elements, wanted sizes >= 0 and less than 2^63 bytes");
  return bytes;
}

std::int64_t ArrayHeader::size() const {
  return bytes() / std::max<std::int64_t>(item_size, 1);
}

std::string ArrayHeader::descr() const {
  switch (type) {
    case ElementType::b1:
      return "|b1";
    case ElementType::u1:
      return "|u1";
    case ElementType::i4:
      return "<i4";
    case ElementType::i8:
      return "<i8";
    case ElementType::f4:
      return "<f4";
    case ElementType::f8:
      return "<f8";
    case ElementType::s:
      return "|S" + std::to_string(item_size);
  }
  return "?";
}

std::int64_t npy_header_bytes(const void* head, std::int64_t available, const Origin& origin) {
  const auto* bytes = static_cast<const unsigned char*>(head);
  if (available == 0) SHRINKWARP_THROW_IO(origin, 0, "is empty, wanted a .npy file");
  if (available < 8 || std::memcmp(bytes, kNpyMagic, sizeof kNpyMagic) != 0) {
    const std::string_view found(static_cast<const char*>(head),
                                 static_cast<std::size_t>(std::min<std::int64_t>(available, 6)));
    SHRINKWARP_THROW_IO(origin, 0, "begins with '", printable(found), "', wanted '\\x93NUMPY' (a .npy file)",
                        found.substr(0, 2) == "PK" ? "; this looks like a .npz" : "");
  }
  const int major = bytes[6];
  const int minor = bytes[7];
  if (major < 1 || major > 3 || minor != 0) {
    SHRINKWARP_THROW_IO(origin, 6, "found format version ", major, ".", minor, ", wanted 1.0, 2.0 or 3.0");
  }
  const std::int64_t prefix = major == 1 ? 10 : 12;
  if (available < prefix) {
    SHRINKWARP_THROW_IO(origin, available, "ends in its header: found ", available, " bytes, wanted ", prefix);
  }
  std::int64_t length = bytes[8] | bytes[9] << 8;
  if (major > 1) length |= static_cast<std::int64_t>(bytes[10]) << 16 | static_cast<std::int64_t>(bytes[11]) << 24;
  if (length > kMaxNpyHeaderBytes) {
    SHRINKWARP_THROW_IO(origin, 8, "found a header of ", length, " bytes, wanted at most ", kMaxNpyHeaderBytes);
  }
  return prefix + length;
}

ArrayHeader parse_npy_header(const void* head, std::int64_t available, const Origin& origin) {
  ArrayHeader header;
  header.data_offset = npy_header_bytes(head, available, origin);
  if (available < header.data_offset) {
    SHRINKWARP_THROW_IO(origin, available, "ends in its header: found ", available, " bytes, wanted ",
                        header.data_offset);
  }
  const auto* text = static_cast<const char*>(head);
  const std::int64_t prefix = text[6] == 1 ? 10 : 12;
  HeaderParser({text + prefix, static_cast<std::size_t>(header.data_offset - prefix)}, prefix, origin).parse(header);
  const std::int64_t bytes = array_bytes(header.shape, header.item_size);
  if (bytes < 0 || bytes > std::numeric_limits<std::int64_t>::max() - header.data_offset) {
    SHRINKWARP_THROW_IO(origin, prefix, "header: found shape ", printable(shape_text(header.shape)), " of ",
                        header.descr(), ", wanted less than 2^63 bytes");
  }
  return header;
}

std::string npy_header_text(const ArrayHeader& header) {
  header.bytes();
  std::string dict =
      concat("{'descr': '", header.descr(), "', 'fortran_order': ", header.fortran_order ? "True" : "False",
             ", 'shape': ", shape_text(header.shape), ", }");
  constexpr std::int64_t kPrefix = 10;
  const auto unpadded = kPrefix + static_cast<std::int64_t>(dict.size()) + 1;
  dict.append(static_cast<std::size_t>((kAlignment - unpadded % kAlignment) % kAlignment), ' ');
  dict += '\n';
  SHRINKWARP_REQUIRE(dict.size() < 65536, ShapeError, "npy_header_text: found ", header.shape.size(),
                     " dimensions, more than a header holds");
  std::string text(kNpyMagic, sizeof kNpyMagic);
  text += '\x01';
  text += '\0';
  text += static_cast<char>(dict.size() & 0xff);
  text += static_cast<char>(dict.size() >> 8);
  return text + dict;
}

NpyArray NpyArray::of(ElementType type, const std::vector<std::int64_t>& shape, const void* data) {
  NpyArray array;
  array.header = ArrayHeader{type, element_size(type), false, shape, 0};
  const auto* from = static_cast<const std::byte*>(data);
  array.data.assign(from, from + array.header.bytes());
  return array;
}

NpyArray NpyArray::of_text(std::string_view text) {
  NpyArray array;
  array.data.resize(std::max<std::size_t>(text.size(), 1));
  std::memcpy(array.data.data(), text.data(), text.size());
  array.header = ArrayHeader{ElementType::s, static_cast<std::int64_t>(array.data.size()), false, {}, 0};
  return array;
}

std::string NpyArray::text() const {
  SHRINKWARP_REQUIRE(header.type == ElementType::s && header.size() == 1, ValueError, "NpyArray::text: found shape ",
                     shape_text(header.shape), " of ", header.descr(), ", wanted a single '|S<length>'");
  std::string text(reinterpret_cast<const char*>(data.data()), data.size());
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

struct NpyFile::Impl {
  explicit Impl(InputFile opened) : file(std::move(opened)) {}
  ~Impl() {
    if (map != nullptr) ::munmap(map, static_cast<std::size_t>(header.data_offset + header.bytes()));
  }

  /// Calls body(From{}) with the element type of the file.
  template <class Body>
  void with_reals(const char* function, Body body) const {
    if (header.type == ElementType::f4) return body(float{});
    if (header.type == ElementType::f8) return body(double{});
    SHRINKWARP_THROW_IO((Origin{function, file.origin().path}), -1, "found the element type '", header.descr(),
                        "', wanted '<f4' or '<f8'");
  }
  void require_rank(const char* function, std::size_t rank) const {
    SHRINKWARP_REQUIRE(header.shape.size() == rank, ShapeError, Origin{function, file.origin().path}, ": found shape ",
                       printable(shape_text(header.shape)), ", wanted ", rank, "-D");
  }

  InputFile file;
  ArrayHeader header;
  std::mutex mutex;     // guards map
  void* map = nullptr;  // the file from its first byte to the end of the data
};

NpyFile::NpyFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NpyFile::NpyFile(NpyFile&&) noexcept = default;
NpyFile& NpyFile::operator=(NpyFile&&) noexcept = default;
NpyFile::~NpyFile() = default;

NpyFile NpyFile::open(const std::string& path) {
  auto impl = std::make_unique<Impl>(InputFile::open("NpyFile", path));
  const InputFile& file = impl->file;
  std::vector<char> head(static_cast<std::size_t>(std::min<std::int64_t>(file.size(), 12)));
  file.read(0, head.data(), static_cast<std::int64_t>(head.size()));
  const std::int64_t wanted = npy_header_bytes(head.data(), static_cast<std::int64_t>(head.size()), file.origin());
  head.resize(static_cast<std::size_t>(std::min(wanted, file.size())));
  file.read(0, head.data(), static_cast<std::int64_t>(head.size()));
  ArrayHeader header = parse_npy_header(head.data(), static_cast<std::int64_t>(head.size()), file.origin());
  const std::int64_t found = file.size() - header.data_offset;
  const std::int64_t bytes = header.bytes();
  if (found != bytes) {
    SHRINKWARP_THROW_IO(file.origin(), header.data_offset + std::min(found, bytes),
                        found < bytes ? "is cut short" : "is too long", ": found ", found, " bytes of data at offset ",
                        header.data_offset, ", wanted ", bytes, " (shape ", printable(shape_text(header.shape)), " of ",
                        header.descr(), ")");
  }
  impl->header = std::move(header);
  return NpyFile(std::move(impl));
}

const std::string& NpyFile::path() const noexcept {
  return impl_->file.origin().path;
}
const ArrayHeader& NpyFile::header() const noexcept {
  return impl_->header;
}

std::int64_t NpyFile::rows() const {
  impl_->require_rank("NpyFile::rows", 2);
  return impl_->header.shape[0];
}

std::int64_t NpyFile::cols() const {
  impl_->require_rank("NpyFile::cols", 2);
  return impl_->header.shape[1];
}

const std::byte* NpyFile::data() const {
  const std::int64_t wanted = impl_->header.data_offset + impl_->header.bytes();
  const std::int64_t found = impl_->file.current_size();
  if (found < wanted) {
    SHRINKWARP_THROW_IO(impl_->file.origin(), found, "found ", found, " bytes, wanted ", wanted,
                        " (the file was cut short while it was open)");
  }
  const std::lock_guard<std::mutex> lock(impl_->mutex);
  if (impl_->map == nullptr) {
    void* map = ::mmap(nullptr, static_cast<std::size_t>(wanted), PROT_READ, MAP_SHARED, impl_->file.descriptor(), 0);
    if (map == MAP_FAILED) {
      const int error = errno;
      SHRINKWARP_THROW_IO(impl_->file.origin(), -1, "cannot be mapped (", wanted,
                          " bytes): ", std::system_category().message(error));
    }
    impl_->map = map;
  }
  return static_cast<const std::byte*>(impl_->map) + impl_->header.data_offset;
}

const void* NpyFile::typed(ElementType type) const {
  const ArrayHeader wanted{type, element_size(type), false, {}, 0};
  if (!reads_as(impl_->header.type, type)) {
    SHRINKWARP_THROW_IO((Origin{"NpyFile::as", path()}), -1, "found the element type '", impl_->header.descr(),
                        "', wanted '", wanted.descr(), "'");
  }
  if (impl_->header.data_offset % wanted.item_size != 0) {
    SHRINKWARP_THROW_IO((Origin{"NpyFile::as", path()}), impl_->header.data_offset, "found data at offset ",
                        impl_->header.data_offset, ", wanted a multiple of ", wanted.item_size);
  }
  return data();
}

template <class T>
void NpyFile::read_rows(std::int64_t first, std::int64_t count, MatrixView<T> out) const {
  constexpr const char* kFunction = "NpyFile::read_rows";
  impl_->require_rank(kFunction, 2);
  const std::int64_t rows = impl_->header.shape[0];
  const std::int64_t cols = impl_->header.shape[1];
  SHRINKWARP_REQUIRE(first >= 0 && count >= 0 && first <= rows && count <= rows - first, ShapeError,
                     Origin{kFunction, path()}, ": rows ", first, " and ", count, " on, found ", rows, " rows");
  require_matrix(kFunction, "out", out, cols, count);
  impl_->with_reals(kFunction, [&](auto element) {
    using From = decltype(element);
    const std::int64_t data = impl_->header.data_offset;
    if (impl_->header.fortran_order) {
      read_lines_transposed<From>(impl_->file, data, rows, first, out);
    } else {
      read_lines<From>(impl_->file, data + first * cols * static_cast<std::int64_t>(sizeof(From)), out);
    }
  });
}

template <class T>
void NpyFile::read_matrix(MatrixView<T> out) const {
  constexpr const char* kFunction = "NpyFile::read_matrix";
  impl_->require_rank(kFunction, 2);
  require_matrix(kFunction, "out", out, impl_->header.shape[0], impl_->header.shape[1]);
  impl_->with_reals(kFunction, [&](auto element) {
    using From = decltype(element);
    if (impl_->header.fortran_order) {
      read_lines<From>(impl_->file, impl_->header.data_offset, out);
    } else {
      read_lines_transposed<From>(impl_->file, impl_->header.data_offset, out.cols, 0, out);
    }
  });
}

template void NpyFile::read_rows<float>(std::int64_t, std::int64_t, MatrixView<float>) const;
template void NpyFile::read_rows<double>(std::int64_t, std::int64_t, MatrixView<double>) const;
template void NpyFile::read_matrix<float>(MatrixView<float>) const;
template void NpyFile::read_matrix<double>(MatrixView<double>) const;

std::vector<double> NpyFile::read_vector() const {
  impl_->require_rank("NpyFile::read_vector", 1);
  const std::int64_t size = impl_->header.shape[0];
  std::vector<double> values;
  impl_->with_reals("NpyFile::read_vector", [&](auto element) {
    values.resize(static_cast<std::size_t>(size));
    read_lines<decltype(element)>(impl_->file, impl_->header.data_offset,
                                  MatrixView<double>{values.data(), size, 1, size, Device{}});
  });
  return values;
}

void NpyFile::prefetch_rows(std::int64_t first, std::int64_t count) const noexcept {
  const ArrayHeader& header = impl_->header;
  if (header.shape.size() != 2 || header.fortran_order || first < 0 || count <= 0 || first >= header.shape[0]) return;
  const std::int64_t row = header.shape[1] * header.item_size;
  static_cast<void>(::posix_fadvise(impl_->file.descriptor(), header.data_offset + first * row,
                                    std::min(count, header.shape[0] - first) * row, POSIX_FADV_WILLNEED));
}

NpyWriter::NpyWriter(const std::string& path, ElementType type, const std::vector<std::int64_t>& shape)
    : header_{type, element_size(type), false, shape, 0},
      missing_(header_.size()),
      file_(OutputFile::replacing("NpyWriter", path)) {
  SHRINKWARP_REQUIRE(type != ElementType::s, ValueError, file_.origin(), ": found byte strings, wanted a number type");
  const std::string head = npy_header_text(header_);
  file_.append(head.data(), static_cast<std::int64_t>(head.size()));
}

void NpyWriter::append(const void* data, std::int64_t count) {
  SHRINKWARP_REQUIRE(count >= 0 && count <= missing_, ShapeError, "NpyWriter::append: '", file_.origin().path,
                     "': ", count, " more elements, found room for ", missing_, " in shape ",
                     shape_text(header_.shape));
  file_.append(data, count * header_.item_size);
  missing_ -= count;
}

template <class T>
void NpyWriter::append_columns(MatrixView<const T> X) {
  constexpr const char* kFunction = "NpyWriter::append_rows";
  const std::int64_t cols = header_.shape.size() == 2 ? header_.shape[1] : -1;
  SHRINKWARP_REQUIRE(cols >= 0, ShapeError, kFunction, ": '", file_.origin().path, "' has shape ",
                     shape_text(header_.shape), ", wanted 2-D");
  SHRINKWARP_REQUIRE(header_.type == element_type<T>(), ValueError, kFunction, ": X holds '",
                     sizeof(T) == 4 ? "<f4" : "<f8", "', '", file_.origin().path, "' wants '", header_.descr(), "'");
  require_matrix(kFunction, "X", X, cols, X.cols);
  if (X.empty()) return;
  SHRINKWARP_REQUIRE(X.cols <= missing_ / X.rows, ShapeError, kFunction, ": '", file_.origin().path, "': ", X.cols,
                     " more rows, found room for ", missing_ / X.rows);
  if (X.ld == X.rows) return append(X.data, X.rows * X.cols);
  for (std::int64_t b = 0; b < X.cols; ++b) append(X.column(b), X.rows);
}

void NpyWriter::append_rows(MatrixView<const float> X) {
  append_columns(X);
}
void NpyWriter::append_rows(MatrixView<const double> X) {
  append_columns(X);
}

void NpyWriter::finish() {
  SHRINKWARP_REQUIRE(missing_ == 0, ShapeError, "NpyWriter::finish: '", file_.origin().path, "': ", missing_,
                     " elements are missing of shape ", shape_text(header_.shape));
  file_.commit();
}

void write_npy(const std::string& path, ElementType type, const std::vector<std::int64_t>& shape, const void* data) {
  NpyWriter writer(path, type, shape);
  writer.append(data, writer.missing());
  writer.finish();
}

namespace {

template <class T>
void write_rows(const std::string& path, MatrixView<const T> X) {
  require_matrix("write_npy_rows", "X", X, X.rows, X.cols);
  NpyWriter writer(path, element_type<T>(), {X.cols, X.rows});
  writer.append_rows(X);
  writer.finish();
}

template <class T>
void write_matrix(const std::string& path, MatrixView<const T> D) {
  require_matrix("write_npy_matrix", "D", D, D.rows, D.cols);
  NpyWriter writer(path, element_type<T>(), {D.rows, D.cols});
  std::vector<T> lines(static_cast<std::size_t>(std::min(kTile, D.rows) * D.cols));
  for (std::int64_t i0 = 0; i0 < D.rows; i0 += kTile) {
    const std::int64_t rows = std::min(kTile, D.rows - i0);
    for (std::int64_t j = 0; j < D.cols; ++j) {
      for (std::int64_t i = 0; i < rows; ++i) lines[static_cast<std::size_t>(i * D.cols + j)] = D(i0 + i, j);
    }
    writer.append(lines.data(), rows * D.cols);
  }
  writer.finish();
}

template <class T>
void write_vector(const std::string& path, VectorView<const T> values) {
  SHRINKWARP_REQUIRE(values.device.type == DeviceType::cpu, DeviceError, "write_npy_vector: values lie on ",
                     values.device, ", wanted cpu");
  write_npy(path, element_type<T>(), {values.size}, values.data);
}

}  // namespace

void write_npy_rows(const std::string& path, MatrixView<const float> X) {
  write_rows(path, X);
}
void write_npy_rows(const std::string& path, MatrixView<const double> X) {
  write_rows(path, X);
}
void write_npy_matrix(const std::string& path, MatrixView<const float> D) {
  write_matrix(path, D);
}
void write_npy_matrix(const std::string& path, MatrixView<const double> D) {
  write_matrix(path, D);
}
void write_npy_vector(const std::string& path, VectorView<const float> values) {
  write_vector(path, values);
}
void write_npy_vector(const std::string& path, VectorView<const double> values) {
  write_vector(path, values);
}

}  // namespace shrinkwarp
