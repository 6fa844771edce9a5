#include <shrinkwarp/models/lasso/working_set.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include <shrinkwarp/kernels/active_set/active_set.hpp>
#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/models/lasso/batch_penalty.hpp>
#include <shrinkwarp/models/lasso/flow.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

// Atoms that a problem starts with. A working set then grows by the atoms over their threshold, the furthest first.
constexpr std::int64_t kFirstAtoms = 16;
constexpr double kGrowth = 0.8;  // of the support
constexpr std::int64_t kMostNewAtoms = 64;
// While more atoms than this are over their threshold for sure, the certificate is not worth its products.
constexpr std::int64_t kFewViolators = 4;
// Float64 looks at the atoms that may pass this share of lambda: near the solution the largest correlation is a little
// under or over lambda, and the best scale of the certificate wants it exactly.
constexpr double kLookFrom = 0.999;
// With so few violators the round is the last one or nearly so: the code is settled once more against float64.
constexpr std::int64_t kNearTheEnd = 16;
// New atoms are looked for among so many of the furthest for each that is wanted: some share a cluster.
constexpr std::int64_t kSortedAnAtom = 4;
// Panels are far over the threshold from here on.
constexpr double kFarOver = 1.1;
// Rounds without a new atom after which float is at its end.
constexpr std::int64_t kIdleRounds = 2;
// A pass multiplies so many coordinates that what is beyond them blurs correlations by this share of lambda: the blur
// leaves atoms open, whose float64 products cost what the coordinates save.
constexpr double kBlur = 0.1;
// What lambda is taken for before it is known, as a share of the largest that it can be.
constexpr double kLikelyLambda = 0.3;
constexpr std::int64_t kCapacity = 32;           // atoms that a pool's working sets have room for at first
constexpr std::int64_t kLargestCapacity = 2048;  // and at most; fewer where there are few rows or atoms
// In the batch's units lambda_max is at most ||D||_2 sqrt(n) < 1e7.
constexpr double kLargestLambda = 1e30;
// Passes bound correlations in float, whose absolute rounding is far under this; what is over a smaller lambda they might
// take for nothing.
constexpr double kSmallestLambda = 1e-30;

