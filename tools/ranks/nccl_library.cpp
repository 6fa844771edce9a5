// NCCL as the system has it, loaded when it is first asked for and kept.
#include <dlfcn.h>

#include <string>

#include <shrinkwarp/tools/ranks/gpu_ranks.hpp>
#include <shrinkwarp/tools/ranks/nccl_ranks.hpp>

namespace shrinkwarp {
namespace {

class Loaded {
 public:
  Loaded() {
    library_ = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) {
      missing_ = dlerror();
      return;
    }
    find("ncclGetVersion", functions_.get_version);
    find("ncclGetErrorString", functions_.get_error_string);
    find("ncclGetUniqueId", functions_.get_unique_id);
    find("ncclCommInitRank", functions_.comm_init_rank);
    find("ncclCommDestroy", functions_.comm_destroy);
    find("ncclCommGetAsyncError", functions_.comm_get_async_error);
    find("ncclGroupStart", functions_.group_start);
    find("ncclGroupEnd", functions_.group_end);
    find("ncclSend", functions_.send);
    find("ncclRecv", functions_.recv);
    find("ncclAllGather", functions_.all_gather);
  }

  const NcclFunctions* functions() const { return missing_.empty() ? &functions_ : nullptr; }
  const std::string& missing() const { return missing_; }

 private:
  template <class Function>
  void find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr && missing_.empty()) missing_ = std::string("libnccl.so.2 is too old, it has no ") + name;
  }

  void* library_ = nullptr;
  NcclFunctions functions_ = {};
  std::string missing_;
};

const Loaded& loaded() {
  static const Loaded library;
  return library;
}

}  // namespace

NcclLibrary nccl_library() {
  const NcclFunctions* const functions = loaded().functions();
  return {functions != nullptr ? version_text(*functions) : "", loaded().missing()};
}

std::unique_ptr<GpuRanks> connect_gpus(Ranks& ranks, const Context& context, std::string& why_not) {
  return connect_by_nccl(loaded().functions(), loaded().missing(), ranks, context, why_not);
}

}  // namespace shrinkwarp
