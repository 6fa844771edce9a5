// A fast hash of bytes, for finding damage and telling contents apart: XXH3 with 64 bits. It keeps no secrets: whoever
// wants two contents with one hash can make them.
#pragma once

#include <cstdint>
#include <memory>

namespace shrinkwarp {

/// The hash of `bytes` bytes. The same on every machine.
std::uint64_t hash_bytes(const void* data, std::int64_t bytes) noexcept;

/// The hash of what comes piece by piece. Without `seed` equal to hash_bytes of the whole. Move-only.
class Hash {
 public:
  /// @throws OutOfMemory
  explicit Hash(std::uint64_t seed = 0);
  Hash(Hash&&) noexcept;
  Hash& operator=(Hash&&) noexcept;
  ~Hash();
  void add(const void* data, std::int64_t bytes) noexcept;
  /// Of all that has come so far; more may follow.
  std::uint64_t value() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shrinkwarp
