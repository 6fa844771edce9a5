// What the bits of a result depend on, by name.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace shrinkwarp {

/// Names and values in the order in which they were added. Two results of equal fingerprints have equal bits.
class Fingerprint {
 public:
  /// Neither may have a line break, `name` no ": ".
  void add(const std::string& name, const std::string& value);
  /// The shortest text that reads back as the same number.
  void add(const std::string& name, double value);
  void add(const std::string& name, std::int64_t value);
  /// A hash, in hexadecimal.
  void add_hash(const std::string& name, std::uint64_t value);

  /// A line "name: value" each.
  std::string text() const;
  struct Difference {
    std::string name, found, wanted;  ///< "none" stands for a value that is not there
  };
  /// How another text differs: first the names of this. What the other has is found, what this has is wanted.
  std::vector<Difference> differences(const std::string& found) const;
  /// The same to read: "--gap: found 1e-06, wanted 1e-08; ...", three of the differences where there are more;
  /// empty where there are none.
  std::string difference(const std::string& found) const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

}  // namespace shrinkwarp
