#include <shrinkwarp/tools/cli/bench_command.hpp>

#include <ctime>

#include <shrinkwarp/commit.hpp>
#include <shrinkwarp/config.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

namespace shrinkwarp::cli {

nlohmann::json bench_identity(const char* benchmark) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return {{"schema", "shrinkwarp-bench-1"},
          {"benchmark", benchmark},
          {"date", date},
          {"version", kVersion},
          {"commit", kCommit}};
}

nlohmann::json phases_json(const std::vector<PhaseTotals>& totals) {
  nlohmann::json phases = nlohmann::json::array();
  for (const PhaseTotals& phase : totals)
    phases.push_back({{"name", phase.name},
                      {"seconds", phase.seconds},
                      {"calls", phase.calls},
                      {"flops", phase.flops},
                      {"bytes", phase.bytes}});
  return phases;
}

void write_codes(const std::string& path, std::int64_t atoms, const std::vector<LassoBatch>& batches) {
  SparseCodesSizes sizes;
  sizes.atoms = atoms;
  for (const LassoBatch& batch : batches) {
    sizes.problems += batch.size();
    sizes.nonzeros += static_cast<std::int64_t>(batch.codes.values.size());
  }
  SparseCodesFile file(path, sizes);
  const SparseCodesRange all{0, sizes.problems, 0, sizes.nonzeros};
  SparseCodesPart part(path, file.temporary_path(), sizes, all);
  for (const LassoBatch& batch : batches) part.append(batch);
  file.finish("", {all}, {part.finish(false)});
}

void add_bench(CLI::App& app, Action& action, Ranks& ranks) {
  CLI::App* command = app.add_subcommand("bench", "Measure, beside what the same machine can do at the same shapes");
  command->require_subcommand(1);
  command->footer("Example:\n  shrinkwarp bench fista");
  add_bench_counter(*command, action, ranks);
  add_bench_fista(*command, action);
  add_bench_iteration(*command, action);
  add_bench_kernels(*command, action);
  add_bench_latency(*command, action);
  add_bench_momentum(*command, action);
  add_bench_nets(*command, action);
  add_bench_solve(*command, action);
}

}  // namespace shrinkwarp::cli
