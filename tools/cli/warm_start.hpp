// Codes that a solve starts from, out of a file.
#pragma once

#include <cstdint>
#include <string>

#include <shrinkwarp/models/lasso/lasso.hpp>

namespace shrinkwarp::cli {

/// All codes of a file as `shrinkwarp certify` reads them (scipy.sparse's CSR, or dense). @throws IoError, ShapeError (other
/// than (problems, atoms)), ValueError
SparseCodes read_warm_start(const std::string& path, std::int64_t problems, std::int64_t atoms);

/// Bytes that codes take.
std::int64_t bytes_of(const SparseCodes& codes);

}  // namespace shrinkwarp::cli
