#include <shrinkwarp/models/lasso/path_batch.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/scalar.hpp>
#include <shrinkwarp/kernels/lasso_path/lasso_path.hpp>
#include <shrinkwarp/models/lasso/batch_penalty.hpp>
#include <shrinkwarp/models/lasso/path_pass.hpp>
#include <shrinkwarp/models/lasso/user_units.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

using Kind = LambdaRule::Kind;

// Atoms that a problem starts with; a set then grows by the furthest over their threshold, by a share of those in use.
constexpr std::int64_t kFirstAtoms = 16;
constexpr double kGrowth = 0.8;
constexpr std::int64_t kMostNewAtoms = 64;
// Residuals that a pass takes at once: those of a group, or of a path's events.
constexpr std::int64_t kPlaces = 32;
// Float64 looks at the atoms that may pass this share of lambda, which the certificate wants exactly.
constexpr double kLookFrom = 0.999;
// Over its threshold is what passes it by more than the rounding of d'r, of about this share of ||d|| ||x||.
constexpr double kRounding = 4e-15;
// Violators that leave the gap under this share of the one that is wanted are none: among very similar atoms there is always
// one more.
constexpr double kFarUnder = 1e-4;
// A code of this share of ||x|| / ||d_j|| or less, or of the wrong sign, is rounding, and 0.
constexpr double kDust = 0x1p-50;
// How nearly a residual norm is met, beside its rounding, and how far a code may be out of its radius.
constexpr double kMet = 1e-9, kOut = 1e-12;
// The path of a problem has come to its end, lambda = 0, where correlations are no more than this share of lambda_max.
constexpr double kEnd = 1e-8;
// In the batch's units norms are far under this.
constexpr double kLargestLimit = 1e100;
// A working set that is full begins anew with the atoms in use, so many times.
constexpr int kBeginnings = 8;
// A path that has not met the number of atoms ends at this share of lambda_max.
constexpr double kSmallestFraction = 1e-6;

// No more atoms than rows are in use at once; W holds some times as many.
std::int64_t largest_set(std::int64_t rows, std::int64_t atoms) {
  return std::min(atoms, 4 * rows + 64);
}

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// The smaller root d of a d^2 - 2 b d + c, where b^2 >= a c and b > 0.
double smaller_root(double a, double b, double c) {
  return c / (b + std::sqrt(b * b - a * c));
}

}  // namespace

struct PathBatch::Worker {
  // One problem.
  struct Slot {
    Retired problem;
    LassoPath path;
    Tensor<double> x, r;                // [n padded]
    std::vector<std::uint64_t> in_set;  // a bit an atom
    std::vector<std::int32_t> atoms;    // the code
    std::vector<double> values;
    double lambda_max = 0;
    double limit = 0;    // the rule's number, in the batch's units
    bool met = false;    // the path has come to the rule's point
    int beginnings = 0;  // of a working set that was full
    bool done = false;
    double distance = 0;  // ||x - D z||, of a residual norm
    bool ended = false;   // the path has come to its end, not to its point

    bool holds(std::int32_t atom) const { return (in_set[at(atom / 64)] >> (atom % 64) & 1U) != 0; }
    void mark(std::int32_t atom) { in_set[at(atom / 64)] |= std::uint64_t{1} << (atom % 64); }
  };

  Context context = Context::cpu(1);
  const Dictionary& dictionary;
  const WorkingSetDictionary& parts;
  const MatrixView<const double> D;  // [n padded, m]
  const LambdaRule& rule;
  const Penalty& penalty;  // in the batch's units
  const std::int64_t m;
  const std::int64_t most_atoms;  // of a working set
  const double gap;               // relative, that is wanted
  const std::int64_t max_events;
  const CancelToken* const cancel;

  PathPass pass;
  Tensor<double> stops;                     // [n padded, places] residuals of a path's events
  std::vector<double> lambdas, magnitudes;  // of them; sum of w_j |z_j|
  std::vector<Slot> slots;
  std::vector<double> over_by;  // [m], how far atoms outside a working set are over lambda
  Profile profile;
  Profile* timed = nullptr;

