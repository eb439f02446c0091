// What a repair walks, and when.
#include "daemon/flow/repair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mapping/rules.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class RepairsTest : public ::testing::Test {
 protected:
  RepairsTest() {
    auto rules = RuleSet::parse("- {table: public.items, keys: ['item:{id}'], fill: checked}\n", "rules.yaml");
    EXPECT_TRUE(rules.has_value());
    rules_ = std::make_shared<const RuleSet>(std::move(*rules));
    conditions_.is_streaming = conditions_.has_snapshots = true;
    conditions_.snapshot = &snapshot_;
    conditions_.rules = rules_;
    conditions_.acts = &acts_;
  }

  // A snapshot that was asked for now, with one transaction in progress, or none.
  void hear(std::uint64_t xmax, std::optional<std::uint64_t> hanging = {}) {
    const std::string in_progress = hanging ? std::to_string(*hanging) : "";
    snapshot_ = Snapshot::parse(std::to_string(hanging.value_or(xmax)) + ":" + std::to_string(xmax) + ":" + in_progress).value();
    conditions_.snapshot_asked_at = now_;
    repairs_.snapshot(*snapshot_, now_);
  }

  void open(const char* reason) {
    Repairs::Wanted wanted;
    wanted.reason = reason;
    repairs_.open(std::move(wanted), now_);
  }

  const Repairs::Walk* next() { return repairs_.next(now_, conditions_); }

  // The walk that is due, done. Not when there is none.
  bool walk() {
    if (next() == nullptr) return false;
    repairs_.done(now_);
    return true;
  }

  SteadyTime now_ = SteadyTime(1h);
  std::shared_ptr<const RuleSet> rules_;
  std::vector<bool> acts_ = {true};
  std::optional<Snapshot> snapshot_;
  Repairs::Conditions conditions_;
  Repairs repairs_{{60s, "cache"}};
};

// A value that was read after an older snapshot and before the gap was found lacks changes whose tombstones are lost.
TEST_F(RepairsTest, TheFloorOfFillsIsOfASnapshotThatWasAskedForWhenTheGapWasFound) {
  hear(100);
  now_ += 10s;
  open("redis_rollback");
  EXPECT_EQ(next(), nullptr);
  EXPECT_TRUE(repairs_.waits_for_visibility()) << "asks for one";
  now_ += 10ms;
  hear(200);
  EXPECT_FALSE(repairs_.waits_for_visibility());
  ASSERT_NE(next(), nullptr);
  EXPECT_EQ(repairs_.walk()->floor, Xid{199});
}

TEST_F(RepairsTest, AGapThatJoinsOneWhichHasNotBegunWantsItsOwnSnapshot) {
  open("redis_rollback");
  hear(100);
  now_ += 10ms;
  open("schema_changed");
  EXPECT_EQ(next(), nullptr);
  hear(101);
  EXPECT_NE(next(), nullptr);
}

TEST_F(RepairsTest, ACacheThatIsAnotherProcessAgainWantsASnapshotOfThen) {
  open("redis_rollback");
  hear(100);
  ASSERT_TRUE(walk());
  now_ += 10ms;
  repairs_.begin_again(now_);
  EXPECT_EQ(next(), nullptr);
  hear(101);
  ASSERT_NE(next(), nullptr);
  EXPECT_EQ(repairs_.walk()->floor, Xid{100});
}

// Readers would miss all their keys a second time, a minute later.
TEST_F(RepairsTest, ValuesThatReadersFilledAfterwardsAreLeftAlone) {
  open("slot_missing");
  hear(100);
  ASSERT_TRUE(walk());
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("slot_missing"));
  EXPECT_EQ(repairs_.wake_at(), SteadyTime::max());
}

// A restore, a failover: their snapshots have higher numbers than the floor, and those of what changes next.
TEST_F(RepairsTest, WhatReadersOfALostHistoryFillIsPurgedAfterTheTimeOfATombstone) {  // G3, G6
  conditions_.history_since = now_ - 2s;
  open("epoch_changed");
  hear(100);
  ASSERT_TRUE(walk());
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_ready(), ::testing::ElementsAre("epoch_changed"));
  EXPECT_THAT(repairs_.take_closed(), ::testing::IsEmpty()) << "on record, for whoever takes over";
  EXPECT_EQ(repairs_.wake_at(), conditions_.history_since + 60s);
  now_ = repairs_.wake_at();
  ASSERT_NE(next(), nullptr);
  EXPECT_TRUE(repairs_.is_walk_of_late_readers());
  repairs_.done(now_);
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("epoch_changed"));
}

