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

// A bound in float from one in double that is right to some units.
float rounded_up(double bound) {
  const double roomy = std::min<double>(bound * (1 + 1e-6), std::numeric_limits<float>::max());
  const auto rounded = static_cast<float>(roomy);
  return static_cast<double>(rounded) < roomy ? std::nextafterf(rounded, std::numeric_limits<float>::max()) : rounded;
}

struct Quantized {
  double inverse_scale = 0;  // what a unit stands for: a float
  double norm = 0;           // of the vector
  double rounding = 0;       // norm of what was rounded away
  double quantized_norm = 0;
};

// The scale that the norm and the largest entry leave room for. Written by put(i, integer).
template <class Put>
Quantized quantize(const double* v, std::int64_t size, double norm_limit, Put put) {
  Quantized result;
  double largest = 0, energy = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    largest = std::max(largest, std::fabs(v[i]));
    energy += v[i] * v[i];
  }
  result.norm = std::sqrt(energy);
  // Rounding lengthens a vector by sqrt(n) / 2 at most; a unit under float's range would not come back from it.
  const double room = norm_limit - 0.5 * std::sqrt(static_cast<double>(size)) - 1;
  const float unit = static_cast<float>(std::max(result.norm / room, largest / kLargest) * (1 + 1e-6));
  if (!(unit >= std::numeric_limits<float>::min())) {
    for (std::int64_t i = 0; i < size; ++i) put(i, 0);
    result.rounding = result.norm;
    return result;
  }
  result.inverse_scale = unit;
  double rounded_energy = 0, lost = 0;
  const double scale = 1 / static_cast<double>(unit);
  for (std::int64_t i = 0; i < size; ++i) {
    const double q = std::nearbyint(v[i] * scale);
    put(i, static_cast<std::int32_t>(q));
    rounded_energy += q * q;
    const double difference = v[i] - q * unit;
    lost += difference * difference;
  }
  result.quantized_norm = std::sqrt(rounded_energy) * unit;
  result.rounding = std::sqrt(lost);
  return result;
}

// Puts a 16-bit integer in the lower or the upper half of a pair.
void put_half(std::int32_t& pair, std::int64_t i, std::int32_t value) {
  const auto bits = static_cast<std::uint32_t>(value) & 0xffffU;
  const auto old = static_cast<std::uint32_t>(pair);
  pair = static_cast<std::int32_t>(i % 2 == 0 ? (old & 0xffff0000U) | bits : (old & 0xffffU) | (bits << 16));
}

// |c_j| + bound_j
SHRINKWARP_CPU_CLONES void upper_magnitudes(const float* c, const float* rounding, float residual_norm,
                                            const float* norm, float residual_rounding, const float* tail,
                                            float residual_tail, std::int64_t atoms, float* upper) {
  for (std::int64_t j = 0; j < atoms; ++j)
    upper[j] = std::fabs(c[j]) + rounding[j] * residual_norm + norm[j] * residual_rounding + tail[j] * residual_tail;
}

}  // namespace

std::int64_t QuantizedDictionary::most_bytes(std::int64_t rows, std::int64_t atoms) {
  const std::int64_t levels = (rows + kLevelRows - 1) / kLevelRows;
  return (atoms + 15) / 16 * 16 * 4 * ((rows + 1) / 2 + 3 + levels) + 4 * (rows + kAtomPadding) * rows + 8 * levels;
}

