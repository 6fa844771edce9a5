// The order in which passes of a training visit its samples.
#pragma once

#include <cstdint>
#include <vector>

namespace shrinkwarp {

/// Samples 0 .. count - 1 in the order of a pass: a permutation that seed and pass determine.
std::vector<std::int64_t> shuffled(std::int64_t count, std::uint64_t seed, std::uint64_t pass);

}  // namespace shrinkwarp
