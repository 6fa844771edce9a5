#include <shrinkwarp/kernels/active_set/active_set.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/runtime/error.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/active_set/active_set_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/active_set/active_set_cpu_simd.hpp>

namespace shrinkwarp {
namespace cpu {
namespace {

HWY_EXPORT(ActiveSetLoopsF32);
HWY_EXPORT(ActiveSetLoopsF64);

}  // namespace

template <>
const ActiveSetLoops<float>& active_set_loops<float>() {
  static const ActiveSetLoops<float> chosen = HWY_DYNAMIC_DISPATCH(ActiveSetLoopsF32)();
  return chosen;
}
template <>
const ActiveSetLoops<double>& active_set_loops<double>() {
  static const ActiveSetLoops<double> chosen = HWY_DYNAMIC_DISPATCH(ActiveSetLoopsF64)();
  return chosen;
}

}  // namespace cpu

namespace {

template <class T>
const cpu::ActiveSetLoops<T>& loops() {
  return cpu::active_set_loops<T>();
}

template <class T>
struct Trust {};
// What is left of an atom outside the span of S is a difference of two numbers of the size of its own energy: under
// kSuspicious of it, it is computed once more in double, and under kDependent it counts as nothing.
template <>
struct Trust<float> {
  static constexpr double kSuspicious = 2e-3, kDependent = 2e-6;
};
template <>
struct Trust<double> {
  static constexpr double kSuspicious = 1e-6, kDependent = 1e-12;
};

SHRINKWARP_CPU_CLONES void narrow(const double* from, std::int64_t size, float* to) {
  for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<float>(from[i]);
}

void narrow(const double* from, std::int64_t size, double* to) {
  std::copy_n(from, size, to);
}

constexpr int kLanes = 8;  // of sums in double that are added in a fixed order

/// The largest |a_i b_i|; comparisons in lanes, which have no order to keep.
SHRINKWARP_CPU_CLONES double largest_product(const double* a, const double* b, std::int64_t size) {
  double lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const double value = std::fabs(a[i + k] * b[i + k]);
      lane[k] = value > lane[k] ? value : lane[k];
    }
  }
  for (; i < size; ++i) lane[0] = std::max(lane[0], std::fabs(a[i] * b[i]));
  return *std::max_element(lane, lane + kLanes);
}

#define SHRINKWARP_ACTIVE_SET_LOOPS(T)                                                                \
  /* a'b */                                                                                           \
  SHRINKWARP_CPU_CLONES double product(const T* a, const T* b, std::int64_t size) {                   \
    double lane[kLanes] = {};                                                                         \
    std::int64_t i = 0;                                                                               \
    for (; i + kLanes <= size; i += kLanes)                                                           \
      for (int k = 0; k < kLanes; ++k)                                                                \
        lane[k] = std::fma(static_cast<double>(a[i + k]), static_cast<double>(b[i + k]), lane[k]);    \
    for (int k = 0; i < size; ++i, ++k)                                                               \
      lane[k] = std::fma(static_cast<double>(a[i]), static_cast<double>(b[i]), lane[k]);              \
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7])); \
  }                                                                                                   \
  /* |a|'|b| */                                                                                       \
  SHRINKWARP_CPU_CLONES double magnitude_of_product(const T* a, const T* b, std::int64_t size) {      \
    double lane[kLanes] = {};                                                                         \
    for (std::int64_t i = 0; i < size; ++i)                                                           \
      lane[i % kLanes] += std::fabs(static_cast<double>(a[i]) * static_cast<double>(b[i]));           \
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7])); \
  }                                                                                                   \
  /* 1 where z is positive, else -1 */                                                                \
  SHRINKWARP_CPU_CLONES void signs_of(const double* z, std::int64_t size, T* signs) {                 \
    for (std::int64_t i = 0; i < size; ++i) signs[i] = static_cast<T>(z[i] > 0 ? 1.0 : -1.0);         \
  }                                                                                                   \
  /* z += step u, not beyond 0. @return whether some code has come to 0 */                            \
  SHRINKWARP_CPU_CLONES bool move_bounded(double* z, const T* u, double step, std::int64_t size) {    \
    std::int64_t zeros = 0;                                                                           \
    for (std::int64_t i = 0; i < size; ++i) {                                                         \
      const double there = z[i] + step * static_cast<double>(u[i]);                                   \
      z[i] = (z[i] > 0) != (there > 0) ? 0 : there;                                                   \
      zeros += z[i] == 0;                                                                             \
    }                                                                                                 \
    return zeros > 0;                                                                                 \
  }
