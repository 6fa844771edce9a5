// Safetensors files: exact bytes, round trips, everything that the format does not allow, and what a failed write leaves.
#include <shrinkwarp/runtime/io/safetensors.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "io_testing.hpp"

namespace shrinkwarp {
namespace {

using testing::bytes_of;
using testing::file_bytes;
using testing::FileSizeLimit;
using testing::message_of;
using testing::TemporaryFolder;
using testing::write_bytes;
using Names = std::vector<std::string>;
using Shape = std::vector<std::int64_t>;

/// A file with this header and as many bytes of data.
std::string safetensors_bytes(const std::string& header, std::size_t data_bytes = 0) {
  return bytes_of(std::vector<std::uint64_t>{header.size()}) + header + std::string(data_bytes, '\0');
}

std::vector<std::byte> as_bytes(const std::string& text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

TEST(Safetensors, BytesOfASmallFile) {
  const TemporaryFolder folder;
  Safetensors contents;
  contents.add<float>("attn.0", {1, 2, 3}, {0, 1, 2, 3, 4, 5});
  write_safetensors(folder / "w", contents);
  EXPECT_EQ(folder.names(), Names{"w"});
  std::string wanted = std::string("\x40\0\0\0\0\0\0\0", 8);
  wanted += R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})";
  wanted += std::string("\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40", 24);
  EXPECT_EQ(file_bytes(folder / "w"), wanted);
}

TEST(Safetensors, BytesWithoutTensors) {
  const TemporaryFolder folder;
  Safetensors contents;
  write_safetensors(folder / "w", contents);
  EXPECT_EQ(file_bytes(folder / "w"), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  contents.metadata["framework"] = "pt";
  write_safetensors(folder / "w", contents);
  EXPECT_EQ(file_bytes(folder / "w"), safetensors_bytes(R"({"__metadata__":{"framework":"pt"}}     )"));
}

TEST(Safetensors, LargestElementsFirstThenNames) {
  const TemporaryFolder folder;
  Safetensors contents;
  contents.metadata = {{"b", "2"}, {"a", "1"}};
  contents.add<std::uint8_t>("flags", {3}, {1, 0, 1});
  contents.add<float>("w", {1}, {1});
  contents.add<float>("b", {1}, {2});
  contents.add<std::uint64_t>("seed", {}, {7});
  contents.add<double>("d", {0, 5}, {});
  contents.add<std::int32_t>("i", {1}, {-1});
  write_safetensors(folder / "a", contents);
  std::string header = R"({"__metadata__":{"a":"1","b":"2"},"seed":{"dtype":"U64","shape":[],"data_offsets":[0,8]},)";
  header +=
      R"("d":{"dtype":"F64","shape":[0,5],"data_offsets":[8,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)";
  header +=
      R"("w":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},"i":{"dtype":"I32","shape":[1],"data_offsets":[16,20]},)";
  header += R"("flags":{"dtype":"U8","shape":[3],"data_offsets":[20,23]}})";
  header += std::string((8 - header.size() % 8) % 8, ' ');
  const std::string data = bytes_of(std::vector<std::uint64_t>{7}) + bytes_of(std::vector<float>{2, 1}) +
                           bytes_of(std::vector<std::int32_t>{-1}) + std::string("\1\0\1", 3);
  EXPECT_EQ(file_bytes(folder / "a"), safetensors_bytes(header) + data);

  // The same content, come together in another order.
  Safetensors again;
  for (const char* name : {"b", "d", "flags", "i", "seed", "w"}) again.add(name, contents.at(name));
  again.metadata = {{"a", "1"}, {"b", "2"}};
  write_safetensors(folder / "b", again);
  EXPECT_EQ(file_bytes(folder / "b"), file_bytes(folder / "a"));
}

TEST(Safetensors, RoundTrip) {
  const TemporaryFolder folder;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> doubles{0.1, -0.0, 5e-324, kInfinity};
  const std::vector<std::int64_t> integers{std::numeric_limits<std::int64_t>::min(), -1, 3};
  const std::vector<std::uint64_t> state{~std::uint64_t{0}, 1};
  const std::string strange = "a \"name\"\n\\ \xc3\xa9 \x01\x7f";
  Safetensors contents;
  contents.metadata = {{"empty", ""}, {strange, strange}, {"", "an empty key"}};
  contents.add("double", {2, 2}, doubles);
  contents.add("i64", {3}, integers);
  contents.add("u64", {2, 1}, state);
  contents.add<std::int32_t>("i32", {2}, {-5, 6});
  contents.add<std::uint8_t>("u8", {1}, {255});
  contents.add<float>(strange, {}, {1.5F});
  contents.add<float>("", {0}, {});
  write_safetensors(folder / "w", contents);

  const Safetensors found = read_safetensors(folder / "w");
  EXPECT_EQ(found.path(), folder / "w");
  EXPECT_EQ(found.metadata, contents.metadata);
  ASSERT_EQ(found.tensors().size(), contents.tensors().size());
  for (const auto& [name, tensor] : contents.tensors()) {
    EXPECT_EQ(found.at(name).type, tensor.type) << name;
    EXPECT_EQ(found.at(name).shape, tensor.shape) << name;
    EXPECT_EQ(found.at(name).bytes, tensor.bytes) << name;
  }
  EXPECT_EQ(bytes_of(found.values<double>("double", {2, 2})), bytes_of(doubles));
  EXPECT_EQ(found.values<std::int64_t>("i64", {3}), integers);
  EXPECT_EQ(found.values<std::uint64_t>("u64", {2, 1}), state);
  EXPECT_EQ(found.values<std::int32_t>("i32", {2}), (std::vector<std::int32_t>{-5, 6}));
  EXPECT_EQ(found.values<std::uint8_t>("u8", {1}), std::vector<std::uint8_t>{255});
  EXPECT_EQ(found.values<float>(strange, {}), std::vector<float>{1.5F});
  EXPECT_TRUE(found.values<float>("", {0}).empty());
  write_safetensors(folder / "w2", found);
  EXPECT_EQ(file_bytes(folder / "w2"), file_bytes(folder / "w"));
}

TEST(Safetensors, FloatingPointTypesConvert) {
  Safetensors contents;
  const double above = 1 + std::ldexp(1, -24) + std::ldexp(1, -40);  // just over half way to the next float
  contents.add<double>("f64", {4}, {above, 1e300, -1e-300, std::nan("")});
  contents.add<float>("f32", {2}, {0.1F, -std::numeric_limits<float>::infinity()});
  const std::vector<float> narrow = contents.values<float>("f64", {4});
  EXPECT_EQ(narrow[0], std::nextafter(1.0F, 2.0F));
  EXPECT_EQ(narrow[1], std::numeric_limits<float>::infinity());
  EXPECT_EQ(narrow[2], 0);
  EXPECT_TRUE(std::signbit(narrow[2]));
  EXPECT_TRUE(std::isnan(narrow[3]));
  const std::vector<double> wide = contents.values<double>("f32", {2});
  EXPECT_EQ(wide[0], double{0.1F});
  EXPECT_EQ(wide[1], -std::numeric_limits<double>::infinity());
}

TEST(Safetensors, NamesWhatIsWrongWithAValue) {
  const TemporaryFolder folder;
  Safetensors contents;
  contents.add<float>("w", {2, 3}, std::vector<float>(6));
  contents.add<std::int64_t>("step", {}, {9});
  contents.add("half", {StoredType::bf16, {2}, as_bytes("\1\2\3\4")});
  write_safetensors(folder / "f", contents);
  const Safetensors found = read_safetensors(folder / "f");
  message_of<ValueError>([&] { found.at("v"); }, {"f' holds no tensor 'v', found: half, step, w"});
  message_of<ValueError>([&] { found.values<float>("v", {}); }, {"f' holds no tensor 'v'"});
  message_of<ShapeError>(
      [&] {
        found.values<float>("w", {3, 2});
      },
      {"Safetensors: '", "/f', tensor 'w': found shape (2, 3), wanted (3, 2)"});
  message_of<ValueError>([&] { found.values<float>("step", {}); },
                         {"/f', tensor 'step': found elements I64, wanted F32 or F64"});
  message_of<ValueError>([&] { found.values<std::int32_t>("step", {}); }, {"found elements I64, wanted I32"});
  message_of<ValueError>([&] { found.values<std::int64_t>("w", {2, 3}); }, {"found elements F32, wanted I64"});
  // A type that nothing here computes with stands in nobody's way until its numbers are wanted.
  message_of<ValueError>([&] { found.values<double>("half", {2}); }, {"found elements BF16, wanted F32 or F64"});
  EXPECT_EQ(found.at("half").bytes, as_bytes("\1\2\3\4"));
  EXPECT_EQ(message_of<ValueError>([] { Safetensors().at("w"); }, {}), "Safetensors holds no tensor 'w', found: none");
}

TEST(Safetensors, ChecksWhatIsAdded) {
  Safetensors contents;
  contents.add<float>("w", {2}, {1, 2});
  message_of<ValueError>([&] { contents.add<float>("w", {2}, {3, 4}); }, {"Safetensors::add: name 'w' is taken"});
  EXPECT_EQ(contents.values<float>("w", {2}), (std::vector<float>{1, 2}));
  message_of<ValueError>([&] { contents.add<float>("__metadata__", {0}, {}); }, {"'__metadata__'", "the format's own"});
  message_of<ShapeError>(
      [&] {
        contents.add<float>("v", {2, 2}, {1, 2, 3});
      },
      {"'v': found 12 bytes and shape (2, 2) of F32"});
  message_of<ShapeError>([&] { contents.add<float>("v", {-1}, {}); }, {"shape (-1,)"});
  message_of<ShapeError>([&] { contents.add<float>("v", {std::int64_t{1} << 61}, {}); }, {"wanted sizes >= 0"});
  EXPECT_EQ(contents.tensors().size(), 1u);
}

TEST(Safetensors, ReadsWhatOthersMayWrite) {
  const TemporaryFolder folder;
  // Spaces and other orders of keys and tensors, no padding, numbers without alignment, every type.
  std::string header = "{ \"b\" : {\"data_offsets\":[1, 5],\"shape\":[2],\"dtype\":\"F16\"},\n";
  header += R"("__metadata__":{}, "a\u00e9":{"dtype":"BOOL","data_offsets":[0,1],"shape":[1,1]})";
  std::size_t end = 5;
  for (const char* type :
       {"U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64"}) {
    const std::string name = type;
    const std::size_t size = name[1] == '8'                 ? 1
                             : name.find("16") != name.npos ? 2
                             : name.find("32") != name.npos ? 4
                                                            : 8;
    header += ",\"" + name + "\":{\"dtype\":\"" + name + "\",\"shape\":[3],\"data_offsets\":[" + std::to_string(end) +
              "," + std::to_string(end + 3 * size) + "]}";
    end += 3 * size;
  }
  write_bytes(folder / "f", safetensors_bytes(header + "}\t\n ", end));
  const Safetensors found = read_safetensors(folder / "f");
  EXPECT_EQ(found.tensors().size(), 15u);
  EXPECT_EQ(found.at("a\xc3\xa9").type, StoredType::boolean);
  EXPECT_EQ(found.at("b").bytes.size(), 4u);
  EXPECT_EQ(found.values<double>("F32", {3}), std::vector<double>(3));
  for (const auto& [name, tensor] : found.tensors()) {
    if (name != stored_name(tensor.type)) continue;
    EXPECT_EQ(static_cast<std::int64_t>(tensor.bytes.size()), 3 * stored_size(tensor.type)) << name;
  }
}

TEST(Safetensors, RefusesFilesThatAreNone) {
  const TemporaryFolder folder;
  const std::string path = folder / "f";
  const auto refused = [&](const std::string& bytes, const std::string& piece) {
    write_bytes(path, bytes);
    message_of<IoError>([&] { read_safetensors(path); }, {"read_safetensors: '", "/f': ", piece});
  };
  message_of<IoError>([&] { read_safetensors(path); }, {"No such file"});
  message_of<IoError>([&] { read_safetensors(folder.path()); }, {"found a folder, wanted a regular file"});
  refused("", "found 0 bytes, wanted at least 8");
  refused(std::string(7, '\0'), "found 7 bytes, wanted at least 8");
  refused(std::string(8, '\0'), "header: found '' at its beginning, wanted '{'");
  refused(safetensors_bytes("{}").substr(0, 9), "found a header of 2 bytes in a file of 9, wanted at most 1");
  refused("PK\x03\x04 is the beginning of another format", "wanted at most");
  refused(std::string(20, '\xff'), "found a header of 18446744073709551615 bytes in a file of 20, wanted at most 12");

  write_bytes(path, bytes_of(std::vector<std::uint64_t>{100000001}));
  std::filesystem::resize_file(path, 200000000);  // it has no more than a block on the disk
  message_of<IoError>([&] { read_safetensors(path); },
                      {"found a header of 100000001 bytes", "wanted at most 100000000"});
}

TEST(Safetensors, RefusesHeadersThatAreNone) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& header, const std::string& piece) {
    write_bytes(folder / "f", safetensors_bytes(header, 4));
    message_of<IoError>([&] { read_safetensors(folder / "f"); }, {"/f': header", piece});
  };
  const auto tensor = [](const std::string& fields) { return "{\"w\":{" + fields + "}}"; };
  refused("[]", "found '[]' at its beginning, wanted '{'");
  refused(" {}", "wanted '{'");
  refused("\xef\xbb\xbf{}", "found '\\xef\\xbb\\xbf{}' at its beginning");
  refused("{", "wanted valid JSON");
  refused("{'w':1}", "header: found '{'' up to byte 10, wanted valid JSON");
  refused("{} x", "header: found '{} x' up to byte 12, wanted valid JSON");
  refused("{}{}", "wanted valid JSON");
  refused(std::string("{}\0\0", 4), "found a zero at byte 10");
  refused("{\"\xff\":1}", "wanted valid JSON");
  refused("{\"w\":1e999}", "wanted valid JSON");
  refused("{\"w\":NaN}", "wanted valid JSON");
  refused("{\"w\":3}", "header: found 3 for 'w', wanted an object");
  refused("{\"w\":null}", "found null for 'w', wanted an object");
  refused("{\"w\":true}", "found true for 'w', wanted an object");
  refused("{\"w\":\"a\\nb\"}", "found the string 'a\\x0ab' for 'w', wanted an object");
  refused("{\"w\":[]}", "found an array for 'w', wanted an object");
  refused("{\"__metadata__\":null}", "found null for '__metadata__', wanted an object");
  refused("{\"__metadata__\":{\"k\":1}}", "header, '__metadata__': found 1 for 'k', wanted a string");
  refused("{\"__metadata__\":{\"k\":{}}}", "found an object for 'k', wanted a string");
  refused("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}", "header, '__metadata__': found the key 'k' twice");
  refused("{\"__metadata__\":{},\"__metadata__\":{}}", "header: found the key '__metadata__' twice");

