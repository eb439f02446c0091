// Repairs: what a walk asks of fills, and what it waits for.
#include <gtest/gtest.h>

#include "daemon/flow/repair.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class RepairsTest : public ::testing::Test {
 protected:
  RepairsTest() {
    conditions_.is_streaming = true;
    conditions_.snapshot = &snapshot_;
    conditions_.rules = std::make_shared<const RuleSet>(*RuleSet::parse("- {table: public.rows, tags: ['all'], tags_mode: lazy, fill: checked}\n", "rules.yaml"));
    conditions_.acts = &acts_;
  }
  const Repairs::Walk* next(std::chrono::milliseconds after) {
    now_ += after;
    return repairs_.next(now_, conditions_);
  }
  void snapshot(const char* text) {
    snapshot_ = *Snapshot::parse(text);
    repairs_.snapshot(*snapshot_, now_);
  }

  Repairs repairs_{{5s, "redis"}};
  std::optional<Snapshot> snapshot_ = *Snapshot::parse("10:10:");
  std::vector<bool> acts_{true};
  Repairs::Conditions conditions_;
  SteadyTime now_{1h};
};

// What is missed in the middle of the stream was committed after the snapshot that is at hand.
TEST_F(RepairsTest, TheSecondWalkAsksForWhatASnapshotFromAfterTheGapHasSeen) {
  repairs_.open({"out_of_range", {}});
  ASSERT_NE(next(0ms), nullptr) << "the first walk waits for nobody";
  EXPECT_EQ(repairs_.walk()->floor, Xid{9});
  repairs_.done(now_);
  EXPECT_TRUE(repairs_.waits_for_visibility()) << "a younger one is asked for";
  snapshot("10:10:");  // may have been under way
  snapshot("11:13:11");
  EXPECT_EQ(next(2s), nullptr) << "11 may be one that was missed, and hangs";
  snapshot("13:13:");
  EXPECT_FALSE(repairs_.waits_for_visibility());
  const Repairs::Walk* second = next(2s);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->floor, Xid{12});
}

TEST_F(RepairsTest, WithoutAYoungerSnapshotTheSecondWalkIsMadeAndOneMoreFollows) {
  repairs_.open({"out_of_range", {}});
  ASSERT_NE(next(0ms), nullptr);
  repairs_.done(now_);
  ASSERT_NE(next(2s), nullptr);
  repairs_.done(now_);
  EXPECT_EQ(repairs_.take_ready().size(), 1u);
  ASSERT_NE(next(5s), nullptr) << "for slow readers";
  repairs_.done(now_);
  EXPECT_EQ(next(60s), nullptr);
  EXPECT_TRUE(repairs_.take_closed().empty());
  snapshot("13:13:");
  snapshot("13:13:");
  const Repairs::Walk* last = next(2s);
  ASSERT_NE(last, nullptr);
  EXPECT_EQ(last->floor, Xid{12});
  repairs_.done(now_);
  EXPECT_EQ(repairs_.take_closed().size(), 1u);
}

}  // namespace
}  // namespace evictd::testing
