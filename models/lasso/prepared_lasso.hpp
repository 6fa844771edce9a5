// Lasso problems that lie on a device, solved where they lie by a solver that was prepared for them: for programs that
// embed the library. Files and streams of any length are solve_lasso's (lasso.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Per-problem results on the host, as in LassoBatch; they belong to the solver and last until its next call.
struct PreparedResults {
  VectorView<const double> lambda;
  VectorView<const double> objective;  ///< 1/2 ||x - D z||^2 + the penalty
  VectorView<const double> dual_gap;   ///< absolute
  VectorView<const std::int64_t> iterations;
  VectorView<const std::uint8_t> converged;  ///< dual_gap <= gap * 1/2 ||x||^2
  std::int64_t unconverged = 0;
  double worst_gap = 0;  ///< largest relative gap
};

/// A solver for up to `problems` observations at a time. All its memory is made, or taken from the caller, when it is
/// made; solving allocates nothing on the device, and on the host only what CUDA takes to record a block of iterations.
/// Move-only; for one host thread at a time. Context and dictionary must outlive it, and stay where they are.
///
/// It iterates as solve_lasso with ista or fista does and gives the same bits: in float on differences to float64 anchors, in double where
/// float cannot reach the gap, each problem until its own certificate. On CUDA it works on the context's stream, waits
/// for it once every 25 iterations, and launches blocks of iterations as recorded graphs where the stream can be
/// recorded (Graph::can_record).
class PreparedLasso {
 public:
  /// Bytes on the device that a solver for `problems` problems works in. Not counted are the dictionary's double form,
  /// dictionary.rows() * dictionary.atoms() * 16 bytes, which this call makes if it is not there yet (allocates,
  /// synchronises), and on the host 20 dictionary.rows() + 250 bytes a problem and the CPU threads' scratch.
  /// @param group_size  of the penalty
  /// @throws ValueError (problems < 1 or more than 2^31 - 1; group_size < 1), DeviceError, OutOfMemory, CudaError
  static std::int64_t workspace(const Context& context, const Dictionary& dictionary, std::int64_t problems,
                                std::int64_t group_size = 1);

  /// @param options   solver ista, or fista, which automatic stands for; initial must be nullptr and skip empty; no weight
  ///                  of the penalty may be 0; memory_limit is not looked at. The progress callback and the cancel token
  ///                  are asked between blocks of iterations
  /// @param memory    workspace() bytes on the context's device, aligned to 256 bytes, that outlive the solver; empty
  ///                  has it allocate them
  /// @throws ValueError, ShapeError (too little memory), DeviceError (the dictionary or the memory lies elsewhere),
  ///         OutOfMemory
  PreparedLasso(const Context& context, const Dictionary& dictionary, const LassoOptions& options,
                std::int64_t problems, VectorView<std::byte> memory = {});
  PreparedLasso(PreparedLasso&&) noexcept;
  PreparedLasso& operator=(PreparedLasso&&) noexcept;
  ~PreparedLasso();

  std::int64_t problems() const;

  /// Solves the Lasso for every column of X.
  ///
  /// @param X     [n, N] of float or double, N <= problems(), on the context's device; read only
  /// @param rule  a value, one for each problem, or a fraction of each problem's lambda_max; > 0, no fraction of a
  ///              recording's and no point of the path
  /// @param Z     [m, N], on the context's device, written: the codes, dense. Must not overlap X
  ///
  /// Work that the caller queued on the stream before is seen; Z is complete when the call returns.
  /// @throws ShapeError, DeviceError, ValueError (NaN or infinity in X: names the problem and the entry; a bad lambda; a
  ///         result that leaves the range of float64), Cancelled (Z is complete, with the codes of the problems that had
  ///         finished and 0 elsewhere), CudaError. After any other error Z holds nothing of use
  template <class T>
  const PreparedResults& solve(MatrixView<const T> X, const LambdaRule& rule, MatrixView<double> Z);
  template <class T>
  const PreparedResults& solve(MatrixView<T> X, const LambdaRule& rule, MatrixView<double> Z) {
    return solve(MatrixView<const T>(X), rule, Z);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shrinkwarp
