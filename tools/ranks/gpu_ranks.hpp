// The GPUs of a run's ranks, a GPU a rank, and what adds vectors between them: NCCL, where the program has it.
//
// The program is built with NCCL's header alone and loads libnccl.so.2 when it first asks for it. So one that was built
// where NCCL is starts everywhere, with a driver or without, goes over the host where there is no NCCL, and nothing that
// is installed depends on it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/models/train/replicas.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp {

/// What this program knows of NCCL.
struct NcclLibrary {
  std::string version;  ///< "2.28.9", of what was loaded; "" where there is none
  std::string missing;  ///< why there is none: one line for a person
};
NcclLibrary nccl_library();

class GpuRanks {
 public:
  virtual ~GpuRanks() = default;
  /// As Replicas::device_sum. Called by all ranks.
  /// @param context  on the GPU of this rank; both outlive what is returned
  /// @param weights  of each rank, in their order
  ///
  /// What is returned holds as many bytes on the GPU as the largest vector has, and 16 bytes for each pair of ranks.
  /// @throws OutOfMemory, CudaError, and where it is used Error (NCCL's, with the name of the call)
  virtual std::unique_ptr<DeviceSum> sum(const Context& context, const std::vector<double>& weights,
                                         std::int64_t bytes) const = 0;
};

/// The GPUs of all ranks; nullptr, on all ranks, where one has no NCCL or another version of it, or where two have one
/// GPU, which NCCL does not allow. Collective, of contexts on CUDA.
///
/// An error of one rank has to end all, as it does in the program. So has a process that dies: the others wait for it on
/// their GPUs until mpirun, which sees that it has died, ends them. What NCCL finds by itself, as of a network, the next
/// sum throws; a rank that waits for its GPU already waits on.
///
/// @param why_not  set to why there is none, the same on all ranks, or to ""
/// @throws Error (NCCL's), CudaError
std::unique_ptr<GpuRanks> connect_gpus(Ranks& ranks, const Context& context, std::string& why_not);

}  // namespace shrinkwarp
