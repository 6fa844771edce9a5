#include <shrinkwarp/tools/files/fingerprint.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <sstream>

#include <shrinkwarp/runtime/io/file.hpp>

namespace shrinkwarp {

void Fingerprint::add(const std::string& name, const std::string& value) {
  fields_.emplace_back(name, value);
}

void Fingerprint::add(const std::string& name, double value) {
  char text[32];
  fields_.emplace_back(name, std::string(text, std::to_chars(text, text + sizeof text, value).ptr));
}

void Fingerprint::add(const std::string& name, std::int64_t value) {
  fields_.emplace_back(name, std::to_string(value));
}

void Fingerprint::add_hash(const std::string& name, std::uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  fields_.emplace_back(name, text);
}

std::string Fingerprint::text() const {
  std::string lines;
  for (const auto& [name, value] : fields_) lines += name + ": " + value + "\n";
  return lines;
}

std::string Fingerprint::difference(const std::string& found) const {
  std::map<std::string, std::string> others;
  std::istringstream lines(found);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = std::min(line.find(": "), line.size());
    others[line.substr(0, colon)] = line.substr(std::min(colon + 2, line.size()));
  }
  constexpr int kShown = 3;
  std::string differences;
  int count = 0;
  const auto add = [&](const std::string& name, const std::string& other, const std::string& own) {
    if (++count > kShown) return;
    differences += (differences.empty() ? "" : "; ") + printable(name, 40) + ": found " + printable(other, 60) +
                   ", wanted " + printable(own, 60);
  };
  for (const auto& [name, value] : fields_) {
    const auto other = others.find(name);
    const bool has = other != others.end();
    if (!has || other->second != value) add(name, has ? other->second : "none", value);
    if (has) others.erase(other);
  }
  for (const auto& [name, value] : others) add(name, value, "none");
  if (count > kShown) differences += "; and " + std::to_string(count - kShown) + " more";
  return differences;
}

}  // namespace shrinkwarp
