#include <shrinkwarp/tools/files/labelled_samples_file.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

template <class Stored, class Value>
void append(const NpyFile& file, std::vector<Value>& values) {
  const VectorView<const Stored> stored = file.as<Stored>();
  values.reserve(static_cast<std::size_t>(stored.size));
  for (std::int64_t i = 0; i < stored.size; ++i) values.push_back(static_cast<Value>(stored[i]));
}

}  // namespace

LabelledSamples read_samples(const std::string& path) {
  const NpyFile file = NpyFile::open(path);
  const ArrayHeader& header = file.header();
  const std::vector<std::int64_t>& shape = header.shape;
  const bool known = (shape.size() == 2 || shape.size() == 4) &&
                     std::all_of(shape.begin(), shape.end(), [](std::int64_t side) { return side > 0; });
  SHRINKWARP_REQUIRE(known, ShapeError, path, ": found an array of shape ", shape_text(shape),
                     ", wanted (samples, features) or (samples, channels, height, width), none of them 0");
  SHRINKWARP_REQUIRE(!header.fortran_order, ValueError, path,
                     ": found an array in Fortran order, wanted C order (numpy.ascontiguousarray)");
  LabelledSamples samples;
  samples.images = shape.size() == 4;
  samples.shape = shape.size() == 2 ? Shape{shape[1]} : Shape{shape[1], shape[2], shape[3]};
  switch (header.type) {
    case ElementType::f4:
      append<float>(file, samples.values);
      break;
    case ElementType::f8:
      append<double>(file, samples.values);
      break;
    case ElementType::u1:
      append<std::uint8_t>(file, samples.values);
      break;
    default:
      SHRINKWARP_THROW(ValueError, path, ": found elements ", header.descr(), ", wanted <f4, <f8 or |u1");
  }
  const auto bad =
      std::find_if(samples.values.begin(), samples.values.end(), [](float value) { return !std::isfinite(value); });
  SHRINKWARP_REQUIRE(bad == samples.values.end(), ValueError, path, ": sample ",
                     (bad - samples.values.begin()) / samples.shape.size(),
                     " has a value that is not finite in float32, wanted finite numbers");
  return samples;
}

void read_labels(const std::string& path, std::int64_t classes, LabelledSamples& samples) {
  const NpyFile file = NpyFile::open(path);
  const ArrayHeader& header = file.header();
  const std::int64_t count = samples.count();
  SHRINKWARP_REQUIRE(header.shape == std::vector<std::int64_t>{count}, ShapeError, path, ": found an array of shape ",
                     shape_text(header.shape), ", wanted (", count, ",), a label for each sample");
  std::vector<std::int64_t> labels;
  switch (header.type) {
    case ElementType::i4:
      append<std::int32_t>(file, labels);
      break;
    case ElementType::i8:
      append<std::int64_t>(file, labels);
      break;
    case ElementType::u1:
      append<std::uint8_t>(file, labels);
      break;
    default:
      SHRINKWARP_THROW(ValueError, path, ": found elements ", header.descr(), ", wanted <i4, <i8 or |u1");
  }
  constexpr std::int64_t kMost = 1 << 24;
  const std::int64_t most = classes > 0 ? classes : kMost;
  samples.labels.clear();
  for (std::size_t i = 0; i < labels.size(); ++i) {
    SHRINKWARP_REQUIRE(labels[i] >= 0 && labels[i] < most, ValueError, path, ": label ", i, " is ", labels[i],
                       ", wanted from 0 to ", most - 1);
    samples.labels.push_back(static_cast<std::int32_t>(labels[i]));
  }
}

std::int64_t classes_of(const LabelledSamples& samples) {
  return 1 + *std::max_element(samples.labels.begin(), samples.labels.end());
}

}  // namespace shrinkwarp
