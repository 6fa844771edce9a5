// Working sets of atoms: each problem is solved exactly on them (kernels/active_set).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <shrinkwarp/kernels/active_set/active_set.hpp>
#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/models/lasso/working_set_pool.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/index.hpp>

namespace shrinkwarp {
namespace {

// Atoms that a problem starts with. A working set then grows by the atoms over their threshold, the furthest first.
constexpr std::int64_t kFirstAtoms = 16;
constexpr double kGrowth = 0.8;  // of the support
constexpr std::int64_t kMostNewAtoms = 64;
// With so few violators the round is the last one or nearly so: the code is settled once more against float64.
constexpr std::int64_t kNearTheEnd = 16;
// New atoms are looked for among so many of the furthest for each that is wanted: some share a cluster.
constexpr std::int64_t kSortedAnAtom = 4;
// At first an atom that is no further over its threshold is not wanted: what is will take it down.
constexpr double kFirstOver = 1.05;
// Panels are far over the threshold from here on.
constexpr double kFarOver = 1.1;
// While many panels are far over the threshold, an atom of the set may be over it by this share of what they are: many that would
// join now leave again. At .1 of lambda_max on the medium lead field of docs/benchmarks/ .2 saves 5 % of the time and .4 6 %, at .5
// they cost 1 and 3 %.
constexpr double kOverMeanwhile = 0.3;
constexpr std::int64_t kTogether = 4;   // problems of a small dictionary whose first correlations are found at once
constexpr std::int64_t kCapacity = 32;  // atoms that a pool's working sets have room for at first
constexpr std::int64_t kLargestCapacity = 2048;  // and at most; fewer where there are few rows or atoms

// No more atoms than rows are in use at once; W holds some times as many.
std::int64_t largest_capacity(std::int64_t rows, std::int64_t atoms) {
  return std::min({kLargestCapacity, atoms, 4 * rows + 64});
}

// A pool of problems whose working sets are of atoms.
class AtomPool : public WorkingSetPool {
  struct Slot : WorkingSetPool::Slot {
    ActiveSet<float> set;
    bool near_end = false;  // so few violators are left that this may be the last round
  };

 public:
  AtomPool(const Dictionary& dictionary, const WorkingSetDictionary& parts, const LassoOptions& options,
           const Penalty& penalty, const AtomBounds& bounds, std::int64_t places)
      : WorkingSetPool(dictionary, parts, options, penalty, bounds, places, true),
        most_atoms(largest_capacity(dictionary.rows(), m)),
        slots(index_of(small() ? std::min(kTogether, places) : places)) {
    for (Slot& slot : slots) {
      if (!small()) slot.set = ActiveSet<float>(context, std::min(kCapacity, most_atoms));
      make_place(slot);
    }
    positions.resize(index_of(std::max(m, parts.quantized.padded_atoms())));
    thresholds.resize(index_of(m + kMostNewAtoms));
    keys.resize(index_of(m));
    position_of.resize(index_of(m));
    stamps.assign(index_of(m), 0);
    if (!small()) return;  // every problem is solved on all atoms at once
    clear(all_atoms);
    all_atoms.take_all(context, parts.gram_matrix(), dictionary.rows());
    first_correlations = Tensor<double>(context, parts.transposed.rows(), kTogether);
  }

 private:
  void empty_set(WorkingSetPool::Slot& slot) override { clear(static_cast<Slot&>(slot).set); }

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
    return penalty.weights.empty() ? lambda : WorkingSetPool::threshold(lambda, penalty.weights[index_of(j)]);
  }

  // The atoms that may be over a threshold that no panel which was left out reaches: to `open`.
  std::int64_t open_at(std::int64_t place, double threshold) {
    const std::int64_t count = open_atoms(parts.quantized, bounds, residuals, place, correlations(place),
                                          highest.matrix().column(place), threshold, open.data());
    for (std::int64_t k = 0; k < count; ++k) open[index_of(k)] = parts.order[index_of(open[index_of(k)])];
    return count;
  }

  // What the last pass says of an atom: its correlation, and how far that may be off.
  float about(std::int64_t place, std::int32_t j) const { return correlations(place)[parts.place_of[index_of(j)]]; }
  double blur(std::int64_t place, std::int32_t j) const {
    return error_bound(bounds, residuals, place, parts.place_of[index_of(j)]);
  }

