// The second purge of a pattern keeps the bound of G4, also where purges of it follow one another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <utility>

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

// Nothing is read while evictd stops, and who waits for its place waits too.
class AStop : public PurgeSettle {
 protected:
  explicit AStop(const char* rules = "- {table: public.rows, keys: ['row:{id}'], settle: 20s}\n") : PurgeSettle(rules) {}
};

TEST_F(AStop, DoesNotWaitForWhatIsDueLaterThanItsEnd) {
  run(100ms);
  write(0);
  run(100ms);
  ASSERT_FALSE(is_acknowledged());
  flow->stop(now, now.steady + 10s);
  run(1s);
  EXPECT_TRUE(flow->finished());
  EXPECT_FALSE(is_acknowledged()) << "its second delete is still owed";
}

TEST_F(AStop, WaitsForWhatIsDueInTime) {
  run(100ms);
  write(0);
  run(12s);
  flow->stop(now, now.steady + 10s);
  run(7s);
  EXPECT_FALSE(flow->finished());
  run(2s);
  EXPECT_TRUE(flow->finished());
  EXPECT_TRUE(is_acknowledged());
}

TEST_F(AStop, WaitsForACommitThatHangs) {
  run(100ms);
  const Xid hung = database.commit({0}, false, now.system).xid;
  run(100ms);
  flow->stop(now, now.steady + 30s);
  run(2s);
  EXPECT_FALSE(flow->finished());
  database.make_visible(hung, now.steady);
  run(21s);
  EXPECT_TRUE(flow->finished());
  EXPECT_TRUE(is_acknowledged());
}

class AStopUnderCheckedFills : public AStop {
 protected:
  AStopUnderCheckedFills() : AStop("- {table: public.rows, purge: ['row:*'], fill: checked}\n") {}
};

TEST_F(AStopUnderCheckedFills, DoesNotWaitForTheSecondWalkOfAPattern) {
  run(100ms);
  write(0);
  run(100ms);
  ASSERT_EQ(observer.walks, 1);
  flow->stop(now, now.steady + 1s);
  run(500ms);
  EXPECT_TRUE(flow->finished());
  EXPECT_FALSE(is_acknowledged());
}

// Two batches share a walk, and the later one hangs when the connection ends. What is begun of the walk is given up with it; the
// other one owes its second walk all the same.
TEST(SharedWalk, OfOneThatHangsKeepsTheSecondOneOfNobodyFromComingAgain) {  // G4
  FlowWorld world;
  FakeSink sink(5s);
  FlowOptions options;
  options.batch_bytes_max = 1;  // each transaction is a batch, sent again too
  world.start("- {table: public.rows, purge: ['list:*'], fill: plain, settle: 1s, purge_every: 2s}\n", one_cache(sink), options);
  world.run(100ms);
  world.source.restart(world.now);  // with nothing in hand: what is finished from here on is known when it is sent again
  world.run(100ms);
  world.write(2);
  world.run(1800ms);
  const auto old_row = world.database.select(0);
  world.write(0);  // waits for `purge_every`
  world.run(20ms);
  world.database.commit({1}, false, world.now.system);  // shares
  world.run(300ms);
  world.source.restart(world.now);
  world.run(400ms);
  sink.plain_set("list:0", old_row);
  world.run(2500ms);
  EXPECT_EQ(sink.data.cache.count("list:0"), 0u) << "its second walk never came";
}

// A walk that was given up was not done: nothing passes for finished by it.
TEST_F(PurgeEvery, OneThatIsHeldIsOwedWhenTheSourceConnectsAnew) {  // G1
  run(100ms);
  for (int i = 0; i < 5; ++i) {
    write(0);
    run(100ms);
  }
  run(12s);
  source.restart(now);  // with nothing in hand: from here on what one connection finishes the next one knows
  run(100ms);
  write(1);
  run(100ms);
  ASSERT_EQ(observer.walks, 2);
  // What is sent again comes late: what was begun before ends before that.
  const std::size_t changes = std::exchange(source.changes_per_step, 0);
  source.restart(now);
  run(2s);
  source.changes_per_step = changes;
  run(100ms);
  sink.plain_set("row:1", {});
  run(12s);
  EXPECT_EQ(sink.data.cache.count("row:1"), 0u) << "stale for ever";
  EXPECT_TRUE(is_acknowledged());
}

class TwoPatterns : public PurgeSettle {
 protected:
  TwoPatterns() : PurgeSettle("- {table: public.rows, purge: ['row:*', 'list:*'], settle: 10s, purge_every: 0s}\n") {}
};

