// Residual and momentum residual networks.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <shrinkwarp/kernels/non_finite/non_finite.hpp>
#include <shrinkwarp/models/resnet/lista_layer.hpp>
#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/models/resnet/net_names.hpp>
#include <shrinkwarp/models/resnet/torchvision.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/tools/python/core/cuda_arrays.hpp>
#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>
#include <shrinkwarp/tools/python/core/layers.hpp>
#include <shrinkwarp/tools/python/core/parts.hpp>
#include <shrinkwarp/tools/python/core/tensors.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

template <class Table>
auto value_in(const Table& table, const nb::dict& options, const char* key) {
  return value_named(table, nb::cast<std::string>(options[key]), key);
}

MomentumSpec momentum_spec(const nb::dict& options) {
  MomentumSpec spec;
  spec.gamma = nb::cast<double>(options["gamma"]);
  spec.gammas = nb::cast<std::vector<double>>(options["gammas"]);
  spec.form = value_in(kMomentumForms, options, "form");
  spec.arithmetic = value_in(kArithmetics, options, "mode");
  spec.activations = nb::cast<bool>(options["stored"]) ? Activations::stored : Activations::recomputed;
  spec.learned = nb::cast<bool>(options["learned"]);
  spec.low = nb::cast<double>(options["low"]);
  spec.high = nb::cast<double>(options["high"]);
  spec.whole = nb::cast<bool>(options["whole"]);
  return spec;
}

nb::dict to_dict(const MomentumSpec& spec) {
  nb::dict options;
  options["gamma"] = spec.gamma;
  options["gammas"] = spec.gammas;
  options["form"] = name_of(kMomentumForms, spec.form);
  options["mode"] = name_of(kArithmetics, spec.arithmetic);
  options["stored"] = spec.activations == Activations::stored;
  options["learned"] = spec.learned;
  options["low"] = spec.low;
  options["high"] = spec.high;
  options["whole"] = spec.whole;
  return options;
}

NetSpec net_spec(const nb::dict& options) {
  NetSpec spec;
  spec.architecture = nb::cast<std::string>(options["architecture"]);
  const auto sizes = nb::cast<std::vector<std::int64_t>>(options["input"]);
  spec.input = {sizes.at(0), sizes.at(1), sizes.at(2)};
  spec.classes = nb::cast<std::int64_t>(options["classes"]);
  spec.blocks = nb::cast<std::int64_t>(options["blocks"]);
  spec.width = nb::cast<std::int64_t>(options["width"]);
  spec.hidden = nb::cast<std::int64_t>(options["hidden"]);
  spec.activation = value_in(kActivations, options, "activation");
  spec.normalisation = value_in(kNormalisations, options, "normalisation");
  spec.dropout = nb::cast<double>(options["dropout"]);
  spec.initial_velocity = nb::cast<bool>(options["initial_velocity"]);
  if (!nb::object(options["momentum"]).is_none())
    spec.momentum = momentum_spec(nb::cast<nb::dict>(options["momentum"]));
  return spec;
}

nb::dict to_dict(const NetSpec& spec) {
  nb::dict options;
  options["architecture"] = spec.architecture;
  options["input"] = nb::make_tuple(spec.input.channels, spec.input.height, spec.input.width);
  options["classes"] = spec.classes;
  options["blocks"] = spec.blocks;
  options["width"] = spec.width;
  options["hidden"] = spec.hidden;
  options["activation"] = name_of(kActivations, spec.activation);
  options["normalisation"] = name_of(kNormalisations, spec.normalisation);
  options["dropout"] = spec.dropout;
  options["initial_velocity"] = spec.initial_velocity;
  options["momentum"] = nb::none();
  if (spec.momentum) options["momentum"] = to_dict(*spec.momentum);
  return options;
}

// ---- Files ---------------------------------------------------------------------------------------------------------

/// What a file's network is, and its tensors.
nb::tuple load_net(const std::string& path, const std::vector<std::int64_t>& input) {
  NetSpec spec;
  Safetensors tensors;
  {
    const Unlocked unlocked;
    const Context host = Context::cpu(1);
    const Safetensors file = read_safetensors(path);
    spec = net_spec_of(file, {input.at(0), input.at(1), input.at(2)});
    Net<float> net(host, spec, 0);
    net.load(host, file);
    net.save(host, tensors);
  }
  return nb::make_tuple(to_dict(spec), python::to_dict(tensors));
}