std::size_t index_of(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

std::int64_t padded_rows(std::int64_t rows) {
  return (rows + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
}

// No more atoms than rows are in use at once; W holds some times as many.
std::int64_t largest_capacity(std::int64_t rows, std::int64_t atoms) {
  return std::min({kLargestCapacity, atoms, 4 * rows + 64});
}

// The largest float that is not over a number.
float rounded_down(double value) {
  const float rounded = static_cast<float>(value);
  return static_cast<double>(rounded) > value ? std::nextafterf(rounded, 0) : rounded;
}

// Places of a pool's residuals: each level begins at a whole group, and so leaves out as many as a group has but one.
std::int64_t residual_places(std::int64_t rows, std::int64_t places) {
  constexpr std::int64_t kLargestGroup = 8;
  const std::int64_t levels = (rows + QuantizedDictionary::kLevelRows - 1) / QuantizedDictionary::kLevelRows;
  return places + std::min(places, levels) * (kLargestGroup - 1);
}

struct Certificate {
  double primal = 0, gap = 0;
};

}  // namespace

struct WorkingSetBatch::Slot {
  Problem problem;
  ActiveSet<float> set;
  Tensor<double> x, r;                // [n padded]
  std::vector<std::uint64_t> in_set;  // a bit an atom
  std::int64_t idle = 0;              // rounds without a new atom
  bool waits_for_start = false;       // lambda has to be known before it starts at its initial code
  bool near_end = false;              // so few violators are left that this may be the last round
  std::int64_t level = 0, place = 0;  // of the residual in the pass
  double magnitude = 0;               // ||z||_1
  double weighted = 0;                // sum of w_j |z_j|
  double squares = 0;                 // ||z||^2, where there is a ridge

  bool holds(std::int32_t atom) const { return (in_set[index_of(atom / 64)] >> (atom % 64) & 1U) != 0; }
  void mark(std::int32_t atom) { in_set[index_of(atom / 64)] |= std::uint64_t{1} << (atom % 64); }
};

struct WorkingSetBatch::Worker {
  Context context = Context::cpu(1);
  const WorkingSetDictionary& parts;
  const AtomBounds bounds;  // divided by the weights
  const Penalty& penalty;   // in the batch's units, no weight is 0
  const bool plain;
  const SparseCodes* const initial;  // of all problems, or nullptr
  const double typical_weight;
  const std::int64_t m;
  const std::int64_t most_atoms;  // of a working set
  const double gap;               // relative, that is wanted
  const double dictionary_scale, atom_norm;
  std::int64_t max_passes;

  QuantizedResiduals residuals;
  Tensor<float> C, highest;  // of the pool
  std::vector<Slot> slots;
  std::vector<Slot*> running;  // in the order of their places
  std::size_t passed = 0;      // of running, at its end: their pass has run, and its step is due
  std::vector<Slot*> idle;
  const CancelToken* cancel;
  Profile profile;
  Profile* timed = nullptr;

  // Scratch.
  std::vector<std::int32_t> open, list, fresh;  // [m] atoms
  std::vector<std::int32_t> positions;          // [m] in W, beside list
  std::vector<double> values, thresholds;       // [m]
  std::vector<float> heights;                   // [panels]
  Tensor<float> float_residual;                 // [n padded]
  std::vector<float> float_values;              // [m]
  std::vector<std::int64_t> stamps;             // [m], by cluster: the last choice that took one of it
  std::vector<std::int64_t> atom_stamps;        // [m], where there are initial codes: the last that had the atom
  std::int64_t stamp = 0;
  ActiveSet<double> exact;

  // Where the dictionary is small.
  ActiveSet<float> all_atoms;
  std::vector<double> all_correlations;  // [m padded]

  // What is done since the last retire().
  std::vector<Problem> done;
  SparseCodes codes;

  Worker(const Dictionary& dictionary, const WorkingSetDictionary& parts, const LassoOptions& options,
         const Penalty& penalty, const AtomBounds& bounds, std::int64_t places)
      : parts(parts),
        bounds(bounds),
        penalty(penalty),
        plain(penalty.plain()),
        initial(options.initial),
        typical_weight(typical(penalty.weights)),
        m(dictionary.atoms()),
        most_atoms(largest_capacity(dictionary.rows(), m)),
        gap(options.gap),
        dictionary_scale(dictionary.scale()),
        atom_norm(dictionary.atom_norm()),
        max_passes(options.max_iterations),
        residuals(context, parts.quantized, residual_places(dictionary.rows(), places)),
        C(context, parts.quantized.padded_atoms(), residuals.places()),
        highest(context, parts.quantized.panels(), residuals.places()),
        slots(index_of(parts.transposed.size() > 0 ? 1 : places)),
        cancel(options.cancel),
        timed(options.profile ? &profile : nullptr) {
    const std::int64_t rows = padded_rows(dictionary.rows());
    for (Slot& slot : slots) {
      slot.set = ActiveSet<float>(context, std::min(kCapacity, most_atoms));
      slot.x = Tensor<double>::zeros(context, rows);
      slot.r = Tensor<double>::zeros(context, rows);
      slot.in_set.resize(index_of((m + 63) / 64));
      idle.push_back(&slot);
    }
    for (auto* atoms : {&open, &list, &fresh, &positions})
      atoms->resize(index_of(std::max(m, parts.quantized.padded_atoms())));
    for (auto* numbers : {&values, &thresholds}) numbers->resize(index_of(m + kMostNewAtoms));
    stamps.assign(index_of(m), 0);
    if (initial) atom_stamps.assign(index_of(m), 0);
    heights.resize(index_of(parts.quantized.panels()));
    float_residual = Tensor<float>::zeros(context, rows);
    float_values.resize(index_of(m));
    if (!small()) return;
    all_correlations.resize(index_of(parts.transposed.rows()));
    clear(all_atoms);
    all_atoms.take_all(context, parts.gram_matrix(), dictionary.rows());
  }

  bool cancelled() const { return cancel && cancel->cancelled(); }

  // Every problem is solved on all atoms at once.
  bool small() const { return parts.transposed.size() > 0; }

  MatrixView<const double> exact_columns() const { return parts.exact_columns; }

  // The median of the finite weights: only for how many coordinates a pass multiplies.
  static double typical(const std::vector<double>& weights) {
    std::vector<double> finite;
    std::copy_if(weights.begin(), weights.end(), std::back_inserter(finite), [](double w) { return std::isfinite(w); });
    if (finite.empty()) return 1;
    const auto middle = finite.begin() + static_cast<std::ptrdiff_t>(finite.size() / 2);
    std::nth_element(finite.begin(), middle, finite.end());
    return *middle;
  }

  template <class T>
  void clear(ActiveSet<T>& set) const {
    set.clear(static_cast<T>(penalty.ridge), penalty.nonnegative);
  }

  // What is compared with lambda: of a correlation divided by its atom's weight, and of one that is not.
  template <class T>
  T side(T divided) const {
    return penalty.nonnegative ? divided : std::fabs(divided);
  }
  double over(std::int32_t j, double correlation) const {
    return side(penalty.weights.empty() ? correlation : correlation / penalty.weights[index_of(j)]);
  }
  // What the active set compares the correlation itself with.
  double threshold(double lambda, std::int32_t j) const {
    if (penalty.weights.empty()) return lambda;
    // Not 0, so that an infinite weight leaves its atom out where lambda is 0.
    return std::max(lambda, std::numeric_limits<double>::min()) * penalty.weights[index_of(j)];
  }

  const float* correlations(std::int64_t place) const { return C.matrix().column(place); }

  std::int64_t open_at(std::int64_t place, double threshold) {
    return open_atoms(parts.quantized, bounds, residuals, place, correlations(place), highest.matrix().column(place),
                      rounded_down(threshold), open.data());
  }

  // lambda_max of an observation whose pass has run: exact for the atoms that may have it.
  double largest_correlation(std::int64_t place, const double* r) {
    const float* const high = highest.matrix().column(place);
    const float* const c = correlations(place);
    const std::int64_t panel = std::max_element(high, high + parts.quantized.panels()) - high;
    const std::int64_t first = panel * parts.quantized.panel_atoms();
    const std::int64_t last = std::min(first + parts.quantized.panel_atoms(), m);
    std::int32_t best = static_cast<std::int32_t>(first);
    for (std::int64_t j = first; j < last; ++j)
      if (side(c[j]) > side(c[best])) best = static_cast<std::int32_t>(j);
    double largest = 0;
    correlate_atoms(exact_columns(), &best, 1, r, &largest);
    largest = std::max(over(best, largest), 0.0);
    const std::int64_t count = open_at(place, largest);
    correlate_atoms(exact_columns(), open.data(), count, r, values.data());
    for (std::int64_t k = 0; k < count; ++k) largest = std::max(largest, over(open[index_of(k)], values[index_of(k)]));
    return largest;
  }

  void set_lambda(Problem& problem, double lambda_max, FunctionRef<double(std::int64_t, double)> lambda_of) const {
    if (problem.lambda >= 0) return;
    problem.asked_lambda = lambda_of(problem.index, lambda_max_of(lambda_max, problem.scale, dictionary_scale));
    problem.lambda = batch_lambda(problem.asked_lambda, problem.scale, dictionary_scale, kLargestLambda);
  }

  // The code of a working set, in no order: to list and values. @return the number of nonzeros
  template <class T>
  std::int64_t nonzeros(const ActiveSet<T>& set) {
    for (std::int64_t k = 0; k < set.support(); ++k) {
      list[index_of(k)] = set.atom(set.active(k));
      values[index_of(k)] = set.code(set.active(k));
    }
    return set.support();
  }

  template <class T>
  void update_residual(Slot& slot, const ActiveSet<T>& set) {
    const std::int64_t count = nonzeros(set);
    subtract_atoms(exact_columns(), list.data(), values.data(), count, slot.x.data(), slot.r.data());
    slot.magnitude = 0;
    for (std::int64_t k = 0; k < count; ++k) slot.magnitude += std::fabs(values[index_of(k)]);
    slot.weighted = slot.magnitude;
    if (plain) return;
    slot.weighted = slot.squares = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const double weight = penalty.weights.empty() ? 1 : penalty.weights[index_of(list[index_of(k)])];
      slot.weighted += weight * std::fabs(values[index_of(k)]);
      slot.squares += values[index_of(k)] * values[index_of(k)];
    }
  }

  // The code of a position is told its correlation from d'r, of which a ridge takes its share.
  template <class T>
  void tell(ActiveSet<T>& set, std::int64_t position, double correlation) const {
    set.set_correlation(position, correlation - penalty.ridge * set.code(position));
  }

  // One more step to stationarity on S, from correlations in float64.
  template <class T>
  void settle_exactly(Slot& slot, ActiveSet<T>& set) {
    const std::int64_t count = set.support();
    for (std::int64_t k = 0; k < count; ++k) list[index_of(k)] = set.atom(set.active(k));
    correlate_atoms(exact_columns(), list.data(), count, slot.r.data(), values.data());
    for (std::int64_t k = 0; k < count; ++k) tell(set, set.active(k), values[index_of(k)]);
    set.settle();
    update_residual(slot, set);
  }

  Certificate certificate(const Slot& slot, double correlation) const {
    const double* const r = slot.r.data();
    const double energy = dot(r, r, slot.r.size()) + penalty.ridge * slot.squares;
    const double alignment = dot(slot.x.data(), r, slot.r.size());
    Certificate result;
    result.primal = energy / 2 + slot.problem.lambda * slot.weighted;
    result.gap = gap_under_penalty(result.primal, energy, alignment, correlation, slot.problem.lambda,
                                   atom_norm * slot.magnitude, penalty.nonnegative);
    return result;
  }

  bool better_than_nothing(const Slot& slot) const {
    const double* const r = slot.r.data();
    return (dot(r, r, slot.r.size()) + penalty.ridge * slot.squares) / 2 + slot.problem.lambda * slot.weighted <=
           slot.problem.energy;
  }

  void forget_code(Slot& slot) {
    std::copy_n(slot.x.data(), slot.x.size(), slot.r.data());
    slot.magnitude = slot.weighted = slot.squares = 0;
  }

  // How far a correlation may pass its threshold for a fifth of the gap that is wanted.
  double inner_tolerance(const Slot& slot, double least) const {
    const double room = slot.problem.lambda * slot.weighted;
    return std::clamp(0.2 * gap * slot.problem.energy / std::max(room, 1e-300), least, 1e-3);
  }

  // Of the `count` atoms of `fresh` keeps those that are furthest over, one of each cluster, `most` of them.
  // @param c  divided by the weights
  void keep_largest(const float* c, std::int64_t& count, std::int64_t most) {
    const auto before = [this, c](std::int32_t a, std::int32_t b) {
      const float x = side(c[a]), y = side(c[b]);
      return x > y || (x == y && a < b);
    };
    // Enough that one of each cluster is likely to be among them.
    const std::int64_t sorted = std::min(count, kSortedAnAtom * most);
    if (sorted < count) std::nth_element(fresh.begin(), fresh.begin() + sorted, fresh.begin() + count, before);
    std::sort(fresh.begin(), fresh.begin() + sorted, before);
    ++stamp;
    std::int64_t kept = 0;
    for (std::int64_t k = 0; k < sorted && kept < most; ++k) {
      const std::int32_t j = fresh[index_of(k)];
      std::int64_t& seen = stamps[index_of(parts.cluster[index_of(j)])];
      if (seen == stamp) continue;
      seen = stamp;
      fresh[index_of(kept++)] = j;
    }
    count = kept;
  }

  // A problem comes in, with the code 0.
  void fill(Slot& slot, const double* x, std::int64_t rows, const Problem& problem) {
    slot.problem = problem;
    double largest = 0;
    for (std::int64_t i = 0; i < rows; ++i) largest = std::max(largest, std::fabs(x[i]));
    slot.problem.scale = largest > 0 ? std::exp2(std::ilogb(largest)) : 1;
    double energy = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      const double value = x[i] / slot.problem.scale;
      slot.x.data()[i] = slot.r.data()[i] = value;
      energy += value * value;
    }
    slot.problem.energy = energy / 2;
    clear(slot.set);
    std::fill(slot.in_set.begin(), slot.in_set.end(), 0);
    slot.idle = 0;
    slot.waits_for_start = initial != nullptr;
    slot.magnitude = slot.weighted = slot.squares = 0;
  }

  // The initial code of a problem, in the batch's units: its atoms to fresh, distinct, and their values to `values`.
  // @return their number; 0 where a set cannot have so many
  std::int64_t initial_code(const Slot& slot) {
    SparseCodes code;
    append_start(*initial, slot.problem.index, penalty, code);
    const double unit = dictionary_scale / slot.problem.scale;
    ++stamp;
    std::int64_t count = 0;
    for (std::size_t k = 0; k < code.indices.size(); ++k) {
      std::int64_t& seen = atom_stamps[index_of(code.indices[k])];
      if (seen == stamp) continue;
      seen = stamp;
      if (count == most_atoms) return 0;
      fresh[index_of(count)] = code.indices[k];
      values[index_of(count++)] = code.values[k] * unit;
    }
    return count;
  }

  // Makes the initial code the code, and its atoms the set. Where rounding lets no set have them all in use, they are in it
  // with the code 0.
  void start(Slot& slot) {
    slot.waits_for_start = false;
    const std::int64_t count = initial_code(slot);
    if (count == 0) return;
    const std::vector<double> code(values.begin(), values.begin() + count);
    add_fresh(slot, slot.set, count);
    if (!slot.set.start(code.data())) return;
    update_residual(slot, slot.set);
    settle_exactly(slot, slot.set);
  }

  // Takes a problem out: its code to `codes` in the user's units.
  template <class T>
  void finish(Slot& slot, const ActiveSet<T>& set, const Certificate& found, bool stuck) {
    slot.problem.primal = found.primal;
    slot.problem.gap = found.gap;
    slot.problem.stuck = stuck;
    const std::int64_t count = nonzeros(set);
    std::vector<std::int32_t>& order = fresh;
    std::iota(order.begin(), order.begin() + count, 0);
    std::sort(order.begin(), order.begin() + count,
              [this](std::int32_t a, std::int32_t b) { return list[index_of(a)] < list[index_of(b)]; });
    const double unit = slot.problem.scale / dictionary_scale;
    for (std::int64_t k = 0; k < count; ++k) {
      codes.indices.push_back(list[index_of(order[index_of(k)])]);
      codes.values.push_back(values[index_of(order[index_of(k)])] * unit);
    }
    codes.offsets.push_back(static_cast<std::int64_t>(codes.values.size()));
    done.push_back(slot.problem);
  }

  // Adds the first `count` atoms of `fresh`, with correlations in the precision of the set.
  void add_fresh(Slot& slot, ActiveSet<float>& set, std::int64_t count) {
    round_residual(slot);
    correlate_atoms(parts.columns.matrix(), fresh.data(), count, float_residual.data(), float_values.data());
    std::copy_n(float_values.begin(), count, values.begin());
    add_with_values(slot, set, parts.columns.matrix(), parts.gram_matrix(), count);
  }
  void add_fresh(Slot& slot, ActiveSet<double>& set, std::int64_t count) {
    correlate_atoms(exact_columns(), fresh.data(), count, slot.r.data(), values.data());
    add_with_values(slot, set, exact_columns(), {}, count);
  }
  template <class T>
  void add_with_values(Slot& slot, ActiveSet<T>& set, identity_t<MatrixView<const T>> columns,
                       identity_t<MatrixView<const T>> gram, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) {
      thresholds[index_of(k)] = threshold(slot.problem.lambda, fresh[index_of(k)]);
      slot.mark(fresh[index_of(k)]);
    }
    if (set.size() + count > set.capacity())
      set.reserve(context, std::max(std::min(most_atoms, 2 * set.capacity()), set.size() + count));
    set.add(columns, gram, fresh.data(), values.data(), thresholds.data(), count);
  }

  void round_residual(const Slot& slot) {
    std::transform(slot.r.data(), slot.r.data() + slot.r.size(), float_residual.data(),
                   [](double value) { return static_cast<float>(value); });
  }

  // New atoms that a round asks for at most.
  static std::int64_t atoms_wanted(const Slot& slot) {
    if (slot.set.size() == 0) return kFirstAtoms;
    const auto grown = static_cast<std::int64_t>(kGrowth * static_cast<double>(slot.set.support()));
    return std::max(kFirstAtoms, std::min(grown, kMostNewAtoms));
  }

  // The atoms outside W of the highest panels, enough for `wanted` new ones: to `fresh`. @return what they are over
  double highest_atoms(const Slot& slot, std::int64_t wanted, std::int64_t& fresh_count) {
    const float* const high = highest.matrix().column(slot.place);
    const std::int64_t panels = parts.quantized.panels();
    double floor = 0;
    if (panels > wanted) {
      std::copy_n(high, panels, heights.begin());
      std::nth_element(heights.begin(), heights.begin() + wanted - 1, heights.end(), std::greater<float>());
      floor = static_cast<double>(std::nextafterf(heights[index_of(wanted - 1)], 0));
    }
    if (slot.set.size() > 0 && !(floor > kFarOver * slot.problem.lambda)) return floor;  // of no use
    const std::int64_t count = open_at(slot.place, floor);
    fresh_count = 0;
    for (std::int64_t k = 0; k < count; ++k)
      if (!slot.holds(open[index_of(k)])) fresh[index_of(fresh_count++)] = open[index_of(k)];
    keep_largest(correlations(slot.place), fresh_count, wanted);
    return floor;
  }

  // Whether so many panels hold an atom far over the threshold that the furthest are all that is wanted: to `fresh` then.
  // Panels do not tell the signs apart.
  bool many_violators(const Slot& slot, std::int64_t wanted, std::int64_t& fresh_count) {
    const PhaseTimer timer(context, timed, "choose");
    return !penalty.nonnegative && highest_atoms(slot, wanted, fresh_count) > kFarOver * slot.problem.lambda &&
           (slot.set.size() == 0 || fresh_count >= wanted / 2);
  }

  // Of `count` open atoms, those of S and those that float leaves open too: to `list`, with their positions in W or -1.
  // Atoms outside W that are over the threshold go to `fresh`.
  // @return their number in list; -1 where more than kFewViolators are over it for sure and no certificate is due
  std::int64_t narrow(Slot& slot, std::int64_t count, bool certificate_due, std::int64_t& fresh_count) {
    const double lambda = slot.problem.lambda;
    const float* const c = correlations(slot.place);
    fresh_count = 0;
    std::int64_t unsure = 0, clear = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t j = open[index_of(k)];
      if (slot.holds(j)) continue;
      const double value = side(static_cast<double>(c[j]));
      const double bound = error_bound(bounds, residuals, slot.place, j);
      if (value > lambda) fresh[index_of(fresh_count++)] = j;
      if (value - bound > lambda) ++clear;
      if (penalty.nonnegative && value + bound <= kLookFrom * lambda) continue;
      list[index_of(unsure++)] = j;
    }
    if (clear > kFewViolators && !certificate_due) return -1;
    round_residual(slot);
    correlate_atoms(parts.columns.matrix(), list.data(), unsure, float_residual.data(), float_values.data());
    const double error = float_error(parts.quantized.rows()) * static_cast<double>(residuals.norm(slot.place));
    std::int64_t kept = 0;
    for (std::int64_t k = 0; k < unsure; ++k) {
      const std::int32_t j = list[index_of(k)];
      // ||d|| is no more than the quantised atom's norm and what was rounded away.
      const double norm = static_cast<double>(bounds.norm[j]) + static_cast<double>(bounds.rounding[j]);
      if (over(j, static_cast<double>(float_values[index_of(k)])) + error * norm > kLookFrom * lambda) {
        positions[index_of(kept)] = -1;
        list[index_of(kept++)] = j;
      }
    }
    for (std::int64_t k = 0; k < slot.set.support(); ++k) {
      positions[index_of(kept)] = slot.set.active(k);
      list[index_of(kept++)] = slot.set.atom(slot.set.active(k));
    }
    for (std::int64_t k = 0; k < count; ++k) {  // of W, but not of S
      const std::int32_t j = open[index_of(k)];
      if (!slot.holds(j)) continue;
      std::int64_t position = 0;
      while (slot.set.atom(position) != j) ++position;
      if (slot.set.is_active(position)) continue;
      positions[index_of(kept)] = static_cast<std::int32_t>(position);
      list[index_of(kept++)] = j;
    }
    return kept;
  }

  // Float64 for the `count` atoms of `list`: those of W are told, the others may be violators and then go to `fresh`.
  // @return a bound of the largest correlation, as it is compared with lambda: attained, or kLookFrom lambda
  double look_exactly(Slot& slot, std::int64_t count, std::int64_t& fresh_count) {
    correlate_atoms(exact_columns(), list.data(), count, slot.r.data(), values.data());
    double most = kLookFrom * slot.problem.lambda;
    fresh_count = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t position = positions[index_of(k)];
      if (position >= 0) {
        tell(slot.set, position, values[index_of(k)]);
        values[index_of(k)] -= penalty.ridge * slot.set.code(position);
      }
      const double value = over(list[index_of(k)], values[index_of(k)]);
      most = std::max(most, value);
      if (position < 0 && value > slot.problem.lambda) fresh[index_of(fresh_count++)] = list[index_of(k)];
    }
    return most;
  }

  // How many coordinates the next pass of a problem multiplies: its own business, or its bits would be its neighbours'.
  std::int64_t level_of(const Slot& slot) const {
    const QuantizedDictionary& D = parts.quantized;
    const double norm = std::sqrt(dot(slot.r.data(), slot.r.data(), slot.r.size()));
    const double lambda =
        slot.problem.lambda >= 0 ? slot.problem.lambda * typical_weight : kLikelyLambda * norm * D.typical_norm();
    std::int64_t level = 0;
    while (level + 1 < D.levels() && D.typical_tail(level) * norm > kBlur * lambda) ++level;
    return level;
  }

  // Puts the residuals of what runs in places, those of one level together. @return the places in use
  std::int64_t arrange() {
    const PhaseTimer timer(context, timed, "quantize");
    for (Slot* slot : running) slot->level = level_of(*slot);
    std::stable_sort(running.begin(), running.end(), [](const Slot* a, const Slot* b) { return a->level < b->level; });
    std::int64_t place = 0;
    const std::int64_t group = residuals.group();
    for (std::size_t i = 0; i < running.size(); ++i) {
      if (i > 0 && running[i]->level != running[i - 1]->level) place = (place + group - 1) / group * group;
      running[i]->place = place;
      residuals.set(parts.quantized, place++, running[i]->level, running[i]->r.data());
    }
    return place;
  }

  // A pass has run: what follows for the problem at `place`. @return it has left
  bool step(Slot& slot, FunctionRef<double(std::int64_t, double)> lambda_of) {
    Problem& problem = slot.problem;
    const std::int64_t place = slot.place;
    if (problem.lambda < 0) {
      const PhaseTimer timer(context, timed, "lambda_max");
      set_lambda(problem, largest_correlation(place, slot.r.data()), lambda_of);
    }
    if (problem.lambda < kSmallestLambda && problem.energy > 0) return finish_in_double(slot, slot.set);
    if (slot.waits_for_start) {
      start(slot);
      if (slot.set.size() > 0) return false;  // and is looked at in its next pass
    }
    const bool last = problem.iterations >= max_passes;
    std::int64_t fresh_count = 0;
    // Where many panels are far over the threshold, the furthest atoms are all that is wanted.
    const std::int64_t wanted = atoms_wanted(slot);
    const bool many = !last && many_violators(slot, wanted, fresh_count);
    if (!many) {
      std::int64_t count = 0;
      {
        const PhaseTimer timer(context, timed, "choose");
        count = narrow(slot, open_at(place, kLookFrom * problem.lambda), last, fresh_count);
      }
      if (count >= 0) {
        const PhaseTimer timer(context, timed, "certificate");
        const double most = look_exactly(slot, count, fresh_count);
        const Certificate found = certificate(slot, most);
        if (found.gap <= gap * problem.energy || last) {
          finish(slot, slot.set, found, false);
          return true;
        }
      }
      const PhaseTimer timer(context, timed, "choose");
      if (slot.set.size() == 0 && !penalty.nonnegative)
        highest_atoms(slot, wanted, fresh_count);
      else
        keep_largest(correlations(place), fresh_count, wanted);
    }
    ++problem.iterations;
    slot.near_end = !many && fresh_count <= kNearTheEnd;
    slot.idle = fresh_count == 0 ? slot.idle + 1 : 0;
    if (slot.idle > kIdleRounds || slot.set.size() + fresh_count > most_atoms) return finish_in_double(slot, slot.set);
    {
      const PhaseTimer timer(context, timed, "gram");
      add_fresh(slot, slot.set, fresh_count);
    }
    ActiveSetOutcome outcome{};
    {
      const PhaseTimer timer(context, timed, "active set");
      slot.set.settle();
      outcome = slot.set.solve(inner_tolerance(slot, 1e-6), slot.set.steps() + 100 + 20 * slot.set.size());
    }
    if (outcome == ActiveSetOutcome::stuck) return finish_in_double(slot, slot.set);
    {
      const PhaseTimer timer(context, timed, "residual");
      update_residual(slot, slot.set);
      if (slot.near_end) settle_exactly(slot, slot.set);
    }
    return false;
  }

  // A problem with a small dictionary, from beginning to end: W is all atoms, and float64 looks at all of them.
  void solve_on_all(Slot& slot, FunctionRef<double(std::int64_t, double)> lambda_of) {
    const PhaseTimer timer(context, timed, "all atoms");
    Problem& problem = slot.problem;
    const auto largest = [this] {
      double most = 0;
      for (std::int64_t j = 0; j < m; ++j)
        most = std::max(most, over(static_cast<std::int32_t>(j), all_correlations[index_of(j)]));
      return most;
    };
    correlate_all(parts.transposed.matrix(), slot.r.data(), all_correlations.data());
    double most = largest();
    set_lambda(problem, most, lambda_of);
    for (std::int64_t j = 0; j < m; ++j)
      thresholds[index_of(j)] = threshold(problem.lambda, static_cast<std::int32_t>(j));
    all_atoms.restart(all_correlations.data(), thresholds.data());
    const auto look = [&] {
      correlate_all(parts.transposed.matrix(), slot.r.data(), all_correlations.data());
      for (std::int64_t k = 0; k < all_atoms.support(); ++k)  // position j of W is atom j
        all_correlations[index_of(all_atoms.active(k))] -= penalty.ridge * all_atoms.code(all_atoms.active(k));
      most = largest();
    };
    const std::int64_t count = slot.waits_for_start ? initial_code(slot) : 0;
    if (count > 0) {
      std::vector<double> code(index_of(m));
      for (std::int64_t k = 0; k < count; ++k) code[index_of(fresh[index_of(k)])] = values[index_of(k)];
      if (all_atoms.start(code.data())) {
        update_residual(slot, all_atoms);
        look();
        for (std::int64_t j = 0; j < m; ++j) all_atoms.set_correlation(j, all_correlations[index_of(j)]);
        all_atoms.settle();
        update_residual(slot, all_atoms);
        look();
      }
    }
    for (std::int64_t round = 0;; ++round) {
      const Certificate found = certificate(slot, most);
      if (found.gap <= gap * problem.energy || problem.iterations >= max_passes)
        return finish(slot, all_atoms, found, false);
      ++problem.iterations;
      if (round > kIdleRounds) break;
      if (round > 0) {  // from where float has come to, by what float64 sees there
        for (std::int64_t j = 0; j < m; ++j) all_atoms.set_correlation(j, all_correlations[index_of(j)]);
        all_atoms.settle();
      }
      if (all_atoms.solve(inner_tolerance(slot, 1e-6), all_atoms.steps() + 100 + 20 * m) == ActiveSetOutcome::stuck)
        break;
      update_residual(slot, all_atoms);
      look();
    }
    finish_in_double(slot, all_atoms);
  }

  // The same method in double, with exact passes, to the end. This may take seconds: a cancel is heard on the way, and what
  // that leaves is given up like what the method gives up.
  bool finish_in_double(Slot& slot, const ActiveSet<float>& set) {
    const PhaseTimer timer(context, timed, "in double");
    Problem& problem = slot.problem;
    if (exact.capacity() == 0) exact = ActiveSet<double>(context, std::min(kCapacity, most_atoms));
    clear(exact);
    // From the code that float has come to, if that is one.
    update_residual(slot, set);
    const std::int64_t support = better_than_nothing(slot) ? set.support() : 0;
    if (support == 0) forget_code(slot);
    const std::vector<double> start(values.begin(), values.begin() + support);
    std::copy_n(list.begin(), support, fresh.begin());
    std::fill(slot.in_set.begin(), slot.in_set.end(), 0);
    add_fresh(slot, exact, support);
    if (!exact.start(start.data())) forget_code(slot);

    std::vector<std::int32_t> all(index_of(m));
    std::iota(all.begin(), all.end(), 0);
    std::vector<double> c(index_of(m));
    Certificate found;
    for (std::int64_t stalled = 0; stalled <= 3 * kIdleRounds && !cancelled();) {
      correlate_atoms(exact_columns(), all.data(), m, slot.r.data(), c.data());
      for (std::int64_t k = 0; k < exact.support(); ++k)
        c[index_of(exact.atom(exact.active(k)))] -= penalty.ridge * exact.code(exact.active(k));
      double most = 0;
      std::int64_t fresh_count = 0;
      for (std::int64_t j = 0; j < m; ++j) {
        const double value = over(static_cast<std::int32_t>(j), c[index_of(j)]);
        most = std::max(most, value);
        if (value > problem.lambda && !slot.holds(static_cast<std::int32_t>(j)))
          fresh[index_of(fresh_count++)] = static_cast<std::int32_t>(j);
      }
      found = certificate(slot, most);
      if (found.gap <= gap * problem.energy || problem.iterations >= max_passes) {
        finish(slot, exact, found, false);
        return true;
      }
      ++problem.iterations;
      if (fresh_count > 4 * kMostNewAtoms) {
        std::nth_element(
            fresh.begin(), fresh.begin() + kMostNewAtoms, fresh.begin() + fresh_count,
            [&](std::int32_t a, std::int32_t b) { return over(a, c[index_of(a)]) > over(b, c[index_of(b)]); });
        fresh_count = kMostNewAtoms;
      }
      if (exact.size() + fresh_count > most_atoms) break;
      stalled = fresh_count == 0 ? stalled + 1 : 0;
      for (std::int64_t i = 0; i < exact.size(); ++i) exact.set_correlation(i, c[index_of(exact.atom(i))]);
      add_fresh(slot, exact, fresh_count);
      exact.settle();
      if (exact.solve(inner_tolerance(slot, 1e-12), exact.steps() + 100 + 20 * exact.size()) == ActiveSetOutcome::stuck)
        ++stalled;
      update_residual(slot, exact);
      settle_exactly(slot, exact);
    }
    if (!better_than_nothing(slot)) clear(exact);
    finish(slot, exact, found, true);
    return true;
  }
};

