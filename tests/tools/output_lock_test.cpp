// The lock of an output: one at a time, and nothing that a killed process has left stands in the way.
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/files/output_lock.hpp>

namespace shrinkwarp {
namespace {

class OutputLocks : public ::testing::Test {
 protected:
  OutputLocks() { std::filesystem::remove(path_); }
  ~OutputLocks() override { std::filesystem::remove(path_); }

  const std::string output_ = ::testing::TempDir() + "output_lock_test.safetensors";
  const std::string path_ = output_ + ".lock";
};

TEST_F(OutputLocks, LetOneInAtATime) {
  std::optional<OutputLock> first(output_);
  EXPECT_EQ(first->path(), path_);
  EXPECT_TRUE(std::filesystem::exists(path_));
  try {
    OutputLock second(output_);
    ADD_FAILURE() << "two at a time";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(output_ + ": another process is making it"), std::string::npos);
  }
  EXPECT_TRUE(std::filesystem::exists(path_));  // who was refused leaves it
  first.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
  OutputLock next(output_);
}

TEST_F(OutputLocks, TakeOverWhatWasLeft) {
  std::ofstream(path_) << "";
  OutputLock lock(output_);
  EXPECT_THROW(OutputLock{output_}, Error);
}

TEST_F(OutputLocks, AreNotMadeAnewForOneThatIsHeldUnderNoName) {
  OutputLock lock(output_);
  std::filesystem::remove(path_);  // as somebody who cleans up
  OutputLock other(output_);       // of a file of its own
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(OutputLocks, SayWhyTheyCannotBeMade) {
  try {
    OutputLock lock(::testing::TempDir() + "no such folder/x");
    ADD_FAILURE() << "made";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("No such file or directory"), std::string::npos);
  }
}

}  // namespace
}  // namespace shrinkwarp
