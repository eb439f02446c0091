// What every Sink must do, whatever is behind it: run on the fake by the flow's tests, and on
// Redis by the redis room's. A harness makes the sink and looks behind it.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/interface/sink.h"
#include "tests/support/sink_journal.h"

namespace evictd::testing {

// Behind a sink: the cache as readers see it, and the sink's faults.
class SinkHarness {
 public:
  virtual ~SinkHarness() = default;
  virtual Sink& sink() = 0;
  virtual Now now() = 0;
  // Lets time pass until something may have happened.
  virtual void wait(Sink& sink) = 0;

  virtual void plain_set(const std::string& key) = 0;
  virtual bool checked_fill(const std::string& key, const std::string& snapshot) = 0;
  virtual bool is_cached(const std::string& key) = 0;
  virtual void add_to_tag(const std::string& tag, const std::string& key) = 0;
  virtual bool knows_tags() const { return true; }
  // The connection breaks; what is under way may or may not be applied.
  virtual void break_connection() = 0;
};

class SinkContract
    : public ::testing::TestWithParam<std::function<std::unique_ptr<SinkHarness>()>> {
 protected:
  void SetUp() override {
    harness_ = GetParam()();
    if (!harness_) GTEST_SKIP() << "the server behind this sink is not installed";
    harness_->sink().start(harness_->now());
    until([&] { return journal_.connects == 1; });
    harness_->sink().set_context(SinkContext{"epoch/1", std::chrono::milliseconds(0)});
  }

  Sink& sink() { return harness_->sink(); }

  void until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << journal_.last_error.to_string();
      harness_->wait(sink());
      sink().step(harness_->now(), journal_);
    }
  }

  Outcome run(const OrderBuilder& wanted) {
    const Order order = wanted.order();
    until([&] { return sink().has_room(order.urgency()); });
    const Ticket ticket = ++last_ticket_;
    sink().submit(ticket, order);
    until([&] { return journal_.done.contains(ticket); });
    return journal_.done[ticket];
  }

  std::unique_ptr<SinkHarness> harness_;
  SinkJournal journal_;
  Ticket last_ticket_ = 0;
};

TEST_P(SinkContract, InvalidateDeletesWhatIsThere) {
  harness_->plain_set("a");
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("a", {10}).key("b", {10})), 1, 1, 0, 0);
  EXPECT_FALSE(harness_->is_cached("a"));
}

// What was done before is the lane's to know: nothing is left behind that could keep a value (G2).
TEST_P(SinkContract, APlainDeleteDeletesHoweverOften) {
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("a", {10})), 0, 1, 0, 0);
  harness_->plain_set("a");
  harness_->plain_set("b");
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("a", {10}).key("b", {10}).key("c", {10})), 2, 1, 0, 0);
  EXPECT_FALSE(harness_->is_cached("a"));
  EXPECT_TRUE(harness_->checked_fill("a", "5:6:")) << "a plain delete asks nothing of fills";
}

TEST_P(SinkContract, ReplayKeepsAValueFilledAfterTheFirstApply) {  // G2
  run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10}));
  harness_->plain_set("a");
  expect_counts(run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10})), 0, 0, 0, 1);
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, AnotherTransactionDeletesAgain) {
  run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10}));
  harness_->plain_set("a");
  expect_counts(run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10, 11})), 1, 0, 0, 0);
}

TEST_P(SinkContract, CheckedFillIsRefusedUntilItsSnapshotSeesTheTransaction) {  // G3
  run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10}));
  EXPECT_FALSE(harness_->checked_fill("a", "10:12:10"));
  EXPECT_FALSE(harness_->is_cached("a"));
  EXPECT_TRUE(harness_->checked_fill("a", "11:12:"));
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, FreshCheckedFillIsKeptWhenTrusted) {
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_counts(run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10})), 0, 0, 1, 0);
  expect_counts(run(OrderBuilder(Act::kInvalidate).trusting().key("a", {12})), 1, 0, 0, 0);
}

TEST_P(SinkContract, FreshCheckedFillIsDeletedWhenNotTrusted) {
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_counts(run(OrderBuilder(Act::kInvalidate).key("a", {10})), 1, 0, 0, 0);
}

TEST_P(SinkContract, SettleDeletesWhatWasFilledMeanwhile) {  // G4
  run(OrderBuilder(Act::kInvalidate).key("a", {10}).key("b", {10}));
  harness_->plain_set("a");
  expect_counts(run(OrderBuilder(Act::kSettle).key("a", {10}).key("b", {10})), 1, 1, 0, 0);
  EXPECT_FALSE(harness_->is_cached("a"));
}

