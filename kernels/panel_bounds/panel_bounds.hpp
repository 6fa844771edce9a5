// What no correlation of a panel of atoms can pass, for many residuals, on tensor cores: all that a pass over the atoms has
// to say which only leaves most of them out. D'R itself is never written.
//
// Each atom and each residual is divided by a power of two and rounded to half precision, d ~ f_d q_d and r ~ f_r q_r.
// Tensor cores multiply halves exactly and add in float. With c = f_d f_r q_d'q_r as they compute it,
//
//   |d'r - c| <= ||d - f_d q_d|| ||r|| + ||f_d q_d|| ||r - f_r q_r|| + (K + 64) 2^-22 ||f_d q_d|| ||f_r q_r||
//
// all norms rounded up, K the padded number of rows. The last term is twice what is known of how tensor cores add: they cut
// off less than a unit of float, 2^-23, of the largest partial sum with each term. Together some 4e-4 ||d|| ||r|| for 300 rows.
// Under weights all of it is divided by the atom's, and where codes are to be nonnegative d'r is bounded without its sign. Of
// groups of atoms the norm of what bounds their atoms is a bound.
//
// On CUDA only: on the CPU bounded_correlation does this in integers.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Atoms of a panel.
inline constexpr std::int64_t kPanelAtoms = 8;

/// Columns that a group of atoms takes in HalfColumns, of which the last ones may be 0, so that a panel holds whole groups or a
/// part of one: 1, 2, 4, or a multiple of 8.
std::int64_t group_columns(std::int64_t group_size);

/// What bounds correlations of columns in half precision: those of HalfColumns themselves, or divided by weights.
struct HalfBounds {
  VectorView<const float> factor, length, rounding;  ///< [cols padded]
};

/// Columns in half precision, and what bounds their error. Move-only; on CUDA.
class HalfColumns {
 public:
  HalfColumns() = default;
  /// Room for `cols` columns of `rows` elements, all 0. Cost: 2 bytes an element, rows padded to 32, columns to 128.
  /// Allocates yes. @throws DeviceError, OutOfMemory
  HalfColumns(const Context& context, std::int64_t rows, std::int64_t cols);
  /// Bytes of all that.
  static std::int64_t bytes(std::int64_t rows, std::int64_t cols);

  /// Column i <- V(:, from[i]) for each i of `from`, 0 where from[i] is negative.
  /// @param V     [rows, any number], finite; magnitudes whose squares keep in the range of double
  /// @param from  [count <= cols]
  /// Numerics: a column whose largest magnitude is out of [2^-120, 2^120] becomes 0, all of it in `rounding`.
  /// Determinism: same bits in any place. Allocates no, synchronises no, capturable yes. @throws ShapeError, DeviceError
  void set(const Context& context, MatrixView<const double> V, VectorView<const std::int32_t> from);

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  MatrixView<const std::uint16_t> values() const { return values_.matrix(); }  ///< [rows padded, cols padded] q
  VectorView<const float> factor() const { return factor_.vector(); }          ///< [cols padded] f, a power of two
  VectorView<const float> length() const { return length_.vector(); }          ///< >= ||v|| and ||f q||
  VectorView<const float> rounding() const { return rounding_.vector(); }      ///< >= ||v - f q||
  HalfBounds bounds() const { return {factor(), length(), rounding()}; }
  Device device() const { return values_.matrix().device; }

 private:
  std::int64_t rows_ = 0, cols_ = 0;
  Tensor<std::uint16_t> values_;
  Tensor<float> factor_, length_, rounding_;
};

/// What rounding in float may have taken from a sum of products of halves, as a share of the two lengths: (K + 64) 2^-22.
float panel_accumulation(const HalfColumns& D);

/// The bounds of atoms divided by weights, for what is compared with lambda: d_j'r / w_j. Move-only; on CUDA.
class DividedBounds {
 public:
  DividedBounds() = default;
  /// @param D        whose columns have been set
  /// @param weights  [D.cols()] on the host, > 0; infinity leaves an atom out: it is bounded by 0 whatever r is
  ///
  /// Numerics: lengths and roundings are rounded up; factors to nearest, with 2^-22 of the length added to the rounding for
  /// that. A factor that leaves the normal range becomes 0, all of the atom in its rounding.
  /// Cost: 12 bytes a column. Allocates yes, synchronises yes. @throws ShapeError, DeviceError, OutOfMemory
  DividedBounds(const Context& context, const HalfColumns& D, VectorView<const double> weights);
  /// Bytes of all that.
  static std::int64_t bytes(std::int64_t cols);
  HalfBounds view() const;

 private:
  Tensor<float> divided_;  // [cols padded, 3]
};

/// What keys bound beside plain correlations.
struct PanelPenalty {
  HalfBounds divided;        ///< of D, by weights; empty for none
  bool nonnegative = false;  ///< d_j'r in place of |d_j'r|
  /// Columns of D that belong together, as group_columns() says it; 1 where codes are nonnegative.
  std::int64_t group_columns = 1;
};

/// A bound of each panel's largest correlation, with the atom that it comes from: as a key, a float's bits of which the
/// last three are the atom's place in its panel. As numbers keys compare like the floats that their bits are.
///
///   keys[p, b] >= max over atoms j of panel p of |d_j'r_b|    (read as a float)
///
/// and under a penalty of |d_j'r_b| / w_j, or of d_j'r_b / w_j where codes are to be nonnegative; never under 0. Where columns
/// belong together as groups, it is the largest ||D_g'r_b|| / w_g of the panel's groups, with the group's place in the panel;
/// or, where a group takes several panels, the norm of the panel's part of it, with the place 0.
///
/// @param D, R     of the same number of rows; the first `count` columns of R
/// @param keys     [ceil(m / 8), count], written; where atoms are equal the later one counts
/// @param penalty  its `divided` from D
///
/// Numerics     a key is over |c| and its bound by at most 2^-18 of itself; what is under 1e-37 is taken for that, what is over
///              3.4e38 for that; of groups what is under 1e-18, and what is over 1e18
/// Determinism  a column's bits depend on that column alone
/// Cost         2 K m flops of tensor cores a residual; reads 2 K (m + count) bytes a tile of 128 x 128, writes m / 2 bytes a
///              residual. Allocates no, synchronises no, capturable yes
/// @throws ShapeError (also for a negative count), DeviceError
void panel_bounds(const Context& context, const HalfColumns& D, const HalfColumns& R, std::int64_t count,
                  MatrixView<std::uint32_t> keys, const PanelPenalty& penalty = {});

}  // namespace shrinkwarp