WorkingSetBatch::WorkingSetBatch(const Context& context, const Dictionary& dictionary,
                                 const WorkingSetDictionary& parts, const LassoOptions& options, std::int64_t workers,
                                 std::int64_t places, std::int64_t queue)
    : context_(context),
      dictionary_(dictionary),
      parts_(parts),
      options_(options),
      penalty_(in_batch_units(options.penalty, dictionary)),
      staging_(context, dictionary.rows(), queue),
      waiting_(Tensor<double>::zeros(context, dictionary.rows(), queue)),
      queue_(index_of(queue)) {
  const AtomBounds bounds = divided_bounds();
  for (std::int64_t t = 0; t < workers; ++t)
    workers_.push_back(std::make_unique<Worker>(dictionary, parts, options, penalty_, bounds, places));
}

// The atoms' bounds divided by their weights: those of C and of the errors, each rounded up once more.
AtomBounds WorkingSetBatch::divided_bounds() {
  const AtomBounds whole = parts_.quantized.bounds();
  if (penalty_.weights.empty() || whole.norm.size == 0) return whole;
  const std::int64_t padded = parts_.quantized.padded_atoms();
  divided_ = Tensor<float>::zeros(context_, padded, 3 + parts_.quantized.levels());
  const MatrixView<float> divided = divided_.matrix();
  for (std::int64_t j = 0; j < dictionary_.atoms(); ++j) {
    const double weight = penalty_.weights[index_of(j)];
    const auto up = [weight](double bound) {
      const double quotient = bound / weight;
      const auto rounded = static_cast<float>(quotient);
      return static_cast<double>(rounded) < quotient ? std::nextafterf(rounded, std::numeric_limits<float>::max())
                                                     : rounded;
    };
    constexpr double kUnit = 6e-8;
    divided(j, 0) = static_cast<float>(static_cast<double>(whole.factor[j]) / weight);
    divided(j, 1) = up(static_cast<double>(whole.rounding[j]) + kUnit * static_cast<double>(whole.norm[j]));
    divided(j, 2) = up(static_cast<double>(whole.norm[j]));
    for (std::int64_t level = 0; level < whole.tail.cols; ++level)
      divided(j, 3 + level) = up(static_cast<double>(whole.tail(j, level)));
  }
  return {{divided.column(0), padded, {}},
          {divided.column(1), padded, {}},
          {divided.column(2), padded, {}},
          divided.columns(3, whole.tail.cols)};
}

