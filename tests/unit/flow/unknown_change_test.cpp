// Changes that nothing is known of, and transactions whose ids no snapshot speaks of: what only some sources have.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "daemon/flow/flow.h"
#include "tests/support/fake_sink.h"
#include "tests/support/idle_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;

constexpr const char* kRules =
    "- {table: public.rows, keys: ['row:{id}'], settle: 1s}\n"
    "- {table: public.more, keys: ['more:{id}'], settle: 1s}\n";

// Says what the test tells it to, one line per step.
class ScriptedSource final : public IdleSource {
 public:
  std::deque<std::function<void(SourceHandler&)>> lines;
  bool has_snapshots = true;
  std::string snapshot = "500:500:";
  std::uint64_t acknowledged = 0;

  void start(Now) override { started_ = true; }
  void proceed(const std::set<std::string>&) override { may_proceed_ = true; }
  void step(Now, std::size_t bytes_max, SourceHandler& handler) override {
    if (!connected_ && started_ && !facts_told_) {
      facts_told_ = true;
      handler.on_facts({});
      return;
    }
    if (!connected_ && may_proceed_) {
      connected_ = true;
      handler.on_connected({"1/1", "server-1", "scripted", {}, has_snapshots});
      return;
    }
    if (std::exchange(snapshot_wanted_, false)) handler.on_snapshot(*Snapshot::parse(snapshot));
    if (bytes_max == 0 || lines.empty()) return;
    lines.front()(handler);
    lines.pop_front();
  }
  void acknowledge(const Position& end) override { acknowledged = end.value; }
  void request_snapshot() override { snapshot_wanted_ = true; }

 private:
  bool started_ = false, facts_told_ = false, may_proceed_ = false, connected_ = false, snapshot_wanted_ = false;
};

class UnknownChanges : public ::testing::Test {
 protected:
  void SetUp() override {
    relation.id = relation.generation = 1;
    relation.schema = "public";
    relation.table = "rows";
    relation.columns = {Column{"id", ValueType::kText, true}};
  }
  void start() {
    flow = std::make_unique<Flow>(*RuleSet::parse(kRules, "rules.yaml"), source, one_cache(sink), observer, FlowOptions{});
    flow->start(now);
    until([&] { return flow->status().not_ready.empty(); });
  }
  void turn() {
    now.steady += 10ms;
    now.system += 10ms;
    flow->step(now);
  }
  void until(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000 && !condition(); ++i) turn();
    ASSERT_TRUE(condition());
  }
  void turn_for(std::chrono::milliseconds time) {
    for (const auto end = now.steady + time; now.steady < end;) turn();
  }
  void cache(const std::string& key) { sink.plain_set(key, {}); }
  bool is_cached(const std::string& key) const { return sink.data.cache.contains(key); }

  // One transaction, each argument a step.
  void transaction(Xid xid, std::uint64_t end, std::vector<std::function<void(SourceHandler&)>> changes,
                   std::optional<SteadyTime> known_since = {}) {
    source.lines.push_back([=, this](SourceHandler& handler) { handler.on_begin({0, xid, now.system, known_since}); });
    for (auto& change : changes) source.lines.push_back(change);
    source.lines.push_back([=](SourceHandler& handler) { handler.on_commit({0, end}); });
  }
  static std::function<void(SourceHandler&)> unknown(std::vector<std::string> tables) {
    return [=](SourceHandler& handler) { handler.on_unknown_change({tables, "a record that is no JSON"}); };
  }
  std::function<void(SourceHandler&)> update(const std::string& id) {
    return [=, this](SourceHandler& handler) {
      const Value value{ValueState::kText, id};
      handler.on_change(Change{Operation::kUpdate, &relation, {}, {&value, 1}});
    };
  }

  Relation relation;
  ScriptedSource source;
  FakeSink sink{60s};
  NullObserver observer;
  Now now{SteadyTime(1h), SystemTime(1h)};
  std::unique_ptr<Flow> flow;
};

TEST_F(UnknownChanges, PurgeWhatTheRulesOfTheirTablesMatch) {
  start();
  for (const char* key : {"row:1", "row:2", "more:1", "other:1"}) cache(key);
  transaction(Xid{400}, 10, {unknown({"public.rows"})});
  until([&] { return source.acknowledged == 10; });
  EXPECT_FALSE(is_cached("row:1"));
  EXPECT_FALSE(is_cached("row:2"));
  EXPECT_TRUE(is_cached("more:1"));
  EXPECT_TRUE(is_cached("other:1"));
}

TEST_F(UnknownChanges, WithoutTablesPurgeWhatAnyRuleMatches) {
  start();
  for (const char* key : {"row:1", "more:1", "other:1"}) cache(key);
  transaction(Xid{400}, 10, {unknown({})});
  until([&] { return source.acknowledged == 10; });
  EXPECT_FALSE(is_cached("row:1"));
  EXPECT_FALSE(is_cached("more:1"));
  EXPECT_TRUE(is_cached("other:1"));
}

TEST_F(UnknownChanges, HoldTheAcknowledgementUntilTheyArePurgedAndSettled) {  // G1
  start();
  cache("row:1");
  sink.frozen = true;
  transaction(Xid{400}, 10, {update("7"), unknown({"public.rows"}), update("8")});
  turn_for(3s);
  EXPECT_EQ(source.acknowledged, 0u);
  sink.frozen = false;
  until([&] { return !is_cached("row:1"); });
  cache("row:1");  // by a plain reader that read before the change
  EXPECT_EQ(source.acknowledged, 0u);
  until([&] { return source.acknowledged == 10; });
  EXPECT_FALSE(is_cached("row:1")) << "acknowledged without a second purge";
}

