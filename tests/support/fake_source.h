// A fake source over a FakeDatabase. Passes the same contract tests as the real one; its faults are switches.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/interface/source.h"
#include "mapping/check.h"
#include "tests/support/fake_database.h"

namespace evictd::testing {

// What the server keeps of a slot, whichever process holds it.
struct FakeSlot {
  const void* holder = nullptr;  // the source that streams it
  bool lost = false;             // a gap, then a new slot at the end of the log
  std::uint64_t confirmed = 0;
};

class FakeSource final : public Source {
 public:
  explicit FakeSource(const FakeDatabase& database, std::shared_ptr<FakeSlot> slot = std::make_shared<FakeSlot>())
      : database_(database), slot_(std::move(slot)) {
    relation_.id = 1;
    relation_.generation = 1;
    relation_.schema = "public";
    relation_.table = "rows";
    relation_.columns = {Column{"id", ValueType::kText, true}};
  }

  // The process is gone, and the server lets go of its slot.
  ~FakeSource() override { release(); }

  // ---- Faults
  bool server_up = true;          // false: disconnects and does not come back
  bool slot_taken = false;        // somebody else holds it
  int snapshot_delay_steps = 0;   // answers to request_snapshot() come so many steps later
  std::size_t changes_per_step = 3;
  bool heartbeat = false;
  // False: as Kafka without a database to ask. What arrives is visible, and since when it was there at the latest is
  // told, from a look at every step.
  bool has_snapshots = true;
  std::string instance = "server-1";
  Epoch epoch = "1/1";

  // ---- What happened
  std::uint64_t confirmed() const { return slot_->confirmed; }
  std::uint64_t steps() const { return steps_; }
  bool connected() const { return connected_; }
  int connects() const { return connects_; }
  bool is_started() const { return started_; }

  void start(const std::optional<Record>& last_known, Now) override {
    started_ = true;
    record_seen_ = last_known;
  }
  void use_record(const std::optional<Record>& last_known) override {
    record_seen_ = last_known;
    record_is_stale_ = record_wanted_ = record_compared_ = false;
  }

  void step(Now now, std::size_t bytes_max, SourceHandler& handler) override {
    ++steps_;
    if (!started_) return;
    if (!has_snapshots) look(now);
    if (connected_ && (!server_up || restart_wanted_ || slot_->lost)) {
      in_transaction_ = restart_wanted_ = false;
      release();
      snapshot_wanted_ = 0;
      handler.on_disconnected(Error{ErrorKind::kConnection, "fake source: disconnected", ""});
      return;
    }
    restart_wanted_ = false;
    if (!connected_) return connect(handler);
    answer_snapshot(handler);
    if (heartbeat) {
      heartbeat = false;
      handler.on_heartbeat();
    }
    if (bytes_max > 0) stream(handler);
  }

  void wait_for(Waiting&, bool) override {}

  void acknowledge(const Position& end) override {
    EVICTD_CHECK(connected_);
    EVICTD_CHECK(end.value <= sent_);  // never past what was received
    slot_->confirmed = std::max(slot_->confirmed, end.value);
  }

  void request_snapshot() override { snapshot_wanted_ = 1 + snapshot_delay_steps; }
  void confirm_gap() override { gap_confirmed_ = true; }
  void set_tables(const std::vector<std::string>&) override {}
  void restart(Now) override { restart_wanted_ = connected_; }
  bool stop(Now) override {
    started_ = in_transaction_ = false;
    release();
    return true;
  }

  SourceStatus status() const override {
    SourceStatus status;
    status.connected = status.active = connected_;
    return status;
  }

 private:
  void release() {
    connected_ = false;
    if (slot_->holder == this) slot_->holder = nullptr;
  }

