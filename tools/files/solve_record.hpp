// A record of a solve's journal: finished problems, one entry after the other.
//
//   8 bytes  number of entries
//   entries  an EntryHead, then its atoms (int32) and their values (float64)
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {

/// What an entry begins with. The fields are those of LassoBatch.
struct EntryHead {
  std::int64_t index = 0;
  std::uint64_t row_hash = 0;  ///< hash_bytes of the observation in float64
  double lambda = 0;
  double objective = 0;
  double dual_gap = 0;
  std::int64_t iterations = 0;
  std::int32_t nonzeros = 0;
  std::int32_t converged = 0;
  std::int64_t bytes() const { return static_cast<std::int64_t>(sizeof(EntryHead)) + std::int64_t{12} * nonzeros; }
};
static_assert(sizeof(EntryHead) == 56, "an entry has no padding");

/// The record of problems [first, last) of a batch.
/// @param row_hashes  of all of the batch's observations
/// @param offsets     gets where in the record each entry begins
std::vector<std::byte> solve_record(const LassoBatch& batch, std::int64_t first, std::int64_t last,
                                    const std::vector<std::uint64_t>& row_hashes, std::vector<std::int64_t>& offsets);

/// Number of entries that a record claims to have. @throws IoError (no record)
std::int64_t solve_record_entries(const std::byte* record, std::int64_t bytes, const Origin& origin);

/// Calls visit(head, offset of the entry in the record) for each entry, after checking that it lies within the record
/// and is of one of `problems` problems, each of its atoms one of `atoms`.
/// @param record  any bytes
/// @throws IoError (this is no such record), whatever `visit` throws
void read_solve_record(const std::byte* record, std::int64_t bytes, std::int64_t problems, std::int64_t atoms,
                       const Origin& origin, FunctionRef<void(const EntryHead&, std::int64_t)> visit);

/// Adds an entry to a batch. @param entry  `head.bytes()` bytes, as read_solve_record has seen them
void append_entry(const EntryHead& head, const std::byte* entry, LassoBatch& batch);

}  // namespace shrinkwarp
