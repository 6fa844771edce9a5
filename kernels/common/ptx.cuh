// The one header with inline PTX. Each function has its twin for the host executor beside it; a test compares the pair,
// and only its run on a GPU tells whether the twin is right.
//
// Asynchronous copies (sm_80): cp_async* queues a copy of 4, 8 or 16 bytes from global to shared memory, target and
// source multiples of that size; cp_async_commit closes the thread's group of copies; cp_async_wait<N> waits until all
// but the N youngest groups of the calling thread have arrived. Other threads see the bytes after a barrier as well.
// The twin fills the target with NaN when the copy is queued and writes it at the wait, so that a missing commit, wait
// or barrier shows.
#pragma once

#include <shrinkwarp/kernels/common/device.cuh>

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "shrinkwarp's kernels need compute capability 8.0 or newer"
#endif

namespace shrinkwarp {

#ifdef SHRINKWARP_SIMT
namespace simt {

typedef std::uint32_t AliasedWord __attribute__((may_alias));

template <int kWords>
inline void cp_async(void* target, const void* source, bool valid) {
  check_async(target, source, kWords);
  std::uint32_t words[4] = {0, 0, 0, 0};
  for (int i = 0; i < kWords && valid; ++i) words[i] = static_cast<const AliasedWord*>(source)[i];
  for (int i = 0; i < kWords; ++i) static_cast<AliasedWord*>(target)[i] = 0xffffffffu;
  push_async(static_cast<std::uint32_t*>(target), kWords, words[0], words[1], words[2], words[3]);
}

}  // namespace simt
#else
/// The address that PTX wants for shared memory.
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
#endif

/// Queues a copy of 4 bytes.
__device__ __forceinline__ void cp_async4(void* target, const void* source) {
#ifdef SHRINKWARP_SIMT
  simt::cp_async<1>(target, source, true);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(target)),
               "l"(__cvta_generic_to_global(source))
               : "memory");
#endif
}

/// Queues a copy of 8 bytes.
__device__ __forceinline__ void cp_async8(void* target, const void* source) {
#ifdef SHRINKWARP_SIMT
  simt::cp_async<2>(target, source, true);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(target)),
               "l"(__cvta_generic_to_global(source))
               : "memory");
#endif
}

/// Queues a copy of 16 bytes, past L1.
__device__ __forceinline__ void cp_async16(void* target, const void* source) {
#ifdef SHRINKWARP_SIMT
  simt::cp_async<4>(target, source, true);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(target)),
               "l"(__cvta_generic_to_global(source))
               : "memory");
#endif
}

/// The same three, but zeros arrive unless `valid`; `source` is then not read, though still an aligned global address.
__device__ __forceinline__ void cp_async4_zfill(void* target, const void* source, bool valid) {
#ifdef SHRINKWARP_SIMT
  simt::cp_async<1>(target, source, valid);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(target)),
               "l"(__cvta_generic_to_global(source)), "r"(valid ? 4 : 0)
               : "memory");
#endif
}

__device__ __forceinline__ void cp_async8_zfill(void* target, const void* source, bool valid) {
#ifdef SHRINKWARP_SIMT
  simt::cp_async<2>(target, source, valid);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(target)),
               "l"(__cvta_generic_to_global(source)), "r"(valid ? 8 : 0)
               : "memory");
#endif
}

__device__ __forceinline__ void cp_async16_zfill(void* target, const void* source, bool valid) {
#ifdef SHRINKWARP_SIMT
  simt::cp_async<4>(target, source, valid);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)),
               "l"(__cvta_generic_to_global(source)), "r"(valid ? 16 : 0)
               : "memory");
#endif
}

/// Closes the group of the copies queued since the last commit (a group may be empty).
__device__ __forceinline__ void cp_async_commit() {
#ifdef SHRINKWARP_SIMT
  simt::commit_async();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most the `kGroups` youngest groups of this thread are on their way. Copies that no commit has closed
/// are not waited for.
template <int kGroups>
__device__ __forceinline__ void cp_async_wait() {
#ifdef SHRINKWARP_SIMT
  while (const simt::AsyncCopy* copy = simt::pop_async(kGroups)) {
    auto target = static_cast<simt::AliasedWord*>(copy->target);
    for (int i = 0; i < copy->words; ++i) target[i] = copy->data[i];
  }
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

}  // namespace shrinkwarp
