// The variables that CUDA defines in every kernel, set by the executor at each switch.
#pragma once

#include <cuda_runtime.h>

extern __thread uint3 threadIdx;
extern __thread uint3 blockIdx;
extern __thread dim3 blockDim;
extern __thread dim3 gridDim;
inline constexpr int warpSize = 32;
