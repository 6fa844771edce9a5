// `shrinkwarp net evaluate`: a classifier on samples.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/models/resnet/classification.hpp>
#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/net_command.hpp>
#include <shrinkwarp/tools/cli/net_options.hpp>
#include <shrinkwarp/tools/files/labelled_samples_file.hpp>

namespace shrinkwarp::cli {
namespace {

struct NetEvaluateArguments {
  std::string network, samples, labels, logits, gradient;
  std::int64_t batch = 128;
  PlaceArguments place;
  bool inverse = false, stored = false, json = false;
};

/// The network, once it is known that it takes the samples. @throws ShapeError, as net_spec_of and Net::load
std::unique_ptr<Net<float>> load_net_for(const NetEvaluateArguments& arguments, const Context& context,
                                         const LabelledSamples& samples) {
  const Safetensors file = read_safetensors(arguments.network);
  NetSpec spec = net_spec_of(file, samples.shape);
  // A file of torchvision's does not say the sides of its images.
  SHRINKWARP_REQUIRE(samples.images || file.metadata.count("format") > 0, ShapeError, arguments.samples,
                     ": found vectors of ", samples.shape, " features, wanted images (N, ", spec.input.channels,
                     ", H, W), which this ", spec.architecture, " takes");
  require_shape(arguments.samples, samples, spec);
  if (spec.momentum && arguments.stored) spec.momentum->activations = Activations::stored;
  return load_net(context, file, spec);
}

/// Takes the samples through the network once, for their logits and for how well they are classified.
std::optional<Classified> classify(const NetEvaluateArguments& arguments, const Context& context, const Net<float>& net,
                                   const LabelledSamples& samples, const CancelToken* cancel) {
  Classifier<float> classifier(context, net, std::min(arguments.batch, samples.count()));
  if (arguments.logits.empty()) return classifier.classify(samples, cancel, {});
  NpyWriter writer(arguments.logits, ElementType::f4, {samples.count(), net.spec().classes});
  const Context host = Context::cpu(1);
  const std::optional<Classified> found =
      classifier.classify(samples, cancel, [&](const MatrixView<const float> logits) {
        const Tensor<float> on_host(host, logits.rows, logits.cols);
        copy<float>(context, logits, on_host.matrix());
        context.synchronize();
        writer.append_rows(MatrixView<const float>(on_host.matrix()));
      });
  writer.finish();
  return found;
}

int evaluate_net(const NetEvaluateArguments& arguments, const CancelToken* cancel) {
  SHRINKWARP_REQUIRE(arguments.gradient.empty() || !arguments.labels.empty(), UsageError,
                     "--gradient: found it without --labels, wanted both");
  SHRINKWARP_REQUIRE(!arguments.labels.empty() || !arguments.logits.empty() || arguments.inverse, UsageError,
                     "found none of --labels, --logits and --inverse, wanted one of them at least");
  SHRINKWARP_REQUIRE(!arguments.stored || !arguments.gradient.empty(), UsageError,
                     "--store-activations: found it without --gradient, wanted both");
  const std::pair<const char*, const std::string*> outputs[] = {{"--logits", &arguments.logits},
                                                                {"--gradient", &arguments.gradient}};
  const std::pair<const char*, const std::string*> inputs[] = {
      {"the network", &arguments.network}, {"--samples", &arguments.samples}, {"--labels", &arguments.labels}};
  for (const auto& [option, output] : outputs) {
    if (output->empty()) continue;
    for (const auto& [input, path] : inputs)
      if (!path->empty()) require_different_files(option, *output, input, *path);
    require_writable(*output);
  }
  if (!arguments.logits.empty() && !arguments.gradient.empty())
    require_different_files("--logits", arguments.logits, "--gradient", arguments.gradient);
  const Context context = Context::named(arguments.place.device, arguments.place.threads);
  LabelledSamples samples = read_samples(arguments.samples);
  const std::unique_ptr<Net<float>> net = load_net_for(arguments, context, samples);
  SHRINKWARP_REQUIRE(!(arguments.inverse || arguments.stored) || net->spec().momentum, UsageError,
                     arguments.inverse ? "--inverse" : "--store-activations", ": found ", describe(net->spec()),
                     ", wanted a network with momentum");
  const std::int64_t count = samples.count();
  if (!arguments.labels.empty()) read_labels(arguments.labels, net->spec().classes, samples);
  nlohmann::json out = {{"schema", "shrinkwarp-net-evaluate-1"},
                        {"network", arguments.network},
                        {"samples", count},
                        {"device", context.description()}};
  if (!arguments.labels.empty() || !arguments.logits.empty()) {
    if (const std::optional<Classified> found = classify(arguments, context, *net, samples, cancel)) {
      out["loss"] = found->loss;
      out["accuracy"] = found->accuracy;
    }
  }
  if (!arguments.gradient.empty()) {
    Safetensors file;
    ParameterValues<float>::save_parameters(net->list(), classification_gradient<float>(context, *net, samples), file);
    write_safetensors(arguments.gradient, file);
  }
  std::vector<InverseCheck> inverses;
  if (arguments.inverse) {
    inverses = check_inverses<float>(context, *net, samples);
    out["inverses"] = nlohmann::json::array();
    for (const InverseCheck& check : inverses)
      out["inverses"].push_back({{"layers", check.layers}, {"differ", check.differ}, {"worst", check.worst}});
  }
  if (arguments.json) {
    std::cout << json_line(out) << '\n';
    return kDone;
  }
  std::printf("network      %s\n", describe(net->spec()).c_str());
  if (!arguments.labels.empty())
    std::printf("samples      %lld: mean cross-entropy %.6g, %.2f %% of the classes right\n",
                static_cast<long long>(count), out["loss"].get<double>(), 100 * out["accuracy"].get<double>());
  for (const InverseCheck& check : inverses)
    std::printf("inverse      %lld layers and back: %lld elements differ, by at most %.3g of the largest\n",
                static_cast<long long>(check.layers), static_cast<long long>(check.differ), check.worst);
  if (!arguments.logits.empty()) std::printf("logits       %s\n", arguments.logits.c_str());
  if (!arguments.gradient.empty()) std::printf("gradient     %s\n", arguments.gradient.c_str());
  std::fflush(stdout);
  return kDone;
}

int run_net_evaluate(const NetEvaluateArguments& arguments) {
  const InterruptScope interrupts;
  try {
    return evaluate_net(arguments, interrupts.token());
  } catch (const Cancelled&) {
    std::cerr << "shrinkwarp: interrupted: nothing is written\n";
    return kSignal + interrupts.number();
  }
}

}  // namespace

void add_net_evaluate(CLI::App& net, Action& action) {
  auto arguments = std::make_shared<NetEvaluateArguments>();
  CLI::App* command = net.add_subcommand("evaluate", "Classify samples");
  command->add_option("network", arguments->network, "net.safetensors: of shrinkwarp net, or a ResNet of torchvision")
      ->required();
  command->add_option("--samples", arguments->samples, "X.npy: (N, features) or (N, C, H, W) of f4, f8 or u1")
      ->required();
  command->add_option("--labels", arguments->labels, "y.npy (N,): their classes, to be judged by");
  command->add_option("--logits", arguments->logits, "L.npy to write: (N, classes)");
  command->add_option(
      "--gradient", arguments->gradient,
      "G.safetensors to write: of the mean cross-entropy, all samples as one batch in evaluation, under the "
      "names of the tensors");
  command->add_flag("--store-activations", arguments->stored,
                    "for --gradient: keep activations as backpropagation does, in place of computing them again");
  command->add_flag("--inverse", arguments->inverse,
                    "take all samples, as one batch, through each momentum stage and back, and compare");
  command->add_option("--batch", arguments->batch, "samples at a time")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  add_place_options(*command, arguments->place);
  command->add_flag("--json", arguments->json, "one JSON object on standard output");
  command->footer("Example:\n  shrinkwarp net evaluate net.safetensors --samples X.npy --labels y.npy");
  command->callback([arguments, &action] { action = [arguments] { return run_net_evaluate(*arguments); }; });
}

}  // namespace shrinkwarp::cli