QuantizedDictionary::QuantizedDictionary(const Context& context, MatrixView<const double> D,
                                         MatrixView<const double> basis)
    : rows_(D.rows), atoms_(D.cols) {
  check_matrix(context, "QuantizedDictionary", "D", D, D.rows, D.cols);
  if (!basis.empty()) check_matrix(context, "QuantizedDictionary", "basis", basis, D.rows, D.rows);
  SHRINKWARP_REQUIRE(!context.is_cuda(), DeviceError, "QuantizedDictionary: the context is on ", context.device(),
                     ", wanted the cpu");
  SHRINKWARP_REQUIRE(D.rows < std::int64_t{1} << 28, ShapeError, "QuantizedDictionary: D has ", D.rows,
                     " rows, wanted less than 2^28");
  SHRINKWARP_REQUIRE(D.cols < std::int64_t{1} << 31, ShapeError, "QuantizedDictionary: D has ", D.cols,
                     " atoms, wanted less than 2^31");
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
    Tensor<double> rotated;
    if (!basis.empty()) {
      rotated = Tensor<double>(one, rows_, count);
      gemm<double>(one, Transpose::yes, Transpose::no, 1, basis, atoms, 0, rotated.matrix());
      atoms = rotated.matrix();
    }
    for (std::int64_t b = 0; b < count; ++b) {
      const std::int64_t j = start + b;
      const std::int64_t first = j / panel_atoms_ * panel_atoms_;
      const std::int64_t height = std::min(panel_atoms_, padded_atoms_ - first);
      std::int32_t* const panel = packed_.data() + first * pairs + (j - first);
      const double* const d = atoms.column(b);
      const Quantized atom = quantize(
          d, rows_, kAtomNorm, [&](std::int64_t i, std::int32_t value) { put_half(panel[i / 2 * height], i, value); });
      factor_.data()[j] = static_cast<float>(atom.inverse_scale);
      norm_.data()[j] = rounded_up(atom.quantized_norm);
      // c is a sum rounded to float and multiplied twice, the basis is orthonormal to some units of double: together some
      // units of float, each of at most the product of the norms.
      rounding_.data()[j] = rounded_up(atom.rounding + 4e-7 * atom.quantized_norm);
      double energy = 0;
      for (std::int64_t level = levels - 2, i = rows_; level >= 0; --level) {
        for (; i > level_rows(level); --i) energy += d[i - 1] * d[i - 1];
        tail_.matrix()(j, level) = rounded_up(std::sqrt(energy) + 1e-14 * atom.norm);
      }
    }
  });
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
  const std::int64_t rounded = cpu::round_up(places, group_);
  packed_ = Tensor<std::int32_t>::zeros(context, rounded * ((D.rows() + 1) / 2));
  for (Tensor<float>* vector : {&inverse_scale_, &norm_, &rounding_, &tail_})
    *vector = Tensor<float>::zeros(context, rounded);
  level_ = Tensor<std::int64_t>::zeros(context, rounded);
  float_ = Tensor<float>::zeros(context, cpu::round_up(D.rows(), kAtomPadding));
  rotated_ = Tensor<float>::zeros(context, cpu::round_up(D.rows(), kAtomPadding));
  scratch_ = Tensor<float>::zeros(context, cpu::round_up(D.rows(), kAtomPadding));
}

