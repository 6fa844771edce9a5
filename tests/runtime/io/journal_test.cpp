// A journal keeps every record that was appended, whatever became of the process, and takes nothing else for one.
#include <shrinkwarp/runtime/io/journal.hpp>

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/io/hash.hpp>

#include "io_testing.hpp"

namespace {
int fdatasync_error = 0;
int flock_error = 0;

/// Lets a system call fail while this lives.
class Failing {
 public:
  Failing(int& call, int error) : call_(call) { call_ = error; }
  ~Failing() { call_ = 0; }

 private:
  int& call_;
};
}  // namespace

// They take the place of the C library's in this program.
extern "C" int fdatasync(int descriptor) {
  errno = fdatasync_error;
  return fdatasync_error != 0 ? -1 : static_cast<int>(syscall(SYS_fdatasync, descriptor));
}
extern "C" int flock(int descriptor, int operation) noexcept {
  errno = flock_error;
  return flock_error != 0 ? -1 : static_cast<int>(syscall(SYS_flock, descriptor, operation));
}

namespace shrinkwarp {
namespace {

using testing::file_bytes;
using testing::FileSizeLimit;
using testing::message_of;
using testing::TemporaryFolder;
using testing::write_bytes;
using Records = std::vector<std::string>;

Records records_of(const Journal& journal) {
  Records records;
  journal.for_each([&](std::int64_t position, std::int64_t bytes) {
    std::string record(static_cast<std::size_t>(bytes), '\0');
    journal.read(position, record.data(), bytes);
    records.push_back(record);
  });
  return records;
}

std::int64_t append(Journal& journal, const std::string& record) {
  return journal.append(record.data(), static_cast<std::int64_t>(record.size()));
}

// Records of awkward lengths: none, one, around the megabyte in which they are read.
Records some_records() {
  Records records{"", "a", std::string(1000, 'b')};
  for (const std::size_t size : {(std::size_t{1} << 20) - 1, std::size_t{1} << 20, (std::size_t{1} << 20) + 1}) {
    std::string record(size, '\0');
    for (std::size_t i = 0; i < size; ++i) record[i] = static_cast<char>(i * 2654435761u >> 13);
    records.push_back(record);
  }
  records.push_back("last");
  return records;
}

std::string journal_with(const std::string& path, const Records& records) {
  {
    Journal journal = Journal::open("Test", path);
    journal.begin("header");
    for (const std::string& record : records) append(journal, record);
  }
  return file_bytes(path);
}

TEST(Hash, IsXxh3AndComesPieceByPiece) {
  EXPECT_EQ(hash_bytes("", 0), 0x2d06800538d394c2u);  // of the specification's test vectors
  const std::string text(5000, 'x');
  Hash pieces;
  for (std::size_t done = 0; done < text.size(); done += 777) {
    const std::size_t count = std::min<std::size_t>(777, text.size() - done);
    pieces.add(text.data() + done, static_cast<std::int64_t>(count));
  }
  EXPECT_EQ(pieces.value(), hash_bytes(text.data(), 5000));
  EXPECT_NE(Hash(1).value(), Hash(2).value());
}

TEST(Journal, GivesBackWhatWasAppended) {
  const TemporaryFolder folder;
  const Records records = some_records();
  const std::string path = folder / "j";
  {
    Journal journal = Journal::open("Test", path);
    EXPECT_EQ(journal.header(), "");
    EXPECT_EQ(records_of(journal), Records{});
    journal.begin("header");
    std::vector<std::int64_t> positions;
    for (const std::string& record : records) positions.push_back(append(journal, record));
    EXPECT_EQ(records_of(journal), records);
    char letter = 0;
    journal.read(positions[1], &letter, 1);
    EXPECT_EQ(letter, 'a');
  }
  Journal journal = Journal::open("Test", path);
  EXPECT_EQ(journal.header(), "header");
  EXPECT_EQ(journal.damaged_bytes(), 0);
  EXPECT_EQ(records_of(journal), records);
  append(journal, "more");
  EXPECT_EQ(records_of(journal).back(), "more");
  journal.begin("another");
  EXPECT_EQ(records_of(journal), Records{});
  append(journal, "new");
  Journal moved = std::move(journal);
  EXPECT_EQ(records_of(moved), Records{"new"});
  EXPECT_EQ(moved.header(), "another");
  moved.remove();
  EXPECT_TRUE(folder.names().empty());
}

TEST(Journal, IsOneProcessSBusiness) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  {
    Journal journal = Journal::open("Test", path);
    journal.begin("header");
    message_of<IoError>([&] { Journal::open("Test", path); }, {"Test: '", "/j'", "in use by another process"});
  }
  Journal::open("Test", path);
}

// Who waits for a lock whose holder removes the file must not go on with a file that has no name.
TEST(Journal, IsNotAFileThatWasRemovedMeanwhile) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      for (int i = 0; i < 50; ++i) {
        try {
          Journal journal = Journal::open("Test", path);
          journal.begin("of the child");
          journal.remove();
        } catch (const IoError&) {  // the parent has it
        }
      }
      _exit(0);
    }
    for (int i = 0; i < 50; ++i) {
      try {
        Journal journal = Journal::open("Test", path);
        struct stat named;
        ASSERT_EQ(::stat(path.c_str(), &named), 0) << "the journal has no name";
        journal.begin("of the parent");
        EXPECT_NE(file_bytes(path).find("of the parent"), std::string::npos);
        journal.remove();
      } catch (const IoError& error) {
        EXPECT_NE(std::string(error.what()).find("in use"), std::string::npos) << error.what();
      }
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
}

