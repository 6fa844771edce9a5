#include <shrinkwarp/models/resnet/torchvision.hpp>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

const std::vector<ResnetLayout>& resnet_layouts() {
  static const std::vector<ResnetLayout> layouts = {{"resnet18", false, {2, 2, 2, 2}},
                                                    {"resnet34", false, {3, 4, 6, 3}},
                                                    {"resnet50", true, {3, 4, 6, 3}},
                                                    {"resnet101", true, {3, 4, 23, 3}},
                                                    {"resnet152", true, {3, 8, 36, 3}}};
  return layouts;
}

const ResnetLayout& resnet_layout(const std::string& name) {
  for (const ResnetLayout& layout : resnet_layouts())
    if (name == layout.name) return layout;
  SHRINKWARP_THROW(ValueError, "Net: found the architecture '", name,
                   "', wanted mlp, resnet18, resnet34, resnet50, resnet101 or resnet152");
}

}  // namespace shrinkwarp
