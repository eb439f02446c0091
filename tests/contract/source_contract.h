// What every Source must do, whatever is behind it: run on the fake by the flow's tests, and on
// PostgreSQL by the postgres room's. A harness makes the source and writes behind it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/source_driver.h"

namespace evictd::testing {

// Behind a source: the database, and the faults of the way to it.
class SourceHarness {
 public:
  virtual ~SourceHarness() = default;
  // Empty, or why the tests cannot run here.
  virtual std::string missing() const { return {}; }
  // A new source over the same database, as a new process would make it.
  virtual std::unique_ptr<Source> make_source() = 0;
  virtual std::vector<std::string> tables() const = 0;
  virtual SourceDriver::Clock clock() { return {}; }
  // One committed transaction with `changes` changes of a mapped table.
  virtual void write(int changes) = 0;
  // False for a source that cannot tell a first start from a lost record (Kafka's group knows its
  // offsets).
  virtual bool misses_records() const { return true; }
  // False for a source that shares its stream with others instead of waiting for it (Kafka's groups).
  virtual bool stands_by() const { return true; }
  // What the server keeps of our stream is gone, or lost. REQUIRES: nobody streams.
  virtual bool can_lose_history() const { return false; }
  virtual void lose_history() {}
  // The connection breaks; the source may connect again at once.
  virtual void break_connection() = 0;
};

class SourceContract
    : public ::testing::TestWithParam<std::function<std::unique_ptr<SourceHarness>()>> {
 protected:
  void SetUp() override {
    harness = GetParam()();
    if (harness->missing().empty()) return;
    const char* required = std::getenv("EVICTD_REQUIRE_SERVERS");
    if (required != nullptr && std::string(required) == "1") FAIL() << harness->missing();
    GTEST_SKIP() << harness->missing();
  }
  void TearDown() override {
    if (driver) driver->stop();
    driver.reset();
    source.reset();
  }

  void start() {
    if (driver) driver->stop();
    driver.reset();
    source = harness->make_source();
    source->set_tables(harness->tables());
    driver = std::make_unique<SourceDriver>(*source, harness->clock());
    driver->start();
    ASSERT_TRUE(driver->until_connected());
  }
  SourceJournal& journal() { return driver->journal; }

  std::unique_ptr<SourceHarness> harness;
  std::unique_ptr<Source> source;
  std::unique_ptr<SourceDriver> driver;
};

TEST_P(SourceContract, TransactionsComeWholeAndInOrder) {
  start();
  for (int changes = 1; changes <= 5; ++changes) harness->write(changes);
  ASSERT_TRUE(driver->until_changes(15));
  ASSERT_EQ(journal().transactions.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(journal().transactions[i].changes.size(), i + 1);
    if (i == 0) continue;
    EXPECT_GT(journal().transactions[i].end.value, journal().transactions[i - 1].end.value);
  }
}

TEST_P(SourceContract, WhatWasNotAcknowledgedComesAgainAfterABreak) {
  start();
  journal().acknowledges = false;
  harness->write(2);
  harness->write(3);
  ASSERT_TRUE(driver->until_changes(5));
  const auto before = journal().all_changes();
  harness->break_connection();
  ASSERT_TRUE(driver->until_changes(10));
  EXPECT_GE(journal().connects, 2);
  EXPECT_EQ(journal().disconnects.size() + 1, static_cast<std::size_t>(journal().connects));
  const auto all = journal().all_changes();
  EXPECT_EQ(std::vector<std::string>(all.begin() + 5, all.end()), before);
}

TEST_P(SourceContract, WhatWasAcknowledgedDoesNotComeAgainAfterAStop) {
  start();
  harness->write(2);
  ASSERT_TRUE(driver->until_changes(2));
  const auto last = journal().on_record;
  ASSERT_TRUE(driver->stop());
  harness->write(1);
  start();
  ASSERT_TRUE(driver->until_changes(1));
  EXPECT_EQ(journal().changes, 1u);
  EXPECT_TRUE(journal().gaps.empty());
  if (harness->misses_records()) { EXPECT_EQ(journal().facts[0].confirmed, last); }
}

TEST_P(SourceContract, RestartDeliversAgain) {
  start();
  journal().acknowledges = false;
  harness->write(2);
  ASSERT_TRUE(driver->until_changes(2));
  source->restart(driver->now());
  ASSERT_TRUE(driver->until_changes(4));
  EXPECT_EQ(journal().connects, 2);
}

TEST_P(SourceContract, NothingIsTakenWhileNobodyHasRoom) {
  start();
  driver->bytes_max = 0;
  harness->write(3);
  for (int turn = 0; turn < 30; ++turn) driver->turn(std::chrono::milliseconds(10));
  EXPECT_EQ(journal().changes, 0u);
  driver->bytes_max = 256 * 1024;
  EXPECT_TRUE(driver->until_changes(3));
}

TEST_P(SourceContract, SnapshotsAnswerRequestsAndSeeWhatIsCommitted) {
  start();
  if (!journal().connected->has_snapshots) GTEST_SKIP() << "this source has no snapshots";
  EXPECT_TRUE(journal().snapshots.empty());
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const Xid xid = journal().transactions[0].xid;
  EXPECT_TRUE(driver->until([&] {
    if (!journal().snapshots.empty() && journal().snapshots.back().sees(xid)) return true;
    source->request_snapshot();
    return false;
  }));
}

// Whether anything is missing is judged by others; the source says what it found, and waits.
TEST_P(SourceContract, FactsAreToldAndNothingIsDoneBeforeTheyAreAnswered) {
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const SourceConnected connected = *journal().connected;
  const auto on_record = journal().on_record;
  ASSERT_TRUE(driver->stop());

  source = harness->make_source();
  source->set_tables(harness->tables());
  driver = std::make_unique<SourceDriver>(*source, harness->clock());
  journal().proceeds = false;
  journal().on_record = on_record;
  driver->start();
  ASSERT_TRUE(driver->until([&] { return !journal().facts.empty(); }));
  for (int turn = 0; turn < 30; ++turn) driver->turn(std::chrono::milliseconds(10));
  EXPECT_FALSE(journal().connected);
  EXPECT_EQ(journal().facts.size(), 1u) << "told once for each attempt";
  const SourceFacts& facts = journal().facts[0];
  EXPECT_EQ(facts.epoch, connected.epoch);
  EXPECT_EQ(facts.identity, connected.source_identity);
  EXPECT_EQ(facts.tables, connected.tables);
  EXPECT_TRUE(facts.has_history);
  EXPECT_TRUE(facts.gaps.empty());
  if (harness->misses_records()) {
    EXPECT_EQ(facts.confirmed, on_record) << "what was acknowledged";
    EXPECT_EQ(facts.if_not_on_record.reason, "record_missing");
  }
  journal().proceed();
  ASSERT_TRUE(driver->until_connected());
  EXPECT_EQ(journal().facts.size(), 1u);
}

TEST_P(SourceContract, AFirstStartHasNoHistory) {
  if (!harness->misses_records()) GTEST_SKIP() << "this source does not tell a first start";
  start();
  EXPECT_FALSE(journal().facts[0].has_history);
  EXPECT_TRUE(journal().facts[0].gaps.empty());
  EXPECT_TRUE(journal().facts[0].confirmed.empty());
}

// Before a stream is made anew, the gap is told; and again, until it was answered.
TEST_P(SourceContract, WhatIsLostIsInTheFactsUntilItWasAnswered) {
  if (!harness->can_lose_history()) GTEST_SKIP() << "not with this source";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const auto on_record = journal().on_record;
  ASSERT_TRUE(driver->stop());
  harness->lose_history();
  for (int process = 0; process < 2; ++process) {
    source = harness->make_source();
    source->set_tables(harness->tables());
    driver = std::make_unique<SourceDriver>(*source, harness->clock());
    journal().proceeds = false;
    journal().on_record = on_record;
    driver->start();
    ASSERT_TRUE(driver->until([&] { return !journal().facts.empty(); }));
    const SourceFacts& facts = journal().facts[0];
    EXPECT_TRUE(!facts.gaps.empty() || (!facts.has_history && facts.if_on_record)) << "process " << process;
    if (process == 0) { ASSERT_TRUE(driver->stop()); }
  }
  journal().proceed();
  ASSERT_TRUE(driver->until_connected());
  harness->write(1);
  EXPECT_TRUE(driver->until_changes(1));
}

TEST_P(SourceContract, AStandbyTellsWhatItFindsWhenItTakesOver) {
  if (!harness->stands_by()) GTEST_SKIP() << "this source shares its stream";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const auto second = harness->make_source();
  second->set_tables(harness->tables());
  SourceDriver waiting(*second, harness->clock());
  waiting.start();
  ASSERT_TRUE(waiting.until([&] { return waiting.journal.standbys.size() > 1; }));
  EXPECT_TRUE(waiting.journal.facts.empty()) << "facts of a slot that somebody else moves";
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(2));
  const auto on_record = journal().on_record;
  ASSERT_TRUE(driver->stop());
  ASSERT_TRUE(waiting.until_connected());
  ASSERT_EQ(waiting.journal.facts.size(), 1u);
  EXPECT_EQ(waiting.journal.facts[0].confirmed, on_record);
  harness->write(1);
  EXPECT_TRUE(waiting.until_changes(1));
  EXPECT_EQ(waiting.journal.changes, 1u);
  EXPECT_TRUE(waiting.stop());
}

