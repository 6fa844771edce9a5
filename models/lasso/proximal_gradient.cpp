#include <shrinkwarp/models/lasso/proximal_gradient.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/compaction/compaction.hpp>
#include <shrinkwarp/runtime/error.hpp>

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
                                                                           std::int64_t places) {
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
  state.residual_scratch = arena.vector<T>(residual_scratch(context, dictionary.packed<T>(context), places));
  state.correlation_scratch = arena.vector<double>(correlation_scratch(context, m, places));
  state.columns = arena.vector<std::int32_t>(places);
  state.targets = arena.vector<std::int32_t>(places);
  state.selected = arena.vector<std::int64_t>(1);
  state.sparse_offsets = arena.vector<std::int64_t>(places + 1);
  state.compaction_scratch = arena.vector<std::uint8_t>(compaction_scratch(context, places));
  const std::int64_t sparse = std::max(m, kSparsePerPlace * places);
  state.sparse_indices = arena.vector<std::int32_t>(sparse);
  state.sparse_values = arena.vector<double>(sparse);
  return state;
}

template <class T>
std::int64_t ProximalGradientBatch<T>::workspace(const Context& context, const Dictionary& dictionary,
                                                 std::int64_t places) {
  Arena counter(context.device());
  lay_out(counter, context, dictionary, places);
  return counter.used();
}

template <class T>
ProximalGradientBatch<T>::ProximalGradientBatch(const Context& context, const Dictionary& dictionary, Momentum momentum,
                                                std::int64_t places, Profile* profile)
    : context_(context),
      dictionary_(dictionary),
      packed_(dictionary.packed<T>(context)),
      momentum_(momentum),
      profile_(profile),
      step_(safe_step<T>(dictionary.lipschitz())),
      places_(places),
      arena_(context, workspace(context, dictionary, places)),
      state_(lay_out(arena_, context, dictionary, places)) {
  problems_.reserve(static_cast<std::size_t>(places));
}

template <class T>
void ProximalGradientBatch<T>::admit(MatrixView<double> X, const std::vector<Problem>& problems,
                                     const SparseCodes* initial, FunctionRef<double(std::int64_t, double)> lambda_of) {
  const auto count = static_cast<std::int64_t>(problems.size());
  const std::int64_t first = running();
  if (count == 0) return;

  problems_.insert(problems_.end(), problems.begin(), problems.end());
  Problem* const added = problems_.data() + first;
  for (std::int64_t b = 0; b < count; ++b) {
    double* x = X.column(b);
    double largest = 0;
    for (std::int64_t i = 0; i < X.rows; ++i) largest = std::max(largest, std::fabs(x[i]));
    added[b].scale = largest > 0 ? std::exp2(std::ilogb(largest)) : 1;
    double energy = 0;
    for (std::int64_t i = 0; i < X.rows; ++i) {
      x[i] /= added[b].scale;
      energy += x[i] * x[i];
    }
    added[b].energy = energy / 2;
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
    correlation_max(context_, dictionary_.exact(), state_.residual.columns(first, count),
                    state_.correlation.slice(first, count), state_.correlation_scratch);
    std::vector<double> lambda_max(static_cast<std::size_t>(count));
    copy(context_, state_.correlation.slice(first, count), host_view(lambda_max));
    context_.synchronize();
    for (std::int64_t b = 0; b < count; ++b) {
      if (added[b].lambda >= 0) continue;
      // Two powers of two, one after the other: their product may leave the range where the numbers do not.
      const double d = dictionary_.scale();
      const double x = added[b].scale;
      added[b].lambda = lambda_of(added[b].index, lambda_max[static_cast<std::size_t>(b)] * x * d) / x / d;
      // A lambda beyond float's range is far beyond lambda_max, and its code 0 all the same.
      added[b].lambda = std::min(added[b].lambda, kLargestLambda);
    }
  }

  std::vector<double> lambda(static_cast<std::size_t>(count));
  std::vector<T> lambda_t(static_cast<std::size_t>(count));
  for (std::int64_t b = 0; b < count; ++b) {
    lambda[static_cast<std::size_t>(b)] = added[b].lambda;
    lambda_t[static_cast<std::size_t>(b)] = static_cast<T>(added[b].lambda);
  }
  std::vector<double> t(static_cast<std::size_t>(count), 1.0);
  copy(context_, host_view(lambda), state_.lambda.slice(first, count));
  copy(context_, host_view(lambda_t), state_.lambda_t.slice(first, count));
  copy(context_, host_view(t), state_.t.slice(first, count));
  context_.zero_bytes(state_.beta.data + first, count * static_cast<std::int64_t>(sizeof(T)));
  if (initial) start_at(first, *initial);
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
    const double unit = dictionary_.scale() / problems_[static_cast<std::size_t>(first + b)].scale;
    std::fill(code.begin(), code.end(), T(0));
    for (auto k = initial.offsets[static_cast<std::size_t>(b)]; k < initial.offsets[static_cast<std::size_t>(b) + 1];
         ++k)
      code[static_cast<std::size_t>(initial.indices[static_cast<std::size_t>(k)])] =
          static_cast<T>(initial.values[static_cast<std::size_t>(k)] * unit);
    const MatrixView<T> host{code.data(), dictionary_.atoms(), 1, dictionary_.atoms(), {}};
    copy(context_, host, state_.anchor.columns(first + b, 1));
    context_.synchronize();  // the next code is written over this one
  }
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
      const PhaseTimer timer(context_, profile_, "gradient step", product_flops(count),
                             dictionary_bytes + 4 * codes_bytes + residual_bytes);
      gradient_step<T>(context_, packed_, first(state_.step_residual), first(state_.anchor), first(state_.current),
                       first(state_.previous), beta, step_, state_.lambda_t.slice(0, count), active, partials);
    }
    std::swap(state_.current, state_.previous);
    const PhaseTimer timer(context_, profile_, "momentum");
    update_momentum<T>(context_, momentum_, {partials.restart, partials.support}, state_.t.slice(0, count), beta, {});
  }
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
    correlation_max(context_, dictionary_.exact(), residual, correlation, state_.correlation_scratch);
  }
  const PhaseTimer timer(context_, profile_, "certificate: gap", 0, state_bytes(dictionary_.atoms(), count));
  dual_gap<T>(context_, observations, residual, correlation, anchor, std::sqrt(dictionary_.lipschitz()),
              state_.lambda.slice(first, count), state_.primal.slice(first, count), state_.gap.slice(first, count));
  std::vector<double> primal(static_cast<std::size_t>(count));
  std::vector<double> gap(static_cast<std::size_t>(count));
  copy(context_, state_.primal.slice(first, count), host_view(primal));
  copy(context_, state_.gap.slice(first, count), host_view(gap));
  context_.synchronize();
  for (std::int64_t b = 0; b < count; ++b) {
    Problem& problem = problems_[static_cast<std::size_t>(first + b)];
    problem.primal = primal[static_cast<std::size_t>(b)];
    problem.gap = gap[static_cast<std::size_t>(b)];
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
    iterate(kCheckInterval, false);
  } else {
    // Some problems reach their last iteration before the others' certificate: they are frozen there.
    std::vector<std::uint8_t> active(problems_.size());
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

template <class T>
void ProximalGradientBatch<T>::extract(const std::vector<std::int32_t>& columns, std::int64_t first, std::int64_t count,
                                       SparseCodes& codes) {
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(count) + 1);
  const VectorView<const std::int32_t> device_columns = state_.columns.slice(first, count);
  const VectorView<std::int64_t> device_offsets = state_.sparse_offsets.slice(0, count + 1);
  sparse_offsets<T>(context_, state_.anchor, device_columns, device_offsets, state_.compaction_scratch);
  copy(context_, device_offsets, host_view(offsets));
  context_.synchronize();
  const std::int64_t nonzeros = offsets.back();
  if (nonzeros > state_.sparse_values.size) {  // one column alone always fits
    extract(columns, first, count / 2, codes);
    extract(columns, first + count / 2, count - count / 2, codes);
    return;
  }
  const auto start = static_cast<std::int64_t>(codes.values.size());
  const VectorView<std::int32_t> indices = state_.sparse_indices.slice(0, nonzeros);
  const VectorView<double> values = state_.sparse_values.slice(0, nonzeros);
  sparse_fill<T>(context_, state_.anchor, device_columns, device_offsets, indices, values);
  codes.indices.resize(static_cast<std::size_t>(start + nonzeros));
  codes.values.resize(static_cast<std::size_t>(start + nonzeros));
  copy(context_, indices, host_view(codes.indices).slice(start, nonzeros));
  copy(context_, values, host_view(codes.values).slice(start, nonzeros));
  context_.synchronize();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto place = static_cast<std::size_t>(columns[static_cast<std::size_t>(first + i)]);
    const double unit = problems_[place].scale / dictionary_.scale();
    const auto begin = codes.values.begin() + start;
    std::for_each(begin + offsets[static_cast<std::size_t>(i)], begin + offsets[static_cast<std::size_t>(i) + 1],
                  [unit](double& value) { value *= unit; });
    codes.offsets.push_back(start + offsets[static_cast<std::size_t>(i) + 1]);
  }
}

