// Checked CUDA runtime calls. Only for sources that are part of CUDA builds.
#pragma once

#include <cuda_runtime.h>

#include <shrinkwarp/runtime/error.hpp>

/// Throws CudaError with the expression and CUDA's own words unless the call succeeds.
#define SHRINKWARP_CUDA_CHECK(expression)                                                                              \
  do {                                                                                                                 \
    const cudaError_t shrinkwarp_status = (expression);                                                                \
    SHRINKWARP_REQUIRE(shrinkwarp_status == cudaSuccess, ::shrinkwarp::CudaError, #expression,                         \
                       " failed: ", cudaGetErrorName(shrinkwarp_status), ", ", cudaGetErrorString(shrinkwarp_status)); \
  } while (false)
