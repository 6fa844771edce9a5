// Bytes are copied as they are: npy.cpp, of the same library, refuses to be built for a machine of another byte order.
#include <shrinkwarp/runtime/io/safetensors.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <string_view>
#include <type_traits>

#include <nlohmann/json.hpp>

#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kMaxTensorsHeaderBytes = 100'000'000;  // of the format
constexpr std::size_t kTensorsAlignment = 8;                  // of the data, by spaces at the end of the header
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kSealKey = "tensors_hash";

struct TypeName {
  const char* name;
  std::int64_t size;
};
constexpr std::array<TypeName, 15> kTypes{{{"BOOL", 1},
                                           {"U8", 1},
                                           {"I8", 1},
                                           {"F8_E5M2", 1},
                                           {"F8_E4M3", 1},
                                           {"I16", 2},
                                           {"U16", 2},
                                           {"F16", 2},
                                           {"BF16", 2},
                                           {"I32", 4},
                                           {"U32", 4},
                                           {"F32", 4},
                                           {"F64", 8},
                                           {"I64", 8},
                                           {"U64", 8}}};
static_assert(kTypes.size() == static_cast<std::size_t>(StoredType::u64) + 1, "a name for each type");

std::string in_quotes(const std::string& name) {
  return "'" + printable(name) + "'";
}

/// What a message about contents in memory begins with.
std::string contents_text(const std::string& path) {
  return path.empty() ? "Safetensors" : concat(Origin{"Safetensors", path});
}

std::string layout_text(const std::vector<std::int64_t>& shape, StoredType type) {
  return concat("shape ", printable(shape_text(shape)), " of ", stored_name(type));
}

/// What a header says of a tensor.
struct Entry {
  StoredType type = StoredType::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> offsets;  // begin and end

  std::int64_t begin() const { return offsets[0]; }
  std::int64_t end() const { return offsets[1]; }
};

struct Header {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Entry> tensors;
};

/// Takes the header's JSON as the parser, which does not recurse, comes to it. Whatever does not belong at its place is
/// refused there and then, before it can nest.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const Origin& origin, Header& header) : origin_(origin), header_(header) {}

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::names;
    } else if (place_ == Place::names) {
      name_ = key_;
      place_ = name_ == kMetadata ? Place::metadata : Place::tensor;
      has_field_ = {};
    } else {
      unexpected("an object");
    }
    return true;
  }
  bool key(std::string& key) override {
    key_ = key;
    bool again = false;
    if (place_ == Place::metadata) {
      again = !header_.metadata.try_emplace(key).second;
    } else if (place_ == Place::tensor) {
      const auto field = std::find(kFields.begin(), kFields.end(), key);
      if (field == kFields.end()) fail("found the key ", in_quotes(key), ", wanted 'dtype', 'shape' or 'data_offsets'");
      again = std::exchange(has_field_[static_cast<std::size_t>(field - kFields.begin())], true);
    } else if (key == kMetadata) {
      again = std::exchange(has_metadata_, true);
    } else {
      const auto [tensor, is_new] = header_.tensors.try_emplace(key);
      entry_ = &tensor->second;
      again = !is_new;
    }
    if (again) fail("found the key ", in_quotes(key), " twice");
    return true;
  }
  bool end_object() override {
    for (std::size_t i = 0; place_ == Place::tensor && i < kFields.size(); ++i) {
      if (!has_field_[i]) fail("found no '", kFields[i], "'");
    }
    place_ = place_ == Place::names ? Place::outside : Place::names;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || key_ == kDtype) unexpected("an array");
    place_ = Place::array;
    return true;
  }
  bool end_array() override {
    place_ = Place::tensor;
    if (key_ == kOffsets && entry_->offsets.size() != 2) {
      unexpected(concat("an array of ", entry_->offsets.size(), " numbers"));
    }
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) {
      header_.metadata[key_] = text;
    } else if (place_ == Place::tensor && key_ == kDtype) {
      const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeName& t) { return text == t.name; });
      if (type == kTypes.end()) unexpected(in_quotes(text));
      entry_->type = static_cast<StoredType>(type - kTypes.begin());
    } else {
      unexpected("the string " + in_quotes(text));
    }
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (place_ != Place::array || value > std::numeric_limits<std::int64_t>::max()) unexpected(std::to_string(value));
    (key_ == kShape ? entry_->shape : entry_->offsets).push_back(static_cast<std::int64_t>(value));
    return true;
  }
  bool number_integer(std::int64_t value) override { unexpected(value == 0 ? "-0" : std::to_string(value)); }
  bool number_float(double, const std::string& text) override { unexpected(printable(text, 40)); }
  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool binary(binary_t&) override { unexpected("binary data"); }  // never comes from text

  bool parse_error(std::size_t position, const std::string& last, const nlohmann::detail::exception&) override {
    const std::string_view text = last;
    const std::size_t shown = std::min<std::size_t>(text.size(), 30);
    const std::int64_t at = kLengthBytes + static_cast<std::int64_t>(position);
    SHRINKWARP_THROW_IO(origin_, at, "header: found '", printable(text.substr(text.size() - shown), 120),
                        "' up to byte ", at, ", wanted valid JSON");
  }

 private:
  enum class Place { outside, names, metadata, tensor, array };
  static constexpr std::string_view kDtype = "dtype";
  static constexpr std::string_view kShape = "shape";
  static constexpr std::string_view kOffsets = "data_offsets";
  static constexpr std::array<std::string_view, 3> kFields{kDtype, kShape, kOffsets};

  template <class... Args>
  [[noreturn]] void fail(const Args&... args) const {
    const bool inside = place_ != Place::outside && place_ != Place::names;
    SHRINKWARP_THROW_IO(origin_, kLengthBytes, "header", inside ? ", " + in_quotes(name_) : "", ": ", args...);
  }
  /// Where a value of another kind is wanted.
  [[noreturn]] void unexpected(const std::string& found) const {
    fail("found ", found, " for ", in_quotes(key_), ", wanted ", wanted());
  }
  std::string wanted() const {
    if (place_ == Place::metadata) return "a string";
    if (place_ == Place::array) return "integers from 0 to 2^63 - 1";
    if (place_ != Place::tensor) return "an object";
    if (key_ == kShape) return "an array of sizes";
    if (key_ == kOffsets) return "an array of 2 numbers";
    std::string names;
    for (const TypeName& type : kTypes) names += concat(names.empty() ? "one of " : ", ", type.name);
    return names;
  }

  const Origin& origin_;
  Header& header_;
  Place place_ = Place::outside;
  std::string name_;  // of the tensor, or __metadata__
  std::string key_;   // the last one, in whatever object
  Entry* entry_ = nullptr;
  bool has_metadata_ = false;
  std::array<bool, 3> has_field_{};
};

