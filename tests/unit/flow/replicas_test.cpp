// `replicas_ack`: what is on record and not confirmed by replicas is not told to the source; deletes and repairs go on. A cache
// that comes back with a record that was confirmed has lost nothing that is not sent again.
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

constexpr const char* kRules = "- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n";

class Replicas : public ::testing::Test, protected FlowWorld {
 protected:
  Replicas() : sink(5s) {}
  void start(ParkAfter park_after = {}) {
    FlowWorld::start(kRules, {LaneSpec{"redis", &sink, {}, park_after, 5s}});
    run(3s);
    ASSERT_THAT(flow->status().not_ready, ElementsAre());
  }
  bool is_cached(const std::string& key) const { return sink.data.cache.contains(key); }
  std::uint64_t purges() const { return sink.data.unconditional_walks; }

  FakeSink sink;
};

TEST_F(Replicas, WhatHoldsTheAcknowledgementUpIsTold) {
  start();
  sink.held_up = "fake sink: 1 of 2 replicas";
  run(500ms);
  EXPECT_THAT(flow->status().not_ready, ElementsAre("fake sink: 1 of 2 replicas"));
  sink.held_up.reset();
  run(500ms);
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

TEST_F(Replicas, WhatTheyHaveNotConfirmedIsNotAcknowledged) {
  start();
  sink.lacks_replicas = true;
  for (int i = 0; i < 20; ++i) {
    sink.plain_set("row:1", {});
    write(1);
    run(500ms);
    EXPECT_FALSE(is_cached("row:1")) << "deletes go on";
  }
  run(3s);
  EXPECT_LT(source.confirmed(), database.log_end() - 150) << "not even the first of them";
  EXPECT_THAT(said, Contains(HasSubstr("nobody confirms")));
  sink.lacks_replicas = false;
  run(3s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(said, Contains(HasSubstr("enough replicas have confirmed")));
}

// What is finished ends on record with a keepalive, where no transaction does.
TEST_F(Replicas, WhatIsSentAgainForWantOfThemIsNotDeletedAgainBesideWhatIsNew) {  // G2
  start();
  sink.lacks_replicas = true;
  write(1);
  run(3s);
  ASSERT_EQ(sink.data.record->acknowledged["wal"], database.log_end() + 1) << "finished, and on record";
  ASSERT_LT(source.confirmed(), database.log_end());
  source.stop(now);
  sink.stop();
  sink.lacks_replicas = false;
  sink.plain_set("row:1", {});
  sink.plain_set("row:2", {});
  write(2);
  start();
  EXPECT_TRUE(is_cached("row:1"));
  EXPECT_FALSE(is_cached("row:2"));
  EXPECT_EQ(purges(), 0u) << ::testing::PrintToString(said);
}

// One that is asked for anew with each record would never be confirmed while changes go on.
TEST_F(Replicas, TheyAreAskedAboutTheNewestRecordWhileRecordsGoOn) {
  start();
  sink.confirms_after = 3;
  for (int i = 0; i < 40; ++i) {
    write(i % 12);
    run(100ms);
  }
  EXPECT_GT(source.confirmed(), database.log_end() / 2);
  run(5s);
  EXPECT_TRUE(is_acknowledged());
}

// New rules, a gap: what is to be purged does not wait for a replica.
TEST_F(Replicas, ARepairDoesNotWaitForThem) {
  start();
  sink.lacks_replicas = true;
  sink.plain_set("other:1", {});
  flow->reload(rules_of(kRules + std::string("- {table: public.rows, keys: ['other:{id}']}\n")), now);
  run(3s);
  EXPECT_FALSE(is_cached("other:1"));
}

// The replica that takes over has the last record that was confirmed, and none of what came later.
TEST_F(Replicas, AFailoverToWhatTheyConfirmedPurgesNothingAndDoesTheRestAgain) {
  start();
  write(1);
  run(5s);
  ASSERT_TRUE(is_acknowledged());
  sink.plain_set("row:2", {});
  sink.plain_set("row:3", {});
  const FakeSink::Data replica = sink.data;
  sink.lacks_replicas = true;
  for (int i = 0; i < 10; ++i) {
    write(2);
    run(1s);
  }
  ASSERT_FALSE(is_cached("row:2"));
  ASSERT_FALSE(is_acknowledged());
  FakeSink::restore(sink.data, replica);
  run(3s);
  EXPECT_FALSE(is_cached("row:2")) << "its delete was never acknowledged, so it is done again";
  EXPECT_TRUE(is_cached("row:3"));
  EXPECT_EQ(purges(), 0u);
  EXPECT_THAT(said, Not(Contains(HasSubstr("redis_rollback"))));
  EXPECT_FALSE(is_acknowledged());
  sink.lacks_replicas = false;
  run(10s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// What a repair purged is sent by nobody again.
TEST_F(Replicas, AFailoverToBeforeARepairEndedPurgesAll) {
  start();
  write(1);
  run(5s);
  sink.plain_set("other:1", {});
  sink.plain_set("row:3", {});
  const FakeSink::Data replica = sink.data;
  sink.lacks_replicas = true;
  flow->reload(rules_of(kRules + std::string("- {table: public.rows, keys: ['other:{id}']}\n")), now);
  run(20s);
  ASSERT_FALSE(is_cached("other:1"));
  ASSERT_THAT(said, Contains(HasSubstr("repaired: new_rules")));
  FakeSink::restore(sink.data, replica);
  run(5s);
  EXPECT_FALSE(is_cached("other:1"));
  EXPECT_THAT(said, Contains(HasSubstr("redis_rollback")));
}

// One that lacks what was confirmed is a rollback as ever: the source will not send it again.
TEST_F(Replicas, AFailoverToWhatWasNotConfirmedPurgesAll) {
  start();
  sink.plain_set("row:2", {});
  const FakeSink::Data replica = sink.data;
  write(2);
  run(5s);
  ASSERT_TRUE(is_acknowledged());
  FakeSink::restore(sink.data, replica);
  run(5s);
  EXPECT_FALSE(is_cached("row:2"));
  EXPECT_THAT(said, Contains(HasSubstr("redis_rollback")));
}

// What was confirmed before the connection broke, and told to nobody, is asked about once more.
TEST_F(Replicas, AConnectionThatBreaksWhileTheyAreAwaitedDelaysNothingForLong) {
  start();
  sink.lacks_replicas = true;
  write(1);
  run(3s);
  sink.cut(0);
  run(1s);
  sink.lacks_replicas = false;
  run(1s);
  EXPECT_TRUE(is_acknowledged());
}

TEST_F(Replicas, AStopDoesNotWaitForThemForEver) {
  start();
  sink.lacks_replicas = true;
  write(1);
  run(3s);
  flow->stop(now);
  run(1s);
  EXPECT_FALSE(flow->finished());
  run(3s);
  EXPECT_TRUE(flow->finished());
  EXPECT_FALSE(is_acknowledged());
}

// The cache is true, and only its replicas are away: age is no reason to purge it.
TEST_F(Replicas, ACacheWithoutThemIsParkedForItsWalAlone) {
  start({5s, 1000, true});
  sink.lacks_replicas = true;
  write(1);
  run(20s);
  EXPECT_FALSE(flow->status().lanes[0].is_parked);
  EXPECT_EQ(purges(), 0u);
  source.foreign_bytes = 2000;
  write(2);
  run(5s);
  EXPECT_THAT(said, Contains(HasSubstr("parked")));
}

}  // namespace
}  // namespace evictd::testing
