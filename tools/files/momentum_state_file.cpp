#include <shrinkwarp/tools/files/momentum_state_file.hpp>

#include <algorithm>
#include <cmath>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/host_values.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>

namespace shrinkwarp {
namespace {

template <class T>
std::int64_t bytes_of(const std::vector<T>& values) {
  return static_cast<std::int64_t>(values.size() * sizeof(T));
}

void put_positions(NpzWriter& writer, const StoredMomentumState& state) {
  const std::vector<std::int64_t> shape{state.samples, state.features};
  if (state.exact()) {
    writer.put("x", ElementType::i8, shape, state.x.data());
    writer.put("v", ElementType::i8, shape, state.v.data());
  } else {
    writer.put("x", ElementType::f4, shape, state.float_x.data());
    writer.put("v", ElementType::f4, shape, state.float_v.data());
  }
}

/// The values of an array of the archive, in C order.
template <class T, class Stored = T>
std::vector<T> values_of(const NpzReader& reader, const std::string& name, std::vector<std::int64_t>* shape) {
  const NpyArray array = reader.read(name);
  SHRINKWARP_REQUIRE(array.header.type == element_type<Stored>() && !array.header.fortran_order, ValueError,
                     reader.path(), ": the array '", name, "' is ", array.header.descr(),
                     array.header.fortran_order ? " in Fortran order" : "", ", wanted ",
                     ArrayHeader{element_type<Stored>(), sizeof(Stored), false, {}, 0}.descr(), " in C order");
  if (shape != nullptr) *shape = array.header.shape;
  const VectorView<const Stored> values = array.as<Stored>();
  std::vector<T> result(static_cast<std::size_t>(values.size));
  std::transform(values.data, values.data + values.size, result.begin(),
                 [](Stored value) { return static_cast<T>(value); });
  return result;
}

/// The values of an array of f4 or f8 numbers. @param exact  arithmetic, where fixed point would do as well, for the message
std::vector<double> numbers_of(const NpzReader& reader, const std::string& name, bool exact,
                               std::vector<std::int64_t>& shape) {
  const ElementType type = reader.read(name).header.type;
  if (type == ElementType::f4) return values_of<double, float>(reader, name, &shape);
  if (type == ElementType::f8) return values_of<double>(reader, name, &shape);
  SHRINKWARP_THROW(ValueError, reader.path(), ": the array '", name, "' is ", reader.read(name).header.descr(),
                   ", wanted <f4 or <f8", exact ? ", or <i8 in fixed point for both x and v" : "");
}

std::vector<std::int64_t> fixed_point(const NpzReader& reader, const char* name, const std::vector<double>& numbers) {
  std::vector<std::int64_t> fixed(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    bool fits = true;
    fixed[i] = impulse(numbers[i], 1, fits);
    SHRINKWARP_REQUIRE(fits, ValueError, reader.path(), ": element ", i, " of the array '", name, "' is ", numbers[i],
                       ", wanted numbers under 2^19 = 524288 in exact arithmetic");
  }
  return fixed;
}

std::vector<float> single(const NpzReader& reader, const char* name, const std::vector<double>& numbers) {
  std::vector<float> rounded(numbers.begin(), numbers.end());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    SHRINKWARP_REQUIRE(std::isfinite(rounded[i]), ValueError, reader.path(), ": element ", i, " of the array '", name,
                       "' is ", numbers[i], ", wanted numbers that are finite in float32");
  }
  return rounded;
}

}  // namespace

std::int64_t StoredMomentumState::buffer_bytes() const {
  const std::int64_t counted = counts.empty() ? 0 : bytes_of(counts) - static_cast<std::int64_t>(sizeof(std::int32_t));
  return bytes_of(states) + bytes_of(words) + counted + static_cast<std::int64_t>(network.size());
}

StoredMomentumState stored_state(const Context& context, const MomentumState<float>& state, std::int64_t features,
                                 std::int64_t samples) {
  StoredMomentumState stored;
  stored.features = features;
  stored.samples = samples;
  if (!state.v.empty()) {
    stored.float_x = on_host(context, state.x);
    stored.float_v = on_host(context, state.v);
    return stored;
  }
  const InformationBuffer& buffer = state.exact.buffer;
  stored.x = on_host(context, state.exact.x);
  stored.v = on_host(context, state.exact.v);
  stored.states = on_host(context, buffer.states);
  stored.counts = on_host(context, buffer.counts);
  const std::vector<std::uint32_t> lists = on_host(context, buffer.words);
  for (std::size_t tile = 0; tile < stored.counts.size(); ++tile) {
    const auto first = lists.begin() + static_cast<std::ptrdiff_t>(tile) * buffer.capacity;
    stored.words.insert(stored.words.end(), first, first + stored.counts[tile]);
  }
  return stored;
}

