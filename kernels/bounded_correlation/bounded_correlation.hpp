// Correlations D'R in 16-bit integers, each with a proved bound of its error: half the cost of a float product or less,
// and all that a pass over the atoms needs which only has to leave most of them out.
//
// In coordinates v -> U'v that tell the atoms by their first few (principal_basis), only the first k are multiplied. Each
// atom and each residual is rounded there to a multiple of a scale of its own, d ~ q_d / s_d and r ~ q_r / s_r, so that
// ||q_d|| ||q_r|| < 2^31: every partial sum of q_d'q_r is an exact 32-bit integer. With c = q_d'q_r / (s_d s_r),
//
//   |d'r - c| <= ||d - q_d / s_d|| ||r|| + ||q_d / s_d|| ||r - q_r / s_r|| + ||tail of d|| ||tail of r||
//
// and all norms rounded up; the tail is what is beyond the first k coordinates. Rounding makes 1.4e-4 ||d|| ||r|| for 300
// rows. k is a residual's own choice, in steps of kLevelRows: its level.
//
// A residual that has been multiplied before and has moved by a little since then needs only the product with the
// change: c grows by it, and so does the bound, by what it is for the change. A change that comes of atoms lies where
// the atoms do, in the first few coordinates, and is short: few are multiplied.
//
// Where only correlations over some limit matter, most panels need no product at all: |d'r| <= ||d|| ||r||, and a residual
// that has moved by s since it was multiplied has correlations that have moved by ||d|| s at most. That leaves out whole
// panels where atoms of about the same norm lie together, and the largest come first.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// What the error of a quantised atom's correlations is bounded by, and what they are multiplied by. All in float, rounded
/// up where they bound.
struct AtomBounds {
  VectorView<const float> factor;    ///< [padded m], 1 / s_d
  VectorView<const float> rounding;  ///< [padded m], >= ||d - q_d / s_d||, with room for the rounding of c to float
  VectorView<const float> norm;      ///< [padded m], >= ||q_d / s_d||
  MatrixView<const float> tail;      ///< [padded m, levels], >= the norm of d beyond the level's rows
  VectorView<const float> largest;   ///< [panels], >= the norm of any atom d of the panel
};

/// >= ||d||, of an atom's bounds: the quantised atom and what was rounded away.
inline float norm_bound(float norm, float rounding) {
  return (norm + rounding) * (1 + 2.4e-7F);
}

/// A dictionary in 16-bit integers, packed in panels of atoms. Move-only; on the CPU.
class QuantizedDictionary {
 public:
  static constexpr std::int64_t kLevelRows = 32;

  QuantizedDictionary() = default;
  /// @param D      [n, m] on the CPU, finite, norms 0 or in float's range; m < 2^31
  /// @param basis  [n, n] with orthonormal columns, U; empty for the coordinates that D has, and one level
  /// @param order  [m] the column of D that each atom is; empty for the order that D has
  /// Cost: 2 bytes an entry, 4 an entry of the basis; 2 n^2 m flops with a basis. Allocates yes.
  /// @throws DeviceError, ShapeError (n >= 2^28, m >= 2^31), OutOfMemory
  QuantizedDictionary(const Context& context, MatrixView<const double> D, MatrixView<const double> basis,
                      const std::vector<std::int32_t>& order = {});

  std::int64_t rows() const { return rows_; }    ///< n
  std::int64_t atoms() const { return atoms_; }  ///< m
  std::int64_t levels() const { return tail_.cols(); }
  /// Rows that level l multiplies, l in [0, levels()); all of them at the last one.
  std::int64_t level_rows(std::int64_t level) const { return level + 1 == levels() ? rows_ : (level + 1) * kLevelRows; }
  /// What nine atoms in ten do not pass: of their norms, and of what of them is beyond a level.
  double typical_norm() const { return typical_norm_; }
  double typical_tail(std::int64_t level) const { return typical_tail_.data()[level]; }
  /// Atoms of a panel; the last one may have fewer.
  std::int64_t panel_atoms() const { return panel_atoms_; }
  std::int64_t panels() const { return (atoms_ + panel_atoms_ - 1) / panel_atoms_; }
  /// m rounded up to whole vectors: the length of a column of correlations. What is beyond m is 0.
  std::int64_t padded_atoms() const { return padded_atoms_; }
  /// From one column of correlations to the next: an odd number of cache lines, for else they may all want the same few sets of a
  /// cache. >= padded_atoms()
  std::int64_t atoms_apart() const { return (padded_atoms() + 15) / 16 / 2 * 32 + 16; }
  const std::int32_t* packed() const { return packed_.data(); }
  AtomBounds bounds() const {
    return {factor_.vector(), rounding_.vector(), norm_.vector(), tail_.matrix(), largest_.vector()};
  }
  /// [n padded, n] the basis in float; empty where there is none.
  MatrixView<const float> basis() const { return basis_.matrix(); }
  /// The most that the bytes of this can be for an n x m dictionary.
  static std::int64_t most_bytes(std::int64_t rows, std::int64_t atoms);
  /// Its parts, for runtime/flat.hpp.
  template <class Self, class Flat>
  static void list(Self& self, Flat& flat) {
    flat.value(self.rows_);
    flat.value(self.atoms_);
    flat.value(self.panel_atoms_);
    flat.value(self.padded_atoms_);
    flat.value(self.typical_norm_);
    flat.tensor(self.packed_);
    flat.tensor(self.factor_);
    flat.tensor(self.rounding_);
    flat.tensor(self.norm_);
    flat.tensor(self.tail_);
    flat.tensor(self.largest_);
    flat.tensor(self.basis_);
    flat.tensor(self.typical_tail_);
  }

