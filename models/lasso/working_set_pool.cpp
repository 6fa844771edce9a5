#include <shrinkwarp/models/lasso/working_set_pool.hpp>
#include <shrinkwarp/runtime/index.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>

namespace shrinkwarp {
namespace {

// A pass multiplies so many coordinates that what is beyond them blurs correlations by this share of lambda: the blur
// leaves atoms open, whose float64 products cost what the coordinates save.
constexpr double kBlur = 0.06;
// The same of the change of a residual since the pass before, which comes on top, and of all that passes have left
// out so far: where that would be more, the whole residual is multiplied again. On the medium lead field of
// docs/benchmarks/ (302 rows, shuffled evoked samples) the coordinates of all passes of a problem were 405 / 746 /
// 1279 / 2251 at .8 / .5 / .3 / .1 of lambda_max without changes, and are 230 / 402 / 756 / 1425 with them.
constexpr double kChangeBlur = 0.1;
constexpr double kMostBlur = 0.1;
constexpr std::int64_t kMostTails = 16;
// A panel is left out where no correlation can pass this share of lambda: what is looked at is over kLookFrom of it.
constexpr double kLeaveUnder = 0.97;
// While many atoms are far over lambda, the furthest are told apart from the others by a coarser look: as if lambda
// were this share of what many were over before.
constexpr double kOfReach = 0.5;
// What lambda_max is taken for before it is known, as a share of the largest that it can be.
constexpr double kLikelyCosine = 0.5;
// In the batch's units lambda_max is at most ||D||_2 sqrt(n) < 1e7.
constexpr double kLargestLambda = 1e30;
// `values` has room for so many more than there are atoms.
constexpr std::int64_t kMore = 64;

std::int64_t padded_rows(std::int64_t rows) {
  return (rows + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
}

// The median of the finite weights: only for how many coordinates a pass multiplies.
double typical(const std::vector<double>& weights) {
  std::vector<double> finite;
  std::copy_if(weights.begin(), weights.end(), std::back_inserter(finite), [](double w) { return std::isfinite(w); });
  if (finite.empty()) return 1;
  const auto middle = finite.begin() + static_cast<std::ptrdiff_t>(finite.size() / 2);
  std::nth_element(finite.begin(), middle, finite.end());
  return *middle;
}

}  // namespace

WorkingSetPool::WorkingSetPool(const Dictionary& dictionary, const WorkingSetDictionary& parts,
                               const LassoOptions& options, const Penalty& penalty, const AtomBounds& bounds,
                               std::int64_t places, bool leaves_panels_out)
    : parts(parts),
      bounds(bounds),
      penalty(penalty),
      plain(penalty.plain()),
      initial(options.initial),
      m(dictionary.atoms()),
      gap(options.gap),
      dictionary_scale(dictionary.scale()),
      atom_norm(dictionary.atom_norm()),
      max_passes(options.max_iterations),
      residuals(context, parts.quantized, places),
      C(Tensor<float>::zeros(context, parts.quantized.atoms_apart(), places)),
      highest(context, parts.quantized.panels(), places),
      timed(options.profile ? &profile_ : nullptr),
      leaves_panels_out_(leaves_panels_out),
      cancel(options.cancel),
      typical_weight(typical(penalty.weights)) {
  for (auto* atoms : {&open, &list, &fresh}) atoms->resize(index_of(std::max(m, parts.quantized.padded_atoms())));
  values.resize(index_of(m + kMore));
  if (initial) atom_stamps.assign(index_of(m), 0);
  float_residual = Tensor<float>::zeros(context, padded_rows(dictionary.rows()));
  changes_ = Tensor<double>::zeros(context, parts.exact_columns.rows, places);
  float_values.resize(index_of(m));
  limits.resize(index_of(places));
  stale_ = Tensor<std::uint8_t>::zeros(context, parts.quantized.panels(), places);
  if (small()) all_correlations.resize(index_of(parts.transposed.rows()));
}

std::int64_t WorkingSetPool::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t places) {
  const std::int64_t n = padded_rows(rows);
  const std::int64_t levels = (rows + QuantizedDictionary::kLevelRows - 1) / QuantizedDictionary::kLevelRows;
  const std::int64_t slots = places * (32 * n + atoms / 8 + 512);
  const std::int64_t passes = (places + 8) * (2 * n + 5 * (atoms + 48) + 16 * levels + 128);
  return slots + passes + 64 * (atoms + 1024);
}

void WorkingSetPool::make_place(Slot& slot) {
  const std::int64_t rows = parts.exact_columns.rows;
  slot.x = Tensor<double>::zeros(context, rows);
  slot.r = Tensor<double>::zeros(context, rows);
  slot.told = Tensor<double>::zeros(context, rows);
  slot.place = made_++;
  slot.in_set.resize(index_of((m + 63) / 64));
  idle_.push_back(&slot);
}

void WorkingSetPool::fill(const double* x, std::int64_t rows, const Problem& problem) {
  Slot& slot = *idle_.back();
  idle_.pop_back();
  running_.push_back(&slot);
  slot.problem = problem;
  const ScaledObservation scaled = scale_observation(x, rows, slot.x.data());
  slot.problem.scale = scaled.scale;
  slot.problem.energy = scaled.energy;
  std::copy_n(slot.x.data(), rows, slot.r.data());
  empty_set(slot);
  std::fill(slot.in_set.begin(), slot.in_set.end(), 0);
  slot.idle = 0;
  slot.has_passed = slot.wants_all = false;
  slot.reach = 0;
  slot.waits_for_start = initial != nullptr;
  slot.magnitude = slot.weighted = slot.squares = 0;
}

// lambda, from what lambda_max may be where it has still to be found.
double WorkingSetPool::likely_lambda(const Problem& problem, double lambda_max, LambdaOf lambda_of) const {
  if (problem.lambda >= 0) return problem.lambda;
  Problem likely = problem;
  set_lambda(likely, lambda_max, lambda_of);
  return likely.lambda;
}

// Whether a change may be added: what was left out before must be left out again.
bool WorkingSetPool::may_add(const PanelLimit& limit, std::int64_t place) const {
  const std::uint8_t* const stale = stale_.matrix().column(place);
  const float* const high = highest.matrix().column(place);
  for (std::int64_t panel = 0; panel < parts.quantized.panels(); ++panel)
    if (stale[panel] != 0 && !(panel_reach(limit, bounds.largest[panel], high[panel]) < limit.under)) return false;
  return true;
}

// What the next pass multiplies for a problem: to vectors_. How many coordinates that multiplies, and whether those
// of the residual or of its change, is the problem's own business, or its bits would be its neighbours'.
void WorkingSetPool::quantize(Slot& slot, LambdaOf lambda_of) {
  const QuantizedDictionary& D = parts.quantized;
  const std::int64_t n = slot.r.size();
  double* const told = slot.told.data();
  const double* const r = slot.r.data();
  // The first level beyond which an atom has at most `blur` in common with a vector.
  const auto level_of = [&D](double norm, double blur) {
    std::int64_t level = 0;
    while (level + 1 < D.levels() && D.typical_tail(level) * norm > blur) ++level;
    return level;
  };
  if (slot.problem.lambda < 0) set_known_lambda(slot.problem, lambda_of);
  const double norm = std::sqrt(dot(r, r, n));
  // Correlations, where lambda and what many are over are those of atoms divided by their weights.
  const double likely_max = kLikelyCosine * norm * D.typical_norm();
  const double reach = slot.has_passed ? typical_weight * slot.reach : likely_max;
  const double divided_max = typical_weight > 0 ? likely_max / typical_weight : likely_max;
  const double lambda = likely_lambda(slot.problem, divided_max, lambda_of);
  const double wanted = std::max(typical_weight * lambda, kOfReach * reach);
  const std::int64_t level = level_of(norm, kBlur * wanted);
  QuantizedResiduals::Vector vector{slot.place, level, r, false};
  double* const change = changes_.matrix().column(slot.place);
  double moved = 0;
  if (slot.has_passed) {
    for (std::int64_t i = 0; i < n; ++i) change[i] = r[i] - told[i];
    moved = std::sqrt(dot(change, change, n));
  }
  PanelLimit& limit = limits[index_of(slot.place)] = {};
  static_assert(kLeaveUnder < kLookFrom);
  if (leaves_panels_out_ && !slot.wants_all) {
    constexpr double kRoom = 1 + 1e-6;
    // A lambda that is not known is taken for a share of lambda_max, and looked at again when it is.
    if (slot.problem.lambda >= 0)
      limit.under = static_cast<float>(kLeaveUnder * lambda);
    else if (!penalty.nonnegative && divided_max > 0)
      limit.share = static_cast<float>(kLeaveUnder * std::min(1.0, lambda / divided_max));
    limit.norm = static_cast<float>(norm * kRoom);
    if (slot.has_passed) limit.moved = static_cast<float>(moved * kRoom);
  }
  // The bounds have room for so many vectors' float sums, and none for what is no number.
  if (slot.has_passed && residuals.tails(slot.place) < kMostTails && std::isfinite(residuals.norm(slot.place)) &&
      may_add(limit, slot.place)) {
    const std::int64_t of_change = level_of(moved, kChangeBlur * wanted);
    double blur = 0;
    for (std::int64_t i = 0; i < residuals.tails(slot.place); ++i) {
      const ResidualTail tail = residuals.tail(slot.place, i);
      blur += D.typical_tail(tail.level) * static_cast<double>(tail.norm);
    }
    if (of_change < level && blur <= kMostBlur * wanted) vector = {slot.place, of_change, change, true};
  }
  vectors_.push_back(vector);
  std::copy_n(r, n, told);
  slot.has_passed = true;
}

// Quantises the residuals of what runs, those of one level together.
void WorkingSetPool::arrange(LambdaOf lambda_of) {
  const PhaseTimer timer(context, timed, "quantize");
  vectors_.clear();
  for (Slot* slot : running_) quantize(*slot, lambda_of);
  using Vector = QuantizedResiduals::Vector;
  std::stable_sort(vectors_.begin(), vectors_.end(),
                   [](const Vector& a, const Vector& b) { return a.level < b.level; });
  residuals.put(parts.quantized, vectors_.data(), static_cast<std::int64_t>(vectors_.size()));
  places_.clear();
  for (const Vector& vector : vectors_) places_.push_back(vector.place);
}

void WorkingSetPool::pass(LambdaOf lambda_of) {
  arrange(lambda_of);
  const QuantizedDictionary& D = parts.quantized;
  double rows = 0;
  for (const std::int64_t place : places_) rows += static_cast<double>(D.level_rows(residuals.level(place)));
  const PhaseTimer timer(context, timed, "pass", 2.0 * static_cast<double>(D.atoms()) * rows);
  MatrixView<float> whole = C.matrix();
  whole.rows = D.padded_atoms();
  bounded_correlation(context, D, bounds, residuals, places_.data(), static_cast<std::int64_t>(places_.size()), whole,
                      highest.matrix(),
                      leaves_panels_out_ ? PanelsLeftOut{limits.data(), stale_.matrix()} : PanelsLeftOut{});
  passed_ = running_.size();
}

void WorkingSetPool::step(FunctionRef<bool()> stop, LambdaOf lambda_of) {
  std::size_t kept = running_.size() - passed_, next = kept;
  while (next < running_.size() && !stop()) {
    Slot* const slot = running_[next++];
    if (take_step(*slot, lambda_of))
      idle_.push_back(slot);
    else
      running_[kept++] = slot;
  }
  passed_ = running_.size() - next;
  running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(kept),
                 running_.begin() + static_cast<std::ptrdiff_t>(next));
}

