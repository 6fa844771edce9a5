#include <shrinkwarp/runtime/io/npz.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <set>
#include <utility>

#include <shrinkwarp/runtime/io/npz_parts.hpp>
#include <shrinkwarp/runtime/io/zip.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kCopyBytes = 1 << 20;
constexpr std::int64_t kDiscardBytes = 64 << 20;
constexpr std::string_view kSuffix = ".npy";

}  // namespace

void require_array_name(const char* function, const std::string& name) {
  const bool clean = std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '\x7f' || c == '/' || c == '\\';
  });
  SHRINKWARP_REQUIRE(clean && !name.empty() && name.size() <= 1000, ValueError, function, ": name '", printable(name),
                     "', wanted 1 to 1000 bytes without '/', '\\' and control characters");
}

struct NpzWriter::Impl {
  struct Member {
    std::string name;
    ArrayHeader header;                // of a growing array: the shape of one row
    std::unique_ptr<OutputFile> file;  // of a growing array
    std::vector<std::byte> data;       // of one given whole
    std::int64_t count = 0;            // elements of a growing array
  };

  /// The header of a member as it stands. @throws ShapeError (it ends within a row)
  ArrayHeader complete(const Member& member) const {
    ArrayHeader header = member.header;
    if (member.file != nullptr) {
      const std::int64_t row = header.size();
      SHRINKWARP_REQUIRE(member.count % row == 0, ShapeError, "NpzWriter::finish: '", path, "', array '", member.name,
                         "': found ", member.count, " elements, wanted whole rows of ", row);
      header.shape.insert(header.shape.begin(), member.count / row);
    }
    return header;
  }

  void require_open(const char* function) const {
    SHRINKWARP_REQUIRE(!closed, ValueError, function, ": '", path, "' is finished or an earlier call failed");
  }

  /// Makes a member. @throws ValueError
  Member& claim(const char* function, const std::string& name) {
    require_open(function);
    require_array_name(function, name);
    for (const Member& member : members) {
      SHRINKWARP_REQUIRE(member.name != name, ValueError, function, ": name '", printable(name), "' is taken in '",
                         path, "'");
    }
    members.emplace_back();
    members.back().name = name;
    return members.back();
  }

  Member& growing(const char* function, int id) {
    require_open(function);
    const bool known = id >= 0 && static_cast<std::size_t>(id) < members.size() &&
                       members[static_cast<std::size_t>(id)].file != nullptr;
    SHRINKWARP_REQUIRE(known, ValueError, function, ": '", path, "': id ", id, " is of no growing array");
    return members[static_cast<std::size_t>(id)];
  }

  std::string path;
  std::vector<Member> members;  // a growing array's id is its index
  bool closed = false;          // finish has begun to write, or append has failed
};

NpzWriter::NpzWriter(const std::string& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  OutputFile::scratch("NpzWriter", path);  // only to see that a file can be made there
}
NpzWriter::NpzWriter(NpzWriter&&) noexcept = default;
NpzWriter& NpzWriter::operator=(NpzWriter&&) noexcept = default;
NpzWriter::~NpzWriter() = default;

int NpzWriter::add(const std::string& name, ElementType type, const std::vector<std::int64_t>& row_shape) {
  constexpr const char* kFunction = "NpzWriter::add";
  SHRINKWARP_REQUIRE(type != ElementType::s, ValueError, kFunction, ": '", impl_->path, "', array '", printable(name),
                     "': found byte strings, wanted a number type");
  const ArrayHeader header{type, element_size(type), false, row_shape, 0};
  SHRINKWARP_REQUIRE(header.size() > 0, ShapeError, kFunction, ": '", impl_->path, "', array '", printable(name),
                     "': row_shape ", shape_text(row_shape), ", wanted sizes > 0");
  auto file = std::make_unique<OutputFile>(OutputFile::scratch("NpzWriter", impl_->path));
  Impl::Member& member = impl_->claim(kFunction, name);
  member.header = header;
  member.file = std::move(file);
  return static_cast<int>(impl_->members.size()) - 1;
}

