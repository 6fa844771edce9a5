#include <shrinkwarp/models/lasso/proximal_gradient.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/compaction/compaction.hpp>
#include <shrinkwarp/kernels/gradient_step/group_step.hpp>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>
#include <shrinkwarp/models/lasso/batch_penalty.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/index.hpp>

namespace shrinkwarp {
namespace {

// Room for this many nonzeros a place when codes are taken out; more are taken out in several rounds.
constexpr std::int64_t kSparsePerPlace = 32;

// In the batch's units lambda_max is at most ||D||_2 sqrt(n) < 1e7.
constexpr double kLargestLambda = 1e30;

template <class T>
T safe_step(double lipschitz) {
  // Rounded to T the step must not pass 1/L. Without any atom to move, its value does not matter.
  return lipschitz > 0 ? static_cast<T>((1 - std::numeric_limits<T>::epsilon()) / lipschitz) : T(1);
}

template <class T>
VectorView<T> host_view(std::vector<T>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size()), {}};
}

}  // namespace

template <class T>
typename ProximalGradientBatch<T>::State ProximalGradientBatch<T>::lay_out(Arena& arena, const Context& context,
                                                                           const Dictionary& dictionary,
                                                                           std::int64_t places,
                                                                           std::int64_t group_size) {
  const std::int64_t n = dictionary.rows();
  const std::int64_t m = dictionary.atoms();
  const std::int64_t tiles = step_tiles(context, m);
  State state;
  state.anchor = arena.matrix<T>(m, places);
  state.current = arena.matrix<T>(m, places);
  state.previous = arena.matrix<T>(m, places);
  state.observations = arena.matrix<double>(n, places);
  state.residual = arena.matrix<double>(n, places);
  state.offset = arena.matrix<T>(n, places);
  state.step_residual = arena.matrix<T>(n, places);
  for (VectorView<double>* vector : {&state.lambda, &state.t, &state.correlation, &state.primal, &state.gap})
    *vector = arena.vector<double>(places);
  state.lambda_t = arena.vector<T>(places);
  state.beta = arena.vector<T>(places);
  state.active = arena.vector<std::uint8_t>(places);
  state.restart_partials = arena.matrix<T>(tiles, places);
  state.support_partials = arena.matrix<std::int32_t>(tiles, places);
  state.residual_scratch = arena.vector<T>(residual_scratch(context, n, m, places));
  state.correlation_scratch = arena.vector<double>(correlation_scratch(context, m, places, group_size));
  state.columns = arena.vector<std::int32_t>(places);
  state.targets = arena.vector<std::int32_t>(places);
  state.factors = arena.vector<double>(places);
  state.selected = arena.vector<std::int64_t>(1);
  state.sparse_offsets = arena.vector<std::int64_t>(places + 1);
  state.compaction_scratch = arena.vector<std::uint8_t>(compaction_scratch(context, places));
  const std::int64_t sparse = std::max(m, kSparsePerPlace * places);
  state.sparse_indices = arena.vector<std::int32_t>(sparse);
  state.sparse_values = arena.vector<double>(sparse);
  state.weights = arena.vector<double>(m / group_size);
  state.step_weights = arena.vector<T>(m / group_size);
  if (group_size > 1) state.moved = arena.matrix<T>(m, places);
  return state;
}

template <class T>
std::int64_t ProximalGradientBatch<T>::workspace(const Context& context, const Dictionary& dictionary,
                                                 std::int64_t places, std::int64_t group_size) {
  Arena counter(context.device());
  lay_out(counter, context, dictionary, places, group_size);
  return counter.used();
}

template <class T>
ProximalGradientBatch<T>::Host::Host(std::int64_t places) {
  for (std::vector<double>* vector : {&lambda_max, &lambda, &t, &primal, &gap, &factors})
    vector->reserve(index_of(places));
  for (std::vector<std::int32_t>* vector : {&leaving, &staying, &from, &to, &columns})
    vector->reserve(index_of(places));
  lambda_t.reserve(index_of(places));
  active.reserve(index_of(places));
  offsets.reserve(index_of(places) + 1);
  retired.reserve(index_of(places));
}