TEST_F(UnknownChanges, AreToldToAPerson) {
  start();
  static_cast<void>(flow->take_events());
  transaction(Xid{400}, 10, {unknown({"public.rows"})});
  until([&] { return source.acknowledged == 10; });
  bool told = false;
  for (const FlowEvent& event : flow->take_events()) {
    told = told || (event.level == FlowEvent::Level::kWarning &&
                    event.text == "a change cannot be read: a record that is no JSON");
  }
  EXPECT_TRUE(told);
}

// Whoever read before it was there has had the time to fill since.
TEST_F(UnknownChanges, WhatHasBeenInTheStreamForLongIsDeletedOnce) {
  source.has_snapshots = false;
  start();
  cache("row:7");
  transaction(Xid{400}, 10, {update("7")}, now.steady - 1s);
  until([&] { return !is_cached("row:7"); });
  cache("row:7");
  until([&] { return source.acknowledged == 10; });
  EXPECT_TRUE(is_cached("row:7")) << "deleted twice";
}

TEST_F(UnknownChanges, WhatHasBeenInTheStreamForAMomentSettlesFromThen) {  // G4
  source.has_snapshots = false;
  start();
  cache("row:7");
  const SteadyTime known_since = now.steady - 500ms;
  transaction(Xid{400}, 10, {update("7")}, known_since);
  until([&] { return !is_cached("row:7"); });
  cache("row:7");
  until([&] { return !is_cached("row:7"); });
  EXPECT_GE(now.steady - known_since, 1s);
  EXPECT_LE(now.steady - known_since, 1s + 50ms);
}

// A batch is as old as the youngest in it.
TEST_F(UnknownChanges, BesideOneThatIsNewTheOldOneSettlesAsWell) {  // G4
  source.has_snapshots = false;
  start();
  cache("row:7");
  cache("row:8");
  source.lines.push_back([&](SourceHandler& handler) {
    handler.on_begin({0, Xid{400}, now.system, now.steady - 10s});
    update("7")(handler);
    handler.on_commit({0, 10});
    handler.on_begin({0, Xid{401}, now.system, {}});
    update("8")(handler);
    handler.on_commit({0, 20});
  });
  until([&] { return !is_cached("row:8"); });
  cache("row:8");
  until([&] { return source.acknowledged == 20; });
  EXPECT_FALSE(is_cached("row:8")) << "the settle is missing";
}

// Only a snapshot knows, where there are some: a commit may hang behind its standby for long.
TEST_F(UnknownChanges, WithSnapshotsTheTimeInTheStreamSaysNothing) {  // G1, G4
  start();
  source.snapshot = "400:401:400";
  cache("row:7");
  transaction(Xid{400}, 10, {update("7")}, now.steady - 10s);
  turn_for(5s);
  EXPECT_EQ(source.acknowledged, 0u);
  cache("row:7");
  source.snapshot = "401:401:";
  until([&] { return source.acknowledged == 10; });
  EXPECT_FALSE(is_cached("row:7")) << "the settle is missing";
}

constexpr Xid kOpaque{kOpaqueXidFlag | 5};

TEST(OpaqueXids, AreSeenByNoSnapshot) {  // G5
  EXPECT_FALSE(Snapshot::parse("9000000000000000:9000000000000000:")->sees(kOpaque));
  EXPECT_FALSE(is_opaque(Xid{kOpaqueXidFlag - 1}));
}

// No snapshot will ever show it: waiting for one that does would hold the source up for ever.
TEST_F(UnknownChanges, AnOpaqueTransactionCountsAsVisibleWhenItIsReceived) {
  start();
  cache("row:7");
  transaction(kOpaque, 10, {update("7")});
  until([&] { return !is_cached("row:7"); });
  const SteadyTime deleted_at = now.steady;
  cache("row:7");
  until([&] { return source.acknowledged == 10; });
  EXPECT_FALSE(is_cached("row:7")) << "the settle is missing";
  EXPECT_GE(now.steady - deleted_at, 1s - 20ms);
}

TEST_F(UnknownChanges, AnOpaqueTransactionBesideAnInvisibleOneWaitsForThatOne) {
  start();
  source.snapshot = "400:401:400";
  transaction(kOpaque, 10, {update("7")});
  transaction(Xid{400}, 20, {update("7")});
  turn_for(5s);
  EXPECT_LT(source.acknowledged, 20u);
  source.snapshot = "401:401:";
  until([&] { return source.acknowledged == 20; });
}

TEST_F(UnknownChanges, AReplayOfAnOpaqueTransactionIsRecognised) {  // G2
  start();
  transaction(kOpaque, 10, {update("7")});
  until([&] { return source.acknowledged == 10; });
  cache("row:7");
  transaction(kOpaque, 10, {update("7")});
  turn_for(3s);
  EXPECT_TRUE(is_cached("row:7"));
}

// A checked fill may have been made before the change, whatever its snapshot says.
TEST_F(UnknownChanges, AnOpaqueTransactionIsNeverProvenByAFill) {  // G5
  start();
  ASSERT_TRUE(sink.checked_fill("row:7", *Snapshot::parse("9000000:9000000:"), {}));
  transaction(kOpaque, 10, {update("7")});
  until([&] { return source.acknowledged == 10; });
  EXPECT_FALSE(is_cached("row:7"));
}

}  // namespace
}  // namespace evictd::testing
