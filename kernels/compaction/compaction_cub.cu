// The only source that instantiates CUB. It holds no kernel of ours: CUB's own keep a few bytes in local memory, which the
// build refuses everywhere else.
#include <thrust/iterator/counting_iterator.h>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>

#include <shrinkwarp/kernels/compaction/compaction_cub.hpp>

namespace shrinkwarp::cuda {

cudaError_t select_flagged(void* scratch, std::size_t& bytes, const std::uint8_t* flags, std::int32_t* selected,
                           std::int64_t* count, std::int64_t problems, cudaStream_t stream) {
  return cub::DeviceSelect::Flagged(scratch, bytes, thrust::counting_iterator<std::int32_t>(0), flags, selected, count,
                                    problems, stream);
}

cudaError_t sum_inclusive(void* scratch, std::size_t& bytes, std::int64_t* values, std::int64_t count,
                          cudaStream_t stream) {
  return cub::DeviceScan::InclusiveSum(scratch, bytes, values, values, count, stream);
}

}  // namespace shrinkwarp::cuda
