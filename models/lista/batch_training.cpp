#include <shrinkwarp/models/lista/batch_training.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <shrinkwarp/models/lista/sample_batches.hpp>
#include <shrinkwarp/models/train/batch_task.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kDefaultEpochs = 100;
constexpr double kDefaultAdamRate = 1e-3;  // of few layers
constexpr double kFewLayers = 5;
constexpr double kDefaultSgdRate = 1e-2;
constexpr double kDiverged = 100;  // times the cost of codes that are 0

/// A network on its mean Lasso cost; a phase trains as many layers as its number says.
template <class T>
class ListaTask : public BatchTask<T> {
 public:
  ListaTask(const TrainingRun<T>& run, const SampleBatches<T>& batches) : run_(run), batches_(batches) {}

  VectorView<T> parameters() const override { return run_.network.parameters(); }
  const BatchSource& source() const override { return batches_; }
  std::int64_t first_phase() const override { return run_.first_depth(); }
  std::int64_t last_phase() const override { return run_.layers(); }
  // Depths before the last share the epochs of the last one.
  std::int64_t epochs(std::int64_t depth) const override {
    const std::int64_t whole = run_.options.epochs > 0 ? run_.options.epochs : kDefaultEpochs;
    return depth == run_.layers() ? whole : std::max<std::int64_t>(1, whole / run_.layers());
  }
  void enter(std::int64_t depth) override { run_.network.set_depth(depth); }
  void leave(std::int64_t) override { run_.consider_as_it_is(); }

  std::int64_t scratch(std::int64_t count) const override { return run_.network.scratch(run_.context, count, true); }
  void queue(VectorView<std::byte> batch, std::int64_t count, bool, VectorView<double> loss, VectorView<T> gradient,
             VectorView<std::byte> scratch) const override {
    run_.network.loss(run_.context, batches_.X(batch, count), batches_.lambda(batch, count), loss, gradient, scratch);
  }

  // A batch is held against its own energy: observations may differ by any factor, and one of them may be most of all there is.
  double largest_loss(double energy) const override { return kDiverged * energy; }
  std::string largest_loss_text() const override {
    return "a hundred times that of codes that are 0 for the same batch";
  }
  double unit() const override { return run_.samples.unit() * run_.samples.unit(); }
  /// Where a network with scalar layers has a step that is not over 0.
  std::string why_diverged() const override {
    if (!has_scalar_layers(run_.network.spec().kind)) return {};
    const std::vector<T> parameters = run_.network.to_host(run_.context);
    for (std::int64_t t = 0; t < run_.layers(); ++t) {
      const T step = parameters[static_cast<std::size_t>(t)];
      if (!(step > T(0))) {
        return concat(", for the step of layer ", t + 1, " has come to ", step,
                      ", wanted steps > 0 (lbfgs and linesearch keep them so)");
      }
    }
    return {};
  }

  bool finish_epoch(std::int64_t depth, std::int64_t epoch, std::int64_t, double mean, double rate) override {
    const bool last = depth == run_.layers();
    const double validation = last ? run_.best.look_at(run_.network) : std::numeric_limits<double>::quiet_NaN();
    if (run_.event) run_.event({depth, epoch, mean, validation, run_.best.validation(), rate});
    return !(last && run_.best.is_stale());
  }

  void save(Safetensors& file, std::int64_t) const override { run_.best.save(file); }
  void load(const Safetensors& file, std::int64_t) override { run_.best.load(file); }
  std::string place(std::int64_t depth) const override { return concat("layer ", depth, ", "); }
  std::string subject(std::int64_t depth) const override { return layers_text(depth); }

 private:
  const TrainingRun<T>& run_;
  const SampleBatches<T>& batches_;
};

}  // namespace

template <class T>
void train_on_batches(const TrainingRun<T>& run) {
  const TrainingOptions& options = run.options;
  const bool adam = options.optimizer != Optimizer::sgd;
  // Trained steps are long, and what a change of a weight spoils in a layer those after it multiply: at 1e-3 networks of 10
  // layers that begin as step-LISTA diverge, and those of 30 at 3e-4.
  const double few = std::min(1.0, kFewLayers / static_cast<double>(run.layers()));
  BatchOptions its;
  its.adam = adam;
  its.batch = options.batch;
  its.rate = options.rate > 0 ? options.rate : adam ? kDefaultAdamRate * few * few : kDefaultSgdRate;
  its.schedule = options.schedule;
  its.momentum = options.momentum;
  its.weight_decay = options.weight_decay;
  its.clip = options.clip;
  its.seed = options.seed;
  its.replicas = options.replicas;
  const SampleBatches<T> batches(run.samples, options.lambda);
  ListaTask<T> task(run, batches);
  train_on_batches<T>(run.context, task, its, run.store, run.cancel);
}

template void train_on_batches<float>(const TrainingRun<float>&);
template void train_on_batches<double>(const TrainingRun<double>&);

}  // namespace shrinkwarp
