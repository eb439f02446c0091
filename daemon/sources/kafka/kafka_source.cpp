#include "daemon/sources/kafka/kafka_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/kafka/wanted_topic.h"
#include "daemon/sources/kafka/consumer_state.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using namespace std::chrono_literals;

constexpr auto kBackoffFirst = 500ms;
constexpr auto kBackoffMax = 30'000ms;
constexpr auto kMeasureEach = 1s;
constexpr auto kProbeEach = 5s;
constexpr auto kProbeSoon = 1s;
// xids are widened to the nearest of a snapshot; an old one would do for days.
constexpr auto kSnapshotRefresh = 60s;

// A topic that is new may be unknown to a broker that has not heard of it yet.
constexpr auto kToldByAll = 10s;

constexpr std::size_t kKnownEndsMax = 32;
constexpr auto kKnownEndsApart = 100ms;

// Daemons that start within this time of one another begin a new group together.
constexpr auto kBeginningTogether = 60s;

// The part of a topic's name in front of schema and table: Debezium's topic.prefix.
std::string server_of_topic(const std::string& topic) {
  const std::string table = EnvelopeDecoder::table_of_topic(topic);
  if (table.empty()) return {};
  return topic.substr(0, topic.size() - table.size() - 1);
}

// Stable over restarts and daemons, so that the record in Redis can be read by another process.
std::uint32_t stream_of(const TopicPartition& at, std::uint32_t incarnation) {
  std::uint32_t hash = 2166136261U;
  const auto mix = [&](unsigned char byte) { hash = (hash ^ byte) * 16777619U; };
  for (const char c : at.topic) mix(static_cast<unsigned char>(c));
  for (int shift = 0; shift < 32; shift += 8)
    mix(static_cast<unsigned char>(at.partition >> shift));
  for (int shift = 0; shift < 32; shift += 8) mix(static_cast<unsigned char>(incarnation >> shift));
  return hash;
}

}  // namespace

std::unique_ptr<Source> make_kafka_source(KafkaOptions options,
                                          std::unique_ptr<SnapshotPoll> snapshots) {
  return std::make_unique<KafkaSource>(std::move(options), std::move(snapshots));
}

KafkaSource::KafkaSource(KafkaOptions options, std::unique_ptr<SnapshotPoll> snapshots)
    : options_(std::move(options)),
      snapshots_(std::move(snapshots)),
      dead_letters_(options_.dead_letter_file, options_.dead_letter_bytes_max) {}

KafkaSource::~KafkaSource() {
  if (client_) client_->close();
}

void KafkaSource::start(const std::optional<Record>& last_known, Now now) {
  now_ = now;
  last_known_ = last_known;
  if (snapshots_) {
    snapshots_->start(now);
    snapshots_->request();
    own_request_ = true;
  }
  open();
}

void KafkaSource::set_tables(const std::vector<std::string>& tables) {
  mapped_tables_ = std::set<std::string>(tables.begin(), tables.end());
}

// ---- opening

