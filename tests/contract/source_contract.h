// What every Source must do, whatever is behind it: run on the fake by the pipeline's tests, and on
// PostgreSQL by the postgres room's. A harness makes the source and writes behind it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
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
  // What the server keeps of our stream is gone: the next look at it is a gap. REQUIRES: nobody streams.
  virtual void lose_slot() {}
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

  void start(const std::optional<Record>& record = std::nullopt) {
    if (driver) driver->stop();
    driver.reset();
    source = harness->make_source();
    source->set_tables(harness->tables());
    driver = std::make_unique<SourceDriver>(*source, harness->clock());
    driver->start(record);
    ASSERT_TRUE(driver->until_connected());
  }
  SourceJournal& journal() { return driver->journal; }
  Record record() {
    Record result;
    if (!journal().connected) return result;
    result.epoch = journal().connected->epoch;
    result.source_instance = journal().connected->instance;
    result.source_identity = journal().connected->source_identity;
    result.tables = journal().connected->tables;
    result.acknowledged[kOnlyStream] = std::max(journal().last_commit.value, journal().keepalive.value);
    return result;
  }

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
  const Record last = record();
  ASSERT_TRUE(driver->stop());
  harness->write(1);
  start(last);
  ASSERT_TRUE(driver->until_changes(1));
  EXPECT_EQ(journal().changes, 1u);
  EXPECT_TRUE(journal().gaps.empty());
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

TEST_P(SourceContract, NothingIsTakenWhileThePipelineIsFull) {
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

TEST_P(SourceContract, ASlotWithoutARecordIsAGapThatWaitsToBeConfirmed) {
  if (!harness->misses_records())
    GTEST_SKIP() << "this source does not tell a first start from a lost record";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  ASSERT_TRUE(driver->stop());
  source = harness->make_source();
  source->set_tables(harness->tables());
  driver = std::make_unique<SourceDriver>(*source, harness->clock());
  journal().confirms_gaps = false;
  driver->start();
  ASSERT_TRUE(driver->until([&] { return !journal().gaps.empty(); }));
  EXPECT_TRUE(journal().gaps[0].needs_confirmation);
  EXPECT_FALSE(journal().connected);
  source->confirm_gap();
  EXPECT_TRUE(driver->until_connected());
}

TEST_P(SourceContract, AStandbyWantsTheRecordBeforeItDecidesAnything) {
  if (!harness->stands_by()) GTEST_SKIP() << "this source shares its stream";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const Record older = record();
  const auto second = harness->make_source();
  second->set_tables(harness->tables());
  SourceDriver waiting(*second, harness->clock());
  waiting.journal.gives_record = false;
  waiting.start(older);
  ASSERT_TRUE(waiting.until([&] { return !waiting.journal.standbys.empty(); }));
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(2));
  const Record newer = record();
  ASSERT_TRUE(driver->stop());
  ASSERT_TRUE(waiting.until([&] { return waiting.journal.records_wanted > 0; }));
  for (int turn = 0; turn < 30; ++turn) waiting.turn(std::chrono::milliseconds(10));
  EXPECT_FALSE(waiting.journal.connected);
  EXPECT_EQ(waiting.journal.records_wanted, 1);
  EXPECT_TRUE(waiting.journal.gaps.empty());
  second->use_record(newer);
  ASSERT_TRUE(waiting.until_connected());
  EXPECT_TRUE(waiting.journal.gaps.empty());
  harness->write(1);
  EXPECT_TRUE(waiting.until_changes(1));
  EXPECT_EQ(waiting.journal.changes, 1u);
  EXPECT_TRUE(waiting.stop());
}

// A sink that connects again while its source stands by hands over the record as it stands at that moment: the peer
// works on.
TEST_P(SourceContract, ARecordGivenWhileStandingByIsNotTheOneToDecideBy) {
  if (!harness->stands_by()) GTEST_SKIP() << "this source shares its stream";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const Record older = record();
  const auto second = harness->make_source();
  second->set_tables(harness->tables());
  SourceDriver waiting(*second, harness->clock());
  waiting.journal.gives_record = false;
  waiting.start(older);
  ASSERT_TRUE(waiting.until([&] { return !waiting.journal.standbys.empty(); }));
  second->use_record(older);
  const std::size_t looks = waiting.journal.standbys.size();
  ASSERT_TRUE(waiting.until([&] { return waiting.journal.standbys.size() > looks + 1; }));
  second->use_record(older);
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(2));
  const Record newer = record();
  ASSERT_TRUE(driver->stop());
  ASSERT_TRUE(waiting.until([&] { return waiting.journal.records_wanted > 0 || waiting.journal.connected; }));
  EXPECT_EQ(waiting.journal.records_wanted, 1);
  second->use_record(newer);
  ASSERT_TRUE(waiting.until_connected());
  EXPECT_TRUE(waiting.journal.gaps.empty());
  EXPECT_TRUE(waiting.stop());
}

TEST_P(SourceContract, AGapThatAPeerRepairedIsReportedAnewWhenItIsMetAgain) {
  if (!harness->stands_by()) GTEST_SKIP() << "this source shares its stream";
  start();
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  const Record before = record();
  ASSERT_TRUE(driver->stop());

  // Both find it; the peer is faster.
  harness->lose_slot();
  const auto second = harness->make_source();
  second->set_tables(harness->tables());
  SourceDriver waiting(*second, harness->clock());
  waiting.journal.confirms_gaps = false;
  waiting.start(before);
  ASSERT_TRUE(waiting.until([&] { return !waiting.journal.gaps.empty(); }));
  start(before);
  ASSERT_EQ(journal().gaps.size(), 1u);
  second->confirm_gap();
  ASSERT_TRUE(waiting.until([&] { return !waiting.journal.standbys.empty(); }));
  harness->write(1);
  ASSERT_TRUE(driver->until_changes(1));
  waiting.journal.record = record();
  ASSERT_TRUE(driver->stop());

  harness->lose_slot();
  ASSERT_TRUE(waiting.until([&] { return waiting.journal.gaps.size() > 1 || waiting.journal.connected; }));
  EXPECT_EQ(waiting.journal.gaps.size(), 2u);
  EXPECT_FALSE(waiting.journal.connected) << "streams over a gap that it told nobody";
  second->confirm_gap();
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
