// Which instruction sets Highway compiles the CPU loops for: one list for all sources, or another might be chosen in one than in
// the next. Included before any header of Highway's.
#pragma once

// SSSE3 adds nothing to SSE2 here, and neither do the integer instructions of AVX3_DL to AVX3.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#endif
