#include <shrinkwarp/tools/python/core/layers.hpp>

#include <algorithm>
#include <cstring>

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <shrinkwarp/kernels/elementwise/elementwise.hpp>
#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/tools/python/core/cuda_arrays.hpp>
#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;

template <class T>
MatrixView<const T> columns_of(const Rows<T>& rows) {
  const auto features = static_cast<std::int64_t>(rows.shape(1));
  return {rows.data(), features, static_cast<std::int64_t>(rows.shape(0)), features, {}};
}

bool is_on_cuda(nb::handle array) {
  return nb::isinstance<CudaArray>(array);
}

template <class T>
void require_way(const Kept<T>& kept, const char* what) {
  SHRINKWARP_REQUIRE(!kept.is_beginning, ValueError, what,
                     ": state: found what inverse gave, wanted what forward gave");
}

/// Without the interpreter's lock, for which others may be waiting.
void wait_for(const Context& context) {
  const Unlocked unlocked;
  context.synchronize();
}

template <class T>
Tensor<T> copied(const Context& context, const Tensor<T>& vector) {
  Tensor<T> copy_of(context, vector.size());
  copy<T>(context, vector.vector(), copy_of.vector());
  return copy_of;
}

/// Columns of a device as rows on the host, in memory of their own. Synchronises.
template <class T>
std::unique_ptr<T[]> on_host_rows(const Context& context, MatrixView<const T> columns) {
  const std::int64_t size = columns.rows * columns.cols;
  std::unique_ptr<T[]> values(new T[static_cast<std::size_t>(size)]);
  copy<T>(context, VectorView<const T>{columns.data, size, columns.device}, VectorView<T>{values.get(), size, {}});
  context.synchronize();
  return values;
}

template <class T>
nb::object as_rows(std::unique_ptr<T[]> values, std::int64_t samples, std::int64_t features) {
  T* const data = values.release();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  const std::size_t shape[2] = {static_cast<std::size_t>(samples), static_cast<std::size_t>(features)};
  return nb::cast(nb::ndarray<nb::numpy, T>(data, 2, shape, owner));
}

/// A buffer for results, which is the array's own memory where that lies on the context's device.
template <class T>
class ResultColumns {
 public:
  /// @param lends  the array is a CudaArray
  ResultColumns(const Context& context, std::int64_t features, std::int64_t samples, bool lends) : lends_(lends) {
    if (!lends) values_.reset(new T[static_cast<std::size_t>(features * samples)]);
    view_ = {values_.get(), features, samples, features, {}};
    if (!context.is_cuda()) return;
    on_device_ = Tensor<T>(context, features, samples);
    view_ = on_device_.matrix();
  }
  MatrixView<T> view() const { return view_; }
  /// Synchronises.
  void bring(const Context& context) {
    if (values_ && context.is_cuda())
      copy<T>(context, on_device_.vector(), VectorView<T>{values_.get(), on_device_.size(), {}});
    context.synchronize();
  }
  nb::object rows() {
    if (lends_) return nb::cast(CudaArray(std::move(on_device_)));
    return as_rows<T>(std::move(values_), view_.cols, view_.rows);
  }

 private:
  bool lends_;
  std::unique_ptr<T[]> values_;
  Tensor<T> on_device_;
  MatrixView<T> view_;
};

}  // namespace

template <class T>
DeviceColumns<T>::DeviceColumns(const Context& context, const nb::object& array) : array_(array) {
  if (is_on_cuda(array)) {
    view_ = nb::cast<const CudaArray&>(array).columns<T>(context);
    return;
  }
  view_ = columns_of(nb::cast<Rows<T>>(array));
  if (!context.is_cuda()) return;
  copy_ = Tensor<T>(context, view_.rows, view_.cols);
  copy<T>(context, view_, copy_.matrix());
  context.synchronize();
  view_ = copy_.matrix();
}

// ---- Tensors -------------------------------------------------------------------------------------------------------

template <class T>
nb::list Layers<T>::entries() const {
  nb::list result;
  for (const ParameterList::Entry& entry : list_.entries()) {
    nb::list shape;
    for (const std::int64_t side : entry.shape) shape.append(side);
    result.append(nb::make_tuple(entry.name, nb::tuple(shape), entry.learned));
  }
  return result;
}

