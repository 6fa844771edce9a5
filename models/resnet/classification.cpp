#include <shrinkwarp/models/resnet/classification.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>

#include <shrinkwarp/kernels/cross_entropy/cross_entropy.hpp>
#include <shrinkwarp/kernels/image_augmentation/image_augmentation.hpp>
#include <shrinkwarp/models/train/batch_task.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

namespace shrinkwarp {
namespace {

void check_samples(const char* function, const LabelledSamples& samples, const NetSpec& spec) {
  require_shape(function, samples, spec);
  SHRINKWARP_REQUIRE(
      samples.size() > 0 && static_cast<std::int64_t>(samples.values.size()) == samples.size() * samples.shape.size(),
      ShapeError, function, ": found ", samples.size(), " labels for ", samples.values.size(),
      " values, wanted one label for each ", samples.shape.size(), " values, and at least one");
  for (std::size_t i = 0; i < samples.labels.size(); ++i) {
    SHRINKWARP_REQUIRE(samples.labels[i] >= 0 && samples.labels[i] < spec.classes, ValueError, function, ": label ", i,
                       " is ", samples.labels[i], ", wanted from 0 to ", spec.classes - 1);
  }
}

}  // namespace

void require_shape(const std::string& what, const LabelledSamples& samples, const NetSpec& spec) {
  const bool images = samples.images && spec.input.positions() > 1;
  const bool fits = images ? samples.shape == spec.input : samples.shape.size() == spec.input.size();
  const auto text = [](const Shape& shape, bool of_images) {
    return of_images ? concat("images of ", shape.channels, " x ", shape.height, " x ", shape.width)
                     : concat("vectors of ", shape.size(), " features");
  };
  SHRINKWARP_REQUIRE(fits, ShapeError, what, ": found ", text(samples.shape, samples.images), ", wanted ",
                     text(spec.input, spec.architecture != "mlp" || spec.input.positions() > 1), ", which this ",
                     spec.architecture, " takes");
}

LabelledSamples LabelledSamples::chosen(const std::vector<std::int64_t>& numbers) const {
  LabelledSamples result;
  result.shape = shape;
  result.images = images;
  const std::int64_t features = shape.size();
  result.values.reserve(numbers.size() * static_cast<std::size_t>(features));
  for (const std::int64_t number : numbers) {
    const auto first = values.begin() + number * features;
    result.values.insert(result.values.end(), first, first + features);
    result.labels.push_back(labels[static_cast<std::size_t>(number)]);
  }
  return result;
}

// ---- Classifier ----------------------------------------------------------------------------------------------------

template <class T>
Classifier<T>::Classifier(const Context& context, const Net<T>& net, std::int64_t batch)
    : context_(context),
      net_(net),
      batch_(batch),
      X_(context, net.spec().input.size(), batch),
      logits_(context, net.spec().classes, batch),
      labels_(context, batch),
      loss_(context, 1),
      correct_(context, 1),
      scratch_(context, net.memory(context, batch, false).scratch),
      entropy_scratch_(context, cross_entropy_scratch(context, batch)) {}

template <class T>
MatrixView<const T> Classifier<T>::logits(const LabelledSamples& samples, std::int64_t first, std::int64_t count,
                                          const CancelToken* cancel) {
  const std::int64_t features = net_.spec().input.size();
  const auto begin = samples.values.begin() + first * features;
  const std::vector<T> values(begin, begin + count * features);
  to_device(context_, values, X_.vector().slice(0, count * features));
  const MatrixView<T> logits = logits_.matrix().columns(0, count);
  Pass<T> pass = net_.pass(context_);
  pass.cancel = cancel;
  net_.layers().forward(pass, X_.matrix().columns(0, count), logits, {}, scratch_.vector());
  return logits;
}

template <class T>
std::optional<Classified> Classifier<T>::classify(const LabelledSamples& samples, const CancelToken* cancel,
                                                  const std::function<void(MatrixView<const T>)>& see) {
  const bool judged = !samples.labels.empty();
  if (judged)
    check_samples("classify", samples, net_.spec());
  else
    require_shape("classify", samples, net_.spec());
  double loss = 0;
  std::int64_t correct = 0;
  for (std::int64_t first = 0; first < samples.count(); first += batch_) {
    const std::int64_t count = std::min(batch_, samples.count() - first);
    const MatrixView<const T> its = logits(samples, first, count, cancel);
    if (see) see(its);
    if (!judged) continue;
    const std::vector<std::int32_t> labels(samples.labels.begin() + first, samples.labels.begin() + first + count);
    to_device(context_, labels, labels_.vector().slice(0, count));
    cross_entropy<T>(context_, its, labels_.vector().slice(0, count), 0, 1, loss_.vector(), correct_.vector(), {},
                     entropy_scratch_.vector());
    loss += on_host(context_, loss_.vector())[0] * static_cast<double>(count);
    correct += on_host(context_, correct_.vector())[0];
  }
  net_.require_all_well(context_);
  if (!judged) return std::nullopt;
  const auto size = static_cast<double>(samples.size());
  return Classified{loss / size, static_cast<double>(correct) / size};
}

template <class T>
Classified Classifier<T>::judge(const LabelledSamples& samples, const CancelToken* cancel) {
  check_samples("judge", samples, net_.spec());
  return *classify(samples, cancel, {});
}

template <class T>
std::vector<T> classification_gradient(const Context& context, const Net<T>& net, const LabelledSamples& samples) {
  check_samples("classification_gradient", samples, net.spec());
  const std::int64_t count = samples.size(), classes = net.spec().classes;
  const typename Net<T>::Memory memory = net.memory(context, count, true);
  const Tensor<T> X(context, net.spec().input.size(), count), logits(context, classes, count);
  const Tensor<T> dlogits(context, classes, count), gradient = Tensor<T>::zeros(context, net.list().size());
  const Tensor<std::int32_t> labels(context, count);
  const Tensor<double> loss(context, 1);
  const Tensor<std::int64_t> correct(context, 1);
  const Tensor<std::byte> kept(context, memory.kept), scratch(context, memory.scratch);
  const Tensor<std::byte> entropy(context, cross_entropy_scratch(context, count));
  to_device(context, std::vector<T>(samples.values.begin(), samples.values.end()), X.vector());
  to_device(context, samples.labels, labels.vector());
  Pass<T> pass = net.pass(context);
  pass.gradient = gradient.vector();
  pass.keeps = true;
  net.layers().forward(pass, X.matrix(), logits.matrix(), kept.vector(), scratch.vector());
  cross_entropy<T>(context, logits.matrix(), labels.vector(), 0, 1, loss.vector(), correct.vector(), dlogits.matrix(),
                   entropy.vector());
  net.layers().backward(pass, X.matrix(), logits.matrix(), dlogits.matrix(), T(0), {}, kept.vector(), scratch.vector());
  net.require_all_well(context);
  return on_host(context, gradient.vector());
}

template <class T>
std::vector<InverseCheck> check_inverses(const Context& context, const Net<T>& net, const LabelledSamples& samples) {
  require_shape("check_inverses", samples, net.spec());
  const std::int64_t features = samples.shape.size(), count = samples.count();
  const Pass<T> pass = net.pass(context);
  Tensor<T> X(context, features, count);
  to_device(context, std::vector<T>(samples.values.begin(), samples.values.end()), X.vector());
  std::vector<InverseCheck> checks;
  for (const LayerPointer<T>& layer : net.layers().layers()) {
    const Tensor<std::byte> scratch(context, layer->scratch(context, count, false));
    if (const auto* const stage = dynamic_cast<const MomentumNet<T>*>(layer.get())) {
      Arena counting(context.device());
      const auto number = static_cast<std::int64_t>(checks.size());
      stage->lay_out(counting, count, {});
      Arena arena(context, counting.used());
      const MomentumState<T> state = stage->lay_out(arena, count, pass.status.slice(number, 1));
      stage->begin(pass, X.matrix(), {}, state, scratch.vector());
      const std::vector<T> before = on_host(context, state.x);
      stage->advance(pass, state, count, scratch.vector());
      stage->inverse(pass, state, count, scratch.vector());
      const std::vector<T> after = on_host(context, state.x);
      net.require_all_well(context);
      InverseCheck check{stage->layers(), 0, 0};
      double largest = 0;
      for (std::size_t i = 0; i < before.size(); ++i) {
        check.differ += std::memcmp(&before[i], &after[i], sizeof(T)) == 0 ? 0 : 1;
        const double off = std::fabs(static_cast<double>(before[i]) - static_cast<double>(after[i]));
        if (!(off <= check.worst) && !std::isnan(check.worst)) check.worst = off;  // NaN stays
        largest = std::max(largest, std::fabs(static_cast<double>(before[i])));
      }
      if (largest > 0) check.worst /= largest;
      checks.push_back(check);
    }
    Tensor<T> Y(context, layer->output().size(), count);
    layer->forward(pass, X.matrix(), Y.matrix(), {}, scratch.vector());
    X = std::move(Y);
  }
  return checks;
}

// ---- Training ------------------------------------------------------------------------------------------------------

namespace {

/// Samples as batches that steps read: the number of the step, samples, labels, and which samples they are.
template <class T>
class LabelledBatches : public BatchSource {
 public:
  explicit LabelledBatches(const LabelledSamples& samples) : samples_(samples), features_(samples.shape.size()) {}

