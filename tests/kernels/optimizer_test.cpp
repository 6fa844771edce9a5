// Optimizer steps against the formulas in long double, with a bound of the rounding that is carried along; what the schedule
// counts; what a gradient that is not finite leaves alone.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/kernels/random/random.hpp>
#include <shrinkwarp/runtime/error.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/guarded.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::Guarded;
using testing::GuardedHost;
using testing::guards_intact;
using testing::same_bits;
using testing::same_elements;
using testing::to_device;
using testing::to_host;
using testing::values_of;

class Optimizer : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(Optimizer);

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Unit roundoff.
template <class T>
constexpr long double kUnit = std::numeric_limits<T>::epsilon() / 2;

/// A flat vector of `size` elements. With a skipped element it starts at a multiple of 16 bytes (a guard band is 67
/// elements), else it does not.
struct Layout {
  std::int64_t size, skip;
};

/// Elements (stream, i) of a standard normal sequence, rounded to T; every 11th is zero.
template <class T>
std::vector<T> gradient(std::int64_t size, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(size));
  fill_normal(Context::cpu(1), 31, stream, 0, VectorView<double>{values.data(), size, {}});
  for (std::size_t i = 10; i < values.size(); i += 11) values[i] = 0;
  return {values.begin(), values.end()};
}

template <class T>
GuardedHost<T> guarded(const Layout& layout, const std::vector<T>& values) {
  return GuardedHost<T>::make(
      layout.size + layout.skip, 1,
      [&](std::int64_t i, std::int64_t) {
        return i < layout.skip ? std::numeric_limits<T>::quiet_NaN()
                               : values[static_cast<std::size_t>(i - layout.skip)];
      },
      0);
}

template <class T>
VectorView<T> view(const Guarded<T>& placed, const Layout& layout) {
  return placed.vector().slice(layout.skip, layout.size);
}

/// Everything in memory has the same bits, NaN being NaN.
template <class T>
bool same_memory(const GuardedHost<T>& a, const GuardedHost<T>& b) {
  for (std::size_t k = 0; k < a.memory.size(); ++k) {
    if (!same_bits(a.memory[k], b.memory[k]) && !(std::isnan(a.memory[k]) && std::isnan(b.memory[k]))) return false;
  }
  return a.memory.size() == b.memory.size();
}

/// What a training has in device memory: parameters and buffers, all with guards, and what makes its steps.
template <class T>
struct Training {
  const Context& context;
  Layout layout;
  SgdOptions sgd;
  AdamOptions adam;
  bool by_adam;
  double limit;
  Guarded<T> grad, first, second, parameters;  // `first` is the velocity of SGD
  Tensor<double> rates, norm, scratch, schedule;

  Training(const Context& c, const Layout& l, const std::vector<double>& learning_rates, double clip)
      : context(c),
        layout(l),
        by_adam(false),
        limit(clip),
        grad(to_device(c, guarded<T>(l, gradient<T>(l.size, 0)))),
        first(to_device(c, guarded<T>(l, std::vector<T>(static_cast<std::size_t>(l.size), T(0))))),
        second(to_device(c, guarded<T>(l, std::vector<T>(static_cast<std::size_t>(l.size), T(0))))),
        parameters(to_device(c, guarded<T>(l, gradient<T>(l.size, 1000)))),
        rates(testing::to_device(c, learning_rates, static_cast<std::int64_t>(learning_rates.size()))),
        norm(testing::to_device<double>(c, {kNaN}, 1)),
        scratch(c, std::max<std::int64_t>(norm_scratch(l.size), 1)),
        schedule(Tensor<double>::zeros(c, Schedule::kSize)) {}

  void set(const std::vector<T>& p, const std::vector<T>& g) {
    parameters = to_device(context, guarded<T>(layout, p));
    set_gradient(g);
  }
  void set_gradient(const std::vector<T>& values) { grad = to_device(context, guarded<T>(layout, values)); }
  void step() {
    squared_norm<T>(context, view(grad, layout), scratch.vector(), norm.vector());
    advance_schedule(context, rates.vector(), norm.vector(), limit, adam, schedule.vector());
    update();
  }
  void update() {
    if (by_adam) {
      adam_step<T>(context, view(grad, layout), adam, schedule.vector(), view(first, layout), view(second, layout),
                   view(parameters, layout));
    } else {
      sgd_step<T>(context, view(grad, layout), sgd, schedule.vector(),
                  sgd.momentum > 0 ? view(first, layout) : VectorView<T>{}, view(parameters, layout));
    }
  }
  double at(std::int64_t entry) const { return to_host(context, schedule)[static_cast<std::size_t>(entry)]; }
};

// ---- values by hand, exact in binary ----

