// The loops of the active-set method. Included once for each instruction set by active_set.cpp.

#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/active_set/active_set_loops.hpp>
#include <shrinkwarp/kernels/common/lane_sums_cpu_simd.hpp>

#if defined(SHRINKWARP_KERNELS_ACTIVE_SET_CPU_SIMD) == defined(HWY_TARGET_TOGGLE)
#ifdef SHRINKWARP_KERNELS_ACTIVE_SET_CPU_SIMD
#undef SHRINKWARP_KERNELS_ACTIVE_SET_CPU_SIMD
#else
#define SHRINKWARP_KERNELS_ACTIVE_SET_CPU_SIMD
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::CappedTag<T, 64 / sizeof(T)>;

template <class T>
HWY_INLINE std::int64_t Lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
}

// Vectors of rows stay in registers while all columns pass, those at even and at odd places in sums of their own: a sum would
// wait for its last addition.
template <class T>
void MultiplySymmetric(const T* HWY_RESTRICT H, std::int64_t ld, const T* HWY_RESTRICT g, std::int64_t size,
                       T* HWY_RESTRICT u) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  std::int64_t i = 0;
  for (; i + 3 * lanes < size; i += 4 * lanes) {
    auto even0 = hn::Zero(d), even1 = hn::Zero(d), even2 = hn::Zero(d), even3 = hn::Zero(d);
    auto odd0 = hn::Zero(d), odd1 = hn::Zero(d), odd2 = hn::Zero(d), odd3 = hn::Zero(d);
    const T* column = H + i;
    std::int64_t k = 0;
    for (; k + 2 <= size; k += 2, column += 2 * ld) {
      const auto factor = hn::Set(d, g[k]), next = hn::Set(d, g[k + 1]);
      even0 = hn::MulAdd(hn::Load(d, column), factor, even0);
      even1 = hn::MulAdd(hn::Load(d, column + lanes), factor, even1);
      even2 = hn::MulAdd(hn::Load(d, column + 2 * lanes), factor, even2);
      even3 = hn::MulAdd(hn::Load(d, column + 3 * lanes), factor, even3);
      odd0 = hn::MulAdd(hn::Load(d, column + ld), next, odd0);
      odd1 = hn::MulAdd(hn::Load(d, column + ld + lanes), next, odd1);
      odd2 = hn::MulAdd(hn::Load(d, column + ld + 2 * lanes), next, odd2);
      odd3 = hn::MulAdd(hn::Load(d, column + ld + 3 * lanes), next, odd3);
    }
    if (k < size) {
      const auto factor = hn::Set(d, g[k]);
      even0 = hn::MulAdd(hn::Load(d, column), factor, even0);
      even1 = hn::MulAdd(hn::Load(d, column + lanes), factor, even1);
      even2 = hn::MulAdd(hn::Load(d, column + 2 * lanes), factor, even2);
      even3 = hn::MulAdd(hn::Load(d, column + 3 * lanes), factor, even3);
    }
    hn::Store(hn::Add(even0, odd0), d, u + i);
    hn::Store(hn::Add(even1, odd1), d, u + i + lanes);
    hn::Store(hn::Add(even2, odd2), d, u + i + 2 * lanes);
    hn::Store(hn::Add(even3, odd3), d, u + i + 3 * lanes);
  }
  for (; i + lanes < size; i += 2 * lanes) {
    auto even0 = hn::Zero(d), even1 = hn::Zero(d), odd0 = hn::Zero(d), odd1 = hn::Zero(d);
    const T* column = H + i;
    std::int64_t k = 0;
    for (; k + 2 <= size; k += 2, column += 2 * ld) {
      const auto factor = hn::Set(d, g[k]), next = hn::Set(d, g[k + 1]);
      even0 = hn::MulAdd(hn::Load(d, column), factor, even0);
      even1 = hn::MulAdd(hn::Load(d, column + lanes), factor, even1);
      odd0 = hn::MulAdd(hn::Load(d, column + ld), next, odd0);
      odd1 = hn::MulAdd(hn::Load(d, column + ld + lanes), next, odd1);
    }
    if (k < size) {
      even0 = hn::MulAdd(hn::Load(d, column), hn::Set(d, g[k]), even0);
      even1 = hn::MulAdd(hn::Load(d, column + lanes), hn::Set(d, g[k]), even1);
    }
    hn::Store(hn::Add(even0, odd0), d, u + i);
    hn::Store(hn::Add(even1, odd1), d, u + i + lanes);
  }
  if (i < size) {
    auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
    const T* column = H + i;
    std::int64_t k = 0;
    for (; k + 4 <= size; k += 4, column += 4 * ld) {
      sum0 = hn::MulAdd(hn::Load(d, column), hn::Set(d, g[k]), sum0);
      sum1 = hn::MulAdd(hn::Load(d, column + ld), hn::Set(d, g[k + 1]), sum1);
      sum2 = hn::MulAdd(hn::Load(d, column + 2 * ld), hn::Set(d, g[k + 2]), sum2);
      sum3 = hn::MulAdd(hn::Load(d, column + 3 * ld), hn::Set(d, g[k + 3]), sum3);
    }
    for (; k < size; ++k, column += ld) sum0 = hn::MulAdd(hn::Load(d, column), hn::Set(d, g[k]), sum0);
    hn::Store(hn::Add(hn::Add(sum0, sum2), hn::Add(sum1, sum3)), d, u + i);
  }
  const std::int64_t padded = (size + kActiveSetPadding - 1) / kActiveSetPadding * kActiveSetPadding;
  std::fill(u + size, u + padded, T(0));
}

