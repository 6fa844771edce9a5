#include <shrinkwarp/models/lista/network_file.hpp>

#include <cmath>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/metadata.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kFormat = "shrinkwarp-network-1";
constexpr const char* kWanted = "a network's file as shrinkwarp train writes it";

/// Name and shape of the largest of a network's tensors.
std::pair<std::string, std::vector<std::int64_t>> largest_tensor(const NetworkDescription& description) {
  const std::int64_t layers = description.spec.layers, n = description.rows, m = description.atoms;
  switch (description.spec.kind) {
    case NetworkKind::step:
    case NetworkKind::alista:
      return {"steps", {layers}};
    case NetworkKind::coupled:
      return {"W", {layers, n, m}};
    case NetworkKind::lista:
    case NetworkKind::momentum_lista:
      break;
  }
  return {"W1", {layers, m, m}};
}

}  // namespace

void describe(const NetworkDescription& description, Safetensors& file) {
  const NetworkSpec& spec = description.spec;
  file.metadata["format"] = kFormat;
  file.metadata["network"] = name_of(spec.kind);
  file.metadata["layers"] = text_of(spec.layers);
  file.metadata["rows"] = text_of(description.rows);
  file.metadata["atoms"] = text_of(description.atoms);
  file.metadata["dictionary_hash"] = text_of(description.dictionary_hash, 16);
  file.metadata["lambda_low"] = text_of(description.lambda.low);
  file.metadata["lambda_high"] = text_of(description.lambda.high);
  if (spec.kind != NetworkKind::alista) return;
  file.metadata["matrix"] = spec.analytic ? "analytic" : "dictionary";
  file.metadata["ridge"] = text_of(spec.ridge);
  file.metadata["selected_percent_a_layer"] = text_of(spec.selection.percent_a_layer);
  file.metadata["selected_percent"] = text_of(spec.selection.most_percent);
}

NetworkDescription description_of(const Safetensors& file) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  constexpr double kLargest = 1e300;
  const Metadata metadata(file, kWanted);
  const std::string& format = metadata.text("format");
  SHRINKWARP_REQUIRE(format == kFormat, ValueError, file.path(), ": found the format '", printable(format),
                     "', wanted ", kFormat);
  SHRINKWARP_REQUIRE(file.is_intact(), ValueError, file.path(),
                     ": found other numbers than were written, wanted those: the file is damaged");
  NetworkDescription result;
  const std::string& kind = metadata.text("network");
  const auto known = network_kind(kind);
  SHRINKWARP_REQUIRE(known, ValueError, file.path(), ": found the network '", printable(kind),
                     "', wanted lista, coupled, step, alista or momentum-lista");
  result.spec.kind = *known;
  result.spec.layers = metadata.number<std::int64_t>("layers", 1, 1 << 20);
  result.rows = metadata.number<std::int64_t>("rows", 1, kMost);
  result.atoms = metadata.number<std::int64_t>("atoms", 1, kMost);
  result.dictionary_hash = metadata.number<std::uint64_t>("dictionary_hash", 0, ~std::uint64_t{0}, 16);
  result.lambda.low = metadata.number<double>("lambda_low", 0, kLargest);
  result.lambda.high = metadata.number<double>("lambda_high", result.lambda.low, kLargest);
  if (*known == NetworkKind::alista) {
    const std::string& matrix = metadata.text("matrix");
    SHRINKWARP_REQUIRE(matrix == "analytic" || matrix == "dictionary", ValueError, file.path(), ": found the matrix '",
                       printable(matrix), "', wanted analytic or dictionary");
    result.spec.analytic = matrix == "analytic";
    result.spec.ridge = metadata.number<double>("ridge", 0, kLargest);
    result.spec.selection.percent_a_layer = metadata.number<double>("selected_percent_a_layer", 0, kLargest);
    result.spec.selection.most_percent = metadata.number<double>("selected_percent", 0, 100);
  }
  // The largest tensor is as long as the metadata say: nothing is made for layers that the file does not have.
  const auto [name, shape] = largest_tensor(result);
  const StoredTensor& largest = file.at(name);
  SHRINKWARP_REQUIRE(largest.shape == shape, ShapeError, file.path(), ": the tensor '", name, "' has the shape ",
                     shape_text(largest.shape), ", wanted ", shape_text(shape));
  result.in_double = largest.type == StoredType::f64;
  return result;
}

void require_dictionary(const NetworkDescription& description, const std::string& file, std::int64_t rows,
                        std::int64_t atoms, std::uint64_t hash, const std::string& dictionary) {
  SHRINKWARP_REQUIRE(description.rows == rows && description.atoms == atoms, ShapeError, file,
                     ": found a network for a dictionary of ", description.rows, " x ", description.atoms, ", wanted ",
                     rows, " x ", atoms, " as ", dictionary, " has");
  SHRINKWARP_REQUIRE(description.dictionary_hash == hash, ValueError, file,
                     ": found a network that was trained for another dictionary of ", rows, " x ", atoms, " than ",
                     dictionary);
}

}  // namespace shrinkwarp
