// Minimisers on functions whose minima are known, and training: what it promises of its result whatever it is fed, and that
// it goes on from any state to the same bits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lista/full_batch.hpp>
#include <shrinkwarp/models/lista/mean_cost.hpp>
#include <shrinkwarp/models/lista/training.hpp>
#include <shrinkwarp/models/train/lbfgs.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/network_problems.hpp"

namespace shrinkwarp {
namespace {

using testing::NetworkProblems;

// ------------------------------------------------------------------------------------------------------ minimisers

using Vector = std::vector<double>;

/// sum_i c_i / 2 (x_i - i)^2, c from 1 to 1000.
double quadratic(const Vector& x, Vector& gradient) {
  double value = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double c = std::pow(1000.0, static_cast<double>(i) / static_cast<double>(x.size() - 1));
    const double off = x[i] - static_cast<double>(i);
    value += c / 2 * off * off;
    gradient[i] = c * off;
  }
  return value;
}

double rosenbrock(const Vector& x, Vector& gradient) {
  const double a = 1 - x[0], b = x[1] - x[0] * x[0];
  gradient = {-2 * a - 400 * x[0] * b, 200 * b};
  return a * a + 100 * b * b;
}

/// sum_i |x_i| + x_i^2: a kink at the minimum.
double kinks(const Vector& x, Vector& gradient) {
  double value = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    value += std::fabs(x[i]) + x[i] * x[i];
    gradient[i] = (x[i] > 0 ? 1 : -1) + 2 * x[i];
  }
  return value;
}

/// (x - 2)^2, but nothing beyond 1.
double wall(const Vector& x, Vector& gradient) {
  const double off = x[0] > 1 ? std::nan("") : x[0] - 2;
  gradient = {2 * off};
  return off * off;
}

/// Iterates until the minimiser ends or `most` iterations. Each step falls and states what it has.
template <class Minimiser>
Iterate minimised(const ValueAndGradient& function, const Vector& start, std::int64_t most) {
  std::int64_t evaluations = 0;
  const ValueAndGradient counted = [&](const Vector& point, Vector& gradient) {
    ++evaluations;
    return function(point, gradient);
  };
  Minimiser minimiser(counted, start);
  while (minimiser.at().iterations < most) {
    const Iterate before = minimiser.at();
    const bool moves = minimiser.advance(counted);
    const Iterate& at = minimiser.at();
    Vector gradient(at.point.size());
    EXPECT_EQ(at.value, function(at.point, gradient));
    EXPECT_EQ(at.gradient, gradient);
    EXPECT_EQ(at.evaluations, evaluations);
    EXPECT_LE(at.evaluations, before.evaluations + 80);
    EXPECT_EQ(at.iterations, before.iterations + (moves ? 1 : 0));
    if (moves) {
      EXPECT_LT(at.value, before.value);
    } else {
      EXPECT_EQ(at.point, before.point);
      if constexpr (std::is_same_v<Minimiser, Lbfgs>) {
        EXPECT_TRUE(minimiser.state().moves.empty());
        EXPECT_TRUE(minimiser.state().changes.empty());
      }
      break;
    }
  }
  return minimiser.at();
}

template <class Minimiser>
class Minimisers : public ::testing::Test {};
using BothMinimisers = ::testing::Types<Lbfgs, LineSearchDescent>;
TYPED_TEST_SUITE(Minimisers, BothMinimisers);

TYPED_TEST(Minimisers, ComeToTheMinimum) {
  constexpr bool kLbfgs = std::is_same_v<TypeParam, Lbfgs>;
  const Iterate of_quadratic = minimised<TypeParam>(quadratic, Vector(8, 20.0), kLbfgs ? 100 : 20000);
  // A value is known to eps times the values met on the way, here some 1e-13 at the least: 1/2 c off^2 with c >= 1.
  for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(of_quadratic.point[i], static_cast<double>(i), 1e-5);
  const Iterate of_rosenbrock = minimised<TypeParam>(rosenbrock, {-1.2, 1}, kLbfgs ? 100 : 20000);
  EXPECT_LE(of_rosenbrock.value, 1e-10);
}

