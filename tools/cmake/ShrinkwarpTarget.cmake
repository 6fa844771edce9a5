# shrinkwarp_add_library(name [HEADERS header...]): a library shrinkwarp_<name>, alias shrinkwarp::<name>, of every source in
# the current folder: .cpp always; .cu and the sources named cuda_* only in CUDA builds.
#
# With HEADERS it is a library for others: shared or static as BUILD_SHARED_LIBS says, installed and exported, and so are the
# headers listed, and no others. Without, it is a static part of the program.
function(shrinkwarp_add_library name)
  cmake_parse_arguments(ARG "" "" "HEADERS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  if(SHRINKWARP_HAS_CUDA)
    file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cu")
    list(APPEND sources ${cuda_sources})
  else()
    list(FILTER sources EXCLUDE REGEX "/cuda_[^/]*$")
  endif()
  set(target shrinkwarp_${name})
  if(ARG_HEADERS)
    add_library(${target} ${sources})
    shrinkwarp_install_library(${name} ${ARG_HEADERS})
  else()
    add_library(${target} STATIC ${sources})
  endif()
  add_library(shrinkwarp::${name} ALIAS ${target})
  target_compile_features(${target} PUBLIC cxx_std_17)
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${SHRINKWARP_INCLUDE_DIR}>)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
  if(SHRINKWARP_HAS_CUDA)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:${SHRINKWARP_CUDA_OPTIONS}>)
  endif()
endfunction()
