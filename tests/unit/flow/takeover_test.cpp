// Two daemons on one slot and one Redis: who may write the record, and what the second one works from when it takes
// over.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/flow/flow.h"
#include "tests/support/fake_database.h"
#include "tests/support/fake_sink.h"
#include "tests/support/fake_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

constexpr const char* kRules = "- {table: public.rows, keys: ['row:{id}']}\n";

class TakeOver : public ::testing::Test {
 protected:
  struct Daemon {
    std::unique_ptr<FakeSink> sink;
    std::unique_ptr<FakeSource> source;
    std::unique_ptr<Flow> flow;
    std::string said;
  };

  std::unique_ptr<Daemon> start() {
    auto daemon = std::make_unique<Daemon>();
    FlowOptions options;
    options.writer = "daemon-" + std::to_string(++started);
    daemon->sink = std::make_unique<FakeSink>(60s, redis);
    daemon->source = std::make_unique<FakeSource>(database, slot);
    daemon->flow = std::make_unique<Flow>(*RuleSet::parse(rules, "rules.yaml"), *daemon->source, one_cache(*daemon->sink), observer, options);
    daemon->flow->start(now);
    return daemon;
  }
  void turn(Daemon& daemon) {
    daemon.flow->step(now);
    for (const FlowEvent& event : daemon.flow->take_events()) daemon.said += event.text + "\n";
  }
  // Time goes on and everybody named turns, until the condition holds.
  void until(std::initializer_list<Daemon*> daemons, const std::function<bool()>& condition) {
    for (int i = 0; i < 2000 && !condition(); ++i) {
      now.steady += 10ms;
      now.system += 10ms;
      for (Daemon* daemon : daemons) turn(*daemon);
    }
    ASSERT_TRUE(condition());
  }
  static bool is_ready(const Daemon& daemon) { return daemon.flow->status().not_ready.empty(); }
  static bool stands_by(const Daemon& daemon) { return daemon.said.find("standby") != std::string::npos; }
  void commit(int row) {
    database.make_visible(database.commit({row}, false, now.system).xid, now.steady);
  }
  bool all_acknowledged() const { return slot->confirmed >= database.log_end(); }

  FakeDatabase database{4};
  std::shared_ptr<FakeSlot> slot = std::make_shared<FakeSlot>();
  std::shared_ptr<FakeSink::Data> redis = std::make_shared<FakeSink::Data>();
  NullObserver observer;
  int started = 0;
  std::string rules = kRules;
  Now now{SteadyTime(1h), SystemTime(1h)};
};

TEST_F(TakeOver, AGapThatTheFirstLeftUnrepairedIsRepairedByTheSecond) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  auto second = start();
  until({first.get(), second.get()}, [&] { return stands_by(*second); });

  // Lost together with a commit; the first one gets as far as putting that on record.
  commit(1);
  redis->cache["row:1"] = {{}, false};
  slot->lost = true;
  until({first.get()}, [&] { return redis->record->gaps.contains("slot_lost"); });
  first->sink->frozen = true;  // nothing of the repair is applied
  until({first.get()}, [&] { return !slot->lost; });
  first.reset();
  ASSERT_TRUE(redis->cache.contains("row:1"));

  until({second.get()}, [&] { return is_ready(*second); });
  EXPECT_FALSE(redis->cache.contains("row:1"));
  until({second.get()}, [&] { return redis->record->gaps.empty(); });
  EXPECT_NE(second->said.find("a gap was not repaired by whoever held the source before: slot_lost"),
            std::string::npos)
      << second->said;
}

// Evictions that the first did not see are the second's; those that are over and repaired are nobody's any more.
TEST_F(TakeOver, EvictionsThatGoOnAreOnRecordOfWhoeverTakesOver) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  auto second = start();
  until({first.get(), second.get()}, [&] { return stands_by(*second); });
  second->sink->loses_keys = true;
  for (int i = 0; i < 100; ++i) turn(*second);
  commit(1);  // the record is another then than the one that the second has read
  until({first.get(), second.get()}, [&] { return all_acknowledged(); });
  first.reset();
  until({second.get()}, [&] { return redis->record->gaps.contains("redis_evicted"); });
  EXPECT_EQ(redis->unconditional_walks, 0u);
  second->sink->loses_keys = false;
  until({second.get()}, [&] { return is_ready(*second) && redis->record->gaps.empty(); });
  EXPECT_GT(redis->unconditional_walks, 0u);
}

