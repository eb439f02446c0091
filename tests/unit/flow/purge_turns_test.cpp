// One walk of a pattern at a time, and a shared next one.
#include "daemon/flow/purge_turns.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }
constexpr std::chrono::milliseconds kEvery{5000};

TEST(PurgeTurnsTest, WhoAsksWhileOneWalksSharesTheNext) {
  PurgeTurns turns;
  const Pattern pattern{};
  EXPECT_TRUE(turns.wait(&pattern, 1));
  EXPECT_EQ(turns.waiting(&pattern), 1u);
  turns.sent(&pattern, 1, at(1));
  EXPECT_EQ(turns.waiting(&pattern), std::nullopt) << "nobody joins what is sent";
  EXPECT_FALSE(turns.wait(&pattern, 3)) << "not before the first is done";
  EXPECT_EQ(turns.waiting(&pattern), 3u);
  EXPECT_EQ(turns.done(&pattern, 1), 3u);
  turns.sent(&pattern, 3, at(2));
  EXPECT_EQ(turns.done(&pattern, 3), std::nullopt);
}

TEST(PurgeTurnsTest, PatternsDoNotWaitForEachOther) {
  PurgeTurns turns;
  const Pattern one{};
  const Pattern other{};
  EXPECT_TRUE(turns.wait(&one, 1));
  turns.sent(&one, 1, at(1));
  EXPECT_TRUE(turns.wait(&other, 3));
  EXPECT_EQ(turns.due(&other, kEvery, at(1)), at(1));
}

TEST(PurgeTurnsTest, WalksOfOnePatternKeepTheirDistance) {
  PurgeTurns turns;
  const Pattern pattern{};
  EXPECT_EQ(turns.due(&pattern, kEvery, at(10)), at(10));
  turns.wait(&pattern, 1);
  turns.sent(&pattern, 1, at(10));
  turns.done(&pattern, 1);
  EXPECT_EQ(turns.due(&pattern, kEvery, at(11)), at(15));
  turns.forget_when();
  EXPECT_EQ(turns.due(&pattern, kEvery, at(11)), at(11));
}

TEST(PurgeTurnsTest, OneThatIsGivenUpBeforeItIsSentLeavesItsPlace) {
  PurgeTurns turns;
  const Pattern pattern{};
  turns.wait(&pattern, 1);
  EXPECT_EQ(turns.done(&pattern, 1), std::nullopt);
  EXPECT_EQ(turns.waiting(&pattern), std::nullopt);
  EXPECT_TRUE(turns.wait(&pattern, 3));
}

TEST(PurgeTurnsTest, AWalkThatIsSentAgainTakesNobodysTurn) {
  PurgeTurns turns;
  const Pattern pattern{};
  turns.wait(&pattern, 1);
  turns.sent(&pattern, 1, at(1));
  turns.wait(&pattern, 3);
  turns.sent(&pattern, 1, at(2));  // it was lost
  EXPECT_EQ(turns.waiting(&pattern), 3u);
  EXPECT_EQ(turns.due(&pattern, kEvery, at(2)), at(6)) << "counted from its first";
  EXPECT_EQ(turns.done(&pattern, 1), 3u);
}

}  // namespace
}  // namespace evictd