template <class T>
ProximalGradientBatch<T>::ProximalGradientBatch(const Context& context, const Dictionary& dictionary, Momentum momentum,
                                                const Penalty& penalty, std::int64_t places, Profile* profile,
                                                VectorView<std::byte> memory)
    : context_(context),
      dictionary_(dictionary),
      packed_(dictionary.packed<T>(context)),
      momentum_(momentum),
      profile_(profile),
      step_(safe_step<T>(dictionary.lipschitz(context))),
      places_(places),
      arena_(memory.empty() ? Arena(context, workspace(context, dictionary, places, penalty.group_size))
                            : Arena(memory)),
      state_(lay_out(arena_, context, dictionary, places, penalty.group_size)),
      host_(places) {
  dictionary.exact().panels(context);  // made now, not in the first certificate
  problems_.reserve(static_cast<std::size_t>(places));
  const Penalty scaled = in_batch_units(penalty, dictionary);
  penalty_ = {{}, scaled.ridge, scaled.nonnegative, scaled.group_size};
  step_penalty_ = {{}, scaled.ridge, scaled.nonnegative, scaled.group_size};
  on_chip_ = std::is_same_v<T, float> && context.is_cuda() && scaled.weights.empty() && step_penalty_.plain() &&
             iteration_plan(context, dictionary.rows(), dictionary.atoms(), places);
  if (scaled.weights.empty()) return;
  std::vector<T> rounded;
  for (const double weight : scaled.weights) rounded.push_back(static_cast<T>(weight));
  copy(context, VectorView<const double>{scaled.weights.data(), state_.weights.size, {}}, state_.weights);
  copy(context, host_view(rounded), state_.step_weights);
  context.synchronize();  // what is copied ends here
  penalty_.weights = state_.weights;
  step_penalty_.weights = state_.step_weights;
}

template <class T>
void ProximalGradientBatch<T>::admit(MatrixView<double> X, const std::vector<Problem>& problems, const Start& start,
                                     FunctionRef<double(std::int64_t, double)> lambda_of) {
  const auto count = static_cast<std::int64_t>(problems.size());
  const std::int64_t first = running();
  if (count == 0) return;

  problems_.insert(problems_.end(), problems.begin(), problems.end());
  Problem* const added = problems_.data() + first;
  for (std::int64_t b = 0; b < count; ++b) {
    const ScaledObservation scaled = scale_observation(X.column(b), X.rows, X.column(b));
    added[b].scale = scaled.scale;
    added[b].energy = scaled.energy;
  }
  copy(context_, X, state_.observations.columns(first, count));
  for (MatrixView<T> codes : {state_.anchor, state_.current, state_.previous})
    context_.zero_bytes(codes.column(first), codes.rows * count * static_cast<std::int64_t>(sizeof(T)));

  // The residual of the code 0 is the observation: its largest correlation is lambda_max.
  const bool known = std::all_of(added, added + count, [](const Problem& problem) { return problem.lambda >= 0; });
  if (!known) {
    code_residual<T>(context_, dictionary_.exact(), state_.anchor.columns(first, count),
                     state_.observations.columns(first, count), state_.residual.columns(first, count),
                     state_.offset.columns(first, count));
    correlation_max<T>(context_, dictionary_.exact(), state_.residual.columns(first, count), {}, penalty_,
                       state_.correlation.slice(first, count), state_.correlation_scratch);
    host_.lambda_max.resize(index_of(count));
    copy(context_, state_.correlation.slice(first, count), host_view(host_.lambda_max));
    context_.synchronize();
    for (std::int64_t b = 0; b < count; ++b) {
      if (added[b].lambda >= 0) continue;
      const double d = dictionary_.scale();
      const double x = added[b].scale;
      added[b].asked_lambda = lambda_of(added[b].index, lambda_max_of(host_.lambda_max[index_of(b)], x, d));
      // A lambda beyond float's range is far beyond lambda_max, and its code 0 all the same.
      added[b].lambda = batch_lambda(added[b].asked_lambda, x, d, kLargestLambda);
    }
  }

  host_.lambda.clear();
  host_.lambda_t.clear();
  host_.t.assign(index_of(count), 1.0);
  for (std::int64_t b = 0; b < count; ++b) {
    host_.lambda.push_back(added[b].lambda);
    host_.lambda_t.push_back(static_cast<T>(added[b].lambda));
  }
  copy(context_, host_view(host_.lambda), state_.lambda.slice(first, count));
  copy(context_, host_view(host_.lambda_t), state_.lambda_t.slice(first, count));
  copy(context_, host_view(host_.t), state_.t.slice(first, count));
  context_.zero_bytes(state_.beta.data + first, count * static_cast<std::int64_t>(sizeof(T)));
  if (start.sparse) start_at(first, *start.sparse);
  if (start.dense.data) start_at(first, start.dense);
  certify(first, count);
  for (std::int64_t b = 0; b < count; ++b) {
    added[b].best_gap = added[b].gap;
    added[b].best_iterations = added[b].iterations;
  }
}

