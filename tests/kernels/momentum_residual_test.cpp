// Momentum residual layers: what the exact ones give back, what they cost, and that all backends have the same bits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/kernels/momentum_residual/information_tile.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

using testing::to_device;
using testing::values_of;

// ---- the arithmetic, with words of any size ------------------------------------------------------------------------

/// A chain of multiplications by fractions of a tile's elements there and back.
template <int kWordBits>
void check_chain(std::mt19937_64& random) {
  const auto below = [&](std::uint64_t n) { return random() % n; };
  const int layers = 1 + static_cast<int>(below(60));
  const int size = 1 + static_cast<int>(below(kInformationTile));
  std::vector<MomentumGamma> gammas;
  double bits = 0;
  double largest = 1;
  const bool one_for_all = below(4) == 0;
  for (int t = 0; t < layers; ++t) {
    if (t > 0 && one_for_all) {
      gammas.push_back(gammas[0]);
    } else {
      const std::uint64_t q = 2 + below((std::uint64_t{1} << (kWordBits - 2) / 2) - 1);
      gammas.push_back(as_fraction(2 + below(q - 1), q, kWordBits));
    }
    const MomentumGamma& gamma = gammas.back();
    ASSERT_EQ(gamma.K % (gamma.p.value * gamma.q.value), 0u);
    bits -= std::log2(gamma.value);
    largest = std::max(largest, std::log2(static_cast<double>(gamma.q.value)));
  }
  // As information_capacity has it, but that roundings of one part in 2^(w - 2) count.
  const double slack = 2.01 + 4.0 * layers / std::ldexp(1.0, kWordBits - 4);
  const auto capacity = static_cast<std::int64_t>(size * (1 + std::floor((bits + largest + slack) / kWordBits)));
  std::vector<std::uint32_t> words(static_cast<std::size_t>(capacity));
  for (int e = 0; e < size; ++e)
    words[static_cast<std::size_t>(e)] = static_cast<std::uint32_t>(random()) & ((1u << (kWordBits - 1)) - 1);
  const std::vector<std::uint32_t> spare(words.begin(), words.begin() + size);
  cpu::TileList<kWordBits> list{words.data(), size, capacity};
  std::vector<std::int64_t> v(static_cast<std::size_t>(size));
  std::vector<std::uint64_t> states(v.size(), gammas[0].K);
  for (std::int64_t& value : v) value = static_cast<std::int64_t>(random()) >> below(64);
  const std::vector<std::int64_t> start = v;

  for (int t = 0; t < layers; ++t) {
    const MomentumGamma& gamma = gammas[static_cast<std::size_t>(t)];
    const InformationLimits<kWordBits> limits(gamma);
    list.move_interval(states.data(), size, gammas[static_cast<std::size_t>(std::max(t - 1, 0))].K, gamma.K);
    list.give(states.data(), size, limits.before_push);
    for (int e = 0; e < size; ++e) {
      const auto at = static_cast<std::size_t>(e);
      const auto before = static_cast<long double>(v[at]);
      v[at] = scaled_down(gamma, v[at], states[at]);
      ASSERT_LE(
          std::fabs(static_cast<double>(static_cast<long double>(v[at]) - before * gamma.p.value / gamma.q.value)),
          static_cast<double>(gamma.q.value));
    }
    list.take(states.data(), size, limits.K);
    for (const std::uint64_t B : states) ASSERT_TRUE(B >= limits.K && B < limits.full);
  }
  ASSERT_TRUE(list.fits) << layers << " layers, " << bits << " bits, " << capacity << " words";
  for (int t = layers - 1; t >= 0; --t) {
    const MomentumGamma& gamma = gammas[static_cast<std::size_t>(t)];
    const InformationLimits<kWordBits> limits(gamma);
    std::vector<std::uint64_t> s(v.size());
    list.give(states.data(), size, limits.before_undone_pop);
    for (std::size_t e = 0; e < v.size(); ++e) {
      const std::int64_t u = taken_apart(gamma.p, v[e], s[e]);
      ASSERT_LT(s[e], gamma.p.value);
      v[e] = scaled_up(gamma, u, s[e], states[e]);
    }
    list.take(states.data(), size, limits.K);
    list.move_interval(states.data(), size, gamma.K, gammas[static_cast<std::size_t>(std::max(t - 1, 0))].K);
  }
  ASSERT_TRUE(list.fits);
  EXPECT_EQ(v, start);
  EXPECT_EQ(states, std::vector<std::uint64_t>(v.size(), gammas[0].K));
  EXPECT_EQ(list.count, size);
  EXPECT_TRUE(std::equal(spare.begin(), spare.end(), words.begin()));
}

