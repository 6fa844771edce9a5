#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>

namespace shrinkwarp {
namespace cuda {
void round_to_half(const Context& context, MatrixView<const double> V, VectorView<const std::int32_t> from,
                   MatrixView<std::uint16_t> values, float* factor, float* length, float* rounding);
void panel_bounds(const Context& context, const HalfColumns& D, const HalfBounds& atoms, const HalfColumns& R,
                  std::int64_t count, const PanelPenalty& penalty, MatrixView<std::uint32_t> keys);
}  // namespace cuda

namespace {

constexpr std::int64_t kRowPadding = 32, kColumnPadding = 128;

std::int64_t padded(std::int64_t size, std::int64_t unit) {
  return (size + unit - 1) / unit * unit;
}

/// The least float that is not under a number >= 0.
float rounded_up(double value) {
  const float rounded = static_cast<float>(value);
  return static_cast<double>(rounded) < value ? std::nextafterf(rounded, std::numeric_limits<float>::infinity())
                                              : rounded;
}

}  // namespace

std::int64_t group_columns(std::int64_t group_size) {
  for (const std::int64_t columns : {1, 2, 4})
    if (group_size <= columns) return columns;
  return padded(group_size, kPanelAtoms);
}

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

DividedBounds::DividedBounds(const Context& context, const HalfColumns& D, VectorView<const double> weights) {
  check_cuda(context, "DividedBounds");
  SHRINKWARP_REQUIRE(weights.size == D.cols(), ShapeError, "DividedBounds: weights has ", weights.size,
                     " elements, wanted one for each of ", D.cols(), " atoms");
  check_matrix(context, "DividedBounds", "D", D.values(), D.values().rows, D.values().cols);
  const HalfBounds whole = D.bounds();
  const std::int64_t padded_cols = whole.factor.size;
  std::vector<float> host(static_cast<std::size_t>(3 * padded_cols));
  const MatrixView<float> bounds{host.data(), padded_cols, 3, padded_cols, {}};
  const auto column = [&](std::int64_t k) { return VectorView<float>{bounds.column(k), padded_cols, {}}; };
  copy(context, whole.factor, column(0));
  copy(context, whole.length, column(1));
  copy(context, whole.rounding, column(2));
  context.synchronize();
  for (std::int64_t j = 0; j < weights.size; ++j) {
    // The factor is no power of two any more: it is rounded here, and its product with a sum where a key is made.
    constexpr double kTwoRoundings = 0x1p-22;
    const double weight = weights[j];
    const double length = static_cast<double>(bounds(j, 1)), rounding = static_cast<double>(bounds(j, 2));
    const auto factor = static_cast<float>(static_cast<double>(bounds(j, 0)) / weight);
    const bool in_range = std::isnormal(factor);
    bounds(j, 0) = in_range ? factor : 0.0F;
    bounds(j, 1) = rounded_up(length / weight);
    bounds(j, 2) = rounded_up((rounding + (in_range ? kTwoRoundings : 1.0) * length) / weight);
  }
  divided_ = Tensor<float>(context, padded_cols, 3);
  copy(context, MatrixView<const float>(bounds), divided_.matrix());
  context.synchronize();
}

std::int64_t DividedBounds::bytes(std::int64_t cols) {
  return 12 * padded(cols, kColumnPadding) + 256;
}

HalfBounds DividedBounds::view() const {
  const auto column = [this](std::int64_t k) {
    const MatrixView<float> divided = divided_.matrix();
    return VectorView<const float>{divided.column(k), divided.cols > 0 ? divided.rows : 0, divided.device};
  };
  return {column(0), column(1), column(2)};
}

float panel_accumulation(const HalfColumns& D) {
  return static_cast<float>(static_cast<double>(D.values().rows + 64) * 0x1p-22 * 1.000001);
}

void panel_bounds(const Context& context, const HalfColumns& D, const HalfColumns& R, std::int64_t count,
                  MatrixView<std::uint32_t> keys, const PanelPenalty& penalty) {
  check_cuda(context, "panel_bounds");
  SHRINKWARP_REQUIRE(D.rows() == R.rows(), ShapeError, "panel_bounds: R has ", R.rows(), " rows, wanted D's ",
                     D.rows());
  SHRINKWARP_REQUIRE(count >= 0 && count <= R.cols(), ShapeError, "panel_bounds: count is ", count, ", wanted 0 to ",
                     R.cols());
  check_matrix(context, "panel_bounds", "D", D.values(), D.values().rows, D.values().cols);
  check_matrix(context, "panel_bounds", "R", R.values(), R.values().rows, R.values().cols);
  check_matrix(context, "panel_bounds", "keys", keys, (D.cols() + kPanelAtoms - 1) / kPanelAtoms, count);
  const std::int64_t together = penalty.group_columns;
  SHRINKWARP_REQUIRE(together == 1 || together == 2 || together == 4 || (together > 0 && together % kPanelAtoms == 0),
                     ShapeError, "panel_bounds: penalty.group_columns is ", together,
                     ", wanted 1, 2, 4 or a multiple of 8");
  SHRINKWARP_REQUIRE(together == 1 || !penalty.nonnegative, ValueError,
                     "panel_bounds: found nonnegative codes in groups of ", together,
                     " columns, wanted one or the other");
  const bool weighted = !penalty.divided.factor.empty();
  if (weighted) {
    check_vector(context, "panel_bounds", "penalty.divided.factor", penalty.divided.factor, D.values().cols);
    check_vector(context, "panel_bounds", "penalty.divided.length", penalty.divided.length, D.values().cols);
    check_vector(context, "panel_bounds", "penalty.divided.rounding", penalty.divided.rounding, D.values().cols);
  }
  if (keys.empty() || !context.select_cuda()) return;
  if constexpr (kHasCuda)
    cuda::panel_bounds(context, D, weighted ? penalty.divided : D.bounds(), R, count, penalty, keys);
}

}  // namespace shrinkwarp
