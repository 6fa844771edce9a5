// What every .cu file includes: the CUDA runtime and the few spellings that differ between the two compilers of a
// kernel, nvcc for a device and the host compiler for the executor that the tests run kernels on (SHRINKWARP_SIMT).
//
// Rules of a kernel, which the executor enforces where it can: shared memory, launches and PTX only through this header
// and ptx.cuh; block sizes are multiples of 32; masks are written out; no return before a barrier (guard the work, not
// the thread); blocks speak to each other through atomics or the next launch, and never wait for each other.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/cuda_check.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

template <class T, int... dims>
struct ArrayOf {
  using type = T;
};
template <class T, int first, int... rest>
struct ArrayOf<T, first, rest...> {
  using type = typename ArrayOf<T, rest...>::type[first];
};
/// T[dims]...
template <class T, int... dims>
using array_t = typename ArrayOf<T, dims...>::type;

}  // namespace shrinkwarp

/// Declares `T name[dims]...` in shared memory, aligned to 16 bytes and not initialised, in a kernel or in a function
/// that a kernel calls: SHRINKWARP_SHARED_ARRAY(float, tile, kRows, kCols + 1). All such arrays of a kernel together
/// hold at most 48 KiB; T has no comma and no constructor.
#ifdef SHRINKWARP_SIMT
#define SHRINKWARP_SHARED_ARRAY(T, name, ...)                                      \
  ::shrinkwarp::array_t<T, __VA_ARGS__>& name =                                    \
      ::shrinkwarp::simt::shared_array<::shrinkwarp::array_t<T, __VA_ARGS__>>([] { \
        static char key;                                                           \
        return static_cast<const void*>(&key);                                     \
      }())
#else
#define SHRINKWARP_SHARED_ARRAY(T, name, ...) __shared__ alignas(16)::shrinkwarp::array_t<T, __VA_ARGS__> name
#endif

namespace shrinkwarp {

/// The kernel's one block of dynamic shared memory, `shared_bytes` of its launch, aligned to 16 bytes and not
/// initialised.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  static_assert(alignof(T) <= 16, "dynamic shared memory is aligned to 16 bytes");
#ifdef SHRINKWARP_SIMT
  return static_cast<T*>(simt::dynamic_shared_memory());
#else
  extern __shared__ __align__(16) unsigned char shrinkwarp_dynamic_shared[];
  return reinterpret_cast<T*>(shrinkwarp_dynamic_shared);
#endif
}

/// Queues `kernel(args...)` on the stream; a grid with no block is nothing to do.
///
/// @param shared_bytes  dynamic shared memory of a block; beyond 48 KiB as far as the device goes
///
/// Allocates no, synchronises no, capturable yes
/// @throws CudaError (no such configuration, too much shared memory, an earlier error of the device)
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, CudaStream stream,
            Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "launch: as many arguments as the kernel has parameters");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef SHRINKWARP_SIMT
  const cudaError_t status =
      simt::launch_kernel(kernel, grid, block, shared_bytes, stream, std::forward<Args>(args)...);
#else
  // Up to 48 KiB together with the static arrays need no permission. What is set is the device's limit, not this
  // launch's need, so that host threads which launch the same kernel with different needs do not undo each other.
  cudaError_t status = cudaSuccess;
  if (shared_bytes > 24 * 1024) {
    int device = 0;
    int limit = 0;
    cudaFuncAttributes attributes{};
    const void* function = reinterpret_cast<const void*>(kernel);
    SHRINKWARP_CUDA_CHECK(cudaGetDevice(&device));
    SHRINKWARP_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    SHRINKWARP_CUDA_CHECK(cudaFuncGetAttributes(&attributes, function));
    SHRINKWARP_CUDA_CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               limit - static_cast<int>(attributes.sharedSizeBytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  status = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
#endif
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    SHRINKWARP_THROW(CudaError, "launch: grid ", grid.x, " x ", grid.y, " x ", grid.z, ", block ", block.x, " x ",
                     block.y, " x ", block.z, ", ", shared_bytes,
                     " bytes of dynamic shared memory: ", cudaGetErrorString(status));
  }
}

// ---- warp and block ----

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;

