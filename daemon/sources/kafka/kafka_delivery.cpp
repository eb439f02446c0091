// Records become transactions of one change each.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/kafka/consumer_state.h"
#include "daemon/sources/kafka/wanted_topic.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Room for the bookkeeping of a record, so that a flood of empty ones is bounded as well.
constexpr std::size_t kRecordOverhead = 64;

// By our steady clock; min(): nobody knows.
SteadyTime sent_at(SystemTime sent, Now now) {
  if (sent.time_since_epoch().count() <= 0) return SteadyTime::min();
  return now.steady - std::max(now.system - sent, SystemTime::duration(0));
}

}  // namespace

void KafkaSource::deliver(std::size_t bytes_max) {
  if (bytes_max == 0 || waits_for_database() || schema_wait_.waits()) return;
  for (Partition* partition : partitions_.assigned()) {
    if (partition->assignment->missing) deliver_missing(*partition);
  }
  std::size_t taken = 0;
  while (taken < bytes_max && !ending_.is_due()) {
    const KafkaRecord* record = client_->front(*this);
    if (record == nullptr) break;
    Partition* partition = partitions_.find_assigned(record->topic, record->partition);
    if (partition != nullptr && !partition->assignment->is_draining &&
        record->offset >= partition->assignment->delivered) {
      taken +=
          kRecordOverhead + record->key.value_or("").size() + record->value.value_or("").size();
      if (!deliver_record(*record, *partition)) break;  // it stays the first
    }
    client_->pop();
  }
  announce_ignored();
}

bool KafkaSource::deliver_record(const KafkaRecord& record, Partition& partition) {
  const std::int64_t next = record.offset + 1;
  Assignment& assignment = *partition.assignment;
  partition.topic->refused.clear();
  const auto missing = decoder_.missing_schemas(record);
  if (!missing.empty() && is_control_topic(partition.at.topic, places_.tables())) {
    assignment.delivered = next;  // of no rule's concern
    return true;
  }
  if (must_wait_for_schemas(missing, record, partition.at)) return false;
  const auto decoded = decoder_.decode(record);
  report_retired();
  if (!decoded) {
    if (deliver_poison(record, partition, decoded.error())) assignment.delivered = next;
    return true;
  }
  if (decoded->change.relation != nullptr && places_.must_wait_for(*decoded->change.relation, now_.steady)) return false;
  assignment.delivered = next;
  if (decoded->kind == RecordKind::kHeartbeat) handler_->on_heartbeat(sent_at(decoded->commit_time, now_));
  if (decoded->commit_time.time_since_epoch().count() > 0)
    numbers_.last_record_time = decoded->commit_time;
  const bool wanted = decoded->kind == RecordKind::kChange ||
                      (decoded->kind == RecordKind::kSnapshotRow &&
                       options_.on_snapshot == OnSnapshotEvent::kInvalidate);
  auto missing_before = snapshots_of_debezium_.missing_before(*decoded, partitions_.stream_of(partition), record.offset);
  if (!wanted && !missing_before) return true;
  // What may be missing has no transaction that is known.
  const Xid xid = missing_before ? unique_xid(partition, record.offset, record.timestamp_ms) : xid_of(*decoded, record, partition);
  handler_->on_begin({partitions_.stream_of(partition), xid, decoded->commit_time, assignment.known_ends.since(record.offset),
                      static_cast<std::uint64_t>(record.offset)});
  if (missing_before) {
    handler_->on_unknown_change({std::move(*missing_before),
                                 fmt::format("{} offset {}: a snapshot: the connector began anew here, and what changed since it last wrote "
                                             "may not be in Kafka",
                                             partition.at.to_string(), record.offset)});
  }
  if (wanted) handler_->on_change(decoded->change);
  commit(partition, next);
  return true;
}

void KafkaSource::commit(Partition& partition, std::int64_t next) {
  handler_->on_commit({partitions_.stream_of(partition), static_cast<std::uint64_t>(next)});
  Partitions::announce(partition, next);
}

// Records that are no changes still move the position, once per turn.
void KafkaSource::announce_ignored() {
  for (Partition* partition : partitions_.assigned()) {
    const Assignment& assignment = *partition->assignment;
    if (assignment.delivered == assignment.announced || assignment.is_draining) continue;
    handler_->on_begin({partitions_.stream_of(*partition), unique_xid(*partition, assignment.delivered, 0), now_.system, {},
                        static_cast<std::uint64_t>(assignment.delivered - 1)});
    commit(*partition, assignment.delivered);
  }
}

// announce_ignored() takes it from here.
void KafkaSource::on_end_reached(const TopicPartition& at, std::int64_t end) {
  Partition* partition = partitions_.find_assigned(at.topic, at.partition);
  if (partition == nullptr || partition->assignment->is_draining) return;
  partition->assignment->delivered = std::max(partition->assignment->delivered, end);
}

