// When the source tries again, what is told of it, and when the stream is read.
#include "daemon/sources/postgres/retries.h"

#include <gtest/gtest.h>

#include "daemon/sources/postgres/outage.h"
#include "daemon/sources/postgres/own_session.h"
#include "daemon/sources/postgres/read_pace.h"

namespace evictd {
namespace {

using std::chrono::milliseconds;

constexpr SteadyTime at(int ms) { return SteadyTime(milliseconds(ms)); }

TEST(RetriesTest, TheWaitDoublesUpToItsBound) {
  Retries retries;
  std::vector<int> waits;
  for (int i = 0; i < 7; ++i) waits.push_back(static_cast<int>(retries.failed(ErrorKind::kConnection, {}, at(0)).count()));
  EXPECT_EQ(waits, (std::vector<int>{100, 200, 400, 800, 1600, 3000, 3000}));
}

TEST(RetriesTest, WhereHasteHelpsNobodyItIsLonger) {
  Retries retries;
  EXPECT_EQ(retries.failed(ErrorKind::kData, {}, at(0)), milliseconds(2000));
  EXPECT_EQ(retries.refused(), milliseconds(4000));
  for (int i = 0; i < 5; ++i) retries.refused();
  EXPECT_EQ(retries.refused(), milliseconds(30'000));
  EXPECT_EQ(retries.failed(ErrorKind::kConnection, {}, at(0)), milliseconds(3000));
}

TEST(RetriesTest, ProgressBeginsAnew) {
  Retries retries;
  const auto wait_after = [&](std::optional<Lsn> acknowledged, int after) {
    for (int i = 0; i < 3; ++i) retries.failed(ErrorKind::kConnection, {}, at(0));
    retries.works(Lsn{100}, at(1000));
    return retries.failed(ErrorKind::kConnection, acknowledged, at(1000 + after));
  };
  EXPECT_GT(wait_after(Lsn{100}, 6000), milliseconds(100));
  EXPECT_EQ(wait_after(Lsn{101}, 0), milliseconds(100));
  EXPECT_EQ(wait_after(Lsn{100}, 6001), milliseconds(100)) << "it lasted";
  EXPECT_GT(wait_after(std::nullopt, 60'000), milliseconds(100)) << "it was not streaming";
}

TEST(RetriesTest, WhatTheConfigurationForbidsIsFinalAtTheFirstStartOnly) {
  Retries retries;
  EXPECT_TRUE(retries.is_final(ErrorKind::kUsage));
  EXPECT_FALSE(retries.is_final(ErrorKind::kConnection));
  retries.works(Lsn{1}, at(0));
  EXPECT_FALSE(retries.is_final(ErrorKind::kUsage));
}

TEST(RetriesTest, EachChangeOfStateIsToldOnce) {
  Retries retries;
  EXPECT_TRUE(retries.is_news("away", false));
  EXPECT_FALSE(retries.is_news("away", false));
  EXPECT_TRUE(retries.is_news("no password", false));
  EXPECT_TRUE(retries.is_news("no password", true)) << "it was streaming";
  retries.told_other();
  EXPECT_TRUE(retries.is_news("no password", false));
  retries.works(Lsn{1}, at(0));
  EXPECT_TRUE(retries.is_news("no password", false));
}

TEST(ReadPaceTest, AQuietStreamIsReadAtOnce) {
  ReadPace pace;
  for (int ms = 100; ms < 200; ms += 2) {
    pace.took(4000, false, at(ms));
    EXPECT_TRUE(pace.may_read(at(ms))) << ms;
  }
}

TEST(ReadPaceTest, ABusyStreamWaitsAMoment) {
  ReadPace pace;
  pace.took(2000, false, at(100));
  EXPECT_TRUE(pace.may_read(at(100)));
  pace.took(2096, false, at(101));
  EXPECT_FALSE(pace.may_read(at(101)));
  EXPECT_EQ(pace.quiet_until(), at(102));
  EXPECT_TRUE(pace.may_read(at(102)));
  pace.took(1, false, at(102));
  EXPECT_FALSE(pace.may_read(at(102))) << "still busy";
  pace.took(1, false, at(103));
  EXPECT_TRUE(pace.may_read(at(103))) << "no longer";
}

TEST(ReadPaceTest, WhatIsLeftIsReadAtOnce) {
  ReadPace pace;
  pace.took(100'000, true, at(100));
  EXPECT_TRUE(pace.has_more());
  EXPECT_TRUE(pace.may_read(at(100)));
  pace.took(5000, false, at(100));
  EXPECT_FALSE(pace.has_more());
  EXPECT_FALSE(pace.may_read(at(100)));
  pace.goes_on();
  EXPECT_TRUE(pace.has_more());
  EXPECT_TRUE(pace.may_read(at(100)));
}

TEST(OutageTest, OneThatLastsIsToldAtItsBeginAndItsEnd) {
  Outage outage(milliseconds(3000));
  EXPECT_EQ(outage.is_away(true, at(0)), Outage::Tell::kNothing);
  EXPECT_EQ(outage.is_away(true, at(2999)), Outage::Tell::kNothing);
  EXPECT_EQ(outage.is_away(true, at(3000)), Outage::Tell::kBegan);
  EXPECT_TRUE(outage.is_told());
  EXPECT_EQ(outage.is_away(true, at(9000)), Outage::Tell::kNothing);
  EXPECT_EQ(outage.is_away(false, at(9001)), Outage::Tell::kEnded);
  EXPECT_EQ(outage.is_away(false, at(9002)), Outage::Tell::kNothing);
}

TEST(OutageTest, AShortOneIsNobodysBusiness) {
  Outage outage(milliseconds(3000));
  outage.is_away(true, at(0));
  EXPECT_EQ(outage.is_away(false, at(2000)), Outage::Tell::kNothing);
  EXPECT_EQ(outage.is_away(true, at(2500)), Outage::Tell::kNothing);
  EXPECT_EQ(outage.is_away(true, at(5000)), Outage::Tell::kNothing) << "the second one has not lasted";
}

TEST(OutageTest, WhoeverWaitedLongerMayBeAnsweredWhileOthersWait) {
  Outage outage(milliseconds(3000));
  EXPECT_EQ(outage.waits_since(at(0), at(3000)), Outage::Tell::kBegan);
  EXPECT_EQ(outage.waits_since(at(2000), at(3001)), Outage::Tell::kEnded);
  EXPECT_EQ(outage.waits_since(std::nullopt, at(9000)), Outage::Tell::kNothing);
}

TEST(OutageTest, WhatNobodyNeedsIsNotTold) {
  Outage outage(milliseconds(3000));
  outage.is_away(true, at(0));
  outage.is_away(true, at(3000));
  outage.forget();
  EXPECT_FALSE(outage.is_told());
  EXPECT_EQ(outage.is_away(true, at(4000)), Outage::Tell::kNothing);
  EXPECT_EQ(outage.is_away(true, at(7000)), Outage::Tell::kBegan);
}

TEST(OwnSessionTest, OursIsWaitedForThenEndedThenAnybodys) {
  OwnSession own;
  own.streams(4711);
  EXPECT_EQ(own.holds(4712), OwnSession::Then::kStandBy) << "somebody else's";
  for (int i = 1; i <= OwnSession::kWaitsMax; ++i)
    EXPECT_EQ(own.holds(4711), i == OwnSession::kPolite ? OwnSession::Then::kEndAndWait : OwnSession::Then::kWait) << i;
  EXPECT_EQ(own.holds(4711), OwnSession::Then::kStandBy);
  own.streams(4711);
  EXPECT_EQ(own.holds(4711), OwnSession::Then::kWait);
}

}  // namespace
}  // namespace evictd