SHRINKWARP_ACTIVE_SET_LOOPS(float)
SHRINKWARP_ACTIVE_SET_LOOPS(double)
#undef SHRINKWARP_ACTIVE_SET_LOOPS

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

std::int64_t padded(std::int64_t size) {
  return (size + cpu::kActiveSetPadding - 1) / cpu::kActiveSetPadding * cpu::kActiveSetPadding;
}

// Columns an odd number of cache lines apart: at powers of two they would all want the same few sets of the cache.
std::int64_t leading(std::int64_t capacity) {
  return capacity % (2 * cpu::kActiveSetPadding) == 0 ? capacity + cpu::kActiveSetPadding : capacity;
}

}  // namespace

template <class T>
ActiveSet<T>::ActiveSet(const Context& context, std::int64_t capacity) : ActiveSet(context, capacity, capacity, true) {}

template <class T>
ActiveSet<T>::ActiveSet(const Context& context, std::int64_t capacity, std::int64_t room, bool own_gram)
    : capacity_(padded(capacity)), ld_(leading(capacity_)), room_(padded(room)), inverse_ld_(leading(room_)) {
  static_assert(kPadding == cpu::kActiveSetPadding);
  if (own_gram) gram_ = Tensor<T>::zeros(context, ld_, capacity_);
  inverse_ = Tensor<T>::zeros(context, inverse_ld_, room_);
  for (Tensor<T>* vector :
       {&correlation_, &threshold_, &guard_, &right_, &direction_, &moved_, &factors_, &rho_, &correction_, &norm_})
    *vector = Tensor<T>::zeros(context, capacity_);
  for (Tensor<double>* vector : {&code_, &before_, &ordered_, &ratios_, &inverse_norm_})
    *vector = Tensor<double>::zeros(context, capacity_);
  for (Tensor<std::int32_t>* vector : {&atom_, &active_, &place_, &touched_})
    *vector = Tensor<std::int32_t>::zeros(context, capacity_);
}

template <class T>
std::int64_t ActiveSet<T>::bytes(std::int64_t capacity) {
  const std::int64_t size = padded(capacity);
  const auto element = static_cast<std::int64_t>(sizeof(T));
  return 2 * size * leading(size) * element + size * (10 * element + 40 + 16) + 21 * 256;
}

template <class T>
void ActiveSet<T>::reserve(const Context& context, std::int64_t capacity) {
  if (capacity <= capacity_) return;
  ActiveSet larger(context, capacity);
  for (const auto matrix : {&ActiveSet::gram_, &ActiveSet::inverse_})
    for (std::int64_t j = 0; j < size_; ++j)
      std::copy_n((this->*matrix).matrix().column(j), size_, (larger.*matrix).matrix().column(j));
  const auto keep = [this](const auto& from, auto& to) { std::copy_n(from.data(), size_, to.data()); };
  keep(correlation_, larger.correlation_);
  keep(threshold_, larger.threshold_);
  keep(guard_, larger.guard_);
  keep(norm_, larger.norm_);
  keep(inverse_norm_, larger.inverse_norm_);
  keep(code_, larger.code_);
  keep(atom_, larger.atom_);
  keep(active_, larger.active_);
  keep(place_, larger.place_);
  larger.size_ = size_;
  larger.support_ = support_;
  larger.steps_ = steps_;
  larger.ridge_ = ridge_;
  larger.guard_factor_ = guard_factor_;
  larger.largest_ = largest_;
  larger.nonnegative_ = nonnegative_;
  larger.unbounded_ = unbounded_;
  *this = std::move(larger);
}

