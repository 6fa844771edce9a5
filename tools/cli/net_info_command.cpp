// `shrinkwarp net info` and `net transform`: what a network's file holds, and the same network with momentum.
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/net_command.hpp>
#include <shrinkwarp/tools/cli/net_options.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {
namespace {

struct NetInfoArguments {
  std::string network;
  std::vector<std::int64_t> input = {3, 224, 224};
  std::int64_t batch = 1;
  PlaceArguments place;
  bool json = false;
};

std::string bytes_text(std::int64_t bytes) {
  char text[40];
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof(text), "%.4g MiB", mebibytes);
  return text;
}

int run_net_info(const NetInfoArguments& arguments) {
  const Context context = Context::named(arguments.place.device, arguments.place.threads);
  const std::unique_ptr<Net<float>> net = load_net(context, arguments.network, image_shape(arguments.input));
  const NetSpec& spec = net->spec();
  const std::int64_t training = net->memory(context, arguments.batch, true).total();
  const std::int64_t evaluation = net->memory(context, arguments.batch, false).total();
  std::vector<std::int64_t> stages;
  for (const auto& stage : net->stages()) stages.push_back(stage->layers());
  if (arguments.json) {
    nlohmann::json out = {{"schema", "shrinkwarp-net-info-1"},
                          {"network", arguments.network},
                          {"architecture", spec.architecture},
                          {"input", {spec.input.channels, spec.input.height, spec.input.width}},
                          {"classes", spec.classes},
                          {"parameters", net->list().count()},
                          {"tensors", net->list().entries().size()},
                          {"momentum_layers", stages},
                          {"batch", arguments.batch},
                          {"training_activation_bytes", training},
                          {"evaluation_activation_bytes", evaluation},
                          {"device", context.description()}};
    if (spec.momentum) {
      out["gamma"] = spec.momentum->gamma;
      out["mode"] = spec.momentum->arithmetic == Arithmetic::exact ? "exact" : "approximate";
      out["form"] = spec.momentum->form == MomentumForm::damped ? "damped" : "plain";
    }
    std::cout << json_line(out) << '\n';
    return kDone;
  }
  std::printf("network      %s\n", describe(spec).c_str());
  std::printf("input        %s, %lld classes\n", concat(spec.input).c_str(), static_cast<long long>(spec.classes));
  std::printf("parameters   %s in %zu tensors, statistics among them\n", with_commas(net->list().count()).c_str(),
              net->list().entries().size());
  for (const std::int64_t layers : stages) std::printf("momentum     %lld layers\n", static_cast<long long>(layers));
  std::printf("activations  at most %s in training, %s in evaluation, of a batch of %lld\n",
              bytes_text(training).c_str(), bytes_text(evaluation).c_str(), static_cast<long long>(arguments.batch));
  std::fflush(stdout);
  return kDone;
}

struct TransformArguments {
  std::string network, output;
  std::vector<std::int64_t> input = {3, 224, 224};
  MomentumArguments momentum;
  bool json = false;
};

int run_transform(const TransformArguments& arguments) {
  require_different_files("--output", arguments.output, "the network", arguments.network);
  require_writable(arguments.output);
  const std::optional<MomentumSpec> momentum = momentum_spec(arguments.momentum);
  SHRINKWARP_REQUIRE(momentum, UsageError, "--gamma: found none, wanted the momentum of the network to come");
  const Context host = Context::cpu(1);
  const std::unique_ptr<Net<float>> net = load_net(host, arguments.network, image_shape(arguments.input));
  SHRINKWARP_REQUIRE(!net->spec().momentum, ValueError, arguments.network,
                     ": found a network with momentum, wanted a residual one");
  const std::unique_ptr<Net<float>> result = to_momentum<float>(host, *net, *momentum);
  Safetensors file;
  describe_net(result->spec(), file);
  result->save(host, file);
  file.seal();
  write_safetensors(arguments.output, file);
  std::int64_t layers = 0;
  for (const auto& stage : result->stages()) layers += stage->layers();
  if (arguments.json) {
    std::cout << json_line({{"schema", "shrinkwarp-net-transform-1"},
                            {"architecture", result->spec().architecture},
                            {"gamma", momentum->gamma},
                            {"momentum_layers", layers},
                            {"output", arguments.output}})
              << '\n';
    return kDone;
  }
  std::printf("network      %s: %lld of its blocks have momentum\n", describe(result->spec()).c_str(),
              static_cast<long long>(layers));
  std::printf("output       %s\n", arguments.output.c_str());
  std::fflush(stdout);
  return kDone;
}

void add_input_option(CLI::App& command, std::vector<std::int64_t>& input) {
  command
      .add_option("--input", input, "C,H,W of the images that a file of torchvision's is for, which does not say it")
      ->delimiter(',')
      ->expected(3)
      ->check(whole_number(1, 1 << 20))
      ->capture_default_str();
}

}  // namespace

void add_net_info(CLI::App& net, Action& action) {
  auto arguments = std::make_shared<NetInfoArguments>();
  CLI::App* command = net.add_subcommand("info", "Say what a network's file holds, and what memory activations take");
  command->add_option("network", arguments->network, "net.safetensors: of shrinkwarp net, or a ResNet of torchvision")
      ->required();
  command->add_option("--batch", arguments->batch, "samples of a batch")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  add_input_option(*command, arguments->input);
  add_place_options(*command, arguments->place);
  command->add_flag("--json", arguments->json, "one JSON object on standard output");
  command->footer("Example:\n  shrinkwarp net info resnet101.safetensors --batch 32");
  command->callback([arguments, &action] { action = [arguments] { return run_net_info(*arguments); }; });
}

void add_net_transform(CLI::App& net, Action& action) {
  auto arguments = std::make_shared<TransformArguments>();
  CLI::App* command =
      net.add_subcommand("transform", "Give the residual blocks of a network momentum, and keep its weights");
  command->add_option("network", arguments->network, "net.safetensors: of shrinkwarp net, or a ResNet of torchvision")
      ->required();
  command->add_option("--output", arguments->output, "momentum.safetensors to write")->required();
  add_momentum_options(*command, arguments->momentum, false);
  add_input_option(*command, arguments->input);
  command->add_flag("--json", arguments->json, "one JSON object on standard output");
  command->footer(
      "Example:\n  shrinkwarp net transform resnet101.safetensors --gamma 0.9 --output mresnet101.safetensors");
  command->callback([arguments, &action] { action = [arguments] { return run_transform(*arguments); }; });
}

}  // namespace shrinkwarp::cli
