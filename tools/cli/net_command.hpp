// The commands behind `shrinkwarp net`.
#pragma once

#include <shrinkwarp/tools/cli/command.hpp>

namespace shrinkwarp::cli {

void add_net_info(CLI::App& net, Action& action);
void add_net_transform(CLI::App& net, Action& action);
void add_net_train(CLI::App& net, Action& action, Ranks& ranks);
void add_net_evaluate(CLI::App& net, Action& action);
void add_net_forward(CLI::App& net, Action& action);
void add_net_inverse(CLI::App& net, Action& action);

}  // namespace shrinkwarp::cli
