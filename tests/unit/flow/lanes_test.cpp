// Several caches: what becomes of one that is away, and what the others have of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "tests/support/flow_run.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Lanes : public ::testing::Test, protected FlowWorld {
 protected:
  Lanes() : a_(5s), b_(5s) {}
  void start(ParkAfter park_after, const FlowOptions& options = {}) {
    const LaneSpec a{"a", &a_, {}, park_after, 5s}, b{"b", &b_, {}, park_after, 5s};
    FlowWorld::start("- {table: public.rows, keys: ['row:{id}'], tags: ['group:{grp}'], settle: 1s}\n", {a, b}, options);
    run(3s);
    ASSERT_THAT(flow->status().not_ready, ElementsAre());
  }
  // A transaction that changes nothing anybody asks about.
  void write_nothing() { database.make_visible(database.commit({}, false, now.system).xid, now.steady); }
  // It is away, and more is written than is held for it.
  void b_falls_behind() {
    b_.server_up = false;
    for (int i = 0; !status(1).is_behind && i < 1000; ++i) {
      write(i % 12);
      run(10ms);
    }
    ASSERT_TRUE(status(1).is_behind);
  }

  FakeSink a_;
  FakeSink b_;
};

TEST_F(Lanes, TheLagOfAParkedCacheGoesOnUntilItIsPurged) {
  start({10s, {}, true});
  b_.server_up = false;
  run(1s);
  write(1);
  run(12s);
  ASSERT_TRUE(status(1).is_parked);
  EXPECT_GE(status(1).lag, 11s) << "what it missed is dropped, and not applied";
  EXPECT_EQ(status(0).lag, 0us);
  run(20s);
  EXPECT_GE(status(1).lag, 31s);
  EXPECT_GE(source.confirmed(), database.log_end()) << "it holds the database up no longer";
  EXPECT_THAT(flow->status().not_ready, Contains(StartsWith("cache 'b': b is parked")));
  b_.server_up = true;
  for (int i = 0; i < 1000 && !status(1).gaps.contains("parked"); ++i) run(10ms);
  ASSERT_TRUE(status(1).gaps.contains("parked"));
  EXPECT_GT(status(1).lag, 31s) << "not purged yet";
  run(10s);
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
  EXPECT_EQ(status(1).lag, 0us);
  EXPECT_THAT(said, Contains(HasSubstr("cache 'b': repaired: parked")));
}

TEST_F(Lanes, TheLagOfACacheWhoseRecordIsNotKnownIsNotZero) {
  b_.server_up = false;
  auto rules = RuleSet::parse("- {table: public.rows, keys: ['row:{id}']}\n", "rules.yaml");
  ASSERT_TRUE(rules.has_value());
  LaneSpec a{"a", &a_, {}, {}, 5s};
  LaneSpec b{"b", &b_, {}, {}, 5s};
  flow = std::make_unique<Flow>(std::move(*rules), source, std::vector{a, b}, observer, FlowOptions{});
  flow->start(now);
  run(10s);
  EXPECT_EQ(status(0).lag, 0us);
  EXPECT_GE(status(1).lag, 9s) << "nobody knows what it lacks";
  b_.server_up = true;
  run(3s);
  EXPECT_EQ(status(1).lag, 0us);
}

// As after a start, when all of a backlog is found to be visible.
TEST_F(Lanes, WhatChangesNowDoesNotWaitForSettlesThatAreDueAtOnce) {
  start({});
  std::vector<Xid> backlog;
  for (int i = 0; i < 300; ++i) {
    backlog.push_back(database.commit({i % 12}, false, now.system).xid);
    run(10ms);
  }
  for (const Xid xid : backlog) database.make_visible(xid, now.steady);
  const std::uint64_t before = a_.applied_orders();
  while (a_.applied_orders() < before + 20) run(10ms);  // the first of some hundreds
  for (int i = 0; i < 10; ++i) {
    const Xid xid = write(i);
    run(80ms);
    EXPECT_TRUE(a_.data.applied.contains({xid, "row:" + std::to_string(i)})) << i;
  }
  EXPECT_LT(source.confirmed(), database.log_end()) << "the settles were over by then";
  run(10s);
  EXPECT_TRUE(is_acknowledged());
}