TEST_P(Optimizer, DescendsByHand) {
  // g = 1/2 + 1/2 p;  p = 1 - 1/4 (1/2 + 1/2) = 3/4;  p = 3/4 - 1/4 (1/2 + 3/8)
  Training<float> plain(context(), {1, 0}, {0.25}, kInfinity);
  plain.sgd.weight_decay = 0.5;
  plain.set({1}, {0.5});
  plain.step();
  EXPECT_EQ(to_host(context(), plain.parameters)(0), 0.75f);
  plain.step();
  EXPECT_EQ(to_host(context(), plain.parameters)(0), 0.53125f);

  // v = 1, p = 3/4;  v = 1/2 1 + 7/8, p = 3/4 - 1/4 11/8
  Training<double> heavy(context(), {1, 0}, {0.25}, kInfinity);
  heavy.sgd.momentum = 0.5;
  heavy.sgd.weight_decay = 0.5;
  heavy.set({1}, {0.5});
  heavy.step();
  EXPECT_EQ(to_host(context(), heavy.parameters)(0), 0.75);
  heavy.step();
  EXPECT_EQ(to_host(context(), heavy.first)(0), 1.375);
  EXPECT_EQ(to_host(context(), heavy.parameters)(0), 0.40625);

  // v = 1, p = 1 - 1/4 (1 + 1/2 1)
  Training<double> nesterov(context(), {1, 0}, {0.25}, kInfinity);
  nesterov.sgd = {0.5, true, 0.5};
  nesterov.set({1}, {0.5});
  nesterov.step();
  EXPECT_EQ(to_host(context(), nesterov.parameters)(0), 0.625);

  // m = 2, v = 4; corrected 4 and 16; p = 1 - 1/8 1/2 1 - 1/8 4 / (4 + 4)
  Training<float> adam(context(), {1, 0}, {0.125}, kInfinity);
  adam.by_adam = true;
  adam.adam = {0.5, 0.75, 4, 0.5};
  adam.set({1}, {4});
  adam.step();
  EXPECT_EQ(to_host(context(), adam.first)(0), 2.0f);
  EXPECT_EQ(to_host(context(), adam.second)(0), 4.0f);
  EXPECT_EQ(to_host(context(), adam.parameters)(0), 0.875f);

  // The gradient (4) clipped to 1: m = 1/2, v = 1/4; corrected 1 and 1; p = 1 - 1/16 - 1/8 1 / (1 + 4)
  Training<double> clipped(context(), {1, 0}, {0.125}, 1.0);
  clipped.by_adam = true;
  clipped.adam = {0.5, 0.75, 4, 0.5};
  clipped.set({1}, {4});
  clipped.step();
  EXPECT_EQ(to_host(context(), clipped.second)(0), 0.25);
  EXPECT_DOUBLE_EQ(to_host(context(), clipped.parameters)(0), 0.9125);
}

// ---- the norm ----

template <class T>
void check_norm(const Context& context) {
  for (const std::int64_t size : {0, 1, 3, 255, 4095, 4096, 4097, 20485, 40961}) {
    if (testing::kThreadSanitizer && size > 5000) continue;
    std::vector<T> small(static_cast<std::size_t>(size));
    double expected = 0;  // an integer, exact in any order
    for (std::size_t i = 0; i < small.size(); ++i) {
      small[i] = static_cast<T>(static_cast<int>(i * 7 % 23) - 11);
      expected += static_cast<double>(small[i]) * static_cast<double>(small[i]);
    }
    const std::vector<T> normal = gradient<T>(size, 3);
    long double exact = 0;
    for (const T g : normal) exact += static_cast<long double>(g) * static_cast<long double>(g);
    std::vector<double> bits;
    for (const std::int64_t skip : {0, 1, 1}) {
      SCOPED_TRACE(::testing::Message() << size << " elements, skip " << skip);
      Training<T> training(context, {size, skip}, {1.0}, kInfinity);
      const GuardedHost<double> before(norm_scratch(size) + 2, 1, 0);
      const Guarded<double> scratch = to_device(context, before);
      const VectorView<double> sums = scratch.vector().slice(0, norm_scratch(size));
      const auto norm_of = [&](const std::vector<T>& values) {
        training.set_gradient(values);
        squared_norm<T>(context, view(training.grad, training.layout), sums, training.norm.vector());
        return to_host(context, training.norm)[0];
      };
      EXPECT_EQ(norm_of(small), expected);
      bits.push_back(norm_of(normal));
      // Every square is within a unit, every sum of positive terms within one for each of its terms.
      EXPECT_NEAR(bits.back(), static_cast<double>(exact), static_cast<double>((size + 1) * kUnit<double> * exact));
      const GuardedHost<double> after = to_host(context, scratch);
      EXPECT_TRUE(guards_intact(before, after));
      EXPECT_TRUE(std::isnan(after(norm_scratch(size)))) << "scratch is overrun";
    }
    EXPECT_TRUE(same_bits(bits[0], bits[1]) && same_bits(bits[1], bits[2]));
    if (!context.is_cuda()) {  // for any number of threads
      const Context alone = Context::cpu(1);
      Training<T> training(alone, {size, 0}, {1.0}, kInfinity);
      training.set_gradient(normal);
      squared_norm<T>(alone, view(training.grad, training.layout), training.scratch.vector(), training.norm.vector());
      EXPECT_TRUE(same_bits(to_host(alone, training.norm)[0], bits[0]));
    }
  }
}
TEST_P(Optimizer, NormOfFloat) {
  check_norm<float>(context());
}
TEST_P(Optimizer, NormOfDouble) {
  check_norm<double>(context());
}