  /// Where things lie in a batch.
  struct View {
    VectorView<std::int64_t> step;     // [1]
    MatrixView<T> X;                   // [features, count]
    VectorView<std::int32_t> labels;   // [count]
    VectorView<std::int64_t> numbers;  // [count], another number for a sample in each pass
  };
  View view(VectorView<std::byte> batch, std::int64_t count) const {
    Arena arena(batch);
    return {arena.vector<std::int64_t>(1), arena.matrix<T>(features_, count), arena.vector<std::int32_t>(count),
            arena.vector<std::int64_t>(count)};
  }

  std::int64_t size() const override { return samples_.size(); }
  std::int64_t bytes(std::int64_t count) const override {
    Arena arena(Device{});
    arena.vector<std::int64_t>(1), arena.matrix<T>(features_, count), arena.vector<std::int32_t>(count),
        arena.vector<std::int64_t>(count);
    return arena.used();
  }
  double gather(const Batch& batch, std::byte* target) const override {
    const View its = view({target, bytes(batch.count), {}}, batch.count);
    its.step[0] = static_cast<std::int64_t>(batch.pass) * batch.batches + batch.number;
    for (std::int64_t b = 0; b < batch.count; ++b) {
      const std::int64_t sample = batch.samples[b];
      std::copy_n(samples_.values.begin() + sample * features_, features_, its.X.column(b));
      its.labels[b] = samples_.labels[static_cast<std::size_t>(sample)];
      its.numbers[b] = static_cast<std::int64_t>(batch.pass) * size() + sample;
    }
    return 0;
  }

