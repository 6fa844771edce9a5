// Amplitudes without the l1 norm's bias: least squares on the atoms that a code uses.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// For the support S of a code, a = argmin ||x - D_S a||; of dependent atoms that of least norm. On the CPU, in float64.
class Debias {
 public:
  /// Bytes that it takes beside the dictionary, with codes of no more than 2 n atoms.
  static std::int64_t bytes(const Context& context, std::int64_t rows, std::int64_t atoms);
  /// The dictionary must outlive it; one on CUDA is copied.
  Debias(const Context& context, const Dictionary& dictionary);

  std::int64_t rows() const { return dictionary_.rows(); }
  /// Amplitudes in the pattern of `codes`.
  /// @param X  [n, N] observations, on the host, in the user's units  @param codes  of them
  /// Determinism  an amplitude depends on its own problem alone. Cost 2 n |S|^2 flops a problem. Allocates yes
  /// @throws ShapeError, ValueError (an amplitude leaves the range of float64: names the atom)
  std::vector<double> amplitudes(MatrixView<const double> X, const SparseCodes& codes) const;

 private:
  const Dictionary& dictionary_;
  Context host_;
  Tensor<double> copied_;  // [n, m] of a dictionary on CUDA
  MatrixView<const double> D_;
};

}  // namespace shrinkwarp
