// The one header with inline PTX. Each function has its twin for the host executor beside it; a test compares the pair,
// and only its run on a GPU tells whether the twin is right.
//
// Asynchronous copies (sm_80): cp_async* queues a copy of 4, 8 or 16 bytes from global to shared memory, target and
// source multiples of that size; cp_async_commit closes the thread's group of copies; cp_async_wait<N> waits until all
// but the N youngest groups of the calling thread have arrived. Other threads see the bytes after a barrier as well.
// The twin fills the target with NaN when the copy is queued and writes it at the wait, so that a missing commit, wait
// or barrier shows.
//
// Half precision (IEEE binary16) is kept as its bits, and multiplied by tensor cores: mma_f16. A tf32 is a float whose last
// 13 bits are 0, kept as its bits too: mma_tf32. Two of them hold nearly all of a float: split_tf32.
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

// ---- half precision ----

/// The half nearest to a float, ties to even; infinity from 65520 on.
__device__ __forceinline__ unsigned short half_from_float(float value) {
#ifdef SHRINKWARP_SIMT
  return simt::bit_cast<unsigned short>(static_cast<_Float16>(value));
#else
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#endif
}

/// The float that a half is.
__device__ __forceinline__ float float_from_half(unsigned short bits) {
#ifdef SHRINKWARP_SIMT
  return static_cast<float>(simt::bit_cast<_Float16>(bits));
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#endif
}

#ifdef SHRINKWARP_SIMT
namespace simt {

struct FragmentsIn {
  float c[4];
  unsigned a[4], b[2];
};
struct FragmentsOut {
  float c[4];
};

inline void do_mma_f16(const void* const* in, void* const* out, unsigned) {
  const auto half = [](unsigned word, int k) {
    return static_cast<double>(float_from_half(static_cast<unsigned short>(word >> 16 * k)));
  };
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* const from = static_cast<const FragmentsIn*>(in[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int k = 0; k < 2; ++k) {
      for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][2 * t + i / 2 * 8 + k] = half(from->a[i], k);
      for (int i = 0; i < 2; ++i) b[2 * t + i * 8 + k][g] = half(from->b[i], k);
    }
  }
  for (int row = 0; row < 16; ++row) {
    double sums[8];
    for (int col = 0; col < 8; ++col)
      sums[col] =
          static_cast<double>(static_cast<const FragmentsIn*>(in[row % 8 * 4 + col / 2])->c[row / 8 * 2 + col % 2]);
    for (int k = 0; k < 16; ++k)
      for (int col = 0; col < 8; ++col) sums[col] += a[row][k] * b[k][col];
    for (int col = 0; col < 8; ++col)
      static_cast<FragmentsOut*>(out[row % 8 * 4 + col / 2])->c[row / 8 * 2 + col % 2] = static_cast<float>(sums[col]);
  }
}

}  // namespace simt
#endif