template <class T>
void ProximalGradientBatch<T>::start_at(std::int64_t first, const SparseCodes& initial) {
  std::vector<T> code(static_cast<std::size_t>(dictionary_.atoms()));
  for (std::int64_t b = 0; b < initial.size(); ++b) {
    const double unit = dictionary_.scale() / problems_[index_of(first + b)].scale;
    std::fill(code.begin(), code.end(), T(0));
    for (auto k = initial.offsets[static_cast<std::size_t>(b)]; k < initial.offsets[static_cast<std::size_t>(b) + 1];
         ++k) {
      const double value = initial.values[static_cast<std::size_t>(k)] * unit;
      // What the user's units cannot hold is refused in the end; until then it is a start like another.
      code[static_cast<std::size_t>(initial.indices[static_cast<std::size_t>(k)])] =
          static_cast<T>(std::isfinite(value) ? value : 0.0);
    }
    const MatrixView<T> host{code.data(), dictionary_.atoms(), 1, dictionary_.atoms(), {}};
    copy(context_, host, state_.anchor.columns(first + b, 1));
    context_.synchronize();  // the next code is written over this one
  }
}

template <class T>
void ProximalGradientBatch<T>::start_at(std::int64_t first, MatrixView<const double> initial) {
  host_.from.clear();
  host_.to.clear();
  host_.factors.clear();
  for (std::int64_t b = first; b < running(); ++b) {
    const Problem& problem = problems_[index_of(b)];
    host_.from.push_back(static_cast<std::int32_t>(problem.index));
    host_.to.push_back(static_cast<std::int32_t>(b));
    host_.factors.push_back(dictionary_.scale() / problem.scale);
  }
  const std::int64_t count = running() - first;
  copy(context_, host_view(host_.from), state_.columns.slice(0, count));
  copy(context_, host_view(host_.to), state_.targets.slice(0, count));
  copy(context_, host_view(host_.factors), state_.factors.slice(0, count));
  scale_columns<double, T>(context_, initial, state_.columns.slice(0, count), state_.factors.slice(0, count),
                           state_.targets.slice(0, count), state_.anchor);
}

template <class T>
double ProximalGradientBatch<T>::product_flops(std::int64_t count) const {
  return 2.0 * static_cast<double>(dictionary_.rows()) * static_cast<double>(dictionary_.atoms()) *
         static_cast<double>(count);
}

template <class T>
double ProximalGradientBatch<T>::state_bytes(std::int64_t rows, std::int64_t count) const {
  return static_cast<double>(rows) * static_cast<double>(count) * sizeof(T);
}

