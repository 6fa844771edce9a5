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

#include <cmath>
#include <cstdint>

#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// Fraction bits of x and v: 2^-44 is 1.
inline constexpr int kFractionBits = 44;
/// Bits of a word of the list.
inline constexpr int kInformationWordBits = 32;

/// A divisor >= 2, so that a division of n < 2^63 by it is one product: n div d = (n magic) >> (64 + shift).
struct Divisor {
  std::uint64_t value = 2, magic = 0;
  std::int32_t shift = 0;
};

/// One layer's momentum as kernels use it.
struct MomentumGamma {
  double value = 0;       ///< in exact mode p / q
  Divisor p, q;           ///< p <= q
  std::uint64_t K = 0;    ///< multiple of p and of q
  std::int32_t held = 0;  ///< -1 and 1 where a learned value is held at the low or high end of its range, else 0
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

/// @param d  >= 2, < 2^32
SHRINKWARP_HOST_DEVICE inline Divisor divisor(std::uint64_t d) {
  int bits = 0;  // 2^bits >= d
  while ((std::uint64_t{1} << bits) < d) ++bits;
  return {d, power_over(63 + bits, d) + 1, bits - 1};
}

/// gamma as p / q, with words of `word_bits` bits. @param p  >= 2  @param q  >= p, p q <= 2^(word_bits - 2)
SHRINKWARP_HOST_DEVICE inline MomentumGamma as_fraction(std::uint64_t p, std::uint64_t q, int word_bits) {
  MomentumGamma gamma;
  gamma.p = divisor(p);
  gamma.q = divisor(q);
  gamma.value = static_cast<double>(p) / static_cast<double>(q);
  gamma.K = (std::uint64_t{1} << (word_bits - 1)) / (p * q) * (p * q);
  return gamma;
}

/// Largest q.
inline constexpr int kLargestLog2Q = 15;
/// Smallest and largest gamma under 1 that exact mode takes; 1 itself is another.
inline constexpr double kLeastExactGamma = 1.0 / (1 << kLargestLog2Q);
inline constexpr double kLargestExactGamma = 1 - kLeastExactGamma;

/// The fraction that exact mode takes for gamma, in [kLeastExactGamma, kLargestExactGamma] or 1: the first convergent of its
/// continued fraction that is within 2^-23 of it, relative to both gamma and 1 - gamma, so that the float next to 0.9 is 9/10; else
/// the last with q <= 2^15, which is within 2^-15 / q. p and q are small then, and moves of words rare. Terms are doubled where p is 1.
SHRINKWARP_HOST_DEVICE inline MomentumGamma exact_gamma(double gamma) {
  constexpr double kClose = 1.0 / (1 << 23);
  constexpr std::int64_t kMost = std::int64_t{1} << kLargestLog2Q;
  const double scale = gamma < 0.5 ? gamma : 1 - gamma;
  std::int64_t p = 0, q = 1, next_p = 1, next_q = 0;  // convergents h_k / k_k and the ones before
  double rest = gamma;
  for (int term = 0; term < 40; ++term) {
    const double whole = std::floor(rest);
    if (whole > static_cast<double>(kMost)) break;
    const auto a = static_cast<std::int64_t>(whole);
    const std::int64_t later_p = a * next_p + p, later_q = a * next_q + q;
    if (later_q > kMost) break;
    p = next_p, q = next_q, next_p = later_p, next_q = later_q;
    const double off = static_cast<double>(next_p) / static_cast<double>(next_q) - gamma;
    if (next_p > 0 && (off < 0 ? -off : off) <= kClose * scale) break;
    if (rest == whole) break;
    rest = 1 / (rest - whole);
  }
  // 0 and 1 are no convergents to take for what is between them.
  if (next_p == 0) next_p = 1, next_q = kMost;
  if (next_p == next_q && gamma < 1) next_p = kMost - 1, next_q = kMost;
  const std::int64_t doubled = next_p == 1 ? 2 : 1;
  return as_fraction(static_cast<std::uint64_t>(doubled * next_p), static_cast<std::uint64_t>(doubled * next_q),
                     kInformationWordBits);
}

/// What decides whether words move, for words of kWordBits bits; see the top of the file.
template <int kWordBits>
struct InformationLimits {
  std::uint64_t K, full, before_push, before_undone_pop;

  SHRINKWARP_HOST_DEVICE explicit InformationLimits(const MomentumGamma& gamma)
      : K(gamma.K),
        full(gamma.K << kWordBits),
        before_push((gamma.K / gamma.q.value) << kWordBits),
        before_undone_pop((gamma.K / gamma.p.value) << kWordBits) {}
};

/// n div d, n < 2^63.
SHRINKWARP_HOST_DEVICE inline std::uint64_t divided(const Divisor& d, std::uint64_t n) {
  return high_product(n, d.magic) >> d.shift;
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

/// v = u d + rest with 0 <= rest < d. @return u
SHRINKWARP_HOST_DEVICE inline std::int64_t taken_apart(const Divisor& d, std::int64_t v, std::uint64_t& rest) {
  const std::int64_t sign = v >> 63;  // floor(v / d) = ~(~v div d) for v < 0
  const std::int64_t u = static_cast<std::int64_t>(divided(d, static_cast<std::uint64_t>(v ^ sign))) ^ sign;
  rest = static_cast<std::uint64_t>(v) - static_cast<std::uint64_t>(u) * d.value;
  return u;
}
/// u d + rest, back.
SHRINKWARP_HOST_DEVICE inline std::int64_t put_together(const Divisor& d, std::int64_t u, std::uint64_t rest) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(u) * d.value + rest);
}
/// B takes a remainder of `in` and gives one of `out`.
SHRINKWARP_HOST_DEVICE inline std::uint64_t exchanged(const Divisor& in, const Divisor& out, std::uint64_t rest,
                                                      std::uint64_t& B) {
  B = B * in.value + rest;
  const std::uint64_t quotient = divided(out, B);
  const std::uint64_t given = B - quotient * out.value;
  B = quotient;
  return given;
}

/// v p / q: B, which is under before_push, takes what of v is lost and gives a remainder of p.
SHRINKWARP_HOST_DEVICE inline std::int64_t scaled_down(const MomentumGamma& gamma, std::int64_t v, std::uint64_t& B) {
  std::uint64_t r = 0;
  const std::int64_t u = taken_apart(gamma.q, v, r);
  return put_together(gamma.p, u, exchanged(gamma.q, gamma.p, r, B));
}
/// The way back, of v = u p + s: B, which is under before_undone_pop, takes s back and gives r up.
SHRINKWARP_HOST_DEVICE inline std::int64_t scaled_up(const MomentumGamma& gamma, std::int64_t u, std::uint64_t s,
                                                     std::uint64_t& B) {
  return put_together(gamma.q, u, exchanged(gamma.p, gamma.q, s, B));
}

/// What a layer adds to v, in fixed point: 2^44 share f, rounded to even; 0 where that is not a number within 2^63.
/// @param share  of f   @param fits  set to false where it is not
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