TEST_F(TakeOver, EvictionsThatTheFirstRepairedAreNotRepairedAgain) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  auto second = start();
  until({first.get(), second.get()}, [&] { return stands_by(*second); });
  for (const bool are_lost : {true, false}) {
    first->sink->loses_keys = second->sink->loses_keys = are_lost;
    until({first.get(), second.get()}, [&] { return redis->record->gaps.contains("redis_evicted") == are_lost; });
  }
  const auto walks = redis->unconditional_walks;
  EXPECT_GT(walks, 0u);
  first.reset();
  until({second.get()}, [&] { return is_ready(*second); });
  EXPECT_EQ(redis->unconditional_walks, walks) << second->said;
}

// Whoever may fill late has read this very server: the floor refuses it, and nothing is left for a restart to do once more.
TEST_F(TakeOver, AGapSoonAfterTheFirstStartIsClosedWithItsRepair) {
  rules = "- {table: public.rows, keys: ['row:{id}'], fill: checked}\n";
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  commit(1);
  slot->lost = true;
  until({first.get()}, [&] { return first->said.find("slot_lost") != std::string::npos && !slot->lost; });
  const auto opened = now.steady;
  until({first.get()}, [&] { return is_ready(*first) && redis->record->gaps.empty(); });
  EXPECT_LT(now.steady - opened, 10s);
  first.reset();
  const int walks = redis->unconditional_walks;
  auto second = start();
  until({second.get()}, [&] { return is_ready(*second); });
  EXPECT_EQ(redis->unconditional_walks, walks) << second->said;

  // Another server is met: its predecessor's readers may fill for as long as a tombstone lives.
  second->source->epoch = "1/2";
  slot->lost = true;
  until({second.get()}, [&] { return second->said.find("slot_lost") != std::string::npos && !slot->lost; });
  until({second.get()}, [&] { return is_ready(*second); });
  now.steady += 55s;
  now.system += 55s;
  turn(*second);
  EXPECT_FALSE(redis->record->gaps.empty());
  until({second.get()}, [&] { return redis->record->gaps.empty(); });
}

// A restore of the database, and of Redis with it or FLUSHALL: nobody can tell that the server was another one.
TEST_F(TakeOver, WhereTheRecordIsGoneThereMayBeLateReadersOfAnyServer) {  // G3, G6
  rules = "- {table: public.rows, keys: ['row:{id}'], fill: checked}\n";
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  commit(1);
  until({first.get()}, [&] { return all_acknowledged(); });
  first.reset();
  FakeSink::restore(*redis, {});
  auto second = start();
  until({second.get()}, [&] { return second->said.find("repaired: record_missing") != std::string::npos; });
  until({second.get()}, [&] { return is_ready(*second); });
  now.steady += 55s;
  now.system += 55s;
  turn(*second);
  EXPECT_FALSE(redis->record->gaps.empty());
  until({second.get()}, [&] { return redis->record->gaps.empty(); });
}

// Its own repair of the same name began before the other one's gap, and answers for nothing of it.
TEST_F(TakeOver, AGapOfTheOtherIsRepairedAlsoWhereOneOfThatNameIsUnderRepair) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  const Xid earlier = database.commit({0}, false, now.system).xid;  // hangs, and so does the repair
  slot->lost = true;
  until({first.get()}, [&] { return first->said.find("slot_lost") != std::string::npos && !slot->lost; });
  until({first.get()}, [&] { return redis->unconditional_walks == 1; });
  // It loses the slot in the middle of its repair, and the other one a piece of the stream as well, before it dies.
  slot->holder = nullptr;
  auto second = start();
  until({second.get()}, [&] { return second->source->connected(); });
  slot->lost = true;
  until({second.get()}, [&] { return redis->record->gaps.contains("slot_lost") && !slot->lost; });
  second.reset();
  // A commit that was lost with the slot, and hangs.
  const Xid xid = database.commit({1}, false, now.system).xid;
  slot->confirmed = database.log_end();
  redis->record->acknowledged["wal"] = slot->confirmed;
  until({first.get()}, [&] { return first->source->connected(); });
  database.make_visible(earlier, now.steady);
  for (int i = 0; i < 300; ++i) {
    now.steady += 10ms;
    now.system += 10ms;
    turn(*first);
  }
  EXPECT_FALSE(is_ready(*first)) << "it waits for what hung when the other's gap was found: " << first->said;
  redis->cache["row:1"] = {{}, false};  // by a reader that does not see it yet
  database.make_visible(xid, now.steady);
  until({first.get()}, [&] { return is_ready(*first); });
  EXPECT_FALSE(redis->cache.contains("row:1"));
}

