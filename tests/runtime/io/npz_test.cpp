// .npz archives: round trips, members that grow side by side, zip64, every damage that a reader must notice.
#include <shrinkwarp/runtime/io/npz.hpp>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/io/npz_parts.hpp>
#include <shrinkwarp/runtime/io/zip.hpp>

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

template <class T>
std::vector<T> values_of(const NpyArray& array) {
  const VectorView<const T> view = array.as<T>();
  return {view.data, view.data + view.size};
}

/// The archive that scipy.sparse.load_npz reads as the 3 x 4 matrix with 1 at (0, 0), 2 at (0, 3), 3 at (2, 1).
void write_csr(const std::string& path) {
  NpzWriter writer(path);
  writer.put_text("format", "csr");
  const std::vector<std::int64_t> shape{3, 4};
  writer.put("shape", ElementType::i8, {2}, shape.data());
  const int data = writer.add("data", ElementType::f4);
  const int indices = writer.add("indices", ElementType::i4);
  const int indptr = writer.add("indptr", ElementType::i8);
  std::vector<float> values{1, 2, 3};
  const std::vector<std::int32_t> columns{0, 3, 1};
  const std::vector<std::int64_t> begins{0, 2, 2, 3};
  writer.append(indptr, begins.data(), 1);
  for (std::size_t row = 0; row < 3; ++row) {
    const std::int64_t count = begins[row + 1] - begins[row];
    writer.append(data, VectorView<float>{values.data() + begins[row], count, Device{}});
    writer.append(indices, VectorView<const std::int32_t>{columns.data() + begins[row], count, Device{}});
    writer.append(indptr, VectorView<const std::int64_t>{&begins[row + 1], 1, Device{}});
  }
  EXPECT_EQ(writer.size(data), 3);
  EXPECT_EQ(writer.size(indptr), 4);
  writer.finish();
}

