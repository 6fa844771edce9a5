// A whole tile of an exact momentum layer for Highway: included once for each instruction set by exact_momentum_cpu.cpp. The
// arithmetic is that of exact_arithmetic.hpp, to the last bit.

// Once, whatever the instruction set: what exact_momentum_cpu.cpp calls.
#ifndef SHRINKWARP_KERNELS_MOMENTUM_RESIDUAL_EXACT_MOMENTUM_CPU_LOOPS
#define SHRINKWARP_KERNELS_MOMENTUM_RESIDUAL_EXACT_MOMENTUM_CPU_LOOPS

#include <array>
#include <cstdint>

#include <shrinkwarp/kernels/common/mask_bits.hpp>
#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/kernels/momentum_residual/information_tile.hpp>

namespace shrinkwarp::cpu {

/// What a layer's tiles share.
struct ExactTask {
  MomentumGamma gamma;
  std::uint64_t other_K;  // of the layer before
  double share;
};

using InformationList = TileList<kInformationWordBits>;

/// One tile there and back, of kInformationTile elements; null where elements one by one are quicker.
/// @param f         what the branch gives
/// @param x_in_T    written; or nullptr on the way back of the first layer, whose x stays
/// @return whether all stayed within range
template <class T>
struct ExactTileLoops {
  bool (*forward)(const ExactTask& task, const T* f, InformationList& list, std::int64_t* x, std::int64_t* v,
                  std::uint64_t* states, T* x_in_T) = nullptr;
  bool (*inverse)(const ExactTask& task, const T* f, InformationList& list, std::int64_t* x, std::int64_t* v,
                  std::uint64_t* states, T* x_in_T) = nullptr;
};

/// How many of the bits under each are set, for all bytes of bits: which word a lane takes of those that a vector takes.
inline constexpr auto kBitsBefore = [] {
  std::array<std::array<std::uint8_t, 8>, 256> table{};
  for (unsigned bits = 0; bits < 256; ++bits)
    for (unsigned lane = 1; lane < 8; ++lane)
      table[bits][lane] = static_cast<std::uint8_t>(table[bits][lane - 1] + (bits >> (lane - 1) & 1));
  return table;
}();

}  // namespace shrinkwarp::cpu

#endif

#if defined(SHRINKWARP_KERNELS_MOMENTUM_RESIDUAL_EXACT_MOMENTUM_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_MOMENTUM_RESIDUAL_EXACT_MOMENTUM_CPU_SIMD
#undef SHRINKWARP_KERNELS_MOMENTUM_RESIDUAL_EXACT_MOMENTUM_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_MOMENTUM_RESIDUAL_EXACT_MOMENTUM_CPU_SIMD
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
#if HWY_MAX_BYTES >= 32 && !HWY_HAVE_SCALABLE
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Signed = hn::CappedTag<std::int64_t, 8>;
using Unsigned = hn::RebindToUnsigned<Signed>;
using Real = hn::RebindToFloat<Signed>;
using Words = hn::Rebind<std::uint32_t, Signed>;  // a word a lane
using SignedVector = hn::Vec<Signed>;
using UnsignedVector = hn::Vec<Unsigned>;

constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(Signed()));
constexpr std::int64_t kTileSize = kInformationTile;
static_assert(kTileSize % kLanes == 0, "a tile is whole vectors");

/// Products of the low 32 bits of each lane.
HWY_INLINE UnsignedVector LowHalves(UnsignedVector a, UnsignedVector b) {
  const hn::RepartitionToNarrow<Unsigned> halves;
  return hn::MulEven(hn::BitCast(halves, a), hn::BitCast(halves, b));
}

/// The low 64 bits of a b, b < 2^32.
HWY_INLINE UnsignedVector LowProduct(UnsignedVector a, UnsignedVector b) {
  return hn::Add(LowHalves(a, b), hn::ShiftLeft<32>(LowHalves(hn::ShiftRight<32>(a), b)));
}

/// A Divisor in every lane.
struct Divisors {
  UnsignedVector value, magic, high_magic;
  int shift;

  HWY_INLINE explicit Divisors(const Divisor& divisor)
      : value(hn::Set(Unsigned(), divisor.value)),
        magic(hn::Set(Unsigned(), divisor.magic)),
        high_magic(hn::Set(Unsigned(), divisor.magic >> 32)),
        shift(divisor.shift) {}

