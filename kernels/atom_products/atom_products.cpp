#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

#include <shrinkwarp/kernels/common/highway_targets.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/atom_products/atom_products_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/atom_products/atom_products_cpu_simd.hpp>

namespace shrinkwarp {
namespace cpu {
namespace {
HWY_EXPORT(LoopsOfAtomProducts);

/// Those for this processor. A table of them: the pointer to an exported function would be that of Highway's chooser, which
/// asks the processor at each call, where nothing of Highway's has run before.
const AtomProductLoops& loops() {
  static const AtomProductLoops chosen = HWY_DYNAMIC_DISPATCH(LoopsOfAtomProducts)();
  return chosen;
}

}  // namespace
}  // namespace cpu

void subtract_atoms(MatrixView<const double> D, const std::int32_t* atoms, const double* values, std::int64_t count,
                    const double* x, double* r) {
  cpu::loops().subtract(D, atoms, values, count, x, r);
}

void correlate_atoms(MatrixView<const double> D, const std::int32_t* atoms, std::int64_t count, const double* r,
                     double* result) {
  cpu::loops().correlate(D, atoms, count, r, result);
}

void correlate_atoms(MatrixView<const float> D, const std::int32_t* atoms, std::int64_t count, const float* r,
                     float* result) {
  cpu::loops().correlate_float(D, atoms, count, r, result);
}

void correlate_all(MatrixView<const double> transposed, const double* r, double* result) {
  cpu::loops().all(transposed, r, result);
}

void correlate_all(MatrixView<const double> transposed, const double* const* r, std::int64_t count,
                   MatrixView<double> result) {
  std::int64_t k = 0;
  for (; k + cpu::kTogether <= count; k += cpu::kTogether)
    cpu::loops().all_of_four(transposed, r + k, result.columns(k, cpu::kTogether));
  for (; k < count; ++k) cpu::loops().all(transposed, r[k], result.column(k));
}

double dot(const double* x, const double* y, std::int64_t n) {
  return cpu::loops().dot(x, y, n);
}

double largest_magnitude(const double* x, std::int64_t size) {
  return cpu::loops().largest_magnitude(x, size);
}

}  // namespace shrinkwarp