// Its first walk is done, and settles; its second one was given up, and is done for the batch that comes again.
TEST_F(TwoPatterns, AreNotWaitedForOnBehalfOfABatchThatCameAgain) {
  run(100ms);
  sink.steps_per_turn = 20;
  write(0);
  run(250ms);
  ASSERT_EQ(observer.walks, 1);
  source.restart(now);
  run(100ms);
  sink.steps_per_turn = 1;
  run(1s);
  EXPECT_EQ(status().oldest_unapplied_commit, std::nullopt);
  run(12s);
  EXPECT_TRUE(is_acknowledged());
}

// A commit may wait for hours for a standby that has to confirm it; its neighbours are visible meanwhile.
class HangingCommit : public ::testing::Test, protected FlowRun {
 protected:
  explicit HangingCommit(const char* rules = "- {table: public.rows, keys: ['row:{id}'], purge: ['list:*'], fill: plain, settle: 1s}\n")
      : FlowRun(rules) {}

  void commit_two() {
    row = database.select(0);
    hanging = database.commit({1}, false, now.system).xid;
    const Xid visible = database.commit({0}, false, now.system).xid;
    database.make_visible(visible, now.steady);
  }
  void expect_the_visible_one_settles_in_time() {
    run(900ms);
    sink.plain_set("row:0", row);
    sink.plain_set("list:0", row);
    run(300ms);
    EXPECT_EQ(sink.data.cache.count("row:0"), 0u) << "stale for more than settle and a tenth";
    EXPECT_EQ(sink.data.cache.count("list:0"), 0u) << "stale for more than settle and a tenth";
    EXPECT_FALSE(is_acknowledged());
    // And the hanging one, when it is over.
    const auto old_row = database.select(1);
    run(5s);
    database.make_visible(hanging, now.steady);
    run(900ms);
    sink.plain_set("row:1", old_row);
    run(300ms);
    EXPECT_EQ(sink.data.cache.count("row:1"), 0u);
    run(2s);
    EXPECT_TRUE(is_acknowledged());
  }

  std::set<Xid> row;
  Xid hanging{};
};

TEST_F(HangingCommit, KeepsNoneOfItsBatchFromTheirSecondDelete) {  // G4
  run(100ms);
  commit_two();
  expect_the_visible_one_settles_in_time();
}

TEST_F(HangingCommit, KeepsNoneThatComeWithItAgainAfterARestart) {  // G4
  run(100ms);
  commit_two();
  run(20ms);
  source.restart(now);
  run(10ms);
  expect_the_visible_one_settles_in_time();
}

// What the source sends again takes its time to come to them: what was begun before goes on, without the one that hangs.
TEST_F(HangingCommit, KeepsNoneThatSharesAPurgeWithItFromItsSecondWalk) {  // G4
  run(100ms);
  write(5);
  run(500ms);
  row = database.select(0);
  write(0);
  run(20ms);
  hanging = database.commit({1}, false, now.system).xid;
  ASSERT_EQ(observer.walks, 1);
  run(580ms);
  ASSERT_EQ(observer.walks, 2) << "both share the second walk, a second after the first";
  const std::size_t changes = std::exchange(source.changes_per_step, 0);
  source.restart(now);
  run(300ms);
  sink.plain_set("list:0", row);
  run(300ms);
  EXPECT_EQ(sink.data.cache.count("list:0"), 0u) << "stale for more than settle and a tenth";
  source.changes_per_step = changes;
  run(1s);
  EXPECT_FALSE(is_acknowledged());
  database.make_visible(hanging, now.steady);
  run(3s);
  EXPECT_TRUE(is_acknowledged());
}

// Each has its own second delete, `settle` after it became visible and not after the last of them.
TEST_F(HangingCommit, KeepsNoneOfManyThatBecomeVisibleOneByOneFromTheirSecondDelete) {  // G4
  run(100ms);
  database.commit({1}, false, now.system);
  std::vector<Xid> others;
  std::vector<std::set<Xid>> rows;
  for (int other = 2; other < 8; ++other) {
    rows.push_back(database.select(other));
    others.push_back(database.commit({other}, false, now.system).xid);
  }
  run(20ms);
  // One each 300 ms. Its late reader fills 900 ms after that, and is deleted within a further 500: up to 160 until a snapshot is
  // asked for again, a second, and a tenth.
  for (int time = 0; time <= 3000; time += 100) {
    for (int other = 0; other < 6; ++other) {
      const auto index = static_cast<std::size_t>(other);
      const std::string row_key = "row:" + std::to_string(other + 2);
      const std::string list_key = "list:" + std::to_string(other);
      if (time == other * 300) database.make_visible(others[index], now.steady);
      if (time == other * 300 + 900) {
        sink.plain_set(row_key, rows[index]);
        sink.plain_set(list_key, rows[index]);
      }
      if (time == other * 300 + 1400) {
        EXPECT_EQ(sink.data.cache.count(row_key), 0u) << row_key;
        EXPECT_EQ(sink.data.cache.count(list_key), 0u) << list_key;
      }
    }
    run(100ms);
  }
  EXPECT_FALSE(is_acknowledged());
}

