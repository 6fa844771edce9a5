// Argument checks that every public entry point of a kernel makes once, for both backends.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The context is on CUDA: for what has no body on the CPU.
inline void check_cuda(const Context& context, const char* function) {
  SHRINKWARP_REQUIRE(context.is_cuda(), DeviceError, function, ": the context is on ", context.device(),
                     ", wanted cuda");
}

/// The matrix lies on the context's device, is rows x cols and has ld >= rows.
template <class T>
void check_matrix(const Context& context, const char* function, const char* name, const MatrixView<T>& view,
                  std::int64_t rows, std::int64_t cols) {
  SHRINKWARP_REQUIRE(view.rows == rows && view.cols == cols, ShapeError, function, ": ", name, " is ", view.rows, " x ",
                     view.cols, ", wanted ", rows, " x ", cols);
  if (view.empty()) return;
  SHRINKWARP_REQUIRE(view.ld >= view.rows, ShapeError, function, ": ", name, " has leading dimension ", view.ld,
                     ", wanted at least its ", view.rows, " rows");
  SHRINKWARP_REQUIRE(view.data != nullptr, ValueError, function, ": ", name, " is a null pointer");
  SHRINKWARP_REQUIRE(view.device == context.device(), DeviceError, function, ": ", name, " lies on ", view.device,
                     ", wanted ", context.device());
}

/// The vector lies on the context's device and has `size` elements.
template <class T>
void check_vector(const Context& context, const char* function, const char* name, const VectorView<T>& view,
                  std::int64_t size) {
  SHRINKWARP_REQUIRE(view.size == size, ShapeError, function, ": ", name, " has ", view.size, " elements, wanted ",
                     size);
  if (view.empty()) return;
  SHRINKWARP_REQUIRE(view.data != nullptr, ValueError, function, ": ", name, " is a null pointer");
  SHRINKWARP_REQUIRE(view.device == context.device(), DeviceError, function, ": ", name, " lies on ", view.device,
                     ", wanted ", context.device());
}

}  // namespace shrinkwarp
