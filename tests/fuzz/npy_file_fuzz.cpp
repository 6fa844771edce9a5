// A .npy file whole: all ways of reading it give the same elements, and these are the bytes of the file.
#include "fuzz.hpp"

#include <cmath>
#include <vector>

#include <shrinkwarp/runtime/io/npy.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kPadding = 2;

/// A [rows, cols] matrix with ld > rows to read into, and a check that its padding was left alone.
template <class T>
struct Target {
  static constexpr T kUnread = T(-1234.5);
  std::vector<T> memory;
  MatrixView<T> view;

  Target(std::int64_t rows, std::int64_t cols) : view{nullptr, rows, cols, rows, Device{}} {
    if (view.empty()) return;
    view.ld += kPadding;
    memory.assign(static_cast<std::size_t>(view.ld * cols), kUnread);
    view.data = memory.data();
  }
  ~Target() {
    if (view.empty()) return;
    for (std::int64_t col = 0; col < view.cols; ++col) {
      for (std::int64_t row = view.rows; row < view.ld; ++row)
        fuzz::check(view(row, col) == kUnread, "padding keeps its bits");
    }
  }
};

template <class From, class To>
void check_reads(const NpyFile& file) {
  const std::int64_t rows = file.rows();
  const std::int64_t cols = file.cols();
  const std::byte* const bytes = file.data();
  const auto check = [&](std::int64_t i, std::int64_t j, To found) {
    const std::int64_t place = file.header().fortran_order ? i + j * rows : i * cols + j;
    From stored;
    std::memcpy(&stored, bytes + place * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    const To wanted = static_cast<To>(stored);
    fuzz::check(found == wanted || (std::isnan(found) && std::isnan(wanted)), "what is read is what the file holds");
  };

  const Target<To> matrix(rows, cols);
  file.read_matrix(matrix.view);
  for (std::int64_t i = 0; i < rows && cols > 0; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) check(i, j, matrix.view(i, j));
  }
  const std::int64_t first = rows / 3;
  const std::int64_t count = rows - first - rows / 5;
  const Target<To> some(cols, count);
  file.prefetch_rows(first, count);
  file.read_rows(first, count, some.view);
  for (std::int64_t b = 0; b < count && cols > 0; ++b) {
    for (std::int64_t i = 0; i < cols; ++i) check(first + b, i, some.view(i, b));
  }
}

void read(const std::string& path, std::size_t size) {
  const NpyFile file = NpyFile::open(path);
  const ArrayHeader& header = file.header();
  fuzz::check(header.data_offset + header.bytes() == static_cast<std::int64_t>(size), "the data end with the file");
  if (header.shape.size() == 2) {
    if (header.type == ElementType::f4) {
      check_reads<float, float>(file);
      check_reads<float, double>(file);
    } else if (header.type == ElementType::f8) {
      check_reads<double, float>(file);
      check_reads<double, double>(file);
    }
  } else if (header.shape.size() == 1) {
    fuzz::check(static_cast<std::int64_t>(file.read_vector().size()) == header.shape[0], "a vector is read whole");
  }
  const VectorView<const std::uint8_t> bytes = file.as<std::uint8_t>();
  fuzz::check(bytes.size == header.bytes(), "a mapping holds all bytes");
  if (bytes.size > 0) static_cast<void>(static_cast<volatile const std::uint8_t&>(bytes.data[bytes.size - 1]));
}

}  // namespace
}  // namespace shrinkwarp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static shrinkwarp::fuzz::File file;
  file.set(data, size);
  shrinkwarp::fuzz::refuses([&] { shrinkwarp::read(file.path(), size); });
  return 0;
}