TEST(Npz, RoundTrip) {
  const TemporaryFolder folder;
  write_csr(folder / "z.npz");
  EXPECT_EQ(folder.names(), Names{"z.npz"});
  const NpzReader reader = NpzReader::open(folder / "z.npz");
  EXPECT_EQ(reader.names(), (Names{"format", "shape", "data", "indices", "indptr"}));
  EXPECT_TRUE(reader.contains("data"));
  EXPECT_FALSE(reader.contains("data.npy"));
  const NpyArray format = reader.read("format");
  EXPECT_EQ(format.text(), "csr");
  EXPECT_EQ(format.header.descr(), "|S3");
  EXPECT_TRUE(format.header.shape.empty());
  EXPECT_EQ(values_of<std::int64_t>(reader.read("shape")), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(values_of<float>(reader.read("data")), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(values_of<std::int32_t>(reader.read("indices")), (std::vector<std::int32_t>{0, 3, 1}));
  EXPECT_EQ(values_of<std::int64_t>(reader.read("indptr")), (std::vector<std::int64_t>{0, 2, 2, 3}));
  EXPECT_EQ(values_of<float>(reader.read("data")), (std::vector<float>{1, 2, 3}));  // again, out of order
}

TEST(Npz, SameContentSameBytes) {
  const TemporaryFolder folder;
  write_csr(folder / "a.npz");
  write_csr(folder / "b.npz");
  EXPECT_EQ(file_bytes(folder / "a.npz"), file_bytes(folder / "b.npz"));
}

TEST(Npz, Shapes) {
  const TemporaryFolder folder;
  const std::vector<double> values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  NpzWriter writer(folder / "a.npz");
  const int rows = writer.add("rows", ElementType::f8, {2, 3});
  writer.add("none", ElementType::f4);
  writer.add("no_rows", ElementType::f4, {7});
  writer.append(rows, values.data(), 5);
  writer.put("scalar", ElementType::f8, {}, values.data());
  writer.put("empty", ElementType::u1, {0, 5}, nullptr);
  writer.put_text("nothing", "");
  message_of<ShapeError>([&] { writer.finish(); }, {"array 'rows'", "found 5 elements, wanted whole rows of 6"});
  writer.append(rows, values.data() + 5, 7);
  writer.finish();
  const NpzReader reader = NpzReader::open(folder / "a.npz");
  EXPECT_EQ(reader.read("rows").header.shape, (Shape{2, 2, 3}));
  EXPECT_EQ(values_of<double>(reader.read("rows")), values);
  EXPECT_EQ(reader.read("none").header.shape, Shape{0});
  EXPECT_EQ(reader.read("no_rows").header.shape, (Shape{0, 7}));
  EXPECT_EQ(values_of<double>(reader.read("scalar")), std::vector<double>{1});
  EXPECT_EQ(reader.read("empty").header.shape, (Shape{0, 5}));
  EXPECT_EQ(reader.read("nothing").text(), "");
}

TEST(Npz, NoArrays) {
  const TemporaryFolder folder;
  NpzWriter(folder / "a.npz").finish();
  EXPECT_EQ(file_bytes(folder / "a.npz").size(), 22u);
  const NpzReader reader = NpzReader::open(folder / "a.npz");
  EXPECT_TRUE(reader.names().empty());
  message_of<ValueError>([&] { reader.read("x"); }, {"a.npz", "no array 'x', found: none"});
}

TEST(NpzWriter, ManyMegabytes) {
  const TemporaryFolder folder;
  NpzWriter writer(folder / "a.npz");
  const int a = writer.add("a", ElementType::i4);
  const int b = writer.add("b", ElementType::f8);
  std::vector<std::int32_t> numbers(300000);
  std::int64_t total = 0;
  for (int piece = 0; piece < 60; ++piece) {  // 72 MB: past the point where scratch files give parts back
    for (std::int32_t& number : numbers) number = static_cast<std::int32_t>(total++);
    writer.append(a, numbers.data(), 300000);
    const double value = piece;
    writer.append(b, &value, 1);
  }
  EXPECT_TRUE(folder.names().empty());
  writer.finish();
  EXPECT_EQ(folder.names(), Names{"a.npz"});
  const NpzReader reader = NpzReader::open(folder / "a.npz");
  const NpyArray array = reader.read("a");
  const VectorView<const std::int32_t> view = array.as<std::int32_t>();
  ASSERT_EQ(view.size, total);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < total; ++i) wrong += view[i] != i;
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(values_of<double>(reader.read("b"))[59], 59);
}

TEST(NpzWriter, ChecksArguments) {
  const TemporaryFolder folder;
  NpzWriter writer(folder / "a.npz");
  const int a = writer.add("a", ElementType::f4);
  const std::vector<double> values(4);
  message_of<ValueError>([&] { writer.add("a", ElementType::f4); }, {"NpzWriter::add", "'a' is taken", "a.npz"});
  message_of<ValueError>([&] { writer.put("a", ElementType::f8, {1}, values.data()); }, {"'a' is taken"});
  for (const std::string name : {"", "a/b", "a\\b", "a\nb"}) {
    message_of<ValueError>([&] { writer.put_text(name, "x"); }, {"wanted 1 to 1000 bytes"});
  }
  message_of<ValueError>([&] { writer.put_text(std::string(1001, 'n'), "x"); }, {"wanted 1 to 1000 bytes"});
  message_of<ValueError>([&] { writer.add("s", ElementType::s); }, {"byte strings"});
  message_of<ValueError>([&] { writer.put("s", ElementType::s, {}, "x"); }, {"byte strings"});
  message_of<ShapeError>([&] { writer.add("z", ElementType::f4, {0}); }, {"row_shape (0,), wanted sizes > 0"});
  message_of<ShapeError>([&] { writer.put("n", ElementType::f4, {-1}, nullptr); }, {"(-1,)"});
  message_of<ValueError>([&] { writer.append(7, values.data(), 1); }, {"id 7 is of no growing array"});
  message_of<ValueError>([&] { writer.append(-1, values.data(), 1); }, {"id -1"});
  message_of<ShapeError>([&] { writer.append(a, values.data(), -1); }, {"count -1"});
  message_of<ValueError>(
      [&] {
        writer.append(a, VectorView<const double>{values.data(), 4, Device{}});
      },
      {"array 'a'", "'<f8', wanted '<f4'"});
  writer.put("given", ElementType::f8, {1}, values.data());
  message_of<ValueError>([&] { writer.append(1, values.data(), 1); }, {"id 1 is of no growing array"});
  writer.finish();
  EXPECT_EQ(NpzReader::open(folder / "a.npz").names(), (Names{"a", "given"}));  // no trace of what was refused
  message_of<ValueError>([&] { writer.append(a, values.data(), 1); }, {"is finished"});
  message_of<ValueError>([&] { writer.finish(); }, {"is finished"});
  EXPECT_EQ(NpzReader::open(folder / "a.npz").names().size(), 2u);
  message_of<IoError>([&] { NpzWriter(folder / "none/a.npz"); }, {"no file can be made in folder"});
  message_of<IoError>([&] { NpzWriter(folder.path()); }, {"found a folder"});
  message_of<IoError>([&] { NpzWriter("/dev/full"); }, {"found a character device"});
}

TEST(NpzWriter, LeavesTheTargetWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npz";
  write_bytes(path, "old");
  const std::vector<double> values(100000);
  {
    NpzWriter writer(path);
    const int a = writer.add("a", ElementType::f8);
    const FileSizeLimit limit(500000);
    message_of<IoError>([&] { writer.append(a, values.data(), 100000); }, {path, "File too large"});
    message_of<ValueError>([&] { writer.finish(); }, {path, "an earlier call failed"});
  }
  {
    NpzWriter writer(path);
    for (const char* name : {"a", "b"}) writer.append(writer.add(name, ElementType::f8), values.data(), 100000);
    const FileSizeLimit limit(1200000);  // each scratch file has room, the archive has not
    message_of<IoError>([&] { writer.finish(); }, {path, "cannot write", "File too large"});
    message_of<ValueError>([&] { writer.finish(); }, {"an earlier call failed"});
    EXPECT_EQ(folder.names(), Names{"a.npz"});
  }
  EXPECT_EQ(file_bytes(path), "old");
  EXPECT_EQ(folder.names(), Names{"a.npz"});
}

TEST(NpzWriter, UnfinishedOrKilledLeavesNothing) {
  const TemporaryFolder folder;
  const std::vector<double> values(100000);
  {
    NpzWriter writer(folder / "a.npz");
    writer.append(writer.add("a", ElementType::f8), values.data(), 100000);
    NpzWriter moved = std::move(writer);
  }
  EXPECT_TRUE(folder.names().empty());
  const pid_t child = fork();
  if (child == 0) {
    NpzWriter writer(folder / "a.npz");
    writer.append(writer.add("a", ElementType::f8), values.data(), 100000);
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(folder.names().empty());
}

// ---- archives by hand ----

struct HandMember {
  std::string name;
  std::string data;
  int method = 0;
};

void put(std::string& bytes, std::uint64_t value, int count) {
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i & 0xff);
}
void patch(std::string& bytes, std::size_t at, std::uint64_t value, int count) {
  std::string text;
  put(text, value, count);
  bytes.replace(at, text.size(), text);
}

std::string deflated(const std::string& data) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// A zip; `central` receives the offset of each entry of the directory.
std::string zip_bytes(const std::vector<HandMember>& members, std::vector<std::size_t>* central = nullptr) {
  std::string bytes;
  std::string directory;
  std::vector<std::size_t> entries;
  for (const HandMember& member : members) {
    const std::string packed = member.method == 8 ? deflated(member.data) : member.data;
    const std::size_t offset = bytes.size();
    std::string shared;  // what local header and directory have in common
    put(shared, 20, 2);
    put(shared, 0, 2);
    put(shared, static_cast<std::uint64_t>(member.method), 2);
    put(shared, 0, 4);
    put(shared, crc32(0, reinterpret_cast<const Bytef*>(member.data.data()), static_cast<uInt>(member.data.size())), 4);
    put(shared, packed.size(), 4);
    put(shared, member.data.size(), 4);
    put(shared, member.name.size(), 2);
    put(shared, 0, 2);
    put(bytes, 0x04034b50, 4);
    bytes += shared + member.name + packed;
    entries.push_back(directory.size());
    put(directory, 0x02014b50, 4);
    put(directory, 20, 2);
    directory += shared;
    put(directory, 0, 6);  // no comment, first disk, no internal attributes
    put(directory, 0, 4);
    put(directory, offset, 4);
    directory += member.name;
  }
  const std::size_t begin = bytes.size();
  for (std::size_t& entry : entries) entry += begin;
  if (central != nullptr) *central = entries;
  bytes += directory;
  put(bytes, 0x06054b50, 4);
  put(bytes, 0, 4);
  put(bytes, members.size(), 2);
  put(bytes, members.size(), 2);
  put(bytes, directory.size(), 4);
  put(bytes, begin, 4);
  put(bytes, 0, 2);
  return bytes;
}

std::string npy_of(const std::vector<double>& values) {
  return npy_bytes(concat("{'descr': '<f8', 'fortran_order': False, 'shape': (", values.size(), ",), }"),
                   bytes_of(values));
}

class NpzReaderTest : public ::testing::Test {
 protected:
  NpzReader open(const std::string& bytes) {
    write_bytes(path_, bytes);
    return NpzReader::open(path_);
  }
  NpyArray read(const std::string& bytes, const std::string& name = "a") { return open(bytes).read(name); }
  void refuses(const std::string& bytes, std::vector<std::string> pieces) {
    pieces.push_back(path_);
    message_of<IoError>([&] { read(bytes); }, pieces);
  }
  TemporaryFolder folder_;
  std::string path_ = folder_ / "a.npz";
};

TEST_F(NpzReaderTest, ReadsStoredAndDeflated) {
  std::vector<double> values(200000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * i % 1001);
  const NpzReader reader = open(zip_bytes({{"a.npy", npy_of(values), 8},
                                           {"notes.txt", "passed over"},
                                           {".npy", npy_of({1}), 0},
                                           {"b.npy", npy_of({5, 6}), 0},
                                           {"empty.npy", npy_of({}), 8}}));
  EXPECT_EQ(reader.names(), (Names{"a", "", "b", "empty"}));
  EXPECT_EQ(values_of<double>(reader.read("a")), values);
  EXPECT_EQ(values_of<double>(reader.read("b")), (std::vector<double>{5, 6}));
  EXPECT_EQ(reader.read("empty").header.size(), 0);
}

TEST_F(NpzReaderTest, StreamsArraysSideBySide) {
  std::vector<double> values(200000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * i % 1001);
  const std::string bytes =
      zip_bytes({{"a.npy", npy_of(values), 8}, {"b.npy", npy_of(values), 0}, {"c.npy", npy_of({}), 8}});
  const NpzReader reader = open(bytes);
  NpzStream a = reader.stream("a"), b = reader.stream("b");
  EXPECT_EQ(a.header().shape, (Shape{200000}));
  EXPECT_EQ(reader.stream("c").missing(), 0);
  std::vector<double> from_a, from_b;
  for (std::int64_t step = 1; a.missing() > 0; step = step * 3 % 40009) {
    for (const auto& [stream, target] : {std::pair{&a, &from_a}, std::pair{&b, &from_b}}) {
      const std::int64_t count = std::min(step, stream->missing());
      target->resize(target->size() + static_cast<std::size_t>(count));
      stream->read(target->data() + target->size() - count, count);
    }
  }
  EXPECT_EQ(from_a, values);
  EXPECT_EQ(from_b, values);
  double more = 0;
  message_of<ShapeError>([&] { a.read(&more, 1); }, {"NpzStream::read", "found 0 elements left, wanted 1", path_});
  message_of<ShapeError>([&] { b.read(&more, -1); }, {"NpzStream::read"});
  message_of<ValueError>([&] { reader.stream("d"); }, {"holds no array 'd', found: a, b, c"});

  // Damage within the data is found with the last element, and not before it is looked at.
  std::string damaged = zip_bytes({{"a.npy", npy_of(values), 0}});
  damaged[1000] = static_cast<char>(damaged[1000] ^ 1);
  const NpzReader other = open(damaged);
  NpzStream stream = other.stream("a");
  stream.read(from_a.data(), 199999);
  message_of<IoError>([&] { stream.read(&more, 1); }, {path_, "a.npy"});
}

TEST_F(NpzReaderTest, ReadsAnArchiveWithAComment) {
  std::string bytes = zip_bytes({{"a.npy", npy_of({1, 2}), 0}});
  patch(bytes, bytes.size() - 2, 30, 2);
  EXPECT_EQ(read(bytes + "PK\x05\x06 looks like an end record.").header.size(), 2);
}

TEST_F(NpzReaderTest, ChecksTypes) {
  const NpyArray array = read(zip_bytes({{"a.npy", npy_of({1, 2}), 0}}));
  message_of<ValueError>([&] { array.as<float>(); }, {"NpyArray::as", "found elements <f8, wanted <f4"});
  message_of<ValueError>([&] { array.text(); }, {"NpyArray::text", "(2,) of <f8"});
}

TEST_F(NpzReaderTest, ListsWhatThereIs) {
  message_of<ValueError>(
      [&] {
        read(zip_bytes({{"x.npy", ""}, {"y.npy", ""}}), "a");
      },
      {path_, "no array 'a', found: x, y"});
}

TEST_F(NpzReaderTest, RefusesWhatIsNoArchive) {
  message_of<IoError>([&] { NpzReader::open(folder_ / "none.npz"); }, {"NpzReader: '", "No such file"});
  message_of<IoError>([&] { NpzReader::open(folder_.path()); }, {"found a folder"});
  message_of<IoError>([&] { NpzReader::open("/dev/zero"); }, {"found a character device"});
  refuses("", {"is empty"});
  refuses("abc", {"begins with 'abc', wanted a zip"});
  refuses(npy_of({1, 2}), {"begins with '\\x93NUM'"});
  refuses(std::string(200000, '\0'), {"wanted a zip"});
}

TEST_F(NpzReaderTest, RefusesEveryTruncation) {
  for (const int method : {0, 8}) {
    const std::string whole = zip_bytes({{"a.npy", npy_of({1, 2, 3}), method}});
    for (std::size_t length = 0; length < whole.size(); ++length) refuses(whole.substr(0, length), {});
    refuses(whole.substr(0, whole.size() - 1), {"it is cut short"});
  }
}

TEST_F(NpzReaderTest, RefusesDamage) {
  std::vector<std::size_t> central;
  const std::string stored = zip_bytes({{"a.npy", npy_of({1, 2, 3}), 0}}, &central);
  const std::size_t entry = central[0];
  const std::size_t data = 30 + 5;
  const std::size_t end = stored.size() - 22;
  const auto with = [&](std::size_t at, std::uint64_t value, int count, std::string bytes = {}) {
    if (bytes.empty()) bytes = stored;
    patch(bytes, at, value, count);
    return bytes;
  };
  refuses(with(entry - 1, 0x7f, 1), {"member 'a.npy'", "the checksum of the data is", "wanted"});
  refuses(with(entry + 8, 1, 2), {"is encrypted"});
  refuses(with(entry + 10, 12, 2), {"compression method 12"});
  refuses(with(entry + 24, 1000, 4), {"is said to have 1000 bytes"});
  refuses(with(entry + 20, 0x7fffffff, 4), {"the archive is damaged", "2147483647 bytes"});
  refuses(with(entry + 42, 0x7fffffff, 4), {"the archive is damaged"});
  refuses(with(entry + 42, 3, 4), {"found no member at offset 3"});
  refuses(with(entry, 0, 4), {"found no directory entry"});
  refuses(with(entry + 28, 500, 2), {"ends within an entry"});
  refuses(with(0, 0, 4), {"found no member at offset 0"});
  refuses(with(end + 4, 1, 2), {"one part of several"});
  refuses(with(end + 10, 2, 2), {"found 1 members, its end record says 2"});
  refuses(with(end + 12, 5000, 4), {"found a directory of 5000 bytes"});
  refuses(with(end + 16, 5000, 4), {"at offset 5000"});
  refuses(with(end + 16, 0xffffffff, 4), {"found a directory of"});
  refuses(with(end + 12, 3, 4), {"found no directory entry"});
  refuses(with(data, 'x', 1), {"member 'a.npy'", "begins with 'x"});

  const std::string packed = zip_bytes({{"a.npy", npy_of(std::vector<double>(1000)), 8}}, &central);
  refuses(with(data + 3, 0xff, 1, packed), {"member 'a.npy'"});
  refuses(with(central[0] + 24, 8000, 4, packed), {"bytes of data, wanted 8000"});
  refuses(with(central[0] + 24, 0x7fffffff, 4, packed), {"which cannot be"});
  refuses(zip_bytes({{"a.npy", npy_of({1})}, {"a.npy", npy_of({2})}}), {"two arrays of the name 'a'"});
  refuses(zip_bytes({{"a.npy", npy_of({1}) + "x"}}), {"found 9 bytes of data, wanted 8"});
  refuses(zip_bytes({{"a.npy", ""}}), {"is empty"});
  refuses(zip_bytes({{"a.npy", "", 8}}), {"is empty"});
}

TEST_F(NpzReaderTest, RefusesSizesThatThePackedDataDoNotBear) {
  // The header and both sizes agree on more than there is: noticed while unpacking, with no more memory than the data.
  const std::string dict = "{'descr': '<f8', 'fortran_order': False, 'shape': (12500,), }";
  std::vector<std::size_t> central;
  std::string bytes = zip_bytes({{"a.npy", npy_bytes(dict, std::string(1000, '\0')), 8}}, &central);
  patch(bytes, central[0] + 24, npy_bytes(dict, "").size() + 100000, 4);
  refuses(bytes, {"cannot be"});
  const std::string noise(1000, '\0');
  std::string uneven;
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) uneven += static_cast<char>(random() & 0xff);
  bytes = zip_bytes({{"a.npy", npy_bytes(dict, uneven), 8}}, &central);
  patch(bytes, central[0] + 24, npy_bytes(dict, "").size() + 100000, 4);
  refuses(bytes, {"is cut short: found 1000 bytes, wanted 100000"});
  // And on less than there is.
  const std::string small = "{'descr': '<f8', 'fortran_order': False, 'shape': (5,), }";
  bytes = zip_bytes({{"a.npy", npy_bytes(small, uneven), 8}}, &central);
  patch(bytes, central[0] + 24, npy_bytes(small, "").size() + 40, 4);
  refuses(bytes, {"does not end where its size says"});
}