TYPED_TEST(Minimisers, BearKinks) {
  const Iterate at = minimised<TypeParam>(kinks, {3, -0.7, 1e-3, 40}, 1000);
  EXPECT_LT(at.value, 0.01 * (3 + 9 + 40 + 1600));
  const Iterate alone = minimised<TypeParam>(kinks, {3}, 1000);
  EXPECT_LT(alone.value, 1e-6);
}

TYPED_TEST(Minimisers, TurnBackAtAWall) {
  const Iterate at = minimised<TypeParam>(wall, {-5}, 1000);
  EXPECT_LE(at.point[0], 1);
  EXPECT_NEAR(at.value, 1, 1e-3);
  // Where nothing is finite there is no step.
  const Iterate nowhere = minimised<TypeParam>(
      [](const Vector& x, Vector& gradient) {
        gradient = {1};
        return x[0] == 5 ? 3.0 : std::numeric_limits<double>::infinity();
      },
      {5}, 10);
  EXPECT_EQ(nowhere.iterations, 0);
  EXPECT_EQ(nowhere.value, 3);
}

TYPED_TEST(Minimisers, GoOnFromAStoredState) {
  for (const auto& [function, start] : std::vector<std::pair<ValueAndGradient, Vector>>{
           {quadratic, Vector(8, 20.0)}, {rosenbrock, {-1.2, 1}}, {kinks, {3, -0.7, 1e-3, 40}}}) {
    TypeParam whole(function, start);
    TypeParam parts(function, start);
    for (int k = 0; k < 40; ++k) {
      TypeParam resumed(parts.state());
      const bool moves = whole.advance(function);
      ASSERT_EQ(resumed.advance(function), moves);
      ASSERT_EQ(resumed.at().point, whole.at().point);
      ASSERT_EQ(resumed.at().gradient, whole.at().gradient);
      ASSERT_EQ(resumed.at().value, whole.at().value);
      ASSERT_EQ(resumed.at().evaluations, whole.at().evaluations);
      ASSERT_EQ(resumed.at().iterations, whole.at().iterations);
      parts = std::move(resumed);
      if (!moves) break;
    }
  }
}

// -------------------------------------------------------------------------------------------------------- training

struct Trial {
  NetworkKind kind = NetworkKind::step;
  TrainingOptions options;
};

Trial trial(NetworkKind kind, Optimizer optimizer, std::optional<bool> layerwise, std::int64_t epochs) {
  Trial result;
  result.kind = kind;
  result.options.optimizer = optimizer;
  result.options.layerwise = layerwise;
  result.options.epochs = epochs;
  result.options.batch = 16;
  result.options.lambda = {0.1, 0.5, 4};
  return result;
}

/// A dictionary and samples, and networks trained on them.
template <class T>
struct Bench {
  static constexpr std::int64_t kLayers = 3;

  const Context& context;
  NetworkProblems training, judging;
  Dictionary dictionary;
  MemorySource training_source, judging_source;
  Samples<T> samples, validation;

  Bench(const Context& context, double of_D = 1, double of_X = 1)
      : context(context),
        training(NetworkProblems(6, 11, 60, 1).scaled(of_D, of_X)),
        judging(NetworkProblems(6, 11, 20, 2).scaled(of_D, of_X)),
        dictionary(context, training.dictionary()),
        training_source(training.observations()),
        judging_source(judging.observations()),
        samples(context, dictionary, training_source, rows(60), 1 << 20),
        validation(context, dictionary, judging_source, rows(20), 1 << 20) {}

  static std::vector<std::int64_t> rows(std::int64_t count) {
    std::vector<std::int64_t> result;
    for (std::int64_t i = 0; i < count; ++i) result.push_back(i);
    return result;
  }