void NpzWriter::append(int id, const void* data, std::int64_t count) {
  Impl::Member& member = impl_->growing("NpzWriter::append", id);
  SHRINKWARP_REQUIRE(count >= 0, ShapeError, "NpzWriter::append: '", impl_->path, "': count ", count, ", wanted >= 0");
  impl_->closed = true;  // unless the bytes arrive: an archive without them must not be finished
  member.file->append(data, count * member.header.item_size);
  impl_->closed = false;
  member.count += count;
}

void NpzWriter::require_type(int id, ElementType type) const {
  const ArrayHeader& header = impl_->growing("NpzWriter::append", id).header;
  const ArrayHeader given{type, element_size(type), false, {}, 0};
  SHRINKWARP_REQUIRE(reads_as(header.type, type), ValueError, "NpzWriter::append: '", impl_->path, "', array '",
                     impl_->members[static_cast<std::size_t>(id)].name, "': found elements '", given.descr(),
                     "', wanted '", header.descr(), "'");
}

void NpzWriter::put(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape,
                    const void* data) {
  SHRINKWARP_REQUIRE(type != ElementType::s, ValueError, "NpzWriter::put: '", impl_->path, "', array '",
                     printable(name), "': found byte strings, wanted a number type");
  NpyArray array = NpyArray::of(type, shape, data);
  Impl::Member& member = impl_->claim("NpzWriter::put", name);
  member.header = std::move(array.header);
  member.data = std::move(array.data);
}

void NpzWriter::put_text(const std::string& name, std::string_view text) {
  NpyArray array = NpyArray::of_text(text);
  Impl::Member& member = impl_->claim("NpzWriter::put_text", name);
  member.header = std::move(array.header);
  member.data = std::move(array.data);
}

std::int64_t NpzWriter::size(int id) const {
  return impl_->growing("NpzWriter::size", id).count;
}

void NpzWriter::finish() {
  impl_->require_open("NpzWriter::finish");
  for (const Impl::Member& member : impl_->members) impl_->complete(member);
  impl_->closed = true;
  OutputFile output = OutputFile::replacing("NpzWriter", impl_->path);
  ZipWriter zip(output);
  std::vector<std::byte> buffer(kCopyBytes);
  for (Impl::Member& member : impl_->members) {
    const std::string head = npy_header_text(impl_->complete(member));
    const auto head_bytes = static_cast<std::int64_t>(head.size());
    const std::int64_t bytes =
        member.file ? member.count * member.header.item_size : static_cast<std::int64_t>(member.data.size());
    zip.begin(member.name + std::string(kSuffix), head_bytes + bytes);
    zip.write(head.data(), head_bytes);
    if (!member.file) zip.write(member.data.data(), bytes);
    std::int64_t discarded = 0;
    for (std::int64_t done = 0; member.file && done < bytes;) {
      const std::int64_t count = std::min(kCopyBytes, bytes - done);
      member.file->read_at(done, buffer.data(), count);
      zip.write(buffer.data(), count);
      done += count;
      if (done - discarded >= kDiscardBytes) {
        member.file->discard(discarded, done - discarded);
        discarded = done;
      }
    }
    zip.end();
    member.file.reset();  // its room on the disk is free from here on
  }
  zip.finish();
  output.commit();
}

struct NpzReader::Impl {
  InputFile file;
  std::vector<std::string> names = {};
  std::vector<ZipEntry> entries = {};  // of names
};

NpzReader::NpzReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NpzReader::NpzReader(NpzReader&&) noexcept = default;
NpzReader& NpzReader::operator=(NpzReader&&) noexcept = default;
NpzReader::~NpzReader() = default;

NpzReader NpzReader::open(const std::string& path) {
  auto impl = std::make_unique<Impl>(Impl{InputFile::open("NpzReader", path)});
  std::set<std::string> seen;
  for (ZipEntry& entry : read_zip_directory(impl->file)) {
    const std::size_t length = entry.name.size() - std::min(entry.name.size(), kSuffix.size());
    if (entry.name.compare(length, std::string::npos, kSuffix) != 0) continue;
    impl->names.push_back(entry.name.substr(0, length));
    if (!seen.insert(entry.name).second) {
      SHRINKWARP_THROW_IO(impl->file.origin(), entry.header, "found two arrays of the name '",
                          printable(impl->names.back()), "'");
    }
    impl->entries.push_back(std::move(entry));
  }
  return NpzReader(std::move(impl));
}

