#include <shrinkwarp/models/lasso/in_memory.hpp>

#include <algorithm>
#include <numeric>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

template <class T>
void RowSource<T>::read(std::int64_t first, MatrixView<double> X) {
  for (std::int64_t b = 0; b < X.cols; ++b) {
    const T* const from = data_ + (first + b) * row_stride_;
    double* const to = X.column(b);
    if (stride_ == 1) {
      std::copy_n(from, X.rows, to);
    } else {
      for (std::int64_t i = 0; i < X.rows; ++i) to[i] = from[i * stride_];
    }
  }
}

template class RowSource<float>;
template class RowSource<double>;

template <class T>
DeviceSource<T>::DeviceSource(const Context& context, MatrixView<const T> X, std::string name)
    : context_(context), X_(X), name_(std::move(name)) {
  SHRINKWARP_REQUIRE(X.device == context.device(), DeviceError, name_, ": found them on ", X.device, ", wanted ",
                     context.device());
}

template <class T>
void DeviceSource<T>::read(std::int64_t first, MatrixView<double> X) {
  staged_.resize(static_cast<std::size_t>(X.rows * X.cols));
  if (staged_.empty()) return;
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(T));
  context_.copy_bytes_2d(staged_.data(), {}, X.rows * kSize, X_.column(first), X_.device, X_.ld * kSize, X.rows * kSize,
                         X.cols);
  context_.synchronize();
  const T* from = staged_.data();
  for (std::int64_t b = 0; b < X.cols; ++b, from += X.rows) std::copy_n(from, X.rows, X.column(b));
}

template class DeviceSource<float>;
template class DeviceSource<double>;

void MemorySink::append(const LassoBatch& batch) {
  const auto join = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  const std::int64_t start = all_.codes.offsets.back();
  for (std::size_t i = 1; i < batch.codes.offsets.size(); ++i)
    all_.codes.offsets.push_back(start + batch.codes.offsets[i]);
  join(all_.codes.indices, batch.codes.indices);
  join(all_.codes.values, batch.codes.values);
  join(all_.index, batch.index);
  join(all_.lambda, batch.lambda);
  join(all_.objective, batch.objective);
  join(all_.dual_gap, batch.dual_gap);
  join(all_.iterations, batch.iterations);
  join(all_.converged, batch.converged);
}

LassoBatch MemorySink::in_order() const {
  std::vector<std::size_t> order(all_.index.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) { return all_.index[a] < all_.index[b]; });
  LassoBatch sorted;
  const auto gather = [&order](auto& to, const auto& from) {
    to.reserve(order.size());
    for (const std::size_t i : order) to.push_back(from[i]);
  };
  gather(sorted.index, all_.index);
  gather(sorted.lambda, all_.lambda);
  gather(sorted.objective, all_.objective);
  gather(sorted.dual_gap, all_.dual_gap);
  gather(sorted.iterations, all_.iterations);
  gather(sorted.converged, all_.converged);
  sorted.codes.indices.reserve(all_.codes.indices.size());
  sorted.codes.values.reserve(all_.codes.values.size());
  for (const std::size_t i : order) {
    const auto begin = all_.codes.offsets[i];
    const auto end = all_.codes.offsets[i + 1];
    sorted.codes.indices.insert(sorted.codes.indices.end(), all_.codes.indices.begin() + begin,
                                all_.codes.indices.begin() + end);
    sorted.codes.values.insert(sorted.codes.values.end(), all_.codes.values.begin() + begin,
                               all_.codes.values.begin() + end);
    sorted.codes.offsets.push_back(static_cast<std::int64_t>(sorted.codes.values.size()));
  }
  return sorted;
}

}  // namespace shrinkwarp
