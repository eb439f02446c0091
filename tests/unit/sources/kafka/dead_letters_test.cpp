#include "daemon/sources/kafka/dead_letters.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace evictd {
namespace {

class DeadLettersTest : public testing::Test {
 protected:
  DeadLettersTest() { std::filesystem::create_directories(folder); }
  ~DeadLettersTest() override { std::filesystem::remove_all(folder); }

  void keep(std::size_t bytes) {
    const std::string value(bytes, 'x');
    KafkaRecord record;
    record.topic = "t";
    record.value = value;
    letters.keep(record, Error{ErrorKind::kData, "broken", {}});
  }

  const std::string folder = testing::TempDir() + "/dead-letters-" + std::to_string(::getpid());
  const std::string file = folder + "/letters";
  DeadLetters letters{file, 2000};
};

TEST_F(DeadLettersTest, StayWithinTheirLimit) {
  for (int i = 0; i < 50; ++i) keep(300);
  keep(5000);
  EXPECT_LE(std::filesystem::file_size(file), 1000u);
  EXPECT_LE(std::filesystem::file_size(file + ".1"), 1000u);
  EXPECT_EQ(letters.lost(), 0u);
}

TEST_F(DeadLettersTest, StayWithinTheirLimitWhereTheOldOnesCannotBeMoved) {
  std::filesystem::create_directories(file + ".1/occupied");
  for (int i = 0; i < 50; ++i) keep(300);
  EXPECT_LE(std::filesystem::file_size(file), 1000u);
  EXPECT_EQ(letters.lost(), 48u);
}

TEST_F(DeadLettersTest, AreNobodyElsesToRead) {
  keep(10);
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(DeadLettersTest, ThatCannotBeWrittenAreCounted) {
  std::filesystem::create_directories(file);
  keep(10);
  EXPECT_EQ(letters.lost(), 1u);
}

}  // namespace
}  // namespace evictd
