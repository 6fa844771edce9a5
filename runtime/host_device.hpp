// Marks a function that host and device code share; nothing where no CUDA compiler is at work.
#pragma once

#ifdef __CUDACC__
#define SHRINKWARP_HOST_DEVICE __host__ __device__
#else
#define SHRINKWARP_HOST_DEVICE
#endif
