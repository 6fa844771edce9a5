#include <shrinkwarp/runtime/io/zip.hpp>

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

namespace shrinkwarp {
namespace {

constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kCentralSignature = 0x02014b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::uint32_t kLocator64Signature = 0x07064b50;
constexpr std::int64_t kLocalBytes = 30;
constexpr std::int64_t kCentralBytes = 46;
constexpr std::int64_t kEndBytes = 22;
constexpr std::int64_t kEnd64Bytes = 56;
constexpr std::int64_t kLocator64Bytes = 20;
constexpr std::int64_t kLongestComment = 0xffff;
constexpr std::int64_t kCrcWithinLocal = 14;
constexpr std::uint16_t kZip64Extra = 1;
constexpr std::int64_t kZip64ExtraBytes = 20;  // of a local header
constexpr std::uint64_t kFull16 = 0xffff;
constexpr std::uint64_t kFull32 = 0xffffffff;

constexpr std::uint16_t kVersionPlain = 20;
constexpr std::uint16_t kVersionZip64 = 45;
constexpr std::uint16_t kMadeOnUnix = 3 << 8;
constexpr std::uint32_t kMode = 0100644u << 16;  // a regular file, rw-r--r--
constexpr std::uint16_t kTime = 0;
constexpr std::uint16_t kDate = 1 << 5 | 1;  // 1 January 1980, the first that a zip can hold
constexpr int kFlagEncrypted = 1;
constexpr int kFlagUtf8 = 1 << 11;

constexpr std::int64_t kMaxDirectoryBytes = 64 << 20;
constexpr std::int64_t kLargestDeflateRatio = 1032;  // a property of the format: 258 bytes for two bits
constexpr std::int64_t kInputBytes = 64 * 1024;

/// Collects little-endian numbers.
class Bytes {
 public:
  Bytes& put(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) text_ += static_cast<char>(value >> 8 * i & 0xff);
    return *this;
  }
  Bytes& u16(std::uint64_t value) { return put(value, 2); }
  Bytes& u32(std::uint64_t value) { return put(value, 4); }
  Bytes& u64(std::uint64_t value) { return put(value, 8); }
  Bytes& text(const std::string& text) {
    text_ += text;
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

std::uint64_t number(const char* from, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= static_cast<std::uint64_t>(static_cast<unsigned char>(from[i])) << 8 * i;
  return value;
}
std::uint64_t u16(const char* from) {
  return number(from, 2);
}
std::uint64_t u32(const char* from) {
  return number(from, 4);
}
std::uint64_t u64(const char* from) {
  return number(from, 8);
}

void append(OutputFile& file, const Bytes& bytes) {
  file.append(bytes.str().data(), static_cast<std::int64_t>(bytes.str().size()));
}

}  // namespace

std::uint32_t zip_checksum(std::uint32_t crc, const void* data, std::int64_t bytes) noexcept {
  if (bytes == 0) return crc;  // zlib begins anew at a null pointer
  return static_cast<std::uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), static_cast<z_size_t>(bytes)));
}

std::uint32_t zip_checksum_of_both(std::uint32_t first, std::uint32_t second, std::int64_t bytes) noexcept {
  return static_cast<std::uint32_t>(crc32_combine(first, second, static_cast<z_off_t>(bytes)));
}

std::int64_t zip_local_bytes(const std::string& name, std::int64_t size, std::int64_t limit) {
  return kLocalBytes + static_cast<std::int64_t>(name.size()) + (size >= limit ? kZip64ExtraBytes : 0);
}

void ZipWriter::begin(const std::string& name, std::int64_t size) {
  ZipEntry entry;
  entry.name = name;
  const bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
  entry.flags = ascii ? 0 : kFlagUtf8;
  entry.packed = size;
  entry.size = size;
  entry.header = file_.size();
  const bool large = size >= limit_;
  const std::uint64_t size32 = large ? kFull32 : static_cast<std::uint64_t>(size);
  Bytes local;
  local.u32(kLocalSignature).u16(large ? kVersionZip64 : kVersionPlain).u16(static_cast<std::uint64_t>(entry.flags));
  local.u16(0).u16(kTime).u16(kDate).u32(0 /* the checksum, see end() */).u32(size32).u32(size32);
  local.u16(name.size()).u16(large ? kZip64ExtraBytes : 0).text(name);
  if (large) {
    local.u16(kZip64Extra).u16(16).u64(static_cast<std::uint64_t>(size)).u64(static_cast<std::uint64_t>(size));
  }
  append(file_, local);
  entries_.push_back(std::move(entry));
  missing_ = size;
}

