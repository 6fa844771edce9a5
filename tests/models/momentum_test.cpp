// Momentum networks: gradients against central differences, exact arithmetic's against those of stored activations bit for bit,
// the way back to the beginning, and what is kept.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/lista_network/lista_network.hpp>
#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/activation.hpp>
#include <shrinkwarp/models/resnet/dropout.hpp>
#include <shrinkwarp/models/resnet/linear.hpp>
#include <shrinkwarp/models/resnet/lista_layer.hpp>
#include <shrinkwarp/models/resnet/norms.hpp>
#include <shrinkwarp/models/resnet/residual.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"
#include "tests/support/network_problems.hpp"

namespace shrinkwarp {
namespace {

using testing::expect_same_results;
using testing::LayerRun;
using testing::same_vectors;
using testing::values_of;

template <class T>
using Branches = std::vector<LayerPointer<T>>;

template <class T>
LayerPointer<T> sequence(Branches<T> layers) {
  return std::make_shared<Sequential<T>>(std::move(layers));
}
template <class T>
LayerPointer<T> linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out,
                       Activation activation = Activation::none) {
  return std::make_shared<Linear<T>>(list, name, in, out, activation);
}
template <class T>
LayerPointer<T> tanh_branch(ParameterList& list, const std::string& name, std::int64_t width, std::int64_t hidden) {
  return sequence<T>(
      {linear<T>(list, name + ".1", width, hidden, Activation::tanh), linear<T>(list, name + ".2", hidden, width)});
}

/// A pass through a stage, the second one of a network. @param make  its branches; where `initial`, the last is f_0
template <class T>
LayerRun<T> stage_run(const Context& context, std::int64_t N, bool training, const MomentumSpec& spec, bool initial,
                      const std::function<Branches<T>(ParameterList&)>& make) {
  return LayerRun<T>(context, N, training, [&](ParameterList& list) {
    Branches<T> branches = make(list);
    LayerPointer<T> first;
    if (initial) {
      first = branches.back();
      branches.pop_back();
    }
    return std::make_shared<MomentumNet<T>>(list, "momentum", std::move(branches), spec, 1, first);
  });
}

MomentumSpec spec_of(Arithmetic arithmetic, Activations activations, std::vector<double> gammas,
                     MomentumForm form = MomentumForm::damped) {
  MomentumSpec spec;
  spec.arithmetic = arithmetic;
  spec.activations = activations;
  spec.gammas = std::move(gammas);
  spec.form = form;
  return spec;
}

template <class T>
const MomentumNet<T>& stage_of(const LayerRun<T>& run) {
  return static_cast<const MomentumNet<T>&>(*run.layer);
}

class Momentum : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Momentum);

constexpr MomentumForm kForms[] = {MomentumForm::damped, MomentumForm::plain};
constexpr Activations kActivations[] = {Activations::stored, Activations::recomputed};

/// Three layers of 3 features and f_0: a branch that is there twice, with a bias for the stage to add, and one whose output its
/// gradient is computed from.
Branches<double> small_branches(ParameterList& list) {
  const LayerPointer<double> shared = tanh_branch<double>(list, "a", 3, 4);
  return {shared,
          sequence<double>({std::make_shared<LayerNorm<double>>(list, "b.1", 3),
                            linear<double>(list, "b.2", 3, 3, Activation::gelu),
                            std::make_shared<Activate<double>>(Shape{3}, Activation::tanh)}),
          shared, linear<double>(list, "c", 3, 3, Activation::tanh)};
}

TEST_P(Momentum, GradientsAreThoseOfCentralDifferences) {
  for (int k = 0; k < 32; ++k) {
    const bool whole = k & 1, learned = k & 2, initial = k & 4;
    MomentumSpec spec =
        spec_of(Arithmetic::approximate, kActivations[k / 8 % 2], {0.5, 0.875, 0.75}, kForms[k / 16 % 2]);
    if (!initial) spec.gammas.push_back(0.625);  // f_0 is a layer more
    spec.whole = whole;
    spec.learned = learned;
    spec.low = 0.25;
    SCOPED_TRACE(k);
    LayerRun<double> run = stage_run<double>(context(), 4, false, spec, initial, small_branches);
    run.check();
    if (spec.activations != Activations::stored) continue;
    // Exact arithmetic of the same fractions differs by roundings of 2^-44 a layer, four layers on, of slopes under 2^6.
    const LayerRun<double>::Result wanted = run.run(true);
    spec.arithmetic = Arithmetic::exact;
    const LayerRun<double>::Result found =
        stage_run<double>(context(), 4, false, spec, initial, small_branches).run(true);
    for (const auto& [a, b] :
         {std::pair(&found.Y, &wanted.Y), {&found.dX, &wanted.dX}, {&found.gradient, &wanted.gradient}})
      for (std::size_t i = 0; i < a->size(); ++i) ASSERT_NEAR((*a)[i], (*b)[i], 0x1p-36) << i;
  }
}

