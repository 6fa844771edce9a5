#include <shrinkwarp/tools/cli/net_start.hpp>

#include <algorithm>

#include <shrinkwarp/models/resnet/net_file.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/tools/cli/command.hpp>

namespace shrinkwarp::cli {
namespace {

bool ends_with(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

/// Refuses a file whose network says that it is another one, by the options that differ.
void require_same_sizes(const NetSpec& spec, const Safetensors& start, const std::string& samples) {
  // Of tensors alone, but for those of torchvision's ResNets, nothing is known.
  if (start.metadata.count("format") == 0 && start.tensors().count("conv1.weight") == 0) return;
  const NetSpec theirs = net_spec_of(start, spec.input);
  SHRINKWARP_REQUIRE(theirs.architecture == spec.architecture, UsageError, "--start: ", start.path(), " holds ",
                     theirs.architecture, ", wanted ", spec.architecture);
  if (spec.architecture != "mlp") {
    SHRINKWARP_REQUIRE(theirs.input.channels == spec.input.channels, UsageError, samples, ": found images of ",
                       spec.input.channels, " channels, wanted ", theirs.input.channels, " as ", start.path(),
                       " takes (--start)");
    return;
  }
  SHRINKWARP_REQUIRE(theirs.input.size() == spec.input.size(), UsageError, samples, ": found samples of ",
                     spec.input.size(), " features, wanted ", theirs.input.size(), " as ", start.path(),
                     " takes (--start)");
  Safetensors ours;
  describe_net(spec, ours);
  for (const char* const key : {"blocks", "width", "hidden", "normalisation"}) {
    const std::string &found = ours.metadata.at(key), &wanted = start.metadata.at(key);
    SHRINKWARP_REQUIRE(found == wanted, UsageError, "--", key, ": found ", found, ", wanted ", wanted, " as ",
                       start.path(), " has (--start)");
  }
}

/// Refuses tensors that the network has no place for: of blocks that would be cut off, of norms. Momenta may go, and so
/// may the counters of torchvision's batch norms.
void require_places(const Net<float>& net, const Safetensors& start) {
  std::set<std::string> names;
  for (const ParameterList::Entry& entry : net.list().entries()) names.insert(entry.name);
  for (const auto& tensor : start.tensors()) {
    const std::string& name = tensor.first;
    SHRINKWARP_REQUIRE(names.count(name) > 0 || ends_with(name, ".gamma") || ends_with(name, ".num_batches_tracked"),
                       ValueError, start.path(), ": found the tensor '", printable(name),
                       "', which this network does not have, wanted the tensors of the same network (--start)");
  }
}

/// "0.9", or "0.85 to 0.95" where they differ.
std::string gammas_text(const std::vector<float>& gammas) {
  const auto [low, high] = std::minmax_element(gammas.begin(), gammas.end());
  return *low == *high ? concat(*low) : concat(*low, " to ", *high);
}

}  // namespace

bool has_learned_gammas(const Safetensors& file) {
  const auto found = file.metadata.find("gamma_learned");
  return found != file.metadata.end() && found->second == "yes";
}

NetStart plan_start(const Net<float>& net, const Safetensors& start, const std::string& samples) {
  const NetSpec& spec = net.spec();
  require_same_sizes(spec, start, samples);
  require_places(net, start);
  NetStart plan;
  const std::string head = spec.architecture == "mlp" ? "head" : "fc";
  const bool takes_gammas = spec.momentum && spec.momentum->learned && has_learned_gammas(start);
  std::vector<float> theirs, ours;
  for (const ParameterList::Entry& entry : net.list().entries()) {
    const auto found = start.tensors().find(entry.name);
    if (ends_with(entry.name, ".gamma") && !takes_gammas) {
      plan.afresh.insert(entry.name);
      for (const double gamma : entry.initial.values) ours.push_back(static_cast<float>(gamma));
      if (found == start.tensors().end()) continue;
      const std::vector<float> gammas = start.values<float>(entry.name, found->second.shape);
      theirs.insert(theirs.end(), gammas.begin(), gammas.end());
    } else if (entry.name == head + ".weight" && found != start.tensors().end()) {
      const std::vector<std::int64_t>& shape = found->second.shape;
      if (shape.size() != 2 || shape[1] != entry.shape[1] || shape[0] == entry.shape[0]) continue;
      plan.afresh.insert({head + ".weight", head + ".bias"});
      plan.lines.push_back(concat("the head begins afresh, for ", entry.shape[0], " classes in place of ", shape[0]));
    }
  }
  if (!theirs.empty() && theirs != ours)
    plan.lines.push_back(concat("gamma is ", gammas_text(ours), " in place of ", gammas_text(theirs)));
  return plan;
}

}  // namespace shrinkwarp::cli
