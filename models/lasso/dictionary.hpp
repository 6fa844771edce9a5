// The dictionary on a device, prepared once for any number of solves.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// What the working-set solver reads on the CPU, beside the exact dictionary.
struct WorkingSetDictionary {
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
};

/// What the working-set solver reads on CUDA, beside the exact dictionary.
struct DeviceWorkingSetDictionary {
  static constexpr std::int64_t kMostGramAtoms = 8192;

  HalfColumns half;     ///< D / scale
  Tensor<double> gram;  ///< [m, m] D'D of the exact dictionary while m <= kMostGramAtoms, else empty
};

/// D [n, m] in float64, and what solvers make of it at its first use: packed for iterations, quantised for passes, the
/// Lipschitz bound of the gradient. What lies on the device is D / scale(), a power of two that brings ||D||_F to [1, 2):
/// float then keeps its range in any units. Move-only; belongs to the device of the context that made it. Several threads may
/// use it at once, each with a context of its own.
class Dictionary {
 public:
  /// @param D     [n, m] on the host; columns are atoms; zero columns are legal
  /// @param name  begins the message of an error: a file, say
  /// Cost: a copy of D, on CUDA two. Synchronises.
  /// @throws ShapeError (no rows or no atoms), ValueError (NaN or infinity: names the entry), OutOfMemory, CudaError
  Dictionary(const Context& context, MatrixView<const double> D, const std::string& name = "dictionary");

  std::int64_t rows() const { return exact_.rows(); }   ///< n, the length of an observation
  std::int64_t atoms() const { return exact_.cols(); }  ///< m
  double scale() const { return scale_; }               ///< a power of two
  /// Largest ||d_j|| of D / scale, rounded up.
  double atom_norm() const { return atom_norm_; }
  /// Upper bound of ||D / scale||_2^2, 0 for an all-zero D; found at its first use, on one thread.
  double lipschitz(const Context& context) const;
  /// D / scale in float64, for certificates.
  const CertificateDictionary& exact() const { return exact_; }
  /// D packed for iterations in T.
  template <class T>
  const StepDictionary<T>& packed(const Context& context) const;
  /// What the working-set solver reads on the CPU. @param plain  without principal coordinates and clusters
  const WorkingSetDictionary& working_set(const Context& context, bool plain) const;
  /// The same on CUDA.
  const DeviceWorkingSetDictionary& device_working_set(const Context& context) const;
  Device device() const { return exact_.device(); }
  /// [n, m] D as it was given, on the host. Cost: a copy of D. Allocates yes, synchronises. @throws OutOfMemory
  Tensor<double> in_user_units(const Context& context) const;

 private:
  CertificateDictionary exact_;
  // Guarded by the lock until they are made, read only from then on.
  mutable StepDictionary<float> packed_float_;
  mutable StepDictionary<double> packed_double_;
  mutable double lipschitz_ = -1;
  mutable std::unique_ptr<const WorkingSetDictionary> working_set_, plain_working_set_;
  mutable std::unique_ptr<const DeviceWorkingSetDictionary> device_working_set_;
  std::unique_ptr<std::mutex> packing_ = std::make_unique<std::mutex>();
  double scale_ = 1;
  double atom_norm_ = 0;
};

}  // namespace shrinkwarp