TEST_F(NpzReaderTest, ReadsMembersPast4GiB) {
  // Two members with a hole of 5 GB between them, which only the directory's zip64 fields span.
  const std::string first = zip_bytes({{"a.npy", npy_of({1, 2}), 0}});
  const std::string second = zip_bytes({{"b.npy", npy_of({3, 4, 5}), 0}});
  constexpr std::uint64_t kFar = 5000000000;
  const auto local_bytes = [](std::size_t values) { return 35 + npy_of(std::vector<double>(values)).size(); };
  std::string directory = first.substr(local_bytes(2), 46 + 5);
  std::string entry = second.substr(local_bytes(3), 46 + 5);
  patch(entry, 30, 12 + 8, 2);  // the extra fields: one of another kind, then zip64 with the offset alone
  patch(entry, 42, 0xffffffff, 4);
  put(entry, 0x7075, 2);
  put(entry, 4, 2);
  put(entry, 0, 4);
  put(entry, 1, 2);
  put(entry, 8, 2);
  put(entry, kFar, 8);
  directory += entry;
  patch(directory, 51 + 30, 8 + 12, 2);
  const std::uint64_t begin = kFar + local_bytes(3);
  std::string end;
  put(end, 0x06064b50, 4);
  put(end, 44, 8);
  put(end, 45, 2);
  put(end, 45, 2);
  put(end, 0, 8);
  put(end, 2, 8);
  put(end, 2, 8);
  put(end, directory.size(), 8);
  put(end, begin, 8);
  put(end, 0x07064b50, 4);
  put(end, 0, 4);
  put(end, begin + directory.size(), 8);
  put(end, 1, 4);
  put(end, 0x06054b50, 4);
  put(end, 0, 4);
  put(end, 0xffff, 2);
  put(end, 0xffff, 2);
  put(end, 0xffffffff, 4);
  put(end, 0xffffffff, 4);
  put(end, 0, 2);
  {
    std::ofstream file(path_, std::ios::binary);
    file << first.substr(0, local_bytes(2));
    file.seekp(static_cast<std::streamoff>(kFar));
    file << second.substr(0, local_bytes(3)) << directory << end;
    if (!file) GTEST_SKIP() << "no sparse files of 5 GB here";
  }
  const NpzReader reader = NpzReader::open(path_);
  EXPECT_EQ(values_of<double>(reader.read("a")), (std::vector<double>{1, 2}));
  EXPECT_EQ(values_of<double>(reader.read("b")), (std::vector<double>{3, 4, 5}));
}