TEST_F(TakeOver, WhatTheFirstAcknowledgedMeanwhileIsNoGap) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  auto second = start();
  until({first.get(), second.get()}, [&] { return stands_by(*second); });
  commit(1);
  until({first.get(), second.get()}, [&] { return all_acknowledged(); });
  first.reset();
  redis->cache["row:2"] = {{}, false};
  until({second.get()}, [&] { return is_ready(*second); });
  EXPECT_EQ(second->said.find("gap"), std::string::npos) << second->said;
  EXPECT_TRUE(redis->cache.contains("row:2"));
}

TEST_F(TakeOver, AStandbyNeverWritesTheRecord) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  commit(1);
  until({first.get()}, [&] { return all_acknowledged(); });
  auto second = start();
  until({second.get()}, [&] { return stands_by(*second); });
  redis->record->source_identity = "of the first";
  const auto begin = now.steady;
  until({second.get()}, [&] { return now.steady - begin > 15s; });
  EXPECT_EQ(redis->record->source_identity, "of the first");
}

// What the cache refused was the record, which is the other one's to write now: a standby that owes nothing lacks nothing.
TEST_F(TakeOver, AStandbyDoesNotWaitForARecordThatWasRefused) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  first->sink->refuses_records = true;
  commit(1);
  const auto says = [&](std::string_view what) {
    const std::vector<std::string> reasons = first->flow->status().not_ready;
    return std::any_of(reasons.begin(), reasons.end(), [&](const std::string& reason) { return reason.find(what) != std::string::npos; });
  };
  until({first.get()}, [&] { return says("no record is taken"); });
  slot->holder = nullptr;
  auto second = start();
  until({second.get()}, [&] { return is_ready(*second); });
  until({first.get(), second.get()}, [&] { return stands_by(*first) && first->sink->connected(); });
  first->sink->refuses_records = false;
  until({first.get(), second.get()}, [&] { return first->flow->status().not_ready.size() == 1; });
  EXPECT_TRUE(says("standby"));
}

TEST_F(TakeOver, ARedisOfEarlierIsTheActiveOnesToRepair) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  auto second = start();
  until({first.get(), second.get()}, [&] { return stands_by(*second); });
  commit(2);
  until({first.get(), second.get()}, [&] { return all_acknowledged(); });
  const FakeSink::Data dump = *redis;
  commit(1);
  until({first.get(), second.get()}, [&] { return all_acknowledged(); });
  FakeSink::restore(*redis, dump);
  redis->cache["row:1"] = {{}, false};
  until({second.get()}, [&] { return second->said.find("redis connected again") != std::string::npos; });
  EXPECT_EQ(second->said.find("redis_rollback"), std::string::npos) << second->said;
  EXPECT_TRUE(redis->cache.contains("row:1"));
  // Nobody was there to see it: the slot is ahead of the record.
  first.reset();
  until({second.get()}, [&] { return is_ready(*second); });
  EXPECT_FALSE(redis->cache.contains("row:1")) << second->said;
}

// A cache of several servers, one of which came back without what is on record.
TEST_F(TakeOver, APartThatIsLostIsPurgedAlone) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  first->sink->walked_parts.clear();
  first->sink->parts_lost = {"0-99"};
  first->sink->cut(0);
  until({first.get()}, [&] { return !first->sink->walked_parts.empty(); });
  first->sink->parts_lost.clear();
  until({first.get()}, [&] { return is_ready(*first) && redis->record->gaps.empty(); });
  EXPECT_NE(first->said.find("a part of the cache has older data than what is on record, or none: 0-99"), std::string::npos) << first->said;
  for (const std::vector<std::string>& parts : first->sink->walked_parts) EXPECT_EQ(parts, std::vector<std::string>{"0-99"});
}

