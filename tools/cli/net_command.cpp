#include <shrinkwarp/tools/cli/net_command.hpp>

#include <CLI/CLI.hpp>

namespace shrinkwarp::cli {

void add_net(CLI::App& app, Action& action, Ranks& ranks) {
  CLI::App* net = app.add_subcommand("net", "Residual and momentum residual networks");
  net->require_subcommand(1);
  add_net_train(*net, action, ranks);
  add_net_evaluate(*net, action);
  add_net_info(*net, action);
  add_net_transform(*net, action);
  add_net_forward(*net, action);
  add_net_inverse(*net, action);
}

}  // namespace shrinkwarp::cli