// Nor may more changes than the cache can take keep the settles of earlier ones waiting.
TEST_F(Lanes, SettlesDoNotWaitForAllThatChangesNow) {  // G4
  FlowOptions options;
  options.batch_items_max = 1;
  start({}, options);
  write(0);
  run(50ms);
  const SteadyTime written = now.steady;
  for (int turn = 0; turn < 300; ++turn) {
    for (int i = 0; i < 8; ++i) write(1 + (turn + i) % 11);
    run(10ms);
  }
  const Logged& last = database.log().back();
  EXPECT_FALSE(a_.data.applied.contains({last.xid, "row:" + std::to_string(last.rows[0])})) << "it kept up: nothing had to wait";
  EXPECT_GE(a_.data.last_delete["row:0"], written + 900ms);
  EXPECT_LE(a_.data.last_delete["row:0"], written + 2500ms);
}

// Thousands of them at once would hold the others up (G9).
TEST_F(Lanes, WhatACacheFallsBehindWithIsGivenUpAPieceAtATime) {
  FlowOptions options;
  options.held_bytes_max = 16 * 1024;
  options.given_up_per_step = 2;
  start({}, options);
  ASSERT_NO_FATAL_FAILURE(b_falls_behind());
  std::uint64_t held = status(1).held_bytes;
  EXPECT_GT(held, options.held_bytes_max / 2);
  b_.server_up = true;
  int steps = 0;
  for (; status(1).held_bytes > 0 && steps < 1000; ++steps) {
    EXPECT_LE(held - std::min(held, status(1).held_bytes), options.held_bytes_max / 4) << "in one step";
    held = status(1).held_bytes;
    run(10ms);
  }
  EXPECT_GT(steps, 5);
  run(10s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_TRUE(b_.data.applied.contains({database.log().back().xid, "row:" + std::to_string(database.log().back().rows[0])}));
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// However long its turn takes to come.
TEST_F(Lanes, WhatIsFoundForWhatACacheHasYetToGiveUpIsNotTakenForDone) {  // G1
  FlowOptions options;
  options.held_bytes_max = 32 * 1024;
  options.given_up_per_step = 0;
  const LaneSpec a{"a", &a_, {}, {}, 5s}, b{"b", &b_, {}, {}, 5s};
  FlowWorld::start("- {table: public.rows, keys: ['row:{id}'], settle: 10ms}\n"
                   "- {table: public.rows, via: {team: {table: public.teams, match: {id: grp}}}, keys: ['page:{team.name}'], settle: 10ms}\n",
                   {a, b}, options);
  run(3s);
  source.lookup_delay_steps = 30;
  ASSERT_NO_FATAL_FAILURE(b_falls_behind());
  const std::uint64_t end = database.log_end();
  b_.server_up = true;
  run(20s);
  EXPECT_LT(source.confirmed(), end - 100) << "the lookups of the last ten transactions at least were under way";
}

// Its walks take longer than the stream takes to fill the lane: given up with all the rest at each redelivery, they would never
// come to an end, and the database would be held up for ever.
TEST_F(Lanes, ACacheThatFallsBehindInTheMiddleOfAWalkGetsFurther) {
  FlowOptions options;
  options.held_bytes_max = 6 * 1024;
  options.batch_items_max = 4;
  start({}, options);
  b_.server_up = false;
  run(1s);
  std::vector<int> all(12);
  std::iota(all.begin(), all.end(), 0);
  database.make_visible(database.commit(all, true, now.system).xid, now.steady);
  const std::uint64_t walked = database.log_end();
  for (int i = 0; i < 200; ++i) write(i % 12);
  run(5s);
  b_.server_up = true;
  b_.steps_per_turn = 60;
  b_.orders_per_turn = b_.room = 64;
  run(60s);
  EXPECT_GT(source.confirmed(), walked) << "it begins the same walks again and again";
  b_.steps_per_turn = 1;
  run(30s);
  EXPECT_GE(source.confirmed(), database.log_end());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// One that is full may make room in a moment, and the others wait that long; one that is away will not.
TEST_F(Lanes, NoneWaitsForOneThatIsAwayWhenThatIsFull) {  // G9
  FlowOptions options;
  options.held_bytes_max = 256 * 1024;
  start({}, options);
  b_.server_up = false;
  run(100ms);
  std::vector<Xid> written;
  for (int i = 0; i < 800; ++i) {
    written.push_back(write(i % 12));
    run(10ms);
    if (i < 5) continue;
    const int row = (i - 5) % 12;
    ASSERT_TRUE(a_.data.applied.contains({written[static_cast<std::size_t>(i - 5)], "row:" + std::to_string(row)})) << i;
  }
  EXPECT_TRUE(status(1).is_behind);
}

// What it asked for is given up with the rest, which does not make it done.
TEST_F(Lanes, ACacheThatFellBehindIsSentAgainWhatAskedForAPurge) {  // G1
  FlowOptions options;
  options.held_bytes_max = 6 * 1024;
  start({}, options);
  for (int i = 0; i < 4; ++i) write(i);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  const std::optional<SystemTime> last_applied = status(1).last_applied_commit;
  b_.server_up = false;
  run(100ms);
  b_.plain_set("row:7", {});
  const Xid truncate = database.commit({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, true, now.system).xid;
  database.make_visible(truncate, now.steady);
  run(100ms);
  for (int i = 0; i < 200; ++i) {
    write(i % 4);
    run(20ms);
  }
  ASSERT_TRUE(status(1).is_behind);
  EXPECT_EQ(status(1).last_applied_commit, last_applied);
  b_.server_up = true;
  run(20s);
  EXPECT_FALSE(b_.data.cache.contains("row:7")) << "stale for ever";
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// It stays connected for as long as its timeout is: that alone does not make it one that can be followed again.
TEST_F(Lanes, AParkedCacheThatStandsStillIsNotTakenBackBeforeItAnswers) {
  start({10s, {}, true});
  b_.frozen = true;
  write(1);
  run(20s);
  ASSERT_TRUE(status(1).is_connected);
  ASSERT_TRUE(status(1).is_parked);
  EXPECT_GE(source.confirmed(), database.log_end());
  EXPECT_THAT(status(1).gaps, ElementsAre());
  b_.frozen = false;
  run(10s);
  EXPECT_FALSE(status(1).is_parked);
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// What there was nothing to do for is finished before its record is known, and nobody tells of it a second time.
TEST_F(Lanes, ACacheThatComesLateHoldsNothingUpThatIsNoConcernOfIt) {
  source.sends_keepalives = false;
  start({10s, {}, true});
  b_.server_up = false;
  run(3s);
  source.restart(now);
  run(1s);
  ASSERT_TRUE(source.connected());
  write_nothing();
  run(1s);
  ASSERT_FALSE(is_acknowledged());
  b_.server_up = true;
  run(5s);
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
  EXPECT_TRUE(is_acknowledged());
}

// What it missed and nobody had acknowledged yet is answered for by its purge, also where nothing more is ever written.
TEST_F(Lanes, AParkedCacheThatReturnsHoldsNothingUpThatItMissed) {
  start({10s, {}, true});
  b_.server_up = false;
  write(1);
  run(20s);
  ASSERT_TRUE(status(1).is_parked);
  source.sends_keepalives = false;
  a_.frozen = true;
  write(2);
  run(1s);
  ASSERT_FALSE(is_acknowledged());
  b_.server_up = true;
  run(2s);
  ASSERT_FALSE(status(1).is_parked);
  a_.frozen = false;
  run(20s);
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
  EXPECT_TRUE(is_acknowledged());
}

// Nobody reads its record while it is parked: without writing one of its own again, it would hold the database up for ever, and
// nothing would tell.
class ParkedWhileTheSourceConnectsAnew : public Lanes, public ::testing::WithParamInterface<bool> {};

TEST_P(ParkedWhileTheSourceConnectsAnew, IsOnRecordAgainWhenItIsBack) {
  const bool is_away = GetParam();
  bool& state = is_away ? b_.server_up : b_.frozen;
  start({10s, {}, true});
  state = !is_away;
  write(1);
  run(20s);
  ASSERT_TRUE(status(1).is_parked);
  source.restart(now);
  run(2s);
  ASSERT_TRUE(source.connected());
  state = is_away;
  run(10s);
  ASSERT_FALSE(status(1).is_parked);
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
  write(2);
  run(10s);
  EXPECT_TRUE(is_acknowledged());
}

INSTANTIATE_TEST_SUITE_P(AwayOrFrozen, ParkedWhileTheSourceConnectsAnew, ::testing::Bool());

// While the records of other caches are still awaited.
TEST_F(Lanes, ACacheThatIsSetBackAfterItWasJudgedIsJudgedAgain) {  // G6
  start({});
  write(1);
  run(3s);
  const FakeSink::Data older = a_.data;
  for (int i = 0; i < 5; ++i) write(2);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  b_.frozen = true;
  source.restart(now);
  run(200ms);
  ASSERT_FALSE(source.connected()) << "b's record is not known yet";
  FakeSink::restore(a_.data, older);
  a_.plain_set("row:2", {});
  run(200ms);
  b_.frozen = false;
  run(10s);
  EXPECT_FALSE(a_.data.cache.contains("row:2")) << "stale for ever, and ready";
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// The server may have been set back, and gives positions away again: what comes while the cache is away must not pass for done.
TEST_F(Lanes, ACacheThatIsAwayWhenTheDatabaseRestartsKnowsNothingFromBeforeEither) {  // G5
  start({});
  a_.lacks_replicas = true;  // so nothing is acknowledged, and all of it comes again
  write(1);
  run(5s);
  ASSERT_FALSE(is_acknowledged());
  b_.plain_set("row:1", {});
  source.server_up = b_.server_up = false;
  run(1s);
  source.instance = "restarted";
  source.server_up = true;
  run(1s);
  ASSERT_TRUE(source.connected());
  a_.lacks_replicas = false;
  b_.server_up = true;
  run(10s);
  EXPECT_FALSE(b_.data.cache.contains("row:1"));
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// The log that the slot keeps is kept for the one that is away.
TEST_F(Lanes, ACacheThatWorksIsNotParkedForWhatIsKeptForAnother) {
  start({{}, 1000, true});
  b_.server_up = false;
  write(1);
  run(3s);
  ASSERT_FALSE(status(1).is_parked);
  source.foreign_bytes = 2000;
  for (int i = 0; i < 50; ++i) {
    write(i % 12);
    run(10ms);
  }
  run(1s);
  EXPECT_TRUE(status(1).is_parked);
  EXPECT_FALSE(status(0).is_parked);
}

TEST_F(Lanes, IsParkedBeforeTheSlotIsLost) {
  start({{}, {}, true});
  source.retained_bytes = 800 * 1000;
  source.safe_bytes = 200 * 1000;  // less than a quarter is left
  write(1);
  run(3s);
  EXPECT_FALSE(status(0).is_parked) << "both work: parking them would free nothing";
  EXPECT_FALSE(status(1).is_parked);
  b_.server_up = false;
  source.safe_bytes = 700 * 1000;
  source.retained_bytes = 300 * 1000;
  write(1);
  run(3s);
  EXPECT_FALSE(status(1).is_parked) << "however small the limit is, there is time";
  source.safe_bytes = 200 * 1000;
  source.retained_bytes = 800 * 1000;
  run(1s);
  EXPECT_TRUE(status(1).is_parked);
  EXPECT_FALSE(status(0).is_parked);
}

TEST_F(Lanes, WhatIsSaidOfACacheNamesIt) {
  start({10s, {}, true});
  b_.server_up = false;
  run(1s);
  EXPECT_THAT(said, Contains("cache 'a': a connected"));
  EXPECT_THAT(said, Contains(StartsWith("cache 'b': ")));
  EXPECT_THAT(flow->status().not_ready, ElementsAre("cache 'b': b is not connected"));
}

// What a restarted server had to send again came in the connection before: nothing of it is awaited in the next one.
TEST_F(Lanes, OneThatIsAwayExpectsNothingOfAnEarlierConnection) {
  start({});
  write(1);
  run(300ms);  // applied, and on record; its settle is still owed
  ASSERT_FALSE(is_acknowledged());
  source.server_up = false;
  run(100ms);
  source.instance = "restarted";
  source.server_up = true;
  run(5s);
  ASSERT_TRUE(is_acknowledged());
  b_.server_up = false;
  run(100ms);
  source.server_up = false;
  run(100ms);
  source.server_up = true;
  run(1s);
  write(2);
  run(3s);
  b_.server_up = true;
  run(5s);
  EXPECT_THAT(said, Not(Contains(HasSubstr("gap in the change stream"))));
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// What the connection sent while it was away came after the facts of that connection.
TEST_F(Lanes, OneThatIsAwayWhileTheSourceConnectsAnewHasMissedNothingWhenItIsBack) {  // G6
  start({});
  write(1);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  b_.server_up = false;
  run(100ms);
  source.restart(now);
  run(1s);
  ASSERT_TRUE(source.connected());
  for (int i = 0; i < 5; ++i) write_nothing();
  run(1s);
  b_.plain_set("row:2", {});
  b_.server_up = true;
  run(5s);
  EXPECT_THAT(said, Not(Contains(HasSubstr("gap in the change stream"))));
  EXPECT_TRUE(b_.data.cache.contains("row:2")) << "purged for nothing";
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// Nor is it forgotten: the next connection is to a server that must have all of it.
TEST_F(Lanes, OneThatIsAwayKnowsWhatAServerHadThatWasSetBackMeanwhile) {  // G6
  start({});
  write(1);
  run(3s);
  b_.server_up = false;
  run(100ms);
  source.restart(now);
  run(1s);
  const std::uint64_t end = database.log_end();
  for (int i = 0; i < 5; ++i) write_nothing();
  run(1s);
  database.set_back_to(end);
  source.restart(now);
  run(1s);
  b_.server_up = true;
  run(5s);
  EXPECT_THAT(said, Contains(HasSubstr("cache 'b': gap in the change stream (epoch_changed): the server's log ends at")));
}

// What came under the rules in between was mapped by them, and counts as done.
TEST_F(Lanes, RulesThatWereOthersWhileItWasAwayArePurgedForWhenItIsBack) {  // G6
  constexpr const char* kRows = "- {table: public.rows, keys: ['row:{id}']}\n";
  const LaneSpec a{"a", &a_, {}, {}, 5s}, b{"b", &b_, {}, {}, 5s};
  FlowWorld::start(kRows, {a, b});
  run(3s);
  ASSERT_THAT(flow->status().not_ready, ElementsAre());
  b_.server_up = false;
  run(100ms);
  source.restart(now);
  run(1s);
  ASSERT_TRUE(source.connected());
  flow->reload(rules_of("- {table: public.other, keys: ['other:{id}']}\n"), now);
  run(1s);
  a_.plain_set("row:1", {});
  b_.plain_set("row:1", {});
  write(1);
  run(1s);
  flow->reload(rules_of(kRows), now);
  run(1s);
  b_.server_up = true;
  run(10s);
  EXPECT_FALSE(a_.data.cache.contains("row:1"));
  EXPECT_FALSE(b_.data.cache.contains("row:1")) << "stale for ever, and ready";
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
  EXPECT_TRUE(is_acknowledged());
}

// By servers that came back with each other's disks, each record is one that this process wrote last, but for another cache.
TEST_F(Lanes, CachesThatComeBackWithEachOthersDataArePurged) {  // G6
  const LaneSpec a{"a", &a_, {}, {}, 5s}, b{"b", &b_, {}, {}, 5s};
  FlowWorld::start("- {table: public.rows, keys: ['row:{id}'], caches: [a]}\n- {table: public.rows, keys: ['other:{id}'], caches: [b]}\n", {a, b});
  run(3s);
  b_.plain_set("row:1", {});
  write(1);
  run(3s);
  ASSERT_EQ(a_.data.record->sequence, b_.data.record->sequence) << "else the number tells";
  const FakeSink::Data of_a = a_.data;
  FakeSink::restore(a_.data, b_.data);
  FakeSink::restore(b_.data, of_a);
  run(10s);
  EXPECT_FALSE(a_.data.cache.contains("row:1")) << "stale for ever, and ready";
  EXPECT_THAT(said, Contains(HasSubstr("cache 'a': gap (redis_rollback)")));
  EXPECT_THAT(said, Contains(HasSubstr("cache 'b': gap (redis_rollback)")));
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// One that stands behind another, and a third one.
class OneBehindAnother : public ::testing::Test, protected FlowWorld {
 protected:
  OneBehindAnother() : a_(5s), b_(5s), c_(5s) {}
  void start(const std::string& rules) {
    LaneSpec a{"a", &a_, {}, {}, 5s}, b{"b", &b_, {}, {}, 5s}, c{"c", &c_, {}, {}, 5s};
    b.after = {"a"};
    FlowOptions options;
    options.held_bytes_max = 8 * 1024;
    FlowWorld::start(rules, {a, b, c}, options);
    run(3s);
    ASSERT_THAT(flow->status().not_ready, ElementsAre());
  }
  void restart_the_source() {
    source.restart(now);
    run(10ms);
    while (!source.connected()) run(10ms);
  }
  bool until(const std::function<bool()>& holds) {
    for (int i = 0; i < 1000 && !holds(); ++i) run(10ms);
    return holds();
  }

  FakeSink a_;
  FakeSink b_;
  FakeSink c_;
};

// Its second delete is due before the cache before it has even applied the change again.
TEST_F(OneBehindAnother, WaitsForItAgainAfterARestart) {
  start("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n"
        "- {table: public.rows, keys: ['card:{id}'], fill: checked, caches: [a]}\n");
  const Xid hanging = database.commit({1}, false, now.system).xid;
  run(300ms);
  ASSERT_TRUE(b_.data.last_delete.contains("row:1"));
  restart_the_source();
  a_.orders_per_turn = 1;
  a_.frozen = true;  // checked rules are applied again there
  const SteadyTime frozen_at = now.steady;
  run(100ms);
  database.make_visible(hanging, now.steady);
  run(2s);
  EXPECT_LT(b_.data.last_delete.at("row:1"), frozen_at);
  a_.frozen = false;
  run(3s);
  EXPECT_GT(b_.data.last_delete.at("row:1"), frozen_at + 2s) << "again, beside a's";
  EXPECT_TRUE(is_acknowledged());
}

// What the one before had no room for, nobody there tells of.
TEST_F(OneBehindAnother, WaitsForNothingThatTheOneBeforeNeverTook) {
  start("- {table: public.rows, keys: ['row:{id}'], settle: 1s, where: {id: 1}, caches: [b, c]}\n"
        "- {table: public.rows, keys: ['card:{id}'], fill: checked, caches: [a]}\n");
  const Xid hanging = database.commit({2}, false, now.system).xid;
  run(100ms);
  for (int i = 0; i < 100; ++i) {
    write(3);
    run(10ms);
  }
  write(1);
  run(300ms);
  ASSERT_TRUE(b_.data.last_delete.contains("row:1"));
  restart_the_source();
  a_.frozen = true;
  ASSERT_TRUE(until([this] { return status(0).is_behind; }));
  run(3s);
  ASSERT_FALSE(status(1).is_behind);
  a_.frozen = false;
  run(10s);
  database.make_visible(hanging, now.steady);
  run(5s);
  EXPECT_TRUE(is_acknowledged());
}

// It has nothing to wait for, but the walks it shares with others might.
TEST_F(OneBehindAnother, DoesNotWaitWithTheWalksOfWhatItHasGivenUp) {
  start("- {table: public.rows, keys: ['row:{id}'], settle: 1s, where: {id: 99}, caches: [b]}\n"
        "- {table: public.rows, keys: ['card:{id}'], settle: 1s, caches: [a, c]}\n");
  const Xid hanging = database.commit({2}, true, now.system).xid;
  run(200ms);
  ASSERT_TRUE(b_.data.last_delete.contains("row:*"));
  a_.frozen = true;
  for (int i = 0; i < 100; ++i) {
    write(3);
    run(10ms);
  }
  ASSERT_TRUE(until([this] { return status(0).is_behind; }));
  ASSERT_FALSE(status(1).is_behind);
  database.make_visible(hanging, now.steady);
  run(3s);
  a_.frozen = false;
  run(10s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// The source waits until the gap is on record, and nobody else would write it.
TEST_F(OneBehindAnother, PutsThePurgeThatFollowsTheOthersOnRecordWhileTheSourceConnects) {  // G6
  start("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n");
  write(1);
  run(3s);
  const FakeSink::Data older = a_.data;
  for (int i = 0; i < 5; ++i) write(2);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  FakeSink::restore(a_.data, older);
  ASSERT_TRUE(until([this] { return status(0).gaps.contains("redis_rollback"); }));
  run(200ms);
  c_.frozen = true;
  source.restart(now);
  ASSERT_TRUE(until([this] { return status(1).gaps.contains("after_a"); }));
  ASSERT_FALSE(source.connected()) << "c's record is not known yet";
  c_.frozen = false;
  run(10s);
  EXPECT_TRUE(source.connected());
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

constexpr const char* kAnnouncing = "- {table: public.rows, keys: ['row:{id}'], announce: news}\n";

// What a cache does not serve ends nothing for the others (G9).
TEST_F(Lanes, ACacheThatCannotServeTheRulesIsAwayAndTheOthersAreFollowed) {
  b_.is_cluster = true;
  FlowWorld::start(kAnnouncing, {{"a", &a_, {}, {}, 5s}, {"b", &b_, {}, {}, 5s}});
  run(3s);
  ASSERT_FALSE(flow->failure());
  EXPECT_TRUE(status(0).is_connected);
  EXPECT_FALSE(status(1).is_connected);
  a_.plain_set("row:1", {});
  write(1);
  run(1s);
  EXPECT_FALSE(a_.data.cache.contains("row:1"));
  flow->reload(rules_of("- {table: public.rows, keys: ['row:{id}']}\n"), now);
  run(3s);
  EXPECT_TRUE(status(1).is_connected);
  b_.plain_set("row:1", {});
  write(1);
  run(3s);
  EXPECT_FALSE(b_.data.cache.contains("row:1"));
  EXPECT_THAT(flow->status().not_ready, ElementsAre());
}

// It came back as another kind of server: the rules were fine when they were taken.
TEST_F(Lanes, ACacheThatCanNoLongerServeTheRulesIsAwayAndTheOthersAreFollowed) {
  FlowWorld::start(kAnnouncing, {{"a", &a_, {}, {}, 5s}, {"b", &b_, {}, {}, 5s}});
  run(3s);
  ASSERT_TRUE(status(1).is_connected);
  b_.is_cluster = true;
  run(1s);
  ASSERT_FALSE(flow->failure());
  EXPECT_FALSE(status(1).is_connected);
  a_.plain_set("row:1", {});
  write(1);
  run(1s);
  EXPECT_FALSE(a_.data.cache.contains("row:1"));
}

TEST_F(Lanes, WhereNoCacheCanServeTheRulesTheStartFails) {
  a_.is_cluster = b_.is_cluster = true;
  FlowWorld::start(kAnnouncing, {{"a", &a_, {}, {}, 5s}, {"b", &b_, {}, {}, 5s}});
  run(1s);
  ASSERT_TRUE(flow->failure());
  EXPECT_EQ(flow->failure()->kind, ErrorKind::kUsage);
  EXPECT_EQ(flow->failure()->text, "rules.yaml:1:3: cache 'a': a rule has 'announce', and this cache is a cluster");
}

TEST_F(Lanes, OnlyRulesThatActOnACacheAreRefusedByIt) {
  b_.is_cluster = true;
  start({});
  EXPECT_FALSE(flow->refusal(rules_of("- {table: public.rows, keys: ['row:{id}'], announce: news, caches: [a]}\n")));
  const auto refusal = flow->refusal(rules_of(std::string("- {table: public.rows, keys: ['r:{id}']}\n") + kAnnouncing));
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->text, "rules.yaml:2:3: cache 'b': a rule has 'announce', and this cache is a cluster");
}

}  // namespace
}  // namespace evictd::testing