template <class T>
void ActiveSet<T>::take_all(const Context& context, MatrixView<const T> gram, std::int64_t rows) {
  SHRINKWARP_REQUIRE(gram.rows == gram.cols && gram.ld % kPadding == 0, ShapeError, "ActiveSet: gram is ", gram.rows,
                     " x ", gram.cols, ", ld ", gram.ld, ", wanted a square, ld a multiple of ", kPadding);
  constexpr std::int64_t kRounding = kPadding;  // more atoms than rows, where rounding takes dependent ones for none
  const T ridge = ridge_;
  const bool nonnegative = nonnegative_;
  const std::int64_t size = gram.cols;
  *this = ActiveSet(context, size, ridge > T(0) ? size : std::min(size, rows + kRounding), ridge > T(0));
  clear(ridge, nonnegative);
  size_ = size;
  if (ridge > T(0)) {
    for (std::int64_t j = 0; j < size; ++j) {
      std::copy_n(gram.column(j), size, gram_.data() + j * ld_);
      gram_.data()[j * (ld_ + 1)] += ridge;
    }
  } else {
    taken_ = gram.data;
    taken_ld_ = gram.ld;
  }
  for (std::int64_t j = 0; j < size; ++j) {
    atom_.data()[j] = static_cast<std::int32_t>(j);
    set_norm(j, this->gram(j)[j]);
  }
}

template <class T>
void ActiveSet<T>::clear(T ridge, bool nonnegative) {
  size_ = support_ = steps_ = 0;
  largest_ = 0;
  ridge_ = ridge;
  nonnegative_ = nonnegative;
  unbounded_ = false;
}

template <class T>
void ActiveSet<T>::restart(const double* correlations, const double* thresholds) {
  support_ = steps_ = 0;
  std::fill_n(code_.data(), size_, 0.0);
  std::fill_n(place_.data(), size_, -1);
  narrow(correlations, size_, correlation_.data());
  narrow(thresholds, size_, threshold_.data());
  std::copy_n(threshold_.data(), size_, guard_.data());
  largest_ = largest_product(correlations, inverse_norm_.data(), size_);
  unbounded_ = !nonnegative_ && std::any_of(threshold_.data(), threshold_.data() + size_, [](T t) { return !(t > 0); });
}

template <class T>
void ActiveSet<T>::set_norm(std::int64_t i, T squared) {
  norm_.data()[i] = std::sqrt(squared);
  inverse_norm_.data()[i] = norm(i) > 0 ? 1 / norm(i) : 0;
}

// Position i begins with the code 0.
template <class T>
void ActiveSet<T>::set(std::int64_t i, double correlation, double threshold) {
  correlation_.data()[i] = static_cast<T>(correlation);
  threshold_.data()[i] = guard_.data()[i] = static_cast<T>(threshold);
  code_.data()[i] = 0;
  place_.data()[i] = -1;
  unbounded_ |= !is_bounded(i);
  largest_ = std::max(largest_, std::fabs(correlation * inverse_norm_.data()[i]));
}

template <class T>
void ActiveSet<T>::add(MatrixView<const T> D, MatrixView<const T> gram, const std::int32_t* atoms,
                       const double* correlations, const double* thresholds, std::int64_t count) {
  SHRINKWARP_REQUIRE(size_ + count <= capacity_, ShapeError, "ActiveSet: ", size_, " atoms and ", count,
                     " more, wanted at most ", capacity_);
  SHRINKWARP_REQUIRE(D.rows % kPadding == 0 && D.ld % kPadding == 0, ShapeError, "ActiveSet: D has ", D.rows,
                     " rows, ld ", D.ld, ", wanted multiples of ", kPadding);
  const std::int64_t first = size_;
  size_ += count;
  std::copy_n(atoms, count, atom_.data() + first);
  if (gram.empty()) {
    loops<T>().gram(D, atom_.data(), first, size_, gram_.data(), ld_);
  } else {
    for (std::int64_t j = first; j < size_; ++j) {
      const T* const column = gram.column(atom_.data()[j]);
      for (std::int64_t i = 0; i <= j; ++i)
        gram_.data()[i + j * ld_] = gram_.data()[j + i * ld_] = column[atom_.data()[i]];
    }
  }
  for (std::int64_t j = first; j < size_; ++j) {
    gram_.data()[j * (ld_ + 1)] += ridge_;
    set_norm(j, gram_.data()[j * (ld_ + 1)]);
    set(j, correlations[j - first], thresholds[j - first]);
  }
}

