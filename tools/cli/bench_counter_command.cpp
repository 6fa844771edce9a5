#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/bench_command.hpp>
#include <shrinkwarp/tools/cli/json_line.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {
namespace {

struct CounterArguments {
  double seconds = 1;
  int callers = 0;
  bool json = false;
};

int run_counter(const CounterArguments& arguments, Ranks& ranks) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const int callers = arguments.callers > 0 ? arguments.callers : ranks.size();
  together(ranks, [&] {
    SHRINKWARP_REQUIRE(callers <= ranks.size(), UsageError, "--callers: found ", callers, ", wanted at most ",
                       ranks.size(), ", the ranks that there are");
  });
  constexpr int kBlock = 64;  // between two looks at the clock
  ranks.reset();
  double calls = 0;
  const auto start = Clock::now();
  if (ranks.rank() >= ranks.size() - callers) do {
      // As a rank that takes a chunk: has anybody failed, and which is next.
      for (int i = 0; i < kBlock; ++i, calls += 2) {
        ranks.raise(Ranks::failed, 0);
        ranks.add(Ranks::first_chunks, 1);
      }
    } while (seconds_since(start) < arguments.seconds);
  const std::vector<double> calls_of_ranks = ranks.all(calls);
  const std::vector<double> seconds = ranks.all(calls > 0 ? seconds_since(start) : 0);
  const auto counted = static_cast<double>(ranks.add(Ranks::first_chunks, 0));
  double all = 0, rate = 0;
  for (std::size_t rank = 0; rank < seconds.size(); ++rank) {
    all += calls_of_ranks[rank];
    rate += calls_of_ranks[rank] > 0 ? calls_of_ranks[rank] / seconds[rank] : 0;
  }
  SHRINKWARP_REQUIRE(2 * counted == all, Error, "the counter of the ranks has counted to ", counted, ", wanted ",
                     all / 2);
  if (!ranks.first()) return kDone;
  const std::string library = ranks.alone() ? "" : mpi_library();
  if (arguments.json) {
    nlohmann::json out = bench_identity("counter");
    out.update({{"mpi", library},
                {"ranks", ranks.size()},
                {"callers", callers},
                {"calls", calls_of_ranks},
                {"seconds", seconds},
                {"calls_per_second", rate},
                {"seconds_a_call", callers / rate}});
    std::cout << json_line(out) << std::endl;
    return kDone;
  }
  std::printf("%d of %d ranks%s%s: %s calls a second in all, %.3f us a call\n", callers, ranks.size(),
              library.empty() ? "" : " of ", library.c_str(), short_number(rate).c_str(), 1e6 * callers / rate);
  std::fflush(stdout);
  return kDone;
}

}  // namespace

void add_bench_counter(CLI::App& bench, Action& action, Ranks& ranks) {
  auto arguments = std::make_shared<CounterArguments>();
  CLI::App* counter =
      bench.add_subcommand("counter", "The counter that ranks of mpirun take their problems from: calls a second");
  counter->add_option("--seconds", arguments->seconds, "to go on")->check(positive_number())->capture_default_str();
  counter
      ->add_option("--callers", arguments->callers,
                   "ranks that call, the last ones; 0: all. The counter lies in the memory of rank 0")
      ->check(whole_number(0, 1 << 24));
  counter->add_flag("--json", arguments->json, "one JSON object");
  counter->footer("Example:\n  mpirun -n 2 shrinkwarp bench counter");
  counter->callback(
      [arguments, &action, &ranks] { action = [arguments, &ranks] { return run_counter(*arguments, ranks); }; });
}

}  // namespace shrinkwarp::cli
