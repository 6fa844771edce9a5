// A momentum residual network, or a stage of one: layers that can be undone, so that training stores no activations
// (Sander, Ablin, Blondel, Peyre 2021).
//
//   v <- gamma_t v + share_t f_t(x),  x <- x + v,      share_t = 1 - gamma_t (damped) or 1 (plain)
//
// from x = X and v = 0 or f_0(X); its output is the last x. The backward pass begins with the last x and v, goes back layer by
// layer, evaluates each branch once more where forward has, and has its gradient from there.
//
// In exact arithmetic x and v are fixed-point numbers and the bits that gamma takes away are kept: what comes back is what was
// there, to the last bit, and so gradients are those that stored activations would give, to the last bit. What is kept grows with
// depth by log2(1 / gamma) bits an element and layer. In approximate arithmetic nothing grows, and what comes back is off by
// some gamma^-T roundings.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>
#include <shrinkwarp/models/resnet/sequential.hpp>

namespace shrinkwarp {

enum class Arithmetic { exact, approximate };
enum class Activations {
  recomputed,  ///< from the stage's output
  stored,      ///< as backpropagation has them: memory grows with depth
};

struct MomentumSpec {
  double gamma = 0.9;          ///< in (0, 1]
  std::vector<double> gammas;  ///< of each layer; empty: gamma for all
  MomentumForm form = MomentumForm::damped;
  Arithmetic arithmetic = Arithmetic::exact;
  Activations activations = Activations::recomputed;
  /// Whether gammas are parameters too. They are held between `low` and `high`; the buffer has room for all at `low`.
  bool learned = false;
  double low = 0.5, high = 1 - 1.0 / 1024;
  /// What layers give is x + f(x), as blocks of residual networks do, not f(x).
  bool whole = false;
};

/// Refuses gammas that no momentum network of type T has.
/// @param what  begins the message  @throws ValueError (one out of (0, 1], out of the range of exact arithmetic, or learned and out
///              of [low, high])
template <class T>
void require_gammas(const MomentumSpec& spec, const std::string& what);

/// What a stage's layers read and write; where it lies is the caller's.
template <class T>
struct MomentumState {
  VectorView<MomentumGamma> gammas;  // [layers]
  ExactState exact;                  // in exact arithmetic
  VectorView<T> x;                   // [features N]; in exact arithmetic x rounded to T
  VectorView<T> v;                   // [features N]; in approximate arithmetic
};

template <class T>
class MomentumNet : public Layer<T> {
 public:
  /// @param list      gets NAME.gamma [layers], of the statistics unless learned
  /// @param branches  f_1 ... f_T, of one and the same shape each way; one may be there several times
  /// @param number    of the stage among those of its network, from 0: which status of a pass is its
  /// @param initial   f_0, of that shape too; or nullptr
  /// @throws ValueError (no branches, another number of gammas; as require_gammas), ShapeError (shapes that differ)
  MomentumNet(ParameterList& list, const std::string& name, std::vector<LayerPointer<T>> branches,
              const MomentumSpec& spec, std::int64_t number, LayerPointer<T> initial = nullptr);

  const MomentumSpec& spec() const { return spec_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(branches_.size()); }
  const std::vector<LayerPointer<T>>& branches() const { return branches_; }
  /// Whether v begins as f_0(X); a way back then reads X.
  bool has_initial() const { return initial_ != nullptr; }

  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  std::int64_t least_samples() const override {
    return std::max(least_samples_of<T>(branches_), initial_ ? initial_->least_samples() : 1);
  }
  bool asks_replicas() const override {
    return any_asks_replicas<T>(branches_) || (initial_ && initial_->asks_replicas());
  }
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

  // The same step by step, for who has a state of their own. Its status is the caller's to begin (clear_status) and to look at.

  MomentumState<T> lay_out(Arena& arena, std::int64_t samples, VectorView<std::int32_t> status) const;
  /// The state at X with velocity V, both [features, N]; V empty is f_0(X) or 0. @param scratch  scratch(context, samples, false) bytes
  void begin(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> V, const MomentumState<T>& state,
             Bytes scratch) const;
  /// All layers forward, or back to the beginning, whether the pass keeps or not.
  /// @param scratch  scratch(context, samples, false) bytes
  void advance(const Pass<T>& pass, const MomentumState<T>& state, std::int64_t samples, Bytes scratch) const;
  void inverse(const Pass<T>& pass, const MomentumState<T>& state, std::int64_t samples, Bytes scratch) const;
  /// Refuses an exact state whose buffer is not as begin() makes it: it has come back with other gammas, or from a buffer that is
  /// no forward pass's. (Other branches it does not find out: what they change is in v.) Synchronises. @param what  begins the message  @throws RangeError
  void require_beginning(const Context& context, const MomentumState<T>& state, const std::string& what) const;

 private:
  struct Work;
  struct StoredLayer;
  Work work(Arena& arena, const Context& context, std::int64_t samples, bool keeps) const;
  std::vector<StoredLayer> stored(Arena& arena, const Context& context, std::int64_t samples) const;
  bool exact() const { return spec_.arithmetic == Arithmetic::exact; }
  bool stores() const { return spec_.activations == Activations::stored; }
  void step_back(const Pass<T>& pass, const MomentumState<T>& state) const;
  VectorView<std::int32_t> status_of(const Pass<T>& pass) const;
  void prepare(const Pass<T>& pass, const MomentumState<T>& state) const;
  void layer_forward(const Pass<T>& pass, std::int64_t t, const BranchValues<T>& branch,
                     const MomentumState<T>& state) const;
  BranchValues<T> evaluate(const Pass<T>& pass, std::int64_t t, MatrixView<const T> x, MatrixView<T> values, Bytes kept,
                           Bytes scratch) const;

  std::vector<LayerPointer<T>> branches_;
  LayerPointer<T> initial_;
  MomentumSpec spec_;
  std::int64_t number_;
  std::int64_t gamma_;  // offset
  GammaRange range_;
  std::int64_t capacity_ = 0;  // of a list of words
};

/// Refuses a status that says that not all went well. Synchronises.
/// @throws RangeError naming the layer  @param what  begins the message
void require_all_well(const Context& context, VectorView<const std::int32_t> status, const std::string& what);

}  // namespace shrinkwarp