  std::unique_ptr<Network<T>> network(NetworkKind kind) const {
    NetworkSpec spec;
    spec.kind = kind;
    spec.layers = kLayers;
    return make_network<T>(context, dictionary, spec);
  }
  double judged(const Network<T>& network, const LambdaShares& lambda) const {
    return MeanCost<T>(context, dictionary, validation, lambda)(network);
  }
  TrainingResult train(Network<T>& network, const TrainingOptions& options, const TrainingStore& store = {},
                       const std::function<void(const TrainingEvent&)>& event = {},
                       const CancelToken* cancel = nullptr) const {
    return shrinkwarp::train<T>(context, dictionary, network, samples, validation, options, store, event, cancel);
  }
  std::vector<T> trained(const Trial& trial, const TrainingStore& store = {}) const {
    const auto its = network(trial.kind);
    train(*its, trial.options, store);
    return its->to_host(context);
  }
};

std::vector<Trial> trials(bool scalar) {
  if (scalar)
    return {trial(NetworkKind::step, Optimizer::automatic, {}, 25),
            trial(NetworkKind::step, Optimizer::line_search, false, 25),
            trial(NetworkKind::alista, Optimizer::lbfgs, true, 12),
            trial(NetworkKind::alista, Optimizer::adam, true, 3), trial(NetworkKind::step, Optimizer::sgd, false, 3)};
  return {trial(NetworkKind::lista, Optimizer::automatic, {}, 3), trial(NetworkKind::lista, Optimizer::sgd, true, 3),
          trial(NetworkKind::coupled, Optimizer::lbfgs, {}, 11),
          trial(NetworkKind::lista, Optimizer::line_search, true, 7),
          trial(NetworkKind::momentum_lista, Optimizer::adam, false, 3)};
}

class Training : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Training);

template <class T>
void expect_never_worse(const Bench<T>& bench, const Trial& trial) {
  const auto network = bench.network(trial.kind), ista = bench.network(trial.kind);
  ista->become_ista(bench.context, bench.dictionary);
  std::vector<TrainingEvent> events;
  const TrainingResult result =
      bench.train(*network, trial.options, {}, [&](const TrainingEvent& event) { events.push_back(event); });
  EXPECT_EQ(result.ista_validation, bench.judged(*ista, trial.options.lambda)) << name_of(trial.kind);
  EXPECT_EQ(result.validation, bench.judged(*network, trial.options.lambda)) << name_of(trial.kind);
  EXPECT_LE(result.validation, result.ista_validation) << name_of(trial.kind);
  EXPECT_EQ(network->depth(), Bench<T>::kLayers);
  if (result.fell_back) {
    EXPECT_EQ(network->to_host(bench.context), ista->to_host(bench.context));
  }
  // The last event is of the end, and no event has seen better than the result.
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().depth, Bench<T>::kLayers);
  for (const TrainingEvent& event : events) {
    EXPECT_EQ(std::isnan(event.validation), event.depth < Bench<T>::kLayers);
    if (!result.fell_back && event.depth == Bench<T>::kLayers) {
      EXPECT_LE(result.validation, event.validation);
    }
  }
}

/// The cost alone is that beside the gradient, whatever scratch there is for it.
template <class T>
void expect_same_costs(const Bench<T>& bench, NetworkKind kind, double rounding) {
  const LambdaShares lambda{0.1, 0.5, 4};
  const auto network = bench.network(kind);
  const std::int64_t of_one = network->scratch(bench.context, 1, true);
  std::vector<double> gradient, in_parts;
  for (const std::int64_t depth : {Bench<T>::kLayers, std::int64_t{1}}) {
    network->set_depth(depth);
    const double cost = FullBatch<T>(bench.context, bench.samples, lambda).cost(*network, &gradient);
    EXPECT_NEAR(MeanCost<T>(bench.context, bench.dictionary, bench.samples, lambda)(*network), cost, rounding * cost);
    const double parts = FullBatch<T>(bench.context, bench.samples, lambda, 60, 9 * of_one).cost(*network, &in_parts);
    EXPECT_NEAR(parts, cost, rounding * cost) << name_of(kind);
    double largest = 0;
    for (const double value : gradient) largest = std::max(largest, std::fabs(value));
    ASSERT_GT(largest, 0);
    for (std::size_t i = 0; i < gradient.size(); ++i)
      EXPECT_NEAR(in_parts[i], gradient[i], rounding * largest) << name_of(kind) << " " << i;
    const MeanCost<T> few(bench.context, bench.dictionary, bench.samples, lambda, 7);
    EXPECT_NEAR(few(*network), FullBatch<T>(bench.context, bench.samples, lambda, 7).cost(*network, &gradient),
                rounding * cost);
  }
}

