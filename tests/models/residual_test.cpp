// Layers and containers of residual networks: gradients against central differences in double, and bits that depend neither on
// threads nor on what is kept.
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/resnet/activation.hpp>
#include <shrinkwarp/models/resnet/dropout.hpp>
#include <shrinkwarp/models/resnet/image_layers.hpp>
#include <shrinkwarp/models/resnet/linear.hpp>
#include <shrinkwarp/models/resnet/lista_layer.hpp>
#include <shrinkwarp/models/resnet/norms.hpp>
#include <shrinkwarp/models/resnet/residual.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"

namespace shrinkwarp {
namespace {

using testing::expect_same_results;
using testing::LayerRun;
using testing::same_vectors;

template <class T>
struct Case {
  const char* name;
  typename LayerRun<T>::Make make;
  bool training = false;
};

constexpr std::int64_t kRows = 5;  // of the observations of a LISTA layer

/// Of 4 features, or of images of 3 x 5 x 4.
template <class T>
std::vector<Case<T>> cases() {
  using List = ParameterList;
  using std::make_shared;
  const Shape image{3, 5, 4};
  const auto linear = [](List& list, const std::string& name, std::int64_t in, std::int64_t out, Activation activation,
                         bool bias = true) -> LayerPointer<T> {
    return make_shared<Linear<T>>(list, name, in, out, activation, bias);
  };
  const auto sequence = [](std::vector<LayerPointer<T>> layers) -> LayerPointer<T> {
    return make_shared<Sequential<T>>(std::move(layers));
  };
  constexpr Activation relu = Activation::relu, gelu = Activation::gelu, tanh = Activation::tanh,
                       none = Activation::none;
  return {
      {"Linear", [=](List& list) { return linear(list, "l", 4, 3, none); }},
      {"Linear without a bias", [=](List& list) { return linear(list, "l", 4, 3, none, false); }},
      {"Linear relu", [=](List& list) { return linear(list, "l", 4, 6, relu); }},
      {"Linear gelu", [=](List& list) { return linear(list, "l", 4, 6, gelu); }},
      {"Linear tanh", [=](List& list) { return linear(list, "l", 4, 6, tanh, false); }},
      {"Activate none", [=](List&) { return make_shared<Activate<T>>(image, none); }},
      {"Activate relu", [=](List&) { return make_shared<Activate<T>>(image, relu); }},
      {"Activate gelu", [=](List&) { return make_shared<Activate<T>>(image, gelu); }},
      {"Activate tanh", [=](List&) { return make_shared<Activate<T>>(image, tanh); }},
      {"LayerNorm", [=](List& list) { return make_shared<LayerNorm<T>>(list, "n", 4); }},
      {"BatchNorm", [=](List& list) { return make_shared<BatchNorm<T>>(list, "n", Shape{4}); }, true},
      {"BatchNorm running", [=](List& list) { return make_shared<BatchNorm<T>>(list, "n", image); }},
      {"BatchNorm relu", [=](List& list) { return make_shared<BatchNorm<T>>(list, "n", image, true); }, true},
      {"Dropout", [=](List&) { return make_shared<Dropout<T>>(image, 0.3, 1); }, true},
      {"Dropout in evaluation", [=](List&) { return make_shared<Dropout<T>>(image, 0.3, 1); }},
      {"Convolution", [=](List& list) { return make_shared<Convolution<T>>(list, "c", image, 2, 3, 2, 1); }},
      {"MaxPool", [=](List&) { return make_shared<MaxPool<T>>(image, 3, 2, 1); }},
      {"AveragePool", [=](List&) { return make_shared<AveragePool<T>>(image); }},
      {"Sequential of one", [=](List& list) { return sequence({linear(list, "l", 4, 3, tanh)}); }},
      {"Sequential of many",
       [=](List& list) {
         return sequence({linear(list, "a", 4, 7, gelu), make_shared<BatchNorm<T>>(list, "b", Shape{7}, true),
                          make_shared<Dropout<T>>(Shape{7}, 0.2, 2), linear(list, "c", 7, 5, relu),
                          sequence({make_shared<LayerNorm<T>>(list, "d", 5), linear(list, "e", 5, 3, none)})});
       },
       true},
      {"Sequential of images",
       [=](List& list) {
         return sequence({make_shared<Convolution<T>>(list, "a", image, 4, 3, 1, 1),
                          make_shared<BatchNorm<T>>(list, "b", Shape{4, 5, 4}, true),
                          make_shared<MaxPool<T>>(Shape{4, 5, 4}, 2, 2, 0), make_shared<AveragePool<T>>(Shape{4, 2, 2}),
                          linear(list, "c", 4, 3, none)});
       }},
      // Bodies and shortcuts whose own outputs their gradients are computed from, and others.
      {"ResidualBlock",
       [=](List& list) {
         return make_shared<ResidualBlock<T>>(sequence({linear(list, "a", 4, 5, relu), linear(list, "b", 5, 4, tanh)}),
                                              nullptr);
       }},
      {"ResidualBlock with a shortcut",
       [=](List& list) {
         return make_shared<ResidualBlock<T>>(linear(list, "a", 4, 3, gelu), linear(list, "b", 4, 3, relu));
       }},
      {"BasicBlock", [=](List& list) { return make_basic_block<T>(list, "b", image, 3, 1); }, true},
      {"BasicBlock with a shortcut", [=](List& list) { return make_basic_block<T>(list, "b", image, 4, 2); }, true},
      {"Bottleneck", [=](List& list) { return make_bottleneck<T>(list, "b", image, 2, 2); }},
      {"Bottleneck without a shortcut",
       [=](List& list) {
         return make_bottleneck<T>(list, "b", {4, 3, 3}, 1, 1);
       },
       true},
      {"ResidualStage of one",
       [=](List& list) {
         return make_shared<ResidualStage<T>>(std::vector<LayerPointer<T>>{linear(list, "a", 4, 4, tanh)});
       }},
      {"ResidualStage",
       [=](List& list) {
         const auto shared = linear(list, "a", 4, 4, gelu);
         return make_shared<ResidualStage<T>>(std::vector<LayerPointer<T>>{
             shared, sequence({make_shared<LayerNorm<T>>(list, "b", 4), linear(list, "c", 4, 4, relu)}), shared,
             linear(list, "d", 4, 4, none)});
       }},
      {"ListaLayer", [=](List& list) { return make_shared<ListaLayer<T>>(list, "l", kRows, 4); }},
  };
}

template <class T>
LayerRun<T> run_of(const Context& context, const Case<T>& its, std::int64_t N) {
  LayerRun<T> run(context, N, its.training, its.make);
  if (std::string(its.name) == "ListaLayer") {
    run.sides = {testing::normals_of<T>(kRows * N, 6), testing::normals_of<T>(N, 7)};
    for (T& lambda : run.sides[1]) lambda = std::fabs(lambda);
    run.parameters[static_cast<std::size_t>(run.list.entries()[2].offset)] = T(-0.5);  // counts as 0
  }
  return run;
}

class ResidualLayers : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(ResidualLayers);

TEST_P(ResidualLayers, GradientsAreThoseOfCentralDifferences) {
  for (const auto& its : cases<double>()) {
    SCOPED_TRACE(its.name);
    run_of(context(), its, 5).check();
  }
}

TEST_P(ResidualLayers, BitsDoNotDependOnThreads) {
  if (context().is_cuda()) return;
  const Context alone = Context::cpu(1);
  for (const auto& its : cases<float>()) {
    SCOPED_TRACE(its.name);
    expect_same_results<float>(run_of(context(), its, 270).run(true), run_of(alone, its, 270).run(true));
  }
}

/// What forward_unbiased leaves out is one addition, of last_bias.
TEST_P(ResidualLayers, LeaveTheLastBiasToTheCaller) {
  std::int64_t left = 0;
  for (const auto& its : cases<float>()) {
    SCOPED_TRACE(its.name);
    const LayerRun<float> run = run_of(context(), its, 3);
    const std::int64_t rows = run.layer->output().size();
    const auto x = testing::to_device(context(), run.X, run.layer->input().size(), 3);
    const LayerRun<float>::Passing passing(run);
    const Pass<float>& pass = passing.pass;
    const VectorView<const float> bias = run.layer->last_bias(pass);
    if (bias.empty()) continue;
    ++left;
    const Tensor<float> y(context(), rows, 3), whole(context(), rows, 3);
    const Tensor<std::byte> scratch(context(), run.layer->scratch(context(), 3, false));
    run.layer->forward_unbiased(pass, x.matrix(), y.matrix(), {}, scratch.vector());
    run.layer->forward(pass, x.matrix(), whole.matrix(), {}, scratch.vector());
    std::vector<float> Y = testing::to_host(context(), y), b = testing::values_of<float>(context(), bias);
    ASSERT_EQ(static_cast<std::int64_t>(b.size()), rows);
    for (std::size_t i = 0; i < Y.size(); ++i) Y[i] += b[i % b.size()];
    EXPECT_TRUE(same_vectors(Y, testing::to_host(context(), whole)));
  }
  EXPECT_EQ(left, 3);  // Linear, and two in sequences that end in one
}

/// A repeated pass leaves running statistics alone; one of evaluation does, too.
TEST_P(ResidualLayers, RunningStatisticsTakeEachBatchOnce) {
  ParameterList list;
  const BatchNorm<double> norm(list, "n", Shape{2});
  const ParameterValues<double> values(context(), list, 1);
  const auto x = testing::to_device<double>(context(), {1, 10, 3, 14}, 2, 2);
  const Tensor<double> y(context(), 2, 2);
  const Tensor<std::byte> scratch(context(), norm.scratch(context(), 2, false));
  Pass<double> pass(context());
  pass.parameters = values.parameters();
  pass.statistics = values.statistics();
  for (const bool repeated : {false, true}) {
    pass.training = true;
    pass.repeated = repeated;
    norm.forward(pass, x.matrix(), y.matrix(), {}, scratch.vector());
  }
  pass.training = pass.repeated = false;
  norm.forward(pass, x.matrix(), y.matrix(), {}, scratch.vector());
  // means 2 and 12, variances 2 and 8 divided by N - 1, a tenth of each
  const auto found = testing::values_of<double>(context(), values.statistics());
  for (const auto& entry : list.entries()) {
    if (entry.learned) continue;
    const bool mean = entry.name == "n.running_mean";
    const auto at = static_cast<std::size_t>(entry.offset);
    EXPECT_NEAR(found[at], mean ? 0.2 : 0.9 + 0.2, 1e-15);
    EXPECT_NEAR(found[at + 1], mean ? 1.2 : 0.9 + 0.8, 1e-15);
  }
}

TEST(ResidualErrors, NameWhatDoesNotFit) {
  using F = float;
  ParameterList list;
  const auto linear = [&](std::int64_t in, std::int64_t out) -> LayerPointer<F> {
    return std::make_shared<Linear<F>>(list, "l" + std::to_string(list.entries().size()), in, out, Activation::none);
  };
  const auto layers = [](std::vector<LayerPointer<F>> all) { return all; };
  EXPECT_THROW(Sequential<F>({}), ValueError);
  EXPECT_THROW(Sequential<F>(layers({linear(3, 4), linear(5, 3)})), ShapeError);
  EXPECT_THROW(ResidualStage<F>({}), ValueError);
  EXPECT_THROW(ResidualStage<F>(layers({linear(3, 3), linear(3, 4)})), ShapeError);
  EXPECT_THROW(ResidualBlock<F>(linear(3, 4), nullptr), ShapeError);
  EXPECT_THROW(ResidualBlock<F>(linear(3, 4), linear(3, 5)), ShapeError);
  EXPECT_THROW(ResidualBlock<F>(linear(3, 4), linear(5, 4)), ShapeError);
  EXPECT_THROW(Dropout<F>(Shape{3}, 1, 0), ValueError);
  EXPECT_THROW(Dropout<F>(Shape{3}, -0.1, 0), ValueError);
  EXPECT_THROW(Convolution<F>(list, "c", {1, 2, 9}, 1, 5, 1, 1), ShapeError);
  EXPECT_THROW(Convolution<F>(list, "c", {1, 9, 9}, 1, 3, 0, 1), ValueError);
  EXPECT_THROW(Convolution<F>(list, "c", {1, 9, 9}, 1, 0, 1, 1), ValueError);
  EXPECT_THROW(MaxPool<F>({1, 2, 2}, 3, 1, 0), ShapeError);
  EXPECT_THROW(MaxPool<F>({1, 2, 2}, 2, 1, -1), ValueError);
  EXPECT_THROW(list.add("l0.weight", {1}, Initial::constant(0)), ValueError);
  // A LISTA layer without its side inputs, and with a gradient that it does not give.
  const Context host = Context::cpu(1);
  const Case<F> lista{"ListaLayer", [](ParameterList& its) { return std::make_shared<ListaLayer<F>>(its, "l", 2, 3); }};
  LayerRun<F> run(host, 2, false, lista.make);
  EXPECT_THROW(run.run(false), ValueError);
  run.sides = {std::vector<F>(4), std::vector<F>(4)};  // lambda of two numbers a sample
  EXPECT_THROW(run.run(false), ShapeError);
}

}  // namespace
}  // namespace shrinkwarp
