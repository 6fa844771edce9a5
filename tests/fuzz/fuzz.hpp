// What the fuzz targets share. A target is one file, <name>_fuzz.cpp, with libFuzzer's entry point:
//
//   extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
//     static fuzz::File file;
//     file.set(data, size);
//     fuzz::refuses([&] { ... read file.path() ... });
//     return 0;
//   }
//
// Broken bytes must be refused with an IoError whose message is a short line. Anything else ends the process and is a
// finding: another exception, a failed check, a report of a sanitizer, too much memory or too much time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::fuzz {

/// Ends the process, unless `condition` holds.
inline void check(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

/// A file in memory that holds the bytes of the input under a path.
class File {
 public:
  File() : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(descriptor_)) {
    check(descriptor_ >= 0, "the system gives a file in memory");
  }
  void set(const std::uint8_t* data, std::size_t size) {
    check(ftruncate(descriptor_, 0) == 0, "the file can be emptied");
    for (std::size_t done = 0; done < size;) {
      const ssize_t put = pwrite(descriptor_, data + done, size - done, static_cast<off_t>(done));
      check(put > 0, "the file can be written");
      done += static_cast<std::size_t>(put);
    }
  }
  const std::string& path() const { return path_; }

 private:
  int descriptor_;
  std::string path_;
};

/// Runs `body`; whether it threw an IoError, whose message is checked to be one line of less than 1,000 bytes.
template <class Body>
bool refuses(Body body) {
  try {
    body();
    return false;
  } catch (const IoError& error) {
    const std::string message = error.what();
    check(message.find('\n') == std::string::npos, "a message is one line");
    check(message.size() < 1000, "a message is short");
    return true;
  }
}

}  // namespace shrinkwarp::fuzz