void WorkingSetPool::solve_small(LambdaOf lambda_of) {
  begin_whole(running_);
  for (std::size_t i = 0; i < running_.size(); ++i) solve_whole(*running_[i], i, lambda_of);
  idle_.insert(idle_.end(), running_.begin(), running_.end());
  running_.clear();
}

void WorkingSetPool::retire(std::vector<Problem>& problems, SparseCodes& codes) {
  const std::int64_t start = codes.offsets.back();
  for (std::size_t i = 1; i < codes_.offsets.size(); ++i) codes.offsets.push_back(start + codes_.offsets[i]);
  codes.indices.insert(codes.indices.end(), codes_.indices.begin(), codes_.indices.end());
  codes.values.insert(codes.values.end(), codes_.values.begin(), codes_.values.end());
  problems.insert(problems.end(), done_.begin(), done_.end());
  codes_.indices.clear();
  codes_.values.clear();
  codes_.offsets.assign(1, 0);
  done_.clear();
}

double WorkingSetPool::threshold(double lambda, double weight) {
  return std::max(lambda, std::numeric_limits<double>::min()) * weight;
}

void WorkingSetPool::set_lambda(Problem& problem, double lambda_max, LambdaOf lambda_of) const {
  if (problem.lambda >= 0) return;
  problem.asked_lambda = lambda_of(problem.index, lambda_max_of(lambda_max, problem.scale, dictionary_scale));
  problem.lambda = batch_lambda(problem.asked_lambda, problem.scale, dictionary_scale, kLargestLambda);
}

