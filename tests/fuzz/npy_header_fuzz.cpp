// The header of a .npy file: what is taken is a shape that can be multiplied out, and reads the same once written again.
#include "fuzz.hpp"

#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

void read(const std::uint8_t* data, std::size_t size) {
  const Origin origin{"fuzz", "input"};
  // The copy ends where the input ends, so that AddressSanitizer sees a step beyond it.
  const std::string head(reinterpret_cast<const char*>(data), size);
  const auto available = static_cast<std::int64_t>(size);
  const std::int64_t wanted = npy_header_bytes(head.data(), available, origin);
  const ArrayHeader header = parse_npy_header(head.data(), available, origin);
  fuzz::check(header.data_offset == wanted && wanted <= available, "the header ends within the input");
  fuzz::check(header.size() >= 0 && header.bytes() == header.size() * header.item_size, "sizes agree");

  std::string text;
  try {
    text = npy_header_text(header);
  } catch (const ShapeError&) {  // more dimensions than version 1.0 holds
    return;
  }
  const ArrayHeader again = parse_npy_header(text.data(), static_cast<std::int64_t>(text.size()), origin);
  fuzz::check(again.type == header.type && again.item_size == header.item_size &&
                  again.fortran_order == header.fortran_order && again.shape == header.shape,
              "a header that is written reads the same");
}

}  // namespace
}  // namespace shrinkwarp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(data, size); });
  return 0;
}
