#include <shrinkwarp/tools/bench/nets_bench.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/kernels/step_network/step_network.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/bench/inputs.hpp>

namespace shrinkwarp::bench {
namespace {

std::vector<double> host_normal(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  const Tensor<double> numbers = normal_numbers<double>(Context::cpu(1), rows, cols, seed);
  return {numbers.data(), numbers.data() + numbers.size()};
}

Dictionary unit_dictionary(const Context& context, std::int64_t rows, std::int64_t atoms) {
  std::vector<double> D = host_normal(rows, atoms, 1);
  for (std::int64_t j = 0; j < atoms; ++j) {
    double* const column = D.data() + j * rows;
    double energy = 0;
    for (std::int64_t i = 0; i < rows; ++i) energy += column[i] * column[i];
    for (std::int64_t i = 0; i < rows; ++i) column[i] /= std::sqrt(energy);
  }
  return Dictionary(context, MatrixView<const double>{D.data(), rows, atoms, rows, {}});
}

template <class T>
std::vector<T> on_host(const Context& context, VectorView<const T> values) {
  std::vector<T> result(static_cast<std::size_t>(values.size));
  copy<T>(context, values, VectorView<T>{result.data(), values.size, {}});
  context.synchronize();
  return result;
}

/// @param cols  0 for a vector
template <class T>
Tensor<T> on_device(const Context& context, const std::vector<double>& values, std::int64_t rows, std::int64_t cols) {
  const std::vector<T> rounded(values.begin(), values.end());
  Tensor<T> result = cols > 0 ? Tensor<T>(context, rows, cols) : Tensor<T>(context, rows);
  copy<T>(context, VectorView<const T>{rounded.data(), result.size(), {}}, result.vector());
  context.synchronize();
  return result;
}

/// The products of a pass, but for those with z_0 = 0.
std::vector<Product> products_of(NetworkKind kind, const NetsBenchOptions& options, NetPass pass) {
  const std::int64_t n = options.rows, m = options.atoms, N = options.batch, T = options.layers;
  constexpr Transpose no = Transpose::no, yes = Transpose::yes;
  const bool back = pass == NetPass::training;
  if (kind == NetworkKind::lista) {
    std::vector<Product> products{{no, no, m, N, n, 1}, {no, no, m, N, m + n, T - 1}};
    if (!back) return products;
    products.insert(products.end(), {{no, no, n, N, m, 1},           // D z_T
                                     {yes, no, m, N, n, 1},          // D'(D z_T - x)
                                     {no, yes, m, n, N, 1},          // H x' of the first layer
                                     {no, yes, m, m + n, N, T - 1},  // H [z; x]'
                                     {yes, no, m, N, m, T - 1}});    // W1'H
    return products;
  }
  if (!back) return {{no, no, n, N, m, T - 1}, {yes, no, m, N, n, T}};
  // D z up to z_T, and W H; W'r or D'r up to G_T, and D'(W H).
  std::vector<Product> products{{no, no, n, N, m, 2 * T - 1}, {yes, no, m, N, n, 2 * T}};
  if (kind == NetworkKind::coupled) products.push_back({no, yes, n, m, N, T});  // (x - D z) H'
  return products;
}

/// What networks of both families share: the problems on the device, the products beside them.
template <class T>
class TimedNet : public NetBench {
 public:
  CallTime time(NetPass pass) override {
    return time_call(context_, [&] { pass == NetPass::forward ? forward() : training(); });
  }
  CallTime time_products(NetPass pass) override { return timer_.time(products_of(kind(), options_, pass)); }
  double flops(NetPass pass) const override { return flops_of(products_of(kind(), options_, pass)); }

  double density() override {
    forward();
    const std::vector<T> codes = on_host<T>(context_, Z_.vector());
    const auto zeros = std::count(codes.begin(), codes.end(), T(0));
    return 1 - static_cast<double>(zeros) / static_cast<double>(codes.size());
  }