TEST(ExactArithmetic, ReturnsEveryBitWithWordsOfAnySize) {
  std::mt19937_64 random(5);
  for (int i = 0; i < (testing::kThreadSanitizer ? 100 : 2000); ++i) {
    check_chain<8>(random);
    check_chain<12>(random);
    check_chain<17>(random);
    check_chain<32>(random);
    if (HasFatalFailure() || HasNonfatalFailure()) FAIL() << "case " << i;
  }
}

TEST(ExactArithmetic, DividesAsTheMachineDoes) {
  std::mt19937_64 random(6);
  for (std::uint64_t p = 2; p < 40000; p = p < 70 ? p + 1 : p * 9 / 7) {
    const Divisor d = divisor(p);
    for (int i = 0; i < 200; ++i) {
      std::uint64_t n = (random() >> 1) >> random() % 63;
      if (i % 2 == 0) n = std::min(n / p * p + (i % 4 == 0 ? 0 : p - 1), (std::uint64_t{1} << 63) - 1);
      ASSERT_EQ(divided(d, n), n / p) << n << " / " << p;
    }
  }
}

TEST(ExactArithmetic, TakesTheFractionsThatItSays) {
  const auto fraction = [](double gamma, std::uint64_t p, std::uint64_t q) {
    const MomentumGamma taken = exact_gamma(gamma);
    EXPECT_TRUE(taken.p.value == p && taken.q.value == q) << gamma << ": " << taken.p.value << " / " << taken.q.value;
  };
  fraction(.9, 9, 10);
  fraction(static_cast<double>(.9f), 9, 10);
  fraction(static_cast<double>(.99f), 99, 100);
  fraction(.1, 2, 20);
  fraction(.5, 2, 4);
  fraction(2.0 / 3, 2, 3);
  fraction(1023.0 / 1024, 1023, 1024);
  fraction(1, 2, 2);
  fraction(kLeastExactGamma, 2, 65536);
  fraction(kLargestExactGamma, 32767, 32768);
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int i = 0; i < 3000; ++i) {
    double gamma = i % 3 == 0   ? std::pow(uniform(random), 6)
                   : i % 3 == 1 ? 1 - std::pow(uniform(random), 6)
                                : uniform(random);
    gamma = std::min(std::max(gamma, kLeastExactGamma), kLargestExactGamma);
    const MomentumGamma taken = exact_gamma(gamma);
    const auto p = taken.p.value, q = taken.q.value;
    EXPECT_EQ(taken.value, static_cast<double>(p) / static_cast<double>(q));
    EXPECT_TRUE(p >= 2 && p < q && p * q <= std::uint64_t{1} << 30) << gamma;
    EXPECT_LE(std::fabs(taken.value - gamma), std::ldexp(2.0, -15) / static_cast<double>(q) + std::ldexp(1.0, -23))
        << gamma;
  }
}

// ---- whole layers --------------------------------------------------------------------------------------------------

/// A network whose branches are a cubic of x with coefficients of the layer, computed on the host.
template <class T>
class Chain {
 public:
  Chain(const Context& context, std::vector<double> gammas, std::int64_t features, std::int64_t batch,
        MomentumForm form, bool whole)
      : context_(context),
        layers_(static_cast<std::int64_t>(gammas.size())),
        size_(features * batch),
        form_(form),
        whole_(whole),
        bias_(to_device<T>(context, numbers(features, 3), features)),
        gammas_(context, layers_),
        x_(context, size_),
        v_(context, size_),
        states_(context, size_),
        counts_(context, InformationBuffer::tiles(size_)),
        status_(context, 1),
        in_T_(context, size_),
        values_(context, size_) {
    double bits = 0;
    std::vector<T> learned;
    for (const double gamma : gammas) {
      const MomentumGamma exact = exact_gamma(gamma);
      bits -= std::log2(exact.value);
      learned.push_back(static_cast<T>(gamma));
    }
    bits_ = bits;
    capacity_ = information_capacity(bits);
    words_ = Tensor<std::uint32_t>(context, capacity_ * InformationBuffer::tiles(size_));
    const Tensor<T> in = to_device<T>(context, learned, layers_);
    const bool ones = std::all_of(gammas.begin(), gammas.end(), [](double gamma) { return gamma == 1; });
    prepare_gammas<T>(context, in.vector(), {ones ? 1 : kLeastExactGamma, ones ? 1 : kLargestExactGamma, true},
                      gammas_.vector());
    context.synchronize();
  }

