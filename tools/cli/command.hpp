// A subcommand of the program: registers its options and leaves behind what to run.
#pragma once

#include <functional>

#include <shrinkwarp/runtime/error.hpp>

namespace CLI {
class App;
}

namespace shrinkwarp {
class Ranks;
}

namespace shrinkwarp::cli {

/// Option values that do not go together: ends with kUsage.
class UsageError : public Error {
  using Error::Error;
};

/// What the chosen subcommand does after parsing; returns the exit status.
using Action = std::function<int()>;

/// Exit statuses of every subcommand.
enum ExitStatus : int {
  kDone = 0,
  kFailed = 1,  ///< any error that is not one of usage
  kUsage = 2,
  kUnconverged = 3,  ///< all is done and written, but some problem missed its gap
  kSignal = 128,     ///< and the number of the signal that ended the work, as a shell counts
};

void add_solve(CLI::App& app, Action& action, Ranks& ranks);
void add_phantom(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action, Ranks& ranks);
void add_certify(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action, Ranks& ranks);
void add_evaluate(CLI::App& app, Action& action);
void add_net(CLI::App& app, Action& action, Ranks& ranks);
void add_info(CLI::App& app, Action& action);

}  // namespace shrinkwarp::cli