/// Branches of 6 features with all that a second evaluation could get wrong, and f_0.
Branches<float> changing_branches(ParameterList& list) {
  const auto dropout = [](std::uint32_t number) { return std::make_shared<Dropout<float>>(Shape{9}, 0.3, number); };
  const LayerPointer<float> shared = sequence<float>({std::make_shared<BatchNorm<float>>(list, "a.1", Shape{6}, true),
                                                      linear<float>(list, "a.2", 6, 9, Activation::gelu), dropout(1),
                                                      linear<float>(list, "a.3", 9, 6)});
  return {shared,
          sequence<float>({std::make_shared<LayerNorm<float>>(list, "b.1", 6),
                           linear<float>(list, "b.2", 6, 9, Activation::tanh), dropout(2),
                           linear<float>(list, "b.3", 9, 6, Activation::relu)}),
          shared, tanh_branch<float>(list, "c", 6, 4),
          sequence<float>(
              {std::make_shared<BatchNorm<float>>(list, "d.1", Shape{6}), tanh_branch<float>(list, "d.2", 6, 9)})};
}
/// Blocks of images that are x + f(x), and f_0.
Branches<float> image_branches(ParameterList& list) {
  const auto block = [&](const char* name) { return make_basic_block<float>(list, name, {2, 4, 3}, 2, 1); };
  return {block("a"), block("b"), block("c")};
}

TEST_P(Momentum, ExactGradientsHaveTheBitsOfStoredActivations) {
  const Context alone = Context::cpu(1);
  for (int k = 0; k < 16; ++k) {
    const bool images = k & 1, learned = k & 2, initial = k & 4;
    const auto& make = images ? image_branches : changing_branches;
    const std::int64_t N = images ? 7 : context().is_cuda() || testing::kThreadSanitizer ? 40 : 270;
    MomentumSpec spec = spec_of(Arithmetic::exact, Activations::stored, {}, kForms[k / 8]);
    const double all[] = {0.9, 0.55, 0.99, 0.7, 0.6};
    spec.gammas.assign(all, all + (images ? 3 : 5) - (initial ? 1 : 0));
    spec.whole = images;
    spec.learned = learned;
    SCOPED_TRACE(k);
    const auto of = [&](const Context& on, Activations activations) {
      spec.activations = activations;
      return stage_run<float>(on, N, true, spec, initial, make);
    };
    const LayerRun<float>::Result wanted = of(context(), Activations::stored).run(true);
    const LayerRun<float> recomputing = of(context(), Activations::recomputed);
    expect_same_results<float>(recomputing.run(true), wanted);
    EXPECT_TRUE(same_vectors(recomputing.run(false).Y, wanted.Y));
    EXPECT_TRUE(same_vectors(recomputing.run(false).statistics, wanted.statistics));
    if (!context().is_cuda()) expect_same_results<float>(of(alone, Activations::recomputed).run(true), wanted);
    EXPECT_FALSE(same_vectors(recomputing.statistics, wanted.statistics));  // batches have come by
  }
}

/// A state of its own memory, and a pass that leads there and back.
template <class T>
struct Journey {
  const LayerRun<T>& run;
  const MomentumNet<T>& stage;
  typename LayerRun<T>::Passing passing;
  Arena arena;
  MomentumState<T> state;
  Tensor<std::byte> scratch;

