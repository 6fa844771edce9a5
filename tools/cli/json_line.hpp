// JSON as the program prints it: an object a line.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace shrinkwarp::cli {

/// Without a newline. A name of a file may hold any bytes, JSON only UTF-8: what is none becomes U+FFFD, where dump() by
/// itself would throw, after hours of work perhaps.
inline std::string json_line(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace shrinkwarp::cli