// The inverse of G_SS by a Cholesky factorisation in double. @return false where S is dependent
template <class T>
bool ActiveSet<T>::invert() {
  const std::int64_t s = support_;
  std::vector<double> L(static_cast<std::size_t>(s * s)), X(static_cast<std::size_t>(s * s), 0.0);
  const auto at = [s](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i + j * s); };
  for (std::int64_t j = 0; j < s; ++j) {
    const T* const column = gram(active_.data()[j]);
    double pivot = static_cast<double>(column[active_.data()[j]]);
    const double whole = pivot;
    for (std::int64_t k = 0; k < j; ++k) pivot -= L[at(j, k)] * L[at(j, k)];
    if (!(pivot > Trust<T>::kDependent * whole)) return false;
    pivot = std::sqrt(pivot);
    L[at(j, j)] = pivot;
    for (std::int64_t i = j + 1; i < s; ++i) {
      double sum = static_cast<double>(column[active_.data()[i]]);
      for (std::int64_t k = 0; k < j; ++k) sum -= L[at(i, k)] * L[at(j, k)];
      L[at(i, j)] = sum / pivot;
    }
  }
  for (std::int64_t c = 0; c < s; ++c) {  // column c of the inverse: forward, then backward
    for (std::int64_t i = c; i < s; ++i) {
      double sum = i == c ? 1.0 : 0.0;
      for (std::int64_t k = c; k < i; ++k) sum -= L[at(i, k)] * X[at(k, c)];
      X[at(i, c)] = sum / L[at(i, i)];
    }
    for (std::int64_t i = s - 1; i >= 0; --i) {
      double sum = X[at(i, c)];
      for (std::int64_t k = i + 1; k < s; ++k) sum -= L[at(k, i)] * X[at(k, c)];
      X[at(i, c)] = sum / L[at(i, i)];
    }
  }
  for (std::int64_t j = 0; j < s; ++j)
    for (std::int64_t i = 0; i < s; ++i) inverse_.data()[i + j * inverse_ld_] = static_cast<T>(X[at(i, j)]);
  return true;
}

template <class T>
bool ActiveSet<T>::start(const double* codes) {
  support_ = 0;
  for (std::int64_t i = 0; i < size_; ++i) {
    if (codes[i] == 0) continue;
    code_.data()[i] = codes[i];
    place_.data()[i] = static_cast<std::int32_t>(support_);
    guard_.data()[i] = std::numeric_limits<T>::infinity();
    active_.data()[support_++] = static_cast<std::int32_t>(i);
  }
  if (support_ <= room_ && invert()) return true;
  for (std::int64_t k = 0; k < support_; ++k) {
    const std::int32_t i = active_.data()[k];
    code_.data()[i] = 0;
    place_.data()[i] = -1;
    guard_.data()[i] = threshold_.data()[i];
  }
  support_ = 0;
  return false;
}

// Position j joins S; direction_ holds u = G_SS^-1 G_Sj and complement = G_jj - u'G_Sj.
template <class T>
void ActiveSet<T>::join(std::int64_t j, T complement) {
  const std::int64_t s = support_;
  T* const H = inverse_.data();
  const T* const u = direction_.data();
  const T inverse = T(1) / complement;
  loops<T>().rank_one(H, inverse_ld_, u, inverse, s);
  for (std::int64_t k = 0; k < s; ++k) H[k + s * inverse_ld_] = H[s + k * inverse_ld_] = -u[k] * inverse;
  H[s * (inverse_ld_ + 1)] = inverse;
  active_.data()[s] = static_cast<std::int32_t>(j);
  place_.data()[j] = static_cast<std::int32_t>(s);
  guard_.data()[j] = std::numeric_limits<T>::infinity();
  ++support_;
}

// The k-th atom of S leaves it with the code 0.
template <class T>
void ActiveSet<T>::leave(std::int64_t k) {
  const std::int64_t last = support_ - 1;
  T* const H = inverse_.data();
  const std::int32_t j = active_.data()[k];
  const T pivot = H[k * (inverse_ld_ + 1)];
  const bool worn =
      !(pivot > T(0)) || !std::isfinite(T(1) / pivot);  // no inverse of a positive definite matrix any more
  T* const column = right_.data();
  std::copy_n(H + k * inverse_ld_, padded(support_), column);
  if (!worn) loops<T>().rank_one(H, inverse_ld_, column, T(-1) / pivot, support_);
  if (k != last) {  // the last one takes its place
    for (std::int64_t i = 0; i < last; ++i) H[i + k * inverse_ld_] = H[i + last * inverse_ld_];
    H[k * (inverse_ld_ + 1)] = H[last * (inverse_ld_ + 1)];
    for (std::int64_t i = 0; i < last; ++i) H[k + i * inverse_ld_] = H[i + k * inverse_ld_];
    active_.data()[k] = active_.data()[last];
    place_.data()[active_.data()[k]] = static_cast<std::int32_t>(k);
  }
  place_.data()[j] = -1;
  code_.data()[j] = 0;
  guard_.data()[j] = threshold_.data()[j] * guard_factor_;
  support_ = last;
  if (worn) invert();
}

