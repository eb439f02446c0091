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

// A topic that is new may be unknown to a broker that has not heard of it yet.
constexpr auto kToldByAll = 10s;

// Daemons that start within this time of one another begin a new group together.
constexpr auto kBeginningTogether = 60s;

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
      dead_letters_(options_.dead_letter_file, options_.dead_letter_bytes_max),
      ask_table_tree_(std::move(ask_table_tree)),
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
      opened.topics = std::move(*topics);
      auto history = opened.client->group_history(opened.topics);
      if (!history) return refused(history.error());
      opened.history = *history;
      if (auto ends = opened.client->ends(partitions_of(opened.topics))) opened.ends = std::move(*ends);
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
    if (retries_.is_final(result.error().kind)) return fail_for_good(result.error());
    if (retries_.failed(result.error(), now_.steady)) handler_->on_disconnected(result.error());
    return;
  }
  client_ = std::move(result->client);
  retries_.reached();
  std::set<std::string> names;
  for (const auto& [topic, partitions] : result->topics) names.insert(topic);
  servers_.forget();
  servers_.learn(names, places_.tables());
  // Where several daemons start together, another may have begun for all after we looked for the
  // record: then there is one by now.
  const GroupHistory& history = result->history;
  const bool is_beginning = history.began && std::chrono::abs(now_.system - *history.began) < kBeginningTogether;
  is_first_start_ = !retries_.has_streamed() && (!history.has_offsets || is_beginning);
  opened_topics_ = result->topics;
  opened_ends_ = result->ends;
  topic_problem_ =
      result->topics.empty() ? "no topic exists yet that 'topics' names or matches" : "";
  is_announced_ = false;
  partitions_.forget_ends();
  for (auto& [at, partition] : partitions_.all()) {
    partition.end_before.reset();
    partition.is_told = false;
  }
  for (const auto& [at, end] : result->ends) partitions_.find_or_add(at).end_before = end;
  ends_before_at_ = now_.steady;
  broker_watch_.opened(now_.steady);
  state_ = State::kJudging;
  may_proceed_ = false;
  SourceFacts facts;
  facts.has_history = history.has_offsets && !is_beginning;
  facts.if_not_on_record = {
      "record_missing",
      fmt::format("group '{}' has read before, but this cache has no record of it: it may hold values of another time",
                  options_.group),
      {}};
  handler_->on_facts(facts);
}

void KafkaSource::proceed(const std::set<std::string>& on_record) {
  on_record_ = on_record;
  may_proceed_ = true;
}

// What the caches have on record is known: the group may be joined.
void KafkaSource::join() {
  for (const TopicPartition& at : partitions_of(opened_topics_)) {
    Partition& partition = partitions_.find_or_add(at);
    partitions_.go_on_from(partition, on_record_);
    partition.is_told = on_record_.contains(partitions_.name_of_stream(partitions_.stream_of(partition)));
    if (is_first_start_ && on_record_.empty()) partition.existed_first = true;
  }
  if (is_first_start_ && on_record_.empty()) {
    for (const auto& [at, end] : opened_ends_) {
      partitions_.find_or_add(at).first_end = end;
    }
  }
  state_ = State::kJoining;
  if (auto subscribed = client_->subscribe(); !subscribed) fail_for_good(subscribed.error());
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
  connected.is_shared = true;
  handler_->on_connected(connected);
}

// What the group has taken up must be on record: where its committed offsets are gone (they go with a topic that is
// deleted), nothing else tells a partition that is new, and whole from its first record on, from one of which something
// was lost (G6). So it is told as soon as it is ours, whether or not anything was read; and all that exists when a group
// begins, whoever of the group gets it.
void KafkaSource::tell_streams() {
  std::map<std::string, std::uint64_t> begins;
  for (auto& [at, partition] : partitions_.all()) {
    if (partition.is_told || !(partition.assignment || partition.existed_first || partition.is_taken_up)) continue;
    partition.is_told = true;
    const std::int64_t begin = partition.assignment ? partition.assignment->began_at
                                                    : partition.committed.value_or(partition.first_end.value_or(0));
    begins[partitions_.name_of_stream(partitions_.stream_of(partition))] = static_cast<std::uint64_t>(begin);
  }
  if (!begins.empty()) handler_->on_streams(begins);
}

