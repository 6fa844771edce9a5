#include <shrinkwarp/kernels/active_set/active_set.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>

// SSSE3 adds nothing to SSE2 here, and neither do the integer instructions of AVX3_DL to AVX3.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/active_set/active_set_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/active_set/active_set_cpu_simd.hpp>

namespace shrinkwarp {
namespace cpu {
namespace {

HWY_EXPORT(ActiveSetLoopsF32);
HWY_EXPORT(ActiveSetLoopsF64);

template <class T>
const ActiveSetLoops<T>& loops();
template <>
const ActiveSetLoops<float>& loops<float>() {
  static const ActiveSetLoops<float> chosen = HWY_DYNAMIC_DISPATCH(ActiveSetLoopsF32)();
  return chosen;
}
template <>
const ActiveSetLoops<double>& loops<double>() {
  static const ActiveSetLoops<double> chosen = HWY_DYNAMIC_DISPATCH(ActiveSetLoopsF64)();
  return chosen;
}

}  // namespace
}  // namespace cpu

namespace {

using cpu::loops;

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
  static constexpr double kSuspicious = 1e-6, kDependent = 1e-14;
};

std::int64_t padded(std::int64_t size) {
  return (size + cpu::kActiveSetPadding - 1) / cpu::kActiveSetPadding * cpu::kActiveSetPadding;
}

// Columns an odd number of cache lines apart: at powers of two they would all want the same few sets of the cache.
std::int64_t leading(std::int64_t capacity) {
  return capacity % (2 * cpu::kActiveSetPadding) == 0 ? capacity + cpu::kActiveSetPadding : capacity;
}

}  // namespace

template <class T>
ActiveSet<T>::ActiveSet(const Context& context, std::int64_t capacity)
    : capacity_(padded(capacity)), ld_(leading(capacity_)) {
  static_assert(kPadding == cpu::kActiveSetPadding);
  for (Tensor<T>* matrix : {&gram_, &inverse_}) *matrix = Tensor<T>::zeros(context, ld_, capacity_);
  for (Tensor<T>* vector :
       {&correlation_, &threshold_, &guard_, &right_, &direction_, &moved_, &factors_, &rho_, &correction_})
    *vector = Tensor<T>::zeros(context, capacity_);
  code_ = Tensor<double>::zeros(context, capacity_);
  for (Tensor<std::int32_t>* vector : {&atom_, &active_, &place_, &touched_})
    *vector = Tensor<std::int32_t>::zeros(context, capacity_);
}

template <class T>
std::int64_t ActiveSet<T>::bytes(std::int64_t capacity) {
  const std::int64_t size = padded(capacity);
  const auto element = static_cast<std::int64_t>(sizeof(T));
  return 2 * size * leading(size) * element + size * (9 * element + 8 + 16) + 15 * 256;
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
  keep(code_, larger.code_);
  keep(atom_, larger.atom_);
  keep(active_, larger.active_);
  keep(place_, larger.place_);
  larger.size_ = size_;
  larger.support_ = support_;
  larger.steps_ = steps_;
  larger.broken_ = broken_;
  larger.ridge_ = ridge_;
  larger.guard_factor_ = guard_factor_;
  larger.nonnegative_ = nonnegative_;
  *this = std::move(larger);
}

template <class T>
void ActiveSet<T>::clear(T ridge, bool nonnegative) {
  size_ = support_ = steps_ = 0;
  broken_ = false;
  ridge_ = ridge;
  nonnegative_ = nonnegative;
}