 private:
  std::int64_t rows_ = 0, atoms_ = 0, panel_atoms_ = 1, padded_atoms_ = 0;
  Tensor<std::int32_t> packed_;  // pairs of 16-bit integers
  Tensor<float> factor_, rounding_, norm_, tail_, largest_, basis_;
  Tensor<double> typical_tail_;
  double typical_norm_ = 0;
};

/// What of a residual a level leaves out.
struct ResidualTail {
  std::int64_t level = 0;
  float norm = 0;  ///< >= the norm of what is beyond its rows
};

/// Residuals in 16-bit integers, as bounded_correlation reads them: a fixed number of places that are filled one by
/// one, and what is known of the error of each. Move-only; on the CPU.
class QuantizedResiduals {
 public:
  QuantizedResiduals() = default;
  /// Places for `places` residuals. Allocates yes. @throws OutOfMemory
  QuantizedResiduals(const Context& context, const QuantizedDictionary& D, std::int64_t places);

  std::int64_t places() const { return norm_.size(); }
  /// Residuals that a pass multiplies together, to the highest of their levels: fewer cost as much.
  std::int64_t group() const { return group_; }
  /// What is put in a place.
  struct Vector {
    std::int64_t place = 0, level = 0;
    const double* v = nullptr;  ///< [n padded with zeros to kAtomPadding], finite, its norm 0 or in float's range
    /// It is a change that is added to the residual of the place, whose pass has run: the next pass adds to its
    /// correlations. Norms, rounding and tails are from now on sums of those of the parts.
    bool adds = false;
  };
  static constexpr std::int64_t kTogether = 4;
  /// Puts vectors in their places, each to the same bits alone; up to kTogether consecutive ones of one level cost
  /// little more than one, which reads the basis. Allocates no. @throws ShapeError
  void put(const QuantizedDictionary& D, const Vector* vectors, std::int64_t count);
  /// One of them.
  void set(const QuantizedDictionary& D, std::int64_t place, std::int64_t level, const double* r) {
    const Vector one{place, level, r, false};
    put(D, &one, 1);
  }
  /// [(rows + 1) / 2] pairs of the vector that the next pass multiplies, 0 beyond its level.
  const std::int32_t* packed(std::int64_t place) const { return packed_.matrix().column(place); }
  std::int64_t level(std::int64_t place) const { return level_.data()[place]; }           ///< of that vector
  float inverse_scale(std::int64_t place) const { return inverse_scale_.data()[place]; }  ///< 1 / s_r, likewise
  bool adds(std::int64_t place) const { return adds_.data()[place] != 0; }                ///< it is a change
  float norm(std::int64_t place) const { return norm_.data()[place]; }                    ///< >= ||r||
  float rounding(std::int64_t place) const { return rounding_.data()[place]; }            ///< >= ||r - q_r / s_r||
  /// Levels that something is beyond, each once, in no order.
  std::int64_t tails(std::int64_t place) const { return tails_.data()[place]; }
  ResidualTail tail(std::int64_t place, std::int64_t i) const { return tail_.matrix()(i, place); }

 private:
  void put_rounded(const QuantizedDictionary& D, const Vector& vector, double norm, const float* rounded);

  std::int64_t group_ = 1;
  Tensor<std::int32_t> packed_, adds_;
  Tensor<float> inverse_scale_, norm_, rounding_, scratch_;
  Tensor<float> float_, rotated_;  // [n padded, kTogether]
  Tensor<std::int64_t> level_, tails_;
  Tensor<ResidualTail> tail_;  // [levels, places]
};

/// Which panels a pass may leave out for a residual: those in which no correlation is over a limit.
struct PanelLimit {
  static constexpr float kUnknown = std::numeric_limits<float>::infinity();
  static constexpr float kRoom = 1 + 1e-6F;  // for the rounding of panel_reach()
  float under = 0;                           ///< the limit; 0 leaves none out
  float share = 0;         ///< or, unless the residual adds, this share of the largest correlation found so far
  float norm = kUnknown;   ///< >= ||r||
  float moved = kUnknown;  ///< >= how far r is from the residual of the last pass, which `highest` is of
  float left_out = 0;      ///< written: the largest `highest` of the panels that were left out
};
/// What passes have left out, and will. All empty, all panels are multiplied.
struct PanelsLeftOut {
  /// [R.places()]
  PanelLimit* limits = nullptr;
  /// [panels, R.places()], read where R.adds() and written: 1 for panels that the pass left out, whose part of C is of an
  /// earlier residual or of none.
  MatrixView<std::uint8_t> stale;
};
/// No correlation of a panel is larger in magnitude, if the residual has moved by `steps` times what it has.
/// @param largest  AtomBounds::largest of it  @param highest  of the last pass; of no meaning where `moved` is kUnknown
inline float panel_reach(const PanelLimit& limit, float largest, float highest, float steps = 1) {
  const float whole = largest * limit.norm;
  const float moved = limit.moved < PanelLimit::kUnknown ? highest + steps * largest * limit.moved : whole;
  return (moved < whole ? moved : whole) * PanelLimit::kRoom;
}

