// Data-parallel training: for any number of replicas the training of one process, but for the rounding of sums, and the same
// bits each time.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lista/full_batch.hpp>
#include <shrinkwarp/models/lista/mean_cost.hpp>
#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/models/resnet/classification.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/layer_run.hpp"
#include "tests/support/network_problems.hpp"
#include "tests/support/thread_replicas.hpp"

namespace shrinkwarp {
namespace {

using testing::NetworkProblems;
using testing::run_replicas;

/// Where a replica trains: on the CPU with threads of its own, or with the others on the one device.
Context context_like(const Context& context) {
  return context.is_cuda() ? Context::cuda(context.device().index) : Context::cpu(context.threads());
}

/// What a training has come to.
struct Trained {
  std::vector<double> losses;      // of its events: what they say of training and validation
  std::vector<double> last;        // the last event's
  std::vector<double> parameters;  // and statistics

  void add(const std::vector<double>& event) {
    losses.insert(losses.end(), event.begin(), event.end());
    last = event;
  }
  /// Largest difference, relative to the largest magnitude.
  static double apart(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double most = 0, largest = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (std::isnan(a[i]) && std::isnan(b[i])) continue;
      if (std::isnan(a[i]) || std::isnan(b[i])) return std::numeric_limits<double>::infinity();
      most = std::max(most, std::fabs(a[i] - b[i]));
      largest = std::max(largest, std::fabs(a[i]));
    }
    return most / largest;
  }
};

/// One training by any number of replicas; 0 stands for a process alone.
using Training = std::function<Trained(const Context&, Replicas*, const TrainingStore&, const CancelToken*)>;

Trained train_by(const Context& like, int replicas, const Training& training, const TrainingStore& store = {},
                 const CancelToken* cancel = nullptr) {
  if (replicas == 0) return training(context_like(like), nullptr, store, cancel);
  std::vector<Trained> all(static_cast<std::size_t>(replicas));
  run_replicas(replicas, [&](Replicas& its) {
    TrainingStore own = store;
    if (store.save && !its.first()) own.save = [](const Safetensors&) {};
    all[static_cast<std::size_t>(its.rank())] = training(context_like(like), &its, own, cancel);
  });
  for (const Trained& its : all) {
    EXPECT_TRUE(testing::same_vectors(its.parameters, all[0].parameters));
    EXPECT_TRUE(testing::same_vectors(its.losses, all[0].losses));
  }
  return all[0];
}

std::vector<std::int64_t> rows_to(std::int64_t count) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  return all;
}

/// @param count  samples to train on
template <class T>
Training network_training(NetworkKind kind, TrainingOptions options, std::int64_t count = 61) {
  return [kind, options, count](const Context& context, Replicas* replicas, const TrainingStore& store,
                                const CancelToken* cancel) {
    const NetworkProblems problems(6, 11, count, 1), judging(6, 11, 20, 2);
    const Dictionary dictionary(context, problems.dictionary());
    MemorySource source(problems.observations()), judges(judging.observations());
    const Samples<T> samples(context, dictionary, source, rows_to(count), 1 << 20);
    const Samples<T> validation(context, dictionary, judges, rows_to(20), 1 << 20);
    NetworkSpec spec;
    spec.kind = kind;
    spec.layers = 3;
    const std::unique_ptr<Network<T>> network = make_network<T>(context, dictionary, spec);
    TrainingOptions its = options;
    its.replicas = replicas;
    Trained result;
    train<T>(
        context, dictionary, *network, samples, validation, its, store,
        [&](const TrainingEvent& event) {
          result.add({event.loss, event.validation});
        },
        cancel);
    const std::vector<T> parameters = network->to_host(context);
    result.parameters.assign(parameters.begin(), parameters.end());
    return result;
  };
}

TrainingOptions on_batches(Optimizer optimizer, std::int64_t epochs) {
  TrainingOptions options;
  options.optimizer = optimizer;
  options.epochs = epochs;
  options.batch = 17;  // replicas see 9 and 8 of them, or 6, 6 and 5
  options.lambda = {0.1, 0.5, 4};
  return options;
}