Header parse_header(const std::string& text, const Origin& origin) {
  // The parser would pass over a byte order mark and take a zero for the end.
  if (text.empty() || text[0] != '{') {
    SHRINKWARP_THROW_IO(origin, kLengthBytes, "header: found '", printable(text.substr(0, 20)),
                        "' at its beginning, wanted '{'");
  }
  const std::size_t zero = text.find('\0');
  if (zero != std::string::npos) {
    const std::int64_t at = kLengthBytes + static_cast<std::int64_t>(zero);
    SHRINKWARP_THROW_IO(origin, at, "header: found a zero at byte ", at, ", wanted valid JSON");
  }
  Header header;
  HeaderReader reader(origin, header);
  nlohmann::json::sax_parse(text, &reader);
  return header;
}

using NamedEntry = std::pair<const std::string, Entry>;

/// The tensors in the order of their data, which fill `data_bytes` bytes: each is as long as it says, and begins where
/// the one before ends. @throws IoError
std::vector<const NamedEntry*> in_file_order(const Header& header, std::int64_t data_bytes, const Origin& origin) {
  std::vector<const NamedEntry*> order;
  for (const NamedEntry& tensor : header.tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(),
                   [](const NamedEntry* a, const NamedEntry* b) { return a->second.offsets < b->second.offsets; });
  std::int64_t filled = 0;
  const std::string* last = nullptr;
  const auto behind = [&] { return last == nullptr ? "" : concat(", where ", in_quotes(*last), " ends"); };
  for (const NamedEntry* tensor : order) {
    const Entry& entry = tensor->second;
    const std::string subject = concat("tensor ", in_quotes(tensor->first), ": ");
    const std::int64_t bytes = array_bytes(entry.shape, stored_size(entry.type));
    if (bytes < 0) {
      SHRINKWARP_THROW_IO(origin, kLengthBytes, subject, "found ", layout_text(entry.shape, entry.type),
                          ", wanted less than 2^63 bytes");
    }
    if (entry.end() < entry.begin() || entry.end() - entry.begin() != bytes) {
      SHRINKWARP_THROW_IO(origin, kLengthBytes, subject, "found data_offsets ", entry.begin(), " to ", entry.end(),
                          ", wanted ", bytes, " bytes (", layout_text(entry.shape, entry.type), ")");
    }
    if (entry.begin() != filled) {
      SHRINKWARP_THROW_IO(origin, kLengthBytes, subject, "found data_offsets that begin at ", entry.begin(),
                          ", wanted ", filled, behind());
    }
    filled = entry.end();
    last = &tensor->first;
  }
  if (filled != data_bytes) {
    SHRINKWARP_THROW_IO(origin, -1, "found ", data_bytes, " bytes of data, wanted ", filled, behind());
  }
  return order;
}

