// The second purge of a pattern keeps the bound of G4, also where purges of it follow one another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

class PurgeSettle : public ::testing::Test {
 protected:
  explicit PurgeSettle(const char* text = "- {table: public.rows, purge: ['row:*'], settle: 1s}\n")
      : database_(12), source_(database_), sink_(5s) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
    auto rules = RuleSet::parse(text, "rules.yaml");
    EXPECT_TRUE(rules.has_value());
    flow_ = std::make_unique<Flow>(std::move(*rules), source_, one_cache(sink_), observer_, FlowOptions{});
    flow_->start(now_);
  }
  void run(std::chrono::milliseconds time) {
    for (auto left = time; left > 0ms; left -= 10ms) {
      now_.steady += 10ms;
      now_.system += 10ms;
      flow_->step(now_);
    }
  }
  void write(int row) { database_.make_visible(database_.commit({row}, false, now_.system).xid, now_.steady); }

  Now now_;
  FakeDatabase database_;
  FakeSource source_;
  FakeSink sink_;
  NullObserver observer_;
  std::unique_ptr<Flow> flow_;
};

TEST_F(PurgeSettle, IsNotPutOffByALaterPurgeOfThePattern) {  // G4
  run(100ms);
  const auto old_row = database_.select(0);
  write(0);
  run(800ms);
  write(1);
  run(100ms);
  sink_.plain_set("row:0", old_row);  // a reader that took 0.9 s
  run(300ms);
  EXPECT_EQ(sink_.data.cache.count("row:0"), 0u) << "stale for more than settle and a tenth";
}

class PurgeEvery : public PurgeSettle {
 protected:
  PurgeEvery() : PurgeSettle("- {table: public.rows, purge: ['row:*'], settle: 1s, purge_every: 10s}\n") {}
};

TEST_F(PurgeEvery, WritersCannotPurgeAPatternAsFastAsTheyWrite) {
  run(100ms);
  write(0);
  run(100ms);
  ASSERT_EQ(observer_.walks, 1);
  for (int i = 0; i < 50; ++i) {
    write(1);
    run(100ms);
  }
  EXPECT_EQ(observer_.walks, 1);
  EXPECT_EQ(observer_.purges_held, 1) << "who asks meanwhile shares the next walk";
  EXPECT_THAT(flow_->status().not_ready,
              ::testing::ElementsAre("rule 'public.rows' asks for purges faster than its 'purge_every' of 10 s allows: 'row:*' is purged next in 5 s"));
  sink_.plain_set("row:1", database_.select(1));
  run(5s);
  EXPECT_EQ(observer_.walks, 2);
  EXPECT_EQ(sink_.data.cache.count("row:1"), 0u);
  EXPECT_THAT(flow_->status().not_ready, ::testing::ElementsAre());
}

TEST_F(PurgeEvery, AStopDoesNotWaitForIt) {
  run(100ms);
  write(0);
  run(100ms);
  write(1);
  run(100ms);
  ASSERT_EQ(observer_.walks, 1);
  flow_->stop(now_);
  run(2s);
  EXPECT_EQ(observer_.walks, 2);
  EXPECT_TRUE(flow_->finished());
}

TEST_F(PurgeEvery, APurgeAloneIsNotHeld) {
  run(100ms);
  write(0);
  run(11s);
  write(1);
  run(100ms);
  EXPECT_EQ(observer_.walks, 2);
  EXPECT_EQ(observer_.purges_held, 0);
}

}  // namespace
}  // namespace evictd::testing
