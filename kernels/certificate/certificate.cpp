#include <shrinkwarp/kernels/certificate/certificate.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {

#define SHRINKWARP_DECLARE_CERTIFICATE                                                                              \
  template <class T>                                                                                                \
  void refresh_anchor(const Context& context, MatrixView<T> anchor, MatrixView<T> current, MatrixView<T> previous); \
  template <class T>                                                                                                \
  void code_residual(const Context& context, const CertificateDictionary& D, MatrixView<const T> anchor,            \
                     MatrixView<const double> X, MatrixView<double> R, MatrixView<T> rounded);                      \
  std::int64_t correlation_scratch(const Context& context, std::int64_t atoms, std::int64_t problems,               \
                                   std::int64_t group_size);                                                        \
  template <class T>                                                                                                \
  void group_correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,    \
                             MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,     \
                             VectorView<double> scratch);                                                           \
  void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,          \
                       VectorView<double> result, VectorView<double> scratch);                                      \
  template <class T>                                                                                                \
  void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,          \
                       MatrixView<const T> codes, PenaltyView<double> penalty, VectorView<double> result,           \
                       VectorView<double> scratch);                                                                 \
  template <class T>                                                                                                \
  void dual_gap(const Context& context, MatrixView<const double> X, MatrixView<const double> R,                     \
                VectorView<const double> correlation, MatrixView<const T> codes, double atom_norm,                  \
                VectorView<const double> lambda, VectorView<double> primal, VectorView<double> gap,                 \
                PenaltyView<double> penalty);
namespace cpu {
SHRINKWARP_DECLARE_CERTIFICATE
}
namespace cuda {
SHRINKWARP_DECLARE_CERTIFICATE
}
#undef SHRINKWARP_DECLARE_CERTIFICATE

namespace cpu {
/// Elements of the packed panels of D'.
std::int64_t correlation_panels(std::int64_t rows, std::int64_t cols);
void pack_correlation(const Context& context, MatrixView<const double> D, double* panels);
}  // namespace cpu

CertificateDictionary::CertificateDictionary(const Context& context, MatrixView<const double> D) {
  check_matrix(context, "CertificateDictionary", "D", D, D.rows, D.cols);
  rows_ = D.rows;
  matrix_ = Tensor<double>(context, D.rows, D.cols);
  copy(context, D, matrix_.matrix());
}

const double* CertificateDictionary::panels(const Context& context) const {
  if (context.is_cuda()) return nullptr;
  std::call_once(*packed_, [&] {
    Tensor<double> panels(context, cpu::correlation_panels(rows(), cols()));
    cpu::pack_correlation(context, matrix(), panels.data());
    panels_ = std::move(panels);
  });
  return panels_.data();
}

template <class T>
void refresh_anchor(const Context& context, MatrixView<T> anchor, MatrixView<T> current, MatrixView<T> previous) {
  check_matrix(context, "refresh_anchor", "anchor", anchor, anchor.rows, anchor.cols);
  check_matrix(context, "refresh_anchor", "current", current, anchor.rows, anchor.cols);
  check_matrix(context, "refresh_anchor", "previous", previous, anchor.rows, anchor.cols);
  if (anchor.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::refresh_anchor<T>(context, anchor, current, previous);
  }
  cpu::refresh_anchor<T>(context, anchor, current, previous);
}

template <class T>
void code_residual(const Context& context, const CertificateDictionary& D, identity_t<MatrixView<const T>> anchor,
                   MatrixView<const double> X, MatrixView<double> R, MatrixView<T> rounded) {
  check_matrix(context, "code_residual", "D", D.matrix(), R.rows, anchor.rows);
  check_matrix(context, "code_residual", "anchor", anchor, D.cols(), R.cols);
  check_matrix(context, "code_residual", "X", X, R.rows, R.cols);
  check_matrix(context, "code_residual", "R", R, R.rows, R.cols);
  if (!rounded.empty()) check_matrix(context, "code_residual", "rounded", rounded, R.rows, R.cols);
  if (R.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::code_residual<T>(context, D, anchor, X, R, rounded);
  }
  cpu::code_residual<T>(context, D, anchor, X, R, rounded);
}

std::int64_t correlation_scratch(const Context& context, std::int64_t atoms, std::int64_t problems,
                                 std::int64_t group_size) {
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::correlation_scratch(context, atoms, problems, group_size);
  }
  return cpu::correlation_scratch(context, atoms, problems, group_size);
}

