// Working sets of groups of consecutive atoms: each problem is solved exactly on them (kernels/group_set), in double.
#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/models/lasso/working_set_pool.hpp>
#include <shrinkwarp/runtime/index.hpp>

namespace shrinkwarp {
namespace {

// Groups that a problem starts with. A working set then grows by the groups over their threshold, the furthest first.
constexpr std::int64_t kFirstGroups = 8;
constexpr double kGrowth = 0.8;  // of the support
constexpr std::int64_t kMostNewGroups = 64;
constexpr std::int64_t kCapacity = 16;  // groups that a working set has room for at first
// While groups are missing, W is solved to this share of what the furthest is over its threshold by.
constexpr double kLoose = 0.1;
constexpr double kLeastTolerance = 1e-14;
constexpr std::int64_t kMostSteps = 60;  // of Newton's, until the next pass

// Where no more groups than rows are in use, which some solution of every problem has, there is room for as many again as a
// round may bring. A set that is full drops what is not in use.
std::int64_t largest_capacity(std::int64_t rows, std::int64_t groups) {
  return std::min(groups, rows + rows / 2 + 2 * kMostNewGroups);
}

// A pool of problems whose working sets are of groups. Scratch named after atoms holds groups.
class GroupPool : public WorkingSetPool {
  struct Slot : WorkingSetPool::Slot {
    GroupSet set;
  };

 public:
  GroupPool(const Dictionary& dictionary, const WorkingSetDictionary& parts, const GroupBasis& basis,
            const LassoOptions& options, const Penalty& penalty, const AtomBounds& bounds, std::int64_t places)
      : WorkingSetPool(dictionary, parts, options, penalty, bounds, places, false),
        basis(basis),
        s(penalty.group_size),
        groups(m / s),
        most_groups(largest_capacity(dictionary.rows(), groups)),
        slots(index_of(small() ? 1 : places)) {
    for (Slot& slot : slots) {
      slot.set = GroupSet(context, s, std::min(kCapacity, most_groups));
      make_place(slot);
    }
    for (auto* numbers : {&about, &most}) numbers->resize(index_of(groups));
    positions.resize(index_of(groups));
    thresholds.resize(index_of(groups));
    upper.resize(index_of(parts.quantized.padded_atoms()));
  }

 private:
  void empty_set(WorkingSetPool::Slot& slot) override { static_cast<Slot&>(slot).set.clear(penalty.ridge); }

  double weight(std::int64_t g) const { return penalty.weights.empty() ? 1 : penalty.weights[index_of(g)]; }

  // What is compared with lambda, from D_g'r.
  double over(std::int64_t g, const double* c) const {
    double energy = 0;
    for (std::int64_t i = 0; i < s; ++i) energy += c[i] * c[i];
    return std::sqrt(energy) / weight(g);
  }

  // D_g'r in float64 for the first `count` groups of `which`: to `values`.
  void correlate(const std::vector<std::int32_t>& which, std::int64_t count, const double* r) {
    for (std::int64_t k = 0; k < count; ++k)
      for (std::int64_t i = 0; i < s; ++i)
        list[index_of(k * s + i)] = static_cast<std::int32_t>(which[index_of(k)] * s + i);
    correlate_atoms(exact_columns(), list.data(), count * s, r, values.data());
  }

  // The code of a working set: to list and values. @return the number of nonzeros
  std::int64_t nonzeros(const GroupSet& set) {
    std::int64_t count = 0;
    for (std::int64_t p = 0; p < set.size(); ++p) {
      for (std::int64_t i = 0; i < s; ++i) {
        if (set.code(p)[i] == 0) continue;
        list[index_of(count)] = static_cast<std::int32_t>(set.group(p) * s + i);
        values[index_of(count++)] = set.code(p)[i];
      }
    }
    return count;
  }

  void update_residual(Slot& slot) {
    const PhaseTimer timer(context, timed, "residual");
    subtract(slot, nonzeros(slot.set));
    slot.weighted = 0;
    for (std::int64_t p = 0; p < slot.set.size(); ++p)
      if (slot.set.is_active(p)) slot.weighted += weight(slot.set.group(p)) * slot.set.length(p);
  }

