// What nvcc gives every .cu file, for the host compiler: the host executor's build puts this header in front of them
// (-include). It holds the intrinsics that the kernels use, with the names and the meaning that CUDA gives them. Not
// here, so that their use does not compile: __shared__ and extern __shared__ (SHRINKWARP_SHARED_ARRAY and
// dynamic_shared of device.cuh instead), <<<>>>, cooperative groups, __activemask.
#pragma once

#define SHRINKWARP_SIMT 1

#include <math.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include <cuda_runtime.h>

#include "builtins.hpp"
#include "executor.hpp"

// A restricted pointer's value may be kept in a register across a barrier, and another fiber writes meanwhile.
#define __restrict__

#define SHRINKWARP_SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// ---- barriers and fences ----

inline void __syncthreads(SHRINKWARP_SIMT_SITE) {
  shrinkwarp::simt::block_barrier(shrinkwarp::simt::BarrierOp::none, 0, {file, line});
}
inline int __syncthreads_or(int predicate, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::block_barrier(shrinkwarp::simt::BarrierOp::any, predicate, {file, line});
}
inline int __syncthreads_and(int predicate, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::block_barrier(shrinkwarp::simt::BarrierOp::all, predicate, {file, line});
}
inline int __syncthreads_count(int predicate, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::block_barrier(shrinkwarp::simt::BarrierOp::count, predicate, {file, line});
}
inline void __syncwarp(unsigned mask = 0xffffffffu, SHRINKWARP_SIMT_SITE) {
  shrinkwarp::simt::warp_barrier(mask, {file, line});
}
inline void __threadfence() {
  shrinkwarp::simt::fence();
}
inline void __threadfence_block() {
  shrinkwarp::simt::fence();
}
inline void __threadfence_system() {
  shrinkwarp::simt::fence();
}
inline void __nanosleep(unsigned) {
  shrinkwarp::simt::count_atomic();
}
[[noreturn]] inline void __trap() {
  shrinkwarp::simt::fail("called __trap");
}

// ---- votes and shuffles ----