LabelledSamples labelled(std::int64_t count, unsigned seed) {
  LabelledSamples samples;
  samples.shape = {5};
  samples.values = testing::normals_of<float>(5 * count, seed);
  for (std::int64_t i = 0; i < count; ++i) samples.labels.push_back(static_cast<std::int32_t>(i % 3));
  return samples;
}

NetSpec momentum_spec(Normalisation normalisation) {
  NetSpec spec;
  spec.input = {5};
  spec.classes = 3;
  spec.blocks = 4;
  spec.width = 6;
  spec.hidden = 7;
  spec.normalisation = normalisation;
  spec.dropout = 0.25;
  spec.momentum = MomentumSpec();
  return spec;
}

ClassificationOptions classification(std::int64_t epochs) {
  ClassificationOptions options;
  options.epochs = epochs;
  options.batch = 11;
  options.label_smoothing = 0.1;
  return options;
}

template <class T>
Training classifier_training(NetSpec spec, ClassificationOptions options) {
  return [spec, options](const Context& context, Replicas* replicas, const TrainingStore& store,
                         const CancelToken* cancel) {
    Net<T> net(context, spec, 1);
    ClassificationOptions its = options;
    its.replicas = replicas;
    Trained result;
    train_classifier<T>(
        context, net, labelled(57, 1), labelled(10, 2), its, store,
        [&](const ClassificationEvent& event) {
          result.add({event.training.loss, event.training.accuracy, event.validation.loss, event.validation.accuracy});
        },
        cancel);
    for (const VectorView<T> values : {net.values().parameters(), net.values().statistics()}) {
      const std::vector<T> host = on_host(context, values);
      result.parameters.insert(result.parameters.end(), host.begin(), host.end());
    }
    return result;
  };
}

