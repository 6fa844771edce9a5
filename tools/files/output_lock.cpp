#include <shrinkwarp/tools/files/output_lock.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

OutputLock::OutputLock(const std::string& output) : path_(output + ".lock") {
  for (int tries = 0;; ++tries) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    SHRINKWARP_REQUIRE(descriptor_ >= 0, Error, path_, ": cannot be made: ", std::generic_category().message(errno));
    int failed;
    while ((failed = ::flock(descriptor_, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) continue;
    if (failed != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor_);
      SHRINKWARP_THROW(Error, output, ": another process is making it (", path_, "), wanted one at a time");
    }
    // Who held it before may have removed it since it was opened here: then it keeps nobody away.
    struct stat held, named;
    if (::fstat(descriptor_, &held) == 0 && ::stat(path_.c_str(), &named) == 0 && held.st_ino == named.st_ino &&
        held.st_dev == named.st_dev)
      return;
    constexpr int kMostTries = 100;  // a file system may give a file another number each time
    if (tries == kMostTries) return;
    ::close(descriptor_);
  }
}

OutputLock::~OutputLock() {
  ::unlink(path_.c_str());
  ::close(descriptor_);
}

}  // namespace shrinkwarp
