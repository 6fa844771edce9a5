// The list of words of a tile on the CPU, for words of any size: kernels have words of 32 bits, tests smaller ones.
#pragma once

#include <cstdint>

#include <shrinkwarp/kernels/momentum_residual/exact_arithmetic.hpp>

namespace shrinkwarp::cpu {

template <int kWordBits>
struct TileList {
  std::uint32_t* words;
  std::int64_t count, capacity;
  bool fits = true;  // false once it has run dry or over

  static constexpr std::uint64_t kWordMask = (std::uint64_t{1} << kWordBits) - 1;

  /// Each of the states that is `limit` or more gives its low word to the list, in their order.
  void give(std::uint64_t* states, std::int64_t size, std::uint64_t limit) {
    std::uint64_t any = 0;
    for (std::int64_t e = 0; e < size; ++e) any |= states[e] >= limit ? 1 : 0;
    if (any == 0) return;
    for (std::int64_t e = 0; e < size; ++e) {
      if (states[e] < limit) continue;
      if (count < capacity)
        words[count++] = static_cast<std::uint32_t>(states[e] & kWordMask);
      else
        fits = false;
      states[e] >>= kWordBits;
    }
  }
  /// Each of the states that is under K takes a word back: those that were given last, in the order in which they were given.
  void take(std::uint64_t* states, std::int64_t size, std::uint64_t K) {
    std::int64_t takers = 0;
    for (std::int64_t e = 0; e < size; ++e) takers += states[e] < K ? 1 : 0;
    if (takers == 0) return;
    std::int64_t place = count - takers;
    for (std::int64_t e = 0; e < size; ++e) {
      if (states[e] >= K) continue;
      std::uint64_t word = 0;
      if (place >= 0)
        word = words[place];
      else
        fits = false;
      states[e] = (states[e] << kWordBits) | word;
      ++place;
    }
    count = count < takers ? 0 : count - takers;
  }
  /// Brings the states from one interval, that of `from`, into another, each by a word at most.
  void move_interval(std::uint64_t* states, std::int64_t size, std::uint64_t from_K, std::uint64_t to_K) {
    if (to_K < from_K) give(states, size, to_K << kWordBits);
    if (to_K > from_K) take(states, size, to_K);
  }
};

}  // namespace shrinkwarp::cpu
