#include "daemon/sources/postgres/snapshots.h"

#include <algorithm>
#include <utility>

namespace evictd {
namespace {

constexpr std::chrono::milliseconds kBackoffMin{100};
constexpr std::chrono::milliseconds kBackoffMax{2'000};
// Nobody has asked for a snapshot for so long: what is in hand is visible, and a server that shuts down
// need not wait for us.
constexpr std::chrono::milliseconds kUnused{1'000};
// An answer that takes longer is a problem to show; one that takes that long will not come.
constexpr std::chrono::milliseconds kAnswerLate{1'000};
constexpr std::chrono::milliseconds kAnswerMax{5'000};
constexpr int kSnapshotFunctionVersion =
    130'000;  // pg_current_snapshot(); before: txid_current_snapshot()

}  // namespace

void Snapshots::start(const Conninfo& conninfo, Now now) {
  conninfo_ = conninfo;
  started_ = true;
  prepared_ = under_way_ = false;
  connection_.open(conninfo_, now);
}

void Snapshots::stop() {
  started_ = false;
  is_shutting_down_ = false;
  probe_.close();
  connection_.close();
  refused_since_.reset();
  answer_.reset();
  is_requested_ = false;
  backoff_ = {};
  retry_at_ = {};
}

std::optional<Snapshots::Answer> Snapshots::take() { return std::exchange(answer_, std::nullopt); }

void Snapshots::lost(Now now) {
  const auto& failure = connection_.failure();
  if (failure) {
    problem_ = failure->told();
  } else if (problem_.empty()) {
    problem_ = "the connection was closed";
  }
  // 57P03: the server accepts no sessions (any more). 57P01: this one was ended, maybe by a
  // shutdown, which the next attempt will tell.
  if (failure && failure->sqlstate == "57P03" && !refused_since_) refused_since_ = now.steady;
  // The unanswered request is asked again on the next connection.
  if (under_way_) is_requested_ = true;
  prepared_ = under_way_ = false;
  backoff_ = std::clamp(backoff_ * 2, kBackoffMin, kBackoffMax);
  retry_at_ = now.steady + backoff_;
  connection_.close();
}

void Snapshots::suspect_shutdown(Now now) {
  if (!started_ || probe_.state() != PostgresConnection::State::kClosed) return;
  probe_.open(conninfo_, now);
}

// A connection that is refused because of a shutdown says so (57P03); one that is made shows that there is none.
void Snapshots::step_probe(Now now) {
  using State = PostgresConnection::State;
  probe_.step(now);
  if (probe_.state() == State::kConnecting) return;
  if (probe_.state() == State::kClosed && !probe_.failure()) return;
  is_shutting_down_ = probe_.failure() && probe_.failure()->sqlstate == "57P03";
  probe_.close();
}

void Snapshots::watch_answer(Now now) {
  if (connection_.state() != PostgresConnection::State::kBusy) return;
  if (now.steady - asked_at_ >= kAnswerLate) problem_ = "an answer takes longer than 1 s";
  if (now.steady - asked_at_ < kAnswerMax) return;
  problem_ = "no answer within 5 s";
  connection_.close();
}

bool Snapshots::may_leave(Now now) const {
  return is_shutting_down_ && !is_requested_ && !under_way_ && now.steady - used_at_ >= kUnused;
}

void Snapshots::step(Now now) {
  if (!started_) return;
  using State = PostgresConnection::State;
  step_probe(now);
  if (connection_.state() == State::kClosed) {
    if (connection_.failure()) return lost(now);
    if (now.steady < retry_at_) return;
    connection_.open(conninfo_, now);
  }
  connection_.step(now);
  if (connection_.state() == State::kClosed) return lost(now);
  if (const auto answer = connection_.take_answer()) read_answer(*answer);
  watch_answer(now);
  if (connection_.state() == State::kClosed) return lost(now);
  if (connection_.state() != State::kIdle) return;
  asked_at_ = now.steady;
  if (!prepared_) {
    const char* function = connection_.server_version() >= kSnapshotFunctionVersion
                               ? "pg_current_snapshot"
                               : "txid_current_snapshot";
    connection_.send(std::string("prepare evictd_snapshot as select ") + function +
                     "()::text, pg_current_wal_lsn()");
    prepared_ = true;
    return;
  }
  // A connection that is made and then does not answer is no better than none.
  if (!is_requested_) problem_.clear();
  refused_since_.reset();
  backoff_ = {};
  if (may_leave(now)) {
    is_shutting_down_ = false;
    refused_since_ = now.steady;
    retry_at_ = now.steady + kBackoffMin;
    prepared_ = false;
    problem_ = "the server is shutting down";
    return connection_.close();
  }
  if (is_requested_) {
    used_at_ = now.steady;
    is_requested_ = false;
    under_way_ = true;
    ++sent_;
    connection_.send_prepared("evictd_snapshot");
  }
}

void Snapshots::read_answer(const PostgresConnection::Answer& answer) {
  if (!under_way_) return;  // of the preparation; its failure shows when the statement is used
  under_way_ = false;
  if (answer.failure || answer.rows.size() != 1 || answer.rows[0].size() != 2) {
    problem_ = answer.failure ? answer.failure->text : "expected one row";
    is_requested_ = true;
    connection_.close();
    return;
  }
  auto snapshot = Snapshot::parse(answer.rows[0][0]);
  problem_.clear();
  const Lsn wal_end = Lsn::parse(answer.rows[0][1]).value_or(Lsn{});
  if (snapshot) answer_ = Answer{sent_, std::move(*snapshot), wal_end};
}

void Snapshots::wait_for(Waiting& waiting) const {
  if (!started_) return;
  using State = PostgresConnection::State;
  probe_.wait_for(waiting, true);
  const bool is_idle = connection_.state() == State::kIdle && prepared_ && !is_requested_;
  if (is_shutting_down_ && is_idle) waiting.wake_at(used_at_ + kUnused);
  if (connection_.state() == State::kClosed) {
    waiting.wake_at(connection_.failure() ? SteadyTime::min() : retry_at_);
    return;
  }
  if (connection_.state() == State::kIdle && (is_requested_ || !prepared_))
    waiting.wake_at(SteadyTime::min());
  if (connection_.state() == State::kBusy) {
    waiting.wake_at(problem_.empty() ? asked_at_ + kAnswerLate : asked_at_ + kAnswerMax);
  }
  connection_.wait_for(waiting, true);
}

}  // namespace evictd