// The purge after a gap is acknowledged like a record: with the offset where reading goes on. Until
// then nothing is committed for the partition, so that whoever reads it next finds the gap again
// (G6).
void KafkaSource::deliver_missing(Partition& partition) {
  Assignment& assignment = *partition.assignment;
  handler_->on_begin({partitions_.stream_of(partition), unique_xid(partition, assignment.began_at, 0), now_.system});
  handler_->on_unknown_change(*assignment.missing);
  commit(partition, assignment.began_at);
  assignment.missing.reset();
  // Acknowledging must move the position, or it would not be committed.
  if (assignment.began_at > 0) assignment.acknowledged = assignment.began_at - 1;
}

// False when the record ends evictd.
bool KafkaSource::deliver_poison(const KafkaRecord& record, Partition& partition, const Error& error) {
  TopicTables tables = tables_of_topic(partition.at.topic);
  if (tables.is_none()) return true;  // a topic that no rule speaks of
  ++numbers_.poison_records;
  dead_letters_.keep(record, error);
  const std::string place = fmt::format("{} offset {}", partition.at.to_string(), record.offset);
  if (options_.on_poison == OnPoison::kSkip) return true;
  if (options_.on_poison == OnPoison::kStop) {
    Error fatal = error;
    fatal.kind = ErrorKind::kFatal;
    if (fatal.hint.empty())
      fatal.hint = "on_poison: purge drops what it may have touched and goes on";
    ending_.fails(std::move(fatal).within(place));
    return false;
  }
  handler_->on_begin({partitions_.stream_of(partition), unique_xid(partition, record.offset, record.timestamp_ms),
                      now_.system, {}, static_cast<std::uint64_t>(record.offset)});
  handler_->on_unknown_change({std::move(tables.tables), place + ": " + error.text});
  commit(partition, record.offset + 1);
  return true;
}

void KafkaSource::report_retired() {
  for (const auto& relation : decoder_.take_retired()) {
    if (relation) handler_->on_relation_gone(*relation);
  }
}

void KafkaSource::ask_for_tables() {
  auto question = places_.asks(now_.steady);
  if (!question) return;
  database_helper_.run("the database which tables lie below those of the rules",
                       [this, ask = ask_table_tree_, question = std::move(*question)]() -> HelperThread::Completion {
                         auto tree = std::make_shared<Result<TableTree>>(ask({question.below.begin(), question.below.end()}));
                         return [this, question, tree] {
                           if (!places_.answered(question, std::move(*tree), now_.steady)) return;
                           decoder_.set_tables_above(places_.above());
                           if (handler_ != nullptr) report_retired();
                         };
                       });
}

TopicTables KafkaSource::tables_of_topic(const std::string& topic) const {
  return places_.tables_of(topic, decoder_.traits(topic), !decoder_.named_table(topic).second.empty());
}

// No rule speaks of it.
bool KafkaSource::is_nobodys(const std::string& topic, const TopicTables& tables) const {
  return tables.is_none() || (tables.tables.empty() && is_control_topic(topic, places_.tables()));
}

Xid KafkaSource::unique_xid(Partition& partition, std::int64_t offset, std::int64_t timestamp_ms) {
  partitions_.stream_of(partition);
  return opaque_xid(partition.name_hash, offset, timestamp_ms);
}

// PostgreSQL's transaction ids compare with the snapshots of readers; only those of one server do.
Xid KafkaSource::xid_of(const Decoded& decoded, const KafkaRecord& record, Partition& partition) {
  const bool is_postgres = decoded.connector == "postgresql";
  if (!is_postgres || !servers_.is_only(decoded.server) || !decoded.transaction_id)
    return unique_xid(partition, record.offset, record.timestamp_ms);
  return snapshot_turns_.id_of(static_cast<std::uint32_t>(*decoded.transaction_id));
}

void KafkaSource::request_snapshot() {
  if (snapshots_ && snapshot_turns_.wanted()) snapshots_->request();
}

void KafkaSource::look_up(LookupRequest request, Now now) {
  EVICTD_CHECK(lookups_ != nullptr);  // rules with joined tables are refused without `postgres_url`
  lookups_->ask(std::move(request), now);
}

void KafkaSource::take_found() {
  if (!lookups_) return;
  lookups_->step(now_);
  if (const auto answer = lookups_->take()) handler_->on_found(*answer);
}

void KafkaSource::take_snapshots() {
  if (!snapshots_) return;
  snapshots_->step(now_);
  const auto snapshot = snapshots_->take();
  if (!snapshot) return;
  const SnapshotTurns::Answer answer = snapshot_turns_.came(*snapshot, now_.steady);
  if (answer.is_asked_again) snapshots_->request();
  if (answer.is_wanted) handler_->on_snapshot(*snapshot);
}

}  // namespace evictd
