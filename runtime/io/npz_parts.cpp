#include <shrinkwarp/runtime/io/npz_parts.hpp>

#include <cstddef>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr std::size_t kPartBuffer = 256 * 1024;

std::string member_name(const std::string& name) {
  return name + ".npy";
}

}  // namespace

int NpzLayout::add(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape) {
  constexpr const char* kFunction = "NpzLayout::add";
  require_array_name(kFunction, name);
  SHRINKWARP_REQUIRE(type != ElementType::s, ValueError, kFunction, ": array '", name,
                     "': found byte strings, wanted a number type");
  for (const Array& array : arrays_)
    SHRINKWARP_REQUIRE(array.name != name, ValueError, kFunction, ": name '", name, "' is taken");
  ArrayHeader header{type, element_size(type), false, shape, 0};
  const std::int64_t bytes = header.bytes();
  const auto head = static_cast<std::int64_t>(npy_header_text(header).size());
  header.data_offset = end_ + zip_local_bytes(member_name(name), head + bytes, limit_) + head;
  end_ = header.data_offset + bytes;
  arrays_.push_back({name, std::move(header)});
  return static_cast<int>(arrays_.size()) - 1;
}

void NpzPart::append(const void* data, std::int64_t bytes) {
  checksum_ = zip_checksum(checksum_, data, bytes);
  if (buffer_.size() + static_cast<std::size_t>(bytes) > kPartBuffer) flush();
  if (static_cast<std::size_t>(bytes) >= kPartBuffer) {
    file_->write_at(next_, data, bytes);
    next_ += bytes;
    return;
  }
  if (buffer_.capacity() == 0) buffer_.reserve(kPartBuffer);
  const auto* from = static_cast<const std::byte*>(data);
  buffer_.insert(buffer_.end(), from, from + bytes);
}

void NpzPart::flush() {
  if (buffer_.empty()) return;
  file_->write_at(next_, buffer_.data(), static_cast<std::int64_t>(buffer_.size()));
  next_ += static_cast<std::int64_t>(buffer_.size());
  buffer_.clear();
}

NpzFrame::NpzFrame(const std::string& path, NpzLayout layout, bool shared)
    : layout_(std::move(layout)), file_(OutputFile::replacing("NpzFrame", path, shared)) {
  file_.reserve(layout_.end());
}

// Nothing of the frame is written before: on a network file system a page that two have written to is whole only where
// each wrote without having read it, or after the other's writes had arrived.
void NpzFrame::finish(const std::vector<std::uint32_t>& checksums,
                      const std::vector<std::pair<std::string, NpyArray>>& small) {
  SHRINKWARP_REQUIRE(checksums.size() == layout_.arrays_.size(), ShapeError, "NpzFrame::finish: ", file_.origin(),
                     ": found ", checksums.size(), " checksums, wanted ", layout_.arrays_.size());
  ZipWriter zip(file_, layout_.limit_);
  const auto begin = [&](const std::string& name, const ArrayHeader& header) {
    const std::string head = npy_header_text(header);
    zip.begin(member_name(name), static_cast<std::int64_t>(head.size()) + header.bytes());
    zip.write(head.data(), static_cast<std::int64_t>(head.size()));
  };
  for (std::size_t i = 0; i < checksums.size(); ++i) {
    const NpzLayout::Array& array = layout_.arrays_[i];
    begin(array.name, array.header);
    zip.skip(array.header.bytes(), checksums[i]);
    zip.end();
  }
  for (const auto& [name, array] : small) {
    begin(name, array.header);
    zip.write(array.data.data(), array.header.bytes());
    zip.end();
  }
  zip.finish();
  file_.commit();
}

}  // namespace shrinkwarp