template <class T>
nb::list Layers<T>::initial(std::uint64_t seed) const {
  const Context host = Context::cpu(1);
  std::optional<ParameterValues<T>> values;
  {
    const Unlocked unlocked;
    values.emplace(host, list_, seed);
  }
  nb::list result;
  for (const ParameterList::Entry& entry : list_.entries()) {
    const VectorView<T> all = entry.learned ? values->parameters() : values->statistics();
    std::unique_ptr<T[]> its(new T[static_cast<std::size_t>(entry.size)]);
    std::copy_n(all.data + entry.offset, entry.size, its.get());
    const std::vector<std::size_t> shape(entry.shape.begin(), entry.shape.end());
    T* const data = its.release();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    result.append(nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner));
  }
  return result;
}

template <class T>
void Layers<T>::pack(const Context& context, const nb::list& values, Kept<T>& kept) const {
  const auto& entries = list_.entries();
  SHRINKWARP_REQUIRE(nb::len(values) == entries.size(), ShapeError, "found ", nb::len(values), " tensors, wanted ",
                     entries.size());
  kept.parameters = Tensor<T>::zeros(context, list_.size());
  kept.statistics = Tensor<T>::zeros(context, list_.statistics_size());
  for (const nb::handle value : values) kept.lends_values |= is_on_cuda(value);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const ParameterList::Entry& entry = entries[i];
    const nb::object given = values[i];
    VectorView<const T> value;
    nb::ndarray<const T, nb::c_contig, nb::device::cpu> array;
    if (is_on_cuda(given)) {
      const auto& its = nb::cast<const CudaArray&>(given);
      SHRINKWARP_REQUIRE(its.device() == context.device(), DeviceError, "the tensor '", entry.name, "': found it on ",
                         its.device(), ", wanted it on ", context.device());
      const MatrixView<const T> columns = its.columns<T>(context);
      value = {columns.data, columns.rows * columns.cols, columns.device};
    } else {
      array = nb::cast<decltype(array)>(given);
      value = {array.data(), static_cast<std::int64_t>(array.size()), {}};
    }
    SHRINKWARP_REQUIRE(value.size == entry.size, ShapeError, "the tensor '", entry.name, "': found ", value.size,
                       " elements, wanted ", entry.size);
    const Tensor<T>& all = entry.learned ? kept.parameters : kept.statistics;
    copy<T>(context, value, all.vector().slice(entry.offset, entry.size));
  }
  context.synchronize();
}

template <class T>
template <class Make>
nb::list Layers<T>::of_entries(bool learned, const Make& make) const {
  nb::list result;
  for (const ParameterList::Entry& entry : list_.entries()) {
    const std::vector<std::size_t> shape(entry.shape.begin(), entry.shape.end());
    result.append(entry.learned == learned ? make(entry.offset, shape) : nb::object(nb::none()));
  }
  return result;
}