/// The larger of the two; NaN when either is NaN (fmaxf and max ignore it).
template <class T>
__host__ __device__ __forceinline__ T max_or_nan(T a, T b) {
  return a > b || a != a ? a : b;
}
/// The smaller of the two; NaN when either is NaN.
template <class T>
__host__ __device__ __forceinline__ T min_or_nan(T a, T b) {
  return a < b || a != a ? a : b;
}

struct FoldSum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct FoldMax {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return max_or_nan(a, b);
  }
};
struct FoldMin {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return min_or_nan(a, b);
  }
};

/// Folds the values of the 32 lanes; every lane calls it and gets the result. The order is fixed: lanes 16 apart, then
/// 8, 4, 2, 1; as `Fold` commutes, all lanes get the same bits (but a maximum of zeros may be +0 in one and -0 in
/// another).
template <class Fold, class T>
__device__ __forceinline__ T warp_fold(T value) {
#ifdef SHRINKWARP_SIMT
  return simt::warp_butterfly<T>(value, [](T a, T b) { return Fold()(a, b); }, {__FILE__, __LINE__});
#else
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = Fold()(value, __shfl_xor_sync(kFullMask, value, offset));
  }
  return value;
#endif
}

/// Folds the values of the `kThreads` threads of a one-dimensional block; every thread calls it and gets the same
/// result. The order is fixed: within each warp as warp_fold, then warp 0, 1, 2, ... Two barriers when there is more
/// than one warp: shared memory written before the call may be read after it, and the call may stand in a loop.
template <int kThreads, class Fold, class T>
__device__ __forceinline__ T block_fold(T value) {
  static_assert(kThreads % kWarpSize == 0 && kThreads >= kWarpSize && kThreads <= 1024, "block_fold: whole warps");
#ifdef SHRINKWARP_SIMT
  if (blockDim.x != kThreads || blockDim.y != 1 || blockDim.z != 1)
    simt::fail("block_fold: kThreads is not blockDim.x");
#endif
  value = warp_fold<Fold>(value);
  if constexpr (kThreads > kWarpSize) {
    constexpr int kWarps = kThreads / kWarpSize;
    SHRINKWARP_SHARED_ARRAY(T, partial, kWarps);
    if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = value;
    __syncthreads();
    value = partial[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) value = Fold()(value, partial[warp]);
    __syncthreads();
  }
  return value;
}

/// Sum, largest (NaN if any is NaN) and smallest value of a warp: warp_fold's contract.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_fold<FoldSum>(value);
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_fold<FoldMax>(value);
}
template <class T>
__device__ __forceinline__ T warp_min(T value) {
  return warp_fold<FoldMin>(value);
}

/// The same of a block: block_fold's contract.
template <int kThreads, class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_fold<kThreads, FoldSum>(value);
}
template <int kThreads, class T>
__device__ __forceinline__ T block_max(T value) {
  return block_fold<kThreads, FoldMax>(value);
}
template <int kThreads, class T>
__device__ __forceinline__ T block_min(T value) {
  return block_fold<kThreads, FoldMin>(value);
}

/// Takes those of 0 .. count - 1 that are wanted, in their order: put(place, i). Every thread of a one-dimensional block calls it,
/// with the same count, and gets their number. Two barriers for each `kThreads` of them, the last after all have been put.
template <int kThreads, class Wanted, class Put>
__device__ __forceinline__ int block_compact(int count, const Wanted& wanted, const Put& put) {
  constexpr int kWarps = kThreads / kWarpSize;
  SHRINKWARP_SHARED_ARRAY(int, warp_counts, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int taken = 0;
  for (int first = 0; first < count; first += kThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    const bool mine = i < count && wanted(i);
    const unsigned votes = __ballot_sync(kFullMask, mine);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int place = taken + __popc(votes & ((1u << lane) - 1u));
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) place += warp_counts[w];
      taken += warp_counts[w];
    }
    if (mine) put(place, i);
    __syncthreads();
  }
  return taken;
}

// ---- 16 bytes at once ----

/// 16 bytes from device memory that nothing writes while the kernel runs; `source` is a multiple of 16.
__device__ __forceinline__ float4 ldg128(const float* source) {
  return __ldg(reinterpret_cast<const float4*>(source));
}
__device__ __forceinline__ double2 ldg128(const double* source) {
  return __ldg(reinterpret_cast<const double2*>(source));
}
__device__ __forceinline__ int4 ldg128(const int* source) {
  return __ldg(reinterpret_cast<const int4*>(source));
}

}  // namespace shrinkwarp
