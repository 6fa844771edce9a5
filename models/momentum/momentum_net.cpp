#include <shrinkwarp/models/momentum/momentum_net.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/kernels/elementwise/elementwise.hpp>
#include <shrinkwarp/runtime/host_values.hpp>

namespace shrinkwarp {
namespace {

template <class T>
MatrixView<T> as_matrix(identity_t<VectorView<T>> vector, std::int64_t rows, std::int64_t cols) {
  return {vector.data, rows, cols, rows, vector.device};
}
template <class T>
VectorView<T> as_vector(MatrixView<T> matrix) {
  return {matrix.data, matrix.rows * matrix.cols, matrix.device};
}

double least_gamma(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::exact ? kLeastExactGamma : 0;
}
double largest_gamma(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::exact ? kLargestExactGamma : 1;
}
bool all_are_1(const std::vector<double>& gammas) {
  return std::all_of(gammas.begin(), gammas.end(), [](double gamma) { return gamma == 1; });
}

}  // namespace

template <class T>
void require_gammas(const MomentumSpec& spec, const std::string& what) {
  const std::vector<double> gammas = spec.gammas.empty() ? std::vector<double>{spec.gamma} : spec.gammas;
  const bool exact = spec.arithmetic == Arithmetic::exact, ones = all_are_1(gammas);
  const double least = least_gamma(spec.arithmetic), most = largest_gamma(spec.arithmetic);
  for (const double wanted : gammas) {
    const auto gamma = static_cast<double>(static_cast<T>(wanted));  // as layers have it
    const bool inside = exact ? gamma >= least && gamma <= most : gamma > 0 && gamma <= 1;
    SHRINKWARP_REQUIRE(inside || ones, ValueError, what, ": gamma is ", gamma,
                       gamma == 0 ? ", with which no layer can be undone" : "", ", wanted ",
                       exact ? concat("within ", least, " and ", most, ", or 1 for all layers, in exact arithmetic")
                             : std::string("over 0 and at most 1"));
    SHRINKWARP_REQUIRE(!spec.learned || (wanted >= spec.low && wanted <= spec.high), ValueError, what, ": gamma is ",
                       wanted, ", wanted within ", spec.low, " and ", spec.high, ", where learned ones are held");
  }
  SHRINKWARP_REQUIRE(!spec.learned || (spec.low > 0 && spec.low >= least && spec.low <= spec.high && spec.high <= most),
                     ValueError, what, ": learned gammas are held between ", spec.low, " and ", spec.high,
                     ", wanted within ", least, " and ", most, ", the smaller number first");
}

/// What a pass needs beside the state.
template <class T>
struct MomentumNet<T>::Work {
  MatrixView<T> values;               // f
  MatrixView<T> other;                // x of every other layer of a way back
  MatrixView<T> dx, dv, dbranch;      // of a way back
  VectorView<double> sums;            // of dgamma
  Bytes branch_kept, branch_scratch;  // of one branch at a time
};

/// What backpropagation has of a layer.
template <class T>
struct MomentumNet<T>::StoredLayer {
  MatrixView<T> x, v, values;
  Bytes kept;
};

template <class T>
MomentumNet<T>::MomentumNet(ParameterList& list, const std::string& name, std::vector<LayerPointer<T>> branches,
                            const MomentumSpec& spec, std::int64_t number, LayerPointer<T> initial)
    : Layer<T>(branches.empty() ? Shape{} : branches.front()->input(),
               branches.empty() ? Shape{} : branches.front()->input()),
      branches_(std::move(branches)),
      initial_(std::move(initial)),
      spec_(spec),
      number_(number) {
  SHRINKWARP_REQUIRE(!branches_.empty(), ValueError, "MomentumNet: found no branches, wanted at least one");
  std::vector<LayerPointer<T>> all = branches_;
  if (initial_) all.push_back(initial_);
  for (const LayerPointer<T>& branch : all) {
    SHRINKWARP_REQUIRE(branch->input() == this->input() && branch->output() == this->input(), ShapeError,
                       "MomentumNet: a branch takes ", branch->input(), " and gives ", branch->output(), ", wanted ",
                       this->input(), " both");
  }
  if (spec_.gammas.empty()) spec_.gammas.assign(branches_.size(), spec_.gamma);
  SHRINKWARP_REQUIRE(spec_.gammas.size() == branches_.size(), ValueError, "MomentumNet: found ", spec_.gammas.size(),
                     " gammas for ", branches_.size(), " layers, wanted one each");
  require_gammas<T>(spec_, "MomentumNet");
  if (spec_.learned) {
    range_ = {spec_.low, spec_.high, exact()};
  } else if (all_are_1(spec_.gammas)) {
    range_ = {1, 1, exact()};
  } else {
    range_ = {least_gamma(spec_.arithmetic), largest_gamma(spec_.arithmetic), exact()};
  }
  const std::vector<std::int64_t> shape{layers()};
  const Initial initial_gammas = Initial::of(spec_.gammas);
  gamma_ = spec_.learned ? list.add(name + ".gamma", shape, initial_gammas)
                         : list.add_statistics(name + ".gamma", shape, initial_gammas);
  if (exact()) {
    // Of learned ones as many bits as the least takes, and a little for the fraction next to it.
    double bits = 0;
    for (const double gamma : spec_.gammas) {
      const MomentumGamma its = exact_gamma(spec_.learned ? spec_.low : static_cast<double>(static_cast<T>(gamma)));
      bits += spec_.learned ? 0.001 - std::log2(its.value) : -std::log2(its.value);
    }
    capacity_ = information_capacity(bits);
  }
}

template <class T>
MomentumState<T> MomentumNet<T>::lay_out(Arena& arena, std::int64_t samples, VectorView<std::int32_t> status) const {
  const std::int64_t size = this->input().size() * samples;
  MomentumState<T> state;
  state.gammas = arena.vector<MomentumGamma>(layers());
  state.x = arena.vector<T>(size);
  if (!exact()) {
    state.v = arena.vector<T>(size);
    return state;
  }
  const std::int64_t tiles = InformationBuffer::tiles(size);
  state.exact.x = arena.vector<std::int64_t>(size);
  state.exact.v = arena.vector<std::int64_t>(size);
  state.exact.buffer.states = arena.vector<std::uint64_t>(size);
  state.exact.buffer.words = arena.vector<std::uint32_t>(tiles * capacity_);
  state.exact.buffer.counts = arena.vector<std::int32_t>(tiles);
  state.exact.buffer.capacity = capacity_;
  state.exact.status = status;
  return state;
}

template <class T>
typename MomentumNet<T>::Work MomentumNet<T>::work(Arena& arena, const Context& context, std::int64_t samples,
                                                   bool keeps) const {
  const std::int64_t features = this->input().size();
  Work work;
  work.values = arena.matrix<T>(features, samples);
  if (keeps) {
    work.other = arena.matrix<T>(features, samples);
    work.dx = arena.matrix<T>(features, samples);
    work.dv = arena.matrix<T>(features, samples);
    work.dbranch = arena.matrix<T>(features, samples);
    if (spec_.learned) work.sums = arena.vector<double>(momentum_adjoint_scratch(features * samples));
  }
  std::int64_t kept = 0, scratch = 0;
  std::vector<LayerPointer<T>> all = branches_;
  if (initial_) all.push_back(initial_);
  for (const LayerPointer<T>& branch : all) {
    if (keeps) kept = std::max(kept, branch->kept(context, samples));
    scratch = std::max(
        {scratch, branch->scratch(context, samples, false), keeps ? branch->scratch(context, samples, true) : 0});
  }
  work.branch_kept = arena.vector<std::byte>(kept);
  work.branch_scratch = arena.vector<std::byte>(scratch);
  return work;
}

template <class T>
std::vector<typename MomentumNet<T>::StoredLayer> MomentumNet<T>::stored(Arena& arena, const Context& context,
                                                                         std::int64_t samples) const {
  const std::int64_t features = this->input().size();
  std::vector<StoredLayer> stored;
  for (const LayerPointer<T>& branch : branches_) {
    stored.push_back({arena.matrix<T>(features, samples), arena.matrix<T>(features, samples),
                      arena.matrix<T>(features, samples), arena.vector<std::byte>(branch->kept(context, samples))});
  }
  return stored;
}

template <class T>
std::int64_t MomentumNet<T>::kept(const Context& context, std::int64_t samples) const {
  Arena arena(context.device());
  lay_out(arena, samples, {});
  if (stores()) stored(arena, context, samples);
  return arena.used();
}

template <class T>
std::int64_t MomentumNet<T>::scratch(const Context& context, std::int64_t samples, bool keeps) const {
  Arena arena(context.device());
  work(arena, context, samples, keeps);
  if (!keeps) lay_out(arena, samples, {});
  return arena.used();
}

template <class T>
VectorView<std::int32_t> MomentumNet<T>::status_of(const Pass<T>& pass) const {
  if (!exact()) return {};
  SHRINKWARP_REQUIRE(pass.status.size > number_, ShapeError, "MomentumNet: pass.status has ", pass.status.size,
                     " elements, wanted at least ", number_ + 1);
  return pass.status.slice(number_, 1);
}

template <class T>
void MomentumNet<T>::prepare(const Pass<T>& pass, const MomentumState<T>& state) const {
  const VectorView<const T> gammas =
      spec_.learned ? pass.values(gamma_, layers()) : pass.statistics.slice(gamma_, layers());
  prepare_gammas<T>(pass.context, gammas, range_, state.gammas);
}

template <class T>
void MomentumNet<T>::begin(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> V,
                           const MomentumState<T>& state, Bytes scratch) const {
  Arena arena(scratch);
  const std::int64_t size = state.x.size;
  VectorView<const T> v{V.data, V.empty() ? 0 : size, V.device};
  if (initial_ && V.empty()) {
    const Work lies = work(arena, pass.context, X.cols, false);
    Pass<T> its = pass;
    its.keeps = false;
    initial_->forward(its, X, lies.values, {}, lies.branch_scratch);
    v = {lies.values.data, size, lies.values.device};
  }
  prepare(pass, state);
  const VectorView<const T> x{X.data, size, X.device};
  if (exact()) {
    exact_momentum_begin<T>(pass.context, x, v, state.gammas, state.exact, state.x);
    return;
  }
  copy<T>(pass.context, x, state.x);
  if (v.empty())
    pass.context.zero_bytes(state.v.data, size * static_cast<std::int64_t>(sizeof(T)));
  else
    copy<T>(pass.context, v, state.v);
}

template <class T>
BranchValues<T> MomentumNet<T>::evaluate(const Pass<T>& pass, std::int64_t t, MatrixView<const T> x,
                                         MatrixView<T> values, Bytes kept, Bytes scratch) const {
  const Layer<T>& branch = *branches_[static_cast<std::size_t>(t)];
  branch.forward_unbiased(pass, x, values, kept, scratch);
  return {{values.data, values.rows * values.cols, values.device}, branch.last_bias(pass), spec_.whole};
}

template <class T>
void MomentumNet<T>::layer_forward(const Pass<T>& pass, std::int64_t t, const BranchValues<T>& branch,
                                   const MomentumState<T>& state) const {
  if (exact())
    exact_momentum_forward<T>(pass.context, {state.gammas, t, spec_.form}, branch, state.exact, state.x);
  else
    momentum_forward<T>(pass.context, state.gammas.slice(t, 1), spec_.form, branch, state.x, state.v);
}

template <class T>
void MomentumNet<T>::advance(const Pass<T>& pass, const MomentumState<T>& state, std::int64_t samples,
                             Bytes scratch) const {
  Arena arena(scratch);
  const Work lies = work(arena, pass.context, samples, false);
  Pass<T> its = pass;
  its.keeps = false;
  const MatrixView<const T> x = as_matrix<const T>(state.x, this->input().size(), samples);
  for (std::int64_t t = 0; t < layers(); ++t)
    layer_forward(pass, t, evaluate(its, t, x, lies.values, {}, lies.branch_scratch), state);
}

template <class T>
void MomentumNet<T>::step_back(const Pass<T>& pass, const MomentumState<T>& state) const {
  if (exact())
    exact_momentum_step_back<T>(pass.context, state.exact, state.x);
  else
    momentum_step_back<T>(pass.context, state.v, state.x);
}

template <class T>
void MomentumNet<T>::inverse(const Pass<T>& pass, const MomentumState<T>& state, std::int64_t samples,
                             Bytes scratch) const {
  Arena arena(scratch);
  const Work lies = work(arena, pass.context, samples, false);
  Pass<T> its = pass;
  its.keeps = false;
  its.repeated = true;
  prepare(pass, state);
  const MatrixView<const T> x = as_matrix<const T>(state.x, this->input().size(), samples);
  step_back(pass, state);
  for (std::int64_t t = layers() - 1; t >= 0; --t) {
    const BranchValues<T> branch = evaluate(its, t, x, lies.values, {}, lies.branch_scratch);
    if (exact()) {
      exact_momentum_inverse<T>(pass.context, {state.gammas, t, spec_.form}, branch, nullptr, state.exact, state.x,
                                state.x);
    } else {
      momentum_inverse<T>(pass.context, state.gammas.slice(t, 1), spec_.form, branch, state.x, state.v,
                          t > 0 ? state.x : VectorView<T>{});
    }
  }
}

template <class T>
void MomentumNet<T>::require_beginning(const Context& context, const MomentumState<T>& state,
                                       const std::string& what) const {
  const InformationBuffer& buffer = state.exact.buffer;
  const auto states = on_host(context, buffer.states);
  const auto words = on_host(context, buffer.words);
  const auto counts = on_host(context, buffer.counts);
  const std::uint64_t K = on_host(context, state.gammas.slice(0, 1))[0].K;
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < states.size(); ++i) {
    const std::size_t tile = i / kInformationTile, place = i % kInformationTile;
    const auto its =
        static_cast<std::int64_t>(std::min(states.size() - tile * kInformationTile, std::size_t{kInformationTile}));
    const bool right =
        states[i] == K && counts[tile] == its && words[tile * static_cast<std::size_t>(buffer.capacity) + place] == 0;
    wrong += right ? 0 : 1;
  }
  SHRINKWARP_REQUIRE(
      wrong == 0, RangeError, what, ": the buffers of ", wrong, " of ", states.size(),
      " elements did not come back to where every forward pass begins, wanted the unchanged state of a forward "
      "pass of this network, on a machine that computes the same bits");
}

