#include <shrinkwarp/runtime/io/journal.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include <shrinkwarp/runtime/io/hash.hpp>

namespace shrinkwarp {
namespace {

constexpr std::string_view kMagic = "shrinkwarp-jrn-1";
constexpr std::size_t kMagicName = kMagic.size() - 1;  // without the version
constexpr std::int64_t kStart = static_cast<std::int64_t>(kMagic.size());
constexpr std::int64_t kMaxHeader = 65536;
constexpr std::int64_t kBlock = 1 << 20;
constexpr std::chrono::seconds kSyncEvery{2};

struct Frame {
  std::int64_t bytes;
  std::uint64_t checksum;
};
static_assert(sizeof(Frame) == 16);
constexpr std::int64_t kFrame = sizeof(Frame);

// Seeded with its place, so that bytes of another place, or zeros, are no record.
Hash begin_checksum(std::int64_t offset, std::int64_t bytes) {
  Hash hash(static_cast<std::uint64_t>(offset));
  hash.add(&bytes, sizeof bytes);
  return hash;
}

bool unsupported(int error) {
  return error == ENOSYS || error == EOPNOTSUPP || error == ENOLCK || error == EINVAL;
}

/// Locks the file as long as it is open, by whatever lock its file system has; where it has none the file stays unlocked.
/// @return 0, EWOULDBLOCK (another has the lock), or an error of the system
int lock(int descriptor) {
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return 0;
  if (!unsupported(errno)) return errno;
#ifdef F_OFD_SETLK
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(descriptor, F_OFD_SETLK, &whole) == 0) return 0;
  if (errno == EACCES || errno == EAGAIN) return EWOULDBLOCK;
  if (!unsupported(errno)) return errno;
#endif
  return 0;
}

}  // namespace

Journal Journal::open(const char* function, const std::string& path) {
  for (;;) {
    Origin origin{function, path};
    // O_NONBLOCK: a FIFO would hold us here; it means nothing to a regular file.
    constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int descriptor = ::open(path.c_str(), kFlags | O_EXCL, 0666);
    const bool made = descriptor >= 0;
    if (!made && errno == EEXIST) descriptor = ::open(path.c_str(), kFlags, 0666);
    if (descriptor < 0) {
      const int error = errno;
      SHRINKWARP_THROW_IO(origin, -1, "cannot be opened or made: ", system_reason(error));
    }
    Journal journal(std::move(origin), descriptor);
    bool in_use = false;
    try {
      struct stat opened;
      if (::fstat(descriptor, &opened) != 0) journal.fail("examine", errno);
      if (!S_ISREG(opened.st_mode))
        SHRINKWARP_THROW_IO(journal.origin_, -1, "found ", kind_of_file(opened.st_mode), ", wanted a journal");
      const int error = lock(descriptor);
      in_use = error == EWOULDBLOCK;
      if (in_use) SHRINKWARP_THROW_IO(journal.origin_, -1, "is in use by another process");
      if (error != 0) journal.fail("lock", error);
      // Who had the lock before may have removed the file: then this is a nameless one, and the name another's.
      struct stat named;
      if (::stat(path.c_str(), &named) != 0 || named.st_ino != opened.st_ino || named.st_dev != opened.st_dev) continue;
      if (::fstat(descriptor, &opened) != 0) journal.fail("examine", errno);  // its size under the lock
      journal.file_size_ = opened.st_size;
      journal.read_existing();
      return journal;
    } catch (...) {
      if (made && !in_use) ::unlink(path.c_str());
      throw;
    }
  }
}

