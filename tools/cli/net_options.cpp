#include <shrinkwarp/tools/cli/net_options.hpp>

#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>

namespace shrinkwarp::cli {

void add_momentum_options(CLI::App& command, MomentumArguments& arguments, bool trains) {
  command
      .add_option("--gamma", arguments.gamma,
                  "momentum of the residual blocks, over 0 and at most 1; without it they have none")
      ->check(positive_number());
  command.add_flag("--plain", arguments.plain, "v <- gamma v + f in place of v <- gamma v + (1 - gamma) f");
  command.add_option("--mode", arguments.mode, "exact (fixed point, every bit comes back) or approximate (float32)")
      ->check(one_of({"exact", "approximate"}))
      ->capture_default_str()
      ->each([&arguments](const std::string&) { arguments.mode_given = true; });
  if (!trains) return;
  command.add_flag("--learn-gamma", arguments.learned, "gamma of each layer is a parameter too");
  command
      .add_option(
          "--gamma-range", arguments.range,
          "LO,HI that learned gammas are held within; without it gamma squared and half way from gamma to 1. The "
          "buffer of exact mode has room for LO")
      ->delimiter(',')
      ->expected(2)
      ->check(CLI::Range(0.0, 1.0));
  command.add_flag("--store-activations", arguments.stored,
                   "keep activations as backpropagation does, in place of computing them again");
}

std::optional<MomentumSpec> momentum_spec(const MomentumArguments& arguments) {
  if (!arguments.gamma) {
    const char* const lonely = arguments.mode_given       ? "--mode"
                               : arguments.plain          ? "--plain"
                               : arguments.learned        ? "--learn-gamma"
                               : arguments.stored         ? "--store-activations"
                               : !arguments.range.empty() ? "--gamma-range"
                                                          : nullptr;
    SHRINKWARP_REQUIRE(lonely == nullptr, UsageError, lonely, ": found it without --gamma, wanted both");
    return std::nullopt;
  }
  MomentumSpec spec;
  spec.gamma = *arguments.gamma;
  spec.form = arguments.plain ? MomentumForm::plain : MomentumForm::damped;
  spec.arithmetic = arguments.mode == "exact" ? Arithmetic::exact : Arithmetic::approximate;
  spec.activations = arguments.stored ? Activations::stored : Activations::recomputed;
  spec.learned = arguments.learned;
  SHRINKWARP_REQUIRE(arguments.range.empty() || arguments.learned, UsageError,
                     "--gamma-range: found it without --learn-gamma, wanted both");
  if (spec.learned) {
    spec.low = arguments.range.empty() ? spec.gamma * spec.gamma : arguments.range[0];
    spec.high = arguments.range.empty() ? (1 + spec.gamma) / 2 : arguments.range[1];
    SHRINKWARP_REQUIRE(spec.low <= spec.gamma && spec.gamma <= spec.high, UsageError, "--gamma-range: found ", spec.low,
                       ",", spec.high, ", wanted the smaller number first and gamma, ", spec.gamma, ", between them");
  }
  require_gamma_options(spec);
  return spec;
}

void require_gamma_options(const MomentumSpec& spec) {
  try {
    require_gammas<float>(spec, spec.learned ? "--gamma, --gamma-range" : "--gamma");
  } catch (const ValueError& error) {
    SHRINKWARP_THROW(UsageError, error.what());
  }
}

void add_place_options(CLI::App& command, PlaceArguments& arguments) {
  command.add_option("--device", arguments.device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  command.add_option("--threads", arguments.threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
}

Shape image_shape(const std::vector<std::int64_t>& sizes) {
  SHRINKWARP_REQUIRE(sizes.size() == 3, UsageError, "--input: found ", sizes.size(),
                     " numbers, wanted three: channels,height,width");
  return {sizes[0], sizes[1], sizes[2]};
}

std::unique_ptr<Net<float>> load_net(const Context& context, const std::string& path, const Shape& input) {
  const Safetensors file = read_safetensors(path);
  const NetSpec spec = net_spec_of(file, input);
  SHRINKWARP_REQUIRE(file.metadata.count("format") > 0 || spec.input == input, UsageError, "--input: found images of ",
                     input.channels, " x ", input.height, " x ", input.width, ", wanted ", spec.input.channels,
                     " channels as ", path, " takes");
  return load_net(context, file, spec);
}

std::unique_ptr<Net<float>> load_net(const Context& context, const Safetensors& file, const NetSpec& spec) {
  if (spec.momentum) require_gammas<float>(*spec.momentum, file.path());
  auto net = std::make_unique<Net<float>>(context, spec, 0);
  net->load(context, file);
  return net;
}

std::string describe(const NetSpec& spec) {
  std::string text = spec.architecture;
  if (!spec.momentum) return text + ", residual";
  text += concat(" with momentum ", spec.momentum->gamma);
  if (spec.momentum->learned) text += " at first, learned";
  if (spec.momentum->form == MomentumForm::plain) text += ", plain";
  return text + (spec.momentum->arithmetic == Arithmetic::exact ? ", exact" : ", approximate");
}

}  // namespace shrinkwarp::cli
