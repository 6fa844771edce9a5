// The vectorised loops that solvers on working sets share, for the instruction set of this processor.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp::cpu {

/// Arrays of the active set begin at whole vectors and have room to a multiple of this many elements.
constexpr std::int64_t kActiveSetPadding = 16;

/// What one instruction set offers. Matrices are symmetric, [ld, ld].
template <class T>
struct ActiveSetLoops {
  /// u[0, size) = H g; zero up to the next multiple of the padding.
  void (*multiply)(const T* H, std::int64_t ld, const T* g, std::int64_t size, T* u);
  /// H += scale u u' on [size, size]; rows up to the padding are written too.
  void (*rank_one)(T* H, std::int64_t ld, const T* u, T scale, std::int64_t size);
  /// v[0, size) -= sum over k of factors[k] G[:, columns[k]]; v up to the padding is written too.
  void (*subtract_columns)(const T* G, std::int64_t ld, const std::int32_t* columns, const T* factors,
                           std::int64_t count, std::int64_t size, T* v);
  /// Where |v| - guard is largest on [0, size), of equal ones the first; -1 where none is over 0. With one_sided v - guard.
  std::int64_t (*most_over)(const T* v, const T* guard, std::int64_t size, bool one_sided);
  /// Of codes z that move by `direction` u each, the first to come to 0 before *step, which then becomes its own; -1 where
  /// none does. u is zero from `size` to the padding. @param ratios  scratch up to the padding
  std::int64_t (*first_crossing)(const double* z, const T* u, double direction, std::int64_t size, double* ratios,
                                 double* step);
  /// Whether |v_i - signs[k] threshold_i| is over limit norm_i, or no number, for some i = positions[k] of `count`.
  bool (*aside)(const T* v, const T* threshold, const T* norm, const std::int32_t* positions, const T* signs,
                std::int64_t count, T limit);
  /// G[i, j] = G[j, i] = d_i'd_j for j in [first, last) and i in [0, last), atoms[] naming columns of D.
  void (*gram)(MatrixView<const T> D, const std::int32_t* atoms, std::int64_t first, std::int64_t last, T* G,
               std::int64_t ld);
};

/// Those for this processor; T is float or double.
template <class T>
const ActiveSetLoops<T>& active_set_loops();
template <>
const ActiveSetLoops<float>& active_set_loops<float>();
template <>
const ActiveSetLoops<double>& active_set_loops<double>();

}  // namespace shrinkwarp::cpu
