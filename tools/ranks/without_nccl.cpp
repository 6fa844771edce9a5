// Builds without NCCL: what GPUs add between them goes over the host.
#include <shrinkwarp/tools/ranks/gpu_ranks.hpp>

namespace shrinkwarp {

NcclLibrary nccl_library() {
  return {"", "none in this build"};
}

std::unique_ptr<GpuRanks> connect_gpus(Ranks&, const Context&, std::string& why_not) {
  why_not = "this program was built without NCCL (SHRINKWARP_ENABLE_NCCL)";
  return nullptr;
}

}  // namespace shrinkwarp
