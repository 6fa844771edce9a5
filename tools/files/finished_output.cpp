#include <shrinkwarp/tools/files/finished_output.hpp>

#include <algorithm>
#include <cstdint>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kRowsBytes = std::int64_t{1} << 20;  // of observations read at once

std::string text_of(const std::string& output) {
  const NpzReader file = NpzReader::open(output);
  const Origin origin{"difference_of_output", output};
  if (!file.contains("fingerprint"))
    SHRINKWARP_THROW_IO(origin, -1, "does not say how it was made: found no array 'fingerprint'");
  const NpyArray array = file.read("fingerprint");
  if (array.header.type != ElementType::s || array.header.size() != 1)
    SHRINKWARP_THROW_IO(origin, -1, "found a 'fingerprint' of ", array.header.descr(), ", wanted a text");
  return array.text();
}

std::uint64_t hash_of(ObservationSource& source, const CancelToken* cancel) {
  const std::int64_t n = source.dimension();
  const std::int64_t block = std::max<std::int64_t>(1, kRowsBytes / (8 * n));
  const Tensor<double> X(Context::cpu(1), n, block);
  std::uint64_t all = 0;
  for (std::int64_t first = 0; first < source.size(); first += block) {
    if (cancel && cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "cancelled while looking whether the observations are the same");
    const std::int64_t count = std::min(block, source.size() - first);
    source.read(first, X.matrix().columns(0, count));
    for (std::int64_t b = 0; b < count; ++b)
      all +=
          observation_hash(first + b, hash_bytes(X.matrix().column(b), n * static_cast<std::int64_t>(sizeof(double))));
  }
  return all;
}

}  // namespace

std::uint64_t observation_hash(std::int64_t row, std::uint64_t row_hash) noexcept {
  const std::uint64_t both[] = {static_cast<std::uint64_t>(row), row_hash};
  return hash_bytes(both, sizeof both);
}

std::string difference_of_output(const std::string& output, const Fingerprint& fingerprint, ObservationSource& source,
                                 const CancelToken* cancel) {
  const std::string found = text_of(output);
  const std::size_t observations = found.rfind(std::string(kObservationsHash) + ": ");
  const std::string difference = fingerprint.difference(found.substr(0, observations));
  if (!difference.empty()) return difference;
  Fingerprint whole = fingerprint;
  whole.add_hash(kObservationsHash, hash_of(source, cancel));
  return whole.difference(found);
}

}  // namespace shrinkwarp
