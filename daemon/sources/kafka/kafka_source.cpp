#include "daemon/sources/kafka/kafka_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/kafka/wanted_topic.h"
#include "daemon/sources/kafka/consumer_state.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using namespace std::chrono_literals;

constexpr auto kMeasureEach = 1s;
// A question to the brokers is answered in less, where they are well. It ends after KafkaClient::kCallTimeoutMs at most, or
// kLookUpMax, and is asked again.
constexpr auto kLate = 5s;

// Empty: nobody is late.
std::string late_text(const HelperThread& helper, const Now& now) {
  const auto question = helper.oldest();
  if (!question || now.steady - question->since < kLate) return {};
  return fmt::format("kafka: no answer for {} seconds: evictd asked {}",
                     std::chrono::duration_cast<std::chrono::seconds>(now.steady - question->since).count(),
                     question->what);
}

}  // namespace

std::unique_ptr<Source> make_kafka_source(KafkaOptions options, std::unique_ptr<SnapshotPoll> snapshots,
                                          AskTableTree ask_table_tree, std::unique_ptr<LookupSession> lookups) {
  return std::make_unique<KafkaSource>(std::move(options), std::move(snapshots), std::move(ask_table_tree), std::move(lookups));
}

KafkaSource::KafkaSource(KafkaOptions options, std::unique_ptr<SnapshotPoll> snapshots, AskTableTree ask_table_tree,
                         std::unique_ptr<LookupSession> lookups)
    : options_(std::move(options)),
      snapshots_(std::move(snapshots)),
      lookups_(std::move(lookups)),
      ask_table_tree_(std::move(ask_table_tree)),
      dead_letters_(options_.dead_letter_file, options_.dead_letter_bytes_max),
      places_(ask_table_tree_ != nullptr) {
  if (options_.registry.is_set()) decoder_.use_registry(&schemas_, options_.registry.id);
}

KafkaSource::~KafkaSource() {
  registry_is_cancelled_->store(true);
  if (client_) client_->close();
}

void KafkaSource::start(Now now) {
  now_ = now;
  if (snapshots_) {
    snapshots_->start(now);
    snapshots_->request();
    snapshot_turns_.starts();
  }
  open();
}

void KafkaSource::set_tables(const std::vector<std::string>& tables) {
  places_.set_tables({tables.begin(), tables.end()});
  decoder_.set_tables(places_.tables());
  decoder_.read_only(std::exchange(columns_to_come_, std::nullopt));
}

void KafkaSource::check_rules(const RuleSet& rules) {
  columns_to_come_.emplace();
  for (const ColumnNeed& need : column_needs(rules))
    (*columns_to_come_)[rules.rules()[need.rule].qualified_table()].insert(need.column);
}

// ---- opening

void KafkaSource::open() {
  state_ = State::kOpening;
  retries_.begins();
  const std::uint64_t session = ++session_;
  helper_.run("whether the brokers can be reached", [this, session, options = options_]() -> HelperThread::Completion {
    const auto attempt = [&]() -> Result<Opened> {
      auto client = KafkaClient::make(options);
      if (!client) return tl::unexpected(client.error());
      Opened opened;
      opened.client = std::move(*client);
      // The settings were good: what the brokers refuse (a password, a right) may be mended without us.
      const auto refused = [&](const Error& error) {
        Error why = opened.client->explained(error);
        if (why.kind == ErrorKind::kUsage) why.kind = ErrorKind::kConnection;
        return tl::unexpected(std::move(why));
      };
      auto topics = opened.client->matching_topics();
      if (!topics) return refused(topics.error());
      opened.found.topics = std::move(*topics);
      auto history = opened.client->group_history(opened.found.topics);
      if (!history) return refused(history.error());
      opened.found.history = *history;
      if (auto ends = opened.client->ends(partitions_of(opened.found.topics))) opened.found.ends = std::move(*ends);
      return opened;
    };
    auto result = std::make_shared<Result<Opened>>(attempt());
    return [this, session, result] {
      // Without a handler the source is being stopped.
      if (session == session_ && state_ == State::kOpening && handler_ != nullptr)
        opened(std::move(*result));
    };
  });
}

