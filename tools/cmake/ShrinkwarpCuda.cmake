# Decides whether the CUDA backend is built, enables the language and finds the toolkit.
# The results are SHRINKWARP_HAS_CUDA, true or false as C++ spells them, and SHRINKWARP_CUDA_LIBRARIES, what to link (where
# it is installed, the targets that shrinkwarp-config.cmake makes).

set(SHRINKWARP_HAS_CUDA false)
if(NOT SHRINKWARP_ENABLE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SHRINKWARP_ENABLE_CUDA is '${SHRINKWARP_ENABLE_CUDA}', wanted AUTO, ON or OFF")
endif()
if(SHRINKWARP_ENABLE_CUDA STREQUAL "OFF")
  message(STATUS "CUDA backend: off")
  return()
endif()

include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real;100-real;120")
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared) # a static one would become part of what we hand out
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(SHRINKWARP_CUDA_LIBRARIES $<BUILD_INTERFACE:CUDA::cudart> $<BUILD_INTERFACE:CUDA::cublas>
                                $<INSTALL_INTERFACE:shrinkwarp::cudart> $<INSTALL_INTERFACE:shrinkwarp::cublas>)
  set(SHRINKWARP_HAS_CUDA true)
  message(STATUS "CUDA backend: on, nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
elseif(SHRINKWARP_ENABLE_CUDA STREQUAL "ON")
  message(FATAL_ERROR "SHRINKWARP_ENABLE_CUDA is ON, but no CUDA compiler was found: put nvcc on PATH or set CUDACXX")
else()
  message(STATUS "CUDA backend: off (no CUDA compiler on PATH)")
endif()

# Spills and local arrays in a hand-written kernel are bugs: ptxas turns them into errors. Sources that only call CUB or
# Thrust are excepted where they are listed.
set(SHRINKWARP_CUDA_OPTIONS -lineinfo -Werror=all-warnings -Xcompiler=-Wall,-Wextra)
set(SHRINKWARP_PTXAS_GATE -Xptxas=--warn-on-spills,--warn-on-local-memory-usage,-Werror)
