// Options that the commands behind `shrinkwarp net` share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp::cli {

/// Where a network's residual blocks are to have momentum, and how.
struct MomentumArguments {
  std::optional<double> gamma;
  std::string mode = "exact";
  std::vector<double> range;
  bool mode_given = false, plain = false, learned = false, stored = false;
};
/// @param trains  whether the options that matter in training alone are wanted too
void add_momentum_options(CLI::App& command, MomentumArguments& arguments, bool trains);
/// @throws UsageError (options that want --gamma without it; as require_gamma_options)
std::optional<MomentumSpec> momentum_spec(const MomentumArguments& arguments);
/// Refuses gammas that no network has, by the names of their options. @throws UsageError
void require_gamma_options(const MomentumSpec& spec);

/// Device and threads.
struct PlaceArguments {
  std::string device = "auto";
  int threads = 0;
};
void add_place_options(CLI::App& command, PlaceArguments& arguments);

/// C,H,W of images, for a file of torchvision's that does not say it. @throws UsageError
Shape image_shape(const std::vector<std::int64_t>& sizes);

/// The network of a file.
/// @param input  of --input, for a file of torchvision's
/// @throws UsageError (images of other channels than a file of torchvision's has), as net_spec_of and Net::load
std::unique_ptr<Net<float>> load_net(const Context& context, const std::string& path, const Shape& input);
/// The same, of what a file's network is. @throws ValueError (gammas that no network has), as Net::load
std::unique_ptr<Net<float>> load_net(const Context& context, const Safetensors& file, const NetSpec& spec);

/// "resnet18 with momentum 0.9, exact"
std::string describe(const NetSpec& spec);

}  // namespace shrinkwarp::cli
