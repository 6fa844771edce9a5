#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/common/packed_product_cpu.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/bounded_correlation/bounded_correlation_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation_cpu_simd.hpp>

namespace shrinkwarp {
namespace cpu {
namespace {

HWY_EXPORT(BoundedCorrelationKernelsI16);

const BoundedCorrelationKernels& kernels() {
  static const BoundedCorrelationKernels chosen = HWY_DYNAMIC_DISPATCH(BoundedCorrelationKernelsI16)();
  return chosen;
}

}  // namespace
}  // namespace cpu

namespace {

// Norms of quantised atoms and residuals; their product with room for the rounding is under 2^31.
constexpr double kAtomNorm = 4e4;
constexpr double kResidualNorm = 5e4;
constexpr double kLargest = 32767;
constexpr double kUnit = 6e-8;  // of float

// A bound in float from one in double that is right to some units.
float rounded_up(double bound) {
  const double roomy = std::min<double>(bound * (1 + 1e-6), std::numeric_limits<float>::max());
  const auto rounded = static_cast<float>(roomy);
  return static_cast<double>(rounded) < roomy ? std::nextafterf(rounded, std::numeric_limits<float>::max()) : rounded;
}

// |c_j| + the part of bound_j that needs no tails
SHRINKWARP_CPU_CLONES void upper_magnitudes(const float* c, const float* rounding, float residual_norm,
                                            const float* norm, float residual_rounding, std::int64_t atoms,
                                            float* upper) {
  for (std::int64_t j = 0; j < atoms; ++j)
    upper[j] = std::fabs(c[j]) + rounding[j] * residual_norm + norm[j] * residual_rounding;
}

// to = factor from, rounded
SHRINKWARP_CPU_CLONES void scale_to_float(const double* from, double factor, std::int64_t size, float* to) {
  for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<float>(from[i] * factor);
}

// ||v||^2, and of what is beyond the rows of each level but the last. @param energy  [levels], at least one
void energies_beyond(const double* v, std::int64_t rows, std::vector<double>& energy) {
  constexpr std::int64_t kRows = QuantizedDictionary::kLevelRows;
  double sum = 0;
  for (std::int64_t level = static_cast<std::int64_t>(energy.size()) - 1; level >= 0; --level) {
    double squares[4] = {};  // chains side by side
    const std::int64_t last = std::min(rows, (level + 1) * kRows);
    for (std::int64_t i = level * kRows; i < last; ++i) squares[i % 4] += v[i] * v[i];
    sum += (squares[0] + squares[2]) + (squares[1] + squares[3]);
    energy[static_cast<std::size_t>(level)] = sum;
  }
}

// upper_j += tail_j residual_tail
SHRINKWARP_CPU_CLONES void add_tail(const float* tail, float residual_tail, std::int64_t atoms, float* upper) {
  for (std::int64_t j = 0; j < atoms; ++j) upper[j] += tail[j] * residual_tail;
}

}  // namespace

std::int64_t QuantizedDictionary::most_bytes(std::int64_t rows, std::int64_t atoms) {
  const std::int64_t levels = (rows + kLevelRows - 1) / kLevelRows;
  constexpr std::int64_t kSmallestPanel = 12;
  return (atoms + 15) / 16 * 64 * ((rows + 1) / 2 + 3 + levels) + 4 * (atoms / kSmallestPanel + 1) +
         4 * (rows + kAtomPadding) * rows + 8 * levels;
}

QuantizedDictionary::QuantizedDictionary(const Context& context, MatrixView<const double> D,
                                         MatrixView<const double> basis, const std::vector<std::int32_t>& order)
    : rows_(D.rows), atoms_(D.cols) {
  check_matrix(context, "QuantizedDictionary", "D", D, D.rows, D.cols);
  if (!basis.empty()) check_matrix(context, "QuantizedDictionary", "basis", basis, D.rows, D.rows);
  SHRINKWARP_REQUIRE(!context.is_cuda(), DeviceError, "QuantizedDictionary: the context is on ", context.device(),
                     ", wanted the cpu");
  SHRINKWARP_REQUIRE(D.rows < std::int64_t{1} << 28, ShapeError, "QuantizedDictionary: D has ", D.rows,
                     " rows, wanted less than 2^28");
  SHRINKWARP_REQUIRE(D.cols < std::int64_t{1} << 31, ShapeError, "QuantizedDictionary: D has ", D.cols,
                     " atoms, wanted less than 2^31");
  SHRINKWARP_REQUIRE(order.empty() || static_cast<std::int64_t>(order.size()) == D.cols, ShapeError,
                     "QuantizedDictionary: order has ", order.size(), " atoms, wanted ", D.cols);
  const std::int64_t lanes = cpu::kernels().lanes;
  panel_atoms_ = lanes * cpu::kPairVectors;
  padded_atoms_ = cpu::round_up(atoms_, lanes);
  const std::int64_t pairs = (rows_ + 1) / 2;
  const std::int64_t levels = basis.empty() ? 1 : cpu::divide_up(rows_, kLevelRows);
  packed_ = Tensor<std::int32_t>::zeros(context, padded_atoms_ * pairs);
  factor_ = Tensor<float>::zeros(context, padded_atoms_);
  rounding_ = Tensor<float>::zeros(context, padded_atoms_);
  norm_ = Tensor<float>::zeros(context, padded_atoms_);
  tail_ = Tensor<float>::zeros(context, padded_atoms_, levels);
  typical_tail_ = Tensor<double>::zeros(context, levels);
  if (!basis.empty()) {
    basis_ = Tensor<float>::zeros(context, cpu::round_up(rows_, kAtomPadding), rows_);
    for (std::int64_t j = 0; j < rows_; ++j)
      std::transform(basis.column(j), basis.column(j) + rows_, basis_.matrix().column(j),
                     [](double value) { return static_cast<float>(value); });
  }

  // Blocks of atoms, so that the rotated ones need little room.
  constexpr std::int64_t kBlock = 256;
  context.parallel_for(cpu::divide_up(atoms_, kBlock), [&](std::int64_t block, int) {
    const Context one = Context::cpu(1);
    const std::int64_t start = block * kBlock;
    const std::int64_t count = std::min(kBlock, atoms_ - start);
    MatrixView<const double> atoms = D.columns(start, count);
    Tensor<double> gathered, rotated;
    if (!order.empty()) {
      gathered = Tensor<double>(one, rows_, count);
      for (std::int64_t b = 0; b < count; ++b)
        std::copy_n(D.column(order[static_cast<std::size_t>(start + b)]), rows_, gathered.matrix().column(b));
      atoms = gathered.matrix();
    }
    if (!basis.empty()) {
      rotated = Tensor<double>(one, rows_, count);
      gemm<double>(one, Transpose::yes, Transpose::no, 1, basis, atoms, 0, rotated.matrix());
      atoms = rotated.matrix();
    }
    std::vector<float> rounded(static_cast<std::size_t>(cpu::round_up(rows_, kAtomPadding))), scratch(rounded.size());
    std::vector<std::int32_t> quantized(static_cast<std::size_t>(pairs));
    std::vector<double> tails(static_cast<std::size_t>(std::max<std::int64_t>(cpu::divide_up(rows_, kLevelRows), 1)));
    for (std::int64_t b = 0; b < count; ++b) {
      const std::int64_t j = start + b;
      const std::int64_t first = j / panel_atoms_ * panel_atoms_;
      const std::int64_t height = std::min(panel_atoms_, padded_atoms_ - first);
      std::int32_t* const panel = packed_.data() + first * pairs + (j - first);
      const double* const d = atoms.column(b);
      // In units in which the norm is from 1 to 2: squares of float reach from 1e-38 to 1e38 only.
      energies_beyond(d, rows_, tails);
      const double norm = std::sqrt(tails.front());
      const int exponent = norm > 0 ? std::ilogb(norm) : 0;
      scale_to_float(d, std::ldexp(1.0, -exponent), rows_, rounded.data());
      const cpu::QuantizedVector atom =
          cpu::kernels().quantize({rounded.data(), rows_, kAtomNorm, kLargest, scratch.data(), quantized.data()});
      for (std::int64_t pair = 0; pair < pairs; ++pair)
        panel[pair * height] = quantized[static_cast<std::size_t>(pair)];
      // A unit under float's range would not come back from it: all is rounded away then.
      const double unit = std::ldexp(static_cast<double>(atom.unit), exponent);
      const bool kept = unit >= static_cast<double>(std::numeric_limits<float>::min());
      const double lost = kept ? std::ldexp(atom.rounding, exponent) + kUnit * norm : norm;
      const double left = kept ? norm + lost : 0;
      factor_.data()[j] = kept ? static_cast<float>(unit) : 0.0F;
      norm_.data()[j] = rounded_up(left);
      // c is a sum rounded to float and multiplied twice, the basis is orthonormal to some units of double: together some
      // units of float, each of at most the product of the norms.
      rounding_.data()[j] = rounded_up(lost + 4e-7 * left);
      for (std::int64_t level = 0; level + 1 < levels; ++level)
        tail_.matrix()(j, level) = rounded_up(std::sqrt(tails[static_cast<std::size_t>(level) + 1]) + 1e-14 * norm);
    }
  });
  largest_ = Tensor<float>::zeros(context, panels());
  for (std::int64_t j = 0; j < atoms_; ++j) {
    float& largest = largest_.data()[j / panel_atoms_];
    largest = std::max(largest, norm_bound(norm_.data()[j], rounding_.data()[j]));
  }
  std::vector<float> sorted(static_cast<std::size_t>(atoms_));
  const auto typical = [&](const float* values) {
    std::copy_n(values, atoms_, sorted.begin());
    const auto place = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() * 9 / 10);
    std::nth_element(sorted.begin(), place, sorted.end());
    return static_cast<double>(*place);
  };
  typical_norm_ = atoms_ > 0 ? typical(norm_.data()) : 0;
  for (std::int64_t level = 0; level + 1 < levels && atoms_ > 0; ++level)
    typical_tail_.data()[level] = typical(tail_.matrix().column(level));
}

