// `shrinkwarp net forward` and `net inverse`: a random momentum network there in one process, and back in another.
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/linear.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/net_command.hpp>
#include <shrinkwarp/tools/cli/net_options.hpp>
#include <shrinkwarp/tools/files/momentum_state_file.hpp>

namespace shrinkwarp::cli {
namespace {

struct ForwardArguments {
  std::int64_t layers = 0, width = 0, hidden = 0, batch = 0;
  std::vector<double> gamma;
  std::uint64_t seed = 0;
  std::optional<double> scale;
  std::string mode = "exact", initial, input, state, output, device = "auto";
  int threads = 0;
  bool plain = false, json = false;
};

constexpr std::uint64_t kPositions = std::uint64_t{1} << 32;  // streams of the seed, beyond those of weights
constexpr std::uint64_t kVelocities = kPositions + 1;
// A state says which network it is of, but not at more than some 8 bits an element: of fewer elements by a hash, of the fewest
// not at all.
constexpr std::int64_t kNamedFrom = 256;
constexpr std::int64_t kHashedFrom = 8;

MomentumSpec spec_of(const ForwardArguments& arguments) {
  MomentumSpec spec;
  const bool one = arguments.gamma.size() == 1;
  SHRINKWARP_REQUIRE(one || static_cast<std::int64_t>(arguments.gamma.size()) == arguments.layers, UsageError,
                     "--gamma: found ", arguments.gamma.size(), " numbers for ", arguments.layers,
                     " layers, wanted one, or one each");
  spec.gammas =
      one ? std::vector<double>(static_cast<std::size_t>(arguments.layers), arguments.gamma[0]) : arguments.gamma;
  spec.form = arguments.plain ? MomentumForm::plain : MomentumForm::damped;
  spec.arithmetic = arguments.mode == "exact" ? Arithmetic::exact : Arithmetic::approximate;
  require_gamma_options(spec);
  return spec;
}

/// A layer's branch is W2 tanh(W1 x + b1) + b2 with weights of its own.
class RandomNetwork {
 public:
  RandomNetwork(const ForwardArguments& arguments, const Context& context)
      : context_(context),
        stage_(list_, "momentum", branches(arguments), spec_of(arguments), 0),
        values_(context, list_, arguments.seed),
        status_(context, 1) {
    clear_status(context, status_.vector());
  }

  const MomentumNet<float>& stage() const { return stage_; }
  Pass<float> pass() const {
    Pass<float> pass(context_);
    pass.parameters = values_.parameters();
    pass.statistics = values_.statistics();
    pass.status = status_.vector();
    return pass;
  }
  VectorView<std::int32_t> status() const { return status_.vector(); }

 private:
  std::vector<LayerPointer<float>> branches(const ForwardArguments& arguments) {
    std::vector<LayerPointer<float>> result;
    for (std::int64_t t = 0; t < arguments.layers; ++t) {
      const std::string name = "layers." + std::to_string(t);
      std::vector<LayerPointer<float>> layers{
          std::make_shared<Linear<float>>(list_, name + ".0", arguments.width, arguments.hidden, Activation::tanh),
          std::make_shared<Linear<float>>(list_, name + ".1", arguments.hidden, arguments.width, Activation::none)};
      result.push_back(std::make_shared<Sequential<float>>(std::move(layers)));
    }
    return result;
  }