  const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  write_bytes(folder / "f", safetensors_bytes(tensor(good), 4));
  EXPECT_EQ(read_safetensors(folder / "f").tensors().size(), 1u);
  refused("{\"w\":{" + good + "},\"w\":{" + good + "}}", "header: found the key 'w' twice");
  refused("{\"w\":{" + good + "},\"\\u0077\":{" + good + "}}", "found the key 'w' twice");
  refused(tensor(good + ",\"shape\":[1]"), "header, 'w': found the key 'shape' twice");
  refused(tensor(good + ",\"x\":1"), "header, 'w': found the key 'x', wanted 'dtype', 'shape' or 'data_offsets'");
  refused(tensor(R"("shape":[1],"data_offsets":[0,4])"), "header, 'w': found no 'dtype'");
  refused(tensor(R"("dtype":"F32","data_offsets":[0,4])"), "found no 'shape'");
  refused(tensor(R"("dtype":"F32","shape":[1])"), "found no 'data_offsets'");
  refused(tensor(R"("dtype":"F4")"), "found 'F4' for 'dtype', wanted one of BOOL, U8, I8, F8_E5M2");
  refused(tensor(R"("dtype":["F32"])"), "found an array for 'dtype'");
  refused(tensor(R"("dtype":32)"), "found 32 for 'dtype'");
  refused(tensor(R"("shape":"1")"), "found the string '1' for 'shape', wanted an array of sizes");
  refused(tensor(R"("shape":{})"), "found an object for 'shape', wanted an array of sizes");
  refused(tensor(R"("shape":[-1])"), "header, 'w': found -1 for 'shape', wanted integers from 0 to 2^63 - 1");
  refused(tensor(R"("shape":[-0])"), "found -0 for 'shape'");
  refused(tensor(R"("shape":[1.0])"), "found 1.0 for 'shape'");
  refused(tensor(R"("shape":[9223372036854775808])"), "found 9223372036854775808 for 'shape'");
  refused(tensor(R"("shape":[18446744073709551617])"), "found 18446744073709551617 for 'shape'");
  refused(tensor(R"("shape":["1"])"), "found the string '1' for 'shape'");
  refused(tensor(R"("shape":[[1]])"), "found an array for 'shape', wanted integers");
  refused(tensor(R"("data_offsets":[])"),
          "found an array of 0 numbers for 'data_offsets', wanted an array of 2 numbers");
  refused(tensor(R"("data_offsets":[0,4,8])"), "found an array of 3 numbers for 'data_offsets'");
  refused(tensor(R"("data_offsets":[0,-4])"), "found -4 for 'data_offsets'");
  for (const std::string open : {"[", "{\"a\":"}) {  // a million deep
    std::string deep = "{\"w\":";
    for (int i = 0; i < 1000000; ++i) deep += open;
    refused(deep, "wanted");
  }
}