TEST_P(SinkContract, SettleKeepsATrustedFreshFill) {
  run(OrderBuilder(Act::kInvalidate).trusting().key("a", {10}));
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_counts(run(OrderBuilder(Act::kSettle).trusting().key("a", {10})), 0, 0, 1, 0);
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, RenewLeavesATombstoneWhereOneIsGone) {
  run(OrderBuilder(Act::kRenew).trusting().key("a", {10}));
  EXPECT_FALSE(harness_->checked_fill("a", "10:12:10"));
}

TEST_P(SinkContract, RenewOfAPatternDeletesAndLeavesItsTombstoneWhereItIsGone) {  // G3
  ASSERT_TRUE(harness_->checked_fill("product:1", "10:12:10"));
  run(OrderBuilder(Act::kRenew).trusting().pattern("product:*", {10}));
  EXPECT_FALSE(harness_->is_cached("product:1"));
  EXPECT_FALSE(harness_->checked_fill("product:2", "10:12:10"));
  EXPECT_TRUE(harness_->checked_fill("product:2", "11:12:"));
  run(OrderBuilder(Act::kRenew).trusting().pattern("product:*", {10}));
  EXPECT_TRUE(harness_->is_cached("product:2"));
}

TEST_P(SinkContract, UnconditionalDeletesEvenAFreshFillAndAsksForTheFloor) {
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_counts(run(OrderBuilder(Act::kInvalidate).trusting().unconditional(20).key("a", {})), 1,
                 0, 0, 0);
  EXPECT_FALSE(harness_->checked_fill("a", "20:25:"));
  EXPECT_TRUE(harness_->checked_fill("a", "21:25:"));
}

TEST_P(SinkContract, PatternDeletesWhatMatchesAndNothingElse) {
  harness_->plain_set("product:1");
  harness_->plain_set("product:2");
  harness_->plain_set("order:1");
  run(OrderBuilder(Act::kInvalidate).pattern("product:*", {10}));
  EXPECT_FALSE(harness_->is_cached("product:1"));
  EXPECT_FALSE(harness_->is_cached("product:2"));
  EXPECT_TRUE(harness_->is_cached("order:1"));
}

TEST_P(SinkContract, ReplayOfASettledPatternOfACheckedRuleDoesNothing) {  // G2
  run(OrderBuilder(Act::kInvalidate).trusting().pattern("product:*", {10}));
  run(OrderBuilder(Act::kSettle).trusting().pattern("product:*", {10}));
  harness_->plain_set("product:1");
  run(OrderBuilder(Act::kInvalidate).trusting().pattern("product:*", {10}));
  EXPECT_TRUE(harness_->is_cached("product:1"));
}

TEST_P(SinkContract, TagDeletesItsMembers) {
  if (!harness_->knows_tags()) GTEST_SKIP() << "this sink has no tag sets";
  harness_->plain_set("a");
  harness_->plain_set("b");
  harness_->add_to_tag("category:1", "a");
  run(OrderBuilder(Act::kInvalidate, Target::kTags).key("category:1", {10}));
  EXPECT_FALSE(harness_->is_cached("a"));
  EXPECT_TRUE(harness_->is_cached("b"));
}

TEST_P(SinkContract, ABrokenConnectionEndsEveryOrderAndSubmittingAgainIsSafe) {
  const OrderBuilder order = OrderBuilder(Act::kInvalidate).key("a", {10});
  const OrderBuilder other = OrderBuilder(Act::kInvalidate).key("b", {10});
  sink().submit(1001, order.order());
  sink().submit(1002, other.order());
  harness_->break_connection();
  until([&] { return journal_.connects == 2; });
  EXPECT_EQ(journal_.disconnects, 1);
  for (const Ticket ticket : {1001, 1002})
    EXPECT_TRUE(journal_.lost.contains(ticket) || journal_.done.contains(ticket));
  const Outcome again = run(order);
  EXPECT_EQ(again.deleted + again.absent + again.replayed, 1u);
}

TEST_P(SinkContract, ManyPatternsAreOneWalkThatCountsEach) {
  harness_->plain_set("product:1");
  harness_->plain_set("product:2");
  harness_->plain_set("order:1");
  harness_->plain_set("user:1");
  const Outcome outcome = run(OrderBuilder(Act::kInvalidate).unconditional(20).pattern("product:*", {}).pattern("order:*", {}).pattern("none:*", {}));
  EXPECT_FALSE(harness_->is_cached("product:1"));
  EXPECT_FALSE(harness_->is_cached("product:2"));
  EXPECT_FALSE(harness_->is_cached("order:1"));
  EXPECT_TRUE(harness_->is_cached("user:1"));
  ASSERT_EQ(outcome.by_pattern.size(), 3u);
  EXPECT_EQ(outcome.by_pattern[0].deleted, 2u);
  EXPECT_EQ(outcome.by_pattern[1].deleted, 1u);
  EXPECT_EQ(outcome.by_pattern[2].deleted, 0u);
  EXPECT_EQ(outcome.deleted, 3u);
}