// What is done when a change is visible, and not before: counters, and keys that a lookup finds.
class HangingCommitOfWhatWaits : public HangingCommit {
 protected:
  HangingCommitOfWhatWaits()
      : HangingCommit("- {table: public.rows, bump: ['rows:{id}']}\n"
                      "- {table: public.rows, via: {team: {table: public.teams, match: {id: grp}}}, keys: ['page:{team.name}'], settle: 1s}\n") {
    source.changes_per_step = 10;  // all in one batch
  }
  bool is_raised(const std::string& name, Xid xid) const {
    const auto counter = sink.data.counters.find(name);
    return counter != sink.data.counters.end() && counter->second.raised_by.contains(xid);
  }
  bool is_deleted(const std::string& name, Xid xid) const { return sink.data.applied.contains({xid, name}); }
};

TEST_F(HangingCommitOfWhatWaits, KeepsNoneOfItsBatch) {  // G4
  run(100ms);
  hanging = database.commit({1, 3, 2}, false, now.system).xid;  // of groups 1, 0 and 2
  const Xid visible = database.commit({0, 2}, false, now.system).xid;  // of groups 0 and 2
  database.make_visible(visible, now.steady);
  run(500ms);
  EXPECT_TRUE(is_raised("rows:0", visible));
  EXPECT_TRUE(is_raised("rows:2", visible));
  EXPECT_TRUE(is_deleted("page:team0", visible));
  EXPECT_TRUE(is_deleted("page:team2", visible));
  EXPECT_FALSE(is_raised("rows:1", hanging));
  EXPECT_FALSE(is_raised("rows:2", hanging));
  EXPECT_FALSE(is_deleted("page:team1", hanging));
  EXPECT_FALSE(is_deleted("page:team2", hanging));
  run(5s);
  EXPECT_FALSE(is_acknowledged());
  EXPECT_EQ(source.lookups, 1) << "asked once for each of them";
  database.make_visible(hanging, now.steady);
  run(3s);
  EXPECT_TRUE(is_raised("rows:1", hanging));
  EXPECT_TRUE(is_raised("rows:2", hanging));
  EXPECT_TRUE(is_deleted("page:team1", hanging));
  EXPECT_TRUE(is_deleted("page:team0", hanging));
  EXPECT_TRUE(is_deleted("page:team2", hanging));
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(source.lookups, 2);
}

TEST_F(HangingCommitOfWhatWaits, HasNothingElseToLookUp) {
  run(100ms);
  const Xid first = database.commit({0}, false, now.system).xid, second = database.commit({0}, false, now.system).xid;
  hanging = database.commit({0}, false, now.system).xid;
  database.make_visible(first, now.steady);
  run(500ms);
  database.make_visible(second, now.steady);
  run(500ms);
  EXPECT_TRUE(is_deleted("page:team0", first));
  EXPECT_TRUE(is_deleted("page:team0", second));
  EXPECT_FALSE(is_deleted("page:team0", hanging));
  database.make_visible(hanging, now.steady);
  run(3s);
  EXPECT_TRUE(is_deleted("page:team0", hanging));
  EXPECT_TRUE(is_acknowledged());
}

class HangingCommitThatLooksNothingUp : public HangingCommit {
 protected:
  HangingCommitThatLooksNothingUp()
      : HangingCommit("- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n"
                      "- {table: public.rows, via: {team: {table: public.teams, match: {id: grp}}}, where: {id: 0}, keys: ['page:{team.name}'], settle: 1s}\n") {}
};

TEST_F(HangingCommitThatLooksNothingUp, EndsAllTheSame) {
  run(100ms);
  commit_two();
  run(1s);
  EXPECT_EQ(source.lookups, 1);
  database.make_visible(hanging, now.steady);
  run(3s);
  EXPECT_EQ(source.lookups, 1);
  EXPECT_TRUE(is_acknowledged());
}

