#include <shrinkwarp/tools/files/loaded_dictionary.hpp>

#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

LoadedDictionary LoadedDictionary::from_file(const Context& context, const NpyFile& file, const std::string& name) {
  const Tensor<double> D(Context::cpu(1), file.rows(), file.cols());
  file.read_matrix(D.matrix());
  return {Dictionary(context, D.matrix(), name), hash_bytes(D.data(), D.bytes())};
}

}  // namespace shrinkwarp
