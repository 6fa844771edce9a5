// Training and judging classifiers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/models/train/rate_schedule.hpp>
#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/models/train/training_store.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// Samples and their classes on the host.
struct LabelledSamples {
  Shape shape;
  bool images = false;               ///< whether they have come as channels, rows and columns
  std::vector<float> values;         ///< [shape.size(), N], a sample after another
  std::vector<std::int32_t> labels;  ///< [N], from 0 to classes - 1

  /// N, where there are labels.
  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  /// N, by the values.
  std::int64_t count() const { return static_cast<std::int64_t>(values.size()) / shape.size(); }
  /// Some of them, by their numbers.
  LabelledSamples chosen(const std::vector<std::int64_t>& numbers) const;
};

/// Whether a network takes them: as many features, and where both are images those of the same sides.
/// @throws ShapeError beginning with `what`, which says what was found and what the network takes
void require_shape(const std::string& what, const LabelledSamples& samples, const NetSpec& spec);

/// How well a network classifies.
struct Classified {
  double loss = 0;      ///< mean cross-entropy
  double accuracy = 0;  ///< share of samples whose largest logit is that of their class; of equal ones the first counts
};

/// Runs a network on samples as in evaluation: normalised by running statistics, nothing dropped. Move-only.
template <class T>
class Classifier {
 public:
  /// @param batch  most samples at a time  @throws ShapeError (samples of another shape), OutOfMemory
  Classifier(const Context& context, const Net<T>& net, std::int64_t batch);

  /// Takes samples through the network, a batch after another. Synchronises.
  ///
  /// @param cancel  asked between layers of each batch; may be nullptr
  /// @param see     called with the logits [classes, count] of each batch, on the device; may be empty
  /// @return how well they are classified; nothing where they have no labels
  /// @throws ShapeError, ValueError (labels), Cancelled, RangeError, what see throws
  std::optional<Classified> classify(const LabelledSamples& samples, const CancelToken* cancel,
                                     const std::function<void(MatrixView<const T>)>& see);
  /// How well samples that have labels are classified, as classify().
  Classified judge(const LabelledSamples& samples, const CancelToken* cancel = nullptr);

 private:
  MatrixView<const T> logits(const LabelledSamples& samples, std::int64_t first, std::int64_t count,
                             const CancelToken* cancel);

  const Context& context_;
  const Net<T>& net_;
  std::int64_t batch_;
  Tensor<T> X_, logits_;
  Tensor<std::int32_t> labels_;
  Tensor<double> loss_;
  Tensor<std::int64_t> correct_;
  Tensor<std::byte> scratch_, entropy_scratch_;
};

/// Gradient of the mean cross-entropy of all samples, as one batch in evaluation, by the parameters; on the host.
/// Synchronises. @throws ShapeError, ValueError (labels), RangeError, OutOfMemory
template <class T>
std::vector<T> classification_gradient(const Context& context, const Net<T>& net, const LabelledSamples& samples);

/// How well the layers of a momentum stage come back.
struct InverseCheck {
  std::int64_t layers = 0;
  std::int64_t differ = 0;  ///< elements of the stage's input whose bits are others
  double worst = 0;  ///< largest difference of an element, in multiples of the largest magnitude of the input; NaN
                     ///< where what came back is no number
};
/// Takes samples, as one batch in evaluation, through each momentum stage and back. Synchronises.
/// @throws ShapeError, RangeError, OutOfMemory
template <class T>
std::vector<InverseCheck> check_inverses(const Context& context, const Net<T>& net, const LabelledSamples& samples);

struct ClassificationOptions {
  bool adam = true;          ///< else SGD
  std::int64_t epochs = 20;  ///< passes over the samples
  std::int64_t batch = 128;
  double rate = 0;  ///< at the start; 0 takes the default
  RateSchedule schedule = RateSchedule::cosine;
  double momentum = 0.9;  ///< of SGD
  double weight_decay = 0;
  double clip = std::numeric_limits<double>::infinity();
  double label_smoothing = 0;    ///< in [0, 1)
  std::int64_t crop = 0;         ///< images are padded by as many zeros and cropped back at random
  bool flip = false;             ///< half of the images are flipped left-right
  std::int64_t patience = 0;     ///< validations without progress after which training ends; 0 never ends it
  std::uint64_t seed = 0;        ///< of shuffling, dropout, crops and flips
  Replicas* replicas = nullptr;  ///< that train together; nullptr: there are no others

  /// Of the first step: `rate`, or the default, 1e-3 for Adam and 1e-2 for SGD.
  double first_rate() const { return rate > 0 ? rate : adam ? 1e-3 : 1e-2; }
};

/// Where a training stands at the end of a pass.
struct ClassificationEvent {
  std::int64_t epoch = 0;
  Classified training;  ///< mean over the batches of the pass, each as its step found it
  Classified validation;
  double best_accuracy = 0;
  double rate = 0;
};

/// Trains a network in place by cross-entropy. What it ends with are the parameters that had the best accuracy on the validation
/// samples, of equal ones those of the least loss.
///
/// @param event   called at the end of each pass; may be empty  @param cancel  asked between steps and in validation; may be
///               nullptr
///
/// Determinism  the same bits for the same inputs, options, device and number of replicas, whatever the threads, and whether
///              or not it was interrupted and resumed; for other numbers of replicas, which it may be resumed with too, the same
///              but for the rounding of sums
/// @throws ValueError (options, labels, batches of fewer samples than layers take, samples that leave the range of exact arithmetic before the first
///         step), ShapeError (samples of another shape), DivergedError, RangeError, Cancelled, what the store
///         throws
template <class T>
Classified train_classifier(const Context& context, Net<T>& net, const LabelledSamples& samples,
                            const LabelledSamples& validation, const ClassificationOptions& options,
                            const TrainingStore& store, const std::function<void(const ClassificationEvent&)>& event,
                            const CancelToken* cancel);

}  // namespace shrinkwarp