template <class T>
void RankOne(T* HWY_RESTRICT H, std::int64_t ld, const T* HWY_RESTRICT u, T scale, std::int64_t size) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  for (std::int64_t k = 0; k < size; ++k) {
    const auto factor = hn::Set(d, u[k] * scale);
    T* const column = H + k * ld;
    for (std::int64_t i = 0; i < size; i += lanes)
      hn::Store(hn::MulAdd(hn::Load(d, u + i), factor, hn::Load(d, column + i)), d, column + i);
  }
}

template <class T>
void SubtractColumns(const T* HWY_RESTRICT G, std::int64_t ld, const std::int32_t* HWY_RESTRICT columns,
                     const T* HWY_RESTRICT factors, std::int64_t count, std::int64_t size, T* HWY_RESTRICT v) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  std::int64_t i = 0;
  // As many as keep a multiply-add from waiting for the last one of its row.
  for (; i + 7 * lanes < size; i += 8 * lanes) {
    auto v0 = hn::Load(d, v + i), v1 = hn::Load(d, v + i + lanes), v2 = hn::Load(d, v + i + 2 * lanes),
         v3 = hn::Load(d, v + i + 3 * lanes), v4 = hn::Load(d, v + i + 4 * lanes), v5 = hn::Load(d, v + i + 5 * lanes),
         v6 = hn::Load(d, v + i + 6 * lanes), v7 = hn::Load(d, v + i + 7 * lanes);
    for (std::int64_t k = 0; k < count; ++k) {
      const T* column = G + columns[k] * ld + i;
      const auto factor = hn::Set(d, factors[k]);
      v0 = hn::NegMulAdd(hn::Load(d, column), factor, v0);
      v1 = hn::NegMulAdd(hn::Load(d, column + lanes), factor, v1);
      v2 = hn::NegMulAdd(hn::Load(d, column + 2 * lanes), factor, v2);
      v3 = hn::NegMulAdd(hn::Load(d, column + 3 * lanes), factor, v3);
      v4 = hn::NegMulAdd(hn::Load(d, column + 4 * lanes), factor, v4);
      v5 = hn::NegMulAdd(hn::Load(d, column + 5 * lanes), factor, v5);
      v6 = hn::NegMulAdd(hn::Load(d, column + 6 * lanes), factor, v6);
      v7 = hn::NegMulAdd(hn::Load(d, column + 7 * lanes), factor, v7);
    }
    hn::Store(v0, d, v + i);
    hn::Store(v1, d, v + i + lanes);
    hn::Store(v2, d, v + i + 2 * lanes);
    hn::Store(v3, d, v + i + 3 * lanes);
    hn::Store(v4, d, v + i + 4 * lanes);
    hn::Store(v5, d, v + i + 5 * lanes);
    hn::Store(v6, d, v + i + 6 * lanes);
    hn::Store(v7, d, v + i + 7 * lanes);
  }
  for (; i + 2 * lanes < size; i += 3 * lanes) {
    auto v0 = hn::Load(d, v + i), v1 = hn::Load(d, v + i + lanes), v2 = hn::Load(d, v + i + 2 * lanes);
    auto odd0 = hn::Zero(d), odd1 = hn::Zero(d), odd2 = hn::Zero(d);
    std::int64_t k = 0;
    for (; k + 2 <= count; k += 2) {
      const T *column = G + columns[k] * ld + i, *next = G + columns[k + 1] * ld + i;
      const auto factor = hn::Set(d, factors[k]), other = hn::Set(d, factors[k + 1]);
      v0 = hn::NegMulAdd(hn::Load(d, column), factor, v0);
      v1 = hn::NegMulAdd(hn::Load(d, column + lanes), factor, v1);
      v2 = hn::NegMulAdd(hn::Load(d, column + 2 * lanes), factor, v2);
      odd0 = hn::NegMulAdd(hn::Load(d, next), other, odd0);
      odd1 = hn::NegMulAdd(hn::Load(d, next + lanes), other, odd1);
      odd2 = hn::NegMulAdd(hn::Load(d, next + 2 * lanes), other, odd2);
    }
    if (k < count) {
      const T* column = G + columns[k] * ld + i;
      const auto factor = hn::Set(d, factors[k]);
      v0 = hn::NegMulAdd(hn::Load(d, column), factor, v0);
      v1 = hn::NegMulAdd(hn::Load(d, column + lanes), factor, v1);
      v2 = hn::NegMulAdd(hn::Load(d, column + 2 * lanes), factor, v2);
    }
    hn::Store(hn::Add(v0, odd0), d, v + i);
    hn::Store(hn::Add(v1, odd1), d, v + i + lanes);
    hn::Store(hn::Add(v2, odd2), d, v + i + 2 * lanes);
  }
  for (; i < size; i += lanes) {
    auto sum0 = hn::Load(d, v + i), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
    const auto less = [&](auto sum, std::int64_t k) {
      return hn::NegMulAdd(hn::Load(d, G + columns[k] * ld + i), hn::Set(d, factors[k]), sum);
    };
    std::int64_t k = 0;
    for (; k + 4 <= count; k += 4) {
      sum0 = less(sum0, k);
      sum1 = less(sum1, k + 1);
      sum2 = less(sum2, k + 2);
      sum3 = less(sum3, k + 3);
    }
    for (; k < count; ++k) sum0 = less(sum0, k);
    hn::Store(hn::Add(hn::Add(sum0, sum2), hn::Add(sum1, sum3)), d, v + i);
  }
}

