#include <shrinkwarp/kernels/cross_entropy/cross_entropy.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/cross_entropy/bodies.hpp>

namespace shrinkwarp {

std::int64_t cross_entropy_scratch(const Context& context, std::int64_t N) {
  SHRINKWARP_REQUIRE(N >= 0, ShapeError, "cross_entropy_scratch: N is ", N, ", wanted >= 0");
  Arena counting(context.device());
  CrossEntropyScratch::lay_out(counting, N);
  return counting.used();
}

template <class T>
void cross_entropy(const Context& context, identity_t<MatrixView<const T>> logits,
                   VectorView<const std::int32_t> labels, double smoothing, double scale, VectorView<double> loss,
                   VectorView<std::int64_t> correct, MatrixView<T> dlogits, VectorView<std::byte> scratch) {
  constexpr const char* kFunction = "cross_entropy";
  SHRINKWARP_REQUIRE(smoothing >= 0 && smoothing < 1, ValueError, kFunction, ": smoothing is ", smoothing,
                     ", wanted at least 0 and less than 1");
  SHRINKWARP_REQUIRE(!logits.empty(), ShapeError, kFunction, ": logits is ", logits.rows, " x ", logits.cols,
                     ", wanted at least one class and one sample");
  check_matrix(context, kFunction, "logits", logits, logits.rows, logits.cols);
  check_vector(context, kFunction, "labels", labels, logits.cols);
  check_vector(context, kFunction, "loss", loss, 1);
  check_vector(context, kFunction, "correct", correct, 1);
  if (!dlogits.empty()) check_matrix(context, kFunction, "dlogits", dlogits, logits.rows, logits.cols);
  check_scratch(context, kFunction, scratch, cross_entropy_scratch(context, logits.cols));
  Arena arena(scratch);
  const auto samples = CrossEntropyScratch::lay_out(arena, logits.cols);
  const Smoothing smooth{1 - smoothing, smoothing / static_cast<double>(logits.rows)};
  if (context.select_cuda()) {
    if constexpr (kHasCuda)
      return cuda::cross_entropy<T>(context, logits, labels, smooth, scale, loss, correct, dlogits, samples);
  }
  cpu::cross_entropy<T>(context, logits, labels, smooth, scale, loss, correct, dlogits, samples);
}

template void cross_entropy<float>(const Context&, MatrixView<const float>, VectorView<const std::int32_t>, double,
                                   double, VectorView<double>, VectorView<std::int64_t>, MatrixView<float>,
                                   VectorView<std::byte>);
template void cross_entropy<double>(const Context&, MatrixView<const double>, VectorView<const std::int32_t>, double,
                                    double, VectorView<double>, VectorView<std::int64_t>, MatrixView<double>,
                                    VectorView<std::byte>);

}  // namespace shrinkwarp
