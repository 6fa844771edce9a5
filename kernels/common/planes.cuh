// How kernels walk batches of images: a thread takes a place, one position of the planes of one image, so that a warp's
// threads read and write neighbours, and then several planes (channels) one after another, which share the divisions that
// find the place.
#pragma once

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>
#include <shrinkwarp/kernels/common/tile_product.cuh>

namespace shrinkwarp::cuda {

inline constexpr int kPlaneThreads = 256;

/// Blocks of kPlaneThreads for `places` places in x; in y shares of the planes, of about eight: a thread takes planes
/// blockIdx.y, blockIdx.y + gridDim.y, ... @throws ShapeError (2^31 blocks or more)
inline dim3 plane_grid(std::int64_t places, std::int64_t planes, const char* function) {
  constexpr std::int64_t kPlanesOfThread = 8, kMost = 65535;
  return dim3(grid_size(ceil_div(places, kPlaneThreads), function),
              static_cast<unsigned>(std::min(ceil_div(planes, kPlanesOfThread), kMost)));
}

/// The place of this thread.
__device__ __forceinline__ std::int64_t thread_place() {
  return static_cast<std::int64_t>(blockIdx.x) * kPlaneThreads + threadIdx.x;
}

}  // namespace shrinkwarp::cuda
