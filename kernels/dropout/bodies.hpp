// Internal to dropout: what both backends draw and apply.
#pragma once

#include <shrinkwarp/kernels/dropout/dropout.hpp>
#include <shrinkwarp/kernels/random/philox.hpp>

namespace shrinkwarp {

template <class T>
struct DropoutMask {
  std::uint64_t seed, layer;
  std::uint32_t threshold;  // bits under it drop an element
  T scale;                  // 1 / (1 - probability)
  std::int64_t first;       // column of the whole batch that is column 0 here

  SHRINKWARP_HOST_DEVICE std::uint64_t stream(std::int64_t step) const {
    return (layer << 40) + static_cast<std::uint64_t>(step);
  }
  SHRINKWARP_HOST_DEVICE T apply(std::uint32_t bits, T x) const { return x * (bits < threshold ? T(0) : scale); }
};

#define SHRINKWARP_DECLARE_DROPOUT                                                                      \
  template <class T>                                                                                    \
  void dropout(const Context& context, const DropoutMask<T>& mask, VectorView<const std::int64_t> step, \
               MatrixView<const T> X, MatrixView<T> Y);
namespace cpu {
SHRINKWARP_DECLARE_DROPOUT
}
namespace cuda {
SHRINKWARP_DECLARE_DROPOUT
}
#undef SHRINKWARP_DECLARE_DROPOUT

}  // namespace shrinkwarp