template <class T>
void ActiveSet<T>::settle() {
  double* const z = ordered_.data();  // in the order of S
  T *const side = factors_.data(), *const magnitude = rho_.data();
  for (bool fresh = false;;) {
    const std::int64_t s = support_;
    if (s == 0) return;
    ++steps_;
    const std::int32_t* const active = active_.data();
    for (std::int64_t k = 0; k < s; ++k) z[k] = code_.data()[active[k]];
    signs_of(z, s, side);
    for (std::int64_t k = 0; k < s; ++k) side[k] *= threshold_.data()[active[k]];
    const auto aside = [&] {  // what correlations of S are beside their places
      for (std::int64_t k = 0; k < s; ++k) {
        const T correlation = correlation_.data()[active[k]];
        right_.data()[k] = correlation - side[k];
        magnitude[k] = std::fabs(correlation);
      }
    };
    const auto along = [&] {  // that along the direction: what the objective descends by, twice; 0 where it is rounding
      const double sum = product(right_.data(), direction_.data(), s);
      const double whole = magnitude_of_product(magnitude, direction_.data(), s);
      return std::fabs(sum) <= Trust<T>::kDependent * whole ? 0 : std::isfinite(sum) ? sum : kUnknown;
    };
    const auto renewed = [&] {  // the updates have worn the inverse out
      const bool first = !fresh;
      fresh = true;
      return first && invert();
    };
    aside();
    loops<T>().multiply(inverse_.data(), inverse_ld_, right_.data(), s, direction_.data());
    const double before = along();
    if (!(before >= 0)) {
      if (renewed()) continue;
      return;
    }
    double step = 1;
    const std::int64_t first = crossing(z, 1, &step);
    for (std::int64_t k = 0; k < s; ++k)
      moved_.data()[k] = static_cast<T>(step * static_cast<double>(direction_.data()[k]));
    if (first >= 0) moved_.data()[first] = static_cast<T>(-z[first]);
    loops<T>().subtract_columns(gram(0), gram_ld(), active, moved_.data(), s, size_, correlation_.data());
    aside();
    if (!(before + along() >= 0)) {  // it would rise
      for (std::int64_t k = 0; k < s; ++k) moved_.data()[k] = -moved_.data()[k];
      loops<T>().subtract_columns(gram(0), gram_ld(), active, moved_.data(), s, size_, correlation_.data());
      if (renewed()) continue;
      return;
    }
    bool at_zero = move_all(z, step);
    if (first >= 0) {
      z[first] = 0;
      at_zero = true;
    }
    for (std::int64_t k = 0; k < s; ++k) code_.data()[active[k]] = z[k];
    if (!at_zero) return;
    leave_at_zero(z);
    if (support_ == s) return;
  }
}