  static std::vector<T> numbers(std::int64_t count, unsigned seed, double scale = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, scale);
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) value = static_cast<T>(normal(random));
    return values;
  }

  ExactState state() const {
    return {
        x_.vector(), v_.vector(), {states_.vector(), words_.vector(), counts_.vector(), capacity_}, status_.vector()};
  }
  ExactLayer layer(std::int64_t t) const { return {gammas_.vector(), t, form_}; }
  void begin(const std::vector<T>& x, const std::vector<T>& v) {
    const Tensor<T> xs = to_device<T>(context_, x, size_),
                    vs = to_device<T>(context_, v, static_cast<std::int64_t>(v.size()));
    clear_status(context_, status_.vector());
    exact_momentum_begin<T>(context_, xs.vector(), vs.vector(), gammas_.vector(), state(), in_T_.vector());
    context_.synchronize();
  }
  BranchValues<T> branch(std::int64_t t) {
    std::vector<T> x = values_of<T>(context_, in_T_.vector());
    const T slope = T(1) / static_cast<T>(t + 2);
    for (T& value : x)
      value = slope * (value < T(0) ? T(1) - value : T(1) + value * slope) / (T(1) + value * value) +
              (whole_ ? value : T(0));
    copy<T>(context_, VectorView<const T>{x.data(), size_, {}}, values_.vector());
    context_.synchronize();
    return {values_.vector(), bias_.vector(), whole_};
  }
  void forward() {
    for (std::int64_t t = 0; t < layers_; ++t)
      exact_momentum_forward<T>(context_, layer(t), branch(t), state(), in_T_.vector());
  }
  void inverse(const MomentumAdjoint<T>* adjoint = nullptr) {
    exact_momentum_step_back<T>(context_, state(), in_T_.vector());
    for (std::int64_t t = layers_ - 1; t >= 0; --t)
      exact_momentum_inverse<T>(context_, layer(t), branch(t), adjoint, state(), in_T_.vector(), in_T_.vector());
  }
  std::int32_t status() const { return values_of<std::int32_t>(context_, status_.vector())[0]; }
  std::int64_t words() const {
    std::int64_t sum = 0;
    for (const std::int32_t count : values_of<std::int32_t>(context_, counts_.vector())) sum += count;
    return sum;
  }
  double bits() const { return bits_; }
  /// x, v, B, and the words that count.
  std::vector<std::int64_t> everything() const {
    std::vector<std::int64_t> all = values_of<std::int64_t>(context_, x_.vector());
    const auto add = [&](const auto& values) { all.insert(all.end(), values.begin(), values.end()); };
    add(values_of<std::int64_t>(context_, v_.vector()));
    add(values_of<std::uint64_t>(context_, states_.vector()));
    const std::vector<std::int32_t> counts = values_of<std::int32_t>(context_, counts_.vector());
    const std::vector<std::uint32_t> words = values_of<std::uint32_t>(context_, words_.vector());
    for (std::size_t i = 0; i < counts.size(); ++i)
      for (std::int64_t k = 0; k < counts[i]; ++k)
        all.push_back(words[i * static_cast<std::size_t>(capacity_) + static_cast<std::size_t>(k)]);
    return all;
  }

  const Context& context_;
  std::int64_t layers_, size_;
  MomentumForm form_;
  bool whole_;
  Tensor<T> bias_;
  Tensor<MomentumGamma> gammas_;
  Tensor<std::int64_t> x_, v_;
  Tensor<std::uint64_t> states_;
  Tensor<std::int32_t> counts_, status_;
  Tensor<T> in_T_, values_;
  Tensor<std::uint32_t> words_;
  std::int64_t capacity_ = 0;
  double bits_ = 0;
};

