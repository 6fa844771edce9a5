#include <shrinkwarp/tools/cli/solve_summary.hpp>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include <shrinkwarp/models/lasso/solver_name.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>

namespace shrinkwarp::cli {

void print_summary(const SolveOptions& options, const Context& context, const Dictionary& dictionary,
                   const SolveOutcome& outcome) {
  const LassoSummary& summary = outcome.summary;
  const double problems = static_cast<double>(std::max<std::int64_t>(summary.problems, 1));
  const double rate = static_cast<double>(summary.problems - outcome.resumed) / std::max(outcome.seconds, 1e-9);
  const std::string solver = name_of(outcome.solver);
  if (options.json) {
    nlohmann::json out = {{"problems", summary.problems},
                          {"converged", summary.problems - summary.unconverged},
                          {"unconverged", summary.unconverged},
                          {"resumed", outcome.resumed},
                          {"gap", options.lasso.gap},
                          {"worst_gap", summary.worst_gap},
                          {"nonzeros", summary.nonzeros},
                          {"iterations", summary.iterations},
                          {"rows", dictionary.rows()},
                          {"atoms", dictionary.atoms()},
                          {"solver", solver},
                          {"device", context.description()},
                          {"seconds", outcome.seconds},
                          {"solve_seconds", outcome.solve_seconds},
                          {"output_seconds", outcome.output_seconds},
                          {"problems_per_second", rate},
                          {"output", options.output}};
    if (outcome.learned_starts >= 0) {
      out["network"] = options.network;
      out["learned_starts"] = outcome.learned_starts;
    }
    for (std::size_t rank = 0; outcome.busy_seconds.size() > 1 && rank < outcome.busy_seconds.size(); ++rank)
      out["ranks"].push_back({{"problems", static_cast<std::int64_t>(outcome.problems_of_ranks[rank])},
                              {"busy_seconds", outcome.busy_seconds[rank]}});
    std::cout << json_line(out) << '\n';
    return;
  }
  if (options.quiet) return;
  std::printf("problems     %s, dictionary %lld x %lld\n", with_commas(summary.problems).c_str(),
              static_cast<long long>(dictionary.rows()), static_cast<long long>(dictionary.atoms()));
  if (outcome.resumed > 0)
    std::printf("resumed      %s of them had been solved before\n", with_commas(outcome.resumed).c_str());
  std::printf("converged    %s to a relative gap of %g, worst %.2e\n",
              with_commas(summary.problems - summary.unconverged).c_str(), options.lasso.gap, summary.worst_gap);
  std::printf("codes        %.1f nonzeros a problem\n", static_cast<double>(summary.nonzeros) / problems);
  if (outcome.learned_starts >= 0)
    std::printf("starts       %s codes of %s that are not 0\n", with_commas(outcome.learned_starts).c_str(),
                options.network.c_str());
  std::printf("solver       %s, %.0f iterations a problem\n", solver.c_str(),
              static_cast<double>(summary.iterations) / problems);
  std::printf("device       %s\n", context.description().c_str());
  if (outcome.busy_seconds.size() > 1) {
    const auto [least, most] = std::minmax_element(outcome.busy_seconds.begin(), outcome.busy_seconds.end());
    const double whole = std::max(outcome.solve_seconds, 1e-9);
    std::printf("ranks        %zu, busy %.1f %% to %.1f %% of the time\n", outcome.busy_seconds.size(),
                100 * *least / whole, 100 * *most / whole);
  }
  std::printf("time         %s, %s problems/s\n", duration_text(outcome.seconds).c_str(), short_number(rate).c_str());
  std::printf("output       %s\n", options.output.c_str());
  std::fflush(stdout);
}

void print_finished(const SolveOptions& options) {
  if (options.json) {
    std::cout << json_line({{"finished", true}, {"output", options.output}}) << '\n';
  } else if (!options.quiet) {
    std::printf("%s is finished, there is nothing to resume\n", options.output.c_str());
    std::fflush(stdout);
  }
}

}  // namespace shrinkwarp::cli