  void save(Safetensors& file) override {
    forward();
    const std::vector<T> codes = on_host<T>(context_, Z_.vector());
    training();
    const std::string prefix = std::string(shrinkwarp::name_of(kind())) + "." + type() + ".";
    file.add(prefix + "codes", {options_.batch, options_.atoms}, codes);
    file.add(prefix + "loss", {1}, on_host<double>(context_, loss_.vector()));
    save_parameters(file, prefix);
  }

 protected:
  TimedNet(const Context& context, const NetProblems& problems, NetworkKind kind)
      : NetBench(kind, std::is_same_v<T, float> ? "float32" : "float64"),
        context_(context),
        options_(problems.options()),
        X_(on_device<T>(context, problems.X(), options_.rows, options_.batch)),
        lambda_(on_device<T>(context, problems.lambda(), options_.batch, 0)),
        Z_(context, options_.atoms, options_.batch),
        loss_(context, 1),
        timer_(context, products_of(kind, options_, NetPass::training), 1) {}

  /// Codes to Z_.
  virtual void forward() const = 0;
  /// Loss to loss_, and all the rest of the step.
  virtual void training() const = 0;
  virtual void save_parameters(Safetensors& file, const std::string& prefix) const = 0;

  const Context& context_;
  NetsBenchOptions options_;
  Tensor<T> X_, lambda_, Z_;
  Tensor<double> loss_;

 private:
  ProductTimer<T> timer_;
};

/// LISTA and coupled LISTA.
class WeightNet : public TimedNet<float> {
 public:
  WeightNet(const Context& context, const NetProblems& problems, NetworkKind kind) : TimedNet(context, problems, kind) {
    NetworkSpec spec;
    spec.kind = kind;
    spec.layers = options_.layers;
    network_ = make_network<float>(context, problems.dictionary(), spec);
    const std::int64_t size = network_->parameters().size;
    gradient_ = Tensor<float>(context, size);
    first_ = Tensor<float>::zeros(context, size);
    second_ = Tensor<float>::zeros(context, size);
    schedule_ = Tensor<double>::zeros(context, Schedule::kSize);
    rates_ = Tensor<double>::zeros(context, 1);
    norm_ = Tensor<double>(context, 1);
    norm_scratch_ = Tensor<double>(context, norm_scratch(size));
    scratch_ = Tensor<std::byte>(context, network_->scratch(context, options_.batch, true));
  }

 private:
  void forward() const override {
    network_->forward(context_, X_.matrix(), lambda_.vector(), Z_.matrix(), scratch_.vector());
  }
  void training() const override {
    network_->loss(context_, X_.matrix(), lambda_.vector(), loss_.vector(), gradient_.vector(), scratch_.vector());
    squared_norm<float>(context_, gradient_.vector(), norm_scratch_.vector(), norm_.vector());
    advance_schedule(context_, rates_.vector(), norm_.vector(), std::numeric_limits<double>::infinity(), AdamOptions{},
                     schedule_.vector());
    adam_step<float>(context_, gradient_.vector(), AdamOptions{}, schedule_.vector(), first_.vector(), second_.vector(),
                     network_->parameters());
  }
  void save_parameters(Safetensors& file, const std::string& prefix) const override {
    const std::int64_t size = network_->parameters().size;
    file.add(prefix + "parameters", {options_.layers, size / options_.layers},
             on_host<float>(context_, network_->parameters()));
    file.add(prefix + "gradient", {options_.layers, size / options_.layers},
             on_host<float>(context_, gradient_.vector()));
  }

