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
  // Products with all of it are made on one thread: the bits of a BLAS depend on how it shares its work.
  const Context one = Context::cpu(1);
  if (small) {
    transposed = Tensor<double>::zeros(context, (D.cols + kAtomPadding - 1) / kAtomPadding * kAtomPadding, D.rows);
    for (std::int64_t i = 0; i < D.rows; ++i)
      for (std::int64_t j = 0; j < D.cols; ++j) transposed.matrix()(j, i) = D(i, j);
  }
  if (small && (!plain || D.cols <= kFewAtoms)) {
    exact_gram = Tensor<double>(context, transposed.rows(), D.cols);  // what is beyond m becomes 0
    gemm<double>(one, Transpose::no, Transpose::no, 1, transposed.matrix(), D, 0, exact_gram.matrix());
  }
  if (small || (!plain && D.cols <= kGramAtoms)) {
    constexpr std::int64_t kLines = ActiveSet<float>::kPadding;
    gram = Tensor<float>::zeros(context, (D.cols + kLines - 1) / kLines * kLines, D.cols);
    if (exact_gram.size() > 0) {
      for (std::int64_t j = 0; j < D.cols; ++j)
        std::transform(exact_gram.matrix().column(j), exact_gram.matrix().column(j) + D.cols, gram.matrix().column(j),
                       [](double value) { return static_cast<float>(value); });
    } else {
      const Tensor<float> own = small ? in_float(context, exact_columns) : Tensor<float>();
      const MatrixView<const float> D_float = small ? own.matrix() : columns.matrix();
      gemm<float>(one, Transpose::yes, Transpose::no, 1, D_float, D_float, 0,
                  {gram.data(), D.cols, D.cols, gram.rows(), {}});
    }
  }
}

}  // namespace shrinkwarp
