#include <shrinkwarp/runtime/io/file.hpp>

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

namespace shrinkwarp {
namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;
constexpr const char* kDescriptors = "/proc/self/fd/";

/// The folder ("." when the path has none) and the name within it.
std::pair<std::string, std::string> split(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {path.substr(0, slash + 1), path.substr(slash + 1)};
}

constexpr std::string_view kPrefix = ".shrinkwarp-";

/// How the temporaries of a name end. A name may be as long as the file system allows: its beginning has room here.
std::string ending_of(const std::string& name) {
  return "-" + name.substr(0, 180) + ".tmp";
}

std::string temporary_name(const std::string& folder, const std::string& name) {
  static std::atomic<unsigned> counter{0};
  return concat(folder, "/", kPrefix, ::getpid(), "-", counter++, ending_of(name));
}

}  // namespace

std::string system_reason(int error) {
  return std::system_category().message(error);
}

const char* kind_of_file(unsigned mode) noexcept {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISBLK(mode)) return "a block device";
  if (S_ISSOCK(mode)) return "a socket";
  return "no regular file";
}

std::string resolved_path(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), &free);
  return real ? std::string(real.get()) : path;
}

std::int64_t read_fully(int descriptor, std::int64_t offset, void* target, std::int64_t bytes) noexcept {
  auto* to = static_cast<std::byte*>(target);
  std::int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(descriptor, to + done, static_cast<std::size_t>(bytes - done), offset + done);
    if (got > 0) {
      done += got;
    } else if (got == 0) {
      break;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return done;
}

int write_fully(int descriptor, std::int64_t offset, const void* data, std::int64_t bytes) noexcept {
  const auto* from = static_cast<const std::byte*>(data);
  for (std::int64_t done = 0; done < bytes;) {
    const ssize_t put = ::pwrite(descriptor, from + done, static_cast<std::size_t>(bytes - done), offset + done);
    if (put > 0) {
      done += put;
    } else if (put == 0 || errno != EINTR) {
      return put == 0 ? ENOSPC : errno;
    }
  }
  return 0;
}

void sync_folder(const std::string& path) noexcept {
  try {
    const int directory = ::open(split(path).first.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;
    ::fsync(directory);
    ::close(directory);
  } catch (...) {  // no memory for a name
  }
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string line;
  for (const char c : text) {
    if (line.size() >= limit) return line + "...";
    if (c >= ' ' && c <= '~') {
      line += c;
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      line += escape;
    }
  }
  return line;
}

std::ostream& operator<<(std::ostream& out, const Origin& origin) {
  // A path may hold any byte but a message is one line; letters outside ASCII stay as they are.
  std::string path = origin.path;
  for (char& c : path) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  }
  out << origin.function << ": '" << path << "'";
  if (!origin.member.empty()) out << ", member '" << printable(origin.member) << "'";
  return out;
}

InputFile InputFile::open(const char* function, const std::string& path) {
  Origin origin{function, path};
  // O_NONBLOCK: a FIFO without a writer would hold us here; it means nothing to a regular file.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) {
    const int error = errno;
    SHRINKWARP_THROW_IO(origin, -1, "cannot be opened: ", system_reason(error));
  }
  InputFile file(std::move(origin), descriptor);
  struct stat status;
  if (::fstat(descriptor, &status) != 0) {
    const int error = errno;
    SHRINKWARP_THROW_IO(file.origin_, -1, "cannot be examined: ", system_reason(error));
  }
  if (!S_ISREG(status.st_mode)) {
    SHRINKWARP_THROW_IO(file.origin_, -1, "found ", kind_of_file(status.st_mode), ", wanted a regular file");
  }
  file.size_ = status.st_size;
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : origin_(std::move(other.origin_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(origin_, other.origin_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::int64_t InputFile::current_size() const {
  struct stat status;
  if (::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    SHRINKWARP_THROW_IO(origin_, -1, "cannot be examined: ", system_reason(error));
  }
  return status.st_size;
}

void InputFile::read(std::int64_t offset, void* target, std::int64_t bytes) const {
  const std::int64_t got = read_fully(descriptor_, offset, target, bytes);
  if (got < 0) {
    const int error = errno;
    SHRINKWARP_THROW_IO(origin_, offset, "cannot be read at offset ", offset, ": ", system_reason(error));
  }
  if (got < bytes) {
    SHRINKWARP_THROW_IO(origin_, offset + got, "found ", got, " bytes at offset ", offset, ", wanted ", bytes,
                        size_ > offset + got ? " (the file was cut short while it was open)" : "");
  }
}

OutputFile OutputFile::create(const char* function, const std::string& path, bool named) {
  OutputFile file(Origin{function, path});
  file.target_ = resolved_path(path);
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    SHRINKWARP_THROW_IO(file.origin_, -1, "found ", kind_of_file(status.st_mode),
                        ", wanted the name of a file to write");
  }
  const auto [folder, name] = split(file.target_);
  if (name.empty()) SHRINKWARP_THROW_IO(file.origin_, -1, "names no file, wanted the name of a file to write");

#ifdef O_TMPFILE
  // A nameless file gets its name by way of /proc.
  if (!named && ::access("/proc/self/fd", X_OK) == 0) {
    file.descriptor_ = ::open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
    if (file.descriptor_ >= 0) return file;
  }
#endif
  do {
    file.temporary_ = temporary_name(folder, name);
    file.descriptor_ = ::open(file.temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (file.descriptor_ < 0 && errno == EEXIST);
  if (file.descriptor_ < 0) {
    const int error = errno;
    file.temporary_.clear();
    SHRINKWARP_THROW_IO(file.origin_, -1, "no file can be made in folder '", folder, "': ", system_reason(error));
  }
  return file;
}

OutputFile OutputFile::replacing(const char* function, const std::string& path, bool named) {
  return create(function, path, named);
}

OutputFile OutputFile::scratch(const char* function, const std::string& path) {
  OutputFile file = create(function, path, false);
  if (!file.temporary_.empty()) ::unlink(file.temporary_.c_str());
  file.temporary_.clear();
  file.target_.clear();
  return file;
}

OutputFile OutputFile::joining(const char* function, const std::string& path, const std::string& temporary) {
  OutputFile file(Origin{function, path});
  // A file without a name is this process's: its permissions, by which the path may be refused, do not matter.
  const bool nameless = temporary.compare(0, std::strlen(kDescriptors), kDescriptors) == 0;
  file.descriptor_ = nameless ? ::fcntl(std::atoi(temporary.c_str() + std::strlen(kDescriptors)), F_DUPFD_CLOEXEC, 0)
                              : ::open(temporary.c_str(), O_WRONLY | O_CLOEXEC);
  if (file.descriptor_ < 0) {
    const int error = errno;
    SHRINKWARP_THROW_IO(file.origin_, -1, "cannot be opened as '", temporary, "': ", system_reason(error));
  }
  return file;
}

std::string OutputFile::temporary_path() const {
  return temporary_.empty() ? concat(kDescriptors, descriptor_) : temporary_;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : origin_(std::move(other.origin_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)),
      written_(other.written_),
      buffer_(std::move(other.buffer_)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(origin_, other.origin_);
  std::swap(target_, other.target_);
  std::swap(temporary_, other.temporary_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(written_, other.written_);
  std::swap(buffer_, other.buffer_);
  return *this;
}

OutputFile::~OutputFile() {
  abandon();
}

void OutputFile::abandon() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void OutputFile::fail(const char* doing, int error) {
  const std::int64_t offset = written_;
  abandon();
  SHRINKWARP_THROW_IO(origin_, offset, "cannot ", doing, " this file: ", system_reason(error));
}

void OutputFile::require_usable() const {
  if (descriptor_ < 0) SHRINKWARP_THROW_IO(origin_, -1, "the file is finished or an earlier call failed");
}

void OutputFile::write_through(std::int64_t offset, const void* data, std::int64_t bytes) {
  const int error = write_fully(descriptor_, offset, data, bytes);
  if (error != 0) fail("write", error);
}

void OutputFile::flush() {
  if (buffer_.empty()) return;
  write_through(written_, buffer_.data(), static_cast<std::int64_t>(buffer_.size()));
  written_ += static_cast<std::int64_t>(buffer_.size());
  buffer_.clear();
}

void OutputFile::append(const void* data, std::int64_t bytes) {
  require_usable();
  if (bytes <= 0) return;
  if (buffer_.size() + static_cast<std::size_t>(bytes) > kBufferBytes) flush();
  if (static_cast<std::size_t>(bytes) >= kBufferBytes) {
    write_through(written_, data, bytes);
    written_ += bytes;
  } else {
    if (buffer_.capacity() == 0) buffer_.reserve(kBufferBytes);
    const auto* from = static_cast<const std::byte*>(data);
    buffer_.insert(buffer_.end(), from, from + bytes);
  }
}

void OutputFile::reserve(std::int64_t bytes) {
  require_usable();
  if (::ftruncate(descriptor_, bytes) != 0) fail("make room in", errno);
}

void OutputFile::skip(std::int64_t bytes) {
  require_usable();
  flush();
  written_ += bytes;
}

void OutputFile::write_at(std::int64_t offset, const void* data, std::int64_t bytes) {
  require_usable();
  flush();
  write_through(offset, data, bytes);
}

void OutputFile::read_at(std::int64_t offset, void* target, std::int64_t bytes) {
  require_usable();
  flush();
  const std::int64_t got = read_fully(descriptor_, offset, target, bytes);
  if (got < bytes) fail("read back", got < 0 ? errno : EIO);
}

void OutputFile::discard(std::int64_t offset, std::int64_t bytes) noexcept {
#ifdef FALLOC_FL_PUNCH_HOLE
  if (descriptor_ >= 0 && bytes > 0) {
    static_cast<void>(::fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes));
  }
#else
  static_cast<void>(offset);
  static_cast<void>(bytes);
#endif
}

void OutputFile::sync() {
  require_usable();
  flush();
  if (::fsync(descriptor_) != 0) fail("bring to the disk", errno);
}

void OutputFile::commit() {
  SHRINKWARP_REQUIRE(descriptor_ < 0 || !target_.empty(), ValueError, origin_,
                     ": commit of a scratch file, or of one that another makes");
  sync();
  const auto [folder, name] = split(target_);
  bool linked = false;
  if (temporary_.empty()) {
    // A link never replaces a file: where the target exists, the link goes beside it and takes its place below.
    const std::string nameless = temporary_path();
    std::string link = target_;
    while (::linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, link.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      if (errno != EEXIST) fail("give its name to", errno);
      link = temporary_name(folder, name);
    }
    linked = link == target_;
    if (!linked) temporary_ = link;
  }
  // Some file systems report a full disk only here. On Linux the descriptor is gone even when close fails.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
    const int error = errno;
    if (linked) ::unlink(target_.c_str());
    fail("close", error);
  }
  if (!linked && ::rename(temporary_.c_str(), target_.c_str()) != 0) fail("give its name to", errno);
  temporary_.clear();
  // The name survives a power failure only once the folder is on the disk as well.
  sync_folder(target_);
}

void remove_leftovers(const std::string& path) noexcept {
  try {
    const auto [folder, name] = split(resolved_path(path));
    const std::string ending = ending_of(name);
    std::error_code error;
    for (std::filesystem::directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
      const std::string found = file->path().filename().string();
      if (found.compare(0, kPrefix.size(), kPrefix) != 0 || found.size() < kPrefix.size() + ending.size()) continue;
      // Between prefix and ending stand two numbers; else it is of another target whose name ends like this one.
      const std::string middle = found.substr(kPrefix.size(), found.size() - kPrefix.size() - ending.size());
      const bool numbers = std::count(middle.begin(), middle.end(), '-') == 1 &&
                           middle.find_first_not_of("0123456789-") == std::string::npos;
      if (numbers && found.compare(found.size() - ending.size(), ending.size(), ending) == 0) {
        ::unlink(file->path().c_str());
      }
    }
  } catch (...) {  // no memory for a name: the file stays
  }
}

}  // namespace shrinkwarp
