// Multiplication of fixed-point numbers by p / q that can be undone to the last bit, for one element; host and device share it.
//
//   forward   r = v mod q,  B = B q + r,  u = (v - r) / q,  s = B mod p,  B = B div p,  v = u p + s
//   backward  s = v mod p,  B = B p + s,  u = (v - s) / p,  r = B mod q,  B = B div q,  v = u q + r
//
// with remainders that are never negative: floor division (Maclaurin, Duvenaud, Adams 2015, where it truncates). What a
// multiplication takes from v, log2(q / p) bits, is in the buffer B after it. B is the state of a range asymmetric numeral system
// (Duda 2013): it stays in an interval [K, 2^w K), K a multiple of p and of q, and where the next push or pop would leave it, a
// word of w bits goes to a list or comes back from there. Whether it does can be told from B and the layer alone, both ways: before
// a push of a remainder of q B is at least 2^w K / q if and only if B div q falls under K on the way back; pops the same. Each layer
// has a K of its own, and between two of them B is brought into the next one's interval by at most one word, both ways round.
//
// Words never run out: 2^(w words) B, what an element holds, does not fall from layer to layer, for q >= p, but for roundings of
// one part in 2^(w - 2); each element begins with B = K and one word to spare, and a word is wanted only where B is under K < 2^w.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// Fraction bits of x and v: 2^-44 is 1.
inline constexpr int kFractionBits = 44;
/// Bits of a word of the list.
inline constexpr int kInformationWordBits = 32;

/// One layer's momentum as kernels use it.
struct MomentumGamma {
  double value = 0;         ///< in exact mode p / q
  std::uint64_t p = 2;      ///< >= 2, so that a division by it is one product
  std::uint64_t K = 0;      ///< multiple of p q
  std::uint64_t magic = 0;  ///< n div p = (n magic) >> (64 + shift) for n < 2^63
  std::int32_t shift = 0;
  std::int32_t log2_q = 1;
  std::int32_t held = 0;  ///< -1 and 1 where a learned value is held at the low or high end of its range, else 0

  SHRINKWARP_HOST_DEVICE std::uint64_t q() const { return std::uint64_t{1} << log2_q; }
};

SHRINKWARP_HOST_DEVICE inline std::uint64_t high_product(std::uint64_t a, std::uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
#endif
}

/// floor(2^k / p) for p >= 2 and k < 64 + log2 p.
SHRINKWARP_HOST_DEVICE inline std::uint64_t power_over(int k, std::uint64_t p) {
  std::uint64_t quotient = 0, rest = 1;
  for (; k > 0; --k) {
    rest *= 2;
    quotient *= 2;
    if (rest >= p) rest -= p, ++quotient;
  }
  return quotient;
}

/// gamma as p / 2^log2_q, with words of `word_bits` bits. @param p  >= 2, <= 2^log2_q, p 2^log2_q <= 2^(word_bits - 2)
SHRINKWARP_HOST_DEVICE inline MomentumGamma as_fraction(std::uint64_t p, int log2_q, int word_bits) {
  MomentumGamma gamma;
  gamma.p = p;
  gamma.log2_q = log2_q;
  gamma.value = static_cast<double>(p) / static_cast<double>(gamma.q());
  const std::uint64_t both = p << log2_q;
  gamma.K = (std::uint64_t{1} << (word_bits - 1)) / both * both;
  int bits = 0;  // 2^bits >= p
  while ((std::uint64_t{1} << bits) < p) ++bits;
  gamma.magic = power_over(63 + bits, p) + 1;
  gamma.shift = bits - 1;
  return gamma;
}

/// Smallest and largest gamma under 1 that exact mode takes; 1 itself is another.
inline constexpr double kLeastExactGamma = 1.0 / 32768;
inline constexpr double kLargestExactGamma = 1 - kLeastExactGamma;

/// The fraction that exact mode takes for gamma, in [kLeastExactGamma, kLargestExactGamma] or 1: the one with the smallest
/// q from 2^10 on that is within 1/128 of both gamma and 1 - gamma, else the nearest with q = 2^15. In lowest terms, or
/// twice those of 1 / q.
SHRINKWARP_HOST_DEVICE inline MomentumGamma exact_gamma(double gamma) {
  constexpr int kFirst = 10, kLast = 15;
  std::uint64_t p = 2;
  int log2_q = 1;
  if (gamma < 1) {
    for (log2_q = kFirst; log2_q <= kLast; ++log2_q) {
      const double q = static_cast<double>(std::uint64_t{1} << log2_q);
      const double nearest = static_cast<double>(static_cast<std::int64_t>(gamma * q + 0.5));
      const double clamped = nearest < 1 ? 1 : nearest > q - 1 ? q - 1 : nearest;
      const double off = clamped / q > gamma ? clamped / q - gamma : gamma - clamped / q;
      p = static_cast<std::uint64_t>(clamped);
      if (log2_q == kLast || off * 128 <= (gamma < 0.5 ? gamma : 1 - gamma)) break;
    }
    while (p % 2 == 0) p /= 2, --log2_q;
    if (p == 1) p = 2, ++log2_q;
  }
  return as_fraction(p, log2_q, kInformationWordBits);
}