// By other members of the group. Each of them writes the one record of a cache, so each has to know the names of all.
void KafkaSource::take_up_others(const Offsets& committed) {
  for (const auto& [at, offset] : committed) {
    Partition& partition = partitions_.find_or_add(at);
    if (partition.assignment) continue;
    partition.is_taken_up = true;
    partition.committed = offset;
  }
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
  if (!topics.empty()) topic_problem_.clear();
  announce_connection();
  Beginnings begin;
  for (const PartitionOffsets& offsets : *result) begin_partition(offsets, begin);
  tell_streams();
  owed_.took();
  if (auto assigned = client_->assign(begin.all); !assigned) return disconnect(assigned.error());
  // Whoever finds one on record and nothing committed takes it for a gap.
  client_->commit_beginning(begin.first, now_.system);
  client_->commit_stored(begin.later);
  client_->store(begin.first);  // tried again in the background, should that have failed
  client_->store(begin.later);
}

void KafkaSource::begin_partition(const PartitionOffsets& offsets, Beginnings& begin) {
  const TopicPartition& at = offsets.at;
  Partition& partition = partitions_.find_or_add(at);
  partitions_.go_on_from(partition, on_record_);
  // Others held it meanwhile, and found that it is another one: what we know of it is not of this one.
  if (partition.committed && offsets.committed && *offsets.committed < *partition.committed) {
    partitions_.begin_anew(partition);
  }
  partition.committed = offsets.committed;
  if (offsets.committed) {
    partition.is_taken_up = true;
    partition.began_at.reset();
  }
  StartFacts facts;
  facts.offsets = offsets;
  facts.is_first_start = partition.existed_first;
  facts.first_end = partition.first_end;
  facts.began_at = partition.began_at;
  // On record by us, perhaps, when our commit is still on its way.
  facts.was_read_before = partition.is_taken_up || (is_on_record(on_record_, at) && !partition.began_at);
  if (!partition.topic->held_since) partition.topic->held_since = now_.steady;
  const bool is_made_again = partition.topic->has_vanished && !std::exchange(partition.is_begun_again, true);
  if (is_made_again) {
    // From its first record. The gap was found when the first one vanished.
    facts.offsets.committed = offsets.low;
    partitions_.begin_anew(partition);
  }
  Start start = start_of(facts);

  Assignment assignment;
  if (!start.gap.empty()) {
    partitions_.begin_anew(partition);
    partition.is_told = true;  // by its purge: where it begins is no position before that is done
    assignment.missing = UnknownChange{tables_of_topic(at.topic).tables, start.detail};
    if (!partition.gap_is_told) handler_->on_gap({start.gap, start.detail, assignment.missing->tables});
  }
  partition.gap_is_told = false;
  // What was finished after the partition had been given up is done, although nobody could commit it.
  if (partition.acknowledged > start.offset && partition.acknowledged <= offsets.high) {
    start.offset = partition.acknowledged;
    assignment.acknowledged_is_new = assignment.was_acknowledged = true;
  }
  assignment.began_at = assignment.delivered = assignment.acknowledged = assignment.announced = start.offset;
  partition.announced = std::max(partition.announced, start.offset);
  // Until the purge after a gap is done, nothing is committed.
  if (start.gap.empty() && (!offsets.committed || is_made_again)) {
    if (!partition.began_at) partition.began_at = start.offset;
    (partition.existed_first && !is_made_again ? begin.first : begin.later).emplace_back(at, start.offset);
  }
  if (partition.end_before) assignment.known_ends.note({*partition.end_before, ends_before_at_}, start.offset);
  assignment.known_ends.note({offsets.high, now_.steady}, start.offset);
  partitions_.assign(partition, std::move(assignment));
  begin.all.emplace_back(at, start.offset);
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
      return fail_for_good(error);
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
  topic_problem_ = fmt::format("kafka: topic '{}' does not exist", topic);
}

void KafkaSource::on_topic_refused(const std::string& topic, const Error& error) {
  if (is_nobodys(topic, tables_of_topic(topic))) return;
  partitions_.topic(topic).refused = fmt::format("topic '{}' cannot be read: {}; {}", topic, error.text, error.hint);
}