template <class T>
nb::list Layers<T>::unpack(const Context& context, const Tensor<T>& vector, bool learned) const {
  // One piece of memory, which goes with the last of its arrays.
  const auto held = std::make_shared<std::unique_ptr<T[]>>(on_host_rows<T>(context, vector.matrix()));
  return of_entries(learned, [&](std::int64_t offset, const std::vector<std::size_t>& shape) {
    auto share = std::make_unique<std::shared_ptr<std::unique_ptr<T[]>>>(held);
    nb::capsule owner(share.release(),
                      [](void* p) noexcept { delete static_cast<std::shared_ptr<std::unique_ptr<T[]>>*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T>(held->get() + offset, shape.size(), shape.data(), owner));
  });
}

template <class T>
nb::list Layers<T>::lend(const Context& context, Tensor<T> vector, bool learned) const {
  const auto held = std::make_shared<const Tensor<T>>(std::move(vector));
  wait_for(context);
  return of_entries(learned, [&](std::int64_t offset, const std::vector<std::size_t>& shape) {
    return nb::cast(CudaArray(held, held->data() + offset, held->matrix().device, shape));
  });
}

// ---- Passes --------------------------------------------------------------------------------------------------------

template <class T>
std::pair<std::int64_t, std::int64_t> Layers<T>::memory(std::int64_t samples, bool keeps) const {
  const Contexts::Lease context(contexts_);
  return {keeps ? layer_->kept(*context, samples) : 0, layer_->scratch(*context, samples, keeps)};
}

template <class T>
std::unique_ptr<Kept<T>> Layers<T>::begin(const Context& context, const nb::object& X, const nb::list& values,
                                          const nb::list& side, const PassOptions& options) const {
  auto kept = std::make_unique<Kept<T>>();
  const std::int64_t samples = kept->samples = static_cast<std::int64_t>(nb::len(X));
  kept->lends_rows = is_on_cuda(X);
  kept->options = options;
  kept->rests = is_stage() && !stages_[0]->has_initial();
  pack(context, values, *kept);
  for (const nb::handle input : side) {
    kept->side.emplace_back(context, nb::borrow(input));
    SHRINKWARP_REQUIRE(kept->side.back().view().cols == samples, ShapeError, "a side input: found ",
                       kept->side.back().view().cols, " rows, wanted ", samples);
  }
  kept->step = Tensor<std::int64_t>(context, 1);
  to_device(context, std::vector<std::int64_t>{options.step}, kept->step.vector());
  kept->status = Tensor<std::int32_t>(context, std::max<std::int64_t>(1, static_cast<std::int64_t>(stages_.size())));
  return kept;
}

/// Evaluation or training, keeping nothing.
template <class T>
Pass<T> Layers<T>::pass(const Context& context, const Kept<T>& kept, std::vector<SideInput<T>>& side) const {
  Pass<T> pass(context);
  pass.parameters = kept.parameters.vector();
  pass.statistics = kept.statistics.vector();
  pass.training = kept.options.training;
  pass.seed = kept.options.seed;
  pass.step = kept.step.vector();
  for (const DeviceColumns<T>& input : kept.side) side.push_back({input.view(), {}});
  pass.side = side.empty() ? nullptr : &side;
  clear_status(context, kept.status.vector());
  pass.status = kept.status.vector();
  return pass;
}

template <class T>
ForwardResult<T> Layers<T>::forward(const nb::object& X, const nb::list& values, const nb::list& side, bool keeps,
                                    const PassOptions& options) const {
  const Contexts::Lease lease(contexts_);
  const Context& context = *lease;
  std::unique_ptr<Kept<T>> kept = begin(context, X, values, side, options);
  const DeviceColumns<T> input(context, X);
  SHRINKWARP_REQUIRE(input.view().rows == layer_->input().size(), ShapeError, "forward: X: found (", kept->samples,
                     ", ", input.view().rows, "), wanted (", kept->samples, ", ", layer_->input().size(), ")");
  std::optional<ResultColumns<T>> output;
  {
    const Unlocked unlocked;
    std::vector<SideInput<T>> inputs;
    Pass<T> its = pass(context, *kept, inputs);
    its.keeps = keeps;
    output.emplace(context, layer_->output().size(), kept->samples, kept->lends_rows);
    if (keeps) kept->memory = Tensor<std::byte>(context, layer_->kept(context, kept->samples));
    const Tensor<std::byte> scratch(context, layer_->scratch(context, kept->samples, keeps));
    if (kept->samples > 0) layer_->forward(its, input.view(), output->view(), kept->memory.vector(), scratch.vector());
    output->bring(context);
    require_all_well(context, kept->status.vector(), "exact arithmetic");
  }
  ForwardResult<T> result;
  result.Y = output->rows();
  if (options.training && list_.statistics_size() > 0)
    result.statistics = kept->lends_values ? lend(context, copied(context, kept->statistics), false)
                                           : unpack(context, kept->statistics, false);
  if (keeps) result.kept = std::move(kept);
  return result;
}

template <class T>
nb::tuple Layers<T>::backward(Kept<T>& kept, const nb::object& X, const nb::object& Y, const nb::object& dY,
                              bool wants_dX, const std::vector<bool>& side_wanted) const {
  require_way(kept, "backward");
  const Contexts::Lease lease(contexts_);
  const Context& context = *lease;
  const std::int64_t samples = kept.samples, features = layer_->input().size();
  const DeviceColumns<T> input(context, X), output(context, Y), its_gradient(context, dY);
  const bool reads_X = !is_stage() || stages_[0]->has_initial();
  const auto require = [&](const char* name, MatrixView<const T> columns, std::int64_t its_features, bool may_lack) {
    SHRINKWARP_REQUIRE((columns.cols == samples && columns.rows == its_features) || (may_lack && columns.cols == 0),
                       ShapeError, "backward: ", name, ": found (", columns.cols, ", ", columns.rows, "), wanted (",
                       samples, ", ", its_features, ")");
  };
  require("X", input.view(), features, !reads_X);
  require("Y", output.view(), layer_->output().size(), !layer_->reads_output());
  require("dY", its_gradient.view(), layer_->output().size(), false);
  SHRINKWARP_REQUIRE(side_wanted.size() == kept.side.size(), ShapeError, "backward: found ", side_wanted.size(),
                     " wishes for ", kept.side.size(), " side inputs, wanted one each");
  std::optional<ResultColumns<T>> dX;
  std::vector<ResultColumns<T>> side_gradients;
  Tensor<T> gradient;
  {
    const Unlocked unlocked;
    const std::lock_guard<std::mutex> turn(kept.turn);
    std::vector<SideInput<T>> inputs;
    Pass<T> its = pass(context, kept, inputs);
    gradient = Tensor<T>::zeros(context, list_.size());
    its.gradient = gradient.vector();
    its.keeps = true;
    if (wants_dX) dX.emplace(context, features, samples, kept.lends_rows);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const MatrixView<const T> value = inputs[i].value;
      side_gradients.emplace_back(context, side_wanted[i] ? value.rows : 0, side_wanted[i] ? value.cols : 0,
                                  kept.lends_rows);
      if (!side_wanted[i]) continue;
      inputs[i].gradient = side_gradients.back().view();
      context.zero_bytes(inputs[i].gradient.data, value.rows * value.cols * static_cast<std::int64_t>(sizeof(T)));
    }
    Tensor<std::byte> copied;
    const Tensor<std::byte> scratch(context, layer_->scratch(context, samples, true));
    VectorView<std::byte> memory = kept.memory.vector();
    if (is_stage()) {  // whose state is small, and whose activations are not at hand
      copied = Tensor<std::byte>(context, memory.size);
      copy<std::byte>(context, memory, copied.vector());
      memory = copied.vector();
    } else if (kept.used) {
      Pass<T> again = its;
      again.repeated = true;
      const Tensor<T> values(context, layer_->output().size(), samples);
      layer_->forward(again, input.view(), values.matrix(), memory, scratch.vector());
    }
    kept.used = true;
    // A stage that begins with v = 0 looks at how many samples X has, and at nothing else of it.
    MatrixView<const T> x = input.view();
    if (x.empty()) x = {nullptr, features, samples, features, context.device()};
    if (samples > 0) {
      layer_->backward(its, x, output.view(), its_gradient.view(), T(0), dX ? dX->view() : MatrixView<T>{}, memory,
                       scratch.vector());
    }
    if (dX) dX->bring(context);
    for (ResultColumns<T>& side : side_gradients) side.bring(context);
    require_all_well(context, kept.status.vector(), "exact arithmetic");
    if (is_stage() && stages_[0]->spec().activations == Activations::recomputed && samples > 0)
      require_way_back(context, state_in(kept, memory), kept.rests, "backward");
  }
  nb::list sides;
  for (std::size_t i = 0; i < side_gradients.size(); ++i)
    sides.append(side_wanted[i] ? side_gradients[i].rows() : nb::object(nb::none()));
  return nb::make_tuple(dX ? dX->rows() : nb::object(nb::none()),
                        kept.lends_values ? lend(context, std::move(gradient), true) : unpack(context, gradient, true),
                        sides);
}

