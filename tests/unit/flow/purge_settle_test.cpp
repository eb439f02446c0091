// The second purge of a pattern keeps the bound of G4, also where purges of it follow one another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/flow_run.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class PurgeSettle : public ::testing::Test, protected FlowRun {
 protected:
  explicit PurgeSettle(const char* rules = "- {table: public.rows, purge: ['row:*'], settle: 1s}\n") : FlowRun(rules) {}
};

TEST_F(PurgeSettle, IsNotPutOffByALaterPurgeOfThePattern) {  // G4
  run(100ms);
  const auto old_row = database.select(0);
  write(0);
  run(800ms);
  write(1);
  run(100ms);
  sink.plain_set("row:0", old_row);  // a reader that took 0.9 s
  run(300ms);
  EXPECT_EQ(sink.data.cache.count("row:0"), 0u) << "stale for more than settle and a tenth";
}

class PurgeEvery : public PurgeSettle {
 protected:
  PurgeEvery() : PurgeSettle("- {table: public.rows, purge: ['row:*'], settle: 1s, purge_every: 10s}\n") {}
};

TEST_F(PurgeEvery, WritersCannotPurgeAPatternAsFastAsTheyWrite) {
  run(100ms);
  write(0);
  run(100ms);
  ASSERT_EQ(observer.walks, 1);
  for (int i = 0; i < 50; ++i) {
    write(1);
    run(100ms);
  }
  EXPECT_EQ(observer.walks, 1);
  EXPECT_EQ(observer.purges_held, 1) << "who asks meanwhile shares the next walk";
  EXPECT_THAT(flow->status().not_ready,
              ::testing::ElementsAre("rule 'public.rows' asks for purges faster than its 'purge_every' of 10 s allows: 'row:*' is purged next in 5 s"));
  sink.plain_set("row:1", database.select(1));
  run(5s);
  EXPECT_EQ(observer.walks, 2);
  EXPECT_EQ(sink.data.cache.count("row:1"), 0u);
  EXPECT_THAT(flow->status().not_ready, ::testing::ElementsAre());
}

TEST_F(PurgeEvery, AStopDoesNotWaitForIt) {
  run(100ms);
  write(0);
  run(100ms);
  write(1);
  run(100ms);
  ASSERT_EQ(observer.walks, 1);
  flow->stop(now);
  run(2s);
  EXPECT_EQ(observer.walks, 2);
  EXPECT_TRUE(flow->finished());
}

TEST_F(PurgeEvery, APurgeAloneIsNotHeld) {
  run(100ms);
  write(0);
  run(11s);
  write(1);
  run(100ms);
  EXPECT_EQ(observer.walks, 2);
  EXPECT_EQ(observer.purges_held, 0);
}

}  // namespace
}  // namespace evictd::testing
