// Keys of joined tables on their way through the flow: asked for once their change is visible, held against the
// acknowledgement and against nothing else, purged by pattern when the answer does not come.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "daemon/flow/flow.h"
#include "tests/support/fake_sink.h"
#include "tests/support/idle_source.h"
#include "tests/support/null_observer.h"

namespace evictd::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr const char* kRules =
    "- table: public.items\n"
    "  via: {order: {table: public.orders, match: {id: order_id}}}\n"
    "  fan_out: 3\n"
    "  fill: checked\n"
    "  settle: 100ms\n"
    "  keys: ['user:{order.user_id}', 'item:{id}']\n";

// A database whose answers the test gives.
class JoinedSource final : public IdleSource {
 public:
  JoinedSource() {
    relation_.id = relation_.generation = 1;
    relation_.schema = "public";
    relation_.table = "items";
    relation_.columns = {Column{"id", ValueType::kText, true}, Column{"order_id", ValueType::kText, true}};
  }

  struct Sent {
    std::uint64_t xid = 0;
    std::vector<std::pair<std::string, std::string>> rows;  // id, order
  };

  void start(Now) override { is_started_ = true; }
  void proceed(const std::set<std::string>&) override { may_proceed_ = true; }
  void step(Now now, std::size_t, SourceHandler& handler) override {
    if (!is_started_) return;
    if (std::exchange(restarts, false)) {
      is_connected_ = is_told_ = may_proceed_ = false;
      asked.clear();
      answers.clear();
      return handler.on_disconnected(Error{ErrorKind::kConnection, "joined: again", ""});
    }
    if (!std::exchange(is_told_, true)) {
      SourceFacts facts;
      facts.epoch = "1/1";
      facts.identity = "joined";
      return handler.on_facts(facts);
    }
    if (!may_proceed_) return;
    if (!std::exchange(is_connected_, true)) {
      SourceConnected connected;
      connected.epoch = "1/1";
      connected.source_identity = "joined";
      connected.has_snapshots = true;
      handler.on_connected(connected);
    }
    if (std::exchange(is_snapshot_wanted_, false)) {
      ++snapshots_told;
      const std::string all = std::to_string(visible_below);
      handler.on_snapshot(*Snapshot::parse(all + ":" + all + ":"));
    }
    for (; !answers.empty(); answers.pop_front()) handler.on_found(answers.front());
    for (; !to_send.empty(); to_send.pop_front()) {
      const Sent& sent = to_send.front();
      handler.on_begin({0, Xid{sent.xid}, now.system, {}});
      for (const auto& [id, order] : sent.rows) {
        const Value values[] = {{ValueState::kText, id}, {ValueState::kText, order}};
        handler.on_change(Change{Operation::kInsert, &relation_, {}, values});
      }
      handler.on_commit({0, sent.xid});
    }
  }
  void wait_for(Waiting& waiting, bool) override { waiting.wake_at(SteadyTime::min()); }
  void acknowledge(const Position& end) override { acknowledged = end.value; }
  void request_snapshot() override { is_snapshot_wanted_ = true; }
  void look_up(LookupRequest request, Now) override { asked.push_back(std::move(request)); }

  // Each pair: which of the values asked for, and a user found for it.
  void answer(const std::vector<std::pair<std::uint32_t, std::string>>& found) {
    LookupAnswer answer = empty_answer(LookupAnswer::Outcome::kFound);
    answer.found.columns = {Column{"user_id", ValueType::kText, false}};
    for (const auto& [item, user] : found) answer.rows.push_back({item, {user}});
    answers.push_back(std::move(answer));
  }
  void answer(LookupAnswer::Outcome outcome) { answers.push_back(empty_answer(outcome)); }

  std::uint64_t visible_below = 1000;
  std::deque<Sent> to_send;
  std::vector<LookupRequest> asked;
  std::deque<LookupAnswer> answers;
  std::uint64_t acknowledged = 0;
  int snapshots_told = 0;
  bool restarts = false;

 private:
  LookupAnswer empty_answer(LookupAnswer::Outcome outcome) {
    LookupAnswer answer;
    answer.number = asked.back().number;
    answer.outcome = outcome;
    if (outcome == LookupAnswer::Outcome::kFailed) answer.problem = "permission denied for table orders";
    return answer;
  }
  Relation relation_;
  bool is_started_ = false, is_told_ = false, may_proceed_ = false, is_connected_ = false, is_snapshot_wanted_ = false;
};

class Lookups : public ::testing::Test {
 protected:
  Lookups() { options.writer = "this one"; }

