#include <shrinkwarp/runtime/pinned.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/cuda_device.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

void* allocate_pinned(const Context& context, std::int64_t bytes) {
  SHRINKWARP_REQUIRE(context.is_cuda(), BackendUnavailable, "allocate_pinned: the context is on ", context.device(),
                     ", wanted cuda");
  if (bytes == 0) return nullptr;
  void* pointer = nullptr;
  if constexpr (kHasCuda) {
    if (context.select_cuda()) pointer = cuda::allocate_host(static_cast<std::size_t>(bytes));
  }
  if (!pointer)
    throw OutOfMemory(concat("out of page-locked memory on the host: ", bytes, " bytes asked"), __FILE__, __LINE__,
                      bytes);
  return pointer;
}

void deallocate_pinned([[maybe_unused]] void* pointer) noexcept {
  if constexpr (kHasCuda) {
    if (pointer) cuda::deallocate_host(pointer);
  }
}

}  // namespace shrinkwarp