void QuantizedResiduals::set(const QuantizedDictionary& D, std::int64_t place, std::int64_t level, const double* r) {
  SHRINKWARP_REQUIRE(place >= 0 && place < places(), ShapeError, "QuantizedResiduals: place is ", place,
                     ", wanted 0 to ", places() - 1);
  const std::int64_t n = D.rows();
  const std::int64_t pairs = (n + 1) / 2;
  std::int32_t* const column = packed_.data() + place / group_ * group_ * pairs + place % group_;
  const bool rotate = !D.basis().empty();
  const std::int64_t rows = D.level_rows(level);
  const double norm = std::sqrt(dot(r, r, cpu::round_up(n, kAtomPadding)));
  // In units in which the norm is from 1 to 2: squares of float reach from 1e-38 to 1e38 only.
  const int exponent = norm > 0 ? std::ilogb(norm) : 0;
  const double down = std::ldexp(1.0, -exponent);
  for (std::int64_t i = 0; i < n; ++i) float_.data()[i] = static_cast<float>(r[i] * down);
  if (rotate) {
    cpu::kernels().rotate(D.basis(), rows, float_.data(), rotated_.data());
    std::fill_n(rotated_.data() + rows, cpu::round_up(rows, kAtomPadding) - rows, 0.0F);
  }
  const cpu::QuantizedVector residual = cpu::kernels().quantize(
      {rotate ? rotated_.data() : float_.data(), rows, kResidualNorm, kLargest, scratch_.data(), column, group_});
  // The chains of the rotation, its arguments' rounding to float, and the same again for good measure.
  constexpr double kUnit = 6e-8;
  const double moved =
      rotate ? kUnit * (static_cast<double>(n) / 16 + 10) * std::sqrt(static_cast<double>(rows)) * norm : kUnit * norm;
  // ||tail||^2 = ||r||^2 - ||head||^2; the head is known to `moved`, its norm to the rounding of a sum in float.
  const double head =
      std::max(0.0, std::ldexp(residual.norm, exponent) * (1 - kUnit * (static_cast<double>(n) / 8 + 8)) - moved);
  const double tail = rows == n ? 0 : std::sqrt(std::max(0.0, norm * norm * (1 + 1e-12) - head * head));
  // A unit under float's range would not come back from it: all is rounded away then.
  const double unit = std::ldexp(static_cast<double>(residual.unit), exponent);
  const bool kept = unit >= static_cast<double>(std::numeric_limits<float>::min());
  level_.data()[place] = level;
  inverse_scale_.data()[place] = kept ? static_cast<float>(unit) : 0.0F;
  norm_.data()[place] = rounded_up(norm);
  rounding_.data()[place] = rounded_up(kept ? std::ldexp(residual.rounding, exponent) + moved : norm);
  tail_.data()[place] = rounded_up(tail);
}

void bounded_correlation(const Context& context, const QuantizedDictionary& D, const AtomBounds& bounds,
                         const QuantizedResiduals& R, std::int64_t count, MatrixView<float> C,
                         MatrixView<float> highest) {
  SHRINKWARP_REQUIRE(count >= 0 && count <= R.places(), ShapeError, "bounded_correlation: count is ", count,
                     ", wanted 0 to ", R.places(), " places");
  check_matrix(context, "bounded_correlation", "C", C, D.padded_atoms(), count);
  check_matrix(context, "bounded_correlation", "highest", highest, D.panels(), count);
  if (count == 0) return;
  cpu::kernels().run({&D, bounds, &R, C, highest});
}

std::int64_t open_atoms(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
                        std::int64_t place, const float* c, const float* highest, double threshold,
                        std::int32_t* open) {
  float limit = static_cast<float>(threshold);
  if (static_cast<double>(limit) > threshold) limit = std::nextafterf(limit, 0);
  const std::int64_t height = D.panel_atoms();
  std::int64_t count = 0;
  for (std::int64_t panel = 0; panel < D.panels(); ++panel) {
    if (!(highest[panel] > limit)) continue;
    const std::int64_t first = panel * height;
    count += cpu::kernels().open({bounds, c, bounds.tail.column(R.level(place)), R.norm(place), R.rounding(place),
                                  R.tail(place), limit, first, std::min(first + height, D.padded_atoms())},
                                 open + count);
  }
  return count;
}

void group_bounds(const QuantizedDictionary& D, const AtomBounds& bounds, const QuantizedResiduals& R,
                  std::int64_t place, const float* c, std::int64_t group_size, float* upper, double* about,
                  double* most) {
  const std::int64_t atoms = D.atoms();
  upper_magnitudes(c, bounds.rounding.data, R.norm(place), bounds.norm.data, R.rounding(place),
                   bounds.tail.column(R.level(place)), R.tail(place), atoms, upper);
  // A few units of float in each magnitude, and of double in the sum.
  constexpr double kRoom = 1 + 2e-6;
  for (std::int64_t g = 0, j = 0; j < atoms; ++g) {
    double sum = 0, bound = 0;
    for (const std::int64_t end = j + group_size; j < end; ++j) {
      sum += static_cast<double>(c[j]) * static_cast<double>(c[j]);
      bound += static_cast<double>(upper[j]) * static_cast<double>(upper[j]);
    }
    about[g] = sum;
    most[g] = bound * kRoom;
  }
}

}  // namespace shrinkwarp
