// Random bits of the CPU's dropout for Highway, which has the widening products of vectors that Philox is made of: included once
// for each instruction set by dropout_cpu.cpp.

// Once, whatever the instruction set: what dropout_cpu.cpp calls.
#ifndef SHRINKWARP_KERNELS_DROPOUT_DROPOUT_CPU_LOOPS
#define SHRINKWARP_KERNELS_DROPOUT_DROPOUT_CPU_LOOPS

#include <cstdint>

namespace shrinkwarp::cpu {

/// What one instruction set offers.
struct DrawBits {
  std::int64_t blocks;  // of four words, that are drawn at once
  /// The words of blocks [block, block + blocks) of the sequence (seed, stream), block after block.
  void (*draw)(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, std::uint32_t* bits);
};

constexpr std::int64_t kMostBlocks = 32;  // of DrawBits::blocks

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_DROPOUT_DROPOUT_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_DROPOUT_DROPOUT_CPU_SIMD
#undef SHRINKWARP_KERNELS_DROPOUT_DROPOUT_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_DROPOUT_DROPOUT_CPU_SIMD
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::CappedTag<std::uint32_t, 16>;
using Word = hn::Vec<Words>;

/// High and low words of the 64-bit products of `factor` and each lane.
HWY_INLINE void Multiply(Word a, Word factor, Word& high, Word& low) {
  const Words d;
#if HWY_TARGET == HWY_SCALAR  // a vector of one has no wider one
  const std::uint64_t product = std::uint64_t{hn::GetLane(a)} * hn::GetLane(factor);
  high = hn::Set(d, static_cast<std::uint32_t>(product >> 32));
  low = hn::Set(d, static_cast<std::uint32_t>(product));
#else
  const hn::Repartition<std::uint64_t, Words> wide;
  const auto even = hn::MulEven(a, factor);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), factor);
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
#endif
}

/// philox::bits of one block a lane, two vectors side by side so that one's products hide the other's latency.
void Draw(std::uint64_t seed, std::uint64_t stream, std::uint64_t block, std::uint32_t* bits) {
  const Words d;
  const auto lanes = static_cast<std::uint32_t>(hn::Lanes(d));
  const Word factor0 = hn::Set(d, 0xD2511F53u), factor1 = hn::Set(d, 0xCD9E8D57u);
  Word word0[2], word1[2], word2[2], word3[2];
  for (std::uint32_t v = 0; v < 2; ++v) {
    // The lowest word of the lanes' numbers, and a carry where it has wrapped.
    const auto first = static_cast<std::uint32_t>(block);
    word0[v] = hn::Add(hn::Set(d, first), hn::Iota(d, v * lanes));
    const Word carry = hn::IfThenElseZero(hn::Lt(word0[v], hn::Set(d, first)), hn::Set(d, 1));
    word1[v] = hn::Add(hn::Set(d, static_cast<std::uint32_t>(block >> 32)), carry);
    word2[v] = hn::Set(d, static_cast<std::uint32_t>(stream));
    word3[v] = hn::Set(d, static_cast<std::uint32_t>(stream >> 32));
  }
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int v = 0; v < 2; ++v) {
      Word high_a, low_a, high_b, low_b;
      Multiply(word0[v], factor0, high_a, low_a);
      Multiply(word2[v], factor1, high_b, low_b);
      word0[v] = hn::Xor(hn::Xor(high_b, word1[v]), hn::Set(d, key0));
      word1[v] = low_b;
      word2[v] = hn::Xor(hn::Xor(high_a, word3[v]), hn::Set(d, key1));
      word3[v] = low_a;
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (std::uint32_t v = 0; v < 2; ++v)
    hn::StoreInterleaved4(word0[v], word1[v], word2[v], word3[v], d, bits + 4 * v * lanes);
}

}  // namespace

// Highway exports plain functions.
DrawBits DrawWords() {
  return {2 * static_cast<std::int64_t>(hn::Lanes(Words())), Draw};
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
