#include <shrinkwarp/tools/bench/momentum_bench.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/models/resnet/linear.hpp>
#include <shrinkwarp/models/resnet/residual.hpp>
#include <shrinkwarp/models/resnet/sequential.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/tools/bench/inputs.hpp>

namespace shrinkwarp::bench {
namespace {

constexpr std::int64_t kTimedProducts = 8;  // of each kind

std::vector<Product> products_of(const MomentumBenchOptions& options, MomentumWay way, MomentumPass pass) {
  const std::int64_t d = options.width, h = options.hidden, N = options.batch, T = options.layers;
  constexpr Transpose no = Transpose::no, yes = Transpose::yes;
  // Recomputed branches are a forward pass more.
  const std::int64_t forward = pass == MomentumPass::training && !is_stored(way) ? 2 * T : T;
  std::vector<Product> products{{yes, no, h, N, d, forward}, {yes, no, d, N, h, forward}};
  if (pass == MomentumPass::training) {
    products.insert(products.end(), {{no, yes, d, h, N, T},   // x H'
                                     {no, yes, h, d, N, T},   // tanh(...) dY'
                                     {no, no, h, N, d, T},    // W2 dY
                                     {no, no, d, N, h, T}});  // W1 H
  }
  return products;
}

/// Others in place of gamma would be another network.
MomentumBenchOptions with_exact_gamma(MomentumBenchOptions options) {
  if (options.gamma >= kLeastExactGamma && options.gamma <= 1) options.gamma = exact_gamma(options.gamma).value;
  return options;
}

/// max |found - wanted| / max |wanted|, NaN where one is there.
template <class T>
double difference(const std::vector<T>& found, const std::vector<T>& wanted) {
  double off = 0, largest = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double by = std::fabs(static_cast<double>(found[i]) - static_cast<double>(wanted[i]));
    if (std::isnan(by)) return by;
    off = std::max(off, by);
    largest = std::max(largest, std::fabs(static_cast<double>(wanted[i])));
  }
  return off == 0 ? 0 : off / largest;
}

}  // namespace

const char* name_of(MomentumWay way) {
  switch (way) {
    case MomentumWay::exact_recomputed:
      return "exact-recomputed";
    case MomentumWay::approximate_recomputed:
      return "approximate-recomputed";
    case MomentumWay::approximate_stored:
      return "approximate-stored";
    case MomentumWay::residual_stored:
      return "residual-stored";
  }
  return "";
}

const char* name_of(MomentumPass pass) {
  return pass == MomentumPass::forward ? "forward" : "training";
}

std::vector<LayerPointer<float>> MomentumBench::make_branches() {
  std::vector<LayerPointer<float>> branches;
  for (std::int64_t t = 0; t < options_.layers; ++t) {
    const std::string name = "layers." + std::to_string(t);
    std::vector<LayerPointer<float>> layers{
        std::make_shared<Linear<float>>(list_, name + ".0", options_.width, options_.hidden, Activation::tanh),
        std::make_shared<Linear<float>>(list_, name + ".1", options_.hidden, options_.width, Activation::none)};
    branches.push_back(std::make_shared<Sequential<float>>(std::move(layers)));
  }
  return branches;
}

std::vector<MomentumBench::Entry> MomentumBench::make_entries(const std::vector<MomentumWay>& ways) {
  std::vector<Entry> entries;
  for (const MomentumWay way : ways) {
    if (way == MomentumWay::residual_stored) {
      entries.push_back({way, std::make_shared<ResidualStage<float>>(branches_), nullptr});
      continue;
    }
    MomentumSpec spec;
    spec.gamma = options_.gamma;
    spec.form = options_.form;
    spec.arithmetic = way == MomentumWay::exact_recomputed ? Arithmetic::exact : Arithmetic::approximate;
    spec.activations = is_stored(way) ? Activations::stored : Activations::recomputed;
    const auto number = static_cast<std::int64_t>(entries.size());
    const auto stage = std::make_shared<MomentumNet<float>>(list_, name_of(way), branches_, spec, number);
    entries.push_back({way, stage, stage});
  }
  return entries;
}

MomentumBench::MomentumBench(const Context& context, const MomentumBenchOptions& options,
                             const std::vector<MomentumWay>& ways)
    : context_(context),
      options_(with_exact_gamma(options)),
      branches_(make_branches()),
      entries_(make_entries(ways)),
      values_(context, list_, 1),
      gradient_(context, list_.size()),
      X_(normal_numbers<float>(context, options.width, options.batch, 2)),
      Y_(context, options.width, options.batch),
      dY_(normal_numbers<float>(context, options.width, options.batch, 3)),
      dX_(context, options.width, options.batch),
      status_(context, static_cast<std::int64_t>(entries_.size())),
      timer_(context, products_of(options, MomentumWay::exact_recomputed, MomentumPass::training), kTimedProducts) {
  std::int64_t kept = 0, scratch = 0;
  for (const Entry& its : entries_) {
    const ActivationBytes bytes = this->bytes(its.way);
    kept = std::max(kept, bytes.kept);
    scratch = std::max({scratch, bytes.scratch, its.layer->scratch(context, options.batch, false)});
  }
  kept_ = Tensor<std::byte>(context, kept);
  scratch_ = Tensor<std::byte>(context, scratch);
  clear_status(context, status_.vector());
}

const MomentumBench::Entry& MomentumBench::entry(MomentumWay way) const {
  return *std::find_if(entries_.begin(), entries_.end(), [&](const Entry& its) { return its.way == way; });
}

