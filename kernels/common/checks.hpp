// Argument checks that every public entry point of a kernel makes once, for both backends.
#pragma once

#include <cstddef>
#include <cstdint>

#include <shrinkwarp/kernels/common/penalty.hpp>
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

/// The scratch lies on the context's device and has at least `wanted` bytes.
inline void check_scratch(const Context& context, const char* function, const VectorView<std::byte>& scratch,
                          std::int64_t wanted) {
  SHRINKWARP_REQUIRE(scratch.size >= wanted, ShapeError, function, ": scratch has ", scratch.size,
                     " bytes, wanted at least ", wanted);
  if (wanted > 0) check_vector(context, function, "scratch", scratch, scratch.size);
}

/// `atoms` fall into whole groups of the penalty, and its weights are one for each of them, or none.
template <class T>
void check_groups(const Context& context, const char* function, const PenaltyView<T>& penalty, std::int64_t atoms) {
  SHRINKWARP_REQUIRE(penalty.group_size >= 1, ValueError, function, ": penalty.group_size is ", penalty.group_size,
                     ", wanted >= 1");
  SHRINKWARP_REQUIRE(atoms % penalty.group_size == 0, ShapeError, function, ": found ", atoms,
                     " atoms, wanted a multiple of penalty.group_size, ", penalty.group_size);
  SHRINKWARP_REQUIRE(!penalty.grouped() || !penalty.nonnegative, ValueError, function, ": penalty.group_size is ",
                     penalty.group_size, ", wanted 1 where the penalty is nonnegative");
  if (!penalty.weights.empty())
    check_vector(context, function, "penalty.weights", penalty.weights, atoms / penalty.group_size);
}

}  // namespace shrinkwarp
