// When our own messages are due, and which one is news.
#include "daemon/sources/postgres/heartbeat.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }

class HeartbeatTest : public ::testing::Test {
 protected:
  HeartbeatTest() { heartbeat.streaming(at(0)); }

  Heartbeat heartbeat{"4711-1", std::chrono::seconds(10)};
};

TEST_F(HeartbeatTest, BeatsAtOnceAndAtItsInterval) {
  EXPECT_EQ(heartbeat.beats(true, at(0)), "4711-1 1");
  EXPECT_EQ(heartbeat.due(), at(10));
  EXPECT_EQ(heartbeat.beats(true, at(10)), std::nullopt) << "the first has no answer yet";
  heartbeat.emitted(Lsn{100}, at(11));
  EXPECT_EQ(heartbeat.beats(true, at(19)), std::nullopt);
  EXPECT_EQ(heartbeat.beats(true, at(20)), "4711-1 2");
  heartbeat.connecting();
  EXPECT_EQ(heartbeat.beats(true, at(30)), "4711-1 3") << "the answer of another attempt never comes";
}

TEST_F(HeartbeatTest, NeverWhereItCannotOrMayNot) {
  EXPECT_EQ(heartbeat.beats(false, at(0)), std::nullopt);
  EXPECT_EQ(heartbeat.due(), SteadyTime::max());
  Heartbeat off("4711-1", std::chrono::milliseconds(0));
  off.streaming(at(0));
  EXPECT_EQ(off.beats(true, at(0)), std::nullopt);
  EXPECT_EQ(off.due(), SteadyTime::max());
}

TEST_F(HeartbeatTest, OnlyOurOwnOfThisConnectionAreNews) {
  heartbeat.beats(true, at(0));
  EXPECT_TRUE(heartbeat.news("evictd", "4711-1 1"));
  EXPECT_FALSE(heartbeat.news("other", "4711-1 1"));
  EXPECT_FALSE(heartbeat.news("evictd", "4712-1 1"));
  EXPECT_FALSE(heartbeat.news("evictd", "4711-1"));
  EXPECT_FALSE(heartbeat.news("evictd", ""));
  EXPECT_FALSE(heartbeat.news("evictd", "4711-1 x"));
  EXPECT_FALSE(heartbeat.news("evictd", "4711-1 2")) << "it was never sent";
  heartbeat.streaming(at(5));
  EXPECT_FALSE(heartbeat.news("evictd", "4711-1 1")) << "it came again";
  heartbeat.emitted(Lsn{100}, at(5));
  heartbeat.beats(true, at(5));
  EXPECT_TRUE(heartbeat.news("evictd", "4711-1 2"));
}

TEST_F(HeartbeatTest, SaysWhenItWasSent) {
  for (int number = 1; number <= 70; ++number) {
    ASSERT_TRUE(heartbeat.beats(true, at(10 * number)));
    heartbeat.emitted(Lsn{100}, at(10 * number));
  }
  EXPECT_EQ(heartbeat.news("evictd", "4711-1 70"), at(700));
  EXPECT_EQ(heartbeat.news("evictd", "4711-1 7"), at(70));
  EXPECT_EQ(heartbeat.news("evictd", "4711-1 6"), SteadyTime::min()) << "nobody knows any more";
}

TEST_F(HeartbeatTest, AFailureIsAProblemUntilItIsOver) {
  heartbeat.beats(true, at(0));
  EXPECT_EQ(heartbeat.emitted(fail(ErrorKind::kConnection, "late"), at(1)), std::nullopt);
  EXPECT_EQ(heartbeat.problem(), "cannot emit a heartbeat: late");
  heartbeat.beats(true, at(10));
  heartbeat.emitted(Lsn{100}, at(10));
  EXPECT_EQ(heartbeat.problem(), "");
  heartbeat.emitted(fail(ErrorKind::kConnection, "late"), at(11));
  heartbeat.streaming(at(12));
  EXPECT_EQ(heartbeat.problem(), "") << "of another connection";
}

TEST_F(HeartbeatTest, ARightThatWasTakenAwayIsToldAndNoProblem) {
  heartbeat.beats(true, at(0));
  EXPECT_EQ(heartbeat.emitted(fail(ErrorKind::kUsage, "permission denied"), at(1)), "cannot emit a heartbeat: permission denied");
  EXPECT_EQ(heartbeat.problem(), "");
  EXPECT_EQ(heartbeat.due(), at(1) + Heartbeat::kRefused);
}

// Positions as the server gives them: a message lies before where the WAL was after its commit.
TEST_F(HeartbeatTest, OneThatTheStreamHasPassedIsMissingUntilAnotherComes) {
  heartbeat.beats(true, at(0));
  EXPECT_FALSE(heartbeat.misses(Lsn{500})) << "nobody knows yet where it lies";
  heartbeat.emitted(Lsn{100}, at(0));
  EXPECT_FALSE(heartbeat.misses(Lsn{99}));
  EXPECT_EQ(heartbeat.problem(), "");
  EXPECT_TRUE(heartbeat.misses(Lsn{100}));
  EXPECT_FALSE(heartbeat.misses(Lsn{101})) << "once for each";
  EXPECT_EQ(heartbeat.problem(), Heartbeat::kMissing);
  heartbeat.beats(true, at(10));
  heartbeat.emitted(Lsn{200}, at(10));
  EXPECT_EQ(heartbeat.problem(), Heartbeat::kMissing) << "that it was emitted tells nothing";
  EXPECT_TRUE(heartbeat.news("evictd", "4711-1 2"));
  EXPECT_EQ(heartbeat.problem(), "");
  EXPECT_FALSE(heartbeat.misses(Lsn{200}));
}

TEST_F(HeartbeatTest, OneThatCameBeforeItsAnswerIsNotMissing) {
  heartbeat.beats(true, at(0));
  EXPECT_TRUE(heartbeat.news("evictd", "4711-1 1"));
  heartbeat.emitted(Lsn{100}, at(1));
  EXPECT_FALSE(heartbeat.misses(Lsn{500}));
}

TEST_F(HeartbeatTest, ALaterOneDoesNotStandInForOneThatIsMissing) {
  heartbeat.beats(true, at(0));
  heartbeat.emitted(Lsn{100}, at(0));
  heartbeat.beats(true, at(10));
  heartbeat.emitted(Lsn{200}, at(10));
  EXPECT_TRUE(heartbeat.news("evictd", "4711-1 2"));
  EXPECT_TRUE(heartbeat.misses(Lsn{200}));
}

TEST_F(HeartbeatTest, WhatWasEmittedForAnotherConnectionNeedNotCome) {
  heartbeat.beats(true, at(0));
  heartbeat.emitted(Lsn{100}, at(0));
  heartbeat.streaming(at(5));
  EXPECT_FALSE(heartbeat.misses(Lsn{500}));
}

}  // namespace
}  // namespace evictd