Pass<float> MomentumBench::pass() const {
  Pass<float> pass(context_);
  pass.parameters = values_.parameters();
  pass.statistics = values_.statistics();
  pass.gradient = gradient_.vector();
  pass.training = true;
  pass.status = status_.vector();
  return pass;
}

ActivationBytes MomentumBench::bytes(MomentumWay way) const {
  const Layer<float>& layer = *entry(way).layer;
  return {layer.kept(context_, options_.batch), layer.scratch(context_, options_.batch, true)};
}

void MomentumBench::run(MomentumWay way, MomentumPass which) {
  const Layer<float>& layer = *entry(way).layer;
  Pass<float> pass = this->pass();
  pass.keeps = which == MomentumPass::training;
  if (pass.keeps) context_.zero_bytes(gradient_.data(), gradient_.bytes());
  layer.forward(pass, X_.matrix(), Y_.matrix(), kept_.vector(), scratch_.vector());
  if (!pass.keeps) return;
  layer.backward(pass, X_.matrix(), Y_.matrix(), dY_.matrix(), 0.0f, dX_.matrix(), kept_.vector(), scratch_.vector());
}

CallTime MomentumBench::time(MomentumWay way, MomentumPass pass) {
  return time_call(context_, [&] { run(way, pass); });
}

CallTime MomentumBench::time_products(MomentumWay way, MomentumPass pass) const {
  return timer_.time(products_of(options_, way, pass));
}

double MomentumBench::flops(MomentumWay way, MomentumPass pass) const {
  return flops_of(products_of(options_, way, pass));
}

std::vector<float> MomentumBench::on_host(const Tensor<float>& tensor) const {
  return shrinkwarp::on_host(context_, tensor.vector());
}

MomentumErrors MomentumBench::check(MomentumWay way) {
  MomentumErrors errors;
  const Entry& its = entry(way);
  const std::string what = concat("bench momentum: ", name_of(way));
  if (its.stage) {
    Arena counting(context_.device());
    its.stage->lay_out(counting, options_.batch, {});
    Arena arena(context_, counting.used());
    const std::int64_t number = &its - entries_.data();
    const MomentumState<float> state = its.stage->lay_out(arena, options_.batch, status_.vector().slice(number, 1));
    const auto values = [&](auto view) {
      std::vector<std::remove_reference_t<decltype(view[0])>> found(static_cast<std::size_t>(view.size));
      copy<std::remove_reference_t<decltype(view[0])>>(context_, view, {found.data(), view.size, {}});
      context_.synchronize();
      return found;
    };
    const bool exact = its.stage->spec().arithmetic == Arithmetic::exact;
    its.stage->begin(pass(), X_.matrix(), {}, state, scratch_.vector());
    const auto x = values(state.x);
    const auto fixed_x = values(state.exact.x), fixed_v = values(state.exact.v);
    its.stage->advance(pass(), state, options_.batch, scratch_.vector());
    its.stage->inverse(pass(), state, options_.batch, scratch_.vector());
    require_all_well(context_, status_.vector(), what);
    errors.inverse = difference(values(state.x), x);
    if (exact) {
      its.stage->require_beginning(context_, state, what);
      SHRINKWARP_REQUIRE(errors.inverse == 0 && values(state.exact.x) == fixed_x && values(state.exact.v) == fixed_v,
                         Error, what, ": the way back did not end where the way there began");
    }
  }
  run(way, MomentumPass::training);
  const std::vector<float> found = on_host(gradient_);
  const bool finite = std::all_of(found.begin(), found.end(), [](float value) { return std::isfinite(value); });
  SHRINKWARP_REQUIRE(finite, Error, what, ": found gradients that are no finite numbers");
  const bool has_stored = std::any_of(entries_.begin(), entries_.end(),
                                      [](const Entry& e) { return e.way == MomentumWay::approximate_stored; });
  if (its.stage && !is_stored(way) && has_stored) {
    run(MomentumWay::approximate_stored, MomentumPass::training);
    errors.gradient = difference(found, on_host(gradient_));
    // Each layer rounds sums of so many terms once more than the last.
    const double rounding = std::numeric_limits<float>::epsilon() * static_cast<double>(options_.layers) *
                            static_cast<double>(options_.width + options_.hidden);
    SHRINKWARP_REQUIRE(way != MomentumWay::exact_recomputed || errors.gradient <= rounding, Error, what,
                       ": gradients are off by ", errors.gradient, " of the largest of those of stored activations, ",
                       "wanted at most ", rounding);
  }
  require_all_well(context_, status_.vector(), what);
  return errors;
}

void MomentumBench::save(const std::string& path) {
  Safetensors file;
  const auto add = [&](const std::string& prefix, const std::vector<float>& values) {
    for (const ParameterList::Entry& its : list_.entries()) {
      if (!its.learned) continue;
      const auto first = values.begin() + its.offset;
      file.add(prefix + its.name, its.shape, std::vector<float>(first, first + its.size));
    }
  };
  std::vector<float> parameters(static_cast<std::size_t>(list_.size()));
  copy<float>(context_, values_.parameters(), VectorView<float>{parameters.data(), list_.size(), {}});
  context_.synchronize();
  add("", parameters);
  const std::vector<std::int64_t> shape{options_.batch, options_.width};
  file.add("X", shape, on_host(X_));
  file.add("dY", shape, on_host(dY_));
  for (const Entry& its : entries_) {
    run(its.way, MomentumPass::training);
    const std::string prefix = name_of(its.way) + std::string(".");
    file.add(prefix + "Y", shape, on_host(Y_));
    file.add(prefix + "dX", shape, on_host(dX_));
    add(prefix + "gradient.", on_host(gradient_));
  }
  write_safetensors(path, file);
}

}  // namespace shrinkwarp::bench
