// What the working-set solver makes of a dictionary on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// What the working-set solver reads on the CPU, beside the exact dictionary.
struct WorkingSetDictionary {
  /// @param D      [n, m] on the CPU, its columns padded with zeros to kAtomPadding: n <= ld; outlives this
  /// @param plain  without principal coordinates and clusters
  WorkingSetDictionary(const Context& context, MatrixView<const double> D, bool plain);
  /// For FlatReader, which lists all but exact_columns.
  explicit WorkingSetDictionary(MatrixView<const double> exact_columns) : exact_columns(exact_columns) {}

  /// A Gram matrix of a small dictionary stays in the second-level cache or little beyond it; a large one is read at random
  /// places from memory, which costs what computing an entry does.
  static constexpr std::int64_t kGramAtoms = 1024;
  /// A dictionary that stays in the first two levels of cache is read whole for each problem.
  static constexpr bool is_small(std::int64_t rows, std::int64_t atoms) {
    return atoms <= kGramAtoms && rows * atoms <= std::int64_t{1} << 16;
  }

  QuantizedDictionary quantized;       ///< empty where the dictionary is small; its atoms are in another order:
  std::vector<std::int32_t> order;     ///< [m] the atom at each of its places, see atoms_by_norm
  std::vector<std::int32_t> place_of;  ///< [m] the place of each atom
  MatrixView<const double>
      exact_columns;                  ///< D / scale [n padded with zeros to kAtomPadding, m], of the dictionary itself
  Tensor<float> columns;              ///< the same in float; empty where the dictionary is small
  std::vector<std::int32_t> cluster;  ///< [m], see similar_atoms
  Tensor<double> transposed;          ///< [m padded, n] D' in double where the dictionary is small, else empty
  /// [m padded, m] D'D of exact_columns where the dictionary is small, and has few atoms or the problems are many;
  /// else empty.
  Tensor<double> exact_gram;
  Tensor<float> gram;  ///< [m padded, m] D'D in float where that is small, else empty
  /// [m, m] of it; the padding is 0.
  MatrixView<const float> gram_matrix() const {
    return {gram.data(), gram.cols(), gram.cols(), gram.rows(), gram.matrix().device};
  }

  /// Its parts but exact_columns, which are another's, for runtime/flat.hpp.
  template <class Self, class Flat>
  static void list(Self& self, Flat& flat) {
    QuantizedDictionary::list(self.quantized, flat);
    flat.vector(self.order);
    flat.vector(self.place_of);
    flat.vector(self.cluster);
    flat.tensor(self.columns);
    flat.tensor(self.transposed);
    flat.tensor(self.exact_gram);
    flat.tensor(self.gram);
  }
};

}  // namespace shrinkwarp