namespace {

void check_correlation(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                       VectorView<double> result, VectorView<double> scratch, std::int64_t group_size = 1) {
  check_matrix(context, "correlation_max", "D", D.matrix(), D.rows(), D.cols());
  check_matrix(context, "correlation_max", "R", R, D.rows(), R.cols);
  check_vector(context, "correlation_max", "result", result, R.cols);
  const std::int64_t needed = correlation_scratch(context, D.cols(), R.cols, group_size);
  SHRINKWARP_REQUIRE(scratch.size >= needed, ShapeError, "correlation_max: scratch has ", scratch.size,
                     " elements, wanted at least ", needed);
  check_vector(context, "correlation_max", "scratch", scratch, scratch.size);
}

}  // namespace

void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     VectorView<double> result, VectorView<double> scratch) {
  check_correlation(context, D, R, result, scratch);
  if (result.empty()) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::correlation_max(context, D, R, result, scratch);
  }
  cpu::correlation_max(context, D, R, result, scratch);
}

template <class T>
void correlation_max(const Context& context, const CertificateDictionary& D, MatrixView<const double> R,
                     identity_t<MatrixView<const T>> codes, PenaltyView<double> penalty, VectorView<double> result,
                     VectorView<double> scratch) {
  if (penalty.plain()) return correlation_max(context, D, R, result, scratch);
  check_groups(context, "correlation_max", penalty, D.cols());
  check_correlation(context, D, R, result, scratch, penalty.group_size);
  if (!codes.empty()) check_matrix(context, "correlation_max", "codes", codes, D.cols(), R.cols);
  if (result.empty()) return;
  if (penalty.grouped()) {
    if (context.select_cuda()) {
      if constexpr (kHasCuda) return cuda::group_correlation_max<T>(context, D, R, codes, penalty, result, scratch);
    }
    return cpu::group_correlation_max<T>(context, D, R, codes, penalty, result, scratch);
  }
  if (context.select_cuda()) {
    if constexpr (kHasCuda) return cuda::correlation_max<T>(context, D, R, codes, penalty, result, scratch);
  }
  cpu::correlation_max<T>(context, D, R, codes, penalty, result, scratch);
}

template <class T>
void dual_gap(const Context& context, MatrixView<const double> X, MatrixView<const double> R,
              VectorView<const double> correlation, identity_t<MatrixView<const T>> codes, double atom_norm,
              VectorView<const double> lambda, VectorView<double> primal, VectorView<double> gap,
              PenaltyView<double> penalty) {
  const std::int64_t problems = gap.size;
  check_matrix(context, "dual_gap", "R", R, R.rows, problems);
  check_matrix(context, "dual_gap", "X", X, R.rows, problems);
  check_vector(context, "dual_gap", "correlation", correlation, problems);
  check_matrix(context, "dual_gap", "codes", codes, codes.rows, problems);
  check_vector(context, "dual_gap", "lambda", lambda, problems);
  check_vector(context, "dual_gap", "primal", primal, problems);
  check_vector(context, "dual_gap", "gap", gap, problems);
  check_groups(context, "dual_gap", penalty, codes.rows);
  if (problems == 0) return;
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::dual_gap<T>(context, X, R, correlation, codes, atom_norm, lambda, primal, gap, penalty);
  }
  cpu::dual_gap<T>(context, X, R, correlation, codes, atom_norm, lambda, primal, gap, penalty);
}

#define SHRINKWARP_INSTANTIATE_CERTIFICATE(T)                                                                         \
  template void refresh_anchor<T>(const Context&, MatrixView<T>, MatrixView<T>, MatrixView<T>);                       \
  template void code_residual<T>(const Context&, const CertificateDictionary&, MatrixView<const T>,                   \
                                 MatrixView<const double>, MatrixView<double>, MatrixView<T>);                        \
  template void correlation_max<T>(const Context&, const CertificateDictionary&, MatrixView<const double>,            \
                                   MatrixView<const T>, PenaltyView<double>, VectorView<double>, VectorView<double>); \
  template void dual_gap<T>(const Context&, MatrixView<const double>, MatrixView<const double>,                       \
                            VectorView<const double>, MatrixView<const T>, double, VectorView<const double>,          \
                            VectorView<double>, VectorView<double>, PenaltyView<double>);
SHRINKWARP_INSTANTIATE_CERTIFICATE(float)
SHRINKWARP_INSTANTIATE_CERTIFICATE(double)

}  // namespace shrinkwarp
