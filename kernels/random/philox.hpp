// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011). A number is a function of (seed, stream, position) and nothing else: no state, any order, any thread.
//
// Host and device run the same scalar code. Sums of products are spelled as std::fma, the logarithm and the sine are
// series made of correctly rounded operations, so uniforms and normals have the same bits on every backend, whatever
// the compiler contracts and whichever libm is installed.
#pragma once

#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/scalar.hpp>

namespace shrinkwarp::philox {

/// What one evaluation gives: 128 bits.
struct Words {
  std::uint32_t word[4];
};

/// Philox4x32 with 10 rounds: a bijection of the counter for each key.
SHRINKWARP_HOST_DEVICE constexpr Words philox4x32(Words counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = Words{{static_cast<std::uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(b),
                     static_cast<std::uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// Four words for (seed, stream, index): the seed is the key, index and stream are the low and high half of the
/// counter.
SHRINKWARP_HOST_DEVICE constexpr Words bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return philox4x32(Words{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                           static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}},
                    static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

/// Random bits behind one number of type T: 32 for float, 64 for double.
template <class T>
struct Source;
template <>
struct Source<float> {
  using Bits = std::uint32_t;
  using SignedBits = std::int32_t;
  static constexpr int kMantissa = 24;
  static constexpr int kLogTerms = 5;     // s^2k/(2k+1) with s^2 < 0.0295 falls under 2^-25
  static constexpr int kCircleTerms = 6;  // x^2k/(2k)! with x < pi/4 falls under 2^-25
};
template <>
struct Source<double> {
  using Bits = std::uint64_t;
  using SignedBits = std::int64_t;
  static constexpr int kMantissa = 53;
  static constexpr int kLogTerms = 11;
  static constexpr int kCircleTerms = 9;
};

/// A multiple of 2^-24 (float) or 2^-53 (double) in [0, 1), from the high bits.
template <class T>
SHRINKWARP_HOST_DEVICE constexpr T uniform(typename Source<T>::Bits bits) {
  constexpr int kDrop = 8 * static_cast<int>(sizeof(T)) - Source<T>::kMantissa;
  constexpr T kUnit = T(1) / static_cast<T>(std::uint64_t{1} << Source<T>::kMantissa);
  return static_cast<T>(bits >> kDrop) * kUnit;
}

/// The same in (0, 1]: uniform() + 2^-24 or 2^-53, exactly.
template <class T>
SHRINKWARP_HOST_DEVICE constexpr T uniform_above_zero(typename Source<T>::Bits bits) {
  constexpr int kDrop = 8 * static_cast<int>(sizeof(T)) - Source<T>::kMantissa;
  constexpr T kUnit = T(1) / static_cast<T>(std::uint64_t{1} << Source<T>::kMantissa);
  return static_cast<T>((bits >> kDrop) + 1) * kUnit;
}

/// Natural logarithm of u in (0, 1], within 3 ulp: u = m 2^k with m in [sqrt(1/2), sqrt(2)), then
/// log m = 2 atanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), s = (m - 1)/(m + 1).
template <class T>
SHRINKWARP_HOST_DEVICE inline T logarithm(T u) {
  int exponent = 0;
  T m = std::frexp(u, &exponent);
  if (m < T(0.70710678118654752440)) {
    m += m;
    --exponent;
  }
  const T s = (m - T(1)) / (m + T(1));
  const T s2 = s * s;
  T series = T(0);
  for (int k = Source<T>::kLogTerms - 1; k >= 0; --k) series = std::fma(series, s2, T(1) / T(2 * k + 1));
  return std::fma(static_cast<T>(exponent), T(0.69314718055994530942), T(2) * s * series);
}

/// Cosine and sine of 2 pi bits / 2^32 (float) or / 2^64 (double). The turn is split into quarters in integers, so the
/// angle that reaches the series is in [-pi/4, pi/4) and carries one rounding.
template <class T>
SHRINKWARP_HOST_DEVICE inline void circle_point(typename Source<T>::Bits bits, T& cosine, T& sine) {
  using Bits = typename Source<T>::Bits;
  constexpr int kQuarterBits = 8 * static_cast<int>(sizeof(T)) - 2;
  constexpr Bits kHalfQuarter = Bits{1} << (kQuarterBits - 1);
  constexpr T kRadians = T(1.57079632679489661923) / static_cast<T>(Bits{1} << kQuarterBits);
  const Bits shifted = bits + kHalfQuarter;  // wraps: a turn is a turn
  const Bits quarter = shifted >> kQuarterBits;
  const Bits within = shifted & ((Bits{1} << kQuarterBits) - 1);
  const T x = static_cast<T>(static_cast<typename Source<T>::SignedBits>(within) -
                             static_cast<typename Source<T>::SignedBits>(kHalfQuarter)) *
              kRadians;
  const T x2 = x * x;
  T c = T(1), s = T(1);
  for (int k = Source<T>::kCircleTerms - 1; k >= 1; --k) {  // nested: 1 - x2/(1 2) (1 - x2/(3 4) (1 - ...))
    c = std::fma(x2 * (T(-1) / T((2 * k - 1) * (2 * k))), c, T(1));
    s = std::fma(x2 * (T(-1) / T((2 * k) * (2 * k + 1))), s, T(1));
  }
  s = s * x;
  cosine = (quarter & 1) ? s : c;
  sine = (quarter & 1) ? c : s;
  if (quarter == 1 || quarter == 2) cosine = -cosine;
  if (quarter >= 2) sine = -sine;
}

/// Two independent standard normals from two independent sets of bits (Box, Muller 1958): radius sqrt(-2 log u), angle
/// 2 pi v. u is (a + 1/2) 2^-32 or (a + 1/2) 2^-64, rounded: |normal| <= 6.77 (float), 9.50 (double), never NaN.
template <class T>
SHRINKWARP_HOST_DEVICE inline void normal_pair(typename Source<T>::Bits a, typename Source<T>::Bits b, T& first,
                                               T& second) {
  constexpr T kUnit =
      T(1) / static_cast<T>(std::uint64_t{1} << 32) / (sizeof(T) == 8 ? static_cast<T>(std::uint64_t{1} << 32) : T(1));
  const T u = std::fma(static_cast<T>(a), kUnit, kUnit / T(2));
  const T radius = std::sqrt(T(-2) * logarithm(u));
  T cosine, sine;
  circle_point(b, cosine, sine);
  first = radius * cosine;
  second = radius * sine;
}

// Draws: how one evaluation of Philox becomes kLanes consecutive elements of a sequence.

/// 32 random bits an element.
struct BitsDraw {
  using Value = std::uint32_t;
  static constexpr int kLanes = 4;
  SHRINKWARP_HOST_DEVICE static void draw(const Words& words, Value* values) {
    for (int lane = 0; lane < 4; ++lane) values[lane] = words.word[lane];
  }
};

/// The bits behind number `lane` of an evaluation: word `lane` for float, words 2 lane (low) and 2 lane + 1 for double.
template <class T>
SHRINKWARP_HOST_DEVICE constexpr typename Source<T>::Bits lane_bits(const Words& words, int lane) {
  if constexpr (sizeof(T) == 4) {
    return words.word[lane];
  } else {
    return (std::uint64_t{words.word[2 * lane + 1]} << 32) | words.word[2 * lane];
  }
}

/// Uniform in [0, 1).
template <class T>
struct UniformDraw {
  using Value = T;
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  SHRINKWARP_HOST_DEVICE static void draw(const Words& words, Value* values) {
    for (int lane = 0; lane < kLanes; ++lane) values[lane] = uniform<T>(lane_bits<T>(words, lane));
  }
};

/// Standard normal.
template <class T>
struct NormalDraw {
  using Value = T;
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
  SHRINKWARP_HOST_DEVICE static void draw(const Words& words, Value* values) {
    for (int lane = 0; lane < kLanes; lane += 2) {
      normal_pair<T>(lane_bits<T>(words, lane), lane_bits<T>(words, lane + 1), values[lane], values[lane + 1]);
    }
  }
};

/// Elements [block kLanes, (block + 1) kLanes) of the sequence (seed, stream), those that lie in [first, first + size):
/// element e goes to out[e - first].
template <class Draw>
SHRINKWARP_HOST_DEVICE inline void draw_block(std::uint64_t seed, std::uint64_t stream, std::int64_t block,
                                              std::int64_t first, std::int64_t size, typename Draw::Value* out) {
  typename Draw::Value values[Draw::kLanes];
  Draw::draw(bits(seed, stream, static_cast<std::uint64_t>(block)), values);
  const std::int64_t start = block * Draw::kLanes - first;
  for (int lane = 0; lane < Draw::kLanes; ++lane) {
    if (start + lane >= 0 && start + lane < size) out[start + lane] = values[lane];
  }
}

/// The blocks that hold elements [first, first + size) are [first_block(first), end_block(first + size)).
template <class Draw>
SHRINKWARP_HOST_DEVICE constexpr std::int64_t first_block(std::int64_t first) {
  return first / Draw::kLanes;
}
template <class Draw>
SHRINKWARP_HOST_DEVICE constexpr std::int64_t end_block(std::int64_t end) {
  return end / Draw::kLanes + (end % Draw::kLanes != 0 ? 1 : 0);
}

}  // namespace shrinkwarp::philox