TEST(Journal, KeepsEveryRecordOfAKilledProcess) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    Journal journal = Journal::open("Test", path);
    journal.begin("header");
    for (std::int64_t i = 0;; ++i) {
      append(journal, std::string(static_cast<std::size_t>(i * 37 % 5000), static_cast<char>(i)));
      if (write(pipe_ends[1], &i, sizeof i) != sizeof i) _exit(1);
    }
  }
  std::int64_t last = -1;
  while (last < 2000) ASSERT_EQ(read(pipe_ends[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(pipe_ends[1]);
  for (std::int64_t said = 0; read(pipe_ends[0], &said, sizeof said) == sizeof said;) last = said;
  close(pipe_ends[0]);
  const Records records = records_of(Journal::open("Test", path));
  ASSERT_GT(static_cast<std::int64_t>(records.size()), last);
  for (std::size_t i = 0; i < records.size(); ++i)
    ASSERT_EQ(records[i], std::string(i * 37 % 5000, static_cast<char>(i)));
}

// Cut anywhere, a journal has the records that end before, and goes on from there.
TEST(Journal, EndsAtTheLastWholeRecord) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  const Records records{"one", "", "three", std::string(100, '4')};
  const std::string whole = journal_with(path, records);
  std::vector<std::size_t> ends{16 + 16 + 6};  // magic, frame, "header"
  for (const std::string& record : records) ends.push_back(ends.back() + 16 + record.size());
  ASSERT_EQ(ends.back(), whole.size());
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    write_bytes(path, whole.substr(0, size));
    Journal journal = Journal::open("Test", path);
    if (size < ends[0]) {
      EXPECT_EQ(journal.header(), "") << size;
      journal.begin("header");
    }
    std::size_t good = 0;
    while (good < records.size() && ends[good + 1] <= size) ++good;
    EXPECT_EQ(records_of(journal), Records(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(good)));
    const std::size_t damaged = size >= ends[0] ? size - ends[good] : 0;
    if (damaged > 0) {
      EXPECT_EQ(journal.damaged_bytes(), static_cast<std::int64_t>(damaged));
    }
    for (std::size_t i = good; i < records.size(); ++i) append(journal, records[i]);
    EXPECT_EQ(file_bytes(path), whole);
  }
}

TEST(Journal, TakesNoDamagedRecord) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  const Records records{"one", "", "three", std::string(100, '4')};
  const std::string whole = journal_with(path, records);
  const std::size_t header_end = 16 + 16 + 6;
  for (std::size_t i = header_end; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1 << i % 8);
    write_bytes(path, damaged);
    const Journal journal = Journal::open("Test", path);
    const Records found = records_of(journal);
    ASSERT_LT(found.size(), records.size()) << "byte " << i;
    for (std::size_t k = 0; k < found.size(); ++k) ASSERT_EQ(found[k], records[k]);
    EXPECT_GT(journal.damaged_bytes(), 0);
  }
  // A record in another's place, and zeros as a file system may leave them.
  write_bytes(path, whole.substr(0, header_end) + whole.substr(header_end + 16 + 3));
  EXPECT_EQ(records_of(Journal::open("Test", path)), Records{});
  write_bytes(path, whole + std::string(4096, '\0'));
  EXPECT_EQ(records_of(Journal::open("Test", path)), records);
}

TEST(Journal, RefusesWhatIsNone) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  const std::string whole = journal_with(path, {"one"});
  const auto refused = [&](const std::string& content, const std::string& wanted) {
    write_bytes(path, content);
    message_of<IoError>([&] { Journal::open("Test", path); }, {"Test: '", "/j'", wanted});
    EXPECT_EQ(file_bytes(path), content);
  };
  refused("PK\x03\x04 and so on and on", "begins with 'PK\\x03\\x04 and so on a', wanted 'shrinkwarp-jrn-1'");
  refused("s-", "wanted 'shrinkwarp-jrn-1'");
  refused("shrinkwarp-jrn-2" + whole.substr(16), "a journal of version '2', wanted '1'");
  refused("shrinkwarp-jrn-1" + std::string(40, '\xff'), "found a header of -1 bytes");
  std::string damaged = whole;
  damaged[16 + 16] ^= 1;
  refused(damaged, "checksum of the header");
  damaged = whole;
  damaged[16 + 3] = 1;  // a header of 16 MiB
  refused(damaged, "wanted 1 to 65536");

  const std::string fifo = folder / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  message_of<IoError>([&] { Journal::open("Test", fifo); }, {"found a FIFO"});
  message_of<IoError>([&] { Journal::open("Test", folder.path()); }, {"Is a directory"});
  message_of<IoError>([&] { Journal::open("Test", folder / "none/j"); }, {"No such file"});
}