// However many walks there are, a delete finds its place, and does not wait for their end.
TEST_P(SinkContract, WalksNeverTakeTheRoomOfDeletes) {
  for (int i = 0; i < 2000; ++i) harness_->plain_set("product:" + std::to_string(i));
  const OrderBuilder walk = OrderBuilder(Act::kInvalidate).unconditional(20).pattern("product:*", {});
  const OrderBuilder prompt = OrderBuilder(Act::kInvalidate).key("a", {10});
  Ticket walks = 0;
  while (sink().has_room(Urgency::kBulk) && walks < 100) sink().submit(2000 + walks++, walk.order());
  EXPECT_LT(walks, 100u) << "bounded";
  EXPECT_GT(walks, 0u);
  ASSERT_TRUE(sink().has_room(Urgency::kPrompt));
  sink().submit(1001, prompt.order());
  until([&] { return journal_.done.contains(1001); });
  const Ticket last = 2000 + walks - 1;
  EXPECT_FALSE(journal_.done.contains(last)) << "the delete waited for every walk";
  until([&] { return journal_.done.contains(last); });
}

TEST_P(SinkContract, TheRecordComesBackAsItWasSaved) {
  Record record;
  record.writer = "9f86d081884c7d65";
  record.sequence = 4711;
  record.epoch = "7312/1";
  record.source_instance = "17000/2 2";
  record.epoch_since = std::chrono::milliseconds(1'700'000'000'000);
  record.acknowledged = {{"wal", 77}, {"a topic/3", 18446744073709551615u}};
  record.source_identity = "16384/evictd";
  record.tables = {{"public.pro ducts%\n", "oid=16390 published=yes"}};
  record.rules = {{"public.products", 18446744073709551615u}};
  record.gaps = {"slot_lost", "table_recreated"};
  sink().save_record(record);
  until([&] { return !journal_.records_saved.empty(); });
  EXPECT_EQ(journal_.records_saved, (std::vector<std::uint64_t>{4711}));
  harness_->break_connection();
  until([&] { return journal_.connects == 2; });
  ASSERT_TRUE(journal_.last_connected.record.has_value());
  EXPECT_EQ(*journal_.last_connected.record, record);  // whole, so that no member is forgotten
}

TEST_P(SinkContract, TheRecordIsReadAsItStandsNow) {
  sink().load_record(1);
  until([&] { return journal_.records_loaded.contains(1); });
  EXPECT_FALSE(journal_.records_loaded[1].has_value());
  Record record;
  record.epoch = "7312/1";
  record.gaps = {"slot_lost"};
  record.sequence = 5;
  sink().save_record(record);
  sink().load_record(2);
  until([&] { return journal_.records_loaded.contains(2); });
  ASSERT_TRUE(journal_.records_loaded[2].has_value());
  EXPECT_EQ(*journal_.records_loaded[2], record);
}

// Who stops it asks for nothing more.
// What it does not refuse it serves; with what it refuses it is away, and neither ends nor has to be made anew (G9).
TEST_P(SinkContract, RulesThatItRefusesKeepItAwayUntilItHasOthers) {
  const SinkContext fine{"epoch/1", std::chrono::milliseconds(0)};
  EXPECT_FALSE(sink().refusal(fine));
  SinkContext announcing = fine, of_one_server = fine;
  announcing.channels = {"news"};
  of_one_server.needs_one_server = "semantic";
  for (const SinkContext& asked : {announcing, of_one_server}) {
    const std::optional<Error> refusal = sink().refusal(asked);
    sink().set_context(asked);
    if (refusal) {
      EXPECT_NE(refusal->text, "");
      EXPECT_NE(refusal->hint, "");
      until([&] { return !sink().status().connected; });
      sink().set_context(fine);
      until([&] { return sink().status().connected; });
    }
    run(OrderBuilder(Act::kInvalidate).key("a", {10}));
    EXPECT_FALSE(journal_.failed);
    sink().set_context(fine);
  }
}

TEST_P(SinkContract, NothingIsToldAfterAStop) {
  const OrderBuilder order = OrderBuilder(Act::kInvalidate).key("a", {10});
  sink().submit(1001, order.order());
  sink().stop();
  EXPECT_FALSE(sink().status().connected) << "nobody steps it again";
  sink().step(harness_->now(), journal_);
  EXPECT_FALSE(journal_.lost.contains(1001) || journal_.done.contains(1001));
  EXPECT_FALSE(sink().status().connected);
}

}  // namespace evictd::testing
