// Step-LISTA and ALISTA: a step and a threshold a layer.
#include <type_traits>

#include <shrinkwarp/models/lista/analytic_weights.hpp>
#include <shrinkwarp/models/lista/networks.hpp>

namespace shrinkwarp {
namespace {

/// 1 over the mean of ||d_i||^2 over the atoms that are not 0; 1 where all are. The mean of 1 / ||d_i||^2 would be that of the
/// shortest atom alone.
double inverse_mean_energy(MatrixView<const double> D) {
  double sum = 0;
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < D.cols; ++j) {
    double energy = 0;
    for (std::int64_t i = 0; i < D.rows; ++i) energy += D(i, j) * D(i, j);
    if (energy > 0) sum += energy, ++count;
  }
  return count > 0 ? static_cast<double>(count) / sum : 1;
}

template <class T>
class ScalarLayers : public Network<T> {
 public:
  ScalarLayers(const Context& context, const Dictionary& dictionary, const NetworkSpec& spec)
      : Network<T>(context, dictionary, spec, spec.kind == NetworkKind::alista ? 2 * spec.layers : spec.layers) {
    if (spec.kind == NetworkKind::alista && spec.analytic)
      begin_analytic(context, dictionary);
    else
      this->become_ista(context, dictionary);
  }

  void become_step_network(const Context& context, const Dictionary& dictionary,
                           const std::vector<double>& steps) override {
    operands_ = StepNetworkOperands<T>(context, dictionary_in<T>(context, dictionary).matrix());
    this->spec_.analytic = false;
    this->spec_.selection = {};
    std::vector<T> values(steps.begin(), steps.end());
    if (is_alista()) values.insert(values.end(), steps.begin(), steps.end());
    this->to_device(context, values);
  }

  std::vector<std::pair<std::int64_t, std::int64_t>> learning() const override {
    const std::int64_t layers = this->spec().layers, depth = this->depth();
    std::vector<std::pair<std::int64_t, std::int64_t>> result{{0, depth}};
    if (is_alista()) result.push_back({layers, layers + depth});
    return result;
  }

  std::int64_t scratch(const Context& context, std::int64_t problems, bool gradient) const override {
    return step_network_scratch<T>(context, network(), problems, gradient);
  }
  void forward(const Context& context, MatrixView<const T> X, VectorView<const T> lambda, MatrixView<T> Z,
               VectorView<std::byte> scratch) const override {
    step_network_forward<T>(context, network(), X, lambda, Z, scratch);
  }
  void loss(const Context& context, MatrixView<const T> X, VectorView<const T> lambda, VectorView<double> loss,
            VectorView<T> gradient, VectorView<std::byte> scratch) const override {
    if constexpr (std::is_same_v<T, double>) {
      const std::int64_t depth = this->depth();
      context.zero_bytes(gradient.data, gradient.size * static_cast<std::int64_t>(sizeof(T)));
      step_network_loss<T>(context, network(), X, lambda, loss, gradient.slice(0, depth),
                           is_alista() ? gradient.slice(this->spec().layers, depth) : VectorView<T>{}, scratch);
    } else {
      SHRINKWARP_THROW(ValueError, "Network::loss: found a network of float with scalar layers, wanted double");
    }
  }
  void save(const Context& context, Safetensors& file) const override {
    const std::vector<T> values = this->to_host(context);
    add_tensors<T>(file, [&](std::size_t i, double unit) { return static_cast<double>(values[i]) / unit; });
  }
  void save_gradient(const std::vector<double>& gradient, double unit, Safetensors& file) const override {
    add_tensors<double>(file, [&](std::size_t i, double its_unit) { return gradient[i] * unit * its_unit; });
  }
  void load(const Context& context, const Safetensors& file) override {
    const std::int64_t layers = this->spec().layers;
    std::vector<T> values = finite_values<T>(file, "steps", {layers});
    for (T& step : values) {
      SHRINKWARP_REQUIRE(step > T(0), ValueError, file.path(), ": found the step ", step, ", wanted steps > 0");
      step = static_cast<T>(step * unit_of_steps());
    }
    if (is_alista()) {
      for (const T threshold : finite_values<T>(file, "thresholds", {layers}))
        values.push_back(static_cast<T>(threshold * unit_of_thresholds()));
    }
    this->to_device(context, values);
  }

