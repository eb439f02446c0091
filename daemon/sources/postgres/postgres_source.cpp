#include "daemon/sources/postgres/postgres_source.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/sources/postgres/postgres_source_impl.h"
#include "mapping/check.h"

namespace evictd {
namespace {

constexpr std::chrono::seconds kSnapshotsAwayMax{3};
constexpr std::chrono::seconds kCatalogueLate{5};
constexpr std::chrono::seconds kSilenceTold{20};

}  // namespace

Requirements requirements_of(const RuleSet& rules) {
  return Requirements{rules.rules(), column_needs(rules), column_uses(rules)};
}

PostgresSource::PostgresSource(PostgresOptions options)
    : options_(std::move(options)),
      slot_(options_.temporary_slot
                ? fmt::format("{}_watch_{}", options_.slot.substr(0, 40), ::getpid())
                : options_.slot),
      silence_(kSilenceTold),
      snapshots_away_(kSnapshotsAwayMax),
      catalogue_away_(kCatalogueLate),
      watch_(options_.watch_interval),
      heartbeat_(fmt::format("{}-{}", ::getpid(), std::chrono::system_clock::now().time_since_epoch().count()), options_.heartbeat),
      worker_(options_.answer_max) {}

void PostgresSource::start(Now now) {
  EVICTD_CHECK(state_ == State::kIdle);
  now_ = now;
  retries_.due_at(now.steady);
  state_ = State::kWaiting;
}

void PostgresSource::proceed(const std::set<std::string>&) { may_proceed_ = true; }

void PostgresSource::step(Now now, std::size_t bytes_max, SourceHandler& handler) {
  now_ = now;
  handler_ = &handler;
  for (const PostgresNotice& said : std::exchange(notices_, {})) {
    if (options_.on_notice) options_.on_notice(said);
  }
  worker_.run_completions();
  for (auto& [host, worker] : host_workers_) worker.run_completions();
  snapshots_.step(now);
  if (pending_restart_) {
    const Error error = *std::exchange(pending_restart_, std::nullopt);
    if (is_streaming()) disconnect(error, std::chrono::milliseconds(0));
  }
  watch_snapshots();
  watch_catalogue();
  if (is_streaming()) {
    deliver_snapshots();
    if (is_streaming()) deliver_lookups();
    if (is_streaming()) stream(bytes_max);
    run_side_work();
    if (snapshots_.has_unsent_request()) snapshots_.step(now);  // what was asked for meanwhile
  } else {
    advance();
  }
  handler_ = nullptr;
}

void PostgresSource::wait_for(Waiting& waiting, bool want_data) {
  worker_.wait_for(waiting);
  for (const auto& [host, worker] : host_workers_) worker.wait_for(waiting);
  snapshots_.wait_for(waiting);
  lookups_.wait_for(waiting);
  if (refused_lookup_) waiting.wake_at(SteadyTime::min());
  if (pending_restart_ || !notices_.empty()) waiting.wake_at(SteadyTime::min());
  switch (state_) {
    case State::kIdle:
    case State::kFailed:
    case State::kStopped:
      return;
    case State::kWaiting:
      return waiting.wake_at(retries_.due());
    case State::kStandby:
      if (!polling_slot_) waiting.wake_at(retries_.due());
      return;
    case State::kJudging:
      if (may_proceed_) waiting.wake_at(SteadyTime::min());
      break;
    case State::kCreatingSlot:
      waiting.wake_at(slot_wait_.due());
      break;
    case State::kStreaming: {
      const bool is_quiet = !pace_.may_read(now_.steady);
      if (want_data && is_quiet) waiting.wake_at(pace_.quiet_until());
      if (want_data && pace_.has_more() && !held_) waiting.wake_at(SteadyTime::min());
      stream_.wait_for(waiting, want_data && !is_quiet && !held_);
      waiting.wake_at(std::min({watch_.due(), counting_.due(), heartbeat_.due(), wanted_.refresh_at(), later_primary_.due()}));
      if (const auto since = snapshots_.refused_since())
        waiting.wake_at(std::max(*since, unacknowledged_since_) + options_.shutdown_grace);
      for (const auto& due : {xids_.doubt_at(), claims_.ask_at(), barrier_.ask_at()}) {
        if (due) waiting.wake_at(*due);
      }
      return;
    }
    default:
      break;
  }
  stream_.wait_for(waiting, true);
}

void PostgresSource::acknowledge(const Position& end) {
  if (!is_streaming()) return;  // it comes again
  stream_.acknowledge(Lsn{end.value});
}

void PostgresSource::request_snapshot() { wanted_.wanted(snapshots_.request()); }

void PostgresSource::look_up(LookupRequest request, Now now) {
  if (!is_streaming()) return;  // forgotten with the connection
  const RuleInfo& rule = request.rules->rules()[request.rule];
  const auto table = facts_.tables.find(rule.qualified_table());
  std::vector<LookupParameter> parameters;
  for (const JoinStep::Match& match : rule.lookups[request.lookup].steps[0].match) {
    const ColumnFacts* column = table == facts_.tables.end() ? nullptr : table->second.table.find_column(match.from);
    if (column == nullptr || column->category == 'A') {
      refused_lookup_.emplace();
      refused_lookup_->number = request.number;
      refused_lookup_->problem = fmt::format(fmt::runtime(column == nullptr ? "table '{}' has no column '{}'" : "{}.{} is an array, which no join begins with"),
                                             rule.qualified_table(), match.from);
      return;
    }
    parameters.push_back({column->type_name, column->loose_collation});
  }
  lookups_.ask(std::move(request), std::move(parameters), now);
}

void PostgresSource::set_tables(const std::vector<std::string>& tables) {
  if (tables == tables_) return;
  tables_ = tables;
  watch_.look_at_once();
}

void PostgresSource::restart(Now now) {
  now_ = now;
  if (is_streaming()) {
    pending_restart_ = Error{ErrorKind::kTransient, "the stream starts again for redelivery", {}};
  }
}

bool PostgresSource::stop(Now now) {
  now_ = now;
  if (state_ == State::kStopped || state_ == State::kIdle || state_ == State::kFailed) return true;
  if (state_ != State::kStopping) {
    if (is_streaming()) {
      stream_.end(now);
    } else {
      stream_.close();
    }
    snapshots_.stop();
    lookups_.stop();
    ++attempt_;
    state_ = State::kStopping;
  }
  stream_.step(now);
  if (stream_.state() != ReplicationStream::State::kClosed) return false;
  state_ = State::kStopped;
  return true;
}

SourceStatus PostgresSource::status() const {
  SourceStatus status;
  status.connected = is_streaming();
  status.active = is_streaming();
  switch (state_) {
    case State::kIdle:
      status.state = "not started";
      break;
    case State::kWaiting:
      status.state = "waiting to connect";
      break;
    case State::kConnecting:
    case State::kReading:
    case State::kFirstSnapshot:
    case State::kStarting:
      status.state = "connecting";
      break;
    case State::kJudging:
      status.state = "comparing with what the caches have on record";
      break;
    case State::kRepairing:
      status.state = "preparing";
      break;
    case State::kCreatingSlot:
      status.state = "creating slot";
      break;
    case State::kStreaming:
      status.state = "streaming";
      break;
    case State::kStandby:
      status.state = "standby";
      break;
    case State::kFailed:
      status.state = "failed";
      break;
    case State::kStopping:
    case State::kStopped:
      status.state = "stopped";
      break;
  }
  if (is_streaming() && statistics_) {
    const auto behind = [&](Lsn from) {
      return statistics_->wal_end > from ? statistics_->wal_end.value - from.value : 0;
    };
    status.lag_bytes = behind(stream_.acknowledged());
    if (statistics_->restart != Lsn{}) status.slot_retained_bytes = behind(statistics_->restart);
    status.slot_safe_wal_bytes = statistics_->safe_wal_bytes;
  }
  if (is_streaming() && silence_.is_told()) {
    status.problem = kSilentText;
  } else if (is_streaming() && snapshots_away_.is_told()) {
    status.problem = "cannot ask which transactions are visible: " + snapshots_.problem();
  } else if (catalogue_away_.is_told()) {
    status.problem = kCatalogueLateText;
  } else if (is_streaming() && !plan_.problems.empty()) {
    std::string all;
    for (const std::string& problem : plan_.problems) {
      // One that ends with a statement has its semicolon.
      if (!all.empty()) all += all.back() == ';' ? " " : "; ";
      all += problem;
    }
    status.problem = std::move(all);
  } else if (is_streaming() && !watch_.problem().empty()) {
    status.problem = watch_.problem();
  } else if (is_streaming() && !heartbeat_.problem().empty()) {
    status.problem = std::string(heartbeat_.problem());
  }
  if (state_ == State::kCreatingSlot && !slot_wait_.problem().empty()) status.problem = slot_wait_.problem();
  return status;
}

// --- Ways down
// ---------------------------------------------------------------------------------------

void PostgresSource::notice(bool is_warning, std::string text, std::string hint) {
  notice(PostgresNotice{is_warning, std::move(text), std::move(hint)});
}

void PostgresSource::notice(PostgresNotice said) {
  if (handler_ != nullptr && options_.on_notice) {
    options_.on_notice(said);
  } else {
    notices_.push_back(said);
  }
}

void PostgresSource::give_up(const Error& error) {
  stream_.close();
  snapshots_.stop();
  lookups_.stop();
  ++attempt_;
  state_ = State::kFailed;
  handler_->on_failed(error);
}

void PostgresSource::trouble(Error error) {
  if (retries_.is_final(error.kind)) return give_up(error);
  const auto wait = retries_.failed(error.kind, is_streaming() ? std::optional(stream_.acknowledged()) : std::nullopt, now_.steady);
  disconnect(error, wait);
}

void PostgresSource::stream_failed() {
  const auto failure = stream_.take_failure();
  if (!failure) return;
  if (failure->sqlstate == "55006") return become_standby(failure->text);
  if (is_streaming() && !as_stored_.is_on() && is_unreadable_text(failure->sqlstate)) return read_as_stored(*failure);
  if (failure->sqlstate == "42704" && failure->text.find("publication") != std::string::npos) {
    slot_predates_publication_ = true;
  }
  Error error = explain_failure(*failure, failure_context());
  if (failure->needs_password || failure->sqlstate.starts_with("28") || failure->sqlstate == "3D000" ||
      failure->sqlstate == "42501") {
    return disconnect(Error{ErrorKind::kConnection, std::move(error.text), std::move(error.hint)}, retries_.refused());
  }
  trouble(std::move(error));
}

void PostgresSource::read_as_stored(const PostgresFailure& failure) {
  as_stored_.unreadable(decoder_.in_transaction());
  Error error = explain_failure(failure, failure_context());
  error.text += decoder_.in_transaction() ? fmt::format(", in transaction {} (xid {})", as_stored_.record().to_string(), xids_.in_hand())
                                          : std::string(", in the prefix of a message (pg_logical_emit_message)");
  error.hint = "it is read once more, with values beyond ASCII as values that are not sent (on_missing)";
  if (facts_.server.encoding == "SQL_ASCII")
    error.hint += "; set postgres.client_encoding: SQL_ASCII, and their bytes are used as they are";
  disconnect(error, std::chrono::milliseconds(0));
}

void PostgresSource::leave_as_stored(Lsn confirmed) {
  if (!as_stored_.is_behind(confirmed)) return;
  pending_restart_ = Error{ErrorKind::kTransient, "what could not be sent as UTF-8 is behind the stream: it starts again", {}};
}

void PostgresSource::disconnect(const Error& error, std::chrono::milliseconds wait) {
  const bool was_streaming = is_streaming();
  stream_.close();
  snapshots_.stop();
  lookups_.stop();
  refused_lookup_.reset();
  held_.reset();
  ++attempt_;
  statistics_.reset();
  state_ = State::kWaiting;
  retries_.due_at(now_.steady + wait);
  if (retries_.is_news(error.text, was_streaming)) handler_->on_disconnected(error);
}

std::unique_ptr<Source> make_postgres_source(PostgresOptions options) {
  return std::make_unique<PostgresSource>(std::move(options));
}

}  // namespace evictd