  Worker(const Context& caller, const Dictionary& dictionary, const LambdaRule& rule, const LassoOptions& options,
         const Penalty& penalty)
      : dictionary(dictionary),
        parts(dictionary.working_set(caller, true)),
        D(parts.exact_columns),
        rule(rule),
        penalty(penalty),
        m(dictionary.atoms()),
        most_atoms(largest_set(dictionary.rows(), m)),
        gap(options.gap),
        max_events(options.max_iterations),
        cancel(options.cancel),
        pass(context, parts, penalty, kPlaces),
        slots(at(kGroup)),
        over_by(at(m), 0.0),
        timed(options.profile ? &profile : nullptr) {
    const std::int64_t rows = D.rows;
    if (rule.kind == Kind::max_nonzeros) stops = Tensor<double>(context, rows, kPlaces);
    for (auto* numbers : {&lambdas, &magnitudes}) numbers->resize(at(kPlaces));
    for (Slot& slot : slots) {
      slot.x = Tensor<double>::zeros(context, rows);
      slot.r = Tensor<double>::zeros(context, rows);
      slot.in_set.resize(at((m + 63) / 64));
    }
  }

  bool cancelled() const { return cancel && cancel->cancelled(); }

  double weight(std::int32_t j) const { return pass.weight(j); }
  double over(std::int32_t j, double correlation) const { return pass.over(j, correlation); }

  template <class Residual>
  void run_pass(std::int64_t count, const Residual& residual) {
    const PhaseTimer timer(context, timed, "pass", 2.0 * static_cast<double>(D.rows) * static_cast<double>(m * count));
    pass.run(count, residual);
  }

  // A problem comes in.
  void fill(Slot& slot, std::int64_t row, const double* x, std::int64_t rows) {
    slot.problem = Retired{};
    slot.problem.index = row;
    const ScaledObservation scaled = scale_observation(x, rows, slot.x.data());
    const double scale = slot.problem.scale = scaled.scale;
    slot.problem.energy = scaled.energy;
    std::copy_n(slot.x.data(), rows, slot.r.data());
    slot.limit = rule.number;
    if (rule.kind == Kind::l1_radius) slot.limit *= dictionary.scale() / scale;
    if (rule.kind == Kind::residual_norm) slot.limit /= scale;
    slot.limit = std::min(slot.limit, kLargestLimit);
    slot.path.clear(penalty.ridge, penalty.nonnegative, most_atoms);
    slot.beginnings = 0;
    std::fill(slot.in_set.begin(), slot.in_set.end(), 0);
    slot.done = false;
    slot.ended = false;
  }

  // Atoms join the working set.
  void add(Slot& slot, const std::vector<std::int32_t>& atoms) {
    const PhaseTimer timer(context, timed, "gram");
    const auto count = static_cast<std::int64_t>(atoms.size());
    std::vector<double> correlations(atoms.size()), weights;
    correlate_atoms(D, atoms.data(), count, slot.x.data(), correlations.data());
    for (const std::int32_t j : atoms) {
      weights.push_back(weight(j));
      slot.mark(j);
    }
    slot.path.add(D, atoms.data(), correlations.data(), weights.data(), count);
  }

  // The pass of the observations has run: lambda_max, and the atoms that correlate most.
  void begin(Slot& slot, std::int64_t place) {
    const std::vector<std::int32_t> first = pass.furthest(place, std::min(kFirstAtoms, m));
    double largest = 0;
    for (const std::int32_t j : first) {
      double correlation = 0;
      correlate_atoms(D, &j, 1, slot.x.data(), &correlation);
      largest = std::max(largest, over(j, correlation));
    }
    const std::int64_t count = pass.look(place, slot.x.data(), largest);
    for (std::int64_t k = 0; k < count; ++k) largest = std::max(largest, over(pass.open(k), pass.value(k)));
    slot.lambda_max = largest;
    add(slot, first);
  }