class ExactMomentum : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(ExactMomentum);

TEST_P(ExactMomentum, ReturnsEveryBitAndCostsWhatItSays) {
  struct Case {
    std::vector<double> gammas;
    std::int64_t features, batch;
    double scale;
    MomentumForm form;
    bool whole;
  };
  const int depth = testing::kThreadSanitizer ? 3 : 10;
  const auto same = [&](int layers, double gamma) {
    return std::vector<double>(static_cast<std::size_t>(layers * depth / 10), gamma);
  };
  std::vector<double> mixed;
  for (int t = 0; t < 6 * depth; ++t)
    mixed.push_back(std::vector<double>{.1, .9, .5, 1023.0 / 1024, .003, .99, .7}[static_cast<std::size_t>(t % 7)]);
  const std::vector<Case> cases = {{same(40, .1), 3, 11, 1, MomentumForm::damped, false},
                                   {same(60, .5), 7, 5, 500, MomentumForm::plain, false},
                                   {same(250, .9), 5, 13, 1, MomentumForm::damped, true},
                                   {same(50, 1023.0 / 1024), 33, 4, 1000, MomentumForm::plain, true},
                                   {same(20, 1), 2, 17, 1, MomentumForm::plain, false},
                                   {mixed, 31, 3, 20, MomentumForm::damped, false},
                                   {same(20, .5), 1, 1, 1, MomentumForm::damped, false}};
  const Context cpu = Context::cpu(1);
  for (const Case& c : cases) {
    const auto compare = [&](auto zero) {
      using T = decltype(zero);
      Chain<T> chain(context(), c.gammas, c.features, c.batch, c.form, c.whole),
          twin(cpu, c.gammas, c.features, c.batch, c.form, c.whole);
      const std::vector<T> x = Chain<T>::numbers(c.features * c.batch, 1, c.scale),
                           v = Chain<T>::numbers(c.features * c.batch, 2, c.scale);
      chain.begin(x, v), twin.begin(x, v);
      const std::vector<std::int64_t> start = chain.everything();
      chain.forward(), twin.forward();
      ASSERT_EQ(chain.status(), ExactStatus::kAllWell);
      EXPECT_EQ(chain.everything(), twin.everything());
      EXPECT_NE(chain.everything()[0], start[0]);
      const auto size = static_cast<double>(c.features * c.batch);
      EXPECT_LE(32 * static_cast<double>(chain.words()), size * (chain.bits() + 64)) << "bits that the words cost";
      chain.inverse();
      ASSERT_EQ(chain.status(), ExactStatus::kAllWell);
      EXPECT_EQ(chain.everything(), start);
    };
    compare(0.0f);
    if (c.features == 31) compare(0.0);
  }
}

