// An output that an earlier solve has finished, and whether this solve would make the same.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/progress.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>

namespace shrinkwarp {

/// The sum, modulo 2^64, of observation_hash over all observations is among what a result says of its making under this name.
inline constexpr const char* kObservationsHash = "values of --observations";

/// Of one observation and its place. @param row_hash  hash_bytes of it in float64
std::uint64_t observation_hash(std::int64_t row, std::uint64_t row_hash) noexcept;

/// How the making of the result at `output` differs from that of a solve, as Fingerprint::difference says it: first the
/// fingerprint and then, where it is the same, the observations, all of which are read for it. Empty where nothing differs.
/// @throws IoError (no result of a solve, or one that does not say how it was made), Cancelled, what the source throws
std::string difference_of_output(const std::string& output, const Fingerprint& fingerprint, ObservationSource& source,
                                 const CancelToken* cancel);

}  // namespace shrinkwarp
