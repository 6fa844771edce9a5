// Internal to cross_entropy: the formulas of a sample that both backends share, and what each provides.
#pragma once

#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/cross_entropy/cross_entropy.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/host_device.hpp>

namespace shrinkwarp {

/// Of each sample.
struct CrossEntropyScratch {
  VectorView<double> losses;  // [N]
  VectorView<double> found;   // [N] of {0, 1}

  static CrossEntropyScratch lay_out(Arena& arena, std::int64_t N) {
    CrossEntropyScratch scratch;
    scratch.losses = arena.vector<double>(N);
    scratch.found = arena.vector<double>(N);
    return scratch;
  }
};

struct Smoothing {
  double on_label, on_all;  // 1 - s, s / classes

  /// The loss of a sample: log_sum = log of the sum of exp(z - largest), at_label = z - largest of the label, sum = that of all.
  SHRINKWARP_HOST_DEVICE double loss(double log_sum, double at_label, double sum, double classes) const {
    const double loss = on_label * (log_sum - at_label);
    return on_all > 0 ? loss + on_all * (classes * log_sum - sum) : loss;  // or 0 times infinity
  }
  SHRINKWARP_HOST_DEVICE double target(bool is_label) const { return is_label ? on_label + on_all : on_all; }
};

#define SHRINKWARP_DECLARE_CROSS_ENTROPY                                                                        \
  template <class T>                                                                                            \
  void cross_entropy(const Context& context, MatrixView<const T> logits, VectorView<const std::int32_t> labels, \
                     const Smoothing& smoothing, double scale, VectorView<double> loss,                         \
                     VectorView<std::int64_t> correct, MatrixView<T> dlogits, const CrossEntropyScratch& scratch);
namespace cpu {
SHRINKWARP_DECLARE_CROSS_ENTROPY
}
namespace cuda {
SHRINKWARP_DECLARE_CROSS_ENTROPY
}
#undef SHRINKWARP_DECLARE_CROSS_ENTROPY

}  // namespace shrinkwarp
