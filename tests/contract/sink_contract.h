// What every Sink must do, whatever is behind it: run on the fake by the pipeline's tests, and on
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

  Outcome run(const Command& command) {
    until([&] { return sink().has_room(); });
    const Ticket ticket = ++last_ticket_;
    sink().submit(ticket, command);
    until([&] { return journal_.done.contains(ticket); });
    return journal_.done[ticket];
  }

  std::unique_ptr<SinkHarness> harness_;
  SinkJournal journal_;
  Ticket last_ticket_ = 0;
};

TEST_P(SinkContract, InvalidateDeletesWhatIsThere) {
  harness_->plain_set("a");
  expect_outcome(run(CommandBuilder(Act::kInvalidate).key("a", {10}).key("b", {10})), 1, 1, 0, 0);
  EXPECT_FALSE(harness_->is_cached("a"));
}

TEST_P(SinkContract, ReplayKeepsAValueFilledAfterTheFirstApply) {  // G2
  run(CommandBuilder(Act::kInvalidate).key("a", {10}));
  harness_->plain_set("a");
  const Outcome again = run(CommandBuilder(Act::kInvalidate).key("a", {10}));
  expect_outcome(again, 0, 0, 0, 1);
  EXPECT_TRUE(again.already_settled.empty());
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, AnotherTransactionDeletesAgain) {
  run(CommandBuilder(Act::kInvalidate).key("a", {10}));
  harness_->plain_set("a");
  expect_outcome(run(CommandBuilder(Act::kInvalidate).key("a", {10, 11})), 1, 0, 0, 0);
}

TEST_P(SinkContract, CheckedFillIsRefusedUntilItsSnapshotSeesTheTransaction) {  // G3
  run(CommandBuilder(Act::kInvalidate).key("a", {10}));
  EXPECT_FALSE(harness_->checked_fill("a", "10:12:10"));
  EXPECT_FALSE(harness_->is_cached("a"));
  EXPECT_TRUE(harness_->checked_fill("a", "11:12:"));
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, FreshCheckedFillIsKeptWhenTrusted) {
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_outcome(run(CommandBuilder(Act::kInvalidate).trusting().key("a", {10})), 0, 0, 1, 0);
  expect_outcome(run(CommandBuilder(Act::kInvalidate).trusting().key("a", {12})), 1, 0, 0, 0);
}

TEST_P(SinkContract, FreshCheckedFillIsDeletedWhenNotTrusted) {
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_outcome(run(CommandBuilder(Act::kInvalidate).key("a", {10})), 1, 0, 0, 0);
}