void ZipWriter::write(const void* data, std::int64_t bytes) {
  file_.append(data, bytes);
  entries_.back().crc = zip_checksum(entries_.back().crc, data, bytes);
  missing_ -= bytes;
}

void ZipWriter::skip(std::int64_t bytes, std::uint32_t crc) {
  file_.skip(bytes);
  entries_.back().crc = zip_checksum_of_both(entries_.back().crc, crc, bytes);
  missing_ -= bytes;
}

void ZipWriter::end() {
  SHRINKWARP_REQUIRE(missing_ == 0, ShapeError, "ZipWriter::end: ", file_.origin(), ": ", missing_,
                     " bytes are missing of member '", printable(entries_.back().name), "'");
  const Bytes crc = Bytes().u32(entries_.back().crc);
  file_.write_at(entries_.back().header + kCrcWithinLocal, crc.str().data(), 4);
}

void ZipWriter::finish() {
  const std::int64_t begin = file_.size();
  for (const ZipEntry& entry : entries_) {
    const bool large = entry.size >= limit_;
    const bool far = entry.header >= limit_;
    const std::uint64_t size32 = large ? kFull32 : static_cast<std::uint64_t>(entry.size);
    const std::uint16_t version = large || far ? kVersionZip64 : kVersionPlain;
    Bytes extra;
    if (large) extra.u64(static_cast<std::uint64_t>(entry.size)).u64(static_cast<std::uint64_t>(entry.packed));
    if (far) extra.u64(static_cast<std::uint64_t>(entry.header));
    Bytes central;
    central.u32(kCentralSignature).u16(kMadeOnUnix | version).u16(version).u16(static_cast<std::uint64_t>(entry.flags));
    central.u16(0).u16(kTime).u16(kDate).u32(entry.crc).u32(size32).u32(size32);
    central.u16(entry.name.size()).u16(extra.str().empty() ? 0 : extra.str().size() + 4);
    central.u16(0 /* comment */).u16(0 /* disk */).u16(0 /* internal attributes */).u32(kMode);
    central.u32(far ? kFull32 : static_cast<std::uint64_t>(entry.header)).text(entry.name);
    if (!extra.str().empty()) central.u16(kZip64Extra).u16(extra.str().size()).text(extra.str());
    append(file_, central);
  }
  const std::int64_t end = file_.size();
  const auto count = static_cast<std::uint64_t>(entries_.size());
  const auto bytes = static_cast<std::uint64_t>(end - begin);
  const bool large = count >= kFull16 || end - begin >= limit_ || begin >= limit_;
  Bytes last;
  if (large) {
    last.u32(kEnd64Signature).u64(kEnd64Bytes - 12).u16(kMadeOnUnix | kVersionZip64).u16(kVersionZip64).u32(0).u32(0);
    last.u64(count).u64(count).u64(bytes).u64(static_cast<std::uint64_t>(begin));
    last.u32(kLocator64Signature).u32(0).u64(static_cast<std::uint64_t>(end)).u32(1);
  }
  last.u32(kEndSignature).u16(0).u16(0).u16(large ? kFull16 : count).u16(large ? kFull16 : count);
  last.u32(large ? kFull32 : bytes).u32(large ? kFull32 : static_cast<std::uint64_t>(begin)).u16(0);
  append(file_, last);
}

