// Layers whose batch is shared out among replicas: what they compute together is what one process computes of the whole
// batch.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/dropout.hpp>
#include <shrinkwarp/models/resnet/linear.hpp>
#include <shrinkwarp/models/resnet/norms.hpp>
#include <shrinkwarp/models/resnet/residual.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"
#include "tests/support/thread_replicas.hpp"

namespace shrinkwarp {
namespace {

using testing::LayerRun;
using testing::run_replicas;
using testing::same_vectors;
using testing::ThreadReplicas;

using Counts = std::vector<std::int64_t>;

class ReplicatedLayers : public testing::OnContext {
 protected:
  /// Another of context()'s kind: each replica has its own.
  static Context another_context() {
    const std::string name = GetParam();
    return name == "cuda" ? Context::cuda() : Context::cpu(name == "cpu1" ? 1 : 3);
  }

  /// What replicas with `counts` samples each find of the batch that `whole` has.
  template <class T>
  struct Shared {
    std::vector<typename LayerRun<T>::Result> results;
    Counts calls;  // of Replicas
  };
  template <class T>
  Shared<T> run_shared(const LayerRun<T>& whole, const typename LayerRun<T>::Make& make, const Counts& counts) const {
    Shared<T> shared;
    shared.results.resize(counts.size());
    shared.calls.resize(counts.size());
    run_replicas(static_cast<int>(counts.size()), [&](ThreadReplicas& replicas) {
      const auto rank = static_cast<std::size_t>(replicas.rank());
      const Context context = another_context();
      LayerRun<T> run(context, counts[rank], whole.training, make);
      for (std::size_t before = 0; before < rank; ++before) run.first_sample += counts[before];
      const auto part_of = [&](const std::vector<T>& all, std::vector<T>& part) {
        const auto a_sample = part.size() / static_cast<std::size_t>(run.N);
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(a_sample) * run.first_sample;
        part.assign(first, first + static_cast<std::ptrdiff_t>(part.size()));
      };
      part_of(whole.X, run.X);
      part_of(whole.weights, run.weights);
      // The gradient is of the mean over the replica's samples, where that of the whole is of the batch's.
      for (T& weight : run.weights) weight *= static_cast<T>(whole.N) / static_cast<T>(run.N);
      run.replicas = &replicas;
      shared.results[rank] = run.run(true);
      shared.calls[rank] = replicas.calls();
    });
    return shared;
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(ReplicatedLayers);

template <class T>
struct Case {
  const char* name;
  typename LayerRun<T>::Make make;
};

template <class T>
LayerPointer<T> sequence(std::vector<LayerPointer<T>> layers) {
  return std::make_shared<Sequential<T>>(std::move(layers));
}
template <class T>
LayerPointer<T> linear(ParameterList& list, const std::string& name, std::int64_t in, std::int64_t out,
                       Activation activation = Activation::none) {
  return std::make_shared<Linear<T>>(list, name, in, out, activation);
}
template <class T>
LayerPointer<T> normalised_branch(ParameterList& list, const std::string& name, bool relu) {
  return sequence<T>({std::make_shared<BatchNorm<T>>(list, name + ".1", Shape{4}, relu),
                      linear<T>(list, name + ".2", 4, 6, Activation::tanh),
                      std::make_shared<Dropout<T>>(Shape{6}, 0.3, 1), linear<T>(list, name + ".3", 6, 4)});
}
template <class T>
LayerPointer<T> momentum_stage(ParameterList& list, Arithmetic arithmetic, Activations activations) {
  MomentumSpec spec;
  spec.arithmetic = arithmetic;
  spec.activations = activations;
  spec.learned = true;
  spec.gammas = {0.9, 0.75, 0.8};
  const LayerPointer<T> twice = normalised_branch<T>(list, "a", true);
  return std::make_shared<MomentumNet<T>>(
      list, "momentum", std::vector<LayerPointer<T>>{twice, linear<T>(list, "b", 4, 4, Activation::tanh), twice}, spec,
      1, normalised_branch<T>(list, "initial", false));
}

template <class T>
std::vector<Case<T>> cases() {
  using List = ParameterList;
  using std::make_shared;
  const Shape image{3, 5, 4};
  std::vector<Case<T>> all{
      {"BatchNorm", [=](List& list) { return make_shared<BatchNorm<T>>(list, "n", Shape{4}); }},
      {"BatchNorm relu", [=](List& list) { return make_shared<BatchNorm<T>>(list, "n", image, true); }},
      {"Sequential", [=](List& list) { return normalised_branch<T>(list, "s", true); }},
      {"ResidualStage",
       [=](List& list) {
         return make_shared<ResidualStage<T>>(std::vector<LayerPointer<T>>{linear<T>(list, "a", 4, 4, Activation::tanh),
                                                                           normalised_branch<T>(list, "b", false)});
       }},
      {"a normalised shortcut",
       [=](List& list) {
         return make_shared<ResidualBlock<T>>(linear<T>(list, "a", 4, 4),
                                              make_shared<BatchNorm<T>>(list, "b", Shape{4}));
       }},
      {"BasicBlock with a shortcut", [=](List& list) { return make_basic_block<T>(list, "b", image, 4, 2); }},
      {"Bottleneck",
       [=](List& list) {
         return make_bottleneck<T>(list, "b", {4, 3, 3}, 1, 1);
       }},
      {"momentum of blocks",
       [=](List& list) {
         MomentumSpec spec;
         spec.whole = true;
         return make_shared<MomentumNet<T>>(
             list, "momentum",
             std::vector<LayerPointer<T>>{make_basic_block<T>(list, "a", {2, 4, 3}, 2, 1),
                                          make_basic_block<T>(list, "b", {2, 4, 3}, 2, 1)},
             spec, 1);
       }},
      {"a normalised initial velocity",
       [=](List& list) {
         return make_shared<MomentumNet<T>>(list, "momentum",
                                            std::vector<LayerPointer<T>>{linear<T>(list, "a", 4, 4, Activation::tanh)},
                                            MomentumSpec{}, 1, make_shared<BatchNorm<T>>(list, "n", Shape{4}));
       }},
  };
  for (const Arithmetic arithmetic : {Arithmetic::exact, Arithmetic::approximate})
    for (const Activations activations : {Activations::recomputed, Activations::stored})
      all.push_back({"momentum", [=](List& list) { return momentum_stage<T>(list, arithmetic, activations); }});
  return all;
}

/// Sums of some hundred terms in another order, some ten layers deep: 1e-12 of the largest element.
void expect_near(const char* what, const std::vector<double>& found, const std::vector<double>& wanted) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  double largest = 1;
  for (const double value : wanted) largest = std::max(largest, std::fabs(value));
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], wanted[i], 1e-12 * largest) << what << ", element " << i;
}

TEST_P(ReplicatedLayers, FindWhatOneProcessFindsOfTheWholeBatch) {
  for (const auto& its : cases<double>()) {
    for (const Counts& counts : {Counts{5, 3}, Counts{4, 1, 3}}) {
      SCOPED_TRACE(concat(its.name, " on ", counts.size()));
      const LayerRun<double> whole(context(), 8, true, its.make);
      const auto wanted = whole.run(true);
      const auto shared = run_shared<double>(whole, its.make, counts);
      std::vector<double> Y, dX, gradient(wanted.gradient.size());
      for (std::size_t r = 0; r < counts.size(); ++r) {
        const auto& part = shared.results[r];
        const double weight = static_cast<double>(counts[r]) / 8;
        Y.insert(Y.end(), part.Y.begin(), part.Y.end());
        for (const double value : part.dX) dX.push_back(weight * value);
        for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += weight * part.gradient[i];
        EXPECT_TRUE(same_vectors(part.statistics, shared.results[0].statistics)) << "replica " << r;
        EXPECT_EQ(shared.calls[r], shared.calls[0]);
      }
      expect_near("Y", Y, wanted.Y);
      expect_near("dX", dX, wanted.dX);
      expect_near("gradient", gradient, wanted.gradient);
      expect_near("statistics", shared.results[0].statistics, wanted.statistics);
      EXPECT_TRUE(whole.layer->asks_replicas());
      EXPECT_GE(shared.calls[0], 3);  // two forward, one back for each norm
      const auto again = run_shared<double>(whole, its.make, counts);
      for (std::size_t r = 0; r < counts.size(); ++r)
        testing::expect_same_results<double>(again.results[r], shared.results[r]);
    }
  }
}

/// Passes of evaluation need nobody, and neither do layers that look at samples one by one.
TEST_P(ReplicatedLayers, AskOnlyWhereTheyHaveTo) {
  const LayerRun<double>::Make no_norm = [](ParameterList& list) {
    return std::make_shared<ResidualStage<double>>(std::vector<LayerPointer<double>>{
        sequence<double>({std::make_shared<LayerNorm<double>>(list, "a", 4), linear<double>(list, "b", 4, 4)})});
  };
  const LayerRun<double>::Make norm = cases<double>()[0].make;
  for (const bool training : {true, false}) {
    for (const auto& make : {no_norm, norm}) {
      const LayerRun<double> whole(context(), 5, training, make);
      const auto shared = run_shared<double>(whole, make, {3, 2});
      const bool asks = whole.layer->asks_replicas() && training;
      EXPECT_EQ(shared.calls, asks ? Counts({3, 3}) : Counts({0, 0}));
    }
  }
  EXPECT_FALSE(LayerRun<double>(context(), 5, true, no_norm).layer->asks_replicas());
}

/// Statistics are found again on the way back, to the same bits: gradients are those of stored activations.
TEST_P(ReplicatedLayers, ExactMomentumHasTheBitsOfStoredActivations) {
  const auto of = [&](Activations activations) {
    const LayerRun<float>::Make make = [=](ParameterList& list) {
      return momentum_stage<float>(list, Arithmetic::exact, activations);
    };
    return run_shared<float>(LayerRun<float>(context(), 9, true, make), make, {2, 7});
  };
  const auto recomputed = of(Activations::recomputed), stored = of(Activations::stored);
  for (std::size_t r = 0; r < 2; ++r) testing::expect_same_results<float>(recomputed.results[r], stored.results[r]);
  EXPECT_FALSE(same_vectors(stored.results[0].Y, stored.results[1].Y));
}

/// The first replica's first elements are taken off all the others'. Means near 2^17 are rounded to 2^-35; of plain sums of
/// squares, near 2^34 each, 2^-18 of the variance would be left.
TEST_P(ReplicatedLayers, ALargeMeanCostsNoDigits) {
  const auto make = cases<double>()[0].make;
  LayerRun<double> whole(context(), 8, true, make);
  for (double& x : whole.X) x += 0x1p17;
  const auto wanted = whole.run(true);
  const auto shared = run_shared<double>(whole, make, {3, 5});
  for (std::size_t r = 0, i = 0; r < 2; ++r)
    for (const double y : shared.results[r].Y) EXPECT_NEAR(y, wanted.Y[i++], 0x1p-30);
}

/// A NaN is in its channel, on all replicas, wherever it came from: the first one's first element too.
TEST_P(ReplicatedLayers, KeepNaNInItsChannel) {
  const auto make = cases<double>()[0].make;  // of 4 channels
  LayerRun<double> whole(context(), 4, true, make);
  whole.X[0] = whole.X[4 * 3 + 2] = std::nan("");
  const auto shared = run_shared<double>(whole, make, {1, 3});
  for (const auto& result : shared.results)
    for (std::size_t i = 0; i < result.Y.size(); ++i) EXPECT_EQ(std::isnan(result.Y[i]), i % 4 == 0 || i % 4 == 2) << i;
}

TEST_P(ReplicatedLayers, NameWhatIsWrong) {
  const auto make = cases<double>()[0].make;
  const auto run = [&](bool may_be_cancelled) {
    run_replicas(2, [&](ThreadReplicas& replicas) {
      const Context context = another_context();
      LayerRun<double> its(context, 1, true, make);
      its.replicas = &replicas;
      LayerRun<double>::Passing passing(its);
      const CancelToken token;
      if (may_be_cancelled) passing.pass.cancel = &token;
      const Tensor<double> x = LayerRun<double>::filled(context, 4, 1, 1), y(context, 4, 1);
      const Tensor<std::byte> scratch(context, its.layer->scratch(context, 1, false));
      its.layer->forward(passing.pass, x.matrix(), y.matrix(), {}, scratch.vector());
    });
  };
  EXPECT_NO_THROW(run(false));
  EXPECT_THROW(run(true), ValueError);  // where some are cancelled others wait for ever
  const LayerRun<double> one(context(), 1, true, make);
  EXPECT_THROW(run_shared<double>(one, make, {1}), ShapeError);  // no variance of one value
}

}  // namespace
}  // namespace shrinkwarp
