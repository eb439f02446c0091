#include "daemon/flow/visibility.h"

#include <gtest/gtest.h>

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class VisibilityTest : public ::testing::Test {
 protected:
  VisibilityTest() { visibility.reset(true); }

  void see(std::string_view snapshot) {
    now += 10ms;
    visibility.poll_sent(now);
    visibility.add(Snapshot::parse(snapshot).value(), now);
  }
  bool hangs(std::uint64_t xid, SystemTime::duration age) const {
    TransactionBegin begin;
    begin.xid = Xid{xid};
    begin.commit_time = SystemTime{} + 1h - age;
    return visibility.is_hanging(begin, Now{SteadyTime{} + 1h, SystemTime{} + 1h});
  }

  Visibility visibility{4ms, 5s};
  SteadyTime now{};
};

// Every commit is invisible for a moment: where each of them had a batch of its own, a busy database would make many small
// ones.
TEST_F(VisibilityTest, OnlyACommitOfSomeAgeHangs) {
  see("10:20:12,15");
  EXPECT_TRUE(hangs(12, 1s));
  EXPECT_FALSE(hangs(12, 900ms)) << "a fresh one";
  EXPECT_FALSE(hangs(13, 1h)) << "visible";
  EXPECT_FALSE(hangs(20, 1h)) << "begun after the snapshot, which says nothing of it";
}

TEST_F(VisibilityTest, NothingHangsWhereNoSnapshotTells) {
  EXPECT_FALSE(hangs(12, 1h));
}

TEST_F(VisibilityTest, ABatchGrowsWithEachThatBecomesVisibleBesideOthers) {
  Batch batch;
  batch.xids = {Xid{12}, Xid{15}, Xid{16}};
  Visibility::Looked looked;
  see("12:20:12,15,16");
  EXPECT_FALSE(visibility.grew(batch, looked)) << "none is visible";
  see("12:20:12,16");
  EXPECT_TRUE(visibility.grew(batch, looked));
  EXPECT_FALSE(visibility.grew(batch, looked)) << "no more than before";
  see("12:20:12");
  EXPECT_TRUE(visibility.grew(batch, looked));
  see("20:20:");
  EXPECT_FALSE(visibility.grew(batch, looked)) << "all are visible: no others hang";
}

// Commits come in another order than their ids, and whoever asks searches for each of the batch's.
TEST_F(VisibilityTest, WhatHangsIsSorted) {
  Batch batch;
  batch.xids = {Xid{16}, Xid{12}, Xid{18}, Xid{15}};
  Visibility::Looked looked;
  see("12:20:12,15,16");
  EXPECT_TRUE(visibility.grew(batch, looked));
  EXPECT_EQ(looked.hanging, (std::vector<Xid>{Xid{12}, Xid{15}, Xid{16}}));
  see("12:20:12,16");
  EXPECT_TRUE(visibility.grew(batch, looked));
  EXPECT_EQ(looked.hanging, (std::vector<Xid>{Xid{12}, Xid{16}}));
}

}  // namespace
}  // namespace evictd::testing
