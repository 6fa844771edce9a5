// Learned networks: training, files, codes.
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/models/lista/analytic_weights.hpp>
#include <shrinkwarp/models/lista/evaluation.hpp>
#include <shrinkwarp/models/lista/network_file.hpp>
#include <shrinkwarp/models/lista/network_run.hpp>
#include <shrinkwarp/models/lista/optimizer_names.hpp>
#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/models/train/schedule_names.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/python/core/arrays.hpp>
#include <shrinkwarp/tools/python/core/calls.hpp>
#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>
#include <shrinkwarp/tools/python/core/parts.hpp>
#include <shrinkwarp/tools/python/core/prepared_dictionary.hpp>
#include <shrinkwarp/tools/python/core/tensors.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

using Lambdas = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

/// Refuses rows that are not finite, and hears Ctrl-C.
class CheckedSource : public ObservationSource {
 public:
  CheckedSource(ObservationSource& source, Listener& listener) : source_(source), listener_(listener) {}
  std::int64_t size() const override { return source_.size(); }
  std::int64_t dimension() const override { return source_.dimension(); }
  std::string name() const override { return source_.name(); }
  void read(std::int64_t first, MatrixView<double> X) override {
    listener_.poll();
    source_.read(first, X);
    for (std::int64_t b = 0; b < X.cols; ++b) require_finite(source_, first + b, {X.column(b), X.rows, {}});
  }

 private:
  ObservationSource& source_;
  Listener& listener_;
};

/// A training's arguments, but for its samples.
struct Training {
  TrainingOptions options;
  std::string start;  // step, ista or as_it_is
  std::int64_t memory = 0;
};

/// A network on its dictionary, which outlives it. Once trained or loaded, any number of threads may use it.
class LearnedNetwork {
  template <class T>
  using Owner = std::unique_ptr<Network<T>>;
  template <class Body>
  auto visit(Body body) const {
    return std::visit([&](const auto& owner) { return body(*owner); }, network_);
  }

 public:
  LearnedNetwork(const PreparedDictionary& prepared, const std::string& kind, std::int64_t layers, double ridge,
                 double percent_a_layer, double most_percent, double gamma)
      : prepared_(prepared) {
    const std::optional<NetworkKind> known = network_kind(kind);
    SHRINKWARP_REQUIRE(known, ValueError, "kind: found '", kind, "', wanted another name");
    NetworkDescription description;
    description.spec.kind = *known;
    description.spec.layers = layers;
    description.spec.ridge = ridge;
    description.spec.selection = {percent_a_layer, most_percent};
    description.spec.gamma = gamma;
    description.in_double = has_scalar_layers(*known);
    make(description);
  }

  static std::unique_ptr<LearnedNetwork> load(const PreparedDictionary& prepared, const std::string& path) {
    const Unlocked unlocked;
    const Safetensors file = read_safetensors(path);
    const NetworkDescription description = description_of(file);
    require_dictionary(description, path, prepared.dictionary().rows(), prepared.dictionary().atoms(), prepared.hash(),
                       "D");
    std::unique_ptr<LearnedNetwork> network(new LearnedNetwork(prepared));
    network->make(description);
    network->take(file);
    return network;
  }

  void save(const std::string& path) const {
    const Unlocked unlocked;
    Safetensors file = as_file();
    file.seal();
    write_safetensors(path, file);
  }

  nb::dict tensors() const { return to_dict(as_file()); }
  void set_tensors(const nb::dict& values, double low, double high) {
    take(from_dict(values));
    description_.lambda = {low, high, 0};
  }
  void copy_of(const LearnedNetwork& other) { take(other.as_file()); }
  /// As many layers of a step network.
  void become_step_network(const LearnedNetwork& steps) {
    const Unlocked unlocked;
    const Contexts::Lease lease(prepared_.contexts());
    const std::vector<double> values = std::get<Owner<double>>(steps.network_)->to_host(*lease);
    visit([&](auto& network) { network.become_step_network(*lease, prepared_.dictionary(), values); });
  }

  const NetworkDescription& description() const { return description_; }
  NetworkSpec spec() const {
    return visit([](const auto& network) { return network.spec(); });
  }