void save_net(const std::string& path, const nb::dict& spec, const nb::dict& tensors) {
  Safetensors file = from_dict(tensors);
  describe_net(net_spec(spec), file);
  const Unlocked unlocked;
  file.seal();
  write_safetensors(path, file);
}

// ---- Samples --------------------------------------------------------------------------------------------------------

template <class T>
std::int64_t non_finite_of(const Context& context, MatrixView<const T> columns) {
  const Tensor<std::int64_t> count(context, 1);
  count_non_finite<T>(context, columns, count.vector());
  return on_host(context, count.vector())[0];
}

std::int64_t non_finite(Contexts& contexts, const CudaArray& array) {
  const Contexts::Lease lease(contexts);
  if (array.type() == nb::dtype<float>()) return non_finite_of(*lease, array.columns<float>(*lease));
  return non_finite_of(*lease, array.columns<double>(*lease));
}

// ---- Layers --------------------------------------------------------------------------------------------------------

template <class T>
std::unique_ptr<Layers<T>> net_layers(Contexts& contexts, const nb::dict& spec) {
  auto layers = std::make_unique<Layers<T>>(contexts);
  layers->set_layer(make_layers<T>(net_spec(spec), layers->list(), layers->stages()));
  return layers;
}

/// The blocks of an mlp alone.
template <class T>
std::unique_ptr<Layers<T>> mlp_stage(Contexts& contexts, const nb::dict& spec) {
  auto layers = std::make_unique<Layers<T>>(contexts);
  layers->set_stage(make_mlp_stage<T>(net_spec(spec), layers->list()));
  return layers;
}

/// A stage whose branches are Python's.
template <class T>
std::unique_ptr<Layers<T>> python_stage(Contexts& contexts, std::int64_t features, const nb::list& branches,
                                        const nb::object& initial, const nb::dict& options) {
  std::vector<LayerPointer<T>> its;
  for (const nb::handle branch : branches)
    its.push_back(std::make_shared<PythonLayer<T>>(features, nb::borrow(branch)));
  LayerPointer<T> first;
  if (!initial.is_none()) first = std::make_shared<PythonLayer<T>>(features, initial);
  auto layers = std::make_unique<Layers<T>>(contexts);
  layers->set_stage(std::make_shared<MomentumNet<T>>(layers->list(), "momentum", std::move(its), momentum_spec(options),
                                                     0, std::move(first)));
  return layers;
}

/// Layers of LISTA from codes of 0, of observations and lambda as side inputs; with momentum or not.
template <class T>
std::unique_ptr<Layers<T>> lista_layers(Contexts& contexts, std::int64_t rows, std::int64_t atoms, std::int64_t count,
                                        const std::optional<nb::dict>& momentum) {
  auto layers = std::make_unique<Layers<T>>(contexts);
  std::vector<LayerPointer<T>> its;
  for (std::int64_t t = 0; t < count; ++t)
    its.push_back(std::make_shared<ListaLayer<T>>(layers->list(), "layers." + std::to_string(t), rows, atoms));
  if (momentum)
    layers->set_stage(
        std::make_shared<MomentumNet<T>>(layers->list(), "momentum", std::move(its), momentum_spec(*momentum), 0));
  else
    layers->set_layer(std::make_shared<Sequential<T>>(std::move(its)));
  return layers;
}

nb::tuple shape_of(const Shape& shape) {
  return nb::make_tuple(shape.channels, shape.height, shape.width);
}

