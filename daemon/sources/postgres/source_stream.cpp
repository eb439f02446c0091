// While streaming: messages into the handler, acknowledgements and signs of life back, and what
// runs beside.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/postgres/postgres_source_impl.h"

namespace evictd {
namespace {

constexpr int kMessagesVersion = 140'000;
constexpr std::chrono::seconds kStatisticsInterval{5};
constexpr std::chrono::seconds kStatisticsIntervalAsStored{1};

// A read that brought less than this has emptied the socket (each read takes what there is,
// up to StreamFrames::kBufferBytes).
constexpr std::size_t kFullRead = 8'000;

}  // namespace

void PostgresSource::stream(std::size_t bytes_max) {
  stream_.step(now_);  // sends what waits to be sent
  if (stream_.state() == ReplicationStream::State::kStreaming && bytes_max > 0 &&
      pace_.may_read(now_.steady)) {
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
    pace_.took(taken, taken >= bytes_max, now_.steady);
  }
  if (!is_streaming()) return;
  if (stream_.state() == ReplicationStream::State::kStreaming)
    stream_.keep_alive(now_, bytes_max > 0 && !held_);
  watch_silence();
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
  clock_.heard(message.sent, now_.steady);
  if (message.is_keepalive) {
    // Inside a transaction it says nothing: what comes next lies before it.
    if (decoder_.in_transaction()) return;
    return take_keepalive(message.server_end);
  }
  if (!message.payload.empty() && message.payload[0] == 'R') {
    watch_.described();
    if (hold_for_name(message.start, message.payload)) return;
  }
  decode(message.start, message.payload);
}

void PostgresSource::take_keepalive(Lsn end) {
  const WalClaims::Keepalive keepalive = claims_.keepalive(end, snapshots_.refused_since().has_value());
  if (keepalive.believed) believe(*keepalive.believed);
  if (keepalive.needs_another) stream_.ask_for_keepalive();
}

void PostgresSource::believe(Lsn end) {
  stream_.prove(claims_.proven());
  stream_.advance_received(end);
  handler_->on_keepalive(Position{0, end.value});
}

// `end` was read on the ordinary connection for the request of that number.
void PostgresSource::prove(std::uint64_t number, Lsn end) {
  WalClaims::Proof proof = claims_.snapshot(number, end);
  stream_.prove(claims_.proven());
  if (proof.believed) believe(*proof.believed);
  if (!proof.lie) return;
  trouble(Error{ErrorKind::kConnection, std::move(*proof.lie),
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
  pace_.goes_on();
}

void PostgresSource::on_begin(const BeginMessage& begin) {
  TransactionBegin transaction;
  as_stored_.begins(begin.commit_lsn);
  claims_.superseded();
  transaction.xid = xids_.begins(begin.xid);
  if (!xids_.is_possible(transaction.xid)) {
    impossible_ = fmt::format("transaction {} cannot be: the server is at {}", number(transaction.xid), number(xids_.server_is_at()));
  }
  transaction.commit_time = commit_time_ = begin.commit_time;
  transaction.place = begin.commit_lsn.value;
  transaction.committed_at = clock_.ours_at(begin.commit_time, now_.steady);
  handler_->on_begin(transaction);
}

void PostgresSource::on_change(const Change& change) {
  if (change.operation == Operation::kTruncate) watch_.truncated(change.relation->id, xids_.in_hand());
  handler_->on_change(change);
}

void PostgresSource::on_commit(Lsn end) {
  xids_.commits(now_.steady);
  // Borne out by the begin and by the message's own position (pgoutput.cpp).
  claims_.reaches(end);
  stream_.prove(claims_.proven());
  stream_.advance_received(end);
  handler_->on_commit(Position{0, end.value});
}

void PostgresSource::on_relation_gone(const Relation& relation) {
  handler_->on_relation_gone(relation);
}

void PostgresSource::on_logical_message(std::string_view prefix, std::string_view content) {
  const auto sent = heartbeat_.news(prefix, content);
  if (!sent) return;
  clock_.came_back(commit_time_, *sent, now_.steady);
  handler_->on_heartbeat(*sent);
}

void PostgresSource::deliver_snapshots() {
  auto answer = snapshots_.take();
  if (!answer) return;
  xids_.saw(answer->snapshot);
  prove(answer->number, answer->wal_end);
  if (!is_streaming()) return;
  if (const auto gap = barrier_.passed(answer->snapshot)) handler_->on_gap(*gap);
  if (!wanted_.answers(answer->number)) return;
  handler_->on_snapshot(answer->snapshot);
}

void PostgresSource::deliver_lookups() {
  if (const auto refused = std::exchange(refused_lookup_, std::nullopt)) handler_->on_found(*refused);
  lookups_.step(now_, snapshots_.refused_since().has_value());
  if (const auto answer = lookups_.take()) handler_->on_found(*answer);
}

// Without snapshots no transaction counts as visible, none is acknowledged, and the stream goes on as if nothing
// were wrong.
void PostgresSource::watch_snapshots() {
  const bool are_wanted = is_streaming() || state_ == State::kFirstSnapshot;
  if (!are_wanted) return snapshots_away_.forget();
  switch (snapshots_away_.is_away(!snapshots_.problem().empty(), now_.steady)) {
    case Outage::Tell::kNothing:
      return;
    case Outage::Tell::kBegan:
      return notice(true, "cannot ask which transactions are visible: " + snapshots_.problem(),
                    "nothing is acknowledged until an ordinary connection of this user is accepted again");
    case Outage::Tell::kEnded:
      return notice(false, "transactions can be asked for again");
  }
}

// Between what an idle server takes to answer and what a busy one may (ReplicationStream::silence_max_of): lag has grown since it was
// asked, and whoever looks has to be told why.
void PostgresSource::watch_silence() {
  switch (silence_.waits_since(stream_.silent_since(), now_.steady)) {
    case Outage::Tell::kNothing:
      return;
    case Outage::Tell::kBegan:
      return notice(true, kSilentText, "it may be at a large transaction of tables that are not published; a process that is frozen is given up later");
    case Outage::Tell::kEnded:
      // A stream that ended is told of by its end.
      if (stream_.state() == ReplicationStream::State::kStreaming) notice(false, "PostgreSQL answers in the stream again");
      return;
  }
}

// While the catalogue does not answer, nobody sees a table leave the publication, and no heartbeat goes out.
void PostgresSource::watch_catalogue() {
  switch (catalogue_away_.waits_since(worker_.waiting_since(), now_.steady)) {
    case Outage::Tell::kNothing:
      return;
    case Outage::Tell::kBegan:
      return notice(true, kCatalogueLateText, "the session is given up and made anew when nothing comes");
    case Outage::Tell::kEnded:
      return notice(false, "PostgreSQL answers questions about its catalogue again");
  }
}

void PostgresSource::run_side_work() {
  if (!is_streaming()) return;
  const auto is_due = [&](std::optional<SteadyTime> at) { return at && now_.steady >= *at; };
  if (is_due(xids_.doubt_at())) doubt_newest();
  if (is_due(claims_.ask_at())) claims_.asked(snapshots_.request(), now_.steady);
  if (wanted_.refreshes(now_.steady)) snapshots_.request();
  if (is_due(barrier_.ask_at())) {
    barrier_.asked(now_.steady);
    snapshots_.request();
  }
  if (counting_.begins(now_.steady, as_stored_.is_on() ? kStatisticsIntervalAsStored : kStatisticsInterval)) read_statistics();
  if (heartbeat_.misses(stream_.received())) {
    handler_->on_gap({"stream_incomplete",
                      "the stream has passed evictd's own message without it: something between leaves out what PostgreSQL sends, or "
                      "evictd's other connections end at another server",
                      {}});
  }
  const bool can_beat = !options_.temporary_slot && facts_.server.version >= kMessagesVersion;
  if (auto content = heartbeat_.beats(can_beat, now_.steady)) emit_heartbeat(std::move(*content));
  if (watch_.looks(now_.steady)) look_at_catalogue();
  if (later_primary_.looks_up(now_.steady)) look_hosts_up();
  for (const std::string& other : later_primary_.asks(now_.steady)) ask_other_host(other);
}

void PostgresSource::try_first(const Conninfo& server) {
  to_try_first_ = server;
  first_address_.is(server);
}

CatalogueWorker& PostgresSource::host_worker(const std::string& name) {
  return host_workers_.try_emplace(name, options_.answer_max).first->second;
}

// Its own thread: no answer of a resolver holds up a question to anybody.
void PostgresSource::look_hosts_up() {
  // A host that is no more has no thread any more, once it does not hang.
  std::erase_if(host_workers_, [this](const auto& one) { return !one.first.empty() && !later_primary_.has(one.first) && !one.second.waiting_since(); });
  host_worker({}).submit(
      [this, conninfo = conninfo_, attempt = attempt_](Catalogue&) {
        return CatalogueWorker::Completion([this, attempt, hosts = each_address(conninfo)] {
          if (attempt == attempt_) later_primary_.looked_up(hosts, now_.steady);
        });
      },
      [this, attempt = attempt_](const Error&) {
        if (attempt == attempt_) later_primary_.looked_up(conninfo_.each_host(), now_.steady);  // by their names, until the next time
      });
}

void PostgresSource::ask_other_host(const std::string& other) {
  // By what no reconnection changes: one that hangs has a thread of its own for ever, and one alone.
  host_worker(other).submit(
      [this, conninfo = later_primary_.conninfo(other), other, attempt = attempt_](Catalogue& side) {
        side.go_to(conninfo);
        return CatalogueWorker::Completion([this, attempt, other, answer = side.read_history()] {
          if (attempt == attempt_) other_host_answered(other, answer);
        });
      },
      [this, other, attempt = attempt_](const Error& why) {
        if (attempt == attempt_) other_host_answered(other, tl::unexpected<Error>(why));
      });
}

void PostgresSource::other_host_answered(const std::string& other, const Result<ServerHistory>& answer) {
  if (!is_streaming()) return;
  later_primary_.answered(other, answer, now_.steady);
  const auto later = later_primary_.found();
  if (!later) return;
  Conninfo followed;
  stream_.connection().pin_server(followed);
  try_first(later->conninfo);
  // Not at once again and again, where that one cannot be followed either.
  trouble(Error{ErrorKind::kConnection,
                fmt::format("{} can be written to and is of timeline {}, but {} is the primary of timeline {}: following that one",
                            server_and_address(followed), stream_.identity().timeline, server_and_address(later->conninfo),
                            later->history.timeline),
                fmt::format("{} is an old primary that came back: stop it, or make it a standby, before the application writes there too",
                            server_and_address(followed))});
}

void PostgresSource::read_statistics() {
  ask([slot = slot_](Catalogue& side) { return side.read_statistics(slot); },
      [this](Result<SlotStatistics> answer) {
        counting_.answered();
        if (!answer && answer.error().kind == ErrorKind::kConnection) snapshots_.suspect_shutdown(now_);
        statistics_ = answer ? std::optional<SlotStatistics>(*answer) : std::nullopt;
        if (statistics_) leave_as_stored(statistics_->confirmed);
      });
}

// A commit that no snapshot sees is waiting for a standby, or bears an id that the server never gave: then everything
// would wait for it, until the server comes that far.
void PostgresSource::doubt_newest() {
  const Xid newest = xids_.doubts(now_.steady);
  ask([xid = number(newest)](Catalogue& side) { return side.is_future(xid); },
      [this, xid = newest](const Result<bool>& answer) {
        if (!is_streaming() || !answer) return;
        if (*answer) {
          return trouble(Error{ErrorKind::kData,
                               fmt::format("the stream says that transaction {} has committed, which the server has not begun",
                                           number(xid)),
                               "the stream is read again from the last acknowledged position"});
        }
        xids_.is_real(xid);
      });
}

void PostgresSource::emit_heartbeat(std::string content) {
  ask([content = std::move(content)](Catalogue& side) { return side.emit_message(std::string(Heartbeat::kPrefix), content); },
      [this](const Result<Lsn>& answer) {
        if (auto refused = heartbeat_.emitted(answer, now_.steady))
          notice(true, std::move(*refused), heartbeat_grant(facts_.server));
      });
}

// Compared while streaming or standing by.
void PostgresSource::check_rules(const RuleSet& rules) {
  Subject wanted = subject();
  wanted.tables = rules.tables();
  ask([wanted](Catalogue& side) { return side.read_facts(wanted); },
      [this, check = rules_check_.begins(requirements_of(rules), attempt_)](const Result<Facts>& answer) {
        auto requirements = rules_check_.compare(check, answer);
        if (!requirements) return;
        tell_requirements(*requirements, *answer);
        options_.requirements = std::move(*requirements);
      });
}

std::optional<Result<void>> PostgresSource::take_rules_check() {
  return rules_check_.take(is_streaming() || state_ == State::kStandby, attempt_);
}

void PostgresSource::look_at_catalogue() {
  ask([subject = subject()](Catalogue& side) { return side.read_facts(subject); },
      [this](Result<Facts> answer) { looked_at_catalogue(std::move(answer)); });
}

void PostgresSource::looked_at_catalogue(Result<Facts> answer) {
  watch_.answered(now_.steady);
  if (!is_streaming()) return;
  if (!answer) return watch_.unreadable(answer.error().text);
  CatalogueWatch::Seen seen = watch_.saw(*answer, plan_input(*answer), stream_.received(), now_.steady);
  switch (seen.follows) {
    case CatalogueWatch::Follows::kNothing:
      return;
    case CatalogueWatch::Follows::kReconnect:
      return disconnect(Error{ErrorKind::kTransient, "reconnecting: " + seen.why, {}},
                        std::chrono::milliseconds(0));
    case CatalogueWatch::Follows::kGoesOn:
      break;
  }
  if (seen.has_grown) handler_->on_tables(watch_.followed());
  plan_.problems = std::move(seen.plan.problems);
  plan_.warnings = std::move(seen.plan.warnings);
  set_problems(*answer);
  learn_names(*answer);
  facts_.tables = std::move(answer->tables);
}

}  // namespace evictd
