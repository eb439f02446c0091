// A fake source over a FakeDatabase. Passes the same contract tests as the real one; its faults are switches.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/interface/source.h"
#include "mapping/check.h"
#include "tests/support/fake_database.h"

namespace evictd::testing {

// What the server keeps of a slot, whichever process holds it.
struct FakeSlot {
  const void* holder = nullptr;  // the source that streams it; taken from it, it finds its connection ended at its next step
  bool exists = false;
  bool lost = false;             // what was not read is gone, and nothing more can be read from it
  std::uint64_t confirmed = 0;
  std::size_t gone_until = 0;    // so many of the log can no longer be read: a gap in the middle of the stream
};

class FakeSource final : public Source {
 public:
  explicit FakeSource(const FakeDatabase& database, std::shared_ptr<FakeSlot> slot = std::make_shared<FakeSlot>())
      : database_(database), slot_(std::move(slot)) {
    relation_.id = 1;
    relation_.generation = 1;
    relation_.schema = "public";
    relation_.table = "rows";
    // Both of the identity, so that an update which sends no old row changed neither.
    relation_.columns = {Column{"id", ValueType::kText, true}, Column{"grp", ValueType::kText, true}};
  }

  // The process is gone, and the server lets go of its slot.
  ~FakeSource() override { release(); }

  // ---- Faults
  bool server_up = true;          // false: disconnects and does not come back
  bool slot_taken = false;        // somebody else holds it
  int snapshot_delay_steps = 0;   // answers to request_snapshot() come so many steps later
  std::size_t changes_per_step = 3;
  bool heartbeat = false;
  SteadyTime::duration heartbeat_age{0};  // how long it took through the stream
  // The server's clock, which dates the commits, is ahead of ours by so much, and the source knows. Absent: nobody knows.
  std::optional<SystemTime::duration> clock_ahead;
  std::uint64_t foreign_bytes = 0;  // of WAL behind what the stream sends: another database's, or a long transaction's
  std::optional<std::uint64_t> retained_bytes;
  std::optional<std::int64_t> safe_bytes;
  // False: as Kafka without a database to ask. What arrives is visible, and since when it was there at the latest is
  // told, from a look at every step.
  bool has_snapshots = true;
  bool sends_keepalives = true;  // false: as Kafka, of a partition on which nothing more comes
  // Lookups: `{table: public.teams, match: {id: grp}}` finds one row, of which `name` is "team<grp>".
  int lookup_delay_steps = 0;  // answers to look_up() come so many steps later
  LookupAnswer::Outcome lookup_outcome = LookupAnswer::Outcome::kFound;
  std::string instance = "server-1";
  Epoch epoch = "1/1";
  std::map<std::string, std::string> tables = {{"public.rows", "oid=1 published=yes"}};

  // ---- What happened
  std::uint64_t confirmed() const { return slot_->confirmed; }
  std::uint64_t steps() const { return steps_; }
  bool connected() const { return connected_; }
  // In this connection.
  bool has_sent_all() const { return connected_ && next_ == database_.log().size(); }
  int connects() const { return connects_; }
  int lookups = 0;  // asked
  bool is_started() const { return started_; }

  void start(Now) override { started_ = true; }
  void proceed(const std::set<std::string>&) override {
    EVICTD_CHECK(facts_told_ && !connected_);
    may_proceed_ = true;
  }
  std::string stream_name(std::uint32_t stream) const override {
    EVICTD_CHECK(stream == 0);
    return "wal";
  }

  void step(Now now, std::size_t bytes_max, SourceHandler& handler) override {
    ++steps_;
    now_ = now;
    if (!started_) return;
    if (!has_snapshots) look(now);
    if (connected_ && (!server_up || instance != connected_to_ || restart_wanted_ || slot_->lost || slot_->holder != this)) {
      in_transaction_ = restart_wanted_ = false;
      release();
      snapshot_wanted_ = 0;
      handler.on_disconnected(Error{ErrorKind::kConnection, "fake source: disconnected", ""});
      return;
    }
    restart_wanted_ = false;
    if (!connected_) return connect(handler);
    answer_snapshot(handler);
    answer_lookup(handler);
    if (heartbeat) {
      heartbeat = false;
      handler.on_heartbeat(now.steady - heartbeat_age);
    }
    if (bytes_max > 0) stream(handler);
  }

