#include <shrinkwarp/tools/cli/learned_start.hpp>

#include <memory>

#include <shrinkwarp/models/lista/network_file.hpp>
#include <shrinkwarp/models/lista/network_run.hpp>

namespace shrinkwarp::cli {
namespace {

template <class T>
SparseCodes codes_by(const Context& context, const Dictionary& dictionary, const NetworkDescription& description,
                     const Safetensors& file, ObservationSource& observations, const LambdaRule& rule,
                     std::int64_t memory, const CancelToken* cancel) {
  const std::unique_ptr<Network<T>> network = make_network<T>(context, dictionary, description.spec);
  network->load(context, file);
  return network_codes<T>(context, dictionary, *network, observations, rule, memory, cancel);
}

}  // namespace

SparseCodes learned_start(const std::string& network, const Context& context, const LoadedDictionary& dictionary,
                          const std::string& dictionary_name, ObservationSource& observations, const LambdaRule& rule,
                          std::int64_t memory, const CancelToken* cancel) {
  const Safetensors file = read_safetensors(network);
  const NetworkDescription description = description_of(file);
  require_dictionary(description, network, dictionary.dictionary.rows(), dictionary.dictionary.atoms(), dictionary.hash,
                     dictionary_name);
  return description.in_double
             ? codes_by<double>(context, dictionary.dictionary, description, file, observations, rule, memory, cancel)
             : codes_by<float>(context, dictionary.dictionary, description, file, observations, rule, memory, cancel);
}

}  // namespace shrinkwarp::cli
