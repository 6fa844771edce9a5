#include <shrinkwarp/models/lista/full_batch_training.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include <shrinkwarp/models/lista/full_batch.hpp>
#include <shrinkwarp/models/train/lbfgs.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kStageIterations = 40;                 // of a depth before the last
constexpr std::int64_t kDefaultIterations = 300;              // of the last
constexpr std::int64_t kPerLook = 10;                         // iterations between two looks at progress and validation
constexpr std::int64_t kMostScratch = std::int64_t{1} << 28;  // bytes of a pass
constexpr std::int64_t kStageSamples = 2048;  // that depths before the last see: they make a start for the next
// A depth ends where ten iterations bring less than this share of what it has gained, or of the cost what sums can tell.
constexpr double kLeastProgress = 1e-3;
constexpr double kRounding = 1e-14;
// Thresholds of a network to start from may be 0 or less, which count as 0 and have no logarithm.
constexpr double kLeastParameter = 1e-30;

/// The mean cost as a function of what the layers up to the network's depth learn.
template <class T>
class Cost {
 public:
  explicit Cost(const TrainingRun<T>& run)
      : run_(run),
        all_(run.context, run.samples, run.options.lambda, run.samples.size(), kMostScratch, run.options.replicas),
        few_(run.context, run.samples, run.options.lambda, kStageSamples, kMostScratch, run.options.replicas),
        logarithms_(has_scalar_layers(run.network.spec().kind)) {}

  std::vector<double> point() const {
    const std::vector<T> parameters = run_.network.to_host(run_.context);
    std::vector<double> result;
    each([&](std::size_t i) {
      const auto value = static_cast<double>(parameters[i]);
      result.push_back(logarithms_ ? std::log(std::max(value, kLeastParameter)) : value);
    });
    return result;
  }
  void set(const std::vector<double>& point) const {
    std::vector<T> parameters = run_.network.to_host(run_.context);
    std::size_t k = 0;
    each([&](std::size_t i) {
      parameters[i] = static_cast<T>(logarithms_ ? std::exp(point[k]) : point[k]);
      ++k;
    });
    run_.network.to_device(run_.context, parameters);
  }
  /// What `body` evaluates may be cancelled on the way.
  template <class Body>
  auto cancellable(Body body) const {
    heeds_cancel_ = true;
    struct Reset {
      bool& flag;
      ~Reset() { flag = false; }
    } reset{heeds_cancel_};
    return body();
  }
  double operator()(const std::vector<double>& point, std::vector<double>& gradient) const {
    set(point);
    std::vector<double> all;
    const bool last = run_.network.depth() == run_.layers();
    const double cost = (last ? all_ : few_).cost(run_.network, &all, heeds_cancel_ ? run_.cancel : nullptr);
    std::size_t k = 0;
    each([&](std::size_t i) {
      gradient[k] = logarithms_ ? all[i] * std::exp(point[k]) : all[i];
      ++k;
    });
    return cost;
  }

 private:
  template <class Visit>
  void each(Visit visit) const {
    for (const auto& [begin, end] : run_.network.learning())
      for (std::int64_t i = begin; i < end; ++i) visit(static_cast<std::size_t>(i));
  }

  const TrainingRun<T>& run_;
  FullBatch<T> all_, few_;
  bool logarithms_;
  mutable bool heeds_cancel_ = false;
};

/// A new layer's step and threshold: the best of some multiples of what they are, the layers before it staying as they are.
/// Good steps are far longer than 1/L, and from there L-BFGS finds other minima than from 1/L.
template <class T>
void choose_new_layer(const TrainingRun<T>& run, const Cost<T>& cost) {
  const auto learning = run.network.learning();
  const std::vector<T> start = run.network.to_host(run.context);
  double least = std::numeric_limits<double>::infinity();
  std::vector<T> best = start;
  for (const double factor : {1.0, 2.0, 4.0, 8.0}) {
    std::vector<T> tried = start;
    for (const auto& range : learning) {
      T& newest = tried[static_cast<std::size_t>(range.second - 1)];
      newest = static_cast<T>(newest * factor);
    }
    run.network.to_device(run.context, tried);
    std::vector<double> point = cost.point(), gradient(point.size());
    const double value = cost(point, gradient);
    if (value < least) least = value, best = tried;
  }
  run.network.to_device(run.context, best);
}

std::vector<double> joined(const std::vector<std::vector<double>>& parts) {
  std::vector<double> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<std::vector<double>> parted(const std::vector<double>& all, std::size_t size) {
  std::vector<std::vector<double>> parts;
  for (std::size_t first = 0; size > 0 && first + size <= all.size(); first += size)
    parts.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(first),
                       all.begin() + static_cast<std::ptrdiff_t>(first + size));
  return parts;
}

std::int64_t ssize(const std::vector<double>& values) {
  return static_cast<std::int64_t>(values.size());
}