  /// n div d, n < 2^63: divided() of exact_arithmetic.hpp.
  HWY_INLINE UnsignedVector divided(UnsignedVector n) const {
    const UnsignedVector low_half = hn::Set(Unsigned(), 0xFFFFFFFFu);
    const UnsignedVector high = hn::ShiftRight<32>(n);
    const UnsignedVector first = hn::Add(LowHalves(high, magic), hn::ShiftRight<32>(LowHalves(n, magic)));
    const UnsignedVector second = hn::Add(LowHalves(n, high_magic), hn::And(first, low_half));
    const UnsignedVector product =
        hn::Add(LowHalves(high, high_magic), hn::Add(hn::ShiftRight<32>(first), hn::ShiftRight<32>(second)));
    return hn::ShiftRightSame(product, shift);
  }
  /// What n = quotient d + rest has for a rest, of which 32 bits are enough.
  HWY_INLINE UnsignedVector rest(UnsignedVector n, UnsignedVector quotient) const {
    return hn::And(hn::Sub(n, LowHalves(quotient, value)), hn::Set(Unsigned(), 0xFFFFFFFFu));
  }
  /// taken_apart(). @return u
  HWY_INLINE UnsignedVector taken_apart(SignedVector v, UnsignedVector& rest_of_v) const {
    const SignedVector sign = hn::BroadcastSignBit(v);
    const SignedVector u = hn::Xor(hn::BitCast(Signed(), divided(hn::BitCast(Unsigned(), hn::Xor(v, sign)))), sign);
    const UnsignedVector bits = hn::BitCast(Unsigned(), u);
    rest_of_v = rest(hn::BitCast(Unsigned(), v), bits);
    return bits;
  }
  HWY_INLINE UnsignedVector put_together(UnsignedVector u, UnsignedVector its_rest) const {
    return hn::Add(LowProduct(u, value), its_rest);
  }
};

/// 1.5 2^52: what one adds to a number within 2^51 stands in the low bits of the sum as an integer, rounded to even.
constexpr double kShift = 6755399441055744.0;

/// ORs of what kShift has been added to: whether all of them were within 2^51.
class WithinShift {
 public:
  HWY_INLINE WithinShift() : exponent_(hn::Set(Signed(), std::int64_t{0x433} << 52)), off_(hn::Zero(Signed())) {}
  HWY_INLINE void add(SignedVector sum) { off_ = hn::Or(off_, hn::Xor(sum, exponent_)); }
  HWY_INLINE bool all() const {
    const Signed d;
    return hn::AllTrue(d, hn::Eq(hn::ShiftRight<52>(off_), hn::Zero(d)));
  }

 private:
  SignedVector exponent_, off_;
};

HWY_INLINE hn::Vec<Real> LoadReal(const float* from) {
  return hn::PromoteTo(Real(), hn::LoadU(hn::Rebind<float, Real>(), from));
}
HWY_INLINE hn::Vec<Real> LoadReal(const double* from) {
  return hn::LoadU(Real(), from);
}
HWY_INLINE void StoreReal(hn::Vec<Real> value, float* to) {
  const hn::Rebind<float, Real> narrow;
  hn::StoreU(hn::DemoteTo(narrow, value), narrow, to);
}
HWY_INLINE void StoreReal(hn::Vec<Real> value, double* to) {
  hn::StoreU(value, Real(), to);
}

/// impulse() of exact_arithmetic.hpp for a tile. @return whether all of them fit
template <class T>
HWY_INLINE bool Impulses(const T* f, double share, std::int64_t* added) {
  const Real d;
  const Signed di;
  const auto scale = hn::Set(d, share * static_cast<double>(std::int64_t{1} << kFractionBits));
  const auto shift = hn::Set(d, kShift);
  const auto shift_bits = hn::BitCast(di, shift);
  WithinShift within;
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto sum = hn::BitCast(di, hn::Add(hn::Mul(LoadReal(f + e), scale), shift));
    within.add(sum);
    hn::Store(hn::Sub(sum, shift_bits), di, added + e);
  }
  if (HWY_LIKELY(within.all())) return true;
  bool fits = true;
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto product = hn::Mul(LoadReal(f + e), scale);
    const auto inside = hn::Lt(hn::Abs(product), hn::Set(d, 9223372036854775808.0));
    fits = fits && hn::AllTrue(d, inside);
    const auto value = hn::IfThenElseZero(inside, product);
    // 2^32 high + low with |low| <= 2^31, without rounding; 2^32 high is even.
    const auto shifted = hn::MulAdd(value, hn::Set(d, 1.0 / 4294967296), shift);
    const auto low = hn::NegMulAdd(hn::Sub(shifted, shift), hn::Set(d, 4294967296.0), value);
    const auto high_bits = hn::Sub(hn::BitCast(di, shifted), shift_bits);
    const auto low_bits = hn::Sub(hn::BitCast(di, hn::Add(low, shift)), shift_bits);
    hn::Store(hn::Add(hn::ShiftLeft<32>(high_bits), low_bits), di, added + e);
  }
  return fits;
}

