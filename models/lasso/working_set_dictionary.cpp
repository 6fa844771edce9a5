#include <shrinkwarp/models/lasso/working_set_dictionary.hpp>

#include <algorithm>
#include <numeric>

#include <shrinkwarp/kernels/active_set/active_set.hpp>
#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/columns_cpu.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/principal_basis/principal_basis.hpp>
#include <shrinkwarp/models/lasso/atom_order.hpp>
#include <shrinkwarp/models/lasso/clusters.hpp>

namespace shrinkwarp {
namespace {

Tensor<float> in_float(const Context& context, MatrixView<const double> D) {
  Tensor<float> columns(context, D.rows, D.cols);
  cpu::for_columns(context, D, [&](std::int64_t j) {
    std::transform(D.column(j), D.column(j) + D.rows, columns.matrix().column(j),
                   [](double value) { return static_cast<float>(value); });
  });
  return columns;
}

/// D', some rows of D at a time: what a thread writes are whole pages, or nearly; what is beyond m is 0.
Tensor<double> transposed_of(const Context& context, MatrixView<const double> D) {
  constexpr std::int64_t kRows = 8;  // whole cache lines of D
  Tensor<double> transposed(context, (D.cols + kAtomPadding - 1) / kAtomPadding * kAtomPadding, D.rows);
  const MatrixView<double> out = transposed.matrix();
  context.parallel_for((D.rows + kRows - 1) / kRows, [&](std::int64_t block, int) {
    const std::int64_t first = block * kRows, last = std::min(first + kRows, D.rows);
    for (std::int64_t j = 0; j < D.cols; ++j)
      for (std::int64_t i = first; i < last; ++i) out(j, i) = D(i, j);
    for (std::int64_t i = first; i < last; ++i) std::fill(out.column(i) + D.cols, out.column(i) + out.rows, 0.0);
  });
  return transposed;
}

/// C = op(A) B, so many columns at a time whatever the threads: the bits of a BLAS depend on how its work is shared.
template <class T>
void multiply_in_blocks(const Context& context, Transpose transpose, MatrixView<const T> A, MatrixView<const T> B,
                        MatrixView<T> C) {
  constexpr std::int64_t kColumns = 64;
  context.parallel_for((B.cols + kColumns - 1) / kColumns, [&](std::int64_t block, int) {
    const std::int64_t start = block * kColumns, count = std::min(kColumns, B.cols - start);
    gemm<T>(Context::cpu(1), transpose, Transpose::no, 1, A, B.columns(start, count), 0, C.columns(start, count));
  });
}

}  // namespace

WorkingSetDictionary::WorkingSetDictionary(const Context& context, MatrixView<const double> D, bool plain)
    : exact_columns{D.data, D.ld, D.cols, D.ld, D.device} {
  // Coordinates that tell the atoms by their first few pay for themselves where there are many, and not too many, rows.
  constexpr std::int64_t kFewestRows = 64, kMostRows = 2048;
  // A Gram matrix in double of so many atoms is worth making for some 100 problems; fresh pages are much of what it costs.
  constexpr std::int64_t kFewAtoms = 128;
  const bool small = is_small(D.rows, D.cols);
  if (!small) {
    Tensor<double> basis;
    if (!plain && D.rows >= kFewestRows && D.rows <= kMostRows && D.cols >= 2 * D.rows)
      basis = principal_basis(context, D);
    order = atoms_by_norm(exact_columns);
    place_of.resize(order.size());
    for (std::int32_t k = 0; k < static_cast<std::int32_t>(D.cols); ++k)
      place_of[static_cast<std::size_t>(order[static_cast<std::size_t>(k)])] = k;
    quantized = QuantizedDictionary(context, D, basis.matrix(), order);
    columns = in_float(context, exact_columns);
  }
  if (small || plain) {
    cluster.resize(static_cast<std::size_t>(D.cols));
    std::iota(cluster.begin(), cluster.end(), 0);
  } else {
    cluster = similar_atoms(quantized, exact_columns, place_of);
  }
  if (small) transposed = transposed_of(context, D);
  if (small && (!plain || D.cols <= kFewAtoms)) {
    exact_gram = Tensor<double>(context, transposed.rows(), D.cols);  // what is beyond m becomes 0
    multiply_in_blocks<double>(context, Transpose::no, transposed.matrix(), D, exact_gram.matrix());
  }
  if (small || (!plain && D.cols <= kGramAtoms)) {
    constexpr std::int64_t kLines = ActiveSet<float>::kPadding;
    gram = Tensor<float>(context, (D.cols + kLines - 1) / kLines * kLines, D.cols);
    const MatrixView<float> square{gram.data(), D.cols, D.cols, gram.rows(), {}};
    if (exact_gram.size() > 0) {
      cpu::for_columns(context, square, [&](std::int64_t j) {
        std::transform(exact_gram.matrix().column(j), exact_gram.matrix().column(j) + D.cols, square.column(j),
                       [](double value) { return static_cast<float>(value); });
      });
    } else {
      const Tensor<float> own = small ? in_float(context, exact_columns) : Tensor<float>();
      const MatrixView<const float> D_float = small ? own.matrix() : columns.matrix();
      multiply_in_blocks<float>(context, Transpose::yes, D_float, D_float, square);
    }
    for (std::int64_t j = 0; j < D.cols; ++j)
      std::fill(square.column(j) + D.cols, square.column(j) + gram.rows(), 0.0F);
  }
}

}  // namespace shrinkwarp