  nb::dict train(nb::object X, nb::object V, const std::string& start, std::pair<double, double> shares,
                 const std::string& optimizer, std::optional<bool> layerwise, std::int64_t epochs, std::int64_t batch,
                 double rate, const std::string& schedule, double momentum, double weight_decay, double clip,
                 std::int64_t patience, std::int64_t seed, std::int64_t memory, nb::object progress) {
    Training training;
    TrainingOptions& options = training.options;
    options.lambda = {shares.first, shares.second, static_cast<std::uint64_t>(seed)};
    options.optimizer = value_named(kOptimizers, optimizer, "optimizer");
    options.layerwise = layerwise;
    options.epochs = epochs;
    options.batch = batch;
    options.rate = rate;
    options.schedule = value_named(kSchedules, schedule, "schedule");
    options.momentum = momentum;
    options.weight_decay = weight_decay;
    options.clip = clip;
    options.patience = patience;
    options.seed = static_cast<std::uint64_t>(seed);
    training.start = start;
    training.memory = memory;
    description_.lambda = options.lambda;
    return visit([&](auto& network) { return train_its(network, X, V, training, std::move(progress)); });
  }

  nb::dict codes(nb::object X, const std::string& rule_kind, double number,
                 const std::optional<Lambdas>& values) const {
    LambdaRule rule = LambdaRule::sample_fraction(number);
    if (rule_kind == "value") rule = LambdaRule::value(number);
    if (rule_kind == "per_problem") rule = LambdaRule::per_problem(to_vector<double>(*values));
    Listener listener;
    const Contexts::Lease lease(prepared_.contexts());
    const std::unique_ptr<ObservationSource> source = observations_of(*lease, X, "X");
    SparseCodes codes;
    visit([&](const auto& network) {
      const Unlocked unlocked;
      CheckedSource checked(*source, listener);
      try {
        if (source->size() > 0)
          codes = network_codes(*lease, prepared_.dictionary(), network, checked, rule,
                                std::numeric_limits<std::int64_t>::max(), listener.token());
      } catch (const Cancelled&) {  // the listener knows why
      }
    });
    nb::dict result;
    result["indptr"] = to_numpy(std::move(codes.offsets));
    result["indices"] = to_numpy(std::move(codes.indices));
    result["values"] = to_numpy(std::move(codes.values));
    result["raised"] = listener.raised();
    return result;
  }

  nb::dict evaluate(nb::object X, double lambda_fraction, bool oracle) const {
    Listener listener;
    const Contexts::Lease lease(prepared_.contexts());
    const std::unique_ptr<ObservationSource> source = observations_of(*lease, X, "X");
    Evaluation found;
    visit([&](const auto& network) {
      const Unlocked unlocked;
      CheckedSource checked(*source, listener);
      try {
        found = shrinkwarp::evaluate(*lease, prepared_.dictionary(), network, checked, lambda_fraction, oracle, {},
                                     listener.token());
      } catch (const Cancelled&) {  // the listener knows why
      }
    });
    const auto quality = [](const CodesQuality& its) {
      nb::dict result;
      result["mean_excess"] = its.mean_excess;
      result["mean_relative_gap"] = its.mean_relative_gap;
      result["worst_relative_gap"] = its.worst_relative_gap;
      result["not_finite"] = its.not_finite;
      return result;
    };
    nb::dict result;
    result["mean_optimum"] = found.mean_optimum;
    result["optimum_gap"] = found.optimum_gap;
    result["network"] = quality(found.network);
    result["ista"] = quality(found.ista);
    result["fista"] = quality(found.fista);
    if (found.oracle_ista) result["oracle_ista"] = quality(*found.oracle_ista);
    result["raised"] = listener.raised();
    return result;
  }

 private:
  explicit LearnedNetwork(const PreparedDictionary& prepared) : prepared_(prepared) {}

  void make(const NetworkDescription& description) {
    const Contexts::Lease lease(prepared_.contexts());
    description_ = description;
    description_.rows = prepared_.dictionary().rows();
    description_.atoms = prepared_.dictionary().atoms();
    description_.dictionary_hash = prepared_.hash();
    if (description.in_double)
      network_ = make_network<double>(*lease, prepared_.dictionary(), description.spec);
    else
      network_ = make_network<float>(*lease, prepared_.dictionary(), description.spec);
  }
  void take(const Safetensors& file) {
    const Contexts::Lease lease(prepared_.contexts());
    visit([&](auto& network) { network.load(*lease, file); });
  }
  Safetensors as_file() const {
    const Contexts::Lease lease(prepared_.contexts());
    Safetensors file;
    NetworkDescription description = description_;
    description.spec = spec();
    describe(description, file);
    visit([&](const auto& network) { network.save(*lease, file); });
    return file;
  }