template <class T>
void ProximalGradientBatch<T>::iterate(std::int64_t steps, bool use_active) {
  const std::int64_t count = running();
  const auto first = [count](auto view) { return view.columns(0, count); };
  const VectorView<T> beta = state_.beta.slice(0, count);
  const VectorView<const std::uint8_t> active = use_active ? state_.active.slice(0, count) : VectorView<std::uint8_t>{};
  if constexpr (std::is_same_v<T, float>) {
    if (on_chip_) {
      const std::int64_t n = dictionary_.rows(), m = dictionary_.atoms();
      const PhaseTimer timer(context_, profile_, "iterations on chip",
                             2 * static_cast<double>(steps) * product_flops(count),
                             state_bytes(n, m) + 5 * state_bytes(m, count) + state_bytes(n, count));
      proximal_iterations(context_, packed_, first(state_.offset), first(state_.anchor),
                          state_.lambda_t.slice(0, count), active, {step_, {}}, steps, momentum_, MathMode::split_tf32,
                          first(state_.current), first(state_.previous), state_.t.slice(0, count), beta, {});
      return;
    }
  }
  const StepPartials<T> partials{first(state_.restart_partials), first(state_.support_partials)};
  const double dictionary_bytes = state_bytes(dictionary_.rows(), dictionary_.atoms());
  const double codes_bytes = state_bytes(dictionary_.atoms(), count);
  const double residual_bytes = state_bytes(dictionary_.rows(), count);
  for (std::int64_t k = 0; k < steps; ++k) {
    {
      const PhaseTimer timer(context_, profile_, "residual product", product_flops(count),
                             dictionary_bytes + 2 * codes_bytes + 2 * residual_bytes);
      extrapolated_residual<T>(context_, packed_, first(state_.current), first(state_.previous), beta,
                               first(state_.offset), first(state_.step_residual), state_.residual_scratch);
    }
    {
      const bool grouped = step_penalty_.grouped();
      const PhaseTimer timer(context_, profile_, "gradient step", product_flops(count),
                             dictionary_bytes + (grouped ? 8 : 4) * codes_bytes + residual_bytes);
      const auto take = [&](auto step, auto... moved) {
        step(context_, packed_, first(state_.step_residual), first(state_.anchor), first(state_.current),
             first(state_.previous), beta, step_, state_.lambda_t.slice(0, count), active, partials, step_penalty_,
             moved...);
      };
      if (grouped)
        take(group_step<T>, first(state_.moved));
      else
        take(gradient_step<T>);
    }
    std::swap(state_.current, state_.previous);
    const PhaseTimer timer(context_, profile_, "momentum");
    update_momentum<T>(context_, momentum_, {partials.restart, partials.support}, state_.t.slice(0, count), beta, {});
  }
}

// The same work for the same number of problems is recorded when it comes for the second time: a batch that is refilled
// keeps its number, one that runs out changes it at nearly every certificate. Iterations on the chip are one launch anyway.
template <class T>
void ProximalGradientBatch<T>::iterate_recorded() {
  const bool again = running() == last_count_;
  last_count_ = running();
  if (!again || on_chip_ || profile_ || !Graph::can_record(context_)) return iterate(kCheckInterval, false);
  Recorded& recorded = recorded_[state_.current.data < state_.previous.data ? 0 : 1];
  if (recorded.graph.empty() || recorded.count != running() || recorded.current != state_.current.data) {
    const T* const current = state_.current.data;
    recorded.graph = Graph(context_, [this] { iterate(kCheckInterval, false); });
    recorded.count = running();
    recorded.current = current;
  } else {
    static_assert(kCheckInterval % 2 == 1, "the graph leaves the two swapped, as its recording did");
    std::swap(state_.current, state_.previous);
  }
  recorded.graph.launch(context_);
}

template <class T>
void ProximalGradientBatch<T>::certify(std::int64_t first, std::int64_t count) {
  const MatrixView<T> anchor = state_.anchor.columns(first, count);
  const MatrixView<double> observations = state_.observations.columns(first, count);
  const MatrixView<double> residual = state_.residual.columns(first, count);
  const VectorView<double> correlation = state_.correlation.slice(first, count);
  {
    const PhaseTimer timer(context_, profile_, "certificate: refresh", 0, 6 * state_bytes(dictionary_.atoms(), count));
    refresh_anchor<T>(context_, anchor, state_.current.columns(first, count), state_.previous.columns(first, count));
  }
  {
    const PhaseTimer timer(context_, profile_, "certificate: residual", 0, state_bytes(dictionary_.atoms(), count));
    code_residual<T>(context_, dictionary_.exact(), anchor, observations, residual,
                     state_.offset.columns(first, count));
  }
  {
    const PhaseTimer timer(context_, profile_, "certificate: correlation", product_flops(count),
                           8.0 * static_cast<double>(dictionary_.rows() * (dictionary_.atoms() + count)));
    correlation_max<T>(context_, dictionary_.exact(), residual, anchor, penalty_, correlation,
                       state_.correlation_scratch);
  }
  const PhaseTimer timer(context_, profile_, "certificate: gap", 0, state_bytes(dictionary_.atoms(), count));
  dual_gap<T>(context_, observations, residual, correlation, anchor, dictionary_.atom_norm(),
              state_.lambda.slice(first, count), state_.primal.slice(first, count), state_.gap.slice(first, count),
              penalty_);
  host_.primal.resize(index_of(count));
  host_.gap.resize(index_of(count));
  copy(context_, state_.primal.slice(first, count), host_view(host_.primal));
  copy(context_, state_.gap.slice(first, count), host_view(host_.gap));
  context_.synchronize();
  for (std::int64_t b = 0; b < count; ++b) {
    Problem& problem = problems_[index_of(first + b)];
    problem.primal = host_.primal[index_of(b)];
    problem.gap = host_.gap[index_of(b)];
    SHRINKWARP_REQUIRE(std::isfinite(problem.gap), Error, "lasso: the iterates of problem ", problem.index,
                       " are not finite after ", problem.iterations, " iterations");
  }
}