TEST(Safetensors, RefusesOffsetsThatDoNotFit) {
  const TemporaryFolder folder;
  struct Part {
    std::string name, dtype, shape, begin, end;
  };
  const auto refused = [&](const std::vector<Part>& parts, std::size_t data, const std::string& piece) {
    std::string header = "{";
    for (const Part& part : parts) {
      header += (header.size() > 1 ? ",\"" : "\"") + part.name + "\":{\"dtype\":\"" + part.dtype +
                "\",\"shape\":" + part.shape + ",\"data_offsets\":[" + part.begin + "," + part.end + "]}";
    }
    write_bytes(folder / "f", safetensors_bytes(header + "}", data));
    message_of<IoError>([&] { read_safetensors(folder / "f"); }, {"/f': ", piece});
  };
  const Part a{"a", "F32", "[2]", "0", "8"};
  refused({{"w", "F32", "[2,2]", "0", "12"}}, 12,
          "tensor 'w': found data_offsets 0 to 12, wanted 16 bytes (shape (2, 2) of F32)");
  refused({{"w", "F32", "[2]", "8", "0"}}, 8, "tensor 'w': found data_offsets 8 to 0, wanted 8 bytes");
  refused({{"w", "F32", "[]", "0", "0"}}, 0, "wanted 4 bytes (shape () of F32)");
  refused({a, {"w", "F32", "[1]", "4", "8"}}, 8, "'w': found data_offsets that begin at 4, wanted 8, where 'a' ends");
  refused({a, {"w", "F32", "[2]", "0", "8"}}, 8, "'w': found data_offsets that begin at 0, wanted 8, where 'a' ends");
  refused({a, {"w", "U8", "[0]", "4", "4"}}, 8, "'w': found data_offsets that begin at 4, wanted 8, where 'a' ends");
  refused({a, {"w", "F32", "[1]", "12", "16"}}, 16, "'w': found data_offsets that begin at 12, wanted 8");
  refused({{"w", "F32", "[1]", "4", "8"}}, 8, "tensor 'w': found data_offsets that begin at 4, wanted 0");
  refused({a}, 7, "found 7 bytes of data, wanted 8, where 'a' ends");
  refused({a}, 9, "found 9 bytes of data, wanted 8, where 'a' ends");
  refused({}, 1, "found 1 bytes of data, wanted 0");
  refused({{"w", "F64", "[1152921504606846976]", "0", "8"}}, 8,
          "found shape (1152921504606846976,) of F64, wanted less");
  refused({{"w", "U8", "[4294967296,4294967296]", "0", "0"}}, 0, "wanted less than 2^63 bytes");
  refused({{"w", "U8", "[9223372036854775807]", "0", "9223372036854775807"}}, 5,
          "found 5 bytes of data, wanted 9223372036854775807");
}

