// Training of classifiers: where it may be stopped, and what it says where it cannot go on.
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/resnet/classification.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"

namespace shrinkwarp {
namespace {

constexpr std::int64_t kFeatures = 4, kClasses = 3;

LabelledSamples samples_of(std::int64_t count, unsigned seed) {
  LabelledSamples samples;
  samples.shape = {kFeatures};
  samples.values = testing::normals_of<float>(kFeatures * count, seed);
  for (std::int64_t i = 0; i < count; ++i) samples.labels.push_back(static_cast<std::int32_t>(i % kClasses));
  return samples;
}

Net<float> momentum_net(const Context& context) {
  NetSpec spec;
  spec.input = {kFeatures};
  spec.classes = kClasses;
  spec.blocks = 3;
  spec.width = 5;
  spec.hidden = 4;
  spec.normalisation = Normalisation::batch;
  spec.dropout = 0.25;
  spec.momentum = MomentumSpec();
  return Net<float>(context, spec, 1);
}

class Classification : public testing::OnContext {
 protected:
  static constexpr std::int64_t kSteps = 3, kBatch = 8;

  Classification() {
    options_.epochs = 3;
    options_.batch = kBatch;
  }
  /// @return parameters and statistics of a network that has been trained
  std::vector<float> train(const TrainingStore& store, const CancelToken* cancel) {
    Net<float> net = momentum_net(context());
    events_.clear();
    train_classifier<float>(
        context(), net, training_, validation_, options_, store,
        [&](const ClassificationEvent& event) { events_.push_back(event.epoch); }, cancel);
    std::vector<float> values = on_host(context(), net.values().parameters());
    const std::vector<float> statistics = on_host(context(), net.values().statistics());
    values.insert(values.end(), statistics.begin(), statistics.end());
    return values;
  }

  LabelledSamples training_ = samples_of(kSteps * kBatch + 2, 1), validation_ = samples_of(9, 2);
  ClassificationOptions options_;
  std::vector<std::int64_t> events_;  // passes that were judged
};
SHRINKWARP_ON_EVERY_CONTEXT(Classification);

TEST_P(Classification, IsStoppedInValidationAndGoesOnToTheSameBits) {
  const std::vector<float> wanted = train({}, nullptr);
  EXPECT_EQ(events_, (std::vector<std::int64_t>{1, 2, 3}));
  // Asked to stop while the state before a step is stored: the step follows, and where it is the last one of its pass
  // validation.
  for (int stopped = 1; stopped <= 3 * kSteps; ++stopped) {
    SCOPED_TRACE(stopped);
    Safetensors state;
    CancelToken cancel;
    int saved = 0;
    TrainingStore store;
    store.interval = 0;
    store.save = [&](const Safetensors& its) {
      state = its;
      if (++saved == stopped) cancel.cancel();
    };
    EXPECT_THROW(train(store, &cancel), Cancelled);
    const std::vector<std::int64_t> progress = state.values<std::int64_t>("progress", {3});
    EXPECT_EQ(progress[1] * kSteps + progress[2], stopped);  // steps taken: all are in the state
    EXPECT_EQ(static_cast<std::int64_t>(events_.size()), progress[1]);
    EXPECT_EQ(progress[2], (stopped - 1) % kSteps + 1);
    if (stopped % kSteps == 0) {  // at once again, with nothing new to store
      store.resume = &state;
      store.interval = 1e9;
      EXPECT_THROW(train(store, &cancel), Cancelled);
      EXPECT_EQ(saved, stopped + 1);
    }
    TrainingStore resumed;
    resumed.resume = &state;
    EXPECT_TRUE(testing::same_vectors(train(resumed, nullptr), wanted));
    EXPECT_EQ(static_cast<std::int64_t>(events_.size()), 3 - progress[1]);
  }
}

TEST_P(Classification, NamesTheStepThatLeftTheRange) {
  options_.adam = false;
  options_.rate = 1e30;
  const auto message = [&](double interval) {
    TrainingStore store;
    store.interval = interval;
    store.save = [](const Safetensors&) {};
    try {
      train(store, nullptr);
    } catch (const RangeError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  // Found at the end of the pass, and by the probe before a state is stored.
  for (const double interval : {1e9, 0.0}) {
    const std::string said = message(interval);
    EXPECT_EQ(said.find("training of mlp, epoch 1, step 2 of 3: layer 1: found"), 0u) << said;
    EXPECT_NE(said.find("; a smaller rate"), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace shrinkwarp