void KafkaSource::opened(Result<Opened> result) {
  if (!result) {
    if (retries_.is_final(result.error().kind)) return ending_.fails(result.error());
    if (retries_.failed(result.error(), now_.steady)) handler_->on_disconnected(result.error());
    return;
  }
  client_ = std::move(result->client);
  retries_.reached();
  std::set<std::string> names;
  for (const auto& [topic, partitions] : result->found.topics) names.insert(topic);
  servers_.forget();
  servers_.learn(names, places_.tables());
  is_announced_ = false;
  partitions_.forget_ends();
  beginnings_.opened(std::move(result->found), retries_.has_streamed(), now_);
  broker_watch_.opened(!names.empty(), now_.steady);
  state_ = State::kJudging;
  on_record_.reset();
  SourceFacts facts;
  facts.has_history = beginnings_.has_history();
  facts.if_not_on_record = {
      "record_missing",
      fmt::format("group '{}' has read before, but this cache has no record of it: it may hold values of another time",
                  options_.group),
      {}};
  handler_->on_facts(facts);
}

void KafkaSource::proceed(const std::set<std::string>& on_record) {
  on_record_ = on_record;
}

// What the caches have on record is known: the group may be joined.
void KafkaSource::join() {
  beginnings_.joins(*std::exchange(on_record_, std::nullopt));
  state_ = State::kJoining;
  if (auto subscribed = client_->subscribe(); !subscribed) ending_.fails(subscribed.error());
}

void KafkaSource::announce_connection() {
  if (is_announced_) return;
  is_announced_ = true;
  retries_.streams();
  state_ = State::kStreaming;
  SourceConnected connected;
  connected.epoch = servers_.epoch();
  connected.source_identity = options_.group;
  connected.has_snapshots = snapshots_ != nullptr;
  handler_->on_connected(connected);
}

void KafkaSource::tell_streams() {
  const auto begins = beginnings_.untold();
  if (!begins.empty()) handler_->on_streams(begins);
}

// ---- the group gives

void KafkaSource::on_assigned(std::vector<TopicPartition> partitions) {
  ++numbers_.rebalances;
  owed_.gives(std::move(partitions));
  look_up_topics();
}

void KafkaSource::look_up_topics() {
  auto to_look_up = owed_.looks_up();
  if (!to_look_up) return;
  helper_.run("where the partitions begin that the group gives", [this, session = session_, client = client_,
               partitions = std::move(*to_look_up)]() -> HelperThread::Completion {
    auto result =
        std::make_shared<Result<std::vector<PartitionOffsets>>>(client->look_up(partitions));
    return [this, session, result, partitions] {
      if (session != session_ || state_ == State::kClosing) return;
      const bool is_of_use = owed_.looked_up(partitions);
      if (handler_ == nullptr) return;
      // The group has given more meanwhile, or taken some back.
      return is_of_use ? looked_up(std::move(*result)) : look_up_topics();
    };
  });
}

void KafkaSource::looked_up(Result<std::vector<PartitionOffsets>> result) {
  if (!result) {
    broker_watch_.fails(result.error().text);
    broker_watch_.look_at_once(now_.steady);
    owed_.looks_up_again(now_.steady);
    return;
  }
  std::set<std::string> topics;
  for (const PartitionOffsets& offsets : *result) topics.insert(offsets.at.topic);
  if (servers_.learn(topics, places_.tables()) && is_announced_) {
    // Another database's transactions have come in: versions of before do not compare with theirs.
    return disconnect(
        {ErrorKind::kConnection, "kafka: topics of another Debezium server have appeared", {}});
  }
  if (!topics.empty()) broker_watch_.has_topics();
  announce_connection();
  Offsets all, first, later;  // of the latter two nothing is committed yet
  for (const PartitionOffsets& offsets : *result) {
    const Beginnings::Begin begin = beginnings_.begins(offsets, now_.steady);
    if (!begin.missing.empty()) tell_missing(offsets.at, begin);
    all.emplace_back(offsets.at, begin.offset);
    if (begin.commit == Beginnings::Commit::kFirst) first.emplace_back(all.back());
    if (begin.commit == Beginnings::Commit::kLater) later.emplace_back(all.back());
  }
  tell_streams();
  owed_.took();
  if (auto assigned = client_->assign(all); !assigned) return disconnect(assigned.error());
  // Whoever finds one on record and nothing committed takes it for a gap.
  client_->commit_beginning(first, now_.system);
  client_->commit_stored(later);
  client_->store(first);  // tried again in the background, should that have failed
  client_->store(later);
}