std::int64_t WorkingSetBatch::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t workers, std::int64_t places,
                                    std::int64_t queue) {
  const std::int64_t n = padded_rows(rows);
  const std::int64_t capacity = largest_capacity(rows, atoms);
  const std::int64_t slot = ActiveSet<float>::bytes(capacity) + 16 * n + atoms / 8 + 512;
  const std::int64_t pool = (residual_places(rows, places) + 8) * (2 * n + 5 * (atoms + 16) + 64);
  const std::int64_t scratch = ActiveSet<double>::bytes(capacity) +
                               ActiveSet<float>::bytes(std::min<std::int64_t>(atoms, 1024)) + 16 * capacity * capacity +
                               64 * (atoms + 1024);
  const std::int64_t levels = (rows + QuantizedDictionary::kLevelRows - 1) / QuantizedDictionary::kLevelRows;
  const std::int64_t weights = (4 * (3 + levels) + 8) * (atoms + 16);
  return workers * (places * slot + pool + scratch) + queue * (8 * rows + 128) + weights;
}

WorkingSetBatch::~WorkingSetBatch() {
  if (!options_.profile) return;
  for (const auto& worker : workers_)
    for (const PhaseTotals& phase : worker->profile.phases())
      options_.profile->add(phase.name, phase.seconds, phase.flops, phase.bytes);
}