// Found out at the start: on record before the source does anything that cannot be taken back, and purged when it streams.
TEST_F(TakeOver, APartThatWasLostWhileNobodyWatchedIsPurgedAlone) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  commit(1);
  until({first.get()}, [&] { return all_acknowledged(); });  // and a record is there
  first.reset();
  auto second = start();
  second->sink->parts_lost = {"0-99", "7000"};
  until({second.get()}, [&] { return !second->sink->walked_parts.empty(); });
  second->sink->parts_lost.clear();
  until({second.get()}, [&] { return is_ready(*second); });
  for (const std::vector<std::string>& parts : second->sink->walked_parts) EXPECT_EQ(parts, (std::vector<std::string>{"0-99", "7000"})) << second->said;
}

// A death puts a second delete off, since it is counted from the start that follows.
TEST_F(TakeOver, WhatOwesItsSettleThroughTwoDeathsIsDeletedAtOnce) {
  rules = "- {table: public.rows, keys: ['row:{id}'], settle: 50s}\n";
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  commit(1);
  until({daemon.get()}, [&] { return redis->record->applied.contains("wal") && redis->record->applied.at("wal") >= database.log_end(); });
  for (int death = 1; death <= 6; ++death) {
    const std::string writer = redis->record->writer;
    redis->cache["row:1"] = {{}, false};  // of a reader that began before
    daemon.reset();
    daemon = start();
    until({daemon.get()}, [&] { return redis->record->writer != writer && is_ready(*daemon); });
    const SteadyTime soon = now.steady + 1s;
    until({daemon.get()}, [&] { return now.steady >= soon; });
    EXPECT_EQ(redis->cache.contains("row:1"), death % 2 == 1) << death;
  }
  redis->cache["row:1"] = {{}, false};
  for (int i = 0; i < 4; ++i) {
    const SteadyTime end = now.steady + 15s;
    until({daemon.get()}, [&] { return now.steady >= end; });
  }
  EXPECT_FALSE(redis->cache.contains("row:1")) << "nobody died: the settle itself";
  EXPECT_TRUE(all_acknowledged());
  EXPECT_EQ(observer.gaps, 0);
}

TEST_F(TakeOver, ARedisThatComesBackWithItsDataIsNoRollback) {
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  commit(1);
  until({daemon.get()}, [&] { return all_acknowledged(); });
  redis->cache["row:2"] = {{}, false};
  const auto applied = daemon->sink->applied_orders();
  const int connects = daemon->source->connects();
  FakeSink::restore(*redis, FakeSink::Data(*redis));
  until({daemon.get()}, [&] { return daemon->source->connects() > connects && is_ready(*daemon); });
  EXPECT_TRUE(redis->cache.contains("row:2")) << daemon->said;
  EXPECT_EQ(observer.gaps, 0);
  EXPECT_EQ(daemon->sink->applied_orders(), applied) << "nothing was owed";
}

// The reply was lost with the connection, the record was not.
TEST_F(TakeOver, ARecordWhoseReplyNeverCameIsOursAllTheSame) {
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  daemon->sink->frozen = true;
  const auto sequence = redis->record->sequence;
  until({daemon.get()}, [&] { return now.steady - SteadyTime(1h) > 10s; });
  ++redis->record->sequence;  // the next one, sent meanwhile
  FakeSink::restore(*redis, FakeSink::Data(*redis));
  daemon->sink->frozen = false;
  redis->cache["row:2"] = {{}, false};
  until({daemon.get()}, [&] { return is_ready(*daemon) && redis->record->sequence > sequence + 1; });
  EXPECT_TRUE(redis->cache.contains("row:2")) << daemon->said;
  EXPECT_EQ(observer.gaps, 0);
}