// It is purged before anything is read, and told.
void KafkaSource::tell_missing(const TopicPartition& at, const Beginnings::Begin& begin) {
  UnknownChange missing{tables_of_topic(at.topic).tables, begin.missing};
  if (!begin.gap.empty()) handler_->on_gap({begin.gap, begin.missing, missing.tables});
  partitions_.find_or_add(at).assignment->missing = std::move(missing);
}

// ---- the group takes

void KafkaSource::on_revoked(std::vector<TopicPartition> partitions, bool lost) {
  ++numbers_.rebalances;
  broker_watch_.look_at_once(now_.steady);  // a topic may be gone
  if (owed_.takes(partitions)) static_cast<void>(client_->assign({}));
  if (lost) {
    // Others hold them by now; what we have not acknowledged they read again.
    give_back(partitions);
    return;
  }
  partitions_.drain(partitions);
  owed_.wants_back(std::move(partitions), now_.steady + options_.revoke_drain);
}

// Partitions that are to be given back wait until what was delivered from them is finished, so that
// whoever gets them need not do it again.
void KafkaSource::drain() {
  if (owed_.give_back_by() == SteadyTime::max()) return;
  if (!owed_.gives_back(partitions_.is_draining_busy(), now_.steady)) return;
  store_offsets();
  client_->commit_stored(partitions_.drained());
  give_back(owed_.to_give_back());
}

void KafkaSource::give_back(const std::vector<TopicPartition>& partitions) {
  schema_wait_.forget();  // the record that waits may be of one of them; else it waits again
  const std::vector<TopicPartition> given = partitions;  // may be what owed_ has
  partitions_.unassign(given);
  owed_.gave_back();
  client_->unassign(given);
}

// ---- errors

void KafkaSource::on_client_error(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kFatal:
      return ending_.fails(error);
    case ErrorKind::kUsage:
      if (!retries_.has_streamed()) return disconnect(error);  // told, and tried again
      broker_watch_.fails(error.text);
      break;
    case ErrorKind::kConnection:
      return disconnect(error);
    case ErrorKind::kTransient:
    case ErrorKind::kData:
      broker_watch_.fails(error.text);
      break;
  }
  broker_watch_.look_soon(now_.steady);
}

void KafkaSource::on_topic_missing(const std::string& topic) {
  broker_watch_.misses(fmt::format("kafka: topic '{}' does not exist", topic));
}

void KafkaSource::on_topic_refused(const std::string& topic, const Error& error) {
  if (is_nobodys(topic, tables_of_topic(topic))) return;
  partitions_.topic(topic).refused = fmt::format("topic '{}' cannot be read: {}; {}", topic, error.text, error.hint);
}

void KafkaSource::on_committed(const std::vector<TopicPartition>& partitions) {
  for (const TopicPartition& at : partitions) beginnings_.committed(at);
}

// Retention has overtaken us, or the topic is another one.
void KafkaSource::on_offset_lost(const TopicPartition& at) {
  const bool is_news = beginnings_.lost(at);
  TopicTables tables = tables_of_topic(at.topic);
  if (is_news && !is_nobodys(at.topic, tables)) {
    handler_->on_gap({"offset_out_of_range",
                      fmt::format("{}: there is no record where evictd reads: deleted by retention, cut off, or gone "
                                  "with its topic",
                                  at.to_string()),
                      std::move(tables.tables)});
  }
  disconnect({ErrorKind::kConnection,
              fmt::format("kafka: {}: the records where evictd reads are gone", at.to_string()),
              {}});
}

void KafkaSource::disconnect(Error error) {
  if (client_) ending_.reconnects(std::move(error));
}

void KafkaSource::restart(Now now) {
  now_ = now;
  if (!client_) return;
  ending_.restarts({ErrorKind::kConnection, "kafka: everything not acknowledged is read again", {}});
}

