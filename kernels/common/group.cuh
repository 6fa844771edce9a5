// How warps sum over groups of atoms: a power of two of neighbouring lanes takes a group, all 32 where it is large.
#pragma once

#include <shrinkwarp/kernels/common/device.cuh>

namespace shrinkwarp::cuda {

/// Lanes that share a group: the smallest power of two that is not under its size, at most 32.
__device__ __forceinline__ int group_lanes(int group_size) {
  int lanes = 2;
  while (lanes < group_size && lanes < kWarpSize) lanes *= 2;
  return lanes;
}

/// Sums the values of the neighbouring `lanes` lanes, a power of two that is the same in all 32, which all call it; each
/// gets the sum of its own. The order is fixed: lanes / 2 apart, ..., 2, 1.
__device__ __forceinline__ double group_sum(double value, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullMask, value, offset);
  return value;
}

}  // namespace shrinkwarp::cuda