/// C += A B by a whole warp on tensor cores (sm_80): A is 16 x 16 and B 16 x 8 in half precision, C 16 x 8 in float. Lane
/// l holds, with g = l / 4 and t = l % 4, two halves a word, the lower one first:
///
///   a[0] = A(g, 2t..2t+1), a[1] = A(g + 8, 2t..), a[2] = A(g, 2t + 8..), a[3] = A(g + 8, 2t + 8..)
///   b[0] = B(2t..2t+1, g), b[1] = B(2t + 8.., g);   c = C(g, 2t), C(g, 2t + 1), C(g + 8, 2t), C(g + 8, 2t + 1)
///
/// Products are exact. The order in which they are added and what is cut off on the way are the hardware's: at most a unit
/// of float, 2^-23, of the largest term or partial sum for each of the 17 terms. The twin adds in double.
__device__ __forceinline__ void mma_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef SHRINKWARP_SIMT
  const simt::FragmentsIn in = {{c[0], c[1], c[2], c[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  simt::FragmentsOut out;
  simt::warp_collective(0xffffffffu, &in, &out, &simt::do_mma_f16, {__FILE__, __LINE__});
  for (int i = 0; i < 4; ++i) c[i] = out.c[i];
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- tf32 ----

/// The last bits of a float, which a tf32 has not.
inline constexpr unsigned kBelowTf32 = 0x1fffu;

/// The tf32 nearest to a float, ties away from zero, as cvt.rna.tf32.f32 gives it; NaN gives NaN, and from
/// 2^128 (1 - 2^-12) on it is infinity. Integer instructions are issued more often than conversions.
__device__ __forceinline__ unsigned tf32_from_float(float value) {
  const unsigned bits = __float_as_uint(value);
  return (value != value ? bits | (kBelowTf32 + 1) : bits + (kBelowTf32 + 1) / 2) & ~kBelowTf32;
}

/// A float as the sum of two tf32, but for 2^-23 of it.
///
///   high = the nearest tf32,   low = the rest, at most 2^-11 |value|, without its last bit where it takes 12
///
/// so a b = high high + high low + low high but for (1 + 2^-10) 2^-21 |a b|: 2^-22 for the product of the low parts, 2^-23
/// for each of the bits left out. Parts under 2^-126 lose up to 2^-136. NaN and infinity give a low part of NaN.
__device__ __forceinline__ void split_tf32(float value, unsigned& high, unsigned& low) {
  high = (__float_as_uint(value) + (kBelowTf32 + 1) / 2) & ~kBelowTf32;
  low = __float_as_uint(value - __uint_as_float(high)) & ~kBelowTf32;
}

#ifdef SHRINKWARP_SIMT
namespace simt {

inline void do_mma_tf32(const void* const* in, void* const* out, unsigned) {
  const auto number = [](unsigned word) { return static_cast<double>(bit_cast<float>(word & ~kBelowTf32)); };
  double a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* const from = static_cast<const FragmentsIn*>(in[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = number(from->a[i]);
    for (int i = 0; i < 2; ++i) b[t + i * 4][g] = number(from->b[i]);
  }
  for (int row = 0; row < 16; ++row) {
    double sums[8];
    for (int col = 0; col < 8; ++col)
      sums[col] =
          static_cast<double>(static_cast<const FragmentsIn*>(in[row % 8 * 4 + col / 2])->c[row / 8 * 2 + col % 2]);
    for (int k = 0; k < 8; ++k)
      for (int col = 0; col < 8; ++col) sums[col] += a[row][k] * b[k][col];
    for (int col = 0; col < 8; ++col)
      static_cast<FragmentsOut*>(out[row % 8 * 4 + col / 2])->c[row / 8 * 2 + col % 2] = static_cast<float>(sums[col]);
  }
}

}  // namespace simt
#endif

/// C += A B by a whole warp on tensor cores (sm_80): A is 16 x 8 and B 8 x 8 in tf32, whose last 13 bits do not count, C
/// 16 x 8 in float. Lane l holds, with g = l / 4 and t = l % 4,
///
///   a[0] = A(g, t), a[1] = A(g + 8, t), a[2] = A(g, t + 4), a[3] = A(g + 8, t + 4)
///   b[0] = B(t, g), b[1] = B(t + 4, g);   c = C(g, 2t), C(g, 2t + 1), C(g + 8, 2t), C(g + 8, 2t + 1)
///
/// Sums are rounded as in mma_f16, here for each of the 9 terms. A row of C depends on that row of A alone.
__device__ __forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef SHRINKWARP_SIMT
  const simt::FragmentsIn in = {{c[0], c[1], c[2], c[3]}, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  simt::FragmentsOut out;
  simt::warp_collective(0xffffffffu, &in, &out, &simt::do_mma_tf32, {__FILE__, __LINE__});
  for (int i = 0; i < 4; ++i) c[i] = out.c[i];
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

}  // namespace shrinkwarp