TEST_F(TakeOver, AnOlderRecordNoneAndAnothersAreRollbacks) {
  const std::function<void(FakeSink::Data&)> losses[] = {
      [](FakeSink::Data& data) { --data.record->sequence; },
      [](FakeSink::Data& data) { data.record.reset(); },
      [](FakeSink::Data& data) { data.record->writer = "somebody"; },
  };
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  commit(1);
  until({daemon.get()}, [&] { return all_acknowledged(); });
  int gaps = 0;
  for (const auto& loss : losses) {
    FakeSink::Data data(*redis);
    loss(data);
    FakeSink::restore(*redis, data);
    redis->cache["row:2"] = {{}, false};
    until({daemon.get()}, [&] { return observer.gaps > gaps; });
    until({daemon.get()}, [&] { return is_ready(*daemon) && redis->record && redis->record->gaps.empty(); });
    EXPECT_FALSE(redis->cache.contains("row:2")) << daemon->said;
    EXPECT_EQ(observer.gaps, ++gaps);
  }
}

// The source connects anew while the cache is away: whoever knew more than the record says has a cache with older data, also
// where the source can send all that the record lacks.
TEST_F(TakeOver, AnOlderRecordThatIsFoundWhileNobodyHoldsTheSourceIsARollback) {
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  commit(1);
  until({daemon.get()}, [&] { return all_acknowledged(); });
  FakeSink::Data dump = *redis;
  --dump.record->sequence;
  daemon->sink->server_up = false;
  daemon->source->server_up = false;
  until({daemon.get()}, [&] { return !daemon->sink->connected(); });
  for (int i = 0; i < 20; ++i) turn(*daemon);
  daemon->source->server_up = true;
  for (int i = 0; i < 100; ++i) turn(*daemon);
  dump.instance = redis->instance;  // the same process: its data was exchanged
  *redis = dump;
  redis->cache["row:2"] = {{}, false};
  daemon->sink->server_up = true;
  until({daemon.get()}, [&] { return observer.gaps == 1 && is_ready(*daemon); });
  EXPECT_FALSE(redis->cache.contains("row:2")) << daemon->said;
  EXPECT_NE(daemon->said.find("redis_rollback"), std::string::npos) << daemon->said;
}

// The walks that were answered may be undone with the process; the record says that they are owed.
TEST_F(TakeOver, ARepairBeginsAnewWhenRedisComesBackWithTheGapOnRecord) {
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  commit(1);
  slot->lost = true;
  redis->cache["row:1"] = {{}, false};
  until({daemon.get()}, [&] { return redis->record->gaps.contains("slot_lost"); });
  const FakeSink::Data dump = *redis;
  until({daemon.get()}, [&] { return !redis->cache.contains("row:1"); });
  ASSERT_TRUE(redis->record->gaps.contains("slot_lost"));
  // The last record, and not what was purged after the one with the gap.
  FakeSink::Data data = dump;
  data.record = redis->record;
  FakeSink::restore(*redis, data);
  until({daemon.get()}, [&] { return is_ready(*daemon) && redis->record->gaps.empty(); });
  EXPECT_FALSE(redis->cache.contains("row:1")) << daemon->said;
  EXPECT_EQ(observer.gaps, 1);
}

TEST_F(TakeOver, TheRecordComesWithTheConnectionWhenRedisIsAway) {
  auto first = start();
  until({first.get()}, [&] { return is_ready(*first); });
  auto second = start();
  until({first.get(), second.get()}, [&] { return stands_by(*second); });
  second->sink->server_up = false;
  until({second.get()}, [&] { return !second->sink->connected(); });
  commit(1);
  until({first.get()}, [&] { return all_acknowledged(); });
  first.reset();
  for (int i = 0; i < 100; ++i) turn(*second);
  EXPECT_EQ(slot->holder, nullptr) << "decided without the record";
  second->sink->server_up = true;
  until({second.get()}, [&] { return is_ready(*second); });
  EXPECT_EQ(second->said.find("gap"), std::string::npos) << second->said;
}

