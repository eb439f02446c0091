// Whom a snapshot answers.
#include "daemon/sources/kafka/snapshot_turns.h"

#include <gtest/gtest.h>

#include <string>

#include "mapping/check.h"

namespace evictd {
namespace {

constexpr SteadyTime at(int seconds) { return SteadyTime(std::chrono::seconds(seconds)); }

Snapshot snapshot(std::uint64_t xmax) {
  auto parsed = Snapshot::parse(std::to_string(xmax - 10) + ":" + std::to_string(xmax) + ":" + std::to_string(xmax - 10));
  EVICTD_CHECK(parsed);
  return *parsed;
}

TEST(SnapshotTurnsTest, OursIsNobodysBusiness) {
  SnapshotTurns turns;
  turns.starts();
  EXPECT_FALSE(turns.has_one());
  const auto answer = turns.came(snapshot(100), at(0));
  EXPECT_FALSE(answer.is_wanted);
  EXPECT_FALSE(answer.is_asked_again);
  EXPECT_TRUE(turns.has_one());
}

TEST(SnapshotTurnsTest, OneThatWasAskedForOutsideIsTold) {
  SnapshotTurns turns;
  EXPECT_TRUE(turns.wanted());
  EXPECT_TRUE(turns.came(snapshot(100), at(0)).is_wanted);
}

TEST(SnapshotTurnsTest, WhoAsksWhileOursIsOnItsWayHasALaterOne) {
  SnapshotTurns turns;
  turns.starts();
  EXPECT_FALSE(turns.wanted());
  EXPECT_FALSE(turns.wanted());
  const auto ours = turns.came(snapshot(100), at(0));
  EXPECT_FALSE(ours.is_wanted) << "it may be from before the request";
  EXPECT_TRUE(ours.is_asked_again);
  const auto theirs = turns.came(snapshot(100), at(0));
  EXPECT_TRUE(theirs.is_wanted);
  EXPECT_FALSE(theirs.is_asked_again);
  ASSERT_TRUE(turns.refreshes(at(61)));
  EXPECT_FALSE(turns.came(snapshot(100), at(62)).is_asked_again) << "once";
}

TEST(SnapshotTurnsTest, AnOldOneIsAskedForAnewUnlessSomebodyWaitsForOneAnyway) {
  SnapshotTurns turns;
  EXPECT_FALSE(turns.refreshes(at(1000))) << "the first is under way";
  turns.starts();
  turns.came(snapshot(100), at(1000));
  EXPECT_FALSE(turns.refreshes(at(1060)));
  EXPECT_TRUE(turns.wanted());
  EXPECT_FALSE(turns.refreshes(at(1061)));
  turns.came(snapshot(100), at(2000));
  EXPECT_TRUE(turns.refreshes(at(2061)));
  EXPECT_FALSE(turns.refreshes(at(2062))) << "it is under way";
  EXPECT_FALSE(turns.came(snapshot(100), at(2063)).is_wanted);
}

TEST(SnapshotTurnsTest, IdsAreWidenedByTheNewestAndStayNarrowWithoutOne) {
  SnapshotTurns turns;
  EXPECT_EQ(turns.id_of(7), narrow_xid(7));
  turns.starts();
  turns.came(snapshot((1ull << 32) + 100), at(0));
  EXPECT_EQ(turns.id_of(7), Xid{(1ull << 32) + 7});
  turns.wanted();
  turns.came(snapshot((2ull << 32) + 100), at(1));
  EXPECT_EQ(turns.id_of(7), Xid{(2ull << 32) + 7});
}

}  // namespace
}  // namespace evictd
