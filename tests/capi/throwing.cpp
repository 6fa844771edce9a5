#include "throwing.h"

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include <shrinkwarp/shrinkwarp.h>
#include <shrinkwarp/runtime/error.hpp>

using namespace shrinkwarp;

int read_that_throws(void* user, std::int64_t, std::int64_t, double*, std::int64_t) {
  const char* const words = "thrown in a callback";
  switch (*static_cast<std::int32_t*>(user)) {
    case SHRINKWARP_SHAPE_ERROR:
      SHRINKWARP_THROW(ShapeError, words);
    case SHRINKWARP_DEVICE_ERROR:
      SHRINKWARP_THROW(DeviceError, words);
    case SHRINKWARP_VALUE_ERROR:
      SHRINKWARP_THROW(ValueError, words);
    case SHRINKWARP_BACKEND_UNAVAILABLE:
      SHRINKWARP_THROW(BackendUnavailable, words);
    case SHRINKWARP_CUDA_ERROR:
      SHRINKWARP_THROW(CudaError, words);
    case SHRINKWARP_CUBLAS_ERROR:
      SHRINKWARP_THROW(CublasError, words);
    case SHRINKWARP_CANCELLED:
      SHRINKWARP_THROW(Cancelled, words);
    case SHRINKWARP_OUT_OF_MEMORY:
      throw OutOfMemory(words, __FILE__, __LINE__, 1);
    case SHRINKWARP_IO_ERROR:
      throw IoError(words, __FILE__, __LINE__, "file");
    case THROW_BAD_ALLOC:
      throw std::bad_alloc();
    case THROW_A_NUMBER:
      throw 42;
    case THROW_A_LONG_MESSAGE:
      throw std::runtime_error(std::string(5000, 'x'));
    default:
      throw std::runtime_error(words);
  }
}