void KafkaSource::open() {
  state_ = State::kOpening;
  retry_at_ = SteadyTime::max();
  const std::uint64_t session = ++session_;
  helper_.run([this, session, options = options_]() -> HelperThread::Completion {
    const auto attempt = [&]() -> Result<Opened> {
      auto client = KafkaClient::make(options);
      if (!client) return tl::unexpected(client.error());
      Opened opened;
      opened.client = std::move(*client);
      auto topics = opened.client->matching_topics();
      if (!topics) return tl::unexpected(opened.client->explained(topics.error()));
      opened.topics = std::move(*topics);
      auto history = opened.client->group_history(opened.topics);
      if (!history) return tl::unexpected(opened.client->explained(history.error()));
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
    Error error = result.error();
    const bool is_setting = error.kind == ErrorKind::kUsage;
    if (error.kind == ErrorKind::kFatal || (is_setting && !was_connected_))
      return fail_for_good(std::move(error));
    if (last_problem_ != error.text) {
      last_problem_ = error.text;
      handler_->on_disconnected(error);
    }
    return retry_later();
  }
  client_ = std::move(result->client);
  last_problem_.clear();
  broker_problem_.clear();
  backoff_ = 0ms;
  std::set<std::string> names;
  for (const auto& [topic, partitions] : result->topics) names.insert(topic);
  topics_.clear();
  servers_.clear();
  learn_servers(names);
  if (!last_known_ && !was_connected_) {
    // Where several daemons start together, another may have begun for all after we looked for the
    // record: then there is one by now.
    const GroupHistory& history = result->history;
    const bool is_beginning =
        history.began && std::chrono::abs(now_.system - *history.began) < kBeginningTogether;
    if (history.has_offsets && !is_beginning) {
      record_is_missing_ = true;
    } else {
      for (const TopicPartition& at : partitions_of(result->topics)) first_start_.try_emplace(at);
      for (const auto& [at, end] : result->ends) first_start_.insert_or_assign(at, end);
    }
  }
  topic_problem_ =
      result->topics.empty() ? "no topic exists yet that 'topics' names or matches" : "";
  is_announced_ = false;
  ends_.clear();
  ends_before_ = std::map<TopicPartition, std::int64_t>(result->ends.begin(), result->ends.end());
  ends_before_at_ = now_.steady;
  probe_at_ = now_.steady + kProbeSoon;
  state_ = State::kJoining;
  if (auto subscribed = client_->subscribe(); !subscribed) fail_for_good(subscribed.error());
}

// True when a server is new: the epoch names them all.
bool KafkaSource::learn_servers(const std::set<std::string>& topics) {
  bool is_new = false;
  for (const std::string& topic : topics) {
    if (!topics_.insert(topic).second) continue;
    const std::string server = server_of_topic(topic);
    // Of "my.shop.transaction" it would be "my".
    if (!server.empty() && !is_control_topic(topic, mapped_tables_)) is_new |= servers_.insert(server).second;
  }
  return is_new;
}

void KafkaSource::retry_later() {
  backoff_ = backoff_ == 0ms ? std::chrono::milliseconds(kBackoffFirst)
                             : std::min<std::chrono::milliseconds>(backoff_ * 2, kBackoffMax);
  retry_at_ = now_.steady + backoff_;
  state_ = State::kOpening;
}

void KafkaSource::announce_connection() {
  if (is_announced_) return;
  is_announced_ = true;
  was_connected_ = true;
  state_ = State::kStreaming;
  SourceConnected connected;
  connected.epoch = "debezium/";
  for (const std::string& server : servers_) {
    if (!connected.epoch.ends_with('/')) connected.epoch += '+';
    for (const char c : server) connected.epoch += c == ' ' || c == ',' ? '_' : c;
  }
  connected.source_identity = options_.group;
  connected.has_snapshots = snapshots_ != nullptr;
  if (record_is_missing_) {
    record_is_missing_ = false;
    handler_->on_gap(
        {"record_missing",
         fmt::format(
             "group '{}' has read before, but this Redis has no record of it: it may hold values "
             "of another time",
             options_.group),
         {}},
        false);
  }
  handler_->on_connected(connected);
}

// ---- the group gives

void KafkaSource::on_assigned(std::vector<TopicPartition> partitions) {
  ++numbers_.rebalances;
  to_assign_ = std::move(partitions);
  look_up();
}

void KafkaSource::look_up() {
  look_up_at_ = SteadyTime::max();
  if (!to_assign_ || looking_up_) return;
  looking_up_ = true;
  helper_.run([this, session = session_, client = client_,
               partitions = *to_assign_]() -> HelperThread::Completion {
    auto result =
        std::make_shared<Result<std::vector<PartitionOffsets>>>(client->look_up(partitions));
    return [this, session, result, partitions] {
      if (session != session_ || state_ == State::kClosing) return;
      looking_up_ = false;
      if (handler_ != nullptr) looked_up(partitions, std::move(*result));
    };
  });
}

void KafkaSource::looked_up(const std::vector<TopicPartition>& partitions,
                            Result<std::vector<PartitionOffsets>> result) {
  if (!to_assign_) return;
  if (partitions != *to_assign_) return look_up();  // the group has changed its mind meanwhile
  if (!result) {
    broker_problem_ = result.error().text;
    probe_at_ = now_.steady;
    look_up_at_ = now_.steady + kBackoffFirst;
    return;
  }
  std::set<std::string> topics;
  for (const PartitionOffsets& offsets : *result) topics.insert(offsets.at.topic);
  if (learn_servers(topics) && is_announced_) {
    // Another database's transactions have come in: versions of before do not compare with theirs.
    return disconnect(
        {ErrorKind::kConnection, "kafka: topics of another Debezium server have appeared", {}});
  }
  if (!topics.empty()) topic_problem_.clear();
  announce_connection();
  std::vector<std::pair<TopicPartition, std::int64_t>> begin, commit;
  for (const PartitionOffsets& offsets : *result) begin_partition(offsets, begin, commit);
  to_assign_.reset();
  if (auto assigned = client_->assign(begin); !assigned) return disconnect(assigned.error());
  client_->commit_beginning(commit, now_.system);
  client_->store(commit);  // tried again in the background, should that have failed
}

void KafkaSource::begin_partition(const PartitionOffsets& offsets,
                                  std::vector<std::pair<TopicPartition, std::int64_t>>& begin,
                                  std::vector<std::pair<TopicPartition, std::int64_t>>& commit) {
  const TopicPartition& at = offsets.at;
  StartFacts facts;
  facts.offsets = offsets;
  if (const auto first = first_start_.find(at); first != first_start_.end()) {
    facts.is_first_start = true;
    facts.first_end = first->second;
  }
  held_topics_.emplace(at.topic, now_.steady);
  if (vanished_.contains(at.topic) && begun_again_.insert(at).second) {
    // Made again: from its first record. The gap was found when the first one vanished.
    facts.offsets.committed = offsets.low;
    ++incarnations_[at];
  }
  facts.was_read_before = read_before_.contains(at) ||
                          (last_known_ && last_known_->acknowledged.contains(stream_of(at, 0)));
  if (const auto began = began_.find(at); began != began_.end()) facts.began_at = began->second;
  const Start start = start_of(facts);

  Assignment assignment;
  assignment.at = at;
  if (!start.gap.empty()) {
    ++incarnations_[at];
    bool known = false;
    assignment.missing = UnknownChange{tables_of_topic(at.topic, known), start.detail};
    if (!told_.contains(at)) handler_->on_gap({start.gap, start.detail, assignment.missing->tables}, false);
  }
  told_.erase(at);
  const auto incarnation = incarnations_.find(at);
  assignment.stream = stream_of(at, incarnation == incarnations_.end() ? 0 : incarnation->second);
  assignment.began_at = assignment.delivered = assignment.acknowledged = assignment.announced =
      start.offset;
  if (start.is_new_group) {
    began_.emplace(at, start.offset);
    commit.emplace_back(at, start.offset);
  }
  if (const auto before = ends_before_.find(at); before != ends_before_.end())
    note_end(assignment, {before->second, ends_before_at_});
  note_end(assignment, {offsets.high, now_.steady});
  std::erase_if(assignments_, [&](const Assignment& other) { return other.at == at; });
  assignments_.push_back(std::move(assignment));
  begin.emplace_back(at, start.offset);
}

// ---- the group takes

void KafkaSource::on_revoked(std::vector<TopicPartition> partitions, bool lost) {
  ++numbers_.rebalances;
  probe_at_ = now_.steady;  // a topic may be gone
  // What was being looked up is taken back before it was begun.
  if (to_assign_) {
    to_assign_.reset();
    static_cast<void>(client_->assign({}));
  }
  if (lost) {
    // Others hold them by now; what we have not acknowledged they read again.
    give_back(partitions);
    return;
  }
  for (Assignment& assignment : assignments_) {
    if (std::find(partitions.begin(), partitions.end(), assignment.at) != partitions.end()) {
      assignment.is_draining = true;
    }
  }
  to_give_back_ = std::move(partitions);
  give_back_at_ = now_.steady + options_.revoke_drain;
}

// Partitions that are to be given back wait until what was delivered from them is finished, so that
// whoever gets them need not do it again.
void KafkaSource::drain() {
  if (give_back_at_ == SteadyTime::max()) return;
  const bool is_busy =
      std::any_of(assignments_.begin(), assignments_.end(), [](const Assignment& assignment) {
        return assignment.is_draining && assignment.acknowledged < assignment.announced;
      });
  if (is_busy && now_.steady < give_back_at_) return;
  store_offsets();
  std::vector<std::pair<TopicPartition, std::int64_t>> offsets;
  for (const Assignment& assignment : assignments_) {
    if (assignment.is_draining && assignment.was_acknowledged) {
      offsets.emplace_back(assignment.at, assignment.acknowledged);
    }
  }
  client_->commit_stored(offsets);
  give_back(to_give_back_);
}

void KafkaSource::give_back(const std::vector<TopicPartition>& partitions) {
  const std::vector<TopicPartition> given = partitions;  // may be to_give_back_ itself
  std::erase_if(assignments_, [&](const Assignment& assignment) {
    return std::find(given.begin(), given.end(), assignment.at) != given.end();
  });
  std::erase_if(refused_topics_, [&](const auto& refused) {
    return std::none_of(assignments_.begin(), assignments_.end(),
                        [&](const Assignment& assignment) { return assignment.at.topic == refused.first; });
  });
  last_found_ = 0;
  to_give_back_.clear();
  give_back_at_ = SteadyTime::max();
  client_->unassign(given);
}

// ---- errors

void KafkaSource::on_client_error(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kFatal:
      return fail_for_good(error);
    case ErrorKind::kUsage:
      if (!was_connected_) return fail_for_good(error);
      broker_problem_ = error.text;
      break;
    case ErrorKind::kConnection:
      return disconnect(error);
    case ErrorKind::kTransient:
    case ErrorKind::kData:
      if (error.text.find("does not exist") != std::string::npos) {
        topic_problem_ = error.text;
        return;
      }
      broker_problem_ = error.text;
      break;
  }
  probe_at_ = std::min(probe_at_, now_.steady + kProbeSoon);
}

void KafkaSource::on_topic_refused(const std::string& topic, const Error& error) {
  bool known = false;
  const std::vector<std::string> tables = tables_of_topic(topic, known);
  if (tables.empty() && (known || is_control_topic(topic, mapped_tables_))) return;  // no rule speaks of it
  refused_topics_[topic] = fmt::format("topic '{}' cannot be read: {}; {}", topic, error.text, error.hint);
}

// Retention has overtaken us, or the topic is another one. A new client sees it as any restart would, whoever's
// that is; unless the partition has grown past our offset by then, so the gap is told at once (G6).
void KafkaSource::on_offset_lost(const TopicPartition& partition) {
  if (told_by_ != session_) told_.clear();
  told_by_ = session_;
  const bool is_told = std::any_of(told_.begin(), told_.end(),
                                   [&](const TopicPartition& told) { return told.topic == partition.topic; });
  told_.insert(partition);
  bool known = false;
  const std::vector<std::string> tables = tables_of_topic(partition.topic, known);
  if (!is_told && !(tables.empty() && (known || is_control_topic(partition.topic, mapped_tables_)))) {
    handler_->on_gap({"offset_out_of_range",
                      fmt::format("{}: there is no record where evictd reads: deleted by retention, cut off, or gone "
                                  "with its topic",
                                  partition.to_string()),
                      tables},
                     false);
  }
  disconnect(
      {ErrorKind::kConnection,
       fmt::format("kafka: {}: the records where evictd reads are gone", partition.to_string()),
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
  if (probing_ || now_.steady < probe_at_ || !client_) return;
  probing_ = true;
  probe_at_ = SteadyTime::max();
  std::vector<TopicPartition> partitions;
  for (const Assignment& assignment : assignments_) partitions.push_back(assignment.at);
  helper_.run(
      [this, session = session_, client = client_, partitions]() -> HelperThread::Completion {
        using Ends = std::vector<std::pair<TopicPartition, std::int64_t>>;
        auto result = std::make_shared<Result<Ends>>(Ends{});
        auto topics = client->matching_topics();
        if (!topics) {
          *result = tl::unexpected(topics.error());
        } else {
          std::vector<TopicPartition> there = partitions;
          std::erase_if(there, [&](const TopicPartition& at) { return !topics->contains(at.topic); });
          *result = client->ends(there);
        }
        return [this, session, result, topics = std::move(topics)] {
          probing_ = false;
          if (session != session_) return;
          if (topics && handler_ != nullptr) find_vanished(*topics);
          broker_problem_ = *result ? "" : result->error().text;
          if (*result) take_ends(**result);
          // Unless another one has been asked for meanwhile.
          probe_at_ = std::min(probe_at_, now_.steady + (*result ? kProbeEach : kProbeSoon));
        };
      });
}

// Keeps the fetching going while records are read as fast as they come.
void KafkaSource::ask_for_ends() {
  if (asking_for_ends_ || !client_->should_ask_for_ends()) return;
  asking_for_ends_ = true;
  std::vector<TopicPartition> partitions;
  for (const Assignment& assignment : assignments_) partitions.push_back(assignment.at);
  helper_.run([this, session = session_, client = client_, partitions]() -> HelperThread::Completion {
    const auto ends = client->ends(partitions);
    return [this, session, ends] {
      asking_for_ends_ = false;
      if (session == session_ && ends) take_ends(*ends);
    };
  });
}

void KafkaSource::take_ends(const std::vector<std::pair<TopicPartition, std::int64_t>>& ends) {
  ends_ = std::map<TopicPartition, std::int64_t>(ends.begin(), ends.end());
  for (Assignment& assignment : assignments_) {
    if (const auto end = ends_.find(assignment.at); end != ends_.end())
      note_end(assignment, {end->second, now_.steady});
  }
}

// Few enough to keep for every partition, and close enough to tell a settle time from no time.
void KafkaSource::note_end(Assignment& assignment, KnownEnd end) {
  auto& known = assignment.known_ends;
  if (end.offset <= assignment.delivered || known.size() >= kKnownEndsMax) return;
  if (!known.empty() && (end.at - known.back().at < kKnownEndsApart || end.offset <= known.back().offset)) return;
  known.push_back(end);
}

// A topic that is gone has taken along what was not read of it (G6). One of the same name that comes
// back is another one: what the group has committed says nothing about it, and may be what we
// committed of the first.
void KafkaSource::find_vanished(const std::map<std::string, std::int32_t>& topics) {
  std::set<std::string> gone;
  for (const auto& [topic, since] : held_topics_) {
    if (!topics.contains(topic) && now_.steady - since > kToldByAll) gone.insert(topic);
  }
  for (const std::string& topic : gone) {
    held_topics_.erase(topic);
    const auto is_of_it = [&](const TopicPartition& at) { return at.topic == topic; };
    std::erase_if(read_before_, is_of_it);
    std::erase_if(begun_again_, is_of_it);
    std::erase_if(began_, [&](const auto& entry) { return is_of_it(entry.first); });
    vanished_.insert(topic);
    if (is_control_topic(topic, mapped_tables_)) continue;
    bool known = false;
    const std::vector<std::string> tables = tables_of_topic(topic, known);
    if (known && tables.empty()) continue;  // no rule speaks of it
    handler_->on_gap(
        {"topic_recreated", fmt::format("topic '{}' was deleted, with what had not been read of it", topic),
         tables},
        false);
    if (std::any_of(assignments_.begin(), assignments_.end(),
                    [&](const Assignment& assignment) { return is_of_it(assignment.at); })) {
      disconnect({ErrorKind::kConnection, fmt::format("kafka: topic '{}' was deleted", topic), {}});
    }
  }
}

// ---- closing

// What the group still waits for from us must be answered before the consumer can leave it.
void KafkaSource::close(State next) {
  store_offsets();
  if (to_assign_) static_cast<void>(client_->assign({}));
  to_assign_.reset();
  if (give_back_at_ != SteadyTime::max()) give_back(to_give_back_);
  assignments_.clear();
  refused_topics_.clear();
  last_found_ = 0;
  looking_up_ = false;
  look_up_at_ = SteadyTime::max();
  after_close_ = next;
  state_ = State::kClosing;
  ++session_;
  // Destroying the client blocks as well: the job holds the last reference to it.
  helper_.run([this, client = std::move(client_)]() -> HelperThread::Completion {
    client->close();
    return [this] {
      ++session_;
      state_ = after_close_;
      if (state_ == State::kOpening) retry_at_ = now_.steady;
    };
  });
}

bool KafkaSource::stop(Now now) {
  now_ = now;
  helper_.finish();
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
  for (Assignment& assignment : assignments_) {
    if (assignment.stream != end.stream) continue;
    const auto offset = static_cast<std::int64_t>(end.value);
    // An earlier assignment of the partition may still be finishing; it says nothing about this
    // one.
    if (offset <= assignment.acknowledged || offset > assignment.announced) return;
    assignment.acknowledged = offset;
    assignment.acknowledged_is_new = true;
    assignment.was_acknowledged = true;
    read_before_.insert(assignment.at);
    return;
  }
}

void KafkaSource::store_offsets() {
  std::vector<std::pair<TopicPartition, std::int64_t>> offsets;
  for (Assignment& assignment : assignments_) {
    if (!assignment.acknowledged_is_new) continue;
    assignment.acknowledged_is_new = false;
    offsets.emplace_back(assignment.at, assignment.acknowledged);
  }
  if (!offsets.empty()) client_->store(offsets);
}

// ---- the turn of the loop

void KafkaSource::step(Now now, std::size_t bytes_max, SourceHandler& handler) {
  now_ = now;
  handler_ = &handler;
  helper_.finish();
  take_snapshots();
  if (state_ == State::kOpening && now.steady >= retry_at_) open();
  if (client_ && !is_ending()) {
    client_->clear_descriptor();
    client_->serve_events(*this);
    if (now.steady >= look_up_at_) look_up();
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
    close(State::kOpening);
  }
  handler_ = nullptr;
}

void KafkaSource::wait_for(Waiting& waiting, bool want_data) {
  waiting.descriptors.push_back({helper_.descriptor(), POLLIN, 0});
  if (snapshots_) snapshots_->wait_for(waiting);
  if (state_ == State::kOpening) waiting.wake_at(retry_at_);
  if (!client_) return;
  waiting.descriptors.push_back({client_->descriptor(), POLLIN, 0});
  if (want_data && client_->may_have_more() && !waits_for_snapshot()) waiting.wake_at(now_.steady);
  waiting.wake_at(give_back_at_);
  waiting.wake_at(look_up_at_);
  if (!probing_) waiting.wake_at(probe_at_);
  waiting.wake_at(measure_at_);  // and a sign of life for the group
}

void KafkaSource::measure() {
  if (now_.steady < measure_at_) return;
  measure_at_ = now_.steady + kMeasureEach;
  numbers_.lag_messages.clear();
  for (const Assignment& assignment : assignments_) {
    std::uint64_t& lag = numbers_.lag_messages[assignment.at.topic];
    std::int64_t end = client_->known_end(assignment.at).value_or(0);
    if (const auto asked = ends_.find(assignment.at); asked != ends_.end())
      end = std::max(end, asked->second);
    const std::int64_t done = std::max(assignment.acknowledged, assignment.began_at);
    if (end > done) lag += static_cast<std::uint64_t>(end - done);
  }
  numbers_.dead_letters_lost = dead_letters_.lost();
  if (snapshots_ && latest_snapshot_ && !own_request_ && !pipeline_waits_ &&
      now_.steady - latest_snapshot_at_ > kSnapshotRefresh) {
    own_request_ = true;
    snapshots_->request();
  }
}

SourceStatus KafkaSource::status() const {
  SourceStatus status;
  status.connected = state_ == State::kStreaming && broker_problem_.empty() && refused_topics_.empty();
  status.active = !assignments_.empty();
  switch (state_) {
    case State::kIdle:
      status.state = "not started";
      break;
    case State::kOpening:
      status.state = "connecting";
      break;
    case State::kJoining:
      status.state = "joining the group";
      break;
    case State::kStreaming:
      status.state = assignments_.empty() ? "no partition" : "streaming";
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
  if (!broker_problem_.empty()) {
    status.problem = broker_problem_;
  } else if (!refused_topics_.empty()) {
    status.problem = refused_topics_.begin()->second;
  } else if (!topic_problem_.empty()) {
    status.problem = topic_problem_;
  } else if (snapshots_ && !snapshots_->problem().empty()) {
    status.problem = "the database that 'postgres_url' names: " + snapshots_->problem();
  }
  status.kafka = numbers_;
  return status;
}

}  // namespace evictd
