// Drives a Source as the daemon's loop does, and remembers what it said, in words that tests can
// compare.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/flow/ledger.h"
#include "daemon/interface/source.h"

namespace evictd::testing {

// "insert public.products new(id=1 slug=a)"; NULL, - (not sent) and ~ (unchanged) for the other
// states.
inline std::string describe_row(const Relation& relation, std::span<const Value> row) {
  std::string text;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (!text.empty()) text += ' ';
    text += relation.columns[i].name + '=';
    switch (row[i].state) {
      case ValueState::kNotSent:
        text += '-';
        break;
      case ValueState::kUnchanged:
        text += '~';
        break;
      case ValueState::kNull:
        text += "NULL";
        break;
      case ValueState::kText:
        text += row[i].text.substr(0, 60);
        break;
    }
  }
  return text;
}

inline std::string describe(const Change& change) {
  std::string text(operation_name(change.operation));
  text += " " + change.relation->qualified_name();
  for (const TableName& name : change.relation->also) text += "+" + name.schema + "." + name.table;
  if (!change.old_row.empty())
    text += " old(" + describe_row(*change.relation, change.old_row) + ")";
  if (!change.new_row.empty())
    text += " new(" + describe_row(*change.relation, change.new_row) + ")";
  return text;
}

class SourceJournal final : public SourceHandler {
 public:
  // A gap of the stream, or of the facts as a cache with `record` judges them (before it streams).
  struct SeenGap : Gap {
    Gap gap;
    bool before_streaming = false;
  };
  struct Transaction {
    Xid xid{};
    SystemTime commit_time;
    std::vector<std::string> changes;
    Position end;
  };

  // --- Switches
  bool acknowledges = true;   // each commit and keepalive at once
  bool proceeds = true;       // at once when there are facts
  bool judges = false;        // facts, by `record`
  bool keeps_changes = true;  // off for large transactions: only counted
  Source* source = nullptr;

  // --- What happened
  int connects = 0;
  std::optional<SourceConnected> connected;  // none while disconnected
  std::vector<Error> disconnects;
  std::vector<std::string> standbys;
  std::vector<SourceFacts> facts;
  std::map<std::string, std::uint64_t> on_record;  // by stream name, as a cache would have it
  std::map<std::string, std::string> tables;
  std::optional<Error> failure;
  std::vector<Transaction> transactions;  // with at least one change
  std::size_t empty_transactions = 0;
  std::size_t changes = 0;
  std::size_t committed_changes = 0;
  std::vector<SeenGap> gaps;
  std::optional<Record> record;  // as a cache would have it
  std::vector<Snapshot> snapshots;
  int heartbeats = 0;
  Position keepalive;
  Position last_commit;
  std::map<const Relation*, bool> relations;  // alive?

  std::vector<std::string> all_changes() const {
    std::vector<std::string> all;
    for (const Transaction& transaction : transactions) {
      all.insert(all.end(), transaction.changes.begin(), transaction.changes.end());
    }
    return all;
  }
  bool saw(const std::string& change) const {
    const auto all = all_changes();
    return std::find(all.begin(), all.end(), change) != all.end();
  }
  bool has_gap(const std::string& reason) const {
    return std::any_of(gaps.begin(), gaps.end(),
                       [&](const SeenGap& gap) { return gap.reason == reason; });
  }
  void proceed() {
    std::set<std::string> names;
    for (const auto& [name, position] : on_record) names.insert(name);
    source->proceed(names);
  }

  void on_facts(const SourceFacts& found) override {
    EXPECT_FALSE(connected) << "facts while streaming";
    facts.push_back(found);
    Ledger ledger("0000000000000000", std::chrono::milliseconds(200));
    ledger.found(record);
    for (const Gap& gap : judges ? ledger.judge(found) : std::vector<Gap>()) {
      // Met again at a further attempt: the cache has it on record.
      const bool known = std::any_of(gaps.begin(), gaps.end(), [&](const SeenGap& seen) {
        return seen.before_streaming && seen.reason == gap.reason && seen_in_ == connects;
      });
      if (!known) gaps.push_back({gap, gap, true});
    }
    seen_in_ = connects;
    if (proceeds) proceed();
  }
  void on_tables(const std::map<std::string, std::string>& now) override {
    tables = now;
    if (record) record->tables = now;
  }