/// 2^-44 in every lane.
HWY_INLINE hn::Vec<Real> Unit() {
  return hn::Set(Real(), 1.0 / static_cast<double>(std::int64_t{1} << kFractionBits));
}

/// rounded() of exact_arithmetic.hpp for numbers within 2^51, which `within` tells.
template <class T>
HWY_INLINE void StoreRounded(SignedVector x, WithinShift& within, T* to) {
  const Real d;
  const auto shift = hn::Set(d, kShift);
  const auto sum = hn::Add(x, hn::BitCast(Signed(), shift));
  within.add(sum);
  StoreReal(hn::Mul(hn::Sub(hn::BitCast(d, sum), shift), Unit()), to);
}

/// The same for a tile of any numbers.
template <class T>
HWY_NOINLINE void StoreTileRounded(const std::int64_t* x, T* to) {
  const Real d;
  const Signed di;
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto its = hn::LoadU(di, x + e);
    auto value = hn::ConvertTo(d, its);
    if constexpr (sizeof(T) == sizeof(float)) {
      // What double has rounded must not be rounded again: of numbers beyond 2^53 low bits that are not 0 become one that is
      // within double's sight and out of float's.
      const auto large = hn::Ge(hn::Abs(value), hn::Set(d, 9007199254740992.0));
      const auto low = hn::Set(di, 0xFFF);
      const auto rest = hn::VecFromMask(di, hn::Ne(hn::And(its, low), hn::Zero(di)));
      const auto odd = hn::Or(hn::AndNot(low, its), hn::And(rest, hn::Set(di, 0x1000)));
      value = hn::IfThenElse(large, hn::ConvertTo(d, odd), value);
    }
    StoreReal(hn::Mul(value, Unit()), to + e);
  }
}

/// TileList::give() of a whole tile. States are under 2^63, so that signed numbers are compared, in fewer instructions.
HWY_INLINE void Give(InformationList& list, std::uint64_t* states, std::uint64_t limit) {
  const Signed d;
  const Unsigned du;
  const Words words;
  HWY_ALIGN std::uint32_t given[kTileSize + kLanes];
  std::int64_t count = 0;
  const auto most = hn::Set(d, static_cast<std::int64_t>(limit - 1));
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto B = hn::LoadU(du, states + e);
    const auto gives = hn::VecFromMask(d, hn::Gt(hn::BitCast(d, B), most));
    const auto mask = hn::MaskFromVec(hn::TruncateTo(words, hn::BitCast(du, gives)));
    count += static_cast<std::int64_t>(hn::CompressStore(hn::TruncateTo(words, B), mask, words, given + count));
    const auto less = hn::ShiftRight<kInformationWordBits>(B);
    hn::StoreU(hn::IfThenElse(hn::MaskFromVec(hn::BitCast(du, gives)), less, B), du, states + e);
  }
  list.append(given, count);
}

/// Which of a tile's states take a word.
struct Takers {
  std::uint8_t bits[kTileSize / kLanes];  // of each vector
  std::int64_t count = 0;

  HWY_INLINE void add(std::int64_t e, UnsignedVector B, SignedVector least) {
    const Signed d;
    std::uint8_t its;
    hn::StoreMaskBits(d, hn::Lt(hn::BitCast(d, B), least), &its);
    its = plain_bits(its);
    bits[e / kLanes] = its;
    count += static_cast<std::int64_t>(hwy::PopCount(its));
  }
};

/// TileList::take() of a whole tile.
HWY_INLINE void Take(InformationList& list, std::uint64_t* states, SignedVector least, const Takers& takers) {
  const Signed d;
  const Unsigned du;
  const Words words;
  const hn::Rebind<std::uint8_t, Words> bytes;
  HWY_ALIGN std::uint32_t taken[kTileSize + kLanes];
  list.withdraw(taken, takers.count);
  const std::uint32_t* next = taken;
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto B = hn::LoadU(du, states + e);
    const std::uint8_t bits = takers.bits[e / kLanes];
    const auto places = hn::PromoteTo(words, hn::LoadU(bytes, kBitsBefore[bits].data()));
    const auto its = hn::TableLookupLanes(hn::LoadU(words, next), hn::IndicesFromVec(words, places));
    const auto with = hn::Or(hn::ShiftLeft<kInformationWordBits>(B), hn::PromoteTo(du, its));
    const auto takes = hn::BitCast(du, hn::VecFromMask(d, hn::Lt(hn::BitCast(d, B), least)));
    hn::StoreU(hn::IfThenElse(hn::MaskFromVec(takes), with, B), du, states + e);
    next += hwy::PopCount(bits);
  }
}

