#include <shrinkwarp/runtime/io/hash.hpp>

#include <cstddef>

#include <xxhash.h>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

std::uint64_t hash_bytes(const void* data, std::int64_t bytes) noexcept {
  return XXH3_64bits(data, static_cast<std::size_t>(bytes));
}

struct Hash::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Hash::Hash(std::uint64_t seed) : state_(std::make_unique<State>()) {
  if (state_->xxh == nullptr || XXH3_64bits_reset_withSeed(state_->xxh, seed) != XXH_OK)
    throw OutOfMemory("Hash: no memory for its state", __FILE__, __LINE__, 576);
}
Hash::Hash(Hash&&) noexcept = default;
Hash& Hash::operator=(Hash&&) noexcept = default;
Hash::~Hash() = default;

void Hash::add(const void* data, std::int64_t bytes) noexcept {
  if (bytes > 0) XXH3_64bits_update(state_->xxh, data, static_cast<std::size_t>(bytes));
}

std::uint64_t Hash::value() const noexcept {
  return XXH3_64bits_digest(state_->xxh);
}

}  // namespace shrinkwarp