template <class T>
void MomentumNet<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept,
                             Bytes scratch) const {
  const std::int64_t features = this->input().size(), samples = X.cols;
  Arena kept_arena(pass.keeps ? kept : Bytes{nullptr, 0, pass.context.device()}), scratch_arena(scratch);
  const Work lies = work(scratch_arena, pass.context, samples, pass.keeps);
  const MomentumState<T> state = lay_out(pass.keeps ? kept_arena : scratch_arena, samples, status_of(pass));
  begin(pass, X, {}, state, scratch);
  if (pass.keeps && stores()) {
    const MatrixView<const T> x = as_matrix<const T>(state.x, features, samples);
    const std::vector<StoredLayer> all = stored(kept_arena, pass.context, samples);
    for (std::int64_t t = 0; t < layers(); ++t) {
      const StoredLayer& layer = all[static_cast<std::size_t>(t)];
      copy<T>(pass.context, x, layer.x);
      if (exact())
        exact_momentum_velocity<T>(pass.context, state.exact, as_vector(layer.v));
      else
        copy<T>(pass.context, state.v, as_vector(layer.v));
      layer_forward(pass, t, evaluate(pass, t, layer.x, layer.values, layer.kept, lies.branch_scratch), state);
    }
  } else {
    advance(pass, state, samples, scratch);
  }
  copy<T>(pass.context, state.x, as_vector(Y));
}

