#include <cstdio>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/gemm/gemm.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/ranks/gpu_ranks.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {
namespace {

int run_info(bool json) {
  const Context cpu = Context::cpu();
  const int devices = cuda_device_count();
  const NcclLibrary nccl = nccl_library();
  if (json) {
    nlohmann::json out = {{"version", kVersion},
                          {"cuda_build", kHasCuda},
                          {"cpu", cpu.description()},
                          {"blas", cpu_blas_core_name()},
                          {"instruction_set", cpu_instruction_set()},
                          {"mpi", mpi_library()},
                          {"nccl", nccl.version},
                          {"nccl_reason", nccl.missing},
                          {"cuda_devices", nlohmann::json::array()},
                          {"cuda_reason", cuda_unavailable_reason()}};
    for (int index = 0; index < devices; ++index) out["cuda_devices"].push_back(Context::cuda(index).description());
    std::cout << json_line(out) << '\n';
    return kDone;
  }
  std::printf("shrinkwarp   %s, %s\n", kVersion, kHasCuda ? "with CUDA" : "CPU only");
  std::printf("cpu          %s\n", cpu.description().c_str());
  std::printf("cpu kernels  %s\n", cpu_instruction_set());
  std::printf("cpu blas     OpenBLAS, %s kernels\n", cpu_blas_core_name());
  std::printf("mpi          %s\n", mpi_library().empty() ? "none in this build" : mpi_library().c_str());
  std::printf("nccl         %s\n", nccl.version.empty() ? nccl.missing.c_str() : nccl.version.c_str());
  if (devices == 0) std::printf("cuda         none: %s\n", cuda_unavailable_reason().c_str());
  for (int index = 0; index < devices; ++index)
    std::printf("cuda:%d       %s\n", index, Context::cuda(index).description().c_str());
  std::fflush(stdout);
  return kDone;
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("info", "Say what this build and this machine can do");
  command->add_flag("--json", *json, "as one JSON object");
  command->footer("Example:\n  shrinkwarp info");
  command->callback([json, &action] { action = [json] { return run_info(*json); }; });
}

}  // namespace shrinkwarp::cli