QuantizedResiduals::QuantizedResiduals(const Context& context, const QuantizedDictionary& D, std::int64_t places)
    : group_(cpu::kernels().columns) {
  // Whole cache lines.
  packed_ = Tensor<std::int32_t>::zeros(context, cpu::round_up((D.rows() + 1) / 2, 16), places);
  for (Tensor<float>* vector : {&inverse_scale_, &norm_, &rounding_}) *vector = Tensor<float>::zeros(context, places);
  adds_ = Tensor<std::int32_t>::zeros(context, places);
  level_ = Tensor<std::int64_t>::zeros(context, places);
  tails_ = Tensor<std::int64_t>::zeros(context, places);
  tail_ = Tensor<ResidualTail>(context, std::max<std::int64_t>(D.levels(), 1), places);
  float_ = Tensor<float>::zeros(context, cpu::round_up(D.rows(), kAtomPadding), kTogether);
  rotated_ = Tensor<float>::zeros(context, cpu::round_up(D.rows(), kAtomPadding), kTogether);
  scratch_ = Tensor<float>::zeros(context, cpu::round_up(D.rows(), kAtomPadding));
}

void QuantizedResiduals::put(const QuantizedDictionary& D, const Vector* vectors, std::int64_t count) {
  const std::int64_t n = D.rows();
  const bool rotate = !D.basis().empty();
  for (std::int64_t first = 0, together = 0; first < count; first += together) {
    const std::int64_t level = vectors[first].level;
    const std::int64_t rows = D.level_rows(level);
    double norms[kTogether];
    for (together = 0; together < kTogether && first + together < count; ++together) {
      const Vector& vector = vectors[first + together];
      if (vector.level != level) break;
      SHRINKWARP_REQUIRE(vector.place >= 0 && vector.place < places(), ShapeError, "QuantizedResiduals: place is ",
                         vector.place, ", wanted 0 to ", places() - 1);
      // In units in which the norm is from 1 to 2: squares of float reach from 1e-38 to 1e38 only.
      const double norm = norms[together] = std::sqrt(dot(vector.v, vector.v, cpu::round_up(n, kAtomPadding)));
      scale_to_float(vector.v, norm > 0 ? std::ldexp(1.0, -std::ilogb(norm)) : 1.0, n,
                     float_.matrix().column(together));
    }
    if (rotate) cpu::kernels().rotate(D.basis(), rows, float_.matrix().columns(0, together), rotated_.matrix());
    for (std::int64_t k = 0; k < together; ++k) {
      float* const rotated = rotated_.matrix().column(k);
      if (rotate) std::fill_n(rotated + rows, cpu::round_up(rows, kAtomPadding) - rows, 0.0F);
      put_rounded(D, vectors[first + k], norms[k], rotate ? rotated : float_.matrix().column(k));
    }
  }
}