std::int64_t WorkingSetBatch::running() const {
  std::int64_t count = queued_ - std::min(queued_, next_.load());
  for (const auto& worker : workers_) count += static_cast<std::int64_t>(worker->running.size());
  return count;
}

std::int64_t WorkingSetBatch::room() const {
  return static_cast<std::int64_t>(queue_.size()) - (queued_ - std::min(queued_, next_.load()));
}

void WorkingSetBatch::admit(const std::vector<Problem>& problems) {
  const MatrixView<const double> X = staging_.matrix().columns(0, static_cast<std::int64_t>(problems.size()));
  // What still waits moves to the front.
  const std::int64_t first = std::min(queued_, next_.load());
  const std::int64_t kept = queued_ - first;
  const MatrixView<double> waiting = waiting_.matrix();
  for (std::int64_t b = 0; b < kept && first > 0; ++b) {
    queue_[index_of(b)] = queue_[index_of(first + b)];
    std::copy_n(waiting.column(first + b), waiting.rows, waiting.column(b));
  }
  for (std::int64_t b = 0; b < X.cols; ++b) {
    queue_[index_of(kept + b)] = problems[index_of(b)];
    std::copy_n(X.column(b), X.rows, waiting.column(kept + b));
  }
  queued_ = kept + X.cols;
  next_ = 0;
}

