#include <shrinkwarp/models/resnet/net_file.hpp>

#include <algorithm>
#include <string>
#include <utility>

#include <shrinkwarp/models/resnet/net_names.hpp>
#include <shrinkwarp/models/resnet/torchvision.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/metadata.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kFormat = "shrinkwarp-net-1";
constexpr const char* kWanted = "a network's file as shrinkwarp net writes it";

constexpr std::pair<const char*, bool> kAnswers[] = {{"yes", true}, {"no", false}};

template <class Table>
auto value_in(const Table& table, const Metadata& metadata, const char* key) {
  return value_named(table, printable(metadata.text(key)), concat(metadata.path(), ": '", key, "'"));
}

/// @throws ShapeError where the file's tensor has another shape, ValueError where it has none
void require_shape(const Safetensors& file, const std::string& name, const std::vector<std::int64_t>& wanted) {
  const std::vector<std::int64_t>& found = file.at(name).shape;
  SHRINKWARP_REQUIRE(found == wanted, ShapeError, file.path(), ": the tensor '", name, "' has the shape ",
                     shape_text(found), ", wanted ", shape_text(wanted));
}

/// The sizes of a network are those of its tensors, so that nothing is made for a text that says more, or less.
void require_tensors(const Safetensors& file, const NetSpec& spec) {
  if (spec.architecture != "mlp") {
    const std::vector<std::int64_t>& head = file.at("fc.weight").shape;
    require_shape(file, "conv1.weight", {64, spec.input.channels, 7, 7});
    require_shape(file, "fc.weight", {spec.classes, head.size() == 2 ? head[1] : 0});
    return;
  }
  const auto block = [](std::int64_t t) { return "blocks." + std::to_string(t) + ".linear1.weight"; };
  if (spec.input.size() != spec.width) require_shape(file, "stem.weight", {spec.width, spec.input.size()});
  require_shape(file, block(spec.blocks - 1), {spec.hidden, spec.width});
  require_shape(file, "head.weight", {spec.classes, spec.width});
  SHRINKWARP_REQUIRE(file.tensors().count(block(spec.blocks)) == 0, ValueError, file.path(), ": 'blocks' is ",
                     spec.blocks, ", wanted all those whose tensors there are, '", block(spec.blocks), "' among them");
}

/// The resnet whose tensors these are; torchvision's files say nothing else.
NetSpec torchvision_spec(const Safetensors& file, const Shape& input) {
  const auto has = [&](const std::string& name) { return file.tensors().count(name) > 0; };
  SHRINKWARP_REQUIRE(has("conv1.weight") && has("fc.weight") && has("layer1.0.conv1.weight"), ValueError, file.path(),
                     ": found neither 'format' among the metadata nor the tensors of a ResNet of torchvision, wanted ",
                     kWanted, ", or one of these");
  const bool bottleneck = has("layer1.0.conv3.weight");
  for (const ResnetLayout& layout : resnet_layouts()) {
    if (layout.bottleneck != bottleneck) continue;
    bool same = true;
    for (std::size_t stage = 0; stage < layout.blocks.size(); ++stage) {
      const std::string name = "layer" + std::to_string(stage + 1) + ".";
      const std::int64_t blocks = layout.blocks[stage];
      same = same && has(name + std::to_string(blocks - 1) + ".conv1.weight") &&
             !has(name + std::to_string(blocks) + ".conv1.weight");
    }
    if (!same) continue;
    const std::vector<std::int64_t>& head = file.at("fc.weight").shape;
    SHRINKWARP_REQUIRE(head.size() == 2 && head[0] > 0, ValueError, file.path(),
                       ": the tensor 'fc.weight' has the shape ", shape_text(head), ", wanted (classes, features)");
    const std::vector<std::int64_t>& first = file.at("conv1.weight").shape;
    SHRINKWARP_REQUIRE(first.size() == 4 && first[1] > 0, ValueError, file.path(),
                       ": the tensor 'conv1.weight' has the shape ", shape_text(first),
                       ", wanted (64, channels, 7, 7)");
    NetSpec spec;
    spec.architecture = layout.name;
    spec.input = {first[1], input.height, input.width};
    spec.classes = head[0];
    return spec;
  }
  SHRINKWARP_THROW(ValueError, file.path(),
                   ": found the tensors of a residual network with other blocks than resnet18, resnet34, resnet50, "
                   "resnet101 and resnet152 have, wanted one of these");
}

/// The gammas of layers where one for all is not what the file's tensors have.
std::vector<double> gammas_of(const Safetensors& file, const NetSpec& spec, double gamma) {
  // Stages have gammas of their own only where all have as many layers.
  const std::string name = spec.architecture == "mlp" ? "momentum.gamma" : "layer1.momentum.gamma";
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) return {};
  const std::vector<double> gammas = file.values<double>(name, found->second.shape);
  const bool single = found->second.type == StoredType::f32;
  const double one = single ? static_cast<double>(static_cast<float>(gamma)) : gamma;
  bool same = true;
  for (const double its : gammas) {
    SHRINKWARP_REQUIRE(its > 0 && its <= 1, ValueError, file.path(), ": the tensor '", name, "' holds ", its,
                       ", wanted numbers over 0 and at most 1");
    same = same && its == one;
  }
  return same ? std::vector<double>() : gammas;
}