// @param rounded  the vector's coordinates, in units in which its norm is from 1 to 2
void QuantizedResiduals::put_rounded(const QuantizedDictionary& D, const Vector& vector, double norm,
                                     const float* rounded) {
  const std::int64_t n = D.rows(), place = vector.place;
  const std::int64_t rows = D.level_rows(vector.level);
  const int exponent = norm > 0 ? std::ilogb(norm) : 0;
  const cpu::QuantizedVector quantized = cpu::kernels().quantize(
      {rounded, rows, kResidualNorm, kLargest, scratch_.data(), packed_.matrix().column(place)});
  // Zeros beyond the level: it may be multiplied together with residuals of others.
  std::int32_t* const pairs = packed_.matrix().column(place);
  std::fill(pairs + (rows + 1) / 2, pairs + (n + 1) / 2, 0);
  // The chains of the rotation, its arguments' rounding to float, and the same again for good measure.
  const double moved = D.basis().empty()
                           ? kUnit * norm
                           : kUnit * (static_cast<double>(n) / 16 + 10) * std::sqrt(static_cast<double>(rows)) * norm;
  // ||tail||^2 = ||v||^2 - ||head||^2; the head is known to `moved`, its norm to the rounding of a sum in float.
  const double head =
      std::max(0.0, std::ldexp(quantized.norm, exponent) * (1 - kUnit * (static_cast<double>(n) / 8 + 8)) - moved);
  const double beyond = rows == n ? 0 : std::sqrt(std::max(0.0, norm * norm * (1 + 1e-12) - head * head));
  // A unit under float's range would not come back from it: all is rounded away then.
  const double unit = std::ldexp(static_cast<double>(quantized.unit), exponent);
  const bool kept = unit >= static_cast<double>(std::numeric_limits<float>::min());
  const double lost = kept ? std::ldexp(quantized.rounding, exponent) + moved : norm;
  level_.data()[place] = vector.level;
  inverse_scale_.data()[place] = kept ? static_cast<float>(unit) : 0.0F;
  adds_.data()[place] = vector.adds ? 1 : 0;
  std::int64_t& tails = tails_.data()[place];
  if (vector.adds) {
    const double whole = static_cast<double>(norm_.data()[place]) + norm;
    const double rounding = static_cast<double>(rounding_.data()[place]) + lost;
    norm_.data()[place] = rounded_up(whole);
    // The sum of both correlations is rounded to float, and no larger than the atom's norm times those of the parts.
    rounding_.data()[place] = rounded_up(rounding + 1.01 * kUnit * (whole + rounding));
  } else {
    norm_.data()[place] = rounded_up(norm);
    rounding_.data()[place] = rounded_up(lost);
    tails = 0;
  }
  if (!(beyond > 0)) return;
  const MatrixView<ResidualTail> tail = tail_.matrix();
  std::int64_t i = 0;
  while (i < tails && tail(i, place).level != vector.level) ++i;
  if (i == tails) tail(tails++, place) = {vector.level, 0};
  tail(i, place).norm = rounded_up(static_cast<double>(tail(i, place).norm) + beyond);
}