TEST_P(Training, KnowsTheCostWithoutAGradient) {
  const Bench<double> in_double(context());
  const Bench<float> in_float(context());
  // Sums of at most a hundred terms, of 60 samples and three layers.
  for (const NetworkKind kind : {NetworkKind::step, NetworkKind::alista})
    expect_same_costs(in_double, kind, 1000 * 0x1p-52);
  for (const NetworkKind kind : {NetworkKind::lista, NetworkKind::coupled, NetworkKind::momentum_lista})
    expect_same_costs(in_float, kind, 1000 * 0x1p-23);
}

TEST_P(Training, IsNeverWorseThanIsta) {
  const Bench<double> in_double(context());
  const Bench<float> in_float(context());
  expect_never_worse(in_double, trial(NetworkKind::step, Optimizer::automatic, {}, 12));
  expect_never_worse(in_float, trial(NetworkKind::lista, Optimizer::automatic, {}, 2));
  if (context().is_cuda()) return;
  for (const Trial& its : trials(true)) expect_never_worse(in_double, its);
  for (const Trial& its : trials(false)) expect_never_worse(in_float, its);
}

TEST(TrainingOnTheHost, LearnsMoreThanIsta) {
  const Context host = Context::cpu(1);
  const Bench<double> in_double(host);
  const Bench<float> in_float(host);
  for (const NetworkKind kind : {NetworkKind::step, NetworkKind::alista}) {
    const auto network = in_double.network(kind);
    const TrainingResult result = in_double.train(*network, trial(kind, Optimizer::automatic, {}, 40).options);
    EXPECT_LT(result.validation, 0.99 * result.ista_validation) << name_of(kind);
    EXPECT_FALSE(result.fell_back);
  }
  for (const NetworkKind kind : {NetworkKind::lista, NetworkKind::coupled, NetworkKind::momentum_lista}) {
    const auto network = in_float.network(kind);
    TrainingOptions options = trial(kind, Optimizer::adam, {}, 40).options;
    start_from_steps<float>(host, in_float.dictionary, *network, in_double.samples, in_double.validation,
                            options.lambda, {}, {}, nullptr);
    const double start = in_float.judged(*network, options.lambda);
    const TrainingResult result = in_float.train(*network, options);
    EXPECT_LT(start, 0.98 * result.ista_validation) << name_of(kind);
    EXPECT_LT(result.validation, start) << name_of(kind);
  }
}

/// Codes that are 0 cost 1/2 ||x||^2 and have no gradient. An ALISTA with one atom far shorter or longer than the others begins
/// with other codes and learns; whether it becomes better than ISTA is another matter, as all atoms share a threshold.
TEST(TrainingOnTheHost, BeginsWithCodesWhateverTheNormsOfAtoms) {
  const Context host = Context::cpu(1);
  for (const double factor : {1e-2, 1e2}) {
    NetworkProblems problems(32, 64, 100, 1);
    for (std::int64_t i = 0; i < problems.n; ++i) problems.D[static_cast<std::size_t>(5 * problems.n + i)] *= factor;
    const Dictionary dictionary(host, problems.dictionary());
    MemorySource source(problems.observations());
    const Samples<double> samples(host, dictionary, source, Bench<double>::rows(100), 1 << 20);
    NetworkSpec spec;
    spec.kind = NetworkKind::alista;
    spec.layers = 3;
    const auto network = make_network<double>(host, dictionary, spec);
    TrainingOptions options;
    options.lambda = {0.05, 0.05, 0};
    options.epochs = 20;
    double best = std::numeric_limits<double>::infinity();
    const auto look = [&](const TrainingEvent& event) { best = event.best_validation; };
    train<double>(host, dictionary, *network, samples, samples, options, {}, look, nullptr);
    EXPECT_LT(best, 0.99 * samples.mean_energy()) << factor;
  }
}