  // lambda_max of an observation whose pass has run: exact for the atoms that may have it.
  double largest_correlation(std::int64_t place, const double* r) {
    const float* const high = highest.matrix().column(place);
    const float* const c = correlations(place);
    const std::int64_t panel = std::max_element(high, high + parts.quantized.panels()) - high;
    const std::int64_t first = panel * parts.quantized.panel_atoms();
    const std::int64_t last = std::min(first + parts.quantized.panel_atoms(), m);
    std::int64_t furthest = first;
    for (std::int64_t k = first; k < last; ++k)
      if (side(c[k]) > side(c[furthest])) furthest = k;
    const std::int32_t best = parts.order[index_of(furthest)];
    double largest = 0;
    correlate_atoms(exact_columns(), &best, 1, r, &largest);
    largest = std::max(over(best, largest), 0.0);
    // That may be less than others have for sure, but what was left out is under them too.
    const std::int64_t count = open_at(place, std::max(largest, static_cast<double>(limits[index_of(place)].left_out)));
    correlate_atoms(exact_columns(), open.data(), count, r, values.data());
    for (std::int64_t k = 0; k < count; ++k) largest = std::max(largest, over(open[index_of(k)], values[index_of(k)]));
    return largest;
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
    subtract(slot, count);
    slot.weighted = slot.magnitude;
    if (plain) return;
    slot.weighted = 0;
    for (std::int64_t k = 0; k < count; ++k)
      slot.weighted += weight(list[index_of(k)]) * std::fabs(values[index_of(k)]);
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

  // Of the `count` atoms of `fresh` keeps those that are furthest over, one of each cluster, `most` of them.
  void keep_largest(std::int64_t place, std::int64_t& count, std::int64_t most) {
    // Whole numbers in the order that is wanted: the furthest first, of equal ones the first.
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t j = fresh[index_of(k)];
      const float value = std::max(side(about(place, j)), 0.0F);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      keys[index_of(k)] = static_cast<std::uint64_t>(~bits) << 32U | static_cast<std::uint32_t>(j);
    }
    // So many that one of each cluster is likely to be among them, sorted a part after the other as long as it takes.
    const std::int64_t considered = std::min(count, kSortedAnAtom * most);
    ++stamp;
    std::int64_t kept = 0, sorted = 0;
    for (std::int64_t k = 0; k < considered && kept < most; ++k) {
      if (k == sorted) {
        sorted = std::min(considered, k + most);
        if (sorted < count) std::nth_element(keys.begin() + k, keys.begin() + sorted, keys.begin() + count);
        std::sort(keys.begin() + k, keys.begin() + sorted);
      }
      const auto j = static_cast<std::int32_t>(keys[index_of(k)] & 0xffffffffU);
      std::int64_t& seen = stamps[index_of(parts.cluster[index_of(j)])];
      if (seen == stamp) continue;
      seen = stamp;
      fresh[index_of(kept++)] = j;
    }
    count = kept;
  }

