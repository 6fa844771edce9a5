#include <shrinkwarp/models/lista/network_file.hpp>

#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

constexpr const char* kFormat = "shrinkwarp-network-1";

template <class Number>
std::string text_of(Number number, int base = 10) {
  char buffer[64];
  const auto end = [&] {
    if constexpr (std::is_floating_point_v<Number>)
      return std::to_chars(buffer, buffer + sizeof(buffer), number).ptr;
    else
      return std::to_chars(buffer, buffer + sizeof(buffer), number, base).ptr;
  }();
  return {buffer, end};
}

const std::string& entry(const Safetensors& file, const std::string& key) {
  const auto found = file.metadata.find(key);
  SHRINKWARP_REQUIRE(found != file.metadata.end(), ValueError, file.path(), ": found no '", key,
                     "' among the metadata, wanted a network's file as shrinkwarp train writes it");
  return found->second;
}

template <class Number>
Number number(const Safetensors& file, const std::string& key, Number least, Number most, int base = 10) {
  const std::string& text = entry(file, key);
  Number value{};
  std::from_chars_result end{};
  if constexpr (std::is_floating_point_v<Number>)
    end = std::from_chars(text.data(), text.data() + text.size(), value);
  else
    end = std::from_chars(text.data(), text.data() + text.size(), value, base);
  SHRINKWARP_REQUIRE(end.ec == std::errc() && end.ptr == text.data() + text.size() && value >= least && value <= most,
                     ValueError, file.path(), ": '", key, "' is '", printable(text), "', wanted a number from ", least,
                     " to ", most);
  return value;
}

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
  const std::string& format = entry(file, "format");
  SHRINKWARP_REQUIRE(format == kFormat, ValueError, file.path(), ": found the format '", printable(format),
                     "', wanted ", kFormat);
  SHRINKWARP_REQUIRE(file.is_intact(), ValueError, file.path(),
                     ": found other numbers than were written, wanted those: the file is damaged");
  NetworkDescription result;
  const std::string& kind = entry(file, "network");
  const auto known = network_kind(kind);
  SHRINKWARP_REQUIRE(known, ValueError, file.path(), ": found the network '", printable(kind),
                     "', wanted lista, coupled, step, alista or momentum-lista");
  result.spec.kind = *known;
  result.spec.layers = number<std::int64_t>(file, "layers", 1, 1 << 20);
  result.rows = number<std::int64_t>(file, "rows", 1, kMost);
  result.atoms = number<std::int64_t>(file, "atoms", 1, kMost);
  result.dictionary_hash = number<std::uint64_t>(file, "dictionary_hash", 0, ~std::uint64_t{0}, 16);
  result.lambda.low = number<double>(file, "lambda_low", 0, kLargest);
  result.lambda.high = number<double>(file, "lambda_high", result.lambda.low, kLargest);
  if (*known == NetworkKind::alista) {
    const std::string& matrix = entry(file, "matrix");
    SHRINKWARP_REQUIRE(matrix == "analytic" || matrix == "dictionary", ValueError, file.path(), ": found the matrix '",
                       printable(matrix), "', wanted analytic or dictionary");
    result.spec.analytic = matrix == "analytic";
    result.spec.ridge = number<double>(file, "ridge", 0, kLargest);
    result.spec.selection.percent_a_layer = number<double>(file, "selected_percent_a_layer", 0, kLargest);
    result.spec.selection.most_percent = number<double>(file, "selected_percent", 0, 100);
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