  // The set is told the correlations of a position from D_g'r, of which a ridge takes its share: in place.
  void tell(GroupSet& set, std::int64_t position, double* c) const {
    for (std::int64_t i = 0; i < s; ++i) c[i] -= penalty.ridge * set.code(position)[i];
    set.set_correlation(position, c);
  }

  void finish(Slot& slot, const Certificate& found, bool stuck) { leave(slot, nonzeros(slot.set), found, stuck); }

  bool give_up(Slot& slot) {
    if (!better_than_nothing(slot)) empty_set(slot);
    finish(slot, {}, true);
    return true;
  }

  // Adds the first `count` groups of `fresh`.
  void add_fresh(Slot& slot, std::int64_t count) {
    const PhaseTimer timer(context, timed, "gram");
    correlate(fresh, count, slot.r.data());
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t g = fresh[index_of(k)];
      thresholds[index_of(k)] = threshold(slot.problem.lambda, weight(g));
      slot.mark(g);
    }
    GroupSet& set = slot.set;
    if (set.size() + count > set.capacity())
      set.reserve(context, std::max(std::min(most_groups, 2 * set.capacity()), set.size() + count));
    set.add(exact_columns(), basis, fresh.data(), values.data(), thresholds.data(), count);
  }

  // Makes room for `count` more groups in W. @return there is
  bool make_room(Slot& slot, std::int64_t count) const {
    if (slot.set.size() + count <= most_groups) return true;
    slot.set.keep_active();
    std::fill(slot.in_set.begin(), slot.in_set.end(), 0);
    for (std::int64_t p = 0; p < slot.set.size(); ++p) slot.mark(slot.set.group(p));
    return slot.set.size() + count <= most_groups;
  }

  // Makes the initial code the code, and its groups the set.
  void start(Slot& slot) {
    slot.waits_for_start = false;
    const std::int64_t entries = initial_code(slot, m);
    const std::vector<std::int32_t> atoms(fresh.begin(), fresh.begin() + entries);
    const std::vector<double> code(values.begin(), values.begin() + entries);
    std::int64_t count = 0;
    std::vector<std::int64_t> position(index_of(groups), -1);
    for (const std::int32_t atom : atoms) {
      std::int64_t& at = position[index_of(atom / s)];
      if (at >= 0) continue;
      at = count;
      fresh[index_of(count++)] = static_cast<std::int32_t>(atom / s);
    }
    if (count == 0 || count > most_groups) return;
    add_fresh(slot, count);
    std::vector<double> whole(index_of(count * s), 0.0);
    for (std::size_t k = 0; k < atoms.size(); ++k)
      whole[index_of(position[index_of(atoms[k] / s)] * s + atoms[k] % s)] = code[k];
    for (std::int64_t p = 0; p < count; ++p) slot.set.set_code(p, whole.data() + p * s);
    update_residual(slot);
    for (std::int64_t p = 0; p < count; ++p) fresh[index_of(p)] = slot.set.group(p);
    correlate(fresh, count, slot.r.data());
    for (std::int64_t p = 0; p < count; ++p) tell(slot.set, p, values.data() + p * s);
  }

  // lambda_max of an observation from what is known of its groups: exact for those that may have it.
  double largest_correlation(const Slot& slot) {
    const auto best = std::max_element(about.begin(), about.end()) - about.begin();
    open[0] = static_cast<std::int32_t>(best);
    correlate(open, 1, slot.r.data());
    double largest = over(best, values.data());
    std::int64_t count = 0;
    for (std::int64_t g = 0; g < groups; ++g)
      if (most[index_of(g)] > largest * largest) open[index_of(count++)] = static_cast<std::int32_t>(g);
    correlate(open, count, slot.r.data());
    for (std::int64_t k = 0; k < count; ++k)
      largest = std::max(largest, over(open[index_of(k)], values.data() + k * s));
    return largest;
  }