template <class T>
std::vector<typename ProximalGradientBatch<T>::Problem> ProximalGradientBatch<T>::retire(
    const std::vector<std::uint8_t>& leave, SparseCodes& codes) {
  const PhaseTimer timer(context_, profile_, "compaction");
  std::vector<std::int32_t> leaving;
  std::vector<std::int32_t> staying;
  for (std::size_t b = 0; b < problems_.size(); ++b)
    (leave[b] ? leaving : staying).push_back(static_cast<std::int32_t>(b));
  std::vector<Problem> retired;
  if (leaving.empty()) return retired;
  for (const std::int32_t b : leaving) retired.push_back(problems_[static_cast<std::size_t>(b)]);
  const VectorView<std::uint8_t> flags = state_.active.slice(0, running());
  copy(context_, VectorView<const std::uint8_t>{leave.data(), running(), {}}, flags);
  select_columns(context_, flags, state_.columns.slice(0, running()), state_.selected, state_.compaction_scratch);
  extract(leaving, 0, static_cast<std::int64_t>(leaving.size()), codes);

  // Holes among the places that stay in use are filled by the problems behind them.
  const auto kept = static_cast<std::int32_t>(staying.size());
  std::vector<std::int32_t> from;
  std::vector<std::int32_t> to;
  for (const std::int32_t b : staying)
    if (b >= kept) from.push_back(b);
  for (const std::int32_t b : leaving)
    if (b < kept) to.push_back(b);
  for (std::size_t i = 0; i < from.size(); ++i)
    problems_[static_cast<std::size_t>(to[i])] = problems_[static_cast<std::size_t>(from[i])];
  problems_.resize(static_cast<std::size_t>(kept));
  if (from.empty()) return retired;

  const auto moves = static_cast<std::int64_t>(from.size());
  const VectorView<std::int32_t> sources = state_.columns.slice(0, moves);
  const VectorView<std::int32_t> targets = state_.targets.slice(0, moves);
  copy(context_, host_view(from), sources);
  copy(context_, host_view(to), targets);
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
  context_.synchronize();  // the lists of columns end here
  return retired;
}

template class ProximalGradientBatch<float>;
template class ProximalGradientBatch<double>;

}  // namespace shrinkwarp