inline unsigned __ballot_sync(unsigned mask, int predicate, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::warp_ballot(mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::warp_ballot(mask, predicate != 0, {file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::warp_ballot(mask, predicate != 0, {file, line}) == mask;
}

namespace shrinkwarp::simt {

template <class T>
T shuffle_bits(unsigned mask, T value, Shuffle kind, int operand, int width, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA shuffles 4 or 8 byte numbers");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_shuffle(mask, bits, kind, operand, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
struct FoldIn {
  T value;
  T (*fold)(T, T);
};

template <class T>
void do_butterfly(const void* const* in, void* const* out, unsigned) {
  T values[2][32];
  for (int lane = 0; lane < 32; ++lane) values[0][lane] = static_cast<const FoldIn<T>*>(in[lane])->value;
  const auto fold = static_cast<const FoldIn<T>*>(in[0])->fold;
  int from = 0;
  for (int offset = 16; offset > 0; offset /= 2, from = 1 - from) {
    for (int lane = 0; lane < 32; ++lane)
      values[1 - from][lane] = fold(values[from][lane], values[from][lane ^ offset]);
  }
  for (int lane = 0; lane < 32; ++lane) *static_cast<T*>(out[lane]) = values[from][lane];
}

/// What five exclusive-or shuffles by 16, 8, 4, 2, 1 with value = fold(value, shuffled) give each lane of a full warp,
/// in one wait instead of five.
template <class T>
T warp_butterfly(T value, T (*fold)(T, T), Site site) {
  const FoldIn<T> in = {value, fold};
  T out;
  warp_collective(0xffffffffu, &in, &out, &do_butterfly<T>, site);
  return out;
}

/// For the __reduce_*_sync family: folds the lanes of the mask.
template <class T>
void do_reduce(const void* const* in, void* const* out, unsigned mask) {
  const auto first = static_cast<const FoldIn<T>*>(in[__builtin_ctz(mask)]);
  T result = first->value;
  for (unsigned rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    result = first->fold(result, static_cast<const FoldIn<T>*>(in[__builtin_ctz(rest)])->value);
  }
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) *static_cast<T*>(out[__builtin_ctz(rest)]) = result;
}

template <class T>
T warp_reduce(unsigned mask, T value, T (*fold)(T, T), Site site) {
  const FoldIn<T> in = {value, fold};
  T out;
  warp_collective(mask, &in, &out, &do_reduce<T>, site);
  return out;
}

template <class T>
void do_match(const void* const* in, void* const* out, unsigned mask) {
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    unsigned equal = 0;
    for (unsigned others = mask; others != 0; others &= others - 1) {
      const int other = __builtin_ctz(others);
      if (std::memcmp(in[lane], in[other], sizeof(T)) == 0) equal |= 1u << other;
    }
    *static_cast<unsigned*>(out[lane]) = equal;
  }
}

}  // namespace shrinkwarp::simt

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SHRINKWARP_SIMT_SITE) {
  return shrinkwarp::simt::shuffle_bits(mask, value, shrinkwarp::simt::Shuffle::index, lane, width, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SHRINKWARP_SIMT_SITE) {
  const int by = delta > 32 ? 32 : static_cast<int>(delta);
  return shrinkwarp::simt::shuffle_bits(mask, value, shrinkwarp::simt::Shuffle::up, by, width, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SHRINKWARP_SIMT_SITE) {
  const int by = delta > 32 ? 32 : static_cast<int>(delta);
  return shrinkwarp::simt::shuffle_bits(mask, value, shrinkwarp::simt::Shuffle::down, by, width, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SHRINKWARP_SIMT_SITE) {
  const auto kind = shrinkwarp::simt::Shuffle::exclusive_or;
  return shrinkwarp::simt::shuffle_bits(mask, value, kind, lane_mask, width, {file, line});
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, SHRINKWARP_SIMT_SITE) {
  unsigned out = 0;
  shrinkwarp::simt::warp_collective(mask, &value, &out, &shrinkwarp::simt::do_match<T>, {file, line});
  return out;
}

#define SHRINKWARP_SIMT_REDUCE(T, name, expression)                                                               \
  inline T name(unsigned mask, T value, SHRINKWARP_SIMT_SITE) {                                                   \
    return shrinkwarp::simt::warp_reduce<T>(mask, value, [](T a, T b) -> T { return expression; }, {file, line}); \
  }
SHRINKWARP_SIMT_REDUCE(unsigned, __reduce_add_sync, a + b)
SHRINKWARP_SIMT_REDUCE(unsigned, __reduce_min_sync, a < b ? a : b)
SHRINKWARP_SIMT_REDUCE(unsigned, __reduce_max_sync, a > b ? a : b)
SHRINKWARP_SIMT_REDUCE(unsigned, __reduce_and_sync, a& b)
SHRINKWARP_SIMT_REDUCE(unsigned, __reduce_or_sync, a | b)
SHRINKWARP_SIMT_REDUCE(unsigned, __reduce_xor_sync, a ^ b)
SHRINKWARP_SIMT_REDUCE(int, __reduce_add_sync, static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
SHRINKWARP_SIMT_REDUCE(int, __reduce_min_sync, a < b ? a : b)
SHRINKWARP_SIMT_REDUCE(int, __reduce_max_sync, a > b ? a : b)
#undef SHRINKWARP_SIMT_REDUCE

// ---- atomics: relaxed, as on a device ----

namespace shrinkwarp::simt {

/// Replaces *address by change(*address) in one step and returns what was there.
template <class T, class F>
T atomic_update(T* address, F change) {
  count_atomic();
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  for (;;) {
    T wanted = change(old);
    if (__atomic_compare_exchange(address, &old, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return old;
  }
}

/// Sums modulo 2^n, as a device does.
template <class T>
T wrapping_add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}

}  // namespace shrinkwarp::simt

#define SHRINKWARP_SIMT_ATOMIC(T, name, expression)                                              \
  inline T name(T* address, T value) {                                                           \
    return shrinkwarp::simt::atomic_update(address, [value](T old) -> T { return expression; }); \
  }
#define SHRINKWARP_SIMT_ATOMICS(T)                                                                             \
  SHRINKWARP_SIMT_ATOMIC(T, atomicMin, old < value ? old : value)                                              \
  SHRINKWARP_SIMT_ATOMIC(T, atomicMax, old > value ? old : value)                                              \
  SHRINKWARP_SIMT_ATOMIC(T, atomicExch, (static_cast<void>(old), value))                                       \
  SHRINKWARP_SIMT_ATOMIC(T, atomicAnd, old& value)                                                             \
  SHRINKWARP_SIMT_ATOMIC(T, atomicOr, old | value)                                                             \
  SHRINKWARP_SIMT_ATOMIC(T, atomicXor, old ^ value)                                                            \
  inline T atomicCAS(T* address, T compare, T value) {                                                         \
    return shrinkwarp::simt::atomic_update(address, [=](T old) -> T { return old == compare ? value : old; }); \
  }
SHRINKWARP_SIMT_ATOMICS(int)
SHRINKWARP_SIMT_ATOMICS(unsigned)
SHRINKWARP_SIMT_ATOMICS(unsigned long long)
SHRINKWARP_SIMT_ATOMIC(long long, atomicMin, old < value ? old : value)
SHRINKWARP_SIMT_ATOMIC(long long, atomicMax, old > value ? old : value)
SHRINKWARP_SIMT_ATOMIC(int, atomicAdd, shrinkwarp::simt::wrapping_add(old, value))
SHRINKWARP_SIMT_ATOMIC(unsigned, atomicAdd, old + value)
SHRINKWARP_SIMT_ATOMIC(unsigned long long, atomicAdd, old + value)
SHRINKWARP_SIMT_ATOMIC(float, atomicAdd, old + value)
SHRINKWARP_SIMT_ATOMIC(double, atomicAdd, old + value)
SHRINKWARP_SIMT_ATOMIC(int, atomicSub, static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)))
SHRINKWARP_SIMT_ATOMIC(unsigned, atomicSub, old - value)
SHRINKWARP_SIMT_ATOMIC(float, atomicExch, (static_cast<void>(old), value))
#undef SHRINKWARP_SIMT_ATOMICS
#undef SHRINKWARP_SIMT_ATOMIC

// ---- memory ----

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
template <class T>
T __ldca(const T* pointer) {
  return *pointer;
}
template <class T>
T __ldcg(const T* pointer) {
  return *pointer;
}
template <class T>
T __ldcs(const T* pointer) {
  return *pointer;
}
template <class T>
void __stcg(T* pointer, T value) {
  *pointer = value;
}
template <class T>
void __stcs(T* pointer, T value) {
  *pointer = value;
}

// ---- numbers ----

namespace shrinkwarp::simt {

template <class To, class From>
To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

template <class A, class B>
using Common =
    std::common_type_t<std::enable_if_t<std::is_arithmetic_v<A>, A>, std::enable_if_t<std::is_arithmetic_v<B>, B>>;

}  // namespace shrinkwarp::simt

// As CUDA's: the floating ones ignore a NaN.
template <class A, class B>
constexpr shrinkwarp::simt::Common<A, B> min(A a, B b) {
  using T = shrinkwarp::simt::Common<A, B>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmin(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
  }
}
template <class A, class B>
constexpr shrinkwarp::simt::Common<A, B> max(A a, B b) {
  using T = shrinkwarp::simt::Common<A, B>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmax(static_cast<T>(a), static_cast<T>(b));
  } else {
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
  }
}

inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (x >> i & 1u) << (31 - i);
  return result;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline int __float_as_int(float x) {
  return shrinkwarp::simt::bit_cast<int>(x);
}
inline unsigned __float_as_uint(float x) {
  return shrinkwarp::simt::bit_cast<unsigned>(x);
}
inline float __int_as_float(int x) {
  return shrinkwarp::simt::bit_cast<float>(x);
}
inline float __uint_as_float(unsigned x) {
  return shrinkwarp::simt::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x) {
  return shrinkwarp::simt::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return shrinkwarp::simt::bit_cast<double>(x);
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline double __dadd_rn(double a, double b) {
  return a + b;
}
inline double __dsub_rn(double a, double b) {
  return a - b;
}
inline double __dmul_rn(double a, double b) {
  return a * b;
}
inline double __ddiv_rn(double a, double b) {
  return a / b;
}
inline double __fma_rn(double a, double b, double c) {
  return std::fma(a, b, c);
}
inline double __dsqrt_rn(double x) {
  return std::sqrt(x);
}
inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline double rsqrt(double x) {
  return 1.0 / std::sqrt(x);
}
inline float rsqrt(float x) {
  return rsqrtf(x);
}
inline float __expf(float x) {
  return expf(x);
}
inline float __logf(float x) {
  return logf(x);
}
inline float __saturatef(float x) {
  return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f;
}
inline float __double2float_rn(double x) {
  return static_cast<float>(x);
}
inline float __double2float_ru(double x) {
  const auto y = static_cast<float>(x);
  return static_cast<double>(y) < x ? std::nextafter(y, std::numeric_limits<float>::infinity()) : y;
}
inline float __double2float_rd(double x) {
  const auto y = static_cast<float>(x);
  return static_cast<double>(y) > x ? std::nextafter(y, -std::numeric_limits<float>::infinity()) : y;
}
inline float __int2float_rn(int x) {
  return static_cast<float>(x);
}
inline int __float2int_rn(float x) {
  return static_cast<int>(std::nearbyint(x));
}
inline int __float2int_rd(float x) {
  return static_cast<int>(std::floor(x));
}
inline int __float2int_ru(float x) {
  return static_cast<int>(std::ceil(x));
}
inline int __float2int_rz(float x) {
  return static_cast<int>(x);
}
inline int __double2int_rn(double x) {
  return static_cast<int>(std::nearbyint(x));
}
