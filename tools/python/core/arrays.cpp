#include <shrinkwarp/tools/python/core/arrays.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/python/core/cuda_arrays.hpp>

namespace shrinkwarp::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

/// Keeps the array beside the source that reads it.
template <class Source>
class Holding : public Source {
 public:
  template <class... Arguments>
  explicit Holding(AnyMatrix X, Arguments&&... arguments)
      : Source(std::forward<Arguments>(arguments)...), X_(std::move(X)) {}

 private:
  AnyMatrix X_;
};

template <class T>
std::unique_ptr<ObservationSource> typed_source(const Context& context, AnyMatrix X, std::string name) {
  const auto N = static_cast<std::int64_t>(X.shape(0)), n = static_cast<std::int64_t>(X.shape(1));
  const std::int64_t row_stride = X.stride(0), stride = X.stride(1);
  const T* const data = static_cast<const T*>(X.data());
  if (X.device_type() == nb::device::cpu::value)
    return std::make_unique<Holding<RowSource<T>>>(std::move(X), data, N, n, row_stride, stride, std::move(name));
  // A stride says nothing where there is one element.
  SHRINKWARP_REQUIRE(N * n == 0 || ((n == 1 || stride == 1) && (N == 1 || row_stride >= n)), ValueError, name,
                     ": found rows with strides (", row_stride, ", ", stride,
                     ") on CUDA, wanted rows of adjacent elements, one after another: (ld, 1), ld >= ", n);
  const MatrixView<const T> view{data, n, N, std::max(row_stride, n), {DeviceType::cuda, X.device_id()}};
  return std::make_unique<Holding<DeviceSource<T>>>(std::move(X), context, view, std::move(name));
}

/// The array, on CUDA asked for in the order of the context's stream.
AnyMatrix array_of(const Context& context, const nb::object& array, const std::string& name) {
  // Before it is asked for: the stream of one device means nothing on another.
  const std::optional<Device> device = cuda_device_of(array);
  if (!device) return nb::cast<AnyMatrix>(array);
  SHRINKWARP_REQUIRE(*device == context.device(), DeviceError, name, ": found an array on ", *device,
                     ", wanted one on ", context.device());
  return lent_on_cuda<AnyMatrix>(context, array, name, "an array (N, n)");
}

}  // namespace

std::unique_ptr<ObservationSource> observations_of(const Context& context, const nb::object& array, std::string name) {
  AnyMatrix X = array_of(context, array, name);
  SHRINKWARP_REQUIRE(X.device_type() == nb::device::cpu::value || is_cuda(X.device_type()), DeviceError, name,
                     ": found an array on a device of DLPack's kind ", X.device_type(), ", wanted the CPU or CUDA");
  if (X.dtype() == nb::dtype<float>()) return typed_source<float>(context, std::move(X), std::move(name));
  SHRINKWARP_REQUIRE(X.dtype() == nb::dtype<double>(), ValueError, name, ": found elements of type ",
                     name_of(X.dtype()), ", wanted float32 or float64");
  return typed_source<double>(context, std::move(X), std::move(name));
}

}  // namespace shrinkwarp::python
