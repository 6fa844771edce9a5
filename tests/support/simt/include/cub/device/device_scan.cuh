// Stand-in for cub::DeviceScan in the host executor's build: the two-call protocol of its temporary storage, serial sums.
#pragma once

#include <cstddef>
#include <cstring>
#include <iterator>
#include <type_traits>

#include <cuda_runtime.h>

#include "../../../executor.hpp"

namespace cub {
namespace detail {

/// The first call (temp null) asks for the bytes, the second runs `work` with at least as many.
template <class Work>
cudaError_t two_phase(void* temp, std::size_t& temp_bytes, std::size_t needed, cudaStream_t stream, Work work) {
  if (temp == nullptr) {
    temp_bytes = needed;
    return cudaSuccess;
  }
  if (temp_bytes < needed || !shrinkwarp::simt::is_device_memory(temp, needed)) {
    return shrinkwarp::simt::remember(cudaErrorInvalidValue);
  }
  return shrinkwarp::simt::enqueue(stream, [=] {
    std::memset(temp, 0xff, needed);
    work();
  });
}

/// Grows slowly with the count, as the real one does, and is not a multiple of anything.
template <class Count>
std::size_t temporary_bytes(Count count) {
  return 257 + static_cast<std::size_t>(count) / 64;
}

template <class T>
using value_of = std::remove_cv_t<typename std::iterator_traits<T>::value_type>;

}  // namespace detail

struct DeviceScan {
  /// The sums are formed in the type of the input's elements, as CUB does.
  template <class In, class Out, class Count>
  static cudaError_t ExclusiveSum(void* temp, std::size_t& temp_bytes, In in, Out out, Count count,
                                  cudaStream_t stream = nullptr) {
    return detail::two_phase(temp, temp_bytes, detail::temporary_bytes(count), stream, [=] {
      detail::value_of<In> sum{};
      for (Count i = 0; i < count; ++i) {
        const detail::value_of<In> value = in[i];
        out[i] = sum;
        sum = static_cast<detail::value_of<In>>(sum + value);
      }
    });
  }

  template <class In, class Out, class Count>
  static cudaError_t InclusiveSum(void* temp, std::size_t& temp_bytes, In in, Out out, Count count,
                                  cudaStream_t stream = nullptr) {
    return detail::two_phase(temp, temp_bytes, detail::temporary_bytes(count), stream, [=] {
      detail::value_of<In> sum{};
      for (Count i = 0; i < count; ++i) {
        sum = static_cast<detail::value_of<In>>(sum + in[i]);
        out[i] = sum;
      }
    });
  }

  template <class Data, class Count>
  static cudaError_t ExclusiveSum(void* temp, std::size_t& temp_bytes, Data data, Count count,
                                  cudaStream_t stream = nullptr) {
    return ExclusiveSum(temp, temp_bytes, data, data, count, stream);
  }

  template <class Data, class Count>
  static cudaError_t InclusiveSum(void* temp, std::size_t& temp_bytes, Data data, Count count,
                                  cudaStream_t stream = nullptr) {
    return InclusiveSum(temp, temp_bytes, data, data, count, stream);
  }
};

}  // namespace cub
