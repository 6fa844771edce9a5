// A safetensors file: what is read has the bytes that its types and shapes say, takes no more than the file has, and is read
// again the same after it has been written.
#include "fuzz.hpp"

#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {
namespace {

/// A name for a file in a folder in memory, which goes with this object.
class Scratch {
 public:
  Scratch() { fuzz::check(mkdtemp(folder_.data()) != nullptr, "the system gives a folder in memory"); }
  ~Scratch() { rmdir(folder_.c_str()); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string path() const { return folder_ + "/f"; }

 private:
  std::string folder_ = "/dev/shm/safetensors_fuzz_XXXXXX";
};

void check_same(const Safetensors& found, const Safetensors& wanted) {
  fuzz::check(found.metadata == wanted.metadata, "the metadata are read again the same");
  fuzz::check(found.tensors().size() == wanted.tensors().size(), "as many tensors are read again");
  for (const auto& [name, tensor] : wanted.tensors()) {
    const StoredTensor& again = found.at(name);
    fuzz::check(again.type == tensor.type && again.shape == tensor.shape, "a tensor's type and shape are read again");
    fuzz::check(again.bytes == tensor.bytes, "a tensor's bytes are read again");
  }
}

void read(const std::string& path, std::size_t size) {
  const Safetensors contents = read_safetensors(path);
  std::size_t data = 0;
  for (const auto& [name, tensor] : contents.tensors()) {
    Safetensors one;
    one.add(name, tensor);  // throws where its bytes are others than its type and shape say
    data += tensor.bytes.size();
    if (tensor.type == StoredType::f64) {
      const std::size_t count = contents.values<float>(name, tensor.shape).size();
      fuzz::check(count * 8 == tensor.bytes.size(), "a tensor has all its numbers");
    }
  }
  fuzz::check(data <= size, "tensors share no bytes");

  static const Scratch scratch;
  write_safetensors(scratch.path(), contents);
  const Safetensors again = read_safetensors(scratch.path());
  unlink(scratch.path().c_str());
  check_same(again, contents);
}

}  // namespace
}  // namespace shrinkwarp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static shrinkwarp::fuzz::File file;
  file.set(data, size);
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(file.path(), size); });
  return 0;
}
