// Files read by position and files in the making: what is refused, what a failure leaves behind, what a reader of the
// folder can see meanwhile.
#include <shrinkwarp/runtime/io/file.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "io_testing.hpp"

namespace shrinkwarp {
namespace {

using testing::file_bytes;
using testing::FileSizeLimit;
using testing::message_of;
using testing::TemporaryFolder;
using testing::write_bytes;
using Names = std::vector<std::string>;

TEST(Printable, IsOneLineAndCutOff) {
  EXPECT_EQ(printable("a\nb\x93"), "a\\x0ab\\x93");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  EXPECT_EQ(printable("abc", 3), "abc");
}

TEST(InputFile, ReadsByPosition) {
  const TemporaryFolder folder;
  write_bytes(folder / "f", "0123456789");
  InputFile file = InputFile::open("Test", folder / "f");
  EXPECT_EQ(file.size(), 10);
  char bytes[4] = {};
  file.read(6, bytes, 4);
  EXPECT_EQ(std::string(bytes, 4), "6789");
  InputFile moved = std::move(file);
  moved.read(0, bytes, 4);
  EXPECT_EQ(std::string(bytes, 4), "0123");
}

TEST(InputFile, RefusesWhatIsNoRegularFile) {
  const TemporaryFolder folder;
  const std::string fifo = folder / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  message_of<IoError>([&] { InputFile::open("Test", folder / "none"); }, {"Test: '", "/none'", "No such file"});
  message_of<IoError>([&] { InputFile::open("Test", folder.path()); }, {"found a folder, wanted a regular file"});
  message_of<IoError>([&] { InputFile::open("Test", "/dev/null"); }, {"'/dev/null'", "found a character device"});
  message_of<IoError>([&] { InputFile::open("Test", ""); }, {"No such file"});
  const auto begin = std::chrono::steady_clock::now();
  message_of<IoError>([&] { InputFile::open("Test", fifo); }, {"found a FIFO"});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(InputFile, NamesPathAndOffsetWhenTheFileEnds) {
  const TemporaryFolder folder;
  write_bytes(folder / "f", "0123456789");
  const InputFile file = InputFile::open("Test", folder / "f");
  char bytes[8];
  try {
    file.read(6, bytes, 8);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_EQ(error.path(), folder / "f");
    EXPECT_EQ(error.offset(), 10);
    EXPECT_NE(std::string(error.what()).find("found 4 bytes at offset 6, wanted 8"), std::string::npos) << error.what();
  }
  std::filesystem::resize_file(folder / "f", 2);
  EXPECT_EQ(file.current_size(), 2);
  message_of<IoError>([&] { file.read(0, bytes, 8); }, {"found 2 bytes", "cut short while it was open"});
}

TEST(InputFile, KeepsAMessageInOneLine) {
  message_of<IoError>([] { InputFile::open("Test", "no\nsuch\x7f"); }, {"'no?such?'"});
}

/// Both ways that a file system lets a file begin: nameless and with a temporary name.
class OutputFileTest : public ::testing::TestWithParam<bool> {
 protected:
  OutputFile begin(const std::string& name) const { return OutputFile::replacing("Test", folder_ / name, GetParam()); }
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(, OutputFileTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Named" : "Nameless"; });

TEST_P(OutputFileTest, AppearsAtCommit) {
  OutputFile file = begin("f");
  file.append("hello", 5);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "f"));
  EXPECT_EQ(file.size(), 5);
  file.commit();
  EXPECT_EQ(file_bytes(folder_ / "f"), "hello");
  EXPECT_EQ(folder_.names(), Names{"f"});
  message_of<IoError>([&] { file.append("x", 1); }, {"finished"});
  message_of<IoError>([&] { file.commit(); }, {"finished"});
}

TEST_P(OutputFileTest, ReplacesInOneStep) {
  write_bytes(folder_ / "f", "old");
  OutputFile file = begin("f");
  file.append("new", 3);
  EXPECT_EQ(file_bytes(folder_ / "f"), "old");
  file.commit();
  EXPECT_EQ(file_bytes(folder_ / "f"), "new");
  EXPECT_EQ(folder_.names(), Names{"f"});
}

TEST_P(OutputFileTest, HasTheRightsOfANewFile) {
  const mode_t mask = umask(027);
  begin("f").commit();
  umask(mask);
  struct stat status;
  ASSERT_EQ(stat((folder_ / "f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST_P(OutputFileTest, LeavesNothingUnfinished) {
  write_bytes(folder_ / "f", "old");
  {
    OutputFile file = begin("f");
    file.append("new", 3);
    OutputFile moved = std::move(file);
    moved.append("er", 2);
  }
  EXPECT_EQ(file_bytes(folder_ / "f"), "old");
  EXPECT_EQ(folder_.names(), Names{"f"});
}

TEST_P(OutputFileTest, FailsAsOnAFullDisk) {
  write_bytes(folder_ / "f", "old");
  OutputFile file = begin("f");
  const std::string block(300000, 'x');
  {
    const FileSizeLimit limit(1 << 20);
    message_of<IoError>(
        [&] {
          for (int i = 0; i < 10; ++i) file.append(block.data(), 300000);
        },
        {"Test: '", "/f'", "cannot write", "File too large"});
  }
  EXPECT_EQ(folder_.names(), Names{"f"});  // even before the destructor
  message_of<IoError>([&] { file.append("x", 1); }, {"an earlier call failed"});
  message_of<IoError>([&] { file.commit(); }, {"an earlier call failed"});
  EXPECT_EQ(file_bytes(folder_ / "f"), "old");
}

TEST_P(OutputFileTest, FailsAtCommitWhenTheBufferHasNoRoom) {
  OutputFile file = begin("f");
  file.append("0123456789", 10);
  const FileSizeLimit limit(4);
  message_of<IoError>([&] { file.commit(); }, {"cannot write"});
  EXPECT_TRUE(folder_.names().empty());
}

TEST_P(OutputFileTest, OverwritesAndReadsBack) {
  OutputFile file = begin("f");
  const std::string block(300000, 'a');
  file.append(block.data(), 300000);
  file.append("tail", 4);
  file.write_at(1, "bc", 2);
  char bytes[4];
  file.read_at(0, bytes, 4);
  EXPECT_EQ(std::string(bytes, 4), "abca");
  file.read_at(300000, bytes, 4);
  EXPECT_EQ(std::string(bytes, 4), "tail");
  file.commit();
  EXPECT_EQ(file_bytes(folder_ / "f").size(), 300004u);
}

TEST_P(OutputFileTest, IsJoinedByOthers) {
  OutputFile file = begin("f");
  file.reserve(12);
  {
    OutputFile other = OutputFile::joining("Test", folder_ / "f", file.temporary_path());
    other.write_at(8, "end!", 4);
    other.sync();
    message_of<ValueError>([&] { other.commit(); }, {"of one that another makes"});
  }
  file.append("abcd", 4);
  file.skip(4);
  OutputFile::joining("Test", folder_ / "f", file.temporary_path()).write_at(4, "midd", 4);
  EXPECT_EQ(file.size(), 8);
  file.append("E", 1);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "f"));
  file.commit();
  EXPECT_EQ(file_bytes(folder_ / "f"), "abcdmiddEnd!");
  message_of<IoError>([&] { OutputFile::joining("Test", folder_ / "f", folder_ / "none"); },
                      {"f'", "cannot be opened as", "none'"});
}

TEST_P(OutputFileTest, TakesTheLongestName) {
  const std::string name(255, 'n');
  OutputFile file = begin(name);
  file.commit();
  write_bytes(folder_ / name, "old");
  OutputFile again = begin(name);
  again.commit();
  EXPECT_EQ(folder_.names(), Names{name});
}

TEST_P(OutputFileTest, FollowsALink) {
  std::filesystem::create_directory(folder_ / "data");
  write_bytes(folder_ / "data/f", "old");
  std::filesystem::create_symlink("data/f", folder_ / "link");
  OutputFile file = begin("link");
  file.append("new", 3);
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
  EXPECT_EQ(file_bytes(folder_ / "data/f"), "new");
}

TEST_P(OutputFileTest, RefusesWhatCannotBeReplaced) {
  std::filesystem::create_directory(folder_ / "data");
  ASSERT_EQ(mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  message_of<IoError>([&] { begin("data"); }, {"/data'", "found a folder"});
  message_of<IoError>([&] { begin("data/"); }, {"found a folder"});
  message_of<IoError>([&] { begin("fifo"); }, {"found a FIFO"});
  message_of<IoError>([&] { begin("none/f"); }, {"no file can be made in folder", "/none/'", "No such file"});
  message_of<IoError>([&] { OutputFile::replacing("Test", "/dev/null", GetParam()); }, {"found a character device"});
  message_of<IoError>([&] { OutputFile::replacing("Test", "", GetParam()); }, {"names no file"});
}

TEST_P(OutputFileTest, FailsWhenTheTargetHasBecomeAFolder) {
  OutputFile file = begin("f");
  file.append("x", 1);
  std::filesystem::create_directory(folder_ / "f");
  message_of<IoError>([&] { file.commit(); }, {"cannot give its name to"});
  EXPECT_EQ(folder_.names(), Names{"f"});
}

TEST(OutputFile, ScratchHasNoName) {
  const TemporaryFolder folder;
  OutputFile file = OutputFile::scratch("Test", folder / "f");
  file.append("0123", 4);
  file.discard(0, 4);
  EXPECT_TRUE(folder.names().empty());
  EXPECT_EQ(file.size(), 4);
  message_of<ValueError>([&] { file.commit(); }, {"scratch"});
}

TEST(OutputFile, AKilledProcessLeavesWhatCanBeRemoved) {
  const TemporaryFolder folder;
  for (const bool named : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      OutputFile file = OutputFile::replacing("Test", folder / "out.npz", named);
      OutputFile scratch = OutputFile::scratch("Test", folder / "out.npz");
      const std::string block(300000, 'x');
      file.append(block.data(), 300000);
      scratch.append(block.data(), 300000);
      raise(SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_LE(folder.names().size(), named ? 1u : 0u);
  }
  // Of these only the first is of out.npz.
  write_bytes(folder / ".shrinkwarp-12-3-out.npz.tmp", "");
  const Names others{".shrinkwarp-12-3-my-out.npz.tmp", ".shrinkwarp-12-3-out.npz", "out.npz", "out.npz.tmp"};
  for (const std::string& name : others) write_bytes(folder / name, "");
  remove_leftovers(folder / "out.npz");
  Names left = folder.names();
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, others);
  remove_leftovers(folder / "none/out.npz");
  remove_leftovers("");
}

}  // namespace
}  // namespace shrinkwarp