template <class T>
void ActiveSet<T>::restart(const double* correlations, const double* thresholds) {
  support_ = steps_ = 0;
  broken_ = false;
  for (std::int64_t i = 0; i < size_; ++i) {
    correlation_.data()[i] = static_cast<T>(correlations[i]);
    threshold_.data()[i] = guard_.data()[i] = static_cast<T>(thresholds[i]);
  }
  std::fill_n(code_.data(), size_, 0.0);
  std::fill_n(place_.data(), size_, -1);
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
  for (std::int64_t i = first; i < size_; ++i) {
    atom_.data()[i] = atoms[i - first];
    correlation_.data()[i] = static_cast<T>(correlations[i - first]);
    threshold_.data()[i] = guard_.data()[i] = static_cast<T>(thresholds[i - first]);
    code_.data()[i] = 0;
    place_.data()[i] = -1;
  }
  if (gram.empty()) {
    loops<T>().gram(D, atom_.data(), first, size_, gram_.data(), ld_);
  } else {
    for (std::int64_t j = first; j < size_; ++j) {
      const T* const column = gram.column(atom_.data()[j]);
      for (std::int64_t i = 0; i <= j; ++i)
        gram_.data()[i + j * ld_] = gram_.data()[j + i * ld_] = column[atom_.data()[i]];
    }
  }
  for (std::int64_t j = first; j < size_; ++j) gram_.data()[j * (ld_ + 1)] += ridge_;
}

// The inverse of G_SS by a Cholesky factorisation in double. @return false where S is dependent
template <class T>
bool ActiveSet<T>::invert() {
  const std::int64_t s = support_;
  std::vector<double> L(static_cast<std::size_t>(s * s)), X(static_cast<std::size_t>(s * s), 0.0);
  const auto at = [s](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i + j * s); };
  for (std::int64_t j = 0; j < s; ++j) {
    const T* const column = gram_.data() + active_.data()[j] * ld_;
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
    for (std::int64_t i = 0; i < s; ++i) inverse_.data()[i + j * ld_] = static_cast<T>(X[at(i, j)]);
  return true;
}

template <class T>
bool ActiveSet<T>::start(const double* codes) {
  support_ = 0;
  broken_ = false;
  for (std::int64_t i = 0; i < size_; ++i) {
    if (codes[i] == 0) continue;
    code_.data()[i] = codes[i];
    place_.data()[i] = static_cast<std::int32_t>(support_);
    guard_.data()[i] = std::numeric_limits<T>::infinity();
    active_.data()[support_++] = static_cast<std::int32_t>(i);
  }
  if (invert()) return true;
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
  loops<T>().rank_one(H, ld_, u, inverse, s);
  for (std::int64_t k = 0; k < s; ++k) H[k + s * ld_] = H[s + k * ld_] = -u[k] * inverse;
  H[s * (ld_ + 1)] = inverse;
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
  const T pivot = H[k * (ld_ + 1)];
  const bool worn = !(pivot > T(0)) || !std::isfinite(pivot);  // no inverse of a positive definite matrix any more
  T* const column = right_.data();
  std::copy_n(H + k * ld_, padded(support_), column);
  if (!worn) loops<T>().rank_one(H, ld_, column, T(-1) / pivot, support_);
  if (k != last) {  // the last one takes its place
    for (std::int64_t i = 0; i < last; ++i) H[i + k * ld_] = H[i + last * ld_];
    H[k * (ld_ + 1)] = H[last * (ld_ + 1)];
    for (std::int64_t i = 0; i < last; ++i) H[k + i * ld_] = H[i + k * ld_];
    active_.data()[k] = active_.data()[last];
    place_.data()[active_.data()[k]] = static_cast<std::int32_t>(k);
  }
  place_.data()[j] = -1;
  code_.data()[j] = 0;
  guard_.data()[j] = threshold_.data()[j] * guard_factor_;
  support_ = last;
  if (worn && !invert()) broken_ = true;
}

template <class T>
double ActiveSet<T>::unsettled() {
  double largest = 0;
  for (std::int64_t k = 0; k < support_; ++k) {
    const std::int32_t i = active_.data()[k];
    const T threshold = threshold_.data()[i];
    right_.data()[k] = correlation_.data()[i] - (code_.data()[i] > 0 ? threshold : -threshold);
    largest = std::max(largest, std::fabs(static_cast<double>(right_.data()[k])));
  }
  return largest;
}