  template <class T>
  nb::dict train_its(Network<T>& network, const nb::object& X, const nb::object& V, const Training& training,
                     nb::object progress) {
    Listener listener;
    const Contexts::Lease lease(prepared_.contexts());
    const Context& context = *lease;
    const Dictionary& dictionary = prepared_.dictionary();
    const std::unique_ptr<ObservationSource> source = observations_of(context, X, "X");
    std::unique_ptr<ObservationSource> judging;
    if (!V.is_none()) judging = observations_of(context, V, "validation");
    std::vector<TrainingEvent> history;
    TrainingResult result;
    double unit = 1, judged_unit = 1;
    bool is_start = false;
    const auto tell = [&](const TrainingEvent& event) {
      const auto in_python = [&] {
        if (!progress.is_none()) progress(as_dict(event, is_start));
      };
      listener.in_python(in_python);
    };
    {
      const Unlocked unlocked;
      CheckedSource checked(*source, listener);
      std::optional<CheckedSource> checked_judges;
      if (judging) checked_judges.emplace(*judging, listener);
      ObservationSource& judges = judging ? static_cast<ObservationSource&>(*checked_judges) : checked;
      const std::int64_t memory = training.memory;
      SampleRows rows = split_rows(source->size(), judging != nullptr);
      if (judging) {
        rows.validation.resize(static_cast<std::size_t>(judging->size()));
        std::iota(rows.validation.begin(), rows.validation.end(), std::int64_t{0});
      }
      // What is best so far, for Ctrl-C; and how it is heard.
      std::vector<T> best;
      double best_validation = std::numeric_limits<double>::quiet_NaN();
      TrainingStore store;
      store.save = [&](const Safetensors& state) {
        listener.poll();
        best = state.values<T>("best.parameters", {network.parameters().size});
        best_validation = state.values<double>("best.validation", {1})[0];
      };
      TrainingStore start_store;
      start_store.save = [&](const Safetensors&) { listener.poll(); };
      try {
        const Samples<T> samples(context, dictionary, checked, std::move(rows.training), memory / 2, listener.token());
        const Samples<T> validation(context, dictionary, judges, std::move(rows.validation), memory / 4,
                                    listener.token());
        unit = cost_unit(samples, "X");
        judged_unit = cost_unit(validation, judges.name());
        if (training.start == "step") {
          const Samples<double> few(context, dictionary, checked, start_rows(samples.rows()), memory / 4,
                                    listener.token());
          const Samples<double> few_judges(context, dictionary, judges, start_rows(validation.rows()), memory / 4,
                                           listener.token());
          const double its_unit = few.unit() * few.unit(), its_judged_unit = few_judges.unit() * few_judges.unit();
          is_start = true;
          start_from_steps<T>(
              context, dictionary, network, few, few_judges, training.options.lambda, start_store,
              [&](const TrainingEvent& event) { tell(in_units(event, its_unit, its_judged_unit)); }, listener.token());
          is_start = false;
        }
        best = network.to_host(context);
        result = shrinkwarp::train<T>(
            context, dictionary, network, samples, validation, training.options, store,
            [&](const TrainingEvent& event) {
              history.push_back(in_units(event, unit, judged_unit));
              tell(history.back());
            },
            listener.token());
      } catch (const Cancelled&) {  // the listener knows why
        network.set_depth(network.spec().layers);
        if (!best.empty()) network.to_device(context, best);
        result.validation = best_validation;
        result.ista_validation = std::numeric_limits<double>::quiet_NaN();
      }
    }
    nb::list events;
    for (const TrainingEvent& event : history) events.append(as_dict(event, false));
    nb::dict outcome;
    outcome["history"] = events;
    outcome["validation"] = result.validation * judged_unit;
    outcome["ista_validation"] = result.ista_validation * judged_unit;
    outcome["fell_back"] = result.fell_back;
    outcome["raised"] = listener.raised();
    return outcome;
  }

