// A source of several streams, which others read as well and keep the same record of (a consumer group): what is taken up
// is on record before anything of it is applied, and what others left there decides nothing.
#include <gmock/gmock.h>
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
using ::testing::ElementsAre;
using ::testing::Key;

constexpr const char* kRules = "- {table: public.rows, keys: ['row:{id}']}\n";

// Connects at once, and says what the test wants.
class MembersSource final : public IdleSource {
 public:
  MembersSource() {
    relation_.id = relation_.generation = 1;
    relation_.schema = "public";
    relation_.table = "rows";
    relation_.columns = {Column{"id", ValueType::kText, true}};
  }

  void start(Now) override { is_started_ = true; }
  void proceed(const std::set<std::string>& names) override {
    on_record = names;
    may_proceed_ = true;
  }
  std::string stream_name(std::uint32_t stream) const override { return "rows[" + std::to_string(stream) + "]"; }
  bool is_shared() const override { return true; }
  void step(Now now, std::size_t, SourceHandler& handler) override {
    if (!is_started_) return;
    if (std::exchange(restarts_, false)) {
      is_connected_ = is_told_ = may_proceed_ = false;
      return handler.on_disconnected(Error{ErrorKind::kConnection, "members: again", ""});
    }
    if (is_away) return;
    if (!std::exchange(is_told_, true)) {
      SourceFacts facts;
      facts.has_history = true;
      facts.if_not_on_record = Gap{"record_missing", "read before", {}};
      return handler.on_facts(facts);
    }
    if (!may_proceed_) return;
    if (!std::exchange(is_connected_, true)) {
      SourceConnected connected;
      connected.epoch = "debezium/shop";
      connected.source_identity = "group";
      handler.on_connected(connected);
    }
    if (!streams.empty()) handler.on_streams(std::exchange(streams, {}));
    for (; !to_send.empty(); to_send.pop_front()) {
      const auto& [end, id] = to_send.front();
      handler.on_begin({end.stream, Xid{kOpaqueXidFlag | std::uint64_t{end.stream} << 32 | end.value}, now.system, now.steady - 1h,
                        end.value - 1});
      const Value values[] = {{ValueState::kText, id}};
      handler.on_change(Change{Operation::kUpdate, &relation_, {}, values});
      handler.on_commit(end);
    }
  }
  void wait_for(Waiting& waiting, bool) override { waiting.wake_at(SteadyTime::min()); }
  void acknowledge(const Position& end) override { acknowledged[end.stream] = end.value; }
  void restart(Now) override { restarts_ = true; }

  bool is_away = false;                                    // until then it has no facts
  std::map<std::string, std::uint64_t> streams;            // to be told
  std::deque<std::pair<Position, std::string>> to_send;    // each a transaction of one row
  std::set<std::string> on_record;
  std::map<std::uint32_t, std::uint64_t> acknowledged;

 private:
  Relation relation_;
  bool is_started_ = false, is_told_ = false, may_proceed_ = false, is_connected_ = false, restarts_ = false;
};

class Streams : public ::testing::Test {
 protected:
  Streams() {
    Record record;
    record.writer = "another";
    record.sequence = 7;
    record.epoch = "debezium/shop";
    record.source_identity = "group";
    record.rules = {};
    record.acknowledged = {{"rows[5]", 5000}};
    redis->record = record;
    options.writer = "this one";
  }

  void begin() {
    flow = std::make_unique<Flow>(*RuleSet::parse(kRules, "rules.yaml"), source, one_cache(sink), observer, options);
    flow->start(now);
  }
  void start() {
    begin();
    turn_until([&] { return flow->status().not_ready.empty(); });
    // Its record said nothing of the rules: that purge is not what is looked at.
    turn_until([&] { return redis->record->writer.starts_with("this one/") && redis->record->gaps.empty(); });
    redis->cache["row:1"] = {{}, false};
  }
  void turn_until(const std::function<bool()>& condition) {
    for (int i = 0; i < 20000 && !condition(); ++i) turn();
    ASSERT_TRUE(condition()) << said;
  }
  void turn() {
    now.steady += 10ms;
    now.system += 10ms;
    flow->step(now);
    for (const FlowEvent& event : flow->take_events()) said += event.text + "\n";
  }
  // Somebody else of the group has written it.
  void write_of_another(std::uint64_t sequence = 12) {
    Record record = *redis->record;
    record.writer = "another";
    record.sequence = sequence;
    record.acknowledged = {{"rows[0]", 5000}, {"rows[7]", 3}};
    redis->record = record;
  }

  std::shared_ptr<FakeSink::Data> redis = std::make_shared<FakeSink::Data>();
  FakeSink sink{60s, redis};
  MembersSource source;
  NullObserver observer;
  FlowOptions options;
  std::unique_ptr<Flow> flow;
  std::string said;
  Now now{SteadyTime(2h), SystemTime(2h)};
};

// By which the sink knows what to ask of the record that it writes over.
TEST_F(Streams, TheSinkIsToldThatOthersWriteTheRecord) {
  start();
  EXPECT_TRUE(sink.context().is_record_shared);
  EXPECT_FALSE(sink.context().is_record_ours_alone);
}