TEST(TrainingOnTheHost, StartsFromThresholdsThatCountAsNothing) {
  const Context host = Context::cpu(1);
  const Bench<double> bench(host);
  const Trial its = trial(NetworkKind::alista, Optimizer::lbfgs, true, 12);
  const auto network = bench.network(its.kind);
  std::vector<double> start = network->to_host(host);
  start[4] = -1, start[5] = 0;  // thresholds of layers 1 and 2 of 3
  network->to_device(host, start);
  const double begun = bench.judged(*network, its.options.lambda);
  ASSERT_TRUE(std::isfinite(begun));
  const TrainingResult result = bench.train(*network, its.options);
  EXPECT_LT(result.validation, begun);
  for (const double value : network->to_host(host)) EXPECT_TRUE(std::isfinite(value));
}

TEST(TrainingOnTheHost, BearsRatesThatAreNone) {
  const Context host = Context::cpu(1);
  const Bench<float> bench(host);
  int diverged = 0, fell_back = 0;
  for (const NetworkKind kind : {NetworkKind::lista, NetworkKind::coupled, NetworkKind::momentum_lista}) {
    for (const Optimizer optimizer : {Optimizer::adam, Optimizer::sgd}) {
      for (const double rate : {0.3, 1e3, 1e30}) {
        Trial its = trial(kind, optimizer, {}, 3);
        its.options.rate = rate;
        const auto network = bench.network(kind);
        try {
          const TrainingResult result = bench.train(*network, its.options);
          EXPECT_LE(result.validation, result.ista_validation);
          EXPECT_EQ(result.validation, bench.judged(*network, its.options.lambda));
          fell_back += result.fell_back ? 1 : 0;
        } catch (const DivergedError& error) {
          const std::string text = error.what();
          EXPECT_NE(text.find("3 layers, epoch "), std::string::npos) << text;
          EXPECT_NE(text.find(", step "), std::string::npos) << text;
          EXPECT_NE(text.find("of 3: found the loss "), std::string::npos) << text;
          ++diverged;
        }
      }
    }
  }
  EXPECT_GE(diverged, 6);
  EXPECT_GE(fell_back, 1);
}

template <class T>
void expect_resumable(const Bench<T>& bench, const Trial& trial) {
  std::vector<Safetensors> states;
  TrainingStore store;
  store.interval = 0;
  store.save = [&](const Safetensors& state) { states.push_back(state); };
  const std::vector<T> whole = bench.trained(trial, store);
  EXPECT_EQ(bench.trained(trial), whole) << name_of(trial.kind);
  ASSERT_GE(states.size(), 9U);
  const std::size_t stride = std::max<std::size_t>(1, states.size() / 12);
  for (std::size_t i = 0; i < states.size(); i += stride) {
    TrainingStore resumed;
    resumed.resume = &states[i];
    EXPECT_EQ(bench.trained(trial, resumed), whole) << name_of(trial.kind) << ", state " << i;
  }
}

TEST(TrainingOnTheHost, GoesOnFromEveryStateToTheSameBits) {
  const Context host = Context::cpu(1);
  const Bench<double> in_double(host);
  const Bench<float> in_float(host);
  for (const Trial& its : trials(true)) expect_resumable(in_double, its);
  for (const Trial& its : trials(false)) expect_resumable(in_float, its);
  // Where it ends early, too.
  Trial early = trial(NetworkKind::lista, Optimizer::sgd, {}, 50);
  early.options.patience = 3;
  early.options.clip = 1e-30;
  expect_resumable(in_float, early);
}