template <class T>
void ProximalGradientBatch<T>::advance(std::int64_t max_iterations) {
  const auto left = [&](const Problem& problem) {
    return std::min(kCheckInterval, max_iterations - problem.iterations);
  };
  const bool together = std::all_of(problems_.begin(), problems_.end(),
                                    [&](const Problem& problem) { return left(problem) == kCheckInterval; });
  if (together) {
    iterate_recorded();
  } else {
    // Some problems reach their last iteration before the others' certificate: they are frozen there.
    std::vector<std::uint8_t>& active = host_.active;
    active.resize(problems_.size());
    for (std::int64_t done = 0; done < kCheckInterval;) {
      std::int64_t next = kCheckInterval;
      for (std::size_t b = 0; b < problems_.size(); ++b) {
        active[b] = left(problems_[b]) > done;
        if (active[b]) next = std::min(next, left(problems_[b]));
      }
      if (std::none_of(active.begin(), active.end(), [](std::uint8_t flag) { return flag != 0; })) break;
      copy(context_, host_view(active), state_.active.slice(0, running()));
      context_.synchronize();  // `active` is written again in the next round
      iterate(next - done, true);
      done = next;
    }
  }
  for (Problem& problem : problems_) problem.iterations += left(problem);
  certify(0, running());
  for (Problem& problem : problems_) {
    if (problem.gap < 0.9 * problem.best_gap) {
      problem.best_gap = problem.gap;
      problem.best_iterations = problem.iterations;
    }
  }
}

// Lists who leaves and who stays, on the host and, of who leaves, on the device in state_.columns.
template <class T>
void ProximalGradientBatch<T>::select(const std::vector<std::uint8_t>& leave) {
  host_.leaving.clear();
  host_.staying.clear();
  host_.retired.clear();
  for (std::size_t b = 0; b < problems_.size(); ++b)
    (leave[b] ? host_.leaving : host_.staying).push_back(static_cast<std::int32_t>(b));
  if (host_.leaving.empty()) return;
  for (const std::int32_t b : host_.leaving) host_.retired.push_back(problems_[index_of(b)]);
  const VectorView<std::uint8_t> flags = state_.active.slice(0, running());
  copy(context_, VectorView<const std::uint8_t>{leave.data(), running(), {}}, flags);
  select_columns(context_, flags, state_.columns.slice(0, running()), state_.selected, state_.compaction_scratch);
}

template <class T>
void ProximalGradientBatch<T>::extract(std::int64_t first, std::int64_t count, SparseCodes& codes) {
  std::vector<std::int64_t>& offsets = host_.offsets;
  offsets.resize(index_of(count) + 1);
  const VectorView<const std::int32_t> device_columns = state_.columns.slice(first, count);
  const VectorView<std::int64_t> device_offsets = state_.sparse_offsets.slice(0, count + 1);
  sparse_offsets<T>(context_, state_.anchor, device_columns, device_offsets, state_.compaction_scratch);
  copy(context_, device_offsets, host_view(offsets));
  context_.synchronize();
  const std::int64_t nonzeros = offsets.back();
  if (nonzeros > state_.sparse_values.size) {  // one column alone always fits
    extract(first, count / 2, codes);
    extract(first + count / 2, count - count / 2, codes);
    return;
  }
  const auto start = static_cast<std::int64_t>(codes.values.size());
  const VectorView<std::int32_t> indices = state_.sparse_indices.slice(0, nonzeros);
  const VectorView<double> values = state_.sparse_values.slice(0, nonzeros);
  sparse_fill<T>(context_, state_.anchor, device_columns, device_offsets, indices, values);
  codes.indices.resize(index_of(start + nonzeros));
  codes.values.resize(index_of(start + nonzeros));
  copy(context_, indices, host_view(codes.indices).slice(start, nonzeros));
  copy(context_, values, host_view(codes.values).slice(start, nonzeros));
  context_.synchronize();
  for (std::int64_t i = 0; i < count; ++i) {
    const double unit = host_.retired[index_of(first + i)].scale / dictionary_.scale();
    const auto begin = codes.values.begin() + start;
    std::for_each(begin + offsets[index_of(i)], begin + offsets[index_of(i) + 1],
                  [unit](double& value) { value *= unit; });
    codes.offsets.push_back(start + offsets[index_of(i) + 1]);
  }
}