  // Takes the code of the path, and its residual. @param last  whether the last atom that joined, with the code 0, counts
  void take_code(Slot& slot, bool last) {
    slot.atoms.clear();
    slot.values.clear();
    const double norm = std::sqrt(2 * slot.problem.energy);
    for (std::int64_t k = 0; k < slot.path.support() - (last ? 0 : 1); ++k) {
      const double* const d = D.column(slot.path.atom(k));
      if (slot.path.sign(k) * slot.path.code(k) * std::sqrt(dot(d, d, D.rows)) <= kDust * norm) continue;
      slot.atoms.push_back(slot.path.atom(k));
      slot.values.push_back(slot.path.code(k));
    }
    subtract_atoms(D, slot.atoms.data(), slot.values.data(), static_cast<std::int64_t>(slot.atoms.size()),
                   slot.x.data(), slot.r.data());
  }

  double residual_energy(const Slot& slot) const { return dot(slot.r.data(), slot.r.data(), slot.r.size()); }

  // How far lambda falls on the path's linear piece until the rule's point; infinite where that is beyond the piece.
  // @param squares  ||x - D z||^2
  double fall_to_point(const Slot& slot, double squares) const {
    const LassoPath& path = slot.path;
    constexpr double kBeyond = std::numeric_limits<double>::infinity();
    double fall = kBeyond;
    if (rule.kind == Kind::l1_radius) {
      fall = path.support() > 0 ? (slot.limit - path.norm()) / path.norm_rate() : kBeyond;
    } else if (rule.kind == Kind::residual_norm) {
      // ||r - d D u||^2, where D_S'r = lambda w s + ridge z and D_S'D_S u = w s - ridge u
      const double excess = squares - slot.limit * slot.limit;
      if (path.support() == 0) return excess <= 0 ? 0 : kBeyond;
      const double along = path.lambda() * path.norm_rate() + penalty.ridge * path.squares_rate();
      const double curvature = path.norm_rate() - penalty.ridge * path.rate_squares();
      if (along * along < curvature * excess) return kBeyond;
      fall = smaller_root(curvature, along, excess);
    }
    return std::isnan(fall) ? kBeyond : fall;
  }

  // Follows the path from its beginning to the rule's point, or to its end, and takes the code there.
  // @param at_event  is told of every event that the path goes through
  template <class AtEvent>
  void follow(Slot& slot, const AtEvent& at_event) {
    const PhaseTimer timer(context, timed, "path");
    LassoPath& path = slot.path;
    const bool counts = rule.kind == Kind::max_nonzeros;
    const double floor = counts ? kSmallestFraction * slot.lambda_max : 0;
    bool last = true;  // atom counts
    path.restart();
    slot.met = false;
    // With nothing in use there is no piece before the first event.
    for (;;) {
      if (path.support() > 0 || rule.kind == Kind::residual_norm) {
        const double squares = 2 * slot.problem.energy - path.explained();
        const double fall = fall_to_point(slot, squares);
        if (fall <= path.lambda() - path.next_lambda()) {
          path.move_to(path.lambda() - std::max(fall, 0.0));
          slot.met = true;
          break;
        }
      }
      if (counts && path.next_lambda() <= floor) {
        path.move_to(std::min(floor, path.lambda()));
        slot.met = true;
        break;
      }
      if (path.next_event() == LassoPath::Event::ends) {
        path.move_to(0);
        slot.met = rule.kind != Kind::residual_norm;
        break;
      }
      if (path.events() >= max_events || cancelled()) break;
      path.pass();
      if (counts && path.support() > static_cast<std::int64_t>(slot.limit)) {
        last = false;
        slot.met = true;
        break;
      }
      at_event();
    }
    slot.problem.iterations = path.events();
    for (int time = 0; time < 2; ++time) {  // against float64 residuals
      take_code(slot, last);
      std::vector<double> inside(at(path.support()));
      for (std::int64_t k = 0; k < path.support(); ++k) {
        const std::int32_t j = path.atom(k);
        correlate_atoms(D, &j, 1, slot.r.data(), &inside[at(k)]);
        inside[at(k)] -= penalty.ridge * path.code(k);
      }
      path.settle(inside.data());
      if (!slot.met || path.support() == 0 || counts || path.lambda() == 0) continue;
      take_code(slot, last);
      const double fall = fall_to_point(slot, residual_energy(slot));
      if (std::isfinite(fall)) path.move_to(std::max(path.lambda() - fall, 0.0));
    }
    take_code(slot, last);
    keep_promise(slot);
  }

