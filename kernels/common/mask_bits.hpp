// Bits of a vector's mask as a number.
#pragma once

#include <hwy/base.h>

namespace shrinkwarp::cpu {

/// `bits`, by way of a general register. Without it GCC 12 may widen the bits of an AVX-512 mask by storing a byte and loading eight,
/// seven of them anything.
template <class T>
HWY_INLINE T plain_bits(T bits) {
#if HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86
  asm("" : "+r"(bits));
#endif
  return bits;
}

}  // namespace shrinkwarp::cpu