std::vector<ZipEntry> read_zip_directory(const InputFile& file) {
  const Origin& origin = file.origin();
  const auto damaged = [&](std::int64_t offset, const auto&... what) {
    SHRINKWARP_THROW_IO(origin, offset, "the archive is damaged: ", what...);
  };

  // The end record is the last thing in the file but for a comment that it announces.
  const std::int64_t tail_bytes = std::min(file.size(), kLongestComment + kEndBytes);
  const std::int64_t tail_begin = file.size() - tail_bytes;
  std::string tail(static_cast<std::size_t>(tail_bytes), '\0');
  file.read(tail_begin, tail.data(), tail_bytes);
  std::int64_t at = tail_bytes - kEndBytes;
  while (at >= 0 && !(u32(tail.data() + at) == kEndSignature &&
                      at + kEndBytes + static_cast<std::int64_t>(u16(tail.data() + at + 20)) == tail_bytes)) {
    --at;
  }
  if (at < 0) {
    char head[4] = {};
    const std::int64_t count = std::min<std::int64_t>(file.size(), sizeof head);
    file.read(0, head, count);
    if (count == 0) SHRINKWARP_THROW_IO(origin, 0, "is empty, wanted a zip archive");
    if (count == 4 && u32(head) == kLocalSignature) {
      SHRINKWARP_THROW_IO(origin, file.size(),
                          "begins as a zip archive but has no directory at its end: it is cut short");
    }
    SHRINKWARP_THROW_IO(origin, 0, "begins with '", printable({head, static_cast<std::size_t>(count)}),
                        "', wanted a zip archive");
  }
  const char* end = tail.data() + at;
  std::int64_t limit = tail_begin + at;  // what the directory must lie before
  std::uint64_t disks = u16(end + 4) | u16(end + 6);
  std::uint64_t count = u16(end + 10);
  std::uint64_t bytes = u32(end + 12);
  std::uint64_t begin = u32(end + 16);
  if ((count == kFull16 || bytes == kFull32 || begin == kFull32) && limit >= kLocator64Bytes) {
    char locator[kLocator64Bytes];
    file.read(limit - kLocator64Bytes, locator, kLocator64Bytes);
    if (u32(locator) == kLocator64Signature) {
      const std::uint64_t where = u64(locator + 8);
      if (where > static_cast<std::uint64_t>(limit - kLocator64Bytes) ||
          limit - kLocator64Bytes - static_cast<std::int64_t>(where) < kEnd64Bytes) {
        damaged(limit - kLocator64Bytes, "found its zip64 end at offset ", where, ", wanted one before ", limit);
      }
      limit = static_cast<std::int64_t>(where);
      char end64[kEnd64Bytes];
      file.read(limit, end64, kEnd64Bytes);
      if (u32(end64) != kEnd64Signature) damaged(limit, "found no zip64 end at offset ", limit);
      disks = u32(end64 + 16) | u32(end64 + 20);
      count = u64(end64 + 32);
      bytes = u64(end64 + 40);
      begin = u64(end64 + 48);
    }
  }
  if (disks != 0) SHRINKWARP_THROW_IO(origin, limit, "is one part of several, wanted a whole archive");
  if (begin > static_cast<std::uint64_t>(limit) || bytes > static_cast<std::uint64_t>(limit) - begin) {
    damaged(limit, "found a directory of ", bytes, " bytes at offset ", begin, ", wanted one that ends before ", limit);
  }
  if (bytes > kMaxDirectoryBytes) {
    SHRINKWARP_THROW_IO(origin, static_cast<std::int64_t>(begin), "found a directory of ", bytes,
                        " bytes, wanted at most ", kMaxDirectoryBytes);
  }

  std::string directory(bytes, '\0');
  file.read(static_cast<std::int64_t>(begin), directory.data(), static_cast<std::int64_t>(bytes));
  std::vector<ZipEntry> entries;
  const std::string_view all = directory;
  for (std::size_t next = 0; next < all.size();) {
    const auto offset = static_cast<std::int64_t>(begin + next);
    const std::string_view rest = all.substr(next);
    if (rest.size() < kCentralBytes || u32(rest.data()) != kCentralSignature) {
      damaged(offset, "found no directory entry at offset ", offset);
    }
    const char* central = rest.data();
    const std::size_t name_bytes = u16(central + 28);
    const std::size_t extra_bytes = u16(central + 30);
    const std::size_t whole = kCentralBytes + name_bytes + extra_bytes + u16(central + 32);
    if (rest.size() < whole) damaged(offset, "the directory ends within an entry at offset ", offset);
    ZipEntry entry;
    entry.name = rest.substr(kCentralBytes, name_bytes);
    entry.flags = static_cast<int>(u16(central + 8));
    entry.method = static_cast<int>(u16(central + 10));
    entry.crc = static_cast<std::uint32_t>(u32(central + 16));
    std::uint64_t packed = u32(central + 20);
    std::uint64_t size = u32(central + 24);
    std::uint64_t header = u32(central + 42);
    // The zip64 field holds, in this order, those of the three that do not fit into 32 bits.
    std::string_view extra = rest.substr(kCentralBytes + name_bytes, extra_bytes);
    while (extra.size() >= 4) {
      const std::size_t length = u16(extra.data() + 2);
      if (extra.size() < 4 + length) break;
      if (u16(extra.data()) == kZip64Extra) {
        std::string_view field = extra.substr(4, length);
        for (std::uint64_t* value : {&size, &packed, &header}) {
          if (*value != kFull32) continue;
          if (field.size() < 8) damaged(offset, "the zip64 field of an entry at offset ", offset, " is too short");
          *value = u64(field.data());
          field.remove_prefix(8);
        }
        break;
      }
      extra.remove_prefix(4 + length);
    }
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (packed > begin || header > begin - packed || size > kMost) {
      damaged(offset, "member '", printable(entry.name), "' is said to have ", packed, " bytes at offset ", header,
              ", wanted an end before ", begin);
    }
    entry.packed = static_cast<std::int64_t>(packed);
    entry.size = static_cast<std::int64_t>(size);
    entry.header = static_cast<std::int64_t>(header);
    entries.push_back(std::move(entry));
    next += whole;
  }
  if (entries.size() != count) damaged(limit, "found ", entries.size(), " members, its end record says ", count);
  return entries;
}