// Retention has overtaken us, or the topic is another one. A new client sees it as any restart would, whoever's
// that is; unless the partition has grown past our offset by then, so the gap is told at once (G6).
void KafkaSource::on_offset_lost(const TopicPartition& at) {
  bool is_told = false;  // of another partition of the topic, by this client
  for (auto& [place, partition] : partitions_.all()) {
    if (told_by_ != session_) partition.gap_is_told = false;
    is_told |= partition.gap_is_told && place.topic == at.topic;
  }
  told_by_ = session_;
  partitions_.find_or_add(at).gap_is_told = true;
  TopicTables tables = tables_of_topic(at.topic);
  if (!is_told && !is_nobodys(at.topic, tables)) {
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

void KafkaSource::fail_for_good(Error error) {
  if (!pending_failure_) pending_failure_ = std::move(error);
}

void KafkaSource::disconnect(Error error) {
  if (client_ && !pending_disconnect_) pending_disconnect_ = std::move(error);
}

void KafkaSource::restart(Now now) {
  now_ = now;
  if (!client_) return;
  pending_disconnect_ =
      Error{ErrorKind::kConnection, "kafka: everything not acknowledged is read again", {}};
}

// Asks where the partitions end: what a fetch last told is old when fetches do not arrive. The
// answer also shows that the brokers are there again, which librdkafka itself does not tell.
void KafkaSource::probe_brokers() {
  if (!client_ || !broker_watch_.probes(now_.steady)) return;
  const std::vector<TopicPartition> partitions = partitions_.assigned_at();
  std::set<TopicPartition> told;
  for (const auto& [at, partition] : partitions_.all()) {
    if (partition.is_told || partition.assignment) told.insert(at);
  }
  helper_.run(
      "which topics there are", [this, session = session_, client = client_, partitions,
                                 told = std::move(told)]() -> HelperThread::Completion {
        auto result = std::make_shared<Result<Offsets>>(Offsets{});
        auto others = std::make_shared<Offsets>();
        auto topics = client->matching_topics();
        if (!topics) {
          *result = tl::unexpected(topics.error());
        } else {
          std::vector<TopicPartition> there = partitions;
          std::erase_if(there, [&](const TopicPartition& at) { return !topics->contains(at.topic); });
          *result = client->ends(there);
          std::vector<TopicPartition> untold = partitions_of(*topics);
          std::erase_if(untold, [&](const TopicPartition& at) { return told.contains(at); });
          if (auto committed = client->committed(untold)) *others = std::move(*committed);
        }
        return [this, session, result, others, topics = std::move(topics)] {
          broker_watch_.answered(session == session_, *result ? "" : result->error().text, now_.steady);
          if (session != session_) return;
          if (topics && handler_ != nullptr) {
            find_vanished(*topics);
            take_up_others(*others);
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

// A topic that is gone has taken along what was not read of it (G6). One of the same name that comes
// back is another one: what the group has committed says nothing about it, and may be what we
// committed of the first.
void KafkaSource::find_vanished(const std::map<std::string, std::int32_t>& topics) {
  for (auto& [name, topic] : partitions_.topics()) {
    if (!topic.held_since || topics.contains(name) || now_.steady - *topic.held_since <= kToldByAll) continue;
    topic.held_since.reset();
    topic.has_vanished = true;
    bool is_assigned = false;
    for (auto& [at, partition] : partitions_.all()) {
      if (partition.topic != &topic) continue;
      partition.is_taken_up = partition.is_begun_again = partition.existed_first = false;
      partition.began_at.reset();
      partition.committed.reset();
      is_assigned |= partition.assignment.has_value();
    }
    if (is_control_topic(name, places_.tables())) continue;
    TopicTables tables = tables_of_topic(name);
    if (tables.is_none()) continue;  // no rule speaks of it
    handler_->on_gap({"topic_recreated", fmt::format("topic '{}' was deleted, with what had not been read of it", name),
                      std::move(tables.tables)});
    if (is_assigned) disconnect({ErrorKind::kConnection, fmt::format("kafka: topic '{}' was deleted", name), {}});
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
  if (Partition* partition = partitions_.acknowledge(end)) partition->is_taken_up = true;
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
  if (state_ == State::kJudging && may_proceed_) join();
  if (client_ && !is_ending()) {
    client_->clear_descriptor();
    client_->serve_events(*this);
    if (now.steady >= owed_.look_up_due()) look_up_topics();
    if (state_ == State::kStreaming && !is_ending()) {
      deliver(bytes_max);
      ask_for_ends();
      store_offsets();
      drain();
    }
    probe_brokers();
    measure();
  }
  if (pending_failure_ && state_ != State::kFailed && state_ != State::kClosing) {
    if (client_) {
      close(State::kFailed);
    } else {
      state_ = State::kFailed;
    }
    handler.on_failed(*pending_failure_);
  } else if (pending_disconnect_ && client_) {
    const Error error = *std::exchange(pending_disconnect_, std::nullopt);
    handler.on_disconnected(error);
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
  if (state_ == State::kJudging && may_proceed_) waiting.wake_at(SteadyTime::min());
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
  } else if (!topic_problem_.empty()) {
    status.problem = topic_problem_;
  } else if (snapshots_ && !snapshots_->problem().empty()) {
    status.problem = "the database that 'postgres_url' names: " + snapshots_->problem();
  } else if (std::string tables = places_.problem(); !tables.empty()) {
    status.problem = std::move(tables);
  }
  status.kafka = numbers_;
  return status;
}

}  // namespace evictd