// The answer to facts of before somebody else had the slot is no answer to those of now.
TEST_P(SourceContract, WhoWasOvertakenTellsItsFactsAnew) {
  if (!harness->stands_by() || !harness->can_lose_history()) GTEST_SKIP() << "not with this source";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  ASSERT_TRUE(driver->stop());
  const auto second = harness->make_source();
  second->set_tables(harness->tables());
  SourceDriver waiting(*second, harness->clock());
  waiting.journal.proceeds = false;
  waiting.start();
  ASSERT_TRUE(waiting.until([&] { return !waiting.journal.facts.empty(); }));
  start();
  waiting.journal.proceed();
  ASSERT_TRUE(waiting.until([&] { return !waiting.journal.standbys.empty(); }));
  ASSERT_TRUE(driver->stop());
  harness->lose_history();
  ASSERT_TRUE(waiting.until([&] { return waiting.journal.facts.size() > 1 || waiting.journal.connected; }));
  ASSERT_EQ(waiting.journal.facts.size(), 2u);
  for (int turn = 0; turn < 30; ++turn) waiting.turn(std::chrono::milliseconds(10));
  EXPECT_FALSE(waiting.journal.connected) << "streams over a gap that nobody put on record";
  waiting.journal.proceed();
  ASSERT_TRUE(waiting.until_connected());
  EXPECT_TRUE(waiting.stop());
}

TEST_P(SourceContract, StopEndsAndSaysSo) {
  start();
  EXPECT_TRUE(driver->stop());
  EXPECT_TRUE(source->stop(driver->now()));
  EXPECT_FALSE(source->status().connected);
}

}  // namespace evictd::testing