template <class T>
void ActiveSet<T>::settle() {
  for (bool fresh = false;;) {
    const std::int64_t s = support_;
    const double before = unsettled();
    if (before == 0 || broken_) return;
    ++steps_;
    loops<T>().multiply(inverse_.data(), ld_, right_.data(), s, direction_.data());
    double step = 1, length = 0;
    std::int64_t crossing = -1;
    for (std::int64_t k = 0; k < s; ++k) {
      const std::int32_t i = active_.data()[k];
      const double z = code_.data()[i];
      const double change = static_cast<double>(direction_.data()[k]);
      length += std::fabs(change);
      if (threshold_.data()[i] > T(0) && (z > 0 ? z + change * step <= 0 : z + change * step >= 0)) {
        step = -z / change;
        crossing = k;
      }
    }
    if (std::isfinite(length)) {
      for (std::int64_t k = 0; k < s; ++k) {
        moved_.data()[k] = static_cast<T>(step * static_cast<double>(direction_.data()[k]));
        code_.data()[active_.data()[k]] += step * static_cast<double>(direction_.data()[k]);
      }
      loops<T>().subtract_columns(gram_.data(), ld_, active_.data(), moved_.data(), s, size_, correlation_.data());
      if (crossing >= 0) {
        leave(crossing);
        continue;
      }
      // Correlations themselves are known to some units of what they are compared with.
      double largest = 0;
      for (std::int64_t k = 0; k < s; ++k)
        largest = std::max(largest, static_cast<double>(threshold_.data()[active_.data()[k]]));
      const double rounding = 64 * static_cast<double>(std::numeric_limits<T>::epsilon()) * largest;
      if (unsettled() <= std::max(before / 2, rounding)) return;
    }
    // The updates have worn the inverse out.
    if (fresh || !invert()) {
      broken_ = true;
      return;
    }
    fresh = true;
  }
}

// u = G_SS^-1 g in direction_, g in right_. @return what is left of atom j outside the span of S: G_jj - g'u, not over
// what can be told from nothing
template <class T>
double ActiveSet<T>::project(std::int64_t j) {
  const std::int64_t s = support_;
  const T* const column = gram_.data() + j * ld_;
  T* const g = right_.data();
  T* const u = direction_.data();
  for (std::int64_t k = 0; k < s; ++k) g[k] = column[active_.data()[k]];
  loops<T>().multiply(inverse_.data(), ld_, g, s, u);
  ++steps_;
  const double whole = static_cast<double>(column[j]);
  const auto left = [&] {
    double sum = whole;
    for (std::int64_t k = 0; k < s; ++k) sum -= static_cast<double>(g[k]) * static_cast<double>(u[k]);
    return sum;
  };
  double complement = left();
  if (complement > Trust<T>::kSuspicious * whole || s == 0) return complement;

  // Once more: u corrected by its residual rho = g - G_SS u in double, and the complement G_jj - g'u - u'rho, whose error
  // is of second order in that of u.
  T* const rho = rho_.data();
  const auto residual = [&] {
    double largest = 0;
    for (std::int64_t i = 0; i < s; ++i) {
      const T* const row = gram_.data() + active_.data()[i] * ld_;
      double sum = static_cast<double>(g[i]);
      for (std::int64_t k = 0; k < s; ++k)
        sum -= static_cast<double>(row[active_.data()[k]]) * static_cast<double>(u[k]);
      rho[i] = static_cast<T>(sum);
      largest = std::max(largest, std::fabs(sum));
    }
    return largest;
  };
  double before = residual();
  for (int attempt = 0;; ++attempt) {
    loops<T>().multiply(inverse_.data(), ld_, rho, s, correction_.data());
    for (std::int64_t k = 0; k < s; ++k) u[k] += correction_.data()[k];
    const double after = residual();
    if (after <= before / 2 || after <= 4 * std::numeric_limits<T>::epsilon() * whole || attempt > 0) break;
    if (!invert()) {  // the updates had worn the inverse out
      broken_ = true;
      return 0;
    }
    loops<T>().multiply(inverse_.data(), ld_, g, s, u);
    before = residual();
  }
  double length = 1;
  complement = left();
  for (std::int64_t k = 0; k < s; ++k) {
    complement -= static_cast<double>(rho[k]) * static_cast<double>(u[k]);
    length += std::fabs(static_cast<double>(u[k]));
  }
  return complement > Trust<T>::kDependent * whole * length ? complement : 0;
}