template <class T>
std::int64_t FindMostOver(const T* HWY_RESTRICT v, const T* HWY_RESTRICT guard, std::int64_t size, bool one_sided) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  auto most = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    auto value = hn::Load(d, v + i);
    if (!one_sided) value = hn::Abs(value);
    most = hn::Max(most, hn::Sub(value, hn::Load(d, guard + i)));
  }
  T largest = hn::GetLane(hn::MaxOfLanes(d, most));
  const auto over = [&](std::int64_t k) { return (one_sided || v[k] > T(0) ? v[k] : -v[k]) - guard[k]; };
  for (; i < size; ++i) largest = std::max(largest, over(i));
  if (!(largest > T(0))) return -1;
  const auto wanted = hn::Set(d, largest);
  for (i = 0; i + lanes <= size; i += lanes) {
    auto value = hn::Load(d, v + i);
    if (!one_sided) value = hn::Abs(value);
    const auto first = hn::FindFirstTrue(d, hn::Ge(hn::Sub(value, hn::Load(d, guard + i)), wanted));
    if (first >= 0) return i + first;
  }
  while (i < size && !(over(i) >= largest)) ++i;
  return i < size ? i : -1;
}

#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kGramColumns = 2;  // 4 x 2 accumulators of 16 registers
#else
constexpr int kGramColumns = 4;
#endif