  struct Sums {
    double magnitude = 0, weighted = 0, squares = 0;  // ||z||_1, sum of w_j |z_j|, ||z||^2
  };
  Sums sums(const Slot& slot) const {
    Sums result;
    for (std::size_t k = 0; k < slot.atoms.size(); ++k) {
      result.magnitude += std::fabs(slot.values[k]);
      result.weighted += weight(slot.atoms[k]) * std::fabs(slot.values[k]);
      result.squares += slot.values[k] * slot.values[k];
    }
    return result;
  }

  // What the rule asks for is held against the code itself: among nearly dependent atoms rounding may have led astray.
  void keep_promise(Slot& slot) const {
    const double weighted = sums(slot).weighted;
    if (rule.kind == Kind::l1_radius && weighted > slot.limit * (1 + kOut)) {
      for (double& value : slot.values) value *= slot.limit / weighted;
      subtract_atoms(D, slot.atoms.data(), slot.values.data(), static_cast<std::int64_t>(slot.atoms.size()),
                     slot.x.data(), slot.r.data());
    }
    if (rule.kind != Kind::residual_norm) return;
    constexpr double kUnit = std::numeric_limits<double>::epsilon();
    slot.distance = std::sqrt(residual_energy(slot));
    const double tolerance =
        kMet * slot.limit +
        8 * kUnit * (std::sqrt(2 * slot.problem.energy) + dictionary.atom_norm() * sums(slot).magnitude);
    const bool over = slot.distance > slot.limit + tolerance;
    // One that is far under is no solution either, but for the code 0 and a path that ends there.
    const bool under = slot.distance < slot.limit - tolerance && !slot.atoms.empty();
    slot.met = !over && (slot.met ? !under : slot.path.lambda() == 0);
  }