  explicit Journey(const LayerRun<T>& its)
      : run(its),
        stage(stage_of(run)),
        passing(run, true),  // which must not matter
        arena(run.context, bytes(stage, run)),
        state(stage.lay_out(arena, run.N, passing.status.vector().slice(1, 1))),
        scratch(run.context, stage.scratch(run.context, run.N, false)) {}
  static std::int64_t bytes(const MomentumNet<T>& stage, const LayerRun<T>& run) {
    Arena counting(run.context.device());
    stage.lay_out(counting, run.N, {});
    return counting.used();
  }
  void begin(const std::vector<T>& velocity) {
    const auto features = stage.input().size();
    const auto x = testing::to_device(run.context, run.X, features, run.N);
    const Tensor<T> v = velocity.empty() ? Tensor<T>() : testing::to_device(run.context, velocity, features, run.N);
    stage.begin(passing.pass, x.matrix(), velocity.empty() ? MatrixView<const T>{} : v.matrix(), state,
                scratch.vector());
    run.context.synchronize();
  }
  void advance() { stage.advance(passing.pass, state, run.N, scratch.vector()); }
  void inverse() { stage.inverse(passing.pass, state, run.N, scratch.vector()); }
  auto exact_x() const { return values_of<std::int64_t>(run.context, state.exact.x); }
  auto exact_v() const { return values_of<std::int64_t>(run.context, state.exact.v); }
  void require_beginning() const { stage.require_beginning(run.context, state, "the way back"); }
};

TEST_P(Momentum, ReturnsEveryBit) {
  const std::int64_t layers = context().is_cuda() || testing::kThreadSanitizer ? 12 : 200;
  constexpr double kGammas[] = {0.1, 0.5, 0.9, 0.99, 1023.0 / 1024, 1.0 / 3};
  std::vector<double> gammas;
  for (std::int64_t t = 0; t < layers; ++t) gammas.push_back(kGammas[t % 6]);
  const auto make = [&](ParameterList& list) {
    Branches<float> branches{tanh_branch<float>(list, "a", 5, 7), tanh_branch<float>(list, "b", 5, 3)};
    for (std::int64_t t = 2; t < layers; ++t) branches.push_back(branches[static_cast<std::size_t>(t % 2)]);
    branches.push_back(tanh_branch<float>(list, "initial", 5, 2));
    return branches;
  };
  for (const MomentumForm form : kForms) {
    LayerRun<float> run = stage_run<float>(
        context(), 13, false, spec_of(Arithmetic::exact, Activations::recomputed, gammas, form), true, make);
    for (float& x : run.X) x *= 1000;
    for (const auto& velocity : {std::vector<float>(), testing::normals_of<float>(5 * 13, 8, 100)}) {
      Journey<float> journey(run);
      journey.begin(velocity);
      const auto x = journey.exact_x(), v = journey.exact_v();
      const auto seen = values_of<float>(context(), journey.state.x);
      EXPECT_TRUE(same_vectors(seen, run.X));  // 44 fraction bits hold floats of this size
      if (!velocity.empty()) {
        EXPECT_EQ(v[0], std::llrint(std::ldexp(static_cast<double>(velocity[0]), 44)));
      }
      journey.advance();
      EXPECT_NE(journey.exact_x(), x);
      journey.inverse();
      EXPECT_EQ(journey.exact_x(), x);
      EXPECT_EQ(journey.exact_v(), v);
      EXPECT_TRUE(same_vectors(values_of<float>(context(), journey.state.x), seen));
      EXPECT_NO_THROW(journey.require_beginning());
      EXPECT_NO_THROW(require_all_well(context(), journey.state.exact.status, "the way back"));

      // A buffer that is not the forward pass's leads to what no forward pass begins with.
      journey.advance();
      auto changed = values_of<std::uint64_t>(context(), journey.state.exact.buffer.states);
      for (std::uint64_t& its : changed) its += its / 3;
      copy<std::uint64_t>(context(), VectorView<const std::uint64_t>{changed.data(), 65, {}},
                          journey.state.exact.buffer.states);
      context().synchronize();
      journey.inverse();
      EXPECT_THROW(journey.require_beginning(), RangeError);
    }
  }
}

TEST_P(Momentum, GoesBackApproximately) {
  for (const MomentumForm form : kForms) {
    const LayerRun<double> run = stage_run<double>(
        context(), 4, false, spec_of(Arithmetic::approximate, Activations::recomputed, {0.5, 0.9, 0.8}, form), true,
        small_branches);
    Journey<double> journey(run);
    journey.begin({});
    const auto v = values_of<double>(context(), journey.state.v);
    journey.advance();
    journey.inverse();
    // Some 10 roundings of 2^-52 a layer of numbers under 8, times 1 / gamma each, 1 / 0.36 in all, and slopes under 2^4.
    const auto back = values_of<double>(context(), journey.state.x),
               velocity = values_of<double>(context(), journey.state.v);
    for (std::size_t i = 0; i < back.size(); ++i) {
      ASSERT_NEAR(back[i], run.X[i], 0x1p-40);
      ASSERT_NEAR(velocity[i], v[i], 0x1p-40);
    }
    EXPECT_NO_THROW(journey.require_beginning());
  }
}

