// Texts and numbers among the metadata of a safetensors file.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {

/// The shortest text that reads as the same number.
template <class Number>
std::string text_of(Number number, int base = 10) {
  char buffer[64];
  const auto end = [&] {
    if constexpr (std::is_floating_point_v<Number>)
      return std::to_chars(buffer, buffer + sizeof(buffer), number).ptr;
    else
      return std::to_chars(buffer, buffer + sizeof(buffer), number, base).ptr;
  }();
  return {buffer, end};
}

/// Reads a file's metadata; what is missing or no such number is a ValueError that names the file and the key.
class Metadata {
 public:
  /// @param wanted  what the file should be, for messages. Both outlive this
  Metadata(const Safetensors& file, const char* wanted) : file_(file), wanted_(wanted) {}

  const std::string& path() const { return file_.path(); }
  const std::string& text(const std::string& key) const {
    const auto found = file_.metadata.find(key);
    SHRINKWARP_REQUIRE(found != file_.metadata.end(), ValueError, path(), ": found no '", key,
                       "' among the metadata, wanted ", wanted_);
    return found->second;
  }
  /// Within [least, most].
  template <class Number>
  Number number(const std::string& key, Number least, Number most, int base = 10) const {
    return parsed<Number>(key, text(key), least, most, base);
  }
  /// Numbers with commas between them.
  std::vector<std::int64_t> numbers(const std::string& key, std::int64_t least, std::int64_t most) const {
    std::vector<std::int64_t> result;
    const std::string& all = text(key);
    for (std::size_t first = 0; first <= all.size();) {
      const std::size_t end = std::min(all.find(',', first), all.size());
      result.push_back(parsed<std::int64_t>(key, all.substr(first, end - first), least, most, 10));
      first = end + 1;
    }
    return result;
  }

 private:
  template <class Number>
  Number parsed(const std::string& key, const std::string& its, Number least, Number most, int base) const {
    Number value{};
    const char* const last = its.data() + its.size();
    std::from_chars_result end{};
    if constexpr (std::is_floating_point_v<Number>)
      end = std::from_chars(its.data(), last, value);
    else
      end = std::from_chars(its.data(), last, value, base);
    SHRINKWARP_REQUIRE(end.ec == std::errc() && end.ptr == last && value >= least && value <= most, ValueError, path(),
                       ": '", key, "' is '", printable(its), "', wanted a number from ", least, " to ", most);
    return value;
  }

  const Safetensors& file_;
  const char* wanted_;
};

}  // namespace shrinkwarp