template <class T>
void MomentumNet<T>::backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T>, MatrixView<const T> dY,
                              T beta, MatrixView<T> dX, Bytes kept, Bytes scratch) const {
  const std::int64_t features = this->input().size(), samples = X.cols;
  const Context& context = pass.context;
  Arena kept_arena(kept), scratch_arena(scratch);
  const Work lies = work(scratch_arena, context, samples, true);
  const MomentumState<T> state = lay_out(kept_arena, samples, status_of(pass));
  copy<T>(context, dY, lies.dx);
  context.zero_bytes(lies.dv.data, lies.dv.rows * lies.dv.cols * static_cast<std::int64_t>(sizeof(T)));
  const auto adjoint_of = [&](std::int64_t t) {
    const VectorView<T> dgamma = spec_.learned ? pass.gradients(gamma_ + t, 1) : VectorView<T>{};
    return MomentumAdjoint<T>{as_vector(lies.dx), as_vector(lies.dv), as_vector(lies.dbranch), dgamma, lies.sums};
  };
  Pass<T> again = pass;
  again.keeps = again.repeated = true;
  if (stores()) {
    const std::vector<StoredLayer> all = stored(kept_arena, context, samples);
    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      const StoredLayer& layer = all[static_cast<std::size_t>(t)];
      const Layer<T>& branch = *branches_[static_cast<std::size_t>(t)];
      momentum_adjoint<T>(context, state.gammas.slice(t, 1), spec_.form,
                          {as_vector(layer.values), branch.last_bias(pass), spec_.whole}, as_vector(layer.x),
                          as_vector(layer.v), adjoint_of(t));
      branch.backward(again, layer.x, layer.values, lies.dbranch, T(1), lies.dx, layer.kept, lies.branch_scratch);
    }
  } else {
    step_back(pass, state);
    VectorView<T> x = state.x, before = as_vector(lies.other);
    for (std::int64_t t = layers() - 1; t >= 0; --t) {
      const Layer<T>& branch = *branches_[static_cast<std::size_t>(t)];
      const MatrixView<const T> at = as_matrix<const T>(x, features, samples);
      const BranchValues<T> values = evaluate(again, t, at, lies.values, lies.branch_kept, lies.branch_scratch);
      const MomentumAdjoint<T> adjoint = adjoint_of(t);
      if (exact()) {
        exact_momentum_inverse<T>(context, {state.gammas, t, spec_.form}, values, &adjoint, state.exact, x, before);
      } else {
        momentum_inverse<T>(context, state.gammas.slice(t, 1), spec_.form, values, x, state.v, before);
        momentum_adjoint<T>(context, state.gammas.slice(t, 1), spec_.form, values, x, state.v, adjoint);
      }
      branch.backward(again, at, lies.values, lies.dbranch, T(1), lies.dx, lies.branch_kept, lies.branch_scratch);
      std::swap(x, before);
    }
  }
  if (initial_) {
    initial_->forward(again, X, lies.values, lies.branch_kept, lies.branch_scratch);
    initial_->backward(again, X, lies.values, lies.dv, T(1), lies.dx, lies.branch_kept, lies.branch_scratch);
  }
  if (dX.empty()) return;
  if (beta == T(0))
    copy<T>(context, lies.dx, dX);
  else
    add<T>(context, lies.dx, dX, dX);
}

void require_all_well(const Context& context, VectorView<const std::int32_t> status, const std::string& what) {
  const std::vector<std::int32_t> values = on_host(context, status);
  for (std::size_t stage = 0; stage < values.size(); ++stage) {
    const std::int32_t value = values[stage];
    if (value == ExactStatus::kAllWell) continue;
    const std::string place = values.size() > 1 ? concat(" of momentum stage ", stage + 1) : std::string();
    SHRINKWARP_REQUIRE(
        value < 0, RangeError, what, ": layer ", value, place,
        ": found a position, a velocity or a branch's value that is no number under 2^19 = 524288, wanted the range of "
        "exact arithmetic");
    SHRINKWARP_THROW(RangeError, what, ": layer ", -value, place,
                     ": found that the buffer holds other bits than a forward pass leaves there, wanted the state of a "
                     "forward pass of the same network");
  }
}

template void require_gammas<float>(const MomentumSpec&, const std::string&);
template void require_gammas<double>(const MomentumSpec&, const std::string&);
template class MomentumNet<float>;
template class MomentumNet<double>;

}  // namespace shrinkwarp