  const Context& context_;
  ParameterList list_;
  MomentumNet<float> stage_;
  ParameterValues<float> values_;
  Tensor<std::int32_t> status_;
};

/// What the bits of a state depend on, but for x and v at its beginning.
std::string network_text(const ForwardArguments& arguments, const Context& context) {
  nlohmann::json text = {{"layers", arguments.layers}, {"width", arguments.width}, {"hidden", arguments.hidden},
                         {"gamma", arguments.gamma},   {"seed", arguments.seed},   {"mode", arguments.mode},
                         {"plain", arguments.plain}};
  text["device"] =
      context.is_cuda() ? context.description() : std::string(cpu_instruction_set()) + ", " + cpu_blas_core_name();
  return json_line(text);
}

/// What a state of so many elements says of it.
std::string network_entry(const std::string& text, std::int64_t elements) {
  if (elements >= kNamedFrom) return text;
  if (elements < kHashedFrom) return {};
  char hash[9];
  std::snprintf(hash, sizeof(hash), "%08x",
                static_cast<unsigned>(hash_bytes(text.data(), static_cast<std::int64_t>(text.size()))));
  return hash;
}

/// Refuses a state of another network. @throws UsageError naming the first difference, where the state has it
void require_network(const std::string& file, const std::string& found, const std::string& text,
                     std::int64_t elements) {
  if (found == network_entry(text, elements)) return;
  const nlohmann::json has = nlohmann::json::parse(found, nullptr, false), wants = nlohmann::json::parse(text);
  if (has.is_object()) {
    for (const auto& [key, value] : wants.items()) {
      const nlohmann::json its = has.contains(key) ? has[key] : nlohmann::json();
      SHRINKWARP_REQUIRE(its == value, UsageError, file, " is the state of another network: its ", key, " is ",
                         its.dump(), ", wanted ", value.dump());
    }
  }
  SHRINKWARP_THROW(UsageError, file,
                   " is the state of another network, or of another machine: wanted the options of its ",
                   "net forward, and the same instruction set and BLAS kernels");
}

std::vector<double> normals(const ForwardArguments& arguments, std::uint64_t stream) {
  const std::int64_t size = arguments.width * arguments.batch;
  std::vector<double> values(static_cast<std::size_t>(size));
  const Context host = Context::cpu(1);
  fill_normal<double>(host, arguments.seed, stream, 0, VectorView<double>{values.data(), size, {}});
  for (double& value : values) value *= arguments.scale.value_or(1);
  return values;
}

/// x and v at the beginning, drawn from the seed.
StoredMomentumState drawn_positions(const ForwardArguments& arguments) {
  const std::vector<double> x = normals(arguments, kPositions), v = normals(arguments, kVelocities);
  StoredMomentumState start;
  start.features = arguments.width;
  start.samples = arguments.batch;
  if (arguments.mode != "exact") {
    start.float_x.assign(x.begin(), x.end());
    start.float_v.assign(v.begin(), v.end());
    return start;
  }
  const auto to_fixed = [](const char* what, const std::vector<double>& values, std::vector<std::int64_t>& fixed) {
    for (const double value : values) {
      bool fits = true;
      fixed.push_back(impulse(value, 1, fits));
      SHRINKWARP_REQUIRE(fits, RangeError, "layer 0: ", what, " of ", value,
                         " found, wanted numbers under 2^19 = 524288 in exact arithmetic (--scale)");
    }
  };
  to_fixed("a position", x, start.x);
  to_fixed("a velocity", v, start.v);
  return start;
}

/// x and v at the beginning: of --initial, or drawn.
/// @throws UsageError (options of the one with the other; other sizes)
StoredMomentumState initial_positions(const ForwardArguments& arguments) {
  if (arguments.initial.empty()) {
    SHRINKWARP_REQUIRE(arguments.batch > 0, UsageError, "--batch: found none, wanted it, or --initial");
    return drawn_positions(arguments);
  }
  SHRINKWARP_REQUIRE(!arguments.scale, UsageError, "--scale: found it with --initial, whose x and v are as they are, ",
                     "wanted one of them");
  StoredMomentumState start = read_positions(arguments.initial, arguments.mode == "exact");
  SHRINKWARP_REQUIRE(start.features == arguments.width, UsageError, "--width: found ", arguments.width, ", wanted ",
                     start.features, " as ", arguments.initial, " has");
  SHRINKWARP_REQUIRE(arguments.batch == 0 || arguments.batch == start.samples, UsageError, "--batch: found ",
                     arguments.batch, ", wanted ", start.samples, " as ", arguments.initial, " has, or none");
  return start;
}

/// Puts x and v into a state that a network has begun.
void set_positions(const Context& context, const StoredMomentumState& positions, const MomentumState<float>& state) {
  if (!positions.exact()) {
    to_device(context, positions.float_x, state.x);
    to_device(context, positions.float_v, state.v);
    return;
  }
  std::vector<float> seen;
  for (const std::int64_t x : positions.x) seen.push_back(rounded<float>(x));
  to_device(context, positions.x, state.exact.x);
  to_device(context, positions.v, state.exact.v);
  to_device(context, seen, state.x);
}

/// A state with its memory.
struct OwnedState {
  Arena arena;
  MomentumState<float> state;
  Tensor<std::byte> scratch;