/// What decides whether words move, for words of kWordBits bits; see the top of the file.
template <int kWordBits>
struct InformationLimits {
  std::uint64_t K, full, before_push, before_undone_pop;

  SHRINKWARP_HOST_DEVICE explicit InformationLimits(const MomentumGamma& gamma)
      : K(gamma.K),
        full(gamma.K << kWordBits),
        before_push(full >> gamma.log2_q),
        before_undone_pop((gamma.K / gamma.p) << kWordBits) {}
};

/// n div p, n < 2^63.
SHRINKWARP_HOST_DEVICE inline std::uint64_t divided(const MomentumGamma& gamma, std::uint64_t n) {
  return high_product(n, gamma.magic) >> gamma.shift;
}

// Sums that may leave 64 bits: two's complement, as the machine has it.
SHRINKWARP_HOST_DEVICE inline std::int64_t wrapped_sum(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
SHRINKWARP_HOST_DEVICE inline std::int64_t wrapped_difference(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
/// Whether wrapped_sum(a, b) is not a + b.
SHRINKWARP_HOST_DEVICE inline bool sum_wraps(std::int64_t a, std::int64_t b, std::int64_t sum) {
  return ((a ^ sum) & (b ^ sum)) < 0;
}

/// v p / q: pushes what of v is lost on B, which is under before_push, and takes a remainder of p from it.
SHRINKWARP_HOST_DEVICE inline std::int64_t scaled_down(const MomentumGamma& gamma, std::int64_t v, std::uint64_t& B) {
  const std::uint64_t r = static_cast<std::uint64_t>(v) & (gamma.q() - 1);
  const std::int64_t u = v >> gamma.log2_q;  // of a negative number too, towards minus infinity
  B = (B << gamma.log2_q) | r;
  const std::uint64_t quotient = divided(gamma, B);
  const std::uint64_t s = B - quotient * gamma.p;
  B = quotient;
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(u) * gamma.p + s);
}

/// The first half of the way back: v = u p + s is taken apart. @return u
SHRINKWARP_HOST_DEVICE inline std::int64_t taken_apart(const MomentumGamma& gamma, std::int64_t v, std::uint64_t& s) {
  const std::int64_t sign = v >> 63;  // floor(v / p) = ~(~v div p) for v < 0
  const std::int64_t u = static_cast<std::int64_t>(divided(gamma, static_cast<std::uint64_t>(v ^ sign))) ^ sign;
  s = static_cast<std::uint64_t>(v) - static_cast<std::uint64_t>(u) * gamma.p;
  return u;
}
/// The second half: B, which is under before_undone_pop, takes s back and gives r up. @return u q + r
SHRINKWARP_HOST_DEVICE inline std::int64_t scaled_up(const MomentumGamma& gamma, std::int64_t u, std::uint64_t s,
                                                     std::uint64_t& B) {
  B = B * gamma.p + s;
  const std::uint64_t r = B & (gamma.q() - 1);
  B >>= gamma.log2_q;
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(u) << gamma.log2_q) | r);
}

/// What a layer adds to v, in fixed point: 2^44 share f, rounded to even; 0 where that is not a number within 2^63.
/// @param share  of f, exact in double with 2^44   @param fits  set to false where it is not
template <class T>
SHRINKWARP_HOST_DEVICE inline std::int64_t impulse(T f, double share, bool& fits) {
  constexpr double kOne = static_cast<double>(std::int64_t{1} << kFractionBits);
  constexpr double kEnd = 9223372036854775808.0;
  const double value = static_cast<double>(f) * (share * kOne);
  const bool inside = value > -kEnd && value < kEnd;
  fits = fits && inside;
#ifdef __CUDA_ARCH__
  return inside ? __double2ll_rn(value) : 0;
#else
  return inside ? static_cast<std::int64_t>(__builtin_rint(value)) : 0;
#endif
}

/// 2^-44 x in T, rounded once.
template <class T>
SHRINKWARP_HOST_DEVICE inline T rounded(std::int64_t x) {
  constexpr T kUnit = T(1) / static_cast<T>(std::int64_t{1} << kFractionBits);
  return static_cast<T>(x) * kUnit;
}

}  // namespace shrinkwarp