// ---- A single momentum stage ---------------------------------------------------------------------------------------

template <class T>
const MomentumNet<T>& Layers<T>::only_stage() const {
  SHRINKWARP_REQUIRE(is_stage(), ValueError, "found other layers, wanted one momentum stage");
  SHRINKWARP_REQUIRE(stages_[0]->spec().activations == Activations::recomputed, ValueError,
                     "found a stage with stored activations, wanted one that recomputes them");
  return *stages_[0];
}

/// In exact arithmetic a state that has come back is where a forward pass begins, or branches have given other bits.
template <class T>
void Layers<T>::require_way_back(const Context& context, const MomentumState<T>& state, bool rests,
                                 const char* what) const {
  if (stages_[0]->spec().arithmetic != Arithmetic::exact) return;
  stages_[0]->require_beginning(context, state, what);
  if (!rests) return;
  const std::vector<std::int64_t> v = on_host(context, state.exact.v);
  const auto moving = std::count_if(v.begin(), v.end(), [](std::int64_t value) { return value != 0; });
  SHRINKWARP_REQUIRE(moving == 0, RangeError, what, ": the velocities of ", moving, " of ", v.size(),
                     " elements did not come back to 0, wanted branches that give the same bits each time");
}

template <class T>
MomentumState<T> Layers<T>::state_in(const Kept<T>& kept, VectorView<std::byte> memory) const {
  Arena arena(memory);
  return stages_[0]->lay_out(arena, kept.samples, kept.status.vector().slice(0, 1));
}

