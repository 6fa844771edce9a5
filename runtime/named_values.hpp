// Tables of names and what they stand for: in options, in files, in arguments from Python.
#pragma once

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

/// The names of a table of pairs of a name and a value, in its order.
template <class Value, std::size_t N>
std::vector<std::string> names_of(const std::pair<const char*, Value> (&table)[N]) {
  std::vector<std::string> names;
  for (const auto& pair : table) names.emplace_back(pair.first);
  return names;
}

/// The name of a value that is in the table.
template <class Value, std::size_t N>
const char* name_of(const std::pair<const char*, Value> (&table)[N], Value value) {
  return std::find_if(std::begin(table), std::end(table), [&](const auto& pair) { return pair.second == value; })
      ->first;
}

/// The value of a name. @param whose  begins the message: an option, a key of a file  @throws ValueError (no such name)
template <class Value, std::size_t N>
Value value_named(const std::pair<const char*, Value> (&table)[N], const std::string& name, const std::string& whose) {
  for (const auto& pair : table)
    if (name == pair.first) return pair.second;
  std::string names;
  for (const auto& pair : table) names += (names.empty() ? "" : ", ") + std::string(pair.first);
  SHRINKWARP_THROW(ValueError, whose, " is '", name, "', wanted one of ", names);
}

}  // namespace shrinkwarp