// u = G_SS^-1 g in direction_, g in right_. @return what is left of atom j outside the span of S: G_jj - g'u; where that
// cannot be told from nothing a negative number, in magnitude the most that it is; kUnknown where u cannot be had
template <class T>
double ActiveSet<T>::project(std::int64_t j) {
  const std::int64_t s = support_;
  const T* const column = gram(j);
  T* const g = right_.data();
  T* const u = direction_.data();
  for (std::int64_t k = 0; k < s; ++k) g[k] = column[active_.data()[k]];
  loops<T>().multiply(inverse_.data(), inverse_ld_, g, s, u);
  ++steps_;
  const double whole = static_cast<double>(column[j]);
  double complement = whole - product(g, u, s);
  if (complement > Trust<T>::kSuspicious * whole || s == 0) return complement;

  // Once more: u corrected by its residual rho = g - G_SS u in double, and the complement G_jj - g'u - u'rho, whose error
  // is of second order in that of u.
  T* const rho = rho_.data();
  const auto residual = [&] {
    double largest = 0;
    for (std::int64_t i = 0; i < s; ++i) {
      const T* const row = gram(active_.data()[i]);
      double sum = static_cast<double>(g[i]);
      for (std::int64_t k = 0; k < s; ++k)
        sum -= static_cast<double>(row[active_.data()[k]]) * static_cast<double>(u[k]);
      rho[i] = static_cast<T>(sum);
      largest = std::max(largest, std::fabs(sum) / norm(active_.data()[i]));
    }
    return largest;
  };
  double before = residual();
  for (bool fresh = false;;) {
    loops<T>().multiply(inverse_.data(), inverse_ld_, rho, s, correction_.data());
    for (std::int64_t k = 0; k < s; ++k) u[k] += correction_.data()[k];
    const double after = residual();
    const bool better = after <= before / 2;
    before = after;
    if (after <= Trust<T>::kDependent / 4 * norm(j)) break;
    if (better) continue;
    if (fresh) break;
    if (!invert()) return kUnknown;  // the updates have worn the inverse out
    fresh = true;
    loops<T>().multiply(inverse_.data(), inverse_ld_, g, s, u);
    before = residual();
  }
  double length = norm(j);
  complement = whole - product(g, u, s);
  for (std::int64_t k = 0; k < s; ++k) {
    complement -= static_cast<double>(rho[k]) * static_cast<double>(u[k]);
    length += norm(active_.data()[k]) * std::fabs(static_cast<double>(u[k]));
  }
  const double limit = Trust<T>::kDependent * norm(j) * length;
  // z_j moves by excess / complement, and what S is stationary for by rho times that: far less than the excess.
  if (!(4 * before * norm(j) <= std::max(complement, limit))) return kUnknown;
  return complement > limit ? complement : -limit;
}

// Whether correlations of S are so far from their places that more than a few updates of the inverse must be to
// blame. The signs of the codes are in moved_.
template <class T>
bool ActiveSet<T>::is_worn() const {
  const auto limit = static_cast<T>(10 * Trust<T>::kDependent * largest_);
  return loops<T>().aside(correlation_.data(), threshold_.data(), norm_.data(), active_.data(), moved_.data(), support_,
                          limit);
}

// Of codes in the order of S that move by `direction` direction_ each, the first to come to 0 before *step, which
// then becomes its own; -1 where none does.
template <class T>
std::int64_t ActiveSet<T>::crossing(const double* codes, double direction, double* step) {
  if (!unbounded_)
    return loops<T>().first_crossing(codes, direction_.data(), direction, support_, ratios_.data(), step);
  std::int64_t found = -1;
  for (std::int64_t k = 0; k < support_; ++k) {
    const double rate = direction * static_cast<double>(direction_.data()[k]);
    if (is_bounded(active_.data()[k]) && codes[k] * rate < 0 && std::fabs(codes[k]) < std::fabs(rate) * *step) {
      *step = -codes[k] / rate;
      found = k;
    }
  }
  return found;
}

// Codes in the order of S move by `step` direction_; where a sign is at stake, not beyond 0. @return whether one is
// at 0
template <class T>
bool ActiveSet<T>::move_all(double* codes, double step) {
  if (!unbounded_) return move_bounded(codes, direction_.data(), step, support_);
  bool at_zero = false;
  for (std::int64_t k = 0; k < support_; ++k) {
    const double there = codes[k] + step * static_cast<double>(direction_.data()[k]);
    codes[k] = is_bounded(active_.data()[k]) && (codes[k] > 0) != (there > 0) ? 0 : there;
    at_zero |= codes[k] == 0 && is_bounded(active_.data()[k]);
  }
  return at_zero;
}

// Atoms that have come to zero leave S and `codes`, which are in its order.
template <class T>
void ActiveSet<T>::leave_at_zero(double* codes) {
  for (std::int64_t k = support_ - 1; k >= 0; --k) {
    if (codes[k] != 0 || !is_bounded(active_.data()[k])) continue;
    leave(k);
    codes[k] = codes[support_];
  }
}

// S and its codes as they were before grow() began, from touched_ and before_.
template <class T>
void ActiveSet<T>::restore(std::int64_t support) {
  support_ = support;
  for (std::int64_t k = 0; k < support; ++k) {
    const std::int32_t i = active_.data()[k] = touched_.data()[k];
    code_.data()[i] = before_.data()[k];
    place_.data()[i] = static_cast<std::int32_t>(k);
    guard_.data()[i] = std::numeric_limits<T>::infinity();
  }
  invert();  // without success the inverse is no use from here on, which shows as wear
}

