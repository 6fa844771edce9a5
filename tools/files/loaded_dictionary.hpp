// A dictionary from a file, and the hash by which it is known again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

struct LoadedDictionary {
  Dictionary dictionary;
  std::uint64_t hash = 0;  ///< of the values of D in float64, by column

  /// Reads D [n, m] and holds it in float64 as long as this takes.
  /// @param name  begins the message of an error about the values
  /// @throws IoError, and what Dictionary throws
  static LoadedDictionary from_file(const Context& context, const NpyFile& file, const std::string& name);
  /// The same from D [n, m] on the host, which may go afterwards. @throws what Dictionary throws
  static LoadedDictionary from_matrix(const Context& context, MatrixView<const double> D, const std::string& name);
  /// As Dictionary's, with the hash.
  std::int64_t flat_bytes() const;
  void write_flat(VectorView<std::byte> memory) const;
  static LoadedDictionary from_flat(VectorView<std::byte> memory, const std::shared_ptr<const void>& owner);
};

}  // namespace shrinkwarp