 private:
  const LabelledSamples& samples_;
  std::int64_t features_;
};

/// The parameters and statistics that were best on the validation samples.
template <class T>
class BestNet {
 public:
  BestNet(const Context& context, const Net<T>& net, std::int64_t patience)
      : context_(context), net_(net), patience_(patience) {}

  void look_at(const Classified& found) {
    // Logits that are NaN find a class too: what has diverged in its last step is never the best.
    const bool beats = found.accuracy > best_.accuracy ||
                       (found.accuracy == best_.accuracy && found.loss < best_.loss) || !std::isfinite(best_.loss);
    const bool better = parameters_.empty() || (std::isfinite(found.loss) && beats);
    if (!better) {
      ++stale_;
      return;
    }
    stale_ = 0;
    best_ = found;
    parameters_ = on_host(context_, net_.values().parameters());
    statistics_ = on_host(context_, net_.values().statistics());
  }
  bool is_stale() const { return patience_ > 0 && stale_ >= patience_; }
  const Classified& best() const { return best_; }
  void restore() const {
    to_device(context_, parameters_, net_.values().parameters());
    to_device(context_, statistics_, net_.values().statistics());
  }

  void save(Safetensors& file) const {
    const auto size = [](const std::vector<T>& values) { return static_cast<std::int64_t>(values.size()); };
    file.add("best.parameters", {size(parameters_)}, parameters_);
    file.add("best.statistics", {size(statistics_)}, statistics_);
    file.add("best.numbers", {3}, std::vector<double>{best_.loss, best_.accuracy, static_cast<double>(stale_)});
  }
  void load(const Safetensors& file) {
    parameters_ = file.values<T>("best.parameters", {net_.values().parameters().size});
    statistics_ = file.values<T>("best.statistics", {net_.values().statistics().size});
    const std::vector<double> numbers = file.values<double>("best.numbers", {3});
    best_ = {numbers[0], numbers[1]};
    stale_ = static_cast<std::int64_t>(numbers[2]);
  }