// Holes among the places that stay in use are filled by the problems behind them.
template <class T>
void ProximalGradientBatch<T>::close_up() {
  const auto kept = static_cast<std::int32_t>(host_.staying.size());
  host_.from.clear();
  host_.to.clear();
  for (const std::int32_t b : host_.staying)
    if (b >= kept) host_.from.push_back(b);
  for (const std::int32_t b : host_.leaving)
    if (b < kept) host_.to.push_back(b);
  for (std::size_t i = 0; i < host_.from.size(); ++i)
    problems_[index_of(host_.to[i])] = problems_[index_of(host_.from[i])];
  problems_.resize(index_of(kept));
  if (host_.from.empty()) return;

  const auto moves = static_cast<std::int64_t>(host_.from.size());
  const VectorView<std::int32_t> sources = state_.columns.slice(0, moves);
  const VectorView<std::int32_t> targets = state_.targets.slice(0, moves);
  copy(context_, host_view(host_.from), sources);
  copy(context_, host_view(host_.to), targets);
  const auto move = [&](auto view) { move_columns(context_, view, sources, targets); };
  const auto as_row = [](auto vector) {
    return MatrixView<std::remove_pointer_t<decltype(vector.data)>>{vector.data, 1, vector.size, 1, vector.device};
  };
  // `current` is zero in every place after a certificate, and what follows a certificate rewrites the rest.
  move(state_.anchor);
  move(state_.previous);
  move(state_.observations);
  move(state_.offset);
  move(as_row(state_.lambda));
  move(as_row(state_.t));
  move(as_row(state_.lambda_t));
  move(as_row(state_.beta));
  context_.synchronize();  // the lists of columns are written again
}

template <class T>
const std::vector<typename ProximalGradientBatch<T>::Problem>& ProximalGradientBatch<T>::retire(
    const std::vector<std::uint8_t>& leave, SparseCodes& codes) {
  const PhaseTimer timer(context_, profile_, "compaction");
  select(leave);
  if (host_.leaving.empty()) return host_.retired;
  extract(0, static_cast<std::int64_t>(host_.leaving.size()), codes);
  close_up();
  return host_.retired;
}

template <class T>
const std::vector<typename ProximalGradientBatch<T>::Problem>& ProximalGradientBatch<T>::retire(
    const std::vector<std::uint8_t>& leave, MatrixView<double> Z) {
  const PhaseTimer timer(context_, profile_, "compaction");
  select(leave);
  if (host_.leaving.empty()) return host_.retired;
  const auto count = static_cast<std::int64_t>(host_.leaving.size());
  host_.columns.clear();
  host_.factors.clear();
  for (const Problem& problem : host_.retired) {
    host_.columns.push_back(static_cast<std::int32_t>(problem.index));
    host_.factors.push_back(problem.scale / dictionary_.scale());
  }
  copy(context_, host_view(host_.columns), state_.targets.slice(0, count));
  copy(context_, host_view(host_.factors), state_.factors.slice(0, count));
  scale_columns<T, double>(context_, state_.anchor, state_.columns.slice(0, count), state_.factors.slice(0, count),
                           state_.targets.slice(0, count), Z);
  close_up();
  return host_.retired;
}

template class ProximalGradientBatch<float>;
template class ProximalGradientBatch<double>;

}  // namespace shrinkwarp