  void wait_for(Waiting& waiting, bool wants_more) override {
    const bool has_more = connected_ ? wants_more && next_ < database_.log().size() : started_ && server_up && !slot_taken;
    if (has_more || snapshot_wanted_ > 0) waiting.wake_at(SteadyTime::min());
  }

  void acknowledge(const Position& end) override {
    EVICTD_CHECK(connected_);
    EVICTD_CHECK(end.value <= sent_);  // never past what was received
    if (slot_->holder != this) return;  // the server has ended this connection, and reads nothing of it
    slot_->confirmed = std::max(slot_->confirmed, end.value);
  }

  void request_snapshot() override { snapshot_wanted_ = 1 + snapshot_delay_steps; }
  void look_up(LookupRequest request, Now) override {
    EVICTD_CHECK(connected_ && !asked_);
    ++lookups;
    asked_ = std::move(request);
    lookup_steps_left_ = 1 + lookup_delay_steps;
  }
  void set_tables(const std::vector<std::string>& named) override { named_ = named; }
  void restart(Now) override { restart_wanted_ = connected_; }
  bool stop(Now) override {
    started_ = in_transaction_ = false;
    release();
    return true;
  }

  SourceStatus status() const override {
    SourceStatus status;
    status.connected = status.active = connected_;
    status.state = connected_ ? "streaming" : "connecting";
    if (connected_) {
      status.lag_bytes = database_.log_end() + 1 - std::min(slot_->confirmed, database_.log_end() + 1) + foreign_bytes;
    }
    status.slot_retained_bytes = retained_bytes;
    status.slot_safe_wal_bytes = safe_bytes;
    return status;
  }

 private:
  void release() {
    connected_ = facts_told_ = may_proceed_ = false;
    asked_.reset();
    if (slot_->holder == this) slot_->holder = nullptr;
  }

  void connect(SourceHandler& handler) {
    if (!server_up) return give_up(handler);
    if (slot_taken || slot_->holder != nullptr) {
      facts_told_ = may_proceed_ = false;
      return handler.on_standby("another fake");
    }
    if (!facts_told_) {
      facts_told_ = true;
      may_proceed_ = false;
      told_lost_ = slot_->lost;
      told_exists_ = slot_->exists;
      return handler.on_facts(facts());
    }
    if (!may_proceed_) return;
    if (slot_->lost != told_lost_ || slot_->exists != told_exists_) return give_up(handler);  // not the slot of the facts
    facts_told_ = may_proceed_ = false;
    if (slot_->lost || !slot_->exists) {
      slot_->confirmed = database_.log_end();
      slot_->gone_until = 0;
    }
    slot_->lost = false;
    slot_->exists = true;
    slot_->holder = this;
    connected_ = true;
    ++connects_;
    sent_ = slot_->confirmed;
    next_ = 0;
    while (next_ < database_.log().size() && database_.log()[next_].end <= slot_->confirmed) ++next_;
    next_row_ = 0;
    in_transaction_ = false;
    SourceConnected connected;
    connected.epoch = epoch;
    connected.instance = connected_to_ = instance;
    connected.source_identity = "fake";
    connected.tables = named_tables();
    connected.has_snapshots = has_snapshots;
    connected.begins["wal"] = slot_->confirmed;
    handler.on_connected(connected);
    // What the slot has confirmed is finished, and makes a position to compare with after a restart.
    handler.on_keepalive({0, slot_->confirmed});
  }

  // The attempt to connect fails. Whoever was told of it is told of its end: the facts are no longer those to answer.
  void give_up(SourceHandler& handler) {
    may_proceed_ = false;
    if (std::exchange(facts_told_, false)) handler.on_disconnected(Error{ErrorKind::kConnection, "fake source: no answer", ""});
  }

  std::map<std::string, std::string> named_tables() const {
    std::map<std::string, std::string> found;
    for (const std::string& name : named_) {
      if (const auto table = tables.find(name); table != tables.end()) found.insert(*table);
    }
    return found;
  }

  SourceFacts facts() const {
    SourceFacts facts;
    facts.epoch = epoch;
    facts.identity = "fake";
    facts.has_history = slot_->exists;
    facts.if_not_on_record = Gap{"record_missing", "the slot was read before, and there is no record of it", {}};
    facts.if_on_record = Gap{"slot_missing", "the slot of the record is gone", {}};
    if (slot_->lost) facts.gaps.push_back(Gap{"slot_lost", "the slot is lost", {}});
    if (slot_->exists) {
      facts.confirmed["wal"] = slot_->confirmed;
      facts.ends["wal"] = database_.log_end() + 1;  // as far as keepalives go
    }
    facts.tables = named_tables();
    return facts;
  }