  void SetUp() override {
    flow = std::make_unique<Flow>(*RuleSet::parse(kRules, "rules.yaml"), source, one_cache(sink), observer, options);
    flow->start(now);
    turn_until([&] { return flow->status().not_ready.empty(); });
    turn_until([&] { return redis->record && redis->record->writer.starts_with("this one/") && redis->record->gaps.empty(); });
    for (const char* key : {"user:5", "user:6", "user:7", "item:1", "item:2"}) redis->cache[key] = {{}, false};
  }
  void turn() {
    now.steady += step;
    now.system += step;
    flow->step(now);
    for (const FlowEvent& event : flow->take_events()) said += event.text + "\n";
  }
  void turn_until(const std::function<bool()>& condition, int line = __builtin_LINE()) {
    for (int i = 0; i < 20000 && !condition(); ++i) turn();
    ASSERT_TRUE(condition()) << "line " << line << ": asked " << source.asked.size() << ", acknowledged " << source.acknowledged << "\n" << said;
  }
  void turn_for(std::chrono::milliseconds time) {
    for (const SteadyTime end = now.steady + time; now.steady < end;) turn();
  }
  bool has(const std::string& key) const { return redis->cache.contains(key); }

  std::shared_ptr<FakeSink::Data> redis = std::make_shared<FakeSink::Data>();
  FakeSink sink{60s, redis};
  JoinedSource source;
  NullObserver observer;
  FlowOptions options;
  std::unique_ptr<Flow> flow;
  std::string said;
  std::chrono::milliseconds step{10};
  Now now{SteadyTime(2h), SystemTime(2h)};
};

TEST_F(Lookups, AreAskedOnceTheirChangeIsVisible) {
  source.visible_below = 1020;
  source.to_send.push_back({1030, {{"1", "100"}}});
  turn_until([&] { return !has("item:1"); });  // which waits for nothing
  turn_for(2s);
  EXPECT_THAT(source.asked, IsEmpty());
  source.visible_below = 1031;
  turn_until([&] { return source.asked.size() == 1; });
  EXPECT_THAT(source.asked[0].values, ElementsAre(ElementsAre("100")));
  EXPECT_TRUE(has("user:7"));
  source.answer({{0, "7"}});
  turn_until([&] { return !has("user:7"); });
  EXPECT_TRUE(has("user:6"));
  turn_until([&] { return source.acknowledged == 1030; });
}

// Its first delete comes after it is visible, so that is looked for at a pace of its own.
TEST_F(Lookups, AreAskedSoonerThanOrdinaryPollsWouldTell) {
  source.visible_below = 1020;
  source.to_send.push_back({1030, {{"1", "100"}}});
  step = 1ms;
  turn_until([&] { return !has("item:1"); });
  source.snapshots_told = 0;
  turn_until([&] { return source.snapshots_told > 0; });  // in vain
  source.visible_below = 1031;
  const SteadyTime visible = now.steady;
  turn_until([&] { return source.asked.size() == 1; });
  EXPECT_LT(now.steady - visible, options.snapshot_interval);
  source.answer({{0, "7"}});
  turn_until([&] { return source.acknowledged == 1030; });
}

TEST_F(Lookups, HoldTheAcknowledgementAndNothingElse) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.to_send.push_back({31, {{"2", "101"}}});
  turn_until([&] { return !has("item:2"); });
  turn_for(1s);
  EXPECT_LT(source.acknowledged, 30u);
  EXPECT_THAT(source.asked, SizeIs(1));  // one at a time
  EXPECT_GT(flow->status().lanes[0].lag->count(), 0);
  source.answer({{0, "7"}});
  turn_until([&] { return source.asked.size() == 2; });
  turn_until([&] { return source.acknowledged == 30; });
  source.answer(std::vector<std::pair<std::uint32_t, std::string>>{});
  turn_until([&] { return source.acknowledged == 31; });
  EXPECT_TRUE(has("user:6"));
}

TEST_F(Lookups, OfSeveralTransactionsAreOneQuestion) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  for (std::uint64_t xid = 31; xid < 35; ++xid) {
    source.to_send.push_back({xid, {{"2", std::to_string(xid)}}});
    turn();
  }
  turn_for(100ms);
  source.answer({{0, "5"}});
  turn_until([&] { return source.asked.size() == 2; });
  EXPECT_THAT(source.asked[1].values, ElementsAre(ElementsAre("31", "32", "33", "34")));
  source.answer({{1, "6"}, {3, "7"}});
  turn_until([&] { return source.acknowledged == 34; });
  EXPECT_FALSE(has("user:5") || has("user:6") || has("user:7"));
  EXPECT_THAT(redis->markers.at("user:6").xids, ElementsAre(Xid{32}));
}

