#include <shrinkwarp/tools/files/loaded_dictionary.hpp>

#include <shrinkwarp/runtime/flat.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

LoadedDictionary LoadedDictionary::from_file(const Context& context, const NpyFile& file, const std::string& name) {
  const Tensor<double> D(Context::cpu(1), file.rows(), file.cols());
  file.read_matrix(D.matrix());
  return from_matrix(context, D.matrix(), name);
}

LoadedDictionary LoadedDictionary::from_matrix(const Context& context, MatrixView<const double> D,
                                               const std::string& name) {
  Hash hash;
  for (std::int64_t j = 0; j < D.cols; ++j) hash.add(D.column(j), D.rows * static_cast<std::int64_t>(sizeof(double)));
  return {Dictionary(context, D, name), hash.value()};
}

std::int64_t LoadedDictionary::flat_bytes() const {
  FlatWriter counted;
  counted.value(hash);
  return counted.used() + dictionary.flat_bytes();
}

void LoadedDictionary::write_flat(VectorView<std::byte> memory) const {
  FlatWriter written(memory);
  written.value(hash);
  dictionary.write_flat(memory.slice(written.used(), memory.size - written.used()));
}

LoadedDictionary LoadedDictionary::from_flat(VectorView<std::byte> memory, const std::shared_ptr<const void>& owner) {
  FlatReader flat(memory, owner);
  std::uint64_t hash = 0;
  flat.value(hash);
  return {Dictionary::from_flat(memory.slice(flat.used(), memory.size - flat.used()), owner), hash};
}

}  // namespace shrinkwarp
