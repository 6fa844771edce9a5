#include <shrinkwarp/models/train/lbfgs.hpp>

#include <cmath>
#include <limits>
#include <utility>

namespace shrinkwarp {
namespace {

using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Vector along(const Vector& point, double step, const Vector& direction) {
  Vector result = point;
  for (std::size_t i = 0; i < result.size(); ++i) result[i] += step * direction[i];
  return result;
}

bool all_finite(const Vector& values) {
  for (const double value : values)
    if (!std::isfinite(value)) return false;
  return true;
}

Iterate evaluated(const ValueAndGradient& function, Vector start) {
  Iterate at;
  at.point = std::move(start);
  at.gradient.resize(at.point.size());
  at.value = function(at.point, at.gradient);
  at.evaluations = 1;
  return at;
}

/// The direction -H g by the two-loop recursion (Nocedal, Wright 2006, algorithm 7.4).
Vector direction_of(const Lbfgs::State& state) {
  Vector q = state.at.gradient;
  const std::size_t count = state.moves.size();
  Vector alpha(count);
  for (std::size_t k = count; k-- > 0;) {
    alpha[k] = dot(state.moves[k], q) / dot(state.moves[k], state.changes[k]);
    q = along(q, -alpha[k], state.changes[k]);
  }
  if (count > 0) {
    const double scale =
        dot(state.moves[count - 1], state.changes[count - 1]) / dot(state.changes[count - 1], state.changes[count - 1]);
    for (double& value : q) value *= scale;
  }
  for (std::size_t k = 0; k < count; ++k) {
    const double beta = dot(state.changes[k], q) / dot(state.moves[k], state.changes[k]);
    q = along(q, alpha[k] - beta, state.moves[k]);
  }
  for (double& value : q) value = -value;
  return q;
}

constexpr double kArmijo = 1e-4;
constexpr double kCurvature = 0.9;
constexpr int kMostTrials = 40;  // of a line search; L-BFGS may make two of them in an iteration

}  // namespace

Lbfgs::Lbfgs(const ValueAndGradient& function, Vector start) {
  state_.at = evaluated(function, std::move(start));
}

bool Lbfgs::advance(const ValueAndGradient& function) {
  Iterate& at = state_.at;
  Vector direction = direction_of(state_);
  double slope = dot(direction, at.gradient);
  if (!(slope < 0) || !all_finite(direction)) {  // rounding has spoiled the memory
    state_.moves.clear();
    state_.changes.clear();
    direction = direction_of(state_);
    slope = dot(direction, at.gradient);
    if (!(slope < 0)) return false;
  }
  double step = 1;
  if (state_.moves.empty()) {  // nothing is known of the function's scale: a move of a tenth
    double largest = 0;
    for (const double value : direction) largest = std::fmax(largest, std::fabs(value));
    step = 0.1 / largest;
  }
  // Bisection between steps that fall too little and steps that are too short.
  double shortest = 0, longest = std::numeric_limits<double>::infinity();
  Iterate next;
  bool falls = false;
  std::int64_t evaluations = at.evaluations;
  Iterate best;
  for (int trial = 0; trial < kMostTrials; ++trial) {
    next.point = along(at.point, step, direction);
    next.gradient.assign(at.point.size(), 0.0);
    next.value = function(next.point, next.gradient);
    ++evaluations;
    const bool finite = std::isfinite(next.value) && all_finite(next.gradient);
    if (!finite || next.value > at.value + kArmijo * step * slope || !(next.value < at.value)) {
      longest = step;
    } else {
      falls = true;
      best = next;
      if (dot(next.gradient, direction) >= kCurvature * slope) break;
      shortest = step;
    }
    step = std::isinf(longest) ? 2 * step : (shortest + longest) / 2;
    if (falls && trial > kMostTrials / 2) break;
  }
  at.evaluations = evaluations;
  if (!falls) {
    if (state_.moves.empty()) return false;
    // Once more from the gradient alone: the memory may be of another piece of the function.
    state_.moves.clear();
    state_.changes.clear();
    return advance(function);
  }
  Vector move = along(best.point, -1, at.point), change = along(best.gradient, -1, at.gradient);
  if (dot(move, change) > 1e-12 * std::sqrt(dot(move, move) * dot(change, change))) {
    state_.moves.push_back(std::move(move));
    state_.changes.push_back(std::move(change));
    if (state_.moves.size() > kMemory) {
      state_.moves.erase(state_.moves.begin());
      state_.changes.erase(state_.changes.begin());
    }
  }
  at.point = std::move(best.point);
  at.gradient = std::move(best.gradient);
  at.value = best.value;
  ++at.iterations;
  return true;
}

LineSearchDescent::LineSearchDescent(const ValueAndGradient& function, Vector start) {
  state_.at = evaluated(function, std::move(start));
}

bool LineSearchDescent::advance(const ValueAndGradient& function) {
  Iterate& at = state_.at;
  const double energy = dot(at.gradient, at.gradient);
  if (!(energy > 0)) return false;
  double step = 2 * state_.step;
  for (int trial = 0; trial < kMostTrials; ++trial, step /= 2) {
    Iterate next;
    next.point = along(at.point, -step, at.gradient);
    next.gradient.assign(at.point.size(), 0.0);
    next.value = function(next.point, next.gradient);
    ++at.evaluations;
    if (!std::isfinite(next.value) || !all_finite(next.gradient) || !(next.value <= at.value - step * energy / 2) ||
        !(next.value < at.value))
      continue;
    at.point = std::move(next.point);
    at.gradient = std::move(next.gradient);
    at.value = next.value;
    ++at.iterations;
    state_.step = step;
    return true;
  }
  return false;
}

}  // namespace shrinkwarp