TEST_F(NpzReaderTest, SurvivesRandomDamage) {
  const std::string bytes[] = {zip_bytes({{"a.npy", npy_of({1, 2, 3}), 0}, {"b.npy", npy_of({1, 2, 3, 4}), 8}}), [&] {
                                 write_csr(path_);
                                 return file_bytes(path_);
                               }()};
  std::mt19937 random(7);
  for (int trial = 0; trial < 3000; ++trial) {
    std::string damaged = bytes[trial % 2];
    for (int changes = 1 + static_cast<int>(random() % 4); changes > 0; --changes) {
      const std::uint8_t values[] = {0, 0xff, 0x7f, 0x80, static_cast<std::uint8_t>(random() & 0xff)};
      damaged[random() % damaged.size()] = static_cast<char>(values[random() % 5]);
    }
    try {
      const NpzReader reader = open(damaged);
      for (const std::string& name : reader.names()) {
        try {
          reader.read(name);
        } catch (const IoError&) {
        }
      }
    } catch (const IoError&) {
    }
  }
}

// ---- zip64 as written ----

TEST(ZipWriter, WritesZip64PastItsLimit) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npz";
  const std::string large = npy_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  for (const std::int64_t limit : {std::int64_t{0xffffffff}, std::int64_t{200}, std::int64_t{100}, std::int64_t{1}}) {
    OutputFile file = OutputFile::replacing("Test", path);
    ZipWriter zip(file, limit);
    for (const std::string& data : {npy_of({1}), large, npy_of({2, 3})}) {
      zip.begin(concat("m", data.size(), ".npy"), static_cast<std::int64_t>(data.size()));
      zip.write(data.data(), 10);
      zip.write(data.data() + 10, static_cast<std::int64_t>(data.size()) - 10);
      zip.end();
    }
    zip.finish();
    file.commit();
    const std::string bytes = file_bytes(path);
    EXPECT_EQ(bytes.find("PK\x06\x06") != std::string::npos, limit < 0xffffffff) << limit;
    const NpzReader reader = NpzReader::open(path);
    ASSERT_EQ(reader.names().size(), 3u);
    EXPECT_EQ(values_of<double>(reader.read(reader.names()[0])), std::vector<double>{1});
    EXPECT_EQ(values_of<double>(reader.read(reader.names()[1])).back(), 16);
    EXPECT_EQ(values_of<double>(reader.read(reader.names()[2])), (std::vector<double>{2, 3}));
  }
}

