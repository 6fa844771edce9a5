// .npy files: every refusal of the header, orders and element types at awkward sizes, round trips, writing that fails.
#include <shrinkwarp/runtime/io/npy.hpp>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "io_testing.hpp"

namespace shrinkwarp {
namespace {

using testing::bytes_of;
using testing::file_bytes;
using testing::FileSizeLimit;
using testing::message_of;
using testing::npy_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;
using Names = std::vector<std::string>;
using Shape = std::vector<std::int64_t>;

const Origin kOrigin{"Test", "a.npy"};

ArrayHeader parse(const std::string& bytes) {
  // A copy of exactly these bytes, so that the sanitizer sees a step past them.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return parse_npy_header(exact.data(), static_cast<std::int64_t>(exact.size()), kOrigin);
}
ArrayHeader parse_dict(const std::string& dict) {
  return parse(npy_bytes(dict, ""));
}
std::string dict_of(const std::string& descr, const std::string& shape, const std::string& fortran = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n";
}
void refuses(const std::string& bytes, const std::vector<std::string>& pieces) {
  SCOPED_TRACE(printable(bytes));
  const std::string message = message_of<IoError>([&] { parse(bytes); }, pieces);
  EXPECT_EQ(message.compare(0, 15, "Test: 'a.npy': "), 0) << message;
}
void refuses_dict(const std::string& dict, const std::vector<std::string>& pieces) {
  refuses(npy_bytes(dict, ""), pieces);
}

TEST(NpyHeader, ParsesTheThreeVersions) {
  for (const int major : {1, 2, 3}) {
    const ArrayHeader header = parse(npy_bytes(dict_of("'<f4'", "(3, 4)", "True"), "", major));
    EXPECT_EQ(header.type, ElementType::f4);
    EXPECT_EQ(header.item_size, 4);
    EXPECT_TRUE(header.fortran_order);
    EXPECT_EQ(header.shape, (Shape{3, 4}));
    EXPECT_EQ(header.data_offset, (major == 1 ? 10 : 12) + 59);
    EXPECT_EQ(header.size(), 12);
    EXPECT_EQ(header.bytes(), 48);
  }
}

TEST(NpyHeader, ParsesKeysInAnyOrderAndSpacing) {
  const ArrayHeader header = parse_dict(" {\"shape\":(  7 ,),\n\t'fortran_order' :False,'descr':\"<i8\"}   \n");
  EXPECT_EQ(header.type, ElementType::i8);
  EXPECT_EQ(header.shape, Shape{7});
}

TEST(NpyHeader, ParsesEachElementType) {
  const std::vector<std::tuple<std::string, ElementType, std::int64_t>> types{
      {"|b1", ElementType::b1, 1}, {"|u1", ElementType::u1, 1}, {"<i4", ElementType::i4, 4},
      {"<i8", ElementType::i8, 8}, {"<f4", ElementType::f4, 4}, {"<f8", ElementType::f8, 8},
      {"|S3", ElementType::s, 3},  {"|S17", ElementType::s, 17}};
  for (const auto& [descr, type, size] : types) {
    const ArrayHeader header = parse_dict(dict_of("'" + descr + "'", "(2,)"));
    EXPECT_EQ(header.type, type);
    EXPECT_EQ(header.item_size, size);
    EXPECT_EQ(header.descr(), descr);
    EXPECT_EQ(header.bytes(), 2 * size);
  }
}

TEST(NpyHeader, ParsesShapes) {
  EXPECT_EQ(parse_dict(dict_of("'<f4'", "()")).size(), 1);
  EXPECT_EQ(parse_dict(dict_of("'<f4'", "(5,)")).shape, Shape{5});
  EXPECT_EQ(parse_dict(dict_of("'<f4'", "(5,6)")).shape, (Shape{5, 6}));
  EXPECT_EQ(parse_dict(dict_of("'<f4'", "(3L, 4L,)")).shape, (Shape{3, 4}));
  EXPECT_EQ(parse_dict(dict_of("'<f4'", "(0, 9223372036854775807, 9223372036854775807)")).bytes(), 0);
  EXPECT_EQ(shape_text({}), "()");
  EXPECT_EQ(shape_text({5}), "(5,)");
  EXPECT_EQ(shape_text({5, 6}), "(5, 6)");
}

TEST(NpyHeader, RefusesAnotherFile) {
  refuses("", {"is empty"});
  refuses("\x93NUM", {"begins with '\\x93NUM'", "wanted '\\x93NUMPY'"});
  refuses("PK\x03\x04 and more", {"begins with 'PK", ".npz"});
  refuses("0.1 0.2 0.3\n", {"begins with '0.1 0.'"});
  refuses("\x93NUMPX\x01 and more", {"begins with '\\x93NUMPX'"});
  refuses(std::string(4096, '\0'), {"begins with '\\x00\\x00"});
  for (const int major : {0, 4, 93}) {
    refuses(npy_bytes(dict_of("'<f4'", "(3,)"), "", major), {"version", "wanted 1.0, 2.0 or 3.0"});
  }
  std::string minor = npy_bytes(dict_of("'<f4'", "(3,)"), "");
  minor[7] = 1;
  refuses(minor, {"version 1.1"});
}

TEST(NpyHeader, RefusesEveryTruncation) {
  for (const int major : {1, 2}) {
    const std::string whole = npy_bytes(dict_of("'<f4'", "(3, 4)"), "", major);
    for (std::size_t length = 0; length < whole.size(); ++length) refuses(whole.substr(0, length), {""});
    parse(whole);
  }
  refuses(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff{", 13), {"header of 4294967295 bytes, wanted at most"});
}

TEST(NpyHeader, RefusesAnotherDict) {
  refuses_dict("", {"found the end at byte 10, wanted '{'"});
  refuses_dict("[]", {"found '[]'", "wanted '{'"});
  refuses_dict("{}", {"found no key 'descr'"});
  refuses_dict("{'descr': '<f4', 'shape': (3,)}", {"found no key 'fortran_order'"});
  refuses_dict("{'descr': '<f4', 'fortran_order': False}", {"found no key 'shape'"});
  refuses_dict("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", {"'descr' twice"});
  refuses_dict("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'extra': 1}", {"found the key 'extra'"});
  refuses_dict("{'descr': '<f4' 'fortran_order': False, 'shape': (3,)}", {"wanted ',' or '}'"});
  refuses_dict("{'descr' '<f4', 'fortran_order': False, 'shape': (3,)}", {"wanted ':'"});
  refuses_dict("{descr: '<f4', 'fortran_order': False, 'shape': (3,)}", {"wanted a key in quotes"});
  refuses_dict("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", {"wanted True or False"});
  refuses_dict("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)", {"found the end"});
  refuses_dict("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} 1", {"wanted nothing more"});
  refuses_dict("{'descr': '<f4', 'fortran_order': Falsehood, 'shape': (3,)}", {"found 'hood"});
  refuses_dict("{'descr: <f4, fortran_order: False, shape: (3,)}", {"wanted a key in quotes"});
  refuses_dict("{'de\\x73cr': '<f4', 'fortran_order': False, 'shape': (3,)}", {"wanted a key in quotes"});
  refuses_dict("{'descr': <f4, 'fortran_order': False, 'shape': (3,)}", {"wanted an element type in quotes"});
  refuses_dict("{,}", {"wanted a key in quotes"});
  refuses_dict(std::string(5000, '('), {"found '((((", "...'", "wanted '{'"});
  refuses_dict("{'shape': " + std::string(5000, '('), {"wanted a size"});
  refuses_dict("\x80\x81\xfe\xff", {"found '\\x80\\x81\\xfe\\xff'", "wanted '{'"});
  refuses_dict(dict_of("'<f4'", "(3,)") + std::string(3, '\0'), {"wanted nothing more"});
}

TEST(NpyHeader, RefusesOtherElementTypes) {
  refuses_dict(dict_of("'>f4'", "(3,)"), {"found the element type '>f4' (big-endian)", "wanted", "'<f4'"});
  refuses_dict(dict_of("'|O'", "(3,)"), {"found the element type '|O' (Python objects)"});
  refuses_dict(dict_of("[('a', '<f4'), ('b', '<i8')]", "(3,)"), {"structured element type [('a', '<f4')"});
  refuses_dict(dict_of("('<f4', (2,))", "(3,)"), {"structured element type"});
  for (const char* descr :
       {"<f2",  "<f16", "<c8", "<i2", "<u4", "|i1", "<U3",  "<M8[ns]",       "|V8", "f4",   "=f4",    "|f4",
        "<f44", "",     "<",   "<f",  "|S",  "|S0", "|S-1", "|S99999999999", "<S3", "|S3x", "float32"}) {
    refuses_dict(dict_of(concat("'", descr, "'"), "(3,)"), {concat("found the element type '", descr, "'")});
  }
}

TEST(NpyHeader, RefusesOtherShapes) {
  refuses_dict(dict_of("'<f4'", "3"), {"found '3", "wanted '(' after 'shape'"});
  refuses_dict(dict_of("'<f4'", "[3, 4]"), {"wanted '(' after 'shape'"});
  refuses_dict(dict_of("'<f4'", "(3)"), {"found shape (3), wanted a tuple"});
  refuses_dict(dict_of("'<f4'", "(-3,)"), {"found the size -3", "wanted 0 or more"});
  refuses_dict(dict_of("'<f4'", "(3, 4.0)"), {"wanted ',' or ')'"});
  refuses_dict(dict_of("'<f4'", "(3 4)"), {"wanted ',' or ')'"});
  refuses_dict(dict_of("'<f4'", "(3,,4)"), {"wanted a size"});
  refuses_dict(dict_of("'<f4'", "(,)"), {"wanted a size"});
  refuses_dict(dict_of("'<f4'", "(None,)"), {"wanted a size"});
  refuses_dict(dict_of("'<f4'", "('a', 'b')"), {"found ''a'", "wanted a size"});
  refuses_dict(dict_of("'<f4'", "(9223372036854775808,)"), {"9223372036854775808", "less than 2^63"});
  refuses_dict(dict_of("'<f4'", "(99999999999999999999999999,)"), {"less than 2^63"});
  refuses_dict(dict_of("'<f4'", "(4294967296, 2147483648)"),
               {"shape (4294967296, 2147483648)", "less than 2^63 bytes"});
  refuses_dict(dict_of("'<f8'", "(1152921504606846975,)"),
               {"less than 2^63 bytes"});  // but for the offset it would fit
  refuses_dict(dict_of("'|S999999999'", "(9999999999,)"), {"less than 2^63 bytes"});
}

TEST(NpyHeader, WritesWhatNumPyWrites) {
  const std::string text = npy_header_text({ElementType::f4, 4, false, {3, 4}, 0});
  EXPECT_EQ(text, std::string("\x93NUMPY\x01\x00\x76\x00", 10) +
                      "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" + std::string(58, ' ') + "\n");
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1, 2, 3, 4, 5}, Shape(40, 1000)}) {
    const bool small = shape.size() < 40;
    const ArrayHeader header{small ? ElementType::f8 : ElementType::u1, small ? 8 : 1, true,
                             small ? shape : Shape(40, 1), 0};
    const std::string written = npy_header_text(header);
    EXPECT_EQ(written.size() % 64, 0u);
    const ArrayHeader read = parse(written);
    EXPECT_EQ(read.type, header.type);
    EXPECT_TRUE(read.fortran_order);
    EXPECT_EQ(read.shape, header.shape);
    EXPECT_EQ(read.data_offset, static_cast<std::int64_t>(written.size()));
  }
  message_of<ShapeError>([] { npy_header_text({ElementType::f8, 8, false, {-1}, 0}); }, {"(-1,)"});
  message_of<ShapeError>([] { npy_header_text({ElementType::f8, 8, false, Shape(40, 1000), 0}); }, {"2^63"});
  message_of<ShapeError>(
      [] {
        npy_header_text({ElementType::u1, 1, false, Shape(30000, 1), 0});
      },
      {"30000 dimensions"});
}

/// A matrix view over memory of its own with padding below each column, and guards that show a step beside it.
template <class T>
struct Padded {
  Padded(std::int64_t rows, std::int64_t cols, std::int64_t padding)
      : memory(static_cast<std::size_t>((rows + padding) * cols + 16), guard()),
        view{memory.data() + 8, rows, cols, rows + padding, Device{}} {}
  static T guard() { return static_cast<T>(-77777); }
  bool guarded() const {
    for (std::size_t k = 0; k < memory.size(); ++k) {
      const std::int64_t at = static_cast<std::int64_t>(k) - 8;
      const bool inside = at >= 0 && at < view.ld * view.cols && at % view.ld < view.rows;
      if (!inside && memory[k] != guard()) return false;
    }
    return true;
  }
  std::vector<T> memory;
  MatrixView<T> view;
};

/// The element that files of the tests have at (i, j): different for all of a test's sizes, exact in float.
double element(std::int64_t i, std::int64_t j) {
  return static_cast<double>((i * 7919 + j) % 16777213);
}

template <class F>
std::string matrix_file(std::int64_t rows, std::int64_t cols, bool fortran) {
  std::vector<F> values;
  for (std::int64_t k = 0; k < rows * cols; ++k) {
    const std::int64_t i = fortran ? k % rows : k / cols;
    const std::int64_t j = fortran ? k / rows : k % cols;
    values.push_back(static_cast<F>(element(i, j)));
  }
  return npy_bytes(dict_of(sizeof(F) == 4 ? "'<f4'" : "'<f8'", shape_text({rows, cols}), fortran ? "True" : "False"),
                   bytes_of(values));
}

struct MatrixCase {
  std::int64_t rows;
  std::int64_t cols;
};
class NpyMatrix : public ::testing::TestWithParam<MatrixCase> {
 protected:
  template <class F, class T>
  void check(bool fortran) {
    const auto [rows, cols] = GetParam();
    SCOPED_TRACE(concat(sizeof(F), " to ", sizeof(T), fortran ? " Fortran" : " C"));
    const TemporaryFolder folder;
    const std::string path = folder / "a.npy";
    write_bytes(path, matrix_file<F>(rows, cols, fortran));
    const NpyFile file = NpyFile::open(path);
    ASSERT_EQ(file.rows(), rows);
    ASSERT_EQ(file.cols(), cols);
    for (const std::int64_t padding : {0, 5}) {
      Padded<T> D(rows, cols, padding);
      file.read_matrix(D.view);
      std::int64_t wrong = 0;
      for (std::int64_t j = 0; j < cols; ++j) {
        for (std::int64_t i = 0; i < rows; ++i) wrong += D.view(i, j) != static_cast<T>(element(i, j));
      }
      EXPECT_EQ(wrong, 0);
      EXPECT_TRUE(D.guarded());
      for (const std::int64_t batch : {rows, std::int64_t{100}, std::int64_t{1}}) {
        if (batch == 1 && rows > 1000) continue;
        wrong = 0;
        for (std::int64_t first = 0; first < rows; first += batch) {
          const std::int64_t count = std::min(batch, rows - first);
          Padded<T> X(cols, count, padding);
          file.prefetch_rows(first + count, batch);
          file.read_rows(first, count, X.view);
          for (std::int64_t b = 0; b < count; ++b) {
            for (std::int64_t i = 0; i < cols; ++i) wrong += X.view(i, b) != static_cast<T>(element(first + b, i));
          }
          EXPECT_TRUE(X.guarded());
        }
        EXPECT_EQ(wrong, 0);
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, NpyMatrix,
                         ::testing::Values(MatrixCase{0, 5}, MatrixCase{5, 0}, MatrixCase{0, 0}, MatrixCase{1, 1},
                                           MatrixCase{1, 43}, MatrixCase{43, 1}, MatrixCase{597, 43},
                                           MatrixCase{43, 597}, MatrixCase{17, 511}, MatrixCase{33, 513},
                                           MatrixCase{3, 17000}, MatrixCase{17000, 3}, MatrixCase{20, 16369},
                                           MatrixCase{300000, 1}),
                         [](const auto& test) { return concat(test.param.rows, "x", test.param.cols); });

TEST_P(NpyMatrix, ReadsEveryOrderAndType) {
  for (const bool fortran : {false, true}) {
    check<float, float>(fortran);
    check<float, double>(fortran);
    check<double, float>(fortran);
    check<double, double>(fortran);
  }
}

TEST_P(NpyMatrix, WritesWhatItReads) {
  const auto [rows, cols] = GetParam();
  const TemporaryFolder folder;
  Padded<double> D(rows, cols, 3);
  Padded<double> X(cols, rows, 3);
  for (std::int64_t j = 0; j < cols; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) D.view(i, j) = X.view(j, i) = element(i, j);
  }
  write_npy_matrix(folder / "d.npy", D.view);
  write_npy_rows(folder / "x.npy", X.view);
  // The same array, whichever way it lay in memory; and as it should be on disk.
  const std::string bytes = file_bytes(folder / "d.npy");
  EXPECT_EQ(bytes, file_bytes(folder / "x.npy"));
  const ArrayHeader header = parse(bytes);
  EXPECT_EQ(header.shape, (Shape{rows, cols}));
  EXPECT_FALSE(header.fortran_order);
  const std::string by_hand = matrix_file<double>(rows, cols, false);
  EXPECT_EQ(bytes.substr(static_cast<std::size_t>(header.data_offset)),
            by_hand.substr(static_cast<std::size_t>(parse(by_hand).data_offset)));
}

TEST(NpyFile, ConvertsAsDocumented) {
  const TemporaryFolder folder;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  write_bytes(folder / "a.npy",
              npy_bytes(dict_of("'<f8'", "(1, 5)"), bytes_of<double>({0.1, 1e300, -1e300, nan, -0.0})));
  std::vector<float> out(5);
  NpyFile::open(folder / "a.npy").read_rows(0, 1, MatrixView<float>{out.data(), 5, 1, 5, Device{}});
  EXPECT_EQ(out[0], 0.1f);
  EXPECT_EQ(out[1], std::numeric_limits<float>::infinity());
  EXPECT_EQ(out[2], -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(out[3]));
  EXPECT_TRUE(out[4] == 0 && std::signbit(out[4]));
}

TEST(NpyFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  write_bytes(folder / "empty.npy", "");
  message_of<IoError>([&] { NpyFile::open(folder / "none.npy"); }, {"NpyFile: '", "/none.npy'", "No such file"});
  message_of<IoError>([&] { NpyFile::open(folder.path()); }, {"found a folder"});
  message_of<IoError>([&] { NpyFile::open("/dev/null"); }, {"found a character device"});
  message_of<IoError>([&] { NpyFile::open(folder / "empty.npy"); }, {"/empty.npy'", "is empty"});
}

TEST(NpyFile, WantsTheDataToEndWithTheFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  const std::string whole = matrix_file<float>(3, 4, false);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write_bytes(path, whole.substr(0, length));
    message_of<IoError>([&] { NpyFile::open(path); }, {path});
  }
  write_bytes(path, whole.substr(0, whole.size() - 1));
  message_of<IoError>([&] { NpyFile::open(path); },
                      {"is cut short: found 47 bytes of data at offset 70, wanted 48 (shape (3, 4) of <f4)"});
  write_bytes(path, whole + "x");
  message_of<IoError>([&] { NpyFile::open(path); }, {"is too long: found 49 bytes", "wanted 48"});
  write_bytes(path, npy_bytes(dict_of("'<f4'", "(1000000000, 1000000)"), "1234"));
  try {
    NpyFile::open(path);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_EQ(error.path(), path);
    EXPECT_EQ(error.offset(), static_cast<std::int64_t>(std::filesystem::file_size(path)));
  }
}

TEST(NpyFile, ChecksArguments) {
  const TemporaryFolder folder;
  write_bytes(folder / "a.npy", matrix_file<float>(3, 4, false));
  write_bytes(folder / "v.npy", npy_bytes(dict_of("'<f4'", "(3,)"), bytes_of<float>({1, 2, 3})));
  write_bytes(folder / "i.npy", npy_bytes(dict_of("'<i4'", "(1, 3)"), bytes_of<std::int32_t>({1, 2, 3})));
  const NpyFile file = NpyFile::open(folder / "a.npy");
  const NpyFile vector = NpyFile::open(folder / "v.npy");
  const NpyFile integers = NpyFile::open(folder / "i.npy");
  std::vector<float> memory(64);
  const auto view = [&](std::int64_t rows, std::int64_t cols, std::int64_t ld) {
    return MatrixView<float>{memory.data(), rows, cols, ld, Device{}};
  };
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  message_of<ShapeError>([&] { file.read_rows(0, 2, view(4, 3, 4)); }, {"NpyFile::read_rows", "4 x 3", "4 x 2"});
  message_of<ShapeError>([&] { file.read_rows(0, 3, view(3, 3, 3)); }, {"3 x 3", "wanted 4 x 3"});
  message_of<ShapeError>([&] { file.read_rows(0, 2, view(4, 2, 3)); }, {"ld 3, wanted >= 4"});
  message_of<ShapeError>([&] { file.read_rows(2, 2, view(4, 2, 4)); }, {"a.npy", "rows 2 and 2 on, found 3 rows"});
  message_of<ShapeError>([&] { file.read_rows(-1, 2, view(4, 2, 4)); }, {"rows -1"});
  message_of<ShapeError>([&] { file.read_rows(1, kMost, view(4, kMost, 4)); }, {"found 3 rows"});
  message_of<ShapeError>([&] { file.read_rows(kMost, 1, view(4, 1, 4)); }, {"found 3 rows"});
  message_of<ShapeError>(
      [&] {
        file.read_rows(0, 1, MatrixView<float>{nullptr, 4, 1, 4, Device{}});
      },
      {"without data"});
  message_of<ShapeError>([&] { file.read_matrix(view(4, 3, 4)); }, {"NpyFile::read_matrix", "4 x 3, wanted 3 x 4"});
  message_of<ShapeError>([&] { file.read_vector(); }, {"NpyFile::read_vector", "a.npy", "(3, 4), wanted 1-D"});
  message_of<ShapeError>([&] { vector.rows(); }, {"NpyFile::rows", "v.npy", "(3,), wanted 2-D"});
  message_of<ShapeError>([&] { vector.read_rows(0, 1, view(3, 1, 3)); }, {"wanted 2-D"});
  message_of<ShapeError>([&] { vector.read_matrix(view(3, 1, 3)); }, {"wanted 2-D"});
  message_of<IoError>([&] { integers.read_rows(0, 1, view(3, 1, 3)); }, {"i.npy", "found the element type '<i4'"});
  message_of<IoError>([&] { integers.read_matrix(view(1, 3, 1)); }, {"wanted '<f4' or '<f8'"});
  MatrixView<float> device = view(4, 3, 4);
  device.device = {DeviceType::cuda, 1};
  message_of<DeviceError>([&] { file.read_rows(0, 3, device); }, {"out lies on cuda:1, wanted cpu"});
  vector.prefetch_rows(0, 1);
  file.prefetch_rows(-1, kMost);
  file.prefetch_rows(kMost, kMost);
  file.prefetch_rows(1, kMost);
}

TEST(NpyFile, ReadsVectors) {
  const TemporaryFolder folder;
  write_bytes(folder / "f.npy", npy_bytes(dict_of("'<f4'", "(3,)"), bytes_of<float>({1, 0.1f, 3})));
  write_bytes(folder / "d.npy", npy_bytes(dict_of("'<f8'", "(2,)"), bytes_of<double>({0.1, 2})));
  write_bytes(folder / "e.npy", npy_bytes(dict_of("'<f8'", "(0,)"), ""));
  write_bytes(folder / "i.npy", npy_bytes(dict_of("'<i8'", "(1,)"), bytes_of<std::int64_t>({1})));
  EXPECT_EQ(NpyFile::open(folder / "f.npy").read_vector(), (std::vector<double>{1, static_cast<double>(0.1f), 3}));
  EXPECT_EQ(NpyFile::open(folder / "d.npy").read_vector(), (std::vector<double>{0.1, 2}));
  EXPECT_TRUE(NpyFile::open(folder / "e.npy").read_vector().empty());
  message_of<IoError>([&] { NpyFile::open(folder / "i.npy").read_vector(); }, {"'<i8'"});
}

TEST(NpyFile, ReadsFloatsAndDoublesOnly) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  for (const char* descr : {"|b1", "|u1", "<i4", "<i8", "|S3"}) {
    const std::string quoted = concat("'", descr, "'");
    const std::string matrix = npy_bytes(dict_of(quoted, "(1, 2)"), "");
    const std::int64_t item = parse(matrix).item_size;
    const std::string data(static_cast<std::size_t>(2 * item), '\1');
    float memory[2];
    write_bytes(path, matrix + data);
    const NpyFile file = NpyFile::open(path);
    const std::vector<std::string> wanted{path, concat("found the element type ", quoted, ", wanted '<f4' or '<f8'")};
    message_of<IoError>([&] { file.read_rows(0, 1, MatrixView<float>{memory, 2, 1, 2, Device{}}); }, wanted);
    message_of<IoError>([&] { file.read_matrix(MatrixView<float>{memory, 1, 2, 1, Device{}}); }, wanted);
    write_bytes(path, npy_bytes(dict_of(quoted, "(2,)"), data));
    message_of<IoError>([&] { NpyFile::open(path).read_vector(); }, wanted);
  }
}

TEST(NpyFile, MapsTypedElements) {
  const TemporaryFolder folder;
  const std::vector<std::int64_t> values{3, -4, 5};
  write_npy(folder / "i.npy", ElementType::i8, {3}, values.data());
  NpyFile opened = NpyFile::open(folder / "i.npy");
  const VectorView<const std::int64_t> before = opened.as<std::int64_t>();
  const NpyFile file = std::move(opened);
  EXPECT_EQ(before.size, 3);
  EXPECT_EQ(before[1], -4);
  EXPECT_EQ(file.as<std::int64_t>().data, before.data);
  EXPECT_EQ(std::memcmp(file.data(), values.data(), 24), 0);
  message_of<IoError>([&] { file.as<double>(); }, {"NpyFile::as", "i.npy", "'<i8', wanted '<f8'"});

  // The dict of 60 bytes puts the data at offset 70.
  write_bytes(folder / "odd.npy", npy_bytes(dict_of("'<f4'", "(1, 1)"), bytes_of<float>({1})));
  message_of<IoError>([&] { NpyFile::open(folder / "odd.npy").as<float>(); }, {"offset 70, wanted a multiple of 4"});
  write_bytes(folder / "b.npy", npy_bytes(dict_of("'|b1'", "(2,)"), std::string("\x01\x02")));
  EXPECT_EQ(NpyFile::open(folder / "b.npy").as<std::uint8_t>()[1], 2);
  write_bytes(folder / "e.npy", npy_bytes(dict_of("'|u1'", "(0,)"), ""));
  EXPECT_EQ(NpyFile::open(folder / "e.npy").as<std::uint8_t>().size, 0);
}

TEST(NpyFile, NoticesAFileCutShort) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  for (const bool fortran : {false, true}) {
    write_bytes(path, matrix_file<double>(597, 43, fortran));
    const NpyFile file = NpyFile::open(path);
    std::filesystem::resize_file(path, 4096);
    std::vector<double> memory(597 * 43);
    const MatrixView<double> out{memory.data(), 43, 597, 43, Device{}};
    message_of<IoError>([&] { file.read_rows(0, 597, out); }, {path, "cut short while it was open"});
    message_of<IoError>([&] { file.data(); }, {"found 4096 bytes, wanted", "cut short"});
    if (!fortran) file.read_rows(0, 5, out.columns(0, 5));  // what is still there can be read
  }
}