template <class T>
std::unique_ptr<Kept<T>> Layers<T>::advance(const nb::object& X, const nb::object& V, const nb::list& values,
                                            const nb::list& side, const PassOptions& options) const {
  const MomentumNet<T>& stage = only_stage();
  const Contexts::Lease lease(contexts_);
  const Context& context = *lease;
  std::unique_ptr<Kept<T>> kept = begin(context, X, values, side, options);
  const DeviceColumns<T> x(context, X);
  std::optional<DeviceColumns<T>> v;
  if (!V.is_none()) v.emplace(context, V);
  const auto require = [&](const char* name, MatrixView<const T> its) {
    SHRINKWARP_REQUIRE(its.rows == layer_->input().size() && its.cols == kept->samples, ShapeError, "forward: ", name,
                       ": found (", its.cols, ", ", its.rows, "), wanted (", kept->samples, ", ",
                       layer_->input().size(), ")");
  };
  require("X", x.view());
  if (v) require("V", v->view());
  kept->rests = kept->rests && !v;
  const Unlocked unlocked;
  std::vector<SideInput<T>> inputs;
  const Pass<T> its = pass(context, *kept, inputs);
  kept->memory = Tensor<std::byte>(context, stage.kept(context, kept->samples));
  if (kept->samples == 0) return kept;
  const MomentumState<T> state = state_in(*kept, kept->memory.vector());
  const Tensor<std::byte> scratch(context, stage.scratch(context, kept->samples, false));
  stage.begin(its, x.view(), v ? v->view() : MatrixView<const T>{}, state, scratch.vector());
  stage.advance(its, state, kept->samples, scratch.vector());
  require_all_well(context, kept->status.vector(), "forward");
  return kept;
}

template <class T>
std::unique_ptr<Kept<T>> Layers<T>::inverse(const Kept<T>& kept) const {
  const MomentumNet<T>& stage = only_stage();
  require_way(kept, "inverse");
  const Contexts::Lease lease(contexts_);
  const Context& context = *lease;
  auto back = std::make_unique<Kept<T>>();
  back->samples = kept.samples;
  back->rests = kept.rests;
  back->lends_rows = kept.lends_rows;
  back->is_beginning = true;
  const Unlocked unlocked;
  const std::lock_guard<std::mutex> turn(kept.turn);
  back->status = Tensor<std::int32_t>(context, 1);
  clear_status(context, back->status.vector());
  back->memory = Tensor<std::byte>(context, kept.memory.size());
  copy<std::byte>(context, kept.memory.vector(), back->memory.vector());
  if (kept.samples == 0) return back;
  std::vector<SideInput<T>> inputs;
  Pass<T> its = pass(context, kept, inputs);
  its.status = back->status.vector();
  const MomentumState<T> state = state_in(*back, back->memory.vector());
  const Tensor<std::byte> scratch(context, stage.scratch(context, kept.samples, false));
  stage.inverse(its, state, kept.samples, scratch.vector());
  require_all_well(context, back->status.vector(), "inverse");
  require_way_back(context, state, kept.rests, "inverse");
  return back;
}

template <class T>
nb::tuple Layers<T>::values_of(const Kept<T>& kept) const {
  const Contexts::Lease lease(contexts_);
  const Context& context = *lease;
  const std::int64_t features = layer_->input().size();
  ResultColumns<T> x(context, features, kept.samples, kept.lends_rows),
      v(context, features, kept.samples, kept.lends_rows);
  if (kept.samples > 0) {
    const MomentumState<T> state = state_in(kept, kept.memory.vector());
    const auto flat = [](MatrixView<T> columns) {
      return VectorView<T>{columns.data, columns.rows * columns.cols, columns.device};
    };
    copy<T>(context, state.x, flat(x.view()));
    if (only_stage().spec().arithmetic == Arithmetic::exact)
      exact_momentum_velocity<T>(context, state.exact, flat(v.view()));
    else
      copy<T>(context, state.v, flat(v.view()));
  }
  x.bring(context);
  v.bring(context);
  return nb::make_tuple(x.rows(), v.rows());
}

