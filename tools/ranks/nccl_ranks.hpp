// The GPUs of ranks by NCCL, whose functions come as a table: those of the library that was loaded, or of a test's
// stand-in.
#pragma once

#include <nccl.h>

#include <memory>
#include <string>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/tools/ranks/gpu_ranks.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp {

/// The functions of NCCL that are used, all of version 2.7 and later.
struct NcclFunctions {
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetErrorString) get_error_string;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRank) comm_init_rank;
  decltype(&ncclCommDestroy) comm_destroy;
  decltype(&ncclCommGetAsyncError) comm_get_async_error;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) recv;
  decltype(&ncclAllGather) all_gather;
};

/// "2.28.9".
std::string version_text(const NcclFunctions& nccl);

/// connect_gpus with these functions.
/// @param nccl  outlives what is returned; nullptr where there are none: `missing` says why
std::unique_ptr<GpuRanks> connect_by_nccl(const NcclFunctions* nccl, const std::string& missing, Ranks& ranks,
                                          const Context& context, std::string& why_not);

}  // namespace shrinkwarp