TEST(NpyFile, ReadsPast4GiB) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  constexpr std::int64_t kRows = 2200000;
  constexpr std::int64_t kCols = 597;
  for (const bool fortran : {false, true}) {
    const std::string head = npy_header_text({ElementType::f4, 4, fortran, {kRows, kCols}, 0});
    const float value = 7.5f;
    {
      std::ofstream file(path, std::ios::binary);
      file << head;
      file.seekp(static_cast<std::streamoff>(head.size()) + (kRows * kCols - 1) * 4);
      file.write(reinterpret_cast<const char*>(&value), 4);
      if (!file) GTEST_SKIP() << "no sparse files of 5 GB here";
    }
    const NpyFile file = NpyFile::open(path);
    std::vector<float> out(kCols * 2, -1.0f);
    file.prefetch_rows(kRows - 2, 2);
    file.read_rows(kRows - 2, 2, MatrixView<float>{out.data(), kCols, 2, kCols, Device{}});
    EXPECT_EQ(out[0], 0.0f);
    EXPECT_EQ(out[2 * kCols - 2], 0.0f);
    EXPECT_EQ(out[2 * kCols - 1], value);
  }
}

TEST(NpyWriter, WritesPieceByPiece) {
  const TemporaryFolder folder;
  NpyWriter writer(folder / "a.npy", ElementType::f4, {3, 2});
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  writer.append(values.data(), 1);
  writer.append(values.data() + 1, 1);
  EXPECT_EQ(writer.missing(), 4);
  writer.append_rows(MatrixView<const float>{values.data() + 2, 2, 2, 2, Device{}});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()) || folder.names()[0][0] == '.');
  writer.finish();
  EXPECT_EQ(folder.names(), Names{"a.npy"});
  const NpyFile file = NpyFile::open(folder / "a.npy");
  EXPECT_EQ(std::memcmp(file.data(), values.data(), 24), 0);
  message_of<IoError>([&] { writer.finish(); }, {"finished"});
}

