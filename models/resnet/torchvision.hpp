// The ResNets of torchvision (He, Zhang, Ren, Sun 2015): how many blocks of which kind each has.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace shrinkwarp {

struct ResnetLayout {
  const char* name;
  bool bottleneck;                     ///< blocks of three convolutions, else of two
  std::array<std::int64_t, 4> blocks;  ///< of each stage
};

const std::vector<ResnetLayout>& resnet_layouts();
/// @throws ValueError (a name that is none of theirs, nor mlp)
const ResnetLayout& resnet_layout(const std::string& name);

}  // namespace shrinkwarp