  std::unique_ptr<Network<float>> network_;
  Tensor<float> gradient_, first_, second_;
  Tensor<double> schedule_, rates_, norm_, norm_scratch_;
  Tensor<std::byte> scratch_;
};

template <class T>
class StepNet : public TimedNet<T> {
 public:
  StepNet(const Context& context, const NetProblems& problems) : TimedNet<T>(context, problems, NetworkKind::step) {
    const NetsBenchOptions& options = problems.options();
    const Tensor<T> D = on_device<T>(context, problems.D(), options.rows, options.atoms);
    operands_ = StepNetworkOperands<T>(context, D.matrix());
    const double step = 1 / problems.dictionary().lipschitz(context);
    steps_ = filled(context, options.layers, static_cast<T>(step));
    gradient_ = Tensor<double>(context, options.layers);
    scratch_ = Tensor<std::byte>(context, step_network_scratch<T>(context, network(), options.batch, true));
    context.synchronize();
  }

 private:
  StepNetwork<T> network() const { return {operands_, steps_.vector(), {}, {}}; }
  void forward() const override {
    step_network_forward<T>(this->context_, network(), this->X_.matrix(), this->lambda_.vector(), this->Z_.matrix(),
                            scratch_.vector());
  }
  void training() const override {
    step_network_loss<T>(this->context_, network(), this->X_.matrix(), this->lambda_.vector(), this->loss_.vector(),
                         gradient_.vector(), {}, scratch_.vector());
  }
  void save_parameters(Safetensors& file, const std::string& prefix) const override {
    file.add(prefix + "parameters", {steps_.size()}, on_host<T>(this->context_, steps_.vector()));
    file.add(prefix + "gradient", {steps_.size()}, on_host<double>(this->context_, gradient_.vector()));
  }

  StepNetworkOperands<T> operands_;
  Tensor<T> steps_;
  Tensor<double> gradient_;
  Tensor<std::byte> scratch_;
};

}  // namespace

const char* name_of(NetPass pass) {
  return pass == NetPass::forward ? "forward" : "training";
}

NetProblems::NetProblems(const Context& context, const NetsBenchOptions& options)
    : options_(options),
      dictionary_(unit_dictionary(context, options.rows, options.atoms)),
      X_(host_normal(options.rows, options.batch, 2)) {
  const std::int64_t n = options.rows, m = options.atoms;
  D_.resize(static_cast<std::size_t>(n * m));
  copy<double>(context, dictionary_.exact().matrix(), MatrixView<double>{D_.data(), n, m, n, {}});
  context.synchronize();
  const Context host = Context::cpu(1);
  const Tensor<double> correlation(host, m, options.batch);
  gemm<double>(host, Transpose::yes, Transpose::no, 1.0, MatrixView<const double>{D_.data(), n, m, n, {}},
               MatrixView<const double>{X_.data(), n, options.batch, n, {}}, 0.0, correlation.matrix());
  for (std::int64_t b = 0; b < options.batch; ++b) {
    double largest = 0;
    for (std::int64_t j = 0; j < m; ++j) largest = std::max(largest, std::fabs(correlation.matrix()(j, b)));
    lambda_.push_back(options.lambda_fraction * largest);
  }
}

std::vector<std::unique_ptr<NetBench>> make_net_benches(const Context& context, const NetProblems& problems,
                                                        const std::vector<NetworkKind>& kinds) {
  std::vector<std::unique_ptr<NetBench>> networks;
  for (const NetworkKind kind : kinds) {
    if (kind == NetworkKind::step) {
      networks.push_back(std::make_unique<StepNet<float>>(context, problems));
      networks.push_back(std::make_unique<StepNet<double>>(context, problems));
    } else {
      networks.push_back(std::make_unique<WeightNet>(context, problems, kind));
    }
  }
  return networks;
}

void save_nets(const std::string& path, const NetProblems& problems,
               const std::vector<std::unique_ptr<NetBench>>& networks) {
  const NetsBenchOptions& options = problems.options();
  Safetensors file;
  file.add("D", {options.atoms, options.rows}, problems.D());
  file.add("X", {options.batch, options.rows}, problems.X());
  file.add("lambda", {options.batch}, problems.lambda());
  for (const std::unique_ptr<NetBench>& network : networks) network->save(file);
  write_safetensors(path, file);
}

}  // namespace shrinkwarp::bench
