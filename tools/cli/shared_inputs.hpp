// What ranks find out together before they solve, each doing its share.
#pragma once

#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/loaded_dictionary.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {

/// A device for this rank: ranks of a node have its GPUs in turn, or their share of its processors.
/// @param threads  of the CPU; 0 takes the share  @throws as Context::named
Context context_of(const Ranks& ranks, const std::string& device, int threads);

/// Reads D once a node, and on the CPU prepares it once a node, for all its ranks. Collective.
/// @param name     as LoadedDictionary::from_file
/// @param prepare  makes what will be used of it; called on one rank of a node, of a process alone not at all: what is used
///                 is then made when it is
LoadedDictionary load_dictionary(Ranks& ranks, const Context& context, const NpyFile& file, const std::string& name,
                                 FunctionRef<void(const Dictionary&)> prepare);

/// The largest lambda_max of all observations, each rank looking at a share of them. Collective.
double lambda_max_of_recording(Ranks& ranks, const Context& context, const Dictionary& dictionary,
                               ObservationSource& observations, const LassoOptions& lasso);

/// Bits that the ranks make are the same only where all that they depend on is. Collective.
/// @param observations  where the fingerprint has nothing of them but the size: some rows are compared, the first, the last
///                      and up to 14 in between, evenly spread
/// @throws AgreedError (names the rank, its node and what differs from rank 0)
void require_same_on_all(Ranks& ranks, const Fingerprint& fingerprint, ObservationSource* observations = nullptr);

}  // namespace shrinkwarp::cli