  // Of the atoms outside the working set those that are over lambda in the residual at `place`, into over_by as far as they
  // are. @return the largest of all correlations, or kLookFrom lambda
  double violators(const Slot& slot, std::int64_t place, const double* r, double lambda, double magnitude) {
    const std::int64_t count = pass.look(place, r, kLookFrom * lambda);
    double most = kLookFrom * lambda;
    const double norm = std::sqrt(2 * slot.problem.energy);
    // A correlation that is over lambda by e moves the gap by about e ||W z||_1.
    const double room = magnitude > 0 ? kFarUnder * gap * slot.problem.energy / magnitude : 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int32_t j = pass.open(k);
      double correlation = pass.value(k);
      if (slot.holds(j)) {
        const auto found = std::find(slot.atoms.begin(), slot.atoms.end(), j);
        if (found != slot.atoms.end()) correlation -= penalty.ridge * slot.values[at(found - slot.atoms.begin())];
      } else if (std::isfinite(weight(j))) {
        const double rounding = kRounding * dictionary.atom_norm() * norm / weight(j);
        const double excess = over(j, correlation) - lambda;
        if (excess > std::max(rounding, room)) over_by[at(j)] = std::max(over_by[at(j)], excess);
      }
      most = std::max(most, over(j, correlation));
    }
    return most;
  }

  enum class Growth { none, some, full };

  // The furthest of over_by join the working set, where there are any. One that is full begins anew.
  Growth add_violators(Slot& slot) {
    std::vector<std::int32_t> fresh;
    for (std::int32_t j = 0; j < m; ++j)
      if (over_by[at(j)] > 0) fresh.push_back(j);
    const std::int64_t in_use = slot.path.support();
    const auto wanted = std::clamp<std::int64_t>(static_cast<std::int64_t>(kGrowth * static_cast<double>(in_use)),
                                                 kFirstAtoms, kMostNewAtoms);
    const std::int64_t count = std::min(wanted, static_cast<std::int64_t>(fresh.size()));
    std::partial_sort(fresh.begin(), fresh.begin() + count, fresh.end(), [this](std::int32_t a, std::int32_t b) {
      return over_by[at(a)] > over_by[at(b)] || (over_by[at(a)] == over_by[at(b)] && a < b);
    });
    fresh.resize(at(count));
    std::fill(over_by.begin(), over_by.end(), 0.0);
    if (fresh.empty()) return Growth::none;
    if (slot.path.size() + count > most_atoms) {
      if (++slot.beginnings > kBeginnings) return Growth::full;
      for (std::int64_t k = 0; k < in_use; ++k) fresh.push_back(slot.path.atom(k));
      slot.path.clear(penalty.ridge, penalty.nonnegative, most_atoms);
      std::fill(slot.in_set.begin(), slot.in_set.end(), 0);
    }
    add(slot, fresh);
    return Growth::some;
  }

  // Whether the path is right at all of its events; otherwise new atoms have joined the working set, if it was not full.
  Growth verify(Slot& slot) {
    std::int64_t kept = 0;
    const auto check = [&] {
      run_pass(kept, [&](std::int64_t b) { return stops.matrix().column(b); });
      for (std::int64_t b = 0; b < kept; ++b)
        violators(slot, b, stops.matrix().column(b), lambdas[at(b)], magnitudes[at(b)]);
      kept = 0;
    };
    follow(slot, [&] {
      take_code(slot, true);
      std::copy_n(slot.r.data(), slot.r.size(), stops.matrix().column(kept));
      lambdas[at(kept)] = slot.path.lambda();
      magnitudes[at(kept++)] = slot.path.norm();
      if (kept == kPlaces) check();
    });
    if (kept > 0) check();
    return add_violators(slot);
  }

  void certify(Slot& slot, double most) {
    const double energy = residual_energy(slot);
    const double alignment = dot(slot.x.data(), slot.r.data(), slot.r.size());
    const Sums of = sums(slot);
    Retired& problem = slot.problem;
    problem.lambda = slot.path.lambda();
    problem.asked_lambda = problem.lambda * problem.scale * dictionary.scale();
    const double reach = dictionary.atom_norm() * of.magnitude;
    if (rule.kind == Kind::l1_radius) {
      problem.primal = energy / 2;
      problem.gap = gap_in_radius(energy, alignment, most, slot.limit, reach);
    } else {
      const double whole = energy + penalty.ridge * of.squares;
      problem.primal = whole / 2 + problem.lambda * of.weighted;
      problem.gap =
          gap_under_penalty(problem.primal, whole, alignment, most, problem.lambda, reach, penalty.nonnegative);
    }
    if (!slot.met) problem.gap = problem.primal;  // no better is known of another lambda than the rule's
  }

  // The result of a problem, with its code in the user's units.
  void take_out(const Slot& slot, Result& result) const {
    if (!slot.done) return;
    if (slot.ended) {
      if (result.unreachable >= 0) return;
      result.unreachable = slot.problem.index;
      result.distance = slot.distance * slot.problem.scale;
      return;
    }
    std::vector<std::size_t> order;
    for (std::size_t k = 0; k < slot.atoms.size(); ++k)
      if (slot.values[k] != 0) order.push_back(k);
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return slot.atoms[a] < slot.atoms[b]; });
    const double unit = slot.problem.scale / dictionary.scale();
    for (const std::size_t k : order) {
      result.codes.indices.push_back(slot.atoms[k]);
      result.codes.values.push_back(slot.values[k] * unit);
    }
    result.codes.offsets.push_back(static_cast<std::int64_t>(result.codes.values.size()));
    result.problems.push_back(slot.problem);
  }

  // Solves the first `count` slots.
  void solve(std::int64_t count) {
    run_pass(count, [&](std::int64_t b) { return slots[at(b)].x.data(); });
    for (std::int64_t b = 0; b < count; ++b) begin(slots[at(b)], b);
    std::vector<Slot*> running;
    for (std::int64_t b = 0; b < count; ++b) running.push_back(&slots[at(b)]);
    while (!running.empty()) {
      for (Slot* slot : running) follow(*slot, [] {});
      if (cancelled()) return;  // and paths may have been left in the middle
      run_pass(static_cast<std::int64_t>(running.size()), [&](std::int64_t b) { return running[at(b)]->r.data(); });
      std::vector<Slot*> right;
      for (std::size_t b = 0; b < running.size(); ++b) {
        Slot& slot = *running[b];
        const double most =
            violators(slot, static_cast<std::int64_t>(b), slot.r.data(), slot.path.lambda(), slot.path.norm());
        certify(slot, most);
        slot.ended =
            rule.kind == Kind::residual_norm && !slot.met && slot.path.lambda() == 0 && most <= kEnd * slot.lambda_max;
        const Growth growth = add_violators(slot);
        if (growth == Growth::none) right.push_back(&slot);
        slot.done = growth == Growth::full;
      }
      for (Slot* slot : right) {
        const Growth growth = rule.kind == Kind::max_nonzeros ? verify(*slot) : Growth::none;
        if (cancelled()) return;
        slot->done = growth != Growth::some;
        if (growth != Growth::full) continue;
        slot->met = false;
        slot->problem.gap = slot->problem.primal;
      }
      running.erase(std::remove_if(running.begin(), running.end(), [](const Slot* slot) { return slot->done; }),
                    running.end());
    }
  }
};

