#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {
namespace cuda {
void round_to_half(const Context& context, MatrixView<const double> V, VectorView<const std::int32_t> from,
                   MatrixView<std::uint16_t> values, float* factor, float* length, float* rounding);
void panel_bounds(const Context& context, const HalfColumns& D, const HalfColumns& R, std::int64_t count,
                  MatrixView<std::uint32_t> keys);
}  // namespace cuda

namespace {

constexpr std::int64_t kRowPadding = 32, kColumnPadding = 128;

std::int64_t padded(std::int64_t size, std::int64_t unit) {
  return (size + unit - 1) / unit * unit;
}

}  // namespace

HalfColumns::HalfColumns(const Context& context, std::int64_t rows, std::int64_t cols)
    : rows_(rows),
      cols_(cols),
      values_(Tensor<std::uint16_t>::zeros(context, padded(rows, kRowPadding), padded(cols, kColumnPadding))),
      factor_(Tensor<float>::zeros(context, values_.cols())),
      length_(Tensor<float>::zeros(context, values_.cols())),
      rounding_(Tensor<float>::zeros(context, values_.cols())) {
  check_cuda(context, "HalfColumns");
}

std::int64_t HalfColumns::bytes(std::int64_t rows, std::int64_t cols) {
  return padded(cols, kColumnPadding) * (2 * padded(rows, kRowPadding) + 12) + 4 * 256;
}

void HalfColumns::set(const Context& context, MatrixView<const double> V, VectorView<const std::int32_t> from) {
  check_cuda(context, "HalfColumns::set");
  SHRINKWARP_REQUIRE(from.size <= cols_, ShapeError, "HalfColumns::set: from has ", from.size,
                     " elements, wanted at most ", cols_);
  check_matrix(context, "HalfColumns::set", "V", V, rows_, V.cols);
  check_vector(context, "HalfColumns::set", "from", from, from.size);
  if (from.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda)
    cuda::round_to_half(context, V, from, values_.matrix(), factor_.data(), length_.data(), rounding_.data());
}

float panel_accumulation(const HalfColumns& D) {
  return static_cast<float>(static_cast<double>(D.values().rows + 64) * 0x1p-22 * 1.000001);
}

void panel_bounds(const Context& context, const HalfColumns& D, const HalfColumns& R, std::int64_t count,
                  MatrixView<std::uint32_t> keys) {
  check_cuda(context, "panel_bounds");
  SHRINKWARP_REQUIRE(D.rows() == R.rows(), ShapeError, "panel_bounds: R has ", R.rows(), " rows, wanted D's ",
                     D.rows());
  SHRINKWARP_REQUIRE(count >= 0 && count <= R.cols(), ShapeError, "panel_bounds: count is ", count, ", wanted 0 to ",
                     R.cols());
  check_matrix(context, "panel_bounds", "D", D.values(), D.values().rows, D.values().cols);
  check_matrix(context, "panel_bounds", "R", R.values(), R.values().rows, R.values().cols);
  check_matrix(context, "panel_bounds", "keys", keys, (D.cols() + kPanelAtoms - 1) / kPanelAtoms, count);
  if (keys.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda) cuda::panel_bounds(context, D, R, count, keys);
}

}  // namespace shrinkwarp