/// Writes the numbers 0, 1, ... to arrays in parts, the last ones first, and small arrays behind.
void write_in_parts(const std::string& path, std::int64_t limit, bool shared) {
  NpzLayout layout(limit);
  std::vector<double> numbers(100000);
  std::iota(numbers.begin(), numbers.end(), 0.0);
  const auto count = static_cast<std::int64_t>(numbers.size());
  layout.add("a", ElementType::f8, {count});
  layout.add("b", ElementType::f8, {2, count / 2});
  layout.add("none", ElementType::i4, {0});
  NpzFrame frame(path, layout, shared);
  std::vector<std::uint32_t> checksums(3);
  for (std::int64_t end = count; end > 0; end -= count / 4) {  // 200 kB each
    OutputFile file = OutputFile::joining("Test", path, frame.temporary_path());
    const std::int64_t first = end - count / 4;
    for (const int id : {0, 1}) {
      NpzPart part(file, layout.offset(id) + 8 * first);
      for (std::int64_t i = first; i < end; i += 1000) part.append(&numbers[static_cast<std::size_t>(i)], 8 * 1000);
      part.flush();
      auto& sum = checksums[static_cast<std::size_t>(id)];
      sum = zip_checksum_of_both(part.checksum(), sum, 8 * (count - end));
    }
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  frame.finish(checksums,
               {{"few", NpyArray::of(ElementType::f8, {1}, numbers.data() + 7)}, {"text", NpyArray::of_text("words")}});
}

TEST(NpzParts, HaveTheBytesOfAWholeArchive) {
  const TemporaryFolder folder;
  std::vector<double> numbers(100000);
  std::iota(numbers.begin(), numbers.end(), 0.0);
  NpzWriter writer(folder / "w.npz");
  const int a = writer.add("a", ElementType::f8), b = writer.add("b", ElementType::f8, {50000});
  writer.add("none", ElementType::i4);
  for (const int id : {a, b}) writer.append(id, numbers.data(), 100000);
  writer.put("few", ElementType::f8, {1}, numbers.data() + 7);
  writer.put_text("text", "words");
  writer.finish();
  for (const bool shared : {false, true}) {
    write_in_parts(folder / "p.npz", kZip64Limit, shared);
    EXPECT_EQ(file_bytes(folder / "p.npz"), file_bytes(folder / "w.npz"));
    std::filesystem::remove(folder / "p.npz");
  }
  for (const std::int64_t limit : {800200, 1000, 1}) {  // zip64: of places, of sizes too
    write_in_parts(folder / "p.npz", limit, false);
    const NpzReader reader = NpzReader::open(folder / "p.npz");
    EXPECT_EQ(values_of<double>(reader.read("a")), numbers);
    EXPECT_EQ(values_of<double>(reader.read("b")), numbers);
    EXPECT_EQ(values_of<double>(reader.read("few")), std::vector<double>{7});
    std::filesystem::remove(folder / "p.npz");
  }
}

TEST(NpzParts, RefuseWhatIsNoArray) {
  NpzLayout layout;
  layout.add("a", ElementType::f8, {3});
  EXPECT_THROW(layout.add("a", ElementType::f8, {3}), ValueError);
  EXPECT_THROW(layout.add("b/c", ElementType::f8, {3}), ValueError);
  EXPECT_THROW(layout.add("b", ElementType::s, {3}), ValueError);
  EXPECT_THROW(layout.add("b", ElementType::f8, {-3}), ShapeError);
  const TemporaryFolder folder;
  NpzFrame frame(folder / "a.npz", layout, false);
  message_of<ShapeError>([&] { frame.finish({}, {}); }, {"found 0 checksums, wanted 1"});
}

TEST(ZipWriter, RefusesAnUnfinishedMember) {
  const TemporaryFolder folder;
  OutputFile file = OutputFile::replacing("Test", folder / "a.zip");
  ZipWriter zip(file);
  zip.begin("m", 5);
  zip.write("abc", 3);
  message_of<ShapeError>([&] { zip.end(); }, {"2 bytes are missing of member 'm'"});
}

}  // namespace
}  // namespace shrinkwarp
