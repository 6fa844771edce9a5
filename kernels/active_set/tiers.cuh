// Where the square matrix of a place's support lies while a block solves it: in shared memory with room for a few sizes, each
// size a launch of its own, so that many blocks with small matrices run side by side; what is larger stays in device memory.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/common/device.cuh>

namespace shrinkwarp::cuda {

/// In the first ones the matrix has room for so many atoms in shared memory, in the last one it stays outside.
inline constexpr int kTiers = 4;
__host__ __device__ constexpr int tier_room(int tier) {
  return tier < kTiers - 1 ? 32 * (tier + 1) : 0;
}
/// What every device since sm_80 gives a block.
inline constexpr std::int64_t kSharedBytes = 98 * 1024;
/// Of a block whose vectors take so many doubles beside the matrix.
__host__ __device__ constexpr std::int64_t tier_bytes(std::int64_t vectors, int tier) {
  return 8 * (vectors + tier_room(tier) * tier_room(tier));
}
/// Which of them a place belongs to: by the support that it is likely to come to.
__device__ __forceinline__ int tier_of(std::int64_t vectors, int size, int support) {
  constexpr int kLikelyMore = 16;
  const int wanted = support + kLikelyMore < size ? support + kLikelyMore : size;
  for (int tier = 0; tier < kTiers - 1 && tier_bytes(vectors, tier) <= kSharedBytes; ++tier)
    if (wanted <= tier_room(tier)) return tier;
  return kTiers - 1;
}

}  // namespace shrinkwarp::cuda
