// The `shrinkwarp` program: parses, runs one subcommand, turns every error into one line and an exit status.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <new>
#include <streambuf>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace {

/// Messages of the library begin with the function or class that found the fault, "NpyFile::rows: 'X.npy' ..." or
/// "MomentumNet: found ...": that is for programmers. A file of the user's may have such a name too, which stays.
std::string without_function(const std::string& message, int argc, const char* const* argv) {
  // What another rank has met begins with "rank 1 on NODE: ".
  const std::size_t begin = message.compare(0, 5, "rank ") == 0 ? message.find(": ") + 2 : 0;
  const std::size_t colon = message.find(": ", begin);
  const std::size_t end =
      message.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:", begin);
  if (begin == 1 || colon == std::string::npos || end != colon + 1) return message;
  const std::string name = message.substr(begin, colon - begin);
  const bool given = std::any_of(argv + 1, argv + argc, [&](const std::string& argument) {
    return argument == name || argument.substr(argument.find('=') + 1) == name;  // --output=net
  });
  return given ? message : message.substr(0, begin) + message.substr(colon + 2);
}

/// The subcommand that was parsed: "solve", "net train", or nothing.
std::string command_of(const CLI::App& app) {
  std::string command;
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    command += (command.empty() ? "" : " ") + at->get_name();
  }
  return command;
}

/// Takes all that is written and keeps none of it.
class Silence : public std::streambuf {
  int overflow(int character) override { return traits_type::not_eof(character); }
  std::streamsize xsputn(const char*, std::streamsize count) override { return count; }
};

/// Errors that other ranks do not know of end them too, with the message of one of those that meet one: each waits a while for
/// those before it, and asks nobody, for rank 0 may be where it answers none.
int end_of(shrinkwarp::Ranks& ranks, bool agreed, int status, const std::string& message) {
  using namespace shrinkwarp;
  if (agreed || ranks.alone()) {
    std::cerr << "shrinkwarp: " + message + '\n';
    return status;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(std::min(5000, 500 * ranks.rank())));
  const std::string of = ranks.first() ? "" : concat("rank ", ranks.rank(), " on ", ranks.node_name(), ": ");
  std::fputs(("shrinkwarp: " + of + message + '\n').c_str(), stderr);  // at once, or a launcher's words come between
  ranks.abort(status);
  return status;
}

int run(int argc, char** argv, shrinkwarp::Ranks& ranks) {
  using namespace shrinkwarp;
  try {
    if (!ranks.alone()) cli::require_same_arguments(ranks, {argv + 1, argv + argc});
  } catch (const cli::UsageError& error) {
    return end_of(ranks, true, cli::kUsage, error.what());
  }
  CLI::App app("shrinkwarp " + std::string(kVersion) +
               ": very many Lasso problems that share one dictionary, each solution with a certificate");
  app.require_subcommand(1);
  app.failure_message([](const CLI::App* parsed, const CLI::Error& error) {
    std::string found;
    for (const std::string& text : parsed->remaining(true)) found += " '" + text + "'";
    const std::string command = command_of(*parsed);
    return "shrinkwarp: " + std::string(error.what()) + (found.empty() ? "" : ", found" + found) + " (see shrinkwarp " +
           command + (command.empty() ? "" : " ") + "--help)\n";
  });
  app.set_version_flag("--version", std::string(kVersion));
  app.footer("Each command explains itself: shrinkwarp solve --help");
  cli::Action action;
  cli::add_solve(app, action, ranks);
  cli::add_certify(app, action);
  cli::add_train(app, action, ranks);
  cli::add_evaluate(app, action);
  cli::add_net(app, action, ranks);
  cli::add_phantom(app, action);
  cli::add_bench(app, action, ranks);
  cli::add_info(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? cli::kDone : cli::kUsage;
  }
  const std::string command = command_of(app);
  if (!ranks.alone() && command != "solve" && command != "train" && command != "net train" &&
      command != "bench counter") {
    std::cerr << "shrinkwarp: " << command << ": found " << ranks.size()
              << " ranks, wanted one process: solve, train, net train and bench counter are what ranks share\n";
    return cli::kUsage;
  }
  try {
    const int status = action();
    std::cout.flush();
    if (!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout))
      SHRINKWARP_THROW(Error, "standard output could not be written");
    return status;
  } catch (const std::bad_alloc&) {
    return end_of(ranks, false, cli::kFailed, "out of memory");
  } catch (const std::exception& error) {
    const bool agreed = dynamic_cast<const cli::Agreed*>(&error) != nullptr;
    if (dynamic_cast<const cli::UsageError*>(&error) != nullptr)
      return end_of(ranks, agreed, cli::kUsage, error.what());
    return end_of(ranks, agreed, cli::kFailed, without_function(error.what(), argc, argv));
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace shrinkwarp;
  // A closed pipe and a limit of a file's size are writes that fail, not the end of a solve.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  std::unique_ptr<Ranks> ranks;
  try {
    ranks = started_ranks();
  } catch (const std::exception& error) {
    if (launch_of_environment().rank == 0) std::cerr << "shrinkwarp: " << error.what() << '\n';
    return cli::kFailed;
  }
  if (ranks->first()) return run(argc, argv, *ranks);
  // One rank speaks for all, and its status is that of all: a launcher has words of its own for each that ends otherwise.
  Silence silence;
  std::streambuf* const out = std::cout.rdbuf(&silence);
  std::streambuf* const err = std::cerr.rdbuf(&silence);
  run(argc, argv, *ranks);
  std::cout.rdbuf(out);
  std::cerr.rdbuf(err);
  return cli::kDone;
}