TEST_F(Streams, AreOnRecordBeforeAnythingOfThemIsApplied) {
  start();
  for (std::uint32_t stream = 0; stream < 3; ++stream) {
    const std::string name = source.stream_name(stream);
    redis->cache["row:1"] = {{}, false};
    sink.orders_per_turn = 1;
    // A record may be under way that does not hold it, and one may be lost.
    if (stream == 1) {
      source.to_send.push_back({{0, 6}, "2"});
      turn_until([&] { return sink.is_saving(); });
    }
    sink.frozen = stream == 2;
    source.streams = {{name, 4}};
    source.to_send.push_back({{stream, 5}, "1"});
    for (int i = 0; i < 3; ++i) turn();
    EXPECT_TRUE(!redis->record->acknowledged.contains(name) || stream < 2);
    if (stream == 2) sink.cut(0);
    sink.frozen = false;
    turn_until([&] {
      const bool is_applied = !redis->cache.contains("row:1");
      EXPECT_TRUE(!is_applied || redis->record->acknowledged.contains(name));
      return is_applied;
    });
    turn_until([&] { return source.acknowledged[stream] == 5; });
  }
}

TEST_F(Streams, AreOnRecordThoughNothingIsReadOfThem) {
  start();
  source.streams = {{"rows[0]", 0}, {"rows[1]", 8}};
  turn_until([&] { return redis->record->acknowledged.contains("rows[1]"); });
  EXPECT_THAT(redis->record->acknowledged, ElementsAre(Key("rows[0]"), Key("rows[1]"), Key("rows[5]")));
  source.restart(now);
  turn_until([&] { return source.on_record.contains("rows[0]") && source.on_record.contains("rows[1]"); });
}

// The partition was made again, and its reader named the new one, in a record that this one wrote over. Offsets of the
// old one are no reason to take what comes for done.
TEST_F(Streams, PositionsThatOthersLeftOnRecordAreNoReasonToSkipAnything) {
  start();
  source.streams = {{"rows[5]", 10}};
  source.to_send.push_back({{5, 11}, "1"});
  turn_until([&] { return !redis->cache.contains("row:1"); });
  turn_until([&] { return source.acknowledged[5] == 11; });
  // Nor are those that are found when the source begins anew.
  write_of_another();
  source.on_record.clear();
  source.restart(now);
  source.streams = {{"rows[0]", 10}};
  redis->cache["row:1"] = {{}, false};
  turn_until([&] { return !source.on_record.empty(); });
  source.to_send.push_back({{0, 11}, "1"});
  turn_until([&] { return !redis->cache.contains("row:1"); });
}

// What was finished here is known all the same when the source begins anew for another cache's sake.
TEST_F(Streams, WhatThisOneHasFinishedIsNotDoneTwice) {
  start();
  source.streams = {{"rows[0]", 10}};
  source.to_send.push_back({{0, 11}, "1"});
  turn_until([&] { return source.acknowledged[0] == 11; });
  const auto applied = sink.applied_orders();
  source.restart(now);
  source.acknowledged.clear();
  source.to_send.push_back({{0, 11}, "1"});
  turn_until([&] { return source.acknowledged[0] == 11; });
  EXPECT_EQ(sink.applied_orders(), applied);
}

// Where what is known ends, nothing ends this time: that record is gone from the log. What is new is behind it all the same,
// and what is before it has no part in it.
TEST_F(Streams, WhatThisOneHasFinishedIsNotDoneTwiceWhereItsEndDoesNotComeAgain) {  // G2
  start();
  source.streams = {{"rows[0]", 10}};
  for (const std::uint64_t end : {11, 12}) source.to_send.push_back({{0, end}, "1"});
  turn_until([&] { return source.acknowledged[0] == 12; });
  source.restart(now);
  source.acknowledged.clear();
  redis->cache["row:1"] = redis->cache["row:2"] = {{}, false};
  source.to_send = {{{0, 11}, "1"}, {{0, 21}, "2"}};
  turn_until([&] { return source.acknowledged[0] == 21; });
  EXPECT_TRUE(redis->cache.contains("row:1"));
  EXPECT_FALSE(redis->cache.contains("row:2"));
}

// Each of a group counts for itself: the number of the one who wrote last may be lower than that of the one before.
TEST_F(Streams, WhatOthersWriteWhileThisOneStartsIsNoRollback) {
  source.is_away = true;
  begin();
  turn_until([&] { return sink.status().connected; });
  for (int i = 0; i < 3; ++i) turn();
  // Read anew when the cache comes again, and when the source has facts.
  write_of_another(3);
  sink.cut(0);
  turn_until([&] { return !sink.status().connected; });
  turn_until([&] { return sink.status().connected; });
  for (int i = 0; i < 3; ++i) turn();
  write_of_another(2);
  source.is_away = false;
  turn_until([&] { return flow->status().not_ready.empty(); });
  EXPECT_EQ(observer.gaps, 0) << said;
}

TEST_F(Streams, ARecordThatAnotherWroteIsNoRollbackOfACacheThatWasThereAllTheTime) {
  start();
  source.streams = {{"rows[0]", 4}};
  turn_until([&] { return redis->record->acknowledged.contains("rows[0]"); });
  write_of_another();
  sink.cut(0);
  turn_until([&] { return redis->record->writer.starts_with("this one/"); });
  EXPECT_THAT(redis->record->acknowledged, ElementsAre(Key("rows[0]"), Key("rows[5]"), Key("rows[7]")))
      << "neither has lost what it had taken up";
  EXPECT_TRUE(redis->cache.contains("row:1"));
  EXPECT_EQ(observer.gaps, 0) << said;
  // Of another process nobody knows what it lost.
  write_of_another();
  FakeSink::restart(*redis);
  turn_until([&] { return observer.gaps == 1; });
  EXPECT_THAT(said, ::testing::HasSubstr("redis_rollback"));
}

}  // namespace
}  // namespace evictd::testing
