// `shrinkwarp net train`: from labelled samples to a classifier's file.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/models/resnet/classification.hpp>
#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/models/resnet/net_names.hpp>
#include <shrinkwarp/models/train/schedule_names.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/net_command.hpp>
#include <shrinkwarp/tools/cli/net_options.hpp>
#include <shrinkwarp/tools/cli/net_start.hpp>
#include <shrinkwarp/tools/cli/progress_line.hpp>
#include <shrinkwarp/tools/cli/shared_inputs.hpp>
#include <shrinkwarp/tools/cli/shared_training.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/files/build_id.hpp>
#include <shrinkwarp/tools/files/labelled_samples_file.hpp>
#include <shrinkwarp/tools/files/output_lock.hpp>
#include <shrinkwarp/tools/files/resumable_training.hpp>

namespace shrinkwarp::cli {
namespace {

struct NetTrainArguments {
  std::string architecture, samples, labels, validation_samples, validation_labels, output, start, history;
  std::string activation = "tanh", normalisation = "none", optimizer = "adam", schedule = "cosine";
  NetSpec spec;
  MomentumArguments momentum;
  ClassificationOptions training;
  PlaceArguments place;
  bool resume = false, quiet = false, json = false;
  std::set<std::string> given;  // of kNetLooked those that are on the command line
};

/// Options of which it matters whether they are given.
constexpr const char* kNetLooked[] = {
    "--blocks",           "--width",    "--hidden", "--activation", "--normalisation", "--dropout",
    "--initial-velocity", "--momentum", "--lr",     "--schedule",   "--clip"};
constexpr const char* kOfMlp[] = {"--blocks",        "--width",   "--hidden",          "--activation",
                                  "--normalisation", "--dropout", "--initial-velocity"};
/// What a stored state means whatever they are.
constexpr const char* kNetMayChange[] = {"--lr", "--schedule", "--clip"};

/// What the options say together. @throws UsageError
void complete_net(NetTrainArguments& arguments) {
  const auto given = [&](const char* option) { return arguments.given.count(option) > 0; };
  for (const char* const option : kOfMlp) {
    SHRINKWARP_REQUIRE(!given(option) || arguments.architecture == "mlp", UsageError, option, ": found it for ",
                       arguments.architecture, ", wanted it for mlp alone");
  }
  SHRINKWARP_REQUIRE(!given("--momentum") || arguments.optimizer == "sgd", UsageError,
                     "--momentum: found it with the optimizer ", arguments.optimizer,
                     ", wanted it with --optimizer sgd");
  SHRINKWARP_REQUIRE(!arguments.spec.initial_velocity || arguments.momentum.gamma, UsageError,
                     "--initial-velocity: found it without --gamma, wanted both");
  SHRINKWARP_REQUIRE(arguments.validation_samples.empty() == arguments.validation_labels.empty(), UsageError,
                     "found one of --validation-samples and --validation-labels, wanted both or neither");
  SHRINKWARP_REQUIRE(arguments.spec.dropout < 1, UsageError, "--dropout: found ", arguments.spec.dropout,
                     ", wanted less than 1");
  arguments.spec.architecture = arguments.architecture;
  arguments.spec.activation = value_named(kActivations, arguments.activation, "--activation");
  arguments.spec.normalisation = value_named(kNormalisations, arguments.normalisation, "--normalisation");
  arguments.spec.momentum = momentum_spec(arguments.momentum);
  arguments.training.adam = arguments.optimizer == "adam";
  arguments.training.schedule = value_named(kSchedules, arguments.schedule, "--schedule");
  const std::string checkpoint = TrainingCheckpoint::path_of(arguments.output);
  const std::pair<const char*, const std::string*> read[] = {{"--samples", &arguments.samples},
                                                             {"--labels", &arguments.labels},
                                                             {"--validation-samples", &arguments.validation_samples},
                                                             {"--validation-labels", &arguments.validation_labels},
                                                             {"--start", &arguments.start}};
  for (const auto& [option, path] : read) {
    if (path->empty()) continue;
    require_different_files("--output", arguments.output, option, *path);
    require_different_files("the checkpoint", checkpoint, option, *path);
    if (!arguments.history.empty()) require_different_files("--history", arguments.history, option, *path);
  }
  if (!arguments.history.empty()) {
    require_different_files("--history", arguments.history, "--output", arguments.output);
    require_different_files("--history", arguments.history, "the checkpoint", checkpoint);
  }
}

/// What is trained on, and what is judged by: without a file of others every tenth sample is; of fewer than 20 all are both.
struct Data {
  LabelledSamples training, validation;
};
Data read_data(const NetTrainArguments& arguments) {
  Data data;
  LabelledSamples all = read_samples(arguments.samples);
  read_labels(arguments.labels, arguments.spec.classes, all);
  if (!arguments.validation_samples.empty()) {
    data.validation = read_samples(arguments.validation_samples);
    SHRINKWARP_REQUIRE(data.validation.shape == all.shape, ShapeError, arguments.validation_samples,
                       ": found samples of ", data.validation.shape, ", wanted ", all.shape, " as ", arguments.samples,
                       " has");
    read_labels(arguments.validation_labels, arguments.spec.classes, data.validation);
    data.training = std::move(all);
    return data;
  }
  constexpr std::int64_t kFew = 20;
  std::vector<std::int64_t> trains, judges;
  for (std::int64_t i = 0; i < all.size(); ++i) (all.size() >= kFew && i % 10 == 9 ? judges : trains).push_back(i);
  if (judges.empty()) judges = trains;
  data.training = all.chosen(trains);
  data.validation = all.chosen(judges);
  return data;
}

std::uint64_t hash_of(const LabelledSamples& samples) {
  Hash hash;
  hash.add(samples.values.data(), static_cast<std::int64_t>(samples.values.size() * sizeof(float)));
  hash.add(samples.labels.data(), static_cast<std::int64_t>(samples.labels.size() * sizeof(std::int32_t)));
  return hash.value();
}

Fingerprint net_fingerprint(const NetTrainArguments& arguments, const Context& context, const Data& data,
                            const Safetensors* start) {
  const NetSpec& spec = arguments.spec;
  const ClassificationOptions& training = arguments.training;
  Fingerprint fingerprint;
  fingerprint.add("shrinkwarp", std::string(kVersion) + " " + build_id());
  fingerprint.add("device", context.is_cuda()
                                ? context.description()
                                : std::string("cpu, ") + cpu_instruction_set() + ", " + cpu_blas_core_name());
  fingerprint.add("architecture", arguments.architecture);
  fingerprint.add("--classes", spec.classes);
  fingerprint.add("--blocks", spec.blocks);
  fingerprint.add("--width", spec.width);
  fingerprint.add("--hidden", spec.hidden);
  fingerprint.add("--activation", arguments.activation);
  fingerprint.add("--normalisation", arguments.normalisation);
  fingerprint.add("--dropout", spec.dropout);
  fingerprint.add("--initial-velocity", spec.initial_velocity ? "yes" : "no");
  if (spec.momentum) {
    fingerprint.add("--gamma", spec.momentum->gamma);
    fingerprint.add("--mode", arguments.momentum.mode);
    fingerprint.add("--plain", arguments.momentum.plain ? "yes" : "no");
    fingerprint.add("--learn-gamma", spec.momentum->learned ? "yes" : "no");
    fingerprint.add("--store-activations", arguments.momentum.stored ? "yes" : "no");
    fingerprint.add("LO of --gamma-range", spec.momentum->low);
    fingerprint.add("HI of --gamma-range", spec.momentum->high);
  } else {
    fingerprint.add("--gamma", "none");
  }
  fingerprint.add_hash("values of --samples and --labels", hash_of(data.training));
  fingerprint.add("samples", data.training.size());
  fingerprint.add("shape of a sample", concat(spec.input));
  fingerprint.add_hash("values of the validation samples", hash_of(data.validation));
  if (start != nullptr) {
    Hash hash;
    for (const auto& [name, tensor] : start->tensors())
      hash.add(tensor.bytes.data(), static_cast<std::int64_t>(tensor.bytes.size()));
    fingerprint.add_hash("tensors of --start", hash.value());
    fingerprint.add("gammas of --start", has_learned_gammas(*start) ? "learned" : "set");
  } else {
    fingerprint.add("--start", "none");
  }
  fingerprint.add("--optimizer", arguments.optimizer);
  fingerprint.add("--schedule", arguments.schedule);
  fingerprint.add("--epochs", training.epochs);
  fingerprint.add("--batch", training.batch);
  fingerprint.add("--lr", training.first_rate());
  fingerprint.add("--momentum", training.momentum);
  fingerprint.add("--weight-decay", training.weight_decay);
  fingerprint.add("--clip", training.clip);
  fingerprint.add("--label-smoothing", training.label_smoothing);
  fingerprint.add("--crop", training.crop);
  fingerprint.add("--flip", training.flip ? "yes" : "no");
  fingerprint.add("--patience", training.patience);
  fingerprint.add("--seed", static_cast<std::int64_t>(training.seed));
  return fingerprint;
}

std::string net_history_line(const ClassificationEvent& event) {
  return json_line({{"pass", event.epoch},
                    {"loss", event.training.loss},
                    {"accuracy", event.training.accuracy},
                    {"validation_loss", event.validation.loss},
                    {"validation_accuracy", event.validation.accuracy},
                    {"best_validation_accuracy", event.best_accuracy},
                    {"rate", event.rate}});
}

std::string net_progress_text(const ClassificationEvent& event, std::int64_t epochs) {
  char text[200];
  std::snprintf(text, sizeof(text), "pass %lld of %lld: loss %.5g, %.2f %% right, validation %.2f %%, best %.2f %%",
                static_cast<long long>(event.epoch), static_cast<long long>(epochs), event.training.loss,
                100 * event.training.accuracy, 100 * event.validation.accuracy, 100 * event.best_accuracy);
  return text;
}

void print_net_outcome(const NetTrainArguments& arguments, const Context& context, const Net<float>& net,
                       const Classified& result, const NetStart& begun, std::int64_t activations, double seconds,
                       int ranks) {
  if (arguments.json) {
    nlohmann::json out = {{"schema", "shrinkwarp-net-train-1"},
                          {"architecture", arguments.architecture},
                          {"parameters", net.list().count()},
                          {"classes", net.spec().classes},
                          {"validation_loss", result.loss},
                          {"validation_accuracy", result.accuracy},
                          {"activation_bytes", activations},
                          {"device", context.description()},
                          {"ranks", ranks},
                          {"seconds", seconds},
                          {"output", arguments.output}};
    if (!arguments.start.empty()) {
      out["start"] = arguments.start;
      out["afresh"] = begun.afresh;
    }
    std::cout << json_line(out) << '\n';
    return;
  }
  if (arguments.quiet) return;
  std::printf("network      %s, %s parameters\n", describe(net.spec()).c_str(),
              with_commas(net.list().count()).c_str());
  std::printf("validation   %.2f %% of the classes right, mean cross-entropy %.6g\n", 100 * result.accuracy,
              result.loss);
  std::printf("activations  at most %.4g MiB in a step%s\n", static_cast<double>(activations) / (1 << 20),
              ranks > 1 ? " on a rank" : "");
  std::printf("time         %s on %s%s\n", duration_text(seconds).c_str(), context.description().c_str(),
              ranks_text(ranks).c_str());
  std::printf("output       %s\n", arguments.output.c_str());
  std::fflush(stdout);
}

int train_net(NetTrainArguments& arguments, Ranks& ranks, const CancelToken* cancel) {
  const auto started = std::chrono::steady_clock::now();
  std::optional<Context> place;
  Data data;
  NetSpec& spec = arguments.spec;
  Safetensors start;
  together(ranks, [&] {
    place.emplace(context_of(ranks, arguments.place.device, arguments.place.threads));
    data = read_data(arguments);
    spec.input = data.training.shape;
    if (spec.classes == 0) spec.classes = std::max(classes_of(data.training), classes_of(data.validation));
    SHRINKWARP_REQUIRE(spec.input.positions() > 1 || (arguments.training.crop == 0 && !arguments.training.flip),
                       UsageError, "--crop, --flip: found them for samples of ", spec.input,
                       " features, wanted them for images");
    SHRINKWARP_REQUIRE(spec.architecture == "mlp" || data.training.images, UsageError, arguments.samples,
                       ": found vectors of ", spec.input, " features, wanted images (N, C, H, W), which a ",
                       spec.architecture, " takes");
    if (!arguments.start.empty()) start = read_safetensors(arguments.start);
  });
  const Context& context = *place;
  const Fingerprint fingerprint = net_fingerprint(arguments, context, data, arguments.start.empty() ? nullptr : &start);
  std::vector<std::string> may_change;
  for (const char* const option : kNetMayChange)
    if (arguments.given.count(option) > 0) may_change.emplace_back(option);
  std::optional<ResumableTraining> files;
  open_training(ranks, arguments.output, fingerprint, arguments.resume, may_change, arguments.history, files);
  if (files->is_finished()) {
    if (arguments.json)
      std::cout << json_line({{"schema", "shrinkwarp-net-train-1"}, {"finished", true}, {"output", arguments.output}})
                << '\n';
    else if (!arguments.quiet)
      std::cout << arguments.output << " is finished, there is nothing to resume\n";
    return kDone;
  }
  std::optional<Net<float>> net;
  NetStart begun;
  std::int64_t activations = 0;
  together(ranks, [&] {
    net.emplace(context, spec, arguments.training.seed);
    if (!arguments.start.empty()) {
      begun = plan_start(*net, start, arguments.samples);
      net->load(context, start, begun.afresh);
      if (!arguments.quiet && !arguments.json && !files->resumes())
        for (const std::string& line : begun.lines)
          std::cerr << "shrinkwarp: " << arguments.start << ": " << line << '\n';
    }
    const std::int64_t batch = std::min(arguments.training.batch, data.training.size());
    const char* const option = arguments.training.batch == batch ? "--batch" : arguments.samples.c_str();
    SHRINKWARP_REQUIRE(batch >= net->layers().least_samples(), UsageError, option, ": found ", batch,
                       " sample a batch, wanted at least ", net->layers().least_samples(),
                       ", of which batch normalisation takes means and variances");
    SHRINKWARP_REQUIRE(batch >= ranks.size(), UsageError, option, ": found batches of ", batch, " samples for ",
                       ranks.size(), " ranks, wanted at least a sample for each");
    activations = net->memory(context, (batch + ranks.size() - 1) / ranks.size(), true).total();
  });
  SharedTraining shared(ranks, context, !arguments.quiet && !arguments.json);
  ClassificationOptions options = arguments.training;
  options.replicas = shared.replicas();
  Classified result;
  // What these errors say all ranks have found.
  try {
    ProgressLine line(arguments.quiet || arguments.json);
    result = train_classifier<float>(
        context, *net, data.training, data.validation, options, files->store(TrainingPart::network),
        [&](const ClassificationEvent& event) {
          line.update([&] { return net_progress_text(event, arguments.training.epochs); });
          files->history().add(net_history_line(event));
        },
        cancel);
  } catch (const DivergedError& error) {
    SHRINKWARP_THROW(AgreedError, error.what(), " (--lr, --clip)", files->advice());
  } catch (const RangeError& error) {
    SHRINKWARP_THROW(AgreedError, error.what(),
                     spec.architecture == "mlp" ? " (--lr, --clip, --normalisation)" : " (--lr, --clip)",
                     files->advice());
  } catch (const ValueError& error) {
    SHRINKWARP_THROW(AgreedError, error.what());
  }
  together(ranks, [&] {
    if (!ranks.first()) return;
    Safetensors file;
    describe_net(net->spec(), file);
    net->save(context, file);
    files->finish(std::move(file));
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_net_outcome(arguments, context, *net, result, begun, activations, seconds, ranks.size());
  return kDone;
}

int run_net_train(NetTrainArguments arguments, Ranks& ranks) {
  // One rank speaks and writes for all.
  if (!ranks.first()) arguments.quiet = true, arguments.json = false;
  std::optional<OutputLock> lock;
  together(ranks, [&] {
    complete_net(arguments);
    if (ranks.first()) {
      require_writable(arguments.output);
      lock.emplace(arguments.output);
    }
  });
  const InterruptScope interrupts;
  try {
    return train_net(arguments, ranks, interrupts.token());
  } catch (const Cancelled&) {
    return end_interrupted(ranks, interrupts, arguments.output);
  }
}

void add_network_options(CLI::App& command, NetTrainArguments& arguments) {
  NetSpec& spec = arguments.spec;
  constexpr std::int64_t kMost = 1 << 24;
  command
      .add_option("architecture", arguments.architecture,
                  "mlp, resnet18, resnet34, resnet50, resnet101 or resnet152 (docs/momentum.md)")
      ->required()
      ->check(one_of({"mlp", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}));
  command.add_option("--classes", spec.classes, "how many; 0 takes as many as the largest label says")
      ->check(whole_number(0, kMost));
  command.add_option("--blocks", spec.blocks, "residual blocks of mlp")
      ->check(whole_number(1, 1000000))
      ->capture_default_str();
  command.add_option("--width", spec.width, "features of mlp's blocks")
      ->check(whole_number(1, kMost))
      ->capture_default_str();
  command.add_option("--hidden", spec.hidden, "hidden features of mlp's branches")
      ->check(whole_number(1, kMost))
      ->capture_default_str();
  command.add_option("--activation", arguments.activation, "tanh, relu or gelu: of mlp's branches")
      ->check(one_of({"tanh", "relu", "gelu"}))
      ->capture_default_str();
  command.add_option("--normalisation", arguments.normalisation, "none, layer or batch: of what mlp's branches take")
      ->check(one_of(names_of(kNormalisations)))
      ->capture_default_str();
  command.add_option("--dropout", spec.dropout, "probability, of the hidden features of mlp's branches")
      ->check(number_from_0())
      ->capture_default_str();
  command.add_flag("--initial-velocity", spec.initial_velocity,
                   "velocities of mlp begin as what a branch of their own gives, not as 0");
  add_momentum_options(command, arguments.momentum, true);
  command.add_option(
      "--start", arguments.start,
      "net.safetensors, of shrinkwarp net or a ResNet of torchvision: begin with its weights. Its blocks are as many "
      "and as wide; "
      "a head for other classes begins afresh, and gammas are those of --gamma, but where both networks learn them");
}

void add_training_options(CLI::App& command, NetTrainArguments& arguments) {
  ClassificationOptions& training = arguments.training;
  command.add_option("--optimizer", arguments.optimizer, "adam or sgd")
      ->check(one_of({"adam", "sgd"}))
      ->capture_default_str();
  command.add_option("--epochs", training.epochs, "passes over the samples")
      ->check(whole_number(1, 100000000))
      ->capture_default_str();
  command.add_option("--batch", training.batch, "samples of a step")
      ->check(whole_number(1, 1 << 24))
      ->capture_default_str();
  command.add_option("--lr", training.rate, "learning rate at the start; 0 takes 1e-3 for adam and 1e-2 for sgd")
      ->check(number_from_0())
      ->capture_default_str();
  command.add_option("--schedule", arguments.schedule, "cosine, constant or steps: how the learning rate falls")
      ->check(one_of(names_of(kSchedules)))
      ->capture_default_str();
  command.add_option("--momentum", training.momentum, "of sgd")
      ->check(CLI::Range(0.0, 0.999999))
      ->capture_default_str();
  command.add_option("--weight-decay", training.weight_decay, "of adam, decoupled, and of sgd")
      ->check(number_from_0())
      ->capture_default_str();
  command.add_option("--clip", training.clip, "largest norm of a batch's gradient; without it none is clipped")
      ->check(positive_number());
  command.add_option("--label-smoothing", training.label_smoothing, "share of the classes evenly in each label")
      ->check(CLI::Range(0.0, 0.999999))
      ->capture_default_str();
  command.add_option("--crop", training.crop, "pixels of zeros around an image, out of which it is cropped at random")
      ->check(whole_number(0, 1 << 20))
      ->capture_default_str();
  command.add_flag("--flip", training.flip, "flip half of the images left-right");
  command
      .add_option("--patience", training.patience,
                  "validations without progress after which training ends; 0 never ends it")
      ->check(whole_number(0, 1000000000))
      ->capture_default_str();
  command.add_option("--seed", training.seed, "of weights, shuffling, dropout, crops and flips")
      ->check(whole_number(0, std::int64_t{1} << 62))
      ->capture_default_str();
}

}  // namespace

void add_net_train(CLI::App& net, Action& action, Ranks& ranks) {
  auto arguments = std::make_shared<NetTrainArguments>();
  CLI::App* command = net.add_subcommand("train", "Train a classifier");
  add_network_options(*command, *arguments);
  command->add_option("--samples", arguments->samples, "X.npy: (N, features) or (N, C, H, W) of f4, f8 or u1")
      ->required();
  command->add_option("--labels", arguments->labels, "y.npy (N,) of i4, i8 or u1: classes from 0 on")->required();
  command->add_option(
      "--validation-samples", arguments->validation_samples,
      "what the parameters are chosen by; without it every tenth sample, and of fewer than 20 those that are "
      "trained on");
  command->add_option("--validation-labels", arguments->validation_labels, "their classes");
  command->add_option("--output", arguments->output, "net.safetensors to write")->required();
  add_training_options(*command, *arguments);
  command->add_option("--history", arguments->history, "H.jsonl to write: a line for each pass");
  command->add_flag(
      "--resume", arguments->resume,
      "go on with OUTPUT.checkpoint, where there is one; with the same options to the same bits, and where "
      "--lr, --schedule or --clip is given with what it says");
  add_place_options(*command, arguments->place);
  command->add_flag("--quiet", arguments->quiet, "no progress, no summary");
  command->add_flag("--json", arguments->json, "one JSON object in place of the summary");
  command->footer(
      "Exit status: 0 done, 2 usage, 1 other errors, 130 and 143 interrupted.\n"
      "Processes that mpirun has started share each batch: docs/cluster.md.\n"
      "Example:\n  shrinkwarp net train mlp --gamma 0.9 --blocks 20 --samples X.npy --labels y.npy --output "
      "net.safetensors");
  command->callback([arguments, command, &action, &ranks] {
    for (const char* const option : kNetLooked)
      if (command->count(option) > 0) arguments->given.insert(option);
    action = [arguments, &ranks] { return run_net_train(*arguments, ranks); };
  });
}

}  // namespace shrinkwarp::cli
