// When the brokers are tried again, and what is told of it.
#include "daemon/sources/kafka/broker_retries.h"

#include <gtest/gtest.h>

#include <vector>

namespace evictd {
namespace {

constexpr SteadyTime at(int ms) { return SteadyTime(std::chrono::milliseconds(ms)); }

Error away(const std::string& text = "away") { return {ErrorKind::kConnection, text, {}}; }

TEST(BrokerRetriesTest, TheWaitDoublesUpToItsBoundUntilTheyAreReached) {
  BrokerRetries retries;
  const auto wait = [&] {
    retries.begins();
    EXPECT_EQ(retries.due(), SteadyTime::max()) << "one attempt at a time";
    retries.failed(away(), at(100));
    return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(retries.due() - at(100)).count());
  };
  std::vector<int> waits;
  for (int i = 0; i < 8; ++i) waits.push_back(wait());
  EXPECT_EQ(waits, (std::vector<int>{500, 1000, 2000, 4000, 8000, 16'000, 30'000, 30'000}));
  retries.reached();
  EXPECT_EQ(wait(), 500);
}

TEST(BrokerRetriesTest, EachReasonIsToldOnceUntilTheyAreReached) {
  BrokerRetries retries;
  EXPECT_TRUE(retries.failed(away(), at(0)));
  EXPECT_FALSE(retries.failed(away(), at(0)));
  EXPECT_TRUE(retries.failed(away("no right"), at(0)));
  EXPECT_TRUE(retries.failed(away(), at(0)));
  retries.reached();
  EXPECT_TRUE(retries.failed(away(), at(0)));
}

TEST(BrokerRetriesTest, ASettingThatIsWrongIsFinalUntilItHasStreamed) {
  BrokerRetries retries;
  EXPECT_TRUE(retries.is_final(ErrorKind::kUsage));
  EXPECT_FALSE(retries.is_final(ErrorKind::kConnection));
  retries.reached();
  EXPECT_TRUE(retries.is_final(ErrorKind::kUsage)) << "the group may still refuse it";
  retries.streams();
  EXPECT_FALSE(retries.is_final(ErrorKind::kUsage));
  EXPECT_TRUE(retries.is_final(ErrorKind::kFatal));
}

}  // namespace
}  // namespace evictd