TEST(Safetensors, SaysHowMuchMemoryThereIsNot) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer ends a program that asks for too much";
#endif
  // A file of 2^60 bytes, all holes.
  const int descriptor = memfd_create("large", MFD_CLOEXEC);
  ASSERT_GE(descriptor, 0);
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  const std::string bytes = std::to_string(std::int64_t{1} << 60);
  const std::string file =
      safetensors_bytes(R"({"w":{"dtype":"U8","shape":[)" + bytes + R"(],"data_offsets":[0,)" + bytes + "]}}");
  ASSERT_EQ(pwrite(descriptor, file.data(), file.size(), 0), static_cast<ssize_t>(file.size()));
  ASSERT_EQ(ftruncate(descriptor, static_cast<off_t>((std::int64_t{1} << 60) + file.size())), 0);
  message_of<OutOfMemory>([&] { read_safetensors(path); }, {path, "no memory for " + bytes + " bytes"});
  close(descriptor);
}

TEST(Safetensors, WritesOnlyWhatItCouldRead) {
  const TemporaryFolder folder;
  write_bytes(folder / "f", "old");
  Safetensors contents;
  contents.add<float>("w\xff", {0}, {});
  message_of<ValueError>([&] { write_safetensors(folder / "f", contents); },
                         {"write_safetensors: '", "/f': tensor name 'w\\xff', wanted UTF-8"});
  contents = {};
  contents.metadata["\xc3"] = "";
  message_of<ValueError>([&] { write_safetensors(folder / "f", contents); }, {"metadata key '\\xc3', wanted UTF-8"});
  contents.metadata = {{"k", "\xed\xa0\x80"}};
  message_of<ValueError>([&] { write_safetensors(folder / "f", contents); }, {"metadata text '\\xed", "wanted UTF-8"});
  contents.metadata = {{"k", std::string(100000000, 'x')}};
  message_of<ValueError>([&] { write_safetensors(folder / "f", contents); },
                         {"make a header of 100000032 bytes, wanted at most 100000000"});
  EXPECT_EQ(file_bytes(folder / "f"), "old");
  EXPECT_EQ(folder.names(), Names{"f"});
}