/// Makes room for what a file really has. @throws OutOfMemory
template <class Container>
void make_room(Container& container, std::int64_t bytes, const Origin& origin) {
  try {
    container.resize(static_cast<std::size_t>(bytes));
  } catch (const std::exception&) {  // bad_alloc or length_error
    throw OutOfMemory(concat(origin, ": no memory for ", bytes, " bytes"), __FILE__, __LINE__, bytes);
  }
}

/// A JSON string. @param what  what it is, for the message @throws ValueError
std::string json_text(const std::string& text, const char* what, const Origin& origin) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    SHRINKWARP_THROW(ValueError, origin, ": ", what, " ", in_quotes(text), ", wanted UTF-8");
  }
}

}  // namespace

std::int64_t stored_size(StoredType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].size;
}

const char* stored_name(StoredType type) noexcept {
  return kTypes[static_cast<std::size_t>(type)].name;
}

// Names, types, shapes and elements.
std::string Safetensors::tensors_hash() const {
  Hash hash;
  for (const auto& [name, tensor] : tensors_) {
    const std::string layout = name + '\0' + layout_text(tensor.shape, tensor.type);
    hash.add(layout.data(), static_cast<std::int64_t>(layout.size()));
    hash.add(tensor.bytes.data(), static_cast<std::int64_t>(tensor.bytes.size()));
  }
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash.value()));
  return text;
}

void Safetensors::seal() {
  metadata[kSealKey] = tensors_hash();
}

bool Safetensors::is_intact() const {
  const auto found = metadata.find(kSealKey);
  return found == metadata.end() || found->second == tensors_hash();
}

const StoredTensor& Safetensors::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    std::string list;
    for (const auto& tensor : tensors_) list += (list.empty() ? "" : ", ") + tensor.first;
    SHRINKWARP_THROW(ValueError, contents_text(path_), " holds no tensor ", in_quotes(name),
                     ", found: ", list.empty() ? "none" : printable(list, 200));
  }
  return found->second;
}

void Safetensors::add(const std::string& name, StoredTensor tensor) {
  SHRINKWARP_REQUIRE(name != kMetadata, ValueError, "Safetensors::add: found the name '", kMetadata,
                     "', which is the format's own, wanted another");
  const std::int64_t wanted = array_bytes(tensor.shape, stored_size(tensor.type));
  SHRINKWARP_REQUIRE(wanted == static_cast<std::int64_t>(tensor.bytes.size()), ShapeError, "Safetensors::add: tensor ",
                     in_quotes(name), ": found ", tensor.bytes.size(), " bytes and ",
                     layout_text(tensor.shape, tensor.type), ", wanted sizes >= 0 and as many bytes");
  const bool is_new = tensors_.try_emplace(name, std::move(tensor)).second;
  SHRINKWARP_REQUIRE(is_new, ValueError, "Safetensors::add: name ", in_quotes(name), " is taken");
}

template <class T>
std::vector<T> Safetensors::values(const std::string& name, const std::vector<std::int64_t>& shape) const {
  const StoredTensor& tensor = at(name);
  const auto subject = [&] { return concat(contents_text(path_), ", tensor ", in_quotes(name), ": "); };
  SHRINKWARP_REQUIRE(tensor.shape == shape, ShapeError, subject(), "found shape ", printable(shape_text(tensor.shape)),
                     ", wanted ", printable(shape_text(shape)));
  std::vector<T> values(tensor.bytes.size() / static_cast<std::size_t>(stored_size(tensor.type)));
  const auto copy = [&](auto stored) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::memcpy(&stored, tensor.bytes.data() + i * sizeof(stored), sizeof(stored));
      values[i] = static_cast<T>(stored);
    }
  };
  if (tensor.type == stored_type<T>()) {
    copy(T{});
  } else if (std::is_floating_point_v<T> && tensor.type == StoredType::f32) {
    copy(float{});
  } else if (std::is_floating_point_v<T> && tensor.type == StoredType::f64) {
    copy(double{});
  } else {
    SHRINKWARP_THROW(ValueError, subject(), "found elements ", stored_name(tensor.type), ", wanted ",
                     std::is_floating_point_v<T> ? "F32 or F64" : stored_name(stored_type<T>()));
  }
  return values;
}
template std::vector<std::uint8_t> Safetensors::values(const std::string&, const std::vector<std::int64_t>&) const;
template std::vector<std::int32_t> Safetensors::values(const std::string&, const std::vector<std::int64_t>&) const;
template std::vector<std::int64_t> Safetensors::values(const std::string&, const std::vector<std::int64_t>&) const;
template std::vector<std::uint64_t> Safetensors::values(const std::string&, const std::vector<std::int64_t>&) const;
template std::vector<float> Safetensors::values(const std::string&, const std::vector<std::int64_t>&) const;
template std::vector<double> Safetensors::values(const std::string&, const std::vector<std::int64_t>&) const;

