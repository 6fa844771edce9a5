// Sums and largest numbers over the lanes of vectors. For Highway: included once for each instruction set, by way of the families' own *_simd.hpp.

#if defined(SHRINKWARP_KERNELS_COMMON_LANE_SUMS_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_COMMON_LANE_SUMS_CPU_SIMD
#undef SHRINKWARP_KERNELS_COMMON_LANE_SUMS_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_COMMON_LANE_SUMS_CPU_SIMD
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

struct AddLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
  template <class D, class V>
  HWY_INLINE hn::TFromD<D> OfOne(D d, V v) const {
    return hn::GetLane(hn::SumOfLanes(d, v));
  }
};
struct LargerLanes {
  template <class V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Max(a, b);
  }
  template <class D, class V>
  HWY_INLINE hn::TFromD<D> OfOne(D d, V v) const {
    return hn::GetLane(hn::MaxOfLanes(d, v));
  }
};

/// out[r] = the lanes of v_r, folded. Four vectors are folded together, which halves what is left each time.
template <class Fold, class D, class V>
HWY_INLINE void FoldLanes(Fold fold, D d, V v0, V v1, V v2, V v3, hn::TFromD<D>* HWY_RESTRICT out) {
#if !HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(hn::TFromD<D>) == 4 && hn::MaxLanes(d) > 4) {
    const auto half = [fold](auto halved, auto v) { return fold(hn::LowerHalf(halved, v), hn::UpperHalf(halved, v)); };
    const hn::Half<D> halved;
    const auto in_blocks = [d, fold](V a, V b, V c, V e) {  // [a b c e] of each block of four
      const auto two = [d, fold](V x, V y) { return fold(hn::InterleaveLower(d, x, y), hn::InterleaveUpper(d, x, y)); };
      const hn::RepartitionToWide<D> wide;
      const auto x = hn::BitCast(wide, two(a, b)), y = hn::BitCast(wide, two(c, e));
      return fold(hn::BitCast(d, hn::InterleaveLower(wide, x, y)), hn::BitCast(d, hn::InterleaveUpper(wide, x, y)));
    };
    const auto sums = half(halved, in_blocks(v0, v1, v2, v3));
    if constexpr (hn::MaxLanes(d) == 16) {
      const hn::Half<hn::Half<D>> block;
      hn::StoreU(half(block, sums), block, out);
    } else {
      hn::StoreU(sums, halved, out);
    }
    return;
  }
#endif
  out[0] = fold.OfOne(d, v0);
  out[1] = fold.OfOne(d, v1);
  out[2] = fold.OfOne(d, v2);
  out[3] = fold.OfOne(d, v3);
}

/// out[r] = the sum of the lanes of v_r.
template <class D, class V>
HWY_INLINE void SumsOfLanes(D d, V v0, V v1, V v2, V v3, hn::TFromD<D>* HWY_RESTRICT out) {
  FoldLanes(AddLanes(), d, v0, v1, v2, v3, out);
}

/// out[r] = the largest lane of v_r.
template <class D, class V>
HWY_INLINE void LargestOfLanes(D d, V v0, V v1, V v2, V v3, hn::TFromD<D>* HWY_RESTRICT out) {
  FoldLanes(LargerLanes(), d, v0, v1, v2, v3, out);
}

}  // namespace
}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