  // Makes the initial code the code, and its atoms the set. Where rounding lets no set have them all in use, they are in it
  // with the code 0.
  void start(Slot& slot) {
    slot.waits_for_start = false;
    const std::int64_t count = initial_code(slot, most_atoms);
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
    leave(slot, nonzeros(set), found, stuck);
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

  // New atoms that a round asks for at most.
  static std::int64_t atoms_wanted(const Slot& slot) {
    if (slot.set.size() == 0) return kFirstAtoms;
    const auto grown = static_cast<std::int64_t>(kGrowth * static_cast<double>(slot.set.support()));
    return std::max(kFirstAtoms, std::min(grown, kMostNewAtoms));
  }

  // The atoms outside W of the highest panels, enough for `wanted` new ones, of which some share a panel: to `fresh`.
  // @return what they are over
  double highest_atoms(const Slot& slot, std::int64_t wanted, std::int64_t& fresh_count) {
    const float* const high = highest.matrix().column(slot.place);
    const std::int64_t panels = parts.quantized.panels();
    double floor = 0;
    if (panels > wanted) {
      floor = static_cast<double>(std::nextafterf(nth_largest(high, panels, (3 * wanted + 3) / 4), 0));
    }
    floor = std::max(floor, static_cast<double>(limits[index_of(slot.place)].left_out));
    const double first_floor = kFirstOver * slot.problem.lambda;
    if (slot.set.size() == 0 && floor < first_floor) {
      const auto top = static_cast<double>(nth_largest(high, panels, 1));
      floor = std::max(floor, std::min(first_floor, (slot.problem.lambda + top) / 2));
    }
    if (slot.set.size() > 0 && !(floor > kFarOver * slot.problem.lambda)) return floor;  // of no use
    const std::int64_t count = open_at(slot.place, floor);
    fresh_count = 0;
    for (std::int64_t k = 0; k < count; ++k)
      if (!slot.holds(open[index_of(k)])) fresh[index_of(fresh_count++)] = open[index_of(k)];
    keep_largest(slot.place, fresh_count, wanted);
    return floor;
  }

  // What the panels alone say. They do not tell the signs apart.
  struct FirstLook {
    bool many = false;    // so many panels hold an atom far over the threshold that the furthest are all that is wanted
    bool begins = false;  // the set is empty, and the code 0 is no solution
  };
  // Atoms that join go to `fresh`, where either holds.
  FirstLook first_look(Slot& slot, std::int64_t wanted, std::int64_t& fresh_count) {
    FirstLook look;
    if (penalty.nonnegative) return look;
    const PhaseTimer timer(context, timed, "choose");
    const bool empty = slot.set.size() == 0;
    slot.reach = highest_atoms(slot, wanted, fresh_count);
    const bool far = slot.reach > kFarOver * slot.problem.lambda;
    look.many = far && (empty || fresh_count >= wanted / 2);
    if (empty && fresh_count > 0) {
      // The gap of the code 0 is (1 - lambda / lambda_max)^2 of 1/2 ||x||^2.
      const std::int32_t j = fresh.front();
      const double least = side(static_cast<double>(about(slot.place, j))) - blur(slot.place, j);
      look.begins = slot.problem.lambda < least * (1 - std::sqrt(gap));
    }
    return look;
  }

  // Of `count` open atoms, those of S and those that float leaves open too: to `list`, with their positions in W or -1.
  // Atoms outside W that are over the threshold go to `fresh`.
  // @return their number in list; -1 where more than kFewViolators are over it for sure and no certificate is due
  std::int64_t narrow(Slot& slot, std::int64_t count, bool certificate_due, std::int64_t& fresh_count) {
    const double lambda = slot.problem.lambda;
    fresh_count = 0;
    std::int64_t unsure = 0, clear = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t j = open[index_of(k)];
      if (slot.holds(j)) continue;
      const double value = side(static_cast<double>(about(slot.place, j)));
      const double bound = blur(slot.place, j);
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
      const std::int32_t at = parts.place_of[index_of(j)];
      const double norm = static_cast<double>(norm_bound(bounds.norm[at], bounds.rounding[at]));
      if (over(j, static_cast<double>(float_values[index_of(k)])) + error * norm > kLookFrom * lambda) {
        positions[index_of(kept)] = -1;
        list[index_of(kept++)] = j;
      }
    }
    for (std::int64_t k = 0; k < slot.set.support(); ++k) {
      positions[index_of(kept)] = slot.set.active(k);
      list[index_of(kept++)] = slot.set.atom(slot.set.active(k));
    }
    for (std::int64_t i = 0; i < slot.set.size(); ++i)
      position_of[index_of(slot.set.atom(i))] = static_cast<std::int32_t>(i);
    for (std::int64_t k = 0; k < count; ++k) {  // of W, but not of S
      const std::int32_t j = open[index_of(k)];
      if (!slot.holds(j)) continue;
      const std::int32_t position = position_of[index_of(j)];
      if (slot.set.is_active(position)) continue;
      positions[index_of(kept)] = position;
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

  // A pass has run: what follows for the problem at `place`. @return it has left
  bool take_step(WorkingSetPool::Slot& base, LambdaOf lambda_of) override {
    auto& slot = static_cast<Slot&>(base);
    Problem& problem = slot.problem;
    const std::int64_t place = slot.place;
    if (problem.lambda < 0) {
      const PhaseTimer timer(context, timed, "lambda_max");
      set_lambda(problem, largest_correlation(place, slot.r.data()), lambda_of);
    }
    // What was left out for a likely lambda may matter for this one, or in double.
    if (static_cast<double>(limits[index_of(place)].left_out) > kLookFrom * problem.lambda) {
      slot.wants_all = true;
      slot.has_passed = false;
      return false;
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
    const FirstLook look = last ? FirstLook{} : first_look(slot, wanted, fresh_count);
    if (!look.many && !look.begins) {
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
        keep_largest(place, fresh_count, wanted);
    }
    ++problem.iterations;
    slot.near_end = !look.many && fresh_count <= kNearTheEnd;
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
      constexpr double kMostOver = 1e6;
      const double tolerance = look.many ? std::min(kOverMeanwhile * (slot.reach / problem.lambda - 1), kMostOver)
                                         : inner_tolerance(slot, 1e-6);
      outcome = slot.set.solve(tolerance, slot.set.steps() + 100 + 20 * slot.set.size());
    }
    if (outcome == ActiveSetOutcome::stuck) return finish_in_double(slot, slot.set);
    {
      const PhaseTimer timer(context, timed, "residual");
      update_residual(slot, slot.set);
      if (slot.near_end) settle_exactly(slot, slot.set);
    }
    return false;
  }

  void begin_whole(const std::vector<WorkingSetPool::Slot*>& all) override {
    const PhaseTimer timer(context, timed, "all atoms");
    const double* observations[kTogether];
    for (std::size_t i = 0; i < all.size(); ++i) observations[i] = all[i]->x.data();
    correlate_all(parts.transposed.matrix(), observations, static_cast<std::int64_t>(all.size()),
                  first_correlations.matrix());
  }

  // A problem with a small dictionary, from beginning to end: W is all atoms, and float64 looks at all of them.
  void solve_whole(WorkingSetPool::Slot& base, std::size_t which, LambdaOf lambda_of) override {
    auto& slot = static_cast<Slot&>(base);
    const PhaseTimer timer(context, timed, "all atoms");
    Problem& problem = slot.problem;
    const double* const first = first_correlations.matrix().column(static_cast<std::int64_t>(which));
    const auto largest = [this] {
      if (plain) return largest_magnitude(all_correlations.data(), m);
      double most = 0;
      for (std::int64_t j = 0; j < m; ++j)
        most = std::max(most, over(static_cast<std::int32_t>(j), all_correlations[index_of(j)]));
      return most;
    };
    std::copy_n(first, all_correlations.size(), all_correlations.data());
    double most = largest();
    set_lambda(problem, most, lambda_of);
    if (penalty.weights.empty())
      std::fill_n(thresholds.begin(), m, threshold(problem.lambda, 0));
    else
      for (std::int64_t j = 0; j < m; ++j)
        thresholds[index_of(j)] = threshold(problem.lambda, static_cast<std::int32_t>(j));
    all_atoms.restart(all_correlations.data(), thresholds.data());
    // D'(x - D z), after update_residual() and of its code.
    const auto look = [&] {
      if (parts.exact_gram.size() > 0)
        subtract_atoms(parts.exact_gram.matrix(), list.data(), values.data(), all_atoms.support(), first,
                       all_correlations.data());
      else
        correlate_all(parts.transposed.matrix(), slot.r.data(), all_correlations.data());
      for (std::int64_t k = 0; k < all_atoms.support(); ++k)  // position j of W is atom j
        all_correlations[index_of(all_atoms.active(k))] -= penalty.ridge * all_atoms.code(all_atoms.active(k));
      most = largest();
    };
    const std::int64_t count = slot.waits_for_start ? initial_code(slot, most_atoms) : 0;
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

  const std::int64_t most_atoms;  // of a working set
  std::vector<Slot> slots;

  // Scratch.
  std::vector<std::int32_t> positions;    // [m] in W, beside list
  std::vector<std::int32_t> position_of;  // [m] of an atom of W in it
  std::vector<double> thresholds;         // [m]
  std::vector<std::uint64_t> keys;        // [m]
  std::vector<std::int64_t> stamps;       // [m], by cluster: the last choice that took one of it
  ActiveSet<double> exact;

  // Where the dictionary is small:
  ActiveSet<float> all_atoms;
  Tensor<double> first_correlations;  // [m padded, kTogether] D'x
};

}  // namespace

std::unique_ptr<WorkingSetPool> make_atom_pool(const Dictionary& dictionary, const WorkingSetDictionary& parts,
                                               const LassoOptions& options, const Penalty& penalty,
                                               const AtomBounds& bounds, std::int64_t places) {
  return std::make_unique<AtomPool>(dictionary, parts, options, penalty, bounds, places);
}

std::int64_t active_set_bytes(std::int64_t rows, std::int64_t atoms) {
  return ActiveSet<float>::bytes(largest_capacity(rows, atoms));
}

std::int64_t atom_scratch_bytes(std::int64_t rows, std::int64_t atoms) {
  const std::int64_t capacity = largest_capacity(rows, atoms);
  return ActiveSet<double>::bytes(capacity) + ActiveSet<float>::bytes(std::min<std::int64_t>(atoms, 1024)) +
         16 * capacity * capacity;
}

}  // namespace shrinkwarp