Journal::Journal(Journal&& other) noexcept
    : origin_(std::move(other.origin_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      header_(std::move(other.header_)),
      first_(other.first_),
      end_(other.end_),
      file_size_(other.file_size_),
      synced_(other.synced_),
      name_synced_(other.name_synced_),
      last_sync_(other.last_sync_) {}

Journal& Journal::operator=(Journal&& other) noexcept {
  std::swap(origin_, other.origin_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(header_, other.header_);
  std::swap(first_, other.first_);
  std::swap(end_, other.end_);
  std::swap(file_size_, other.file_size_);
  std::swap(synced_, other.synced_);
  std::swap(name_synced_, other.name_synced_);
  std::swap(last_sync_, other.last_sync_);
  return *this;
}

Journal::~Journal() {
  if (descriptor_ < 0) return;
  try {
    if (!synced_) sync();
  } catch (...) {  // it is as safe as the system has it
  }
  ::close(descriptor_);
}

void Journal::fail(const char* doing, int error) const {
  SHRINKWARP_THROW_IO(origin_, end_, "cannot ", doing, " this file: ", system_reason(error));
}

// Finds the header and the end of the last good record.
void Journal::read_existing() {
  std::string magic(static_cast<std::size_t>(std::min(file_size_, kStart)), '\0');
  read(0, magic.data(), static_cast<std::int64_t>(magic.size()));
  if (magic != kMagic.substr(0, magic.size())) {
    if (magic.compare(0, kMagicName, kMagic, 0, kMagicName) == 0)
      SHRINKWARP_THROW_IO(origin_, kStart - 1, "is a journal of version '", printable(magic.substr(kMagicName)),
                          "', wanted '", kMagic.substr(kMagicName), "'");
    SHRINKWARP_THROW_IO(origin_, 0, "begins with '", printable(magic), "', wanted '", kMagic, "' (a journal)");
  }
  if (file_size_ < kStart + kFrame) return;  // no header yet

  Frame frame;
  read(kStart, &frame, kFrame);
  if (frame.bytes == 0 && frame.checksum == 0) return;  // its maker ended while writing it
  const std::int64_t length = frame.bytes;
  if (length < 1 || length > kMaxHeader)
    SHRINKWARP_THROW_IO(origin_, kStart, "found a header of ", length, " bytes, wanted 1 to ", kMaxHeader,
                        ": the journal is damaged at its beginning");
  if (length > file_size_ - kStart - kFrame) return;  // the same
  if (!good_record(kStart, first_))
    SHRINKWARP_THROW_IO(origin_, kStart, "the checksum of the header does not fit: the journal is damaged");
  header_.resize(static_cast<std::size_t>(length));
  read(kStart + kFrame, header_.data(), length);
  end_ = first_;
  for (std::int64_t next = 0; good_record(end_, next); end_ = next) {
  }
}

// Whether a record begins at `offset`, and where it ends.
bool Journal::good_record(std::int64_t offset, std::int64_t& next) const {
  if (file_size_ - offset < kFrame) return false;
  Frame frame;
  read(offset, &frame, kFrame);
  if (frame.bytes < 0 || frame.bytes > file_size_ - offset - kFrame) return false;
  Hash hash = begin_checksum(offset, frame.bytes);
  const std::unique_ptr<std::byte[]> block(new std::byte[static_cast<std::size_t>(std::min(frame.bytes, kBlock))]);
  for (std::int64_t done = 0; done < frame.bytes;) {
    const std::int64_t count = std::min(kBlock, frame.bytes - done);
    read(offset + kFrame + done, block.get(), count);
    hash.add(block.get(), count);
    done += count;
  }
  if (hash.value() != frame.checksum) return false;
  next = offset + kFrame + frame.bytes;
  return true;
}

void Journal::begin(std::string_view header) {
  SHRINKWARP_REQUIRE(!header.empty() && header.size() <= static_cast<std::size_t>(kMaxHeader), ValueError, origin_,
                     ": a header of ", header.size(), " bytes, wanted 1 to ", kMaxHeader);
  if (::ftruncate(descriptor_, 0) != 0) fail("empty", errno);
  file_size_ = end_ = first_ = 0;
  header_.clear();
  const int error = write_fully(descriptor_, 0, kMagic.data(), kStart);
  if (error != 0) fail("write", error);
  file_size_ = end_ = kStart;
  header_ = header;  // append wants one
  try {
    append(header.data(), static_cast<std::int64_t>(header.size()));
  } catch (...) {
    header_.clear();
    throw;
  }
  first_ = end_;
}

std::int64_t Journal::append(const void* payload, std::int64_t bytes) {
  SHRINKWARP_REQUIRE(!header_.empty(), ValueError, origin_, ": a record for a journal without a header");
  if (file_size_ > end_) {
    if (::ftruncate(descriptor_, end_) != 0) fail("cut the end off", errno);
    file_size_ = end_;
  }
  Hash hash = begin_checksum(end_, bytes);
  hash.add(payload, bytes);
  const Frame frame{bytes, hash.value()};
  // The frame comes last: without it there is no record.
  int error = write_fully(descriptor_, end_ + kFrame, payload, bytes);
  if (error == 0) error = write_fully(descriptor_, end_, &frame, kFrame);
  if (error != 0) {
    file_size_ = ::ftruncate(descriptor_, end_) == 0 ? end_ : end_ + kFrame + bytes;
    fail("write", error);
  }
  const std::int64_t position = end_ + kFrame;
  file_size_ = position + bytes;
  synced_ = false;
  if (std::chrono::steady_clock::now() - last_sync_ >= kSyncEvery) {
    try {
      sync();
    } catch (...) {  // or who tries again would append it twice
      if (::ftruncate(descriptor_, end_) == 0) file_size_ = end_;
      throw;
    }
  }
  end_ = file_size_;
  return position;
}

void Journal::sync() {
  if (::fdatasync(descriptor_) != 0) fail("bring to the disk", errno);
  if (!name_synced_) sync_folder(origin_.path);
  synced_ = name_synced_ = true;
  last_sync_ = std::chrono::steady_clock::now();
}

void Journal::for_each(FunctionRef<void(std::int64_t, std::int64_t)> visit) const {
  for (std::int64_t offset = first_; offset < end_;) {
    Frame frame;
    read(offset, &frame, kFrame);
    // Checked when the journal was opened: this is for a file that somebody has changed since.
    if (frame.bytes < 0 || frame.bytes > end_ - offset - kFrame)
      SHRINKWARP_THROW_IO(origin_, offset, "the journal was changed while it was open");
    visit(offset + kFrame, frame.bytes);
    offset += kFrame + frame.bytes;
  }
}

void Journal::read(std::int64_t position, void* target, std::int64_t bytes) const {
  const std::int64_t got = read_fully(descriptor_, position, target, bytes);
  if (got < 0) fail("read", errno);
  if (got < bytes)
    SHRINKWARP_THROW_IO(origin_, position + got, "found ", got, " bytes at offset ", position, ", wanted ", bytes);
}

void Journal::remove() {
  if (::unlink(origin_.path.c_str()) != 0 && errno != ENOENT) fail("remove", errno);
  synced_ = true;
  ::close(std::exchange(descriptor_, -1));
}

}  // namespace shrinkwarp
