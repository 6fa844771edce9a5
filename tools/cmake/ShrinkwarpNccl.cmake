# Decides whether the program knows NCCL, by which the GPUs of ranks that train add their gradients: where it has CUDA and
# MPI. The result is SHRINKWARP_HAS_NCCL; where it is true SHRINKWARP_NCCL_INCLUDE_DIR has nccl.h. The library itself is
# loaded at run time (tools/ranks/gpu_ranks.hpp says why).

set(SHRINKWARP_HAS_NCCL false)
if(NOT SHRINKWARP_ENABLE_NCCL MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SHRINKWARP_ENABLE_NCCL is '${SHRINKWARP_ENABLE_NCCL}', wanted AUTO, ON or OFF")
endif()
if(SHRINKWARP_ENABLE_NCCL STREQUAL "OFF")
  message(STATUS "NCCL: off")
  return()
endif()

set(missing "")
if(NOT SHRINKWARP_HAS_CUDA)
  set(missing "CUDA")
elseif(NOT SHRINKWARP_HAS_MPI)
  set(missing "MPI")
else()
  find_path(SHRINKWARP_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  if(NOT SHRINKWARP_NCCL_INCLUDE_DIR)
    set(missing "nccl.h")
  endif()
endif()
if(NOT missing)
  set(SHRINKWARP_HAS_NCCL true)
  message(STATUS "NCCL: on, by ${SHRINKWARP_NCCL_INCLUDE_DIR}/nccl.h")
elseif(SHRINKWARP_ENABLE_NCCL STREQUAL "ON")
  message(FATAL_ERROR "SHRINKWARP_ENABLE_NCCL is ON, but there is no ${missing}: NCCL is for builds with CUDA and MPI, and "
                      "SHRINKWARP_NCCL_INCLUDE_DIR is the folder of its nccl.h")
else()
  message(STATUS "NCCL: off (no ${missing})")
endif()