// z_j grows until j has joined S. What the others move by is kept in moved_ and told to the correlations at the end.
template <class T>
bool ActiveSet<T>::grow(std::int64_t j, std::int64_t max_steps) {
  const std::int64_t touched = support_;
  std::copy_n(active_.data(), touched, touched_.data());
  touched_.data()[touched] = static_cast<std::int32_t>(j);
  for (std::int64_t k = 0; k < touched; ++k) moved_.data()[touched_.data()[k]] = 0;

  const double sign = correlation_.data()[j] > T(0) ? 1 : -1;
  double excess = std::fabs(static_cast<double>(correlation_.data()[j])) - static_cast<double>(threshold_.data()[j]);
  double grown = 0;
  bool joined = false;
  while (!joined && !broken_ && steps_ < max_steps) {
    const double complement = project(j);
    if (broken_) break;
    const T* const u = direction_.data();
    double step = complement > 0 ? excess / complement : std::numeric_limits<double>::infinity();
    std::int64_t crossing = -1;
    for (std::int64_t k = 0; k < support_; ++k) {
      const std::int32_t i = active_.data()[k];
      const double z = code_.data()[i];
      const double rate = -sign * static_cast<double>(u[k]);
      if (threshold_.data()[i] > T(0) && z * rate < 0 && std::fabs(z) < std::fabs(rate) * step) {
        step = -z / rate;
        crossing = k;
      }
    }
    if (std::isinf(step)) break;
    for (std::int64_t k = 0; k < support_; ++k) {
      const std::int32_t i = active_.data()[k];
      const double change = -sign * static_cast<double>(u[k]) * step;
      code_.data()[i] += change;
      moved_.data()[i] += static_cast<T>(change);
    }
    grown += sign * step;
    excess -= step * complement;
    if (crossing >= 0) {
      leave(crossing);
    } else {
      join(j, static_cast<T>(complement));
      joined = true;
    }
  }
  if (joined) code_.data()[j] = grown;  // codes outside S are 0, whatever has become of the others
  for (std::int64_t k = 0; k < touched; ++k) factors_.data()[k] = moved_.data()[touched_.data()[k]];
  factors_.data()[touched] = joined ? static_cast<T>(grown) : T(0);
  loops<T>().subtract_columns(gram_.data(), ld_, touched_.data(), factors_.data(), touched + 1, size_,
                              correlation_.data());
  return joined;
}

template <class T>
ActiveSetOutcome ActiveSet<T>::solve(double tolerance, std::int64_t max_steps) {
  guard_factor_ = static_cast<T>(1 + tolerance);
  for (std::int64_t i = 0; i < size_; ++i)
    guard_.data()[i] = is_active(i) ? std::numeric_limits<T>::infinity() : threshold_.data()[i] * guard_factor_;
  for (;;) {
    if (broken_) return ActiveSetOutcome::stuck;
    const auto most = loops<T>().most_over(correlation_.data(), guard_.data(), size_, nonnegative_);
    if (most.position < 0) return ActiveSetOutcome::solved;
    if (!grow(most.position, max_steps)) return ActiveSetOutcome::stuck;
  }
}

template class ActiveSet<float>;
template class ActiveSet<double>;

}  // namespace shrinkwarp