TEST(Safetensors, AFailedWriteLeavesTheFileAsItWas) {
  const TemporaryFolder folder;
  Safetensors contents;
  contents.add<double>("w", {100000}, std::vector<double>(100000, 1.5));
  contents.add<double>("v", {100000}, std::vector<double>(100000, 2.5));
  message_of<IoError>([&] { write_safetensors(folder / "none/f", contents); }, {"no file can be made in folder"});
  message_of<IoError>([&] { write_safetensors(folder.path(), contents); }, {"found a folder"});
  for (const bool exists : {false, true}) {
    if (exists) write_bytes(folder / "f", "old");
    const FileSizeLimit limit(1000000);  // room for one of the two
    message_of<IoError>([&] { write_safetensors(folder / "f", contents); },
                        {"write_safetensors: '", "/f': cannot write", "File too large"});
    EXPECT_EQ(folder.names(), exists ? Names{"f"} : Names{});
  }
  EXPECT_EQ(file_bytes(folder / "f"), "old");
  write_safetensors(folder / "f", contents);
  EXPECT_EQ(folder.names(), Names{"f"});
  EXPECT_EQ(read_safetensors(folder / "f").values<double>("v", {100000}), std::vector<double>(100000, 2.5));
}

}  // namespace
}  // namespace shrinkwarp