 private:
  const Context& context_;
  const Net<T>& net_;
  std::int64_t patience_;
  Classified best_;
  std::vector<T> parameters_, statistics_;
  std::int64_t stale_ = 0;
};

/// Judges by samples of which each replica takes its share through the network.
template <class T>
class SharedJudge {
 public:
  /// @param batch  of all replicas: samples that they take at a time
  SharedJudge(const Context& context, const Net<T>& net, const LabelledSamples& samples, std::int64_t batch,
              Replicas* replicas)
      : samples_(samples),
        replicas_(replicas),
        share_(share_of(replicas, samples.size())),
        judge_(context, net, std::min(share_of(replicas, batch).count, std::max<std::int64_t>(share_.count, 1))) {
    if (replicas == nullptr) return;
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(share_.count));
    std::iota(numbers.begin(), numbers.end(), share_.first);
    own_ = samples.chosen(numbers);
  }

  Classified operator()(const CancelToken* cancel) {
    if (replicas_ == nullptr) return judge_.judge(samples_, cancel);
    double sums[] = {0, 0};  // of losses, and how many are classified as they should be
    do_own_share(replicas_, [&] {
      if (share_.count == 0) return;
      const Classified found = judge_.judge(own_, cancel);
      const auto count = static_cast<double>(share_.count);
      sums[0] = found.loss * count;
      sums[1] = std::round(found.accuracy * count);
    });
    replicas_->add(1, sums, 2);
    const auto size = static_cast<double>(samples_.size());
    return {sums[0] / size, sums[1] / size};
  }

 private:
  const LabelledSamples& samples_;
  Replicas* replicas_;
  SampleShare share_;
  Classifier<T> judge_;
  LabelledSamples own_;  // where there are replicas
};

constexpr const char* kBackInRange = "; a smaller rate, a clipped gradient or normalised branches may help";

template <class T>
class ClassificationTask : public BatchTask<T> {
 public:
  ClassificationTask(const Context& context, Net<T>& net, const LabelledSamples& samples,
                     const ClassificationOptions& options, BestNet<T>& best, SharedJudge<T>& judge,
                     const std::function<void(const ClassificationEvent&)>& event, std::int64_t batch,
                     const CancelToken* cancel)
      : context_(context),
        net_(net),
        options_(options),
        best_(best),
        judge_(judge),
        event_(event),
        cancel_(cancel),
        batches_(samples),
        batch_(batch),
        share_(share_of(options.replicas, batch)),
        steps_(samples.size() / batch),
        correct_(context, 1),
        corrects_(context, steps_),
        statuses_(context, steps_ * stages()) {
    clear_status(context, statuses_.vector());
  }

  VectorView<T> parameters() const override { return net_.values().parameters(); }
  const BatchSource& source() const override { return batches_; }
  std::int64_t epochs(std::int64_t) const override { return options_.epochs; }

  std::int64_t scratch(std::int64_t count) const override {
    Arena arena(context_.device());
    lay_out(arena, count);
    return arena.used();
  }
  void queue(VectorView<std::byte> batch, std::int64_t count, bool probes, VectorView<double> loss,
             VectorView<T> gradient, VectorView<std::byte> scratch) const override {
    Arena arena(scratch);
    const Work work = lay_out(arena, count);
    const typename LabelledBatches<T>::View in = batches_.view(batch, count);
    MatrixView<const T> X = in.X;
    if (augments()) {
      augment_images<T>(context_, options_.seed, 0, in.numbers, augmentation(), X, work.augmented);
      X = work.augmented;
    }
    context_.zero_bytes(gradient.data, gradient.size * static_cast<std::int64_t>(sizeof(T)));
    Pass<T> pass = net_.pass(context_);
    pass.gradient = gradient;
    pass.training = true;
    pass.keeps = true;
    pass.repeated = probes;
    pass.seed = options_.seed;
    pass.step = in.step;
    pass.replicas = options_.replicas;
    pass.first_sample = share_.first;
    const Sequential<T>& layers = net_.layers();
    layers.forward(pass, X, work.logits, work.kept, work.scratch);
    cross_entropy<T>(context_, work.logits, in.labels, options_.label_smoothing, 1, loss, correct_.vector(),
                     work.dlogits, work.entropy);
    layers.backward(pass, X, work.logits, work.dlogits, T(0), {}, work.kept, work.scratch);
  }
  bool can_record() const override { return options_.replicas == nullptr || !net_.layers().asks_replicas(); }
  void keep_step(std::int64_t number) override {
    copy<std::int64_t>(context_, correct_.vector(), corrects_.vector().slice(number, 1));
    copy<std::int32_t>(context_, net_.pass(context_).status, statuses_.vector().slice(number * stages(), stages()));
  }

