// What `net train --start` takes of another network's file: weights, for a network that may have other momentum and other
// classes.
#pragma once

#include <set>
#include <string>
#include <vector>

#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp::cli {

/// What a network does not take of the file that it starts from.
struct NetStart {
  std::set<std::string> afresh;    ///< tensors of the network that begin as if there were no file
  std::vector<std::string> lines;  ///< what the user is told of them
};

/// Gammas are those of the network's options, but where it learns them and the file's network has too they are weights
/// like others. A head of another number of classes begins afresh. All else has to be in the file, which may hold nothing
/// more but gammas and counters of batch norms.
/// @param samples  file of the samples, for messages
/// @throws UsageError (another architecture, other sizes: names the option, or the samples), ValueError (tensors without
///         a place)
NetStart plan_start(const Net<float>& net, const Safetensors& start, const std::string& samples);

/// Whether the gammas of a file are weights that have been trained.
bool has_learned_gammas(const Safetensors& file);

}  // namespace shrinkwarp::cli