TEST_F(Lookups, ThatFailPurgeTheirPatternsAndAreToldByReadiness) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.answer(LookupAnswer::Outcome::kFailed);
  turn_until([&] { return source.acknowledged == 30; });
  EXPECT_FALSE(has("user:5") || has("user:6") || has("user:7"));
  EXPECT_TRUE(has("item:2"));
  ASSERT_THAT(flow->status().not_ready, SizeIs(1));
  EXPECT_THAT(flow->status().not_ready[0], HasSubstr("whole patterns are purged instead: permission denied for table orders"));
  EXPECT_THAT(said, HasSubstr("a lookup of rule 'public.items' (rules.yaml:1:3) failed: permission denied for table orders"));
  source.to_send.push_back({31, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 2; });
  source.answer({{0, "7"}});
  turn_until([&] { return flow->status().not_ready.empty(); });
}

// Nothing changes any more, and yet readiness comes back: what failed is asked again.
TEST_F(Lookups, ThatFailedAreAskedAgainUntilTheyWork) {
  source.to_send.push_back({30, {{"1", "100"}, {"2", "200"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.answer(LookupAnswer::Outcome::kFailed);
  turn_until([&] { return source.acknowledged == 30; });
  turn_until([&] { return source.asked.size() == 2; });
  EXPECT_THAT(source.asked.back().values, ElementsAre(ElementsAre("100")));
  source.answer(LookupAnswer::Outcome::kFailed);
  turn_for(1s);
  EXPECT_THAT(flow->status().not_ready, SizeIs(1));
  turn_until([&] { return source.asked.size() == 3; });
  source.answer({});
  turn_until([&] { return flow->status().not_ready.empty(); });
  EXPECT_THAT(said, HasSubstr("lookups work again"));
  turn_for(2min);
  EXPECT_THAT(source.asked, SizeIs(3));
}

// That one lookup works says nothing of another; that its rule is gone does.
TEST_F(Lookups, ThatFailAreNotReadyWhateverOthersDo) {
  const std::string other =
      "- table: public.items\n"
      "  name: other\n"
      "  via: {order: {table: public.orders, match: {id: id}}}\n"
      "  keys: ['other:{order.user_id}']\n";
  flow->reload(*RuleSet::parse(kRules + other, "rules.yaml"), now);
  turn_until([&] { return flow->status().not_ready.empty(); });
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.answer(LookupAnswer::Outcome::kFailed);
  turn_until([&] { return source.asked.size() == 2; });
  ASSERT_NE(source.asked[0].rule, source.asked[1].rule);
  source.answer({});
  turn_for(1s);
  EXPECT_THAT(flow->status().not_ready, SizeIs(1));
  EXPECT_EQ(said.find("lookups work again"), std::string::npos);
  const auto cannot = Contains(HasSubstr("joined tables cannot be looked up"));
  flow->reload(*RuleSet::parse(other + kRules + "- {table: public.notes, keys: ['note:{id}']}\n", "rules.yaml"), now);
  turn();
  EXPECT_THAT(flow->status().not_ready, cannot) << "the same rule, in another place";
  flow->reload(*RuleSet::parse(other, "rules.yaml"), now);
  turn_for(1min);
  EXPECT_THAT(flow->status().not_ready, Not(cannot));
  EXPECT_THAT(source.asked, SizeIs(2)) << "of a rule that is gone";
}

TEST_F(Lookups, OfTooManyRowsPurgeTheirPatterns) {
  source.to_send.push_back({30, {{"1", "100"}, {"1", "101"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.answer({{0, "1"}, {0, "2"}, {0, "3"}, {0, "4"}, {1, "5"}});
  turn_until([&] { return source.acknowledged == 30; });
  EXPECT_FALSE(has("user:5") || has("user:7"));
  EXPECT_THAT(said, HasSubstr("one row leads to more than 3 rows of rule 'public.items'"));
  EXPECT_THAT(flow->status().not_ready, IsEmpty());
}

TEST_F(Lookups, WhoseAnswerIsTooLargeAreAskedInHalves) {
  source.to_send.push_back({30, {{"1", "100"}, {"1", "101"}, {"1", "102"}}});
  turn_until([&] { return source.asked.size() == 1; });
  EXPECT_THAT(source.asked[0].values[0], SizeIs(3));
  source.answer(LookupAnswer::Outcome::kTooMuch);
  turn_until([&] { return source.asked.size() == 2; });
  EXPECT_THAT(source.asked[1].values[0], ElementsAre("100"));
  source.answer({{0, "5"}});
  turn_until([&] { return source.asked.size() == 3; });
  EXPECT_THAT(source.asked[2].values[0], ElementsAre("101", "102"));
  EXPECT_LT(source.acknowledged, 30u);
  source.answer({{1, "7"}});
  turn_until([&] { return source.acknowledged == 30; });
  EXPECT_FALSE(has("user:5") || has("user:7"));
  EXPECT_TRUE(has("user:6"));
}

TEST_F(Lookups, OfABacklogAreNotLateBecauseASnapshotSawItLongAgo) {
  turn_for(60s);
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.answer({{0, "7"}});
  turn_until([&] { return source.acknowledged == 30; });
  EXPECT_FALSE(has("user:7"));
  EXPECT_TRUE(has("user:6"));
}

TEST_F(Lookups, ThatAreLostWithTheConnectionComeAgain) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.restarts = true;
  turn();
  turn_until([&] { return flow->status().not_ready.empty(); });
  EXPECT_THAT(source.asked, IsEmpty());
  turn_for(1s);
  EXPECT_LT(source.acknowledged, 30u);
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.answer({{0, "7"}});
  turn_until([&] { return source.acknowledged == 30; });
  EXPECT_FALSE(has("user:7"));
}

TEST_F(Lookups, ThatWaitForTooLongPurgeTheirPatterns) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  source.to_send.push_back({31, {{"2", "101"}}});
  turn_for(31s);
  EXPECT_TRUE(has("user:5"));
  source.answer(std::vector<std::pair<std::uint32_t, std::string>>{});
  turn_until([&] { return source.acknowledged == 31; });
  EXPECT_FALSE(has("user:5"));
  EXPECT_THAT(said, HasSubstr("lookups of rule 'public.items' are late by 30 s"));
}

class LookupsOfSmallCaches : public Lookups {
 protected:
  LookupsOfSmallCaches() { options.held_bytes_max = 16 * 1024; }
  std::uint64_t held() const { return flow->status().lanes[0].held_bytes; }
};

// Each row may lead to a thousand keys: while a cache takes none, no more is found than it has room for.
TEST_F(LookupsOfSmallCaches, AreNotAskedWhileWhatWasFoundFillsThem) {  // G8
  sink.frozen = true;
  std::size_t found = 0;
  const auto answer_what_is_asked = [&] {
    if (source.asked.size() == found) return;
    source.answer({{0, std::string(10'000, 'u') + std::to_string(++found)}});
  };
  for (std::uint64_t xid = 30; xid < 60; ++xid) {
    source.to_send.push_back({xid, {{"1", std::to_string(xid)}}});
    for (int i = 0; i < 20; ++i) {
      turn();
      answer_what_is_asked();
    }
  }
  EXPECT_LE(found, 3u);
  EXPECT_LT(held(), 3 * options.held_bytes_max);
  sink.frozen = false;
  for (int i = 0; i < 5000 && source.acknowledged < 59; ++i) {
    turn();
    answer_what_is_asked();
  }
  EXPECT_EQ(source.acknowledged, 59u);
  EXPECT_THAT(said, Not(HasSubstr("late")));
  EXPECT_THAT(flow->status().not_ready, IsEmpty());
}

// It is not the database that is too slow then.
TEST_F(LookupsOfSmallCaches, ThatWaitForThemForTooLongSaySo) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  sink.frozen = true;
  for (std::uint64_t xid = 31; xid < 40; ++xid) source.to_send.push_back({xid, {{"2", std::to_string(xid)}}});
  source.answer({{0, std::string(20'000, 'u')}});
  turn_for(35s);
  sink.frozen = false;
  turn_until([&] { return source.acknowledged == 39; });
  EXPECT_FALSE(has("user:5")) << "purged instead";
  EXPECT_THAT(said, HasSubstr("lookups of rule 'public.items' are late by 30 s, the caches are too slow for what they find"));
}

TEST_F(Lookups, ThatTheCacheHasNotAnsweredHoldTheAcknowledgement) {
  source.to_send.push_back({30, {{"1", "100"}}});
  turn_until([&] { return source.asked.size() == 1; });
  turn_for(1s);  // everything else of it has settled
  sink.frozen = true;
  source.answer({{0, "7"}});
  turn_for(1s);
  sink.frozen = false;
  sink.cut(0);
  turn_until([&] { return source.acknowledged == 30; });
  EXPECT_FALSE(has("user:7"));
}

}  // namespace
}  // namespace evictd::testing
