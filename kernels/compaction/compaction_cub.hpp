// CUB's device-wide algorithms as compaction calls them, in CUB's two-phase form: with a null scratch they only set
// `bytes`. Internal to compaction.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace shrinkwarp::cuda {

/// selected[0 .. *count) <- the numbers of the set flags, ascending.
cudaError_t select_flagged(void* scratch, std::size_t& bytes, const std::uint8_t* flags, std::int32_t* selected,
                           std::int64_t* count, std::int64_t problems, cudaStream_t stream);

/// values <- their inclusive sums, in place.
cudaError_t sum_inclusive(void* scratch, std::size_t& bytes, std::int64_t* values, std::int64_t count,
                          cudaStream_t stream);

}  // namespace shrinkwarp::cuda