TEST_P(Optimizer, NormTakesLargeFloatsAndShowsWhatIsNotFinite) {
  const auto norm_of = [&](auto number, std::size_t at) {
    using T = decltype(number);
    std::vector<T> values(4099, T(0));
    values[at] = number;
    Training<T> training(context(), {4099, 1}, {1.0}, kInfinity);
    training.set_gradient(values);
    training.step();
    EXPECT_EQ(to_host(context(), training.norm)[0] <= std::numeric_limits<double>::max(),
              training.at(Schedule::kSteps) == 1);
    return training.at(Schedule::kNorm);
  };
  EXPECT_DOUBLE_EQ(norm_of(1e38f, 4098), static_cast<double>(1e38f));
  EXPECT_DOUBLE_EQ(norm_of(-1e-30f, 0), static_cast<double>(1e-30f));
  EXPECT_DOUBLE_EQ(norm_of(1e154, 7), 1e154);
  EXPECT_EQ(norm_of(1e155, 7), kInfinity);
  for (const std::size_t at : {0, 4095, 4096, 4098}) {
    EXPECT_TRUE(std::isnan(norm_of(kNaN, at))) << at;
    EXPECT_EQ(norm_of(-kInfinity, at), kInfinity) << at;
    EXPECT_TRUE(std::isnan(norm_of(std::numeric_limits<float>::quiet_NaN(), at))) << at;
  }
}

// ---- the schedule ----

/// Rates of three steps at a time, as those of seven steps at once.
TEST_P(Optimizer, ScheduleTakesRatesFromItsOrigin) {
  const std::vector<double> all = {7, 6, 5, 4, 3, 2, 1};
  const auto schedule = Tensor<double>::zeros(context(), Schedule::kSize);
  for (std::int64_t step = 0; step < 9; ++step) {
    const std::int64_t origin = std::min<std::int64_t>(step / 3 * 3, 4);
    const auto rates =
        testing::to_device<double>(context(), std::vector<double>(all.begin() + origin, all.begin() + origin + 3), 3);
    const auto value = static_cast<double>(origin);
    copy<double>(context(), VectorView<const double>{&value, 1, {}}, schedule.vector().slice(Schedule::kOrigin, 1));
    advance_schedule(context(), rates.vector(), {}, kInfinity, {}, schedule.vector());
    const std::vector<double> found = values_of<double>(context(), schedule.vector());
    EXPECT_EQ(found[Schedule::kRate], all[static_cast<std::size_t>(std::min<std::int64_t>(step, 6))]) << step;
    EXPECT_EQ(found[Schedule::kOrigin], value);
  }
}

TEST_P(Optimizer, ScheduleFollowsRatesClipsAndCorrects) {
  const auto rates = testing::to_device<double>(context(), {0.5, 0.25, 0.125}, 3);
  const AdamOptions adam{0.9, 0.999, 1e-8, 0};
  const auto before = GuardedHost<double>::make(Schedule::kSize, 1, [](std::int64_t, std::int64_t) { return 0.0; });
  const auto placed = to_device(context(), before);
  std::vector<double> found;
  std::int64_t taken = 0, skipped = 0;
  for (const double square : {4.0, 0.25, 0.0, kNaN, 100.0, kInfinity, 1.0, 2.25, 1e300}) {
    const auto norm = testing::to_device<double>(context(), {square}, 1);
    const std::vector<double> last = found;
    advance_schedule(context(), rates.vector(), norm.vector(), 1.5, adam, placed.vector());
    found = values_of<double>(context(), placed.vector());
    if (!(square < kInfinity)) {
      ++skipped;
      EXPECT_TRUE(std::isnan(found[Schedule::kFactor]));
      EXPECT_FALSE(std::isfinite(found[Schedule::kNorm]));
      for (const std::int64_t entry : {Schedule::kSteps, Schedule::kRate, Schedule::kCorrection1,
                                       Schedule::kCorrection2, Schedule::kAdamRate, Schedule::kAdamScale})
        EXPECT_EQ(found[static_cast<std::size_t>(entry)], last[static_cast<std::size_t>(entry)]) << entry;
    } else {
      ++taken;
      const double rate = taken == 1 ? 0.5 : taken == 2 ? 0.25 : 0.125;
      EXPECT_EQ(found[Schedule::kRate], rate);
      EXPECT_EQ(found[Schedule::kNorm], std::sqrt(square));
      EXPECT_EQ(found[Schedule::kFactor], square > 2.25 ? 1.5 / std::sqrt(square) : 1.0);
      const auto t = static_cast<long double>(taken);
      const long double correction1 = 1 - std::pow(static_cast<long double>(adam.beta1), t);
      const long double correction2 = 1 - std::pow(static_cast<long double>(adam.beta2), t);
      // One unit of each of the t steps; a quotient and a root have one or two more.
      const auto close = [&](std::int64_t entry, long double exact, long double units) {
        EXPECT_NEAR(found[static_cast<std::size_t>(entry)], static_cast<double>(exact),
                    static_cast<double>(units * kUnit<double> * exact))
            << entry << " of step " << taken;
      };
      close(Schedule::kCorrection1, correction1, t + 1);
      close(Schedule::kCorrection2, correction2, t + 1);
      close(Schedule::kAdamRate, rate / correction1, t + 2);
      close(Schedule::kAdamScale, 1 / std::sqrt(correction2), t + 3);
    }
    EXPECT_EQ(found[Schedule::kSteps], static_cast<double>(taken));
    EXPECT_EQ(found[Schedule::kSkipped], static_cast<double>(skipped));
  }
  EXPECT_TRUE(guards_intact(before, to_host(context(), placed)));

  advance_schedule(context(), rates.vector(), {}, kInfinity, adam, placed.vector());
  found = values_of<double>(context(), placed.vector());
  EXPECT_EQ(found[Schedule::kFactor], 1.0);
  EXPECT_TRUE(std::isnan(found[Schedule::kNorm]));
  EXPECT_EQ(found[Schedule::kSteps], static_cast<double>(taken + 1));
}