class Replicated : public testing::OnContext {
 protected:
  /// The host executor takes a hundred times as long.
  std::int64_t passes(std::int64_t count) const { return context().is_cuda() ? 2 : count; }
  /// Replicas come to what one process comes to, as near as `rounding`, and to the same bits again.
  void check(const Training& training, double rounding) const {
    const Trained alone = train_by(context(), 0, training);
    EXPECT_FALSE(alone.losses.empty());
    for (const int replicas : {1, 2, 3}) {
      SCOPED_TRACE(replicas);
      const Trained shared = train_by(context(), replicas, training);
      EXPECT_LE(Trained::apart(alone.losses, shared.losses), rounding);
      EXPECT_LE(Trained::apart(alone.parameters, shared.parameters), rounding);
      const Trained again = train_by(context(), replicas, training);
      EXPECT_TRUE(testing::same_vectors(shared.parameters, again.parameters));
      EXPECT_TRUE(testing::same_vectors(shared.losses, again.losses));
    }
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(Replicated);

TEST_P(Replicated, NetworksOnBatchesFollowOneProcess) {
  // 51 steps of three batches a pass.
  check(network_training<double>(NetworkKind::step, on_batches(Optimizer::adam, passes(17))), 1e-12);
  check(network_training<double>(NetworkKind::lista, on_batches(Optimizer::sgd, passes(17))), 1e-12);
  check(network_training<float>(NetworkKind::coupled, on_batches(Optimizer::sgd, passes(17))), 1e-5);
}

TEST_P(Replicated, NetworksOnAllSamplesFollowOneProcess) {
  // To the same bits: costs are sums over the same parts in the same order.
  check(network_training<double>(NetworkKind::alista, on_batches(Optimizer::line_search, passes(10)), 1200), 0);
  check(network_training<double>(NetworkKind::step, on_batches(Optimizer::lbfgs, passes(10)), 1200), 0);
}

TEST_P(Replicated, ClassifiersFollowOneProcess) {
  for (const Normalisation normalisation : {Normalisation::batch, Normalisation::layer, Normalisation::none}) {
    NetSpec spec = momentum_spec(normalisation);
    spec.momentum->arithmetic = Arithmetic::approximate;
    check(classifier_training<double>(spec, classification(passes(10))), 1e-12);  // 50 steps
  }
  check(classifier_training<float>(momentum_spec(Normalisation::batch), classification(passes(10))), 1e-5);
}

TEST_P(Replicated, CostsOfAllSamplesAreThoseOfOneProcess) {
  constexpr std::int64_t kCount = 2300;  // five parts
  const LambdaShares lambda{0.1, 0.5, 4};
  const NetworkProblems problems(6, 11, kCount, 1);
  struct Found {
    double cost, mean;
    std::vector<double> gradient;
  };
  const auto find = [&](const Context& context, Replicas* replicas, std::int64_t most_told) {
    const Dictionary dictionary(context, problems.dictionary());
    MemorySource source(problems.observations());
    const Samples<float> samples(context, dictionary, source, rows_to(kCount), 1 << 20);
    NetworkSpec spec;
    spec.kind = NetworkKind::lista;
    spec.layers = 2;
    const auto network = make_network<float>(context, dictionary, spec);
    Found found;
    const FullBatch<float> batch(context, samples, lambda, kCount, 1 << 28, replicas, most_told);
    const MeanCost<float> mean(context, dictionary, samples, lambda, kCount, replicas);
    for (int again = 0; again < 2; ++again) {
      found.cost = batch.cost(*network, &found.gradient);
      found.mean = mean(*network);
    }
    return found;
  };
  const Found wanted = find(context().is_cuda() ? context_like(context()) : Context::cpu(1), nullptr, 0);
  const Found here = find(context_like(context()), nullptr, 0);
  EXPECT_EQ(here.mean, wanted.mean);
  EXPECT_EQ(here.cost, wanted.cost);
  EXPECT_TRUE(testing::same_vectors(here.gradient, wanted.gradient));
  for (const int size : {1, 2, 3, 5}) {
    for (const std::int64_t most_told : {std::int64_t{1} << 22, std::int64_t{0}}) {
      run_replicas(size, [&](Replicas& replicas) {
        const Found found = find(context_like(context()), &replicas, most_told);
        EXPECT_EQ(found.mean, wanted.mean);
        if (most_told > 0) {
          EXPECT_EQ(found.cost, wanted.cost);
          EXPECT_TRUE(testing::same_vectors(found.gradient, wanted.gradient));
        } else {
          EXPECT_NEAR(found.cost, wanted.cost, 1e-14 * wanted.cost);
          EXPECT_LE(Trained::apart(found.gradient, wanted.gradient), 1e-14);
        }
      });
    }
  }
}

/// What a state that was stored holds is gone on from by any number of replicas, or one process.
void check_resuming(const Context& context, const Training& training, double rounding) {
  const Trained wanted = train_by(context, 2, training);
  std::vector<Safetensors> states;
  TrainingStore store;
  store.interval = 0;
  store.save = [&](const Safetensors& state) { states.push_back(state); };
  EXPECT_TRUE(testing::same_vectors(train_by(context, 2, training, store).parameters, wanted.parameters));
  ASSERT_GE(states.size(), 6u);
  for (const std::size_t at : {std::size_t{1}, states.size() / 2, states.size() - 1}) {
    SCOPED_TRACE(at);
    TrainingStore resumed;
    resumed.resume = &states[at];
    EXPECT_TRUE(testing::same_vectors(train_by(context, 2, training, resumed).parameters, wanted.parameters));
    for (const int replicas : {0, 3}) {
      const Trained other = train_by(context, replicas, training, resumed);
      EXPECT_LE(Trained::apart(wanted.parameters, other.parameters), rounding) << replicas;
      // The last pass, whose accuracy counts steps of before and after the state.
      if (!other.last.empty()) {
        EXPECT_LE(Trained::apart(wanted.last, other.last), rounding) << replicas;
      }
    }
  }
}

TEST_P(Replicated, GoOnInAnotherNumber) {
  check_resuming(context(), network_training<double>(NetworkKind::step, on_batches(Optimizer::adam, 3)), 1e-12);
  check_resuming(context(), network_training<double>(NetworkKind::step, on_batches(Optimizer::line_search, passes(15))),
                 0);
  NetSpec spec = momentum_spec(Normalisation::batch);
  spec.momentum->arithmetic = Arithmetic::approximate;
  check_resuming(context(), classifier_training<double>(spec, classification(2)), 1e-12);
}

TEST_P(Replicated, StopTogether) {
  // One that is asked to stop stops all of them, wherever it hears of it, with a state to go on from.
  const auto stops = [&](const Training& training) {
    const Trained wanted = train_by(context(), 3, training);
    for (int stopped = 1; stopped <= passes(4); ++stopped) {
      SCOPED_TRACE(stopped);
      CancelToken cancel;
      Safetensors state;
      int saved = 0;
      TrainingStore store;
      store.interval = 0;
      store.save = [&](const Safetensors& its) {
        state = its;
        if (++saved == stopped) cancel.cancel();
      };
      std::mutex mutex;
      int cancelled = 0;
      const Training asked = [&](const Context& on, Replicas* replicas, const TrainingStore& its, const CancelToken*) {
        try {
          return training(on, replicas, its, replicas->first() ? &cancel : nullptr);
        } catch (const Cancelled&) {
          const std::lock_guard<std::mutex> lock(mutex);
          ++cancelled;
          return Trained();
        }
      };
      train_by(context(), 3, asked, store);
      EXPECT_EQ(cancelled, 3);
      TrainingStore resumed;
      resumed.resume = &state;
      EXPECT_TRUE(testing::same_vectors(train_by(context(), 3, training, resumed).parameters, wanted.parameters));
    }
  };
  stops(network_training<double>(NetworkKind::step, on_batches(Optimizer::adam, 2)));
  stops(network_training<double>(NetworkKind::step, on_batches(Optimizer::line_search, 15)));
  stops(classifier_training<float>(momentum_spec(Normalisation::none), classification(2)));
}

TEST_P(Replicated, FailTogether) {
  // A loss that diverges is every replica's, and so is a state out of range that one of them alone has met.
  TrainingOptions fast = on_batches(Optimizer::sgd, 3);
  fast.rate = 1e30;
  EXPECT_THROW(train_by(context(), 2, network_training<float>(NetworkKind::lista, fast)), DivergedError);
  ClassificationOptions options = classification(2);
  options.adam = false;
  options.rate = 1e30;
  EXPECT_THROW(train_by(context(), 3, classifier_training<float>(momentum_spec(Normalisation::none), options)),
               RangeError);
  int told = 0;
  std::mutex mutex;
  run_replicas(3, [&](Replicas& replicas) {
    try {
      do_own_share(&replicas, [&] {
        if (replicas.rank() == 1) SHRINKWARP_THROW(RangeError, "layer 5");
      });
    } catch (const RangeError& error) {
      EXPECT_NE(std::string(error.what()).find("layer 5"), std::string::npos);
      const std::lock_guard<std::mutex> lock(mutex);
      ++told;
    }
  });
  EXPECT_EQ(told, 3);
}

TEST_P(Replicated, RefuseBatchesOfFewerSamples) {
  TrainingOptions options = on_batches(Optimizer::adam, 1);
  options.batch = 2;
  EXPECT_THROW(train_by(context(), 3, network_training<float>(NetworkKind::lista, options)), ValueError);
  EXPECT_NO_THROW(train_by(context(), 2, network_training<float>(NetworkKind::lista, options)));
}

TEST(ReplicaShares, PartAllSamples) {
  for (const std::int64_t count : {0, 1, 2, 7, 60}) {
    for (const int size : {1, 2, 3, 8}) {
      std::vector<SampleShare> shares(static_cast<std::size_t>(size));
      run_replicas(size, [&](Replicas& replicas) {
        shares[static_cast<std::size_t>(replicas.rank())] = share_of(&replicas, count);
      });
      std::int64_t next = 0;
      for (const SampleShare& share : shares) {
        EXPECT_EQ(share.first, next);
        EXPECT_TRUE(share.count == count / size || share.count == count / size + 1);
        next += share.count;
      }
      EXPECT_EQ(next, count);
    }
  }
  EXPECT_EQ(share_of(nullptr, 7).count, 7);
}

}  // namespace
}  // namespace shrinkwarp
