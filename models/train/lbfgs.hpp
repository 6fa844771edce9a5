// Minimisers for few parameters and all data at once, in double on the host: L-BFGS, and gradient descent with a line search.
// Each call makes one iteration, of at most 80 evaluations whatever the function, and all state can be stored between two calls.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace shrinkwarp {

/// Value of the function at `point`, its gradient to `gradient` [the same size]. What is not finite is a step too far.
using ValueAndGradient = std::function<double(const std::vector<double>& point, std::vector<double>& gradient)>;

/// What both minimisers have reached.
struct Iterate {
  std::vector<double> point, gradient;
  double value = 0;
  std::int64_t iterations = 0;
  std::int64_t evaluations = 0;
};

/// L-BFGS (Liu, Nocedal 1989) with a line search for the weak Wolfe conditions, which functions with kinks have too (Lewis,
/// Overton 2013).
class Lbfgs {
 public:
  struct State {
    Iterate at;
    std::vector<std::vector<double>> moves, changes;  ///< the last up to kMemory of point and gradient, oldest first
  };
  static constexpr std::size_t kMemory = 12;

  /// @param start  one evaluation
  Lbfgs(const ValueAndGradient& function, std::vector<double> start);
  /// Goes on with a stored state.
  explicit Lbfgs(State state) : state_(std::move(state)) {}

  const State& state() const { return state_; }
  const Iterate& at() const { return state_.at; }
  /// One iteration. @return false where no step brings the value down: the iterate stays, its evaluations are counted and the
  /// moves and changes are forgotten, so another call tries the same again
  bool advance(const ValueAndGradient& function);

 private:
  State state_;
};

/// Gradient descent whose step is doubled in each iteration and halved until the value falls by a share of what the slope
/// promises (Armijo 1966).
class LineSearchDescent {
 public:
  struct State {
    Iterate at;
    double step = 1;
  };
  LineSearchDescent(const ValueAndGradient& function, std::vector<double> start);
  explicit LineSearchDescent(State state) : state_(std::move(state)) {}

  const State& state() const { return state_; }
  const Iterate& at() const { return state_.at; }
  /// One iteration. @return false where no step brings the value down: the iterate stays, its evaluations are counted
  bool advance(const ValueAndGradient& function);

 private:
  State state_;
};

}  // namespace shrinkwarp
