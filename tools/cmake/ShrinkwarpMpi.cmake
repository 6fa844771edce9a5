# Decides whether the program knows MPI. The result is SHRINKWARP_HAS_MPI; where it is true there is the target MPI::MPI_CXX.

set(SHRINKWARP_HAS_MPI false)
if(NOT SHRINKWARP_ENABLE_MPI MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SHRINKWARP_ENABLE_MPI is '${SHRINKWARP_ENABLE_MPI}', wanted AUTO, ON or OFF")
endif()
if(SHRINKWARP_ENABLE_MPI STREQUAL "OFF")
  message(STATUS "MPI: off")
  return()
endif()

set(MPI_CXX_SKIP_MPICXX TRUE) # the C interface is what is used
find_package(MPI 3.0 QUIET COMPONENTS CXX)
if(MPI_CXX_FOUND)
  set(SHRINKWARP_HAS_MPI true)
  message(STATUS "MPI: on, MPI ${MPI_CXX_VERSION} of ${MPI_CXX_COMPILER}")
elseif(SHRINKWARP_ENABLE_MPI STREQUAL "ON")
  message(FATAL_ERROR "SHRINKWARP_ENABLE_MPI is ON, but no MPI was found: put its mpicxx on PATH or set MPI_CXX_COMPILER")
else()
  message(STATUS "MPI: off (none was found)")
endif()
