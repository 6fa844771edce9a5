#include <shrinkwarp/tools/python/core/prepared_dictionary.hpp>

#include <shrinkwarp/runtime/io/hash.hpp>

namespace shrinkwarp::python {

PreparedDictionary::PreparedDictionary(const DictionaryArray& D, const std::string& device, int threads)
    : contexts_(device, threads),
      dictionary_(*Contexts::Lease(contexts_), view_of(D), "D"),
      hash_(hash_bytes(D.data(), static_cast<std::int64_t>(D.size() * sizeof(double)))) {}

}  // namespace shrinkwarp::python