/// A layer with v = 0 and a new buffer is v = 2^44 f: what it rounds is compared with what the language rounds.
template <class T>
void check_roundings(const Context& context) {
  const std::int64_t size = 5 * kInformationTile + 3;
  Chain<T> chain(context, {.5, .5}, size, 1, MomentumForm::plain, false);
  std::mt19937_64 random(9);
  std::vector<T> f(static_cast<std::size_t>(size));
  std::vector<std::int64_t> x(f.size());
  for (std::size_t e = 0; e < f.size(); ++e) {
    // Tiles of small numbers and others; halves of 2^-44, and of float's last bit with the least bit more or less than that.
    const bool small = e / kInformationTile % 2 == 0;
    const auto bits = static_cast<int>(random() % (small ? 50 : 62));
    x[e] = static_cast<std::int64_t>(random()) >> (63 - bits);
    const auto mantissa = static_cast<double>(static_cast<std::int64_t>(random()) >> 40);
    f[e] = static_cast<T>(e % 3 == 0 ? std::ldexp(static_cast<double>(2 * (random() % 1000) + 1), -45)
                                     : std::ldexp(mantissa, -static_cast<int>(random() % 40) - (small ? 30 : 8)));
    if (e % 5 != 0 || small) continue;
    // One beside the middle of two numbers of float, and for double in the middle: to it, and so off, where one rounds twice.
    const int shift = 30 + static_cast<int>(e % 7);
    x[e] = e % 2 == 0 ? ((std::int64_t{1} << 24 | 1) << shift) + 1 : ((std::int64_t{1} << 24 | 3) << shift) - 1;
    if (e % 4 < 2) x[e] = -x[e];
    f[e] = 0;
  }
  chain.begin(std::vector<T>(f.size(), 0), {});
  copy<std::int64_t>(context, VectorView<const std::int64_t>{x.data(), size, {}}, chain.x_.vector());
  const Tensor<T> values = to_device<T>(context, f, size);
  const BranchValues<T> branch{values.vector(), {}, false};
  exact_momentum_forward<T>(context, chain.layer(1), branch, chain.state(), chain.in_T_.vector());
  const std::vector<std::int64_t> v = values_of<std::int64_t>(context, chain.v_.vector());
  const std::vector<T> after = values_of<T>(context, chain.in_T_.vector());
  exact_momentum_step_back<T>(context, chain.state(), chain.in_T_.vector());
  exact_momentum_inverse<T>(context, chain.layer(1), branch, nullptr, chain.state(), chain.in_T_.vector(),
                            chain.in_T_.vector());
  const std::vector<T> before = values_of<T>(context, chain.in_T_.vector());
  const auto in_T = [](std::int64_t fixed) { return std::ldexp(static_cast<T>(fixed), -kFractionBits); };
  for (std::size_t e = 0; e < f.size(); ++e) {
    ASSERT_EQ(v[e], std::llrint(std::ldexp(static_cast<double>(f[e]), kFractionBits))) << e << ": " << f[e];
    ASSERT_EQ(after[e], in_T(x[e] + v[e])) << e << ": " << x[e] + v[e];
    ASSERT_EQ(before[e], in_T(x[e])) << e << ": " << x[e];
  }
  EXPECT_EQ(chain.status(), ExactStatus::kAllWell);
}

TEST_P(ExactMomentum, RoundsEachNumberOnce) {
  check_roundings<float>(context());
  check_roundings<double>(context());
}

TEST_P(ExactMomentum, NamesTheLayerThatLeavesTheRange) {
  Chain<float> chain(context(), {.5, .5, .5, .5}, 4, 9, MomentumForm::plain, false);
  std::vector<float> x(36, 1), v(36, 0);
  x[35] = 524287;  // under 2^19, and the second layer's v is what takes it over
  v[35] = .5f;
  chain.begin(x, v);
  EXPECT_EQ(chain.status(), ExactStatus::kAllWell);
  for (std::int64_t t = 0; t < 4; ++t) {
    std::vector<float> f(36, t == 1 ? 1.0f : 0.0f);
    const Tensor<float> values = to_device<float>(context(), f, 36);
    exact_momentum_forward<float>(context(), chain.layer(t), {values.vector(), {}, false}, chain.state(),
                                  chain.in_T_.vector());
    context().synchronize();
    EXPECT_EQ(chain.status(), t == 0 ? ExactStatus::kAllWell : 2) << t;
  }
  x[35] = 1;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -6e5f}) {
    chain.begin(x, v);
    std::vector<float> f(36, 0);
    f[33] = bad;
    const Tensor<float> values = to_device<float>(context(), f, 36);
    exact_momentum_forward<float>(context(), chain.layer(2), {values.vector(), {}, false}, chain.state(),
                                  chain.in_T_.vector());
    context().synchronize();
    EXPECT_EQ(chain.status(), 3) << bad;
  }
  x[0] = 524288;
  chain.begin(x, v);
  EXPECT_EQ(chain.status(), 1);
}

TEST_P(ExactMomentum, SaysWhereAListRunsDry) {
  Chain<float> chain(context(), std::vector<double>(30, .1), 4, 9, MomentumForm::damped, false);
  const std::vector<float> x = Chain<float>::numbers(36, 1), v = Chain<float>::numbers(36, 2);
  chain.begin(x, v);
  chain.inverse();  // of what no forward has made
  EXPECT_LT(chain.status(), 0);
}

/// The layer's outputs weighed, as a function of what goes in, for a branch f = values + bias (- x).
struct Layer {
  MomentumForm form;
  bool whole;
  double gamma, x, v, value, bias;
  double operator()(double to_x, double to_v) const {
    const double f = value + bias - (whole ? x : 0);
    const double speed = gamma * v + (form == MomentumForm::damped ? 1 - gamma : 1) * f;
    return to_v * speed + to_x * (x + speed);
  }
};