  static nb::dict as_dict(const TrainingEvent& event, bool is_start) {
    nb::dict result;
    result["start"] = is_start;
    result["depth"] = event.depth;
    result["pass"] = event.epoch;
    result["cost"] = event.loss;
    result["validation"] = event.validation;
    result["best_validation"] = event.best_validation;
    result["rate"] = event.rate;
    return result;
  }

  const PreparedDictionary& prepared_;
  NetworkDescription description_;
  std::variant<Owner<float>, Owner<double>> network_;
};

/// W (n, m) of ALISTA, in the units in which w_i'd_i = 1.
nb::ndarray<nb::numpy, double, nb::ndim<2>, nb::f_contig> analytic(const DictionaryArray& D, double ridge) {
  std::unique_ptr<Tensor<double>> W;
  {
    const Unlocked unlocked;
    W = std::make_unique<Tensor<double>>(analytic_weights(Context::cpu(0), view_of(D), ridge));
  }
  double* const data = W->data();
  nb::capsule owner(W.release(), [](void* p) noexcept { delete static_cast<Tensor<double>*>(p); });
  return nb::ndarray<nb::numpy, double, nb::ndim<2>, nb::f_contig>(data, {D.shape(0), D.shape(1)}, owner,
                                                                   {1, static_cast<std::int64_t>(D.shape(0))});
}

}  // namespace

void add_networks(nb::module_& module) {
  nb::class_<LearnedNetwork>(module, "LearnedNetwork", "A network that stands in for iterations, for one dictionary.")
      .def(nb::init<const PreparedDictionary&, const std::string&, std::int64_t, double, double, double, double>(),
           "dictionary"_a, "kind"_a, "layers"_a, "ridge"_a, "percent_a_layer"_a, "most_percent"_a, "gamma"_a,
           nb::keep_alive<1, 2>(), nb::call_guard<Unlocked>(), "An untrained one.")
      .def_static("load", &LearnedNetwork::load, "dictionary"_a, "path"_a, nb::keep_alive<0, 1>())
      .def("save", &LearnedNetwork::save, "path"_a)
      .def("tensors", &LearnedNetwork::tensors, "The parameters by their names in files, in the user's units.")
      .def("set_tensors", &LearnedNetwork::set_tensors, "values"_a, "low"_a, "high"_a)
      .def("copy_of", &LearnedNetwork::copy_of, "other"_a)
      .def("become_step_network", &LearnedNetwork::become_step_network, "steps"_a)
      .def_prop_ro("kind", [](const LearnedNetwork& self) { return name_of(self.spec().kind); })
      .def_prop_ro("layers", [](const LearnedNetwork& self) { return self.spec().layers; })
      .def_prop_ro("rows", [](const LearnedNetwork& self) { return self.description().rows; })
      .def_prop_ro("atoms", [](const LearnedNetwork& self) { return self.description().atoms; })
      .def_prop_ro("analytic", [](const LearnedNetwork& self) { return self.spec().analytic; })
      .def_prop_ro("ridge", [](const LearnedNetwork& self) { return self.spec().ridge; })
      .def_prop_ro("selects", [](const LearnedNetwork& self) { return self.spec().selection.selects(); })
      .def_prop_ro("lambda_range",
                   [](const LearnedNetwork& self) {
                     return std::pair(self.description().lambda.low, self.description().lambda.high);
                   })
      .def("train", &LearnedNetwork::train, "X"_a, "validation"_a.none(), "start"_a, "shares"_a, "optimizer"_a,
           "layerwise"_a.none(), "epochs"_a, "batch"_a, "rate"_a, "schedule"_a, "momentum"_a, "weight_decay"_a,
           "clip"_a, "patience"_a, "seed"_a, "memory"_a, "progress"_a.none(),
           "Trains it in place; `raised` is what Python raised meanwhile.")
      .def("codes", &LearnedNetwork::codes, "X"_a, "kind"_a, "number"_a, "values"_a.none(),
           "Codes of the rows of X as CSR arrays.")
      .def("evaluate", &LearnedNetwork::evaluate, "X"_a, "lambda_fraction"_a, "oracle"_a);
  module.def("analytic_weights", &analytic, "D"_a, "ridge"_a, "The matrix (n, m) of ALISTA.");
}

}  // namespace shrinkwarp::python
