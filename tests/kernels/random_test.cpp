// Random numbers: the published Philox vectors, the arithmetic behind uniforms and normals, their distributions, and
// the promise that a number depends on nothing but seed, stream and position.
#include <shrinkwarp/kernels/random/random.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/queued.hpp"

namespace shrinkwarp {
namespace {

constexpr std::uint64_t kSeed = 0x123456789abcdef0u;

// ---- scalar functions ----

constexpr bool equal(const philox::Words& a, const philox::Words& b) {
  return a.word[0] == b.word[0] && a.word[1] == b.word[1] && a.word[2] == b.word[2] && a.word[3] == b.word[3];
}

// Known answers of the Random123 distribution for philox4x32-10; at compile time, so that constexpr is tested too.
static_assert(equal(philox::philox4x32({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
static_assert(equal(philox::philox4x32({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff),
                    {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
static_assert(equal(philox::philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
                    {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));

TEST(Philox, KnownAnswersAtRunTime) {
  const volatile std::uint32_t digits[6] = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0};
  const philox::Words words = philox::philox4x32({{digits[0], digits[1], digits[2], digits[3]}}, digits[4], digits[5]);
  EXPECT_TRUE(equal(words, {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST(Philox, SeedIsTheKeyAndIndexAndStreamAreTheCounter) {
  const philox::Words words = philox::bits(0x299f31d0'a4093822u, 0x03707344'13198a2eu, 0x85a308d3'243f6a88u);
  EXPECT_TRUE(equal(words, {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST(Philox, UniformEndsOfTheRange) {
  EXPECT_EQ(philox::uniform<float>(0u), 0.0f);
  EXPECT_EQ(philox::uniform<float>(0xffffffffu), 1.0f - 0x1p-24f);
  EXPECT_EQ(philox::uniform<double>(std::uint64_t{0}), 0.0);
  EXPECT_EQ(philox::uniform<double>(~std::uint64_t{0}), 1.0 - 0x1p-53);
  EXPECT_EQ(philox::uniform_above_zero<float>(0u), 0x1p-24f);
  EXPECT_EQ(philox::uniform_above_zero<float>(0xffffffffu), 1.0f);
  EXPECT_EQ(philox::uniform_above_zero<double>(std::uint64_t{0}), 0x1p-53);
  EXPECT_EQ(philox::uniform_above_zero<double>(~std::uint64_t{0}), 1.0);
}

template <class T>
class PhiloxArithmetic : public ::testing::Test {};
using Floats = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PhiloxArithmetic, Floats);

/// |value - exact| in units of eps * |scale|; a correctly rounded value is within 1/2.
template <class T>
double ulps(T value, long double exact, long double scale) {
  return static_cast<double>(std::abs(value - exact) / (std::numeric_limits<T>::epsilon() * std::abs(scale)));
}

// Rounding of the quotient s (2), of the series (1), of the two products (1) and of the last sum (1/2) are 4.5 halves.
TYPED_TEST(PhiloxArithmetic, LogarithmWithinThreeUlp) {
  using T = TypeParam;
  EXPECT_EQ(philox::logarithm(T(1)), T(0));
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const philox::Words words = philox::bits(kSeed, 1, i);
    const int shift = static_cast<int>(words.word[3] % philox::Source<T>::kMantissa);  // small numbers too
    const T u = philox::uniform_above_zero<T>(philox::lane_bits<T>(words, 0) >> shift);
    const long double exact = std::log(static_cast<long double>(u));
    if (u != T(1)) {
      ASSERT_LE(ulps(philox::logarithm(u), exact, exact), 3.0) << u;
    }
  }
}

TYPED_TEST(PhiloxArithmetic, CirclePointWithinTwoUlpOfTheUnitCircle) {
  using T = TypeParam;
  using Bits = typename philox::Source<T>::Bits;
  const long double turn = 2 * std::acos(-1.0L);
  const Bits quarter = Bits{1} << (8 * sizeof(T) - 2);
  for (Bits q = 0; q < 4; ++q) {  // the axes are exact
    T cosine, sine;
    philox::circle_point<T>(q * quarter, cosine, sine);
    EXPECT_EQ(cosine, q == 0 ? T(1) : q == 2 ? T(-1) : T(0)) << q;
    EXPECT_EQ(sine, q == 1 ? T(1) : q == 3 ? T(-1) : T(0)) << q;
  }
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const Bits bits = philox::lane_bits<T>(philox::bits(kSeed, 2, i), 0);
    const long double angle = turn * (static_cast<long double>(bits) / 4 / static_cast<long double>(quarter));
    T cosine, sine;
    philox::circle_point<T>(bits, cosine, sine);
    ASSERT_LE(ulps(cosine, std::cos(angle), 1), 2.0) << bits;
    ASSERT_LE(ulps(sine, std::sin(angle), 1), 2.0) << bits;
  }
}

// Radius 1.5 + 1/2 ulp (half the logarithm's, the root), circle 2, product 1/2.
TYPED_TEST(PhiloxArithmetic, NormalPairWithinFiveUlpOfItsRadius) {
  using T = TypeParam;
  const long double turn = 2 * std::acos(-1.0L);
  const long double unit = std::ldexp(1.0L, -8 * static_cast<int>(sizeof(T)));
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const philox::Words words = philox::bits(kSeed, 8, i);
    const auto a = philox::lane_bits<T>(words, 0), b = philox::lane_bits<T>(words, 1);
    // Both roundings on the way to u are part of the draw.
    const T u = static_cast<T>(static_cast<long double>(static_cast<T>(a)) * unit + unit / 2);
    const long double radius = std::sqrt(-2 * std::log(static_cast<long double>(u)));
    const long double angle = turn * (static_cast<long double>(b) * unit);
    T first, second;
    philox::normal_pair<T>(a, b, first, second);
    if (u == T(1)) continue;
    ASSERT_LE(ulps(first, radius * std::cos(angle), radius), 5.0) << a << ' ' << b;
    ASSERT_LE(ulps(second, radius * std::sin(angle), radius), 5.0) << a << ' ' << b;
  }
}

TYPED_TEST(PhiloxArithmetic, NormalPairAtTheEndsOfItsBits) {
  using T = TypeParam;
  using Bits = typename philox::Source<T>::Bits;
  T first, second;
  philox::normal_pair<T>(Bits{0}, Bits{0}, first, second);  // u = 2^-33 or 2^-65, angle 0
  EXPECT_NEAR(first, std::sqrt(2 * (8 * sizeof(T) + 1) * std::log(2.0)), 1e-5);
  EXPECT_EQ(second, T(0));
  philox::normal_pair<T>(~Bits{0}, Bits{0}, first, second);  // u rounds to 1
  EXPECT_EQ(first, T(0));
  EXPECT_EQ(second, T(0));
}

// ---- fills, on every backend ----

class RandomFill : public testing::OnContext {
 protected:
  /// Calls fill(context, view) on a view of `size` elements between guards, gives the elements, checks the guards.
  template <class T, class Fill>
  std::vector<T> filled(std::int64_t size, Fill fill) {
    constexpr std::int64_t kGuard = 8;
    const T sentinel = T(77);
    const Context& here = context();
    const Context host = Context::cpu(1);
    std::vector<T> values(static_cast<std::size_t>(size + 2 * kGuard), sentinel);
    const VectorView<T> all{values.data(), size + 2 * kGuard, host.device()};
    Tensor<T> tensor(here, all.size);
    copy<T>(here, all, tensor.vector());
    fill(here, tensor.vector().slice(kGuard, size));
    copy<T>(here, tensor.vector(), all);
    here.synchronize();
    for (std::int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(values[static_cast<std::size_t>(i)], sentinel);
      EXPECT_EQ(values[static_cast<std::size_t>(kGuard + size + i)], sentinel);
    }
    return {values.begin() + kGuard, values.end() - kGuard};
  }

  std::vector<std::uint32_t> bits(std::uint64_t seed, std::uint64_t stream, std::int64_t offset, std::int64_t size) {
    return filled<std::uint32_t>(
        size, [&](const Context& c, VectorView<std::uint32_t> out) { fill_bits(c, seed, stream, offset, out); });
  }
  template <class T>
  std::vector<T> uniforms(std::uint64_t seed, std::uint64_t stream, std::int64_t offset, std::int64_t size) {
    return filled<T>(size, [&](const Context& c, VectorView<T> out) { fill_uniform(c, seed, stream, offset, out); });
  }
  template <class T>
  std::vector<T> normals(std::uint64_t seed, std::uint64_t stream, std::int64_t offset, std::int64_t size) {
    return filled<T>(size, [&](const Context& c, VectorView<T> out) { fill_normal(c, seed, stream, offset, out); });
  }
};

SHRINKWARP_ON_EVERY_CONTEXT(RandomFill);

TEST_P(RandomFill, BitsAreTheWordsOfPhilox) {
  // An index far outside 32 bits, then two words in the middle of the published block for counter 0 and key 0.
  const std::int64_t index = 0x05a308d3'243f6a88;
  const philox::Words words = philox::bits(kSeed, 9, static_cast<std::uint64_t>(index));
  EXPECT_EQ(bits(kSeed, 9, 4 * index, 4),
            (std::vector<std::uint32_t>{words.word[0], words.word[1], words.word[2], words.word[3]}));
  EXPECT_EQ(bits(0, 0, 1, 2), (std::vector<std::uint32_t>{0xe169c58d, 0xbc57ac4c}));
}

template <class Draw>
std::vector<typename Draw::Value> scalar_sequence(std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                                                  std::int64_t size) {
  std::vector<typename Draw::Value> out(static_cast<std::size_t>(size));
  for (std::int64_t e = offset; e < offset + size; ++e) {
    typename Draw::Value lanes[Draw::kLanes];
    Draw::draw(philox::bits(seed, stream, static_cast<std::uint64_t>(e / Draw::kLanes)), lanes);
    out[static_cast<std::size_t>(e - offset)] = lanes[e % Draw::kLanes];
  }
  return out;
}

// Every backend and every instruction set gives the bits of the scalar functions as this file's compiler makes them.
TEST_P(RandomFill, SameBitsAsTheScalarFunctions) {
  for (const std::int64_t size : {0, 1, 2, 3, 5, 597, 20011}) {
    for (const std::int64_t offset : {std::int64_t{0}, std::int64_t{3}, (std::int64_t{1} << 35) + 5}) {
      EXPECT_EQ(bits(kSeed, 3, offset, size), scalar_sequence<philox::BitsDraw>(kSeed, 3, offset, size));
      EXPECT_EQ(uniforms<float>(kSeed, 3, offset, size),
                scalar_sequence<philox::UniformDraw<float>>(kSeed, 3, offset, size));
      EXPECT_EQ(uniforms<double>(kSeed, 3, offset, size),
                scalar_sequence<philox::UniformDraw<double>>(kSeed, 3, offset, size));
      EXPECT_EQ(normals<float>(kSeed, 3, offset, size),
                scalar_sequence<philox::NormalDraw<float>>(kSeed, 3, offset, size));
      EXPECT_EQ(normals<double>(kSeed, 3, offset, size),
                scalar_sequence<philox::NormalDraw<double>>(kSeed, 3, offset, size));
    }
  }
}

TEST_P(RandomFill, AnySplitGivesTheSameNumbers) {
  const std::int64_t size = 40003;
  const std::vector<double> whole = normals<double>(kSeed, 4, 11, size);
  const std::vector<float> whole_float = normals<float>(kSeed, 4, 11, size);
  std::vector<double> pieces;
  std::vector<float> pieces_float;
  std::int64_t step = 1;
  for (std::int64_t from = 0; from < size; from += step, step = 3 * step + 1) {
    const std::int64_t count = std::min(step, size - from);
    const auto piece = normals<double>(kSeed, 4, 11 + from, count);
    const auto piece_float = normals<float>(kSeed, 4, 11 + from, count);
    pieces.insert(pieces.end(), piece.begin(), piece.end());
    pieces_float.insert(pieces_float.end(), piece_float.begin(), piece_float.end());
    if (count < step) break;
  }
  EXPECT_EQ(pieces, whole);
  EXPECT_EQ(pieces_float, whole_float);
}

TEST_P(RandomFill, LastPositionsOfTheSequence) {
  const std::int64_t last = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(bits(kSeed, 5, last - 3, 3), scalar_sequence<philox::BitsDraw>(kSeed, 5, last - 3, 3));
  EXPECT_EQ(normals<double>(kSeed, 5, last - 3, 3), scalar_sequence<philox::NormalDraw<double>>(kSeed, 5, last - 3, 3));
}

TEST_P(RandomFill, SeedsAndStreamsDiffer) {
  const std::int64_t size = 1000;
  const auto base = bits(kSeed, 6, 0, size);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> others = {
      {kSeed + 1, 6}, {kSeed ^ (std::uint64_t{1} << 63), 6}, {kSeed, 7}, {kSeed, 6 + (std::uint64_t{1} << 40)}};
  for (const auto& [seed, stream] : others) {
    const auto other = bits(seed, stream, 0, size);
    int same = 0;
    for (std::size_t i = 0; i < other.size(); ++i) same += other[i] == base[i] ? 1 : 0;
    EXPECT_LE(same, 1);  // expected 1000 / 2^32
  }
}

/// Largest distance between the empirical distribution and `cdf`, times sqrt(n): over 1.95 once in 1,000 samples
/// of the right distribution (Kolmogorov).
template <class T, class Cdf>
double kolmogorov(std::vector<T> values, Cdf cdf) {
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double distance = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double p = cdf(static_cast<double>(values[i]));
    distance =
        std::max({distance, std::abs(p - static_cast<double>(i) / n), std::abs(static_cast<double>(i + 1) / n - p)});
  }
  return distance * std::sqrt(n);
}

/// Mean of f over the values.
template <class T, class F>
double mean_of(const std::vector<T>& values, F f) {
  double sum = 0;
  for (const T value : values) sum += f(static_cast<double>(value));
  return sum / static_cast<double>(values.size());
}

template <class T>
void expect_uniform(const std::vector<T>& values) {
  const double root = std::sqrt(static_cast<double>(values.size()));
  for (const T value : values) {
    ASSERT_GE(value, T(0));
    ASSERT_LT(value, T(1));
  }
  EXPECT_LT(kolmogorov(values, [](double u) { return u; }), 1.95);
  // Four standard deviations of the mean of u and of u^2: sqrt(1/12), sqrt(4/45).
  EXPECT_NEAR(mean_of(values, [](double u) { return u; }), 1.0 / 2, 4 * std::sqrt(1.0 / 12) / root);
  EXPECT_NEAR(mean_of(values, [](double u) { return u * u; }), 1.0 / 3, 4 * std::sqrt(4.0 / 45) / root);
}

template <class T>
void expect_normal(const std::vector<T>& values) {
  const double n = static_cast<double>(values.size());
  EXPECT_LT(kolmogorov(values, [](double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }), 1.95);
  // Moments 0, 1, 0, 3 with variances 1, 2, 15, 96: four standard deviations of the mean.
  EXPECT_NEAR(mean_of(values, [](double z) { return z; }), 0, 4 * std::sqrt(1 / n));
  EXPECT_NEAR(mean_of(values, [](double z) { return z * z; }), 1, 4 * std::sqrt(2 / n));
  EXPECT_NEAR(mean_of(values, [](double z) { return z * z * z; }), 0, 4 * std::sqrt(15 / n));
  EXPECT_NEAR(mean_of(values, [](double z) { return z * z * z * z; }), 3, 4 * std::sqrt(96 / n));
  // Neighbours, among them the two of a Box-Muller pair, are uncorrelated, and so are their squares (variance 4).
  for (std::size_t lag = 1; lag <= 4; ++lag) {
    double product = 0, squares = 0;
    for (std::size_t i = 0; i + lag < values.size(); ++i) {
      const double a = static_cast<double>(values[i]), b = static_cast<double>(values[i + lag]);
      product += a * b;
      squares += (a * a - 1) * (b * b - 1);
    }
    EXPECT_NEAR(product / n, 0, 4 * std::sqrt(1 / n)) << lag;
    EXPECT_NEAR(squares / n, 0, 4 * std::sqrt(4 / n)) << lag;
  }
}

TEST_P(RandomFill, UniformsAreUniform) {
  expect_uniform(uniforms<float>(kSeed, 10, 0, 200000));
  expect_uniform(uniforms<double>(kSeed, 11, 0, 200000));
}

TEST_P(RandomFill, NormalsAreNormal) {
  expect_normal(normals<float>(kSeed, 12, 0, 200000));
  expect_normal(normals<double>(kSeed, 13, 0, 200000));
}

TEST_P(RandomFill, EveryBitIsFair) {
  const std::int64_t size = 100000;
  const auto words = bits(kSeed, 14, 0, size);
  for (int bit = 0; bit < 32; ++bit) {
    double ones = 0;
    for (const std::uint32_t word : words) ones += (word >> bit) & 1;
    EXPECT_NEAR(ones / static_cast<double>(size), 0.5, 4.5 * 0.5 / std::sqrt(static_cast<double>(size))) << bit;
  }
}

TEST_P(RandomFill, Errors) {
  const Context& here = context();
  Tensor<float> tensor(here, 8);
  VectorView<float> out = tensor.vector();
  EXPECT_THROW(fill_normal(here, 1, 2, -1, out), ValueError);
  EXPECT_THROW(fill_normal(here, 1, 2, std::numeric_limits<std::int64_t>::max() - 7, out), ValueError);
  EXPECT_THROW(fill_uniform(here, 1, 2, 0, VectorView<float>{out.data, -1, out.device}), ShapeError);
  EXPECT_THROW(fill_uniform(here, 1, 2, 0, VectorView<float>{nullptr, 8, out.device}), ValueError);
  out.device = here.is_cuda() ? Device{} : Device{DeviceType::cuda, 0};
  EXPECT_THROW(fill_uniform(here, 1, 2, 0, out), DeviceError);
  try {
    fill_uniform(here, 1, 2, -5, tensor.vector());
    FAIL() << "a negative offset was accepted";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find("fill_uniform: offset is -5"), std::string::npos) << error.what();
  }
}

struct QueuedFills {
  const Context& context;
  Tensor<std::uint32_t> words;
  Tensor<float> uniform, normal;
  Tensor<double> uniform_double, normal_double;

  explicit QueuedFills(const Context& c)
      : context(c),
        words(Tensor<std::uint32_t>::zeros(c, 1001)),
        uniform(Tensor<float>::zeros(c, 1001)),
        normal(Tensor<float>::zeros(c, 1001)),
        uniform_double(Tensor<double>::zeros(c, 1001)),
        normal_double(Tensor<double>::zeros(c, 1001)) {}
  void queue() {
    fill_bits(context, kSeed, 1, 3, words.vector());
    fill_uniform(context, kSeed, 2, 3, uniform.vector());
    fill_normal(context, kSeed, 3, 3, normal.vector());
    fill_uniform(context, kSeed, 4, 3, uniform_double.vector());
    fill_normal(context, kSeed, 5, 3, normal_double.vector());
  }
  std::vector<unsigned char> written() const {
    return testing::bits_of(context, words, uniform, normal, uniform_double, normal_double);
  }
};

class RandomQueued : public testing::OnContext {};
SHRINKWARP_ON_CUDA(RandomQueued);

TEST_P(RandomQueued, RunsOnABorrowedStreamAndInAGraph) {
  testing::check_queued<QueuedFills>();
}

}  // namespace
}  // namespace shrinkwarp
