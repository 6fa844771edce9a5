// The library's errors as Python's.
#pragma once

namespace shrinkwarp::python {

/// From here on: ShapeError, ValueError and DeviceError are ValueError, OutOfMemory is MemoryError, IoError is OSError, and the rest
/// RuntimeError; the messages are the library's.
void translate_errors();

}  // namespace shrinkwarp::python