TEST_P(Optimizer, CorrectionsStayRightForManySteps) {
  // beta = 0 has none; 1 - 2^-20 is far from its limit after 3000 steps.
  const AdamOptions adam{0, 1 - 0x1p-20, 1e-8, 0};
  const auto rates = testing::to_device<double>(context(), {1.0}, 1);
  const auto schedule = Tensor<double>::zeros(context(), Schedule::kSize);
  const int steps = testing::kThreadSanitizer ? 100 : 3000;
  for (int step = 0; step < steps; ++step)
    advance_schedule(context(), rates.vector(), {}, kInfinity, adam, schedule.vector());
  const std::vector<double> found = to_host(context(), schedule);
  EXPECT_EQ(found[Schedule::kCorrection1], 1.0);
  const long double exact = -std::expm1(steps * std::log1p(-0x1p-20L));
  EXPECT_NEAR(found[Schedule::kCorrection2], static_cast<double>(exact),
              static_cast<double>((steps + 1) * kUnit<double> * exact));
}

// ---- the updates, against the formulas ----

/// A number of the reference and a bound of how far the one in T may be from it.
struct Bounded {
  long double value = 0, error = 0;
};

/// Products of errors, of which the bounds know nothing, are far under a hundredth of the errors.
constexpr long double kSlack = 1.01L;

struct Steps {
  double factor, rate, correction1, correction2;
};

/// sgd_step of one element. `unit` bounds rounding in T, `constant` the relative error of what schedule and options give.
void descend(const SgdOptions& options, const Steps& now, long double g, long double unit, long double constant,
             Bounded& v, Bounded& p) {
  const long double clipped = now.factor * g, decayed = options.weight_decay * p.value;
  Bounded d{clipped + decayed, (constant + unit) * std::fabs(clipped) + constant * std::fabs(decayed)};
  d.error += options.weight_decay * p.error + unit * std::fabs(d.value);
  const long double kept = options.momentum * v.value;
  v.value = kept + d.value;
  v.error = kSlack * (options.momentum * v.error + constant * std::fabs(kept) + d.error + unit * std::fabs(v.value));
  Bounded move = v;
  if (options.nesterov) {
    const long double ahead = options.momentum * v.value;
    move.value = d.value + ahead;
    move.error = d.error + options.momentum * v.error + constant * std::fabs(ahead) + unit * std::fabs(move.value);
  }
  p.value -= now.rate * move.value;
  p.error = kSlack * (p.error + now.rate * (move.error + constant * std::fabs(move.value)) + unit * std::fabs(p.value));
}

