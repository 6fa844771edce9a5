// A network's file: its parameters as tensors, and what it is as metadata.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {

/// What the metadata of a network's file say.
struct NetworkDescription {
  NetworkSpec spec;
  std::int64_t rows = 0, atoms = 0;   ///< of its dictionary
  std::uint64_t dictionary_hash = 0;  ///< of the dictionary's values
  LambdaShares lambda;                ///< that it was trained for
  bool in_double = false;             ///< the type of its parameters
};

/// Adds the metadata to a file.
void describe(const NetworkDescription& description, Safetensors& file);

/// @throws ValueError (naming the file, what was found and what was wanted: no network of this project, a version or kind that
///         is not known, a number that is none, tensors that are not intact)
NetworkDescription description_of(const Safetensors& file);

/// Refuses a network of another dictionary. @throws ShapeError (another size), ValueError (other values)
void require_dictionary(const NetworkDescription& description, const std::string& file, std::int64_t rows,
                        std::int64_t atoms, std::uint64_t hash, const std::string& dictionary);

}  // namespace shrinkwarp
