// From nothing to streaming: connect, read the catalogue, find gaps, repair, create, start.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "daemon/sources/postgres/postgres_source_impl.h"
#include "daemon/sources/postgres/publishing.h"
#include "daemon/sources/postgres/requirements.h"

namespace evictd {
namespace {

constexpr const char* kAsStored = "SQL_ASCII";  // as a client's encoding: nothing is turned into another
constexpr std::chrono::milliseconds kStatusIntervalMax{10'000};
constexpr int kMessagesVersion = 140'000;  // the `messages` option of pgoutput

}  // namespace

Subject PostgresSource::subject() const {
  return Subject{slot_, options_.publication, tables_, true};
}

FailureContext PostgresSource::failure_context() const {
  return FailureContext{conninfo_.server(), conninfo_.user(), slot_, conninfo_.get("dbname"),
                        options_.credential.is_set() ? options_.credential.to_string() : std::string()};
}

PlanInput PostgresSource::plan_input(const Facts& facts) const {
  PlanInput input;
  input.options = &options_;
  input.tables = &tables_;
  input.facts = &facts;
  input.slot_predates_publication = slot_predates_publication_;
  return input;
}

void PostgresSource::advance() {
  switch (state_) {
    case State::kWaiting:
      if (now_.steady >= retries_.due()) connect();
      break;
    case State::kStandby:
      return poll_standby();
    case State::kConnecting:
    case State::kReading:
    case State::kJudging:
    case State::kRepairing:
    case State::kCreatingSlot:
    case State::kFirstSnapshot:
    case State::kStarting:
      stream_.step(now_);
      break;
    default:
      return;
  }
  if (stream_.state() == ReplicationStream::State::kClosed) return stream_failed();
  switch (state_) {
    case State::kConnecting:
      if (stream_.state() == ReplicationStream::State::kReady) identified();
      break;
    case State::kReading:
      if (facts_answer_) take_facts();
      break;
    case State::kJudging:
      if (may_proceed_) repair();
      break;
    case State::kRepairing:
      if (repair_answer_) repaired();
      break;
    case State::kCreatingSlot:
      create_slot();
      break;
    case State::kFirstSnapshot:
      first_snapshot();
      break;
    case State::kStarting:
      if (stream_.state() == ReplicationStream::State::kStreaming) streaming_began();
      break;
    default:
      break;
  }
}

void PostgresSource::connect() {
  ++attempt_;
  watch_.connecting();
  heartbeat_.connecting();
  later_primary_.connecting();
  counting_.forget();
  slot_wait_.connecting();
  polling_slot_ = false;
  facts_answer_.reset();
  repair_answer_.reset();
  auto conninfo = Conninfo::parse(options_.url);
  if (!conninfo) return give_up(conninfo.error());
  conninfo_ = std::move(*conninfo);
  conninfo_.use(options_.credential);
  conninfo_.pin_session("evictd", options_.client_encoding);
  if (to_try_first_) conninfo_.put_first(*to_try_first_);
  xids_.connecting();
  claims_.connecting();
  state_ = State::kConnecting;
  Conninfo stream = conninfo_;
  if (as_stored_.is_on()) stream.set("client_encoding", kAsStored);
  stream_.open(stream, now_);
}

void PostgresSource::identified() {
  // The other connections must see the same server, whatever names and addresses there are.
  Conninfo pinned = conninfo_;
  stream_.connection().pin_server(pinned);
  pinned.set("application_name", "evictd snapshots");
  snapshots_.stop();
  snapshots_.start(pinned, now_);
  lookups_.start(pinned);
  snapshots_.request();
  state_ = State::kReading;
  read_facts(std::move(pinned));
}

void PostgresSource::read_facts(Conninfo catalogue) {
  catalogue.set("application_name", "evictd catalogue");
  // The server gives up a statement before we give up the session. No timeout ends the wait of a commit for a
  // synchronous standby, and ours (heartbeats, the publication) need none.
  catalogue.set("options", catalogue.get("options")
                               + fmt::format(" -c statement_timeout={} -c synchronous_commit=local",
                                             options_.answer_max.count() * 4 / 5));
  ask(
      [catalogue, subject = subject()](Catalogue& side) {
        side.reset(catalogue);
        return side.read_facts(subject);
      },
      [this](Result<Facts> answer) { facts_answer_ = std::move(answer); });
}

void PostgresSource::take_facts() {
  Result<Facts> answer = std::move(*facts_answer_);
  facts_answer_.reset();
  if (!answer) {
    // The replication connection was accepted with the same user: whatever this is, it passes.
    return trouble(
        Error{ErrorKind::kConnection, "cannot read the catalogue: " + answer.error().text, {}});
  }
  facts_ = std::move(*answer);
  if (facts_.slot.exists && facts_.slot.is_active && !options_.temporary_slot) {
    const OwnSession::Then then = own_session_.holds(facts_.slot.active_pid);
    if (then == OwnSession::Then::kEndAndWait) {
      notice(true,
             fmt::format("slot '{}' is held by our own earlier session, pid {}, which does not let go: ending it", slot_,
                         own_session_.pid()),
             {});
      ask([slot = slot_, pid = own_session_.pid()](Catalogue& side) { return side.end_holder(slot, pid); },
          [](const Result<void>&) {});
    }
    if (then != OwnSession::Then::kStandBy) {
      // The step after this one connects anew, and looks again.
      stream_.close();
      snapshots_.stop();
      ++attempt_;
      state_ = State::kWaiting;
      retries_.due_at(now_.steady + OwnSession::kInterval);
      return;
    }
    // Nobody follows the database meanwhile: to stand by is for those who know that another one does.
    if (own_session_.is(facts_.slot.active_pid)) {
      return trouble(Error{ErrorKind::kConnection,
                           fmt::format("slot '{}' is held by our own earlier session, pid {}, which does not end", slot_, own_session_.pid()),
                           facts_.server.wal_sender_timeout.count() > 0
                               ? fmt::format("wal_sender_timeout ends it after {} s; if it stays, that process of PostgreSQL is frozen",
                                             facts_.server.wal_sender_timeout.count() / 1000)
                               : "wal_sender_timeout is 0, so the server never ends it by itself: end that process"});
    }
    return become_standby(facts_.slot.holder);
  }
  judge_facts();
}

void PostgresSource::judge_facts() {
  if (!retries_.has_worked()) {
    if (const auto error = start_refusal(options_.requirements, facts_)) return give_up(*error);
  }
  watch_.judges(facts_.tables);
  const PlanInput input = plan_input(facts_);
  Result<Plan> plan = make_plan(input);
  if (!plan) return trouble(plan.error());
  plan_ = std::move(*plan);
  set_problems(facts_);
  if (!retries_.has_worked()) tell_requirements(options_.requirements, facts_);
  learn_names(facts_);
  may_proceed_ = false;
  state_ = State::kJudging;
  handler_->on_facts(source_facts(input, plan_, stream_.identity().system + "/" + stream_.identity().timeline));
}

void PostgresSource::tell_requirements(const Requirements& requirements, const Facts& facts) {
  for (const Finding& finding : check_requirements(requirements, facts)) {
    if (finding.severity == Severity::kInfo) continue;
    notice(PostgresNotice{true, fmt::format("{} {}: {}", finding.id, finding.object, finding.cause), finding.fix,
                          finding.severity == Severity::kError});
  }
}

void PostgresSource::repair() {
  state_ = State::kRepairing;
  if (!plan_.drop_slot && !plan_.create_publication && plan_.relations_to_publish.empty()) {
    repair_answer_ = Repaired{};
    return repaired();
  }
  ask(
      [plan = plan_, slot = slot_, publication = options_.publication,
       subject = subject()](Catalogue& side) -> Result<Repaired> {
        if (plan.drop_slot) {
          if (auto done = side.drop_slot(slot); !done)
            return tl::unexpected<Error>(std::move(done.error()));
        }
        if (!plan.create_publication && plan.relations_to_publish.empty()) return Repaired{plan.tables_to_publish, 0, {}};
        auto done = plan.create_publication
                        ? side.create_publication(publication, plan.relations_to_publish)
                        : side.add_relations(publication, plan.relations_to_publish);
        if (!done) return tl::unexpected<Error>(std::move(done.error()));
        auto barrier = side.next_xid();
        if (!barrier) return tl::unexpected<Error>(std::move(barrier.error()));
        // After the barrier: what was altered in between is purged with it.
        auto facts = side.read_facts(subject);
        if (!facts) return tl::unexpected<Error>(std::move(facts.error()));
        return Repaired{plan.tables_to_publish, *barrier, std::move(*facts)};
      },
      [this](Result<Repaired> answer) { repair_answer_ = std::move(answer); });
}

void PostgresSource::repaired() {
  Result<Repaired> answer = std::move(*repair_answer_);
  repair_answer_.reset();
  if (!answer) {
    Error error = std::move(answer.error());
    // A right that may still be granted, or another hand that does it: no reason to end.
    if (error.kind == ErrorKind::kUsage) error.kind = ErrorKind::kConnection;
    const bool has_hint = !error.hint.empty();  // who else does it would wait as we did
    if (plan_.create_publication) {
      error.text =
          fmt::format("cannot create publication '{}': {}", options_.publication, error.text);
      if (!has_hint) error.hint = std::string(kWhoMayCreate) +
                   create_publication_statement(options_.publication, plan_.relations_to_publish, facts_.server.version);
    } else if (!plan_.relations_to_publish.empty()) {
      error.text =
          fmt::format("cannot extend publication '{}': {}", options_.publication, error.text);
      if (!has_hint) error.hint = "as a superuser, or as an owner of the publication and of the tables: " +
                   add_relations_statement(options_.publication, plan_.relations_to_publish);
    } else {
      error.text = fmt::format("cannot drop slot '{}': {}", slot_, error.text);
    }
    return trouble(std::move(error));
  }
  // Of the tables that were published, as they are now; what happened to others meanwhile, the next look finds.
  if (answer->facts) {
    facts_.publication = answer->facts->publication;
    for (const std::string& table : answer->published) {
      const auto now = answer->facts->tables.find(table);
      if (now != answer->facts->tables.end()) facts_.tables.insert_or_assign(table, std::move(now->second));
    }
    learn_names(facts_);
  }
  if (!plan_.create_publication && !answer->published.empty()) {
    notice(false, fmt::format("added '{}' to publication '{}'", fmt::join(answer->published, "', '"),
                              options_.publication));
  }
  if (plan_.create_publication)
    notice(false, fmt::format("created publication '{}'", options_.publication));
  // Changes made before by transactions still open are not in the stream, although they commit
  // later. A new slot waits for them; an old one does not.
  if (answer->barrier != 0 && !plan_.create_slot) {
    barrier_.stands(Xid{answer->barrier}, answer->published,
                    std::none_of(answer->published.begin(), answer->published.end(),
                                 [&](const auto& table) { return watch_.followed().contains(table); }));
  }
  if (plan_.create_slot) {
    stream_.create_slot(slot_, options_.temporary_slot);
    slot_wait_.creating(now_.steady);
    state_ = State::kCreatingSlot;
  } else {
    confirmed_ = facts_.slot.confirmed;
    state_ = State::kFirstSnapshot;
  }
}

void PostgresSource::create_slot() {
  if (stream_.state() == ReplicationStream::State::kReady) {
    confirmed_ = stream_.created_at();
    slot_predates_publication_ = false;
    if (!options_.temporary_slot) {
      notice(false, fmt::format("created slot '{}' at {}", slot_, confirmed_.to_string()));
    }
    state_ = State::kFirstSnapshot;
    return first_snapshot();
  }
  if (!slot_wait_.asks(now_.steady)) return;
  ask([](Catalogue& side) { return side.read_blockers(); },
      [this](Result<std::vector<Blocker>> answer) {
        slot_wait_.answered();
        if (!answer || state_ != State::kCreatingSlot) return;
        if (auto said = slot_wait_.saw(slot_, *answer)) notice(said->is_warning, std::move(said->text), std::move(said->hint));
      });
}

void PostgresSource::first_snapshot() {
  auto answer = snapshots_.take();
  if (!answer) return;
  xids_.starts_from(answer->snapshot);
  switch (claims_.slot_stands_at(confirmed_, answer->wal_end)) {
    case WalClaims::Slot::kBelieved:
      return start_streaming();
    case WalClaims::Slot::kAskAgain:
      snapshots_.request();
      return;
    case WalClaims::Slot::kRefused:
      return trouble(Error{ErrorKind::kConnection,
                           fmt::format("slot '{}' stands at {}, and the server's WAL ends at {}", slot_,
                                       confirmed_.to_string(), claims_.proven().to_string()),
                           "if this stays, the slot was moved ahead of the server: drop it, evictd makes it anew"});
  }
}

void PostgresSource::start_streaming() {
  ReplicationStream::StartOptions start;
  start.slot = slot_;
  start.publication = options_.publication;
  start.with_messages = facts_.server.version >= kMessagesVersion;
  start.confirmed = confirmed_;
  start.status_interval = kStatusIntervalMax;
  if (facts_.server.wal_sender_timeout.count() > 0) {
    start.status_interval = std::min(start.status_interval, facts_.server.wal_sender_timeout / 3);
  }
  start.silence_max = ReplicationStream::silence_max_of(facts_.server.wal_sender_timeout);
  stream_.start_streaming(start, now_);
  stream_.prove(claims_.proven());
  state_ = State::kStarting;
}

void PostgresSource::streaming_began() {
  state_ = State::kStreaming;
  own_session_.streams(stream_.connection().backend_pid());
  decoder_.restart(as_stored_.is_on());
  held_.reset();
  silence_.forget();
  pace_ = ReadPace();
  claims_.streaming();
  clock_.forget();
  wanted_.streaming(now_.steady);
  retries_.works(confirmed_, now_.steady);
  if (as_stored_.is_on()) {
    as_stored_.streaming(facts_.server.wal_end);
    leave_as_stored(confirmed_);
  }
  watch_.streaming(facts_, now_.steady);
  counting_.due_at(now_.steady);
  heartbeat_.streaming(now_.steady);
  Conninfo server;
  stream_.connection().pin_server(server);
  try_first(server);  // the next time too: what stands before it may be an old primary by then
  const std::vector<Conninfo> hosts = conninfo_.each_host();
  const bool has_names = !conninfo_.names().empty();
  const bool has_others = !options_.temporary_slot && (hosts.size() > 1 || has_names);
  later_primary_.streaming(stream_.identity(), server, has_others ? hosts : std::vector<Conninfo>(), has_others && has_names, now_.steady);
  barrier_.streaming(now_.steady);

  SourceConnected connected;
  connected.epoch = stream_.identity().system + "/" + stream_.identity().timeline;
  connected.instance = facts_.server.instance;
  connected.source_identity = source_identity(facts_, slot_);
  connected.tables = watch_.followed();
  connected.has_snapshots = true;
  if (!options_.temporary_slot) connected.begins[kOnlyStream] = confirmed_.value;
  handler_->on_connected(connected);
  // What the slot has confirmed is finished, and makes a position to compare with after a restart.
  if (!options_.temporary_slot) handler_->on_keepalive(Position{0, confirmed_.value});
}

// Readiness is refused for what is not served, and each sentence is logged when it first holds.
void PostgresSource::set_problems(const Facts& facts) {
  for (std::string& text : unserved_rules(options_.requirements, facts)) plan_.problems.push_back(std::move(text));
  for (PostgresNotice& said : told_problems_.tell(plan_)) notice(said.is_warning, std::move(said.text), std::move(said.hint));
}

// A relation may lie below several mapped tables and be one itself: it acts for all of them.
void PostgresSource::learn_names(const Facts& facts) {
  std::map<Oid, std::vector<TableName>> names;
  const auto learn = [&](const RelationFacts& relation, const TableName& table) {
    std::vector<TableName>& of = names[relation.oid];
    if (std::find(of.begin(), of.end(), table) == of.end()) of.push_back(table);
    for (const ColumnFacts& column : relation.columns) decoder_.set_base_type(column.type, column.base_type);
  };
  for (const auto& [name, table] : facts.tables) learn(table.table, table.table.name);
  for (const auto& [name, table] : facts.tables) {
    for (const RelationFacts& member : table.members) learn(member, table.table.name);
  }
  // With publish_via_partition_root the changes of a partition come under the name of the relation above it, and do not
  // say whose they are: a rule of the partition acts on all of them.
  const auto sent_as = [&](const RelationFacts& relation) {
    if (relation.published_as == 0 || relation.published_as == relation.oid) return;
    for (const TableName& table : std::vector<TableName>(names[relation.oid])) {
      std::vector<TableName>& of = names[relation.published_as];
      if (std::find(of.begin(), of.end(), table) == of.end()) of.push_back(table);
    }
  };
  for (const auto& [name, table] : facts.tables) {
    sent_as(table.table);
    for (const RelationFacts& member : table.members) sent_as(member);
  }
  for (auto& [relation, tables] : names) decoder_.set_names(relation, std::move(tables));
}

}  // namespace evictd