  double largest_loss(double) const override { return std::numeric_limits<double>::max(); }
  std::string largest_loss_text() const override { return "the largest number"; }
  void require_all_well(std::int64_t steps, FunctionRef<std::string(std::int64_t)> place) const override {
    if (stages() == 0) return;
    const std::vector<std::int32_t> statuses = on_host(context_, statuses_.vector().slice(0, steps * stages()));
    const auto first = std::find_if(statuses.begin(), statuses.end(),
                                    [](std::int32_t status) { return status != ExactStatus::kAllWell; });
    try {
      net_.require_all_well(context_, place((first - statuses.begin()) / stages()));
    } catch (const RangeError& error) {
      SHRINKWARP_THROW(RangeError, error.what(), kBackInRange);
    }
  }

  bool finish_epoch(std::int64_t, std::int64_t epoch, std::int64_t steps, double mean, double rate) override {
    std::int64_t correct = 0;
    for (const std::int64_t its : corrects_of_all(steps)) correct += its;
    const Classified found = judge_after(epoch);
    best_.look_at(found);
    const double accuracy = static_cast<double>(correct) / static_cast<double>(steps * batch_);
    if (event_) event_({epoch, {mean, accuracy}, found, best_.best().accuracy, rate});
    return !best_.is_stale();
  }

  void save(Safetensors& file, std::int64_t steps) const override {
    const VectorView<T> statistics = net_.values().statistics();
    file.add("statistics", {statistics.size}, on_host(context_, statistics));
    file.add("corrects", {steps}, corrects_of_all(steps));
    best_.save(file);
  }
  void load(const Safetensors& file, std::int64_t steps) override {
    const VectorView<T> statistics = net_.values().statistics();
    to_device(context_, file.values<T>("statistics", {statistics.size}), statistics);
    // They were all replicas', and are the first one's now.
    std::vector<std::int64_t> corrects = file.values<std::int64_t>("corrects", {steps});
    if (share_.first != 0) corrects.assign(corrects.size(), 0);
    to_device(context_, corrects, corrects_.vector().slice(0, steps));
    best_.load(file);
  }
  std::string subject(std::int64_t) const override { return net_.spec().architecture; }

 private:
  struct Work {
    MatrixView<T> augmented, logits, dlogits;
    Bytes kept, scratch, entropy;
  };
  Work lay_out(Arena& arena, std::int64_t count) const {
    const typename Net<T>::Memory memory = net_.memory(context_, count, true);
    const std::int64_t classes = net_.spec().classes;
    Work work;
    work.augmented = arena.matrix<T>(augments() ? net_.spec().input.size() : 0, count);
    work.logits = arena.matrix<T>(classes, count);
    work.dlogits = arena.matrix<T>(classes, count);
    work.kept = arena.vector<std::byte>(memory.kept);
    work.scratch = arena.vector<std::byte>(memory.scratch);
    work.entropy = arena.vector<std::byte>(cross_entropy_scratch(context_, count));
    return work;
  }
  /// How many samples of each step of this pass so far were classified as they should be.
  std::vector<std::int64_t> corrects_of_all(std::int64_t steps) const {
    std::vector<std::int64_t> corrects = on_host(context_, corrects_.vector().slice(0, steps));
    if (options_.replicas == nullptr) return corrects;
    std::vector<double> sums(corrects.begin(), corrects.end());
    options_.replicas->add(1, sums.data(), steps);
    return {sums.begin(), sums.end()};
  }
  Classified judge_after(std::int64_t epoch) const {
    try {
      return judge_(cancel_);
    } catch (const RangeError& error) {
      SHRINKWARP_THROW(RangeError, "training of ", net_.spec().architecture, ", validation after epoch ", epoch, ": ",
                       error.what(), kBackInRange);
    }
  }
  std::int64_t stages() const { return static_cast<std::int64_t>(net_.stages().size()); }
  bool augments() const { return options_.crop > 0 || options_.flip; }
  AugmentationShape augmentation() const {
    const Shape& input = net_.spec().input;
    return {input.channels, input.height, input.width, options_.crop, options_.flip};
  }