// z_j grows until j has joined S. Codes are in the order of S meanwhile; what they have moved by is told to the
// correlations at the end.
// @return false where rounding stands in the way
template <class T>
bool ActiveSet<T>::grow(std::int64_t j) {
  const std::int64_t touched = support_;
  double* const z = ordered_.data();
  double* const before = before_.data();
  std::copy_n(active_.data(), touched, touched_.data());
  touched_.data()[touched] = static_cast<std::int32_t>(j);
  for (std::int64_t k = 0; k < touched; ++k) before[k] = code_.data()[touched_.data()[k]];
  std::copy_n(before, touched, z);

  constexpr double kRounding = 4 * static_cast<double>(std::numeric_limits<T>::epsilon()) / Trust<T>::kDependent;
  const double sign = correlation_.data()[j] > T(0) ? 1 : -1;
  double excess = std::fabs(static_cast<double>(correlation_.data()[j])) - static_cast<double>(threshold_.data()[j]);
  double grown = 0;
  bool joined = false, told = true;
  bool same_order = true;  // no atom has left S, which is in the order of touched_
  while (!joined) {        // S loses an atom each time
    const double complement = project(j);
    // Of an atom that S spans, corr_j = u'corr_S: over its threshold by rounding, perhaps.
    const double rounding = kRounding * -complement * largest_;
    if (complement <= 0 && grown == 0 && excess * norm(j) <= rounding) break;
    double step = excess / std::fabs(complement);  // at least so far the objective descends
    const std::int64_t first = crossing(z, -sign, &step);
    told = first >= 0 ? !std::isnan(complement) : complement > 0;
    if (!told) break;
    bool at_zero = move_all(z, -sign * step);
    if (first >= 0) {
      z[first] = 0;
      at_zero = true;
    }
    grown += sign * step;
    excess -= step * std::max(complement, 0.0);
    joined = first < 0;
    if (joined && support_ == room_) {
      joined = told = false;
      break;
    }
    if (joined) {
      z[support_] = grown;
      join(j, static_cast<T>(complement));
    }
    if (at_zero) leave_at_zero(z);
    same_order &= !at_zero;
  }
  if (!joined) {
    if (told) guard_.data()[j] = static_cast<T>(sign) * correlation_.data()[j];
    if (grown != 0) restore(touched);
    return told;
  }
  T* const signs = moved_.data();
  const std::int32_t* const active = active_.data();
  double* const code = code_.data();
  for (std::int64_t k = 0; k < support_; ++k) code[active[k]] = z[k];
  signs_of(z, support_, signs);
  if (same_order) {
    for (std::int64_t k = 0; k < touched; ++k) factors_.data()[k] = static_cast<T>(z[k] - before[k]);
  } else {
    for (std::int64_t k = 0; k < touched; ++k)
      factors_.data()[k] = static_cast<T>(code_.data()[touched_.data()[k]] - before[k]);
  }
  factors_.data()[touched] = static_cast<T>(grown);
  loops<T>().subtract_columns(gram(0), gram_ld(), touched_.data(), factors_.data(), touched + 1, size_,
                              correlation_.data());
  if (!is_worn()) return true;
  if (!invert()) return false;
  settle();
  for (std::int64_t k = 0; k < support_; ++k) signs[k] = code[active[k]] > 0 ? T(1) : T(-1);
  return !is_worn();
}

template <class T>
ActiveSetOutcome ActiveSet<T>::solve(double tolerance, std::int64_t max_steps) {
  guard_factor_ = static_cast<T>(1 + tolerance);
  for (std::int64_t i = 0; i < size_; ++i)
    guard_.data()[i] = is_active(i) ? std::numeric_limits<T>::infinity() : threshold_.data()[i] * guard_factor_;
  bool settled = false;  // since an atom last joined
  for (;;) {
    const std::int64_t most = loops<T>().most_over(correlation_.data(), guard_.data(), size_, nonnegative_);
    if (most < 0) return ActiveSetOutcome::solved;
    if (steps_ >= max_steps) return ActiveSetOutcome::stuck;
    if (grow(most)) {
      settled = false;
    } else {
      if (settled) return ActiveSetOutcome::stuck;
      settle();
      settled = true;
    }
  }
}

template class ActiveSet<float>;
template class ActiveSet<double>;

}  // namespace shrinkwarp