class MomentumResidual : public testing::OnContext {};
SHRINKWARP_ON_EVERY_CONTEXT(MomentumResidual);

TEST_P(MomentumResidual, GoesThereAndBackAndHasTheGradients) {
  const std::int64_t features = 5, batch = 23, size = features * batch;
  for (const MomentumForm form : {MomentumForm::damped, MomentumForm::plain}) {
    for (const bool whole : {false, true}) {
      for (const bool exact : {false, true}) {
        const auto numbers = [&](unsigned seed) { return Chain<double>::numbers(size, seed); };
        const std::vector<double> x = numbers(1), v = numbers(2), values = numbers(3), dx = numbers(4), dv = numbers(5);
        const std::vector<double> bias = Chain<double>::numbers(features, 6);
        const double gamma = 3.0 / 4;
        const auto on = [&](const std::vector<double>& host) {
          return to_device<double>(context(), host, static_cast<std::int64_t>(host.size()));
        };
        const Tensor<double> X = on(x), V = on(v), F = on(values), B = on(bias), learned = on({gamma}), to_x = on(dx),
                             to_v = on(dv);
        const Tensor<double> to_branch(context(), size), dgamma = on({100}),
                                                         scratch(context(), momentum_adjoint_scratch(size));
        const Tensor<MomentumGamma> gammas(context(), 1);
        prepare_gammas<double>(context(), learned.vector(), {.25, .8, exact}, gammas.vector());
        const BranchValues<double> branch{F.vector(), B.vector(), whole};
        const MomentumAdjoint<double> adjoint{to_x.vector(), to_v.vector(), to_branch.vector(), dgamma.vector(),
                                              scratch.vector()};
        std::vector<Layer> layers;
        for (std::int64_t i = 0; i < size; ++i) {
          const auto e = static_cast<std::size_t>(i);
          layers.push_back({form, whole, gamma, x[e], v[e], values[e], bias[static_cast<std::size_t>(i % features)]});
        }
        if (exact) {
          Chain<double> chain(context(), {gamma}, features, batch, form, whole);
          chain.begin(x, v);
          exact_momentum_forward<double>(context(), {gammas.vector(), 0, form}, branch, chain.state(),
                                         chain.in_T_.vector());
          exact_momentum_velocity<double>(context(), chain.state(), V.vector());
          copy<double>(context(), chain.in_T_.vector(), X.vector());
          for (std::size_t e = 0; e < layers.size(); ++e) {
            EXPECT_NEAR(values_of<double>(context(), V.vector())[e], layers[e](0, 1), 1e-12);
            EXPECT_NEAR(values_of<double>(context(), X.vector())[e], layers[e](1, 0), 1e-12);
            if (HasFailure()) return;
          }
          exact_momentum_step_back<double>(context(), chain.state(), chain.in_T_.vector());
          exact_momentum_inverse<double>(context(), {gammas.vector(), 0, form}, branch, &adjoint, chain.state(),
                                         chain.in_T_.vector(), {});
          // The same bits as of what the layer began with.
          exact_momentum_velocity<double>(context(), chain.state(), V.vector());
          const Tensor<double> again_x = on(dx), again_v = on(dv), again_branch(context(), size),
                               again_dgamma = on({100});
          momentum_adjoint<double>(
              context(), gammas.vector(), form, branch, chain.in_T_.vector(), V.vector(),
              {again_x.vector(), again_v.vector(), again_branch.vector(), again_dgamma.vector(), scratch.vector()});
          EXPECT_EQ(testing::bits_of(context(), again_x, again_v, again_branch, again_dgamma),
                    testing::bits_of(context(), to_x, to_v, to_branch, dgamma));
        } else {
          momentum_forward<double>(context(), gammas.vector(), form, branch, X.vector(), V.vector());
          const std::vector<double> after_x = values_of<double>(context(), X.vector()),
                                    after_v = values_of<double>(context(), V.vector());
          for (std::size_t e = 0; e < layers.size(); ++e) {
            ASSERT_NEAR(after_v[e], layers[e](0, 1), 1e-14);
            ASSERT_NEAR(after_x[e], layers[e](1, 0), 1e-14);
          }
          momentum_step_back<double>(context(), V.vector(), X.vector());
          momentum_inverse<double>(context(), gammas.vector(), form, branch, X.vector(), V.vector(), {});
          momentum_adjoint<double>(context(), gammas.vector(), form, branch, X.vector(), V.vector(), adjoint);
        }
        const std::vector<double> back_v = values_of<double>(context(), V.vector()),
                                  back_x = values_of<double>(context(), X.vector());
        const std::vector<double> gx = values_of<double>(context(), to_x.vector()),
                                  gv = values_of<double>(context(), to_v.vector());
        const std::vector<double> gf = values_of<double>(context(), to_branch.vector());
        double slope = 0;
        for (std::size_t e = 0; e < layers.size(); ++e) {
          ASSERT_NEAR(back_v[e], v[e], 1e-13);
          if (!exact) {
            ASSERT_NEAR(back_x[e], x[e], 1e-14);
          }
          const auto derivative = [&](double Layer::*field) {
            Layer up = layers[e], down = layers[e];
            up.*field += 1e-3, down.*field -= 1e-3;
            return (up(dx[e], dv[e]) - down(dx[e], dv[e])) / 2e-3;
          };
          ASSERT_NEAR(gx[e], derivative(&Layer::x), 1e-11);
          ASSERT_NEAR(gv[e], derivative(&Layer::v), 1e-11);
          ASSERT_NEAR(gf[e], derivative(&Layer::value), 1e-11);
          slope += derivative(&Layer::gamma);
        }
        EXPECT_NEAR(values_of<double>(context(), dgamma.vector())[0] - 100, slope, 1e-9);
      }
    }
  }
}