// Where lambda_max does not matter.
void WorkingSetPool::set_known_lambda(Problem& problem, LambdaOf lambda_of) const {
  const double known = lambda_of(problem.index, -1);
  if (known < 0) return;
  problem.asked_lambda = known;
  problem.lambda = batch_lambda(known, problem.scale, dictionary_scale, kLargestLambda);
}

void WorkingSetPool::subtract(Slot& slot, std::int64_t count) {
  subtract_atoms(exact_columns(), list.data(), values.data(), count, slot.x.data(), slot.r.data());
  slot.magnitude = slot.squares = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    slot.magnitude += std::fabs(values[index_of(k)]);
    slot.squares += values[index_of(k)] * values[index_of(k)];
  }
}

WorkingSetPool::Certificate WorkingSetPool::certificate(const Slot& slot, double correlation) const {
  const double* const r = slot.r.data();
  const double energy = dot(r, r, slot.r.size()) + penalty.ridge * slot.squares;
  const double alignment = dot(slot.x.data(), r, slot.r.size());
  Certificate result;
  result.primal = energy / 2 + slot.problem.lambda * slot.weighted;
  result.gap = gap_under_penalty(result.primal, energy, alignment, correlation, slot.problem.lambda,
                                 atom_norm * slot.magnitude, penalty.nonnegative);
  return result;
}