/// adam_step of one element.
void descend(const AdamOptions& options, const Steps& now, long double g, long double unit, long double constant,
             Bounded& m, Bounded& v, Bounded& p) {
  const long double w1 = 1 - static_cast<long double>(options.beta1), w2 = 1 - static_cast<long double>(options.beta2);
  const long double clipped = now.factor * g, square = clipped * clipped;
  const long double to_m = clipped - m.value, to_v = square - v.value;
  m.value += w1 * to_m;
  m.error = kSlack * ((1 - w1) * m.error + w1 * (constant * std::fabs(clipped) + (unit + constant) * std::fabs(to_m)) +
                      unit * std::fabs(m.value));
  v.value += w2 * to_v;
  v.error = kSlack * ((1 - w2) * v.error + w2 * (2 * (unit + constant) * square + (unit + constant) * std::fabs(to_v)) +
                      unit * v.value);
  const long double root = std::sqrt(v.value);
  const long double root_error = (root > 0 ? v.error / root : 0) + unit * root;
  const long double scaled = root / std::sqrt(static_cast<long double>(now.correction2));
  const long double size = scaled + options.epsilon;
  const long double size_error = (root > 0 ? scaled / root * root_error : 0) + constant * size + unit * size;
  const long double ratio = m.value / size;
  const long double ratio_error = (m.error + std::fabs(ratio) * size_error) / size + unit * std::fabs(ratio);
  const long double rate = now.rate / now.correction1;
  const long double decay = now.rate * options.weight_decay;
  const long double kept = p.value - decay * p.value;
  const long double kept_error = p.error + constant * decay * std::fabs(p.value) + unit * std::fabs(kept);
  p.value = kept - rate * ratio;
  p.error = kSlack * (kept_error + rate * (ratio_error + constant * std::fabs(ratio)) + unit * std::fabs(p.value));
}

/// Some steps of one kind, with gradients that are clipped in about half of them.
template <class T>
void check_steps(const Context& context, bool by_adam, const SgdOptions& sgd, const AdamOptions& adam) {
  struct Run {
    Layout layout;
    int steps;
  };
  for (const Run& run : {Run{{0, 0}, 2}, Run{{1, 0}, 40}, Run{{3, 1}, 40}, Run{{255, 1}, 12}, Run{{255, 0}, 12},
                         Run{{4097, 1}, 3}, Run{{33001, 1}, 2}}) {
    const Layout& layout = run.layout;
    if (testing::kThreadSanitizer && layout.size > 5000) continue;
    const int steps = testing::kThreadSanitizer ? 2 : run.steps;
    SCOPED_TRACE(::testing::Message() << layout.size << " elements, skip " << layout.skip);
    const std::vector<double> rates = {0.3, 0.1, 0.05};
    const double limit = 0.95 * std::sqrt(static_cast<double>(layout.size) + 0.1);
    Training<T> training(context, layout, rates, limit);
    training.by_adam = by_adam;
    training.sgd = sgd;
    training.adam = adam;
    const GuardedHost<T> first = to_host(context, training.first), second = to_host(context, training.second),
                         parameters = to_host(context, training.parameters);
    const auto size = static_cast<std::size_t>(layout.size);
    std::vector<Bounded> m(size), v(size), p(size);
    for (std::size_t i = 0; i < size; ++i) p[i].value = parameters(static_cast<std::int64_t>(i) + layout.skip);
    int clipped = 0;
    for (int step = 1; step <= steps; ++step) {
      // Gradients of sizes from 1/2 to 2: in every second step the norm passes the limit.
      std::vector<T> g = gradient<T>(layout.size, static_cast<std::uint64_t>(step));
      for (T& element : g) element *= step % 2 == 0 ? T(2) : T(0.5);
      training.set_gradient(g);
      const GuardedHost<T> grad = to_host(context, training.grad);
      training.step();
      EXPECT_TRUE(same_memory(grad, to_host(context, training.grad)));

      long double square = 0;
      for (const T element : g) square += static_cast<long double>(element) * static_cast<long double>(element);
      const long double norm = std::sqrt(square);
      clipped += norm > limit;
      Steps now{};
      now.factor = static_cast<double>(norm > limit ? limit / norm : 1.0L);
      now.rate = rates[static_cast<std::size_t>(std::min(step, 3) - 1)];
      now.correction1 = static_cast<double>(1 - std::pow(static_cast<long double>(adam.beta1), step));
      now.correction2 = static_cast<double>(1 - std::pow(static_cast<long double>(adam.beta2), step));
      // Numbers of the schedule: the norm's P units, as many of the corrections as steps, and a few operations.
      const long double constant = kUnit<T> + static_cast<long double>(layout.size + step + 8) * kUnit<double>;
      for (std::size_t i = 0; i < size; ++i) {
        if (by_adam) {
          descend(adam, now, g[i], kUnit<T>, constant, m[i], v[i], p[i]);
        } else {
          descend(sgd, now, g[i], kUnit<T>, constant, m[i], p[i]);
        }
      }
    }
    if (layout.size > 100) {
      EXPECT_EQ(clipped, steps / 2);
    }
    const auto check = [&](const char* name, const GuardedHost<T>& before, const Guarded<T>& placed,
                           const std::vector<Bounded>& reference) {
      const GuardedHost<T> after = to_host(context, placed);
      EXPECT_TRUE(guards_intact(before, after)) << name;
      if (layout.skip > 0) {
        EXPECT_TRUE(std::isnan(after(0))) << name;
      }
      for (std::size_t i = 0; i < size; ++i) {
        const long double found = after(static_cast<std::int64_t>(i) + layout.skip);
        ASSERT_LE(std::fabs(found - reference[i].value), reference[i].error)
            << name << " " << i << ": " << found << ", wanted " << reference[i].value;
      }
    };
    check("parameters", parameters, training.parameters, p);
    if (by_adam || sgd.momentum > 0) check("first", first, training.first, m);
    if (!by_adam && sgd.momentum == 0) {
      EXPECT_TRUE(same_memory(first, to_host(context, training.first)));
    }
    if (by_adam) check("second", second, training.second, v);
  }
}

