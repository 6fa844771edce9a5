// Signed sizes of the library as indices of standard containers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shrinkwarp {

/// i >= 0 as containers count.
inline std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

}  // namespace shrinkwarp