bool WorkingSetPool::better_than_nothing(const Slot& slot) const {
  const double* const r = slot.r.data();
  return (dot(r, r, slot.r.size()) + penalty.ridge * slot.squares) / 2 + slot.problem.lambda * slot.weighted <=
         slot.problem.energy;
}

void WorkingSetPool::forget_code(Slot& slot) const {
  std::copy_n(slot.x.data(), slot.x.size(), slot.r.data());
  slot.magnitude = slot.weighted = slot.squares = 0;
}

double WorkingSetPool::inner_tolerance(const Slot& slot, double least) const {
  const double room = slot.problem.lambda * slot.weighted;
  return std::clamp(0.2 * gap * slot.problem.energy / std::max(room, 1e-300), least, 1e-3);
}

std::int64_t WorkingSetPool::initial_code(const Slot& slot, std::int64_t most) {
  SparseCodes code;
  append_start(*initial, slot.problem.index, penalty, code);
  const double unit = dictionary_scale / slot.problem.scale;
  ++stamp;
  std::int64_t count = 0;
  for (std::size_t k = 0; k < code.indices.size(); ++k) {
    std::int64_t& seen = atom_stamps[index_of(code.indices[k])];
    if (seen == stamp) continue;
    seen = stamp;
    if (count == most) return 0;
    fresh[index_of(count)] = code.indices[k];
    values[index_of(count++)] = code.values[k] * unit;
  }
  return count;
}

void WorkingSetPool::round_residual(const Slot& slot) {
  std::transform(slot.r.data(), slot.r.data() + slot.r.size(), float_residual.data(),
                 [](double value) { return static_cast<float>(value); });
}

// A problem has left. What the sets of all that run take goes with the squares of their sizes, and they take turns: so few run at
// once that it stays near, and enough to fill a pass. On the medium lead field at .1 of lambda_max (68 nonzeros, 1 MiB of
// second-level cache) 24 or 32 at once take 5 % less time a problem than 64, at .8 (4 nonzeros) 6 to 11 % more.
void WorkingSetPool::keep_in_cache(std::int64_t nonzeros) {
  constexpr double kForget = 1.0 / 16, kSquares = 150 * 1024;
  constexpr std::int64_t kFewest = 24;
  usual_nonzeros_ += kForget * (static_cast<double>(nonzeros) - usual_nonzeros_);
  const double room = kSquares / std::max(usual_nonzeros_ * usual_nonzeros_, 1.0);
  const std::int64_t groups = static_cast<std::int64_t>(std::min(room, 1e6)) / residuals.group();
  wide_ = std::clamp(groups * residuals.group(), kFewest, WorkingSetBatch::kPlaces);
}

void WorkingSetPool::leave(Slot& slot, std::int64_t count, const Certificate& found, bool stuck) {
  slot.problem.primal = found.primal;
  slot.problem.gap = found.gap;
  slot.problem.stuck = stuck;
  keep_in_cache(count);
  std::vector<std::int32_t>& order = fresh;
  std::iota(order.begin(), order.begin() + count, 0);
  std::sort(order.begin(), order.begin() + count,
            [this](std::int32_t a, std::int32_t b) { return list[index_of(a)] < list[index_of(b)]; });
  const double unit = slot.problem.scale / dictionary_scale;
  for (std::int64_t k = 0; k < count; ++k) {
    codes_.indices.push_back(list[index_of(order[index_of(k)])]);
    codes_.values.push_back(values[index_of(order[index_of(k)])] * unit);
  }
  codes_.offsets.push_back(static_cast<std::int64_t>(codes_.values.size()));
  done_.push_back(slot.problem);
}

}  // namespace shrinkwarp
