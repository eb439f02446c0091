// `replicas_ack`: what is on record and not confirmed by replicas is not told to the source; deletes and repairs go on. A cache
// that comes back with a record that was confirmed has lost nothing that is not sent again.
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
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Replicas : public ::testing::Test {
 protected:
  Replicas() : database_(12), source_(database_), sink_(5s) {
    now_.steady = SteadyTime(1h);
    now_.system = SystemTime(1h);
  }
  static RuleSet rules(const std::string& more = "") {
    auto parsed = RuleSet::parse("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n" + more, "rules.yaml");
    EXPECT_TRUE(parsed.has_value());
    return std::move(*parsed);
  }
  void start(ParkAfter park_after = {}) {
    LaneSpec lane{"redis", &sink_, {}, park_after, 5s};
    flow_ = std::make_unique<Flow>(rules(), source_, std::vector{lane}, observer_, FlowOptions{});
    flow_->start(now_);
    run(3s);
    ASSERT_THAT(flow_->status().not_ready, ElementsAre());
  }
  void run(std::chrono::milliseconds time) {
    for (auto left = time; left > 0ms; left -= 10ms) {
      now_.steady += 10ms;
      now_.system += 10ms;
      flow_->step(now_);
      for (FlowEvent& event : flow_->take_events()) said_.push_back(std::move(event.text));
    }
  }
  void write(int row) { database_.make_visible(database_.commit({row}, false, now_.system).xid, now_.steady); }
  bool is_acknowledged() const { return source_.confirmed() >= database_.log_end(); }
  bool is_cached(const std::string& key) const { return sink_.data.cache.contains(key); }
  std::uint64_t purges() const { return sink_.data.unconditional_walks; }

  Now now_;
  FakeDatabase database_;
  FakeSource source_;
  FakeSink sink_;
  NullObserver observer_;
  std::unique_ptr<Flow> flow_;
  std::vector<std::string> said_;
};

TEST_F(Replicas, WhatTheyHaveNotConfirmedIsNotAcknowledged) {
  start();
  sink_.lacks_replicas = true;
  for (int i = 0; i < 20; ++i) {
    sink_.plain_set("row:1", {});
    write(1);
    run(500ms);
    EXPECT_FALSE(is_cached("row:1")) << "deletes go on";
  }
  run(3s);
  EXPECT_LT(source_.confirmed(), database_.log_end() - 150) << "not even the first of them";
  EXPECT_THAT(said_, Contains(HasSubstr("nobody confirms")));
  sink_.lacks_replicas = false;
  run(3s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(said_, Contains(HasSubstr("enough replicas have confirmed")));
}

// One that is asked for anew with each record would never be confirmed while changes go on.
TEST_F(Replicas, TheyAreAskedAboutTheNewestRecordWhileRecordsGoOn) {
  start();
  sink_.confirms_after = 3;
  for (int i = 0; i < 40; ++i) {
    write(i % 12);
    run(100ms);
  }
  EXPECT_GT(source_.confirmed(), database_.log_end() / 2);
  run(5s);
  EXPECT_TRUE(is_acknowledged());
}

// New rules, a gap: what is to be purged does not wait for a replica.
TEST_F(Replicas, ARepairDoesNotWaitForThem) {
  start();
  sink_.lacks_replicas = true;
  sink_.plain_set("other:1", {});
  flow_->reload(rules("- {table: public.rows, keys: ['other:{id}']}\n"), now_);
  run(3s);
  EXPECT_FALSE(is_cached("other:1"));
}

// The replica that takes over has the last record that was confirmed, and none of what came later.
TEST_F(Replicas, AFailoverToWhatTheyConfirmedPurgesNothingAndDoesTheRestAgain) {
  start();
  write(1);
  run(5s);
  ASSERT_TRUE(is_acknowledged());
  sink_.plain_set("row:2", {});
  sink_.plain_set("row:3", {});
  const FakeSink::Data replica = sink_.data;
  sink_.lacks_replicas = true;
  for (int i = 0; i < 10; ++i) {
    write(2);
    run(1s);
  }
  ASSERT_FALSE(is_cached("row:2"));
  ASSERT_FALSE(is_acknowledged());
  FakeSink::restore(sink_.data, replica);
  run(3s);
  EXPECT_FALSE(is_cached("row:2")) << "its delete was never acknowledged, so it is done again";
  EXPECT_TRUE(is_cached("row:3"));
  EXPECT_EQ(purges(), 0u);
  EXPECT_THAT(said_, Not(Contains(HasSubstr("redis_rollback"))));
  EXPECT_FALSE(is_acknowledged());
  sink_.lacks_replicas = false;
  run(10s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(flow_->status().not_ready, ElementsAre());
}

// What a repair purged is sent by nobody again.
TEST_F(Replicas, AFailoverToBeforeARepairEndedPurgesAll) {
  start();
  write(1);
  run(5s);
  sink_.plain_set("other:1", {});
  sink_.plain_set("row:3", {});
  const FakeSink::Data replica = sink_.data;
  sink_.lacks_replicas = true;
  flow_->reload(rules("- {table: public.rows, keys: ['other:{id}']}\n"), now_);
  run(20s);
  ASSERT_FALSE(is_cached("other:1"));
  ASSERT_THAT(said_, Contains(HasSubstr("repaired: new_rules")));
  FakeSink::restore(sink_.data, replica);
  run(5s);
  EXPECT_FALSE(is_cached("other:1"));
  EXPECT_THAT(said_, Contains(HasSubstr("redis_rollback")));
}

// One that lacks what was confirmed is a rollback as ever: the source will not send it again.
TEST_F(Replicas, AFailoverToWhatWasNotConfirmedPurgesAll) {
  start();
  sink_.plain_set("row:2", {});
  const FakeSink::Data replica = sink_.data;
  write(2);
  run(5s);
  ASSERT_TRUE(is_acknowledged());
  FakeSink::restore(sink_.data, replica);
  run(5s);
  EXPECT_FALSE(is_cached("row:2"));
  EXPECT_THAT(said_, Contains(HasSubstr("redis_rollback")));
}

// What was confirmed before the connection broke, and told to nobody, is asked about once more.
TEST_F(Replicas, AConnectionThatBreaksWhileTheyAreAwaitedDelaysNothingForLong) {
  start();
  sink_.lacks_replicas = true;
  write(1);
  run(3s);
  sink_.cut(0);
  run(1s);
  sink_.lacks_replicas = false;
  run(1s);
  EXPECT_TRUE(is_acknowledged());
}

TEST_F(Replicas, AStopDoesNotWaitForThemForEver) {
  start();
  sink_.lacks_replicas = true;
  write(1);
  run(3s);
  flow_->stop(now_);
  run(1s);
  EXPECT_FALSE(flow_->finished());
  run(3s);
  EXPECT_TRUE(flow_->finished());
  EXPECT_FALSE(is_acknowledged());
}

// The cache is true, and only its replicas are away: age is no reason to purge it.
TEST_F(Replicas, ACacheWithoutThemIsParkedForItsWalAlone) {
  start({5s, 1000, true});
  sink_.lacks_replicas = true;
  write(1);
  run(20s);
  EXPECT_FALSE(flow_->status().lanes[0].is_parked);
  EXPECT_EQ(purges(), 0u);
  source_.foreign_bytes = 2000;
  write(2);
  run(5s);
  EXPECT_THAT(said_, Contains(HasSubstr("parked")));
}

}  // namespace
}  // namespace evictd::testing