Safetensors read_safetensors(const std::string& path) {
  const InputFile file = InputFile::open("read_safetensors", path);
  const Origin& origin = file.origin();
  if (file.size() < kLengthBytes) {
    SHRINKWARP_THROW_IO(origin, 0, "found ", file.size(), " bytes, wanted at least ", kLengthBytes);
  }
  std::uint64_t length = 0;
  file.read(0, &length, kLengthBytes);
  const std::int64_t most = std::min(kMaxTensorsHeaderBytes, file.size() - kLengthBytes);
  if (length > static_cast<std::uint64_t>(most)) {
    SHRINKWARP_THROW_IO(origin, 0, "found a header of ", length, " bytes in a file of ", file.size(),
                        ", wanted at most ", most, " (no safetensors file?)");
  }
  const std::int64_t data = kLengthBytes + static_cast<std::int64_t>(length);
  std::string text;
  make_room(text, data - kLengthBytes, origin);
  file.read(kLengthBytes, text.data(), data - kLengthBytes);
  Header header = parse_header(text, origin);

  Safetensors contents;
  contents.path_ = path;
  for (const NamedEntry* tensor : in_file_order(header, file.size() - data, origin)) {
    const auto& [name, entry] = *tensor;
    StoredTensor& stored = contents.tensors_[name];
    stored.type = entry.type;
    stored.shape = entry.shape;
    make_room(stored.bytes, entry.end() - entry.begin(), origin);
    file.read(data + entry.begin(), stored.bytes.data(), entry.end() - entry.begin());
  }
  contents.metadata = std::move(header.metadata);
  return contents;
}

void write_safetensors(const std::string& path, const Safetensors& contents) {
  const Origin origin{"write_safetensors", path};
  std::vector<const std::pair<const std::string, StoredTensor>*> order;
  for (const auto& tensor : contents.tensors()) order.push_back(&tensor);
  // The order of the types is one of their sizes, so this aligns each tensor without a hole.
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->second.type > b->second.type; });

  std::string header = "{";
  const auto comma = [&] { return header.back() == '{' ? "" : ","; };
  if (!contents.metadata.empty()) {
    header += concat('"', kMetadata, "\":{");
    for (const auto& [key, text] : contents.metadata) {
      header += comma() + json_text(key, "metadata key", origin) + ":" + json_text(text, "metadata text", origin);
    }
    header += '}';
  }
  std::int64_t offset = 0;
  for (const auto* tensor : order) {
    const auto& [name, stored] = *tensor;
    const std::int64_t end = offset + static_cast<std::int64_t>(stored.bytes.size());
    header += comma() + json_text(name, "tensor name", origin);
    header += concat(":{\"dtype\":\"", stored_name(stored.type), "\",\"shape\":", nlohmann::json(stored.shape).dump(),
                     ",\"data_offsets\":[", offset, ",", end, "]}");
    offset = end;
  }
  header += '}';
  header.resize((header.size() + kTensorsAlignment - 1) / kTensorsAlignment * kTensorsAlignment, ' ');
  const std::uint64_t length = header.size();
  SHRINKWARP_REQUIRE(length <= static_cast<std::uint64_t>(kMaxTensorsHeaderBytes), ValueError, origin,
                     ": names and metadata make a header of ", length, " bytes, wanted at most ",
                     kMaxTensorsHeaderBytes);

  OutputFile file = OutputFile::replacing(origin.function, path);
  file.append(&length, kLengthBytes);
  file.append(header.data(), static_cast<std::int64_t>(header.size()));
  for (const auto* tensor : order) {
    file.append(tensor->second.bytes.data(), static_cast<std::int64_t>(tensor->second.bytes.size()));
  }
  file.commit();
}

}  // namespace shrinkwarp