// A copy of the server's disk is put back: the same system, the same timeline, an older log. What was cached of the part that is
// gone has no event any more.
class SetBack : public TakeOver {
 protected:
  // All is applied, and "row:1" cached from what will not have been.
  void SetUp() override {
    daemon = start();
    until({daemon.get()}, [&] { return is_ready(*daemon); });
    commit(1);
    until({daemon.get()}, [&] { return all_acknowledged(); });
    kept = slot->confirmed;
    for (int i = 0; i < 3; ++i) commit(1);
    until({daemon.get()}, [&] { return all_acknowledged() && redis->record && redis->record->committed["wal"] == kept + 30; });
    redis->cache["row:1"] = {{}, false};
  }
  void set_back(int commits_since) {
    daemon->source->server_up = false;
    until({daemon.get()}, [&] { return !is_ready(*daemon); });
    database.set_back_to(kept);
    slot->confirmed = kept;
    for (int i = 0; i < commits_since; ++i) commit(2);
    daemon->source->instance = "restarted";
    daemon->source->server_up = true;
    until({daemon.get()}, [&] { return is_ready(*daemon) && all_acknowledged(); });
  }

  std::unique_ptr<Daemon> daemon;
  std::uint64_t kept = 0;
};

TEST_F(SetBack, IsFoundByWhereItsLogEnds) {
  set_back(0);
  EXPECT_FALSE(redis->cache.contains("row:1"));
  EXPECT_NE(daemon->said.find("it was set back to an earlier moment"), std::string::npos) << daemon->said;
}

TEST_F(SetBack, IsFoundByATransactionThatDoesNotComeAgainWhenItsLogIsLongerByNow) {
  set_back(5);
  EXPECT_FALSE(redis->cache.contains("row:1"));
  EXPECT_NE(daemon->said.find("once more, got to"), std::string::npos) << daemon->said;
}

TEST_F(SetBack, IsNotTakenForARestartAfterWhichEverythingComesAgain) {
  daemon->source->server_up = false;
  until({daemon.get()}, [&] { return !is_ready(*daemon); });
  slot->confirmed = kept;  // a crashed server remembers an older acknowledgement
  daemon->source->instance = "restarted";
  redis->cache["row:2"] = {{}, false};
  daemon->source->server_up = true;
  until({daemon.get()}, [&] { return is_ready(*daemon) && all_acknowledged(); });
  commit(3);
  until({daemon.get()}, [&] { return all_acknowledged(); });
  EXPECT_EQ(daemon->said.find("gap"), std::string::npos) << daemon->said;
  EXPECT_TRUE(redis->cache.contains("row:2"));
}

// What the server sends again it may have given other transactions to, so what was on record before it restarted proves
// nothing about them (G5): also where the cache restarts before it has anything newer on record.
TEST_F(SetBack, WhatIsOnRecordFromBeforeTheRestartIsNotBelievedWhenTheCacheRestartsAsWell) {
  daemon->source->server_up = false;
  until({daemon.get()}, [&] { return !is_ready(*daemon); });
  slot->confirmed = kept;
  daemon->source->instance = "restarted";
  daemon->source->server_up = true;
  until({daemon.get()}, [&] { return daemon->source->connected(); });
  ASSERT_NE(redis->record->source_instance, "restarted");
  daemon->sink->frozen = true;
  FakeSink::restart(*redis);
  until({daemon.get()}, [&] { return daemon->said.find("redis connected again") != std::string::npos; });
  daemon->sink->frozen = false;
  until({daemon.get()}, [&] { return is_ready(*daemon) && all_acknowledged(); });
  EXPECT_EQ(daemon->said.find("gap"), std::string::npos) << daemon->said;
  EXPECT_FALSE(redis->cache.contains("row:1")) << daemon->said;
}

// A process that ends before anything came again leaves a record of the server as it is now.
class SetBackBeforeATakeOver : public SetBack {
 protected:
  void SetUp() override {
    SetBack::SetUp();
    daemon->source->server_up = false;
    until({daemon.get()}, [&] { return !is_ready(*daemon); });
    slot->confirmed = kept;
    daemon->source->instance = "restarted";
    daemon->source->changes_per_step = 0;
  }
  // Streaming is on record, and nothing has come.
  void stream() {
    daemon->source->server_up = true;
    until({daemon.get()}, [&] { return redis->record->source_instance == "restarted"; });
    ASSERT_TRUE(redis->cache.contains("row:1"));
  }
  void set_back_and_go_on() {
    database.set_back_to(kept);
    for (int i = 0; i < 5; ++i) commit(2);
  }
};

