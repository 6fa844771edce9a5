// Typed errors. Every message names the function, the argument, what was found and what was wanted.
// The library throws these and nothing else; it never prints, exits or aborts.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace shrinkwarp {

/// Base of all errors thrown by the library; `what()` is one line without the source position.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, const char* file, int line)
      : std::runtime_error(message), file_(file), line_(line) {}
  const char* file() const noexcept { return file_; }
  int line() const noexcept { return line_; }

 private:
  const char* file_;
  int line_;
};

/// A size, leading dimension or rank does not fit.
class ShapeError : public Error {
  using Error::Error;
};
/// An argument lies on another device than the context.
class DeviceError : public Error {
  using Error::Error;
};
/// A value is outside its domain (a negative lambda, a NaN in the data).
class ValueError : public Error {
  using Error::Error;
};
/// This build or this machine lacks what was asked for (no CUDA in the build, no driver, no such device).
class BackendUnavailable : public Error {
  using Error::Error;
};
/// A CUDA runtime call failed.
class CudaError : public Error {
  using Error::Error;
};
/// A cuBLAS call failed.
class CublasError : public Error {
  using Error::Error;
};
/// The work was stopped by its CancelToken; what had finished has been delivered.
class Cancelled : public Error {
  using Error::Error;
};

/// Exact arithmetic whose numbers have left the range of fixed point, or whose way back is not the way that led there.
class RangeError : public Error {
  using Error::Error;
};

/// An allocation failed; `bytes()` is what was asked for.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& message, const char* file, int line, std::int64_t bytes)
      : Error(message, file, line), bytes_(bytes) {}
  std::int64_t bytes() const noexcept { return bytes_; }

 private:
  std::int64_t bytes_;
};

/// Reading or writing a file failed; `path()` names it, `offset()` is the byte where it happened or -1.
class IoError : public Error {
 public:
  IoError(const std::string& message, const char* file, int line, std::string path, std::int64_t offset = -1)
      : Error(message, file, line), path_(std::move(path)), offset_(offset) {}
  const std::string& path() const noexcept { return path_; }
  std::int64_t offset() const noexcept { return offset_; }

 private:
  std::string path_;
  std::int64_t offset_;
};

/// Concatenates its arguments as `operator<<` prints them.
template <class... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace shrinkwarp

/// Throws `ErrorType` with the concatenation of the remaining arguments.
#define SHRINKWARP_THROW(ErrorType, ...) throw ErrorType(::shrinkwarp::concat(__VA_ARGS__), __FILE__, __LINE__)

/// Throws `ErrorType` with the concatenation of the remaining arguments unless `condition` holds.
#define SHRINKWARP_REQUIRE(condition, ErrorType, ...)           \
  do {                                                          \
    if (!(condition)) SHRINKWARP_THROW(ErrorType, __VA_ARGS__); \
  } while (false)