  // Groups beside W that are over the threshold by what a pass knows: to `fresh`. @return there are more than a few for sure
  bool many_violators(const Slot& slot, std::int64_t& fresh_count) {
    const double lambda = slot.problem.lambda;
    std::int64_t clear = 0;
    fresh_count = 0;
    for (std::int64_t g = 0; g < groups; ++g) {
      if (!(about[index_of(g)] > lambda * lambda) || slot.holds(static_cast<std::int32_t>(g))) continue;
      fresh[index_of(fresh_count++)] = static_cast<std::int32_t>(g);
      // The root of `most` is over that of `about` by the norm of the bounds at most.
      if (2 * std::sqrt(about[index_of(g)]) - std::sqrt(most[index_of(g)]) > lambda) ++clear;
    }
    return clear > kFewViolators;
  }

  // Float64 for the groups that may come to the threshold: those of W are told, the others may be violators and then go to
  // `fresh`. @return a bound of the largest norm, as it is compared with lambda: attained, or kLookFrom lambda
  double look_exactly(Slot& slot, std::int64_t& fresh_count) {
    const double lambda = slot.problem.lambda;
    const double from = kLookFrom * lambda * kLookFrom * lambda;
    std::int64_t count = 0;
    for (std::int64_t p = 0; p < slot.set.size(); ++p) {
      const std::int32_t g = slot.set.group(p);
      if (!slot.set.is_active(p) && !(most[index_of(g)] > from)) continue;
      positions[index_of(count)] = p;
      open[index_of(count++)] = g;
    }
    for (std::int64_t g = 0; g < groups; ++g) {
      if (!(most[index_of(g)] > from) || slot.holds(static_cast<std::int32_t>(g))) continue;
      positions[index_of(count)] = -1;
      open[index_of(count++)] = static_cast<std::int32_t>(g);
    }
    correlate(open, count, slot.r.data());
    double largest = kLookFrom * lambda;
    fresh_count = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t g = open[index_of(k)];
      double* const c = values.data() + k * s;
      if (positions[index_of(k)] >= 0) tell(slot.set, positions[index_of(k)], c);
      const double value = over(g, c);
      largest = std::max(largest, value);
      if (positions[index_of(k)] >= 0 || !(value > lambda)) continue;
      about[index_of(g)] = value * value;
      fresh[index_of(fresh_count++)] = g;
    }
    return largest;
  }

  // The furthest of the first `count` groups of `fresh`, as many as a round asks for. @return their number
  std::int64_t keep_furthest(const Slot& slot, std::int64_t count) {
    const auto grown = static_cast<std::int64_t>(kGrowth * static_cast<double>(slot.set.support()));
    const std::int64_t wanted = std::min(count, std::max(kFirstGroups, std::min(grown, kMostNewGroups)));
    std::partial_sort(fresh.begin(), fresh.begin() + wanted, fresh.begin() + count,
                      [this](std::int32_t a, std::int32_t b) {
                        const double x = about[index_of(a)], y = about[index_of(b)];
                        return x > y || (x == y && a < b);
                      });
    return wanted;
  }

  // W with the first `count` groups of `fresh` is solved. @return it is given up instead
  bool solve_with(Slot& slot, std::int64_t count) {
    const double lambda = slot.problem.lambda;
    ++slot.problem.iterations;
    slot.idle = count == 0 ? slot.idle + 1 : 0;
    if (slot.idle > kIdleRounds || !make_room(slot, count)) return give_up(slot);
    double tolerance = inner_tolerance(slot, kLeastTolerance);
    if (count > 0) {
      const double excess = std::sqrt(about[index_of(fresh[0])]) / lambda - 1;
      tolerance = std::max(tolerance, std::min(kLoose, kLoose * excess));
      add_fresh(slot, count);
    }
    {
      const PhaseTimer timer(context, timed, "group set");
      scratch.reserve(context, std::max<std::int64_t>(2, slot.set.capacity()) * s);
      slot.set.solve(scratch, tolerance,
                     slot.set.steps() + kMostSteps);  // where it is stuck, the next pass says how near
    }
    update_residual(slot);
    return false;
  }