struct ZipMember::Inflater {
  z_stream stream{};
  bool ended = false;
  std::vector<Bytef> input = std::vector<Bytef>(kInputBytes);

  Inflater() {
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw no_memory();
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  static OutOfMemory no_memory() {
    return OutOfMemory("ZipMember: no memory to inflate with", __FILE__, __LINE__, kInputBytes);
  }
};

ZipMember::ZipMember(const InputFile& file, const ZipEntry& entry)
    : file_(file),
      origin_{file.origin().function, file.origin().path, entry.name},
      packed_(entry.packed),
      left_(entry.size),
      wanted_crc_(entry.crc) {
  if ((entry.flags & kFlagEncrypted) != 0) SHRINKWARP_THROW_IO(origin_, entry.header, "is encrypted");
  if (entry.method != 0 && entry.method != Z_DEFLATED) {
    SHRINKWARP_THROW_IO(origin_, entry.header, "found compression method ", entry.method,
                        ", wanted 0 (stored) or 8 (deflated)");
  }
  if (entry.method == 0 ? entry.size != entry.packed : entry.size / kLargestDeflateRatio > entry.packed) {
    SHRINKWARP_THROW_IO(origin_, entry.header, "is said to have ", entry.size, " bytes out of ", entry.packed,
                        ", which cannot be");
  }
  char local[kLocalBytes];
  file.read(entry.header, local, kLocalBytes);
  if (u32(local) != kLocalSignature) {
    SHRINKWARP_THROW_IO(origin_, entry.header, "found no member at offset ", entry.header);
  }
  next_ = entry.header + kLocalBytes + static_cast<std::int64_t>(u16(local + 26) + u16(local + 28));
  if (entry.method == Z_DEFLATED) inflater_ = std::make_unique<Inflater>();
}

ZipMember::~ZipMember() = default;

/// Unpacks at most `bytes` bytes; fewer only at the end of the data.
std::int64_t ZipMember::inflate_some(void* target, std::int64_t bytes) {
  z_stream& stream = inflater_->stream;
  auto* to = static_cast<Bytef*>(target);
  std::int64_t done = 0;
  while (done < bytes && !inflater_->ended) {
    if (stream.avail_in == 0 && packed_ > 0) {
      const std::int64_t count = std::min(packed_, kInputBytes);
      file_.read(next_, inflater_->input.data(), count);
      next_ += count;
      packed_ -= count;
      stream.next_in = inflater_->input.data();
      stream.avail_in = static_cast<uInt>(count);
    }
    const auto room = static_cast<uInt>(std::min<std::int64_t>(bytes - done, 1 << 30));
    stream.next_out = to + done;
    stream.avail_out = room;
    const int code = inflate(&stream, Z_NO_FLUSH);
    done += room - stream.avail_out;
    inflater_->ended = code == Z_STREAM_END;
    if (code == Z_BUF_ERROR) break;  // no input is left and none of it asks for room
    if (code == Z_MEM_ERROR) throw Inflater::no_memory();
    if (code != Z_OK && code != Z_STREAM_END) {
      SHRINKWARP_THROW_IO(origin_, next_ - stream.avail_in, "the compressed data are damaged",
                          stream.msg != nullptr ? concat(": ", stream.msg) : "");
    }
  }
  return done;
}

void ZipMember::read(void* target, std::int64_t bytes) {
  std::int64_t found = std::min(bytes, left_);
  if (inflater_) {
    found = inflate_some(target, found);
  } else {
    file_.read(next_, target, found);
    next_ += found;
  }
  crc_ = zip_checksum(crc_, target, found);
  left_ -= found;
  if (found < bytes) {
    SHRINKWARP_THROW_IO(origin_, next_, "is cut short: found ", found, " bytes, wanted ", bytes, " more");
  }
}

void ZipMember::finish() {
  char more = 0;
  if (left_ != 0 || (inflater_ && (inflate_some(&more, 1) != 0 || !inflater_->ended))) {
    SHRINKWARP_THROW_IO(origin_, next_, "does not end where its size says");
  }
  if (crc_ != wanted_crc_) {
    SHRINKWARP_THROW_IO(origin_, next_, "the checksum of the data is ", crc_, ", wanted ", wanted_crc_);
  }
}

}  // namespace shrinkwarp
