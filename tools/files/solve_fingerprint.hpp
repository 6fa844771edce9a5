// What the bits of a solve depend on.
#pragma once

#include <cstdint>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>

namespace shrinkwarp {

/// All that the bits of a result depend on but the observations, of which only the size is here: a journal keeps a hash of
/// each. Neither the number of threads is among it nor the memory limit, nor where files lie. Names are those of the options of `shrinkwarp solve`
/// where there is one.
///
/// @param dictionary_hash  hash_bytes of D as the dictionary was made from, in float64
/// @param rule             with its lambda_max, where it is a fraction of the recording's
Fingerprint fingerprint_of(const Context& context, const Dictionary& dictionary, std::uint64_t dictionary_hash,
                           const ObservationSource& observations, const LambdaRule& rule, const LassoOptions& options);

}  // namespace shrinkwarp