/// out[4 c + r] = rows[r]' columns[c]; size in whole vectors.
template <class T>
HWY_NOINLINE void DotTile(const T* HWY_RESTRICT r0, const T* HWY_RESTRICT r1, const T* HWY_RESTRICT r2,
                          const T* HWY_RESTRICT r3, const T* const* columns, std::int64_t size, T* HWY_RESTRICT out) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
#define SHRINKWARP_COLUMNS(X) X(0) X(1) X(2) X(3)
#define SHRINKWARP_CLEAR(c)                                                                        \
  auto sum0##c = hn::Zero(d), sum1##c = hn::Zero(d), sum2##c = hn::Zero(d), sum3##c = hn::Zero(d); \
  const T* const column##c = columns[c < kGramColumns ? c : 0];
#define SHRINKWARP_ADD(c)                                      \
  if constexpr (c < kGramColumns) {                            \
    const auto value = hn::Load(d, column##c + i);             \
    sum0##c = hn::MulAdd(hn::Load(d, r0 + i), value, sum0##c); \
    sum1##c = hn::MulAdd(hn::Load(d, r1 + i), value, sum1##c); \
    sum2##c = hn::MulAdd(hn::Load(d, r2 + i), value, sum2##c); \
    sum3##c = hn::MulAdd(hn::Load(d, r3 + i), value, sum3##c); \
  }
#define SHRINKWARP_REDUCE(c) \
  if constexpr (c < kGramColumns) SumsOfLanes(d, sum0##c, sum1##c, sum2##c, sum3##c, out + 4 * c);
  SHRINKWARP_COLUMNS(SHRINKWARP_CLEAR)
  for (std::int64_t i = 0; i < size; i += lanes) {
    SHRINKWARP_COLUMNS(SHRINKWARP_ADD)
  }
  SHRINKWARP_COLUMNS(SHRINKWARP_REDUCE)
#undef SHRINKWARP_COLUMNS
#undef SHRINKWARP_CLEAR
#undef SHRINKWARP_ADD
#undef SHRINKWARP_REDUCE
}

/// The 4 x 4 entries of a tile and, transposed, those beyond the diagonal; columns are ld apart.
template <class T>
HWY_INLINE void StoreTile(const T* HWY_RESTRICT tile, T* to, T* transposed, std::int64_t ld) {
  for (std::int64_t c = 0; c < 4; ++c) std::copy_n(tile + 4 * c, 4, to + c * ld);
  for (std::int64_t r = 0; r < 4; ++r)
    for (std::int64_t c = 0; c < 4; ++c) transposed[c + r * ld] = tile[4 * c + r];
}

// Four rows at a time meet a chunk of columns that stays in the first-level cache with them.
template <class T>
void GramRows(MatrixView<const T> D, const std::int32_t* atoms, std::int64_t first, std::int64_t last, T* G,
              std::int64_t ld) {
  constexpr std::int64_t kChunk = 16;
  T out[16];
  for (std::int64_t start = first; start < last; start += kChunk) {
    const std::int64_t end = std::min(last, start + kChunk);
    for (std::int64_t i = 0; i < end; i += 4) {
      const std::int64_t high = std::min<std::int64_t>(4, end - i);
      const auto row = [&](std::int64_t r) { return D.column(atoms[i + std::min(r, high - 1)]); };
      // On the diagonal block only what is not under it; the rest comes from symmetry.
      for (std::int64_t j = std::max(start, i); j < end; j += kGramColumns) {
        const std::int64_t wide = std::min<std::int64_t>(kGramColumns, end - j);
        const T* columns[kGramColumns];
        for (std::int64_t c = 0; c < kGramColumns; ++c) columns[c] = D.column(atoms[j + std::min(c, wide - 1)]);
        DotTile(row(0), row(1), row(2), row(3), columns, D.rows, out);
        if constexpr (kGramColumns == 4) {
          if (wide == 4 && high == 4) {
            StoreTile(out, G + i + j * ld, G + j + i * ld, ld);
            continue;
          }
        }
        for (std::int64_t c = 0; c < wide; ++c) {
          for (std::int64_t r = 0; r < high; ++r) {
            G[(i + r) + (j + c) * ld] = out[4 * c + r];
            G[(j + c) + (i + r) * ld] = out[4 * c + r];
          }
        }
      }
    }
  }
}

template <class T>
std::int64_t FirstCrossing(const double* HWY_RESTRICT z, const T* HWY_RESTRICT u, double direction, std::int64_t size,
                           double* HWY_RESTRICT ratios, double* HWY_RESTRICT step) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<T, decltype(d)> in;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto never = hn::Set(d, std::numeric_limits<double>::infinity());
  auto least = never;
  for (std::int64_t i = 0; i < size; i += lanes) {
    const auto code = hn::LoadU(d, z + i);
    auto rate = hn::Set(d, direction);
    if constexpr (sizeof(T) == sizeof(double))
      rate = hn::Mul(rate, hn::LoadU(in, u + i));
    else
      rate = hn::Mul(rate, hn::PromoteTo(d, hn::LoadU(in, u + i)));
    const auto nears = hn::Lt(hn::Mul(code, rate), hn::Zero(d));
    const auto ratio = hn::IfThenElse(nears, hn::Neg(hn::Div(code, rate)), never);
    hn::StoreU(ratio, d, ratios + i);
    least = hn::IfThenElse(hn::Lt(ratio, least), ratio, least);
  }
  const double found = hn::GetLane(hn::MinOfLanes(d, least));
  if (!(found < *step)) return -1;
  *step = found;
  return std::find(ratios, ratios + size, found) - ratios;
}

