// While streaming: messages into the handler, acknowledgements and signs of life back, and what
// runs beside.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "daemon/sources/postgres/postgres_source_impl.h"
#include "daemon/sources/postgres/requirements.h"

namespace evictd {
namespace {

constexpr std::string_view kHeartbeatPrefix = "evictd";
constexpr int kMessagesVersion = 140'000;
constexpr std::chrono::seconds kStatisticsInterval{5};
constexpr std::chrono::seconds kStatisticsIntervalAsStored{1};
constexpr std::chrono::minutes kHeartbeatRefused{5};
constexpr std::chrono::seconds kLookIntervalMin{1};  // whatever is altered how often
// A look at thousands of partitions takes the server seconds: it then has as many times as long without one, but no
// more than this.
constexpr int kLookRest = 20;
constexpr int kLookRestWhenDescribed = 4;
constexpr std::chrono::seconds kLookIntervalMax{30};
constexpr std::chrono::milliseconds kCatchUpInterval{200};
constexpr std::chrono::seconds kBarrierInterval{1};
constexpr std::chrono::minutes kRefreshInterval{1};
constexpr std::chrono::seconds kSnapshotsAwayMax{3};
// Between two questions for the end of the WAL, while the stream moves on with other databases' work only.
constexpr std::chrono::milliseconds kClaimInterval{100};
// How long a commit may be unseen by snapshots before the server is asked whether there is such a transaction.
constexpr std::chrono::seconds kXidDoubt{3};
// How far a transaction's id may be from the newest that a snapshot has told of: ahead, what a server can begin within
// a minute; behind, what a backlog can hold before the server itself stops.
constexpr std::uint64_t kXidsAheadMax = std::uint64_t{1} << 24;
constexpr std::uint64_t kXidsBehindMax = std::uint64_t{3} << 29;
constexpr std::chrono::seconds kCatalogueLate{5};

// The server writes each row to the socket by itself. When that much has come within a window, the
// next look waits a moment, so that one read takes many rows instead of one; a quiet stream is read
// at once.
constexpr std::chrono::microseconds kBusyWindow{1'000};
constexpr std::size_t kBusyBytes = 4 * 1024;
constexpr std::chrono::microseconds kQuiet{1'000};
// A read that brought less than this has emptied the socket (each read takes what there is,
// up to StreamFrames::kBufferBytes).
constexpr std::size_t kFullRead = 8'000;

}  // namespace

void PostgresSource::stream(std::size_t bytes_max) {
  stream_.step(now_);  // sends what waits to be sent
  if (stream_.state() == ReplicationStream::State::kStreaming && bytes_max > 0 &&
      quiet_until_ <= now_.steady) {
    std::size_t taken = 0;
    std::size_t since_receive = 0;
    bool has_received = false;
    while (taken < bytes_max && is_streaming() && !held_) {
      auto message = stream_.read(false);
      if (!message && stream_.state() == ReplicationStream::State::kStreaming) {
        if (has_received && since_receive < kFullRead && !stream_.connection().uses_tls()) break;
        message = stream_.read(true);
        has_received = true;
        since_receive = 0;
      }
      if (!message) break;
      const std::size_t bytes = message->payload.size() + 30;  // with its frame
      taken += bytes;
      since_receive += bytes;
      take_message(*message);
    }
    stopped_early_ = taken >= bytes_max;
    if (now_.steady - busy_window_ > kBusyWindow) {
      busy_window_ = now_.steady;
      busy_bytes_ = 0;
    }
    busy_bytes_ += taken;
    if (busy_bytes_ >= kBusyBytes) busy_until_ = now_.steady + 2 * kBusyWindow;
    if (taken > 0 && !stopped_early_ && now_.steady < busy_until_)
      quiet_until_ = now_.steady + kQuiet;
  }
  if (!is_streaming()) return;
  if (stream_.state() == ReplicationStream::State::kStreaming)
    stream_.keep_alive(now_, bytes_max > 0 && !held_);
  if (stream_.state() != ReplicationStream::State::kStreaming) return stream_failed();

  // A shutdown waits for us to acknowledge everything; if we cannot, the server must not suffer (G7). While
  // nothing is unacknowledged we are not in its way, and it may still be waiting for sessions that write.
  if (!stream_.has_unacknowledged()) unacknowledged_since_ = now_.steady;
  const auto refused = snapshots_.refused_since();
  if (refused && now_.steady - std::max(*refused, unacknowledged_since_) >= options_.shutdown_grace) {
    trouble(Error{ErrorKind::kConnection,
                  "PostgreSQL is shutting down: leaving it with work unacknowledged",
                  "everything unacknowledged comes again when it is back"});
  }
}

void PostgresSource::take_message(const StreamMessage& message) {
  if (message.is_keepalive) {
    // Inside a transaction it says nothing: what comes next lies before it.
    if (decoder_.in_transaction()) return;
    return take_keepalive(message.server_end);
  }
  if (!message.payload.empty() && message.payload[0] == 'R') {
    // A table is described before its first row, and again when something was altered, if only statistics: the
    // catalogue tells what. The first description may be after the alteration, too.
    look_at_ = std::min(look_at_, looked_at_ + look_interval(kLookIntervalMin, kLookRestWhenDescribed));
    if (hold_for_name(message.start, message.payload)) return;
  }
  decode(message.start, message.payload);
}

// A keepalive's position is one number that nothing else in the stream bears out. Acknowledged, a wrong one would be
// kept by the server, which then never sends what lies before it: it must be proven first.
void PostgresSource::take_keepalive(Lsn end) {
  if (end <= proven_) return believe(end);
  if (snapshots_.refused_since()) {
    // A server that shuts down answers nobody else, and waits for us: a second keepalive must bear out the first.
    if (claimed_ && *claimed_ <= end) {
      proven_ = std::max(proven_, *claimed_);
      stream_.prove(proven_);
      believe(*claimed_);
      if (end <= proven_) return;
    }
    stream_.ask_for_keepalive();
  }
  claimed_ = end;
}

void PostgresSource::believe(Lsn end) {
  claimed_.reset();
  claim_number_ = 0;
  contradictions_ = 0;
  stream_.advance_received(end);
  handler_->on_keepalive(Position{0, end.value});
}

// `end` was read on the ordinary connection for the request of that number.
void PostgresSource::prove(Lsn end, std::uint64_t number) {
  proven_ = std::max(proven_, end);
  stream_.prove(proven_);
  if (!claimed_) return;
  if (*claimed_ <= proven_) return believe(*claimed_);
  if (claim_number_ == 0 || number < claim_number_) return;
  claim_number_ = 0;
  if (++contradictions_ < kContradictionsMax) return;
  trouble(Error{ErrorKind::kConnection,
                fmt::format("the stream claims to have sent everything up to {}, but the server's WAL ends at {}: not believed",
                            claimed_->to_string(), proven_.to_string()),
                "something between evictd and PostgreSQL changes what is sent; sslmode=verify-full in postgres.url keeps it out"});
}

void PostgresSource::decode(Lsn start, std::string_view payload) {
  if (auto done = decoder_.decode(start, payload, *this); !done) {
    trouble(Error{ErrorKind::kData, std::move(done.error().text),
                  "the stream is read again from the last acknowledged position"});
  } else if (!impossible_.empty()) {
    trouble(Error{ErrorKind::kData, std::exchange(impossible_, {}),
                  "the stream is read again from the last acknowledged position"});
  }
}

// A relation that nobody has told us about may be a new partition of a mapped table, and a type that
// nobody has told us about a domain, whose values have the text of another type: rows must not pass
// before that is known.
bool PostgresSource::hold_for_name(Lsn start, std::string_view payload) {
  const auto described = decoder_.described(payload);
  if (!described) return false;
  if (decoder_.has_names(described->relation) && described->unknown_types.empty()) return false;
  held_.emplace(start, std::string(payload));
  ask([relation = described->relation, tables = tables_, types = described->unknown_types](
          Catalogue& side) { return side.resolve(relation, tables, types); },
      [this](const Result<Catalogue::Resolved>& answer) { resolved(answer); });
  return true;
}

void PostgresSource::resolved(const Result<Catalogue::Resolved>& answer) {
  if (!is_streaming() || !held_) return;
  if (!answer) {
    return trouble(
        Error{ErrorKind::kConnection, "cannot look up a relation: " + answer.error().text, {}});
  }
  for (const auto& [type, base] : answer->base_types) decoder_.set_base_type(type, base);
  if (!answer->names.empty()) {
    decoder_.set_names(answer->relation, answer->names);
  } else if (!answer->exists && !decoder_.has_names(answer->relation)) {
    // Dropped by now: it may have been a partition of any mapped table that has some.
    Gap gap{"partitions_changed", "changes of a relation that was dropped since", {}};
    for (const auto& [name, table] : facts_.tables) {
      if (table.table.kind == 'p' || !table.members.empty()) gap.tables.push_back(name);
    }
    if (!gap.tables.empty()) handler_->on_gap(gap);
  }
  const auto held = std::exchange(held_, std::nullopt);
  decode(held->first, held->second);
  quiet_until_ = {};
  stopped_early_ = true;  // there may be more in the buffer
}

void PostgresSource::on_begin(const BeginMessage& begin) {
  TransactionBegin transaction;
  xid_ = begin.xid;
  record_ = begin.commit_lsn;
  // What comes now says more than the keepalive before it.
  claimed_.reset();
  claim_number_ = 0;
  transaction.xid = widen_xid(begin.xid, near_);
  // Waiting for a transaction that does not exist would hold every acknowledgement up.
  const std::uint64_t xid = number(transaction.xid);
  const std::uint64_t near = number(near_);
  if (xid > near + kXidsAheadMax || (near > kXidsBehindMax && xid < near - kXidsBehindMax)) {
    impossible_ = fmt::format("transaction {} cannot be: the server is at {}", xid, near);
  }
  current_ = transaction.xid;
  transaction.commit_time = begin.commit_time;
  transaction.place = begin.commit_lsn.value;
  handler_->on_begin(transaction);
}

void PostgresSource::on_change(const Change& change) {
  if (change.operation == Operation::kTruncate) truncates_.saw(change.relation->id, xid_);
  handler_->on_change(change);
}

void PostgresSource::on_commit(Lsn end) {
  if (current_ > newest_) {
    newest_ = current_;
    newest_at_ = now_.steady + kXidDoubt;
  }
  // Borne out by the begin and by the message's own position (pgoutput.cpp).
  proven_ = std::max(proven_, end);
  stream_.prove(proven_);
  stream_.advance_received(end);
  handler_->on_commit(Position{0, end.value});
}

void PostgresSource::on_relation_gone(const Relation& relation) {
  handler_->on_relation_gone(relation);
}

void PostgresSource::on_logical_message(std::string_view prefix, std::string_view content) {
  if (prefix != kHeartbeatPrefix || !content.starts_with(heartbeat_token_)) return;
  content.remove_prefix(std::min(content.size(), heartbeat_token_.size() + 1));
  std::uint64_t number = 0;
  std::from_chars(content.data(), content.data() + content.size(), number);
  if (number > heartbeats_before_) handler_->on_heartbeat();
}

void PostgresSource::deliver_snapshots() {
  auto answer = snapshots_.take();
  if (!answer) return;
  near_ = std::max(near_, answer->snapshot.xmax());
  if (newest_ < answer->snapshot.xmax()) newest_ = Xid{0};
  prove(answer->wal_end, answer->number);
  if (!is_streaming()) return;
  if (!barrier_tables_.empty() && answer->snapshot.xmin() >= barrier_) {
    Gap gap{barrier_is_expected_ ? "table_added" : "unpublished",
            fmt::format("transactions that had begun before '{}' were published have ended",
                        fmt::join(barrier_tables_, "', '")),
            barrier_tables_, barrier_is_expected_};
    barrier_tables_.clear();
    handler_->on_gap(gap);
  }
  if (first_wanted_ == 0 || answer->number < first_wanted_) return;
  first_wanted_ = last_wanted_ > answer->number ? last_wanted_ : 0;
  handler_->on_snapshot(answer->snapshot);
}

void PostgresSource::deliver_lookups() {
  if (const auto refused = std::exchange(refused_lookup_, std::nullopt)) handler_->on_found(*refused);
  lookups_.step(now_, snapshots_.refused_since().has_value());
  if (const auto answer = lookups_.take()) handler_->on_found(*answer);
}

// Without snapshots no transaction counts as visible, none is acknowledged, and the stream goes on as if nothing
// were wrong. A short loss is nobody's business.
void PostgresSource::watch_snapshots() {
  const bool are_wanted = is_streaming() || state_ == State::kFirstSnapshot;
  if (!are_wanted || snapshots_.problem().empty()) {
    snapshots_away_since_.reset();
    if (!std::exchange(told_snapshots_away_, false) || !are_wanted) return;
    notice(false, "transactions can be asked for again");
    return;
  }
  if (!snapshots_away_since_) snapshots_away_since_ = now_.steady;
  if (told_snapshots_away_ || now_.steady - *snapshots_away_since_ < kSnapshotsAwayMax) return;
  told_snapshots_away_ = true;
  notice(true, "cannot ask which transactions are visible: " + snapshots_.problem(),
         "nothing is acknowledged until an ordinary connection of this user is accepted again");
}

// While the catalogue does not answer, nobody sees a table leave the publication, and no heartbeat goes out.
void PostgresSource::watch_catalogue() {
  const auto since = worker_.waiting_since();
  const bool is_late = since && now_.steady - *since >= kCatalogueLate;
  if (is_late == told_catalogue_late_) return;
  told_catalogue_late_ = is_late;
  if (is_late) {
    notice(true, kCatalogueLateText, "the session is given up and made anew when nothing comes");
  } else {
    notice(false, "PostgreSQL answers questions about its catalogue again");
  }
}

void PostgresSource::run_side_work() {
  if (!is_streaming()) return;
  if (newest_ != Xid{0} && now_.steady >= newest_at_) doubt_newest();
  if (claimed_ && claim_number_ == 0 && now_.steady >= claim_at_) {
    claim_at_ = now_.steady + kClaimInterval;
    claim_number_ = snapshots_.request();
  }
  if (now_.steady >= refresh_at_) {
    refresh_at_ = now_.steady + kRefreshInterval;
    snapshots_.request();
  }
  if (!barrier_tables_.empty() && now_.steady >= barrier_at_) {
    barrier_at_ = now_.steady + kBarrierInterval;
    snapshots_.request();
  }
  if (now_.steady >= statistics_at_) {
    statistics_at_ = now_.steady + (as_stored_until_ ? kStatisticsIntervalAsStored : kStatisticsInterval);
    read_statistics();
  }
  const bool beats = options_.heartbeat.count() > 0 && !options_.temporary_slot && facts_.server.version >= kMessagesVersion;
  if (!beats) {
    heartbeat_at_ = SteadyTime::max();
  } else if (now_.steady >= heartbeat_at_) {
    heartbeat_at_ = now_.steady + options_.heartbeat;
    emit_heartbeat();
  }
  if (now_.steady >= look_at_) {
    look_at_ = now_.steady + look_interval(options_.watch_interval, kLookRest);
    look_at_catalogue();
  }
}

void PostgresSource::read_statistics() {
  if (std::exchange(counting_, true)) return;
  ask([slot = slot_](Catalogue& side) { return side.read_statistics(slot); },
      [this](Result<SlotStatistics> answer) {
        counting_ = false;
        if (!answer && answer.error().kind == ErrorKind::kConnection) snapshots_.suspect_shutdown(now_);
        statistics_ = answer ? std::optional<SlotStatistics>(*answer) : std::nullopt;
        if (statistics_) leave_as_stored(statistics_->confirmed);
      });
}

// A commit that no snapshot sees is waiting for a standby, or bears an id that the server never gave: then everything
// would wait for it, until the server comes that far.
void PostgresSource::doubt_newest() {
  newest_at_ = now_.steady + kXidDoubt;
  ask([xid = number(newest_)](Catalogue& side) { return side.is_future(xid); },
      [this, xid = newest_](const Result<bool>& answer) {
        if (!is_streaming() || !answer) return;
        if (*answer) {
          return trouble(Error{ErrorKind::kData,
                               fmt::format("the stream says that transaction {} has committed, which the server has not begun",
                                           number(xid)),
                               "the stream is read again from the last acknowledged position"});
        }
        if (newest_ == xid) newest_ = Xid{0};
      });
}

void PostgresSource::emit_heartbeat() {
  if (std::exchange(beating_, true)) return;
  ask([token = fmt::format("{} {}", heartbeat_token_, ++heartbeat_count_)](
          Catalogue& side) { return side.emit_message(std::string(kHeartbeatPrefix), token); },
      [this](const Result<void>& answer) {
        beating_ = false;
        heartbeat_problem_ = answer ? "" : "cannot emit a heartbeat: " + answer.error().text;
        if (answer || answer.error().kind != ErrorKind::kUsage) return;
        // A right that was taken away. The stream is as good without; only an idle database is then not measured.
        notice(true, std::exchange(heartbeat_problem_, {}), heartbeat_grant(facts_.server));
        heartbeat_at_ = now_.steady + kHeartbeatRefused;
      });
}

// Compared while streaming or standing by. A connection that is lost meanwhile is an answer too: somebody waits for one.
void PostgresSource::check_rules(const RuleSet& rules) {
  rules_to_check_ = requirements_of(rules);
  rules_check_attempt_ = attempt_;
  rules_answer_.reset();
  Subject wanted = subject();
  wanted.tables = rules.tables();
  ask([wanted](Catalogue& side) { return side.read_facts(wanted); },
      [this, check = ++rules_check_](Result<Facts> answer) {
        if (check != rules_check_) return;  // another reload came
        if (!answer) {
          rules_answer_ = fail(ErrorKind::kConnection, "cannot compare the rules with the tables: " + answer.error().text,
                               "they are compared once more in a moment");
        } else if (auto refusal = first_refusal(rules_to_check_, *answer)) {
          rules_answer_ = tl::unexpected<Error>(std::move(*refusal));
        } else {
          rules_answer_ = Result<void>();
          tell_requirements(rules_to_check_, *answer);
          options_.requirements = std::move(rules_to_check_);
        }
      });
}

std::optional<Result<void>> PostgresSource::take_rules_check() {
  const bool can_answer = is_streaming() || state_ == State::kStandby;
  if (!rules_answer_ && (!can_answer || rules_check_attempt_ != attempt_)) {
    ++rules_check_;
    rules_answer_ = fail(ErrorKind::kConnection, "cannot compare the rules with the tables: PostgreSQL is not connected",
                         "they are compared as soon as it is");
  }
  return std::exchange(rules_answer_, std::nullopt);
}

// Between the beginnings of two looks.
std::chrono::nanoseconds PostgresSource::look_interval(std::chrono::nanoseconds least, int rest) const {
  return std::max(least, std::min<std::chrono::nanoseconds>(rest * look_took_, kLookIntervalMax));
}

void PostgresSource::look_at_catalogue() {
  if (std::exchange(looking_, true)) return;
  looked_at_ = now_.steady;
  ask([subject = subject()](Catalogue& side) { return side.read_facts(subject); },
      [this](Result<Facts> answer) { looked_at_catalogue(std::move(answer)); });
}

void PostgresSource::looked_at_catalogue(Result<Facts> answer) {
  looking_ = false;
  look_took_ = now_.steady - looked_at_;
  if (!is_streaming()) return;
  look_at_ = std::max(look_at_, looked_at_ + look_interval(std::chrono::nanoseconds(0), kLookRestWhenDescribed));
  if (!answer) {
    catalogue_problem_ = "cannot read the catalogue: " + answer.error().text;
    return;
  }
  catalogue_problem_.clear();
  if (truncates_.explain(answer->tables)) {
    // A TRUNCATE that is still to come through the stream, or a change that it does not tell.
    if (!file_change_seen_) file_change_seen_ = answer->server.wal_end;
    if (stream_.received() < *file_change_seen_) {
      look_at_ = now_.steady + kCatchUpInterval;
      return;
    }
  }
  file_change_seen_.reset();
  PlanInput input = plan_input(*answer);
  Result<Plan> plan = make_plan(input);
  if (!plan) {
    catalogue_problem_ = plan.error().text;
    return;
  }
  if (options_.temporary_slot) return;
  // What has grown in a way that misses nothing is followed as it is. Anything else that needs work, or changes what we
  // follow, goes the way of a new connection: gaps are found, put on record and repaired in one place.
  std::map<std::string, std::string> now = published_tables(*answer);
  bool is_other = plan->has_work() || now.size() != followed_.size();
  for (const auto& [table, before] : followed_) {
    is_other = is_other || !now.contains(table) ||
               !table_gap(answer->tables.at(table), answer->publication, before).empty();
  }
  if (is_other) {
    return disconnect(Error{ErrorKind::kTransient, "reconnecting: the published tables have changed", {}},
                      std::chrono::milliseconds(0));
  }
  if (now != followed_) {
    followed_ = std::move(now);
    handler_->on_tables(followed_);
  }
  plan_.problems = plan->problems;
  plan_.warnings = plan->warnings;
  set_problems(*answer);
  learn_names(*answer);
  facts_.tables = std::move(answer->tables);
}

}  // namespace evictd