TEST(MomentumMemory, GrowsByTheBuffersBitsAlone) {
  const Context host = Context::cpu(1);
  constexpr std::int64_t kWidth = 32, kSamples = 100, kElements = kWidth * kSamples;
  const auto kept = [&](Arithmetic arithmetic, Activations activations, double gamma, bool learned,
                        std::int64_t layers) {
    ParameterList list;
    MomentumSpec spec = spec_of(arithmetic, activations, {});
    spec.gamma = gamma;
    spec.learned = learned;
    spec.low = gamma;
    spec.high = kLargestExactGamma;
    const Branches<float> branches(static_cast<std::size_t>(layers), tanh_branch<float>(list, "a", kWidth, 8));
    return MomentumNet<float>(list, "m", branches, spec, 0).kept(host, kSamples);
  };
  constexpr std::int64_t kGammaBytes = sizeof(MomentumGamma), kRounding = 2 * 256;  // pieces are aligned
  for (const double gamma : {0.1, 0.5, 0.9, 0.99}) {
    for (const bool learned : {false, true}) {
      const auto at = [&](Arithmetic arithmetic, Activations activations, std::int64_t layers) {
        return kept(arithmetic, activations, gamma, learned, layers);
      };
      const std::int64_t few = at(Arithmetic::exact, Activations::recomputed, 10),
                         approximate = at(Arithmetic::approximate, Activations::recomputed, 10),
                         stored = at(Arithmetic::exact, Activations::stored, 10);
      for (const std::int64_t layers : {11, 100, 1000}) {
        const std::int64_t more = layers - 10;
        const double bits = -std::log2(gamma) * static_cast<double>(more);
        // A word is the least that a list can grow by.
        EXPECT_LE(static_cast<double>(at(Arithmetic::exact, Activations::recomputed, layers) - few),
                  static_cast<double>(kElements) * (1.05 * bits / 8 + 4) +
                      static_cast<double>(kGammaBytes * more + kRounding))
            << gamma << " " << layers;
        EXPECT_LE(at(Arithmetic::approximate, Activations::recomputed, layers) - approximate,
                  kGammaBytes * more + kRounding);
        EXPECT_GE(at(Arithmetic::exact, Activations::stored, layers) - stored, more * 3 * kElements * 4);
      }
    }
  }
}