void restore_state(const Context& context, const StoredMomentumState& stored, const MomentumState<float>& state,
                   const std::string& what) {
  if (!stored.exact()) {
    to_device(context, stored.float_x, state.x);
    to_device(context, stored.float_v, state.v);
    return;
  }
  const InformationBuffer& buffer = state.exact.buffer;
  std::vector<std::uint32_t> lists(static_cast<std::size_t>(buffer.words.size));
  auto from = stored.words.begin();
  for (std::size_t tile = 0; tile < stored.counts.size(); ++tile) {
    const std::int32_t count = stored.counts[tile];
    SHRINKWARP_REQUIRE(count <= buffer.capacity, ShapeError, what, ": found ", count, " words for list ", tile,
                       ", wanted at most the ", buffer.capacity, " that a forward pass of this network can leave");
    std::copy(from, from + count, lists.begin() + static_cast<std::ptrdiff_t>(tile) * buffer.capacity);
    from += count;
  }
  to_device(context, stored.x, state.exact.x);
  to_device(context, stored.v, state.exact.v);
  to_device(context, stored.states, buffer.states);
  to_device(context, lists, buffer.words);
  to_device(context, stored.counts, buffer.counts);
}

void write_momentum_state(const std::string& path, const StoredMomentumState& state) {
  NpzWriter writer(path);
  put_positions(writer, state);
  if (!state.network.empty()) writer.put_text("network", state.network);
  if (state.exact()) {
    const auto size = [](const auto& values) { return static_cast<std::int64_t>(values.size()); };
    writer.put("states", ElementType::i8, {state.samples, state.features}, state.states.data());
    writer.put("words", ElementType::i4, {size(state.words)}, state.words.data());
    writer.put("counts", ElementType::i4, {size(state.counts) - 1}, state.counts.data());
  }
  writer.finish();
}

void write_positions(const std::string& path, const StoredMomentumState& state) {
  NpzWriter writer(path);
  put_positions(writer, state);
  writer.finish();
}

StoredMomentumState read_positions(const std::string& path, bool exact) {
  const NpzReader reader = NpzReader::open(path);
  StoredMomentumState state;
  std::vector<std::int64_t> shape, other;
  if (exact && reader.read("x").header.type == ElementType::i8) {
    state.x = values_of<std::int64_t>(reader, "x", &shape);
    state.v = values_of<std::int64_t>(reader, "v", &other);
  } else {
    const std::vector<double> x = numbers_of(reader, "x", exact, shape), v = numbers_of(reader, "v", exact, other);
    if (exact) {
      state.x = fixed_point(reader, "x", x);
      state.v = fixed_point(reader, "v", v);
    } else {
      state.float_x = single(reader, "x", x);
      state.float_v = single(reader, "v", v);
    }
  }
  SHRINKWARP_REQUIRE(shape.size() == 2 && shape[0] > 0 && shape[1] > 0, ValueError, path, ": the array 'x' has shape ",
                     shape_text(shape), ", wanted (samples, features)");
  SHRINKWARP_REQUIRE(other == shape, ValueError, path, ": the array 'v' has shape ", shape_text(other), ", wanted ",
                     shape_text(shape));
  state.samples = shape[0];
  state.features = shape[1];
  return state;
}

StoredMomentumState read_momentum_state(const std::string& path) {
  const NpzReader reader = NpzReader::open(path);
  StoredMomentumState state;
  std::vector<std::int64_t> shape, other;
  if (reader.read("x").header.type == ElementType::f4) {
    state.float_x = values_of<float>(reader, "x", &shape);
    state.float_v = values_of<float>(reader, "v", &other);
  } else {
    state.x = values_of<std::int64_t>(reader, "x", &shape);
    state.v = values_of<std::int64_t>(reader, "v", &other);
  }
  SHRINKWARP_REQUIRE(shape.size() == 2 && shape[0] > 0 && shape[1] > 0, ValueError, path, ": the array 'x' has shape ",
                     shape_text(shape), ", wanted (samples, features)");
  state.samples = shape[0];
  state.features = shape[1];
  const auto require_shape = [&](const char* name, const std::vector<std::int64_t>& found,
                                 const std::vector<std::int64_t>& wanted) {
    SHRINKWARP_REQUIRE(found == wanted, ValueError, path, ": the array '", name, "' has shape ", shape_text(found),
                       ", wanted ", shape_text(wanted));
  };
  require_shape("v", other, shape);
  if (reader.contains("network")) state.network = reader.read("network").text();
  if (!state.exact()) return state;
  state.states = values_of<std::uint64_t, std::int64_t>(reader, "states", &other);
  require_shape("states", other, shape);
  state.words = values_of<std::uint32_t, std::int32_t>(reader, "words", nullptr);
  state.counts = values_of<std::int32_t>(reader, "counts", &other);
  require_shape("counts", other, {InformationBuffer::tiles(state.samples * state.features) - 1});
  auto left = static_cast<std::int64_t>(state.words.size());
  for (const std::int32_t count : state.counts) {
    SHRINKWARP_REQUIRE(count >= 0 && count <= left, ValueError, path, ": the array 'counts' has the element ", count,
                       ", wanted numbers that the ", state.words.size(), " elements of 'words' add up to");
    left -= count;
  }
  SHRINKWARP_REQUIRE(left <= std::numeric_limits<std::int32_t>::max(), ValueError, path, ": the array 'words' has ",
                     left, " elements for the last tile, wanted less than 2^31");
  state.counts.push_back(static_cast<std::int32_t>(left));
  return state;
}

}  // namespace shrinkwarp