template <class T>
void add_layers(nb::module_& module, const char* name, const char* kept_name) {
  nb::class_<Kept<T>>(module, kept_name, "What a forward pass leaves for the way back.")
      .def_prop_ro("bytes", [](const Kept<T>& self) { return self.memory.bytes(); })
      .def_prop_ro("is_beginning", [](const Kept<T>& self) { return self.is_beginning; });
  using Its = Layers<T>;
  nb::class_<Its>(module, name, "Layers, without values of their tensors.")
      .def_static("net", &net_layers<T>, "contexts"_a, "spec"_a, nb::keep_alive<0, 1>())
      .def_static("mlp_stage", &mlp_stage<T>, "contexts"_a, "spec"_a, nb::keep_alive<0, 1>())
      .def_static("python_stage", &python_stage<T>, "contexts"_a, "features"_a, "branches"_a, "initial"_a.none(),
                  "momentum"_a, nb::keep_alive<0, 1>())
      .def_static("lista", &lista_layers<T>, "contexts"_a, "rows"_a, "atoms"_a, "count"_a, "momentum"_a.none(),
                  nb::keep_alive<0, 1>())
      .def_prop_ro("entries", &Its::entries, "(name, shape, whether it is learned) of each tensor.")
      .def_prop_ro("input", [](const Its& self) { return shape_of(self.layer().input()); })
      .def_prop_ro("output", [](const Its& self) { return shape_of(self.layer().output()); })
      .def_prop_ro("reads_output", [](const Its& self) { return self.layer().reads_output(); })
      .def_prop_ro("stages",
                   [](Its& self) {
                     std::vector<std::int64_t> layers;
                     for (const auto& stage : self.stages()) layers.push_back(stage->layers());
                     return layers;
                   })
      .def("initial", &Its::initial, "seed"_a)
      .def("memory", &Its::memory, "samples"_a, "keeps"_a)
      .def(
          "forward",
          [](const Its& self, const nb::object& X, const nb::list& values, const nb::list& side, bool keeps,
             bool training, std::uint64_t seed, std::int64_t step) {
            ForwardResult<T> result = self.forward(X, values, side, keeps, {training, seed, step});
            return nb::make_tuple(result.Y, result.kept ? nb::cast(std::move(result.kept)) : nb::object(nb::none()),
                                  result.statistics);
          },
          "X"_a, "values"_a, "side"_a, "keeps"_a, "training"_a, "seed"_a, "step"_a)
      .def("backward", &Its::backward, "kept"_a, "X"_a, "Y"_a, "dY"_a, "wants_dX"_a, "side_wanted"_a)
      .def(
          "advance",
          [](const Its& self, const nb::object& X, const nb::object& V, const nb::list& values, const nb::list& side,
             bool training, std::uint64_t seed, std::int64_t step) {
            return self.advance(X, V, values, side, {training, seed, step});
          },
          "X"_a, "V"_a.none(), "values"_a, "side"_a, "training"_a, "seed"_a, "step"_a)
      .def("inverse", &Its::inverse, "kept"_a)
      .def("values_of", &Its::values_of, "kept"_a)
      .def("fixed_of", &Its::fixed_of, "kept"_a)
      .def("buffer_bytes", &Its::buffer_bytes, "kept"_a);
}

}  // namespace

void add_momentum(nb::module_& module) {
  nb::class_<Contexts>(module, "Contexts", "Contexts of a device, for any number of calls at once.")
      .def(nb::init<std::string, int>(), "device"_a, "threads"_a, nb::call_guard<Unlocked>())
      .def_prop_ro("device", [](const Contexts& self) { return concat(self.device()); })
      .def(
          "taken",
          [](Contexts& self, const nb::list& arrays, const std::string& name) {
            return taken_from(*Contexts::Lease(self), arrays, name);
          },
          "arrays"_a, "name"_a,
          "Arrays on this device: of each a CudaArray of its memory where it is in C order, else a copy on the host. "
          "Errors begin with `name`.")
      .def("non_finite", &non_finite, "array"_a, "How many elements of a CudaArray are NaN or infinite.");
  add_layers<float>(module, "LayersFloat32", "KeptFloat32");
  add_layers<double>(module, "LayersFloat64", "KeptFloat64");
  module.def("load_net", &load_net, "path"_a, "input"_a, "What a file's network is, and its tensors.");
  module.def("save_net", &save_net, "path"_a, "spec"_a, "tensors"_a);
  nb::dict resnets;
  for (const ResnetLayout& layout : resnet_layouts()) {
    nb::list blocks;
    for (const std::int64_t count : layout.blocks) blocks.append(count);
    resnets[layout.name] = nb::make_tuple(layout.bottleneck, nb::tuple(blocks));
  }
  module.attr("resnets") = resnets;
}

}  // namespace shrinkwarp::python