/// One observation of 300 has nearly all of the energy: its batch costs far over a hundred times the mean, untrained as it is.
TEST(TrainingOnTheHost, BearsHeavyTails) {
  const Context host = Context::cpu(1);
  NetworkProblems problems(6, 11, 300, 1);
  for (std::int64_t i = 0; i < problems.n; ++i) problems.X[static_cast<std::size_t>(123 * problems.n + i)] *= 1e4;
  const Dictionary dictionary(host, problems.dictionary());
  MemorySource source(problems.observations());
  const Samples<float> samples(host, dictionary, source, Bench<float>::rows(300), 1 << 20);
  for (const Optimizer optimizer : {Optimizer::adam, Optimizer::sgd}) {
    NetworkSpec spec;
    spec.kind = NetworkKind::coupled;
    spec.layers = 2;
    const auto network = make_network<float>(host, dictionary, spec);
    TrainingOptions options;
    options.optimizer = optimizer;
    options.lambda = {0.8, 0.8, 0};
    options.batch = 1;
    options.epochs = 1;
    options.rate = 1e-9;
    TrainingStore store;  // what is stored is looked at by the same measure
    store.interval = 0;
    store.save = [](const Safetensors&) {};
    EXPECT_NO_THROW(train<float>(host, dictionary, *network, samples, samples, options, store, {}, nullptr));
  }
}

TEST(TrainingOnTheHost, NamesTheStepThatIsNoLongerPositive) {
  const Context host = Context::cpu(1);
  const Bench<double> bench(host);
  Trial its = trial(NetworkKind::step, Optimizer::adam, true, 3);
  its.options.rate = 10;
  try {
    bench.trained(its);
    FAIL() << "wanted a training that diverges";
  } catch (const DivergedError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("the step of layer 1 has come to -"), std::string::npos) << text;
  }
}

TEST(TrainingOnTheHost, StoresNoStateThatHasDiverged) {
  const Context host = Context::cpu(1);
  const Bench<float> bench(host);
  for (const auto& [optimizer, rate] :
       {std::pair{Optimizer::adam, 1.0}, {Optimizer::adam, 1e3}, {Optimizer::sgd, 1e3}}) {
    Trial its = trial(NetworkKind::lista, optimizer, {}, 3);
    its.options.rate = rate;
    std::vector<Safetensors> states;
    TrainingStore store;
    store.interval = 0;
    store.save = [&](const Safetensors& state) { states.push_back(state); };
    EXPECT_THROW(bench.trained(its, store), DivergedError) << rate;
    ASSERT_FALSE(states.empty());
    // Where it may go on, with a rate under which parameters hardly move.
    its.options.rate = 1e-12;
    TrainingStore resumed;
    resumed.resume = &states.back();
    EXPECT_NO_THROW(bench.trained(its, resumed)) << rate;
  }
}

TEST(TrainingOnTheHost, GoesOnWithAStartFromEveryStateToTheSameBits) {
  const Context host = Context::cpu(1);
  const Bench<double> in_double(host);
  const Bench<float> in_float(host);
  const LambdaShares lambda{0.2, 0.2, 0};
  const auto started = [&](const TrainingStore& store) {
    const auto network = in_float.network(NetworkKind::coupled);
    start_from_steps<float>(host, in_float.dictionary, *network, in_double.samples, in_double.validation, lambda, store,
                            {}, nullptr);
    return network->to_host(host);
  };
  std::vector<Safetensors> states;
  TrainingStore store;
  store.interval = 0;
  store.save = [&](const Safetensors& state) { states.push_back(state); };
  const std::vector<float> whole = started(store);
  ASSERT_GE(states.size(), 9U);
  for (std::size_t i = 0; i < states.size(); i += states.size() / 5) {
    TrainingStore resumed;
    resumed.resume = &states[i];
    EXPECT_EQ(started(resumed), whole) << "state " << i;
  }
}

template <class T>
void expect_cancellable(const Bench<T>& bench, const Trial& trial) {
  const std::vector<T> whole = bench.trained(trial);
  for (const int after : {0, 1, 2}) {
    CancelToken token;
    Safetensors last;
    int seen = 0, saved = 0;
    TrainingStore store;
    store.save = [&](const Safetensors& state) { last = state, ++saved; };
    if (after == 0) token.cancel();
    EXPECT_THROW(bench.train(
                     *bench.network(trial.kind), trial.options, store,
                     [&](const TrainingEvent&) {
                       if (++seen == after) token.cancel();
                     },
                     &token),
                 Cancelled);
    EXPECT_EQ(seen, after);
    if (after == 0) {  // there is nothing to keep yet
      EXPECT_EQ(saved, 0);
      continue;
    }
    ASSERT_GE(saved, 1);
    TrainingStore resumed;
    resumed.resume = &last;
    EXPECT_EQ(bench.trained(trial, resumed), whole) << name_of(trial.kind) << " " << after;
  }
}

