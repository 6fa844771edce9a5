// Codes that a solve starts from, out of a learned network.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>

namespace shrinkwarp::cli {

/// The codes of all observations by the network of a file.
/// @param dictionary_name  for messages
/// @throws as read_safetensors, description_of, require_dictionary, network_codes
SparseCodes learned_start(const std::string& network, const Context& context, const LoadedDictionary& dictionary,
                          const std::string& dictionary_name, ObservationSource& observations, const LambdaRule& rule,
                          std::int64_t memory, const CancelToken* cancel);

}  // namespace shrinkwarp::cli
