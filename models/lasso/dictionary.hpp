// The dictionary on a device, prepared once for any number of solves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>
#include <shrinkwarp/models/lasso/working_set_dictionary.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

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
  /// Bytes that it takes as one block, with all that has been made of it so far. On the CPU.
  std::int64_t flat_bytes() const;
  /// Writes that block, for other processes of this program on this machine. No other thread uses the dictionary meanwhile.
  /// @param memory  [flat_bytes()] on the CPU, aligned to 256 bytes  @throws DeviceError (the dictionary is on CUDA)
  void write_flat(VectorView<std::byte> memory) const;
  /// The dictionary of such a block, where it lies: what had been made of it is not made again, the rest at its first use.
  /// @param memory  as it was written, at any address that is a multiple of 256; only read
  /// @param owner   of the memory, which the dictionary keeps alive
  /// @throws Error (it was written for another instruction set)
  static Dictionary from_flat(VectorView<std::byte> memory, const std::shared_ptr<const void>& owner);
  /// [n, m] D as it was given, on the host. Cost: a copy of D. Allocates yes, synchronises. @throws OutOfMemory
  Tensor<double> in_user_units(const Context& context) const;

 private:
  Dictionary() = default;
  template <class Self, class Flat>
  static void list(Self& self, Flat& flat);

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