TEST(NpyWriter, ChecksArguments) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  const std::vector<float> values(12);
  {
    NpyWriter writer(path, ElementType::f4, {3, 2});
    message_of<ShapeError>([&] { writer.append(values.data(), 7); },
                           {"NpyWriter::append", path, "7 more", "room for 6"});
    message_of<ShapeError>([&] { writer.append(values.data(), -1); }, {"-1 more"});
    message_of<ShapeError>(
        [&] {
          writer.append_rows(MatrixView<const float>{values.data(), 3, 1, 3, Device{}});
        },
        {"X is 3 x 1, wanted 2 x 1"});
    message_of<ShapeError>(
        [&] {
          writer.append_rows(MatrixView<const float>{values.data(), 2, 4, 2, Device{}});
        },
        {"4 more rows, found room for 3"});
    message_of<ValueError>(
        [&] {
          writer.append_rows(MatrixView<const double>{nullptr, 2, 0, 2, Device{}});
        },
        {"X holds '<f8'", "wants '<f4'"});
    writer.append(values.data(), 4);
    message_of<ShapeError>([&] { writer.finish(); }, {"NpyWriter::finish", "2 elements are missing of shape (3, 2)"});
  }
  EXPECT_TRUE(folder.names().empty());
  message_of<ShapeError>([&] { NpyWriter(path, ElementType::f4, {-1}); }, {"(-1,)"});
  message_of<ShapeError>([&] { NpyWriter(path, ElementType::f8, {std::int64_t{1} << 60, 2}); }, {"2^63"});
  message_of<ValueError>([&] { NpyWriter(path, ElementType::s, {1}); }, {"byte strings"});
  message_of<ShapeError>(
      [&] {
        NpyWriter writer(path, ElementType::f4, {3});
        writer.append_rows(MatrixView<const float>{values.data(), 1, 1, 1, Device{}});
      },
      {"shape (3,), wanted 2-D"});
  message_of<IoError>([&] { NpyWriter(folder.path(), ElementType::f4, {1}); }, {"found a folder"});
  message_of<IoError>([&] { NpyWriter("/dev/null", ElementType::f4, {1}); }, {"found a character device"});
  message_of<DeviceError>(
      [&] {
        write_npy_vector(path, VectorView<const float>{values.data(), 1, {DeviceType::cuda, 0}});
      },
      {"cuda:0, wanted cpu"});
  message_of<ShapeError>(
      [&] {
        write_npy_matrix(path, MatrixView<const float>{values.data(), 3, 2, 2, Device{}});
      },
      {"write_npy_matrix", "ld 2, wanted >= 3"});
  EXPECT_TRUE(folder.names().empty());
}

TEST(NpyWriter, LeavesTheTargetWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  write_bytes(path, "old");
  const std::vector<double> values(100000);
  {
    const FileSizeLimit limit(200000);
    message_of<IoError>([&] { write_npy(path, ElementType::f8, {100000}, values.data()); },
                        {path, "cannot write", "File too large"});
  }
  EXPECT_EQ(file_bytes(path), "old");
  EXPECT_EQ(folder.names(), Names{"a.npy"});
}

TEST(NpyWriter, WritesVectorsAndScalars) {
  const TemporaryFolder folder;
  std::vector<double> values{1.5, -2};
  write_npy_vector(folder / "v.npy", VectorView<double>{values.data(), 2, Device{}});
  EXPECT_EQ(NpyFile::open(folder / "v.npy").read_vector(), values);
  write_npy(folder / "s.npy", ElementType::f8, {}, values.data());
  const NpyFile scalar = NpyFile::open(folder / "s.npy");
  EXPECT_TRUE(scalar.header().shape.empty());
  EXPECT_EQ(scalar.as<double>()[0], 1.5);
}

}  // namespace
}  // namespace shrinkwarp
