// The list of words of a tile on the CPU, for words of any size: kernels have words of 32 bits, tests smaller ones.
#pragma once

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>

namespace shrinkwarp::cpu {

template <int kWordBits>
struct TileList {
  std::uint32_t* words;
  std::int64_t count, capacity;
  bool fits = true;  // false once it has run dry or over

  static constexpr std::uint64_t kWordMask = (std::uint64_t{1} << kWordBits) - 1;

  /// Adds words to the end.
  void append(const std::uint32_t* given, std::int64_t size) {
    const std::int64_t room = std::min(size, capacity - count);
    std::copy_n(given, room, words + count);
    count += room;
    fits = fits && room == size;
  }
  /// Takes the last words from the list, in the order in which they were given; zeros in place of those before the first.
  void withdraw(std::uint32_t* taken, std::int64_t size) {
    const std::int64_t missing = std::max<std::int64_t>(size - count, 0);
    std::fill_n(taken, missing, 0);
    count -= size - missing;
    std::copy_n(words + count, size - missing, taken + missing);
    fits = fits && missing == 0;
  }

  /// Each of the states, those of a tile at most, that is `limit` or more gives its low word to the list, in their order.
  void give(std::uint64_t* states, std::int64_t size, std::uint64_t limit) {
    std::uint32_t given[kInformationTile];
    std::int64_t givers = 0;
    for (std::int64_t e = 0; e < size; ++e) {
      if (states[e] < limit) continue;
      given[givers++] = static_cast<std::uint32_t>(states[e] & kWordMask);
      states[e] >>= kWordBits;
    }
    append(given, givers);
  }
  /// Each of the states, those of a tile at most, that is under K takes a word back: those that were given last, in the order in
  /// which they were given.
  void take(std::uint64_t* states, std::int64_t size, std::uint64_t K) {
    std::uint32_t taken[kInformationTile];
    std::int64_t takers = 0;
    for (std::int64_t e = 0; e < size; ++e) takers += states[e] < K ? 1 : 0;
    withdraw(taken, takers);
    const std::uint32_t* next = taken;
    for (std::int64_t e = 0; e < size; ++e)
      if (states[e] < K) states[e] = (states[e] << kWordBits) | *next++;
  }
  /// Brings the states from one interval, that of `from`, into another, each by a word at most.
  void move_interval(std::uint64_t* states, std::int64_t size, std::uint64_t from_K, std::uint64_t to_K) {
    if (to_K < from_K) give(states, size, to_K << kWordBits);
    if (to_K > from_K) take(states, size, to_K);
  }
};

}  // namespace shrinkwarp::cpu
