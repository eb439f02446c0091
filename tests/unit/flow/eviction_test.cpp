// A cache that evicts what rules rely on: a gap from the moment it begins, on record over a restart, repaired when it is over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/flow_run.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Evictions : public ::testing::Test, protected FlowWorld {
 protected:
  Evictions() : sink(5s) {}
  void start() {
    FlowWorld::start("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n", {LaneSpec{"redis", &sink, {}, {}, 5s}});
    run(3s);
  }
  bool is_cached(const std::string& key) const { return sink.data.cache.contains(key); }
  bool is_on_record() const { return sink.data.record->gaps.contains("redis_evicted"); }

  FakeSink sink;
};

TEST_F(Evictions, WhatMayHaveBeenLostIsPurgedWhenTheyAreOver) {
  start();
  ASSERT_THAT(flow->status().not_ready, ElementsAre());
  sink.loses_keys = true;
  sink.plain_set("row:1", {});
  run(3s);
  EXPECT_THAT(flow->status().not_ready, ElementsAre("fake sink: keys are evicted"));
  EXPECT_TRUE(is_on_record());
  EXPECT_TRUE(is_cached("row:1")) << "to purge now would be of no use";
  write(2);
  run(3s);
  EXPECT_TRUE(is_acknowledged());
  sink.loses_keys = false;
  run(50ms);
  EXPECT_THAT(flow->status().not_ready, Not(ElementsAre()));
  run(5s);
  EXPECT_FALSE(is_cached("row:1"));
  EXPECT_FALSE(is_on_record());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
  EXPECT_THAT(said, Contains(HasSubstr("gap (redis_evicted)")));
}

TEST_F(Evictions, ARestartKnowsOfThemWhenTheyAreOverMeanwhile) {
  start();
  sink.loses_keys = true;
  sink.plain_set("row:1", {});
  run(3s);
  source.stop(now);
  sink.stop();
  sink.loses_keys = false;
  start();
  run(3s);
  EXPECT_FALSE(is_cached("row:1"));
  EXPECT_FALSE(is_on_record());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

TEST_F(Evictions, ARestartAmongThemPurgesNothingYet) {
  start();
  sink.loses_keys = true;
  sink.plain_set("row:1", {});
  run(3s);
  source.stop(now);
  sink.stop();
  start();
  run(5s);
  EXPECT_TRUE(is_cached("row:1"));
  EXPECT_TRUE(is_on_record());
  sink.loses_keys = false;
  run(5s);
  EXPECT_FALSE(is_cached("row:1"));
  EXPECT_FALSE(is_on_record());
}

// One more gap of the cache is repaired meanwhile; this one stays.
TEST_F(Evictions, AnotherRepairDoesNotEndThem) {
  start();
  sink.loses_keys = true;
  run(1s);
  sink.loses_keys = false;
  run(10ms);
  sink.loses_keys = true;  // again, while the repair of before goes on
  run(10s);
  EXPECT_TRUE(is_on_record());
  EXPECT_THAT(flow->status().not_ready, ElementsAre("fake sink: keys are evicted"));
}

}  // namespace
}  // namespace evictd::testing
