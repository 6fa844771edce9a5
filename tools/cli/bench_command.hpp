// What the subcommands of `bench` share.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/profile.hpp>
#include <shrinkwarp/tools/cli/command.hpp>

namespace shrinkwarp::cli {

/// What every line of results says of itself.
nlohmann::json bench_identity(const char* benchmark);
/// An array of what each phase took.
nlohmann::json phases_json(const std::vector<PhaseTotals>& totals);
/// Codes as `solve` writes them, the results of `batches` one after the other.
void write_codes(const std::string& path, std::int64_t atoms, const std::vector<LassoBatch>& batches);

/// The one that ranks call together.
void add_bench_counter(CLI::App& bench, Action& action, Ranks& ranks);
void add_bench_fista(CLI::App& bench, Action& action);
void add_bench_iteration(CLI::App& bench, Action& action);
void add_bench_kernels(CLI::App& bench, Action& action);
void add_bench_latency(CLI::App& bench, Action& action);
void add_bench_momentum(CLI::App& bench, Action& action);
void add_bench_nets(CLI::App& bench, Action& action);
void add_bench_solve(CLI::App& bench, Action& action);

}  // namespace shrinkwarp::cli
