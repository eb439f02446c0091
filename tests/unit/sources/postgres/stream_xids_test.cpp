// Which transaction ids of the stream can be, and which are asked about.
#include "daemon/sources/postgres/stream_xids.h"

#include <gtest/gtest.h>

#include "mapping/check.h"

namespace evictd {
namespace {

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }
constexpr std::uint64_t kEpoch = std::uint64_t{1} << 32;

Snapshot snapshot(std::uint64_t xmax) {
  auto parsed = Snapshot::parse(std::to_string(xmax) + ":" + std::to_string(xmax) + ":");
  EVICTD_CHECK(parsed);
  return *parsed;
}

class StreamXidsTest : public ::testing::Test {
 protected:
  StreamXidsTest() {
    xids.connecting();
    xids.starts_from(snapshot(5 * kEpoch + 1000));
  }
  Xid commit(std::uint32_t low, int second) {
    const Xid xid = xids.begins(low);
    xids.commits(at(second));
    return xid;
  }

  StreamXids xids;
};

TEST_F(StreamXidsTest, AnIdIsTheNearestToTheNewestSnapshot) {
  EXPECT_EQ(xids.begins(990), Xid{5 * kEpoch + 990});
  EXPECT_EQ(xids.in_hand(), 990u);
  EXPECT_EQ(xids.begins(0xfffffff0u), Xid{5 * kEpoch - 16});
  xids.saw(snapshot(6 * kEpoch + 5));
  EXPECT_EQ(xids.begins(990), Xid{6 * kEpoch + 990});
  xids.saw(snapshot(4 * kEpoch));
  EXPECT_EQ(xids.server_is_at(), Xid{6 * kEpoch + 5}) << "ids do not go back within a connection";
  xids.starts_from(snapshot(4 * kEpoch));
  EXPECT_EQ(xids.server_is_at(), Xid{4 * kEpoch}) << "another server";
}

TEST_F(StreamXidsTest, WhatTheServerCannotHaveGivenIsNotPossible) {
  const std::uint64_t now = 5 * kEpoch + 1000;
  EXPECT_TRUE(xids.is_possible(Xid{now + StreamXids::kAheadMax}));
  EXPECT_FALSE(xids.is_possible(Xid{now + StreamXids::kAheadMax + 1}));
  EXPECT_TRUE(xids.is_possible(Xid{now - StreamXids::kBehindMax}));
  EXPECT_FALSE(xids.is_possible(Xid{now - StreamXids::kBehindMax - 1}));
  xids.starts_from(snapshot(1000));
  EXPECT_TRUE(xids.is_possible(Xid{3})) << "a young server";
}

TEST_F(StreamXidsTest, ACommitThatNoSnapshotSeesIsAskedAbout) {
  EXPECT_EQ(xids.doubt_at(), std::nullopt);
  const Xid xid = commit(1001, 10);
  EXPECT_EQ(xids.doubt_at(), at(10) + StreamXids::kDoubt);
  xids.saw(snapshot(5 * kEpoch + 1001));
  EXPECT_EQ(xids.doubt_at(), at(10) + StreamXids::kDoubt) << "it is not below xmax";
  EXPECT_EQ(xids.doubts(at(14)), xid);
  EXPECT_EQ(xids.doubt_at(), at(14) + StreamXids::kDoubt) << "again, unless it is answered";
  xids.saw(snapshot(5 * kEpoch + 1002));
  EXPECT_EQ(xids.doubt_at(), std::nullopt);
}

TEST_F(StreamXidsTest, TheNewestCountsAndNotTheLast) {
  const Xid newest = commit(1005, 10);
  commit(1003, 11);
  EXPECT_EQ(xids.doubts(at(20)), newest);
}

TEST_F(StreamXidsTest, AnAnswerIsOfTheTransactionThatWasAskedAbout) {
  const Xid first = commit(1005, 10);
  commit(1006, 11);
  xids.is_real(first);
  EXPECT_TRUE(xids.doubt_at()) << "there is a newer one";
  xids.is_real(Xid{5 * kEpoch + 1006});
  EXPECT_EQ(xids.doubt_at(), std::nullopt);
}

TEST_F(StreamXidsTest, ConnectingForgetsWhatComesAgain) {
  commit(1005, 10);
  xids.connecting();
  EXPECT_EQ(xids.doubt_at(), std::nullopt);
  commit(1004, 20);
  EXPECT_EQ(xids.doubts(at(30)), Xid{5 * kEpoch + 1004});
}

}  // namespace
}  // namespace evictd