MomentumSpec momentum_of(const Metadata& metadata) {
  MomentumSpec momentum;
  momentum.gamma = metadata.number<double>("gamma", 0, 1);
  momentum.form = value_in(kMomentumForms, metadata, "form");
  momentum.arithmetic = value_in(kArithmetics, metadata, "arithmetic");
  momentum.learned = value_in(kAnswers, metadata, "gamma_learned");
  momentum.low = metadata.number<double>("gamma_low", 0, 1);
  momentum.high = metadata.number<double>("gamma_high", momentum.low, 1);
  return momentum;
}

}  // namespace

void describe_net(const NetSpec& spec, Safetensors& file) {
  const auto put = [&](const char* key, const std::string& value) { file.metadata[key] = value; };
  put("format", kFormat);
  put("architecture", spec.architecture);
  put("input", concat(spec.input.channels, ",", spec.input.height, ",", spec.input.width));
  put("classes", text_of(spec.classes));
  if (spec.architecture == "mlp") {
    put("blocks", text_of(spec.blocks));
    put("width", text_of(spec.width));
    put("hidden", text_of(spec.hidden));
    put("activation", name_of(kActivations, spec.activation));
    put("normalisation", name_of(kNormalisations, spec.normalisation));
    put("dropout", text_of(spec.dropout));
    put("initial_velocity", name_of(kAnswers, spec.initial_velocity));
  }
  put("momentum", name_of(kAnswers, spec.momentum.has_value()));
  if (!spec.momentum) return;
  put("gamma", text_of(spec.momentum->gamma));
  put("form", name_of(kMomentumForms, spec.momentum->form));
  put("arithmetic", name_of(kArithmetics, spec.momentum->arithmetic));
  put("gamma_learned", name_of(kAnswers, spec.momentum->learned));
  put("gamma_low", text_of(spec.momentum->low));
  put("gamma_high", text_of(spec.momentum->high));
}

NetSpec net_spec_of(const Safetensors& file, const Shape& input) {
  if (file.metadata.count("format") == 0) return torchvision_spec(file, input);
  const Metadata metadata(file, kWanted);
  const std::string& format = metadata.text("format");
  SHRINKWARP_REQUIRE(format == kFormat, ValueError, file.path(), ": found the format '", printable(format),
                     "', wanted ", kFormat);
  SHRINKWARP_REQUIRE(file.is_intact(), ValueError, file.path(),
                     ": found other numbers than were written, wanted those: the file is damaged");
  constexpr std::int64_t kMost = 1 << 24;
  constexpr double kMostFeatures = 4294967296;
  NetSpec spec;
  spec.architecture = metadata.text("architecture");
  if (spec.architecture != "mlp") resnet_layout(spec.architecture);
  const std::vector<std::int64_t> sizes = metadata.numbers("input", 1, kMost);
  SHRINKWARP_REQUIRE(sizes.size() == 3, ValueError, file.path(), ": 'input' is '", printable(metadata.text("input")),
                     "', wanted channels,height,width");
  // In double, where no product overflows.
  const double features = static_cast<double>(sizes[0]) * static_cast<double>(sizes[1]) * static_cast<double>(sizes[2]);
  SHRINKWARP_REQUIRE(features <= kMostFeatures, ValueError, file.path(), ": 'input' is '",
                     printable(metadata.text("input")), "', wanted at most 2^32 features");
  spec.input = {sizes[0], sizes[1], sizes[2]};
  spec.classes = metadata.number<std::int64_t>("classes", 1, kMost);
  if (spec.architecture == "mlp") {
    spec.blocks = metadata.number<std::int64_t>("blocks", 1, kMost);
    spec.width = metadata.number<std::int64_t>("width", 1, kMost);
    spec.hidden = metadata.number<std::int64_t>("hidden", 1, kMost);
    spec.activation = value_in(kActivations, metadata, "activation");
    spec.normalisation = value_in(kNormalisations, metadata, "normalisation");
    spec.dropout = metadata.number<double>("dropout", 0, 1);
    spec.initial_velocity = value_in(kAnswers, metadata, "initial_velocity");
  }
  require_tensors(file, spec);
  if (value_in(kAnswers, metadata, "momentum")) {
    spec.momentum = momentum_of(metadata);
    if (!spec.momentum->learned) spec.momentum->gammas = gammas_of(file, spec, spec.momentum->gamma);
  }
  return spec;
}

}  // namespace shrinkwarp