template <class T>
void check_sgd(const Context& context) {
  for (const SgdOptions& options :
       {SgdOptions{}, SgdOptions{0, false, 0.1}, SgdOptions{0.9, false, 0.1}, SgdOptions{0.9, true, 0}}) {
    SCOPED_TRACE(::testing::Message() << "momentum " << options.momentum << ", nesterov " << options.nesterov);
    check_steps<T>(context, false, options, {});
  }
}
TEST_P(Optimizer, DescendsFloat) {
  check_sgd<float>(context());
}
TEST_P(Optimizer, DescendsDouble) {
  check_sgd<double>(context());
}

template <class T>
void check_adam(const Context& context) {
  for (const AdamOptions& options : {AdamOptions{}, AdamOptions{0.5, 0.9, 1e-3, 0.1}}) {
    SCOPED_TRACE(::testing::Message() << "beta1 " << options.beta1);
    check_steps<T>(context, true, {}, options);
  }
}
TEST_P(Optimizer, AdamFloat) {
  check_adam<float>(context());
}
TEST_P(Optimizer, AdamDouble) {
  check_adam<double>(context());
}

// ---- bits ----

template <class T>
struct Outcome {
  GuardedHost<T> parameters, first, second;
  std::vector<double> schedule;
};

/// Training of 4 steps. Before step `bad` (none for 0) another is tried, with `number` at element `at` of the gradient.
template <class T>
Outcome<T> trained(const Context& context, const Layout& layout, bool by_adam, double limit, int bad = 0,
                   double number = 0, std::int64_t at = 0) {
  Training<T> training(context, layout, {0.3, 0.1, 0.05}, limit);
  training.by_adam = by_adam;
  training.sgd = {0.9, true, 0.01};
  training.adam.weight_decay = 0.01;
  for (int step = 1; step <= 4; ++step) {
    std::vector<T> g = gradient<T>(layout.size, static_cast<std::uint64_t>(step));
    if (step == bad) {
      const auto before = Outcome<T>{to_host(context, training.parameters),
                                     to_host(context, training.first),
                                     to_host(context, training.second),
                                     {}};
      std::vector<T> poisoned = g;
      poisoned[static_cast<std::size_t>(at)] = static_cast<T>(number);
      training.set_gradient(poisoned);
      training.step();
      EXPECT_TRUE(same_elements(before.parameters, to_host(context, training.parameters)));
      EXPECT_TRUE(same_elements(before.first, to_host(context, training.first)));
      EXPECT_TRUE(same_elements(before.second, to_host(context, training.second)));
      EXPECT_EQ(training.at(Schedule::kSkipped), 1.0);
      EXPECT_EQ(training.at(Schedule::kSteps), step - 1.0);
      EXPECT_FALSE(std::isfinite(training.at(Schedule::kNorm)));
    }
    training.set_gradient(g);
    training.step();
  }
  return {to_host(context, training.parameters), to_host(context, training.first), to_host(context, training.second),
          to_host(context, training.schedule)};
}

template <class T>
void check_skipping(const Context& context) {
  const Layout layout{testing::kThreadSanitizer ? 301 : 4099, 0};
  for (const bool by_adam : {false, true}) {
    for (const double limit : {1.0, kInfinity}) {
      const Outcome<T> good = trained<T>(context, layout, by_adam, limit);
      for (const double number : {kNaN, -kInfinity}) {
        SCOPED_TRACE(::testing::Message() << (by_adam ? "Adam" : "SGD") << ", limit " << limit << ", " << number);
        const int bad = number < 0 ? 1 : 3;
        const Outcome<T> found =
            trained<T>(context, layout, by_adam, limit, bad, number, number < 0 ? 0 : layout.size - 1);
        EXPECT_TRUE(same_memory(good.parameters, found.parameters));
        EXPECT_TRUE(same_memory(good.first, found.first));
        EXPECT_TRUE(same_memory(good.second, found.second));
        for (std::size_t k = 0; k < found.schedule.size(); ++k) {
          if (k != Schedule::kSkipped) {
            EXPECT_EQ(good.schedule[k], found.schedule[k]) << k;
          }
        }
      }
    }
  }
}
TEST_P(Optimizer, SkipsAGradientThatIsNotFiniteFloat) {
  check_skipping<float>(context());
}
TEST_P(Optimizer, SkipsAGradientThatIsNotFiniteDouble) {
  check_skipping<double>(context());
}