bool WorkingSetBatch::take(Worker& worker, Slot& slot) {
  const std::int64_t next = next_.fetch_add(1);
  if (next >= queued_) return false;
  worker.fill(slot, waiting_.matrix().column(next), waiting_.rows(), queue_[index_of(next)]);
  return true;
}

void WorkingSetBatch::work(Worker& worker, bool more, FunctionRef<double(std::int64_t, double)> lambda_of) {
  // A round of the stream: long enough to be worth it, short enough to hear of a cancel and to lose little.
  constexpr double kSeconds = 0.2;
  const auto started = std::chrono::steady_clock::now();
  const auto& quantized = worker.parts.quantized;
  auto& running = worker.running;
  const auto late = [started] {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    return elapsed.count() > kSeconds;
  };
  if (worker.small()) {
    Slot& slot = *worker.idle.front();
    while (!late() && !worker.cancelled() && take(worker, slot)) worker.solve_on_all(slot, lambda_of);
    return;
  }
  for (;;) {
    if (worker.passed == 0) {
      bool empty = false;
      while (!worker.idle.empty() && !empty) {
        Slot& slot = *worker.idle.back();
        if (take(worker, slot)) {
          worker.idle.pop_back();
          running.push_back(&slot);
        } else {
          empty = true;
        }
      }
      if (running.empty() || (empty && more)) return;
      const std::int64_t count = worker.arrange();
      const PhaseTimer timer(worker.context, worker.timed, "pass",
                             2.0 * static_cast<double>(quantized.rows()) * static_cast<double>(quantized.atoms()) *
                                 static_cast<double>(count));
      bounded_correlation(worker.context, quantized, worker.bounds, worker.residuals, count,
                          worker.C.matrix().columns(0, count), worker.highest.matrix().columns(0, count));
      worker.passed = running.size();
    }
    // A hard problem may take seconds, and what is done waits for the stream: those that are left come next time.
    std::size_t kept = running.size() - worker.passed, next = kept;
    while (next < running.size() && !late() && !worker.cancelled()) {
      Slot* const slot = running[next++];
      if (worker.step(*slot, lambda_of))
        worker.idle.push_back(slot);
      else
        running[kept++] = slot;
    }
    worker.passed = running.size() - next;
    running.erase(running.begin() + static_cast<std::ptrdiff_t>(kept),
                  running.begin() + static_cast<std::ptrdiff_t>(next));
    if (late() || worker.cancelled()) return;
  }
}

void WorkingSetBatch::advance(bool more, FunctionRef<double(std::int64_t, double)> lambda_of) {
  context_.parallel_for(static_cast<std::int64_t>(workers_.size()),
                        [&](std::int64_t i, int) { work(*workers_[index_of(i)], more, lambda_of); });
}

const std::vector<WorkingSetBatch::Problem>& WorkingSetBatch::retire(SparseCodes& codes) {
  retired_.clear();
  for (const auto& worker : workers_) {
    const std::int64_t start = codes.offsets.back();
    for (std::size_t i = 1; i < worker->codes.offsets.size(); ++i)
      codes.offsets.push_back(start + worker->codes.offsets[i]);
    codes.indices.insert(codes.indices.end(), worker->codes.indices.begin(), worker->codes.indices.end());
    codes.values.insert(codes.values.end(), worker->codes.values.begin(), worker->codes.values.end());
    retired_.insert(retired_.end(), worker->done.begin(), worker->done.end());
    worker->codes.indices.clear();
    worker->codes.values.clear();
    worker->codes.offsets.assign(1, 0);
    worker->done.clear();
  }
  return retired_;
}

}  // namespace shrinkwarp