// Asks where the partitions end: what a fetch last told is old when fetches do not arrive. The
// answer also shows that the brokers are there again, which librdkafka itself does not tell.
void KafkaSource::probe_brokers() {
  if (!client_ || !broker_watch_.probes(now_.steady)) return;
  const std::vector<TopicPartition> partitions = partitions_.assigned_at();
  helper_.run(
      "which topics there are", [this, session = session_, client = client_, partitions,
                                 known = beginnings_.known()]() -> HelperThread::Completion {
        auto result = std::make_shared<Result<Offsets>>(Offsets{});
        auto others = std::make_shared<Offsets>();
        auto topics = client->matching_topics();
        if (!topics) {
          *result = tl::unexpected(topics.error());
        } else {
          std::vector<TopicPartition> there = partitions;
          std::erase_if(there, [&](const TopicPartition& at) { return !topics->contains(at.topic); });
          *result = client->ends(there);
          std::vector<TopicPartition> unknown = partitions_of(*topics);
          std::erase_if(unknown, [&](const TopicPartition& at) { return known.contains(at); });
          if (auto committed = client->committed(unknown)) *others = std::move(*committed);
        }
        return [this, session, result, others, topics = std::move(topics)] {
          broker_watch_.answered(session == session_, *result ? "" : result->error().text, now_.steady);
          if (session != session_) return;
          if (topics && handler_ != nullptr) {
            find_vanished(*topics);
            beginnings_.others_took_up(*others);
            if (state_ == State::kStreaming) tell_streams();
          }
          if (*result) partitions_.note_ends(**result, now_.steady);
        };
      });
}

// Keeps the fetching going while records are read as fast as they come.
void KafkaSource::ask_for_ends() {
  if (broker_watch_.is_asking_for_ends() || !client_->should_ask_for_ends()) return;
  broker_watch_.asks_for_ends();
  const std::vector<TopicPartition> partitions = partitions_.assigned_at();
  helper_.run("where the partitions end", [this, session = session_, client = client_, partitions]() -> HelperThread::Completion {
    const auto ends = client->ends(partitions);
    return [this, session, ends] {
      broker_watch_.ends_answered();
      if (session == session_ && ends) partitions_.note_ends(*ends, now_.steady);
    };
  });
}

// A topic that is gone has taken along what was not read of it (G6).
void KafkaSource::find_vanished(const std::map<std::string, std::int32_t>& topics) {
  for (const std::string& name : beginnings_.vanished(topics, now_.steady)) {
    if (is_control_topic(name, places_.tables())) continue;
    TopicTables tables = tables_of_topic(name);
    if (tables.is_none()) continue;  // no rule speaks of it
    handler_->on_gap({"topic_recreated", fmt::format("topic '{}' was deleted, with what had not been read of it", name),
                      std::move(tables.tables)});
    if (partitions_.has_assigned(name)) disconnect({ErrorKind::kConnection, fmt::format("kafka: topic '{}' was deleted", name), {}});
  }
}

// ---- closing

// What the group still waits for from us must be answered before the consumer can leave it.
void KafkaSource::close(State next) {
  store_offsets();
  if (owed_.leaves()) static_cast<void>(client_->assign({}));
  if (owed_.give_back_by() != SteadyTime::max()) give_back(owed_.to_give_back());
  partitions_.unassign_all();
  schema_wait_.forget();
  after_close_ = next;
  state_ = State::kClosing;
  ++session_;
  // Destroying the client blocks as well: the job holds the last reference to it.
  helper_.run("to leave the group", [this, client = std::move(client_)]() -> HelperThread::Completion {
    client->close();
    return [this] {
      ++session_;
      state_ = after_close_;
      if (state_ == State::kOpening) retries_.due_at(now_.steady);
    };
  });
}

bool KafkaSource::stop(Now now) {
  now_ = now;
  registry_is_cancelled_->store(true);
  helper_.finish();
  database_helper_.finish();
  registry_helper_.finish();
  if (state_ == State::kStopped || state_ == State::kIdle) return true;
  if (state_ == State::kFailed) return true;
  if (state_ == State::kClosing) {
    after_close_ = State::kStopped;
    return false;
  }
  if (!client_) {  // opening: its job ends by itself, and nobody listens any more
    ++session_;
    state_ = State::kStopped;
    return true;
  }
  close(State::kStopped);
  return false;
}

// ---- acknowledging

void KafkaSource::acknowledge(const Position& end) {
  partitions_.acknowledge(end);
}

void KafkaSource::store_offsets() {
  const Offsets offsets = partitions_.take_acknowledged();
  if (!offsets.empty()) client_->store(offsets);
}

// ---- the turn of the loop

