# What is installed: libraries with their headers, the program (tools/cli), the CMake package and the pkg-config file. All
# paths in them are relative, so that an installed tree can be moved. docs/embedding.md tells its users how to link.

# While the major version is 0 a new minor version may change the ABI: docs/embedding.md has the policy.
set(SHRINKWARP_SOVERSION ${PROJECT_VERSION_MAJOR})
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(SHRINKWARP_SOVERSION 0.${PROJECT_VERSION_MINOR})
endif()

# What our static libraries need besides zlib and threads: target PkgConfig::<first>, pkg-config module, name and Debian
# package of each.
set(SHRINKWARP_STATIC_DEPENDENCIES
    "openblas openblas OpenBLAS libopenblas-dev"
    "hwy libhwy Highway libhwy-dev"
    "xxhash libxxhash xxHash libxxhash-dev")

# Installed programs and libraries find the libraries beside them; nothing outside the installed tree is named.
if(BUILD_SHARED_LIBS AND NOT DEFINED CMAKE_INSTALL_RPATH)
  file(RELATIVE_PATH SHRINKWARP_BIN_TO_LIB "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
  set(CMAKE_INSTALL_RPATH "$ORIGIN" "$ORIGIN/${SHRINKWARP_BIN_TO_LIB}")
endif()

# shrinkwarp_install_library(name header...): installs and exports the library of a room as shrinkwarp::<name>.
function(shrinkwarp_install_library name)
  set(target shrinkwarp_${name})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} VERSION ${PROJECT_VERSION} SOVERSION ${SHRINKWARP_SOVERSION})
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(NOT SHRINKWARP_INSTALL)
    return()
  endif()
  install(TARGETS ${target} EXPORT shrinkwarp)
  foreach(header IN LISTS ARGN)
    cmake_path(GET header PARENT_PATH folder)
    install(FILES ${header} DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/shrinkwarp/${name}/${folder}")
  endforeach()
endfunction()

# shrinkwarp_install_package(): what belongs to no room. Called once, after the libraries.
function(shrinkwarp_install_package)
  include(CMakePackageConfigHelpers)
  set(package "${CMAKE_INSTALL_LIBDIR}/cmake/shrinkwarp")
  install(FILES "${SHRINKWARP_INCLUDE_DIR}/shrinkwarp/config.hpp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/shrinkwarp")
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

  install(EXPORT shrinkwarp NAMESPACE shrinkwarp:: FILE shrinkwarp-targets.cmake DESTINATION "${package}")
  set(SHRINKWARP_IS_SHARED false)
  if(BUILD_SHARED_LIBS)
    set(SHRINKWARP_IS_SHARED true)
  endif()
  set(SHRINKWARP_HAS_C false)
  if(SHRINKWARP_BUILD_C)
    set(SHRINKWARP_HAS_C true)
  endif()
  set(SHRINKWARP_FIND_MODULES "")
  foreach(dependency IN LISTS SHRINKWARP_STATIC_DEPENDENCIES)
    string(APPEND SHRINKWARP_FIND_MODULES "  _shrinkwarp_find_module(${dependency})\n")
  endforeach()
  configure_package_config_file("${PROJECT_SOURCE_DIR}/tools/cmake/shrinkwarp-config.cmake.in" shrinkwarp-config.cmake
                                INSTALL_DESTINATION "${package}" NO_SET_AND_CHECK_MACRO)
  set(compatibility SameMajorVersion)
  if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(compatibility SameMinorVersion)
  endif()
  write_basic_package_version_file(shrinkwarp-config-version.cmake COMPATIBILITY ${compatibility})
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/shrinkwarp-config.cmake"
                "${CMAKE_CURRENT_BINARY_DIR}/shrinkwarp-config-version.cmake" DESTINATION "${package}")

  # With shared libraries a program links ours alone. With static ones it links what they use too. OpenBLAS stands there
  # with its flags and not under Requires.private, where pkg-config --static would add libgfortran, which only a static
  # OpenBLAS needs.
  file(RELATIVE_PATH to_include "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
  set(variables "")
  set(libraries "-L\${libdir} -lshrinkwarp_models -lshrinkwarp_kernels -lshrinkwarp_runtime")
  set(c_libraries "-L\${libdir} -lshrinkwarp_c")
  set(private "")
  if(SHRINKWARP_HAS_CUDA)
    set(variables "cuda_libdir=${CUDAToolkit_LIBRARY_DIR}\n")
    set(cuda_version ${CUDAToolkit_VERSION_MAJOR})
    string(APPEND c_libraries " -Wl,-rpath-link,\${cuda_libdir}")
  endif()
  if(BUILD_SHARED_LIBS)
    string(APPEND c_libraries " -Wl,-rpath-link,\${libdir}")
    if(SHRINKWARP_HAS_CUDA)
      string(APPEND libraries " -Wl,-rpath-link,\${cuda_libdir}")
    endif()
  else()
    set(modules ${SHRINKWARP_STATIC_DEPENDENCIES})
    list(FILTER modules EXCLUDE REGEX "^openblas ")
    list(TRANSFORM modules REPLACE "^[^ ]+ ([^ ]+) .*" "\\1")
    list(JOIN modules " " modules)
    list(JOIN openblas_LDFLAGS " " openblas)
    set(private "Requires.private: ${modules} zlib\nLibs.private: ${openblas} -pthread")
    if(SHRINKWARP_HAS_CUDA)
      string(APPEND private " -L\${cuda_libdir} -l:libcublas.so.${cuda_version} -l:libcublasLt.so.${cuda_version}"
                            " -l:libcudart.so.${cuda_version}")
    endif()
    string(APPEND private "\n")
  endif()
  file(CONFIGURE OUTPUT shrinkwarp.pc @ONLY CONTENT [=[
includedir=${pcfiledir}/@to_include@
libdir=${pcfiledir}/..
@variables@
Name: shrinkwarp
Description: @PROJECT_DESCRIPTION@
Version: @PROJECT_VERSION@
Cflags: -I${includedir}
Libs: @libraries@
@private@]=])
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/shrinkwarp.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
  if(SHRINKWARP_BUILD_C)
    file(CONFIGURE OUTPUT shrinkwarp_c.pc @ONLY CONTENT [=[
includedir=${pcfiledir}/@to_include@
libdir=${pcfiledir}/..
@variables@
Name: shrinkwarp_c
Description: @PROJECT_DESCRIPTION@, from C
Version: @PROJECT_VERSION@
Cflags: -I${includedir}
Libs: @c_libraries@
]=])
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/shrinkwarp_c.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
  endif()
endfunction()