template <class Error, class Function>
void expect_message(const std::string& part, const Function& function) {
  try {
    function();
    ADD_FAILURE() << "no error, wanted one that says: " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_P(Momentum, NamesTheLayerThatLeavesTheRange) {
  LayerRun<float> run =
      stage_run<float>(context(), 3, false, spec_of(Arithmetic::exact, Activations::recomputed, {0.9, 0.9, 0.9, 0.9}),
                       false, [](ParameterList& list) {
                         Branches<float> branches;
                         for (const char* name : {"a", "b", "c", "d"})
                           branches.push_back(linear<float>(list, name, 4, 4));
                         return branches;
                       });
  EXPECT_NO_THROW(run.run(true));
  const auto parameters = run.parameters;
  run.parameters[static_cast<std::size_t>(run.list.entries()[4].offset)] = 1e30f;  // c's
  for (const bool keeps : {false, true})
    expect_message<RangeError>("layer 3 of momentum stage 2", [&] { run.run(keeps); });
  run.parameters = parameters;
  run.X[5] = 600000;
  expect_message<RangeError>("layer 1 of momentum stage 2", [&] { run.run(false); });
  run.X[5] = std::nanf("");
  expect_message<RangeError>("layer 1 of momentum stage 2", [&] { run.run(false); });
}

TEST(MomentumErrors, NameWhatIsWrong) {
  using F = float;
  ParameterList list;
  const LayerPointer<F> branch = linear<F>(list, "a", 3, 3), wider = linear<F>(list, "b", 3, 4),
                        larger = linear<F>(list, "c", 4, 4);
  int made = 0;
  const auto make = [&](const MomentumSpec& spec, Branches<F> branches, LayerPointer<F> initial = nullptr) {
    return std::make_shared<MomentumNet<F>>(list, "m" + std::to_string(made++), std::move(branches), spec, 0, initial);
  };
  const auto with = [&](Arithmetic arithmetic, std::vector<double> gammas) {
    return spec_of(arithmetic, Activations::recomputed, std::move(gammas));
  };
  for (const Arithmetic arithmetic : {Arithmetic::exact, Arithmetic::approximate}) {
    expect_message<ValueError>("no branches", [&] { make(with(arithmetic, {}), {}); });
    expect_message<ValueError>("found 3 gammas for 2 layers", [&] {
      make(with(arithmetic, {0.5, 0.5, 0.5}), {branch, branch});
    });
    expect_message<ValueError>("no layer can be undone", [&] { make(with(arithmetic, {0.5, 0}), {branch, branch}); });
    for (const double gamma : {-0.5, 1.5, std::nan("")})
      EXPECT_THROW(make(with(arithmetic, {gamma}), {branch}), ValueError) << gamma;
    EXPECT_NO_THROW(make(with(arithmetic, {1, 1}), {branch, branch}));
    EXPECT_THROW(make(with(arithmetic, {0.5}), {wider}), ShapeError);
    EXPECT_THROW(make(with(arithmetic, {0.5, 0.5}), {branch, larger}), ShapeError);
    EXPECT_THROW(make(with(arithmetic, {0.5}), {branch}, larger), ShapeError);
    MomentumSpec learned = with(arithmetic, {0.7});
    learned.learned = true;
    EXPECT_NO_THROW(make(learned, {branch}));
    for (const auto& [low, high] : {std::pair(0.8, 0.9), {0.1, 0.6}, {0.9, 0.5}, {0.0, 0.9}, {0.5, 1.5}}) {
      learned.low = low;
      learned.high = high;
      EXPECT_THROW(make(learned, {branch}), ValueError) << low << " " << high;
    }
  }
  EXPECT_THROW(make(with(Arithmetic::exact, {1, 0.5}), {branch, branch}), ValueError);
  EXPECT_THROW(make(with(Arithmetic::exact, {1e-5}), {branch}), ValueError);
  EXPECT_THROW(make(with(Arithmetic::approximate, {1e-60}), {branch}), ValueError);  // 0 in float
  // A status that is not there.
  const Context host = Context::cpu(1);
  LayerRun<F> run(host, 2, false, [&](ParameterList& its) {
    return std::make_shared<MomentumNet<F>>(its, "m", Branches<F>{linear<F>(its, "a", 3, 3)}, MomentumSpec(), 2);
  });
  expect_message<ShapeError>("wanted at least 3", [&] { run.run(false); });
}

/// A momentum stage of LISTA layers is momentum LISTA.
TEST_P(Momentum, OfListaLayersIsMomentumLista) {
  constexpr std::int64_t n = 5, m = 7, N = 9, kLayers = 4;
  const testing::NetworkProblems problems(n, m, N);
  const std::vector<double> gammas{0.5, 0.25, 0.75, 0.625};
  const ListaLayout layout{ListaKind::momentum, n, m, kLayers};
  std::vector<double> parameters = testing::normals_of<double>(layout.size(), 9, 0.25), lambda;
  for (std::int64_t t = 0; t < kLayers; ++t) {
    parameters[static_cast<std::size_t>(layout.gamma(t))] = gammas[static_cast<std::size_t>(t)];
    for (std::int64_t j = 0; j + 1 < m; ++j)  // but for one under 0
      parameters[static_cast<std::size_t>(layout.thresholds(t) + j)] = 0.1 + 0.05 * static_cast<double>(j);
    parameters[static_cast<std::size_t>(layout.thresholds(t) + m - 1)] = -0.3;
  }
  for (std::int64_t b = 0; b < N; ++b) lambda.push_back(0.2 * problems.lambda_max(b));
  const auto D = testing::to_device(context(), problems.D, n, m), X = testing::to_device(context(), problems.X, n, N),
             theta = testing::to_device(context(), parameters, layout.size()),
             lambdas = testing::to_device(context(), lambda, N);
  const ListaNetwork<double> network{layout, D.matrix(), theta.vector()};
  const Tensor<double> Z(context(), m, N), loss(context(), 1), gradient(context(), layout.size());
  const Tensor<std::byte> scratch(context(), lista_network_scratch(context(), network, N, true));
  lista_network_forward<double>(context(), network, X.matrix(), lambdas.vector(), Z.matrix(), scratch.vector());
  lista_network_loss<double>(context(), network, X.matrix(), lambdas.vector(), loss.vector(), gradient.vector(),
                             scratch.vector());
  const std::vector<double> codes = testing::to_host(context(), Z), wanted = testing::to_host(context(), gradient);

  // What the cost's gradient starts from: (D'(D z - x) + lambda sign(z)) / N.
  std::vector<double> G;
  for (std::int64_t b = 0; b < N; ++b) {
    const double* const z = codes.data() + b * m;
    std::vector<double> r;
    for (std::int64_t i = 0; i < n; ++i) {
      r.push_back(-problems.x(i, b));
      for (std::int64_t j = 0; j < m; ++j) r.back() += problems.d(i, j) * z[j];
    }
    for (std::int64_t j = 0; j < m; ++j) {
      double sum = z[j] > 0 ? lambda[static_cast<std::size_t>(b)] : z[j] < 0 ? -lambda[static_cast<std::size_t>(b)] : 0;
      for (std::int64_t i = 0; i < n; ++i) sum += problems.d(i, j) * r[static_cast<std::size_t>(i)];
      G.push_back(sum / static_cast<double>(N));
    }
  }
  // The same tensors, W1 and W2 in C order.
  const auto of_layer = [&](const std::vector<double>& all, std::int64_t t) {
    const auto at = [&](std::int64_t i) { return all[static_cast<std::size_t>(i)]; };
    std::vector<double> result;
    for (const auto& [first, cols] : {std::pair(std::int64_t{0}, m), {m, n}})
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = first; j < first + cols; ++j) result.push_back(at(layout.weights(t) + i + j * m));
    for (std::int64_t j = 0; j < m; ++j) result.push_back(at(layout.thresholds(t) + j));
    return result;
  };
  const auto make = [&](ParameterList& list) {
    Branches<double> branches;
    for (std::int64_t t = 0; t < kLayers; ++t) {
      const std::vector<double> all = of_layer(parameters, t);
      const auto W2 = all.begin() + m * m, thresholds = W2 + m * n;
      branches.push_back(std::make_shared<ListaLayer<double>>(
          list, std::to_string(t), n, m,
          ListaInitial{Initial::of({all.begin(), W2}), Initial::of({W2, thresholds}),
                       Initial::of({thresholds, all.end()})}));
    }
    return branches;
  };
  for (const Arithmetic arithmetic : {Arithmetic::approximate, Arithmetic::exact}) {
    for (const Activations activations : kActivations) {
      MomentumSpec spec = spec_of(arithmetic, activations, gammas);
      spec.whole = spec.learned = true;
      spec.low = 0.125;
      LayerRun<double> run = stage_run<double>(context(), N, false, spec, false, make);
      const ParameterValues<double> initial(context(), run.list, 0);
      run.parameters = values_of<double>(context(), initial.parameters());
      run.X.assign(static_cast<std::size_t>(m * N), 0);
      run.weights = G;
      run.sides = {problems.X, lambda};
      const LayerRun<double>::Result found = run.run(true);
      // Sums of under 2^8 terms under 2^4, roundings of 2^-52, or of 2^-44 in exact arithmetic, over slopes of under 2^2 a
      // layer; going back approximately by 1 / gamma, 17 in all.
      const double tolerance = arithmetic == Arithmetic::exact ? 0x1p-32 : 0x1p-38;
      for (std::size_t i = 0; i < codes.size(); ++i) ASSERT_NEAR(found.Y[i], codes[i], tolerance) << i;
      const auto its = [&](const std::string& name) {
        for (const auto& entry : run.list.entries())
          if (entry.name == name) return found.gradient.begin() + entry.offset;
        ADD_FAILURE() << name;
        return found.gradient.begin();
      };
      for (std::int64_t t = 0; t < kLayers; ++t) {
        const std::vector<double> all = of_layer(wanted, t);
        const std::string name = std::to_string(t);
        std::size_t next = 0;
        for (const auto& [tensor, size] : {std::pair(".W1", m * m), {".W2", m * n}, {".thresholds", m}}) {
          for (std::int64_t i = 0; i < size; ++i, ++next)
            ASSERT_NEAR(its(name + tensor)[i], all[next], tolerance) << t << tensor << " " << i;
        }
        ASSERT_NEAR(its("momentum.gamma")[t], wanted[static_cast<std::size_t>(layout.gamma(t))], tolerance) << t;
      }
      if (arithmetic != Arithmetic::exact) continue;
      Journey<double> journey(run);
      journey.begin({});
      journey.advance();
      journey.inverse();
      EXPECT_EQ(journey.exact_x(), std::vector<std::int64_t>(static_cast<std::size_t>(m * N)));
      EXPECT_EQ(journey.exact_v(), std::vector<std::int64_t>(static_cast<std::size_t>(m * N)));
      EXPECT_NO_THROW(journey.require_beginning());
    }
  }
}

}  // namespace
}  // namespace shrinkwarp