/// c for all atoms and the residuals of some places, and the largest magnitude that any atom of a panel can have.
///
///   C[j, b] = c_jb;   highest[p, b] = max_j (|c_jb| + sum over tails of tail_j(level) tail(b))
///                                     + max_j rounding_j norm(b) + max_j norm_j rounding(b),   over atoms j of panel p
///
/// @param bounds   of D, or those divided by a weight for each atom: C and `highest` are then divided by it, too. An atom
///                 whose numbers are all 0 never shows
/// @param places   [count] b, in any order, which is best that of their levels: R.group() consecutive ones are
///                 multiplied together
/// @param C        [padded_atoms, R.places()], columns b are written, or added to where R.adds(b)
/// @param highest  [panels, R.places()], columns b are written: no correlation of the panel is larger in magnitude, and of a
///                 panel that is multiplied no |c_jb| + error_bound(j, b) either. Where a limit's `moved` is known, what the
///                 last pass has written is read
/// @param leave    panels that need no product; bounds.largest is then read. A stale panel of a residual that adds is left
///                 out whatever its limit says: who adds to a residual sees to it that panel_reach() of such panels is
///                 under the limit
///
/// Numerics     integer sums are exact; C is within 4 units of float for each vector that was multiplied, for which the
///              bounds have room, and `highest` some ten units over. What is under float's range, 1e-38, has no relative error
/// Determinism  a column's bits depend on that column alone. Another instruction set has other panels and scales, and so
///              other bits within the bounds
/// Cost         2 k m operations of 16 bits a residual. On the calling thread, whatever the context has. Allocates no
/// @throws ShapeError, DeviceError
void bounded_correlation(const Context& context, const QuantizedDictionary& D, const AtomBounds& bounds,
                         const QuantizedResiduals& R, const std::int64_t* places, std::int64_t count,
                         MatrixView<float> C, MatrixView<float> highest, const PanelsLeftOut& leave = {});

/// The atoms whose correlation with the residual at `place` may pass a threshold: |c_j| + bound_j > threshold.
///
/// @param c, highest  the residual's columns of bounded_correlation(), [padded_atoms] and [panels]
/// @param threshold   >= 0, rounded down to float
/// @param open        [atoms] at least, written: ascending, and beyond them anything
/// @return their number. Only panels that `highest` leaves open are read. On the calling thread. Allocates no
std::int64_t open_atoms(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
                        std::int64_t place, const float* c, const float* highest, double threshold, std::int32_t* open);

/// About the n-th largest of numbers that are 0 or more: the largest number with eight bits of mantissa or less that
/// n of them reach, so at most 1 / 128 under it. @param values  [count], any alignment  @param n  1 to count
/// Cost: 16 comparisons each. On the calling thread. Allocates no
float nth_largest(const float* values, std::int64_t count, std::int64_t n);

/// What a pass knows of the norms of the correlations of groups of atoms, group g being the atoms place_of[g s] ..
/// place_of[g s + s - 1]:
///
///   about[g] = sum over j in g of c_j^2,   most[g] >= sum over j in g of (|c_j| + bound_j)^2 >= ||D_g'r||^2
///
/// @param c           the residual's column of bounded_correlation()
/// @param group_size  s >= 1, a divisor of the number of atoms
/// @param place_of    [atoms]
/// @param upper       [padded_atoms] scratch
/// @param about, most [atoms / s], written
///
/// Numerics  sums of squares in double, which no float leaves. Cost 8 flops an atom, on the calling thread. Allocates no
void group_bounds(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
                  std::int64_t place, const float* c, std::int64_t group_size, const std::int32_t* place_of,
                  float* upper, double* about, double* most);

/// The bound itself: |d_j'r - c_j| <= error_bound(...).
inline double error_bound(const AtomBounds& bounds, const QuantizedResiduals& R, std::int64_t place,
                          std::int64_t atom) {
  double bound = static_cast<double>(bounds.rounding[atom]) * static_cast<double>(R.norm(place)) +
                 static_cast<double>(bounds.norm[atom]) * static_cast<double>(R.rounding(place));
  for (std::int64_t i = 0; i < R.tails(place); ++i) {
    const ResidualTail tail = R.tail(place, i);
    bound += static_cast<double>(bounds.tail(atom, tail.level)) * static_cast<double>(tail.norm);
  }
  return bound;
}

}  // namespace shrinkwarp
