// The `shrinkwarp` program: parses, runs one subcommand, turns every error into one line and an exit status.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>
#include <string>

#include <CLI/CLI.hpp>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/command.hpp>

namespace {

/// Messages of the library begin with the function or class that found the fault, "NpyFile::rows: 'X.npy' ..." or
/// "MomentumNet: found ...": that is for programmers. A file of the user's may have such a name too, which stays.
std::string without_function(const std::string& message, int argc, const char* const* argv) {
  const std::size_t colon = message.find(": ");
  const std::size_t end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
  if (colon == std::string::npos || end != colon + 1) return message;
  const std::string name = message.substr(0, colon);
  const bool given = std::any_of(argv + 1, argv + argc, [&](const std::string& argument) {
    return argument == name || argument.substr(argument.find('=') + 1) == name;  // --output=net
  });
  return given ? message : message.substr(colon + 2);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace shrinkwarp;
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is a write that fails, not the end of a solve
  CLI::App app("shrinkwarp " + std::string(kVersion) +
               ": very many Lasso problems that share one dictionary, each solution with a certificate");
  app.require_subcommand(1);
  app.failure_message([](const CLI::App* parsed, const CLI::Error& error) {
    std::string command = "shrinkwarp";
    std::string found;
    for (const CLI::App* at = parsed; !at->get_subcommands().empty();) {
      at = at->get_subcommands().front();
      command += " " + at->get_name();
    }
    for (const std::string& text : parsed->remaining(true)) found += " '" + text + "'";
    return "shrinkwarp: " + std::string(error.what()) + (found.empty() ? "" : ", found" + found) + " (see " + command +
           " --help)\n";
  });
  app.set_version_flag("--version", std::string(kVersion));
  app.footer("Each command explains itself: shrinkwarp solve --help");
  cli::Action action;
  cli::add_solve(app, action);
  cli::add_certify(app, action);
  cli::add_train(app, action);
  cli::add_evaluate(app, action);
  cli::add_net(app, action);
  cli::add_phantom(app, action);
  cli::add_bench(app, action);
  cli::add_info(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? cli::kDone : cli::kUsage;
  }
  try {
    const int status = action();
    std::cout.flush();
    if (!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout))
      SHRINKWARP_THROW(Error, "standard output could not be written");
    return status;
  } catch (const cli::UsageError& error) {
    std::cerr << "shrinkwarp: " << error.what() << '\n';
    return cli::kUsage;
  } catch (const std::bad_alloc&) {
    std::cerr << "shrinkwarp: out of memory\n";
  } catch (const std::exception& error) {
    std::cerr << "shrinkwarp: " << without_function(error.what(), argc, argv) << '\n';
  }
  return cli::kFailed;
}