TEST_F(RepairsTest, RulesThatAreNewAfterAFailoverArePurgedOnceAndTheSecondTime) {
  conditions_.history_since = now_;
  Repairs::Wanted wanted;
  wanted.reason = "new_rules";
  wanted.is_gap = false;
  repairs_.open(std::move(wanted), now_);
  hear(100);
  ASSERT_TRUE(walk());
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("new_rules"));
}

// The source connects anew just then: the first walk does not wait for it, the second leaves the floor.
TEST_F(RepairsTest, ARepairThatBeganWithoutASnapshotHasItsFloorAtTheSecondWalk) {
  conditions_.has_snapshots = false;
  open("redis_rollback");
  ASSERT_NE(next(), nullptr);
  EXPECT_EQ(repairs_.walk()->floor, Xid{});
  repairs_.done(now_);
  conditions_.has_snapshots = true;
  now_ += 1s;
  EXPECT_EQ(next(), nullptr) << "a snapshot of now is asked for";
  EXPECT_TRUE(repairs_.waits_for_visibility());
  EXPECT_EQ(repairs_.wake_at(), SteadyTime::max()) << "and nothing turns until it is there";
  hear(200);
  ASSERT_NE(next(), nullptr);
  EXPECT_EQ(repairs_.walk()->floor, Xid{199});
  EXPECT_EQ(repairs_.walk()->act, Act::kInvalidate) << "with tombstones for what is not there";
  repairs_.done(now_);
  EXPECT_THAT(repairs_.take_ready(), ::testing::ElementsAre("redis_rollback"));
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("redis_rollback")) << "and nothing is purged a minute later";
}

// A commit that hangs may be one that was missed: what was read before it is visible is stored after the walks.
TEST_F(RepairsTest, ARepairThatBeganWithoutASnapshotWaitsForCommitsThatHang) {  // G6
  conditions_.has_snapshots = conditions_.is_streaming = false;
  open("slot_lost");
  ASSERT_TRUE(walk());
  conditions_.has_snapshots = conditions_.is_streaming = true;
  now_ += 1s;
  EXPECT_EQ(next(), nullptr);
  hear(200, 150);
  EXPECT_EQ(next(), nullptr);
  now_ += 10s;
  hear(210);
  EXPECT_EQ(next(), nullptr) << "readers of before take a moment";
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("slot_lost"));
}

TEST_F(RepairsTest, ARepairWithoutAnySnapshotIsNotOverBeforeThereIsOne) {  // G6
  conditions_.has_snapshots = conditions_.is_streaming = false;
  open("slot_lost");
  ASSERT_TRUE(walk());
  now_ += 1s;
  ASSERT_TRUE(walk());
  now_ += 60s;
  ASSERT_TRUE(walk()) << "of slow readers";
  EXPECT_THAT(repairs_.take_ready(), ::testing::ElementsAre("slot_lost"));
  EXPECT_THAT(repairs_.take_closed(), ::testing::IsEmpty());
  conditions_.has_snapshots = conditions_.is_streaming = true;
  EXPECT_EQ(next(), nullptr);
  EXPECT_TRUE(repairs_.waits_for_visibility());
  hear(200, 150);
  EXPECT_EQ(next(), nullptr);
  now_ += 10s;
  hear(210);
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("slot_lost"));
}

TEST_F(RepairsTest, OfASourceThatHasNoSnapshotsNoneIsWaitedFor) {
  conditions_.has_snapshots = conditions_.is_streaming = false;
  open("offsets_lost");
  ASSERT_TRUE(walk());
  now_ += 1s;
  ASSERT_TRUE(walk());
  now_ += 60s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_closed(), ::testing::IsEmpty());
  conditions_.is_streaming = true;
  EXPECT_EQ(next(), nullptr);
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("offsets_lost"));
}

TEST_F(RepairsTest, WithoutSnapshotsSlowReadersFillsArePurgedAfterTheTimeOfATombstone) {
  conditions_.has_snapshots = false;
  open("offsets_lost");
  ASSERT_TRUE(walk());
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_ready(), ::testing::ElementsAre("offsets_lost"));
  EXPECT_THAT(repairs_.take_closed(), ::testing::IsEmpty());
  now_ += 58s;
  EXPECT_EQ(next(), nullptr);
  now_ += 1s;
  ASSERT_TRUE(walk());
  EXPECT_THAT(repairs_.take_closed(), ::testing::ElementsAre("offsets_lost"));
}

}  // namespace
}  // namespace evictd::testing
