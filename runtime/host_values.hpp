// Vectors of a device as vectors of the host, and back. For set-up and results: both wait for the stream.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// The elements of a view, after what is queued has run. @throws CudaError
template <class T>
std::vector<std::remove_const_t<T>> on_host(const Context& context, VectorView<T> view) {
  using Value = std::remove_const_t<T>;
  std::vector<Value> values(static_cast<std::size_t>(view.size));
  copy<Value>(context, view, VectorView<Value>{values.data(), view.size, {}});
  context.synchronize();
  return values;
}

/// As many values to a view of as many elements. @throws ShapeError, CudaError
template <class T>
void to_device(const Context& context, const std::vector<T>& values, identity_t<VectorView<T>> view) {
  copy<T>(context, VectorView<const T>{values.data(), static_cast<std::int64_t>(values.size()), {}}, view);
  context.synchronize();
}

}  // namespace shrinkwarp
