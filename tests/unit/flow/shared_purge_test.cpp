// One walk for many batches: what becomes of each of them, and what it costs where they are all that a lane holds.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/flow_run.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class SharedPurge : public ::testing::Test, protected FlowWorld {
 protected:
  SharedPurge() : sink(5s) {}
  // Each change is a batch.
  void begin(const std::string& rules, FlowOptions options = {}) {
    options.batch_bytes_max = 1;
    start(rules, one_cache(sink), options);
    run(100ms);
  }
  Xid hang(int row) { return database.commit({row}, false, now.system).xid; }
  // What is sent from now on is known to be visible when it comes. While something hangs, snapshots are taken.
  template <typename Writes>
  void send_when_visible(const Writes& writes) {
    const std::size_t changes = std::exchange(source.changes_per_step, 0);
    writes();
    run(200ms);
    source.changes_per_step = changes;
    run(20ms);
  }
  // A reader is as slow as `settle` lets it be, and stores the row that it read: the second walk takes it away.
  bool a_late_fill_goes(int row, const std::set<Xid>& contains) {
    const std::string key = fmt::format("list:{}", row);
    run(900ms);
    sink.plain_set(key, contains);
    run(500ms);
    return !sink.data.cache.contains(key);
  }
  std::uint64_t held_bytes() const { return status().held_bytes; }

  FakeSink sink;
};

constexpr const char* kPlain = "- {table: public.rows, purge: ['list:*'], settle: 1s, purge_every: 1s}\n";
constexpr const char* kRarely = "- {table: public.rows, purge: ['list:*'], settle: 1s, purge_every: 5s}\n";

// As many as are held while one walk takes its time, of several patterns, and all become visible at once. What is looked at for
// each of them must not be all of them: that was minutes for the one thread of all caches, where this takes a moment. (No speed is
// asserted; the test has an end in CMakeLists.txt.)
TEST_F(SharedPurge, OfAllThatALaneHoldsIsNotLookedThroughForEachOfThem) {  // G9
  constexpr int kChanges = 40'000;
  FlowOptions options;
  options.held_bytes_max = std::size_t{1} << 30;
  std::string patterns;
  for (int i = 0; i < 8; ++i) patterns += fmt::format("{}'list{}:*'", i == 0 ? "" : ", ", i);
  begin(fmt::format("- {{table: public.rows, purge: [{}], settle: 1s, purge_every: 10s}}\n", patterns), options);
  source.changes_per_step = 1000;
  write(0);
  run(2s);
  ASSERT_EQ(observer.walks, 8);
  const Xid hanging = database.commit(std::vector<int>(kChanges, 1), false, now.system).xid;
  run(1s);
  ASSERT_TRUE(source.has_sent_all());
  ASSERT_GT(held_bytes(), kChanges * 100u);
  database.make_visible(hanging, now.steady);
  run(30s);
  EXPECT_EQ(observer.walks, 16);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(held_bytes(), 0u);
}