template <class T>
nb::tuple Layers<T>::fixed_of(const Kept<T>& kept) const {
  SHRINKWARP_REQUIRE(only_stage().spec().arithmetic == Arithmetic::exact, ValueError,
                     "found approximate arithmetic, wanted exact");
  const Contexts::Lease lease(contexts_);
  const std::int64_t features = layer_->input().size();
  const auto rows = [&](VectorView<std::int64_t> values) {
    ResultColumns<std::int64_t> its(*lease, features, kept.samples, kept.lends_rows);
    if (values.size > 0) copy<std::int64_t>(*lease, values, {its.view().data, values.size, its.view().device});
    its.bring(*lease);
    return its.rows();
  };
  if (kept.samples == 0) return nb::make_tuple(rows({}), rows({}));
  const MomentumState<T> state = state_in(kept, kept.memory.vector());
  return nb::make_tuple(rows(state.exact.x), rows(state.exact.v));
}

template <class T>
std::int64_t Layers<T>::buffer_bytes(const Kept<T>& kept) const {
  if (only_stage().spec().arithmetic != Arithmetic::exact || kept.samples == 0) return 0;
  const Contexts::Lease lease(contexts_);
  const InformationBuffer buffer = state_in(kept, kept.memory.vector()).exact.buffer;
  std::int64_t bytes = 8 * buffer.states.size + 4 * buffer.counts.size;
  for (const std::int32_t count : on_host(*lease, buffer.counts)) bytes += 4 * std::int64_t{count};
  return bytes;
}

// ---- PythonLayer ---------------------------------------------------------------------------------------------------

template <class T>
PythonLayer<T>::~PythonLayer() {
  const Locked lock;
  object_.reset();
}

namespace {

/// An array of memory that is the library's, whose elements are there.
template <class T>
nb::object lent(const Context& context, MatrixView<const T> columns) {
  const std::size_t shape[2] = {static_cast<std::size_t>(columns.cols), static_cast<std::size_t>(columns.rows)};
  if (context.is_cuda()) {
    wait_for(context);
    return nb::cast(CudaArray(nullptr, columns.data, columns.device, {shape[0], shape[1]}));
  }
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<2>>(const_cast<T*>(columns.data), 2, shape, nb::none()),
                  nb::rv_policy::reference);
}

/// What a layer has given, as columns.
template <class T>
DeviceColumns<T> columns_like(const Context& context, const nb::object& found, MatrixView<T> columns,
                              const char* what) {
  DeviceColumns<T> its(context, found);
  SHRINKWARP_REQUIRE(its.view().rows == columns.rows && its.view().cols == columns.cols, ShapeError, "a layer's ", what,
                     ": found (", its.view().cols, ", ", its.view().rows, "), wanted (", columns.cols, ", ",
                     columns.rows, ")");
  return its;
}

}  // namespace

template <class T>
void PythonLayer<T>::forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes, Bytes) const {
  const Locked lock;
  const Context& context = pass.context;
  const nb::object found =
      unless_exiting([&] { return object_.attr("forward")(lent(context, X), pass.keeps, pass.repeated); });
  const DeviceColumns<T> its = columns_like(context, found, Y, "output");
  copy<T>(context, its.view(), Y);
  wait_for(context);  // whose memory it is may use it for something else from now on
}

template <class T>
void PythonLayer<T>::backward(const Pass<T>& pass, MatrixView<const T>, MatrixView<const T>, MatrixView<const T> dY,
                              T beta, MatrixView<T> dX, Bytes, Bytes) const {
  const Locked lock;
  const Context& context = pass.context;
  const nb::object found = unless_exiting([&] { return object_.attr("backward")(lent(context, dY), !dX.empty()); });
  if (dX.empty()) return;
  if (beta == T(0)) context.zero_bytes(dX.data, dX.rows * dX.cols * static_cast<std::int64_t>(sizeof(T)));
  if (found.is_none()) return;
  const DeviceColumns<T> its = columns_like(context, found, dX, "gradient");
  add<T>(context, dX, its.view(), dX);
  wait_for(context);
}

template class DeviceColumns<float>;
template class DeviceColumns<double>;
template class Layers<float>;
template class Layers<double>;
template class PythonLayer<float>;
template class PythonLayer<double>;

}  // namespace shrinkwarp::python
