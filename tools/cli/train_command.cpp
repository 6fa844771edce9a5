// `shrinkwarp train`: from a dictionary and observations to a network's file.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/models/lista/network_file.hpp>
#include <shrinkwarp/models/lista/optimizer_names.hpp>
#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/models/train/schedule_names.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/progress_line.hpp>
#include <shrinkwarp/tools/cli/shared_inputs.hpp>
#include <shrinkwarp/tools/cli/shared_training.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/files/build_id.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>
#include <shrinkwarp/tools/files/output_lock.hpp>
#include <shrinkwarp/tools/files/resumable_training.hpp>
#include <shrinkwarp/tools/files/training_checkpoint.hpp>

namespace shrinkwarp::cli {
namespace {

struct TrainArguments {
  std::string network, dictionary, observations, validation, output, history;
  NetworkSpec spec;
  std::optional<double> lambda_fraction;
  std::vector<double> lambda_range;
  TrainingOptions training;
  std::string start = "step", optimizer = "auto", schedule = "cosine", device = "auto", memory_limit = "4GiB";
  std::vector<double> selection;
  std::optional<double> gamma;
  bool layerwise = false, end_to_end = false;
  int threads = 0;
  bool resume = false, quiet = false, json = false;
  std::set<std::string> given;  // of kLooked those that are on the command line
};

/// Options of which it matters whether they are given: a value that is the default is a wish all the same.
constexpr const char* kLooked[] = {"--start",        "--batch", "--lr",    "--schedule",          "--momentum",
                                   "--weight-decay", "--clip",  "--ridge", "--support-selection", "--gamma"};
/// Of these what adam and sgd alone have.
constexpr const char* kOfBatches[] = {"--batch", "--lr", "--schedule", "--weight-decay", "--clip"};

/// What a stored state means whatever they are: where they are given, a training goes on with others.
constexpr const char* kMayChange[] = {"--lr", "--schedule", "--clip"};

/// --start names a file.
bool starts_from_file(const TrainArguments& arguments) {
  return arguments.start != "step" && arguments.start != "ista";
}

/// Refuses what is given and could change nothing. @throws UsageError
void require_effect(const TrainArguments& arguments) {
  const auto given = [&](const char* option) { return arguments.given.count(option) > 0; };
  const auto belongs_to = [&](const char* option, const char* network) {
    SHRINKWARP_REQUIRE(!given(option) || arguments.network == network, UsageError, option, ": found it for ",
                       arguments.network, ", wanted it for ", network, " alone");
  };
  belongs_to("--ridge", "alista");
  belongs_to("--support-selection", "alista");
  belongs_to("--gamma", "momentum-lista");
  SHRINKWARP_REQUIRE(!given("--gamma") || arguments.start == "ista", UsageError, "--gamma: found it with --start ",
                     arguments.start, ", which begins without momentum, as step-LISTA has none, wanted it with ",
                     "--start ista");
  SHRINKWARP_REQUIRE(!given("--start") || !has_scalar_layers(arguments.spec.kind), UsageError, "--start: found it for ",
                     arguments.network, ", wanted it for lista, coupled or momentum-lista alone");
  const Optimizer optimizer = resolved(arguments.training.optimizer, arguments.spec.kind);
  const char* const name = name_of(kOptimizers, optimizer);
  SHRINKWARP_REQUIRE(!given("--momentum") || optimizer == Optimizer::sgd, UsageError,
                     "--momentum: found it with the optimizer ", name, ", wanted it with --optimizer sgd");
  for (const char* const option : kOfBatches) {
    SHRINKWARP_REQUIRE(!given(option) || !sees_all(optimizer), UsageError, option, ": found it with the optimizer ",
                       name, ", which sees all observations in each iteration, wanted it with --optimizer adam or sgd");
  }
}

/// What the options say together. @throws UsageError
void complete(TrainArguments& arguments) {
  arguments.spec.kind = *network_kind(arguments.network);
  LambdaShares& lambda = arguments.training.lambda;
  if (arguments.lambda_fraction) {
    lambda.low = lambda.high = *arguments.lambda_fraction;
  } else {
    lambda.low = arguments.lambda_range[0], lambda.high = arguments.lambda_range[1];
    SHRINKWARP_REQUIRE(lambda.low <= lambda.high, UsageError, "--lambda-range: found ", lambda.low, ",", lambda.high,
                       ", wanted the smaller number first");
  }
  lambda.seed = arguments.training.seed;
  arguments.training.optimizer = value_named(kOptimizers, arguments.optimizer, "--optimizer");
  arguments.training.schedule = value_named(kSchedules, arguments.schedule, "--schedule");
  if (arguments.layerwise) arguments.training.layerwise = true;
  if (arguments.end_to_end) arguments.training.layerwise = false;
  require_effect(arguments);
  arguments.spec.gamma = arguments.gamma.value_or(arguments.spec.gamma);
  if (!arguments.selection.empty()) {
    arguments.spec.selection = {arguments.selection[0], arguments.selection[1]};
    SHRINKWARP_REQUIRE(arguments.spec.selection.most_percent <= 100, UsageError, "--support-selection: found ",
                       arguments.selection[1], ", wanted at most 100 percent");
  }
  const std::string checkpoint = TrainingCheckpoint::path_of(arguments.output);
  if (starts_from_file(arguments)) {
    SHRINKWARP_REQUIRE(std::filesystem::exists(arguments.start), UsageError, "--start: found '", arguments.start,
                       "', which is no file, wanted step, ista or the file of a step network");
    require_different_files("--start", arguments.start, "--output", arguments.output);
    require_different_files("--start", arguments.start, "the checkpoint", checkpoint);
    if (!arguments.history.empty()) require_different_files("--start", arguments.start, "--history", arguments.history);
  }
  require_different_files("--output", arguments.output, "--dictionary", arguments.dictionary);
  require_different_files("--output", arguments.output, "--observations", arguments.observations);
  if (!arguments.validation.empty())
    require_different_files("--output", arguments.output, "--validation", arguments.validation);
  if (!arguments.history.empty()) {
    require_different_files("--history", arguments.history, "--output", arguments.output);
    require_different_files("--history", arguments.history, "the checkpoint", checkpoint);
    require_different_files("--history", arguments.history, "--dictionary", arguments.dictionary);
    require_different_files("--history", arguments.history, "--observations", arguments.observations);
    if (!arguments.validation.empty())
      require_different_files("--history", arguments.history, "--validation", arguments.validation);
  }
}

/// Of the step network in the file of --start, as many layers and this dictionary's: its parameters.
std::vector<double> steps_of(const TrainArguments& arguments, const Context& context, const LoadedDictionary& loaded) {
  const std::string& name = arguments.start;
  const Safetensors file = read_safetensors(name);
  const NetworkDescription description = description_of(file);
  SHRINKWARP_REQUIRE(description.spec.kind == NetworkKind::step && description.spec.layers == arguments.spec.layers,
                     UsageError, "--start: found in ", name, " a network of kind ", name_of(description.spec.kind),
                     " with ", description.spec.layers, " layers, wanted step with ", arguments.spec.layers);
  require_dictionary(description, name, loaded.dictionary.rows(), loaded.dictionary.atoms(), loaded.hash,
                     arguments.dictionary);
  const std::unique_ptr<Network<double>> steps = make_network<double>(context, loaded.dictionary, description.spec);
  steps->load(context, file);
  return steps->to_host(context);
}

template <class T>
Fingerprint fingerprint_of(const TrainArguments& arguments, const Context& context, std::uint64_t dictionary,
                           const Samples<T>& samples, const Samples<T>& validation, const std::vector<double>& steps) {
  const TrainingOptions& training = arguments.training;
  Fingerprint fingerprint;
  fingerprint.add("shrinkwarp", std::string(kVersion) + " " + build_id());
  fingerprint.add("device", context.is_cuda()
                                ? context.description()
                                : std::string("cpu, ") + cpu_instruction_set() + ", " + cpu_blas_core_name());
  fingerprint.add("network", arguments.network);
  fingerprint.add("--layers", arguments.spec.layers);
  fingerprint.add("--ridge", arguments.spec.ridge);
  fingerprint.add("--gamma", arguments.spec.gamma);
  fingerprint.add("P of --support-selection", arguments.spec.selection.percent_a_layer);
  fingerprint.add("MAX of --support-selection", arguments.spec.selection.most_percent);
  fingerprint.add_hash("values of --dictionary", dictionary);
  fingerprint.add_hash("values of --observations", samples.hash());
  fingerprint.add("observations", samples.size());
  fingerprint.add_hash("values of --validation", validation.hash());
  fingerprint.add("least fraction of lambda_max", training.lambda.low);
  fingerprint.add("largest fraction of lambda_max", training.lambda.high);
  if (starts_from_file(arguments))
    fingerprint.add_hash("steps of --start",
                         hash_bytes(steps.data(), static_cast<std::int64_t>(steps.size() * sizeof(double))));
  else
    fingerprint.add("--start", arguments.start);
  fingerprint.add("--optimizer", arguments.optimizer);
  fingerprint.add("--schedule", arguments.schedule);
  if (training.epochs > 0)
    fingerprint.add("--epochs", training.epochs);
  else
    fingerprint.add("--epochs", "the default");
  fingerprint.add("--batch", training.batch);
  if (training.rate > 0)
    fingerprint.add("--lr", training.rate);
  else
    fingerprint.add("--lr", "the default");
  fingerprint.add("--momentum", training.momentum);
  fingerprint.add("--weight-decay", training.weight_decay);
  fingerprint.add("--clip", training.clip);
  fingerprint.add("--patience", training.patience);
  fingerprint.add("--seed", static_cast<std::int64_t>(training.seed));
  fingerprint.add("--layerwise", arguments.layerwise ? "yes" : arguments.end_to_end ? "no" : "auto");
  return fingerprint;
}

void print_outcome(const TrainArguments& arguments, const Context& context, const Dictionary& dictionary,
                   const TrainingResult& result, double unit, double seconds, int ranks) {
  const double validation = result.validation * unit, ista = result.ista_validation * unit;
  if (arguments.json) {
    std::cout << json_line({{"schema", "shrinkwarp-train-1"},
                            {"network", arguments.network},
                            {"layers", arguments.spec.layers},
                            {"rows", dictionary.rows()},
                            {"atoms", dictionary.atoms()},
                            {"validation", validation},
                            {"ista", ista},
                            {"fell_back", result.fell_back},
                            {"device", context.description()},
                            {"ranks", ranks},
                            {"seconds", seconds},
                            {"output", arguments.output}})
              << '\n';
    return;
  }
  if (arguments.quiet) return;
  std::printf("network      %s of %lld layers, dictionary %lld x %lld\n", arguments.network.c_str(),
              static_cast<long long>(arguments.spec.layers), static_cast<long long>(dictionary.rows()),
              static_cast<long long>(dictionary.atoms()));
  std::printf("validation   mean Lasso cost %.9g, ISTA of as many layers %.9g\n", validation, ista);
  if (result.fell_back) std::printf("             no trained network was better: the file holds ISTA\n");
  std::printf("time         %s on %s%s\n", duration_text(seconds).c_str(), context.description().c_str(),
              ranks_text(ranks).c_str());
  std::printf("output       %s\n", arguments.output.c_str());
  std::fflush(stdout);
}

/// @param event  in the user's units
std::string history_line(const TrainingEvent& event) {
  nlohmann::json line = {{"depth", event.depth},
                         {"pass", event.epoch},
                         {"cost", event.loss},
                         {"best_validation", event.best_validation},
                         {"rate", event.rate}};
  line["validation"] = std::isnan(event.validation) ? nlohmann::json(nullptr) : nlohmann::json(event.validation);
  return json_line(line);
}

/// The same for a person.
std::string progress_text(const TrainingEvent& event, std::int64_t layers) {
  char text[200];
  std::snprintf(text, sizeof(text), "layer %lld of %lld, pass %lld: cost %.9g", static_cast<long long>(event.depth),
                static_cast<long long>(layers), static_cast<long long>(event.epoch), event.loss);
  std::string line = text;
  if (!std::isnan(event.validation)) {
    std::snprintf(text, sizeof(text), ", validation %.9g, best %.9g", event.validation, event.best_validation);
    line += text;
  }
  return line;
}

void print_finished(const TrainArguments& arguments) {
  if (arguments.json) {
    std::cout << json_line({{"schema", "shrinkwarp-train-1"}, {"finished", true}, {"output", arguments.output}})
              << '\n';
  } else if (!arguments.quiet) {
    std::printf("%s is finished, there is nothing to resume\n", arguments.output.c_str());
    std::fflush(stdout);
  }
}

/// What a training reads.
struct TrainInputs {
  NpyFile dictionary_file;
  NpyObservations observations;
  std::optional<NpyObservations> validation;
  Context context;
};

template <class T>
int run(const TrainArguments& arguments, Ranks& ranks, TrainInputs& inputs, const LoadedDictionary& loaded,
        const CancelToken* cancel) {
  const auto started = std::chrono::steady_clock::now();
  const Context& context = inputs.context;
  const Dictionary& dictionary = loaded.dictionary;
  NpyObservations& observations = inputs.observations;
  NpyObservations& judges = inputs.validation ? *inputs.validation : observations;
  const std::int64_t memory = parse_bytes(arguments.memory_limit);
  std::optional<Samples<T>> samples, validation;
  double unit = 1, judged_unit = 1;
  std::vector<double> steps;
  const bool from_file = !has_scalar_layers(arguments.spec.kind) && starts_from_file(arguments);
  together(ranks, [&] {
    SampleRows rows = split_rows(observations.size(), inputs.validation.has_value());
    if (inputs.validation) {
      rows.validation.resize(static_cast<std::size_t>(judges.size()));
      std::iota(rows.validation.begin(), rows.validation.end(), std::int64_t{0});
    }
    samples.emplace(context, dictionary, observations, std::move(rows.training), memory / 2, cancel);
    validation.emplace(context, dictionary, judges, std::move(rows.validation), memory / 4, cancel);
    unit = cost_unit(*samples, arguments.observations);
    judged_unit = cost_unit(*validation, inputs.validation ? arguments.validation : arguments.observations);
    const std::int64_t batch = std::min(arguments.training.batch, samples->size());
    SHRINKWARP_REQUIRE(batch >= ranks.size() || sees_all(resolved(arguments.training.optimizer, arguments.spec.kind)),
                       UsageError, arguments.training.batch == batch ? "--batch" : arguments.observations,
                       ": found batches of ", batch, " observations for ", ranks.size(),
                       " ranks, wanted at least an observation for each");
    if (from_file) steps = steps_of(arguments, context, loaded);
  });
  const Fingerprint fingerprint = fingerprint_of(arguments, context, loaded.hash, *samples, *validation, steps);
  std::vector<std::string> may_change;
  for (const char* const option : kMayChange)
    if (arguments.given.count(option) > 0) may_change.emplace_back(option);
  std::optional<ResumableTraining> training;
  open_training(ranks, arguments.output, fingerprint, arguments.resume, may_change, arguments.history, training);
  if (training->is_finished()) {
    print_finished(arguments);
    return kDone;
  }
  SharedTraining shared(ranks, context, !arguments.quiet && !arguments.json);
  TrainingOptions options = arguments.training;
  options.replicas = shared.replicas();
  const std::unique_ptr<Network<T>> network = make_network<T>(context, dictionary, arguments.spec);
  const TrainingStore store = training->store(TrainingPart::network);
  TrainingResult result;
  try {
    ProgressLine line(arguments.quiet || arguments.json);
    const auto show = [&](const TrainingEvent& event) {
      line.update([&] { return progress_text(event, arguments.spec.layers); });
    };
    if (!store.resume && !has_scalar_layers(arguments.spec.kind) && arguments.start == "step") {
      std::optional<Samples<double>> few, few_judges;
      together(ranks, [&] {
        few.emplace(context, dictionary, observations, start_rows(samples->rows()), memory / 4, cancel);
        few_judges.emplace(context, dictionary, judges, start_rows(validation->rows()), memory / 4, cancel);
      });
      const double its_unit = few->unit() * few->unit(), its_judged_unit = few_judges->unit() * few_judges->unit();
      start_from_steps<T>(
          context, dictionary, *network, *few, *few_judges, options.lambda, training->store(TrainingPart::start),
          [&](const TrainingEvent& event) { show(in_units(event, its_unit, its_judged_unit)); }, cancel,
          options.replicas);
    }
    if (!store.resume && from_file) network->become_step_network(context, dictionary, steps);
    result = train<T>(
        context, dictionary, *network, *samples, *validation, options, store,
        [&](const TrainingEvent& event) {
          const TrainingEvent its = in_units(event, unit, judged_unit);
          show(its);
          training->history().add(history_line(its));
        },
        cancel);
  } catch (const DivergedError& error) {  // found by all ranks
    const bool on_all = sees_all(resolved(arguments.training.optimizer, arguments.spec.kind));
    SHRINKWARP_THROW(AgreedError, error.what(), on_all ? std::string() : training->advice());
  }
  together(ranks, [&] {
    if (!ranks.first()) return;
    Safetensors file;
    NetworkDescription description;
    description.spec = network->spec();
    description.rows = dictionary.rows();
    description.atoms = dictionary.atoms();
    description.dictionary_hash = loaded.hash;
    description.lambda = arguments.training.lambda;
    describe(description, file);
    network->save(context, file);
    training->finish(std::move(file));
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  print_outcome(arguments, context, dictionary, result, judged_unit, seconds, ranks.size());
  return kDone;
}

int run_train(TrainArguments arguments, Ranks& ranks) {
  // One rank speaks and writes for all.
  if (!ranks.first()) arguments.quiet = true, arguments.json = false;
  std::optional<OutputLock> lock;
  std::optional<TrainInputs> inputs;
  together(ranks, [&] {
    complete(arguments);
    if (ranks.first()) {
      require_writable(arguments.output);
      lock.emplace(arguments.output);
    }
    inputs.emplace(TrainInputs{NpyFile::open(arguments.dictionary),
                               NpyObservations(arguments.observations),
                               {},
                               context_of(ranks, arguments.device, arguments.threads)});
    if (!arguments.validation.empty()) inputs->validation.emplace(arguments.validation);
  });
  if (arguments.training.lambda.low >= 1)
    std::cerr << "shrinkwarp: lambda is no smaller than lambda_max: every code is 0, and there is nothing to learn\n";
  const LoadedDictionary loaded =
      load_dictionary(ranks, inputs->context, inputs->dictionary_file, arguments.dictionary, [&](const Dictionary& D) {
        D.lipschitz(inputs->context);       // the step that networks begin with
        D.exact().panels(inputs->context);  // for the lambda_max of samples
      });
  const InterruptScope interrupts;
  try {
    return has_scalar_layers(arguments.spec.kind) ? run<double>(arguments, ranks, *inputs, loaded, interrupts.token())
                                                  : run<float>(arguments, ranks, *inputs, loaded, interrupts.token());
  } catch (const Cancelled&) {
    return end_interrupted(ranks, interrupts, arguments.output);
  }
}

}  // namespace

void add_train(CLI::App& app, Action& action, Ranks& ranks) {
  auto arguments = std::make_shared<TrainArguments>();
  TrainingOptions& training = arguments->training;
  CLI::App* command =
      app.add_subcommand("train", "Train a network that stands in for iterations, on observations alone");
  command
      ->add_option("network", arguments->network,
                   "lista, coupled, step, alista or momentum-lista: what a layer learns (docs/networks.md)")
      ->required()
      ->check(one_of({"lista", "coupled", "step", "alista", "momentum-lista"}));
  command->add_option("--dictionary", arguments->dictionary, "D.npy (n, m), f4 or f8: a column an atom")->required();
  command->add_option("--observations", arguments->observations, "X.npy (N, n), f4 or f8: a row an observation")
      ->required();
  command->add_option("--layers", arguments->spec.layers, "T, the network's iterations")
      ->required()
      ->check(whole_number(1, 100000));
  CLI::Option_group* lambda = command->add_option_group("lambda", "what the network is trained for, one of");
  lambda->add_option("--lambda-fraction", arguments->lambda_fraction, "a fraction of each lambda_max = ||D'x||_inf")
      ->check(positive_number());
  lambda
      ->add_option("--lambda-range", arguments->lambda_range,
                   "LO,HI: fractions between these two, drawn for each sample")
      ->delimiter(',')
      ->expected(2)
      ->check(positive_number());
  lambda->require_option(1);
  command->add_option(
      "--validation", arguments->validation,
      "V.npy (N', n): what the parameters are chosen by; without it every tenth observation, and of fewer than 20 "
      "those that are trained on");
  command->add_option("--output", arguments->output, "net.safetensors to write")->required();
  command
      ->add_option(
          "--start", arguments->start,
          "step, ista or NET.safetensors: what lista, coupled and momentum-lista begin as; step trains step-LISTA "
          "first, a file has one that is trained")
      ->capture_default_str();
  command
      ->add_option("--optimizer", arguments->optimizer,
                   "auto, which is lbfgs for step and alista and else adam; adam and sgd see batches, linesearch and "
                   "lbfgs all observations")
      ->check(one_of(names_of(kOptimizers)))
      ->capture_default_str();
  command
      ->add_option("--epochs", training.epochs,
                   "passes over the observations, and iterations of linesearch and lbfgs; 0 takes 100 and 300")
      ->check(whole_number(0, 100000000))
      ->capture_default_str();
  command->add_option("--batch", training.batch, "observations of a batch of adam and sgd")
      ->check(whole_number(1, std::int64_t{1} << 31))
      ->capture_default_str();
  command
      ->add_option("--lr", training.rate,
                   "learning rate of adam and sgd at the start; 0 takes 1e-3 for adam, less for more than 5 layers, "
                   "and 1e-2 for sgd")
      ->check(number_from_0())
      ->capture_default_str();
  command
      ->add_option("--schedule", arguments->schedule,
                   "cosine, constant or steps: how the learning rate of adam and sgd falls")
      ->check(one_of(names_of(kSchedules)))
      ->capture_default_str();
  CLI::Option* layerwise =
      command->add_flag("--layerwise", arguments->layerwise,
                        "train 1, 2, ... layers one after the other; the default for step and alista");
  command->add_flag("--end-to-end", arguments->end_to_end, "train all layers at once; the default for the others")
      ->excludes(layerwise);
  command->add_option("--momentum", training.momentum, "of sgd")
      ->check(CLI::Range(0.0, 0.999999))
      ->capture_default_str();
  command->add_option("--weight-decay", training.weight_decay, "of adam, decoupled, and of sgd")
      ->check(number_from_0())
      ->capture_default_str();
  command
      ->add_option("--clip", training.clip,
                   "largest norm of a batch's gradient in adam and sgd; without it none is clipped")
      ->check(positive_number());
  command
      ->add_option("--patience", training.patience,
                   "looks at the validation without progress after which training ends; 0 never ends it")
      ->check(whole_number(0, 1000000000))
      ->capture_default_str();
  command->add_option("--seed", training.seed, "of the order of observations and of --lambda-range")
      ->check(whole_number(0, std::int64_t{1} << 62))
      ->capture_default_str();
  command->add_option("--ridge", arguments->spec.ridge, "of alista's matrix, as a share of ||D||_2^2")
      ->check(number_from_0())
      ->capture_default_str();
  command
      ->add_option(
          "--support-selection", arguments->selection,
          "P,MAX: in layer t of alista the largest entries, min(P t, MAX) percent of all atoms, are not shrunk")
      ->delimiter(',')
      ->expected(2)
      ->check(number_from_0());
  command
      ->add_option(
          "--gamma", arguments->gamma,
          "of momentum-lista before training, with --start ista; without it 0.2. With --start step it begins at 0")
      ->check(CLI::Range(0.0, 0.999999));
  command->add_option("--history", arguments->history, "H.jsonl to write: a line for each look at the validation");
  command->add_flag(
      "--resume", arguments->resume,
      "go on with OUTPUT.checkpoint, where there is one; with the same options to the same bits, and where --lr, "
      "--schedule or --clip is given with what it says. An output that is finished is left as it is");
  command->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command
      ->add_option("--memory-limit", arguments->memory_limit,
                   "of observations that are held; others are read each time")
      ->check(byte_count())
      ->capture_default_str();
  command->add_flag("--quiet", arguments->quiet, "no progress, no summary");
  command->add_flag("--json", arguments->json, "one JSON object in place of the summary");
  command->footer(
      "The state of a training is kept in OUTPUT.checkpoint until the output is written. Of one that diverges it is "
      "the\n"
      "last good one, from which --resume goes on with another --lr or --clip.\n"
      "Exit status: 0 done, 2 usage, 1 other errors, 130 and 143 interrupted.\n"
      "Processes that mpirun has started share each batch: docs/cluster.md.\n"
      "Example:\n  shrinkwarp train step --dictionary D.npy --observations X.npy --layers 10 --lambda-fraction 0.5 "
      "--output net.safetensors");
  command->callback([arguments, command, &action, &ranks] {
    for (const char* const option : kLooked)
      if (command->count(option) > 0) arguments->given.insert(option);
    action = [arguments, &ranks] { return run_train(*arguments, ranks); };
  });
}

}  // namespace shrinkwarp::cli