TEST_P(SinkContract, SettleDeletesAPlainFillOnceAndMarksIt) {  // G4
  run(CommandBuilder(Act::kInvalidate).key("a", {10}).key("b", {10}));
  harness_->plain_set("a");
  expect_outcome(run(CommandBuilder(Act::kSettle).key("a", {10}).key("b", {10})), 1, 1, 0, 0);
  harness_->plain_set("a");
  const Outcome replay =
      run(CommandBuilder(Act::kInvalidate).key("a", {10}).key("c", {10}).key("b", {10}));
  expect_outcome(replay, 0, 1, 0, 2);
  EXPECT_EQ(replay.already_settled, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, BornSettledNeedsNoSettle) {
  run(CommandBuilder(Act::kInvalidate).settled().key("a", {10}));
  const Outcome replay = run(CommandBuilder(Act::kInvalidate).key("a", {10}));
  EXPECT_EQ(replay.already_settled, (std::vector<std::uint32_t>{0}));
}

TEST_P(SinkContract, AnUnsettledTransactionBesideASettledOneIsNotSettled) {
  run(CommandBuilder(Act::kInvalidate).key("a", {10}));
  run(CommandBuilder(Act::kSettle).key("a", {10}));
  run(CommandBuilder(Act::kInvalidate).key("a", {11}));
  EXPECT_TRUE(run(CommandBuilder(Act::kInvalidate).key("a", {10, 11})).already_settled.empty());
}

TEST_P(SinkContract, SettleKeepsATrustedFreshFill) {
  run(CommandBuilder(Act::kInvalidate).trusting().key("a", {10}));
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_outcome(run(CommandBuilder(Act::kSettle).trusting().key("a", {10})), 0, 0, 1, 0);
  EXPECT_TRUE(harness_->is_cached("a"));
}

TEST_P(SinkContract, RenewLeavesATombstoneWhereOneIsGone) {
  run(CommandBuilder(Act::kRenew).trusting().key("a", {10}));
  EXPECT_FALSE(harness_->checked_fill("a", "10:12:10"));
}

TEST_P(SinkContract, UnconditionalDeletesEvenAFreshFillAndAsksForTheFloor) {
  ASSERT_TRUE(harness_->checked_fill("a", "11:12:"));
  expect_outcome(run(CommandBuilder(Act::kInvalidate).trusting().unconditional(20).key("a", {})), 1,
                 0, 0, 0);
  EXPECT_FALSE(harness_->checked_fill("a", "20:25:"));
  EXPECT_TRUE(harness_->checked_fill("a", "21:25:"));
}

TEST_P(SinkContract, PatternDeletesWhatMatchesAndNothingElse) {
  harness_->plain_set("product:1");
  harness_->plain_set("product:2");
  harness_->plain_set("order:1");
  run(CommandBuilder(Act::kInvalidate, Target::kPattern).key("product:*", {10}));
  EXPECT_FALSE(harness_->is_cached("product:1"));
  EXPECT_FALSE(harness_->is_cached("product:2"));
  EXPECT_TRUE(harness_->is_cached("order:1"));
}

TEST_P(SinkContract, ReplayOfASettledPatternDoesNothing) {  // G2
  run(CommandBuilder(Act::kInvalidate, Target::kPattern).key("product:*", {10}));
  run(CommandBuilder(Act::kSettle, Target::kPattern).key("product:*", {10}));
  harness_->plain_set("product:1");
  run(CommandBuilder(Act::kInvalidate, Target::kPattern).key("product:*", {10}));
  EXPECT_TRUE(harness_->is_cached("product:1"));
}

TEST_P(SinkContract, TagDeletesItsMembers) {
  if (!harness_->knows_tags()) GTEST_SKIP() << "this sink has no tag sets";
  harness_->plain_set("a");
  harness_->plain_set("b");
  harness_->add_to_tag("category:1", "a");
  run(CommandBuilder(Act::kInvalidate, Target::kTags).key("category:1", {10}));
  EXPECT_FALSE(harness_->is_cached("a"));
  EXPECT_TRUE(harness_->is_cached("b"));
}

TEST_P(SinkContract, ABrokenConnectionEndsEveryCommandAndSubmittingAgainIsSafe) {
  const Command command = CommandBuilder(Act::kInvalidate).key("a", {10});
  const Command other = CommandBuilder(Act::kInvalidate).key("b", {10});
  sink().submit(1001, command);
  sink().submit(1002, other);
  harness_->break_connection();
  until([&] { return journal_.connects == 2; });
  EXPECT_EQ(journal_.disconnects, 1);
  for (const Ticket ticket : {1001, 1002})
    EXPECT_TRUE(journal_.lost.contains(ticket) || journal_.done.contains(ticket));
  const Outcome again = run(command);
  EXPECT_EQ(again.deleted + again.absent + again.replayed, 1u);
}

TEST_P(SinkContract, TheRecordComesBackAsItWasSaved) {
  Record record;
  record.writer = "9f86d081884c7d65";
  record.sequence = 4711;
  record.epoch = "7312/1";
  record.source_instance = "17000/2 2";
  record.epoch_since = std::chrono::milliseconds(1'700'000'000'000);
  record.acknowledged = {{"wal", 77}, {"a b%[3]#1", 18446744073709551615u}};
  record.source_identity = "16384/evictd";
  record.tables = {{"public.pro ducts%\n", "16390/5f%"}};
  record.gap = "slot_lost";
  sink().save_record(record, 5);
  until([&] { return !journal_.records_saved.empty(); });
  EXPECT_EQ(journal_.records_saved, (std::vector<std::uint64_t>{5}));
  harness_->break_connection();
  until([&] { return journal_.connects == 2; });
  ASSERT_TRUE(journal_.last_connected.record.has_value());
  // Whole, so that no member is forgotten.
  const Record& loaded = *journal_.last_connected.record;
  EXPECT_EQ(loaded, record);
}

TEST_P(SinkContract, TheRecordIsReadAsItStandsNow) {
  sink().load_record(1);
  until([&] { return journal_.records_loaded.contains(1); });
  EXPECT_FALSE(journal_.records_loaded[1].has_value());
  Record record;
  record.epoch = "7312/1";
  record.gap = "slot_lost";
  sink().save_record(record, 5);
  sink().load_record(2);
  until([&] { return journal_.records_loaded.contains(2); });
  ASSERT_TRUE(journal_.records_loaded[2].has_value());
  EXPECT_EQ(journal_.records_loaded[2]->gap, "slot_lost");
}

TEST_P(SinkContract, StopEndsWhatIsUnderWay) {
  const Command command = CommandBuilder(Act::kInvalidate).key("a", {10});
  sink().submit(1001, command);
  sink().stop();
  sink().step(harness_->now(), journal_);
  EXPECT_TRUE(journal_.lost.contains(1001) || journal_.done.contains(1001));
}

}  // namespace evictd::testing
