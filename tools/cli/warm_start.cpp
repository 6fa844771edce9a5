#include <shrinkwarp/tools/cli/warm_start.hpp>

#include <algorithm>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/certify/codes_file.hpp>

namespace shrinkwarp::cli {

SparseCodes read_warm_start(const std::string& path, std::int64_t problems, std::int64_t atoms) {
  certify::CodesFile file = certify::CodesFile::open(path);
  SHRINKWARP_REQUIRE(file.size() == problems && file.atoms() == atoms, ShapeError, path, ": found codes (", file.size(),
                     ", ", file.atoms(), "), wanted (", problems, ", ", atoms,
                     "): a row for each observation and a column for each atom");
  constexpr std::int64_t kRows = 1024;
  SparseCodes codes;
  certify::CodeRows rows;
  for (std::int64_t first = 0; first < problems; first += kRows) {
    file.read(std::min(kRows, problems - first), rows);
    const std::int64_t start = codes.offsets.back();
    for (std::size_t i = 1; i < rows.offsets.size(); ++i) codes.offsets.push_back(start + rows.offsets[i]);
    codes.values.insert(codes.values.end(), rows.values.begin(), rows.values.end());
    for (const std::int64_t atom : rows.indices) codes.indices.push_back(static_cast<std::int32_t>(atom));
  }
  codes.offsets.shrink_to_fit();
  codes.indices.shrink_to_fit();
  codes.values.shrink_to_fit();
  return codes;
}

std::int64_t bytes_of(const SparseCodes& codes) {
  return static_cast<std::int64_t>(8 * codes.offsets.size() + 12 * codes.values.size());
}

}  // namespace shrinkwarp::cli