  void connect(SourceHandler& handler) {
    if (!server_up) return;
    const bool is_taken = slot_taken || slot_->holder != nullptr;
    if (std::exchange(stands_by_, is_taken) || is_taken) {
      // A peer moves the slot as it works, and repairs what was found before: at each look, the one that finds it free
      // included, nothing is known any more.
      record_is_stale_ = true;
      record_wanted_ = gap_reported_ = false;
      if (is_taken) return handler.on_standby("another fake");
    }
    if (record_is_stale_) {
      if (!std::exchange(record_wanted_, true)) handler.on_record_wanted();
      return;
    }
    if (!gap_reported_) {
      const std::string reason = find_gap();
      record_compared_ = true;
      if (!reason.empty()) {
        gap_reported_ = true;
        gap_confirmed_ = false;
        handler.on_gap(Gap{reason, "found by the fake", {}}, true);
        return;
      }
    } else if (!gap_confirmed_) {
      return;
    }
    gap_reported_ = false;
    if (slot_->lost) slot_->confirmed = database_.log_end();
    slot_->lost = false;
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
    connected.instance = instance;
    connected.source_identity = "fake";
    connected.has_snapshots = has_snapshots;
    handler.on_connected(connected);
    // What the slot has confirmed is finished, and makes a position to compare with after a restart.
    handler.on_keepalive({0, slot_->confirmed});
  }

  // As a real source does: what the record in Redis says against what the server knows.
  std::string find_gap() const {
    if (slot_->lost) return "slot_lost";
    if (record_compared_ || slot_->confirmed == 0) return "";
    if (!record_seen_) return "record_missing";
    const auto known = record_seen_->acknowledged.find(kOnlyStream);
    return known != record_seen_->acknowledged.end() && known->second < slot_->confirmed ? "slot_moved" : "";
  }

  void answer_snapshot(SourceHandler& handler) {
    if (snapshot_wanted_ == 0 || --snapshot_wanted_ > 0) return;
    handler.on_snapshot(database_.snapshot());
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

  void stream(SourceHandler& handler) {
    for (std::size_t budget = changes_per_step; budget > 0 && next_ < database_.log().size(); --budget) {
      const Logged& logged = database_.log()[next_];
      if (!has_snapshots && next_ >= there_) return;
      if (!in_transaction_) {
        in_transaction_ = true;
        next_row_ = 0;
        handler.on_begin({0, logged.xid, logged.commit_time, known_since()});
      }
      if (logged.truncate && next_row_ == 0) {
        handler.on_change(Change{Operation::kTruncate, &relation_, {}, {}});
      }
      if (!logged.truncate && next_row_ < logged.rows.size()) {
        const std::string id = std::to_string(logged.rows[next_row_++]);
        const Value value{ValueState::kText, id};
        handler.on_change(Change{Operation::kUpdate, &relation_, {}, {&value, 1}});
        if (next_row_ < logged.rows.size()) continue;
      }
      in_transaction_ = false;
      ++next_;
      sent_ = logged.end;
      handler.on_commit({0, logged.end});
    }
    if (next_ == database_.log().size() && !in_transaction_) {
      sent_ = std::max(sent_, database_.log_end() + 1);
      handler.on_keepalive({0, database_.log_end() + 1});
    }
  }

  const FakeDatabase& database_;
  const std::shared_ptr<FakeSlot> slot_;
  Relation relation_;
  std::size_t there_ = 0;                                 // transactions of the log that a look has found
  std::deque<std::pair<std::size_t, SteadyTime>> looks_;  // how many, and when
  std::optional<Record> record_seen_;
  bool started_ = false, connected_ = false, in_transaction_ = false, restart_wanted_ = false;
  bool gap_reported_ = false, gap_confirmed_ = false;
  bool stands_by_ = false, record_is_stale_ = false, record_wanted_ = false, record_compared_ = false;
  int snapshot_wanted_ = 0, connects_ = 0;
  std::uint64_t sent_ = 0, steps_ = 0;
  std::size_t next_ = 0, next_row_ = 0;
};

}  // namespace evictd::testing