 private:
  /// What a step of 1 in the user's units is here. An analytic W is divided by what D is multiplied by.
  double unit_of_steps() const { return is_alista() && this->spec().analytic ? 1 : unit_of_thresholds(); }
  double unit_of_thresholds() const { return this->scale() * this->scale(); }
  bool is_alista() const { return this->spec().kind == NetworkKind::alista; }

  /// @param value_of  of a parameter's place and its unit
  template <class U, class Value>
  void add_tensors(Safetensors& file, Value value_of) const {
    const std::int64_t layers = this->spec().layers;
    const auto add = [&](const char* name, std::int64_t first, double unit) {
      std::vector<U> tensor;
      for (std::int64_t t = 0; t < layers; ++t)
        tensor.push_back(static_cast<U>(value_of(static_cast<std::size_t>(first + t), unit)));
      file.add(name, {layers}, tensor);
    };
    add("steps", 0, unit_of_steps());
    if (is_alista()) add("thresholds", layers, unit_of_thresholds());
  }

  void set_all(const Context& context, double step, double threshold) {
    std::vector<T> values(static_cast<std::size_t>(this->parameters().size), static_cast<T>(step));
    for (std::size_t t = static_cast<std::size_t>(this->spec().layers); t < values.size(); ++t)
      values[t] = static_cast<T>(threshold);
    this->to_device(context, values);
  }

  void begin_analytic(const Context& context, const Dictionary& dictionary) {
    const Context host = Context::cpu(context.is_cuda() ? 0 : context.threads());
    const Tensor<double> exact = dictionary_in<double>(host, context, dictionary);
    const Tensor<double> W = analytic_weights(host, exact.matrix(), this->spec().ridge);
    const std::vector<T> rounded(W.data(), W.data() + W.size());
    const Tensor<T> W_on_device(context, W.rows(), W.cols());
    copy<T>(context, VectorView<const T>{rounded.data(), W.size(), {}}, W_on_device.vector());
    const Tensor<T> D = dictionary_in<T>(context, dictionary);
    operands_ = StepNetworkOperands<T>(context, D.matrix(), W_on_device.matrix());
    context.synchronize();
    // Steps at which z - a W'D z no longer grows, and thresholds for which the fixed point has the Lasso's D'r for atoms of
    // the mean energy: w_i is d_i / ||d_i||^2 where D D' is a multiple of the identity.
    const double step = 1 / spectral_radius(host, W.matrix(), exact.matrix());
    set_all(context, step, step * inverse_mean_energy(exact.matrix()));
  }

  StepNetwork<T> network() const {
    const VectorView<T> all = this->parameters();
    const std::int64_t depth = this->depth();
    return {operands_, all.slice(0, depth), is_alista() ? all.slice(this->spec().layers, depth) : VectorView<T>{},
            this->spec().selection};
  }

  StepNetworkOperands<T> operands_;
};

}  // namespace

template <class T>
std::unique_ptr<Network<T>> make_step_network(const Context& context, const Dictionary& dictionary,
                                              const NetworkSpec& spec) {
  return std::make_unique<ScalarLayers<T>>(context, dictionary, spec);
}

template std::unique_ptr<Network<float>> make_step_network<float>(const Context&, const Dictionary&,
                                                                  const NetworkSpec&);
template std::unique_ptr<Network<double>> make_step_network<double>(const Context&, const Dictionary&,
                                                                    const NetworkSpec&);

}  // namespace shrinkwarp