template <class T>
bool AnyAside(const T* HWY_RESTRICT v, const T* HWY_RESTRICT threshold, const T* HWY_RESTRICT norm,
              const std::int32_t* HWY_RESTRICT positions, const T* HWY_RESTRICT signs, std::int64_t count, T limit) {
  std::int64_t k = 0;
  if constexpr (sizeof(T) == sizeof(std::int32_t)) {
    const Tag<T> d;
    const hn::RebindToSigned<decltype(d)> index;
    const std::int64_t lanes = Lanes<T>();
    for (; k + lanes <= count; k += lanes) {
      const auto at = hn::LoadU(index, positions + k);
      const auto beside =
          hn::NegMulAdd(hn::LoadU(d, signs + k), hn::GatherIndex(d, threshold, at), hn::GatherIndex(d, v, at));
      if (!hn::AllTrue(d, hn::Le(hn::Abs(beside), hn::Mul(hn::Set(d, limit), hn::GatherIndex(d, norm, at)))))
        return true;
    }
  }
  for (; k < count; ++k) {
    const std::int32_t i = positions[k];
    if (!(std::fabs(v[i] - signs[k] * threshold[i]) <= limit * norm[i])) return true;
  }
  return false;
}

template <class T>
ActiveSetLoops<T> LoopsOf() {
  return {MultiplySymmetric<T>, RankOne<T>,  SubtractColumns<T>, FindMostOver<T>,
          FirstCrossing<T>,     AnyAside<T>, GramRows<T>};
}

}  // namespace

ActiveSetLoops<float> ActiveSetLoopsF32() {
  return LoopsOf<float>();
}
ActiveSetLoops<double> ActiveSetLoopsF64() {
  return LoopsOf<double>();
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