  bool take_step(WorkingSetPool::Slot& base, LambdaOf lambda_of) override {
    auto& slot = static_cast<Slot&>(base);
    {
      const PhaseTimer timer(context, timed, "choose");
      group_bounds(parts.quantized, bounds, residuals, slot.place, correlations(slot.place), s, parts.place_of.data(),
                   upper.data(), about.data(), most.data());
    }
    if (slot.problem.lambda < 0) {
      const PhaseTimer timer(context, timed, "lambda_max");
      set_lambda(slot.problem, largest_correlation(slot), lambda_of);
    }
    if (slot.problem.lambda < kSmallestLambda && slot.problem.energy > 0) return give_up(slot);
    return go_on(slot);
  }

  // What is known of the groups is in `about` and `most`. @return the problem has left
  bool go_on(Slot& slot) {
    Problem& problem = slot.problem;
    if (slot.waits_for_start) {
      start(slot);
      if (slot.set.size() > 0) return false;  // and is looked at in its next pass
    }
    const bool last = problem.iterations >= max_passes;
    std::int64_t fresh_count = 0;
    if (!many_violators(slot, fresh_count) || last) {
      const PhaseTimer timer(context, timed, "certificate");
      const Certificate found = certificate(slot, look_exactly(slot, fresh_count));
      if (found.gap <= gap * problem.energy || last) {
        finish(slot, found, false);
        return true;
      }
    }
    return solve_with(slot, keep_furthest(slot, fresh_count));
  }

  void begin_whole(const std::vector<WorkingSetPool::Slot*>& /*slots*/) override {}

  void solve_whole(WorkingSetPool::Slot& base, std::size_t /*which*/, LambdaOf lambda_of) override {
    auto& slot = static_cast<Slot&>(base);
    do {
      const PhaseTimer timer(context, timed, "all atoms");
      correlate_all(parts.transposed.matrix(), slot.r.data(), all_correlations.data());
      for (std::int64_t p = 0; p < slot.set.size(); ++p)
        for (std::int64_t i = 0; i < s; ++i)
          all_correlations[index_of(slot.set.group(p) * s + i)] -= penalty.ridge * slot.set.code(p)[i];
      for (std::int64_t g = 0; g < groups; ++g) {
        const double value = over(g, all_correlations.data() + g * s);
        about[index_of(g)] = value * value;
        most[index_of(g)] = value * value * kSumRoom;
      }
      if (slot.problem.lambda < 0) set_lambda(slot.problem, largest_correlation(slot), lambda_of);
      if (cancelled()) {
        give_up(slot);
        return;
      }
    } while (!go_on(slot));
  }

  // Of two sums of the same products in float64, in different orders, one is no more than this times the other, or both are
  // of no matter.
  static constexpr double kSumRoom = 1 + 1e-9;

  const GroupBasis& basis;
  const std::int64_t s, groups, most_groups;
  std::vector<Slot> slots;

  // Scratch.
  std::vector<double> about, most, thresholds;  // [groups]
  std::vector<std::int64_t> positions;          // [groups] in W, beside open
  std::vector<float> upper;                     // [m padded]
  GroupSetScratch scratch;
};

}  // namespace

std::unique_ptr<WorkingSetPool> make_group_pool(const Dictionary& dictionary, const WorkingSetDictionary& parts,
                                                const GroupBasis& basis, const LassoOptions& options,
                                                const Penalty& penalty, const AtomBounds& bounds, std::int64_t places) {
  return std::make_unique<GroupPool>(dictionary, parts, basis, options, penalty, bounds, places);
}

std::int64_t group_set_bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size) {
  return GroupSet::bytes(group_size, largest_capacity(rows, atoms / group_size));
}

std::int64_t group_scratch_bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size) {
  const std::int64_t capacity = std::max<std::int64_t>(2, largest_capacity(rows, atoms / group_size));
  return GroupSetScratch::bytes(group_size * capacity) + 24 * atoms + 32 * (atoms / group_size);
}

}  // namespace shrinkwarp
