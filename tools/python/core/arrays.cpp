#include <shrinkwarp/tools/python/core/arrays.hpp>

#include <algorithm>

#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::python {
namespace {

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
  if (X.device_type() == nanobind::device::cpu::value)
    return std::make_unique<Holding<RowSource<T>>>(std::move(X), data, N, n, row_stride, stride, std::move(name));
  SHRINKWARP_REQUIRE(N * n == 0 || (stride == 1 && (N == 1 || row_stride >= n)), ValueError, name,
                     ": found rows with strides (", row_stride, ", ", stride,
                     ") on CUDA, wanted rows of adjacent elements");
  const MatrixView<const T> view{data, n, N, std::max(row_stride, n), {DeviceType::cuda, X.device_id()}};
  return std::make_unique<Holding<DeviceSource<T>>>(std::move(X), context, view, std::move(name));
}

/// The array, on CUDA asked for in the order of the context's stream.
AnyMatrix array_of(const Context& context, const nanobind::object& X) {
  AnyMatrix array = nanobind::cast<AnyMatrix>(X);
  if (!context.is_cuda() || array.device_type() == nanobind::device::cpu::value) return array;
  const auto stream = reinterpret_cast<std::uintptr_t>(context.stream());
  return nanobind::cast<AnyMatrix>(X.attr("__dlpack__")(nanobind::arg("stream") = stream));
}

}  // namespace

std::unique_ptr<ObservationSource> observations_of(const Context& context, const nanobind::object& array,
                                                   std::string name) {
  AnyMatrix X = array_of(context, array);
  const int kind = X.device_type();
  SHRINKWARP_REQUIRE(kind == nanobind::device::cpu::value || kind == nanobind::device::cuda::value, DeviceError, name,
                     ": found an array on a device of DLPack's kind ", kind, ", wanted the CPU or CUDA");
  if (X.dtype() == nanobind::dtype<float>()) return typed_source<float>(context, std::move(X), std::move(name));
  SHRINKWARP_REQUIRE(X.dtype() == nanobind::dtype<double>(), ValueError, name,
                     ": found another element type, wanted float32 or float64");
  return typed_source<double>(context, std::move(X), std::move(name));
}

}  // namespace shrinkwarp::python