const std::string& NpzReader::path() const noexcept {
  return impl_->file.origin().path;
}
const std::vector<std::string>& NpzReader::names() const noexcept {
  return impl_->names;
}

bool NpzReader::contains(std::string_view name) const noexcept {
  return std::find(impl_->names.begin(), impl_->names.end(), name) != impl_->names.end();
}

NpzStream NpzReader::stream(const std::string& name) const {
  const auto found = std::find(impl_->names.begin(), impl_->names.end(), name);
  if (found == impl_->names.end()) {
    std::string list;
    for (const std::string& other : impl_->names) list += (list.empty() ? "" : ", ") + other;
    SHRINKWARP_THROW(ValueError, "NpzReader: '", path(), "' holds no array '", printable(name),
                     "', found: ", list.empty() ? "none" : printable(list, 300));
  }
  const ZipEntry& entry = impl_->entries[static_cast<std::size_t>(found - impl_->names.begin())];
  auto member = std::make_unique<ZipMember>(impl_->file, entry);
  std::vector<char> head(static_cast<std::size_t>(std::min<std::int64_t>(entry.size, 12)));
  const auto begun = static_cast<std::int64_t>(head.size());
  member->read(head.data(), begun);
  const std::int64_t head_bytes = npy_header_bytes(head.data(), begun, member->origin());
  head.resize(static_cast<std::size_t>(std::max(begun, std::min(head_bytes, entry.size))));
  member->read(head.data() + begun, static_cast<std::int64_t>(head.size()) - begun);

  ArrayHeader header = parse_npy_header(head.data(), static_cast<std::int64_t>(head.size()), member->origin());
  const std::int64_t bytes = header.bytes();
  if (entry.size - header.data_offset != bytes) {
    SHRINKWARP_THROW_IO(member->origin(), entry.header, "found ", entry.size - header.data_offset,
                        " bytes of data, wanted ", bytes, " (shape ", printable(shape_text(header.shape)), " of ",
                        header.descr(), ")");
  }
  return NpzStream(std::move(member), std::move(header));
}

NpyArray NpzReader::read(const std::string& name) const {
  NpzStream stream = this->stream(name);
  NpyArray array;
  array.header = stream.header();
  const std::int64_t bytes = array.header.bytes();
  try {
    array.data.reserve(static_cast<std::size_t>(bytes));  // address space; memory comes with the data
  } catch (const std::exception&) {                       // bad_alloc or length_error
    throw OutOfMemory(concat(stream.member_->origin(), ": no memory for ", bytes, " bytes"), __FILE__, __LINE__, bytes);
  }
  for (std::int64_t done = 0; done < bytes;) {  // in bytes: one element may be as long as the array
    const std::int64_t count = std::min(kCopyBytes, bytes - done);
    array.data.resize(static_cast<std::size_t>(done + count));
    stream.member_->read(array.data.data() + done, count);
    done += count;
  }
  if (bytes > 0) stream.member_->finish();
  return array;
}

NpzStream::NpzStream(std::unique_ptr<ZipMember> member, ArrayHeader header)
    : member_(std::move(member)), header_(std::move(header)), missing_(header_.size()) {
  if (missing_ == 0) member_->finish();
}
NpzStream::NpzStream(NpzStream&&) noexcept = default;
NpzStream& NpzStream::operator=(NpzStream&&) noexcept = default;
NpzStream::~NpzStream() = default;

void NpzStream::read(void* target, std::int64_t count) {
  SHRINKWARP_REQUIRE(count >= 0 && count <= missing_, ShapeError, "NpzStream::read: ", member_->origin(), ": found ",
                     missing_, " elements left, wanted ", count);
  if (count == 0) return;
  member_->read(target, count * header_.item_size);
  missing_ -= count;
  if (missing_ == 0) member_->finish();
}

}  // namespace shrinkwarp
