// Numbers as the program prints them.
#pragma once

#include <cstdint>
#include <string>

namespace shrinkwarp::cli {

/// 1234567 as "1,234,567".
std::string with_commas(std::int64_t value);
/// Seconds as "0.42 s", "3 min 05 s", "2 h 07 min".
std::string duration_text(double seconds);
/// A number with three significant digits and an SI prefix: "12.3k".
std::string short_number(double value);

}  // namespace shrinkwarp::cli
