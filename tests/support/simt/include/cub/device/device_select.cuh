// Stand-in for cub::DeviceSelect in the host executor's build.
#pragma once

#include "device_scan.cuh"

namespace cub {

struct DeviceSelect {
  /// Copies the elements whose flag is not 0, in order, and writes their number.
  template <class In, class Flags, class Out, class Selected, class Count>
  static cudaError_t Flagged(void* temp, std::size_t& temp_bytes, In in, Flags flags, Out out, Selected selected,
                             Count count, cudaStream_t stream = nullptr) {
    return detail::two_phase(temp, temp_bytes, detail::temporary_bytes(count), stream, [=] {
      Count kept = 0;
      for (Count i = 0; i < count; ++i) {
        if (flags[i]) out[kept++] = in[i];
      }
      *selected = static_cast<detail::value_of<Selected>>(kept);
    });
  }

  /// Copies the elements that `select` holds for, in order, and writes their number.
  template <class In, class Out, class Selected, class Count, class Select>
  static cudaError_t If(void* temp, std::size_t& temp_bytes, In in, Out out, Selected selected, Count count,
                        Select select, cudaStream_t stream = nullptr) {
    return detail::two_phase(temp, temp_bytes, detail::temporary_bytes(count), stream, [=] {
      Count kept = 0;
      for (Count i = 0; i < count; ++i) {
        const detail::value_of<In> value = in[i];
        if (select(value)) out[kept++] = value;
      }
      *selected = static_cast<detail::value_of<Selected>>(kept);
    });
  }
};

}  // namespace cub