template <class T>
void check_bits(const Context& context) {
  // Without clipping all backends have the same factor, 1. Three tasks of a CPU; elements that lie otherwise in memory.
  const Layout layout{testing::kThreadSanitizer ? 3000 : 33001, 1};
  const Context alone = Context::cpu(1);
  for (const bool by_adam : {false, true}) {
    SCOPED_TRACE(by_adam ? "Adam" : "SGD");
    const Outcome<T> expected = trained<T>(alone, layout, by_adam, kInfinity);
    const Outcome<T> found = trained<T>(context, layout, by_adam, kInfinity);
    EXPECT_TRUE(same_memory(expected.parameters, found.parameters));
    EXPECT_TRUE(same_memory(expected.first, found.first));
    EXPECT_TRUE(same_memory(expected.second, found.second));
    // Clipped, with a norm that is summed: the same bits run to run, and for any alignment.
    const Outcome<T> once = trained<T>(context, layout, by_adam, 1.0);
    const Outcome<T> again = trained<T>(context, {layout.size, 0}, by_adam, 1.0);
    for (std::int64_t i = 0; i < layout.size; ++i)
      ASSERT_TRUE(same_bits(once.parameters(i + 1), again.parameters(i))) << i;
    for (std::size_t k = 0; k < once.schedule.size(); ++k)
      EXPECT_TRUE(same_bits(once.schedule[k], again.schedule[k])) << k;
    if (!context.is_cuda()) {
      EXPECT_TRUE(same_memory(once.parameters, trained<T>(alone, layout, by_adam, 1.0).parameters));
    }
  }
}
TEST_P(Optimizer, BitsDependOnNothingElseFloat) {
  check_bits<float>(context());
}
TEST_P(Optimizer, BitsDependOnNothingElseDouble) {
  check_bits<double>(context());
}

TEST_P(Optimizer, NaNStaysInItsElement) {
  for (const bool by_adam : {false, true}) {
    Training<float> training(context(), {37, 1}, {0.5}, kInfinity);
    training.by_adam = by_adam;
    training.sgd.momentum = 0.5;
    std::vector<float> g = gradient<float>(37, 1);
    g[5] = std::numeric_limits<float>::quiet_NaN();
    training.set_gradient(g);
    // Without a norm nothing is skipped.
    advance_schedule(context(), training.rates.vector(), {}, kInfinity, training.adam, training.schedule.vector());
    training.update();
    const GuardedHost<float> p = to_host(context(), training.parameters);
    for (std::int64_t i = 0; i < 37; ++i) EXPECT_EQ(std::isnan(p(i + 1)), i == 5) << i;
  }
}

// ---- errors, streams and graphs ----