TEST_F(SetBackBeforeATakeOver, LeavesNothingThatTheNextOneTakesForDone) {  // G5
  stream();
  daemon = start();
  daemon->source->instance = "restarted";
  until({daemon.get()}, [&] { return is_ready(*daemon) && all_acknowledged(); });
  EXPECT_EQ(daemon->said.find("gap"), std::string::npos) << daemon->said;
  EXPECT_FALSE(redis->cache.contains("row:1")) << daemon->said;
}

TEST_F(SetBackBeforeATakeOver, IsFoundByTheNextOneAsWell) {  // G6
  set_back_and_go_on();
  stream();
  daemon = start();
  daemon->source->instance = "restarted";
  until({daemon.get()}, [&] { return is_ready(*daemon) && all_acknowledged(); });
  EXPECT_FALSE(redis->cache.contains("row:1"));
  EXPECT_NE(daemon->said.find("once more, got to"), std::string::npos) << daemon->said;
}

TEST_F(SetBackBeforeATakeOver, IsFoundByTheNextConnectionAsWell) {  // G6
  set_back_and_go_on();
  stream();
  const int connects = daemon->source->connects();
  daemon->source->restart(now);
  until({daemon.get()}, [&] { return daemon->source->connects() > connects; });
  daemon->source->changes_per_step = 3;
  until({daemon.get()}, [&] { return is_ready(*daemon) && all_acknowledged(); });
  EXPECT_FALSE(redis->cache.contains("row:1"));
  EXPECT_NE(daemon->said.find("once more, got to"), std::string::npos) << daemon->said;
}

// The purge for a commit that may have been lost while it hung waits until it is visible. In a restored database it
// never will be.
TEST_F(TakeOver, ARepairDoesNotWaitForTransactionsOfAHistoryThatIsOver) {
  auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  const Xid hanging = database.commit({1}, false, now.system).xid;
  slot->lost = true;
  until({daemon.get()}, [&] { return redis->record->gaps.contains("slot_lost"); });
  const SteadyTime begin = now.steady;
  until({daemon.get()}, [&] {
    now.steady += 100ms;
    return is_ready(*daemon) && now.steady - begin > 150s;
  });
  EXPECT_TRUE(redis->record->gaps.contains("slot_lost")) << "not visible yet";

  database.restore_to_before(hanging);
  daemon->source->epoch = "2/1";
  daemon->source->server_up = false;
  turn(*daemon);
  turn(*daemon);
  daemon->source->server_up = true;
  until({daemon.get()}, [&] {
    now.steady += 100ms;
    return is_ready(*daemon) && redis->record->gaps.empty();
  });
}

// The repair of the first loss goes on, and knows nothing of a commit that hangs at the second.
TEST_F(TakeOver, ASlotThatIsLostAgainIsRepairedAgain) {  // G6
  const auto daemon = start();
  until({daemon.get()}, [&] { return is_ready(*daemon); });
  const auto old_row = database.select(1);
  const auto turns = [&](int times) {
    until({daemon.get()}, [&] { return times-- <= 0; });
  };
  slot->lost = true;
  until({daemon.get()}, [&] { return daemon->said.find("purged pattern") != std::string::npos; });
  const Xid hanging = database.commit({1}, false, now.system).xid;
  daemon->source->snapshot_delay_steps = 1000;
  slot->lost = true;
  const int connects = daemon->source->connects();
  until({daemon.get()}, [&] { return daemon->source->connects() > connects; });
  // Its own repair has not begun when both connections are lost.
  daemon->source->server_up = false;
  turns(2);
  daemon->sink->cut(0);
  turns(3);
  daemon->source->server_up = true;
  daemon->source->snapshot_delay_steps = 0;
  turns(200);  // the second walk of the first
  daemon->sink->plain_set("row:1", old_row);
  database.make_visible(hanging, now.steady);
  turns(300);
  EXPECT_FALSE(redis->cache.contains("row:1")) << "stale for ever, and ready\n" << daemon->said;
  EXPECT_TRUE(is_ready(*daemon));
}

}  // namespace
}  // namespace evictd::testing