TEST_P(Training, StopsWhenAskedAndKeepsWhatItHas) {
  const Bench<double> in_double(context());
  const Bench<float> in_float(context());
  expect_cancellable(in_double, trial(NetworkKind::step, Optimizer::lbfgs, true, 12));
  expect_cancellable(in_float, trial(NetworkKind::lista, Optimizer::adam, false, 3));
}

TEST(TrainingOnTheHost, EndsWhereNothingGetsBetter) {
  const Context host = Context::cpu(1);
  const Bench<float> bench(host);
  for (const std::int64_t patience : {1, 4}) {
    Trial its = trial(NetworkKind::lista, Optimizer::sgd, {}, 50);
    its.options.patience = patience;
    its.options.clip = 1e-30;  // nothing moves
    std::int64_t events = 0;
    bench.train(*bench.network(its.kind), its.options, {}, [&](const TrainingEvent&) { ++events; });
    EXPECT_EQ(events, patience);
  }
  // However many passes there might have been: rates are made for one of them.
  Trial endless = trial(NetworkKind::lista, Optimizer::sgd, {}, std::int64_t{1} << 45);
  endless.options.patience = 2;
  endless.options.clip = 1e-30;
  std::int64_t passes = 0;
  bench.train(*bench.network(endless.kind), endless.options, {}, [&](const TrainingEvent&) { ++passes; });
  EXPECT_EQ(passes, 2);
  // L-BFGS ends by itself.
  const Bench<double> in_double(host);
  const Trial its = trial(NetworkKind::step, Optimizer::lbfgs, true, 100000);
  std::int64_t last = 0;
  in_double.train(*in_double.network(its.kind), its.options, {},
                  [&](const TrainingEvent& event) { last = event.epoch; });
  EXPECT_LT(last, 2000);
}

TEST(TrainingOnTheHost, DoesNotDependOnUnitsOrThreads) {
  const Context host = Context::cpu(3), one = Context::cpu(1);
  const Bench<double> usual(host), small(host, 0x1p-43, 0x1p17), alone(one);
  const Bench<float> usual_float(host), small_float(host, 0x1p-43, 0x1p17), alone_float(one);
  for (const Trial& its : {trials(true)[0], trials(true)[2]}) {
    const std::vector<double> wanted = usual.trained(its);
    EXPECT_EQ(small.trained(its), wanted) << name_of(its.kind);
    EXPECT_EQ(alone.trained(its), wanted) << name_of(its.kind);
  }
  for (const Trial& its : trials(false)) {
    const std::vector<float> wanted = usual_float.trained(its);
    EXPECT_EQ(small_float.trained(its), wanted) << name_of(its.kind);
    EXPECT_EQ(alone_float.trained(its), wanted) << name_of(its.kind);
  }
}

TEST(TrainingOnTheHost, RefusesOptionsThatAreNone) {
  const Context host = Context::cpu(1);
  const Bench<float> bench(host);
  const auto refuses = [&](const std::function<void(TrainingOptions&)>& change) {
    TrainingOptions options;
    change(options);
    EXPECT_THROW(bench.train(*bench.network(NetworkKind::lista), options), ValueError);
  };
  refuses([](TrainingOptions& options) { options.lambda = {0, 0.1, 0}; });
  refuses([](TrainingOptions& options) { options.lambda = {0.2, 0.1, 0}; });
  refuses([](TrainingOptions& options) { options.lambda.high = std::numeric_limits<double>::infinity(); });
  refuses([](TrainingOptions& options) { options.epochs = -1; });
  refuses([](TrainingOptions& options) { options.batch = 0; });
  refuses([](TrainingOptions& options) { options.patience = -1; });
  refuses([](TrainingOptions& options) { options.rate = std::nan(""); });
  refuses([](TrainingOptions& options) { options.clip = 0; });
}

}  // namespace
}  // namespace shrinkwarp