  void on_connected(const SourceConnected& now) override {
    ++connects;
    EXPECT_FALSE(connected) << "connected twice";
    connected = now;
    EXPECT_FALSE(facts.empty()) << "streams without having told what it found";
    tables = now.tables;
    if (!record) record.emplace();
    record->epoch = now.epoch;
    record->source_instance = now.instance;
    record->source_identity = now.source_identity;
    record->tables = now.tables;
    record->acknowledged.clear();
    open_ = false;
  }
  void on_disconnected(const Error& error) override {
    connected.reset();
    disconnects.push_back(error);
    open_ = false;
  }
  void on_standby(std::string_view holder) override { standbys.emplace_back(holder); }
  void on_failed(const Error& error) override {
    EXPECT_FALSE(failure) << "failed twice";
    failure = error;
  }
  void on_begin(const TransactionBegin& begin) override {
    EXPECT_TRUE(connected) << "a transaction while disconnected";
    EXPECT_FALSE(open_) << "a transaction inside another";
    open_ = true;
    current_ = Transaction{begin.xid, begin.commit_time, {}, {}};
    count_ = 0;
  }
  void on_change(const Change& change) override {
    EXPECT_TRUE(open_) << "a change outside a transaction";
    relations[change.relation] = true;
    ++changes;
    ++count_;
    if (keeps_changes) current_.changes.push_back(describe(change));
  }
  void on_commit(const Position& end) override {
    EXPECT_TRUE(open_) << "a commit without a begin";
    EXPECT_GT(end.value, last_commit_of_session()) << "commits out of order";
    open_ = false;
    current_.end = end;
    last_commit = end;
    committed_changes += count_;
    if (count_ > 0) {
      transactions.push_back(current_);
    } else {
      ++empty_transactions;
    }
    if (acknowledges) acknowledge(end);
  }
  void on_relation_gone(const Relation& relation) override { relations[&relation] = false; }
  void on_gap(const Gap& gap) override {
    EXPECT_TRUE(connected) << "a gap outside the stream belongs to the facts";
    gaps.push_back({gap, gap, false});
  }
  void on_snapshot(const Snapshot& snapshot) override { snapshots.push_back(snapshot); }
  void on_heartbeat(SteadyTime) override { ++heartbeats; }
  void on_keepalive(const Position& position) override {
    EXPECT_FALSE(open_) << "a keepalive inside a transaction";
    keepalive = position;
    if (acknowledges) acknowledge(position);
  }

 private:
  void acknowledge(const Position& position) {
    on_record[source->stream_name(position.stream)] = position.value;
    if (record) record->acknowledged[source->stream_name(position.stream)] = position.value;
    source->acknowledge(position);
  }
  std::uint64_t last_commit_of_session() {
    if (session_ != connects) {
      session_ = connects;
      return 0;
    }
    return last_commit.value;
  }
  Transaction current_;
  bool open_ = false;
  std::size_t count_ = 0;
  int session_ = 0;
  int seen_in_ = 0;
};

class SourceDriver {
 public:
  // The time, for sources that are driven by a clock of their own; moved on by each turn. Empty:
  // the real one.
  using Clock = std::function<Now(std::chrono::milliseconds)>;

  explicit SourceDriver(Source& source, Clock clock = {})
      : source_(source), clock_(std::move(clock)) {
    journal.source = &source;
  }
  Now now() { return clock_ ? clock_(std::chrono::milliseconds(0)) : read_clocks(); }

  SourceJournal journal;
  std::size_t bytes_max = 256 * 1024;  // per step; 0: nobody has room

  void start() { source_.start(now()); }
  // As a cache with this on record, which judges what the source finds: see SourceJournal::gaps.
  void start(const std::optional<Record>& record) {
    journal.judges = true;
    journal.record = record;
    source_.start(now());
  }

  // One turn of the loop, waiting at most `patience` for something to happen.
  void turn(std::chrono::milliseconds patience = std::chrono::milliseconds(50)) {
    source_.step(now(), bytes_max, journal);
    if (clock_) {
      clock_(std::chrono::milliseconds(10));
      return;
    }
    Waiting waiting;
    source_.wait_for(waiting, bytes_max > 0);
    const auto steady = std::chrono::steady_clock::now();
    auto left = std::chrono::nanoseconds(patience);
    if (waiting.deadline < steady + left) left = std::max(waiting.deadline, steady) - steady;
    const timespec time{static_cast<time_t>(left.count() / 1'000'000'000),
                        left.count() % 1'000'000'000};
    ::ppoll(waiting.descriptors.data(), waiting.descriptors.size(), &time, nullptr);
  }

  // Turns until `done`. False when the time is over first.
  bool until(const std::function<bool()>& done,
             std::chrono::seconds limit = std::chrono::seconds(20)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      turn();
    }
    return true;
  }
  bool until_connected(std::chrono::seconds limit = std::chrono::seconds(20)) {
    return until([&] { return journal.connected.has_value(); }, limit);
  }
  // Counts changes of committed transactions.
  bool until_changes(std::size_t count, std::chrono::seconds limit = std::chrono::seconds(20)) {
    return until([&] { return journal.committed_changes >= count; }, limit);
  }
  void turn_for(std::chrono::milliseconds time) {
    const auto deadline = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < deadline) turn(std::chrono::milliseconds(10));
  }
  bool stop(std::chrono::seconds limit = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!source_.stop(now())) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      Waiting waiting;
      source_.wait_for(waiting, true);
      ::poll(waiting.descriptors.data(), waiting.descriptors.size(), 10);
    }
    return true;
  }

 private:
  Source& source_;
  Clock clock_;
};

}  // namespace evictd::testing