TEST_P(MomentumResidual, HoldsLearnedMomentaInTheirRange) {
  const std::vector<float> learned = {-3, .25, .5, .8f, 7, std::numeric_limits<float>::quiet_NaN()};
  const Tensor<float> on = to_device<float>(context(), learned, 6);
  const Tensor<MomentumGamma> gammas(context(), 6);
  prepare_gammas<float>(context(), on.vector(), {.25, .75, false}, gammas.vector());
  const std::vector<MomentumGamma> used = values_of<MomentumGamma>(context(), gammas.vector());
  const double values[] = {.25, .25, .5, .75, .75, .25};
  const int held[] = {-1, -1, 0, 1, 1, -1};
  for (std::size_t t = 0; t < 6; ++t) EXPECT_TRUE(used[t].value == values[t] && used[t].held == held[t]) << t;
  // One at its low end learns to go up only.
  for (const float sign : {1.0f, -1.0f}) {
    const auto constant = [&](float value) { return to_device<float>(context(), std::vector<float>(3, value), 3); };
    const Tensor<float> dx = constant(sign), dv = constant(0), f = constant(0), v = constant(1), branch(context(), 3),
                        dgamma = to_device<float>(context(), {0}, 1);
    const Tensor<double> scratch(context(), momentum_adjoint_scratch(3));
    momentum_adjoint<float>(context(), gammas.vector().slice(0, 1), MomentumForm::plain, {f.vector(), {}, false}, {},
                            v.vector(), {dx.vector(), dv.vector(), branch.vector(), dgamma.vector(), scratch.vector()});
    EXPECT_EQ(values_of<float>(context(), dgamma.vector())[0], sign > 0 ? 0 : -3);
  }
}

