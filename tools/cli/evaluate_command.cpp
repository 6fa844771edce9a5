// `shrinkwarp evaluate`: a network's codes beside the optimum, ISTA and FISTA.
#include <cmath>
#include <cstdio>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/models/lista/evaluation.hpp>
#include <shrinkwarp/models/lista/network_file.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/interrupt.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/files/npy_observations.hpp>

namespace shrinkwarp::cli {
namespace {

struct EvaluateArguments {
  std::string network, dictionary, observations, codes, gradient, device = "auto";
  std::optional<double> lambda_fraction;
  int threads = 0;
  bool oracle = false, json = false;
};

nlohmann::json gaps(const CodesQuality& quality) {
  return {{"mean", quality.mean_relative_gap}, {"worst", quality.worst_relative_gap}};
}

/// In double where layers are scalar, whatever the file has.
Safetensors gradient_of(const Context& context, const Dictionary& dictionary, const NetworkDescription& description,
                        const Safetensors& file, NpyObservations& observations, double fraction) {
  const auto in = [&](auto zero) {
    using T = decltype(zero);
    const std::unique_ptr<Network<T>> network = make_network<T>(context, dictionary, description.spec);
    network->load(context, file);
    return cost_gradient<T>(context, dictionary, *network, observations, fraction);
  };
  Safetensors gradient = description.in_double || has_scalar_layers(description.spec.kind) ? in(0.0) : in(0.0F);
  gradient.metadata["format"] = "shrinkwarp-gradient-1";
  return gradient;
}

template <class T>
Evaluation run(const EvaluateArguments& arguments, const Context& context, const Dictionary& dictionary,
               const NetworkDescription& description, const Safetensors& file, NpyObservations& observations,
               double fraction, const CancelToken* cancel) {
  const std::unique_ptr<Network<T>> network = make_network<T>(context, dictionary, description.spec);
  network->load(context, file);
  std::optional<NpyWriter> writer;
  if (!arguments.codes.empty())
    writer.emplace(arguments.codes, element_type<T>(),
                   std::vector<std::int64_t>{observations.size(), dictionary.atoms()});
  std::function<void(MatrixView<const double>)> append;
  std::int64_t written = 0;
  std::vector<T> row(static_cast<std::size_t>(dictionary.atoms()));
  if (writer) {
    append = [&](MatrixView<const double> codes) {
      for (std::int64_t b = 0; b < codes.cols; ++b, ++written) {
        for (std::int64_t j = 0; j < codes.rows; ++j) {
          const double code = codes(j, b);
          SHRINKWARP_REQUIRE(std::fabs(code) <= std::numeric_limits<T>::max() || !std::isfinite(code), ValueError,
                             arguments.codes, ": found the code ", code, " for observation ", written,
                             ", wanted one in the range of ", sizeof(T) == sizeof(float) ? "float32" : "float64",
                             ", the network's type: another unit of the observations helps");
          row[static_cast<std::size_t>(j)] = static_cast<T>(code);
        }
        writer->append(row.data(), codes.rows);
      }
    };
  }
  const Evaluation result =
      evaluate<T>(context, dictionary, *network, observations, fraction, arguments.oracle, append, cancel);
  if (writer) writer->finish();
  return result;
}

void print_table(const Evaluation& result, const NetworkDescription& description, double fraction) {
  std::printf("network      %s of %lld layers, lambda %g lambda_max, %lld observations\n",
              name_of(description.spec.kind), static_cast<long long>(result.layers), fraction,
              static_cast<long long>(result.problems));
  std::printf("\n%12s  %14s  %18s  %18s\n", "", "mean F - F*", "mean relative gap", "worst relative gap");
  const auto row = [](const char* name, const CodesQuality& quality) {
    std::printf("%12s  %14.3e  %18.3e  %18.3e\n", name, quality.mean_excess, quality.mean_relative_gap,
                quality.worst_relative_gap);
  };
  row("network", result.network);
  row("ISTA", result.ista);
  row("FISTA", result.fista);
  if (result.oracle_ista) row("oracle ISTA", *result.oracle_ista);
  std::fflush(stdout);
}

/// What the numbers must not be read without. @return the exit status
int warn(const Evaluation& result, const NetworkDescription& description, double fraction) {
  if (fraction < description.lambda.low || fraction > description.lambda.high) {
    std::cerr << "shrinkwarp: lambda is " << fraction << " lambda_max; the network was trained for "
              << description.lambda.low;
    if (description.lambda.low < description.lambda.high) std::cerr << " to " << description.lambda.high;
    std::cerr << '\n';
  }
  const auto not_finite = [&](const char* name, const CodesQuality& quality) {
    if (quality.not_finite > 0)
      std::cerr << "shrinkwarp: " << name << " of " << quality.not_finite << " of " << result.problems
                << " observations are not finite, or too large for a number\n";
  };
  not_finite("the network's codes", result.network);
  not_finite("ISTA's codes", result.ista);
  not_finite("FISTA's codes", result.fista);
  if (result.oracle_ista) not_finite("oracle ISTA's codes", *result.oracle_ista);
  if (result.optimum_missed == 0) return kDone;
  std::cerr << "shrinkwarp: F* of " << result.optimum_missed << " of " << result.problems
            << " observations is known to a relative gap of " << result.optimum_gap << " alone, and F - F* no better\n";
  return kUnconverged;
}

int run_evaluate(const EvaluateArguments& arguments) {
  if (!arguments.codes.empty()) {
    require_different_files("--codes", arguments.codes, "--network", arguments.network);
    require_different_files("--codes", arguments.codes, "--dictionary", arguments.dictionary);
    require_different_files("--codes", arguments.codes, "--observations", arguments.observations);
  }
  if (!arguments.gradient.empty()) {
    require_different_files("--gradient", arguments.gradient, "--network", arguments.network);
    require_different_files("--gradient", arguments.gradient, "--dictionary", arguments.dictionary);
    require_different_files("--gradient", arguments.gradient, "--observations", arguments.observations);
    if (!arguments.codes.empty()) require_different_files("--gradient", arguments.gradient, "--codes", arguments.codes);
    require_writable(arguments.gradient);
  }
  const Safetensors file = read_safetensors(arguments.network);
  const NetworkDescription description = description_of(file);
  const NpyFile dictionary_file = NpyFile::open(arguments.dictionary);
  NpyObservations observations(arguments.observations);
  const Context context = Context::named(arguments.device, arguments.threads);
  const LoadedDictionary loaded = LoadedDictionary::from_file(context, dictionary_file, arguments.dictionary);
  const Dictionary& dictionary = loaded.dictionary;
  require_dictionary(description, arguments.network, dictionary.rows(), dictionary.atoms(), loaded.hash,
                     arguments.dictionary);
  SHRINKWARP_REQUIRE(observations.size() > 0, ShapeError, arguments.observations,
                     ": found no rows, wanted at least one observation (N, n)");
  SHRINKWARP_REQUIRE(observations.dimension() == dictionary.rows(), ShapeError, arguments.observations,
                     ": found observations of length ", observations.dimension(), ", wanted ", dictionary.rows(),
                     ", the number of rows of ", arguments.dictionary);
  SHRINKWARP_REQUIRE(arguments.lambda_fraction || description.lambda.low == description.lambda.high, UsageError,
                     arguments.network, " was trained for lambdas of ", description.lambda.low, " to ",
                     description.lambda.high, " lambda_max: wanted --lambda-fraction");
  const double fraction = arguments.lambda_fraction.value_or(description.lambda.low);
  const InterruptScope interrupts;
  Evaluation result;
  try {
    std::optional<Safetensors> gradient;
    if (!arguments.gradient.empty())
      gradient = gradient_of(context, dictionary, description, file, observations, fraction);
    result =
        description.in_double
            ? run<double>(arguments, context, dictionary, description, file, observations, fraction, interrupts.token())
            : run<float>(arguments, context, dictionary, description, file, observations, fraction, interrupts.token());
    if (gradient) write_safetensors(arguments.gradient, *gradient);
  } catch (const Cancelled&) {
    std::cerr << "shrinkwarp: interrupted\n";
    return kSignal + interrupts.number();
  }
  if (!arguments.json) {
    print_table(result, description, fraction);
    return warn(result, description, fraction);
  }
  nlohmann::json object = {
      {"schema", "shrinkwarp-evaluate-1"},
      {"kind", name_of(description.spec.kind)},
      {"layers", result.layers},
      {"problems", result.problems},
      {"lambda_fraction", fraction},
      {"optimum", result.mean_optimum},
      {"optimum_gap", result.optimum_gap},
      {"optimum_missed", result.optimum_missed},
      {"not_finite", result.network.not_finite},
      {"network", result.network.mean_excess},
      {"ista", result.ista.mean_excess},
      {"fista", result.fista.mean_excess},
      {"relative_gaps",
       {{"network", gaps(result.network)}, {"ista", gaps(result.ista)}, {"fista", gaps(result.fista)}}}};
  if (result.oracle_ista) {
    object["oracle_ista"] = result.oracle_ista->mean_excess;
    object["relative_gaps"]["oracle_ista"] = gaps(*result.oracle_ista);
  }
  std::cout << json_line(object) << '\n';
  return warn(result, description, fraction);
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command =
      app.add_subcommand("evaluate", "Judge a trained network: mean F - F* beside ISTA and FISTA of the same depth");
  command->add_option("--network", arguments->network, "net.safetensors, from shrinkwarp train")->required();
  command->add_option("--dictionary", arguments->dictionary, "D.npy (n, m), f4 or f8: a column an atom")->required();
  command->add_option("--observations", arguments->observations, "X.npy (N, n), f4 or f8: a row an observation")
      ->required();
  command
      ->add_option("--lambda-fraction", arguments->lambda_fraction,
                   "a fraction of each lambda_max = ||D'x||_inf; without it the one that the network was trained for")
      ->check(positive_number());
  command->add_flag(
      "--oracle", arguments->oracle,
      "judge oracle ISTA too: steps of 1 / ||D_S||^2 on the code's support S, which costs more than a solve");
  command->add_option("--codes", arguments->codes, "Z.npy (N, m) to write: the network's own output");
  command->add_option(
      "--gradient", arguments->gradient,
      "G.safetensors to write: the gradient of the mean Lasso cost over all observations, by each of the "
      "network's tensors, under their names, in float64");
  command->add_option("--device", arguments->device, "auto, cpu, cuda or cuda:NUMBER")
      ->check(device_name())
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "of the CPU; 0 takes every processor")
      ->check(whole_number(0, 4096))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "one JSON object in place of the table");
  command->footer(
      "F* is the exact solver's objective; gaps are duality gaps over 1/2 ||x||^2, which need no F*.\n"
      "Exit status: 0 done, 3 F* is not known well of all, 2 usage, 1 other errors, 130 and 143 interrupted.\n"
      "Example:\n  shrinkwarp evaluate --network net.safetensors --dictionary D.npy --observations X.npy");
  command->callback([arguments, &action] { action = [arguments] { return run_evaluate(*arguments); }; });
}

}  // namespace shrinkwarp::cli