// Most are visible within a moment of each other: one second delete is in time for all of them.
TEST_F(HangingCommit, OneSecondDeleteIsEnoughForThoseThatBecomeVisibleTogether) {
  run(100ms);
  std::vector<Xid> commits;
  for (int other = 2; other < 8; ++other) commits.push_back(database.commit({other}, false, now.system).xid);
  run(20ms);
  for (const Xid xid : commits) {
    database.make_visible(xid, now.steady);
    run(10ms);
  }
  run(3s);
  EXPECT_EQ(observer.settled, commits.size());
  EXPECT_TRUE(is_acknowledged());
}

// Every fill looks at the tombstone of a purge: renewed for as long as its commit hangs, it would keep all values out of the cache.
class HangingCheckedPurge : public ::testing::Test, protected FlowWorld {
 protected:
  HangingCheckedPurge() : sink(5s) {
    LaneSpec lane = one_cache(sink).front();
    lane.tombstone_ttl = 5s;
    start("- {table: public.rows, purge: ['list:*'], fill: checked}\n", {lane});
    run(100ms);
  }

  bool fill() { return sink.checked_fill("list:0", database.snapshot(), database.select(1)); }
  bool is_cached() const { return sink.data.cache.count("list:0") != 0; }

  FakeSink sink;
};

TEST_F(HangingCheckedPurge, IsWalkedAgainOnceItIsVisible) {  // G3
  const Xid hanging = database.commit({1}, false, now.system).xid;
  run(5s);
  EXPECT_FALSE(fill()) << "its tombstone lives, and the reader lacks it";
  run(10s);
  EXPECT_TRUE(fill());
  const Snapshot before = database.snapshot();
  const std::set<Xid> old_row = database.select(1);
  database.make_visible(hanging, now.steady);
  run(300ms);
  EXPECT_FALSE(is_cached()) << "stale for tombstone_ttl";
  EXPECT_EQ(observer.walks, 2);
  EXPECT_TRUE(fill());
  run(4500ms);
  EXPECT_TRUE(is_cached()) << "it had seen it";
  EXPECT_FALSE(sink.checked_fill("list:1", before, old_row)) << "its reader takes less than tombstone_ttl";
  run(3s);
  EXPECT_TRUE(is_acknowledged());
}

TEST_F(HangingCheckedPurge, IsWalkedAgainForThoseThatAreVisibleBesideAnother) {  // G3
  write(5);
  run(100ms);
  const Xid first = database.commit({0}, false, now.system).xid;
  run(20ms);
  const Xid hanging = database.commit({1}, false, now.system).xid;  // shares the walk that waits for `purge_every`
  run(15s);
  ASSERT_EQ(observer.walks, 2);
  ASSERT_TRUE(fill());
  database.make_visible(first, now.steady);
  run(300ms);
  EXPECT_FALSE(is_cached()) << "stale for tombstone_ttl";
  run(12s);
  ASSERT_TRUE(fill());
  database.make_visible(hanging, now.steady);
  run(300ms);
  EXPECT_FALSE(is_cached()) << "stale for tombstone_ttl";
  run(6s);
  EXPECT_TRUE(is_acknowledged());
}

TEST_F(HangingCheckedPurge, IsWalkedOnceAndSettledWhereItIsVisibleInAMoment) {
  const Xid hanging = database.commit({1}, false, now.system).xid;
  run(500ms);
  database.make_visible(hanging, now.steady);
  run(7s);
  EXPECT_EQ(observer.walks, 1);
  EXPECT_TRUE(is_acknowledged());
}

class HangingCommitBesideCounters : public HangingCommit {
 protected:
  HangingCommitBesideCounters() : HangingCommit("- {table: public.rows, keys: ['row:{id}'], bump: ['ns:{id}'], fill: plain}\n") {}
};

// Counters are raised once their transaction is visible: what is known to hang when it comes has a batch of its own.
TEST_F(HangingCommitBesideCounters, KeepsNoneThatComeWithItAgainFromBeingRaised) {
  run(100ms);
  source.server_up = false;
  run(20ms);
  for (int other = 2; other < 6; ++other) write(other);  // the cache is busy with these: what follows is gathered
  commit_two();
  run(1s);  // a fresh one hangs no longer than every commit does
  // The real source has a snapshot before it streams.
  const std::size_t changes = std::exchange(source.changes_per_step, 0);
  source.server_up = true;
  run(100ms);
  source.changes_per_step = changes;
  run(500ms);
  EXPECT_EQ(sink.data.counters["ns:0"].number, 1u);
  EXPECT_EQ(sink.data.counters["ns:1"].number, 0u);
  database.make_visible(hanging, now.steady);
  run(500ms);
  EXPECT_EQ(sink.data.counters["ns:1"].number, 1u);
}

}  // namespace
}  // namespace evictd::testing