/// Either minimiser, and how its state is stored.
class Minimiser {
 public:
  Minimiser(bool lbfgs, const ValueAndGradient& function, std::vector<double> start) {
    if (lbfgs)
      lbfgs_.emplace(function, std::move(start));
    else
      descent_.emplace(function, std::move(start));
  }
  Minimiser(bool lbfgs, const Safetensors& file, std::int64_t size) {
    Iterate at;
    at.point = file.values<double>("minimiser.point", {size});
    at.gradient = file.values<double>("minimiser.gradient", {size});
    const std::vector<double> numbers = file.values<double>("minimiser.numbers", {2});
    const std::vector<std::int64_t> counts = file.values<std::int64_t>("minimiser.counts", {3});
    at.value = numbers[0];
    at.iterations = counts[0];
    at.evaluations = counts[1];
    if (!lbfgs) {
      descent_.emplace(LineSearchDescent::State{std::move(at), numbers[1]});
      return;
    }
    const auto memory = [&](const char* name) {
      return parted(file.values<double>(name, {counts[2] * size}), static_cast<std::size_t>(size));
    };
    lbfgs_.emplace(Lbfgs::State{std::move(at), memory("minimiser.moves"), memory("minimiser.changes")});
  }
  void save(Safetensors& file) const {
    const Iterate& at = this->at();
    file.add("minimiser.point", {ssize(at.point)}, at.point);
    file.add("minimiser.gradient", {ssize(at.gradient)}, at.gradient);
    file.add("minimiser.numbers", {2}, std::vector<double>{at.value, lbfgs_ ? 0 : descent_->state().step});
    std::int64_t pairs = 0;
    if (lbfgs_) {
      pairs = static_cast<std::int64_t>(lbfgs_->state().moves.size());
      const std::vector<double> moves = joined(lbfgs_->state().moves), changes = joined(lbfgs_->state().changes);
      file.add("minimiser.moves", {ssize(moves)}, moves);
      file.add("minimiser.changes", {ssize(changes)}, changes);
    }
    file.add("minimiser.counts", {3}, std::vector<std::int64_t>{at.iterations, at.evaluations, pairs});
  }
  const Iterate& at() const { return lbfgs_ ? lbfgs_->at() : descent_->at(); }
  double step() const { return lbfgs_ ? 1 : descent_->state().step; }
  bool advance(const ValueAndGradient& function) {
    return lbfgs_ ? lbfgs_->advance(function) : descent_->advance(function);
  }

 private:
  std::optional<Lbfgs> lbfgs_;
  std::optional<LineSearchDescent> descent_;
};

}  // namespace

template <class T>
void train_on_all(const TrainingRun<T>& run) {
  Network<T>& network = run.network;
  const bool lbfgs = run.options.optimizer != Optimizer::line_search;
  const std::int64_t most = run.options.epochs > 0 ? run.options.epochs : kDefaultIterations;
  const Cost<T> cost(run);
  const ValueAndGradient function = [&cost](const std::vector<double>& point, std::vector<double>& gradient) {
    return cost(point, gradient);
  };
  std::int64_t depth = run.first_depth();
  double start = 0, mark = 0;  // value at the beginning of this depth, and at the last look
  std::unique_ptr<Minimiser> minimiser;
  const auto save = [&] {
    if (!run.store.save) return;
    cost.set(minimiser->at().point);
    Safetensors file;
    const std::vector<T> parameters = network.to_host(run.context);
    file.add("parameters", {static_cast<std::int64_t>(parameters.size())}, parameters);
    file.add("depth", {1}, std::vector<std::int64_t>{depth});
    file.add("marks", {2}, std::vector<double>{start, mark});
    minimiser->save(file);
    run.best.save(file);
    run.store.save(file);
  };
  if (run.store.resume) {
    const Safetensors& file = *run.store.resume;
    depth = file.values<std::int64_t>("depth", {1})[0];
    network.set_depth(depth);
    network.to_device(run.context, file.values<T>("parameters", {network.parameters().size}));
    minimiser = std::make_unique<Minimiser>(lbfgs, file, ssize(cost.point()));
    const std::vector<double> marks = file.values<double>("marks", {2});
    start = marks[0], mark = marks[1];
    run.best.load(file);
  }
  SaveNowAndThen now_and_then(run.store.interval);
  for (;; ++depth) {
    network.set_depth(depth);
    const bool last = depth == run.layers();
    if (!minimiser) {
      const auto begin = [&] {
        if (has_scalar_layers(network.spec().kind) && run.is_layerwise()) choose_new_layer(run, cost);
        minimiser = std::make_unique<Minimiser>(lbfgs, function, cost.point());
      };
      // Between two depths there is no state to store, and what came before would be lost.
      if (depth == run.first_depth())
        cost.cancellable(begin);
      else
        begin();
      start = mark = minimiser->at().value;
      SHRINKWARP_REQUIRE(std::isfinite(mark), DivergedError, "training of ", layers_text(depth), ": found the loss ",
                         mark, " before the first step, wanted a finite one");
    }
    const std::int64_t iterations = last ? most : std::min(most, kStageIterations);
    bool moves = true;
    while (moves && minimiser->at().iterations < iterations) {
      if (run.is_cancelled()) {
        save();
        SHRINKWARP_THROW(Cancelled, "training: cancelled at layer ", depth, ", iteration ", minimiser->at().iterations);
      }
      try {
        moves = cost.cancellable([&] { return minimiser->advance(function); });
      } catch (const Cancelled&) {  // heard between chunks of the samples: the iteration begins anew
        save();
        throw;
      }
      if (moves && minimiser->at().iterations % kPerLook != 0 && minimiser->at().iterations < iterations) {
        now_and_then(save);
        continue;
      }
      const double value = minimiser->at().value;
      const bool ends = !moves || mark - value <= std::max(kLeastProgress * (start - value), kRounding * value);
      mark = value;
      double validation = std::numeric_limits<double>::quiet_NaN();
      if (last) {
        cost.set(minimiser->at().point);
        validation = run.best.look_at(network);
      }
      if (run.event)
        run.event({depth, minimiser->at().iterations, value, validation, run.best.validation(), minimiser->step()});
      if (ends || run.best.is_stale()) break;
      now_and_then(save);
    }
    if (last) break;
    cost.set(minimiser->at().point);
    run.consider_as_it_is();
    minimiser.reset();
  }
}

template void train_on_all<float>(const TrainingRun<float>&);
template void train_on_all<double>(const TrainingRun<double>&);

}  // namespace shrinkwarp
