#include <shrinkwarp/models/lasso/dictionary.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/kernels/lipschitz/lipschitz.hpp>
#include <shrinkwarp/kernels/principal_basis/principal_basis.hpp>
#include <shrinkwarp/models/lasso/clusters.hpp>

namespace shrinkwarp {
namespace {

/// Largest magnitude. @throws ValueError (an entry is not finite)
double check_entries(MatrixView<const double> D, const std::string& name) {
  double largest = 0;
  for (std::int64_t j = 0; j < D.cols; ++j) {
    for (std::int64_t i = 0; i < D.rows; ++i) {
      const double value = D(i, j);
      SHRINKWARP_REQUIRE(std::isfinite(value), ValueError, name, ": entry (", i, ", ", j, ") is ", value,
                         ", wanted a finite number");
      largest = std::max(largest, std::fabs(value));
    }
  }
  return largest;
}

/// A matrix of the host on the context's device: `copied` on CUDA, itself on the CPU.
template <class T>
MatrixView<const T> on_device(const Context& context, const Tensor<T>& matrix, Tensor<T>& copied) {
  if (!context.is_cuda()) return matrix.matrix();
  if (copied.size() == 0) copied = Tensor<T>(context, matrix.rows(), matrix.cols());
  copy(context, matrix.matrix(), copied.matrix());
  return copied.matrix();
}

}  // namespace

Dictionary::Dictionary(const Context& context, MatrixView<const double> D, const std::string& name) {
  SHRINKWARP_REQUIRE(D.rows > 0 && D.cols > 0, ShapeError, name, ": found a dictionary of ", D.rows, " x ", D.cols,
                     ", wanted at least one row and one atom");
  SHRINKWARP_REQUIRE(D.cols <= std::numeric_limits<std::int32_t>::max(), ShapeError, name, ": found ", D.cols,
                     " atoms, wanted at most 2147483647");
  const double largest = check_entries(D, name);

  // First to entries of at most 1, so that their squares keep in range; then, with L known, to a norm of 1 to 2.
  const Context host = Context::cpu(context.is_cuda() ? 0 : context.threads());
  Tensor<double> scaled(host, D.rows, D.cols);
  scale_ = largest > 0 ? std::exp2(std::ilogb(largest)) : 1;
  const auto scale_from = [&](MatrixView<const double> from, double divisor) {
    const MatrixView<double> to = scaled.matrix();
    host.parallel_for(D.cols, [&](std::int64_t j, int) {
      std::transform(from.column(j), from.column(j) + D.rows, to.column(j), [&](double v) { return v / divisor; });
    });
  };
  scale_from(D, scale_);
  Tensor<double> copied;
  // On one thread of the CPU: the bits of a BLAS depend on how it shares its work, and the step's must not.
  const Context one = Context::cpu(1);
  lipschitz_ = lipschitz_bound(context.is_cuda() ? context : one, on_device(context, scaled, copied));
  if (lipschitz_ > 0) {
    const double norm = std::exp2(std::ilogb(std::sqrt(lipschitz_)));
    scale_from(scaled.matrix(), norm);
    scale_ *= norm;
    SHRINKWARP_REQUIRE(std::isfinite(scale_), ValueError, name,
                       ": the norm of the dictionary leaves the range of float64, wanted smaller units");
    lipschitz_ /= norm * norm;
  }
  exact_ = CertificateDictionary(context, on_device(context, scaled, copied));
  Tensor<float> rounded(host, D.rows, D.cols);
  Tensor<float> rounded_copied;
  std::transform(scaled.data(), scaled.data() + scaled.size(), rounded.data(),
                 [](double value) { return static_cast<float>(value); });
  packed_float_ = StepDictionary<float>(context, on_device(context, rounded, rounded_copied));
  context.synchronize();  // the copies read host memory that ends here
}

template <>
const StepDictionary<float>& Dictionary::packed<float>(const Context&) const {
  return packed_float_;
}

template <>
const StepDictionary<double>& Dictionary::packed<double>(const Context& context) const {
  const std::lock_guard lock(*packing_);
  if (packed_double_.cols() == 0) {
    packed_double_ = StepDictionary<double>(context, exact_.matrix());
    context.synchronize();  // another thread may use it on another stream
  }
  return packed_double_;
}

const WorkingSetDictionary& Dictionary::working_set(const Context& context) const {
  // A Gram matrix of a small dictionary stays in the second-level cache or little beyond it; a large one is read at
  // random places from memory, which costs what computing an entry does.
  constexpr std::int64_t kGramAtoms = 1024;
  const std::lock_guard lock(*packing_);
  if (working_set_) return *working_set_;
  auto made = std::make_unique<WorkingSetDictionary>();
  const MatrixView<const double> D = exact_.matrix();
  // Coordinates that tell the atoms by their first few pay for themselves where there are many, and not too many, rows.
  constexpr std::int64_t kFewestRows = 64, kMostRows = 2048;
  Tensor<double> basis;
  if (D.rows >= kFewestRows && D.rows <= kMostRows && D.cols >= 2 * D.rows) basis = principal_basis(context, D);
  made->quantized = QuantizedDictionary(context, D, basis.matrix());
  const std::int64_t padded = (D.rows + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
  made->columns = Tensor<float>::zeros(context, padded, D.cols);
  made->exact_columns = Tensor<double>::zeros(context, padded, D.cols);
  context.parallel_for(D.cols, [&](std::int64_t j, int) {
    std::copy_n(D.column(j), D.rows, made->exact_columns.matrix().column(j));
    std::transform(D.column(j), D.column(j) + D.rows, made->columns.matrix().column(j),
                   [](double value) { return static_cast<float>(value); });
  });
  made->cluster = similar_atoms(made->columns.matrix());
  // A dictionary that stays in the first two levels of cache is read whole for each problem.
  constexpr std::int64_t kSmall = std::int64_t{1} << 16;
  if (D.cols <= kGramAtoms && D.rows * D.cols <= kSmall) {
    made->transposed =
        Tensor<double>::zeros(context, (D.cols + kAtomPadding - 1) / kAtomPadding * kAtomPadding, D.rows);
    for (std::int64_t i = 0; i < D.rows; ++i)
      for (std::int64_t j = 0; j < D.cols; ++j) made->transposed.matrix()(j, i) = D(i, j);
  }
  if (D.cols <= kGramAtoms) {
    made->gram = Tensor<float>(context, D.cols, D.cols);
    // On one thread: the bits of a BLAS depend on how it shares its work.
    gemm<float>(Context::cpu(1), Transpose::yes, Transpose::no, 1, made->columns.matrix(), made->columns.matrix(), 0,
                made->gram.matrix());
  }
  working_set_ = std::move(made);
  return *working_set_;
}

const DeviceWorkingSetDictionary& Dictionary::device_working_set(const Context& context) const {
  const std::lock_guard lock(*packing_);
  if (device_working_set_) return *device_working_set_;
  auto made = std::make_unique<DeviceWorkingSetDictionary>();
  const MatrixView<const double> D = exact_.matrix();
  std::vector<std::int32_t> all(static_cast<std::size_t>(D.cols));
  std::iota(all.begin(), all.end(), 0);
  const VectorView<const std::int32_t> host{all.data(), D.cols, {}};
  Tensor<std::int32_t> columns(context, D.cols);
  copy(context, host, columns.vector());
  made->half = HalfColumns(context, D.rows, D.cols);
  made->half.set(context, D, columns.vector());
  if (D.cols <= DeviceWorkingSetDictionary::kMostGramAtoms) {
    made->gram = Tensor<double>(context, D.cols, D.cols);
    gram_matrix(context, D, made->gram.matrix());
  }
  context.synchronize();  // another thread may use it on another stream
  device_working_set_ = std::move(made);
  return *device_working_set_;
}

}  // namespace shrinkwarp