  const Context& context_;
  Net<T>& net_;
  const ClassificationOptions& options_;
  BestNet<T>& best_;
  SharedJudge<T>& judge_;
  const std::function<void(const ClassificationEvent&)>& event_;
  const CancelToken* cancel_;
  LabelledBatches<T> batches_;
  std::int64_t batch_;
  SampleShare share_;  // of a batch
  std::int64_t steps_;
  Tensor<std::int64_t> correct_, corrects_;
  Tensor<std::int32_t> statuses_;  // [stages, steps], after each step of the pass
};

void check(const ClassificationOptions& options) {
  SHRINKWARP_REQUIRE(options.epochs >= 1 && options.batch >= 1 && options.patience >= 0 && options.crop >= 0,
                     ValueError, "train_classifier: epochs is ", options.epochs, ", batch ", options.batch,
                     ", patience ", options.patience, ", crop ", options.crop, ", wanted >= 1, >= 1, >= 0 and >= 0");
  SHRINKWARP_REQUIRE(options.label_smoothing >= 0 && options.label_smoothing < 1, ValueError,
                     "train_classifier: label_smoothing is ", options.label_smoothing,
                     ", wanted at least 0 and less than 1");
  SHRINKWARP_REQUIRE(options.rate >= 0 && std::isfinite(options.rate) && options.clip > 0, ValueError,
                     "train_classifier: rate is ", options.rate, ", clip ", options.clip,
                     ", wanted a finite rate >= 0 and clip > 0");
}

}  // namespace

template <class T>
Classified train_classifier(const Context& context, Net<T>& net, const LabelledSamples& samples,
                            const LabelledSamples& validation, const ClassificationOptions& options,
                            const TrainingStore& store, const std::function<void(const ClassificationEvent&)>& event,
                            const CancelToken* cancel) {
  check(options);
  check_samples("train_classifier", samples, net.spec());
  check_samples("train_classifier", validation, net.spec());
  const std::int64_t batch = std::min(options.batch, samples.size()), least = net.layers().least_samples();
  SHRINKWARP_REQUIRE(batch >= least, ValueError, "train_classifier: found batches of ", batch,
                     " samples, wanted at least ", least, ", of which batch normalisation takes means and variances");
  BatchOptions its;
  its.adam = options.adam;
  its.batch = batch;
  its.rate = options.first_rate();
  its.schedule = options.schedule;
  its.momentum = options.momentum;
  its.weight_decay = options.weight_decay;
  its.clip = options.clip;
  its.seed = options.seed;
  its.replicas = options.replicas;
  BestNet<T> best(context, net, options.patience);
  SharedJudge<T> judge(context, net, validation, batch, options.replicas);
  try {
    if (store.resume == nullptr) best.look_at(judge(cancel));
  } catch (const RangeError& error) {
    SHRINKWARP_THROW(ValueError, "training of ", net.spec().architecture,
                     ", validation before the first step: ", error.what(),
                     "; smaller samples or normalised branches may help");
  }
  ClassificationTask<T> task(context, net, samples, options, best, judge, event, batch, cancel);
  train_on_batches<T>(context, task, its, store, cancel);
  best.restore();
  return best.best();
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                  \
  template std::vector<T> classification_gradient<T>(const Context&, const Net<T>&, const LabelledSamples&);       \
  template std::vector<InverseCheck> check_inverses<T>(const Context&, const Net<T>&, const LabelledSamples&);     \
  template class Classifier<T>;                                                                                    \
  template Classified train_classifier<T>(const Context&, Net<T>&, const LabelledSamples&, const LabelledSamples&, \
                                          const ClassificationOptions&, const TrainingStore&,                      \
                                          const std::function<void(const ClassificationEvent&)>&, const CancelToken*);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp
