// The structs of shrinkwarp.h as the library reads and writes them, whichever version a program was compiled for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <shrinkwarp/tools/capi/shrinkwarp.h>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::c {

static_assert(sizeof(void*) == 8, "fields of 8 bytes, so that a size that is a multiple of 8 cuts none in two");

/// More than any version will have: a size beyond it was never filled in.
constexpr std::size_t kLargestStruct = 4096;

/// Refuses NULL and sizes that no version has.
inline void check_struct(const void* given, std::size_t size, const char* name) {
  SHRINKWARP_REQUIRE(given, ValueError, name, " is NULL, wanted a struct");
  // 8 would be the size of a pointer to the struct.
  SHRINKWARP_REQUIRE(size > 8 && size % 8 == 0 && size <= kLargestStruct, ValueError, name, ".struct_size is ", size,
                     ", wanted the size of the struct, as its function _init sets it");
}

inline void set_defaults(shrinkwarp_matrix& matrix) {
  matrix.type = SHRINKWARP_FLOAT64;
}
inline void set_defaults(shrinkwarp_observations& observations) {
  observations.type = SHRINKWARP_FLOAT64;
}
inline void set_defaults(shrinkwarp_lambda& lambda) {
  lambda.kind = SHRINKWARP_LAMBDA_SAMPLE_FRACTION;
  lambda.lambda_max = -1;
}
inline void set_defaults(shrinkwarp_options& options) {
  const LassoOptions lasso;
  options.solver = SHRINKWARP_SOLVER_AUTOMATIC;
  options.restart = lasso.restart;
  options.gap = lasso.gap;
  options.max_iterations = lasso.max_iterations;
  options.memory_limit = lasso.memory_limit;
  options.group_size = lasso.penalty.group_size;
}
inline void set_defaults(shrinkwarp_summary&) {}

/// A struct of this version with its defaults.
template <class Struct>
Struct with_defaults() {
  Struct result{};
  static_assert(sizeof result % 8 == 0);
  result.struct_size = sizeof result;
  set_defaults(result);
  return result;
}

/// Fills in what the caller has room for; what this version does not know becomes 0.
template <class Struct>
void initialise(Struct* given, std::size_t size, const char* name) {
  check_struct(given, size, name);
  const Struct fields = with_defaults<Struct>();
  std::memset(given, 0, size);
  std::memcpy(given, &fields, std::min(size, sizeof fields));
  given->struct_size = size;
}

/// The caller's struct as one of this version.
/// @throws ValueError (NULL, a size that no version has, a field that this version does not know and that is not 0)
template <class Struct>
Struct read_struct(const Struct* given, const char* name) {
  const std::size_t size = given ? given->struct_size : 0;
  check_struct(given, size, name);
  Struct result = with_defaults<Struct>();
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t k = sizeof result; k < size; ++k)
    SHRINKWARP_REQUIRE(bytes[k] == 0, ValueError, name, " sets a field of a later version: ", size,
                       " bytes, wanted 0 beyond the ", sizeof result, " that this version knows");
  std::memcpy(&result, given, std::min(size, sizeof result));
  result.struct_size = sizeof result;
  return result;
}

/// Into the caller's struct, as much as it has room for.
template <class Struct>
void write_struct(Struct fields, Struct* given) {
  fields.struct_size = given->struct_size;
  std::memcpy(given, &fields, std::min(given->struct_size, sizeof fields));
}

}  // namespace shrinkwarp::c