PathBatch::PathBatch(const Context& context, const Dictionary& dictionary, const LambdaRule& rule,
                     const LassoOptions& options, std::int64_t workers)
    : context_(context), options_(options), penalty_(in_batch_units(options.penalty, dictionary)) {
  for (std::int64_t t = 0; t < workers; ++t)
    workers_.push_back(std::make_unique<Worker>(context, dictionary, rule, options, penalty_));
}

PathBatch::~PathBatch() {
  if (!options_.profile) return;
  for (const auto& worker : workers_)
    for (const PhaseTotals& phase : worker->profile.phases())
      options_.profile->add(phase.name, phase.seconds, phase.flops, phase.bytes);
}

std::int64_t PathBatch::bytes(std::int64_t rows, std::int64_t atoms, std::int64_t workers) {
  const std::int64_t n = (rows + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
  const std::int64_t set = largest_set(rows, atoms);
  const std::int64_t slot = 2 * 8 * set * set + 128 * set + 16 * n + atoms / 8 + 512;
  return workers *
         (kGroup * slot + 8 * set * set + PathPass::bytes(rows, atoms, kPlaces) + 8 * kPlaces * n + 32 * atoms);
}

PathBatch::Result PathBatch::solve(const std::vector<std::int64_t>& rows, MatrixView<const double> X) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t groups = (count + kGroup - 1) / kGroup;
  std::vector<Result> found(at(groups));
  std::atomic<std::int64_t> next{0};
  context_.parallel_for(static_cast<std::int64_t>(workers_.size()), [&](std::int64_t w, int) {
    Worker& worker = *workers_[at(w)];
    for (std::int64_t g = next++; g < groups; g = next++) {
      if (options_.cancel && options_.cancel->cancelled()) return;
      const std::int64_t first = g * kGroup;
      const std::int64_t size = std::min(kGroup, count - first);
      for (std::int64_t b = 0; b < size; ++b)
        worker.fill(worker.slots[at(b)], rows[at(first + b)], X.column(first + b), X.rows);
      worker.solve(size);
      for (std::int64_t b = 0; b < size; ++b) worker.take_out(worker.slots[at(b)], found[at(g)]);
    }
  });
  Result all;
  for (const Result& group : found) {
    all.problems.insert(all.problems.end(), group.problems.begin(), group.problems.end());
    for (std::int64_t i = 0; i < group.codes.size(); ++i) append_code(group.codes, i, all.codes);
    if (all.unreachable >= 0 || group.unreachable < 0) continue;
    all.unreachable = group.unreachable;
    all.distance = group.distance;
  }
  return all;
}

}  // namespace shrinkwarp
