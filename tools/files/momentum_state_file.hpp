// States of momentum networks as files: x and v, and in exact arithmetic the buffer that leads back from them.
//
// An .npz archive. x, v [N, features]: int64 fixed point with 44 fraction bits, or float32. Of the buffer: `states` [N, features]
// int64, the bits of B; `words` int32, the lists of all tiles one after another; `counts` int32, how many words the list of each
// tile but the last has. `network`: which network it is of, a text, or a hash of it, or nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp {

/// A state on the host.
struct StoredMomentumState {
  std::int64_t features = 0, samples = 0;
  std::string network;
  // In exact arithmetic.
  std::vector<std::int64_t> x, v;
  std::vector<std::uint64_t> states;
  std::vector<std::uint32_t> words;
  std::vector<std::int32_t> counts;  // of all tiles
  // In approximate arithmetic.
  std::vector<float> float_x, float_v;

  bool exact() const { return !x.empty(); }
  /// Of all that a file holds beside x and v.
  std::int64_t buffer_bytes() const;
};

/// What a state on a device holds. Synchronises.
StoredMomentumState stored_state(const Context& context, const MomentumState<float>& state, std::int64_t features,
                                 std::int64_t samples);
/// The same back, to a state laid out for as many samples. Synchronises.
/// @param what  begins the message  @throws ShapeError (a list that is longer than that state's capacity)
void restore_state(const Context& context, const StoredMomentumState& stored, const MomentumState<float>& state,
                   const std::string& what);

/// @throws IoError
void write_momentum_state(const std::string& path, const StoredMomentumState& state);
/// x and v alone. @throws IoError
void write_positions(const std::string& path, const StoredMomentumState& state);
/// x and v to begin with, of f4 or f8 numbers, or for exact arithmetic of i8 in fixed point as write_positions() writes them; nothing
/// else of the file is looked at. Numbers are rounded to fixed point, or to float32.
/// @param exact  arithmetic
/// @throws IoError, ValueError (as read_momentum_state; numbers that are not finite, or out of the range of the arithmetic)
StoredMomentumState read_positions(const std::string& path, bool exact);
/// @throws IoError, ValueError (naming the file, what was found and what was wanted: an array that is missing or of another type,
///         shapes that do not fit)
StoredMomentumState read_momentum_state(const std::string& path);

}  // namespace shrinkwarp