TEST_P(Optimizer, RefusesWhatDoesNotFit) {
  const Context& c = context();
  const auto p = testing::numbers<float>(c, 5, 1, 1), g = testing::numbers<float>(c, 5, 1, 2);
  const auto m = Tensor<float>::zeros(c, 5), v = Tensor<float>::zeros(c, 5), four = Tensor<float>::zeros(c, 4);
  const auto schedule = Tensor<double>::zeros(c, Schedule::kSize), one = Tensor<double>::zeros(c, 1),
             two = Tensor<double>::zeros(c, 2);
  const VectorView<float> nowhere{nullptr, 5, c.device()};
  VectorView<float> elsewhere = g.vector();
  elsewhere.device = c.is_cuda() ? Device{} : Device{DeviceType::cuda, 0};

  EXPECT_THROW(norm_scratch(-1), ValueError);
  EXPECT_EQ(norm_scratch(0), 0);
  EXPECT_EQ(norm_scratch(4096), 1);
  EXPECT_EQ(norm_scratch(4097), 2);
  EXPECT_THROW(squared_norm<float>(c, g.vector(), {}, one.vector()), ShapeError);
  EXPECT_THROW(squared_norm<float>(c, g.vector(), one.vector(), two.vector()), ShapeError);
  EXPECT_THROW(squared_norm<float>(c, nowhere, one.vector(), one.vector()), ValueError);
  EXPECT_THROW(squared_norm<float>(c, elsewhere, one.vector(), one.vector()), DeviceError);

  const auto advance = [&](VectorView<const double> rates, VectorView<const double> norm, double limit,
                           const AdamOptions& options,
                           VectorView<double> state) { advance_schedule(c, rates, norm, limit, options, state); };
  const auto rates = two.vector(), norm = one.vector(), state = schedule.vector();
  for (const double limit : {0.0, -1.0, kNaN}) EXPECT_THROW(advance(rates, norm, limit, {}, state), ValueError);
  EXPECT_THROW(advance(rates, {}, 1.0, {}, state), ValueError);
  EXPECT_THROW(advance({}, norm, 1.0, {}, state), ShapeError);
  EXPECT_THROW(advance(rates, two.vector(), 1.0, {}, state), ShapeError);
  EXPECT_THROW(advance(rates, norm, 1.0, {}, two.vector()), ShapeError);
  for (const double beta : {1.0, -0.5, kNaN}) {
    EXPECT_THROW(advance(rates, norm, 1.0, {beta, 0.9, 1, 0}, state), ValueError);
    EXPECT_THROW(advance(rates, norm, 1.0, {0.9, beta, 1, 0}, state), ValueError);
    EXPECT_THROW(adam_step(c, g.vector(), {beta, 0.9, 1, 0}, state, m.vector(), v.vector(), p.vector()), ValueError);
    EXPECT_THROW(adam_step(c, g.vector(), {0.9, beta, 1, 0}, state, m.vector(), v.vector(), p.vector()), ValueError);
    EXPECT_THROW(sgd_step(c, g.vector(), {beta, false, 0}, state, m.vector(), p.vector()), ValueError);
  }
  for (const double epsilon : {0.0, -1.0, kNaN, 1e-60})  // the last one is 0 in float
    EXPECT_THROW(adam_step(c, g.vector(), {0.9, 0.9, epsilon, 0}, state, m.vector(), v.vector(), p.vector()),
                 ValueError);
  for (const double decay : {-1.0, kNaN, kInfinity}) {
    EXPECT_THROW(adam_step(c, g.vector(), {0.9, 0.9, 1, decay}, state, m.vector(), v.vector(), p.vector()), ValueError);
    EXPECT_THROW(sgd_step(c, g.vector(), {0, false, decay}, state, {}, p.vector()), ValueError);
  }
  EXPECT_THROW(sgd_step(c, g.vector(), {0, true, 0}, state, {}, p.vector()), ValueError);
  EXPECT_THROW(sgd_step(c, g.vector(), {0.5, false, 0}, state, {}, p.vector()), ShapeError);
  EXPECT_THROW(sgd_step(c, g.vector(), {0, false, 0}, state, m.vector(), p.vector()), ShapeError);
  EXPECT_THROW(sgd_step(c, four.vector(), {}, state, {}, p.vector()), ShapeError);
  EXPECT_THROW(sgd_step(c, g.vector(), {}, two.vector(), {}, p.vector()), ShapeError);
  EXPECT_THROW(sgd_step(c, g.vector(), {}, state, {}, nowhere), ValueError);
  EXPECT_THROW(sgd_step(c, elsewhere, {}, state, {}, p.vector()), DeviceError);
  EXPECT_THROW(adam_step(c, four.vector(), {}, state, m.vector(), v.vector(), p.vector()), ShapeError);
  EXPECT_THROW(adam_step(c, g.vector(), {}, state, four.vector(), v.vector(), p.vector()), ShapeError);
  EXPECT_THROW(adam_step(c, g.vector(), {}, state, m.vector(), four.vector(), p.vector()), ShapeError);
  EXPECT_THROW(adam_step(c, g.vector(), {}, two.vector(), m.vector(), v.vector(), p.vector()), ShapeError);
  EXPECT_THROW(adam_step(c, elsewhere, {}, state, m.vector(), v.vector(), p.vector()), DeviceError);
  // Nothing was written.
  EXPECT_EQ(to_host(c, p), to_host(c, testing::numbers<float>(c, 5, 1, 1)));
}

struct QueuedTraining {
  const Context& context;
  Tensor<float> g, m, v, p, velocity, q;
  Tensor<double> rates, norm, scratch, schedule;

  explicit QueuedTraining(const Context& c)
      : context(c),
        g(testing::numbers<float>(c, 5000, 1, 1)),
        m(Tensor<float>::zeros(c, 5000)),
        v(Tensor<float>::zeros(c, 5000)),
        p(testing::numbers<float>(c, 5000, 1, 2)),
        velocity(Tensor<float>::zeros(c, 5000)),
        q(testing::numbers<float>(c, 5000, 1, 3)),
        rates(testing::to_device<double>(c, {0.5, 0.25}, 2)),
        norm(Tensor<double>::zeros(c, 1)),
        scratch(Tensor<double>::zeros(c, norm_scratch(5000))),
        schedule(Tensor<double>::zeros(c, Schedule::kSize)) {}
  void queue() {
    squared_norm<float>(context, g.vector(), scratch.vector(), norm.vector());
    advance_schedule(context, rates.vector(), norm.vector(), 2.0, {}, schedule.vector());
    adam_step(context, g.vector(), {}, schedule.vector(), m.vector(), v.vector(), p.vector());
    sgd_step(context, g.vector(), {0.5, false, 0}, schedule.vector(), velocity.vector(), q.vector());
  }
  std::vector<unsigned char> written() const { return testing::bits_of(context, m, v, p, velocity, q, norm, schedule); }
};

class OptimizerQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(OptimizerQueued);

TEST_P(OptimizerQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedTraining>();
}

}  // namespace
}  // namespace shrinkwarp
