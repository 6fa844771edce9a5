// Classifiers of residual layers: their files, their names, and what becomes of them as momentum networks.
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"

namespace shrinkwarp {
namespace {

using testing::same_vectors;

template <class T>
Safetensors file_of(const Context& context, const Net<T>& net) {
  Safetensors file;
  net.save(context, file);
  describe_net(net.spec(), file);
  file.seal();
  return file;
}

/// A pass in evaluation.
template <class T>
std::vector<T> logits_of(const Context& context, const Net<T>& net, std::int64_t N) {
  const std::int64_t features = net.layers().input().size(), classes = net.spec().classes;
  const auto x = testing::to_device(context, testing::normals_of<T>(features * N, 1), features, N);
  const Tensor<T> y(context, classes, N);
  const auto memory = net.memory(context, N, false);
  EXPECT_EQ(memory.kept, 0);
  const Tensor<std::byte> scratch(context, memory.scratch);
  net.layers().forward(net.pass(context), x.matrix(), y.matrix(), {}, scratch.vector());
  net.require_all_well(context);
  return testing::to_host(context, y);
}

bool same_tensors(const Safetensors& a, const Safetensors& b) {
  if (a.tensors().size() != b.tensors().size()) return false;
  for (const auto& [name, tensor] : a.tensors()) {
    const auto found = b.tensors().find(name);
    if (found == b.tensors().end() || found->second.shape != tensor.shape || found->second.bytes != tensor.bytes)
      return false;
  }
  return true;
}

NetSpec mlp() {
  NetSpec spec;
  spec.input = {2, 3, 1};
  spec.classes = 3;
  spec.blocks = 3;
  spec.width = 5;
  spec.hidden = 4;
  return spec;
}
MomentumSpec approximate(double gamma) {
  MomentumSpec momentum;
  momentum.arithmetic = Arithmetic::approximate;
  momentum.gamma = gamma;
  return momentum;
}

/// All options of an mlp.
std::vector<NetSpec> mlps() {
  std::vector<NetSpec> specs(5, mlp());
  specs[0].normalisation = Normalisation::layer;
  specs[0].activation = Activation::gelu;
  specs[0].dropout = 0.25;
  specs[1].normalisation = Normalisation::batch;
  specs[1].activation = Activation::relu;
  specs[1].width = 6;  // no stem
  specs[1].momentum = MomentumSpec();
  specs[1].momentum->form = MomentumForm::plain;
  specs[1].momentum->gamma = 0.7;
  specs[2].initial_velocity = true;
  specs[2].momentum = MomentumSpec();
  specs[2].momentum->learned = true;
  specs[2].momentum->gamma = 0.8;
  specs[2].momentum->low = 0.75;
  specs[2].momentum->high = 0.875;
  specs[3].activation = Activation::none;
  specs[3].momentum = approximate(0.1);
  specs[4].momentum = MomentumSpec();
  specs[4].momentum->gammas = {0.9, 0.001, 0.5};  // whose buffer is larger than gamma's
  return specs;
}

class Nets : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Nets);

TEST_P(Nets, ComeBackFromTheirFiles) {
  int k = 0;
  for (const NetSpec& spec : mlps()) {
    SCOPED_TRACE(k++);
    const Net<float> net(context(), spec, 5);
    const Safetensors file = file_of(context(), net);
    const NetSpec found = net_spec_of(file, {9, 9, 9});
    EXPECT_EQ(found.architecture, spec.architecture);
    EXPECT_EQ(found.input, spec.input);
    EXPECT_EQ(found.classes, spec.classes);
    EXPECT_EQ(found.blocks, spec.blocks);
    EXPECT_EQ(found.width, spec.width);
    EXPECT_EQ(found.hidden, spec.hidden);
    EXPECT_EQ(found.activation, spec.activation);
    EXPECT_EQ(found.normalisation, spec.normalisation);
    EXPECT_EQ(found.dropout, spec.dropout);
    EXPECT_EQ(found.initial_velocity, spec.initial_velocity);
    ASSERT_EQ(found.momentum.has_value(), spec.momentum.has_value());
    if (spec.momentum) {
      EXPECT_EQ(found.momentum->gamma, spec.momentum->gamma);
      EXPECT_EQ(found.momentum->form, spec.momentum->form);
      EXPECT_EQ(found.momentum->arithmetic, spec.momentum->arithmetic);
      EXPECT_EQ(found.momentum->learned, spec.momentum->learned);
      EXPECT_EQ(found.momentum->low, spec.momentum->low);
      EXPECT_EQ(found.momentum->high, spec.momentum->high);
      ASSERT_EQ(found.momentum->gammas.size(), spec.momentum->gammas.size());
      for (std::size_t t = 0; t < found.momentum->gammas.size(); ++t)
        EXPECT_EQ(static_cast<float>(found.momentum->gammas[t]), static_cast<float>(spec.momentum->gammas[t]));
    }
    Net<float> other(context(), found, 6);
    EXPECT_FALSE(same_tensors(file_of(context(), other), file));
    other.load(context(), file);
    EXPECT_TRUE(same_tensors(file_of(context(), other), file));
    EXPECT_TRUE(same_vectors(logits_of(context(), other, 7), logits_of(context(), net, 7)));
    Net<double> in_double(context(), found, 6);
    in_double.load(context(), file);
    const auto wanted = logits_of(context(), in_double, 7);
    const auto single = logits_of(context(), net, 7);
    for (std::size_t i = 0; i < single.size(); ++i) EXPECT_NEAR(single[i], wanted[i], 1e-4);  // of float's 2^-24
  }
}

TEST_P(Nets, ForgetThatARangeWasLeftOnceTheyHaveSaidSo) {
  NetSpec spec = mlp();
  spec.momentum = MomentumSpec();
  const Net<float> net(context(), spec, 5);
  const std::vector<float> X(static_cast<std::size_t>(6 * 2), 1e30f);
  const auto x = testing::to_device(context(), X, 6, 2);
  const Tensor<float> y(context(), 3, 2);
  const Tensor<std::byte> scratch(context(), net.memory(context(), 2, false).scratch);
  net.layers().forward(net.pass(context()), x.matrix(), y.matrix(), {}, scratch.vector());
  EXPECT_THROW(net.require_all_well(context()), RangeError);
  EXPECT_NO_THROW(logits_of(context(), net, 2));
}

TEST_P(Nets, KeepTheirWeightsAsMomentumNetworks) {
  NetSpec spec = mlp();
  spec.initial_velocity = true;  // which only a momentum network has weights for
  const Net<float> net(context(), spec, 5);
  const auto momentum = to_momentum(context(), net, approximate(0.9));
  Safetensors before, after;
  net.save(context(), before);
  momentum->save(context(), after);
  EXPECT_EQ(after.tensors().size(), before.tensors().size() + 1);
  EXPECT_EQ(after.at("momentum.gamma").shape, (std::vector<std::int64_t>{3}));
  for (const auto& [name, tensor] : before.tensors()) EXPECT_EQ(after.at(name).bytes, tensor.bytes) << name;
  EXPECT_EQ(momentum->stages().size(), 1u);
  EXPECT_THROW(to_momentum(context(), *momentum, approximate(0.5)), ValueError);
  // gamma = 1: v stays 0, and the blocks are not there.
  const auto still = to_momentum(context(), net, approximate(1));
  spec.blocks = 1;
  Net<float> none(context(), spec, 5);
  Safetensors emptied = before;
  Safetensors zeros;
  for (const auto& [name, tensor] : before.tensors()) {
    StoredTensor its = tensor;
    if (name.rfind("blocks.", 0) == 0) std::fill(its.bytes.begin(), its.bytes.end(), std::byte{0});
    zeros.add(name, its);
  }
  none.load(context(), zeros);
  EXPECT_EQ(logits_of(context(), *still, 3), logits_of(context(), none, 3));
}

/// The same file with other tensors or texts.
Safetensors changed(const Safetensors& file, const std::function<void(Safetensors&)>& change,
                    const std::string& without = "") {
  Safetensors result;
  result.metadata = file.metadata;
  for (const auto& [name, tensor] : file.tensors())
    if (name != without) result.add(name, tensor);
  change(result);
  result.seal();
  return result;
}
Safetensors with_text(const Safetensors& file, const std::string& key, const std::string& text) {
  return changed(file, [&](Safetensors& its) { its.metadata[key] = text; });
}

TEST(NetStages, AreTheBlocksOfAPerceptronAlone) {
  NetSpec spec = mlp();
  spec.momentum = MomentumSpec();
  ParameterList whole, alone;
  std::vector<std::shared_ptr<const MomentumNet<float>>> stages;
  make_layers<float>(spec, whole, stages);
  const auto stage = make_mlp_stage<float>(spec, alone);
  ASSERT_EQ(stages.size(), 1U);
  EXPECT_EQ(stage->layers(), stages[0]->layers());
  EXPECT_EQ(stage->input(), stages[0]->input());
  EXPECT_EQ(stage->has_initial(), spec.initial_velocity);
  std::set<std::string> its, others;
  for (const ParameterList::Entry& entry : alone.entries()) its.insert(entry.name);
  for (const ParameterList::Entry& entry : whole.entries())
    if (entry.name.rfind("stem.", 0) != 0 && entry.name.rfind("head.", 0) != 0) others.insert(entry.name);
  EXPECT_EQ(its, others);
  spec.momentum.reset();
  ParameterList none;
  EXPECT_THROW(make_mlp_stage<float>(spec, none), ValueError);
}

TEST(NetFiles, AreRefusedWhereTheyAreNone) {
  const Context host = Context::cpu(1);
  NetSpec spec = mlp();
  spec.momentum = MomentumSpec();
  const Net<float> net(host, spec, 5);
  const Safetensors good = file_of(host, net);
  EXPECT_NO_THROW(net_spec_of(good));
  for (const auto& [key, text] :
       std::vector<std::pair<const char*, const char*>>{{"format", "shrinkwarp-net-2"},
                                                        {"format", ""},
                                                        {"architecture", "vgg16"},
                                                        {"architecture", "resnet18"},
                                                        {"input", "2,3"},
                                                        {"input", "2,3,x"},
                                                        {"input", "0,3,1"},
                                                        {"input", "2,3,1,1"},
                                                        {"input", "16777216,16777216,16777216"},
                                                        {"classes", "0"},
                                                        {"classes", "three"},
                                                        {"blocks", "2"},
                                                        {"blocks", "4"},
                                                        {"blocks", "-1"},
                                                        {"activation", "selu"},
                                                        {"normalisation", "group"},
                                                        {"dropout", "2"},
                                                        {"initial_velocity", "maybe"},
                                                        {"momentum", "1"},
                                                        {"gamma", "1.5"},
                                                        {"gamma", "nan"},
                                                        {"form", "heavy"},
                                                        {"arithmetic", "float"},
                                                        {"gamma_learned", ""},
                                                        {"gamma_low", "-1"},
                                                        {"gamma_high", "0.1"}}) {
    EXPECT_THROW(net_spec_of(with_text(good, key, text)), ValueError) << key << " " << text;
  }
  // Sizes that the tensors do not have, however large.
  for (const auto& [key, text] : std::vector<std::pair<const char*, const char*>>{{"input", "2,3,2"},
                                                                                  {"input", "5,1,1000"},
                                                                                  {"classes", "4"},
                                                                                  {"classes", "16777216"},
                                                                                  {"width", "4"},
                                                                                  {"width", "16777216"},
                                                                                  {"hidden", "5"}})
    EXPECT_THROW(net_spec_of(with_text(good, key, text)), ShapeError) << key << " " << text;
  for (const auto& [key, text] : good.metadata) {
    if (key == "format" || key.find("hash") != std::string::npos) continue;
    const std::string name = key;
    EXPECT_THROW(net_spec_of(changed(good, [&](Safetensors& its) { its.metadata.erase(name); })), ValueError) << key;
  }
  // Tensors that are missing, of another shape, or not what was sealed.
  for (const char* const name : {"stem.weight", "head.weight", "blocks.2.linear1.weight"})
    EXPECT_THROW(net_spec_of(changed(
                     good, [](Safetensors&) {}, name)),
                 ValueError)
        << name;
  const auto no_change = [](Safetensors&) {};
  Net<float> other(host, spec, 6);
  EXPECT_THROW(other.load(host, changed(good, no_change, "blocks.1.linear2.bias")), ValueError);
  EXPECT_NO_THROW(other.load(host, changed(good, no_change, "momentum.gamma")));
  Safetensors damaged = changed(good, no_change, "head.bias");
  damaged.metadata = good.metadata;
  damaged.add("head.bias", {3}, std::vector<float>{1, 2, 3});
  EXPECT_THROW(net_spec_of(damaged), ValueError);
  const auto with_gammas = [&](const std::vector<float>& gammas) {
    return changed(
        good, [&](Safetensors& its) { its.add("momentum.gamma", {static_cast<std::int64_t>(gammas.size())}, gammas); },
        "momentum.gamma");
  };
  for (const float gamma : {0.0f, 1.5f, -0.5f, std::nanf("")})
    EXPECT_THROW(net_spec_of(with_gammas({0.9f, gamma, 0.9f})), ValueError) << gamma;
  // Other gammas are those of another network.
  const Safetensors others = with_gammas({0.9f, 0.5f, 0.9f});
  EXPECT_THROW(other.load(host, others), ValueError);
  const std::vector<double> theirs{static_cast<double>(0.9f), 0.5, static_cast<double>(0.9f)};
  EXPECT_EQ(net_spec_of(others).momentum->gammas, theirs);
  Safetensors nothing;
  nothing.add("head.weight", {1}, std::vector<float>{1});
  EXPECT_THROW(net_spec_of(nothing), ValueError);

  for (const auto& change : std::vector<std::function<void(NetSpec&)>>{
           [](NetSpec& its) { its.architecture = "resnet19"; }, [](NetSpec& its) { its.classes = 0; },
           [](NetSpec& its) { its.input.height = 0; }, [](NetSpec& its) { its.width = 0; },
           [](NetSpec& its) { its.blocks = 0; }, [](NetSpec& its) { its.dropout = 1; },
           [](NetSpec& its) { its.dropout = -0.5; }, [](NetSpec& its) { its.momentum->gamma = 0; },
           [](NetSpec& its) { its.momentum->gammas = {0.5}; }}) {
    NetSpec its = spec;
    change(its);
    EXPECT_THROW(Net<float>(host, its, 1), ValueError);
  }
}

/// torchvision's state_dict of a resnet18, without num_batches_tracked.
std::set<std::string> resnet18_names() {
  std::set<std::string> names{"conv1.weight", "fc.weight", "fc.bias"};
  const auto add_norm = [&](const std::string& name) {
    for (const char* const part : {".weight", ".bias", ".running_mean", ".running_var"}) names.insert(name + part);
  };
  add_norm("bn1");
  for (int stage = 1; stage <= 4; ++stage) {
    for (int block = 0; block < 2; ++block) {
      const std::string name = "layer" + std::to_string(stage) + "." + std::to_string(block);
      for (const char* const part : {"1", "2"}) {
        names.insert(name + ".conv" + part + ".weight");
        add_norm(name + ".bn" + part);
      }
    }
    if (stage == 1) continue;
    names.insert("layer" + std::to_string(stage) + ".0.downsample.0.weight");
    add_norm("layer" + std::to_string(stage) + ".0.downsample.1");
  }
  return names;
}

TEST(NetsOfTorchvision, KeepNamesAndFirstBlocksAsMomentumNetworks) {
  const Context host = Context::cpu(2);
  NetSpec spec;
  spec.architecture = "resnet18";
  spec.input = {3, 32, 32};
  spec.classes = 10;
  const Net<float> net(host, spec, 5);
  const Safetensors file = file_of(host, net);
  std::set<std::string> names;
  for (const auto& [name, tensor] : file.tensors()) names.insert(name);
  EXPECT_EQ(names, resnet18_names());
  EXPECT_EQ(net.list().count(), 11181642);  // as torchvision's with 10 classes
  EXPECT_EQ(file.at("layer2.0.downsample.0.weight").shape, (std::vector<std::int64_t>{128, 64, 1, 1}));
  EXPECT_EQ(file.at("layer4.1.conv2.weight").shape, (std::vector<std::int64_t>{512, 512, 3, 3}));
  EXPECT_EQ(net_spec_of(file).input, spec.input);
  EXPECT_GT(net.memory(host, 4, true).total(), net.memory(host, 4, false).total());

  // A file of torchvision's has no metadata, and counters.
  Safetensors plain = file;
  plain.metadata.clear();
  plain.add("bn1.num_batches_tracked", {}, std::vector<std::int64_t>{7});
  const NetSpec found = net_spec_of(plain, {3, 32, 32});
  EXPECT_EQ(found.architecture, "resnet18");
  EXPECT_EQ(found.classes, 10);
  EXPECT_EQ(found.input, spec.input);
  EXPECT_FALSE(found.momentum);
  EXPECT_THROW(net_spec_of(with_text(file, "classes", "11")), ShapeError);
  EXPECT_THROW(net_spec_of(with_text(file, "input", "1,32,32")), ShapeError);
  plain.add("layer3.2.conv1.weight", {1}, std::vector<float>{0});
  EXPECT_THROW(net_spec_of(plain), ValueError);

  // One layer behind the first block of each stage: v = f(x) from v = 0 in the plain form, and x + v is what the block gives.
  MomentumSpec momentum = approximate(0.9);
  momentum.form = MomentumForm::plain;
  const auto result = to_momentum(host, net, momentum);
  ASSERT_EQ(result->stages().size(), 4u);
  for (const auto& stage : result->stages()) EXPECT_EQ(stage->layers(), 1);
  const Safetensors after = file_of(host, *result);
  for (const auto& [name, tensor] : file.tensors()) ASSERT_EQ(after.at(name).bytes, tensor.bytes) << name;
  EXPECT_EQ(after.tensors().size(), file.tensors().size() + 4);
  for (int stage = 1; stage <= 4; ++stage)
    EXPECT_EQ(after.at("layer" + std::to_string(stage) + ".momentum.gamma").shape, (std::vector<std::int64_t>{1}));
  const auto wanted = logits_of(host, net, 2), logits = logits_of(host, *result, 2);
  double largest = 0;
  for (const float value : wanted) largest = std::max(largest, std::fabs(static_cast<double>(value)));
  // Four roundings of 2^-24, each before layers that may multiply what is off some 2^4 times against their own output.
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(logits[i], wanted[i], 4 * 0x1p-20 * largest);
}

}  // namespace
}  // namespace shrinkwarp