  OwnedState(const RandomNetwork& network, const Context& context, std::int64_t samples)
      : arena(context, bytes(network, context, samples)),
        state(network.stage().lay_out(arena, samples, network.status())),
        scratch(context, network.stage().scratch(context, samples, false)) {}
  static std::int64_t bytes(const RandomNetwork& network, const Context& context, std::int64_t samples) {
    Arena counting(context.device());
    network.stage().lay_out(counting, samples, {});
    return counting.used();
  }
};

int run_forward(const ForwardArguments& arguments) {
  require_different_files("--state", arguments.state, "--input", arguments.input);
  if (!arguments.initial.empty()) {
    require_different_files("--input", arguments.input, "--initial", arguments.initial);
    require_different_files("--state", arguments.state, "--initial", arguments.initial);
  }
  const StoredMomentumState start = initial_positions(arguments);
  const std::int64_t batch = start.samples;
  require_writable(arguments.input);
  require_writable(arguments.state);
  const Context context = Context::named(arguments.device, arguments.threads);
  const RandomNetwork network(arguments, context);
  const OwnedState owned(network, context, batch);
  const Pass<float> pass = network.pass();
  const Tensor<float> zeros = Tensor<float>::zeros(context, arguments.width, batch);
  network.stage().begin(pass, zeros.matrix(), zeros.matrix(), owned.state, owned.scratch.vector());
  set_positions(context, start, owned.state);
  network.stage().advance(pass, owned.state, batch, owned.scratch.vector());
  require_all_well(context, network.status(), "net forward");
  StoredMomentumState end = stored_state(context, owned.state, arguments.width, batch);
  end.network = network_entry(network_text(arguments, context), arguments.width * batch);
  write_positions(arguments.input, start);
  write_momentum_state(arguments.state, end);
  const auto elements = static_cast<double>(arguments.width * batch);
  const double bits = 8 * static_cast<double>(end.buffer_bytes()) / (elements * static_cast<double>(arguments.layers));
  if (arguments.json) {
    nlohmann::json out = {{"schema", "shrinkwarp-net-forward-1"},
                          {"layers", arguments.layers},
                          {"width", arguments.width},
                          {"batch", batch},
                          {"mode", arguments.mode},
                          {"device", context.description()},
                          {"input", arguments.input},
                          {"state", arguments.state}};
    if (end.exact()) {
      out["buffer_bytes"] = end.buffer_bytes();
      out["buffer_bits_per_element_layer"] = bits;
    }
    std::cout << json_line(out) << '\n';
    return kDone;
  }
  std::printf("network      %lld layers of width %lld, %s\n", static_cast<long long>(arguments.layers),
              static_cast<long long>(arguments.width), arguments.mode.c_str());
  if (end.exact())
    std::printf("buffer       %lld bytes, %.4g bits an element and layer\n", static_cast<long long>(end.buffer_bytes()),
                bits);
  std::printf("input        %s\nstate        %s\n", arguments.input.c_str(), arguments.state.c_str());
  std::fflush(stdout);
  return kDone;
}

int run_inverse(const ForwardArguments& arguments) {
  require_different_files("--output", arguments.output, "--state", arguments.state);
  const Context context = Context::named(arguments.device, arguments.threads);
  const StoredMomentumState end = read_momentum_state(arguments.state);
  require_network(arguments.state, end.network, network_text(arguments, context), end.features * end.samples);
  SHRINKWARP_REQUIRE(end.features == arguments.width && end.exact() == (arguments.mode == "exact"), ValueError,
                     arguments.state, ": found states of ", end.features, " features, ", end.exact() ? "in" : "without",
                     " fixed point, wanted ", arguments.width, ", ", arguments.mode == "exact" ? "in" : "without");
  require_writable(arguments.output);
  const RandomNetwork network(arguments, context);
  const OwnedState owned(network, context, end.samples);
  restore_state(context, end, owned.state, arguments.state);
  network.stage().inverse(network.pass(), owned.state, end.samples, owned.scratch.vector());
  require_all_well(context, network.status(), "net inverse");
  const StoredMomentumState start = stored_state(context, owned.state, end.features, end.samples);
  if (start.exact()) network.stage().require_beginning(context, owned.state, arguments.state);
  write_positions(arguments.output, start);
  if (arguments.json) {
    std::cout << json_line({{"schema", "shrinkwarp-net-inverse-1"},
                            {"layers", arguments.layers},
                            {"samples", end.samples},
                            {"device", context.description()},
                            {"output", arguments.output}})
              << '\n';
    return kDone;
  }
  std::printf("output       %s\n", arguments.output.c_str());
  std::fflush(stdout);
  return kDone;
}

/// What both commands have.
void add_network_options(CLI::App& command, ForwardArguments& arguments) {
  constexpr std::int64_t kMost = 1 << 24;
  command.add_option("--layers", arguments.layers, "layers T")->required()->check(whole_number(1, 1000000));
  command.add_option("--gamma", arguments.gamma, "momentum, over 0 and at most 1: one number, or one a layer")
      ->required()
      ->delimiter(',')
      ->check(positive_number());
  command.add_option("--width", arguments.width, "features d of a sample")->required()->check(whole_number(1, kMost));
  command.add_option("--hidden", arguments.hidden, "hidden features h of a branch")
      ->required()
      ->check(whole_number(1, kMost));
  command.add_option("--seed", arguments.seed, "of weights, and of x and v where they are drawn")->required();
  command.add_option("--mode", arguments.mode, "exact (fixed point, the default) or approximate (float32)")
      ->check(one_of({"exact", "approximate"}));
  command.add_flag("--plain", arguments.plain, "v <- gamma v + f in place of v <- gamma v + (1 - gamma) f");
  command.add_option("--device", arguments.device, "auto, cpu, cuda or cuda:N")->check(device_name());
  command.add_option("--threads", arguments.threads, "threads of the CPU; 0: all")->check(whole_number(0, 4096));
  command.add_flag("--json", arguments.json, "one JSON object on standard output");
}

}  // namespace

void add_net_forward(CLI::App& net, Action& action) {
  auto arguments = std::make_shared<ForwardArguments>();
  CLI::App* command = net.add_subcommand("forward", "Run a random momentum network and keep what leads back");
  add_network_options(*command, *arguments);
  command->add_option("--batch", arguments->batch, "samples; not wanted with --initial, which has as many as it has")
      ->check(whole_number(1, 1 << 24));
  command->add_option(
      "--initial", arguments->initial,
      "x and v to begin with (.npz of arrays x and v, each (batch, width), f4 or f8, or in exact mode i8 in units of "
      "2^-44); without it they are drawn from --seed");
  command->add_option("--scale", arguments->scale, "standard deviation of x and v that are drawn (default 1)")
      ->check(positive_number());
  command->add_option("--input", arguments->input, "where x and v at the start go, as they were rounded (.npz)")
      ->required();
  command->add_option("--state", arguments->state, "where the last x and v go, with the buffer (.npz)")->required();
  command->footer(
      "Example:\n  shrinkwarp net forward --layers 100 --gamma 0.9 --width 32 --hidden 64 --batch 100 --seed 1 "
      "--input start.npz --state end.npz");
  command->callback([arguments, &action] { action = [arguments] { return run_forward(*arguments); }; });
}

void add_net_inverse(CLI::App& net, Action& action) {
  auto arguments = std::make_shared<ForwardArguments>();
  CLI::App* command = net.add_subcommand("inverse", "From a last state back to the first: what net forward began with");
  add_network_options(*command, *arguments);
  command->add_option("--state", arguments->state, "of net forward, with the same options (.npz)")->required();
  command->add_option("--output", arguments->output, "where x and v go (.npz)")->required();
  command->footer(
      "Example:\n  shrinkwarp net inverse --layers 100 --gamma 0.9 --width 32 --hidden 64 --seed 1 --state end.npz "
      "--output back.npz");
  command->callback([arguments, &action] { action = [arguments] { return run_inverse(*arguments); }; });
}

}  // namespace shrinkwarp::cli