void KafkaSource::step(Now now, std::size_t bytes_max, SourceHandler& handler) {
  now_ = now;
  handler_ = &handler;
  helper_.finish();
  database_helper_.finish();
  registry_helper_.finish();
  schema_wait_.step(now.steady);
  ask_for_tables();
  take_snapshots();
  take_found();
  if (state_ == State::kOpening && now.steady >= retries_.due()) open();
  if (state_ == State::kJudging && on_record_) join();
  if (client_ && !ending_.is_due()) {
    client_->clear_descriptor();
    client_->serve_events(*this);
    if (now.steady >= owed_.look_up_due()) look_up_topics();
    if (state_ == State::kStreaming && !ending_.is_due()) {
      deliver(bytes_max);
      ask_for_ends();
      store_offsets();
      drain();
    }
    probe_brokers();
    measure();
  }
  if (ending_.failure() && state_ != State::kFailed && state_ != State::kClosing) {
    if (client_) {
      close(State::kFailed);
    } else {
      state_ = State::kFailed;
    }
    handler.on_failed(*ending_.failure());
  } else if (const auto why = client_ ? ending_.take_disconnect() : std::nullopt) {
    handler.on_disconnected(*why);
    if (lookups_) lookups_->forget();
    close(State::kOpening);
  }
  handler_ = nullptr;
}

void KafkaSource::wait_for(Waiting& waiting, bool want_data) {
  waiting.descriptors.push_back({helper_.descriptor(), POLLIN, 0});
  waiting.descriptors.push_back({database_helper_.descriptor(), POLLIN, 0});
  waiting.descriptors.push_back({registry_helper_.descriptor(), POLLIN, 0});
  waiting.wake_at(schema_wait_.due());
  waiting.wake_at(places_.due());
  if (snapshots_) snapshots_->wait_for(waiting);
  if (lookups_) lookups_->wait_for(waiting);
  if (state_ == State::kOpening) waiting.wake_at(retries_.due());
  if (state_ == State::kJudging && on_record_) waiting.wake_at(SteadyTime::min());
  if (!client_) return;
  waiting.descriptors.push_back({client_->descriptor(), POLLIN, 0});
  if (want_data && client_->may_have_more() && !waits_for_database() && !schema_wait_.waits()) waiting.wake_at(now_.steady);
  waiting.wake_at(owed_.give_back_by());
  waiting.wake_at(owed_.look_up_due());
  waiting.wake_at(broker_watch_.due());
  waiting.wake_at(measure_at_);  // and a sign of life for the group
}

void KafkaSource::measure() {
  if (now_.steady < measure_at_) return;
  measure_at_ = now_.steady + kMeasureEach;
  numbers_.lag_messages.clear();
  for (const Partition* partition : partitions_.assigned()) {
    numbers_.lag_messages[partition->at.topic] += partition->lag(client_->known_end(partition->at));
  }
  numbers_.dead_letters_lost = dead_letters_.lost();
  if (snapshots_ && snapshot_turns_.refreshes(now_.steady)) snapshots_->request();
}

SourceStatus KafkaSource::status() const {
  SourceStatus status;
  std::string refused = partitions_.refused();
  status.connected = state_ == State::kStreaming && broker_watch_.problem().empty() && refused.empty() && schema_wait_.problem().empty();
  status.active = !partitions_.assigned().empty();
  switch (state_) {
    case State::kIdle:
      status.state = "not started";
      break;
    case State::kOpening:
      status.state = "connecting";
      break;
    case State::kJudging:
      status.state = "comparing with what the caches have on record";
      break;
    case State::kJoining:
      status.state = "joining the group";
      break;
    case State::kStreaming:
      status.state = partitions_.assigned().empty() ? "no partition" : "streaming";
      break;
    case State::kClosing:
      status.state = "closing";
      break;
    case State::kStopped:
      status.state = "stopped";
      break;
    case State::kFailed:
      status.state = "failed";
      break;
  }
  if (!broker_watch_.problem().empty()) {
    status.problem = broker_watch_.problem();
  } else if (const auto late = late_text(helper_, now_); !late.empty()) {
    status.problem = late;
  } else if (const auto database_late = late_text(database_helper_, now_); !database_late.empty()) {
    status.problem = database_late;
  } else if (!schema_wait_.problem().empty()) {
    status.problem = schema_wait_.problem();
  } else if (const auto registry_late = late_text(registry_helper_, now_); !registry_late.empty()) {
    status.problem = registry_late;
  } else if (!refused.empty()) {
    status.problem = std::move(refused);
  } else if (!broker_watch_.topic_problem().empty()) {
    status.problem = broker_watch_.topic_problem();
  } else if (snapshots_ && !snapshots_->problem().empty()) {
    status.problem = "the database that 'postgres_url' names: " + snapshots_->problem();
  } else if (std::string tables = places_.problem(); !tables.empty()) {
    status.problem = std::move(tables);
  }
  status.kafka = numbers_;
  return status;
}

}  // namespace evictd