HWY_INLINE void MoveInterval(InformationList& list, std::uint64_t* states, std::uint64_t from_K, std::uint64_t to_K) {
  if (to_K < from_K) Give(list, states, to_K << kInformationWordBits);
  if (to_K > from_K) {
    const auto least = hn::Set(Signed(), static_cast<std::int64_t>(to_K));
    Takers takers;
    for (std::int64_t e = 0; e < kTileSize; e += kLanes) takers.add(e, hn::LoadU(Unsigned(), states + e), least);
    Take(list, states, least, takers);
  }
}

template <class T>
bool Forward(const ExactTask& task, const T* f, InformationList& list, std::int64_t* x, std::int64_t* v,
             std::uint64_t* states, T* x_in_T) {
  const Signed d;
  const Unsigned du;
  const InformationLimits<kInformationWordBits> limits(task.gamma);
  const Divisors p(task.gamma.p), q(task.gamma.q);
  const auto least = hn::Set(d, static_cast<std::int64_t>(limits.K));
  HWY_ALIGN std::int64_t added[kTileSize];
  const bool fits = Impulses(f, task.share, added);
  MoveInterval(list, states, task.other_K, task.gamma.K);
  Give(list, states, limits.before_push);
  Takers takers;
  WithinShift within;
  auto wraps = hn::Zero(d);
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto old_v = hn::LoadU(d, v + e), old_x = hn::LoadU(d, x + e), impulse = hn::Load(d, added + e);
    UnsignedVector r;
    const auto u = q.taken_apart(old_v, r);
    const auto B = q.put_together(hn::LoadU(du, states + e), r);
    const auto quotient = p.divided(B);
    hn::StoreU(quotient, du, states + e);
    takers.add(e, quotient, least);
    const auto kept = hn::BitCast(d, p.put_together(u, p.rest(B, quotient)));
    const auto speed = hn::Add(kept, impulse), place = hn::Add(old_x, speed);
    wraps = hn::Or(wraps, hn::Or(hn::And(hn::Xor(kept, speed), hn::Xor(impulse, speed)),
                                 hn::And(hn::Xor(old_x, place), hn::Xor(speed, place))));
    hn::StoreU(speed, d, v + e);
    hn::StoreU(place, d, x + e);
    StoreRounded(place, within, x_in_T + e);
  }
  if (HWY_UNLIKELY(!within.all())) StoreTileRounded(x, x_in_T);
  Take(list, states, least, takers);
  return fits && hn::AllFalse(d, hn::Lt(wraps, hn::Zero(d)));
}

template <class T>
bool Inverse(const ExactTask& task, const T* f, InformationList& list, std::int64_t* x, std::int64_t* v,
             std::uint64_t* states, T* x_in_T) {
  const Signed d;
  const Unsigned du;
  const InformationLimits<kInformationWordBits> limits(task.gamma);
  const Divisors p(task.gamma.p), q(task.gamma.q);
  const auto least = hn::Set(d, static_cast<std::int64_t>(limits.K));
  HWY_ALIGN std::int64_t added[kTileSize];
  const bool fits = Impulses(f, task.share, added);
  Give(list, states, limits.before_undone_pop);
  Takers takers;
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto kept = hn::Sub(hn::LoadU(d, v + e), hn::Load(d, added + e));
    UnsignedVector s;
    const auto u = p.taken_apart(kept, s);
    const auto B = p.put_together(hn::LoadU(du, states + e), s);
    const auto left = q.divided(B);
    hn::StoreU(left, du, states + e);
    takers.add(e, left, least);
    hn::StoreU(q.put_together(u, q.rest(B, left)), du, reinterpret_cast<std::uint64_t*>(v + e));
  }
  Take(list, states, least, takers);
  MoveInterval(list, states, task.gamma.K, task.other_K);
  if (x_in_T == nullptr) return fits;
  WithinShift within;
  for (std::int64_t e = 0; e < kTileSize; e += kLanes) {
    const auto place = hn::Sub(hn::LoadU(d, x + e), hn::LoadU(d, v + e));
    hn::StoreU(place, d, x + e);
    StoreRounded(place, within, x_in_T + e);
  }
  if (HWY_UNLIKELY(!within.all())) StoreTileRounded(x, x_in_T);
  return fits;
}

}  // namespace

// Highway exports plain functions.
ExactTileLoops<float> ExactTilesF32() {
  return {Forward<float>, Inverse<float>};
}
ExactTileLoops<double> ExactTilesF64() {
  return {Forward<double>, Inverse<double>};
}
#else
// Two lanes are no quicker than elements one by one.
ExactTileLoops<float> ExactTilesF32() {
  return {};
}
ExactTileLoops<double> ExactTilesF64() {
  return {};
}
#endif

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