  void answer_snapshot(SourceHandler& handler) {
    if (snapshot_wanted_ == 0 || --snapshot_wanted_ > 0) return;
    handler.on_snapshot(database_.snapshot());
  }

  void answer_lookup(SourceHandler& handler) {
    if (!asked_ || --lookup_steps_left_ > 0) return;
    const LookupRequest request = *std::exchange(asked_, std::nullopt);
    LookupAnswer answer;
    answer.number = request.number;
    answer.outcome = lookup_outcome;
    answer.problem = "fake source: cannot be looked up";
    answer.found.columns = {Column{"name", ValueType::kText, false}};
    if (answer.outcome == LookupAnswer::Outcome::kFound) {
      for (const std::string& group : request.values.at(0)) {
        answer.rows.push_back({static_cast<std::uint32_t>(answer.rows.size()), {"team" + group}});
      }
    }
    handler.on_found(answer);
  }

  void look(Now now) {
    const auto& log = database_.log();
    const std::size_t before = there_;
    while (there_ < log.size() && database_.is_visible(log[there_].xid)) ++there_;
    if (there_ > before) looks_.emplace_back(there_, now.steady);
  }

  std::optional<SteadyTime> known_since() const {
    for (const auto& [count, at] : looks_) {
      if (next_ < count) return at;
    }
    return std::nullopt;
  }

  std::optional<SteadyTime> committed_at(SystemTime commit_time) const {
    if (!clock_ahead) return std::nullopt;
    return now_.steady - (now_.system - (commit_time - *clock_ahead));
  }

  void stream(SourceHandler& handler) {
    if (next_ < slot_->gone_until && !in_transaction_) {
      next_ = slot_->gone_until;
      handler.on_gap(Gap{"out_of_range", "the next position is gone", {}});
      // Told like a transaction, as a source that has no keepalives does it: where it goes on may be the end for long.
      const Logged& last = database_.log()[next_ - 1];
      handler.on_begin({0, last.xid, last.commit_time, known_since(), last.end - 1});
      sent_ = last.end;
      handler.on_commit({0, last.end});
    }
    for (std::size_t budget = changes_per_step; budget > 0 && next_ < database_.log().size(); --budget) {
      const Logged& logged = database_.log()[next_];
      if (!has_snapshots && next_ >= there_) return;
      if (!in_transaction_) {
        in_transaction_ = true;
        next_row_ = 0;
        handler.on_begin({0, logged.xid, logged.commit_time, known_since(), logged.end - 1, committed_at(logged.commit_time)});
      }
      if (logged.truncate && next_row_ == 0) {
        handler.on_change(Change{Operation::kTruncate, &relation_, {}, {}});
      }
      if (!logged.truncate && next_row_ < logged.rows.size()) {
        const int row = logged.rows[next_row_++];
        const std::string id = std::to_string(row);
        const std::string group = std::to_string(FakeDatabase::group_of(row));
        const Value values[] = {{ValueState::kText, id}, {ValueState::kText, group}};
        handler.on_change(Change{Operation::kUpdate, &relation_, {}, values});
        if (next_row_ < logged.rows.size()) continue;
      }
      in_transaction_ = false;
      ++next_;
      sent_ = logged.end;
      handler.on_commit({0, logged.end});
    }
    if (next_ == database_.log().size() && !in_transaction_ && sends_keepalives) {
      sent_ = std::max(sent_, database_.log_end() + 1);
      handler.on_keepalive({0, database_.log_end() + 1});
    }
  }

  const FakeDatabase& database_;
  Now now_;
  const std::shared_ptr<FakeSlot> slot_;
  Relation relation_;
  std::vector<std::string> named_;
  std::string connected_to_;  // which server process
  std::size_t there_ = 0;                                 // transactions of the log that a look has found
  std::deque<std::pair<std::size_t, SteadyTime>> looks_;  // how many, and when
  bool started_ = false, connected_ = false, in_transaction_ = false, restart_wanted_ = false;
  bool facts_told_ = false, may_proceed_ = false, told_lost_ = false, told_exists_ = false;
  int snapshot_wanted_ = 0, connects_ = 0, lookup_steps_left_ = 0;
  std::optional<LookupRequest> asked_;
  std::uint64_t sent_ = 0, steps_ = 0;
  std::size_t next_ = 0, next_row_ = 0;
};

}  // namespace evictd::testing
