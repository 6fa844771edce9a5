// A network that an earlier training has finished, and whether this training would make the same.
#pragma once

#include <string>

#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>

namespace shrinkwarp {

/// Has a network's file say how it was made.
void add_making(const Fingerprint& fingerprint, Safetensors& file);

/// How the making of the network at `output` differs from that of a training, as Fingerprint::difference says it; empty where
/// nothing differs. @throws IoError, ValueError (no network, or one that does not say how it was made)
std::string difference_of_network(const std::string& output, const Fingerprint& fingerprint);

}  // namespace shrinkwarp