// Whatever bytes a file has: an error about the file, or a journal.
TEST(Journal, SurvivesAnyBytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  const std::string whole = journal_with(path, {"one", std::string(300, 'x'), "three"});
  std::mt19937 dice(1);
  int journals = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = whole.substr(0, dice() % (whole.size() + 1));
    for (int i = static_cast<int>(dice() % 4); i > 0 && !bytes.empty(); --i)
      bytes[dice() % bytes.size()] = static_cast<char>(dice());
    write_bytes(path, bytes);
    try {
      const Journal journal = Journal::open("Test", path);
      EXPECT_LE(records_of(journal).size(), 3u);
      ++journals;
    } catch (const IoError&) {
    }
  }
  EXPECT_GT(journals, 30);
}

TEST(Journal, IsAsItWasAfterADiskThatIsFull) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  Journal journal = Journal::open("Test", path);
  journal.begin("header");
  append(journal, "one");
  const std::string before = file_bytes(path);
  {
    const FileSizeLimit limit(1000);
    message_of<IoError>([&] { append(journal, std::string(5000, 'x')); },
                        {"'", "/j'", "cannot write", "File too large"});
  }
  EXPECT_EQ(file_bytes(path), before);
  EXPECT_EQ(records_of(journal), Records{"one"});
  append(journal, "two");
  EXPECT_EQ(records_of(journal), (Records{"one", "two"}));
}

TEST(Journal, IsAsItWasAfterADiskThatFails) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  Journal journal = Journal::open("Test", path);
  journal.begin("header");
  append(journal, "one");
  const std::string before = file_bytes(path);
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));  // then the next record brings all to the disk
  {
    const Failing failing(fdatasync_error, EIO);
    for (int i = 0; i < 2; ++i) {
      message_of<IoError>([&] { append(journal, "two"); }, {"'", "/j'", "cannot bring to the disk", "Input/output"});
      EXPECT_EQ(file_bytes(path), before);
      EXPECT_EQ(records_of(journal), Records{"one"});
      EXPECT_EQ(journal.damaged_bytes(), 0);
    }
  }
  append(journal, "two");
  EXPECT_EQ(records_of(journal), (Records{"one", "two"}));
}

TEST(Journal, IsLockedOtherwiseWhereThereIsNoFlock) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  for (const int error : {ENOSYS, EOPNOTSUPP, ENOLCK}) {
    const Failing failing(flock_error, error);
    Journal journal = Journal::open("Test", path);
    journal.begin("header");
    message_of<IoError>([&] { Journal::open("Test", path); }, {"in use by another process"});
  }
  EXPECT_EQ(Journal::open("Test", path).header(), "header");
}

TEST(Journal, LeavesNoFileThatItCouldNotLock) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  const Failing failing(flock_error, EIO);
  message_of<IoError>([&] { Journal::open("Test", path); }, {"cannot lock", "Input/output"});
  EXPECT_TRUE(folder.names().empty());
  write_bytes(path, "");
  message_of<IoError>([&] { Journal::open("Test", path); }, {"cannot lock"});
  EXPECT_EQ(folder.names(), std::vector<std::string>{"j"});  // somebody else's
}

TEST(Journal, MayHoldRecordsWhereBytesLieBehindItsHeader) {
  const TemporaryFolder folder;
  const std::string path = folder / "j";
  EXPECT_FALSE(Journal::open("Test", path).may_hold_records());
  journal_with(path, {});
  EXPECT_FALSE(Journal::open("Test", path).may_hold_records());
  write_bytes(path, file_bytes(path) + "x");
  EXPECT_TRUE(Journal::open("Test", path).may_hold_records());
  journal_with(path, {"one"});
  EXPECT_TRUE(Journal::open("Test", path).may_hold_records());
}

TEST(Journal, WantsAHeaderFirst) {
  const TemporaryFolder folder;
  Journal journal = Journal::open("Test", folder / "j");
  EXPECT_THROW(append(journal, "x"), ValueError);
  EXPECT_THROW(journal.begin(""), ValueError);
  EXPECT_THROW(journal.begin(std::string(65537, 'x')), ValueError);
  journal.begin(std::string(65536, 'x'));
  append(journal, "x");
  message_of<IoError>(
      [&] {
        char byte;
        journal.read(1 << 20, &byte, 1);
      },
      {"found 0 bytes at offset 1048576, wanted 1"});
}

}  // namespace
}  // namespace shrinkwarp