TEST_P(MomentumResidual, SaysWhatIsWrong) {
  const Tensor<float> x(context(), 12), v(context(), 12), f(context(), 11), bias(context(), 5);
  const Tensor<MomentumGamma> gammas(context(), 1);
  const auto refused = [&](const BranchValues<float>& branch) {
    EXPECT_THROW(
        momentum_forward<float>(context(), gammas.vector(), MomentumForm::damped, branch, x.vector(), v.vector()),
        ShapeError);
  };
  refused({f.vector(), {}, false});
  refused({x.vector(), bias.vector(), false});
  const Tensor<float> learned(context(), 1);
  EXPECT_THROW(prepare_gammas<float>(context(), learned.vector(), {0, .5, true}, gammas.vector()), ValueError);
  EXPECT_THROW(prepare_gammas<float>(context(), learned.vector(), {.6, .5, false}, gammas.vector()), ValueError);
  EXPECT_THROW(prepare_gammas<float>(context(), x.vector(), {.6, .7, false}, gammas.vector()), ShapeError);
  Chain<float> chain(context(), {.5}, 4, 3, MomentumForm::damped, false);
  ExactLayer layer = chain.layer(1);
  EXPECT_THROW(exact_momentum_forward<float>(context(), layer, {x.vector(), {}, false}, chain.state(), v.vector()),
               ShapeError);
  ExactState state = chain.state();
  state.buffer.capacity = 31;
  EXPECT_THROW(exact_momentum_step_back<float>(context(), state, v.vector()), ShapeError);
}

struct QueuedMomentum {
  static constexpr std::int64_t kSize = 75;
  const Context& context;
  Tensor<float> x, v, f, learned, dx, dv, dbranch, dgamma, in_T;
  Tensor<double> scratch;
  Tensor<MomentumGamma> gammas;
  Tensor<std::int64_t> fixed_x, fixed_v;
  Tensor<std::uint64_t> states;
  Tensor<std::uint32_t> words;
  Tensor<std::int32_t> counts, status;

  explicit QueuedMomentum(const Context& on)
      : context(on),
        x(testing::numbers<float>(on, kSize, 1, 1)),
        v(testing::numbers<float>(on, kSize, 1, 2)),
        f(testing::numbers<float>(on, kSize, 1, 3)),
        learned(to_device<float>(on, {.5f}, 1)),
        dx(testing::numbers<float>(on, kSize, 1, 4)),
        dv(testing::numbers<float>(on, kSize, 1, 5)),
        dbranch(Tensor<float>::zeros(on, kSize)),
        dgamma(Tensor<float>::zeros(on, 1)),
        in_T(Tensor<float>::zeros(on, kSize)),
        scratch(on, momentum_adjoint_scratch(kSize)),
        gammas(on, 1),
        fixed_x(Tensor<std::int64_t>::zeros(on, kSize)),
        fixed_v(Tensor<std::int64_t>::zeros(on, kSize)),
        states(Tensor<std::uint64_t>::zeros(on, kSize)),
        words(Tensor<std::uint32_t>::zeros(on, 3 * 64)),
        counts(Tensor<std::int32_t>::zeros(on, 3)),
        status(Tensor<std::int32_t>::zeros(on, 1)) {}
  void queue() {
    const ExactState state{
        fixed_x.vector(), fixed_v.vector(), {states.vector(), words.vector(), counts.vector(), 64}, status.vector()};
    const BranchValues<float> branch{f.vector(), {}, true};
    const MomentumAdjoint<float> adjoint{dx.vector(), dv.vector(), dbranch.vector(), dgamma.vector(), scratch.vector()};
    const ExactLayer layer{gammas.vector(), 0, MomentumForm::damped};
    prepare_gammas<float>(context, learned.vector(), {.25, .75, true}, gammas.vector());
    momentum_forward<float>(context, gammas.vector(), MomentumForm::damped, branch, x.vector(), v.vector());
    clear_status(context, status.vector());
    exact_momentum_begin<float>(context, x.vector(), v.vector(), gammas.vector(), state, in_T.vector());
    exact_momentum_forward<float>(context, layer, branch, state, in_T.vector());
    exact_momentum_step_back<float>(context, state, in_T.vector());
    exact_momentum_inverse<float>(context, layer, branch, &adjoint, state, in_T.vector(), {});
    momentum_step_back<float>(context, v.vector(), x.vector());
    momentum_inverse<float>(context, gammas.vector(), MomentumForm::plain, branch, x.vector(), v.vector(), x.vector());
    momentum_adjoint<float>(context, gammas.vector(), MomentumForm::plain, branch, x.vector(), v.vector(), adjoint);
    exact_momentum_velocity<float>(context, state, v.vector());
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, x, v, dx, dv, dbranch, dgamma, in_T, fixed_x, fixed_v, states, words, counts,
                            status);
  }
};

class MomentumQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(MomentumQueued);
TEST_P(MomentumQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedMomentum>();
}

}  // namespace
}  // namespace shrinkwarp
