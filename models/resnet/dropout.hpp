// Dropout whose masks are counters and not stored.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/resnet/layer.hpp>

namespace shrinkwarp {

/// In training each entry is 0 with `probability`, else divided by 1 - probability. Which ones is a function of the pass's
/// seed and step, the number of the layer and the place of the entry.
template <class T>
class Dropout : public Layer<T> {
 public:
  /// @param number  of its own for each dropout layer of a network  @throws ValueError (probability not in [0, 1))
  Dropout(const Shape& shape, double probability, std::uint32_t number);
  std::int64_t kept(const Context& context, std::int64_t samples) const override;
  std::int64_t scratch(const Context& context, std::int64_t samples, bool keeps) const override;
  void forward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<T> Y, Bytes kept, Bytes scratch) const override;
  void backward(const Pass<T>& pass, MatrixView<const T> X, MatrixView<const T> Y, MatrixView<const T> dY, T beta,
                MatrixView<T> dX, Bytes kept, Bytes scratch) const override;

 private:
  double probability_;
  std::uint32_t number_;
};

}  // namespace shrinkwarp