void bounded_correlation(const Context& context, const QuantizedDictionary& D, const AtomBounds& bounds,
                         const QuantizedResiduals& R, const std::int64_t* places, std::int64_t count,
                         MatrixView<float> C, MatrixView<float> highest, const PanelsLeftOut& leave) {
  for (std::int64_t b = 0; b < count; ++b) {
    SHRINKWARP_REQUIRE(places[b] >= 0 && places[b] < R.places(), ShapeError, "bounded_correlation: place is ",
                       places[b], ", wanted 0 to ", R.places() - 1);
  }
  check_matrix(context, "bounded_correlation", "C", C, D.padded_atoms(), R.places());
  check_matrix(context, "bounded_correlation", "highest", highest, D.panels(), R.places());
  if (leave.limits) {
    check_matrix(context, "bounded_correlation", "stale", leave.stale, D.panels(), R.places());
    check_vector(context, "bounded_correlation", "largest", bounds.largest, D.panels());
  }
  if (count > 0) cpu::kernels().run({&D, bounds, &R, places, count, C, highest, leave});
}

std::int64_t open_atoms(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
                        std::int64_t place, const float* c, const float* highest, double threshold,
                        std::int32_t* open) {
  float limit = static_cast<float>(threshold);
  if (static_cast<double>(limit) > threshold) limit = std::nextafterf(limit, 0);
  return cpu::kernels().open(
      {bounds, c, highest, &R, place, limit, D.panels(), D.panel_atoms(), D.padded_atoms(), D.atoms()}, open);
}

float nth_largest(const float* values, std::int64_t count, std::int64_t n) {
  return cpu::kernels().nth_largest(values, count, n);
}

void group_bounds(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
                  std::int64_t place, const float* c, std::int64_t group_size, const std::int32_t* place_of,
                  float* upper, double* about, double* most) {
  const std::int64_t atoms = D.atoms();
  upper_magnitudes(c, bounds.rounding.data, R.norm(place), bounds.norm.data, R.rounding(place), atoms, upper);
  for (std::int64_t i = 0; i < R.tails(place); ++i)
    add_tail(bounds.tail.column(R.tail(place, i).level), R.tail(place, i).norm, atoms, upper);
  // A few units of float in each magnitude, and of double in the sum.
  constexpr double kRoom = 1 + 2e-6;
  for (std::int64_t g = 0, j = 0; j < atoms; ++g) {
    double sum = 0, bound = 0;
    for (const std::int64_t end = j + group_size; j < end; ++j) {
      const std::int32_t k = place_of[j];
      sum += static_cast<double>(c[k]) * static_cast<double>(c[k]);
      bound += static_cast<double>(upper[k]) * static_cast<double>(upper[k]);
    }
    about[g] = sum;
    most[g] = bound * kRoom;
  }
}

}  // namespace shrinkwarp