TEST_F(SharedPurge, SettlesForTheLastOfThemThatBecomesVisible) {  // G4
  begin(kRarely);
  write(5);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  const Xid first = hang(0), second = hang(1), third = hang(2);
  run(100ms);
  database.make_visible(third, now.steady);
  run(100ms);
  database.make_visible(first, now.steady);
  run(8s);
  ASSERT_EQ(observer.walks, 2);
  EXPECT_FALSE(is_acknowledged());
  const SteadyTime settled = sink.data.last_delete.at("list:*");
  run(5s);
  EXPECT_EQ(sink.data.last_delete.at("list:*"), settled) << "walked for nobody";
  const auto old_row = database.select(1);
  database.make_visible(second, now.steady);
  EXPECT_TRUE(a_late_fill_goes(1, old_row));
  run(1s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(held_bytes(), 0u);
}

TEST_F(SharedPurge, OfOneThatIsVisibleIsNotOverForOneThatJoinsItAndHangs) {  // G1, G4
  begin(kRarely);
  write(5);
  run(3s);
  write(0);
  run(300ms);
  const Xid hanging = hang(1);
  run(8s);
  ASSERT_EQ(observer.walks, 2);
  EXPECT_FALSE(is_acknowledged());
  const auto old_row = database.select(1);
  database.make_visible(hanging, now.steady);
  EXPECT_TRUE(a_late_fill_goes(1, old_row));
  run(1s);
  EXPECT_TRUE(is_acknowledged());
}

// What a lookup finds, and what comes late, is visible when it asks.
TEST_F(SharedPurge, OneThatIsVisibleWhenItJoinsOneThatHangsHasItsSecondWalkInTime) {  // G4
  begin("- {table: public.rows, purge: ['list:*'], settle: 1s, purge_every: 3s}\n");
  const Xid other = hang(3);  // so that snapshots are taken all the time
  run(4s);
  write(5);
  run(2200ms);
  const int walks = observer.walks;
  const Xid hanging = hang(1);  // waits for `purge_every`
  run(20ms);
  const auto old_row = database.select(0);
  const SteadyTime visible = now.steady;
  send_when_visible([this] { write(0); });
  ASSERT_EQ(observer.walks, walks);
  while (now.steady < visible + 900ms) run(10ms);
  ASSERT_EQ(observer.walks, walks + 1);
  sink.plain_set("list:0", old_row);
  run(500ms);
  EXPECT_EQ(sink.data.cache.count("list:0"), 0u) << "stale for as long as the other one hangs";
  EXPECT_FALSE(is_acknowledged());
  database.make_visible(hanging, now.steady);
  database.make_visible(other, now.steady);
  run(3s);
  EXPECT_TRUE(is_acknowledged());
}

// A batch of two, of which one hangs: the other one has its second walk, and again so when one that shares it hangs as a whole.
TEST_F(SharedPurge, OfABatchThatIsPartlyVisibleSettlesForThatPart) {  // G4
  FlowOptions options;
  start(kPlain, one_cache(sink), options);
  run(100ms);
  write(5);
  run(100ms);
  ASSERT_EQ(observer.walks, 1);
  source.changes_per_step = 10;
  const auto old_row = database.select(0);
  const Xid visible = hang(0), hanging = hang(1);
  run(20ms);
  const Xid alone = hang(2);
  run(1s);
  ASSERT_EQ(observer.walks, 2);
  database.make_visible(visible, now.steady);
  EXPECT_TRUE(a_late_fill_goes(0, old_row));
  EXPECT_FALSE(is_acknowledged());
  database.make_visible(hanging, now.steady);
  run(2s);
  EXPECT_FALSE(is_acknowledged());
  database.make_visible(alone, now.steady);
  run(2s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(held_bytes(), 0u);
}

// What an earlier connection asked for shares no walk with what comes in the next one, and holds nothing of it up.
TEST_F(SharedPurge, IsSharedWithNoneOfAnotherConnection) {  // G1, G4
  begin(kPlain);
  write(5);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  const Xid first = hang(0), second = hang(1);
  sink.steps_per_turn = 30;
  run(100ms);
  source.restart(now);  // in the middle of their first walk, and before the one that the second waits for
  run(100ms);
  const Xid third = hang(2);
  run(200ms);
  sink.steps_per_turn = 1;
  run(3s);
  EXPECT_FALSE(is_acknowledged());
  const auto old_row = database.select(2);
  database.make_visible(third, now.steady);
  run(20ms);
  database.make_visible(first, now.steady);
  run(880ms);
  sink.plain_set("list:2", old_row);
  run(500ms);
  EXPECT_EQ(sink.data.cache.count("list:2"), 0u);
  EXPECT_FALSE(is_acknowledged());
  database.make_visible(second, now.steady);
  run(3s);
  EXPECT_TRUE(is_acknowledged());
  EXPECT_EQ(held_bytes(), 0u);
}

class SharedPurgeOfTwoCaches : public SharedPurge {
 protected:
  SharedPurgeOfTwoCaches() : other(5s) {}
  void begin(ParkAfter park_after, FlowOptions options = {}) {
    LaneSpec a{"a", &other, {}, {}, 5s}, b{"b", &sink, {}, park_after, 5s};
    options.batch_bytes_max = 1;
    start(kPlain, {a, b}, options);
    run(100ms);
    write(5);
    run(3s);
    ASSERT_TRUE(is_acknowledged());
  }
  void fall_behind() {
    for (int i = 0; !status(1).is_behind && i < 1000; ++i) {
      write(4 + i % 8);
      run(10ms);
    }
    ASSERT_TRUE(status(1).is_behind);
  }
  void expect_nothing_is_owed() {
    EXPECT_THAT(flow->status().not_ready, ElementsAre());
    EXPECT_TRUE(is_acknowledged());
    EXPECT_EQ(status(0).held_bytes, 0u);
    EXPECT_EQ(status(1).held_bytes, 0u);
  }

  FakeSink other;
};

// All of it comes again.
TEST_F(SharedPurgeOfTwoCaches, OfACacheThatFellBehindIsGivenUpWithThem) {  // G1
  FlowOptions options;
  options.held_bytes_max = 16 * 1024;
  ASSERT_NO_FATAL_FAILURE(begin({}, options));
  write(4);
  run(20ms);
  const auto old_row = database.select(0);
  const Xid hanging = hang(1);
  write(0);  // shares
  run(20ms);
  sink.server_up = false;
  ASSERT_NO_FATAL_FAILURE(fall_behind());
  database.make_visible(hanging, now.steady);
  run(500ms);
  sink.plain_set("list:0", old_row);
  sink.server_up = true;
  run(20s);
  EXPECT_EQ(sink.data.cache.count("list:0"), 0u) << "stale for ever";
  expect_nothing_is_owed();
}

// Its walk goes on for the oldest of them, whether the others are visible or not: these come again.
TEST_F(SharedPurgeOfTwoCaches, GoesOnForTheOneThatIsKeptWhereOthersAreGivenUp) {  // G1, G4
  FlowOptions options;
  options.held_bytes_max = 16 * 1024;
  ASSERT_NO_FATAL_FAILURE(begin({}, options));
  write(4);
  run(100ms);
  ASSERT_EQ(observer.walks, 4);
  const Xid kept = hang(0);  // waits for `purge_every`
  run(20ms);
  const Xid given_up = hang(1);
  write(2);
  run(20ms);
  sink.steps_per_turn = 300;
  run(1s);
  ASSERT_EQ(observer.walks, 5) << "one is in the middle of it";
  ASSERT_NO_FATAL_FAILURE(fall_behind());
  sink.steps_per_turn = 1;
  run(500ms);
  ASSERT_TRUE(status(1).is_behind) << "the one that hangs is still in hand";
  const auto old_row = database.select(0);
  database.make_visible(kept, now.steady);
  EXPECT_TRUE(a_late_fill_goes(0, old_row));
  EXPECT_FALSE(is_acknowledged());
  run(10s);
  database.make_visible(given_up, now.steady);
  run(20s);
  expect_nothing_is_owed();
}

// Given up in the middle of its walk. What becomes visible meanwhile is nobody's any more.
TEST_F(SharedPurgeOfTwoCaches, OfACacheThatIsParkedIsOwedToNobody) {
  ASSERT_NO_FATAL_FAILURE(begin({5s, {}, true}));
  sink.frozen = true;
  const Xid first = hang(0), second = hang(1), third = hang(2);
  run(100ms);
  database.make_visible(first, now.steady);
  run(20s);
  ASSERT_TRUE(status(1).is_parked);
  EXPECT_GT(status(1).held_bytes, 0u) << "a walk is under way";
  database.make_visible(second, now.steady);
  run(100ms);
  sink.frozen = false;
  run(10s);
  EXPECT_FALSE(status(1).is_parked);
  EXPECT_EQ(sink.data.unconditional_walks, 2u);
  database.make_visible(third, now.steady);
  write(4);
  run(5s);
  expect_nothing_is_owed();
}

// ---- The transactions of a walk are named, or are too many for that.

constexpr const char* kChecked = "- {table: public.rows, purge: ['list:*'], fill: checked, purge_every: 3s}\n";

TEST_F(SharedPurge, OfALargeTransactionNamesItOnce) {
  begin(kChecked);
  source.changes_per_step = 1000;
  write(0);
  run(100ms);
  database.make_visible(database.commit(std::vector<int>(5000, 1), false, now.system).xid, now.steady);
  run(4s);
  ASSERT_EQ(observer.walks, 2);
  EXPECT_EQ(sink.data.unconditional_walks, 0u);
}

TEST_F(SharedPurge, OfMoreTransactionsThanAreNamedAsksForTheNewest) {  // G3
  begin(kChecked);
  source.changes_per_step = 1000;
  write(0);
  run(100ms);
  std::vector<Xid> hanging;
  for (int i = 0; i < 4000; ++i) hanging.push_back(hang(i % 12));
  run(4s);
  ASSERT_EQ(observer.walks, 2);
  EXPECT_EQ(sink.data.unconditional_walks, 1u);
  EXPECT_EQ(sink.data.markers.at(FakeSink::kPurgedMarker).floor, hanging.back());
}

// ---- What it takes of the lane's memory.

TEST(HeldPurges, CountWithTheBatchThatAsksForThem) {  // G8
  const auto held_with = [](int patterns) {
    FlowWorld world;
    FakeSink sink(5s);
    std::string text;
    for (int i = 0; i < patterns; ++i) text += fmt::format("{}'list{}:*'", i == 0 ? "" : ", ", i);
    world.start(fmt::format("- {{table: public.rows, purge: [{}], settle: 1s}}\n", text), one_cache(sink));
    world.run(100ms);
    world.database.commit({1}, false, world.now.system);
    world.run(100ms);
    return world.status().held_bytes;
  };
  EXPECT_GE(held_with(61), held_with(1) + 60 * 4 * sizeof(std::uint64_t));
}

// One that comes again shares its second walk with none: the walk counts with it.
TEST_F(SharedPurge, OneThatComesAgainIsHeldWithAWalkOfItsOwn) {  // G8
  begin(kPlain);
  write(5);
  run(3s);
  ASSERT_TRUE(is_acknowledged());
  hang(0);
  run(100ms);
  const std::uint64_t held = held_bytes();
  source.restart(now);
  run(200ms);
  ASSERT_EQ(observer.walks, 2) << "its first one is known to be done";
  EXPECT_GT(held_bytes(), held + 200);
}

}  // namespace
}  // namespace evictd::testing
