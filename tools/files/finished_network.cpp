#include <shrinkwarp/tools/files/finished_network.hpp>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kKey = "fingerprint";

}  // namespace

void add_making(const Fingerprint& fingerprint, Safetensors& file) {
  file.metadata[kKey] = fingerprint.text();
}

std::string difference_of_network(const std::string& output, const Fingerprint& fingerprint) {
  const Safetensors file = read_safetensors(output);
  const auto found = file.metadata.find(kKey);
  SHRINKWARP_REQUIRE(found != file.metadata.end(), ValueError, output, " does not say how it was made: found no '",
                     kKey, "' among the metadata");
  return fingerprint.difference(found->second);
}

}  // namespace shrinkwarp
